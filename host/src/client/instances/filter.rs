//! Filters for instances.

use perennial_core::{Status, Timestamp};

use crate::store::{InstanceFilter, WaitFilter};

/// Selects the instances that meet all given conditions. An empty filter selects all.
///
/// ```
/// use perennial::{Filter, Status};
///
/// let stuck_orders = Filter::new().name("Order").status(Status::Suspended).tag("customer", "acme");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a filter is given to a list or to a bulk operation"]
pub struct Filter(pub(crate) InstanceFilter);

impl Filter {
    /// Selects all instances.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects a status. If called again, any of the given statuses matches.
    pub fn status(mut self, status: Status) -> Self {
        self.0.statuses.push(status);
        self
    }

    /// Selects ids that begin with this prefix; case matters.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.0.id_prefix = Some(prefix.into());
        self
    }

    /// Selects an orchestration.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Selects a version of the orchestration.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.0.version = Some(version.into());
        self
    }

    /// Selects instances with this label. If called again, all given labels must match.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let tag = (key.into(), value.into());
        // Each costs a look-up for each instance.
        if !self.0.tags.contains(&tag) {
            self.0.tags.push(tag);
        }
        self
    }

    /// Selects instances created at this time or later.
    pub fn created_from(mut self, from: Timestamp) -> Self {
        self.0.created_from = Some(from);
        self
    }

    /// Selects instances created before this time.
    pub fn created_to(mut self, to: Timestamp) -> Self {
        self.0.created_to = Some(to);
        self
    }

    /// Selects instances that ended at this time or later.
    pub fn ended_from(mut self, from: Timestamp) -> Self {
        self.0.ended_from = Some(from);
        self
    }

    /// Selects instances that ended before this time.
    pub fn ended_to(mut self, to: Timestamp) -> Self {
        self.0.ended_to = Some(to);
        self
    }

    /// Selects instances that were last updated at this time or later.
    pub fn updated_from(mut self, from: Timestamp) -> Self {
        self.0.updated_from = Some(from);
        self
    }

    /// Selects instances that were last updated before this time.
    pub fn updated_to(mut self, to: Timestamp) -> Self {
        self.0.updated_to = Some(to);
        self
    }

    /// Selects failed instances whose failure has this kind; case matters.
    pub fn failure_kind(mut self, kind: impl Into<String>) -> Self {
        self.0.failure_kind = Some(kind.into());
        self
    }

    /// Selects live instances that wait for this, perhaps among other things: a [`WaitKind`](crate::WaitKind), or an event or a request with
    /// its name.
    ///
    /// ```
    /// use perennial::{Filter, WaitFilter, WaitKind};
    ///
    /// let flapping = Filter::new().waits_for(WaitKind::Retry);
    /// let undecided = Filter::new().name("Order").waits_for(WaitFilter::event("Approval"));
    /// ```
    pub fn waits_for(mut self, wait: impl Into<WaitFilter>) -> Self {
        self.0.waits_for = Some(wait.into());
        self
    }

    /// Whether it selects all instances.
    pub fn is_empty(&self) -> bool {
        self.0 == InstanceFilter::default()
    }

    /// Restricts it to some statuses; `None` if no instance can match then.
    pub(crate) fn among(&self, statuses: &[Status]) -> Option<Self> {
        let asked = &self.0.statuses;
        let both = statuses
            .iter()
            .copied()
            .filter(|status| asked.is_empty() || asked.contains(status));
        let statuses: Vec<Status> = both.collect();
        (!statuses.is_empty()).then(|| {
            Self(InstanceFilter {
                statuses,
                ..self.0.clone()
            })
        })
    }
}
