//! The writer: the one thread that writes.
//!
//! It takes everything that is queued, commits it as one transaction, answers everyone, and looks again. Nobody waits for company, and
//! whoever comes while a commit runs is in the next one.
//!
//! Whoever may block, and finds the writer with nothing to do, commits on its own thread: the way to the writer's and back takes about as
//! long as the sync of a fast disk. There is one transaction at a time all the same.
//!
//! Laws:
//! - nobody is answered with success before the transaction that holds their work is on disk;
//! - a job that fails takes nobody with it;
//! - a commit that reports an error is looked up in the file before anyone is answered;
//! - an owner whose epoch has passed commits nothing, and neither does one whose file was taken away.

mod idle;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use perennial_core::Timestamp;
use rusqlite::Connection;

use crate::histogram::Histogram;
use crate::limits::{TRANSACTION_BYTES, TRANSACTION_CHANGES};
use crate::outage::{Outage, warn_seldom};
use crate::shortage::{Resource, Shortage};
use crate::store::StoreError;
use crate::store::backlog::Backlog;
use crate::store::codec::int;
#[cfg(test)]
use crate::store::faults;
use crate::store::hubs::FileId;
use crate::store::live::{self, LiveCounts};
use crate::store::log_files::LogFiles;
use crate::store::open;
use crate::store::space::{self, Pages, SpaceUsed};
use crate::store::transaction::Transaction;
use crate::store::write::Write;

/// How often the names of the log are looked at while nobody writes.
const LOOK_AT_LOG_EVERY: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 1_000 });

/// How long a writer that is dropped may take to end.
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// How long the writer waits before it looks again what became of a commit.
const REOPEN_DELAY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// Counters of the writer, for tests and metrics.
#[derive(Debug, Default)]
pub(crate) struct WriterCounts {
    /// Transactions committed.
    pub(crate) commits: AtomicU64,
    /// Jobs committed in them.
    pub(crate) jobs: AtomicU64,
    /// Rows that they inserted, changed or deleted.
    pub(crate) rows: AtomicU64,
    /// Times that the write-ahead log was folded into the file.
    pub(crate) checkpoints: AtomicU64,
    /// Transactions that gave pages of the file back.
    pub(crate) given_back: AtomicU64,
    /// Microseconds that a transaction took.
    pub(crate) micros: Histogram,
    /// Jobs in a transaction.
    pub(crate) batches: Histogram,
}

/// A handle on the writer. Dropping the last one ends it, after everything that is queued.
pub(crate) struct Writer {
    queue: RwLock<Option<Sender<Job>>>,
    state: Arc<Mutex<State>>,
    thread: Mutex<Option<Thread>>,
    /// Whether the writer was asked to fold the log, and has not come to it.
    folds: Arc<AtomicBool>,
    counts: Arc<WriterCounts>,
    backlog: Arc<Backlog>,
    live: Arc<LiveCounts>,
    space: Arc<SpaceUsed>,
    closing: Arc<AtomicBool>,
    #[cfg(feature = "http")]
    outage: Arc<Outage>,
    #[cfg(test)]
    pub(crate) faults: Arc<faults::Faults>,
}

/// The writer's thread, and what says that it has ended.
struct Thread {
    handle: JoinHandle<()>,
    ended: Receiver<()>,
}

