//! Types of the store.

use perennial_core::{
    Digest, Envelope, Event, FailedAttempt, Failure, Json, Message, Parent, Quarantine, Rejection,
    RemainingFailure, Rewind, Start, Status, Tags, Target, TaskId, TaskRef, Timestamp, Turn,
    set_tag,
};

mod hub;

pub(crate) use hub::{
    Ages, KeyRow, LastHost, ModuleRow, NameRows, NameTaken, NewModule, OldVersions, Setting,
    StoredRow, WorkerNames,
};
pub use hub::{CollectedModule, Definition, DefinitionKind, UpdatedName};

use crate::store::live::LiveChange;

/// The internal key of an instance in its hub. Assigned by the owner, never reused, and never shown to users.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct InstanceKey(pub(crate) i64);

/// The position of an instance when a turn began; the commit of the turn fails if it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) execution: u32,
    pub(crate) generation: u32,
    pub(crate) next_event: u64,
}

impl Position {
    /// The reference to a task of this execution.
    pub(crate) fn task(self, task: TaskId) -> TaskRef {
        TaskRef {
            execution: self.execution,
            generation: self.generation,
            task,
        }
    }
}

/// An instance to be created.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct NewInstance {
    pub(crate) key: InstanceKey,
    /// The parent, if it is a child.
    pub(crate) parent: Option<InstanceKey>,
    pub(crate) start: Box<Start>,
    pub(crate) reuse: perennial_core::Reuse,
    /// What becomes of it when its parent drops it, and how long it may run. Which ids it may use is in `reuse`.
    pub(crate) options: perennial_core::InstanceOptions,
}

/// The columns of a status row that a turn changes.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) status: Status,
    pub(crate) returned: bool,
    pub(crate) history_bytes: u64,
    pub(crate) custom_status: Option<Json>,
    pub(crate) output: Option<Json>,
    pub(crate) failure: Option<Failure>,
    pub(crate) waiting: perennial_core::Waiting,
    /// Bytes of the external events that the guest received but has not read.
    pub(crate) unread_bytes: u64,
    /// How many named values there are, if the turn set or cleared one.
    pub(crate) value_count: u32,
}

/// One turn, and everything that is committed with it.
#[derive(Clone, Debug)]
pub(crate) struct TurnCommit {
    pub(crate) key: InstanceKey,
    /// The id of the instance, for the clients that wait for it.
    pub(crate) id: String,
    /// The position before the turn; ignored if `create` is set.
    pub(crate) expected: Position,
    /// The status before, so that an unchanged one is not written.
    pub(crate) status_before: Status,
    /// The instance, if this is its first turn and it is not in the hub yet.
    pub(crate) create: Option<NewInstance>,
    pub(crate) turn: Turn,
    /// Numbers of the inbox messages that the turn consumed.
    pub(crate) consumed: Vec<u64>,
    pub(crate) after: Summary,
    /// Instances that the turn starts: children and detached ones.
    pub(crate) starts: Vec<NewInstance>,
    /// Unread external events for the next execution, in order.
    pub(crate) carried: Vec<Message>,
    /// The command that ends, suspends or resumes it, if it also applies to its children.
    pub(crate) cascade: Option<Message>,
    /// Whether it is a child, so that its end is reported to the parent.
    pub(crate) is_child: bool,
    /// The modules for the children that wait for a retry.
    pub(crate) retried: Vec<(TaskId, Digest)>,
    /// Whether it may have children that do not simply run on when it ends.
    pub(crate) binds_children: bool,
    /// If the orchestration returned: the activities with a running attempt. Others that wait for a retry fail.
    pub(crate) running: Vec<TaskId>,
}

