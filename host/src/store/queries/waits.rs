//! What an instance waits for, as a condition of a filter.

use std::fmt;

/// What an instance can wait for: a condition of a filter. [`Wait`](crate::Wait) describes the waits of one instance in detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WaitKind {
    /// An external event.
    Event,
    /// A request, which the orchestration is ready to answer.
    Request,
    /// The answer to a request that it has sent.
    Answer,
    /// An activity that has not ended: it is queued, runs, or waits for its next attempt.
    Activity,
    /// An activity or a child that failed and is tried again: it waits for the time of its next attempt, or that attempt is queued or runs.
    Retry,
    /// A timer, or the time at which a failed child is started again.
    Timer,
    /// The time of its own scheduled start.
    Start,
    /// A child that has not ended.
    Child,
    /// A remote worker that runs its orchestration, for its next turn. Messages that only the memory of the host has do not count.
    Worker,
    /// Its quarantine to be lifted.
    Quarantine,
}

impl WaitKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Event,
        Self::Request,
        Self::Answer,
        Self::Activity,
        Self::Retry,
        Self::Timer,
        Self::Start,
        Self::Child,
        Self::Worker,
        Self::Quarantine,
    ];

    /// The name of the kind in the HTTP API and on the command line, such as `event`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Request => "request",
            Self::Answer => "answer",
            Self::Activity => "activity",
            Self::Retry => "retry",
            Self::Timer => "timer",
            Self::Start => "start",
            Self::Child => "child",
            Self::Worker => "worker",
            Self::Quarantine => "quarantine",
        }
    }

    /// The inverse of [`name`](Self::name), in any case of letters.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    /// Whether a [`WaitFilter`] of this kind can have a name.
    pub const fn is_named(self) -> bool {
        matches!(self, Self::Event | Self::Request | Self::Answer)
    }
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an instance waits: a kind of wait and, for events and requests, the name. As a text it is `KIND` or `KIND:NAME`, such as
/// `event:Approval`.
///
/// ```
/// use perennial::{WaitFilter, WaitKind};
///
/// let approval = WaitFilter::event("Approval");
/// assert_eq!(approval.to_string(), "event:Approval");
/// assert_eq!(WaitFilter::parse("event:Approval"), Some(approval));
/// assert_eq!(WaitFilter::parse("retry"), Some(WaitKind::Retry.into()));
/// assert_eq!(WaitFilter::parse("timer:x"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFilter {
    kind: WaitKind,
    name: Option<String>,
}

impl WaitFilter {
    /// An external event of this name, in any case of letters.
    pub fn event(name: impl Into<String>) -> Self {
        Self::named(WaitKind::Event, name)
    }

    /// A request of this name that the orchestration is ready to answer, in any case of letters.
    pub fn request(name: impl Into<String>) -> Self {
        Self::named(WaitKind::Request, name)
    }

    /// The answer to a request of this name that the orchestration has sent, in any case of letters.
    pub fn answer(name: impl Into<String>) -> Self {
        Self::named(WaitKind::Answer, name)
    }

    fn named(kind: WaitKind, name: impl Into<String>) -> Self {
        let name = Some(name.into());
        Self { kind, name }
    }

    /// Parses `KIND` or `KIND:NAME`. `None` if there is no such kind, or if it has no names, or if the name is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((kind, name)) = text.split_once(':') else {
            return WaitKind::from_name(text).map(Self::from);
        };
        let kind = WaitKind::from_name(kind).filter(|kind| kind.is_named() && !name.is_empty());
        kind.map(|kind| Self::named(kind, name))
    }

    /// The kind of wait.
    pub fn kind(&self) -> WaitKind {
        self.kind
    }

    /// The name of the event or the request; `None` for any.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether one of these names is meant.
    pub(in crate::store) fn is_among(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.is(name))
    }

    /// Whether this name is meant.
    pub(in crate::store) fn is(&self, name: &str) -> bool {
        let meant = self.name.as_ref();
        meant.is_none_or(|meant| meant.eq_ignore_ascii_case(name))
    }
}

impl From<WaitKind> for WaitFilter {
    /// Any wait of this kind.
    fn from(kind: WaitKind) -> Self {
        Self { kind, name: None }
    }
}

impl fmt::Display for WaitFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}:{name}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}
