//! Purge: deletes ended instances.

use perennial_core::{Command, Decision, Failure, decide, kind};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::changes::create;
use crate::store::rows::instances;
use crate::store::rows::parents::tell_parent_of;
use crate::store::types::{Effects, InstanceKey};

/// What came of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purged {
    /// Instances that are deleted.
    pub(crate) deleted: u32,
    /// Instances that live, and were left alone.
    pub(crate) live: u32,
}

/// Deletes those of some instances that are there and have ended, with everything that belongs to them.
///
/// A parent that lives is told. Whether it still awaits that child only its history knows, and there a second outcome means nothing: so
/// each task has exactly one.
pub(crate) fn purge(
    db: &Connection,
    keys: &[InstanceKey],
    effects: &mut Effects,
) -> Result<Purged, StoreError> {
    let mut purged = Purged::default();
    for key in keys {
        let mut query = db.prepare_cached("SELECT id, status FROM instance WHERE key = ?1")?;
        let found: Option<(String, u8)> = query
            .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, status)) = found else {
            continue;
        };
        let status = instances::status_of(status)?;
        if decide(Some(status), Command::Purge) != Ok(Decision::Delete) {
            purged.live += 1;
            continue;
        }
        let failure = Failure::permanent(kind::PURGED, format!("instance {id:?} was purged"));
        tell_parent_of(db, *key, Err(failure), effects)?;
        create::forget(db, *key, effects)?;
        purged.deleted += 1;
    }
    Ok(purged)
}
