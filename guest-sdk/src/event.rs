//! Waiting for external events.

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
use crate::mailbox::{EventName, Taken, WaiterId};
use crate::payload::Payload;
use crate::{Context, Failure, Timer};

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
    place: QueueTicket,
    data: PhantomData<fn() -> T>,
}

/// The events of one name, made by [`Context::events`](crate::Context::events): a stream that does not end.
#[must_use = "it begins to wait when it is polled"]
pub struct EventStream<T> {
    place: QueueTicket,
    data: PhantomData<fn() -> T>,
}

/// An [`EventWait`] with a time limit: `None` if the time was up first.
#[must_use = "it begins to wait when it is awaited"]
pub struct EventWithin<T> {
    // In this order: what is dropped first gives back its event before the timer is disarmed.
    wait: Option<EventWait<T>>,
    timer: Option<Timer>,
    /// Whether the time was up when it was first polled.
    is_late: Option<bool>,
}

impl<T> EventWait<T> {
    pub(crate) fn new(execution: Rc<Execution>, name: &str) -> Self {
        Self {
            place: QueueTicket::new(execution, name),
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
        let timer = Context::new(Rc::clone(&self.place.execution)).timer(limit);
        EventWithin {
            wait: Some(self),
            timer: Some(timer),
            is_late: None,
        }
    }
}

impl<T: DeserializeOwned> Future for EventWait<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.place.poll(cx)
    }
}

impl<T> EventStream<T> {
    pub(crate) fn new(execution: Rc<Execution>, name: &str) -> Self {
        Self {
            place: QueueTicket::new(execution, name),
            data: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Stream for EventStream<T> {
    type Item = Result<T, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.place.poll(cx).map(Some)
    }
}

impl<T: DeserializeOwned> Future for EventWithin<T> {
    type Output = Result<Option<T>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (Some(wait), Some(timer)) = (&mut this.wait, &mut this.timer) else {
            panic!("a wait was polled after it had given its result");
        };
        let deadline = timer.fire_at().as_unix_millis();
        let execution = Rc::clone(&wait.place.execution);
        // Who began to wait in time takes what comes first; who began later, only what was there in time.
        let is_late = *this
            .is_late
            .get_or_insert_with(|| execution.turn().now > deadline);
        let taken = match wait.place.take(cx) {
            Poll::Ready(taken) if is_late && taken.arrived > deadline => {
                execution.give_back(taken);
                None
            }
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        };
        let result = match taken {
            Some(taken) => read(taken).map(Some),
            None => task::ready!(Pin::new(timer).poll(cx)).map(|()| None),
        };
        // What is over must not go on: the timer is disarmed, the place in the queue given up.
        this.wait = None;
        this.timer = None;
        Poll::Ready(result)
    }
}

/// A place in the queue for the events of one name, taken at the first poll.
struct QueueTicket {
    execution: Rc<Execution>,
    name: EventName,
    waiter: Option<WaiterId>,
}

impl QueueTicket {
    fn new(execution: Rc<Execution>, name: &str) -> Self {
        Self {
            execution,
            name: EventName::new(name),
            waiter: None,
        }
    }

    fn poll<T: DeserializeOwned>(&mut self, cx: &task::Context<'_>) -> Poll<Result<T, Failure>> {
        match self.take(cx) {
            Poll::Ready(taken) => Poll::Ready(read(taken)),
            Poll::Pending => match self.execution.canceled_here() {
                Some(canceled) => {
                    self.leave();
                    Poll::Ready(Err(Failure::from_wit(canceled, None)))
                }
                None => Poll::Pending,
            },
        }
    }

    /// Gives the place in the queue up.
    fn leave(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            self.execution.abandon_waiter(waiter);
        }
    }

    fn take(&mut self, cx: &task::Context<'_>) -> Poll<Taken> {
        self.execution.poll_event(&mut self.waiter, &self.name, cx)
    }
}

fn read<T: DeserializeOwned>(taken: Taken) -> Result<T, Failure> {
    let ExternalEvent { name, data, number } = taken.event;
    let read = Payload::EventData { name: &name }.decode(data.as_deref());
    read.map_err(|failure: Failure| {
        // By this a rewind knows which event to put aside.
        let details = serde_json::json!({ "externalEvent": { "number": number, "name": name } });
        failure.with_details(&details)
    })
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        self.leave();
    }
}
