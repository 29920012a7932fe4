//! A queued activity, and its caller.

use std::sync::Arc;

use perennial_core::{
    CallDetails, CallOptions, Digest, FailedAttempt, Failure, Json, Limits, Millis, RetryPolicy,
    Target, TaskRef, Timestamp, TraceContext,
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
    /// Attempts that were cut off, or may have been, without a crash.
    pub(crate) cut: u32,
    /// When the attempt before began, if its outcome is not known and no other may follow.
    pub(crate) begun_at: Option<Timestamp>,
    /// The details that an attempt before sent last.
    pub(crate) heartbeat: Option<Json>,
    /// The failure of the last attempt, if there was one.
    pub(crate) failure: Option<Failure>,
    /// Earlier attempts that failed or were cut off, as far as they are kept.
    pub(crate) earlier: Vec<FailedAttempt>,
    /// The generation in which it was scheduled.
    pub(crate) scheduled_in: u32,
    pub(crate) name: String,
    pub(crate) input: Option<Json>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeout: Option<Millis>,
    pub(crate) options: CallOptions,
    pub(crate) target: Target,
    /// What a remote worker said of the call beyond what a component can say.
    pub(crate) details: Option<CallDetails>,
    pub(crate) caller: Arc<Caller>,
}

/// The execution that calls an activity.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) instance_id: String,
    pub(crate) execution_id: String,
    pub(crate) orchestration: String,
    /// The span of the execution.
    pub(crate) trace: TraceContext,
    pub(crate) limits: Limits,
    pub(crate) seed: u64,
    /// The module that the execution is pinned to.
    pub(crate) module: Option<Digest>,
    /// The version of the calling orchestration.
    pub(crate) version: Option<String>,
}

/// Identifies a task. It contains the generation, because the next execution or a rewind may assign a task id again while the old activity
/// still runs.
pub(crate) type AttemptKey = (InstanceKey, TaskRef);
