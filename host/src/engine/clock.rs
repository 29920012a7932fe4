//! The clock of the engine, as an exchangeable parameter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_core::{Millis, Timestamp};

use crate::foreign::Foreign;

/// A callback that a clock calls after each jump.
pub type OnJump = Arc<dyn Fn() + Send + Sync>;

/// The source of time for the engine, and for how long its threads sleep.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;
    /// How long a thread has to sleep until `at`; `None` if only a jump of the clock can end the wait.
    fn sleep_until(&self, at: Timestamp) -> Option<Duration>;
    /// Registers a callback for jumps of the clock.
    fn on_jump(&self, told: OnJump);
    /// The time that has passed since some fixed moment, by a clock that cannot be set; `None` if there is no such clock. With it the host
    /// notices at once, and exactly, by how much [`now`](Self::now) was set back. Without it, the host only sees that the time is earlier
    /// than at the last look.
    fn passed(&self) -> Option<Duration> {
        None
    }
}

/// The time of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, at: Timestamp) -> Option<Duration> {
        // A timer never fires early: the current millisecond counts as not yet over. Long sleeps are cut, so that a clock that is set
        // forward is noticed within a minute.
        let span = at.since(self.now()).0.min(60_000);
        Some(Duration::from_millis(span))
    }

    fn on_jump(&self, _told: OnJump) {}

    fn passed(&self) -> Option<Duration> {
        static FIRST_ASKED: LazyLock<Instant> = LazyLock::new(Instant::now);
        Some(FIRST_ASKED.elapsed())
    }
}

/// Guards the clock of the embedding program: after a panic it returns the last known time.
pub(super) struct Guarded {
    clock: Foreign<Arc<dyn Clock>>,
    last: AtomicU64,
}

impl Guarded {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let clock = Foreign::new(
            "the clock of this host, which counts as standing still,",
            clock,
        );
        let last = AtomicU64::new(0);
        Self { clock, last }
    }

    fn ask<T>(&self, ask: impl FnOnce(&dyn Clock) -> T) -> Option<T> {
        self.clock.call(|clock| ask(clock.as_ref()))
    }
}

impl Clock for Guarded {
    fn now(&self) -> Timestamp {
        match self.ask(|clock| clock.now()) {
            Some(now) => {
                self.last.store(now.0, Ordering::Relaxed);
                now
            }
            None => Timestamp(self.last.load(Ordering::Relaxed)),
        }
    }

    fn sleep_until(&self, at: Timestamp) -> Option<Duration> {
        self.ask(|clock| clock.sleep_until(at))
            .unwrap_or(Some(Duration::from_secs(1)))
    }

    fn on_jump(&self, told: OnJump) {
        self.ask(|clock| clock.on_jump(told));
    }

    fn passed(&self) -> Option<Duration> {
        self.ask(Clock::passed).flatten()
    }
}

/// A simulated clock that stands still until it is moved, so that tests run through days of timers in a moment.
///
/// Cheap to clone; all clones share one time.
#[derive(Clone, Default)]
pub struct SimClock(Arc<SimState>);

#[derive(Default)]
struct SimState {
    now: Mutex<SimTime>,
    told: Mutex<Vec<OnJump>>,
}

/// The time that the clock shows, and the time that has passed independently of how the clock was set.
#[derive(Clone, Copy, Default)]
struct SimTime {
    shown: Timestamp,
    passed: Millis,
}

impl SimClock {
    /// Creates a clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        let clock = Self::default();
        clock.change(|time| time.shown = now);
        clock
    }

    /// Advances the clock, and wakes all threads that wait for it.
    pub fn advance(&self, span: impl Into<Millis>) {
        let span = span.into();
        self.change(|time| {
            time.shown = time.shown.after(span);
            time.passed = Millis(time.passed.0.saturating_add(span.0));
        });
    }

    /// Sets the clock to another time, as an operator or a time service does, and wakes all threads that wait for it. No time passes.
    pub fn set(&self, to: Timestamp) {
        self.change(|time| time.shown = to);
    }

    fn time(&self) -> SimTime {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut SimTime)) {
        change(&mut self.0.now.lock().unwrap_or_else(PoisonError::into_inner));
        let told = self
            .0
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        told.iter().for_each(|tell| tell());
    }
}

impl std::fmt::Debug for SimClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimClock").field(&self.now()).finish()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.time().shown
    }

    fn passed(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.time().passed.0))
    }

    fn sleep_until(&self, at: Timestamp) -> Option<Duration> {
        (at <= self.now()).then_some(Duration::ZERO)
    }

    fn on_jump(&self, told: OnJump) {
        self.0
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(told);
    }
}
