//! Copies of a hub: one that is taken while it is used, and one that becomes a hub again.
//!
//! Laws: a copy is the hub as it was at one moment, whatever goes on meanwhile; it appears under its name whole and synced, or not at all;
//! a file that is there is never replaced.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;
use crate::store::file::foreign_log;
use crate::store::file::fresh::{Fresh, refuse_existing};
use crate::store::file::lock::OwnerLock;
use crate::store::file::open::{connect_copier, connect_reader};
use crate::store::file::paths::{remove, with_suffix};
use crate::store::file::space;
use crate::store::file::space::Pages;
use crate::store::rows::modules;

/// Steps of SQLite's virtual machine between two reports: a few hundred rows.
const STEPS_BETWEEN_REPORTS: std::ffi::c_int = 1_000;

/// What SQLite keeps beside a database, and would take for this one's.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// How far ahead of its hub a copy counts its transactions, so that no log of the hub's can pass for the copy's own.
const AHEAD: i64 = 1 << 40;

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
    modules::undamaged(&from)?;
    for suffix in BESIDE {
        refuse_existing(&with_suffix(to, suffix))?;
    }
    copy(from, to, progress, |db| {
        db.execute("UPDATE hub SET commits = commits + ?1", [AHEAD])?;
        Ok(())
    })
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
    modules::undamaged(&source)?;
    if let Some(parent) = hub.parent() {
        std::fs::create_dir_all(parent)
            .map_err(StoreError::file("could not create the directory", parent))?;
    }
    let _lock = OwnerLock::take(hub)?;
    // What ran when a hub of this name died says nothing about this one.
    remove(&with_suffix(hub, ".running"))?;
    copy(source, hub, progress, |db| {
        // A log that a deleted hub left behind must not be folded into this one.
        for suffix in BESIDE {
            remove(&with_suffix(hub, suffix))?;
        }
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

/// Whether SQLite finds the file whole.
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
    // A file without a journal beside it, until it is opened as a hub; what is changed here is synced when it gets its name.
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

/// Copies what is in use, as it is at one moment, and no page that is free.
fn copy_used(
    from: &mut Connection,
    fresh: &Path,
    to: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let used = Pages::of(from)?;
    let all = used.all.saturating_sub(used.free);
    if !space::gives_back(from)? {
        // The copy of an older hub gives space back.
        from.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    // Whoever is told waits for nothing but its own progress: the copy goes on when it has taken the news.
    let (tell, told) = std::sync::mpsc::sync_channel(0);
    let target = fresh.to_string_lossy().into_owned();
    let copied = std::thread::scope(|threads| {
        let copying = threads.spawn(move || -> rusqlite::Result<()> {
            let ticks = move || {
                // Who no longer listens does not stop the copy.
                let _ = tell.send(());
                false
            };
            from.progress_handler(STEPS_BETWEEN_REPORTS, Some(ticks))?;
            let copied = from.execute("VACUUM INTO ?1", [target]);
            // Drops the sender, which ends the reports.
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
                StoreError::Sqlite(error) => {
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