impl Writer {
    /// Starts the writer on a connection of its own, for the owner with this epoch.
    pub(crate) fn start(path: PathBuf, db: Connection, epoch: u64) -> Result<Self, StoreError> {
        let (queue, jobs) = channel();
        let counts = Arc::new(WriterCounts::default());
        let closing = Arc::new(AtomicBool::new(false));
        let (backlog, live, space) = <(Arc<Backlog>, Arc<LiveCounts>, Arc<SpaceUsed>)>::default();
        let outage = Arc::new(Outage::default());
        #[cfg(test)]
        let faults = Arc::new(faults::Faults::default());
        let mut state = State {
            file: FileId::of(&path)?,
            log: LogFiles::of(&path),
            path: path.clone(),
            db: None,
            epoch,
            number: None,
            counts: Arc::clone(&counts),
            backlog: Arc::clone(&backlog),
            live: Arc::clone(&live),
            counts_live: false,
            space: Arc::clone(&space),
            may_give_back: true,
            may_empty_log: true,
            tidy_asked: false,
            last_commit: Instant::now(),
            fenced: false,
            outage: Arc::clone(&outage),
            committing: None,
            closing: Arc::clone(&closing),
            log_pages: Arc::default(),
            #[cfg(test)]
            faults: Arc::clone(&faults),
        };
        state.adopt(db)?;
        let state = Arc::new(Mutex::new(state));
        let of_thread = Arc::clone(&state);
        let folds = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&folds);
        let (ending, ended) = channel();
        let handle = std::thread::Builder::new()
            .name("perennial-writer".to_owned())
            .spawn(move || {
                let _ending: Sender<()> = ending;
                work(&of_thread, &jobs, &asked);
            })
            .map_err(StoreError::file(
                "could not start the writer thread for",
                path,
            ))?;
        Ok(Self {
            queue: RwLock::new(Some(queue)),
            state,
            thread: Mutex::new(Some(Thread { handle, ended })),
            folds,
            counts,
            backlog,
            live,
            space,
            closing,
            #[cfg(feature = "http")]
            outage,
            #[cfg(test)]
            faults,
        })
    }

    /// Whether the last transaction was not committed.
    #[cfg(feature = "http")]
    pub(crate) fn fails(&self) -> bool {
        self.outage.lasts()
    }

    /// Jobs that it has not taken yet.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> u64 {
        self.faults.queued.load(Ordering::Acquire)
    }

    /// Queues a job. Blocks while too much waits already.
    pub(crate) fn submit(&self, job: Write) {
        self.backlog.enter(job.bytes());
        self.queue(job);
    }

    /// As [`submit`](Self::submit), and keeps no thread while too much waits already.
    pub(crate) async fn submit_later(&self, job: Write) {
        self.backlog.enter_later(job.bytes()).await;
        self.queue(job);
    }

    /// As [`submit`](Self::submit), but gives the job back where too much waits already.
    pub(crate) fn try_submit(&self, job: Write) -> Option<Write> {
        if !self.backlog.try_enter(job.bytes()) {
            return Some(job);
        }
        self.queue(job);
        None
    }

    /// Queues a job that there is room for.
    fn queue(&self, job: Write) {
        let bytes = job.bytes();
        let queue = self
            .queue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(queue) = queue else {
            self.backlog.leave(1, bytes);
            return job.answer(Err(StoreError::Closed));
        };
        #[cfg(test)]
        self.faults.queued.fetch_add(1, Ordering::AcqRel);
        if let Err(SendError(Job::Write(lost))) = queue.send(Job::Write(Box::new(job))) {
            self.backlog.leave(1, bytes);
            lost.answer(Err(StoreError::Closed));
        }
    }

    /// As [`submit`](Self::submit), but commits on this thread, and answers before it returns, where the writer has nothing to do.
    pub(crate) fn submit_or_commit(&self, job: Write) {
        // An answer that is given here and submits more finds the state in use.
        let Ok(mut state) = self.state.try_lock() else {
            return self.submit(job);
        };
        // What waits already comes first.
        if self.closing.load(Ordering::Acquire) || !self.backlog.is_empty() {
            drop(state);
            return self.submit(job);
        }
        state.commit(vec![job]);
        let wakes = state.log_is_long() || state.asks_to_tidy();
        drop(state);
        if wakes {
            let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(queue) = &*queue
                && !self.folds.swap(true, Ordering::AcqRel)
            {
                // A writer that has ended has folded it.
                let _ = queue.send(Job::FoldLog);
            }
        }
    }

    /// Ends the writer after everything that is queued, and waits until it has ended, at most until some time. What comes later is answered
    /// with [`StoreError::Closed`].
    pub(crate) fn close(&self, until: Instant) {
        self.closing.store(true, Ordering::Release);
        self.queue
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Thread { handle, ended }) = thread else {
            return;
        };
        if handle.thread().id() == std::thread::current().id() {
            return;
        }
        let left = until.saturating_duration_since(Instant::now());
        if ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(
                "the disk does not take what is being written; the writer is left to itself"
            );
        } else if handle.join().is_err() {
            tracing::error!("the writer thread panicked");
        }
    }

    /// How many instances are live, once that is wanted.
    pub(crate) fn live(&self) -> &LiveCounts {
        &self.live
    }

    /// How much of the file is in use, once that is wanted.
    pub(crate) fn space(&self) -> &SpaceUsed {
        &self.space
    }

    /// See [`WriterCounts`].
    pub(crate) fn counts(&self) -> &WriterCounts {
        &self.counts
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close(Instant::now() + CLOSE_MAX);
    }
}

