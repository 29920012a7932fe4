//! The traits between the engine and the code that runs guests and activities.
//!
//! Currently wasm components run both, and closures of the embedding program run activities. The engine knows neither.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use perennial_core::{Digest, Failure, Guest, Json, Limits, TaskRef, Timestamp};

pub use crate::engine::interrupt::Interrupt;
pub use crate::engine::modules::grants::{DirGrant, Grants, http_host_problem};
pub use crate::engine::tasks::heart::{Heart, HeartbeatError};
pub use crate::engine::workers::processors::Share;
pub use crate::shortage::{Resource, Shortage};

/// Why an instance cannot continue, classified by the location of the fault. A failed request of a client is not a fault: it is an answer.
///
/// Invariant: only a fault proven by an instance's history or by a module stops or fails an instance. A [`Shortage`] of the host is
/// retried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// In the instance: for example, its history is corrupt.
    #[error("{0}")]
    Instance(String),
    /// In the module: the hub does not have it, or this host cannot run it.
    #[error("{0}")]
    Module(String),
    /// In the host: it lacks a resource at the moment.
    #[error(transparent)]
    Host(#[from] Shortage),
}

impl Fault {
    /// The same fault with a prefix that says what was being done.
    #[must_use]
    pub fn context(self, what: impl std::fmt::Display) -> Self {
        match self {
            Self::Instance(why) => Self::Instance(format!("{what}: {why}")),
            Self::Module(why) => Self::Module(format!("{what}: {why}")),
            Self::Host(shortage) => Self::Host(shortage.context(what)),
        }
    }
}

/// Why an attempt has no result. The two variants differ in whether the attempt counts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The attempt failed; this is its outcome.
    #[error("{0}")]
    Failed(Failure),
    /// The host lacked a resource; the attempt counts as not started.
    #[error(transparent)]
    Host(#[from] Shortage),
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl AttemptError {
    /// Converts a fault before an attempt. A fault of a module fails the attempt, but a retry may succeed.
    pub(crate) fn of_fault(fault: Fault) -> Self {
        match fault {
            Fault::Host(shortage) => Self::Host(shortage),
            Fault::Instance(why) | Fault::Module(why) => {
                Self::Failed(Failure::retryable(perennial_core::kind::HOST_ERROR, why))
            }
        }
    }
}

/// A guest that stays in memory between its turns and may move between threads.
pub trait ResidentGuest: Guest + Send {
    /// The approximate memory of the idle guest, in bytes.
    fn resident_bytes(&self) -> usize;

    /// Called after the last turn was committed: its log lines may now be written. A turn that is not committed runs again in another
    /// guest, which writes the same lines.
    fn committed(&mut self) {}
}

/// A request as its sender made it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Proposal<'a> {
    /// The orchestration that is asked.
    pub orchestration: &'a str,
    /// The name of the request.
    pub name: &'a str,
    /// Its input.
    pub input: Option<&'a Json>,
}

/// Creates guests.
pub trait Executor: Send + Sync {
    /// Creates a guest for an execution that is pinned to `module`. The names of the orchestration and the instance appear only in log
    /// lines. Until its first turn the guest's clock shows `began`.
    ///
    /// # Errors
    /// If the host cannot create one: for example, the hub lacks the module, the module no longer compiles, or memory is short. No turn
    /// happens.
    fn instantiate(
        &self,
        module: Digest,
        limits: &Limits,
        instance_id: &str,
        began: Timestamp,
    ) -> Result<Box<dyn ResidentGuest>, Fault>;

    /// Asks a module whether a request may be made, on a guest that does nothing else. The outer error is the host's.
    ///
    /// # Errors
    /// As [`instantiate`](Self::instantiate).
    fn validate(
        &self,
        _module: Digest,
        _limits: &Limits,
        _proposal: &Proposal<'_>,
    ) -> Result<Result<(), Failure>, Fault> {
        Ok(Ok(()))
    }

    /// Prepares a module before a guest of it is created, so that compiling it does not count as part of a turn. Errors appear when a guest
    /// is created.
    fn prepare(&self, _module: Digest) {}

    /// Compiles a module that is about to be deployed, so that its first instance does not wait. Blocks. Errors appear when a guest is
    /// created.
    fn ready(&self, _module: Digest, _component: &[u8]) {}

    /// Drops everything cached for a module that was removed from the hub. Existing guests continue.
    fn forget(&self, _module: Digest) {}
}

/// One attempt of an activity.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The module that runs the activity; `None` for a closure of the embedding program.
    pub module: Option<Digest>,
    /// The name of the activity.
    pub name: String,
    /// The input of the activity, if the call has one.
    pub input: Option<Json>,
    /// The id of the calling instance.
    pub instance_id: String,
    /// The id of the calling execution.
    pub execution_id: String,
    /// The name of the calling orchestration.
    pub orchestration: String,
    /// The module of the calling orchestration.
    pub caller: Option<Digest>,
    /// Maximum size of the result in bytes. A longer result fails the attempt.
    pub output_bytes_max: u64,
    /// The task that the attempt belongs to.
    pub task: TaskRef,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The deadline by the engine's clock, for the activity to read.
    pub deadline: Option<Timestamp>,
    /// The time limit as elapsed time, for the executor to enforce.
    pub timeout: Option<Duration>,
    /// The W3C trace context of the attempt.
    pub trace_parent: Option<String>,
    /// The HTTP management URLs of the instance, as a JSON object; `None` if the host does not serve HTTP.
    pub management_urls: Option<Json>,
    /// The generation in which the task was scheduled. A rewind begins a new one.
    pub scheduled_in: u32,
    /// Set when the result is no longer needed.
    pub interrupt: Interrupt,
    /// Takes the heartbeats of the attempt.
    pub heart: Heart,
    /// The attempt's share of the processors.
    pub share: Share,
}

impl Attempt {
    /// A key that is the same for all attempts of a task and differs between tasks, so that a remote system can recognise a repeated
    /// request.
    ///
    /// A rewind assigns the ids of dropped tasks again. The keys of tasks scheduled after one therefore contain the generation.
    pub fn idempotency_key(&self) -> String {
        match self.scheduled_in {
            0 => format!("{}:{}", self.execution_id, self.task.task),
            generation => format!("{}:{}@{generation}", self.execution_id, self.task.task),
        }
    }
}

/// The future result of an attempt.
pub type AttemptFuture = Pin<Box<dyn Future<Output = Result<Option<Json>, AttemptError>> + Send>>;

/// Runs attempts of activities.
pub trait ActivityExecutor: Send + Sync {
    /// As [`Executor::prepare`], for a module's activities; `None` if there is nothing to wait for.
    fn prepare(&self, _module: Digest) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }

    /// Starts an attempt. Dropping the future abandons the attempt.
    fn run(&self, attempt: Attempt) -> AttemptFuture;
}
