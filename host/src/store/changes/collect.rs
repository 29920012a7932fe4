//! Finds modules that nothing refers to.
//!
//! These refer to a digest: a module's name, a name of an orchestration or activity, a version that can be started, an instance that is
//! live or failed (it can be rewound), and an activity or a child that waits for a retry. Each change that adds a reference checks in the
//! same transaction that the module still exists, with [`modules::expect`](crate::store::rows::modules::expect).

use perennial_core::Digest;
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::uint;
use crate::store::types::CollectedModule;

/// All digests that names refer to.
const NAMED: &str = "SELECT digest FROM module_name UNION SELECT digest FROM definition";

/// All digests that work refers to. Statuses: 3 is Completed, 5 Terminated.
const PINNED: &str =
    "SELECT module FROM instance WHERE status IN (0, 1, 2, 4) AND module IS NOT NULL
     UNION SELECT module FROM task WHERE module IS NOT NULL";

/// References from versions of orchestrations, as part of a query.
fn versions(old_too: OldVersions) -> &'static str {
    match old_too {
        OldVersions::Keep => "SELECT digest FROM definition_version",
        // The newest versions are in `definition` too.
        OldVersions::Forget => "SELECT NULL WHERE 0",
    }
}

/// Whether a collection keeps old versions of orchestrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum OldVersions {
    /// They can still be started, so they keep their modules.
    Keep,
    /// They can no longer be started.
    Forget,
}

/// The modules that nothing refers to.
pub(crate) fn collectable(
    db: &Connection,
    old: OldVersions,
) -> Result<Vec<CollectedModule>, StoreError> {
    // Only for a module without a name all work is looked through, which takes long in a large hub.
    let mut query = db.prepare(&format!(
        "SELECT digest, length(component) FROM module
         WHERE CASE WHEN digest IN ({NAMED} UNION {}) THEN 0 ELSE digest NOT IN ({PINNED}) END ORDER BY stored_at, digest",
        versions(old)
    ))?;
    let found = query.query_map([], |row| {
        Ok(CollectedModule {
            digest: Digest(row.get(0)?),
            bytes: uint(row.get(1)?),
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Deletes the modules that nothing refers to, and returns them.
pub(crate) fn collect(
    db: &Connection,
    old: OldVersions,
) -> Result<Vec<CollectedModule>, StoreError> {
    if old == OldVersions::Forget {
        db.execute(
            "DELETE FROM definition_version AS v WHERE NOT EXISTS
                 (SELECT 1 FROM definition d WHERE d.kind = 0 AND d.name = v.name AND d.version = v.version AND d.digest = v.digest)",
            [],
        )?;
    }
    let collected = collectable(db, old)?;
    let mut delete = db.prepare("DELETE FROM module WHERE digest = ?1")?;
    for module in &collected {
        delete.execute([module.digest.0])?;
    }
    Ok(collected)
}

/// The result of [`remove`].
pub(crate) enum Removed {
    /// No module has this name.
    Missing,
    /// This many live instances run the module; nothing changed.
    InUse(u64),
    /// The name is removed.
    Done,
}

/// Removes a module's name, its definitions for new instances, and its grants. Live instances keep their digest.
pub(crate) fn remove(db: &Connection, name: &str, in_use_too: bool) -> Result<Removed, StoreError> {
    let mut query = db.prepare("SELECT digest FROM module_name WHERE name = ?1")?;
    let digest: Option<[u8; 32]> = query.query_row([name], |row| row.get(0)).optional()?;
    let Some(digest) = digest else {
        return Ok(Removed::Missing);
    };
    if !in_use_too {
        let mut query =
            db.prepare("SELECT count(*) FROM instance WHERE status IN (0, 1, 2) AND module = ?1")?;
        let live = uint(query.query_row([digest], |row| row.get(0))?);
        if live > 0 {
            return Ok(Removed::InUse(live));
        }
    }
    db.execute("DELETE FROM definition_version WHERE module = ?1", [name])?;
    db.execute("DELETE FROM definition WHERE module = ?1", [name])?;
    db.execute("DELETE FROM module_name WHERE name = ?1", params![name])?;
    Ok(Removed::Done)
}
