//! Paths of a hub's files: names, kinds, and removal.

use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// The suffix of the file beside a hub in which the [flight recorder](crate::store::flight) writes.
pub(in crate::store) const RUNNING: &str = ".running";

/// Whether this is an empty regular file, and not a device or a pipe.
pub(in crate::store) fn is_empty_file(found: &std::fs::Metadata) -> bool {
    found.is_file() && found.len() == 0
}

/// Syncs a directory, so that the names in it survive a power loss as the contents of its files do.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let sync = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    sync.map_err(StoreError::file("could not sync", dir))
}

/// Removes a file if it exists.
pub(crate) fn remove(file: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::file("could not remove", file)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Appends a suffix to `path`, as SQLite names the files beside its own.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Suffixes of the files beside a hub that Perennial or SQLite open. Each must be a regular file.
const OPENED_BESIDE: [&str; 5] = ["-wal", "-shm", "-journal", ".lock", ".running"];

/// Refuses anything but regular files in the hub's place or beside it, before anything there is opened or removed: opening a pipe would
/// block, a device may do anything, and files of others stay untouched.
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
    // A missing file is fine, and the later open reports other errors.
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
        "{what}, where a task hub has a file; it was left unchanged: move it away, or use another data directory"
    );
    Err(StoreError::file("will not open", path)(
        std::io::Error::other(what),
    ))
}

/// Resolves a symbolic link to the file.
pub(crate) fn real(path: PathBuf) -> PathBuf {
    match std::fs::symlink_metadata(&path) {
        Ok(found) if found.is_symlink() => std::fs::canonicalize(&path).unwrap_or(path),
        _ => path,
    }
}

/// Size of a hub on the disk with its write-ahead log, in bytes.
pub(crate) fn bytes_of(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    size(path) + size(&with_suffix(path, "-wal"))
}
