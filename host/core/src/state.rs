//! The state of an execution: the fold of the events of its history.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ChildTask, Digest, Event, Json, SEMANTICS_VERSION, Start, Task, TaskId, TaskKind, Timestamp,
    Unread, Waiting,
};

/// Where an execution stands: the fold of the events that were applied, in order.
///
/// Recovery and live writing go through the same [`apply`](Self::apply), so a log that could not have been written cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// How far it came.
    pub phase: Phase,
    /// Whether it holds everything.
    pub suspended: bool,
    /// The reason that was given for it, while it is suspended.
    pub suspended_for: Option<String>,
    /// How it began; `None` until it did.
    pub start: Option<Box<Start>>,
    /// The number that the next event gets; also how many there are.
    pub next_event: u64,
    /// Turns recorded.
    pub turns: u32,
    /// The guest's time in its last turn.
    pub now: Timestamp,
    /// Size of the history in bytes, roughly.
    pub history_bytes: u64,
    /// The lowest id that a task to come may have.
    pub next_task: TaskId,
    /// The number that the next external event gets.
    pub next_external: u32,
    /// External events of earlier executions that arrived in this one.
    pub carried: BTreeSet<u32>,
    /// Where in a turn its last event stands.
    pub part: TurnPart,
    /// Counts the rewinds of this execution.
    pub generation: u32,
    /// Tasks that are scheduled and not yet ended.
    pub tasks: BTreeMap<TaskId, Task>,
    /// What the guest shows to people.
    pub custom_status: Option<Json>,
    /// What the guest said it waits for in its last turn. Not part of the history; a replay gives it again.
    pub waiting: Waiting,
    /// External events that the guest was given and has not read. As with `waiting`, only where the guest was asked.
    pub unread: Unread,
}

/// Where in a turn an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnPart {
    /// In a turn in which the guest was not asked.
    Unasked,
    /// In what the guest was given.
    Received,
    /// There, and the execution began with it.
    Begun,
    /// In what follows from its answer.
    Produced,
}

/// How far an execution came.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// No turn was recorded that began it.
    NotStarted,
    /// It runs, or waits.
    Running,
    /// It returned, and waits for tasks that it did not cancel.
    Returned {
        /// What it returned.
        output: Option<Json>,
    },
    /// It ended well.
    Completed {
        /// What it returned.
        output: Option<Json>,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: crate::Failure,
    },
    /// It was ended from outside.
    Terminated {
        /// Why.
        reason: Option<String>,
    },
    /// It goes on as another execution.
    ContinuedAsNew,
}

impl Phase {
    /// Whether nothing follows.
    pub fn is_end(&self) -> bool {
        match self {
            Self::NotStarted | Self::Running | Self::Returned { .. } => false,
            Self::Completed { .. }
            | Self::Failed { .. }
            | Self::Terminated { .. }
            | Self::ContinuedAsNew => true,
        }
    }
}

