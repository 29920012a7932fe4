//! Ownership of a hub: an OS lock on a file beside it.
//!
//! The system releases the lock of a process that died. The lock alone decides about ownership: the text in the file only describes the
//! owner and names its socket. The hub's own file is never locked this way, so that every process may read it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::store::StoreError;
use crate::store::owned::{OwnerNote, Ownership};
use crate::store::sqlite::file::paths::{real, refuse_special, with_suffix};

/// How long to wait for an owner without a note: a process that applies one command holds the lock only briefly.
const SILENT_OWNER: Duration = Duration::from_secs(2);

/// The interval between two looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether a process owns the hub.
pub(crate) fn is_owned(hub: &Path) -> bool {
    matches!(OwnerLock::take(hub), Err(StoreError::Owned(_)))
}

/// The right to change a hub, until dropped.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    file: File,
}

impl OwnerLock {
    /// Takes the lock, or returns an error that names the owner.
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
                // The hub was deleted meanwhile, and its lock file too: this lock excludes no other process.
                Ok(()) if !is_at(&file, &path) => {
                    file = open()?;
                    continue;
                }
                Ok(()) => {
                    // The note of an owner that died is no longer true.
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
                    return Err(StoreError::Owned(note.to_string()));
                }
                // An owner without a note holds the lock only for a moment, or is about to write its note.
                None if begun.elapsed() < SILENT_OWNER => std::thread::sleep(LOOK_AGAIN),
                None => return Err(StoreError::Owned("another process".to_owned())),
            }
        }
    }
}

impl Ownership for OwnerLock {
    fn announce(&mut self, note: &OwnerNote) -> std::io::Result<()> {
        let text = serde_json::to_vec(note)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Closing the file releases the lock; clearing the note is only tidier.
        let _ = self.file.set_len(0);
    }
}

/// Whether a path leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

/// The note of a hub's owner, if there is one.
pub(crate) fn read_note(hub: &Path) -> Option<OwnerNote> {
    let mut text = String::new();
    refuse_special(hub).ok()?;
    File::open(lock_path(hub))
        .ok()?
        .read_to_string(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

/// Beside the file, not beside a link to it: all names of a hub share one lock.
fn lock_path(hub: &Path) -> PathBuf {
    with_suffix(&real(hub.to_owned()), ".lock")
}
