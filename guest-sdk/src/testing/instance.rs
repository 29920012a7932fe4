//! One instance of a test: its execution, what it has asked for, and what it was answered.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use perennial_core::{
    Begun, CallOptions, ChildPolicy, Envelope, Event, FailedAttempt, Failure, Guest, Json, Message,
    Parent, RetryPolicy, Start, State, Status, Target, TaskId, TaskRef, Timestamp, Turn, kind,
};

use super::guest::Log;

/// One call of an activity.
#[derive(Clone, Debug)]
pub(super) struct CallRecord {
    pub(super) name: String,
    pub(super) input: Option<Json>,
    pub(super) scheduled_at: Timestamp,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) outcome: Option<Result<Option<Json>, Failure>>,
    pub(super) canceled: bool,
}

/// One request that an instance was sent.
#[derive(Clone, Debug)]
pub(super) struct RequestRecord {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) input: Option<Json>,
    /// Who waits for the answer, if it is an instance.
    pub(super) asker: Option<Asker>,
    pub(super) answer: Option<Result<Option<Json>, Failure>>,
}

/// An instance that waits for the answer to a request.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) instance: String,
    /// Its [`Instance::serial`].
    pub(super) serial: u64,
    pub(super) task: TaskRef,
}

/// One attempt of an activity.
#[derive(Clone, Debug)]
pub(super) struct AttemptRecord {
    pub(super) started_at: Timestamp,
    pub(super) failure: Option<Failure>,
}

/// An activity that has not ended.
pub(super) struct OpenActivity {
    pub(super) name: String,
    pub(super) input: Option<Json>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) timeout: Option<u64>,
    /// What else its call chose.
    pub(super) options: CallOptions,
    pub(super) target: Target,
    /// The attempt that runs, or that is to begin.
    pub(super) attempt: u32,
    pub(super) first_started: Option<Timestamp>,
    /// The failed attempts before.
    pub(super) earlier: Vec<FailedAttempt>,
    /// The details that its attempts sent last with a heartbeat.
    pub(super) heartbeat: Option<String>,
    /// The last failure, while it waits for another attempt.
    pub(super) waits_after: Option<Failure>,
    /// Where its call is in [`Instance::calls`].
    pub(super) call: usize,
}

pub(super) struct Instance {
    /// Never used again, unlike its id.
    pub(super) serial: u64,
    /// That of its parent.
    pub(super) parent_serial: Option<u64>,
    /// What becomes of it when its parent no longer waits for it.
    pub(super) when_dropped: ChildPolicy,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) parent: Option<Parent>,
    pub(super) state: State,
    pub(super) guest: Option<Box<dyn Guest>>,
    pub(super) mail: VecDeque<Envelope>,
    /// The turns of the current execution.
    pub(super) turns: Vec<Turn>,
    /// Those of the executions before it.
    pub(super) past: Vec<Vec<Turn>>,
    pub(super) activities: BTreeMap<TaskId, OpenActivity>,
    pub(super) calls: Vec<CallRecord>,
    pub(super) requests: Vec<RequestRecord>,
    pub(super) log: Log,
}

impl Instance {
    pub(super) fn new(
        start: Start,
        now: Timestamp,
        (serial, parent_serial): (u64, Option<u64>),
        when_dropped: ChildPolicy,
    ) -> Self {
        Self {
            serial,
            parent_serial,
            when_dropped,
            id: start.instance_id.clone(),
            name: start.name.clone(),
            parent: start.parent.clone(),
            state: State::new(0),
            guest: None,
            mail: VecDeque::from([Envelope::came(Message::Start(Box::new(start)), now)]),
            turns: Vec::new(),
            past: Vec::new(),
            activities: BTreeMap::new(),
            calls: Vec::new(),
            requests: Vec::new(),
            log: Rc::new(RefCell::new(Vec::new())),
        }
    }

    /// What is left of it for a report.
    pub(super) fn recorded(&self) -> Recorded {
        let executions = self.past.iter().chain([&self.turns]);
        Recorded {
            id: self.id.clone(),
            name: self.name.clone(),
            status: self.status(),
            executions: executions
                .filter(|turns| !turns.is_empty())
                .cloned()
                .collect(),
            calls: self.calls.clone(),
            requests: self.requests.clone(),
            log: self.log.borrow().clone(),
            waits_for: self.waits_for(),
        }
    }

