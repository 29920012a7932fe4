//! An activity that may run, and who calls it.

use std::sync::Arc;

use perennial_core::{
    Digest, FailedAttempt, Failure, Json, Limits, Millis, RetryPolicy, Target, TaskRef, Timestamp,
    TraceContext,
};

use crate::store::InstanceKey;

/// An activity that may run now.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
    pub(crate) attempt: u32,
    pub(crate) first_started: Option<Timestamp>,
    pub(crate) deliveries: u32,
    /// Why the last attempt failed, where one did.
    pub(crate) failure: Option<Failure>,
    /// Attempts that failed or were cut off, as far as they are kept.
    pub(crate) earlier: Vec<FailedAttempt>,
    /// The generation in which it was scheduled.
    pub(crate) scheduled_in: u32,
    pub(crate) name: String,
    pub(crate) input: Option<Json>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeout: Option<Millis>,
    pub(crate) target: Target,
    pub(crate) caller: Arc<Caller>,
}

/// Who calls an activity.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) instance_id: String,
    pub(crate) execution_id: String,
    pub(crate) orchestration: String,
    /// The span of the execution.
    pub(crate) trace: TraceContext,
    pub(crate) limits: Limits,
    pub(crate) seed: u64,
    /// What the execution is pinned to.
    pub(crate) module: Option<Digest>,
}

/// A task id may be given again, by the next execution or after a rewind, while the activity that had it before still runs.
pub(crate) type AttemptKey = (InstanceKey, TaskRef);
