//! Hub files: list and delete them.

use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::sqlite::file::fresh;
use crate::store::sqlite::file::lock::OwnerLock;
use crate::store::sqlite::file::open;
use crate::store::sqlite::file::paths::{is_empty_file, real, remove, with_suffix};

/// Suffixes of the files that SQLite and hosts keep beside a hub, or leave there after a crash.
const BESIDE: [&str; 5] = ["-wal", "-shm", "-journal", ".sock", ".running"];

/// Refuses a file with hard links: under each name it would have a lock and a log of its own.
pub(in crate::store) fn check_names(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt;
    // A directory always has several links.
    let has_several =
        || std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.nlink() > 1);
    if has_several() {
        // The process that created it may have died before it removed the temporary link.
        path.parent().into_iter().for_each(fresh::remove_stale);
    }
    if has_several() {
        return Err(StoreError::Linked(path.to_owned()));
    }
    Ok(())
}

/// The hubs of a directory by name: every file with a hub's suffix. Empty if the directory does not exist.
pub(crate) fn hubs_in(dir: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::file("could not read the directory", dir)(error)),
    };
    let mut hubs = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(StoreError::file("could not read the directory", dir))?
            .path();
        if path.extension().is_some_and(|end| end == "db")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            hubs.push((name.to_owned(), path.clone()));
        }
    }
    hubs.sort();
    Ok(hubs)
}

/// Deletes a hub with all files beside it.
///
/// # Errors
/// [`StoreError::Owned`] if another process owns it and it is not `forced`; [`StoreError::Missing`] if it does not exist;
/// [`StoreError::NotAHub`] if the file is something else, and [`StoreError::Newer`] if only a newer version can read it. Nothing is deleted
/// then.
pub(crate) fn delete(path: &Path, forced: bool) -> Result<(), StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing(path.to_owned()));
    }
    // If the given path is a link to the file, the link is deleted too.
    let given = path;
    let path = &real(path.to_owned());
    let lock = match OwnerLock::take(path) {
        Ok(lock) => Some(lock),
        Err(StoreError::Owned(_)) if forced => None,
        Err(error) => return Err(error),
    };
    let is_empty = path
        .symlink_metadata()
        .is_ok_and(|found| is_empty_file(&found));
    match open::connect_writer(path) {
        // The owner must not continue as if its writes were kept: the new epoch fails its next commit.
        Ok(db) if lock.is_none() => {
            db.execute("UPDATE hub SET owner_epoch = owner_epoch + 1", [])?;
        }
        Ok(_) => {}
        // A host that died before it wrote anything left an empty file.
        Err(StoreError::NotAHub(_)) if is_empty => {}
        Err(error @ StoreError::NotAHub(_)) => return Err(error),
        // A damaged or older hub can be deleted too.
        Err(StoreError::Corrupt(_) | StoreError::Older { .. }) => {}
        Err(error) => return Err(error),
    }
    remove_all(path)?;
    if given != path {
        remove(given)?;
    }
    drop(lock);
    Ok(())
}

/// Removes a hub and the files beside it. The caller has its lock, or was told to force the deletion.
pub(in crate::store) fn remove_all(path: &Path) -> Result<(), StoreError> {
    remove(path)?;
    for suffix in BESIDE {
        remove(&with_suffix(path, suffix))?;
    }
    if let Some(dir) = path.parent() {
        fresh::remove_stale(dir);
    }
    // The lock goes last, while it is held, so that no process creates a new hub among the remains of this one.
    remove(&with_suffix(path, ".lock"))
}
