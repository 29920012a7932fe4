//! Activities that come with the host, for every module that is granted what they do.
//!
//! They are called by name like any other. A module's own activity of the same name comes first, then a closure of the host's program.
//! Nothing but the place that wires a host knows that they exist: for the engine they are activities that run in its process.

mod http;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_core::Digest;

use crate::engine::executor::{Attempt, AttemptError, AttemptFuture, Fault, Grants};

/// Gives what a module is granted at the moment.
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

    /// Their names.
    pub(crate) fn names() -> BTreeSet<String> {
        BTreeSet::from([http::NAME.to_owned()])
    }

    /// Whether an activity here has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        name == http::NAME
    }

    /// Starts an attempt of an activity that is here.
    pub(crate) fn run(&self, attempt: Attempt) -> AttemptFuture {
        match attempt.caller.map(&*self.grants).transpose() {
            Ok(grants) => self.http.run(grants.unwrap_or_default(), attempt),
            Err(fault) => Box::pin(std::future::ready(Err(AttemptError::of_fault(fault)))),
        }
    }
}