/// Effects of a commit outside the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    /// Instances with a new message in their inbox.
    pub(crate) woken: Vec<InstanceKey>,
    /// Instances that were deleted.
    pub(crate) gone: Vec<InstanceKey>,
    /// Instances whose state in memory is outdated and must be reloaded.
    pub(crate) anew: Vec<InstanceKey>,
    /// Instances that ended without a turn of the engine, by id.
    pub(crate) ended: Vec<String>,
    /// Instances whose status changed without a turn, by id.
    pub(crate) changed: Vec<String>,
    /// Live instances whose tags changed without a turn.
    pub(crate) tagged: Vec<InstanceKey>,
    /// Ended instances whose running attempts must stop.
    pub(crate) stopped: Vec<InstanceKey>,
    /// Tasks whose outcome came into the inbox: nobody may act on them again.
    pub(crate) settled: Vec<(InstanceKey, TaskRef)>,
    /// Time limits of instances that were created, each with its due time.
    pub(crate) limits: Vec<(InstanceKey, TaskRef, Timestamp)>,
    /// Whether rows wait to be deleted.
    pub(crate) garbage: bool,
    /// Detached starts and sent events that were refused.
    pub(crate) refused: Vec<Refused>,
    /// The turn that was added to the history of an instance after its last one.
    pub(crate) epilogue: Option<(InstanceKey, Turn)>,
    /// Instances that became live, or are no more.
    pub(crate) live: LiveChange,
}

/// A detached start or a sent event that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// An instance was not started.
    Start {
        /// The id of the starting instance.
        by: String,
        /// The id of the new instance.
        id: String,
        reason: String,
    },
    /// An event was not delivered.
    Event {
        /// The id of the sending instance.
        by: String,
        to: String,
        name: String,
        rejection: Rejection,
    },
}

impl Effects {
    /// Clears all effects: a job that runs again starts anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds the effects of another change in the same transaction.
    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            woken,
            gone,
            anew,
            ended,
            changed,
            tagged,
            stopped,
            settled,
            limits,
            garbage,
            refused,
            epilogue,
            live,
        } = other;
        self.woken.extend(woken);
        self.gone.extend(gone);
        self.anew.extend(anew);
        self.ended.extend(ended);
        self.changed.extend(changed);
        self.tagged.extend(tagged);
        self.stopped.extend(stopped);
        self.settled.extend(settled);
        self.limits.extend(limits);
        self.garbage |= garbage;
        self.refused.extend(refused);
        self.epilogue = epilogue.or(self.epilogue.take());
        self.live.add(live);
    }
}

/// An open task that the engine must act on.
#[derive(Clone, Debug)]
pub(crate) struct TaskRow {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
    pub(crate) kind: TaskRowKind,
    /// The turn that scheduled it.
    pub(crate) turn: u32,
    /// The generation in which it was scheduled.
    pub(crate) scheduled_in: u32,
    pub(crate) due: Option<Timestamp>,
    pub(crate) attempt: u32,
    pub(crate) first_started: Option<Timestamp>,
    pub(crate) deliveries: u32,
    /// Attempts that were cut off, or may have been, without a crash.
    pub(crate) cut: u32,
    /// When the attempt began whose outcome is not known, of an activity that is to run at most once.
    pub(crate) begun_at: Option<Timestamp>,
    /// The last heartbeat of any of its attempts.
    pub(crate) heartbeat: Option<Beat>,
    pub(crate) failure: Option<Failure>,
    /// The attempts that failed or that a crash cut off, as far as they are kept.
    pub(crate) attempts: Vec<FailedAttempt>,
    /// When `due` was set, by the clock of that host.
    pub(crate) set_at: Timestamp,
    /// The current target, if it differs from the recorded call's.
    pub(crate) target: Option<Target>,
}

impl TaskRow {
    /// The number of the current or next attempt of an activity.
    pub(crate) fn number(&self) -> u32 {
        let cut_off = self.deliveries.saturating_add(self.cut);
        self.attempt.saturating_add(cut_off)
    }
}

/// A heartbeat of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) at: Timestamp,
    /// The last details that an attempt of the task sent.
    pub(crate) details: Option<Json>,
}

