//! Requests to instances, and their answers.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::{Duration, Instant};

use perennial_core::{Failure, Json, Rejection, Status, Timestamp};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::instances::start::Start;
use crate::client::json::{FailureJson, Payload, TimeText};
use crate::client::{Backend, Client, Error, Result, check_json, to_json};
use crate::engine::{AskRequest, Request};
use crate::store::{self, Reader, Reply, RequestRow, StoreError};

/// The polling interval of a process that does not run the hub; a host notifies its own clients instead.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the answer to a request is waited for by default.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Requests that a list shows at most: those that were accepted last.
const LISTED_MAX: u32 = 1_000;

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[non_exhaustive]
pub enum RequestState {
    /// It has no answer yet.
    Pending,
    /// The orchestration answered it with an output.
    Completed,
    /// It was answered with a failure, or will not be answered.
    Failed,
}

/// A request to an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RequestStatus {
    /// The instance that was asked.
    pub instance_id: String,
    /// The id of the request, unique within the instance.
    pub request_id: String,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: RequestState,
    /// When it was recorded; absent if the module declined it before.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "createdTime")]
    pub accepted_at: Option<Timestamp>,
    /// When it was answered.
    #[serde_as(as = "Option<TimeText>")]
    #[serde(rename = "answeredTime")]
    pub answered_at: Option<Timestamp>,
    /// The output, if it was answered with one.
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub output: Option<Json>,
    /// Why it failed, if it has.
    #[serde_as(as = "Option<FailureJson>")]
    pub failure: Option<Failure>,
}

impl RequestStatus {
    fn of(instance: &str, row: RequestRow, status: Status) -> Self {
        let answered_at = row.answer.as_ref().map(|(at, _)| *at);
        let (state, output, failure) = match row.answer {
            Some((_, Ok(output))) => (RequestState::Completed, output, None),
            Some((_, Err(failure))) => (RequestState::Failed, None, Some(failure)),
            None if status.is_end() => {
                let why = format!("instance {instance:?} is {status} and has not answered");
                let failure = store::not_answered(why);
                (RequestState::Failed, None, Some(failure))
            }
            None => (RequestState::Pending, None, None),
        };
        Self {
            instance_id: instance.to_owned(),
            request_id: row.id,
            name: row.name,
            state,
            accepted_at: Some(row.at),
            answered_at,
            output,
            failure,
        }
    }

    /// A request that the module declined before it was recorded.
    fn declined(ask: AskRequest, failure: Failure) -> Self {
        Self {
            instance_id: ask.instance,
            request_id: ask.id,
            name: ask.name,
            state: RequestState::Failed,
            accepted_at: None,
            answered_at: None,
            output: None,
            failure: Some(failure),
        }
    }

    /// Whether it has no answer yet.
    pub fn is_pending(&self) -> bool {
        self.state == RequestState::Pending
    }

    /// Deserializes the output; an absent one counts as `null`.
    ///
    /// # Errors
    /// [`Error::request_failure`] if it failed, [`Error::is_unanswered`] if it has no answer yet, and [`Error::is_invalid`] if the output has
    /// another type.
    pub fn output_as<T: DeserializeOwned>(&self) -> Result<T> {
        if let Some(failure) = &self.failure {
            return Err(Error::request_failed(
                &self.instance_id,
                &self.name,
                failure,
            ));
        }
        if self.is_pending() {
            let (id, request) = (&self.instance_id, &self.request_id);
            return Err(Error::unanswered(id, request, &self.name));
        }
        let text = self.output.as_ref().map_or("null", Json::as_str);
        serde_json::from_str(text).map_err(|error| Error::json("the answer to the request", &error))
    }
}

/// A request to an instance. Set what it needs, then await it: it returns the answer.
#[derive(Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct SendRequest<O> {
    client: Client,
    ask: AskRequest,
    input: Result<Option<Json>>,
    start: Option<Start>,
    limit: Duration,
    output: PhantomData<fn() -> O>,
}

