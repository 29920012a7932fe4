//! Reading a history, whole or bit by bit.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use futures::{Stream, TryStreamExt};
use perennial_core::{Event, Rejection};

use crate::client::history::{HistoryEvent, events_of};
use crate::client::{Client, Error, Result};
use crate::store::InstanceKey;

/// Turns read at once.
const TURNS: u32 = 256;

/// And no more once they have so many bytes.
const BYTES_MAX: usize = 4 << 20;

/// A question about the history of an instance's current execution. Await it for all of it, or read it as a [`stream`](Self::stream).
#[derive(Clone, Debug)]
#[must_use = "a history is read when it is awaited"]
pub struct HistoryQuery {
    client: Client,
    id: String,
    hide_inputs: bool,
    hide_outputs: bool,
}

impl Client {
    /// The history of an instance's current execution, event by event. Await what it returns, or read it as a stream.
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
            hide_inputs: false,
            hide_outputs: false,
        }
    }
}

/// Where a stream stands.
struct Reading {
    query: HistoryQuery,
    /// The execution whose history it is, once something was read.
    of: Option<(InstanceKey, u32, u32)>,
    next_turn: u32,
    events: VecDeque<HistoryEvent>,
    is_over: bool,
}

impl HistoryQuery {
    /// Without what calls were given: as the original's `showInput=false`.
    pub fn hide_inputs(mut self) -> Self {
        self.hide_inputs = true;
        self
    }

    /// Without what calls returned: as the original's `showHistoryOutput=false`.
    pub fn hide_outputs(mut self) -> Self {
        self.hide_outputs = true;
        self
    }

    /// The events in their order, read a few at a time: memory holds some MiB of them, however long the history is. What happens
    /// meanwhile is read too.
    ///
    /// # Errors
    /// [`Error::is_not_found`]; [`Error::is_wrong_state`] if another execution of the instance began, or it went back to before a failure,
    /// while the history was read. The stream ends then.
    pub fn stream(self) -> impl Stream<Item = Result<HistoryEvent>> + Send + Unpin {
        let reading = Reading {
            query: self,
            of: None,
            next_turn: 0,
            events: VecDeque::new(),
            is_over: false,
        };
        Box::pin(futures::stream::try_unfold(
            reading,
            |mut reading| async move {
                while reading.events.is_empty() && !reading.is_over {
                    reading.read_on().await?;
                }
                Ok(reading.events.pop_front().map(|event| (event, reading)))
            },
        ))
    }
}

impl Reading {
    async fn read_on(&mut self) -> Result<()> {
        let (id, from, before) = (self.query.id.clone(), self.next_turn, self.of);
        let read = self.query.client.read(move |reader| {
            let Some(row) = reader.instance(&id)? else {
                return Ok(None);
            };
            let of = (row.key, row.execution, row.generation);
            let turns = if before.is_none_or(|before| before == of) {
                reader.turns_within(row.key, row.execution, from, TURNS, BYTES_MAX)?
            } else {
                Vec::new()
            };
            Ok(Some((of, row.status, turns)))
        });
        let Some((of, status, turns)) = read.await? else {
            return Err(Error::rejected(&self.query.id, Rejection::NotFound));
        };
        if self.of.is_some_and(|before| before != of) {
            return Err(Error::moved_on(&self.query.id, status));
        }
        self.of = Some(of);
        self.is_over = turns.is_empty();
        self.next_turn = turns.last().map_or(from, |turn| turn.number + 1);
        let mut events = events_of(turns);
        for event in &mut events {
            hide(
                &mut event.event,
                self.query.hide_inputs,
                self.query.hide_outputs,
            );
        }
        self.events = events.into();
        Ok(())
    }
}

impl IntoFuture for HistoryQuery {
    /// `None` if there is no such instance.
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

/// Leaves payloads out of an event.
pub(crate) fn hide(event: &mut Event, inputs: bool, outputs: bool) {
    match event {
        Event::ExecutionStarted(start) if inputs => start.input = None,
        Event::ActivityScheduled { input, .. }
        | Event::ChildScheduled { input, .. }
        | Event::InstanceStarted { input, .. }
        | Event::ContinuedAsNew { input, .. }
        | Event::ExternalEventRaised { data: input, .. }
        | Event::EventSent { data: input, .. }
            if inputs =>
        {
            *input = None;
        }
        Event::ActivityCompleted { output, .. }
        | Event::ChildCompleted { output, .. }
        | Event::ExecutionReturned { output }
        | Event::ExecutionCompleted { output }
            if outputs =>
        {
            *output = None;
        }
        _ => {}
    }
}
