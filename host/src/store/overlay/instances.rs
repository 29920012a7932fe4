//! Instances with their values, inboxes, tasks, and requests.

use perennial_core::{
    ChildPolicy, Json, Message, Millis, Parent, Quarantine, Start, Status, Tags, TaskId, TaskRef,
    Timestamp, Turn, Waiting,
};

use crate::store::overlay::Overlay;
use crate::store::overlay::source::{Source, Wanted};
use crate::store::partition::Partitions;
use crate::store::rows::Found;
use crate::store::rows::inbox::{InboxRows, Room};
use crate::store::rows::instances::{
    Child, Continued, Deleted, Head, InstanceRows, NewRow, PutBack, Recorded, ValueRows,
};
use crate::store::rows::requests::RequestRows;
use crate::store::rows::tasks::{Lost, NewTask, TaskRows, Tasks};
use crate::store::types::{
    Asker, Beat, InstanceKey, InstanceRow, NewInstance, Position, RequestAnswer, Retry, Summary,
    TaskRow, ValueRow,
};

/// Calls that need the rows of one instance.
macro_rules! of_instance {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, key: InstanceKey, $($arg: $type),*) -> Found<$result> {
            self.need(key)?;
            // Memory has reads of the same names, which see it shared.
            let memory = &mut self.memory;
            memory.$name(key, $($arg),*)
        })*
    };
}

impl<S: Source> InstanceRows for Overlay<S> {
    of_instance! {
        fn status() -> Option<Status>;
        fn head() -> Option<Head>;
        fn parent() -> Option<(InstanceKey, Parent)>;
        fn instance() -> Option<InstanceRow>;
        fn set_options(when_dropped: ChildPolicy, execution_timeout: Option<Millis>) -> ();
        fn execution_timeout() -> Option<Millis>;
        fn record_turn(expected: Position, before: Status, turn: &Turn, after: &Summary) -> Option<Recorded>;
        fn add_epilogue(turn: &Turn, history_bytes: u64) -> ();
        fn next_execution(start: &Start) -> Continued;
        fn restart(expected: Position, start: &Start, now: Timestamp) -> bool;
        fn put_back(to: &PutBack<'_>, now: Timestamp) -> ();
        fn quarantine(why: &Quarantine) -> Option<String>;
        fn release(status: Status, module: Option<perennial_core::Digest>) -> Option<String>;
        fn count_crash() -> ();
        fn adopt(parent: InstanceKey, place: &Parent) -> ();
        fn orphan() -> ();
        fn touch(now: Timestamp) -> ();
        fn delete_instance() -> Option<Deleted>;
        fn tags() -> Option<Tags>;
        fn set_tags(before: &Tags, after: &Tags) -> ();
    }

    fn find(&mut self, id: &str) -> Found<Option<(InstanceKey, Status)>> {
        self.need_id(id)?;
        self.memory.find(id)
    }

    fn insert_instance(&mut self, new: &NewInstance, row: &NewRow<'_>) -> Found<()> {
        self.need_id(&new.start.instance_id)?;
        // The key was never used before, so that there are no rows to load.
        self.batch.keys.insert(new.key);
        self.memory.insert_instance(new, row)
    }

    fn children(&mut self, key: InstanceKey, live_only: bool) -> Found<Vec<Child>> {
        if live_only {
            self.need_live_children(key)?;
            return self.memory.children(key, true);
        }
        self.need_children(key)?;
        let mut children = self.memory.children(key, false)?;
        let ended = self.batch.ended_children.get(&key);
        // Memory knows better what became of those that it has.
        for child in ended.cloned().unwrap_or_default() {
            if !self.has(child.key) {
                children.push(child);
            }
        }
        children.sort_by_key(|child| child.key);
        Ok(children)
    }

    fn bound_children(&mut self, key: InstanceKey) -> Found<Vec<(String, ChildPolicy)>> {
        self.need_live_children(key)?;
        self.memory.bound_children(key)
    }
}

impl<S: Source> ValueRows for Overlay<S> {
    of_instance! {
        fn values() -> Vec<ValueRow>;
        fn set_values(changes: &[(&str, Option<&Json>)], at: Timestamp) -> ();
        fn delete_values() -> ();
    }
}

impl<S: Source> InboxRows for Overlay<S> {
    of_instance! {
        fn push(message: &Message, at: Option<Timestamp>) -> u64;
        fn push_first(messages: &[Message]) -> ();
        fn insert_start(start: &Message) -> ();
        fn discard(seqs: &[u64]) -> ();
        fn clear_inbox() -> ();
        fn has_mail() -> bool;
        fn will_change() -> bool;
        fn refusals() -> Vec<(u64, Message)>;
        fn room() -> Room;
        fn waiting() -> Option<Waiting>;
    }
}

/// No rule reads when the due time of a task was set, for which its turn would have to be loaded: `set_at` may be missing.
impl<S: Source> TaskRows for Overlay<S> {
    of_instance! {
        fn insert_task(at: Position, turn: u32, new: NewTask<'_>) -> ();
        fn task(task: TaskId) -> Option<TaskRow>;
        fn waiting_retries() -> Vec<TaskRow>;
        fn delete_task(task: TaskId) -> ();
        fn settle(task: TaskRef) -> ();
        fn delete_tasks(which: Tasks) -> ();
        fn count_lost(task: TaskId, lost: &Lost<'_>) -> ();
        fn uncount_unknown(task: TaskId, now: Timestamp) -> ();
    }

    fn retry(&mut self, retry: &Retry) -> Found<bool> {
        self.need(retry.key)?;
        self.memory.retry(retry)
    }

    fn begin(&mut self, place: (InstanceKey, TaskRef), at: Option<Timestamp>) -> Found<bool> {
        self.need(place.0)?;
        TaskRows::begin(&mut self.memory, place, at)
    }

    fn beat(&mut self, place: (InstanceKey, TaskRef), beat: &Beat) -> Found<()> {
        self.need(place.0)?;
        self.memory.beat(place, beat)
    }

    fn count_unknown(&mut self, of: Partitions, now: Timestamp) -> Found<()> {
        self.memory.count_unknown(of, now)?;
        // The source counts for the others, and for those that are loaded from now on.
        self.batch.instructions.count_unknown.push((of, now));
        Ok(())
    }
}

impl<S: Source> RequestRows for Overlay<S> {
    of_instance! {
        fn request_name(id: &str) -> Option<String>;
        fn insert_request(id: &str, name: &str, asker: Option<Asker>) -> bool;
        fn answer_request(id: &str, answer: &RequestAnswer) -> Option<Asker>;
        fn open_requests() -> Vec<String>;
        fn delete_requests() -> ();
        fn delete_answered(before: Timestamp, at_most: u32) -> ();
    }

    fn readdress(&mut self, asker: Asker, kept: &[TaskId]) -> Found<()> {
        self.fetch(Wanted {
            asked_by: vec![asker.key],
            ..Wanted::default()
        })?;
        self.memory.readdress(asker, kept)
    }
}
