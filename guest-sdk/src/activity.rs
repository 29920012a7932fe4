//! The context of an activity: which attempt it is, and for which instance.

use serde::de::DeserializeOwned;

use crate::bindings::activities::Invocation;
use crate::payload::Payload;
use crate::{Failure, TaskId, Timestamp};

/// One attempt of an activity: who called it, which attempt it is, and how a repeat is recognised.
#[derive(Clone, Debug)]
pub struct ActivityContext(Invocation);

impl ActivityContext {
    pub(crate) fn new(invocation: Invocation) -> Self {
        Self(invocation)
    }

    /// The name it was called by.
    #[must_use]
    pub fn activity(&self) -> &str {
        &self.0.name
    }

    /// The instance that called it.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.0.instance_id
    }

    /// The execution that called it.
    #[must_use]
    pub fn execution_id(&self) -> &str {
        &self.0.execution_id
    }

    /// The name of the orchestration that called it.
    #[must_use]
    pub fn orchestration(&self) -> &str {
        &self.0.orchestration
    }

    /// The task it carries out.
    #[must_use]
    pub fn task(&self) -> TaskId {
        self.0.task
    }

    /// The same for every attempt of one task. An activity may run more than once, so hand this to whatever it changes, and let that
    /// recognise a repeat.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.0.idempotency_key
    }

    /// Counts from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// When the host will interrupt this attempt.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.0.deadline.map(Timestamp::from_unix_millis)
    }

    /// The W3C trace context of the caller.
    #[must_use]
    pub fn trace_parent(&self) -> Option<&str> {
        self.0.trace_parent.as_deref()
    }

    /// The HTTP management URLs of the calling instance as a JSON object, where the host serves HTTP.
    #[must_use]
    pub fn management_urls(&self) -> Option<&str> {
        self.0.management_urls.as_deref()
    }

    pub(crate) fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Payload::Input {
            of: "activity",
            name: &self.0.name,
        }
        .decode(self.0.input.as_deref())
    }
}
