//! Inline execution: an idle worker commits its turn and polls the attempt itself, because a thread switch costs more than either.
//!
//! A worker that is otherwise idle commits its turn on its own thread, polls the activity that the turn scheduled until it first waits, and
//! takes the turn that the result leads to. As soon as other work is queued, the usual threads take over.
//!
//! Two flags are thread-local, because the code of the writer's answers and of futures does not know on which thread it runs. As a
//! parameter they would go through every answer and every message.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures::future::BoxFuture;

use crate::engine::{Engine, Known};
use crate::store::{Change, Outcome, StoreError};

/// Attempts that a worker may continue itself.
pub(in crate::engine) type Inline = Vec<BoxFuture<'static, ()>>;

thread_local! {
    /// Whether this thread takes work next, and none was queued for it yet.
    static LOOKS_NEXT: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread is a worker that polls an attempt.
    static RUNS_ATTEMPT: Cell<bool> = const { Cell::new(false) };
}

/// Sets a flag of this thread until dropped, also on a panic.
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

/// Runs `run` on a worker that looks for work afterwards. The first work that it queues wakes no other worker.
pub(in crate::engine) fn before_looking<T>(run: impl FnOnce() -> T) -> T {
    let _during = During::new(&LOOKS_NEXT);
    run()
}

/// Whether this thread itself takes the work that is queued now. True at most once in [`before_looking`].
pub(in crate::engine) fn is_taken_here() -> bool {
    LOOKS_NEXT.replace(false)
}

/// Whether this thread is a worker that polls an attempt, and must return to its other work after it.
pub(in crate::engine) fn is_worker() -> bool {
    RUNS_ATTEMPT.get()
}

impl Engine {
    /// As [`write`](Self::write) from a worker. If the worker and the writer are idle, the worker commits itself and calls `done` on its
    /// own thread. The transaction answers the command with this token. `knew` is as in [`job_knowing`](Self::job_knowing).
    pub(crate) fn write_from_worker(
        self: &Arc<Self>,
        knew: Known,
        change: Change,
        token: Option<String>,
        done: impl FnOnce(Change, Result<Outcome, StoreError>) + Send + 'static,
    ) {
        let job = self.job_knowing(knew, change, done).answering_if(token);
        if self.has_nothing_else() {
            before_looking(|| self.hub.writer.submit_or_commit(job));
        } else {
            self.hub.writer.submit(job);
        }
    }

    /// Starts the attempts of a turn: on this thread if it is only one and the worker is idle, otherwise on the runtime.
    pub(in crate::engine) fn go_on(self: &Arc<Self>, mut held: Inline) {
        if held.len() == 1
            && self.has_nothing_else()
            && let Some(mut attempt) = held.pop()
        {
            let _runtime = self.runtime.enter();
            let _runs = During::new(&RUNS_ATTEMPT);
            let polled = before_looking(|| {
                // If the attempt waits, the runtime polls it again with its own waker.
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

    /// Whether a worker may stay with one instance: the queue is empty, and there is another worker for new work.
    pub(in crate::engine) fn has_nothing_else(&self) -> bool {
        self.config.workers > 1 && self.queue().work.is_empty()
    }
}
