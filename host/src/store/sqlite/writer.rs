//! The writer: the only thread that writes, with group commit.
//!
//! It takes all queued changes, commits them as one transaction, answers them, and repeats. It never waits for more changes to arrive;
//! those that arrive during a commit are in the next one.
//!
//! A caller that may block, and finds the writer idle, commits on its own thread: switching to the writer's thread and back takes about as
//! long as the sync of a fast disk. There is still only one transaction at a time.
//!
//! Invariants:
//! - a change is answered with success only when its transaction is on disk;
//! - a failing change does not fail the others in its batch;
//! - after a commit that reports an error, the writer reads the file before it answers;
//! - an owner whose epoch has passed, or whose file was moved or deleted, commits nothing.

mod commit;
mod idle;
#[cfg(test)]
mod shadow;
pub(crate) mod transaction;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::outage::{Outage, warn_seldom};
use crate::store::StoreError;
use crate::store::backlog::Backlog;
use crate::store::counts::WriterCounts;
#[cfg(test)]
use crate::store::faults::Faults;
use crate::store::live::LiveCounts;
use crate::store::space::SpaceUsed;
use crate::store::sqlite::file::identity::FileId;
use crate::store::sqlite::file::log_files::LogFiles;
use crate::store::sqlite::file::open;
use crate::store::sqlite::file::space;
use crate::store::thread::{CLOSE_MAX, WriterThread, fill};
use crate::store::write::Write;
use crate::store::writer::Writes;

/// How often the idle writer checks that the log files are still in place.
const LOOK_AT_LOG_EVERY: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 1_000 });

/// The delay between two tries to find out whether a commit happened.
const REOPEN_DELAY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// A handle on the writer's thread. Dropping it ends the writer after all queued changes.
pub(crate) struct FileWriter {
    thread: WriterThread<Job>,
    state: Arc<Mutex<State>>,
    /// Whether a request to fold the log is queued.
    folds: Arc<AtomicBool>,
    counts: Arc<WriterCounts>,
    backlog: Arc<Backlog>,
    live: Arc<LiveCounts>,
    space: Arc<SpaceUsed>,
    closing: Arc<AtomicBool>,
    outage: Arc<Outage>,
    #[cfg(test)]
    pub(crate) faults: Arc<Faults>,
}

impl FileWriter {
    /// Starts the writer with its own connection, for the owner with this epoch.
    pub(crate) fn start(path: PathBuf, db: Connection, epoch: u64) -> Result<Self, StoreError> {
        let counts = Arc::new(WriterCounts::default());
        let closing = Arc::new(AtomicBool::new(false));
        let (backlog, live, space) = <(Arc<Backlog>, Arc<LiveCounts>, Arc<SpaceUsed>)>::default();
        let outage = Arc::new(Outage::default());
        #[cfg(test)]
        let faults = Arc::new(Faults::new(transaction::full_disk));
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
            #[cfg(test)]
            shadow: shadow::Shadow::default(),
        };
        state.adopt(db)?;
        let state = Arc::new(Mutex::new(state));
        let of_thread = Arc::clone(&state);
        let folds = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&folds);
        let thread = WriterThread::start(&path.display().to_string(), move |jobs| {
            work(&of_thread, &jobs, &asked);
        })?;
        Ok(Self {
            thread,
            state,
            folds,
            counts,
            backlog,
            live,
            space,
            closing,
            outage,
            #[cfg(test)]
            faults,
        })
    }
}

impl Writes for FileWriter {
    fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    fn queue(&self, job: Write) {
        let bytes = job.bytes();
        #[cfg(test)]
        self.faults.queued.fetch_add(1, Ordering::AcqRel);
        if let Err(Job::Write(lost)) = self.thread.send(Job::Write(Box::new(job))) {
            #[cfg(test)]
            self.faults.queued.fetch_sub(1, Ordering::AcqRel);
            self.backlog.leave(1, bytes);
            lost.answer(Err(StoreError::Closed));
        }
    }

    /// Commits on this thread if the writer is idle, and answers before it returns.
    fn submit_or_commit(&self, job: Write) {
        let later = |job: Write| {
            self.backlog.enter(job.bytes());
            self.queue(job);
        };
        // A callback that runs here and submits more finds the state locked.
        let Ok(mut state) = self.state.try_lock() else {
            return later(job);
        };
        // Queued jobs come first.
        if self.closing.load(Ordering::Acquire) || !self.backlog.is_empty() {
            drop(state);
            return later(job);
        }
        state.commit(vec![job]).answer();
        let wakes = state.log_is_long() || state.asks_to_tidy();
        drop(state);
        if wakes && !self.folds.swap(true, Ordering::AcqRel) {
            // A writer that has ended has already folded the log.
            let _ = self.thread.send(Job::FoldLog);
        }
    }

    fn close(&self, until: Instant) {
        self.closing.store(true, Ordering::Release);
        self.thread.close(until, "the disk");
    }

    fn live(&self) -> &LiveCounts {
        &self.live
    }

    fn space(&self) -> &SpaceUsed {
        &self.space
    }

    fn counts(&self) -> &WriterCounts {
        &self.counts
    }

    fn fails(&self) -> bool {
        self.outage.lasts()
    }

