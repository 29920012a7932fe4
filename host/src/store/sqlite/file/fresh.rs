//! Writes a file under a temporary name, and renames it when it is complete.
//!
//! Invariants: the temporary name is unique, so that two processes can write for the same place and no file of a user is touched; an
//! existing file is never replaced; the next writer in a directory removes what a killed process left, but not the file of a live one,
//! because each writer holds a lock on its file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::sqlite::file::paths::{is_empty_file, remove, sync_dir};

/// The suffix of temporary names.
const SUFFIX: &str = ".perennial-new";

/// The number of hexadecimal digits before the suffix.
const DIGITS: usize = 32;

/// A file under its temporary name. Dropping it before it is published removes it.
#[derive(Debug)]
pub(in crate::store) struct Fresh {
    path: PathBuf,
    /// Locked while it is being written.
    file: Option<File>,
}

impl Fresh {
    /// Creates an empty file in the directory of `place`, and removes what killed processes left there.
    pub(in crate::store) fn beside(place: &Path) -> Result<Self, StoreError> {
        remove_stale(dir_of(place));
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        loop {
            let unique = uuid::Uuid::new_v4().simple();
            let path = dir_of(place).join(format!(".{name}.{unique}{SUFFIX}"));
            // The hub contains grants with values of variables, so only its owner may read it. SQLite gives the log the same mode.
            let made = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            // The error names the requested place; the caller does not know the temporary name.
            let file = made.map_err(StoreError::file("could not write", place))?;
            // Without locks (some file systems have none), a dead writer's file cannot be told from a live one's.
            let locked = file.try_lock();
            // Another process may have removed it as a leftover in the moment before it was locked.
            if locked.is_ok() && !path.exists() {
                continue;
            }
            return Ok(Self {
                path,
                file: Some(file),
            });
        }
    }

    /// Its temporary path.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and gives it its name, unless a file of that name exists by now.
    pub(in crate::store) fn publish(mut self, place: &Path) -> Result<(), StoreError> {
        let file = self.file.take();
        let sync = file.as_ref().map_or(Ok(()), File::sync_all);
        let named = sync
            .map_err(StoreError::file("could not sync", place))
            .and_then(|()| name(&self.path, place));
        // Released last: until here no process takes the file for a leftover.
        let removed = remove(&self.path);
        drop(file);
        named?;
        removed?;
        sync_dir(dir_of(place))
    }

    /// As [`publish`](Self::publish), but replaces an empty file.
    pub(in crate::store) fn publish_over_empty(self, place: &Path) -> Result<(), StoreError> {
        if place
            .symlink_metadata()
            .is_ok_and(|found| is_empty_file(&found))
        {
            remove(place)?;
        }
        self.publish(place)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.file.is_some() {
            // The first error is more useful than one about the temporary file.
            let _ = remove(&self.path);
        }
    }
}

/// Links a file to its name, unless the name is taken: one atomic step, unlike a check and a rename.
fn name(file: &Path, place: &Path) -> Result<(), StoreError> {
    match std::fs::hard_link(file, place) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(in_the_way(place)),
        // Some file systems have no links, as on memory sticks.
        Err(_) => {
            refuse_existing(place)?;
            std::fs::rename(file, place).map_err(StoreError::file("could not create", place))
        }
    }
}

/// Refuses a place that exists, even if it is a dangling link.
pub(in crate::store) fn refuse_existing(place: &Path) -> Result<(), StoreError> {
    match place.symlink_metadata() {
        Ok(_) => Err(in_the_way(place)),
        Err(_) => Ok(()),
    }
}

fn in_the_way(place: &Path) -> StoreError {
    StoreError::file("will not replace", place)(std::io::Error::new(
        ErrorKind::AlreadyExists,
        "it is there already; name another file, or move it away first",
    ))
}

fn dir_of(place: &Path) -> &Path {
    let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new("."))
}

/// Removes the files of dead writers. A failure to remove one does not prevent the next write.
pub(in crate::store) fn remove_stale(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_temporary(&entry.file_name()) && is_left_behind(&entry.path()) {
            match remove(&entry.path()) {
                Ok(()) => {
                    tracing::debug!(path = %entry.path().display(), "removed what a killed process left");
                }
                Err(error) => tracing::debug!(%error, "what a killed process left stays"),
            }
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let name = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
    let parts = name
        .filter(|name| name.starts_with('.'))
        .and_then(|name| name.rsplit_once('.'));
    parts.is_some_and(|(place, unique)| {
        place.len() > 1 && unique.len() == DIGITS && unique.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_left_behind(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| {
            let name = entry.unwrap().file_name();
            name.into_string().unwrap()
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_what_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("copy.db");
        let (first, second) = (
            Fresh::beside(&place).unwrap(),
            Fresh::beside(&place).unwrap(),
        );
        assert_ne!(first.path(), second.path());
        std::fs::write(first.path(), "whole").unwrap();
        first.publish(&place).unwrap();
        let error = second.publish(&place).unwrap_err().to_string();
        assert!(error.starts_with("will not replace"), "{error}");
        drop(Fresh::beside(&place).unwrap());
        assert_eq!(names(dir.path()), ["copy.db"]);
        assert_eq!(std::fs::read(&place).unwrap(), b"whole");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mine = [
            ".copy.db.0123.perennial-new",
            ".perennial-new",
            "copy.db.new",
            "copy.db.perennial-new",
        ];
        let left = format!(".other.db.{}{SUFFIX}", "0f".repeat(16));
        for name in mine.into_iter().chain([left.as_str()]) {
            std::fs::write(at(name), "mine").unwrap();
        }
        let live = Fresh::beside(&at("copy.db")).unwrap();
        let _other = Fresh::beside(&at("copy.db")).unwrap();
        assert!(live.path().exists(), "a live one is not removed");
        assert!(!at(&left).exists());
        assert!(mine.iter().all(|name| at(name).exists()));
    }
}
