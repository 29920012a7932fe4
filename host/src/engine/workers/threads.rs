//! The threads of the engine: start, work and shutdown.
//!
//! Invariants:
//! - code of the embedding program may panic: the thread continues, and the call is repeated or skipped;
//! - everything that a thread holds (a count, a place, a busy instance) is released by dropping, however its work ends;
//! - a shutdown takes no longer than [`SHUT_DOWN_MAX`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use perennial_core::Envelope;

use crate::engine::locks::{Guard, rank};
use crate::engine::memory::slots::{Slot, SlotPhase, put_back};
use crate::engine::tasks::timers::Fired;
use crate::engine::turn::asked;
use crate::engine::turn::committed;
use crate::engine::turn::inline;
use crate::engine::turn::worker;
use crate::engine::workers::lanes::Lanes;
use crate::engine::{Engine, TRY_AGAIN_AFTER, Work};
use crate::foreign::{guarded, panic_message};
use crate::store::{Change, CutOff, StoreError, Write};

/// The time limit of a shutdown: for running turns, pending writes, and threads to end. The shutdown abandons anything that has not ended
/// by then, and nothing that it writes later is kept.
pub(crate) const SHUT_DOWN_MAX: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });

/// Additional time to wait for the shutdown, since each of its steps uses the time that is left.
const GRACE: Duration = Duration::from_secs(2);

/// A change that the writer has not answered. Dropped with the answer, or with the writer.
pub(in crate::engine) struct UnderWay(Arc<Engine>);

impl UnderWay {
    pub(in crate::engine) fn new(engine: &Arc<Engine>) -> Self {
        engine.queue().written += 1;
        Self(Arc::clone(engine))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.queue().answered += 1;
        if self.0.is_stopping() || cfg!(test) {
            self.0.work.there.notify_all();
        }
    }
}

/// Work for the workers, and the state of the threads.
#[derive(Default)]
pub(in crate::engine) struct Queue {
    pub(in crate::engine) work: Lanes,
    /// Number of writes that were given to the writer so far.
    pub(in crate::engine) written: u64,
    /// Number of them that it has answered.
    pub(in crate::engine) answered: u64,
    /// Number of workers that run something.
    pub(in crate::engine) busy: usize,
    /// Number of threads that have not ended.
    alive: usize,
    pub(in crate::engine) closed: bool,
}

impl Queue {
    /// Number of writes that the writer has not answered.
    pub(in crate::engine) fn in_flight(&self) -> usize {
        usize::try_from(self.written - self.answered).unwrap_or(usize::MAX)
    }

    fn is_quiet(&self) -> bool {
        self.busy == 0 && self.in_flight() == 0 && self.work.is_empty()
    }
}

/// Counts a worker as busy until dropped.
struct Busy<'a>(&'a Engine);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.busy -= 1;
        let quiet = queue.is_quiet();
        drop(queue);
        if quiet && (self.0.is_stopping() || cfg!(test)) {
            self.0.work.there.notify_all();
        }
    }
}

/// Counts a thread as alive until dropped.
struct Alive(Arc<Engine>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.queue().alive -= 1;
        self.0.work.there.notify_all();
    }
}

impl Engine {
    pub(in crate::engine) fn spawn_threads(self: &Arc<Self>) -> Result<(), StoreError> {
        for worker in 0..self.config.workers {
            self.spawn_thread(&format!("worker-{worker}"), move |engine| {
                engine.work(worker)
            })?;
        }
        self.spawn_thread("timers", |engine| {
            let fire = |fired: Fired| {
                if let Err(why) = guarded(|| engine.fire(fired)) {
                    engine.panicked("due timers were handled", &why);
                    engine
                        .timers
                        .again_in(TRY_AGAIN_AFTER, fired.key, fired.due);
                }
            };
            engine.timers.run(|| engine.own_reader(), fire);
        })?;
        self.spawn_thread("processors", |engine| engine.activities.processors.watch())?;
        let weak = Arc::downgrade(self);
        self.clock.on_jump(Arc::new(move || {
            if let Some(engine) = weak.upgrade() {
                engine.timers.jumped();
            }
        }));
        Ok(())
    }

