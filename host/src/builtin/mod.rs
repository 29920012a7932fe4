//! Activities that come with the host. A module can call them if it has the grants that they need.
//!
//! They are called by name like any other. A module's own activity of the same name comes first, then a closure of the embedding program.
//! Only the runtime knows that they are built in: the engine treats them as activities that run in its process.

mod http;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_core::Digest;

use crate::engine::executor::{Attempt, AttemptError, AttemptFuture, Fault, Grants};

/// Returns the current grants of a module.
pub(crate) type GrantsOf = Arc<dyn Fn(Digest) -> Result<Grants, Fault> + Send + Sync>;

/// The activities that come with the host.
pub(crate) struct Builtins {
    grants: GrantsOf,
    http: http::Http,
}

impl Builtins {
    pub(crate) fn new(grants: GrantsOf) -> Self {
        Self {
            grants,
            http: http::Http::default(),
        }
    }

    /// The names of all builtin activities.
    pub(crate) fn names() -> BTreeSet<String> {
        BTreeSet::from([http::NAME.to_owned()])
    }

    /// Whether a builtin activity has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        name == http::NAME
    }

    /// Starts an attempt of a builtin activity.
    pub(crate) fn run(&self, attempt: Attempt) -> AttemptFuture {
        match attempt.caller.map(&*self.grants).transpose() {
            Ok(grants) => self.http.run(grants.unwrap_or_default(), attempt),
            Err(fault) => Box::pin(std::future::ready(Err(AttemptError::of_fault(fault)))),
        }
    }
}