/// What the writer's thread is asked for.
enum Job {
    Write(Box<Write>),
    /// Another thread committed, and the log is long, or there is something to tidy up once it is quiet.
    FoldLog,
}

struct State {
    path: PathBuf,
    /// The file that this owner took over.
    file: FileId,
    /// The log and its index, as this owner uses them, and whether one of them was taken away since.
    log: LogFiles,
    db: Option<Connection>,
    epoch: u64,
    /// How many transactions the hub has counted, after one that was committed.
    number: Option<u64>,
    counts: Arc<WriterCounts>,
    backlog: Arc<Backlog>,
    live: Arc<LiveCounts>,
    /// Whether this connection counts them.
    counts_live: bool,
    space: Arc<SpaceUsed>,
    /// Whether pages may have become free since it was last looked.
    may_give_back: bool,
    /// Whether the log may be worth emptying.
    may_empty_log: bool,
    /// Whether the writer's thread knows that there is something to tidy up.
    tidy_asked: bool,
    last_commit: Instant,
    fenced: bool,
    /// The transaction whose commit is under way, and what it answers.
    committing: Option<(u64, Vec<Result<(), StoreError>>)>,
    outage: Arc<Outage>,
    /// Whether nobody can wait any longer for a file that cannot be read.
    closing: Arc<AtomicBool>,
    /// Pages in the write-ahead log after the last commit.
    log_pages: Arc<AtomicU32>,
    #[cfg(test)]
    faults: Arc<faults::Faults>,
}

/// Whether a file is still the one that was taken over: what is written to a file without a name is synced, and lost all the same.
fn is_there(path: &Path, file: FileId) -> Result<(), StoreError> {
    if FileId::of(path).ok() == Some(file) {
        return Ok(());
    }
    Err(StoreError::Gone(path.to_owned()))
}

