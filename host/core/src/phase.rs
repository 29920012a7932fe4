//! The phases of an execution, each with the data that exists only in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::task::TaskType;
use crate::{
    Cancellation, CorruptReason, Failure, Json, Start, Task, TaskId, TaskKind, Unread, Waiting,
};

/// The phase of an execution, with the data that exists in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// No turn of its guest is recorded. It may be suspended already.
    NotStarted(Option<Suspension>),
    /// The first turn of its guest began; the start is the next event.
    Starting,
    /// It runs or waits.
    Running(Running),
    /// Its guest returned, and tasks that the guest did not cancel are still open.
    Returned {
        /// Its start and its open tasks.
        begun: Begun,
        /// The output.
        output: Option<Json>,
    },
    /// It ended.
    Ended {
        /// Its start; `None` if it ended before it began, or was ended without its history.
        start: Option<Box<Start>>,
        /// Its end.
        end: End,
    },
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It completed.
    Completed {
        /// The output.
        output: Option<Json>,
    },
    /// It failed.
    Failed {
        /// The failure.
        failure: Failure,
    },
    /// It was terminated from outside.
    Terminated {
        /// The reason given.
        reason: Option<String>,
    },
    /// It continues as another execution.
    ContinuedAsNew,
}

/// Why an execution is held until it is resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// The reason given.
    pub reason: Option<String>,
}

/// The data of an execution from its start to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Begun {
    /// Its start event.
    pub start: Box<Start>,
    /// Tasks that are scheduled and not yet ended.
    pub tasks: BTreeMap<TaskId, Task>,
    /// External events that the guest was given and has not read. Known only if the guest was asked, as [`Running::waiting`].
    pub unread: Unread,
}

/// The data of an execution whose guest may still ask for something.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// The part that outlives the return of the guest.
    pub begun: Begun,
    /// Where in a turn its last event stands.
    pub part: TurnPart,
    /// The lowest id that a task to come may have.
    pub next_task: TaskId,
    /// The number that the next external event gets.
    pub next_external: u32,
    /// External events and requests of earlier executions that arrived in this one.
    pub carried: BTreeSet<u32>,
    /// Requests that the guest was given and has not answered, by number, each with its id.
    pub requests: BTreeMap<u32, String>,
    /// The request to end in good order, if there was one.
    pub cancellation: Option<Cancellation>,
    /// What the guest said it waits for in its last turn. Not part of the history; a replay gives it again.
    pub waiting: Waiting,
}

/// Where in a turn an event stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnPart {
    /// Between turns, and no turn begins before a resume.
    Suspended(Suspension),
    /// In a turn in which the guest was not asked.
    Unasked,
    /// The start of the execution, which its first turn begins with.
    Begun,
    /// Among the events that the guest was given.
    Received,
    /// Among the events that follow from the guest's answer.
    Produced,
}

impl TurnPart {
    pub(crate) fn suspension(&self) -> Option<&Suspension> {
        let Self::Suspended(suspension) = self else {
            return None;
        };
        Some(suspension)
    }
}

impl Running {
    pub(crate) fn new(start: Box<Start>) -> Self {
        Self {
            part: TurnPart::Begun,
            next_task: TaskId(0),
            next_external: start.next_external,
            carried: BTreeSet::new(),
            requests: BTreeMap::new(),
            cancellation: None,
            waiting: Waiting::default(),
            begun: Begun {
                start,
                tasks: BTreeMap::new(),
                unread: Unread::default(),
            },
        }
    }

    /// Takes in an event of which the guest is not told, in a turn of its own or among what the guest was given.
    pub(crate) fn arrives(&mut self) -> Result<(), CorruptReason> {
        match self.part {
            TurnPart::Suspended(_) => return Err(CorruptReason::Suspended),
            TurnPart::Produced => self.part = TurnPart::Unasked,
            TurnPart::Begun => self.part = TurnPart::Received,
            TurnPart::Unasked | TurnPart::Received => {}
        }
        Ok(())
    }

    /// Takes in an event that the guest is given.
    pub(crate) fn is_told(&mut self) -> Result<(), CorruptReason> {
        match self.part {
            TurnPart::Begun | TurnPart::Received => self.part = TurnPart::Received,
            TurnPart::Suspended(_) | TurnPart::Unasked | TurnPart::Produced => {
                return Err(CorruptReason::GuestNotAsked);
            }
        }
        Ok(())
    }

