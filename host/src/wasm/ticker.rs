//! Advances the epoch of the engines, so that running activities can be interrupted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// How often a running activity looks whether it is to stop.
const TICK: Duration = Duration::from_millis(10);

/// A thread that advances the epochs of engines while anything runs, and sleeps without a timer otherwise.
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
    /// Whether the thread has to be woken to tick.
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

    /// Ticks at least as long as the answer lives.
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
            // It cannot panic, and if it did there is nobody to tell.
            let _ = thread.join();
        }
    }
}

/// Something that runs.
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

    /// Runs until it is closed. An activity that is shorter than a tick does not wake it for itself: it goes to sleep only after a whole
    /// tick at whose end nothing ran.
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
