//! Reports the ends of children to their parents.

use perennial_core::{Failure, Json, Message, Parent};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::rules::inbox::deliver_if_live;
use crate::store::types::{Effects, InstanceKey};

/// Reports the end of an instance to its parent. The current row names the task: a rewind of the parent may have changed it.
pub(super) fn tell_parent_of(
    rows: &mut impl Rows,
    key: InstanceKey,
    outcome: Result<Option<Json>, Failure>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    match rows.parent(key)? {
        Some((parent, place)) => tell_parent(rows, parent, &place, outcome, effects),
        None => Ok(()),
    }
}

/// Delivers the end of a child to its parent's inbox, if the parent is live.
pub(super) fn tell_parent(
    rows: &mut impl Rows,
    parent: InstanceKey,
    place: &Parent,
    outcome: Result<Option<Json>, Failure>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let message = Message::ChildEnded {
        task: place.task,
        attempt: place.attempt,
        outcome,
    };
    deliver_if_live(rows, parent, &message, effects)
}