impl State {
    /// Writes through this connection from now on. It does not fold the log into the file by itself: that would keep whoever waits for
    /// a commit waiting.
    fn adopt(&mut self, mut db: Connection) -> Result<(), StoreError> {
        let log_pages = Arc::clone(&self.log_pages);
        db.wal_hook(Some(
            move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                log_pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            },
        ))?;
        #[cfg(test)]
        self.faults.watch(&mut db)?;
        self.db = Some(db);
        self.log.forget();
        Ok(())
    }

    fn log_is_long(&self) -> bool {
        self.log_pages.load(Ordering::Relaxed) >= open::CHECKPOINT_PAGES
    }

    /// Folds the log into the file where it has become long. What a reader still needs stays, and is folded after the next commit.
    fn fold_log(&mut self) {
        if !self.log_is_long() {
            return;
        }
        let Some(db) = &self.db else { return };
        match db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Ok(()) => {
                self.counts.checkpoints.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                warn_seldom!(%error, "the write-ahead log could not be folded into the hub; it grows")
            }
        }
    }

    /// Sees to it that what was acknowledged is in files that have a name. Where the log was deleted or replaced, this process still has it
    /// open: it is folded into the hub's file, and that is the end, since others who open the hub would make a log of their own.
    fn look_after_log(&mut self) -> Result<(), StoreError> {
        let Some(gone) = self.log.gone().map(Path::to_owned) else {
            self.log.folded = false;
            return Ok(());
        };
        // All of it may have been moved away, and come back.
        if let Err(gone) = is_there(&self.path, self.file) {
            self.outage.failed();
            warn_seldom!("{gone}");
            return Ok(());
        }
        if !std::mem::replace(&mut self.log.folded, true)
            && let Some(db) = &self.db
        {
            let folded = db.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
                Ok(row.get::<_, i64>(0)? == 0)
            });
            let said = StoreError::LogGone(gone.clone());
            match folded {
                Ok(true) => tracing::error!("{said}"),
                Ok(false) => {
                    // A reader was in the way, and is soon over.
                    self.log.folded = false;
                    warn_seldom!("{said}; it is not in the hub yet, and is tried again");
                }
                Err(error) => {
                    self.log.folded = false;
                    warn_seldom!(%error, "{said}; it could not be written to the hub yet, and is tried again");
                }
            }
            self.outage.failed();
        }
        Err(StoreError::LogGone(gone))
    }

    /// A clean end leaves one file: the log is folded into it, so that copying the file is a backup.
    fn end(&mut self) {
        if self.look_after_log().is_err() {
            return;
        }
        if let Some(db) = self.db.take()
            && let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::debug!(%error, "the write-ahead log stays beside the hub");
        }
    }

    fn commit(&mut self, mut batch: Vec<Write>) {
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
                // One that lost a race against what ended or replaced its instance is nothing to tell anybody.
                if !matches!(error, StoreError::Conflict)
                    && let Some(unsaid) = self.outage.failed()
                {
                    tracing::warn!(%error, jobs = count, unsaid, "a transaction was not committed");
                }
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        };
        for (job, result) in batch.into_iter().zip(results) {
            // Who is answered may panic; the others are answered all the same.
            if catch_unwind(AssertUnwindSafe(|| job.answer(result))).is_err() {
                tracing::error!("what follows a change panicked");
            }
        }
    }

    /// As [`try_commit`](Self::try_commit), also where that panics: whoever is in the batch is answered, and the thread goes on.
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
            (self.db, self.counts_live) = (None, false);
            match committing {
                Some((number, results)) => self.look_up(number, results, shortage.into()),
                None => Err(shortage.into()),
            }
        })
    }

    /// Runs the batch as one transaction: all at once first, and each in a savepoint of its own where one of them fails.
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
            live::watch(db)?;
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
        let all_at_once = batch.iter_mut().try_for_each(|job| {
            #[cfg(test)]
            return self.faults.run(|| job.run(&tx));
            #[cfg(not(test))]
            job.run(&tx)
        });
        let results = match all_at_once {
            Ok(()) => batch.iter().map(|_| Ok(())).collect(),
            Err(_) if batch.len() > 1 => {
                tx.again()?;
                claim(&tx, self.epoch, None, now)?;
                let mut results = Vec::with_capacity(batch.len());
                for job in batch.iter_mut() {
                    tx.execute_batch("SAVEPOINT job")?;
                    #[cfg(test)]
                    let result = self.faults.run(|| job.run(&tx));
                    #[cfg(not(test))]
                    let result = job.run(&tx);
                    tx.execute_batch(if result.is_ok() {
                        "RELEASE job"
                    } else {
                        "ROLLBACK TO job; RELEASE job"
                    })?;
                    results.push(result);
                }
                results
            }
            Err(error) => return Err(error),
        };
        self.committing = Some((number, results.clone()));
        #[cfg(test)]
        let committed = self.faults.commit(tx);
        #[cfg(not(test))]
        let committed = tx.commit();
        match committed {
            Ok(()) => {
                self.log.remember();
                self.number = Some(number);
                let rows = db.total_changes() - rows_before;
                self.counts.rows.fetch_add(rows, Ordering::Relaxed);
                if self.counts_live {
                    self.publish_live();
                }
                if self.space.is_wanted() {
                    self.publish_space();
                }
                Ok(results)
            }
            Err(error) => self.look_up(number, results, error.into()),
        }
    }

    fn publish_live(&self) {
        if let Some(Err(error)) = self.db.as_ref().map(|db| self.live.publish(db)) {
            warn_seldom!(%error, "could not read how many instances are live; quotas go by what was known before");
        }
    }

    fn publish_space(&self) {
        match self.db.as_ref().map(Pages::of) {
            Some(Ok(pages)) => self.space.publish(pages),
            Some(Err(error)) => {
                warn_seldom!(%error, "could not read how full the hub is; its quota goes by what was known before");
            }
            None => {}
        }
    }

    /// A commit that reports an error may have happened. Opens the file anew and reads.
    fn look_up(
        &mut self,
        number: u64,
        results: Vec<Result<(), StoreError>>,
        error: StoreError,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        warn_seldom!(%error, "a commit reported an error; reading what became of it");
        (self.db, self.counts_live) = (None, false);
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
                // The count is that of the next owner by now, and says nothing about this one's commit.
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

/// The writer's thread.
fn work(state: &Mutex<State>, jobs: &Receiver<Job>, folds: &AtomicBool) {
    let state = || state.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(first) = next(&state, jobs) {
        let Job::Write(first) = first else {
            folds.store(false, Ordering::Release);
            state().fold_log();
            continue;
        };
        let mut bytes = first.bytes();
        let mut batch = vec![*first];
        bytes = take_all(jobs, &mut batch, bytes, folds);
        let count = batch.len();
        let mut state = state();
        #[cfg(test)]
        state
            .faults
            .queued
            .fetch_sub(batch.len() as u64, Ordering::AcqRel);
        state.commit(batch);
        state.backlog.leave(count, bytes);
        state.fold_log();
    }
    state().end();
}

/// The next job; none when there will be no more. Tidies up while there is none.
fn next<'s>(
    state: &impl Fn() -> std::sync::MutexGuard<'s, State>,
    jobs: &Receiver<Job>,
) -> Option<Job> {
    loop {
        let wait = {
            let mut state = state();
            state.tidy_asked = state.is_untidy();
            let quiet_in = space::QUIET.saturating_sub(state.last_commit.elapsed());
            match state.tidy_asked {
                true => Some(quiet_in),
                false => state.log.is_known().then_some(LOOK_AT_LOG_EVERY),
            }
        };
        let Some(wait) = wait else {
            return jobs.recv().ok();
        };
        match jobs.recv_timeout(wait) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let mut state = state();
        // It says so itself.
        let _ = state.look_after_log();
        if !state.tidy_asked {
            continue;
        }
        // Another thread may have committed meanwhile.
        if state.last_commit.elapsed() >= space::QUIET {
            state.tidy();
            if !state.may_give_back {
                // What is left waits for somebody who reads.
                state.last_commit = Instant::now();
            }
        }
    }
}

/// Takes what is queued, as far as it fits beside what the batch has. The bytes of all of it.
fn take_all(
    jobs: &Receiver<Job>,
    batch: &mut Vec<Write>,
    mut bytes: usize,
    folds: &AtomicBool,
) -> usize {
    while batch.len() < TRANSACTION_CHANGES
        && bytes < TRANSACTION_BYTES
        && let Ok(next) = jobs.try_recv()
    {
        match next {
            Job::Write(next) => {
                bytes += next.bytes();
                batch.push(*next);
            }
            // It is folded after this batch anyway.
            Job::FoldLog => folds.store(false, Ordering::Release),
        }
    }
    bytes
}

/// Counts the transaction, says when it was made, and checks in the same statement that this owner still is the owner. The number of the
/// transaction; `last` is that of the one before, where it is known.
fn claim(
    db: &Connection,
    epoch: u64,
    last: Option<u64>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    if let Some(last) = last {
        // What a statement returns goes through a table of its own, which costs more than the update.
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
        Ok(number) => Ok(crate::store::codec::uint(number)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(StoreError::Fenced),
        Err(error) => Err(error.into()),
    }
}
