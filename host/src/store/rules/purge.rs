//! Purge: deletes ended instances.

use perennial_core::{Command, Decision, Failure, decide, kind};

use crate::store::StoreError;
use crate::store::reply::Purged;
use crate::store::rows::Rows;
use crate::store::rows::instances::Head;
use crate::store::rules::create;
use crate::store::rules::parents::tell_parent_of;
use crate::store::types::{Effects, InstanceKey};

/// Deletes the ended ones among some instances, with all their data.
///
/// A live parent is notified. Only its history knows whether it still awaits the child, and it ignores a second outcome of a task.
pub(crate) fn purge(
    rows: &mut impl Rows,
    keys: &[InstanceKey],
    effects: &mut Effects,
) -> Result<Purged, StoreError> {
    let mut purged = Purged::default();
    for key in keys {
        let Some(Head { id, status, .. }) = rows.head(*key)? else {
            continue;
        };
        if decide(Some(status), Command::Purge) != Ok(Decision::Delete) {
            purged.live += 1;
            continue;
        }
        let failure = Failure::permanent(kind::PURGED, format!("instance {id:?} was purged"));
        tell_parent_of(rows, *key, Err(failure), effects)?;
        create::forget(rows, *key, effects)?;
        purged.deleted += 1;
    }
    Ok(purged)
}
