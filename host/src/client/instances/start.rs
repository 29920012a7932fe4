//! Starting an instance.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use perennial_core::{Json, Millis, Reuse, Tags, Timestamp};
use serde::Serialize;

use crate::client::{Client, Error, Result, check_json, to_json};
use crate::engine::{Request, StartRequest, brief};
use crate::store::Reply;

/// A start. Await it: it returns the instance's id once the start is durable.
#[derive(Clone, Debug)]
#[must_use = "an instance is started when its start is awaited"]
pub struct Start {
    client: Client,
    orchestration: String,
    version: Option<String>,
    id: Option<String>,
    input: Result<Option<Json>>,
    tags: Tags,
    reuse: Reuse,
    trace_parent: Option<String>,
    begins: Begins,
    execution_timeout: Option<Millis>,
    by_sdk: bool,
}

/// What is sent of a start.
pub(crate) struct StartFor {
    pub(in crate::client) start: StartRequest,
    /// How long after its acceptance it begins, if it was said so.
    pub(in crate::client) delay: Option<Millis>,
    pub(in crate::client) execution_timeout: Option<Millis>,
}

/// The result of [`Start::with_event`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Started {
    /// The id of the instance.
    pub id: String,
    /// Whether it was started; otherwise it was there.
    pub is_new: bool,
}

#[derive(Clone, Copy, Debug)]
enum Begins {
    Now,
    At(Timestamp),
    After(Duration),
}

impl Start {
    pub(crate) fn new(client: Client, orchestration: String) -> Self {
        Self {
            client,
            orchestration,
            version: None,
            id: None,
            input: Ok(None),
            tags: Tags::new(),
            reuse: Reuse::default(),
            trace_parent: None,
            begins: Begins::Now,
            execution_timeout: None,
            by_sdk: false,
        }
    }

    /// Sets the id: 1 to 256 characters, without `/ \ # ?`, control characters or characters that change the direction of text, not `.` or
    /// `..`, and not starting with `@`. The default is a UUID of version 7 without dashes, so that ids sort by creation time.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the input.
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Self {
        self.input = to_json("the input", input).map(Some);
        self
    }

    /// Sets or clears the input, as a JSON text that is kept unchanged. A text that is not JSON is refused.
    pub fn input_json(mut self, input: Option<Json>) -> Self {
        self.input = input.as_ref().map_or(Ok(()), check_json).map(|()| input);
        self
    }

    /// Selects a version of the orchestration; the default is the one deployed last.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Adds a label. The start is refused if one key has two values.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Decides what happens if the id is in use. By default an ended instance is replaced, and a live one is an error.
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// Schedules the start: the instance is Pending until this time, even while no host runs. A time in the past means now.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.begins = Begins::At(time);
        self
    }

    /// Schedules the start after a delay.
    pub fn after(mut self, delay: Duration) -> Self {
        self.begins = Begins::After(delay);
        self
    }

    /// Asks the instance to cancel after this long, counted from when it may begin and across continue-as-new. It then fails with `Timeout`:
    /// what it awaits ends, sagas compensate, and what has not ended a minute later is ended. A rewind gives it the whole time again.
    pub fn execution_timeout(mut self, limit: Duration) -> Self {
        self.execution_timeout = Some(Millis(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)));
        self
    }

    /// Starts it as a client of remote workers does: a name that no module defines waits for a worker.
    #[cfg(feature = "grpc")]
    pub(crate) fn by_sdk(mut self) -> Self {
        self.by_sdk = true;
        self
    }

    /// Continues this W3C trace; `trace_parent` is a `traceparent` header.
    pub fn trace_parent(mut self, trace_parent: impl Into<String>) -> Self {
        self.trace_parent = Some(trace_parent.into());
        self
    }
}

impl Start {
    /// Starts the instance if there is no live one with its id, and raises an external event for it either way, in one transaction. Without
    /// an id there is none, and it is a start with a first event.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let cart = client.start("Cart").id("cart-alice").with_event("Seen", &"home page").await?;
    /// println!("{} is {}", cart.id, if cart.is_new { "new" } else { "there" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of a start and of [`Client::raise_event`].
    pub async fn with_event<T: Serialize + ?Sized>(self, name: &str, data: &T) -> Result<Started> {
        let data = to_json("the event's data", data)?;
        self.with_event_json(name, Some(data)).await
    }