/// An attempt that was cut off, or stopped, because its host was stopped in good order.
#[derive(Clone, Debug)]
pub(crate) struct CutOff {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
    pub(crate) started_at: Timestamp,
    pub(crate) heartbeat: Option<Beat>,
    /// Whether the attempt itself said that it stopped, so that its outcome is known.
    pub(crate) is_known: bool,
}

/// The kind of a [`TaskRow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskRowKind {
    Activity,
    Timer,
    ChildRetry,
    /// A scheduled start of the instance itself.
    Start,
    /// A timer that was set for a time by the clock.
    TimerAt,
    /// The end of the time to clean up after a cancellation.
    Grace,
    /// The time limit of the instance.
    Limit,
}

/// A retry of an activity after a failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
    /// The number of the next attempt.
    pub(crate) attempt: u32,
    pub(crate) due: Timestamp,
    pub(crate) first_started: Timestamp,
    pub(crate) failure: Failure,
    /// The failed attempts so far, as far as they are kept.
    pub(crate) attempts: Vec<FailedAttempt>,
    /// The last heartbeat of the attempt that failed, if it sent one.
    pub(crate) heartbeat: Option<Beat>,
}

/// Work that ran when a host died: an attempt of an activity or, if no task is named, a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WasRunning {
    pub(crate) key: InstanceKey,
    pub(crate) task: Option<TaskId>,
    /// When it began, if known.
    pub(crate) started_at: Option<Timestamp>,
    /// The number of the attempt, if known.
    pub(crate) attempt: Option<u32>,
}

/// A status row.
#[derive(Clone, Debug)]
pub(crate) struct InstanceRow {
    pub(crate) key: InstanceKey,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) module: Option<Digest>,
    pub(crate) status: Status,
    pub(crate) execution: u32,
    pub(crate) execution_id: String,
    pub(crate) generation: u32,
    pub(crate) next_event: u64,
    pub(crate) turns: u32,
    pub(crate) history_bytes: u64,
    pub(crate) returned: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) updated_at: Timestamp,
    pub(crate) scheduled_for: Option<Timestamp>,
    pub(crate) parent: Option<Parent>,
    pub(crate) parent_key: Option<InstanceKey>,
    pub(crate) tags: Tags,
    pub(crate) custom_status: Option<Json>,
    pub(crate) output: Option<Json>,
    pub(crate) failure: Option<Failure>,
    pub(crate) waiting: perennial_core::Waiting,
    pub(crate) quarantine: Option<Quarantine>,
    /// How many named values it has.
    pub(crate) value_count: u32,
}

impl InstanceRow {
    /// Its approximate bytes in memory, and as JSON.
    pub(crate) fn size(&self) -> usize {
        /// Bytes of the fields with a constant size.
        const FIXED: usize = 512;
        let json = |json: &Option<Json>| json.as_ref().map_or(0, Json::size);
        let failure = self.failure.as_ref().map_or(0, Failure::size);
        let tags = self.tags.iter().map(|(key, value)| key.len() + value.len());
        let names = self.id.len() + self.name.len() + self.version.as_ref().map_or(0, String::len);
        let waiting = self.waiting.events.iter().map(String::len).sum::<usize>()
            + self.waiting.note.as_ref().map_or(0, String::len);
        FIXED
            + names
            + tags.sum::<usize>()
            + json(&self.custom_status)
            + json(&self.output)
            + failure
            + waiting
    }

    /// The current position.
    pub(crate) fn position(&self) -> Position {
        Position {
            execution: self.execution,
            generation: self.generation,
            next_event: self.next_event,
        }
    }

    /// Updates the row with the position that a commit wrote.
    pub(crate) fn advance(&mut self, commit: &TurnCommit) {
        let TurnCommit { turn, after, .. } = commit;
        self.history_bytes = after.history_bytes;
        self.next_event = turn.next_event();
        self.turns = turn.number + 1;
        self.status = after.status;
        self.returned = after.returned;
        self.updated_at = turn.at;
        for event in &turn.produced {
            if let Event::ValueSet { .. } = event {
                self.value_count = after.value_count;
            } else if let Event::TagSet { key, value } = event {
                set_tag(&mut self.tags, key, value.as_deref());
                self.tags.sort();
            }
        }
        if commit.create.is_some() || began(after) {
            self.started_at = self.started_at.or(Some(turn.at));
        }
    }

