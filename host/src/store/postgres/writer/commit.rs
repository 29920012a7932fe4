//! Commits: makes a batch on rows in memory, sends it as one transaction, and answers its changes.

mod counted;
mod outcome;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::limits::{TRANSACTION_BYTES, TRANSACTION_CHANGES};
use crate::shortage::{Resource, Shortage};
use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::memory::delta::Delta;
use crate::store::overlay::{Bound, Overlay};
use crate::store::partition::Partitions;
use crate::store::postgres::address::Address;
use crate::store::postgres::error::failed;
use crate::store::postgres::lease::{self, Lease, Standing};
use crate::store::postgres::link::Link;
use crate::store::postgres::session::{IDLE_MAX, Purpose, Session};
#[cfg(not(test))]
use crate::store::postgres::writer::pipeline::send;
use crate::store::postgres::writer::pipeline::{Sent, Transaction};
use crate::store::postgres::writer::shared::Shared;
use crate::store::write::{Committed, Write};

#[cfg(test)]
pub(in crate::store::postgres) use counted::COUNT_LIVE;
pub(in crate::store::postgres) use counted::{SIZE, pages};

/// The delay between two tries to reach the database.
const RETRY_DELAY: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 100 });

/// How often a large transaction is sent whose connection is lost each time.
const TRIES_MAX: u32 = 4;

/// How long a connection waits before it tries again to take the advisory lock of the owner, which the one before it may have had still.
const HOLD_AGAIN: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1_000 });

/// What is kept in memory of live instances: some batches of the largest size.
const KEPT: Bound = Bound {
    instances: 16 * TRANSACTION_CHANGES,
    bytes: 4 * TRANSACTION_BYTES,
};

/// The results of the changes of a batch.
type Results = Vec<Result<(), StoreError>>;

/// Why a batch was not committed.
enum Failed {
    /// The connection was lost, and nothing was committed.
    Lost(StoreError),
    /// Another owner changed what this one keeps of the hub in memory; it is forgotten.
    Stale,
    /// Nothing was committed.
    Error(StoreError),
}

/// The state of the writer's thread.
pub(super) struct State {
    address: Address,
    overlay: Overlay<Link>,
    lease: Lease,
    shared: Shared,
    /// When live instances were counted last, if they are.
    counted_live: Option<Instant>,
    /// When the size of the hub was read last, if it is.
    measured: Option<Instant>,
    /// Why nothing is written any more.
    fenced: Option<StoreError>,
    /// When the lease was renewed last, as seen here.
    renewed: Instant,
    /// Whether the connection has the advisory lock of the owner, and when it was asked for last. Without it, a pause of a second would cost the
    /// lease.
    holds: bool,
    asked_to_hold: Instant,
    /// Whether a transaction was sent whose outcome is not known yet.
    sending: bool,
    /// How often in a row the connection was lost during a large transaction.
    unsent: u32,
    /// Whether a transaction that deletes modules was refused, and is made again.
    looks_again: bool,
}

impl State {
    pub(super) fn new(
        address: Address,
        session: Session,
        lease: Lease,
        own: Partitions,
        shared: Shared,
    ) -> Self {
        let now = Instant::now();
        shared.renewed(now);
        Self {
            address,
            overlay: Overlay::new(Link(Some(session)), KEPT).of(own),
            lease,
            shared,
            counted_live: None,
            measured: None,
            fenced: None,
            renewed: now,
            holds: true,
            asked_to_hold: now,
            sending: false,
            unsent: 0,
            looks_again: false,
        }
    }

    /// Counts the jobs that were taken out of the queue.
    #[cfg(test)]
    pub(super) fn taken(&self, count: usize) {
        let faults = &self.shared.common;
        faults.queued.fetch_sub(count as u64, Ordering::AcqRel);
        faults.taken.fetch_add(count as u64, Ordering::AcqRel);
    }

