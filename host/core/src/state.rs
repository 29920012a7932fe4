//! The state of an execution: the fold of the events of its history.

use std::collections::BTreeMap;

use crate::task::TaskType;
use crate::{
    Begun, ChildCommand, ChildPolicy, ChildTask, Corrupt, CorruptReason, Digest, End, Event,
    Failure, InstanceOptions, Json, Phase, Running, SEMANTICS_VERSION, Start, Suspension, Task,
    TaskId, TaskKind, Timestamp, TurnPart, Waiting, set_tag,
};

/// The tasks of an execution that has none.
static NO_TASKS: BTreeMap<TaskId, Task> = BTreeMap::new();

/// Where an execution stands: the fold of the events that were applied, in order.
///
/// Recovery and live writing go through the same [`apply`](Self::apply), so a log that could not have been written cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub(crate) phase: Phase,
    /// The number that the next event gets; also how many there are.
    pub next_event: u64,
    /// Turns recorded.
    pub turns: u32,
    /// The guest's time in its last turn.
    pub now: Timestamp,
    /// Size of the history in bytes, roughly.
    pub history_bytes: u64,
    /// Counts the rewinds of this execution.
    pub generation: u32,
    /// What the guest shows to people; until it began, what the execution before it showed.
    pub custom_status: Option<Json>,
    /// The named values that the guest has set, and those of the execution before it; none until it began.
    pub values: BTreeMap<String, Json>,
    /// Whether it had a child that does not simply run on when it ends.
    pub binds_children: bool,
}

impl State {
    /// An execution of which nothing is known yet.
    pub fn new(generation: u32) -> Self {
        Self {
            phase: Phase::NotStarted(None),
            next_event: 0,
            turns: 0,
            now: Timestamp(0),
            history_bytes: 0,
            generation,
            custom_status: None,
            values: BTreeMap::new(),
            binds_children: false,
        }
    }

    /// An execution that was ended from outside, without its history.
    pub fn terminated(generation: u32, reason: Option<String>) -> Self {
        let mut state = Self::new(generation);
        state.finish(End::Terminated { reason });
        state
    }

    /// Its phase.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether its start is still to come.
    pub fn awaits_start(&self) -> bool {
        matches!(self.phase, Phase::NotStarted(_) | Phase::Starting)
    }

    /// Whether its guest may still be asked.
    pub fn may_ask_guest(&self) -> bool {
        self.awaits_start() || self.running().is_some()
    }

    /// The data of an execution that has begun and whose guest has not returned.
    pub fn running(&self) -> Option<&Running> {
        let Phase::Running(running) = &self.phase else {
            return None;
        };
        Some(running)
    }

    /// The data of an execution that began and has not ended.
    pub fn begun(&self) -> Option<&Begun> {
        match &self.phase {
            Phase::Running(running) => Some(&running.begun),
            Phase::Returned { begun, .. } => Some(begun),
            Phase::NotStarted(_) | Phase::Starting | Phase::Ended { .. } => None,
        }
    }

    /// Whether its guest returned, and something that it asked for is still open.
    pub fn has_returned(&self) -> bool {
        matches!(self.phase, Phase::Returned { .. })
    }

    /// Its end, if it has ended.
    pub fn end(&self) -> Option<&End> {
        let Phase::Ended { end, .. } = &self.phase else {
            return None;
        };
        Some(end)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.end().is_some()
    }

    /// Its suspension, if it is suspended.
    pub fn suspension(&self) -> Option<&Suspension> {
        match &self.phase {
            Phase::NotStarted(suspension) => suspension.as_ref(),
            Phase::Running(running) => running.part.suspension(),
            Phase::Starting | Phase::Returned { .. } | Phase::Ended { .. } => None,
        }
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspension().is_some()
    }

    /// Its start event; `None` until it began.
    pub fn start(&self) -> Option<&Start> {
        if let Phase::Ended { start, .. } = &self.phase {
            return start.as_deref();
        }
        self.begun().map(|begun| &*begun.start)
    }

    /// The execution that this is, counted from 0 within its instance; 0 until it began.
    pub fn execution(&self) -> u32 {
        self.start().map_or(0, |start| start.execution)
    }

    /// The module it is pinned to.
    pub fn module(&self) -> Option<Digest> {
        self.start().and_then(|start| start.module)
    }

