//! Advances the epoch of the engines, so that running activities can be interrupted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// The interval at which a running activity checks whether it must stop.
const TICK: Duration = Duration::from_millis(10);

/// A thread that advances the epochs of engines while an activity runs, and otherwise sleeps without a timer.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    running: usize,
    /// Whether the thread must be woken to tick.
    asleep: bool,
    closed: bool,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn new<const N: usize>(engines: [Engine; N]) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                running: 0,
                asleep: false,
                closed: false,
            }),
            changed: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("perennial-epoch".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.tick(&engines)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Ticks at least until the result is dropped.
    pub(super) fn keep_ticking(&self) -> Ticking {
        let mut state = self.shared.lock();
        state.running += 1;
        if state.asleep {
            self.shared.changed.notify_one();
        }
        drop(state);
        Ticking(Arc::clone(&self.shared))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread does not panic, and a destructor could not report it.
            let _ = thread.join();
        }
    }
}

/// Keeps the ticker running until it is dropped.
pub(super) struct Ticking(Arc<Shared>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until it is closed. It goes to sleep only after a whole tick without activities, so that not every short activity has to wake
    /// it.
    fn tick(&self, engines: &[Engine]) {
        let mut state = self.lock();
        while !state.closed {
            if state.running == 0 {
                state.asleep = true;
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.asleep = false;
            } else {
                let waited = self.changed.wait_timeout(state, TICK);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                engines.iter().for_each(Engine::increment_epoch);
            }
        }
    }
}
