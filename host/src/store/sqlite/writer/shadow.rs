//! Makes each change of a test on rows in memory too.
//!
//! What the two stores answer must be the same for each change, and in the end all of their rows. A difference ends the process: nobody may
//! take it for an error of the hub, which tests expect.

use std::sync::{Mutex, PoisonError};

use perennial_core::Timestamp;
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::rules::apply::apply;
use crate::store::sqlite::rows::load::load;
use crate::store::types::Effects;
use crate::store::write::Write;

/// The rows in memory, and the version of the file that they are of; none before the first transaction.
#[derive(Debug, Default)]
pub(in crate::store) struct Shadow(Mutex<Option<(Memory, i64)>>);

impl Shadow {
    fn with<T>(&self, act: impl FnOnce(&mut Option<(Memory, i64)>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// At the beginning of a transaction: reads the hub, unless only this connection has changed it since the last one.
    pub(super) fn begin(
        &self,
        db: &Connection,
        number: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.with(|shadow| {
            let version = version(db)?;
            if !matches!(shadow, Some((_, of)) if *of == version) {
                // What a test has damaged cannot be read.
                *shadow = load(db).ok().map(|memory| (memory, version));
            }
            if let Some((memory, _)) = shadow {
                memory.begin(number, now);
            }
            Ok(())
        })
    }

    /// Makes the changes that were committed, and compares what came of them.
    pub(super) fn follow(&self, batch: &[Write], results: &[Result<(), StoreError>]) {
        self.with(|shadow| {
            let Some((memory, _)) = shadow else { return };
            for (job, _) in batch.iter().zip(results).filter(|(_, made)| made.is_ok()) {
                let mut effects = Effects::default();
                let reply = apply(memory, job.change(), job.now(), &mut effects);
                let other = format!("{reply:?} {effects:?}");
                let one = job.outcome();
                let one = format!("{:?} {:?}", Ok::<_, StoreError>(&one.reply), one.effects);
                if one != other {
                    fail(&format!(
                        "{:?}:\n{one}\nand in memory\n{other}",
                        job.change()
                    ));
                }
                if job.answers() {
                    // The answer to a command is written beside the change.
                    *shadow = None;
                    return;
                }
            }
        });
    }

    /// What became of a transaction is not known: the next one reads the hub again.
    pub(super) fn forget(&self) {
        self.with(|shadow| *shadow = None);
    }

    /// Compares all rows, when the writer ends.
    pub(super) fn compare(&self, db: &Connection) {
        self.with(|shadow| {
            let (Some((memory, of)), Ok(version)) = (&*shadow, version(db)) else {
                return;
            };
            if *of != version {
                return;
            }
            if let Ok(found) = load(db) {
                let differences = found.differences(memory);
                if !differences.is_empty() {
                    fail(&differences.join("\n"));
                }
            }
        });
    }
}

/// Changes when another connection changes the hub.
fn version(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.query_row("PRAGMA data_version", [], |row| row.get(0))?)
}

fn fail(what: &str) -> ! {
    eprintln!("the store in memory differs from SQLite: {what}");
    std::process::abort();
}
