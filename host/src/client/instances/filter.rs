//! Filters for instances.

use perennial_core::{Status, Timestamp};

use crate::store::InstanceFilter;

/// Which instances are meant: those that fit everything that it says. An empty one means all.
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
    /// All instances.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only instances in this status, or in one of several if called again.
    pub fn status(mut self, status: Status) -> Self {
        self.0.statuses.push(status);
        self
    }

    /// Only instances whose id begins so, in exactly these letters.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.0.id_prefix = Some(prefix.into());
        self
    }

    /// Only instances of this orchestration.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Only instances of orchestrations with this version.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.0.version = Some(version.into());
        self
    }

    /// Only instances with this label, and with all of several if called again.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.tags.push((key.into(), value.into()));
        self
    }

    /// Only instances created at this time or later.
    pub fn created_from(mut self, from: Timestamp) -> Self {
        self.0.created_from = Some(from);
        self
    }

    /// Only instances created before this time.
    pub fn created_to(mut self, to: Timestamp) -> Self {
        self.0.created_to = Some(to);
        self
    }

    /// Whether it means all instances.
    pub fn is_empty(&self) -> bool {
        self.0 == InstanceFilter::default()
    }

    /// The same, but only those in some statuses: `None` if it wants others.
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
