//! Durable timers.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Duration;

use crate::bindings::orchestrations::{self as wit, Action};
use crate::execution::Execution;
use crate::task::OpenTask;
use crate::{Context, Failure, TaskId, Timestamp};

impl Context {
    /// A durable timer that fires this long after [`now`](Self::now), counted in whole milliseconds, rounded up, whatever is done to the clock of
    /// the host meanwhile.
    ///
    /// Its outcome is `Err` with [`Canceled`](crate::kind::CANCELED) if the instance is asked to cancel first.
    pub fn timer(&self, duration: Duration) -> Timer {
        Timer::new(self.execution(), self.now() + duration, Clock::Guest)
    }

    /// A durable timer that fires at this time by the clock of the host, or at once if that is past.
    ///
    /// Its outcome is `Err` with [`Canceled`](crate::kind::CANCELED) if the instance is asked to cancel first.
    pub fn timer_at(&self, time: Timestamp) -> Timer {
        Timer::new(self.execution(), time, Clock::Host)
    }
}

/// A durable timer, made by [`Context::timer`](crate::Context::timer) or [`Context::timer_at`](crate::Context::timer_at).
///
/// It is a future that is ready when the timer has fired. The timer is set when that is first polled, or at once by
/// [`start`](Self::start), and disarmed when it is dropped.
#[must_use = "a timer is set when it is awaited or started"]
pub struct Timer {
    fire_at: Timestamp,
    clock: Clock,
    state: State,
}

/// Whose clock a timer follows.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Clock {
    /// That of the instance: the timer is a span.
    Guest,
    /// That of the host: the timer is a date.
    Host,
}

enum State {
    Planned(Rc<Execution>),
    Set(OpenTask),
    Fired(Option<TaskId>),
}

impl Timer {
    pub(crate) fn new(execution: Rc<Execution>, fire_at: Timestamp, clock: Clock) -> Self {
        Self {
            fire_at,
            clock,
            state: State::Planned(execution),
        }
    }

    /// When it fires, in the time of the instance.
    #[must_use]
    pub fn fire_at(&self) -> Timestamp {
        self.fire_at
    }

    /// Sets it now.
    pub fn start(mut self) -> Self {
        self.arm();
        self
    }

    fn arm(&mut self) {
        if let State::Planned(execution) = &self.state {
            let fire_at = self.fire_at.as_unix_millis();
            let due = match self.clock {
                Clock::Guest => wit::Due::After(fire_at.saturating_sub(execution.turn().now)),
                Clock::Host => wit::Due::At(fire_at),
            };
            let action = |task: TaskId| Action::SetTimer(wit::Timer { task, due });
            self.state = State::Set(OpenTask::schedule(Rc::clone(execution), action));
        }
    }
}

impl Future for Timer {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.arm();
        let mut outcome = Ok(());
        if let State::Set(task) = &mut self.state {
            // It fails only because the instance was asked to cancel.
            let fired = task::ready!(task.poll(cx));
            outcome = fired
                .map(drop)
                .map_err(|failure| Failure::from_wit(failure, None));
            self.state = State::Fired(task.id());
        }
        Poll::Ready(outcome)
    }
}

/// A timer that says which task it was when it has fired.
pub(crate) struct Named(pub(crate) Timer);

impl Future for Named {
    type Output = Result<Option<TaskId>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let fired = task::ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(fired.map(|()| match self.0.state {
            State::Fired(task) => task,
            State::Planned(_) | State::Set(_) => None,
        }))
    }
}
