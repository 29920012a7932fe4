//! Requests: answering those that come in, and sending them to other instances.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};
use std::time::Duration;

use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::orchestrations::{Action, OutgoingRequest, Request as WitRequest};
use crate::execution::{Execution, not_answered};
use crate::mailbox::Taken;
use crate::payload::Payload;
use crate::task::{Call, Plan};
use crate::ticket::{Ticket, TimedTicket};
use crate::{Context, Failure, Task, TaskId};

/// What a request is called in messages.
const REQUEST: &str = "request";

impl Context {
    /// The requests of this name, in any case, as a stream that does not end. A request is a message that wants an answer: a client or
    /// another instance waits for it.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// /// Adds up numbers, and tells the sum to each who sends one.
    /// #[orchestration(validate(Add = check_number))]
    /// async fn adder(ctx: Context) -> Result<(), Failure> {
    ///     let mut sum = 0;
    ///     let mut requests = ctx.requests::<i64, i64>("Add");
    ///     while let Some(request) = requests.next().await {
    ///         let request = request?;
    ///         sum += request.input();
    ///         request.respond(&sum)?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// fn check_number(number: &i64) -> Result<(), Failure> {
    ///     if *number < 0 {
    ///         return Err(Failure::new("Negative", format!("{number} is less than 0")));
    ///     }
    ///     Ok(())
    /// }
    ///
    /// perennial_sdk::export! { orchestrations: [adder] }
    /// # fn main() {}
    /// ```
    ///
    /// Requests are kept until somebody asks for them, also when the orchestration continues as new. A request and an event of one name
    /// have nothing to do with each other. Each request is answered once:
    ///
    /// - by [`respond`](Request::respond) or [`reject`](Request::reject), at any later time;
    /// - with [`NotAnswered`](crate::kind::NOT_ANSWERED) if it is dropped, or if the instance ends first;
    /// - with [`InvalidInput`](crate::kind::INVALID_INPUT) if its input is not an `In`: the orchestration does not see it, and goes on;
    /// - with the failure of its validator, as soon as it arrives. A validator is a function `fn(&In) -> Result<(), E>` that depends on the
    ///   input alone; the definition of the orchestration lists it (`validate(Add = check_number)`). Where the host can, it runs the
    ///   validator before it accepts the request, so that what is refused is not in the history.
    ///
    /// An item is `Err` with [`Canceled`](crate::kind::CANCELED) if the instance is asked to cancel and no request is there.
    pub fn requests<In, Out>(&self, name: impl AsRef<str>) -> RequestStream<In, Out> {
        RequestStream {
            ticket: Ticket::new(self.execution(), name.as_ref()),
            types: PhantomData,
        }
    }

    /// Waits for the next request of this name. As [`requests`](Self::requests) otherwise.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn one_number(ctx: Context) -> Result<u32, Failure> {
    ///     let request = ctx.next_request::<u32, String>("Number").await?;
    ///     let number = *request.input();
    ///     request.respond(&format!("thank you for the {number}"))?;
    ///     Ok(number)
    /// }
    /// ```
    pub fn next_request<In, Out>(&self, name: impl AsRef<str>) -> RequestWait<In, Out> {
        RequestWait {
            ticket: Ticket::new(self.execution(), name.as_ref()),
            types: PhantomData,
        }
    }

    /// Sends a request to an instance, and waits for the answer.
    ///
    /// Its outcome is the answer, or `Err` with the failure that the other instance rejects it with, with
    /// [`NotAnswered`](crate::kind::NOT_ANSWERED) if there will be no answer, or with `InvalidOutput` if the answer is not a `T`. The
    /// request arrives once, whatever crashes.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn reserve(ctx: Context, seat: String) -> Result<bool, Failure> {
    ///     let answer = ctx.send_request("flight-7", "Reserve", &seat);
    ///     ctx.timeout(Duration::from_secs(30), answer).await
    /// }
    /// ```
    pub fn send_request<T>(
        &self,
        instance_id: impl Into<String>,
        name: impl Into<String>,
        input: impl Serialize,
    ) -> RequestCall<T> {
        let name = name.into();
        let input = Payload::Input {
            of: REQUEST,
            name: &name,
        }
        .encode(&input);
        let plan = input.map(|input| OutgoingRequest {
            task: 0,
            instance_id: instance_id.into(),
            name,
            input: Some(input),
        });
        RequestCall(Call::new(self.execution(), plan))
    }
}

