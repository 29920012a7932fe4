//! The context of an activity: which attempt it is, and for which instance.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::activities::Invocation;
use crate::payload::Payload;
use crate::{Failure, TaskId, Timestamp, kind};

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

    /// Says that the attempt makes progress, and how far it is. The next attempt goes on from there ([`last_heartbeat`](Self::last_heartbeat)), and
    /// the status of the instance shows it. At most 16 KiB of JSON.
    ///
    /// Never waits. The host writes the newest details about once a second: if it dies, those of the last second or so are lost; if the attempt fails,
    /// none are.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// fn copy(ctx: &ActivityContext, parts: u32) -> Result<u32, Failure> {
    ///     let first = ctx.last_heartbeat().unwrap_or(0);
    ///     for part in first..parts {
    ///         // Copies the part.
    ///         ctx.heartbeat(part + 1)?;
    ///     }
    ///     Ok(parts)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`HeartbeatError::Canceled`] and [`HeartbeatError::Draining`] say that the attempt should stop, which `?` does.
    pub fn heartbeat(&self, details: impl Serialize) -> Result<(), HeartbeatError> {
        let details = serde_json::to_string(&details)
            .map_err(|error| HeartbeatError::Refused(error.to_string()))?;
        beat(&details)
    }

    /// The details that an attempt before this one sent last with a heartbeat. `None` if there are none of this type.
    #[must_use]
    pub fn last_heartbeat<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.0.last_heartbeat.as_deref()?).ok()
    }

    pub(crate) fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Payload::Input {
            of: "activity",
            name: &self.0.name,
        }
        .decode(self.0.input.as_deref())
    }
}

/// Why an attempt should stop, or why its heartbeat was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// Nobody waits for the result any more.
    Canceled,
    /// The host is about to stop: an attempt that cannot end soon returns this as its failure, which counts as none. The next host starts the next
    /// attempt, with the details that were sent last.
    Draining,
    /// The details are too large, or cannot be written, for this reason.
    Refused(String),
}

impl std::fmt::Display for HeartbeatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Canceled => "the attempt was cancelled: nobody waits for its result",
            Self::Draining => "the host is about to stop",
            Self::Refused(why) => why,
        })
    }
}

impl From<HeartbeatError> for Failure {
    fn from(error: HeartbeatError) -> Self {
        let message = error.to_string();
        match error {
            HeartbeatError::Canceled => Self::new(kind::CANCELED, message),
            HeartbeatError::Draining => Self::new(kind::HOST_STOPPED, message),
            HeartbeatError::Refused(_) => Self::new(kind::LIMIT_EXCEEDED, message).not_retryable(),
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn beat(details: &str) -> Result<(), HeartbeatError> {
    use crate::bindings::attempts::{Advice, heartbeat};

    match heartbeat(Some(details)) {
        Ok(Advice::GoOn) => Ok(()),
        Ok(Advice::Canceled) => Err(HeartbeatError::Canceled),
        Ok(Advice::Draining) => Err(HeartbeatError::Draining),
        Err(why) => Err(HeartbeatError::Refused(why)),
    }
}

/// Here there is no host: nobody hears it.
#[cfg(all(not(feature = "testing"), not(target_arch = "wasm32")))]
#[expect(clippy::unnecessary_wraps, reason = "it fails where there is a host")]
fn beat(_: &str) -> Result<(), HeartbeatError> {
    Ok(())
}

/// Here there is no host: only a test that listens hears it, with the limit of a host.
#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
fn beat(details: &str) -> Result<(), HeartbeatError> {
    use perennial_core::bounds::HEARTBEAT_BYTES;

    let bytes = details.len();
    HEARD.with_borrow_mut(|heard| match heard {
        Some(_) if bytes > HEARTBEAT_BYTES => Err(HeartbeatError::Refused(format!(
            "the details of a heartbeat have {bytes} bytes; at most {HEARTBEAT_BYTES} are allowed: \
             send less, such as a position"
        ))),
        Some(heard) => {
            *heard = Heard::Details(details.to_owned());
            Ok(())
        }
        None => Ok(()),
    })
}

/// What was heard of an attempt.
#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
pub(crate) enum Heard {
    /// It sent no heartbeat.
    Nothing,
    /// The details that it sent last.
    Details(String),
}

#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
thread_local! {
    static HEARD: std::cell::RefCell<Option<Heard>> = const { std::cell::RefCell::new(None) };
}

/// Runs an attempt, and returns its heartbeats with its result.
#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
pub(crate) fn listen<T>(attempt: impl FnOnce() -> T) -> (T, Heard) {
    let before = HEARD.replace(Some(Heard::Nothing));
    let result = attempt();
    let heard = HEARD.replace(before);
    (result, heard.unwrap_or(Heard::Nothing))
}
