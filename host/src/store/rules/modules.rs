//! Deploys, removes and collects modules.
//!
//! These refer to a digest: a module's name, a name of an orchestration or activity, a version that can be started, an instance that is
//! live or failed (it can be rewound), and an activity or a child that waits for a retry. Each change that adds a reference checks in the
//! same transaction that the module still exists, with [`expect`].

use perennial_core::{Digest, Failure, Timestamp};

use crate::store::StoreError;
use crate::store::reply::Reply;
use crate::store::rows::Rows;
use crate::store::types::{CollectedModule, NameTaken, NewModule, OldVersions, UpdatedName};

/// Adds a suggestion to a failure because of an unknown orchestration.
pub(super) fn meant(
    rows: &mut impl Rows,
    failure: Failure,
    name: &str,
) -> Result<Failure, StoreError> {
    let known = rows.orchestrations()?;
    Ok(failure.meant(name, known.iter().map(String::as_str)))
}

/// Checks that a module exists, in the transaction that adds a reference to it: it may have been deleted since its name was read.
///
/// # Errors
/// [`StoreError::Conflict`] if it was deleted.
pub(super) fn expect(rows: &mut impl Rows, digest: Digest) -> Result<(), StoreError> {
    if rows.has_module(digest)? {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// Stores a module, and updates the names that it defines. New instances can no longer use the names that it dropped.
pub(super) fn deploy(
    rows: &mut impl Rows,
    new: &NewModule,
    now: Timestamp,
) -> Result<Reply, StoreError> {
    let mut updated = Vec::new();
    for definition in &new.definitions {
        let before = rows.definition(definition.kind, &definition.name)?;
        if let Some((owner, _)) = &before
            && *owner != new.name
            && !new.replace
        {
            return Ok(Reply::NameTaken(NameTaken {
                kind: definition.kind,
                name: definition.name.clone(),
                owner: owner.clone(),
            }));
        }
        let same = (new.name.clone(), new.digest);
        updated.push(UpdatedName {
            kind: definition.kind,
            name: definition.name.clone(),
            changed: before.as_ref() != Some(&same),
            before: before.map(|(_, digest)| digest),
        });
    }
    rows.put_module(new, now)?;
    rows.put_definitions(new)?;
    Ok(Reply::Deployed(updated))
}

/// Deletes the modules that nothing refers to, and returns them.
pub(super) fn collect(
    rows: &mut impl Rows,
    old: OldVersions,
) -> Result<Vec<CollectedModule>, StoreError> {
    if old == OldVersions::Forget {
        rows.delete_old_versions()?;
    }
    let collected = rows.unused_modules()?;
    for module in &collected {
        rows.delete_module(module.digest)?;
    }
    Ok(collected)
}

/// Removes a module's name, its definitions for new instances, and its grants. Live instances keep their digest.
pub(super) fn remove(
    rows: &mut impl Rows,
    name: &str,
    in_use_too: bool,
) -> Result<Reply, StoreError> {
    let Some(digest) = rows.module_named(name)? else {
        return Ok(Reply::Nothing);
    };
    if !in_use_too {
        let live = rows.live_on(digest)?;
        if live > 0 {
            return Ok(Reply::InUse(live));
        }
    }
    rows.delete_name(name)?;
    Ok(Reply::Done)
}
