//! What a history means: the fold of its events.

use std::collections::BTreeMap;

use crate::{Digest, Event, Json, RetryPolicy, Start, Tags, Target, TaskId, Timestamp, Waiting};

/// Where an execution stands: the fold of the events that were applied, in order.
///
/// Recovery and live writing go through the same [`apply`](Self::apply), so a log that could not have been written cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// How far it came.
    pub phase: Phase,
    /// Whether it holds everything.
    pub suspended: bool,
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
    /// Counts the rewinds of this execution.
    pub generation: u32,
    /// Tasks that are scheduled and not yet ended.
    pub tasks: BTreeMap<TaskId, Task>,
    /// What the guest shows to people.
    pub custom_status: Option<Json>,
    /// What the guest said it waits for in its last turn. Not part of the history; a replay gives it again.
    pub waiting: Waiting,
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

/// A task that is scheduled and not yet ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The generation in which it was scheduled, or armed again.
    pub generation: u32,
    /// What it is.
    pub kind: TaskKind,
}

/// What a task is.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskKind {
    /// An activity.
    Activity {
        /// Its name.
        name: String,
    },
    /// A child orchestration.
    Child(Box<ChildTask>),
    /// A timer.
    Timer {
        /// When it comes due.
        fire_at: Timestamp,
    },
}

/// What is needed to try a child again.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildTask {
    /// Its orchestration.
    pub name: String,
    /// Its version, where one is known.
    pub version: Option<String>,
    /// The instance of the first attempt.
    pub instance_id: String,
    /// Its input.
    pub input: Option<Json>,
    /// Its labels.
    pub tags: Tags,
    /// How it is tried again.
    pub retry: Option<RetryPolicy>,
    /// What runs it.
    pub target: Target,
    /// The attempt that runs, or waits to; from 1.
    pub attempt: u32,
    /// When the attempt starts, where it waits to.
    pub due: Option<Timestamp>,
    /// When the first attempt was scheduled.
    pub scheduled_at: Timestamp,
}

impl ChildTask {
    /// The instance of an attempt: the first one's id, with the number of the attempt where it is a later one.
    pub fn attempt_instance_id(&self, attempt: u32) -> String {
        if attempt == 1 {
            self.instance_id.clone()
        } else {
            format!("{}:{attempt}", self.instance_id)
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
            start: None,
            next_event: 0,
            turns: 0,
            now: Timestamp(0),
            history_bytes: 0,
            next_task: TaskId(0),
            next_external: 0,
            generation,
            tasks: BTreeMap::new(),
            custom_status: None,
            waiting: Waiting::default(),
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
            return Err("the execution has ended".to_owned());
        }
        match event {
            Event::TurnStarted { now, .. } => {
                expect(!self.suspended, "a suspended execution has no turns")?;
                expect(*now >= self.now, "time runs backwards")?;
                expect(
                    matches!(self.phase, Phase::NotStarted | Phase::Running),
                    "the guest has returned",
                )?;
                self.now = *now;
            }
            Event::ExecutionStarted(start) => {
                expect(self.phase == Phase::NotStarted, "it started already")?;
                self.phase = Phase::Running;
                self.next_external = start.next_external;
                self.start = Some(start.clone());
            }
            Event::ActivityCompleted { task, .. } | Event::ActivityFailed { task, .. } => {
                self.end_task(*task, "activity")?
            }
            Event::ChildCompleted { task, .. } | Event::ChildFailed { task, .. } => {
                self.end_task(*task, "child")?
            }
            Event::TimerFired { task } => self.end_task(*task, "timer")?,
            Event::ExternalEventRaised { number, .. } => {
                expect(self.phase != Phase::NotStarted, "it has not started")?;
                self.next_external = self.next_external.max(number.saturating_add(1));
            }
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
                    scheduled_at: self.now,
                };
                self.open_task(*task, TaskKind::Child(Box::new(child)))?;
            }
            Event::TimerSet { task, fire_at } => {
                self.open_task(*task, TaskKind::Timer { fire_at: *fire_at })?
            }
            Event::TaskCanceled { task } => {
                expect(self.tasks.remove(task).is_some(), "the task is not open")?;
            }
            Event::ChildRetryScheduled {
                task, attempt, at, ..
            } => {
                let child = self.child(*task)?;
                if child.attempt + 1 != *attempt || child.due.is_some() {
                    return Err(format!(
                        "attempt {attempt} does not follow attempt {}",
                        child.attempt
                    ));
                }
                (child.attempt, child.due) = (*attempt, Some(*at));
            }
            Event::ChildRetried { task, attempt, .. } => {
                let child = self.child(*task)?;
                if child.attempt != *attempt || child.due.take().is_none() {
                    return Err(format!("attempt {attempt} was not scheduled"));
                }
            }
            Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::InstanceStartSkipped { .. } => {
                expect(self.phase != Phase::NotStarted, "it has not started")?;
            }
            Event::CustomStatusSet { value } => self.custom_status = value.clone(),
            Event::ExecutionReturned { output } => {
                expect(self.phase == Phase::Running, "it does not run")?;
                self.tasks
                    .retain(|_, task| !matches!(task.kind, TaskKind::Timer { .. }));
                self.phase = Phase::Returned {
                    output: output.clone(),
                };
            }
            Event::ExecutionCompleted { output } => {
                expect(!self.has_open_work(), "activities or children are open")?;
                expect(self.phase != Phase::NotStarted, "it has not started")?;
                self.end(Phase::Completed {
                    output: output.clone(),
                });
            }
            Event::ExecutionFailed { failure, .. } => {
                expect(self.phase == Phase::Running, "it does not run")?;
                self.end(Phase::Failed {
                    failure: failure.clone(),
                });
            }
            Event::ExecutionTerminated { reason } => self.end(Phase::Terminated {
                reason: reason.clone(),
            }),
            Event::ContinuedAsNew { .. } => {
                expect(self.phase == Phase::Running, "it does not run")?;
                self.end(Phase::ContinuedAsNew);
            }
            Event::ExecutionSuspended { .. } => {
                expect(!self.suspended, "it is suspended already")?;
                self.suspended = true;
            }
            Event::ExecutionResumed { .. } => {
                expect(self.suspended, "it is not suspended")?;
                self.suspended = false;
            }
        }
        Ok(())
    }

    fn end(&mut self, phase: Phase) {
        self.tasks.clear();
        self.waiting = Waiting::default();
        self.phase = phase;
    }

    fn open_task(&mut self, task: TaskId, kind: TaskKind) -> Result<(), String> {
        expect(self.phase == Phase::Running, "it does not run")?;
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

fn expect(holds: bool, why: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.to_owned()) }
}
