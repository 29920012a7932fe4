//! Errors of SQLite, as errors of a store.

use std::sync::Arc;

use crate::descriptors;
use crate::shortage::Resource;
use crate::store::StoreError;
use crate::store::error::DatabaseError;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let code = error.sqlite_error_code();
        if let Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) = code {
            return Self::Corrupt(error.to_string());
        }
        Self::Database(Arc::new(DatabaseError {
            resource: of_sqlite(&error),
            is_locked: matches!(
                code,
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            ),
            is_away: false,
            stays: false,
            hint: hint(&error),
            cause: Box::new(error),
        }))
    }
}

#[cfg(test)]
impl StoreError {
    /// An error of SQLite with this code.
    pub(crate) fn of_sqlite(code: i32) -> Self {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into()
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