    #[cfg(test)]
    fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        self.close(Instant::now() + CLOSE_MAX);
    }
}

/// A request to the writer's thread.
enum Job {
    Write(Box<Write>),
    /// Another thread committed; now the log is long, or the idle writer should tidy up.
    FoldLog,
}

struct State {
    path: PathBuf,
    /// The identity of the file that this owner took over.
    file: FileId,
    /// Watches the log files for deletion and replacement.
    log: LogFiles,
    db: Option<Connection>,
    epoch: u64,
    /// The hub's transaction counter after the last known commit.
    number: Option<u64>,
    counts: Arc<WriterCounts>,
    backlog: Arc<Backlog>,
    live: Arc<LiveCounts>,
    /// Whether this connection counts live instances.
    counts_live: bool,
    space: Arc<SpaceUsed>,
    /// Whether pages may have become free since the last check.
    may_give_back: bool,
    /// Whether the log may be worth truncating.
    may_empty_log: bool,
    /// Whether the writer's thread was already asked to tidy up.
    tidy_asked: bool,
    last_commit: Instant,
    fenced: bool,
    /// The number of the transaction whose commit is under way, and the results to answer.
    committing: Option<(u64, Vec<Result<(), StoreError>>)>,
    outage: Arc<Outage>,
    /// Whether the store is shutting down, so that waiting for an unreadable file must end.
    closing: Arc<AtomicBool>,
    /// Pages in the write-ahead log after the last commit.
    log_pages: Arc<AtomicU32>,
    #[cfg(test)]
    faults: Arc<Faults>,
    #[cfg(test)]
    shadow: shadow::Shadow,
}

/// Checks that the path still leads to the file that was taken over: writes to a file without a name would be synced, and lost all the
/// same.
fn is_there(path: &Path, file: FileId) -> Result<(), StoreError> {
    if FileId::of(path).ok() == Some(file) {
        return Ok(());
    }
    Err(StoreError::Gone(path.to_owned()))
}

impl State {
    /// Makes this the write connection. Turns off automatic checkpoints: they would delay the answers to commits.
    fn adopt(&mut self, mut db: Connection) -> Result<(), StoreError> {
        let log_pages = Arc::clone(&self.log_pages);
        db.wal_hook(Some(
            move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                log_pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            },
        ))?;
        #[cfg(test)]
        transaction::watch(&mut db, Arc::clone(&self.faults.break_off))?;
        self.db = Some(db);
        self.log.forget();
        Ok(())
    }

    fn log_is_long(&self) -> bool {
        self.log_pages.load(Ordering::Relaxed) >= open::CHECKPOINT_PAGES
    }

    /// Folds a long log into the file. Frames that a reader still needs stay until after the next commit.
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

    /// Keeps acknowledged data in files that have a name. If the log was deleted or replaced, this process still has the old one open: it
    /// folds that into the hub's file and stops writing, because other processes that open the hub would create a log of their own.
    fn look_after_log(&mut self) -> Result<(), StoreError> {
        let Some(gone) = self.log.gone().map(Path::to_owned) else {
            self.log.folded = false;
            return Ok(());
        };
        // The whole hub may have been moved away and back.
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
                    // A reader prevented it, and will finish soon.
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

    /// Folds the log into the file at a clean end, so that copying the one file makes a backup.
    fn end(&mut self) {
        if self.look_after_log().is_err() {
            return;
        }
        #[cfg(test)]
        if let Some(db) = self.db.as_ref().filter(|_| !self.fenced) {
            self.shadow.compare(db, &self.path);
        }
        if let Some(db) = self.db.take()
            && let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::debug!(%error, "the write-ahead log stays beside the hub");
        }
    }
}

/// The loop of the writer's thread.
fn work(state: &Mutex<State>, jobs: &Receiver<Job>, folds: &AtomicBool) {
    let state = || state.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(first) = next(&state, jobs) {
        let Job::Write(first) = first else {
            folds.store(false, Ordering::Release);
            state().fold_log();
            continue;
        };
        let (bytes, mut batch) = (first.bytes(), vec![*first]);
        let bytes = fill(&mut batch, bytes, || {
            loop {
                match jobs.try_recv().ok()? {
                    Job::Write(next) => return Some(*next),
                    // The log is folded after this batch anyway.
                    Job::FoldLog => folds.store(false, Ordering::Release),
                }
            }
        });
        let count = batch.len();
        let mut state = state();
        #[cfg(test)]
        {
            let taken = batch.len() as u64;
            state.faults.queued.fetch_sub(taken, Ordering::AcqRel);
            state.faults.taken.fetch_add(taken, Ordering::AcqRel);
        }
        state.commit(batch).answer();
        state.backlog.leave(count, bytes);
        state.fold_log();
    }
    state().end();
}

/// The next job; `None` after the last handle is gone. Tidies up while there is none.
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
        // Logs its own errors.
        let _ = state.look_after_log();
        if !state.tidy_asked {
            continue;
        }
        // Another thread may have committed meanwhile.
        if state.last_commit.elapsed() >= space::QUIET {
            state.tidy();
            if !state.may_give_back {
                // A reader needs the rest of the log: try again later.
                state.last_commit = Instant::now();
            }
        }
    }
}