    /// Starts a thread that calls `run`, and calls it again after a panic.
    pub(in crate::engine) fn spawn_thread(
        self: &Arc<Self>,
        name: &str,
        run: impl Fn(&Arc<Self>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.queue().alive += 1;
        let alive = Alive(Arc::clone(self));
        let begun = std::thread::Builder::new()
            .name(format!("perennial-{name}"))
            .spawn(move || {
                while let Err(why) = guarded(|| run(&alive.0)) {
                    // The panic may come from a subscriber of the log.
                    let _ = guarded(|| alive.0.panicked("a thread of the engine ran", &why));
                }
            });
        let thread = begun.map_err(StoreError::file(
            "could not start a thread for",
            self.hub.place.to_string(),
        ))?;
        self.end.threads.lock().push(thread);
        Ok(())
    }

    /// Logs a panic, and what it interrupted.
    pub(in crate::engine) fn panicked(&self, what: &str, why: &str) {
        if let Some(unsaid) = self.trouble.panics.failed() {
            tracing::error!(why, unsaid, "there was a panic while {what}; continuing");
        }
    }

    pub(in crate::engine) fn queue(&self) -> Guard<'_, Queue, { rank::QUEUE }> {
        self.work.queue.lock()
    }

    pub(crate) fn enqueue(&self, work: Work) {
        let mut queue = self.queue();
        if queue.closed {
            drop(queue);
            return Self::put_down(work);
        }
        queue.work.push(work);
        drop(queue);
        if !inline::is_taken_here() {
            self.work.there.notify_one();
        }
    }

    /// Abandons work. The hub has everything that is needed to do it later.
    fn put_down(work: Work) {
        match work {
            Work::Run(slot) => worker::put_down(&slot, &StoreError::Closed),
            Work::Committed(done) => worker::put_down(&done.slot, &StoreError::Closed),
            Work::Collect | Work::Retain | Work::Receive => {}
        }
    }

    /// Waits for work and takes it; `None` once there will be no more.
    fn take_work(&self) -> Option<(Work, Busy<'_>)> {
        let mut queue = self.queue();
        loop {
            if let Some(work) = queue.work.pop() {
                queue.busy += 1;
                return Some((work, Busy(self)));
            }
            if queue.closed {
                return None;
            }
            queue = queue.wait(&self.work.there);
        }
    }

    fn work(self: &Arc<Self>, worker: usize) {
        while let Some((work, _busy)) = self.take_work() {
            let slot = match &work {
                Work::Run(slot) => Some(Arc::clone(slot)),
                Work::Committed(done) => Some(Arc::clone(&done.slot)),
                Work::Collect | Work::Retain | Work::Receive => None,
            };
            let receives = matches!(work, Work::Receive);
            if let Err(why) = guarded(|| self.run_work(work, worker)) {
                self.hub.flight.end(worker);
                if receives {
                    self.receive_again();
                }
                if let Some(slot) = slot {
                    worker::recover(self, &slot);
                }
                self.panicked("a worker ran", &why);
            }
        }
    }

    fn run_work(self: &Arc<Self>, work: Work, worker: usize) {
        match work {
            Work::Run(_) | Work::Collect | Work::Retain | Work::Receive if self.is_stopping() => {
                Self::put_down(work);
            }
            Work::Run(slot) if !self.hub.partitions.runs(slot.key) => {
                self.release_unused(crate::engine::remote::dispatch::Work::Turn(slot.key));
                worker::put_down(&slot, &StoreError::Elsewhere(self.partition_of(slot.key)));
            }
            Work::Run(slot) => worker::run(self, &slot, worker),
            Work::Committed(done) => {
                let mut held = Vec::new();
                committed::committed(self, &done.slot, done.change, done.result, &mut held);
                self.go_on(held);
            }
            Work::Collect => self.collect(),
            Work::Retain => self.retain(),
            Work::Receive => self.receive(),
        }
    }

    /// Shuts down: pending changes are committed, outcomes that are only in memory go to the inboxes, and the hub is released.
    ///
    /// Blocks for at most about [`SHUT_DOWN_MAX`]. Running activities are interrupted, and run again when the hub is next opened.
    pub(crate) fn shut_down(self: &Arc<Self>) {
        self.shut_down_by(Instant::now() + SHUT_DOWN_MAX);
    }

