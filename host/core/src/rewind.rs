//! Rewind: cuts a failed history before the failure, and decides what of the part cut off is kept.
//!
//! The turns before the cut stay as they are, so they replay unchanged, and task ids are given again from there on. What came in from the
//! cut on and is about something of before the cut comes in again: external events, fired timers, completed tasks. Activities and children
//! that failed run again, a time limit that the execution failed on is set again, and tasks asked for after the cut are dropped.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ArmedActivity, ArmedTimer, ChildTask, Corrupt, Cut, DroppedEvent, DroppedKind, DroppedTask,
    Event, Failure, Json, Message, Millis, Rewind, State, Target, TaskId, TaskKind, TaskRef,
    Timestamp, Turn,
};

/// Rewinds a history. Takes every turn, in order.
#[derive(Debug)]
pub struct Rewinder {
    cut: u32,
    state: State,
    /// For each task that may be open at the cut: the turn that asked for it and, for an activity, what runs it.
    asked: BTreeMap<TaskId, (u32, Option<Target>)>,
    /// When timers of before the cut come due by the host's clock.
    dues: BTreeMap<TaskId, (Timestamp, bool)>,
    /// Timers that are set again with their whole span; the span, if they were set before the cut.
    limits: BTreeMap<TaskId, Option<Millis>>,
    /// The timers of `limits` that fired.
    over: BTreeSet<TaskId>,
    /// Instances started from the cut on without waiting for them, and not also before.
    started_late: BTreeSet<String>,
    /// Instances started before the cut without waiting for them.
    started: BTreeSet<String>,
    /// The number of the execution's first own external event.
    first_external: u32,
    inbox: Vec<Message>,
    /// Tasks of before the cut whose outcome is in `inbox`.
    settled: BTreeSet<TaskId>,
    carried: Vec<Event>,
    dropped: BTreeMap<TaskId, DroppedTask>,
    /// The number of the external event that is not to be delivered again.
    aside: Option<u32>,
    dropped_event: Option<DroppedEvent>,
    /// Keys of tags that were set from the cut on.
    tagged: BTreeSet<String>,
}

impl Rewinder {
    /// Cuts where [`CutFinder`](crate::CutFinder) says. `generation` is the one that begins.
    pub fn new(cut: &Cut, generation: u32) -> Self {
        Self {
            cut: cut.turn,
            state: State::new(generation),
            asked: BTreeMap::new(),
            dues: BTreeMap::new(),
            limits: cut.limits.iter().map(|task| (*task, None)).collect(),
            over: BTreeSet::new(),
            started_late: BTreeSet::new(),
            started: BTreeSet::new(),
            first_external: 0,
            inbox: Vec::new(),
            settled: BTreeSet::new(),
            carried: Vec::new(),
            dropped: BTreeMap::new(),
            aside: cut.event,
            dropped_event: None,
            tagged: BTreeSet::new(),
        }
    }

    /// Takes in the next turn.
    ///
    /// # Errors
    /// [`Corrupt`] if no engine would have written what is kept.
    pub fn see(&mut self, turn: &Turn) -> Result<(), Corrupt> {
        if turn.number < self.cut {
            return self.keep(turn);
        }
        for event in &turn.received {
            self.take_back(event);
        }
        for event in &turn.produced {
            self.drop_task(event);
            if let Event::InstanceStarted { instance_id, .. } = event
                && !self.started.contains(instance_id)
            {
                self.started_late.insert(instance_id.clone());
            }
        }
        Ok(())
    }