    /// As [`with_event`](Self::with_event), with a JSON text, which is kept unchanged, or without data.
    ///
    /// # Errors
    /// As [`with_event`](Self::with_event); [`Error::is_invalid`] if the text is not JSON.
    pub async fn with_event_json(self, name: &str, data: Option<Json>) -> Result<Started> {
        data.as_ref().map_or(Ok(()), check_json)?;
        let mut this = self;
        let id = this.named();
        let client = this.client.clone();
        let is_new = match client.remote() {
            Some(remote) => {
                let start = this.request()?;
                remote.start_with_event(start, name, data).await?
            }
            None => {
                let event = Request::RaiseEvent {
                    id: id.clone(),
                    name: name.to_owned(),
                    data,
                };
                let reply = client.submit(&id, this.for_delivery(event)?).await?;
                let Reply::All(replies) = reply else {
                    return Err(Error::unexpected(&reply));
                };
                for reply in &replies {
                    Error::from_reply(&id, reply.clone())?;
                }
                replies.first() == Some(&Reply::Done)
            }
        };
        Ok(Started { id, is_new })
    }

    /// The id, which it gets here if it was not given one.
    fn named(&mut self) -> String {
        // Time-ordered ids are adjacent in the hub's index. Random ids would each change a page of their own, which made a third of all
        // writes.
        let id = self.id.take();
        let id = id.unwrap_or_else(|| self.client.new_id());
        self.id = Some(id.clone());
        id
    }

    /// The request to start it if there is no live instance with its id, and to deliver something.
    pub(in crate::client) fn for_delivery(self, then: Request) -> Result<Request> {
        let StartFor {
            start,
            delay: _,
            execution_timeout,
        } = self.request()?;
        Ok(Request::StartFor {
            start,
            execution_timeout,
            then: Box::new(then),
        })
    }

    /// What is sent of it.
    pub(in crate::client) fn request(mut self) -> Result<StartFor> {
        let id = self.named();
        let mut keys: Vec<&str> = self.tags.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let key = brief(twice[0]);
            return Err(Error::invalid(format!(
                "the tag {key:?} is given twice, and an instance has one value of each"
            )));
        }
        let (scheduled_for, delay) = match self.begins {
            Begins::Now => (None, None),
            Begins::At(time) => (Some(time), None),
            Begins::After(delay) => {
                let ms = Millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
                (Some(self.client.now().after(ms)), Some(ms))
            }
        };
        if scheduled_for.is_some_and(|at| jiff::Timestamp::try_from(at).is_err()) {
            return Err(Error::invalid(
                "the time at which the instance is to begin is after the year 9999: the calendar ends there",
            ));
        }
        Ok(StartFor {
            start: StartRequest {
                name: self.orchestration,
                version: self.version,
                id,
                input: self.input?,
                tags: self.tags,
                reuse: self.reuse,
                trace_parent: self.trace_parent,
                scheduled_for,
            },
            delay,
            execution_timeout: self.execution_timeout,
        })
    }
}

impl IntoFuture for Start {
    /// The id. Fails with [`Error::is_unknown_orchestration`](crate::Error::is_unknown_orchestration) if no module defines the
    /// orchestration, and with [`Error::is_already_exists`](crate::Error::is_already_exists) if the id is in use.
    type Output = Result<String>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (client, by_sdk) = (self.client.clone(), self.by_sdk);
            let StartFor {
                start,
                delay,
                execution_timeout,
            } = self.request()?;
            let id = start.id.clone();
            match (client.remote(), delay) {
                // The host that will run the start measures the delay on its own clock.
                (Some(remote), Some(delay)) => {
                    remote.start_after(start, delay, execution_timeout).await?;
                }
                _ => {
                    let mut request = match execution_timeout {
                        Some(execution_timeout) => Request::StartLimited {
                            start,
                            execution_timeout,
                        },
                        None => Request::Start(start),
                    };
                    if by_sdk {
                        request = Request::Remote(Box::new(request));
                    }
                    client.submit(&id, request).await.map(drop)?;
                }
            }
            Ok(id)
        })
    }
}
