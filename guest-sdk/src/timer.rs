//! Durable timers.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Duration;

use crate::bindings::orchestrations::{self as wit, Action};
use crate::execution::Execution;
use crate::task::OpenTask;
use crate::{Context, TaskId, Timestamp};

impl Context {
    /// A durable timer that fires this long after [`now`](Self::now), counted in whole milliseconds, rounded up.
    pub fn timer(&self, duration: Duration) -> Timer {
        self.timer_at(self.now() + duration)
    }

    /// A durable timer that fires at this time, or at once if that is past.
    pub fn timer_at(&self, time: Timestamp) -> Timer {
        Timer::new(self.execution(), time)
    }
}

/// A durable timer, made by [`Context::timer`](crate::Context::timer) or [`Context::timer_at`](crate::Context::timer_at).
///
/// It is a future that is ready when the timer has fired. The timer is set when that is first polled, or at once by
/// [`start`](Self::start), and disarmed when it is dropped.
#[must_use = "a timer is set when it is awaited or started"]
pub struct Timer {
    fire_at: Timestamp,
    state: State,
}

enum State {
    Planned(Rc<Execution>),
    Set(OpenTask),
    Fired(TaskId),
}

impl Timer {
    pub(crate) fn new(execution: Rc<Execution>, fire_at: Timestamp) -> Self {
        Self {
            fire_at,
            state: State::Planned(execution),
        }
    }

    /// When it fires.
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
            let action = |task: TaskId| Action::SetTimer(wit::Timer { task, fire_at });
            self.state = State::Set(OpenTask::schedule(Rc::clone(execution), action));
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        self.arm();
        if let State::Set(task) = &mut self.state {
            // However it ended, the time has come: a timer has no result.
            let _ = task::ready!(task.poll(cx));
            self.state = State::Fired(task.id());
        }
        Poll::Ready(())
    }
}

/// A timer that says which task it was when it has fired.
pub(crate) struct Named(pub(crate) Timer);

impl Future for Named {
    type Output = Option<TaskId>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        task::ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(match self.0.state {
            State::Fired(task) => Some(task),
            State::Planned(_) | State::Set(_) => None,
        })
    }
}