    fn keep(&mut self, turn: &Turn) -> Result<(), Corrupt> {
        for event in turn.events() {
            self.state.apply(event)?;
            if let Event::TimerSet { task, fire_at } = event {
                self.dues.insert(*task, (turn.due(*fire_at), false));
            }
            if let Event::TimerSetAt { task, at } = event {
                self.dues.insert(*task, (*at, true));
            }
            match event {
                Event::ExecutionStarted(start) => self.first_external = start.next_external,
                Event::ActivityScheduled { task, target, .. } => {
                    self.asked
                        .insert(*task, (turn.number, Some(target.clone())));
                }
                Event::ChildScheduled { task, .. } | Event::RequestSent { task, .. } => {
                    self.asked.insert(*task, (turn.number, None));
                }
                Event::TimerSet { task, fire_at } | Event::TimerSetAt { task, at: fire_at } => {
                    self.asked.insert(*task, (turn.number, None));
                    if let Some(span) = self.limits.get_mut(task) {
                        *span = Some(Millis(fire_at.0.saturating_sub(self.state.now.0)));
                    }
                }
                Event::InstanceStarted { instance_id, .. } => {
                    self.started.insert(instance_id.clone());
                }
                Event::TurnStarted { .. }
                | Event::ActivityCompleted { .. }
                | Event::ActivityFailed { .. }
                | Event::ChildCompleted { .. }
                | Event::ChildFailed { .. }
                | Event::TimerFired { .. }
                | Event::ExternalEventRaised { .. }
                | Event::TaskCanceled { .. }
                | Event::EventSent { .. }
                | Event::CustomStatusSet { .. }
                | Event::ExecutionReturned { .. }
                | Event::ExecutionCompleted { .. }
                | Event::ExecutionFailed { .. }
                | Event::ExecutionTerminated { .. }
                | Event::ContinuedAsNew { .. }
                | Event::ExecutionSuspended { .. }
                | Event::ExecutionResumed { .. }
                | Event::InstanceStartSkipped { .. }
                | Event::ChildRetryScheduled { .. }
                | Event::ChildRetried { .. }
                | Event::AttemptFailed { .. }
                | Event::CallDetails { .. }
                | Event::ValueSet { .. }
                | Event::TagSet { .. }
                | Event::ActivityOptions { .. }
                | Event::InstanceOptions { .. }
                | Event::ChildCommanded { .. }
                | Event::RequestReceived { .. }
                | Event::RequestAnswered { .. }
                | Event::RequestCompleted { .. }
                | Event::RequestFailed { .. }
                | Event::CancellationRequested(_)
                | Event::ExecutionTimedOut { .. } => {}
            }
        }
        self.state.turns += 1;
        Ok(())
    }

