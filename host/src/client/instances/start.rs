//! Starting an instance.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use perennial_core::{Json, Millis, Reuse, Tags, Timestamp};
use serde::Serialize;

use crate::client::{Client, Error, Result, check_json, to_json};
use crate::engine::{Request, StartRequest, brief};

/// A start. Await it: it gives the instance's id once the start is durable.
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
}

/// When an instance may begin.
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
        }
    }

    /// Under this id instead of a new one: 1 to 256 characters, none of `/ \ # ?`, none that control a terminal or the direction of text, not
    /// `.` or `..`, not starting with `@`. A new one is a UUID of version 7 without its dashes, so that ids sort by when they were made.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// With this input.
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Self {
        self.input = to_json("the input", input).map(Some);
        self
    }

    /// With this JSON text as input, which is kept as it is, or without any. A text that is not JSON is refused.
    pub fn input_json(mut self, input: Option<Json>) -> Self {
        self.input = input.as_ref().map_or(Ok(()), check_json).map(|()| input);
        self
    }

    /// This version of the orchestration instead of the one that was deployed last.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// With a label. One key has one value: a start that gives two is refused.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// What happens where the id is in use. By default an instance that has ended is replaced, and a live one is left alone.
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// Not before this time: it is Pending until then, also while no host runs. A time that has passed is now.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.begins = Begins::At(time);
        self
    }

    /// Not before so long has passed.
    pub fn after(mut self, delay: Duration) -> Self {
        self.begins = Begins::After(delay);
        self
    }

    /// As part of this W3C trace.
    pub fn trace_parent(mut self, trace_parent: impl Into<String>) -> Self {
        self.trace_parent = Some(trace_parent.into());
        self
    }
}

impl IntoFuture for Start {
    /// The id. The error says with [`Error::is_unknown_orchestration`](crate::Error::is_unknown_orchestration) that no module defines it,
    /// with [`Error::is_already_exists`](crate::Error::is_already_exists) that the id is in use.
    type Output = Result<String>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            // Ids that begin with the time stand together in the hub's index. Random ones would each change a page of their own, which
            // made a third of everything that is written.
            let id = self
                .id
                .unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string());
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
            let request = StartRequest {
                name: self.orchestration,
                version: self.version,
                id: id.clone(),
                input: self.input?,
                tags: self.tags,
                reuse: self.reuse,
                trace_parent: self.trace_parent,
                scheduled_for,
            };
            match (self.client.remote(), delay) {
                // A span is counted on the clock of whoever waits for its end.
                (Some(remote), Some(delay)) => remote.start_after(request, delay).await?,
                _ => self
                    .client
                    .submit(&id, Request::Start(request))
                    .await
                    .map(drop)?,
            }
            Ok(id)
        })
    }
}
