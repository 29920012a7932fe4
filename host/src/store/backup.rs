//! Copies of a hub: one that is taken while it is used, and one that becomes a hub again.
//!
//! Laws: a copy is the hub as it was at one moment, whatever goes on meanwhile; it appears under its name whole and synced, or not at all;
//! a file that is there is never replaced.

use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;
use crate::store::lock::OwnerLock;
use crate::store::open::{connect_copier, connect_reader, remove, sync_dir, with_suffix};

/// Pages copied between two reports: 4 MiB of the usual pages.
const PAGES_AT_ONCE: i32 = 1_024;

/// What SQLite keeps beside a database.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Copies a hub that may be in use to a file that does not exist. `progress` is told the pages that are copied, and all.
///
/// # Errors
/// [`StoreError::File`] if there is such a file or it cannot be written, and the errors of a hub that cannot be read. No file is left.
pub(crate) fn backup(
    hub: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let from = connect_copier(hub)?;
    copy(&from, to, progress, |_| Ok(()))
}

/// Makes a hub of a copy, where there is none yet. `progress` is told the pages that are copied, and all.
///
/// # Errors
/// [`StoreError::File`] if there is a hub, [`StoreError::Owned`] if a process is about to make one, [`StoreError::NotAHub`],
/// [`StoreError::Newer`] or [`StoreError::Corrupt`] if the copy is none or damaged. Nothing is changed then.
pub(crate) fn restore(
    from: &Path,
    hub: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    if let Err(error) = std::fs::metadata(from) {
        return Err(StoreError::file("could not read the backup", from)(error));
    }
    let source = connect_copier(from)?;
    check(&source)?;
    if let Some(parent) = hub.parent() {
        std::fs::create_dir_all(parent)
            .map_err(StoreError::file("could not create the directory", parent))?;
    }
    let _lock = OwnerLock::take(hub)?;
    // What ran when a hub of this name died says nothing about this one.
    remove(&with_suffix(hub, ".running"))?;
    copy(&source, hub, progress, |db| {
        // Commands whose senders waited for the hub that was copied are answered by nobody any more.
        db.execute("DELETE FROM command", [])?;
        db.execute("UPDATE hub SET owner_epoch = owner_epoch + 1", [])?;
        Ok(())
    })
}

/// What SQLite finds wrong with a hub's file, at most so many things; nothing where it is whole.
///
/// # Errors
/// Those of a hub that cannot be opened.
pub(crate) fn integrity(hub: &Path, most: u32) -> Result<Vec<String>, StoreError> {
    problems(&connect_reader(hub)?, most)
}

fn problems(db: &Connection, most: u32) -> Result<Vec<String>, StoreError> {
    let mut query = db.prepare(&format!("PRAGMA integrity_check({most})"))?;
    let found: Result<Vec<String>, rusqlite::Error> =
        query.query_map([], |row| row.get(0))?.collect();
    let mut found = found?;
    found.retain(|line| line != "ok");
    Ok(found)
}

/// Whether SQLite finds the file whole.
fn check(db: &Connection) -> Result<(), StoreError> {
    match problems(db, 1)?.pop() {
        Some(problem) => Err(StoreError::Corrupt(problem)),
        None => Ok(()),
    }
}

fn copy(
    from: &Connection,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
    finish: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let place = to.parent().filter(|dir| !dir.as_os_str().is_empty());
    let place = place.unwrap_or(Path::new("."));
    let fresh = with_suffix(to, ".new");
    let refuse_existing = || match to.symlink_metadata() {
        Ok(_) => Err(StoreError::file("will not replace", to)(
            std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "it is there already; name another file, or move it away first",
            ),
        )),
        Err(_) => Ok(()),
    };
    refuse_existing()?;
    remove_all(&fresh)?;
    let copied = copy_pages(from, &fresh, progress, finish);
    let moved = copied.and_then(|()| {
        refuse_existing()?;
        // A log that a deleted database left behind must not be folded into this one.
        BESIDE[1..]
            .iter()
            .try_for_each(|suffix| remove(&with_suffix(to, suffix)))?;
        std::fs::rename(&fresh, to).map_err(StoreError::file("could not create", to))?;
        sync_dir(place)
    });
    if moved.is_err() {
        // The first error says more than one about a file that nobody asked for.
        let _ = remove_all(&fresh);
    }
    moved
}

fn copy_pages(
    from: &Connection,
    fresh: &PathBuf,
    progress: &mut dyn FnMut(u64, u64),
    finish: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // Holds one state of the hub fast, so that no write makes the copy begin again.
    from.execute_batch("BEGIN")?;
    from.query_row("SELECT id FROM hub", [], |_| Ok(()))?;
    let mut copy = Connection::open_with_flags(
        fresh,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| unwritable(fresh, error))?;
    {
        let backup = Backup::new(from, &mut copy)?;
        loop {
            let step = backup.step(PAGES_AT_ONCE);
            let step = step.map_err(|error| unwritable(fresh, error))?;
            let pages = backup.progress();
            let (left, all) = (count(pages.remaining), count(pages.pagecount));
            progress(all - left.min(all), all);
            if step == StepResult::Done {
                break;
            }
        }
    }
    from.execute_batch("COMMIT")?;
    // One file, without a log beside it, until it is opened as a hub.
    copy.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL")?;
    finish(&copy)?;
    copy.close().map_err(|(_, error)| StoreError::from(error))?;
    let sync = std::fs::File::open(fresh).and_then(|file| file.sync_all());
    sync.map_err(StoreError::file("could not sync", fresh))
}

fn count(pages: i32) -> u64 {
    u64::try_from(pages).unwrap_or(0)
}

fn unwritable(file: &Path, error: rusqlite::Error) -> StoreError {
    StoreError::file("could not write", file)(std::io::Error::other(error))
}

fn remove_all(file: &Path) -> Result<(), StoreError> {
    BESIDE
        .iter()
        .try_for_each(|suffix| remove(&with_suffix(file, suffix)))
}
