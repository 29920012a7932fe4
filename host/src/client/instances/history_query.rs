//! Reads a history, whole or in pages.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use futures::{Stream, TryStreamExt};
use perennial_core::{Event, Rejection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::instances::history::{HistoryEvent, events_of};
use crate::client::{Client, Error, Result};
use crate::store::{InstanceKey, TurnsQuery};

/// Turns per read.
pub(crate) const TURNS: u32 = 256;

/// The bytes after which a read ends.
pub(crate) const HISTORY_BYTES_MAX: usize = 4 << 20;

/// A query for the history of an instance's current execution. Await it for the whole history, or read it as a [`stream`](Self::stream).
#[derive(Clone, Debug)]
#[must_use = "a history is read when it is awaited"]
pub struct HistoryQuery {
    client: Client,
    id: String,
    /// The number of the first event.
    from: u64,
    hide_inputs: bool,
    hide_outputs: bool,
    before_rewind: Option<u32>,
}

impl Client {
    /// Reads the history of an instance's current execution. Await the returned value, or read it as a stream.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// use futures::TryStreamExt;
    ///
    /// let mut history = client.history("order-17").stream();
    /// while let Some(event) = history.try_next().await? {
    ///     println!("{} {}", event.number, event.event.name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn history(&self, id: impl Into<String>) -> HistoryQuery {
        HistoryQuery {
            client: self.clone(),
            id: id.into(),
            from: 0,
            hide_inputs: false,
            hide_outputs: false,
            before_rewind: None,
        }
    }
}

/// A page of a history.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HistoryPage {
    /// The events, in order. Empty if there are no more at the moment.
    pub events: Vec<HistoryEvent>,
    /// The token of the next page; `None` if there are no more events at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuation_token: Option<String>,
}

/// A place between two turns. It is invalid after a rewind of the execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageCursor {
    pub(crate) of: (InstanceKey, u32, u32),
    pub(crate) next_turn: u32,
}

impl PageCursor {
    pub(crate) fn token(self) -> String {
        let ((key, execution, generation), turn) = (self.of, self.next_turn);
        format!("{:x}.{execution:x}.{generation:x}.{turn:x}", key.0)
    }

    pub(crate) fn of_token(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let key = i64::from_str_radix(parts.next()?, 16).ok()?;
        let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
        let of = (InstanceKey(key), number()?, number()?);
        let next_turn = number()?;
        parts.next().is_none().then_some(Self { of, next_turn })
    }
}

impl HistoryQuery {
    /// Begins with the event of this number instead of the first one, without reading those before it.
    pub fn from(mut self, number: u64) -> Self {
        self.from = number;
        self
    }

    /// Omits the inputs of calls, as `showInput=false` does in the Durable Functions API.
    pub fn hide_inputs(mut self) -> Self {
        self.hide_inputs = true;
        self
    }

    /// Omits the results of calls, as `showHistoryOutput=false` does in the Durable Functions API.
    pub fn hide_outputs(mut self) -> Self {
        self.hide_outputs = true;
        self
    }

    /// Reads the history as it was before a rewind, given by its place in [`InstanceStatus::rewinds`](crate::InstanceStatus::rewinds),
    /// which counts from 0. It is kept as long as the execution is.
    pub fn before_rewind(mut self, rewind: u32) -> Self {
        self.before_rewind = Some(rewind);
        self
    }

    /// Streams the events in order, including those that are added meanwhile. Memory holds only some MiB of them at a time.
    ///
    /// # Errors
    /// [`Error::is_not_found`]; [`Error::is_wrong_state`] if the instance was rewound or began another execution meanwhile. The stream ends
    /// after an error.
    pub fn stream(self) -> impl Stream<Item = Result<HistoryEvent>> + Send + Unpin {
        let state = (self, Some(None::<String>), VecDeque::new());
        Box::pin(futures::stream::try_unfold(
            state,
            |(query, mut next, mut events)| async move {
                while events.is_empty() {
                    let Some(after) = next.take() else {
                        return Ok(None);
                    };
                    let page = query.page(after.as_deref()).await?;
                    next = page.continuation_token.map(Some);
                    events.extend(page.events);
                }
                Ok(events
                    .pop_front()
                    .map(|event| (event, (query, next, events))))
            },
        ))
    }