/// Why a history cannot be what an engine wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {number} ({event}) cannot stand in this history: {why}")]
pub struct Corrupt {
    /// The number of the event.
    pub number: u64,
    /// Its kind.
    pub event: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl State {
    /// An execution of which nothing is known yet.
    pub fn new(generation: u32) -> Self {
        Self {
            phase: Phase::NotStarted,
            suspended: false,
            suspended_for: None,
            start: None,
            next_event: 0,
            turns: 0,
            now: Timestamp(0),
            history_bytes: 0,
            next_task: TaskId(0),
            next_external: 0,
            carried: BTreeSet::new(),
            part: TurnPart::Unasked,
            generation,
            tasks: BTreeMap::new(),
            custom_status: None,
            waiting: Waiting::default(),
            unread: Unread::default(),
        }
    }

    /// The execution that this is, counted from 0 within its instance; 0 until it began.
    pub fn execution(&self) -> u32 {
        self.start.as_ref().map_or(0, |start| start.execution)
    }

    /// The module it is pinned to.
    pub fn module(&self) -> Option<Digest> {
        self.start.as_ref().and_then(|start| start.module)
    }

    /// Whether an activity or a child still runs or waits to.
    pub fn has_open_work(&self) -> bool {
        self.tasks.values().any(|task| match task.kind {
            TaskKind::Activity { .. } | TaskKind::Child(_) => true,
            TaskKind::Timer { .. } => false,
        })
    }

    /// Whether the external event of this number arrived in this execution.
    pub fn has_external(&self, number: u32) -> bool {
        let first = self.start.as_ref().map_or(0, |start| start.next_external);
        (first..self.next_external).contains(&number) || self.carried.contains(&number)
    }

    /// How many events there are, as the guest is told.
    pub(crate) fn history_events(&self) -> u32 {
        u32::try_from(self.next_event).unwrap_or(u32::MAX)
    }

    /// Takes in the next event.
    ///
    /// # Errors
    /// [`Corrupt`] if no engine would have written it here; the state is then of no further use.
    pub fn apply(&mut self, event: &Event) -> Result<(), Corrupt> {
        self.fold(event).map_err(|why| Corrupt {
            number: self.next_event,
            event: event.name(),
            why,
        })?;
        self.next_event += 1;
        self.history_bytes += event.size() as u64;
        Ok(())
    }

    fn fold(&mut self, event: &Event) -> Result<(), String> {
        if self.phase.is_end() {
            // What it asked for as it ended may have been refused: that is the last that is known of it.
            let is_late = matches!(event, Event::InstanceStartSkipped { .. });
            return expect(is_late, "the execution has ended");
        }
        let begins = self.phase == Phase::NotStarted && self.part == TurnPart::Received;
        if begins != matches!(event, Event::ExecutionStarted(_)) {
            return Err("an execution begins in the first turn of its guest".to_owned());
        }
        match event {
            Event::TurnStarted {
                now,
                history_events,
                ..
            } => {
                if *history_events != self.history_events() {
                    return Err(format!("it counts {history_events} events before it"));
                }
                expect(!self.suspended, "a suspended execution has no turns")?;
                expect(*now >= self.now, "time runs backwards")?;
                expect(
                    matches!(self.phase, Phase::NotStarted | Phase::Running),
                    "the guest has returned",
                )?;
                self.now = *now;
                self.part = TurnPart::Received;
            }
            Event::ExecutionStarted(start) => {
                known_rules(start)?;
                self.phase = Phase::Running;
                self.next_external = start.next_external;
                self.custom_status = None;
                self.part = TurnPart::Begun;
                self.start = Some(start.clone());
            }
            Event::ActivityCompleted { task, .. } | Event::ActivityFailed { task, .. } => {
                self.end_task(*task, "activity")?
            }
            Event::ChildCompleted { task, .. } | Event::ChildFailed { task, .. } => {
                self.end_task(*task, "child")?
            }
            Event::TimerFired { task } => {
                let due = self.tasks.get(task).is_none_or(|task| match task.kind {
                    TaskKind::Timer { fire_at } => fire_at <= self.now,
                    TaskKind::Activity { .. } | TaskKind::Child(_) => true,
                });
                expect(due, "the timer is not due")?;
                self.end_task(*task, "timer")?;
            }
            Event::ExternalEventRaised { number, .. } => self.raise(*number)?,
            Event::ActivityScheduled { task, name, .. } => {
                self.open_task(*task, TaskKind::Activity { name: name.clone() })?;
            }
            Event::ChildScheduled {
                task,
                name,
                version,
                instance_id,
                input,
                tags,
                retry,
                target,
            } => {
                let child = ChildTask {
                    name: name.clone(),
                    version: version.clone(),
                    instance_id: instance_id.clone(),
                    input: input.clone(),
                    tags: tags.clone(),
                    retry: retry.clone(),
                    target: target.clone(),
                    attempt: 1,
                    due: None,
                    last_failure: None,
                    scheduled_at: self.now,
                };
                self.open_task(*task, TaskKind::Child(Box::new(child)))?;
            }
            Event::TimerSet { task, fire_at } => {
                self.open_task(*task, TaskKind::Timer { fire_at: *fire_at })?
            }
            Event::TaskCanceled { task } => {
                self.produces()?;
                if self.tasks.remove(task).is_none() {
                    return Err(format!("task {task} is not open"));
                }
            }
            Event::ChildRetryScheduled {
                task,
                attempt,
                at,
                failure,
            } => {
                self.arrives()?;
                expect(self.phase == Phase::Running, "the guest has returned")?;
                let child = self.child(*task)?;
                if child.attempt + 1 != *attempt || child.due.is_some() {
                    return Err(format!(
                        "attempt {attempt} does not follow attempt {}",
                        child.attempt
                    ));
                }
                (child.attempt, child.due) = (*attempt, Some(*at));
                child.last_failure = Some(failure.clone());
            }
            Event::ChildRetried {
                task,
                attempt,
                instance_id,
            } => {
                self.arrives()?;
                let child = self.child(*task)?;
                expect(
                    *instance_id == child.attempt_instance_id(*attempt),
                    "its instance is another one's",
                )?;
                if child.attempt != *attempt || child.due.take().is_none() {
                    return Err(format!("attempt {attempt} was not scheduled"));
                }
            }
            Event::InstanceStartSkipped { .. } => self.arrives()?,
            Event::AttemptFailed { task, .. } => {
                self.arrives()?;
                let open = self.tasks.get(task).map(|task| &task.kind);
                let is_activity = matches!(open, Some(TaskKind::Activity { .. }));
                expect(is_activity, "its task is no open activity")?;
            }
            Event::EventSent { .. } | Event::InstanceStarted { .. } => self.produces()?,
            Event::CustomStatusSet { value } => {
                if self.part == TurnPart::Begun && self.execution() > 0 {
                    self.part = TurnPart::Received;
                } else {
                    self.produces()?;
                }
                self.custom_status = value.clone();
            }
            Event::ExecutionReturned { output } => {
                self.produces()?;
                let to_retry = |task: &Task| matches!(&task.kind, TaskKind::Child(child) if child.due.is_some());
                expect(
                    !self.tasks.values().any(to_retry),
                    "a child that waits to be tried again was not cancelled",
                )?;
                self.tasks
                    .retain(|_, task| !matches!(task.kind, TaskKind::Timer { .. }));
                self.phase = Phase::Returned {
                    output: output.clone(),
                };
            }
            Event::ExecutionCompleted { output } => {
                expect(!self.has_open_work(), "activities or children are open")?;
                match &self.phase {
                    Phase::Returned { output: returned } => {
                        expect(returned == output, "it returned something else")?;
                    }
                    Phase::NotStarted
                    | Phase::Running
                    | Phase::Completed { .. }
                    | Phase::Failed { .. }
                    | Phase::Terminated { .. }
                    | Phase::ContinuedAsNew => self.produces()?,
                }
                self.end(Phase::Completed {
                    output: output.clone(),
                });
            }
            Event::ExecutionFailed { failure, .. } => {
                self.produces()?;
                self.end(Phase::Failed {
                    failure: failure.clone(),
                });
            }
            Event::ExecutionTerminated { reason } => self.end(Phase::Terminated {
                reason: reason.clone(),
            }),
            Event::ContinuedAsNew { .. } => {
                self.produces()?;
                self.end(Phase::ContinuedAsNew);
            }
            Event::ExecutionSuspended { reason } => {
                expect(!self.suspended, "it is suspended already")?;
                expect(
                    matches!(self.phase, Phase::NotStarted | Phase::Running),
                    "the guest has returned",
                )?;
                self.suspended = true;
                self.suspended_for.clone_from(reason);
                self.part = TurnPart::Unasked;
            }
            Event::ExecutionResumed { .. } => {
                expect(self.suspended, "it is not suspended")?;
                self.suspended = false;
                self.suspended_for = None;
            }
        }
        Ok(())
    }

    /// What the guest is not told of, in a turn of its own or among what it was given.
    fn arrives(&mut self) -> Result<(), String> {
        expect(self.phase != Phase::NotStarted, "it has not started")?;
        expect(!self.suspended, "it is suspended")?;
        match self.part {
            TurnPart::Produced => self.part = TurnPart::Unasked,
            TurnPart::Begun => self.part = TurnPart::Received,
            TurnPart::Unasked | TurnPart::Received => {}
        }
        Ok(())
    }

    /// What the guest asked for.
    fn produces(&mut self) -> Result<(), String> {
        expect(self.phase == Phase::Running, "it does not run")?;
        expect(
            self.part != TurnPart::Unasked,
            "the guest was not asked in this turn",
        )?;
        self.part = TurnPart::Produced;
        Ok(())
    }

    /// What the guest is told, while there is one to tell.
    fn is_told(&mut self) -> Result<(), String> {
        if self.part == TurnPart::Begun {
            self.part = TurnPart::Received;
        }
        expect(
            self.phase != Phase::Running || self.part == TurnPart::Received,
            "the guest was not asked in this turn",
        )
    }

    fn raise(&mut self, number: u32) -> Result<(), String> {
        expect(self.phase == Phase::Running, "it does not run")?;
        self.is_told()?;
        if number > self.next_external {
            return Err(format!(
                "external event {number} comes before event {}",
                self.next_external
            ));
        }
        if self.has_external(number) {
            return Err(format!("external event {number} arrived already"));
        }
        if number == self.next_external {
            self.next_external = number.checked_add(1).ok_or("numbers are used up")?;
        } else {
            self.carried.insert(number);
        }
        Ok(())
    }

    fn end(&mut self, phase: Phase) {
        self.tasks.clear();
        self.waiting = Waiting::default();
        self.unread = Unread::default();
        self.phase = phase;
    }

    fn open_task(&mut self, task: TaskId, kind: TaskKind) -> Result<(), String> {
        self.produces()?;
        if task < self.next_task {
            return Err(format!(
                "task {task} comes after task {}",
                self.next_task.0.saturating_sub(1)
            ));
        }
        self.next_task = TaskId(task.0.checked_add(1).ok_or("task ids are used up")?);
        self.tasks.insert(
            task,
            Task {
                generation: self.generation,
                kind,
            },
        );
        Ok(())
    }

    fn end_task(&mut self, task: TaskId, what: &str) -> Result<(), String> {
        self.is_told()?;
        let found = match self.tasks.get(&task).map(|task| &task.kind) {
            Some(TaskKind::Activity { .. }) => "activity",
            Some(TaskKind::Child(_)) => "child",
            Some(TaskKind::Timer { .. }) => "timer",
            None => return Err(format!("task {task} is not open")),
        };
        if found != what {
            return Err(format!("task {task} is of kind {found}"));
        }
        self.tasks.remove(&task);
        Ok(())
    }

    fn child(&mut self, task: TaskId) -> Result<&mut ChildTask, String> {
        match self.tasks.get_mut(&task).map(|task| &mut task.kind) {
            Some(TaskKind::Child(child)) => Ok(child),
            Some(TaskKind::Activity { .. } | TaskKind::Timer { .. }) | None => {
                Err(format!("task {task} is no open child"))
            }
        }
    }
}

/// Whether this crate knows the rules that an execution began under. Those of older versions are kept; of newer ones it knows nothing.
fn known_rules(start: &Start) -> Result<(), String> {
    match start.semantics {
        0 => Err("no rules have version 0".to_owned()),
        1..=SEMANTICS_VERSION => Ok(()),
        version => Err(format!(
            "it was begun by a newer host, under version {version} of the rules; this host knows up to {SEMANTICS_VERSION}: run it with \
             the newer one"
        )),
    }
}

fn expect(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}