/// A request that waits for its answer, made by [`Context::requests`](crate::Context::requests) or
/// [`Context::next_request`](crate::Context::next_request). Dropped without an answer, it is rejected with
/// [`NotAnswered`](crate::kind::NOT_ANSWERED).
#[must_use = "a request that is dropped is rejected: respond to it"]
pub struct Request<In, Out> {
    open: OpenRequest,
    input: In,
    output: PhantomData<fn(&Out)>,
}

/// A request that is to be answered. Dropping it rejects it, unless it is answered.
struct OpenRequest {
    execution: Rc<Execution>,
    number: u32,
    id: String,
    name: String,
}

impl<In, Out> Request<In, Out> {
    /// What is asked.
    pub fn input(&self) -> &In {
        &self.input
    }

    /// Its id, which is unique within the instance. Who sends a request again under the same id gets the same answer.
    pub fn id(&self) -> &str {
        &self.open.id
    }

    /// Its name, as it was sent.
    pub fn name(&self) -> &str {
        &self.open.name
    }

    /// Answers it. The answer is sent when the turn is recorded.
    ///
    /// # Errors
    ///
    /// `InvalidOutput` if serde cannot write the answer. The request is rejected with that.
    pub fn respond(self, output: &Out) -> Result<(), Failure>
    where
        Out: Serialize,
    {
        let payload = Payload::Output {
            of: REQUEST,
            name: &self.open.name,
        };
        match payload.encode(output) {
            Ok(output) => {
                self.open.answer(Ok(Some(output)));
                Ok(())
            }
            Err(failure) => {
                let failure = failure.into_wit();
                self.open.answer(Err(failure.clone()));
                Err(Failure::from_wit(failure, None))
            }
        }
    }

    /// Answers it with a failure. The orchestration goes on.
    pub fn reject(self, failure: impl Into<Failure>) {
        self.open.answer(Err(failure.into().into_wit()));
    }

    /// Reads the input of a request, or rejects a request whose input is something else.
    fn read(execution: &Rc<Execution>, request: WitRequest) -> Option<Self>
    where
        In: DeserializeOwned,
    {
        let WitRequest {
            number,
            id,
            name,
            input,
        } = request;
        execution.open_request(number);
        let open = OpenRequest {
            execution: Rc::clone(execution),
            number,
            id,
            name,
        };
        let payload = Payload::Input {
            of: REQUEST,
            name: &open.name,
        };
        match payload.decode(input.as_deref()) {
            Ok(input) => Some(Self {
                open,
                input,
                output: PhantomData,
            }),
            Err(failure) => {
                open.answer(Err(failure.into_wit()));
                None
            }
        }
    }
}

impl<In: fmt::Debug, Out> fmt::Debug for Request<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("name", &self.open.name)
            .field("id", &self.open.id)
            .field("input", &self.input)
            .finish()
    }
}

impl OpenRequest {
    fn answer(&self, outcome: Result<Option<String>, crate::bindings::types::Failure>) {
        self.execution.answer(self.number, outcome);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.answer(Err(not_answered("the orchestration has dropped it")));
    }
}

/// The requests of one name, made by [`Context::requests`](crate::Context::requests): a stream that does not end.
#[must_use = "it begins to wait when it is polled"]
pub struct RequestStream<In, Out> {
    ticket: Ticket<WitRequest>,
    types: PhantomData<fn() -> Request<In, Out>>,
}

/// Waits for a request, made by [`Context::next_request`](crate::Context::next_request): a future of it.
///
/// It takes its place in the queue when it is first polled. Dropped before it is ready, it takes nothing with it.
#[must_use = "it begins to wait when it is awaited"]
pub struct RequestWait<In, Out> {
    ticket: Ticket<WitRequest>,
    types: PhantomData<fn() -> Request<In, Out>>,
}

