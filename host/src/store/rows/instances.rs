//! Rows of instances, with their tags and values.

use perennial_core::{
    ChildPolicy, Digest, Json, Millis, Parent, Quarantine, Start, Status, Tags, Timestamp, Turn,
    Waiting,
};

use crate::store::rows::Found;
use crate::store::types::{InstanceKey, InstanceRow, NewInstance, Position, Summary, ValueRow};

/// The columns of a new row beside its start.
pub(crate) struct NewRow<'a> {
    pub(crate) status: Status,
    pub(crate) next_event: u64,
    pub(crate) turns: u32,
    /// The number of its next message.
    pub(crate) inbox_next: u64,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) updated_at: Timestamp,
    /// What its first turn left, if that is written with it.
    pub(crate) after: Option<&'a Summary>,
}

/// The columns of a row that decisions need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) position: Position,
    /// The task of the parent that waits for it; a restart in place leaves it as it was.
    pub(crate) parent: Option<Parent>,
    /// The parent; `None` if it has none, or a rewind of its parent dropped it.
    pub(crate) parent_key: Option<InstanceKey>,
    /// The id of its parent, also of one that dropped it.
    pub(crate) parent_id: Option<String>,
    pub(crate) module: Option<Digest>,
    pub(crate) is_quarantined: bool,
    /// When it was created, or restarted in place.
    pub(crate) created_at: Timestamp,
}

/// A child of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) key: InstanceKey,
    pub(crate) id: String,
    pub(crate) status: Status,
}

/// What a turn found in the row of its instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Whether it was ever asked something.
    pub(crate) has_requests: bool,
    pub(crate) module: Option<Digest>,
}

/// What the next execution keeps of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Continued {
    pub(crate) tags: Tags,
    /// Whether it was ever asked something.
    pub(crate) has_requests: bool,
}

/// What was known of an instance that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) status: Status,
    pub(crate) module: Option<Digest>,
    pub(crate) execution: u32,
    pub(crate) generation: u32,
    pub(crate) turns: u32,
    pub(crate) history_bytes: u64,
    pub(crate) has_values: bool,
    pub(crate) has_requests: bool,
}

/// What a rewind writes into the row of its instance.
pub(crate) struct PutBack<'a> {
    pub(crate) generation: u32,
    pub(crate) next_event: u64,
    pub(crate) turns: u32,
    pub(crate) history_bytes: u64,
    /// The module on which it continues, if it changes.
    pub(crate) module: Option<Digest>,
    pub(crate) custom_status: Option<&'a Json>,
    pub(crate) waiting: Option<&'a Waiting>,
}

/// Instances. A key that leads to no row changes nothing, unless a method says otherwise.
pub(crate) trait InstanceRows {
    /// The instance with an id.
    fn find(&mut self, id: &str) -> Found<Option<(InstanceKey, Status)>>;

    /// The status of an instance; `None` if it does not exist.
    fn status(&mut self, key: InstanceKey) -> Found<Option<Status>>;

    /// What decisions need of an instance.
    fn head(&mut self, key: InstanceKey) -> Found<Option<Head>>;

    /// The parent that waits for the end of an instance, and the task of the parent.
    fn parent(&mut self, key: InstanceKey) -> Found<Option<(InstanceKey, Parent)>>;

    /// The whole row.
    fn instance(&mut self, key: InstanceKey) -> Found<Option<InstanceRow>>;

    /// Adds an instance, whose id is free, and lists it under its tags.
    fn insert_instance(&mut self, new: &NewInstance, row: &NewRow<'_>) -> Found<()>;

    /// Sets what becomes of it when its parent drops it, and how long it may run.
    fn set_options(
        &mut self,
        key: InstanceKey,
        when_dropped: ChildPolicy,
        execution_timeout: Option<Millis>,
    ) -> Found<()>;

    /// How long an instance may run; `None` if that has no limit.
    fn execution_timeout(&mut self, key: InstanceKey) -> Found<Option<Millis>>;

    /// Writes what a turn changes in the row. `None`, with nothing written, unless the instance is where the turn began. What was recorded is
    /// only told where the status changes or ends.
    fn record_turn(
        &mut self,
        key: InstanceKey,
        expected: Position,
        before: Status,
        turn: &Turn,
        after: &Summary,
    ) -> Found<Option<Recorded>>;

    /// Counts a turn that was added after the last one.
    fn add_epilogue(&mut self, key: InstanceKey, turn: &Turn, history_bytes: u64) -> Found<()>;

    /// Begins the next execution, with an empty history.
    fn next_execution(&mut self, key: InstanceKey, start: &Start) -> Found<Continued>;

    /// Begins the next execution of an ended instance as if it were created now, without a parent. `false`, with nothing written, unless it
    /// is where it is expected.
    fn restart(
        &mut self,
        key: InstanceKey,
        expected: Position,
        start: &Start,
        now: Timestamp,
    ) -> Found<bool>;

    /// Makes a failed instance run again from an earlier position.
    fn put_back(&mut self, key: InstanceKey, to: &PutBack<'_>, now: Timestamp) -> Found<()>;

    /// Quarantines a live instance. Returns its id; `None` if it is not live.
    fn quarantine(&mut self, key: InstanceKey, why: &Quarantine) -> Found<Option<String>>;

    /// Ends the quarantine of a live instance: sets its status, pins it to this module, and resets its count of crashes. Returns its id;
    /// `None` if it is not live.
    fn release(
        &mut self,
        key: InstanceKey,
        status: Status,
        module: Option<Digest>,
    ) -> Found<Option<String>>;

    /// Counts a crash of the host during a turn.
    fn count_crash(&mut self, key: InstanceKey) -> Found<()>;

    /// Makes an instance the child of this parent.
    fn adopt(&mut self, key: InstanceKey, parent: InstanceKey, place: &Parent) -> Found<()>;

    /// Takes its parent from an instance, which keeps the id of the former one.
    fn orphan(&mut self, key: InstanceKey) -> Found<()>;

    /// Sets the time of the last change, if that is earlier.
    fn touch(&mut self, key: InstanceKey, now: Timestamp) -> Found<()>;

    /// Deletes the row of an instance, and takes it from the lists by tag.
    fn delete_instance(&mut self, key: InstanceKey) -> Found<Option<Deleted>>;

    /// The children of an instance, in the order of their keys.
    fn children(&mut self, key: InstanceKey, live_only: bool) -> Found<Vec<Child>>;

    /// The live children that do not simply run on when their parent drops them, by id, in the order of their keys.
    fn bound_children(&mut self, key: InstanceKey) -> Found<Vec<(String, ChildPolicy)>>;

    /// The tags of an instance, in the order of their keys; `None` if it does not exist.
    fn tags(&mut self, key: InstanceKey) -> Found<Option<Tags>>;

    /// Writes other tags into the row and the lists.
    fn set_tags(&mut self, key: InstanceKey, before: &Tags, after: &Tags) -> Found<()>;
}

/// Named values of instances.
pub(crate) trait ValueRows {
    /// All values of an instance, by name.
    fn values(&mut self, key: InstanceKey) -> Found<Vec<ValueRow>>;

    /// Sets and clears values, and counts them in the row of the instance. One that is set to what it is already keeps its version.
    fn set_values(
        &mut self,
        key: InstanceKey,
        changes: &[(&str, Option<&Json>)],
        at: Timestamp,
    ) -> Found<()>;

    /// Deletes all values of an instance.
    fn delete_values(&mut self, key: InstanceKey) -> Found<()>;
}