    pub(super) fn commit(&mut self, mut batch: Vec<Write>) -> Committed {
        let count = batch.len() as u64;
        let begun = Instant::now();
        self.shared.is_under_way(Some(begun));
        let committed = self.guarded_commit(&mut batch);
        self.shared.is_under_way(None);
        let results = match committed {
            Ok(results) => {
                let micros = begun.elapsed().as_micros();
                let counts = &self.shared.counts;
                counts
                    .micros
                    .record(u64::try_from(micros).unwrap_or(u64::MAX));
                counts.batches.record(count);
                counts.jobs.fetch_add(count, Ordering::Relaxed);
                results
            }
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        };
        self.shared.came_of(&results);
        if self.counted_live.is_some() {
            let made = batch
                .iter()
                .zip(&results)
                .filter(|(_, result)| result.is_ok());
            self.shared.live.add(made.map(|(job, _)| job.live()));
        }
        Committed::new(batch, results)
    }

    /// As [`try_commit`](Self::try_commit), but also turns a panic into errors for the whole batch, so that the thread continues.
    fn guarded_commit(&mut self, batch: &mut [Write]) -> Result<Results, StoreError> {
        let committed = catch_unwind(AssertUnwindSafe(|| self.try_commit(batch)));
        let sending = std::mem::take(&mut self.sending);
        committed.unwrap_or_else(|_| {
            self.overlay.forget_all();
            self.overlay.source().0 = None;
            // Nobody knows what became of the transaction: the next claim must not take its number for a new one's.
            if sending {
                tracing::error!(
                    "nobody knows what became of a transaction during which this host panicked: it writes nothing more, and ends"
                );
                self.fenced_by(StoreError::Fenced);
            }
            let what = "the host panicked while it wrote to the hub";
            Err(Shortage::new(Resource::Host, what).into())
        })
    }

    /// Commits the batch as one transaction; or each change as one of its own, if that fails.
    fn try_commit(&mut self, batch: &mut [Write]) -> Result<Results, StoreError> {
        loop {
            if let Some(why) = &self.fenced {
                return Err(why.clone());
            }
            self.connect()?;
            match self.attempt(batch) {
                Ok(results) => return Ok(results),
                Err(Failed::Stale) => {}
                Err(Failed::Lost(error)) => {
                    self.overlay.source().0 = None;
                    self.overlay.forget_all();
                    self.failed(&error);
                    if self.shared.closing.wait(Duration::ZERO) {
                        return Err(error);
                    }
                }
                Err(Failed::Error(error)) => {
                    self.overlay.forget_all();
                    if batch.len() == 1 || self.fenced.is_some() {
                        return Err(error);
                    }
                    let each = batch.chunks_mut(1).map(|one| {
                        let results = self.try_commit(one)?;
                        results
                            .into_iter()
                            .next()
                            .unwrap_or(Err(StoreError::Closed))
                    });
                    return Ok(each.collect());
                }
            }
        }
    }

    fn failed(&self, error: &StoreError) {
        if let Some(unsaid) = self.shared.outage.failed() {
            tracing::warn!(%error, unsaid, "the database cannot be reached; trying again");
        }
    }

