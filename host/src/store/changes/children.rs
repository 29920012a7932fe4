//! What parents tell their children: to cancel, or to end.

use perennial_core::{CANCELLATION_GRACE, ChildCommand, Message};
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::rows::instances::{self, deliver};
use crate::store::types::{Effects, InstanceKey};

/// Tells a child what its parent wants of it, if it is still the parent's and has not ended.
pub(crate) fn command_child(
    db: &Connection,
    parent: InstanceKey,
    id: &str,
    (command, reason): (ChildCommand, Option<String>),
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached("SELECT parent_key FROM instance WHERE key = ?1")?;
    let Some((key, _)) = instances::find(db, id)?.filter(|(_, status)| !status.is_end()) else {
        return Ok(());
    };
    let parent_key: Option<i64> = query.query_row([key.0], |row| row.get(0))?;
    if parent_key != Some(parent.0) {
        return Ok(());
    }
    let message = match command {
        ChildCommand::Cancel => Message::Cancel {
            reason,
            grace: CANCELLATION_GRACE,
            recursive: false,
        },
        ChildCommand::Terminate => Message::Terminate {
            reason,
            recursive: false,
        },
    };
    deliver(db, key, &message)?;
    effects.woken.push(key);
    Ok(())
}

/// Ends the live children of an instance that ended or continued as new, as each of their starts said.
pub(crate) fn release_children(
    db: &Connection,
    key: InstanceKey,
    id: &str,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT id, when_dropped FROM instance WHERE parent_key = ?1 AND when_dropped IS NOT NULL AND status < 3 ORDER BY key",
    )?;
    let children: Vec<(String, u8)> = query
        .query_map([key.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (child, policy) in children {
        let command = match policy {
            1 => ChildCommand::Cancel,
            2 => ChildCommand::Terminate,
            other => {
                let what = format!("{other} is nothing that becomes of a child");
                return Err(StoreError::Corrupt(what));
            }
        };
        let reason = Some(format!("its parent {id:?} has ended"));
        command_child(db, key, &child, (command, reason), effects)?;
    }
    Ok(())
}
