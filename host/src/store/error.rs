//! Errors of the store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::descriptors;
use crate::shortage::{Resource, Shortage};

/// An error of a hub's file. Cheap to clone: a failed commit returns the same error to every change in its batch.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// The disk or SQLite failed. The operation was rolled back.
    #[error("the hub could not be read or written: {error}{hint}", error = .0, hint = hint(.0))]
    Sqlite(Arc<rusqlite::Error>),
    /// A file beside the hub, or its directory, could not be used.
    #[error("{what} {path}: {source}")]
    File {
        /// The failed action, such as "could not write".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: Arc<std::io::Error>,
    },
    /// No hub at this path.
    #[error("there is no task hub at {0}; deploy a module or start a host to make it")]
    Missing(PathBuf),
    /// The hub's file was moved or deleted while its owner used it.
    #[error(
        "{0} was moved or deleted while it was in use, and nothing is accepted until it is back; put it back, or stop this process"
    )]
    Gone(PathBuf),
    /// The write-ahead log or its index was moved or deleted while the owner used it. Its content was folded into the hub's file.
    #[error(
        "{0} was deleted or replaced while its task hub was in use: what it had is in the hub, and nothing more is accepted by this process; stop it and start it again"
    )]
    LogGone(PathBuf),
    /// The file is not a hub. It is left unchanged.
    #[error(
        "{0} is not the file of a task hub; it was left unchanged: name another task hub, or move the file away"
    )]
    NotAHub(PathBuf),
    /// A newer version wrote the file. It is left unchanged.
    #[error(
        "{path} was written by a newer version of Perennial (format {found}; this one knows {known}); it was left unchanged: use that version or a newer one"
    )]
    Newer {
        /// The hub's file.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The newest format that this binary knows.
        known: u32,
    },
    /// An older version wrote the file, and no host of this version has migrated it.
    #[error(
        "{path} was written by an older version of Perennial (format {found}; this one has {known}); start a host on it, which brings it up to date"
    )]
    Older {
        /// The hub's file.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The format of this binary.
        known: u32,
    },
    /// The write-ahead log beside the hub belongs to another file, or to another state of this one. Both are left unchanged.
    #[error(
        "{} does not belong to {}, which was copied or moved here without the log that it had: move the log away to use the file as it is, or put back the file that belongs to the log", log.display(), path.display()
    )]
    ForeignLog {
        /// The hub's file.
        path: PathBuf,
        /// The log beside it.
        log: PathBuf,
    },
    /// The file has hard links.
    #[error(
        "{0} has another name too (a hard link), under which another host would not see that it is in use: copy the file and remove one of the names, or use a symbolic link"
    )]
    Linked(PathBuf),
    /// The content of the file is inconsistent.
    #[error("the hub is damaged: {0}")]
    Corrupt(String),
    /// Another process owns the hub.
    #[error("the task hub is in use by {0}")]
    Owned(String),
    /// The hub's owner did not execute a command in time, and the client withdrew it. If the command takes several transactions, some may
    /// be done.
    #[error(
        "the command was withdrawn, because {owner}, which owns the task hub, could not execute it: {why}"
    )]
    NotTaken {
        /// A description of the owner.
        owner: String,
        /// Why the command was not executed.
        why: String,
    },
    /// The client withdrew the command.
    #[error("the command was withdrawn; try again")]
    TakenBack,
    /// Another owner took over the hub; this one must not write any more.
    #[error("another process has taken over the task hub, and this one writes nothing more")]
    Fenced,
    /// The instance has moved since the change was prepared: for example, it was replaced or purged.
    #[error("the instance was changed at the same time; try again")]
    Conflict,
    /// The machine lacked a resource. The operation was rolled back.
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

#[cfg(test)]
impl StoreError {
    /// An error of SQLite with this code.
    pub(crate) fn of_sqlite(code: i32) -> Self {
        let failed = rusqlite::ffi::Error::new(code);
        Self::Sqlite(Arc::new(rusqlite::Error::SqliteFailure(failed, None)))
    }
}

impl StoreError {
    /// Whether the disk is full, or the process reached its file size limit.
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

    /// Whether another process held SQLite's lock for longer than the busy timeout.
    pub(crate) fn is_locked(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        matches!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
        )
    }

    /// The missing resource, if the cause is neither the file's content nor the request: a later try may succeed.
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

    /// Wraps an error of using a file.
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

/// Advice for known causes that SQLite's message omits.
fn hint(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::CannotOpen) => {
            " (does this process have as many files open as it may? `ulimit -n` says how many those are)"
        }
        _ => "",
    }
}

/// The resource that SQLite lacked. It hides most errors of the system behind codes of its own.
fn of_sqlite(error: &rusqlite::Error) -> Resource {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Resource::Disk,
        // A file at the process's size limit counts as a full disk; SQLite only reports that it could not write.
        Some(ErrorCode::SystemIoFailure) if is_write(error) && descriptors::files_are_bounded() => {
            Resource::Disk
        }
        // The index of the log is created when a hub is opened, so this failure means a full disk.
        Some(ErrorCode::SystemIoFailure) if is_index(error) => Resource::Disk,
        Some(ErrorCode::OutOfMemory) => Resource::Memory,
        // An existing hub can be opened as long as descriptors are left.
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