    /// As [`shut_down`](Self::shut_down), with a deadline.
    pub(crate) fn shut_down_by(self: &Arc<Self>, until: Instant) {
        let (tell, told) = mpsc::channel::<()>();
        let engine = Arc::clone(self);
        // A separate thread, because a clock that does not return blocks its caller and the locks that the caller holds.
        let stop = move || {
            let _tell = tell;
            engine.stop_by(until);
        };
        let begun = std::thread::Builder::new().name("perennial-stop".to_owned());
        let Ok(stopping) = begun.spawn(stop) else {
            return self.stop_by(until);
        };
        let left = until.saturating_duration_since(Instant::now());
        if told.recv_timeout(left + GRACE) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the shutdown of the host does not return; abandoning it");
        } else if let Err(panic) = stopping.join() {
            let why = panic_message(panic);
            tracing::error!(why, "there was a panic during the shutdown of the host");
        }
    }

    fn stop_by(self: &Arc<Self>, until: Instant) {
        self.end.stopping.store(true, Ordering::Release);
        self.timers.stop();
        self.pace.stop();
        let cut = self.activities.stop();
        self.work.there.notify_all();
        let is_quiet = self.wait_until(until, Queue::is_quiet);
        self.queue().closed = true;
        self.work.there.notify_all();
        if !is_quiet {
            tracing::error!(
                seconds = SHUT_DOWN_MAX.as_secs(),
                "the host does not stop in time; abandoning unfinished work, which runs again when the hub is next opened"
            );
        }
        self.put_down_all();
        let ended = self.wait_until(until, |queue| queue.alive == 0);
        let threads = std::mem::take(&mut *self.end.threads.lock());
        for thread in threads {
            // Do not wait for a thread that does not end.
            let own = thread.thread().id() == std::thread::current().id();
            if ended && !own && thread.join().is_err() {
                tracing::error!("a thread of the engine panicked");
            }
        }
        if let Some(spans) = &self.spans {
            spans.close_by(until);
        }
        let counted = self.count_cut_off(cut);
        self.hub.writer.close(until);
        if counted.load(Ordering::Acquire) {
            self.hub.flight.close();
        }
        self.memory.waiters.clear();
        self.hub.owner.lock().take();
    }

    /// Counts the attempts that the shutdown cut off. Until that is committed the flight recorder keeps them, so that the next host counts
    /// them if this one dies before. Returns whether it is committed, which is known once the writer is closed.
    fn count_cut_off(&self, cut: Vec<CutOff>) -> Arc<AtomicBool> {
        let counted = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&counted);
        let change = Change::CutOff {
            attempts: cut,
            stops: true,
        };
        let done = move |_, result: Result<_, _>| told.store(result.is_ok(), Ordering::Release);
        let write = Write::new(change, self.clock.now(), done);
        // Full only if the disk takes nothing.
        drop(self.hub.writer.try_submit(write));
        counted
    }

    /// Waits until `reached` is true, at most until `until`. Returns whether it is.
    fn wait_until(&self, until: Instant, reached: impl Fn(&Queue) -> bool) -> bool {
        let mut queue = self.queue();
        while !reached(&queue) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = queue.wait_timeout(&self.work.there, left.min(Duration::from_millis(50)));
        }
        true
    }

    /// Drops the instances in memory. Messages that are only in memory go to the inboxes.
    fn put_down_all(&self) {
        for slot in self.memory.slots.all() {
            self.post_unsaved(&slot, &StoreError::Closed);
        }
    }

    /// Drops an instance from memory. Messages that are only in memory go to its inbox.
    pub(in crate::engine) fn post_unsaved(&self, slot: &Slot, why: &StoreError) {
        // A worker that does not end still holds it. The hub has the last commit.
        let Some(mut body) = slot.try_body() else {
            return;
        };
        body.resident = None;
        // A start that the writer has already is answered by what becomes of it. Whoever was told that it is to be made elsewhere would be
        // refused there, because the instance exists.
        let is_moved = matches!(why, StoreError::Elsewhere(_));
        if is_moved && body.creating.is_some() && slot.mailbox().phase == SlotPhase::Busy {
            return asked::drop_asked(self, &mut body);
        }
        if let Some(asked) = body.asked.take() {
            put_back(slot, asked.batch);
        }
        drop(body);
        worker::put_down(slot, why);
        let mut mail: Vec<Envelope> = slot.mailbox().mail.drain(..).collect();
        mail.retain(|envelope| envelope.seq.is_none());
        if !mail.is_empty() {
            self.hub.writer.submit(Write::new(
                Change::Post {
                    key: slot.key,
                    messages: mail,
                },
                self.clock.now(),
                |_, _| {},
            ));
        }
    }
}
