//! What happens, while it happens: server-sent events, which a caller that lost them takes up where it was.
//!
//! Laws: an event's id is the place in what it tells of; whoever gives the last one that it saw misses nothing after it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream::{self, Stream};

use crate::client::{Change, Changes, Client, HistoryEvent, Place};
use crate::http::Api;
use crate::http::native::Operation;
use crate::http::native::ask::{Ask, Failed, Segments};
use crate::http::native::doc::{doc, text};

/// How often a stream says something, so that whoever is between keeps it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where a caller says which event it saw last.
const LAST_EVENT: &str = "last-event-id";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation {
            method: "GET",
            path: "/instances/{id}/live",
            doc: doc("followInstance", "The history of an instance as server-sent events, from its beginning or after Last-Event-ID, until it has ended")
                .query("after", text(), "As the header Last-Event-ID")
                .stream("`history` for each event, `ended` with the instance at the end; ids are EXECUTION:NUMBER"),
            handler: get(follow),
        },
        Operation {
            method: "GET",
            path: "/live",
            doc: doc("followChanges", "Instances that change, as server-sent events, from now on or after Last-Event-ID")
                .query("name", text(), "Only this orchestration")
                .query("idPrefix", text(), "Only ids that begin so")
                .query("after", text(), "As the header Last-Event-ID")
                .stream("`instance` for each change, with the instance as it is then"),
            handler: get(changes),
        },
    ]
}

fn last_seen(ask: &Ask, headers: &HeaderMap) -> Option<String> {
    let header = headers.get(LAST_EVENT).and_then(|last| last.to_str().ok());
    header
        .or_else(|| ask.query.text("after"))
        .filter(|last| !last.is_empty())
        .map(str::to_owned)
}

fn stream_of(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let events = futures::StreamExt::map(events, Ok::<_, Infallible>);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

fn event(name: &str, id: String, data: &impl serde::Serialize) -> Event {
    let event = Event::default().event(name).id(id);
    match event.json_data(data) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(%error, "an event could not be written as JSON");
            Event::default().comment("an event could not be written")
        }
    }
}

/// Where a stream of one instance is.
struct Following {
    api: Arc<Api>,
    client: Client,
    id: String,
    place: Place,
    ready: VecDeque<Event>,
    over: bool,
}

async fn follow(
    ask: Ask,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let place = match last_seen(&ask, &headers) {
        None => Place::default(),
        Some(last) => Place::after(&last).ok_or_else(|| {
            Failed::invalid(format!("{last:?} is no id of an event of an instance"))
        })?,
    };
    if ask.client.status(&id).await?.is_none() {
        return Err(Failed::no_instance(&id));
    }
    let following = Following {
        api: ask.api,
        client: ask.client,
        id,
        place,
        ready: VecDeque::new(),
        over: false,
    };
    Ok(stream_of(stream::unfold(following, Following::next)))
}

impl Following {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((event, self));
            }
            if self.over || self.api.closing.is_closed() {
                return None;
            }
            // Asked before it is read, so that no change falls between the two.
            let changed = self.client.changed(&self.id);
            match self.client.history_after(&self.id, &mut self.place).await {
                Ok(Some(found)) => {
                    let execution = &self.place.execution;
                    let told =
                        |e: &HistoryEvent| event("history", format!("{execution}:{}", e.number), e);
                    self.ready.extend(found.events.iter().map(told));
                    if let Some(ended) = found.ended {
                        let last = format!("{execution}:{}", u64::MAX);
                        self.ready.push_back(event("ended", last, &ended));
                        self.over = true;
                    }
                    if !self.ready.is_empty() {
                        continue;
                    }
                }
                // Purged, or the host is gone: there is nothing more to tell.
                Ok(None) | Err(_) => self.over = true,
            }
            tokio::select! {
                () = changed => {}
                () = self.api.closing.closed() => {}
            }
        }
    }
}

/// Where a stream of changes is.
struct Watching {
    api: Arc<Api>,
    changes: Changes,
    ready: VecDeque<Change>,
    name: Option<String>,
    id_prefix: Option<String>,
}

async fn changes(ask: Ask, headers: HeaderMap) -> Result<Response, Failed> {
    let last = last_seen(&ask, &headers);
    let watching = Watching {
        changes: ask.client.changes(last.as_deref())?,
        name: ask.query.text("name").map(str::to_owned),
        id_prefix: ask.query.text("idPrefix").map(str::to_owned),
        api: ask.api,
        ready: VecDeque::new(),
    };
    Ok(stream_of(stream::unfold(watching, Watching::next)))
}

impl Watching {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            while let Some(change) = self.ready.pop_front() {
                if self.wants(&change) {
                    return Some((event("instance", change.id(), &change.instance), self));
                }
            }
            let closing = Arc::clone(&self.api.closing);
            tokio::select! {
                changed = self.changes.next() => self.ready.extend(changed.ok()?),
                () = closing.closed() => return None,
            }
        }
    }

    fn wants(&self, change: &Change) -> bool {
        let instance = &change.instance;
        self.name.as_ref().is_none_or(|name| *name == instance.name)
            && self
                .id_prefix
                .as_ref()
                .is_none_or(|prefix| instance.instance_id.starts_with(prefix))
    }
}
