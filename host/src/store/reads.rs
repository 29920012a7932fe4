//! The reads of a hub, by the engine and by clients, whether or not this process runs its instances.
//!
//! A read sees all that was committed before it began. It may block: it is called on threads that may.

use std::sync::Arc;

/// The types of the reads.
pub(in crate::store) mod types {
    pub(in crate::store) use perennial_core::{
        Digest, Envelope, Millis, Status, TaskId, Timestamp, Turn,
    };

    pub(in crate::store) use crate::store::StoreError;
    pub(in crate::store) use crate::store::outbox::Sent;
    pub(in crate::store) use crate::store::owned::Sharing;
    pub(in crate::store) use crate::store::partition::Partitions;
    pub(in crate::store) use crate::store::queries::filter::{InstanceFilter, ListQuery};
    pub(in crate::store) use crate::store::queries::found::{
        BriefPage, BucketCounts, FoundRequest, FoundValue, ListPage, LiveChild, Named,
        OpenActivities, RequestRow, RewindRow, Tally, TurnsQuery, WaitCounts, Window,
    };
    pub(in crate::store) use crate::store::reads::Reader;
    pub(in crate::store) use crate::store::types::{
        Ages, CollectedModule, InboxPage, InstanceKey, InstanceRow, KeyRow, ModuleRow, NameRows,
        OldVersions, Position, StoredRow, TaskRow, ValueRow, WasRunning, WorkerNames,
    };
}

use types::*;