impl Client {
    /// Asks a running instance, and waits for its answer. The orchestration serves requests of this name with `ctx.requests`; until it does, the
    /// request waits. It is recorded before it is delivered, so that it outlives every crash.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let total: u64 = client.request("cart-7", "AddItem", &"a book").await?;
    ///
    /// // With an id of its own it can be sent again: it arrives once.
    /// let order = client.request::<String>("cart-7", "Checkout", &()).id("checkout-7").await;
    /// if let Err(error) = &order && let Some(failure) = error.request_failure() {
    ///     println!("the cart said no: {failure}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn request<O>(
        &self,
        id: &str,
        name: &str,
        input: &(impl Serialize + ?Sized),
    ) -> SendRequest<O> {
        let input = to_json("the request's input", input).map(Some);
        SendRequest::new(self.clone(), id, name, input)
    }

    /// As [`request`](Self::request), with a JSON text, which is kept unchanged, or without an input.
    pub fn request_json<O>(&self, id: &str, name: &str, input: Option<Json>) -> SendRequest<O> {
        let input = input.as_ref().map_or(Ok(()), check_json).map(|()| input);
        SendRequest::new(self.clone(), id, name, input)
    }

    /// A request that was sent before, by its id, with its answer if it has one. Answers are kept as long as the instance, but one that goes
    /// on as new for ever keeps each for a day.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance or no such request.
    pub async fn request_status(&self, id: &str, request_id: &str) -> Result<RequestStatus> {
        if let Some(remote) = self.remote() {
            return remote.request(id, request_id, None).await;
        }
        let (key, wanted) = (id.to_owned(), request_id.to_owned());
        let read = move |reader: &Reader| reader.request(&key, &wanted);
        match self.read(read).await? {
            Some((status, Some(row))) => Ok(RequestStatus::of(id, row, status)),
            Some((_, None)) => Err(Error::unknown_request(id, request_id)),
            None => Err(Error::rejected(id, Rejection::NotFound)),
        }
    }

    /// Waits until a request that was sent before has an answer, for at most `limit`. Returns it as it is then.
    ///
    /// # Errors
    /// As [`request_status`](Self::request_status).
    pub async fn wait_for_answer(
        &self,
        id: &str,
        request_id: &str,
        limit: Duration,
    ) -> Result<RequestStatus> {
        let begun = Instant::now();
        loop {
            // Subscribe before reading, so that no answer is missed.
            let told = match &self.backend {
                Backend::Engine(engine) => {
                    Some(engine.watch_answer(id, request_id, begun.elapsed()))
                }
                Backend::Outside(_) | Backend::Remote(_) => None,
            };
            let left = limit.saturating_sub(begun.elapsed());
            let status = match self.remote() {
                Some(remote) => remote.request(id, request_id, Some(left)).await?,
                None => self.request_status(id, request_id).await?,
            };
            let left = limit.saturating_sub(begun.elapsed());
            if !status.is_pending() || left.is_zero() {
                return Ok(status);
            }
            match told {
                // Changed or timed out: read again.
                Some([answer, end]) => {
                    let told = futures::future::select(answer.told, end.told);
                    if let Ok(told) = tokio::time::timeout(left, told).await
                        && told.factor_first().0.is_err()
                    {
                        return Err(Error::store(&self.hub, StoreError::Closed));
                    }
                }
                None => tokio::time::sleep(left.min(LOOK_EVERY)).await,
            }
        }
    }

    /// The requests to an instance that were recorded last, the newest first: at most a thousand, and at most 4 MiB of answers beside the newest.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance.
    pub async fn requests(&self, id: &str) -> Result<Vec<RequestStatus>> {
        let found = match self.remote() {
            Some(remote) => remote.requests(id).await?,
            None => {
                let key = id.to_owned();
                self.read(move |reader| read_requests(reader, &key)).await?
            }
        };
        found.ok_or_else(|| Error::rejected(id, Rejection::NotFound))
    }
}

fn read_requests(reader: &Reader, id: &str) -> Result<Option<Vec<RequestStatus>>, StoreError> {
    let Some(row) = reader.instance(id)? else {
        return Ok(None);
    };
    let requests = reader.requests(row.key, LISTED_MAX)?.into_iter();
    Ok(Some(
        requests
            .map(|request| RequestStatus::of(id, request, row.status))
            .collect(),
    ))
}

impl<O> SendRequest<O> {
    fn new(client: Client, id: &str, name: &str, input: Result<Option<Json>>) -> Self {
        Self {
            client,
            ask: AskRequest {
                instance: id.to_owned(),
                id: uuid::Uuid::now_v7().simple().to_string(),
                name: name.to_owned(),
                input: None,
            },
            input,
            start: None,
            limit: ANSWER_WITHIN,
            output: PhantomData,
        }
    }

    /// Sets the id of the request, by which the instance knows it: sent again under it, it is the same one, and gets the same answer. The
    /// default is a new one each time.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.ask.id = id.into();
        self
    }

    /// Waits for the answer for at most this long. The default is 30 seconds. A request that has no answer by then is not withdrawn:
    /// [`Client::wait_for_answer`] gets it later.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts the instance with this start if there is no live one, and then delivers the request, both in one transaction. The id is that of
    /// the request.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let cart = client.start("Cart").input(&"alice");
    /// let total: u64 = client.request("cart-alice", "AddItem", &"a book").or_start(cart).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn or_start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Sends it, and returns how far it is when it has an answer, or when the time for it is over.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such instance, [`Error::is_wrong_state`] if it has ended, [`Error::is_limit_exceeded`].
    pub async fn status(self) -> Result<RequestStatus> {
        let Self {
            client,
            mut ask,
            input,
            start,
            limit,
            output: _,
        } = self;
        ask.input = input?;
        let begun = Instant::now();
        if let Some(remote) = client.remote() {
            let start = start
                .map(|start| start.id(&ask.instance).request())
                .transpose()?;
            let status = remote.ask_instance(&ask, start, limit).await?;
            let left = limit.saturating_sub(begun.elapsed());
            if !status.is_pending() || left.is_zero() {
                return Ok(status);
            }
            return client.wait_for_answer(&ask.instance, &ask.id, left).await;
        }
        let request = Request::Ask(ask.clone());
        let request = match start {
            Some(start) => start.id(&ask.instance).for_delivery(request)?,
            None => request,
        };
        let reply = client.submit(&ask.instance, request).await?;
        let delivered = match reply {
            Reply::All(replies) => replies.into_iter().last().unwrap_or_default(),
            other => other,
        };
        if let Reply::Declined(failure) = Error::from_reply(&ask.instance, delivered)? {
            return Ok(RequestStatus::declined(ask, *failure));
        }
        let left = limit.saturating_sub(begun.elapsed());
        client.wait_for_answer(&ask.instance, &ask.id, left).await
    }
}

impl<O: DeserializeOwned + 'static> IntoFuture for SendRequest<O> {
    /// The answer. Fails with the [failure](Error::request_failure) that the orchestration answered, with
    /// [`Error::is_unanswered`] if there is no answer in time, and as [`status`](SendRequest::status).
    type Output = Result<O>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.status().await?.output_as() })
    }
}