    /// Pins it to another module than the one that it began with.
    pub fn pin_to(&mut self, module: Digest) {
        if let Phase::Ended {
            start: Some(start), ..
        } = &mut self.phase
        {
            start.module = Some(module);
        } else if let Some(begun) = self.begun_mut() {
            begun.start.module = Some(module);
        }
    }

    /// Tasks that are scheduled and not yet ended.
    pub fn tasks(&self) -> &BTreeMap<TaskId, Task> {
        self.begun().map_or(&NO_TASKS, |begun| &begun.tasks)
    }

    /// A child that has not ended.
    pub fn child(&self, task: TaskId) -> Option<&ChildTask> {
        self.tasks().get(&task)?.child()
    }

    /// Whether an activity or a child still runs or waits to.
    pub fn has_open_work(&self) -> bool {
        self.tasks().values().any(|task| match task.kind {
            TaskKind::Activity { .. } | TaskKind::Child(_) => true,
            TaskKind::Timer { .. } | TaskKind::Request => false,
        })
    }

    /// How many events there are, as the guest is told.
    pub(crate) fn history_events(&self) -> u32 {
        u32::try_from(self.next_event).unwrap_or(u32::MAX)
    }

    /// Notes what the guest waits for after a turn in which it was `given` these events.
    pub(crate) fn waits(&mut self, given: &[Event], waiting: Waiting) {
        if let Phase::Running(running) = &mut self.phase {
            let before = std::mem::replace(&mut running.waiting, waiting);
            running.begun.unread.note(&before, given, &running.waiting);
        }
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

    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    fn fold(&mut self, event: &Event) -> Result<(), CorruptReason> {
        self.admits(event)?;
        match event {
            Event::TurnStarted {
                now,
                history_events,
                ..
            } => self.begin_turn(*now, *history_events),
            Event::ExecutionStarted(start) => self.begin(start),
            Event::ActivityCompleted { task, .. } | Event::ActivityFailed { task, .. } => {
                self.end_task(*task, TaskType::Activity)
            }
            Event::ChildCompleted { task, .. } | Event::ChildFailed { task, .. } => {
                self.end_task(*task, TaskType::Child)
            }
            Event::RequestCompleted { task, .. } | Event::RequestFailed { task, .. } => {
                self.end_task(*task, TaskType::Request)
            }
            Event::TimerFired { task } => self.fire(*task),
            Event::RequestReceived { number, id, .. } => self.runs()?.receive(*number, id),
            Event::RequestAnswered { number, id, .. } => self.answer(*number, id),
            Event::RequestSent { task, .. } => self.open_task(*task, TaskKind::Request),
            Event::ExternalEventRaised { number, .. } => self.runs()?.raise(*number),
            Event::ActivityScheduled { task, name, .. } => {
                self.open_task(*task, TaskKind::Activity { name: name.clone() })
            }
            Event::ChildScheduled { .. } => self.open_child(event),
            Event::TimerSet { task, fire_at } => {
                self.open_task(*task, TaskKind::Timer { fire_at: *fire_at })
            }
            Event::TimerSetAt { task, at } => {
                self.open_task(*task, TaskKind::Timer { fire_at: *at })
            }
            Event::TaskCanceled { task } => self.runs()?.cancel_task(*task),
            Event::InstanceOptions { task, options } => self.describe_instance(*task, options),
            Event::ChildCommanded { task, command, .. } => self.command_child(*task, *command),
            Event::CancellationRequested(cancellation) => self.runs()?.cancel(cancellation),
            Event::ChildRetryScheduled {
                task,
                attempt,
                at,
                failure,
            } => self.schedule_retry(*task, *attempt, *at, failure),
            Event::ChildRetried {
                task,
                attempt,
                instance_id,
            } => self.retry(*task, *attempt, instance_id),
            Event::AttemptFailed { task, .. } => self.attempt_failed(*task),
            Event::InstanceStartSkipped { .. } => self.arrives(),
            Event::EventSent { .. } | Event::InstanceStarted { .. } => self.runs()?.produces(),
            Event::CustomStatusSet { value } => self.show(value),
            Event::ValueSet { name, value } => self.set_value(name, value),
            Event::TagSet { key, value } => self.set_tag(key, value),
            Event::CallDetails { task, .. } => self.runs()?.describe(*task),
            Event::ActivityOptions { task, .. } => self.runs()?.choose(*task),
            Event::ExecutionReturned { output } => self.guest_returned(output),
            Event::ExecutionCompleted { output } => self.complete(output),
            Event::ExecutionFailed { failure, .. } => {
                let failure = failure.clone();
                self.stop(End::Failed { failure })
            }
            Event::ExecutionTimedOut { failure } => {
                let failure = failure.clone();
                self.finish(End::Failed { failure });
                Ok(())
            }
            Event::ContinuedAsNew { .. } => self.stop(End::ContinuedAsNew),
            Event::ExecutionTerminated { reason } => {
                let reason = reason.clone();
                self.finish(End::Terminated { reason });
                Ok(())
            }
            Event::ExecutionSuspended { reason } => self.suspend(reason),
            Event::ExecutionResumed { .. } => self.resume(),
        }
    }

    /// Whether an event of this kind may stand here at all: a start is what the first turn of a guest begins with, and nothing follows an
    /// end but that what the execution asked for as it ended was refused.
    fn admits(&self, event: &Event) -> Result<(), CorruptReason> {
        let is_start = matches!(event, Event::ExecutionStarted(_));
        match &self.phase {
            Phase::Ended { .. } => expect(
                matches!(event, Event::InstanceStartSkipped { .. }),
                CorruptReason::Ended,
            ),
            Phase::Starting => expect(is_start, CorruptReason::MisplacedStart),
            Phase::NotStarted(_) | Phase::Running(_) | Phase::Returned { .. } => {
                expect(!is_start, CorruptReason::MisplacedStart)
            }
        }
    }

    // --- Turns and the life of the execution

    fn begin_turn(&mut self, now: Timestamp, history_events: u32) -> Result<(), CorruptReason> {
        let counts = history_events == self.history_events();
        expect(counts, CorruptReason::EventCount(history_events))?;
        expect(!self.is_suspended(), CorruptReason::TurnWhileSuspended)?;
        expect(now >= self.now, CorruptReason::TimeRunsBackwards)?;
        match &mut self.phase {
            Phase::NotStarted(_) => self.phase = Phase::Starting,
            Phase::Running(running) => running.part = TurnPart::Received,
            Phase::Starting | Phase::Returned { .. } | Phase::Ended { .. } => {
                return Err(CorruptReason::Returned);
            }
        }
        self.now = now;
        Ok(())
    }

    /// Begins under the rules of the start's version: those of older versions are kept; of newer ones this crate knows nothing.
    fn begin(&mut self, start: &Start) -> Result<(), CorruptReason> {
        match start.semantics {
            0 => return Err(CorruptReason::NoSuchRules),
            1..=SEMANTICS_VERSION => {}
            version => return Err(CorruptReason::NewerRules(version)),
        }
        self.phase = Phase::Running(Running::new(Box::new(start.clone())));
        self.custom_status = None;
        self.values.clear();
        Ok(())
    }

    fn suspend(&mut self, reason: &Option<String>) -> Result<(), CorruptReason> {
        expect(!self.is_suspended(), CorruptReason::SuspendedAlready)?;
        let suspension = Suspension {
            reason: reason.clone(),
        };
        match &mut self.phase {
            Phase::NotStarted(held) => *held = Some(suspension),
            Phase::Running(running) => running.part = TurnPart::Suspended(suspension),
            Phase::Starting | Phase::Returned { .. } | Phase::Ended { .. } => {
                return Err(CorruptReason::Returned);
            }
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), CorruptReason> {
        expect(self.is_suspended(), CorruptReason::NotSuspended)?;
        match &mut self.phase {
            Phase::NotStarted(held) => *held = None,
            Phase::Running(running) => running.part = TurnPart::Unasked,
            Phase::Starting | Phase::Returned { .. } | Phase::Ended { .. } => {}
        }
        Ok(())
    }

    /// The guest returned. Its timers and requests are over with that; activities and children go on.
    fn guest_returned(&mut self, output: &Option<Json>) -> Result<(), CorruptReason> {
        self.runs()?.produces()?;
        let mut children = self.tasks().values().filter_map(Task::child);
        let none_waits = children.all(|child| child.due.is_none());
        expect(none_waits, CorruptReason::RetryNotCancelled)?;
        if let Some(mut begun) = self.take_begun() {
            begun
                .tasks
                .retain(|_, task| !matches!(task.kind, TaskKind::Timer { .. } | TaskKind::Request));
            let output = output.clone();
            self.phase = Phase::Returned { begun, output };
        }
        Ok(())
    }

    fn complete(&mut self, output: &Option<Json>) -> Result<(), CorruptReason> {
        expect(!self.has_open_work(), CorruptReason::OpenWork)?;
        if let Phase::Returned {
            output: returned, ..
        } = &self.phase
        {
            expect(returned == output, CorruptReason::OtherOutput)?;
        } else {
            self.runs()?.produces()?;
        }
        self.finish(End::Completed {
            output: output.clone(),
        });
        Ok(())
    }

    /// The guest ended it, and whatever is open with it.
    fn stop(&mut self, end: End) -> Result<(), CorruptReason> {
        self.runs()?.produces()?;
        self.finish(end);
        Ok(())
    }

    fn finish(&mut self, end: End) {
        let start = self.take_begun().map(|begun| begun.start);
        self.phase = Phase::Ended { start, end };
    }

    /// Takes out what it has from its start on, for the phase that follows.
    fn take_begun(&mut self) -> Option<Begun> {
        match std::mem::replace(&mut self.phase, Phase::Starting) {
            Phase::Running(running) => Some(running.begun),
            Phase::Returned { begun, .. } => Some(begun),
            Phase::NotStarted(_) | Phase::Starting | Phase::Ended { .. } => None,
        }
    }

    // --- What the guest asked for, and what comes in

    fn runs(&mut self) -> Result<&mut Running, CorruptReason> {
        let Phase::Running(running) = &mut self.phase else {
            return Err(CorruptReason::NotRunning);
        };
        Ok(running)
    }

    fn begun_mut(&mut self) -> Option<&mut Begun> {
        match &mut self.phase {
            Phase::Running(running) => Some(&mut running.begun),
            Phase::Returned { begun, .. } => Some(begun),
            Phase::NotStarted(_) | Phase::Starting | Phase::Ended { .. } => None,
        }
    }

    /// Takes in an event of which the guest is not told.
    fn arrives(&mut self) -> Result<(), CorruptReason> {
        match &mut self.phase {
            Phase::NotStarted(_) | Phase::Starting => Err(CorruptReason::NotStarted),
            Phase::Running(running) => running.arrives(),
            Phase::Returned { .. } | Phase::Ended { .. } => Ok(()),
        }
    }

    /// An answer of the guest, or a refusal of the host, which may come after the guest has returned.
    fn answer(&mut self, number: Option<u32>, id: &str) -> Result<(), CorruptReason> {
        match number {
            Some(number) => self.runs()?.answer(number, id),
            None => self.arrives(),
        }
    }

    fn open_task(&mut self, task: TaskId, kind: TaskKind) -> Result<(), CorruptReason> {
        let generation = self.generation;
        self.runs()?.open_task(task, generation, kind)
    }

    fn open_child(&mut self, event: &Event) -> Result<(), CorruptReason> {
        let Event::ChildScheduled {
            task,
            name,
            version,
            instance_id,
            input,
            tags,
            retry,
            target,
        } = event
        else {
            return Ok(());
        };
        let child = ChildTask {
            name: name.clone(),
            version: version.clone(),
            instance_id: instance_id.clone(),
            input: input.clone(),
            tags: tags.clone(),
            retry: retry.clone(),
            target: target.clone(),
            options: InstanceOptions::default(),
            commanded: None,
            attempt: 1,
            due: None,
            last_failure: None,
            scheduled_at: self.now,
        };
        self.open_task(*task, TaskKind::Child(Box::new(child)))
    }

    /// Takes in what was said of the instance that the event before asked for.
    fn describe_instance(
        &mut self,
        task: Option<TaskId>,
        options: &InstanceOptions,
    ) -> Result<(), CorruptReason> {
        self.runs()?.produces()?;
        if let Some(task) = task {
            self.child_mut(task)?.options = *options;
            self.binds_children |= options.when_dropped != ChildPolicy::Abandon;
        }
        Ok(())
    }

    fn command_child(&mut self, task: TaskId, command: ChildCommand) -> Result<(), CorruptReason> {
        self.runs()?.produces()?;
        self.child_mut(task)?.commanded = Some(command);
        Ok(())
    }

    fn end_task(&mut self, task: TaskId, ends: TaskType) -> Result<(), CorruptReason> {
        if let Phase::Running(running) = &mut self.phase {
            running.is_told()?;
        }
        let begun = self.begun_mut().ok_or(CorruptReason::TaskNotOpen(task))?;
        let open = begun.tasks.get(&task);
        let is = open.map(|open| open.kind.of_type());
        let is = is.ok_or(CorruptReason::TaskNotOpen(task))?;
        expect(is == ends, CorruptReason::OtherTask { task, is })?;
        begun.tasks.remove(&task);
        Ok(())
    }

    fn fire(&mut self, task: TaskId) -> Result<(), CorruptReason> {
        let open = self.tasks().get(&task).map(|task| &task.kind);
        let early = matches!(open, Some(TaskKind::Timer { fire_at }) if *fire_at > self.now);
        expect(!early, CorruptReason::TimerNotDue)?;
        self.end_task(task, TaskType::Timer)
    }

    fn attempt_failed(&mut self, task: TaskId) -> Result<(), CorruptReason> {
        self.arrives()?;
        let open = self.tasks().get(&task).map(|task| task.kind.of_type());
        let is_activity = open == Some(TaskType::Activity);
        expect(is_activity, CorruptReason::NoOpenActivity)
    }

    fn schedule_retry(
        &mut self,
        task: TaskId,
        attempt: u32,
        at: Timestamp,
        failure: &Failure,
    ) -> Result<(), CorruptReason> {
        self.arrives()?;
        expect(!self.has_returned(), CorruptReason::Returned)?;
        let child = self.child_mut(task)?;
        let last = child.attempt;
        let follows = last + 1 == attempt && child.due.is_none();
        expect(follows, CorruptReason::AttemptOutOfOrder { attempt, last })?;
        (child.attempt, child.due) = (attempt, Some(at));
        child.last_failure = Some(failure.clone());
        Ok(())
    }

    fn retry(&mut self, task: TaskId, attempt: u32, id: &str) -> Result<(), CorruptReason> {
        self.arrives()?;
        let child = self.child_mut(task)?;
        let is_its_own = id == child.attempt_instance_id(attempt);
        expect(is_its_own, CorruptReason::OtherInstance)?;
        let was_scheduled = child.attempt == attempt && child.due.take().is_some();
        expect(was_scheduled, CorruptReason::AttemptNotScheduled(attempt))
    }

    fn child_mut(&mut self, task: TaskId) -> Result<&mut ChildTask, CorruptReason> {
        let begun = self.begun_mut();
        match begun.and_then(|begun| Some(&mut begun.tasks.get_mut(&task)?.kind)) {
            Some(TaskKind::Child(child)) => Ok(child),
            Some(TaskKind::Activity { .. } | TaskKind::Timer { .. } | TaskKind::Request) | None => {
                Err(CorruptReason::NoOpenChild(task))
            }
        }
    }

    /// The custom status is the guest's, or comes with the start from the execution before.
    fn show(&mut self, value: &Option<Json>) -> Result<(), CorruptReason> {
        let running = self.runs()?;
        if running.part == TurnPart::Begun && running.begun.start.execution > 0 {
            running.part = TurnPart::Received;
        } else {
            running.produces()?;
        }
        self.custom_status = value.clone();
        Ok(())
    }

    /// A value is the guest's, or comes with the start from the execution before, and then before the custom status.
    fn set_value(&mut self, name: &str, value: &Option<Json>) -> Result<(), CorruptReason> {
        let running = self.runs()?;
        if running.part != TurnPart::Begun || running.begun.start.execution == 0 {
            running.produces()?;
        }
        match value {
            Some(value) => self.values.insert(name.to_owned(), value.clone()),
            None => self.values.remove(name),
        };
        Ok(())
    }

    /// The tags of the start are those of now, so that the next execution begins with them.
    fn set_tag(&mut self, key: &str, value: &Option<String>) -> Result<(), CorruptReason> {
        let running = self.runs()?;
        running.produces()?;
        set_tag(&mut running.begun.start.tags, key, value.as_deref());
        Ok(())
    }
}

fn expect(holds: bool, why: CorruptReason) -> Result<(), CorruptReason> {
    if holds { Ok(()) } else { Err(why) }
}