    /// Takes in an event that the guest asked for.
    pub(crate) fn produces(&mut self) -> Result<(), CorruptReason> {
        match self.part {
            TurnPart::Begun | TurnPart::Received | TurnPart::Produced => {
                self.part = TurnPart::Produced;
            }
            TurnPart::Suspended(_) | TurnPart::Unasked => return Err(CorruptReason::GuestNotAsked),
        }
        Ok(())
    }

    /// Takes in an external event.
    pub(crate) fn raise(&mut self, number: u32) -> Result<(), CorruptReason> {
        self.is_told()?;
        let next = self.next_external;
        if number > next {
            return Err(CorruptReason::ExternalEventOutOfOrder { number, next });
        }
        if self.has_external(number) {
            return Err(CorruptReason::ExternalEventTwice(number));
        }
        if number == next {
            let after = number.checked_add(1);
            self.next_external = after.ok_or(CorruptReason::ExternalEventsUsedUp)?;
        } else {
            self.carried.insert(number);
        }
        Ok(())
    }

    /// Takes in a request.
    pub(crate) fn receive(&mut self, number: u32, id: &str) -> Result<(), CorruptReason> {
        self.raise(number)?;
        self.requests.insert(number, id.to_owned());
        Ok(())
    }

    /// Takes in the answer of the guest to a request.
    pub(crate) fn answer(&mut self, number: u32, id: &str) -> Result<(), CorruptReason> {
        self.produces()?;
        let open = self.requests.remove(&number);
        let is_it = open.is_some_and(|open| open == id);
        is_it
            .then_some(())
            .ok_or(CorruptReason::NoOpenRequest(number))
    }

    /// Whether the external event or request of this number arrived in this execution.
    pub(crate) fn has_external(&self, number: u32) -> bool {
        let own = self.begun.start.next_external..self.next_external;
        own.contains(&number) || self.carried.contains(&number)
    }

    /// Whether a task may have an id that another one had. Some workers make each retry of a call under the id of its first attempt.
    pub(crate) fn may_repeat(&self, id: TaskId) -> bool {
        self.begun.start.module.is_none() && !self.begun.tasks.contains_key(&id)
    }

    pub(crate) fn open_task(
        &mut self,
        id: TaskId,
        generation: u32,
        kind: TaskKind,
    ) -> Result<(), CorruptReason> {
        self.produces()?;
        if id < self.next_task && !self.may_repeat(id) {
            let last = TaskId(self.next_task.0.saturating_sub(1));
            return Err(CorruptReason::TaskOutOfOrder { task: id, last });
        }
        let after = TaskId(id.0.checked_add(1).ok_or(CorruptReason::TaskIdsUsedUp)?);
        self.next_task = self.next_task.max(after);
        self.begun.tasks.insert(id, Task { generation, kind });
        Ok(())
    }

    /// Takes in the request to end in good order.
    pub(crate) fn cancel(&mut self, cancellation: &Cancellation) -> Result<(), CorruptReason> {
        self.is_told()?;
        if self.cancellation.is_some() {
            return Err(CorruptReason::CanceledAlready);
        }
        self.cancellation = Some(cancellation.clone());
        Ok(())
    }

    /// Takes in what was said of the call before, whose number counts with those of tasks.
    pub(crate) fn describe(&mut self, task: TaskId) -> Result<(), CorruptReason> {
        self.produces()?;
        let after = TaskId(task.0.checked_add(1).ok_or(CorruptReason::TaskIdsUsedUp)?);
        self.next_task = self.next_task.max(after);
        Ok(())
    }

    /// Takes in what the call before chose, which is of the activity that was opened last.
    pub(crate) fn choose(&mut self, task: TaskId) -> Result<(), CorruptReason> {
        self.produces()?;
        let open = self.begun.tasks.get(&task).map(|open| open.kind.of_type());
        if open != Some(TaskType::Activity) || self.next_task.0 != task.0 + 1 {
            return Err(CorruptReason::NoOpenActivity);
        }
        Ok(())
    }

    pub(crate) fn cancel_task(&mut self, task: TaskId) -> Result<(), CorruptReason> {
        self.produces()?;
        let canceled = self.begun.tasks.remove(&task);
        canceled.map(drop).ok_or(CorruptReason::TaskNotOpen(task))
    }
}
