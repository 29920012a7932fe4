//! Errors of the store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::descriptors;
use crate::shortage::{Resource, Shortage};

/// What can go wrong with a hub's file. Cheap to clone: one failed commit is the answer to everyone who was in it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// The disk or SQLite failed. Nothing of the operation was kept.
    #[error("the hub could not be read or written: {error}{hint}", error = .0, hint = hint(.0))]
    Sqlite(Arc<rusqlite::Error>),
    /// A file beside the hub, or its directory, could not be used.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came of it.
        source: Arc<std::io::Error>,
    },
    /// There is no hub.
    #[error("there is no task hub at {0}; deploy a module or start a host to make it")]
    Missing(PathBuf),
    /// The file was taken away from under its owner.
    #[error(
        "{0} was moved or deleted while it was in use, and nothing is accepted until it is back; put it back, or stop this process"
    )]
    Gone(PathBuf),
    /// The log beside the file, or its index, was taken away from under the owner. What they had is in the file.
    #[error(
        "{0} was deleted or replaced while its task hub was in use: what it had is in the hub, and nothing more is accepted by this process; stop it and start it again"
    )]
    LogGone(PathBuf),
    /// The file is something else. It is left alone.
    #[error("{0} is not a task hub; it was left as it is")]
    NotAHub(PathBuf),
    /// A newer Perennial wrote the file. It is left alone.
    #[error(
        "{path} was written by a newer version of Perennial (format {found}; this one knows {known}); it was left as it is"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this binary knows.
        known: u32,
    },
    /// An older Perennial wrote the file, and no host of this version had it since.
    #[error(
        "{path} was written by an older version of Perennial (format {found}; this one has {known}); start a host on it, which brings it up to date"
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this binary.
        known: u32,
    },
    /// Beside the file lies the log of another one, or of another state of it. Both are left alone.
    #[error(
        "{} does not belong to {}, which was copied or moved here without the log that it had: move the log away to use the file as it is, or put back the file that belongs to the log", log.display(), path.display()
    )]
    ForeignLog {
        /// The file.
        path: PathBuf,
        /// The log beside it.
        log: PathBuf,
    },
    /// Several names lead to the file.
    #[error(
        "{0} has another name too (a hard link), under which another host would not see that it is in use: copy the file and remove one of the names, or use a symbolic link"
    )]
    Linked(PathBuf),
    /// What the file says cannot be.
    #[error("the hub is damaged: {0}")]
    Corrupt(String),
    /// Another process owns the hub.
    #[error("the task hub is in use by {0}")]
    Owned(String),
    /// The owner of the hub could not do a command, which was taken back. One of several transactions may be done in part.
    #[error("{owner} has it and could not do what was asked, which was taken back: {why}")]
    NotTaken {
        /// Who owns it.
        owner: String,
        /// What it said.
        why: String,
    },
    /// A command's sender no longer wants it.
    #[error("the command was taken back")]
    TakenBack,
    /// Another owner took the hub over; this one may not write any more.
    #[error("another process has taken the hub over")]
    Fenced,
    /// The instance is not where the turn left it: it was replaced or purged meanwhile.
    #[error("the instance changed meanwhile")]
    Conflict,
    /// The host lacked something else than its hub. Nothing of the operation was kept.
    #[error(transparent)]
    Lacks(#[from] Shortage),
    /// The store is shutting down.
    #[error("the host is shutting down")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Sqlite(Arc::new(error)),
        }
    }
}

impl StoreError {
    /// There is no space left on the disk, or no more may be used.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => of_sqlite(error) == Resource::Disk,
            Self::File { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::FileTooLarge
            ),
            _ => false,
        }
    }

    /// Another process has locked the file for longer than was waited.
    pub(crate) fn is_locked(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        matches!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
        )
    }

    /// What was lacking, where the fault lies neither in what the file says nor in what was asked: it may be there when it is tried again.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let resource = match self {
            Self::Sqlite(error) => of_sqlite(error),
            Self::File { source, .. } => Resource::of_io(source),
            Self::Missing(_)
            | Self::Gone(_)
            | Self::LogGone(_)
            | Self::NotAHub(_)
            | Self::ForeignLog { .. }
            | Self::Linked(_)
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Owned(_)
            | Self::NotTaken { .. }
            | Self::Fenced
            | Self::Conflict
            | Self::Closed => Resource::Hub,
            Self::Lacks(shortage) => return Some(shortage.clone()),
            Self::Corrupt(_) | Self::TakenBack => return None,
        };
        Some(Shortage::new(resource, self.to_string()))
    }

    /// Wraps what came of using a file.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            what,
            path,
            source: Arc::new(source),
        }
    }
}

/// What SQLite's own words leave out, where that is known.
fn hint(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::CannotOpen) => {
            " (does this process have as many files open as it may? `ulimit -n` says how many those are)"
        }
        _ => "",
    }
}

/// What SQLite had not enough of. It hides most errors of the system behind codes of its own.
fn of_sqlite(error: &rusqlite::Error) -> Resource {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Resource::Disk,
        // A file that may not grow is a full disk; SQLite says only that it could not write.
        Some(ErrorCode::SystemIoFailure) if is_write(error) && descriptors::files_are_bounded() => {
            Resource::Disk
        }
        // The index of the log is made when a hub is opened, and is as long as the disk has room for.
        Some(ErrorCode::SystemIoFailure) if is_index(error) => Resource::Disk,
        Some(ErrorCode::OutOfMemory) => Resource::Memory,
        // A file of a hub that is there can be opened as long as there are descriptors.
        Some(ErrorCode::CannotOpen) => Resource::Descriptors,
        _ => Resource::Hub,
    }
}

fn is_write(error: &rusqlite::Error) -> bool {
    has_code(error, rusqlite::ffi::SQLITE_IOERR_WRITE)
}

fn is_index(error: &rusqlite::Error) -> bool {
    has_code(error, rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

fn has_code(error: &rusqlite::Error, code: std::ffi::c_int) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn what_the_surroundings_lack_is_told_apart() {
        let sqlite =
            |code| StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        let file = |kind: std::io::ErrorKind| StoreError::file("tried", "a.db")(kind.into());
        for full in [
            sqlite(ffi::SQLITE_FULL),
            file(std::io::ErrorKind::StorageFull),
            file(std::io::ErrorKind::QuotaExceeded),
        ] {
            assert!(full.is_disk_full() && !full.is_locked(), "{full}");
        }
        for locked in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_BUSY_SNAPSHOT,
        ] {
            let locked = sqlite(locked);
            assert!(locked.is_locked() && !locked.is_disk_full(), "{locked}");
        }
        let other = sqlite(ffi::SQLITE_IOERR);
        assert!(!other.is_locked() && !other.is_disk_full());
    }
}