    /// What came in with a turn that is cut off comes in again, where it is about something that is kept.
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each event"
    )]
    fn take_back(&mut self, event: &Event) {
        match event {
            Event::ExecutionStarted(start) => {
                self.first_external = start.next_external;
                self.inbox.push(Message::Start(start.clone()));
            }
            Event::ActivityCompleted { task, output, run } => {
                let (outcome, run) = (Ok(output.clone()), *run);
                self.succeeded(*task, |task| Message::ActivityEnded { task, outcome, run });
            }
            Event::ChildCompleted { task, output } => {
                let outcome = Ok(output.clone());
                // Its attempt is known when everything was seen.
                self.succeeded(*task, |task| Message::ChildEnded {
                    task,
                    attempt: 0,
                    outcome,
                });
            }
            Event::TimerFired { task } => self.fired(*task),
            Event::CustomStatusSet { value: Some(value) } => {
                let value = value.clone();
                self.inbox.push(Message::CustomStatus { value });
            }
            Event::ValueSet {
                name,
                value: Some(value),
            } => {
                self.left(name.clone(), value.clone());
            }
            Event::ExternalEventRaised { number, name, data } => {
                self.raised(*number, name.clone(), data.clone());
            }
            Event::RequestReceived {
                number,
                id,
                name,
                input,
            } => self.inbox.push(Message::Request {
                number: self.carried_number(*number),
                id: id.clone(),
                name: name.clone(),
                input: input.clone(),
            }),
            Event::RequestCompleted { task, output } => self.answered(*task, Ok(output.clone())),
            Event::RequestFailed { task, failure } => self.answered(*task, Err(failure.clone())),
            Event::InstanceStartSkipped {
                instance_id,
                reason,
            } if !self.started_late.contains(instance_id) => {
                self.inbox.push(Message::StartSkipped {
                    instance_id: instance_id.clone(),
                    reason: reason.clone(),
                });
            }
            Event::ChildRetryScheduled { task, .. } if self.state.tasks().contains_key(task) => {
                self.carried.push(event.clone());
            }
            Event::ChildRetried {
                task, instance_id, ..
            } => {
                if let Some(dropped) = self.dropped.get_mut(task) {
                    dropped.kind.tried_as(instance_id);
                } else if self.state.tasks().contains_key(task) {
                    self.carried.push(event.clone());
                }
            }
            // What failed is armed again, what was asked for is dropped, and commands have had their time.
            Event::ActivityFailed { .. }
            | Event::AttemptFailed { .. }
            | Event::ChildFailed { .. }
            | Event::ChildRetryScheduled { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::TurnStarted { .. }
            | Event::ActivityScheduled { .. }
            | Event::ChildScheduled { .. }
            | Event::TimerSet { .. }
            | Event::TaskCanceled { .. }
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::CustomStatusSet { .. }
            | Event::ExecutionReturned { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ContinuedAsNew { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }
            | Event::CallDetails { .. }
            | Event::ValueSet { .. }
            | Event::TagSet { .. }
            | Event::ActivityOptions { .. }
            | Event::TimerSetAt { .. }
            | Event::InstanceOptions { .. }
            | Event::ChildCommanded { .. }
            | Event::RequestAnswered { .. }
            | Event::RequestSent { .. }
            | Event::CancellationRequested(_)
            | Event::ExecutionTimedOut { .. } => {}
        }
    }

    /// A value of the execution before, which came in with the start.
    fn left(&mut self, name: String, value: Json) {
        if let Some(Message::Values { values }) = self.inbox.last_mut() {
            values.push((name, value));
        } else {
            let values = vec![(name, value)];
            self.inbox.push(Message::Values { values });
        }
    }

    /// The number of an external event or request, if it is one of an earlier execution: it keeps it.
    fn carried_number(&self, number: u32) -> Option<u32> {
        Some(number).filter(|number| *number < self.first_external)
    }

    /// The answer to a request, which stands, whatever it is.
    fn answered(&mut self, task: TaskId, outcome: Result<Option<Json>, Failure>) {
        if outcome.is_ok() || !self.dropped.contains_key(&task) {
            self.succeeded(task, |task| Message::RequestEnded { task, outcome });
        }
    }

    /// An external event arrived in the part that is cut off: it comes in again, unless it is to be put aside.
    fn raised(&mut self, number: u32, name: String, data: Option<Json>) {
        if self.aside == Some(number) {
            self.dropped_event = Some(DroppedEvent { number, name });
        } else {
            let number = self.carried_number(number);
            self.inbox
                .push(Message::ExternalEvent { number, name, data });
        }
    }

    /// A timer fired in the part that is cut off, or was about to be told.
    fn fired(&mut self, task: TaskId) {
        if self.limits.contains_key(&task) {
            self.over.insert(task);
        } else {
            self.succeeded(task, |task| Message::TimerFired { task });
        }
    }

    /// A task completed, or a timer fired, in the part that is cut off.
    fn succeeded(&mut self, task: TaskId, message: impl FnOnce(TaskRef) -> Message) {
        if let Some(dropped) = self.dropped.get_mut(&task) {
            dropped.completed = true;
        } else if self.state.tasks().contains_key(&task) && self.settled.insert(task) {
            self.inbox.push(message(TaskRef {
                execution: self.state.execution(),
                generation: self.state.generation,
                task,
            }));
        }
    }

    fn drop_task(&mut self, event: &Event) {
        let (task, kind) = match event {
            Event::ActivityScheduled { task, name, .. } => {
                let name = name.clone();
                (*task, DroppedKind::Activity { name })
            }
            Event::ChildScheduled {
                task,
                name,
                instance_id,
                ..
            } => {
                let kind = DroppedKind::Child {
                    name: name.clone(),
                    instance_ids: vec![instance_id.clone()],
                };
                (*task, kind)
            }
            Event::RequestSent { task, name, .. } => {
                let name = name.clone();
                (*task, DroppedKind::Request { name })
            }
            Event::TagSet { key, .. } => {
                self.tagged.insert(key.clone());
                return;
            }
            Event::TimerSet { task, .. } | Event::TimerSetAt { task, .. } => {
                (*task, DroppedKind::Timer)
            }
            Event::TurnStarted { .. }
            | Event::ExecutionStarted(_)
            | Event::ActivityCompleted { .. }
            | Event::ActivityFailed { .. }
            | Event::ChildCompleted { .. }
            | Event::ChildFailed { .. }
            | Event::TimerFired { .. }
            | Event::ExternalEventRaised { .. }
            | Event::TaskCanceled { .. }
            | Event::EventSent { .. }
            | Event::InstanceStarted { .. }
            | Event::CustomStatusSet { .. }
            | Event::ExecutionReturned { .. }
            | Event::ExecutionCompleted { .. }
            | Event::ExecutionFailed { .. }
            | Event::ExecutionTerminated { .. }
            | Event::ContinuedAsNew { .. }
            | Event::ExecutionSuspended { .. }
            | Event::ExecutionResumed { .. }
            | Event::InstanceStartSkipped { .. }
            | Event::ChildRetryScheduled { .. }
            | Event::ChildRetried { .. }
            | Event::AttemptFailed { .. }
            | Event::CallDetails { .. }
            | Event::ValueSet { .. }
            | Event::ActivityOptions { .. }
            | Event::InstanceOptions { .. }
            | Event::ChildCommanded { .. }
            | Event::RequestReceived { .. }
            | Event::RequestAnswered { .. }
            | Event::RequestCompleted { .. }
            | Event::RequestFailed { .. }
            | Event::CancellationRequested(_)
            | Event::ExecutionTimedOut { .. } => return,
        };
        let completed = false;
        let dropped = DroppedTask {
            task,
            kind,
            completed,
        };
        self.dropped.insert(task, dropped);
    }

    /// The result. `unread` are the messages that were in the inbox when the execution failed, in order; `at` is the time.
    ///
    /// # Errors
    /// As [`see`](Self::see).
    pub fn finish(
        mut self,
        unread: impl IntoIterator<Item = Message>,
        at: Timestamp,
    ) -> Result<Rewind, Corrupt> {
        let carried = self.carry(at)?;
        unread.into_iter().for_each(|message| self.unread(message));
        let mut rewind = Rewind {
            cut: self.cut,
            carried,
            inbox: self.inbox,
            activities: Vec::new(),
            timers: Vec::new(),
            children: Vec::new(),
            requests: Vec::new(),
            dropped: self.dropped.into_values().collect(),
            dropped_event: self.dropped_event,
            tags: Vec::new(),
            state: self.state,
        };
        let before = rewind.tags_before();
        let tagged = self.tagged.into_iter();
        let tags = tagged.map(|key| {
            let value = before.iter().find(|(other, _)| *other == key);
            let value = value.map(|(_, value)| value.clone());
            (key, value)
        });
        rewind.tags = tags.collect();
        let open = rewind.state.tasks().iter();
        for (task, open) in open.filter(|(task, _)| !self.settled.contains(task)) {
            let task = *task;
            let (turn, target) = self.asked.remove(&task).unwrap_or((0, None));
            match &open.kind {
                TaskKind::Activity { name } => rewind.activities.push(ArmedActivity {
                    task,
                    turn,
                    name: name.clone(),
                    target: target.unwrap_or(Target::Unknown),
                }),
                TaskKind::Timer { fire_at } => {
                    let span = self.limits.get(&task).copied().flatten();
                    let known = self.dues.get(&task).copied();
                    let (due, by_clock) = known.unwrap_or((*fire_at, false));
                    let is_over = self.over.contains(&task) || due <= at;
                    let again = span.filter(|_| is_over);
                    rewind.timers.push(ArmedTimer {
                        task,
                        turn,
                        due: again.map_or(due, |span| at.after(span)),
                        by_clock: by_clock && again.is_none(),
                        attempt: None,
                    });
                }
                TaskKind::Request => rewind.requests.push(task),
                TaskKind::Child(child) => match child.due {
                    Some(due) => rewind.timers.push(ArmedTimer {
                        task,
                        turn,
                        due,
                        by_clock: false,
                        attempt: Some(child.attempt),
                    }),
                    None => rewind.children.push((task, ChildTask::clone(child))),
                },
            }
        }
        for message in &mut rewind.inbox {
            if let Message::ChildEnded { task, attempt, .. } = message
                && let Some(child) = rewind.state.child(task.task)
            {
                *attempt = child.attempt;
            }
        }
        Ok(rewind)
    }

    /// The tries of children that the guest was never told of have happened, wherever the history is cut.
    fn carry(&mut self, at: Timestamp) -> Result<Option<Turn>, Corrupt> {
        if self.carried.is_empty() {
            return Ok(None);
        }
        let received = std::mem::take(&mut self.carried);
        let (number, first_event) = (self.state.turns, self.state.next_event);
        for event in &received {
            self.state.apply(event)?;
        }
        self.state.turns += 1;
        Ok(Some(Turn {
            number,
            first_event,
            at,
            received,
            produced: Vec::new(),
            answer: None,
            next: None,
        }))
    }

    /// What had come in and was not looked at when the execution failed.
    fn unread(&mut self, message: Message) {
        // What is older is about a task that was dropped or armed again already.
        let before = (self.state.execution(), self.state.generation.checked_sub(1));
        let is_own = |task: TaskRef| (task.execution, Some(task.generation)) == before;
        match message {
            Message::ExternalEvent { .. } | Message::Request { .. } => self.inbox.push(message),
            Message::RequestEnded { task, outcome } if is_own(task) => {
                self.answered(task.task, outcome);
            }
            Message::StartSkipped {
                ref instance_id, ..
            } => {
                if !self.started_late.contains(instance_id) {
                    self.inbox.push(message);
                }
            }
            Message::ActivityEnded {
                task,
                outcome: outcome @ Ok(_),
                run,
            } if is_own(task) => {
                self.succeeded(task.task, |task| Message::ActivityEnded {
                    task,
                    outcome,
                    run,
                });
            }
            Message::TimerFired { task } if is_own(task) => self.fired(task.task),
            Message::ChildEnded {
                task,
                attempt,
                outcome: outcome @ Ok(_),
            } if is_own(task) && self.awaits(task.task, attempt) => {
                self.succeeded(task.task, |task| Message::ChildEnded {
                    task,
                    attempt,
                    outcome,
                });
            }
            // Failures are armed again, what is due comes due again, and commands have had their time.
            Message::ActivityEnded { .. }
            | Message::AttemptsFailed { .. }
            | Message::TimerFired { .. }
            | Message::ChildEnded { .. }
            | Message::ChildDue { .. }
            | Message::Start(_)
            | Message::CustomStatus { .. }
            | Message::Values { .. }
            | Message::Suspend { .. }
            | Message::Resume { .. }
            | Message::Terminate { .. }
            | Message::Cancel { .. }
            | Message::TimeLimit { .. }
            | Message::RequestEnded { .. }
            | Message::GraceOver { .. } => {}
        }
    }

    fn awaits(&self, task: TaskId, attempt: u32) -> bool {
        let awaits = |child: &ChildTask| child.attempt == attempt && child.due.is_none();
        self.state.child(task).is_some_and(awaits)
    }
}
