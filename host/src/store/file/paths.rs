//! The files of a hub on the disk: their names, what kind they are, and how they go.

use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// Whether there is a file, of its own and not a device or a pipe, which has nothing in it.
pub(in crate::store) fn is_empty_file(found: &std::fs::Metadata) -> bool {
    found.is_file() && found.len() == 0
}

/// Makes the names in a directory survive a power loss as surely as the contents of its files do.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let sync = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    sync.map_err(StoreError::file("could not sync", dir))
}

/// Removes a file that may be there.
pub(crate) fn remove(file: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::file("could not remove", file)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `path` with more at its end, as SQLite names the files beside its own.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What Perennial and SQLite keep beside a hub and open: each must be a file of its own.
const OPENED_BESIDE: [&str; 5] = ["-wal", "-shm", "-journal", ".lock", ".running"];

/// Refuses what is no file, in the hub's place or beside it, before anything there is opened or removed: a pipe would be waited for, a
/// device may do anything, and what is somebody else's is left as it is.
pub(in crate::store) fn refuse_special(path: &Path) -> Result<(), StoreError> {
    // The hub itself may be a link to its file.
    refuse_kind(path, std::fs::metadata(path))?;
    for suffix in OPENED_BESIDE {
        let beside = with_suffix(path, suffix);
        let found = beside.symlink_metadata();
        refuse_kind(&beside, found)?;
    }
    Ok(())
}

fn refuse_kind(path: &Path, found: std::io::Result<std::fs::Metadata>) -> Result<(), StoreError> {
    use std::os::unix::fs::FileTypeExt;
    // What is not there harms nobody, and what cannot be looked at is said by who opens it.
    let Ok(kind) = found.map(|found| found.file_type()) else {
        return Ok(());
    };
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "it is a directory",
        _ if kind.is_fifo() => "it is a named pipe",
        _ if kind.is_socket() => "it is a socket",
        _ if kind.is_symlink() => "it is a symbolic link",
        _ => "it is a device",
    };
    let what = format!(
        "{what}, where a task hub has a file; it was left as it is: move it away, or use another data directory"
    );
    Err(StoreError::file("will not open", path)(
        std::io::Error::other(what),
    ))
}

/// The file that a path leads to, where it is a symbolic link to one.
pub(crate) fn real(path: PathBuf) -> PathBuf {
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_symlink() => std::fs::canonicalize(&path).unwrap_or(path),
        _ => path,
    }
}

/// Bytes of a hub on the disk, with its write-ahead log.
pub(crate) fn bytes_of(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    size(path) + size(&with_suffix(path, "-wal"))
}
