//! Histories that cannot be what an engine wrote.

use crate::task::TaskType;
use crate::{SEMANTICS_VERSION, TaskId};

/// A history that cannot be what an engine wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {number} ({event}) cannot stand in this history: {why}")]
pub struct Corrupt {
    /// The number of the event.
    pub number: u64,
    /// The kind of event; `Turn` if the turn is wrong as a whole.
    pub event: &'static str,
    /// The reason.
    pub why: CorruptReason,
}

/// Why an event, or a whole turn, cannot stand in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each message says it")]
pub enum CorruptReason {
    #[error("the execution has ended")]
    Ended,
    #[error("an execution begins in the first turn of its guest")]
    MisplacedStart,
    #[error("it has not started")]
    NotStarted,
    #[error("it does not run")]
    NotRunning,
    #[error("the guest has returned")]
    Returned,
    #[error("the guest was not asked in this turn")]
    GuestNotAsked,
    #[error("it is suspended")]
    Suspended,
    #[error("it is suspended already")]
    SuspendedAlready,
    #[error("it is not suspended")]
    NotSuspended,
    #[error("a suspended execution has no turns")]
    TurnWhileSuspended,
    #[error("it counts {0} events before it")]
    EventCount(u32),
    #[error("time runs backwards")]
    TimeRunsBackwards,
    #[error("no rules have version 0")]
    NoSuchRules,
    #[error(
        "it was begun by a newer host, under version {0} of the rules; this host knows up to {SEMANTICS_VERSION}: run it with the newer one"
    )]
    NewerRules(u32),
    #[error("task {0} is not open")]
    TaskNotOpen(TaskId),
    #[error("task {task} is of kind {is}")]
    OtherTask { task: TaskId, is: TaskType },
    #[error("task {task} comes after task {last}")]
    TaskOutOfOrder { task: TaskId, last: TaskId },
    #[error("task ids are used up")]
    TaskIdsUsedUp,
    #[error("it was asked to cancel already")]
    CanceledAlready,
    #[error("its task is no open activity")]
    NoOpenActivity,
    #[error("task {0} is no open child")]
    NoOpenChild(TaskId),
    #[error("the timer is not due")]
    TimerNotDue,
    #[error("attempt {attempt} does not follow attempt {last}")]
    AttemptOutOfOrder { attempt: u32, last: u32 },
    #[error("attempt {0} was not scheduled")]
    AttemptNotScheduled(u32),
    #[error("its instance is another one's")]
    OtherInstance,
    #[error("external event {number} comes before event {next}")]
    ExternalEventOutOfOrder { number: u32, next: u32 },
    #[error("external event {0} arrived already")]
    ExternalEventTwice(u32),
    #[error("request {0} is not open")]
    NoOpenRequest(u32),
    #[error("numbers are used up")]
    ExternalEventsUsedUp,
    #[error("a child that waits to be tried again was not cancelled")]
    RetryNotCancelled,
    #[error("activities or children are open")]
    OpenWork,
    #[error("it returned something else")]
    OtherOutput,
    #[error("it begins with event {0}")]
    TurnBeginsWith(u64),
    #[error("it is turn {is} after {after}")]
    TurnOutOfOrder { is: u32, after: u32 },
    #[error("nothing came in")]
    EmptyTurn,
    #[error("the guest's answer is missing")]
    AnswerMissing,
    #[error("it has an answer of a guest that was not asked")]
    AnswerUnasked,
    #[error("nothing is open any more, and the end is missing")]
    EndMissing,
}
