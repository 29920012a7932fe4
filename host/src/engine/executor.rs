//! The traits between the engine and what runs guests and activities.
//!
//! Today a wasm component runs both, and a closure of the embedding program runs activities. The engine knows neither.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use perennial_core::{Digest, Failure, Guest, Json, Limits, TaskRef, Timestamp};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use crate::engine::modules::grants::{DirGrant, Grants, http_host_problem};
pub use crate::engine::workers::processors::Share;
pub use crate::shortage::{Resource, Shortage};

/// Why the host cannot go on with an instance, by where the fault lies. A fault of a request is the answer to it, and no fault of these.
///
/// Law: only what an instance's history or a module proves stops or fails anything. For the rest there is [`Shortage`], which is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// In the instance: its history cannot be what an engine wrote, say.
    #[error("{0}")]
    Instance(String),
    /// In the module: the hub does not have it, or it is none that this host can run.
    #[error("{0}")]
    Module(String),
    /// In what the host has or has not at the moment.
    #[error(transparent)]
    Host(#[from] Shortage),
}

impl Fault {
    /// The same, with what was to be done before it.
    #[must_use]
    pub fn context(self, what: impl std::fmt::Display) -> Self {
        match self {
            Self::Instance(why) => Self::Instance(format!("{what}: {why}")),
            Self::Module(why) => Self::Module(format!("{what}: {why}")),
            Self::Host(shortage) => Self::Host(shortage.context(what)),
        }
    }
}

/// Why an attempt has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// It failed, which is its outcome.
    #[error("{0}")]
    Failed(Failure),
    /// The host lacked something, which is none: it is as if the attempt had not begun.
    #[error(transparent)]
    Host(#[from] Shortage),
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl AttemptError {
    /// A fault met on the way to an attempt: that of a module fails it, and may be over when it is tried again.
    pub(crate) fn of_fault(fault: Fault) -> Self {
        match fault {
            Fault::Host(shortage) => Self::Host(shortage),
            Fault::Instance(why) | Fault::Module(why) => {
                Self::Failed(Failure::retryable(perennial_core::kind::HOST_ERROR, why))
            }
        }
    }
}

/// A guest that can wait in memory between its turns, on any thread.
pub trait ResidentGuest: Guest + Send {
    /// Bytes it holds while it waits, roughly.
    fn resident_bytes(&self) -> usize;

    /// The last turn is in the hub: what the guest said in it may be written to the log. A turn that is not recorded happens again, with
    /// another guest, which says the same.
    fn committed(&mut self) {}
}

/// Makes guests.
pub trait Executor: Send + Sync {
    /// A fresh guest of an execution that is pinned to `module`, for the orchestration and instance named only in log lines. Until its first
    /// turn its clock stands at `began`.
    ///
    /// # Errors
    /// Why the host cannot make one: the module is missing from the hub, say, or no longer compiles, or there is no memory for it. No turn
    /// happens.
    fn instantiate(
        &self,
        module: Digest,
        limits: &Limits,
        instance_id: &str,
        began: Timestamp,
    ) -> Result<Box<dyn ResidentGuest>, Fault>;

    /// Brings a module as far as it comes before a guest of it is made: it may have to be compiled, which is nobody's turn. What is wrong
    /// with it is said when one is made.
    fn prepare(&self, _module: Digest) {}

    /// Gets a module that is about to be deployed ready to run, so that its first instance waits for nothing. Blocks. What is wrong with it is
    /// said when a guest is made.
    fn ready(&self, _module: Digest, _component: &[u8]) {}

    /// Lets go of whatever it keeps of a module that the hub no longer has. Guests that exist go on.
    fn forget(&self, _module: Digest) {}
}

/// One attempt of an activity.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The module that runs it; `None` for a closure of the host's program.
    pub module: Option<Digest>,
    /// The activity.
    pub name: String,
    /// Its input.
    pub input: Option<Json>,
    /// The instance that called it.
    pub instance_id: String,
    /// The execution that called it.
    pub execution_id: String,
    /// The orchestration that called it.
    pub orchestration: String,
    /// The module of the orchestration that called it.
    pub caller: Option<Digest>,
    /// Bytes that its result may have: a longer one is its failure.
    pub output_bytes_max: u64,
    /// The task that it is.
    pub task: TaskRef,
    /// Counts from 1.
    pub attempt: u32,
    /// When it is interrupted, by the engine's clock: for the activity to read.
    pub deadline: Option<Timestamp>,
    /// How long it may run, by the machine's own clock: for the executor to enforce.
    pub timeout: Option<Duration>,
    /// W3C trace context of the attempt.
    pub trace_parent: Option<String>,
    /// The HTTP management URLs of the instance, as a JSON object, where the host serves HTTP.
    pub management_urls: Option<Json>,
    /// The generation in which the task was scheduled.
    pub scheduled_in: u32,
    /// Set when nobody waits for the result any more.
    pub interrupt: Interrupt,
    /// What it has of the processors.
    pub share: Share,
}

impl Attempt {
    /// The same for every attempt of one task, and for no other task: what a remote system needs to recognise a repeat.
    ///
    /// A rewind gives the ids of tasks that it drops to others: those have its generation in their keys.
    pub fn idempotency_key(&self) -> String {
        match self.scheduled_in {
            0 => format!("{}:{}", self.execution_id, self.task.task),
            generation => format!("{}:{}@{generation}", self.execution_id, self.task.task),
        }
    }
}

/// Tells an attempt that nobody waits for it any more. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(CancellationToken);

impl Interrupt {
    /// Tells it.
    pub fn set(&self) {
        self.0.cancel();
    }

    /// Whether it was told.
    pub fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when it is told.
    pub async fn told(&self) {
        self.0.cancelled().await;
    }

    /// One that is told with this one, and alone when the guard is dropped.
    pub(crate) fn until_dropped(&self) -> (Self, DropGuard) {
        let below = self.0.child_token();
        (Self(below.clone()), below.drop_guard())
    }
}

/// The result of an attempt, when it is there.
pub type AttemptFuture = Pin<Box<dyn Future<Output = Result<Option<Json>, AttemptError>> + Send>>;

/// Runs attempts of activities.
pub trait ActivityExecutor: Send + Sync {
    /// As [`Executor::prepare`], for the attempts of a module's activities; `None` where there is nothing to wait for.
    fn prepare(&self, _module: Digest) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        None
    }

    /// Starts an attempt. Dropping the future gives the attempt up.
    fn run(&self, attempt: Attempt) -> AttemptFuture;
}
