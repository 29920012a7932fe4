//! External events: waiting for them, and sending them.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Duration;

use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::orchestrations::{Action, ExternalEvent, OutgoingEvent};
use crate::execution::Execution;
use crate::mailbox::Taken;
use crate::payload::Payload;
use crate::ticket::{Ticket, TimedTicket};
use crate::{Context, Failure};

impl Context {
    /// Waits for the next external event of this name, in any case. Events are kept until somebody waits for them.
    ///
    /// Its outcome is `Err` with [`Canceled`](crate::kind::CANCELED) if the instance is asked to cancel and no event is there.
    pub fn event<T>(&self, name: impl AsRef<str>) -> EventWait<T> {
        EventWait::new(self.execution(), name.as_ref())
    }

    /// The external events of this name, in any case, as a stream that does not end.
    pub fn events<T>(&self, name: impl AsRef<str>) -> EventStream<T> {
        EventStream::new(self.execution(), name.as_ref())
    }

    /// Sends an external event to an instance. It is dropped silently if that does not exist or has ended.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if serde cannot write the data.
    pub fn send_event(
        &self,
        instance_id: impl Into<String>,
        name: impl Into<String>,
        data: impl Serialize,
    ) -> Result<(), Failure> {
        let name = name.into();
        let data = Payload::EventData { name: &name }.encode(&data)?;
        self.execution().act(Action::SendEvent(OutgoingEvent {
            instance_id: instance_id.into(),
            name,
            data: Some(data),
        }));
        Ok(())
    }
}

/// Waits for an external event, made by [`Context::event`](crate::Context::event): a future of its data.
///
/// It takes its place in the queue when it is first polled. Dropped before it is ready, it takes nothing with it.
///
/// Its outcome is `Err` with `InvalidInput` if the data of the event is not a `T`; the event is consumed. The details of the failure say
/// which event it was, so that a rewind of an instance that fails with it puts that aside and waits anew.
#[must_use = "it begins to wait when it is awaited"]
pub struct EventWait<T> {
    ticket: Ticket<ExternalEvent>,
    data: PhantomData<fn() -> T>,
}

/// The events of one name, made by [`Context::events`](crate::Context::events): a stream that does not end.
#[must_use = "it begins to wait when it is polled"]
pub struct EventStream<T> {
    ticket: Ticket<ExternalEvent>,
    data: PhantomData<fn() -> T>,
}

/// An [`EventWait`] with a time limit: `None` if the time was up first.
#[must_use = "it begins to wait when it is awaited"]
pub struct EventWithin<T> {
    /// None once the result was given.
    ticket: Option<TimedTicket<ExternalEvent>>,
    data: PhantomData<fn() -> T>,
}

impl<T> EventWait<T> {
    pub(crate) fn new(execution: Rc<Execution>, name: &str) -> Self {
        Self {
            ticket: Ticket::new(execution, name),
            data: PhantomData,
        }
    }

    /// Waits no longer than this, counted from now, with a durable timer. Where it is first polled when the time is up already, it takes an
    /// event that came in before that, and none that came later.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn approval(ctx: Context, _: ()) -> Result<bool, Failure> {
    ///     let answer = ctx.event::<bool>("Approval").within(Duration::from_secs(3 * 86_400)).await?;
    ///     Ok(answer.unwrap_or(false))
    /// }
    /// ```
    pub fn within(self, limit: Duration) -> EventWithin<T> {
        EventWithin {
            ticket: Some(TimedTicket::new(self.ticket, limit)),
            data: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Future for EventWait<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.ticket.poll(cx).map(|taken| taken.and_then(read))
    }
}

impl<T> EventStream<T> {
    pub(crate) fn new(execution: Rc<Execution>, name: &str) -> Self {
        Self {
            ticket: Ticket::new(execution, name),
            data: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Stream for EventStream<T> {
    type Item = Result<T, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.ticket.poll(cx).map(|taken| Some(taken.and_then(read)))
    }
}

impl<T: DeserializeOwned> Future for EventWithin<T> {
    type Output = Result<Option<T>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = &mut self.ticket else {
            panic!("a wait was polled after it had given its result");
        };
        let taken = task::ready!(ticket.poll(cx));
        self.ticket = None;
        Poll::Ready(taken.and_then(|taken| taken.map(read).transpose()))
    }
}

fn read<T: DeserializeOwned>(taken: Taken<ExternalEvent>) -> Result<T, Failure> {
    let ExternalEvent { name, data, number } = taken.message;
    let read = Payload::EventData { name: &name }.decode(data.as_deref());
    read.map_err(|failure: Failure| {
        // By this a rewind knows which event to put aside.
        let details = serde_json::json!({ "externalEvent": { "number": number, "name": name } });
        failure.with_details(&details)
    })
}
