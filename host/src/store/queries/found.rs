//! What the queries of a hub find.

use perennial_core::{ChildPolicy, Status, TaskId, Timestamp};

use crate::store::queries::filter::ListPlace;
use crate::store::queries::waits::WaitKind;
use crate::store::space::Pages;
use crate::store::types::{InstanceKey, InstanceRow, RequestAnswer, ValueRow};

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListPage {
    pub(crate) rows: Vec<InstanceRow>,
    /// Whether more instances may follow.
    pub(crate) more: bool,
    /// The place up to which instances were looked at, if that is further than the last row.
    pub(crate) looked_to: Option<ListPlace>,
}

/// A page of what bulk operations need.
#[derive(Clone, Debug, Default)]
pub(crate) struct BriefPage {
    pub(crate) found: Vec<Brief>,
    /// The place after which the next page begins; `None` on the last one. A page before the last one may have no instances.
    pub(crate) next: Option<ListPlace>,
}

/// The columns that bulk operations need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Brief {
    pub(crate) place: ListPlace,
    pub(crate) key: InstanceKey,
    pub(crate) id: String,
}

/// Which turns are read, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnsQuery {
    pub(crate) key: InstanceKey,
    pub(crate) execution: u32,
    /// The history before the rewind of this generation; `None` is the history as it is.
    pub(crate) before_rewind: Option<u32>,
    /// The first turn.
    pub(crate) from: u32,
    pub(crate) limit: u32,
    /// The bytes after which the read ends; it has at least one turn if there is one.
    pub(crate) bytes_max: usize,
}

/// A span of time that is divided into buckets of one length; the last one may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Timestamp,
    /// Exclusive.
    pub(crate) to: Timestamp,
    /// Milliseconds, at least 1.
    pub(crate) bucket: u64,
}

impl Window {
    /// The beginnings of the buckets, oldest first, with their exclusive ends.
    pub(crate) fn buckets(self) -> Vec<(Timestamp, Timestamp)> {
        let mut buckets = Vec::new();
        let mut from = self.from;
        while from < self.to {
            let to = Timestamp(from.0.saturating_add(self.bucket)).min(self.to);
            buckets.push((from, to));
            from = to;
        }
        buckets
    }
}

/// The instances that were created and that ended in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BucketCounts {
    pub(crate) started: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) terminated: u64,
    /// Whether there are more than were counted.
    pub(crate) is_partial: bool,
}

/// How often something occurs, and whether there may be more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named<T> {
    pub(crate) counts: Vec<(String, T)>,
    pub(crate) is_partial: bool,
}

/// The open activities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenActivities {
    pub(crate) all: u64,
    /// Those that have a time for their next attempt that has not come.
    pub(crate) due_later: u64,
    /// Those that failed and have had the most attempts, the most first.
    pub(crate) most_retried: Vec<(InstanceKey, TaskId)>,
    /// Whether there may be more.
    pub(crate) is_partial: bool,
}

/// How many live instances wait for each kind of thing, perhaps among other things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitCounts {
    /// In the order of [`WaitKind::ALL`]; kinds without instances are left out.
    pub(crate) counts: Vec<(WaitKind, u64)>,
    /// Whether there are more live instances than were looked at.
    pub(crate) is_partial: bool,
}

/// A rewind.
#[derive(Clone, Debug)]
pub(crate) struct RewindRow {
    /// How often the execution had been rewound before.
    pub(crate) generation: u32,
    pub(crate) at: Timestamp,
    pub(crate) reason: Option<String>,
    /// The first turn that was cut off.
    pub(crate) turn: u32,
}

/// A live child: its id, its status, and what becomes of it when its parent ends.
pub(crate) type LiveChild = (String, Status, ChildPolicy);

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestRow {
    pub(crate) id: String,
    pub(crate) name: String,
    /// When it was accepted.
    pub(crate) at: Timestamp,
    /// The answer, with its time.
    pub(crate) answer: Option<(Timestamp, RequestAnswer)>,
}

/// A request, or its absence, with the status of its instance.
pub(crate) type FoundRequest = (Status, Option<RequestRow>);

/// A value of an instance, or its absence, with the status of the instance.
pub(crate) type FoundValue = (Status, Option<ValueRow>);

/// Statistics of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) created_at: Timestamp,
    pub(crate) instances: Vec<(Status, u64)>,
    /// Turns and events in the histories of the instances, and their approximate bytes.
    pub(crate) turns: u64,
    pub(crate) events: u64,
    pub(crate) history_bytes: u64,
    /// Named modules, and stored components with their bytes.
    pub(crate) modules: u64,
    pub(crate) stored_modules: u64,
    pub(crate) module_bytes: u64,
    /// Whether rows of deleted instances are still to be removed.
    pub(crate) garbage: bool,
    /// The pages of the file.
    pub(crate) pages: Pages,
}
