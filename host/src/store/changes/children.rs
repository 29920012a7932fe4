//! What parents tell their children: to cancel, or to end.

use perennial_core::{CANCELLATION_GRACE, ChildCommand, ChildPolicy, Message};
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
    let children: Vec<(String, Option<u8>)> = query
        .query_map([key.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (child, policy) in children {
        if let Some(command) = policy_of(policy)?.command() {
            let reason = Some(format!("its parent {id:?} has ended"));
            command_child(db, key, &child, (command, reason), effects)?;
        }
    }
    Ok(())
}

/// What becomes of a child, from the column `when_dropped`.
pub(crate) fn policy_of(number: Option<u8>) -> Result<ChildPolicy, StoreError> {
    Ok(match number {
        None => ChildPolicy::Abandon,
        Some(1) => ChildPolicy::Cancel,
        Some(2) => ChildPolicy::Terminate,
        Some(other) => {
            let what = format!("{other} is nothing that becomes of a child");
            return Err(StoreError::Corrupt(what));
        }
    })
}
