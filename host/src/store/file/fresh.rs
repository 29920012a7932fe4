//! Writes a file under a temporary name, and gives it its own when it is complete.
//!
//! Laws: its temporary name is nobody else's, so that two processes can write for the same place, and no file of a user's is touched; a
//! file that is there is never replaced; what a killed process left is removed by the next one that writes there, and what a live one
//! writes is not, because each holds a lock on its own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::file::paths::{is_empty_file, remove, sync_dir};

/// What temporary names end with.
const SUFFIX: &str = ".perennial-new";

/// Hexadecimal digits before that.
const DIGITS: usize = 32;

/// A file without its name. Dropped before it has one, it is removed.
#[derive(Debug)]
pub(in crate::store) struct Fresh {
    path: PathBuf,
    /// Locked, which says that somebody is writing it.
    file: Option<File>,
}

impl Fresh {
    /// Makes an empty file in the directory of `place`, and removes what killed processes left there.
    pub(in crate::store) fn beside(place: &Path) -> Result<Self, StoreError> {
        remove_stale(dir_of(place));
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        loop {
            let unique = uuid::Uuid::new_v4().simple();
            let path = dir_of(place).join(format!(".{name}.{unique}{SUFFIX}"));
            // What modules are granted is in it too, with the values of variables. SQLite gives the log the same mode.
            let made = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            // The temporary name says nothing to whoever asked for the place.
            let file = made.map_err(StoreError::file("could not write", place))?;
            // A file system without locks only lacks what tells a dead writer from a live one.
            let locked = file.try_lock();
            // Another process may have taken it for one that was left behind, in the moment before it was locked.
            if locked.is_ok() && !path.exists() {
                continue;
            }
            return Ok(Self {
                path,
                file: Some(file),
            });
        }
    }

    /// Where it is for now.
    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, synced, unless there is such a file by now.
    pub(in crate::store) fn publish(mut self, place: &Path) -> Result<(), StoreError> {
        let file = self.file.take();
        let sync = file.as_ref().map_or(Ok(()), File::sync_all);
        let named = sync
            .map_err(StoreError::file("could not sync", place))
            .and_then(|()| name(&self.path, place));
        // The lock goes last: until here nobody takes the file for one that was left behind.
        let removed = remove(&self.path);
        drop(file);
        named?;
        removed?;
        sync_dir(dir_of(place))
    }

    /// As [`publish`](Self::publish), in place of an empty file.
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
            // The first error says more than one about a file that nobody asked for.
            let _ = remove(&self.path);
        }
    }
}

/// A second name for a file, unless it is taken: that is one step, where looking and renaming would be two.
fn name(file: &Path, place: &Path) -> Result<(), StoreError> {
    match std::fs::hard_link(file, place) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(in_the_way(place)),
        // File systems without links, as on memory sticks.
        Err(_) => {
            refuse_existing(place)?;
            std::fs::rename(file, place).map_err(StoreError::file("could not create", place))
        }
    }
}

/// Refuses a place where something is, be it a link that leads nowhere.
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

/// Removes the files of writers that are gone. That one stays is no reason not to write another.
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