    /// Connects again, if the connection was lost. Tries until the store shuts down.
    fn connect(&mut self) -> Result<(), StoreError> {
        while !self.overlay.source().is_up() {
            self.overlay.source().0 = None;
            match self.open() {
                Ok(session) => self.overlay.source().0 = Some(session),
                // What the address, a certificate or something in between makes impossible now may be mended while this host waits, and
                // what became of a transaction must be read before anything else is done.
                Err(
                    error @ (StoreError::Database(_)
                    | StoreError::Lacks(_)
                    | StoreError::Address(_)),
                ) => {
                    self.failed(&error);
                    if self.shared.closing.wait(RETRY_DELAY) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Session, StoreError> {
        let session = Session::open(&self.address, Purpose::Write)?;
        self.asked_to_hold = Instant::now();
        self.holds = lease::hold(&session, &self.address, self.lease.epoch)?;
        Ok(session)
    }

    /// Makes the changes on rows in memory, and commits what they wrote.
    fn attempt(&mut self, batch: &mut [Write]) -> Result<Results, Failed> {
        let number = self.lease.number + 1;
        let now = batch.iter().map(Write::now).max().unwrap_or_default();
        self.overlay.begin(number.unsigned_abs(), now);
        self.measure();
        let made = self.count_live().and_then(|()| {
            let tokens = batch.iter().filter_map(Write::token);
            self.overlay
                .prefetch(batch.iter().map(Write::change), tokens)
        });
        if let Err(error) = made {
            return Err(self.of_read(error));
        }
        let mut results = Vec::with_capacity(batch.len());
        for job in batch.iter_mut() {
            self.overlay.mark();
            let result = match job.is_outdated(self.lease.version) {
                true => Err(StoreError::Conflict),
                false => self.run(job),
            };
            if let Err(error) = &result {
                if !self.overlay.source().is_up() {
                    return Err(Failed::Lost(error.clone()));
                }
                self.overlay.undo();
            }
            results.push(result);
        }
        let delta = self.overlay.take_delta();
        #[cfg(test)]
        self.shared
            .common
            .round_trips
            .store(self.overlay.round_trips(), Ordering::Relaxed);
        if results.iter().all(Result::is_err) {
            self.overlay.committed();
            return match &mut results[..] {
                [one] => Err(Failed::Error(
                    std::mem::replace(one, Ok(()))
                        .err()
                        .unwrap_or(StoreError::Closed),
                )),
                _ => Ok(results),
            };
        }
        let lock = lease::lock_of(&self.address);
        let transaction = Transaction::of(&delta, &self.lease, int(now.0), lock);
        let transaction = Arc::new(transaction.map_err(Failed::Error)?);
        self.send_delta(&delta, &transaction)?;
        self.lease.number = number;
        if transaction.changes_hub {
            self.lease.version += 1;
            self.shared.tell_changed(self.lease.version);
        }
        self.overlay.committed();
        self.shared.sent.add(delta.sent_to());
        self.shared.sent.set_own(*self.overlay.own());
        let counts = &self.shared.counts;
        let rows = transaction.rows() as u64;
        counts.rows.fetch_add(rows, Ordering::Relaxed);
        counts.commits.fetch_add(1, Ordering::Relaxed);
        Ok(results)
    }

    /// Sends what a batch wrote.
    fn send_delta(&mut self, delta: &Delta, transaction: &Arc<Transaction>) -> Result<(), Failed> {
        self.sending = true;
        let sent = self.send(transaction);
        self.sending = false;
        // Another owner may have begun to use a module after this one looked who does: it looks again, once.
        let looks_again = delta.deletes_modules()
            && matches!(sent, Err(Failed::Error(_)))
            && self.fenced.is_none()
            && !self.looks_again;
        self.looks_again = looks_again;
        if looks_again {
            self.overlay.forget_all();
            return Err(Failed::Stale);
        }
        sent
    }

    /// Makes a change on rows in memory.
    fn run(&mut self, job: &mut Write) -> Result<(), StoreError> {
        #[cfg(test)]
        {
            let faults = Arc::clone(&self.shared.common);
            faults.run(|| {
                if faults.breaks_off()
                    && let Ok(session) = self.overlay.source().session()
                {
                    super::faults::kill(&self.address, session);
                }
                job.run(&mut self.overlay)
            })
        }
        #[cfg(not(test))]
        job.run(&mut self.overlay)
    }

    fn of_read(&mut self, error: StoreError) -> Failed {
        match self.overlay.source().is_up() {
            true => Failed::Error(error),
            false => Failed::Lost(error),
        }
    }

    /// Sends a transaction, and finds out what became of it.
    fn send(&mut self, transaction: &Arc<Transaction>) -> Result<(), Failed> {
        let begun = Instant::now();
        let sent = match self.send_once(transaction) {
            Sent::Committed => {
                self.renewed = begun;
                self.shared.renewed(begun);
                Ok(())
            }
            // The hub was deleted.
            Sent::Refused(StoreError::Missing(_)) => Err(Failed::Error(self.deleted())),
            Sent::Refused(error) => Err(Failed::Error(error)),
            Sent::NotClaimed(error) => Err(self.why_not_claimed(error)),
            Sent::Unknown(error) => {
                if !self.look_up(transaction.last, &error)? {
                    return Err(self.not_sent(transaction, error));
                }
                Ok(())
            }
        };
        self.unsent = 0;
        sent
    }

    /// A transaction did not happen because its connection was lost. It is made again, whatever it is, until the database answers: those who wait
    /// for it want that. But if one is large, that may be why, and then it would be so for ever, and nothing else would be written.
    fn not_sent(&mut self, transaction: &Transaction, error: StoreError) -> Failed {
        self.overlay.forget_all();
        self.unsent += u32::from(transaction.is_large());
        if self.unsent < TRIES_MAX {
            return Failed::Stale;
        }
        self.unsent = 0;
        let (bytes, tries) = (transaction.bytes, TRIES_MAX);
        let within = (IDLE_MAX + transaction.arrives_in).as_secs();
        Failed::Error(failed(format_args!(
            "the connection to PostgreSQL was lost {tries} times while {bytes} bytes were sent, which must arrive within {within} s: {error}; look at the \
             network between this process and the database, or write less at once"
        )))
    }

    #[cfg(not(test))]
    fn send_once(&mut self, transaction: &Arc<Transaction>) -> Sent {
        match self.overlay.source().session() {
            Ok(session) => send(session, transaction),
            Err(error) => Sent::Unknown(error),
        }
    }

    #[cfg(test)]
    fn send_once(&mut self, transaction: &Arc<Transaction>) -> Sent {
        use crate::store::faults::Commit;
        let Shared { common, faults, .. } = self.shared.clone();
        let session = match self.overlay.source().session() {
            Ok(session) => session,
            Err(error) => return Sent::Unknown(error),
        };
        common.sent.fetch_add(1, Ordering::Relaxed);
        let statements = transaction.count() as u64;
        common.statements.fetch_add(statements, Ordering::Relaxed);
        let fate = common.commit();
        if fate == Commit::Lost {
            return Sent::Refused(common.failure());
        }
        let is_uncertain = fate == Commit::Unheard;
        faults.send(&self.address, session, transaction, is_uncertain)
    }

    /// In how long the lease is to be renewed, if nothing is committed before.
    pub(super) fn renews_in(&self, every: Duration) -> Duration {
        every.saturating_sub(self.renewed.elapsed())
    }

    /// Renews the lease of an idle owner. Tries once: the next time comes soon.
    pub(super) fn renew(&mut self) {
        self.renewed = Instant::now();
        if self.fenced.is_some() {
            return;
        }
        let renewed = match self.overlay.source().is_up() {
            true => Ok(()),
            false => self
                .open()
                .map(|session| self.overlay.source().0 = Some(session)),
        };
        let epoch = self.lease.epoch;
        let renewed = renewed.and_then(|()| lease::renew(self.overlay.source().session()?, epoch));
        match renewed {
            Ok(Standing::Owns { number, version }) if number == self.lease.number => {
                self.shared.renewed(self.renewed);
                if version != self.lease.version {
                    self.changed(version);
                }
                self.hold();
                // Who refuses to start anything commits nothing, and is to notice when there is room again.
                self.measure();
                if let Err(error) = self.count_live() {
                    self.failed(&error);
                }
                if let Some(unsaid) = self.shared.outage.succeeded() {
                    tracing::info!(unsaid, "the database can be reached again");
                }
            }
            Ok(standing) => {
                let error = self.fence(standing);
                tracing::error!("{error}");
            }
            Err(StoreError::Missing(_)) => drop(self.deleted()),
            Err(error) => {
                self.failed(&error);
            }
        }
    }

    /// Takes the advisory lock after a batch, if the connection did not get it when it was new. An owner that is never idle must not wait for that.
    pub(super) fn hold_soon(&mut self) {
        if !self.holds
            && self.fenced.is_none()
            && self.overlay.source().is_up()
            && self.asked_to_hold.elapsed() >= HOLD_AGAIN
        {
            self.hold();
        }
    }

    /// Takes the advisory lock, if the connection did not get it when it was new.
    fn hold(&mut self) {
        if self.holds {
            return;
        }
        self.asked_to_hold = Instant::now();
        let held = match self.overlay.source().session() {
            Ok(session) => lease::hold(session, &self.address, self.lease.epoch),
            Err(error) => Err(error),
        };
        self.holds = held.unwrap_or(false);
    }

    /// Gives the lease back.
    pub(super) fn end(&mut self) {
        let epoch = self.lease.epoch;
        if self.fenced.is_none()
            && let Ok(session) = self.overlay.source().session()
            && let Err(error) = lease::release(session, epoch)
        {
            tracing::debug!(%error, "the lease of the hub was not given back, and runs out");
        }
        self.overlay.source().0 = None;
    }
}
