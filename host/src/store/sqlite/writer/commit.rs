//! Commits: runs a batch as one transaction, and answers its changes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use perennial_core::{Digest, Timestamp};
use rusqlite::Connection;

use super::{REOPEN_DELAY, State, is_there};
use crate::outage::warn_seldom;
use crate::shortage::{Resource, Shortage};
use crate::store::StoreError;
use crate::store::codec::{int, uint};
#[cfg(test)]
use crate::store::faults::Commit;
use crate::store::sqlite::file::open;
use crate::store::sqlite::file::space;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::sqlite::writer::transaction::Transaction;
use crate::store::write::{Committed, Write};

impl State {
    pub(super) fn commit(&mut self, mut batch: Vec<Write>) -> Committed {
        let count = batch.len() as u64;
        let begun = Instant::now();
        self.may_give_back |= batch.iter().any(Write::frees);
        let results = match self.guarded_commit(&mut batch) {
            Ok(results) => {
                let micros = begun.elapsed().as_micros();
                self.counts
                    .micros
                    .record(u64::try_from(micros).unwrap_or(u64::MAX));
                self.counts.batches.record(count);
                self.counts.commits.fetch_add(1, Ordering::Relaxed);
                self.counts.jobs.fetch_add(count, Ordering::Relaxed);
                self.last_commit = begun;
                self.may_empty_log |=
                    self.log_pages.load(Ordering::Relaxed) >= space::IDLE_LOG_PAGES;
                if let Some(unsaid) = self.outage.succeeded() {
                    tracing::info!(unsaid, "transactions are committed again");
                }
                results
            }
            Err(error) => {
                #[cfg(test)]
                self.shadow.forget();
                // A conflict is normal: another change ended or replaced the instance first.
                if !matches!(error, StoreError::Conflict)
                    && let Some(unsaid) = self.outage.failed()
                {
                    tracing::warn!(%error, jobs = count, unsaid, "a transaction was not committed");
                }
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        };
        #[cfg(test)]
        self.shadow.follow(&batch, &results);
        if self.counts_live {
            let made = batch
                .iter()
                .zip(&results)
                .filter(|(_, result)| result.is_ok());
            self.live.add(made.map(|(job, _)| job.live()));
        }
        Committed::new(batch, results)
    }

    /// As [`try_commit`](Self::try_commit), but also turns a panic into errors for the whole batch, so that the thread continues.
    fn guarded_commit(
        &mut self,
        batch: &mut [Write],
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let committed = catch_unwind(AssertUnwindSafe(|| self.try_commit(batch)));
        let committing = self.committing.take();
        committed.unwrap_or_else(|_| {
            let shortage = Shortage::new(
                Resource::Host,
                "the host panicked while it wrote to the hub",
            );
            self.db = None;
            match committing {
                Some((number, results)) => self.look_up(number, results, shortage.into()),
                None => Err(shortage.into()),
            }
        })
    }

    /// Runs the batch as one transaction. If a job fails, runs the batch again with a savepoint for each job.
    fn try_commit(
        &mut self,
        batch: &mut [Write],
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        if self.fenced {
            return Err(StoreError::Fenced);
        }
        if self.db.is_none() {
            self.adopt(open::connect_writer(&self.path)?)?;
        }
        self.look_after_log()?;
        let Some(db) = &mut self.db else {
            return Err(StoreError::Closed);
        };
        if self.live.is_wanted() && !self.counts_live {
            self.live.set(count_live(db)?);
            self.counts_live = true;
        }
        let rows_before = db.total_changes();
        let now = batch.iter().map(Write::now).max().unwrap_or_default();
        let tx = Transaction::begin(db)?;
        let number = match claim(&tx, self.epoch, self.number.take(), now) {
            Ok(number) => number,
            Err(error) => {
                self.fenced = matches!(error, StoreError::Fenced);
                return Err(error);
            }
        };
        is_there(&self.path, self.file)?;
        #[cfg(test)]
        self.shadow.begin(&tx, number, now)?;
        let run = |job: &mut Write| {
            #[cfg(test)]
            return self.faults.run(|| job.run(&mut Sql(&tx)));
            #[cfg(not(test))]
            job.run(&mut Sql(&tx))
        };
        let results = match batch.iter_mut().try_for_each(run) {
            Ok(()) => batch.iter().map(|_| Ok(())).collect(),
            Err(_) if batch.len() > 1 => {
                tx.again()?;
                claim(&tx, self.epoch, None, now)?;
                run_each(&tx, batch, run)?
            }
            Err(error) => return Err(error),
        };
        self.committing = Some((number, results.clone()));
        #[cfg(test)]
        let committed = match self.faults.commit() {
            Commit::Made => tx.commit().map_err(StoreError::from),
            Commit::Lost => tx
                .rollback()
                .map_err(StoreError::from)
                .and_then(|()| Err(self.faults.failure())),
            Commit::Unheard => tx
                .commit()
                .map_err(StoreError::from)
                .and_then(|()| Err(self.faults.failure())),
        };
        #[cfg(not(test))]
        let committed = tx.commit().map_err(StoreError::from);
        match committed {
            Ok(()) => {
                self.log.remember();
                self.number = Some(number);
                let rows = db.total_changes() - rows_before;
                self.counts.rows.fetch_add(rows, Ordering::Relaxed);
                if self.space.is_wanted() {
                    self.publish_space();
                }
                Ok(results)
            }
            Err(error) => self.look_up(number, results, error),
        }
    }

    fn publish_space(&self) {
        match self.db.as_ref().map(space::pages_of) {
            Some(Ok(pages)) => self.space.publish(pages),
            Some(Err(error)) => {
                warn_seldom!(%error, "could not read how full the hub is; its quota goes by what was known before");
            }
            None => {}
        }
    }

    /// Finds out whether a commit that reported an error happened: reopens the file and reads the counter.
    fn look_up(
        &mut self,
        number: u64,
        results: Vec<Result<(), StoreError>>,
        error: StoreError,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        warn_seldom!(%error, "a commit reported an error; reading what became of it");
        self.db = None;
        loop {
            let found = open::connect_writer(&self.path).and_then(|db| {
                #[cfg(test)]
                self.faults.reopen()?;
                let read =
                    |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
                let found = db.query_row("SELECT owner_epoch, commits FROM hub", [], read)?;
                Ok((db, found))
            });
            match found {
                // The counter belongs to the next owner by now, and tells nothing about this one's commit.
                Ok((_, (epoch, _))) if epoch != int(self.epoch) => {
                    self.fenced = true;
                    return Err(StoreError::Fenced);
                }
                Ok((db, (_, commits))) => {
                    self.adopt(db)?;
                    return if commits >= int(number) {
                        Ok(results)
                    } else {
                        Err(error)
                    };
                }
                Err(StoreError::Missing(path)) => return Err(StoreError::Gone(path)),
                Err(_) if self.closing.load(Ordering::Acquire) => return Err(error),
                Err(error) => {
                    warn_seldom!(%error, "the hub cannot be read; trying again");
                    std::thread::sleep(REOPEN_DELAY);
                }
            }
        }
    }
}

/// Counts the live instances by module. Reads all of them: once for each owner with quotas.
fn count_live(db: &Connection) -> Result<HashMap<Option<Digest>, u64>, StoreError> {
    let mut query =
        db.prepare("SELECT module, count(*) FROM instance WHERE status < 3 GROUP BY module")?;
    let counted = query.query_map([], |row| {
        let module: Option<[u8; 32]> = row.get(0)?;
        Ok((module.map(Digest), uint(row.get(1)?)))
    })?;
    Ok(counted.collect::<Result<_, _>>()?)
}

/// Runs each job in its own savepoint, so that a failing one does not fail the others.
fn run_each(
    db: &Connection,
    batch: &mut [Write],
    run: impl Fn(&mut Write) -> Result<(), StoreError>,
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let in_savepoint = |job| {
        db.execute_batch("SAVEPOINT job")?;
        let result = run(job);
        db.execute_batch(match result {
            Ok(()) => "RELEASE job",
            Err(_) => "ROLLBACK TO job; RELEASE job",
        })?;
        Ok(result)
    };
    batch.iter_mut().map(in_savepoint).collect()
}

/// Increments the transaction counter, sets the time of the last commit, and checks the epoch, all in one statement. Returns the
/// transaction's number; `last` is that of the previous one, if known.
pub(super) fn claim(
    db: &Connection,
    epoch: u64,
    last: Option<u64>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    if let Some(last) = last {
        // RETURNING goes through a temporary table, which costs more than the update.
        let counted = db
            .prepare_cached(
                "UPDATE hub SET commits = ?1, at = ?4 WHERE id = 1 AND owner_epoch = ?2 AND commits = ?3",
            )?
            .execute([int(last + 1), int(epoch), int(last), int(now.0)])?;
        if counted == 1 {
            return Ok(last + 1);
        }
    }
    let mut claim = db.prepare_cached(
        "UPDATE hub SET commits = commits + 1, at = ?2 WHERE id = 1 AND owner_epoch = ?1 RETURNING commits",
    )?;
    match claim.query_row([int(epoch), int(now.0)], |row| row.get::<_, i64>(0)) {
        Ok(number) => Ok(uint(number)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(StoreError::Fenced),
        Err(error) => Err(error.into()),
    }
}
