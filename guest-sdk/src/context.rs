//! The context of an orchestration: what it can call, wait for and read.

use std::future::Future;
use std::rc::Rc;

use serde::Serialize;
use uuid::Uuid;

use crate::bindings::orchestrations::{Action, NamedValue};
use crate::combine;
use crate::execution::Execution;
use crate::failure::Continued;
use crate::payload::Payload;
use crate::{Failure, Timestamp};

pub use crate::bindings::orchestrations::Parent;

/// The handle by which an orchestration calls, waits and reads: its only access to the world.
///
/// An orchestration must do the same each time it is given the same events. The methods here keep to that, and nothing else can be reached
/// from an orchestration's sandbox, where time stands still and randomness is fixed. Clones share one execution.
#[derive(Clone)]
pub struct Context(Rc<Execution>);

impl Context {
    pub(crate) fn new(execution: Rc<Execution>) -> Self {
        Self(execution)
    }

    pub(crate) fn execution(&self) -> Rc<Execution> {
        Rc::clone(&self.0)
    }

    /// Makes a future of each item and runs at most `max_parallel` at once. The results are in the order of the items.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn resize_all(ctx: Context, pictures: Vec<String>) -> Result<Vec<u64>, Failure> {
    ///     ctx.map(pictures, 8, |picture| ctx.activity("Resize", picture)).await.into_iter().collect()
    /// }
    /// ```
    pub async fn map<I, F: Future>(
        &self,
        items: impl IntoIterator<Item = I>,
        max_parallel: usize,
        make: impl FnMut(I) -> F,
    ) -> Vec<F::Output> {
        combine::map(items, max_parallel, make).await
    }

    /// Shows a value to clients until it is replaced, also when the orchestration continues as new.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if serde cannot write it.
    pub fn set_custom_status(&self, status: impl Serialize) -> Result<(), Failure> {
        let status = Payload::CustomStatus.encode(&status)?;
        self.0.act(Action::SetCustomStatus(Some(status)));
        Ok(())
    }

    /// Takes the custom status away.
    pub fn clear_custom_status(&self) {
        self.0.act(Action::SetCustomStatus(None));
    }

    /// Shows a value under a name: clients read it, and wait for it, at any time, and no code of this orchestration runs for that. It stays until it
    /// is replaced or [cleared](Self::clear_value), also after the end and when the orchestration continues as new. A rewind restores the values of
    /// before its cut; a restart begins without any.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn ship(ctx: Context, order: String) -> Result<(), Failure> {
    ///     ctx.set_value("stage", "packing")?;
    ///     ctx.activity::<()>("Pack", &order).await?;
    ///     ctx.set_value("stage", "sent")?;
    ///     ctx.set_tag("sent", Some("yes"));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// An instance has up to 100 values, of 256 KiB together; with more, the execution fails with `LimitExceeded`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if serde cannot write it.
    pub fn set_value(&self, name: impl Into<String>, value: impl Serialize) -> Result<(), Failure> {
        let name = name.into();
        let value = Some(Payload::Value { name: &name }.encode(&value)?);
        self.0.act(Action::SetValue(NamedValue { name, value }));
        Ok(())
    }

    /// Takes a value away.
    pub fn clear_value(&self, name: impl Into<String>) {
        let name = name.into();
        self.0
            .act(Action::SetValue(NamedValue { name, value: None }));
    }

    /// Sets a tag of this instance, or removes it with `None`. [`tags`](Self::tags) shows it at once; lists filter by it when the turn is
    /// recorded. It stays as [values](Self::set_value) do, and over a restart too.
    pub fn set_tag(&self, key: impl Into<String>, value: Option<&str>) {
        self.0.set_tag(key.into(), value.map(str::to_owned));
    }

    /// Tells people why the instance waits, until the note is replaced. An empty one takes it away.
    pub fn note(&self, note: impl Into<String>) {
        self.0.note(note.into());
    }

