//! Backup of a hub that may be in use, and restore of a backup.
//!
//! Invariants: a backup is a snapshot of one moment; it appears under its name complete and synced, or not at all; no existing file is
//! replaced.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;
use crate::store::sqlite::file::foreign_log;
use crate::store::sqlite::file::fresh::{Fresh, refuse_existing};
use crate::store::sqlite::file::lock::OwnerLock;
use crate::store::sqlite::file::open::{connect_copier, connect_reader};
use crate::store::sqlite::file::paths::{remove, with_suffix};
use crate::store::sqlite::file::space;
use crate::store::sqlite::rows::modules;

/// Steps of SQLite's virtual machine between two reports: a few hundred rows.
const STEPS_BETWEEN_REPORTS: std::ffi::c_int = 1_000;

/// Suffixes of the files that SQLite keeps beside a database. Leftover ones would be taken for those of the restored hub.
pub(in crate::store) const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// How far the transaction counter of a backup is ahead of its hub's, so that no log of the hub matches the backup.
pub(in crate::store) const AHEAD: i64 = 1 << 40;

/// Copies a hub that may be in use to a new file. `progress` receives the pages copied and the total.
///
/// # Errors
/// [`StoreError::File`] if the file exists or cannot be written, and the errors of a hub that cannot be read. No file is left behind.
pub(crate) fn backup(
    hub: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let from = connect_copier(hub)?;
    modules::undamaged(&from)?;
    for suffix in BESIDE {
        refuse_existing(&with_suffix(to, suffix))?;
    }
    copy(from, to, progress, |db| {
        db.execute("UPDATE hub SET commits = commits + ?1", [AHEAD])?;
        Ok(())
    })
}

/// Restores a backup as a new hub. `progress` receives the pages copied and the total.
///
/// # Errors
/// [`StoreError::File`] if the hub exists, [`StoreError::Owned`] if another process is about to create it; [`StoreError::NotAHub`],
/// [`StoreError::Newer`] or [`StoreError::Corrupt`] if the backup is not a hub, too new, or damaged. Nothing is changed then.
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
    modules::undamaged(&source)?;
    if let Some(parent) = hub.parent() {
        std::fs::create_dir_all(parent)
            .map_err(StoreError::file("could not create the directory", parent))?;
    }
    let _lock = OwnerLock::take(hub)?;
    // The running work of a former hub of this name does not concern this one.
    remove(&with_suffix(hub, ".running"))?;
    copy(source, hub, progress, |db| {
        // A log that a deleted hub left behind must not be folded into this one.
        for suffix in BESIDE {
            remove(&with_suffix(hub, suffix))?;
        }
        // The clients that sent these commands waited for the backed-up hub, and do not read answers from this one.
        db.execute("DELETE FROM command", [])?;
        db.execute("UPDATE hub SET owner_epoch = owner_epoch + 1", [])?;
        Ok(())
    })
}

/// The results of SQLite's integrity check, at most `most` of them; empty if the hub is intact.
///
/// # Errors
/// Those of a hub that cannot be opened.
pub(crate) fn integrity(hub: &Path, most: u32) -> Result<Vec<String>, StoreError> {
    foreign_log::check(hub)?;
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

/// Runs SQLite's integrity check.
fn check(db: &Connection) -> Result<(), StoreError> {
    match problems(db, 1)?.pop() {
        Some(problem) => Err(StoreError::Corrupt(problem)),
        None => Ok(()),
    }
}

fn copy(
    mut from: Connection,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
    finish: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    refuse_existing(to)?;
    let fresh = Fresh::beside(to)?;
    copy_used(&mut from, fresh.path(), to, progress)?;
    // Has no journal until it is opened as a hub; all changes are synced before the file gets its name.
    let copy = Connection::open_with_flags(
        fresh.path(),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| unwritable(to, error))?;
    copy.execute_batch("PRAGMA journal_mode = MEMORY")?;
    finish(&copy)?;
    copy.close().map_err(|(_, error)| StoreError::from(error))?;
    fresh.publish(to)
}

/// Copies a snapshot of the used pages, without the free ones.
fn copy_used(
    from: &mut Connection,
    fresh: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let used = space::pages_of(from)?;
    let all = used.all.saturating_sub(used.free);
    if !space::gives_back(from)? {
        // The backup of an older hub can return free pages to the disk.
        from.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    // A channel without a buffer: the copy continues as soon as the receiver has taken a report.
    let (tell, told) = std::sync::mpsc::sync_channel(0);
    let target = fresh.to_string_lossy().into_owned();
    let copied = std::thread::scope(|threads| {
        let copying = threads.spawn(move || -> rusqlite::Result<()> {
            let ticks = move || {
                // A receiver that is gone does not stop the copy.
                let _ = tell.send(());
                false
            };
            from.progress_handler(STEPS_BETWEEN_REPORTS, Some(ticks))?;
            let copied = from.execute("VACUUM INTO ?1", [target]);
            // Drops the sender, which ends the channel.
            from.progress_handler(0, None::<fn() -> bool>)?;
            copied.map(drop)
        });
        let mut last = 0;
        for () in told {
            let bytes = std::fs::metadata(fresh).map_or(0, |file| file.len());
            last = (bytes / used.bytes_of_one).clamp(last, all);
            progress(last, all);
        }
        copying.join()
    });
    match copied {
        Ok(Ok(())) => progress(all, all),
        Ok(Err(error)) => {
            return Err(match StoreError::from(error) {
                StoreError::Database(error) => {
                    StoreError::file("could not write", to)(std::io::Error::other(error))
                }
                damaged => damaged,
            });
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(())
}

fn unwritable(file: &Path, error: rusqlite::Error) -> StoreError {
    StoreError::file("could not write", file)(std::io::Error::other(error))
}
