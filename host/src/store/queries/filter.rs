//! What a list asks for: its filter, its order, and its page.

use perennial_core::{Status, Timestamp};

use crate::store::queries::waits::WaitFilter;

/// A filter of instances; all its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstanceFilter {
    /// Any of these; empty means all.
    pub(crate) statuses: Vec<Status>,
    pub(crate) id_prefix: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    /// The instance has all of these.
    pub(crate) tags: Vec<(String, String)>,
    /// Created at this time or later.
    pub(crate) created_from: Option<Timestamp>,
    /// Created before this time.
    pub(crate) created_to: Option<Timestamp>,
    /// Ended at this time or later.
    pub(crate) ended_from: Option<Timestamp>,
    /// Ended before this time.
    pub(crate) ended_to: Option<Timestamp>,
    /// Last updated at this time or later.
    pub(crate) updated_from: Option<Timestamp>,
    /// Last updated before this time.
    pub(crate) updated_to: Option<Timestamp>,
    /// Failed with a failure of this kind.
    pub(crate) failure_kind: Option<String>,
    /// Live, and waits for this.
    pub(crate) waits_for: Option<WaitFilter>,
}

/// The order of a list: by the time at which the start was accepted, or by the time of the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first.
    OldestFirst,
    /// Only ended instances, those that ended first come first.
    EndedFirst,
}

/// A place in the order of a list.
pub(crate) type ListPlace = (Timestamp, i64);

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListQuery {
    pub(crate) filter: InstanceFilter,
    pub(crate) order: Order,
    /// Only instances after this place.
    pub(crate) after: Option<ListPlace>,
    pub(crate) limit: u32,
    /// Whether the rows include the output.
    pub(crate) output: bool,
}

impl InstanceFilter {
    /// The prefix, unless it is that of all ids.
    pub(in crate::store) fn prefix(&self) -> Option<&str> {
        self.id_prefix
            .as_deref()
            .filter(|prefix| !prefix.is_empty())
    }

    /// Whether a condition is about the time of the end or of the last update.
    pub(in crate::store) fn is_timed(&self) -> bool {
        self.is_of_ended() || self.updated_from.is_some() || self.updated_to.is_some()
    }

    /// Whether a condition holds only for ended instances.
    pub(in crate::store) fn is_of_ended(&self) -> bool {
        self.ended_from.is_some() || self.ended_to.is_some()
    }

    /// Whether a condition is about parts of a row that only looking at it tells.
    pub(in crate::store) fn needs_contents(&self) -> bool {
        self.failure_kind.is_some() || self.waits_for.is_some()
    }

    /// Whether each candidate of a page must be looked at.
    pub(in crate::store) fn needs_looks(&self) -> bool {
        self.needs_contents() || self.updated_from.is_some() || self.updated_to.is_some()
    }

    /// The same filter with only those statuses in which an instance can match; `None` if there are none.
    pub(in crate::store) fn narrowed(&self) -> Option<Self> {
        let can_match = |status: &Status| {
            (self.statuses.is_empty() || self.statuses.contains(status))
                && (self.failure_kind.is_none() || *status == Status::Failed)
                && (self.waits_for.is_none() || !status.is_end())
        };
        if !self.needs_contents() {
            return Some(self.clone());
        }
        let statuses: Vec<Status> = Status::ALL.into_iter().filter(can_match).collect();
        (!statuses.is_empty()).then(|| Self {
            statuses,
            ..self.clone()
        })
    }
}
