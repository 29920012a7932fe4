//! Inline execution: an idle worker commits its turn and polls the attempt itself, because a thread switch costs more than either.
//!
//! A worker that has nothing else to do commits its turn itself, runs the activity that the turn asked for until it first waits, and takes
//! the turn that its result leads to. As soon as anything else is queued, each goes to the threads that are there for it.
//!
//! Two flags are of the thread and not passed along: an answer of the writer and a future are the same code on a worker as on the writer's
//! or the runtime's threads, and only who calls them knows which. As a value they would go through every answer and every message.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures::future::BoxFuture;

use crate::engine::Engine;
use crate::store::{Change, Outcome, StoreError};

/// Attempts that a worker may go on with.
pub(in crate::engine) type Inline = Vec<BoxFuture<'static, ()>>;

thread_local! {
    /// Whether this thread looks for work next, and nothing was left for it yet.
    static LOOKS_NEXT: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread is a worker that runs an attempt.
    static RUNS_ATTEMPT: Cell<bool> = const { Cell::new(false) };
}

/// Sets a flag of this thread until dropped, however that comes.
struct During(&'static std::thread::LocalKey<Cell<bool>>);

impl During {
    fn new(flag: &'static std::thread::LocalKey<Cell<bool>>) -> Self {
        flag.set(true);
        Self(flag)
    }
}

impl Drop for During {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Runs something on a worker that looks for work next. Nobody is woken for the first that it queues.
pub(in crate::engine) fn before_looking<T>(run: impl FnOnce() -> T) -> T {
    let _during = During::new(&LOOKS_NEXT);
    run()
}

/// Whether what is queued now is taken by this thread next.
pub(in crate::engine) fn is_taken_here() -> bool {
    LOOKS_NEXT.replace(false)
}

/// Whether an attempt runs on a worker, which has other things to do after it.
pub(in crate::engine) fn is_worker() -> bool {
    RUNS_ATTEMPT.get()
}

impl Engine {
    /// As [`write`](Self::write) from a worker, which commits itself where neither the writer nor it has anything else to do: `done` is
    /// told on its own thread then.
    pub(crate) fn write_from_worker(
        self: &Arc<Self>,
        change: Change,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) {
        let job = self.job(change, done);
        if self.has_nothing_else() {
            before_looking(|| self.hub.writer.submit_or_commit(job));
        } else {
            self.hub.writer.submit(job);
        }
    }

    /// Goes on with what a turn asked for: here, where it is one attempt and there is nothing else to do.
    pub(in crate::engine) fn go_on(self: &Arc<Self>, mut held: Inline) {
        if held.len() == 1
            && self.has_nothing_else()
            && let Some(mut attempt) = held.pop()
        {
            let _runtime = self.runtime.enter();
            let _runs = During::new(&RUNS_ATTEMPT);
            let polled = before_looking(|| {
                // Where it waits, it is polled again by the runtime, with a waker of its own.
                attempt
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
            });
            if polled.is_pending() {
                held.push(attempt);
            }
        }
        for attempt in held {
            self.runtime.spawn(attempt);
        }
    }

    /// Whether a worker may keep itself busy with one instance: nothing else waits, and another worker is there for what comes.
    pub(in crate::engine) fn has_nothing_else(&self) -> bool {
        self.config.workers > 1 && self.queue().work.is_empty()
    }
}
