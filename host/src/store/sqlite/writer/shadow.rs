//! Makes each change of a test on rows in memory too.
//!
//! Twice: on all rows, and on an overlay that loads what it needs, and writes down what it wrote. What all of them answer must be the same
//! for each change, and in the end all of their rows. A difference ends the process: nobody may take it for an error of the hub, which
//! tests expect.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use perennial_core::Timestamp;
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::memory::compare::compare_reads;
use crate::store::overlay::source::Source;
use crate::store::overlay::{Bound, Overlay};
use crate::store::reads::Reader;
use crate::store::rows;
use crate::store::rules::apply::apply;
use crate::store::sqlite::rows::load::load;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::types::Effects;
use crate::store::write::Write;

/// Few enough that instances are dropped from memory, and loaded again.
const BOUND: Bound = Bound {
    instances: 3,
    bytes: 64 << 10,
};

/// The rows in memory; none before the first transaction.
#[derive(Debug, Default)]
pub(in crate::store) struct Shadow(Mutex<Option<Rows>>);

#[derive(Debug)]
struct Rows {
    /// The version of the file that they are of.
    version: i64,
    memory: Memory,
    /// The same rows, over a memory to which only what a transaction wrote goes down.
    overlay: Overlay<Memory>,
    /// The same in PostgreSQL, if `PERENNIAL_TEST_SHADOW` says so.
    #[cfg(feature = "postgres")]
    copy: Option<crate::store::postgres::copy::Copy>,
    /// The number of the transaction, and its time.
    at: (u64, Timestamp),
}

/// Rows in PostgreSQL, if they are wanted. Each test takes much longer with them.
#[cfg(feature = "postgres")]
fn copy(memory: &Memory) -> Option<crate::store::postgres::copy::Copy> {
    let is_wanted =
        std::env::var_os("PERENNIAL_TEST_SHADOW").is_some_and(|store| store == "postgres");
    is_wanted.then(|| crate::store::postgres::copy::Copy::of(memory, BOUND))?
}

impl Shadow {
    fn with<T>(&self, act: impl FnOnce(&mut Option<Rows>) -> T) -> T {
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
            if !matches!(shadow, Some(rows) if rows.version == version) {
                // What a test has damaged cannot be read.
                *shadow = load(db).ok().map(|memory| Rows {
                    version,
                    overlay: Overlay::new(memory.clone(), BOUND),
                    #[cfg(feature = "postgres")]
                    copy: copy(&memory),
                    memory,
                    at: (0, Timestamp(0)),
                });
            }
            if let Some(rows) = shadow {
                rows.at = (number, now);
                rows.memory.begin(number, now);
            }
            Ok(())
        })
    }

    /// Makes the changes that were committed, and compares what came of them.
    pub(super) fn follow(&self, batch: &[Write], results: &[Result<(), StoreError>]) {
        self.with(|shadow| {
            let Some(rows) = shadow else { return };
            let followed = catch_unwind(AssertUnwindSafe(|| rows.follow(batch, results)));
            let is_made = followed.unwrap_or_else(|_| fail("it panicked"));
            if !is_made || batch.iter().any(Write::answers) {
                // The answer to a command is written beside the change.
                *shadow = None;
            }
        });
    }

    /// What became of a transaction is not known: the next one reads the hub again.
    pub(super) fn forget(&self) {
        self.with(|shadow| *shadow = None);
    }

    /// Compares all rows, and what reads find in them, when the writer ends.
    pub(super) fn compare(&self, db: &Connection, path: &Path) {
        self.with(|shadow| {
            let (Some(rows), Ok(version)) = (shadow, version(db)) else {
                return;
            };
            if rows.version != version {
                return;
            }
            if let Ok(found) = load(db) {
                for other in [&rows.memory, rows.overlay.source()] {
                    let differences = found.differences(other);
                    if !differences.is_empty() {
                        fail(&differences.join("\n"));
                    }
                }
                #[cfg(feature = "postgres")]
                if let Some(copy) = &mut rows.copy {
                    let differences = found.differences(&copy.load());
                    if !differences.is_empty() {
                        fail(&format!("PostgreSQL: {}", differences.join("\n")));
                    }
                }
                if let Ok(reader) = FileReader::open(path).map(Reader::new)
                    && let Some(difference) = compare_reads(&reader, &rows.memory)
                    // A writer that was given up ends later than its lock: the next owner may have written meanwhile.
                    && self::version(db).is_ok_and(|now| now == version)
                {
                    fail(&difference);
                }
            }
        });
    }
}

impl Rows {
    /// Returns whether the transaction was made at all.
    fn follow(&mut self, batch: &[Write], results: &[Result<(), StoreError>]) -> bool {
        if results.iter().all(Result::is_err) {
            return false;
        }
        let (overlay, (number, at)) = (&mut self.overlay, self.at);
        overlay.begin(number, at);
        let fetched = overlay.prefetch(batch.iter().map(Write::change), []);
        fetched.unwrap_or_else(|error| fail(&format!("{error:?}")));
        for (job, _) in batch.iter().zip(results).filter(|(_, made)| made.is_ok()) {
            expect_same(job, &mut self.memory);
        }
        follow_on(overlay, batch, results);
        let delta = overlay.take_delta();
        overlay.source().absorb(delta);
        overlay.committed();
        #[cfg(feature = "postgres")]
        if let Some(copy) = &mut self.copy {
            let overlay = &mut copy.overlay;
            overlay.begin(number, at);
            let fetched = overlay.prefetch(batch.iter().map(Write::change), []);
            fetched.unwrap_or_else(|error| fail(&format!("PostgreSQL: {error:?}")));
            follow_on(overlay, batch, results);
            copy.commit();
        }
        true
    }
}

/// Makes a change that was committed, and compares what came of it.
fn expect_same(job: &Write, rows: &mut impl rows::Rows) {
    let mut effects = Effects::default();
    let reply = apply(rows, job.change(), job.now(), &mut effects);
    let other = format!("{reply:?} {effects:?}");
    let one = job.outcome();
    let one = format!("{:?} {:?}", Ok::<_, StoreError>(&one.reply), one.effects);
    if one != other {
        let change = job.change();
        fail(&format!("{change:?}:\n{one}\nand in memory\n{other}"));
    }
}

/// Changes when another connection changes the hub.
fn version(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.query_row("PRAGMA data_version", [], |row| row.get(0))?)
}

fn fail(what: &str) -> ! {
    // Not by a macro: the test that captures what those print does not come to an end.
    let said = writeln!(
        std::io::stderr(),
        "the store in memory differs from SQLite: {what}"
    );
    drop(said);
    std::process::abort();
}

/// Makes the changes on an overlay.
fn follow_on<S: Source>(
    overlay: &mut Overlay<S>,
    batch: &[Write],
    results: &[Result<(), StoreError>],
) {
    for (job, result) in batch.iter().zip(results) {
        overlay.mark();
        if result.is_ok() {
            expect_same(job, overlay);
        } else {
            // Whatever it does before it fails, or would have done, leaves nothing.
            apply(overlay, job.change(), job.now(), &mut Effects::default()).ok();
            overlay.undo();
        }
    }
}