    /// Updates the row with a turn that the commit added after the end.
    pub(crate) fn add_epilogue(&mut self, turn: &Turn) {
        self.history_bytes += turn.events().map(|event| event.size() as u64).sum::<u64>();
        self.next_event = turn.next_event();
        self.turns = turn.number + 1;
    }

    /// The row as a query would return it after the commit that ended the instance and by which this row was [`advance`](Self::advance)d.
    /// Only its link to the parent may differ, because a rewind of the parent changes that in the hub alone.
    pub(crate) fn ended(self, after: Summary) -> Self {
        Self {
            custom_status: after.custom_status,
            output: after.output,
            failure: after.failure,
            waiting: perennial_core::Waiting::default(),
            quarantine: None,
            ..self
        }
    }
}

/// Whether an execution with this summary has begun; one that was suspended or ended from outside may not have.
pub(crate) fn began(after: &Summary) -> bool {
    match after.status {
        Status::Running | Status::Completed | Status::Failed => true,
        Status::Pending | Status::Suspended | Status::Terminated => false,
    }
}

/// A page of the inbox.
#[derive(Clone, Debug, Default)]
pub(crate) struct InboxPage {
    pub(crate) envelopes: Vec<Envelope>,
    /// Whether more messages may follow.
    pub(crate) more: bool,
}

/// The reference to a task, from its numbers.
pub(crate) fn task_ref(execution: u32, generation: u32, task: u32) -> TaskRef {
    TaskRef {
        execution,
        generation,
        task: TaskId(task),
    }
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueRow {
    pub(crate) name: String,
    pub(crate) value: Json,
    /// Differs after each change.
    pub(crate) version: u64,
    /// When it was set.
    pub(crate) at: Timestamp,
}

/// The answer to a request.
pub(crate) type RequestAnswer = Result<Option<Json>, Failure>;

/// The instance that made a request, and its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Asker {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
}

/// A request to an instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct NewRequest {
    /// The instance that is asked.
    pub(crate) instance: String,
    /// The id of the request, unique within the instance.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) input: Option<Json>,
}

impl NewRequest {
    /// The message to the instance.
    pub(in crate::store) fn message(&self) -> Message {
        Message::Request {
            number: None,
            id: self.id.clone(),
            name: self.name.clone(),
            input: self.input.clone(),
        }
    }
}

/// A rewind that was planned from an earlier read of the hub.
#[derive(Debug)]
pub(crate) struct RewindCommit {
    pub(crate) key: InstanceKey,
    pub(crate) id: String,
    /// The position of the instance when the rewind was planned. A failed instance moves only if it is rewound, restarted or replaced.
    pub(crate) expected: Position,
    pub(crate) reason: Option<String>,
    /// The module on which the execution continues, if it changes.
    pub(crate) module: Option<Digest>,
    pub(crate) rewind: Rewind,
    /// The current target of each activity of the rewind, in order; `None` keeps the recorded one.
    pub(crate) targets: Vec<Option<Target>>,
    /// The new start of each child of the rewind, in order, or why it cannot be started.
    pub(crate) starts: Vec<Result<NewInstance, Failure>>,
    /// Ids of the children that were already rewound for this rewind.
    pub(crate) rewound: Vec<String>,
    /// The descendants that were, deepest first, and the events that they dropped.
    pub(crate) below: (Vec<String>, Vec<(String, perennial_core::DroppedEvent)>),
    /// Failures before the cut, which stay, and how many more there are.
    pub(crate) remaining: Vec<RemainingFailure>,
    pub(crate) more_remaining: u32,
}
