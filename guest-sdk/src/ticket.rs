//! A place in the queue for what arrives under a name, with a time limit or without.

use std::marker::PhantomData;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Duration;

use futures::FutureExt as _;

use crate::execution::Execution;
use crate::mailbox::{Message, Name, Place, Taken};
use crate::{Context, Failure, Timer};

/// A place in the queue for the messages of one name, taken at the first poll.
pub(crate) struct Ticket<M: Message> {
    execution: Rc<Execution>,
    name: Name,
    place: Place,
    messages: PhantomData<fn() -> M>,
}

impl<M: Message> Ticket<M> {
    pub(crate) fn new(execution: Rc<Execution>, name: &str) -> Self {
        Self {
            execution,
            name: Name::new(name),
            place: Place::New,
            messages: PhantomData,
        }
    }

    pub(crate) fn execution(&self) -> &Rc<Execution> {
        &self.execution
    }

    /// The next message, or why there will be none: the instance was asked to cancel.
    pub(crate) fn poll(&mut self, cx: &task::Context<'_>) -> Poll<Result<Taken<M>, Failure>> {
        match self.take(cx) {
            Poll::Ready(taken) => Poll::Ready(Ok(taken)),
            Poll::Pending => match self.execution.canceled_here() {
                Some(canceled) => {
                    self.leave();
                    Poll::Ready(Err(Failure::from_wit(canceled, None)))
                }
                None => Poll::Pending,
            },
        }
    }

    /// Goes on waiting from the place where a message was taken that could not be used.
    pub(crate) fn return_to(&mut self, place: Place) {
        self.place = place;
    }

    fn take(&mut self, cx: &task::Context<'_>) -> Poll<Taken<M>> {
        self.execution.poll_message(&mut self.place, &self.name, cx)
    }

    /// Gives the place in the queue up.
    fn leave(&mut self) {
        if let Place::Waiting(waiter) = std::mem::take(&mut self.place) {
            self.execution.abandon_waiter::<M>(waiter);
        }
    }
}

impl<M: Message> Drop for Ticket<M> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A place in the queue that is given up when the time is up.
pub(crate) struct TimedTicket<M: Message> {
    // In this order: what is dropped first gives back its message before the timer is disarmed.
    ticket: Ticket<M>,
    timer: Timer,
    /// Whether the time was up when it was first polled.
    is_late: Option<bool>,
}

impl<M: Message> TimedTicket<M> {
    /// Counts the time from now.
    pub(crate) fn new(ticket: Ticket<M>, limit: Duration) -> Self {
        let timer = Context::new(Rc::clone(&ticket.execution)).timer(limit);
        Self {
            ticket,
            timer,
            is_late: None,
        }
    }

    /// The next message; `None` if the time was up first. Once it is ready the ticket is to be dropped, so that nothing of it goes on.
    pub(crate) fn poll(
        &mut self,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Option<Taken<M>>, Failure>> {
        let deadline = self.timer.fire_at().as_unix_millis();
        let execution = &self.ticket.execution;
        // Who began to wait in time takes what comes first; who began later, only what was there in time.
        let is_late = *self
            .is_late
            .get_or_insert_with(|| execution.turn().now > deadline);
        match self.ticket.take(cx) {
            Poll::Ready(taken) if is_late && taken.arrived > deadline => {
                self.ticket.execution.give_back(taken);
            }
            Poll::Ready(taken) => return Poll::Ready(Ok(Some(taken))),
            Poll::Pending => {}
        }
        self.timer.poll_unpin(cx).map_ok(|()| None)
    }

    /// Its place in the queue.
    pub(crate) fn ticket(&mut self) -> &mut Ticket<M> {
        &mut self.ticket
    }
}
