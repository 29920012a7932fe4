//! What has a due time.

use perennial_core::TaskRef;

/// What has a due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A timer of the guest.
    Timer(TaskRef),
    /// A timer that the guest set for a time by the clock.
    TimerAt(TaskRef),
    /// The end of the time to clean up after a cancellation.
    Grace(TaskRef),
    /// The time limit of an instance.
    Limit(TaskRef),
    /// The next attempt of an activity.
    Activity(TaskRef),
    /// The next try of a child, with its number.
    Child(TaskRef, u32),
    /// The scheduled start of an instance.
    Start,
    /// A retry of an instance that could not continue for a reason that may have passed.
    Wake,
    /// The next deletion by retention. It belongs to no instance.
    Retain,
    /// Another try to receive what other partitions sent. It belongs to no instance.
    Receive,
}

impl Due {
    /// Whether it waits for a time span and not for a date: then setting the clock back does not delay it.
    pub(super) fn is_span(self) -> bool {
        match self {
            Self::Timer(_)
            | Self::Grace(_)
            | Self::Limit(_)
            | Self::Activity(_)
            | Self::Child(..)
            | Self::Receive
            | Self::Wake => true,
            Self::TimerAt(_) | Self::Start | Self::Retain => false,
        }
    }

    /// Whether it belongs to an instance, and goes with it. What the key of the others is means nothing.
    pub(super) fn is_of_instance(self) -> bool {
        !matches!(self, Self::Retain | Self::Receive)
    }

    /// The number under which an entry of an instance is kept: that of its task.
    pub(super) fn place(self) -> i64 {
        match self {
            Self::Timer(task)
            | Self::TimerAt(task)
            | Self::Grace(task)
            | Self::Limit(task)
            | Self::Activity(task)
            | Self::Child(task, _) => i64::from(task.task.0),
            Self::Start => START,
            Self::Wake | Self::Retain => WAKE,
            Self::Receive => RECEIVE,
        }
    }
}

/// Stands for [`Due::Wake`] in place of a task number.
const WAKE: i64 = -1;

/// Stands for [`Due::Receive`] in place of a task number.
const RECEIVE: i64 = -2;

/// Stands for [`Due::Start`] in place of a task number.
const START: i64 = u32::MAX as i64;