/// Declares the reads once: the trait that a store implements, the handle that everybody has, and a macro that implements the trait by methods
/// of the same names.
macro_rules! reads {
    (($dollar:tt) $( $(#[$meta:meta])* fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $found:ty; )*) => {
        /// What a store must be able to read. The methods of [`Reader`] say what each means.
        pub(crate) trait Reads: Send + Sync {
            $( $(#[$meta])* fn $name(&self $(, $arg: $type)*) -> Result<$found, StoreError>; )*

            /// See [`Reader::within`]; `None` for a store whose hubs are not divided.
            fn within(&self, of: Partitions) -> Option<Reader>;

            /// See [`Reader::recent`]; `None` if there is none that is fit to be read.
            fn replica(&self) -> Option<Reader> {
                None
            }

            /// A read at the replica has failed.
            fn distrust_replica(&self, _why: &StoreError) {}

            /// The store's own type, for tests that look behind the reads.
            #[cfg(test)]
            fn as_any(&self) -> &dyn std::any::Any;
        }

        impl Reader {
            $( $(#[$meta])* pub(crate) fn $name(&self $(, $arg: $type)*) -> Result<$found, StoreError> {
                self.0.$name($($arg),*)
            } )*
        }

        /// Implements [`Reads`] for a type that has all methods of the trait itself, or by the methods of what one of its methods returns.
        macro_rules! implement_reads {
            ($dollar store:ty $dollar (; $dollar ($dollar more:tt)* )?) => {
                const _: () = {
                    use crate::store::reads::types::*;

                    impl crate::store::reads::Reads for $dollar store {
                    $( $(#[$meta])* fn $name(&self $(, $arg: $type)*) -> Result<$found, StoreError> {
                        <$dollar store>::$name(self $(, $arg)*)
                    } )*

                    fn within(&self, of: Partitions) -> Option<Reader> {
                        <$dollar store>::within(self, of)
                    }

                    $dollar ($dollar ($dollar more)*)?

                    #[cfg(test)]
                    fn as_any(&self) -> &dyn std::any::Any {
                        self
                    }
                    }
                };
            };
            ($dollar store:ty, by $dollar rows:ident: $dollar of:ty) => {
                const _: () = {
                    use crate::store::reads::types::*;

                    impl crate::store::reads::Reads for $dollar store {
                    $( $(#[$meta])* fn $name(&self $(, $arg: $type)*) -> Result<$found, StoreError> {
                        <$dollar of>::$name(&self.$dollar rows() $(, $arg)*)
                    } )*

                    fn within(&self, of: Partitions) -> Option<Reader> {
                        <$dollar store>::within(self, of)
                    }

                    #[cfg(test)]
                    fn as_any(&self) -> &dyn std::any::Any {
                        self
                    }
                    }
                };
            };
        }
    };
}

/// Reads a hub, from any thread.
#[derive(Clone)]
pub(crate) struct Reader(Arc<dyn Reads>);

impl Reader {
    /// The reads of a store.
    pub(in crate::store) fn new(reads: impl Reads + 'static) -> Self {
        Self(Arc::new(reads))
    }

    /// A reader for who runs these partitions: what an owner asks about its own work (messages, tasks, suspensions, ends, garbage, the outbox)
    /// it answers of them alone. All else it reads of the whole hub.
    pub(crate) fn within(&self, of: Partitions) -> Self {
        self.0.within(of).unwrap_or_else(|| self.clone())
    }

    /// Reads what may be some seconds old, such as a page of a list: at a replica of the database, if there is one that is fit for it, and
    /// otherwise, or if that fails, here.
    pub(crate) fn recent<T>(
        &self,
        read: impl Fn(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(replica) = self.0.replica() else {
            return read(self);
        };
        read(&replica).or_else(|error| {
            self.0.distrust_replica(&error);
            read(self)
        })
    }

    /// The turns of an execution from a number on, in order, at most `limit`.
    pub(crate) fn turns(
        &self,
        key: InstanceKey,
        execution: u32,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError> {
        self.turns_within(key, execution, from, limit, usize::MAX)
    }

    /// As [`turns`](Self::turns), but stops once they have this many bytes; returns at least one if there is one.
    pub(crate) fn turns_within(
        &self,
        key: InstanceKey,
        execution: u32,
        from: u32,
        limit: u32,
        bytes_max: usize,
    ) -> Result<Vec<Turn>, StoreError> {
        self.turns_of(&TurnsQuery {
            key,
            execution,
            before_rewind: None,
            from,
            limit,
            bytes_max,
        })
    }

    /// The store's own type, if it is this one.
    #[cfg(test)]
    pub(in crate::store) fn of<T: 'static>(&self) -> Option<&T> {
        self.0.as_any().downcast_ref()
    }
}

reads! {
    ($)

    /// The instance with an id.
    fn instance(&self, id: &str) -> Option<InstanceRow>;

    /// The instance with a key.
    fn instance_by_key(&self, key: InstanceKey) -> Option<InstanceRow>;

    /// Instances that changed after a change, oldest first. Scans all instances: for followers that were disconnected.
    #[cfg(feature = "http")]
    fn updated_after(&self, after: (Timestamp, i64), limit: u32, bytes_max: usize) -> (Vec<InstanceRow>, bool);

    /// Messages of an inbox from a number on: at most `limit`, and no more than [`PAGE_BYTES`] together.
    fn inbox(&self, key: InstanceKey, from: u64, limit: u32) -> InboxPage;

    /// The commands among the messages of an inbox from a number on.
    fn inbox_commands(&self, key: InstanceKey, from: u64) -> Vec<Envelope>;

    /// The rewinds of the current execution, in order.
    fn rewinds(&self, row: &InstanceRow) -> Vec<RewindRow>;

    /// The first event of the current execution that was cut off since the rewind of this generation.
    #[cfg(feature = "http")]
    fn first_cut(&self, row: &InstanceRow, since: u32) -> Option<u64>;

    /// Live instances with messages in their inbox; a start that is scheduled after `now` does not count.
    fn with_messages(&self, now: Timestamp) -> Vec<InstanceKey>;

    /// The turns and attempts that the owner of the hub runs now, as far as this machine knows: those of one instance, or all.
    fn running(&self, of: Option<InstanceKey>) -> Vec<WasRunning>;

    /// The first terminate in an inbox, which may also contain unreadable messages.
    fn terminate_in(&self, key: InstanceKey) -> Option<Envelope>;

    /// The first cancellation in an inbox, which its instance has not been told of.
    fn cancel_in(&self, key: InstanceKey) -> Option<Envelope>;

    /// Instances that are suspended.
    fn suspended(&self) -> Vec<InstanceKey>;

    /// How long an instance may run, if that is limited.
    fn execution_timeout(&self, key: InstanceKey) -> Option<Millis>;

    /// Open tasks of one instance.
    fn tasks_of(&self, key: InstanceKey) -> Vec<TaskRow>;

    /// One open task.
    fn task(&self, key: InstanceKey, task: TaskId) -> Option<TaskRow>;

    /// Activities that may run at once, after a place in the order of instance and task.
    fn ready_activities(&self, after: (InstanceKey, i64), limit: u32) -> Vec<TaskRow>;

    /// Tasks that come due after a time (and, at that time, after a place in the order of instance and task), in due order.
    fn due_tasks(&self, after: (Timestamp, InstanceKey, i64), limit: u32) -> Vec<TaskRow>;

    /// Ids and statuses of the live children of an instance, with what becomes of them when it ends, and their number.
    fn live_children(&self, key: InstanceKey, limit: u32) -> (Vec<LiveChild>, u64);

    /// The ended children of an instance after a key, in the order of their keys.
    fn ended_children(&self, key: InstanceKey, after: InstanceKey, limit: u32) -> Vec<InstanceKey>;

    /// Children whose parent had this id and no longer exists: it was purged, or `key` is another instance with its id. Returns the live or
    /// the ended ones, in the order of their keys.
    fn left_behind(&self, id: &str, key: Option<InstanceKey>, live: bool, limit: u32) -> Vec<(InstanceKey, String)>;

    /// Ids of the first children of an instance, in start order.
    fn child_ids(&self, key: InstanceKey, limit: u32) -> Vec<String>;

    /// The first open tasks of an instance, and the number of all.
    fn first_tasks(&self, key: InstanceKey, limit: u32) -> (Vec<TaskRow>, u64);

    /// The time of the last commit, by the clock of its host.
    fn last_commit(&self) -> Timestamp;

    /// Tasks whose due time was set by a clock ahead of `now`: for a host whose clock was set back. Scans all tasks due after `now`.
    fn tasks_set_after(&self, now: Timestamp) -> Vec<TaskRow>;

    /// The highest key in use.
    fn last_key(&self) -> InstanceKey;

    /// How many hosts crashed while they ran a turn of the instance.
    fn deliveries(&self, key: InstanceKey) -> u32;

    /// The first messages for the partitions of this owner, in the order in which they were sent.
    fn outbox(&self, limit: u32) -> Vec<Sent>;

    /// Whether rows of deleted instances are still to be removed.
    fn has_garbage(&self) -> bool;

    /// Who shares the hub now, as an outsider sees it: nobody is taken for dead by it. `None` for a store whose hubs have one owner.
    fn sharing(&self) -> Option<Sharing>;

    /// The number of the oldest message between partitions that has not been taken in, whomever it is for. A hub with one partition has none.
    fn oldest_sent(&self) -> Option<i64>;

    /// When the hub was created.
    fn created_at(&self) -> Timestamp;

    fn names(&self) -> NameRows;

    fn digests(&self) -> Vec<Digest>;

    fn component(&self, digest: Digest) -> Option<Vec<u8>>;

    fn grants(&self, digest: Digest) -> Option<String>;

    fn find_module(&self, text: &str) -> Vec<Digest>;

    fn defines(&self, digest: Digest, orchestration: &str) -> bool;

    fn collectable(&self, old: OldVersions) -> Vec<CollectedModule>;

    fn modules(&self) -> Vec<ModuleRow>;

    fn keys(&self) -> Vec<KeyRow>;

    fn unanswered(&self, limit: u32) -> Vec<(String, Vec<u8>)>;

    fn answer(&self, token: &str) -> Option<Vec<u8>>;

    /// A request to the instance with an id; `None` if there is no such instance.
    fn request(&self, instance: &str, id: &str) -> Option<FoundRequest>;

    /// The requests of an execution that have no answer, at most so many: the task, the name, and the id of the instance that is asked.
    fn asked_by(&self, key: InstanceKey, at: Position, at_most: u32) -> Vec<(TaskId, String, String)>;

    /// Requests to an instance that were accepted last, the newest first, at most so many, and no more bytes of answers than a page of a list has.
    fn requests(&self, key: InstanceKey, at_most: u32) -> Vec<RequestRow>;

    /// A value of the instance with an id; `None` if there is no such instance.
    fn value(&self, id: &str, name: &str) -> Option<FoundValue>;

    /// All values of an instance, by name.
    fn values(&self, key: InstanceKey) -> Vec<ValueRow>;

    /// The number of the turn of the current execution that contains an event, or the one after the last turn.
    fn turn_with_event(&self, row: &InstanceRow, event: u64) -> u32;

    /// Turns of an execution, in order.
    fn turns_of(&self, asked: &TurnsQuery) -> Vec<Turn>;

    /// A page of instances.
    fn list(&self, query: &ListQuery) -> ListPage;

    /// As [`list`](Reads::list), but only the columns that bulk operations need.
    fn brief(&self, query: &ListQuery) -> BriefPage;

    /// The number of instances in each status; statuses without any are left out.
    ///
    /// A condition that no index contains takes several reads, so that no connection is held for long. They are no snapshot.
    fn counts(&self, filter: &InstanceFilter) -> Vec<(Status, u64)>;

    /// The key with which the hub signs continuation tokens.
    fn secret(&self) -> Vec<u8>;

    /// Counts what live instances wait for. Each number is that of a list with this condition, unless it is partial.
    fn wait_counts(&self) -> WaitCounts;

    /// How many instances were created and ended in each bucket of a window, oldest first. The newest are counted first.
    fn bucket_counts(&self, window: Window) -> Vec<BucketCounts>;

    /// The kinds of the failures of instances that failed in a window, the most frequent first, at most so many. The newest are counted first.
    fn failure_kinds(&self, window: Window, at_most: usize) -> Named<u64>;

    /// The open activities. `now` decides which times of next attempts have not come; without it, all have not.
    fn open_activities(&self, now: Option<Timestamp>, at_most: usize) -> OpenActivities;

    /// The names of orchestrations with the most live instances, the most first, and how many of them are in which status.
    fn live_names(&self, at_most: usize) -> Named<Vec<(Status, u64)>>;

    /// The bytes of a module, which match its digest.
    fn component_undamaged(&self, digest: Digest) -> Option<Vec<u8>>;

    fn stored_modules(&self, only: Option<Digest>) -> Vec<StoredRow>;

    /// The retention.
    fn retention(&self) -> Ages;

    /// The names that remote workers have run.
    fn worker_names(&self) -> WorkerNames;

    /// Instances in a status that ended at this time or before, in the order of their ends.
    fn ended_by(&self, status: Status, by: Timestamp, limit: u32) -> Vec<InstanceKey>;

    /// When the first of the remaining instances in a status ended.
    fn first_end(&self, status: Status) -> Option<Timestamp>;

    /// Computes the statistics. Walks all instances.
    fn tally(&self) -> Tally;
}

#[expect(
    clippy::single_component_path_imports,
    reason = "a macro is reached by a path only so"
)]
pub(in crate::store) use implement_reads;
