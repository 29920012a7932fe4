//! Types of the store.

use perennial_core::{
    Digest, Envelope, FailedAttempt, Failure, Json, Message, Parent, Quarantine, Rejection, Start,
    Status, Tags, Target, TaskId, TaskRef, Timestamp, Turn,
};
use serde::{Deserialize, Serialize};

/// Names an instance inside its hub. Given by the owner, never used again, and never shown to anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InstanceKey(pub(crate) i64);

/// Where an instance stood when a turn began: what the commit of the turn insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) execution: u32,
    pub(crate) generation: u32,
    pub(crate) next_event: u64,
}

impl Position {
    /// A task of this execution.
    pub(crate) fn task(self, task: TaskId) -> TaskRef {
        TaskRef {
            execution: self.execution,
            generation: self.generation,
            task,
        }
    }
}

/// An instance to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewInstance {
    pub(crate) key: InstanceKey,
    /// The row of the instance whose child it is.
    pub(crate) parent: Option<InstanceKey>,
    pub(crate) start: Box<Start>,
    pub(crate) reuse: perennial_core::Reuse,
}

/// What a status row says after a turn.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) status: Status,
    pub(crate) returned: bool,
    pub(crate) history_bytes: u64,
    pub(crate) custom_status: Option<Json>,
    pub(crate) output: Option<Json>,
    pub(crate) failure: Option<Failure>,
    pub(crate) waiting: perennial_core::Waiting,
    /// Bytes of the external events that the guest was given and has not read.
    pub(crate) unread_bytes: u64,
}

/// One turn, and everything that goes down with it.
#[derive(Clone, Debug)]
pub(crate) struct TurnCommit {
    pub(crate) key: InstanceKey,
    /// The id of the instance, for those who wait for it.
    pub(crate) id: String,
    /// Where the instance stood before; ignored where `create` makes it.
    pub(crate) expected: Position,
    /// The status before, so that nothing is written that did not change.
    pub(crate) status_before: Status,
    /// The instance, where this is its first turn and it is not in the hub yet.
    pub(crate) create: Option<NewInstance>,
    pub(crate) turn: Turn,
    /// The messages that it took from the inbox.
    pub(crate) consumed: Vec<u64>,
    pub(crate) after: Summary,
    /// Instances that the turn starts: children, and those that nobody waits for.
    pub(crate) starts: Vec<NewInstance>,
    /// External events that move over to the next execution, in order.
    pub(crate) carried: Vec<Message>,
    /// The command that ends, suspends or resumes it, where that is meant for its children too.
    pub(crate) cascade: Option<Message>,
    /// Whether it is a child, so that its parent is told of its end.
    pub(crate) is_child: bool,
    /// What will run the children that wait to be tried again.
    pub(crate) retried: Vec<(TaskId, Digest)>,
    /// Where the orchestration returned: the attempts that run now. Others that would be tried again have failed.
    pub(crate) running: Vec<TaskId>,
}

/// What followed from a commit and happens outside the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    /// Instances that have a new message in their inbox.
    pub(crate) woken: Vec<InstanceKey>,
    /// Instances that are gone.
    pub(crate) gone: Vec<InstanceKey>,
    /// Instances that go on from elsewhere than where memory has them.
    pub(crate) anew: Vec<InstanceKey>,
    /// The instances that ended by it without a turn of their own, by id.
    pub(crate) ended: Vec<String>,
    /// The instances whose status changed without a turn, by id.
    pub(crate) changed: Vec<String>,
    /// Instances that had ended, and of which no attempt is to run on.
    pub(crate) stopped: Vec<InstanceKey>,
    /// Whether rows wait to be deleted.
    pub(crate) garbage: bool,
    /// What orchestrations asked for and nobody waits for, and that was not done.
    pub(crate) refused: Vec<Refused>,
    /// The turn that was added to the history of an instance after the one that ended it.
    pub(crate) epilogue: Option<(InstanceKey, Turn)>,
}

/// What an orchestration asked for without waiting for it, and that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// An instance was not started.
    Start {
        /// The id of the instance that asked for it.
        by: String,
        /// The id that it would have had.
        id: String,
        reason: String,
    },
    /// An event found nobody to take it.
    Event {
        /// The id of the instance that sent it.
        by: String,
        to: String,
        name: String,
        rejection: Rejection,
    },
}

impl Effects {
    /// Forgets everything: a job that runs again begins anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What followed from another change of the same transaction.
    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            woken,
            gone,
            anew,
            ended,
            changed,
            stopped,
            garbage,
            refused,
            epilogue,
        } = other;
        self.woken.extend(woken);
        self.gone.extend(gone);
        self.anew.extend(anew);
        self.ended.extend(ended);
        self.changed.extend(changed);
        self.stopped.extend(stopped);
        self.garbage |= garbage;
        self.refused.extend(refused);
        self.epilogue = epilogue.or(self.epilogue.take());
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
    /// The generation in which that was.
    pub(crate) scheduled_in: u32,
    pub(crate) due: Option<Timestamp>,
    pub(crate) attempt: u32,
    pub(crate) first_started: Option<Timestamp>,
    pub(crate) deliveries: u32,
    pub(crate) failure: Option<Failure>,
    /// The attempts that failed or were cut off, as far as they are kept.
    pub(crate) attempts: Vec<FailedAttempt>,
    /// When `due` was set, by the clock of the host that did.
    pub(crate) set_at: Timestamp,
    /// What runs it, where that is no longer what its call says.
    pub(crate) target: Option<Target>,
}

