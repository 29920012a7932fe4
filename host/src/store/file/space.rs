//! Measures the space that a hub uses, and gives free pages back to the file system.
//!
//! SQLite keeps the pages of what was deleted and uses them again. They count for nothing, and are given back in small steps, each a
//! transaction of its own, while nobody else writes. A file that was made before that was so gives nothing back until it is compacted.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::store::codec::uint;
use crate::store::file::foreign_log;
use crate::store::file::open;
use crate::store::file::paths::bytes_of;
use crate::store::{OwnerLock, StoreError};

/// Pages that one transaction gives back: about as many as a large turn writes.
pub(in crate::store) const PAGES_AT_ONCE: u32 = 256;

/// Free pages that stay, because what comes next will want them: giving them back and taking them again costs more than 4 MiB are worth.
pub(in crate::store) const FREE_PAGES_KEPT: u64 = if cfg!(test) { 16 } else { 1_024 };

/// Pages of a log that is left as it is while nobody writes. A longer one is folded, and its file emptied.
pub(in crate::store) const IDLE_LOG_PAGES: u32 = if cfg!(test) { 8 } else { 256 };

/// How long nobody has written before the writer tidies up.
pub(in crate::store) const QUIET: Duration =
    Duration::from_millis(if cfg!(test) { 20 } else { 2_000 });

/// What a disk must have left for a hub to be ready: a start with little input is a few pages of the log, and a page each of the file.
#[cfg(feature = "http")]
const ROOM_MIN: u64 = 512 << 10;

/// Whether there is room for small writes on the disk of a hub.
///
/// # Errors
/// [`StoreError::is_disk_full`] if there is not; what the system says if it cannot be asked.
#[cfg(feature = "http")]
pub(crate) fn has_room(hub: &Path) -> Result<(), StoreError> {
    let failed =
        |source: std::io::Error| StoreError::file("there is no room to write", hub)(source);
    let dir = hub.parent().filter(|dir| !dir.as_os_str().is_empty());
    let disk =
        rustix::fs::statvfs(dir.unwrap_or(Path::new("."))).map_err(|error| failed(error.into()))?;
    match disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_MIN {
        true => Err(failed(std::io::ErrorKind::StorageFull.into())),
        false => Ok(()),
    }
}

/// How much of a hub's file is in use, as of the last commit, for those who set a limit to it.
#[derive(Debug, Default)]
pub(crate) struct SpaceUsed {
    wanted: AtomicBool,
    bytes: AtomicU64,
}

impl SpaceUsed {
    /// Has it counted, from the next transaction on.
    pub(crate) fn enable(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    pub(in crate::store) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Bytes of the pages that hold something.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(in crate::store) fn publish(&self, pages: Pages) {
        self.bytes.store(pages.used_bytes(), Ordering::Release);
    }
}

/// The pages of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) all: u64,
    pub(crate) free: u64,
    pub(crate) bytes_of_one: u64,
}

impl Pages {
    pub(in crate::store) fn of(db: &Connection) -> Result<Self, StoreError> {
        let number = |pragma: &str| -> Result<u64, StoreError> {
            let mut query = db.prepare_cached(pragma)?;
            Ok(uint(query.query_row([], |row| row.get(0))?))
        };
        Ok(Self {
            all: number("PRAGMA page_count")?,
            free: number("PRAGMA freelist_count")?,
            bytes_of_one: number("PRAGMA page_size")?,
        })
    }

    /// Bytes of those that hold something.
    pub(crate) fn used_bytes(self) -> u64 {
        self.all.saturating_sub(self.free) * self.bytes_of_one
    }

    /// Bytes of those that do not.
    pub(crate) fn free_bytes(self) -> u64 {
        self.free * self.bytes_of_one
    }

    /// Whether more is free than is worth keeping.
    pub(in crate::store) fn has_excess(self) -> bool {
        self.free > FREE_PAGES_KEPT.max(self.all / 8)
    }
}

/// Whether the file can give pages back without being written anew.
pub(in crate::store) fn gives_back(db: &Connection) -> Result<bool, StoreError> {
    let mode: u32 = db.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    Ok(mode == 2)
}

/// Gives some pages back, in the transaction that is open.
pub(in crate::store) fn give_back(db: &Connection) -> Result<(), StoreError> {
    let mut step = db.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"))?;
    let mut rows = step.query([])?;
    // Each row is a page.
    while rows.next()?.is_some() {}
    Ok(())
}

/// Folds the log into the file and empties it, unless somebody still reads from it. Whether that was so.
pub(in crate::store) fn empty_log(db: &Connection) -> Result<bool, StoreError> {
    // Whoever reads is not waited for: nothing is lost by trying again later, and commits would wait too.
    db.busy_timeout(Duration::ZERO)?;
    let emptied = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    db.busy_timeout(open::BUSY_TIMEOUT)?;
    Ok(emptied? == 0)
}

/// Writes a hub anew without what it no longer needs, so that from then on it also gives space back by itself. The bytes that it had on the
/// disk, and those it has now.
///
/// It needs room for a copy of what the hub holds. A crash in the middle leaves the hub as it was.
///
/// # Errors
/// [`StoreError::Missing`]; [`StoreError::Owned`] where a process runs it; and those of a hub that cannot be used.
pub(crate) fn compact(path: &Path) -> Result<(u64, u64), StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing(path.to_owned()));
    }
    let _lock = OwnerLock::take(path)?;
    foreign_log::check(path)?;
    let db = open::connect_writer(path)?;
    // The log is part of what is there: without it the file may be smaller than what it becomes.
    empty_log(&db)?;
    let before = bytes_of(path);
    // An owner that was paused and replaced must not go on.
    db.execute("UPDATE hub SET owner_epoch = owner_epoch + 1", [])?;
    db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")?;
    empty_log(&db)?;
    Ok((before, bytes_of(path)))
}