    /// Reads a page of some MiB: the first, or the one that a token of the previous page denotes. Give later pages the same options.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let history = client.history("order-17");
    /// let first = history.page(None).await?;
    /// let second = history.page(first.continuation_token.as_deref()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`stream`](Self::stream); [`Error::is_invalid`] if the token is invalid, or there was no such rewind.
    pub async fn page(&self, after: Option<&str>) -> Result<HistoryPage> {
        if let Some(remote) = self.client.remote() {
            let hide = (self.hide_inputs, self.hide_outputs);
            let page = remote.history(&self.id, self.from, hide, self.before_rewind, after);
            let page = page.await?;
            let mut page = page.ok_or_else(|| Error::rejected(&self.id, Rejection::NotFound))?;
            // Hosts that do not know the parameter send all events.
            page.events.retain(|event| event.number >= self.from);
            return Ok(page);
        }
        let after = match after {
            Some(token) => Some(PageCursor::of_token(token).ok_or_else(Error::token)?),
            None => None,
        };
        let (id, from_event, before_rewind) = (self.id.clone(), self.from, self.before_rewind);
        let read = self.client.read(move |reader| {
            let Some(row) = reader.instance(&id)? else {
                return Ok(None);
            };
            let of = (row.key, row.execution, row.generation);
            if after.is_some_and(|place| place.of != of) {
                return Ok(Some((of, row.status, None)));
            }
            let from = match (after, before_rewind) {
                (Some(place), _) => place.next_turn,
                (None, None) => reader.turn_with_event(&row, from_event)?,
                (None, Some(_)) => 0,
            };
            let turns = reader.turns_of(&TurnsQuery {
                key: row.key,
                execution: row.execution,
                before_rewind,
                from,
                limit: TURNS,
                bytes_max: HISTORY_BYTES_MAX,
            })?;
            // What is in the history still is read after what was cut off: a rewind in between would leave a gap.
            let is_whole = before_rewind.is_none()
                || reader
                    .instance(&id)?
                    .is_some_and(|now| of == (now.key, now.execution, now.generation));
            Ok(Some((of, row.status, is_whole.then_some(turns))))
        });
        let Some((of, status, turns)) = read.await? else {
            return Err(Error::rejected(&self.id, Rejection::NotFound));
        };
        if let Some(rewind) = before_rewind.filter(|rewind| *rewind >= of.2) {
            return Err(Error::invalid(format!(
                "the execution of instance {:?} was rewound {} times, and rewinds are counted from 0: there is no rewind {rewind}",
                self.id, of.2
            )));
        }
        let turns = turns.ok_or_else(|| Error::moved_on(&self.id, status))?;
        let next = turns.last().map(|turn| turn.number + 1);
        let mut events = events_of(turns);
        events.retain(|event| event.number >= self.from);
        for event in &mut events {
            hide(&mut event.event, self.hide_inputs, self.hide_outputs);
        }
        Ok(HistoryPage {
            events,
            continuation_token: next.map(|next_turn| PageCursor { of, next_turn }.token()),
        })
    }
}

impl IntoFuture for HistoryQuery {
    /// `None` if the instance does not exist.
    type Output = Result<Option<Vec<HistoryEvent>>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.stream().try_collect().await {
                Ok(events) => Ok(Some(events)),
                Err(error) if error.is_not_found_instance() => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

/// Removes payloads from an event.
pub(crate) fn hide(event: &mut Event, inputs: bool, outputs: bool) {
    match event {
        Event::ExecutionStarted(start) if inputs => start.input = None,
        Event::ActivityScheduled { input, .. }
        | Event::ChildScheduled { input, .. }
        | Event::InstanceStarted { input, .. }
        | Event::ContinuedAsNew { input, .. }
        | Event::ExternalEventRaised { data: input, .. }
        | Event::EventSent { data: input, .. }
        | Event::RequestReceived { input, .. }
        | Event::RequestSent { input, .. }
            if inputs =>
        {
            *input = None;
        }
        Event::ActivityCompleted { output, .. }
        | Event::ChildCompleted { output, .. }
        | Event::ExecutionReturned { output }
        | Event::ExecutionCompleted { output }
        | Event::RequestCompleted { output, .. }
        | Event::RequestAnswered {
            outcome: Ok(output),
            ..
        } if outputs => {
            *output = None;
        }
        Event::TurnStarted { .. }
        | Event::ExecutionStarted(_)
        | Event::ActivityCompleted { .. }
        | Event::ActivityFailed { .. }
        | Event::ChildCompleted { .. }
        | Event::ChildFailed { .. }
        | Event::TimerFired { .. }
        | Event::ExternalEventRaised { .. }
        | Event::ActivityScheduled { .. }
        | Event::ChildScheduled { .. }
        | Event::TimerSet { .. }
        | Event::TaskCanceled { .. }
        | Event::EventSent { .. }
        | Event::InstanceStarted { .. }
        | Event::CustomStatusSet { .. }
        | Event::ExecutionReturned { .. }
        | Event::ExecutionCompleted { .. }
        | Event::ExecutionFailed { .. }
        | Event::ExecutionTerminated { .. }
        | Event::ContinuedAsNew { .. }
        | Event::ExecutionSuspended { .. }
        | Event::ExecutionResumed { .. }
        | Event::InstanceStartSkipped { .. }
        | Event::ChildRetryScheduled { .. }
        | Event::ChildRetried { .. }
        | Event::AttemptFailed { .. }
        | Event::CallDetails { .. }
        | Event::ValueSet { .. }
        | Event::TagSet { .. }
        | Event::ActivityOptions { .. }
        | Event::TimerSetAt { .. }
        | Event::InstanceOptions { .. }
        | Event::ChildCommanded { .. }
        | Event::CancellationRequested(_)
        | Event::RequestReceived { .. }
        | Event::RequestAnswered { .. }
        | Event::RequestSent { .. }
        | Event::RequestCompleted { .. }
        | Event::RequestFailed { .. }
        | Event::ExecutionTimedOut { .. } => {}
    }
}