/// What a [`TaskRow`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskRowKind {
    Activity,
    Timer,
    ChildRetry,
    /// The start of an instance that is scheduled for later.
    Start,
}

/// An attempt of an activity failed, and another one follows.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
    /// The attempt to come.
    pub(crate) attempt: u32,
    pub(crate) due: Timestamp,
    pub(crate) first_started: Timestamp,
    pub(crate) failure: Failure,
    /// All attempts that have failed, as far as they are kept.
    pub(crate) attempts: Vec<FailedAttempt>,
}

/// What was running when a host died: an attempt of an activity or, where no task is named, a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WasRunning {
    pub(crate) key: InstanceKey,
    pub(crate) task: Option<TaskId>,
    /// When it began, where that is known.
    pub(crate) started_at: Option<Timestamp>,
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
}

impl InstanceRow {
    /// Bytes that it takes up in memory, and about as many as JSON.
    pub(crate) fn size(&self) -> usize {
        /// What has one size in every row.
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

    /// Where it stands.
    pub(crate) fn position(&self) -> Position {
        Position {
            execution: self.execution,
            generation: self.generation,
            next_event: self.next_event,
        }
    }

    /// Takes over what a commit wrote about where the instance stands.
    pub(crate) fn advance(&mut self, commit: &TurnCommit) {
        let TurnCommit { turn, after, .. } = commit;
        self.history_bytes = after.history_bytes;
        self.next_event = turn.next_event();
        self.turns = turn.number + 1;
        self.status = after.status;
        self.returned = after.returned;
        self.updated_at = turn.at;
        if commit.create.is_some() || began(after) {
            self.started_at = self.started_at.or(Some(turn.at));
        }
    }

    /// Takes over the turn that the commit added after the one that ended the instance.
    pub(crate) fn add_epilogue(&mut self, turn: &Turn) {
        self.history_bytes += turn.events().map(|event| event.size() as u64).sum::<u64>();
        self.next_event = turn.next_event();
        self.turns = turn.number + 1;
    }

    /// The row as it is read after the commit that it [`advance`](Self::advance)d by and that ended the instance: but for what it is to its
    /// parent, which a rewind of that one changes in the hub alone.
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

/// Whether an execution has begun that stands so; one that was suspended or ended from outside may not have.
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
    /// Whether more may follow.
    pub(crate) more: bool,
}

/// What a name means.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DefinitionKind {
    /// Deterministic code.
    Orchestration,
    /// Ordinary code.
    Activity,
}

impl std::fmt::Display for DefinitionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Orchestration => "orchestration",
            Self::Activity => "activity",
        })
    }
}

/// What a module defines under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Definition {
    /// Orchestration or activity.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// Its version, where the module gives one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// In the module's own words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// JSON Schema of its input, as a JSON text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub input_schema: Option<String>,
}

/// A module as it is deployed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewModule {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) component: Vec<u8>,
    pub(crate) contract: String,
    #[serde(with = "as_json")]
    pub(crate) definitions: Vec<Definition>,
    pub(crate) imports: Vec<String>,
    /// What the module is granted from now on; `None` keeps what its name has.
    pub(crate) grants: Option<String>,
    /// Whether names that another module owns are taken over.
    pub(crate) replace: bool,
    /// What its executions may use from now on, as JSON; `None` keeps what its name has.
    pub(crate) limits: Option<String>,
}

/// A deployed module.
#[derive(Clone, Debug)]
pub(crate) struct ModuleRow {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) imports: Vec<String>,
    pub(crate) grants: String,
    pub(crate) limits: String,
    pub(crate) deployed_at: Timestamp,
    pub(crate) size: u64,
}

/// A module that nothing pointed to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CollectedModule {
    /// Its digest.
    pub digest: Digest,
    /// Bytes of its component.
    pub bytes: u64,
}

/// A name that a deployment points to another module than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpdatedName {
    /// Orchestration or activity.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// What it meant before: nothing, where it is new.
    pub before: Option<Digest>,
    /// Whether it means something else now, or the same of another module, which had the name before.
    pub changed: bool,
}

/// A task of an instance, by number.
pub(crate) fn task_ref(execution: u32, generation: u32, task: u32) -> TaskRef {
    TaskRef {
        execution,
        generation,
        task: TaskId(task),
    }
}

/// Definitions leave out what is absent, which a format without field names cannot express: in a command they are a JSON text.
mod as_json {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Definition;

    pub(super) fn serialize<S: Serializer>(
        definitions: &[Definition],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        serde_json::to_string(definitions)
            .map_err(S::Error::custom)?
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Definition>, D::Error> {
        serde_json::from_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