/// A [`RequestWait`] with a time limit: `None` if the time was up first.
#[must_use = "it begins to wait when it is awaited"]
pub struct RequestWithin<In, Out> {
    /// None once the result was given.
    ticket: Option<TimedTicket<WitRequest>>,
    types: PhantomData<fn() -> Request<In, Out>>,
}

impl<In, Out> RequestWait<In, Out> {
    /// Waits no longer than this, counted from now, with a durable timer, as [`EventWait::within`](crate::EventWait::within) does.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn session(ctx: Context) -> Result<u32, Failure> {
    ///     let mut pings = 0;
    ///     while let Some(ping) = ctx.next_request("Ping").within(Duration::from_secs(600)).await? {
    ///         let ping: Request<(), u32> = ping;
    ///         pings += 1;
    ///         ping.respond(&pings)?;
    ///     }
    ///     Ok(pings)
    /// }
    /// ```
    pub fn within(self, limit: Duration) -> RequestWithin<In, Out> {
        RequestWithin {
            ticket: Some(TimedTicket::new(self.ticket, limit)),
            types: PhantomData,
        }
    }
}

impl<In: DeserializeOwned, Out> Stream for RequestStream<In, Out> {
    type Item = Result<Request<In, Out>, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        poll_next(&mut self.ticket, cx).map(Some)
    }
}

impl<In: DeserializeOwned, Out> Future for RequestWait<In, Out> {
    type Output = Result<Request<In, Out>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        poll_next(&mut self.ticket, cx)
    }
}

impl<In: DeserializeOwned, Out> Future for RequestWithin<In, Out> {
    type Output = Result<Option<Request<In, Out>>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = &mut self.ticket else {
            panic!("a wait was polled after it had given its result");
        };
        let result = loop {
            match task::ready!(ticket.poll(cx)) {
                Ok(Some(taken)) => match accept(ticket.ticket(), taken) {
                    Some(request) => break Ok(Some(request)),
                    None => continue,
                },
                Ok(None) => break Ok(None),
                Err(canceled) => break Err(canceled),
            }
        };
        self.ticket = None;
        Poll::Ready(result)
    }
}

/// The next request whose input is an `In`.
fn poll_next<In: DeserializeOwned, Out>(
    ticket: &mut Ticket<WitRequest>,
    cx: &task::Context<'_>,
) -> Poll<Result<Request<In, Out>, Failure>> {
    loop {
        let taken = match task::ready!(ticket.poll(cx)) {
            Ok(taken) => taken,
            Err(canceled) => return Poll::Ready(Err(canceled)),
        };
        if let Some(request) = accept(ticket, taken) {
            return Poll::Ready(Ok(request));
        }
    }
}

/// The request, if its input is an `In`. Who waits keeps its place otherwise.
fn accept<In: DeserializeOwned, Out>(
    ticket: &mut Ticket<WitRequest>,
    taken: Taken<WitRequest>,
) -> Option<Request<In, Out>> {
    let request = Request::read(ticket.execution(), taken.message);
    if request.is_none() {
        ticket.return_to(taken.place);
    }
    request
}

/// A request to another instance, made by [`Context::send_request`](crate::Context::send_request).
///
/// It is a future of the answer: the request is sent when that is first polled, or at once by [`start`](Self::start). Dropped after that,
/// the answer is ignored; what the other instance does about the request, it does all the same.
#[must_use = "a request is sent when it is awaited or started"]
pub struct RequestCall<T>(Call<OutgoingRequest, T>);

impl Plan for OutgoingRequest {
    const OF: &'static str = REQUEST;

    fn name(&self) -> &str {
        &self.name
    }

    fn action(self, task: TaskId) -> Action {
        Action::SendRequest(Self { task, ..self })
    }
}

impl<T> RequestCall<T> {
    /// Sends it now, and returns the future of the answer.
    pub fn start(self) -> Task<T> {
        self.0.start()
    }
}

impl<T: DeserializeOwned> Future for RequestCall<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}
