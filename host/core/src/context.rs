//! The inputs of a turn that come from the host: time, names, ids.

use crate::{Digest, Limits, Target, Timestamp};

/// Says what runs a name.
pub trait Names {
    /// What runs an activity that an execution pinned to `caller` calls.
    fn activity(&self, caller: Option<Digest>, name: &str) -> Resolved;
    /// What runs an orchestration that an execution pinned to `caller` starts: the version asked for, else the newest deployed one.
    fn orchestration(&self, caller: Option<Digest>, name: &str, version: Option<&str>) -> Resolved;
    /// What a new execution of a module may use, after one that had `before`.
    fn limits(&self, _module: Option<Digest>, before: Limits) -> Limits {
        before
    }
    /// Whether executions of this module can be told to cancel, and can answer requests. Those of contract 0.1 and of remote workers cannot.
    fn can_cancel(&self, _module: Option<Digest>) -> bool {
        false
    }
    /// Why there is no room for another instance of a module, if there is none.
    fn full(&self, _module: Digest) -> Option<String> {
        None
    }
}

/// What a name resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// This module, and the version that the name has in it.
    Module(Digest, Option<String>),
    /// A closure of the embedding program.
    Native,
    /// A remote worker.
    Remote,
    /// Nothing has this name.
    Unknown,
}

impl Resolved {
    pub(crate) fn target(self) -> (Target, Option<String>) {
        match self {
            Self::Module(digest, version) => (Target::Module(digest), version),
            Self::Native => (Target::Native, None),
            Self::Remote => (Target::Remote, None),
            Self::Unknown => (Target::Unknown, None),
        }
    }
}

/// The inputs of a turn that come from the host.
pub struct TurnContext<'a> {
    /// The host's time.
    pub now: Timestamp,
    /// Resolves names.
    pub names: &'a dyn Names,
    /// Makes the id and the seed of an execution that begins.
    pub fresh: &'a mut dyn FnMut() -> (String, u64),
}