    pub(super) fn status(&self) -> Status {
        use perennial_core::End;
        match self.state.end() {
            Some(End::Completed { .. }) => Status::Completed,
            Some(End::Failed { .. }) => Status::Failed,
            Some(End::Terminated { .. }) => Status::Terminated,
            Some(End::ContinuedAsNew) => Status::Running,
            None if self.state.is_suspended() => Status::Suspended,
            None if self.turns.is_empty() && self.past.is_empty() => Status::Pending,
            None => Status::Running,
        }
    }

    /// A task of the current execution.
    pub(super) fn task(&self, task: TaskId) -> TaskRef {
        TaskRef {
            execution: self.state.execution(),
            generation: self.state.generation,
            task,
        }
    }

    /// Whether a task is open in the current execution.
    pub(super) fn is_open(&self, task: TaskRef) -> bool {
        task.execution == self.state.execution() && self.state.tasks().contains_key(&task.task)
    }

    /// The names of the events that it waits for.
    pub(super) fn awaited(&self) -> &[String] {
        let running = self.state.running();
        running.map_or(&[], |running| running.waiting.events.as_slice())
    }

    pub(super) fn waits_for_event(&self, name: &str) -> bool {
        let mut awaited = self.awaited().iter();
        awaited.any(|other| other.to_lowercase() == name.to_lowercase())
    }

    /// The events and open tasks that it waits for, for people.
    fn waits_for(&self) -> Vec<String> {
        use perennial_core::TaskKind;
        let events = self.awaited().iter();
        let mut waits: Vec<String> = events
            .map(|name| format!("external event {name:?}"))
            .collect();
        let running = self.state.running().into_iter();
        let requests = running.flat_map(|running| &running.waiting.requests);
        waits.extend(requests.map(|name| format!("request {name:?}")));
        let tasks = self.state.begun().map(|begun: &Begun| begun.tasks.values());
        waits.extend(tasks.into_iter().flatten().map(|task| match &task.kind {
            TaskKind::Activity { name } => format!("activity {name:?}"),
            TaskKind::Child(child) => {
                format!("child {:?} (instance {:?})", child.name, child.instance_id)
            }
            TaskKind::Timer { fire_at } => {
                let at = crate::Timestamp::from_unix_millis(fire_at.0);
                format!("a timer that is due at {at}")
            }
            TaskKind::Request => "the answer to a request".to_owned(),
        }));
        waits
    }
}

/// The outcome of an instance that ended in this turn, for who waits for it.
pub(super) fn outcome_of(turn: &Turn) -> Option<Result<Option<Json>, Failure>> {
    let received = turn.received.iter();
    let received = received.map(|event| (event, kind::TERMINATED, "was terminated"));
    // Its guest ended it, because it was asked to cancel.
    let produced = turn.produced.iter();
    let produced = produced.map(|event| (event, kind::CANCELED, "was cancelled"));
    let mut events = received.chain(produced);
    events.find_map(|(event, kind, what)| match event {
        Event::ExecutionCompleted { output } => Some(Ok(output.clone())),
        Event::ExecutionFailed { failure, .. } | Event::ExecutionTimedOut { failure } => {
            Some(Err(failure.clone()))
        }
        Event::ExecutionTerminated { reason } => {
            let reason = reason.as_deref().unwrap_or("no reason was given");
            let message = format!("the instance {what}: {reason}");
            Some(Err(Failure::permanent(kind, message)))
        }
        _ => None,
    })
}

/// What a report shows of an instance.
#[derive(Clone)]
pub(super) struct Recorded {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) executions: Vec<Vec<Turn>>,
    pub(super) calls: Vec<CallRecord>,
    pub(super) requests: Vec<RequestRecord>,
    pub(super) log: Vec<(crate::log::Level, String)>,
    pub(super) waits_for: Vec<String>,
}

impl Recorded {
    /// All events of all its executions, with the times of their turns.
    pub(super) fn events(&self) -> impl Iterator<Item = (Timestamp, &Event)> {
        let turns = self.executions.iter().flatten();
        turns.flat_map(|turn| turn.events().map(|event| (turn.at, event)))
    }
}