    // Ending.

    /// Ends this execution and starts the next one of the same instance with this input and a fresh history. Return the value:
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn counter(ctx: Context, count: u64) -> Result<(), Failure> {
    ///     ctx.event::<()>("Increment").await?;
    ///     ctx.continue_as_new(count + 1)
    /// }
    /// ```
    ///
    /// Open tasks are dropped; external events and [requests](Self::requests) that nobody has taken move over.
    /// [`continuation`](Self::continuation) has options.
    ///
    /// # Errors
    ///
    /// Always: an execution that ends so has no result. It counts as continued, not as failed, when the orchestration returns this.
    pub fn continue_as_new<O>(&self, input: impl Serialize) -> Result<O, Failure> {
        self.continuation(input).end()
    }

    /// Like [`continue_as_new`](Self::continue_as_new), with options: return the value of [`end`](Continuation::end).
    pub fn continuation(&self, input: impl Serialize) -> Continuation {
        let input = Payload::Input {
            of: "orchestration",
            name: &self.0.start.name,
        }
        .encode(&input);
        Continuation {
            input,
            version: None,
            keep_events: true,
        }
    }

    // Knowing.

    /// The time. It stands still during a turn, and a replay sees the times that were seen first.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.turn().now)
    }

    /// A new identifier: a version 5 UUID of the instance, the execution and a counter.
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        self.0.uuid()
    }

    /// A random number: SplitMix64, seeded by the host when the execution starts. Not for secrets.
    #[must_use]
    #[doc(alias = "random")]
    pub fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }

    /// A random number in `0.0..1.0`: the upper 53 bits of [`random_u64`](Self::random_u64).
    #[must_use]
    pub fn random_f64(&self) -> f64 {
        self.0.random_f64()
    }

    /// The id that clients manage this instance by.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.0.start.instance_id
    }

    /// The id of this execution; continue-as-new and restart start the next.
    #[must_use]
    pub fn execution_id(&self) -> &str {
        &self.0.start.execution_id
    }

    /// The name of this orchestration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.start.name
    }

    /// The version of the definition that runs.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.0.start.version.as_deref()
    }

    /// The instance that called this one as a child, if any.
    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        self.0.start.parent.as_ref()
    }

    /// The tags of this instance: those that it began with, and what [`set_tag`](Self::set_tag) has changed. What clients change meanwhile shows
    /// when the orchestration continues as new or is restarted.
    #[must_use]
    pub fn tags(&self) -> Vec<(String, String)> {
        self.0.tags()
    }

    /// The W3C trace context of who started this.
    #[must_use]
    pub fn trace_parent(&self) -> Option<&str> {
        self.0.start.trace_parent.as_deref()
    }

    /// The number of events recorded for this execution before this turn: when it grows large, [`continue_as_new`](Self::continue_as_new).
    #[must_use]
    pub fn history_events(&self) -> u32 {
        self.0.turn().history_events
    }

    /// The size of what was recorded for this execution before this turn.
    #[must_use]
    pub fn history_bytes(&self) -> u64 {
        self.0.turn().history_bytes
    }
}

/// The options of continue-as-new, made by [`Context::continuation`].
#[must_use = "nothing happens before `.end()` is returned"]
pub struct Continuation {
    input: Result<String, Failure>,
    version: Option<String>,
    keep_events: bool,
}

impl Continuation {
    /// Goes on with this version, not the newest deployed one.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Drops the external events that were received and not consumed. Requests move over all the same: somebody waits for their answers.
    pub fn discard_events(mut self) -> Self {
        self.keep_events = false;
        self
    }

    /// The value to return.
    ///
    /// # Errors
    ///
    /// Always, like [`Context::continue_as_new`].
    pub fn end<O>(self) -> Result<O, Failure> {
        Err(Failure::continued(Continued {
            input: Some(self.input?),
            version: self.version,
            keep_events: self.keep_events,
        }))
    }
}
