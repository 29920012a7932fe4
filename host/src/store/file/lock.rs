//! Ownership of a hub: an OS lock on a file beside it.
//!
//! The lock of a process that died is free at once. What the file says is only for people and for finding the owner's socket; the lock
//! itself is the truth. The hub's own file is never locked this way, so that anyone may read it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::file::paths::{real, refuse_special, with_suffix};

/// How long an owner that says nothing of itself is waited for: a process that applies one command has the lock that briefly.
const SILENT_OWNER: Duration = Duration::from_secs(2);

/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What an owner says about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnerNote {
    /// Its process.
    pub(crate) pid: u32,
    /// Its version of Perennial.
    pub(crate) version: String,
    /// What kind of process it is, such as `perennial serve`.
    pub(crate) what: String,
    /// Where it listens for the news that a command is waiting.
    pub(crate) socket: Option<PathBuf>,
}

/// Whether somebody owns a hub.
pub(crate) fn is_owned(hub: &Path) -> bool {
    matches!(OwnerLock::take(hub), Err(StoreError::Owned(_)))
}

/// The right to change a hub, until dropped.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    file: File,
}

impl OwnerLock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    /// [`StoreError::Owned`] if another process has it; [`StoreError::File`] if the lock file cannot be used.
    pub(crate) fn take(hub: &Path) -> Result<Self, StoreError> {
        refuse_special(hub)?;
        let path = lock_path(hub);
        let open = || {
            let open = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path);
            open.map_err(StoreError::file("could not open", &path))
        };
        let mut file = open()?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                // The hub was deleted meanwhile, and its lock with it: this one keeps nobody out any more.
                Ok(()) if !is_at(&file, &path) => {
                    file = open()?;
                    continue;
                }
                Ok(()) => {
                    // What an owner that died said of itself is no longer true.
                    file.set_len(0)
                        .map_err(StoreError::file("could not clear", &path))?;
                    return Ok(Self { file });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(StoreError::file("could not lock", path)(error));
                }
                Err(TryLockError::WouldBlock) => {}
            }
            match read_note(hub) {
                Some(note) => {
                    return Err(StoreError::Owned(format!(
                        "{} (process {})",
                        note.what, note.pid
                    )));
                }
                // Whoever says nothing of itself has the lock for a moment only, or is about to say it.
                None if begun.elapsed() < SILENT_OWNER => std::thread::sleep(LOOK_AGAIN),
                None => return Err(StoreError::Owned("another process".to_owned())),
            }
        }
    }

    /// Says who the owner is.
    pub(crate) fn write_note(&mut self, note: &OwnerNote) -> std::io::Result<()> {
        let text = serde_json::to_vec(note)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // The lock goes with the file handle; an empty note is only tidier.
        let _ = self.file.set_len(0);
    }
}

/// Whether a file is the one that a path leads to.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// What the owner of a hub says about itself, if it says anything.
pub(crate) fn read_note(hub: &Path) -> Option<OwnerNote> {
    let mut text = String::new();
    refuse_special(hub).ok()?;
    File::open(lock_path(hub))
        .ok()?
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

/// Beside the file, whatever link led to it: two names of a hub are one lock.
fn lock_path(hub: &Path) -> PathBuf {
    with_suffix(&real(hub.to_owned()), ".lock")
}
