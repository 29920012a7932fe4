//! Reports the ends of children to their parents.

use perennial_core::{Message, Parent};
use rusqlite::{Connection, OptionalExtension};

use crate::store::StoreError;
use crate::store::codec::decode;
use crate::store::rows::instances::{self, deliver};
use crate::store::types::{Effects, InstanceKey};

/// Reports the end of an instance to its parent. The current row names the task: a rewind of the parent may have changed it.
pub(crate) fn tell_parent_of(
    db: &Connection,
    key: InstanceKey,
    outcome: Result<Option<perennial_core::Json>, perennial_core::Failure>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT parent_key, parent FROM instance WHERE key = ?1 AND parent_key IS NOT NULL AND parent IS NOT NULL",
    )?;
    let found: Option<(i64, Vec<u8>)> = query
        .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        Some((parent_key, parent)) => {
            let parent = decode(&parent, "a parent")?;
            tell_parent(db, InstanceKey(parent_key), &parent, outcome, effects)
        }
        None => Ok(()),
    }
}

/// Delivers the end of a child to its parent's inbox, if the parent is live.
pub(crate) fn tell_parent(
    db: &Connection,
    key: InstanceKey,
    parent: &Parent,
    outcome: Result<Option<perennial_core::Json>, perennial_core::Failure>,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let message = Message::ChildEnded {
        task: parent.task,
        attempt: parent.attempt,
        outcome,
    };
    if instances::is_live(db, key)? {
        deliver(db, key, &message)?;
        effects.woken.push(key);
    }
    Ok(())
}

/// Whether a rewind of this parent dropped the instance, so that the parent may reuse its id.
pub(crate) fn is_left_behind(db: &Connection, id: &str, parent: &str) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM instance WHERE id = ?1 AND parent_id = ?2 AND parent_key IS NULL)",
    )?;
    Ok(query.query_row([id, parent], |row| row.get(0))?)
}
