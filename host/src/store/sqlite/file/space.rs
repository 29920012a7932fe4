//! Measures the space that a hub uses, and returns free pages to the file system.
//!
//! SQLite keeps the pages of deleted rows and reuses them. They do not count as used. The idle writer returns them in small transactions.
//! Files created before the version that introduced this return nothing until they are compacted.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::codec::uint;
use crate::store::space::Pages;
use crate::store::sqlite::file::foreign_log;
use crate::store::sqlite::file::lock::OwnerLock;
use crate::store::sqlite::file::open;
use crate::store::sqlite::file::paths::bytes_of;

/// Pages that one transaction returns: about as many as a large turn writes.
pub(in crate::store) const PAGES_AT_ONCE: u32 = 256;

/// Free pages that stay for the next writes: returning and allocating them again costs more than 4 MiB are worth.
pub(in crate::store) const FREE_PAGES_KEPT: u64 = if cfg!(test) { 16 } else { 1_024 };

/// A log of at most this many pages stays as it is while the writer is idle. A longer one is folded and truncated.
pub(in crate::store) const IDLE_LOG_PAGES: u32 = if cfg!(test) { 8 } else { 256 };

/// How long the writer is idle before it tidies up.
pub(in crate::store) const QUIET: Duration =
    Duration::from_millis(if cfg!(test) { 20 } else { 2_000 });

/// Free space that a ready hub needs: a start with little input takes a few pages of the log, and a page each of the file.
#[cfg(feature = "http")]
const ROOM_MIN: u64 = 512 << 10;

/// Checks that the hub's disk has room for small writes.
///
/// # Errors
/// An error with [`StoreError::is_disk_full`] if not; the system's error if the free space is unknown.
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

/// Whether the file can return pages without being rewritten.
pub(in crate::store) fn gives_back(db: &Connection) -> Result<bool, StoreError> {
    let mode: u32 = db.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    Ok(mode == 2)
}

/// Returns some pages, in the open transaction.
pub(in crate::store) fn give_back(db: &Connection) -> Result<(), StoreError> {
    let mut step = db.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"))?;
    let mut rows = step.query([])?;
    // Each row frees a page.
    while rows.next()?.is_some() {}
    Ok(())
}

/// Folds the log into the file and truncates it, unless a reader still needs it. Returns whether it did.
pub(in crate::store) fn empty_log(db: &Connection) -> Result<bool, StoreError> {
    // Does not wait for readers: a later try loses nothing, and commits would wait too.
    db.busy_timeout(Duration::ZERO)?;
    let emptied = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, i64>(0)
    });
    db.busy_timeout(open::BUSY_TIMEOUT)?;
    Ok(emptied? == 0)
}

/// Rewrites a hub without its free pages, so that from then on it also returns space by itself. Returns its size on the disk before and
/// after.
///
/// It needs room for a copy of the used pages. A crash leaves the hub as it was.
///
/// # Errors
/// [`StoreError::Missing`]; [`StoreError::Owned`] if a process runs it; and the errors of an unusable hub.
pub(crate) fn compact(path: &Path) -> Result<(u64, u64), StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing(path.to_owned()));
    }
    let _lock = OwnerLock::take(path)?;
    foreign_log::check(path)?;
    let db = open::connect_writer(path)?;
    // The log counts as part of the size: without it the file may be smaller than the result.
    empty_log(&db)?;
    let before = bytes_of(path);
    // An owner that was paused and replaced must not continue.
    db.execute("UPDATE hub SET owner_epoch = owner_epoch + 1", [])?;
    db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")?;
    empty_log(&db)?;
    Ok((before, bytes_of(path)))
}

/// Counts the pages of a file.
pub(in crate::store) fn pages_of(db: &Connection) -> Result<Pages, StoreError> {
    let number = |pragma: &str| -> Result<u64, StoreError> {
        let mut query = db.prepare_cached(pragma)?;
        Ok(uint(query.query_row([], |row| row.get(0))?))
    };
    Ok(Pages {
        all: number("PRAGMA page_count")?,
        free: number("PRAGMA freelist_count")?,
        bytes_of_one: number("PRAGMA page_size")?,
    })
}

/// Whether more pages are free than the reserve.
pub(in crate::store) fn has_excess(pages: Pages) -> bool {
    pages.free > FREE_PAGES_KEPT.max(pages.all / 8)
}
