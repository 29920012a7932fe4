//! Named values of instances, and changes of tags from outside.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes as Text;
use axum::http::{HeaderMap, StatusCode};
use futures::stream;
use serde_json::json;

use crate::client::body::{TagsAnswer, TagsBody};
use crate::client::{Client, NamedValue, WaitedValue};
use crate::http::Api;
use crate::http::bill::{Counted, Turn};
use crate::http::native::doc::{Operation, get, patch, text};
use crate::http::native::extract::{Ask, Failed, Object, Segments};
use crate::http::native::reply::{Raw, Reply};
use crate::http::native::sent::{
    KEEP_ALIVE, STILL_THERE, events, last_seen, stream_of, write_event,
};
use crate::timed::timed;

/// The default length of a wait.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        get(
            "/instances/{id}/values",
            list,
            "listValues",
            "The named values that the orchestration of an instance has set, by name",
        )
        .answer(200, "The values"),
        get(
            "/instances/{id}/values/{name}",
            show,
            "showValue",
            "A named value of an instance; with `since`, as soon as it is another one",
        )
        .query(
            "since",
            json!({ "type": "integer", "minimum": 0 }),
            "Waits while this is the version of the value: that of the last answer, or 0 for a value that is not set",
        )
        .query(
            "timeout",
            json!({ "type": "number", "minimum": 0 }),
            "For `since`: seconds, 10 by default",
        )
        .answer(200, "The value, or its absence, with version 0")
        .answer(
            202,
            "The timeout passed, or the instance has ended: the value still has the version `since`",
        ),
        get(
            "/instances/{id}/values/{name}/live",
            follow,
            "followValue",
            "A named value of an instance as server-sent events: as it is now, unless its version is Last-Event-ID, then after each \
             change, until the instance has ended",
        )
        .query("after", text(), "The same as the header Last-Event-ID")
        .answer_raw(
            200,
            "`value` for each change, `ended` at the end, both with the value; ids are its versions",
            "text/event-stream",
            events,
        ),
        patch(
            "/instances/{id}/tags",
            set_tags,
            "setTags",
            "Changes tags of an instance, live or ended; tags that are not named stay. The orchestration is not told",
        )
        .for_a_run()
        .answer(200, "The tags after the change")
        .fails(&[(409, "The instance has another run than `ifRun` says")]),
    ]
}

async fn list(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<Vec<NamedValue>>, Failed> {
    Ok(Reply::ok(&ask.client.values(&id).await?))
}

async fn show(
    ask: Ask,
    Segments((id, name)): Segments<(String, String)>,
) -> Result<Reply<NamedValue>, Failed> {
    let Some(since) = ask.query.text("since") else {
        return Ok(Reply::ok(&ask.client.named_value(&id, &name).await?));
    };
    let since = version(since).ok_or_else(|| {
        Failed::invalid(format!(
            "the parameter 'since' must be the version of a value, such as 17, not {since:?}"
        ))
    })?;
    let limit = ask.query.seconds("timeout")?.unwrap_or(TIMEOUT);
    let limit = limit.min(ask.api.wait_max);
    let changed = |value: &NamedValue| value.version != since;
    let waited = tokio::select! {
        waited = ask.client.wait_for_value(&id, &name, limit, changed) => waited?,
        () = ask.api.closing.closed() => {
            WaitedValue::TimedOut(ask.client.named_value(&id, &name).await?)
        }
    };
    let code = match &waited {
        WaitedValue::Reached(_) => StatusCode::OK,
        WaitedValue::Ended(_) | WaitedValue::TimedOut(_) => StatusCode::ACCEPTED,
    };
    Ok(Reply::new(code, waited.value()))
}

fn version(text: &str) -> Option<u64> {
    text.parse().ok()
}

async fn set_tags(
    ask: Ask,
    Segments(id): Segments<String>,
    Object(TagsBody(changes)): Object<TagsBody>,
) -> Result<Reply<TagsAnswer>, Failed> {
    let mut change = ask.client.set_tags(&id);
    for (key, value) in changes {
        change = match value {
            Some(value) => change.set(key, value),
            None => change.remove(key),
        };
    }
    Ok(Reply::ok(&TagsAnswer(change.await?)))
}

/// A follower of one value.
struct Following {
    api: Arc<Api>,
    client: Client,
    id: String,
    name: String,
    /// The version that was sent last.
    seen: Option<u64>,
    over: bool,
    _counted: Counted,
}

async fn follow(
    ask: Ask,
    Segments((id, name)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Result<Raw, Failed> {
    let seen = match last_seen(&ask, &headers) {
        None => None,
        Some(last) => Some(version(&last).ok_or_else(|| {
            Failed::invalid(format!(
                "{last:?} is not the id of an event of this stream; send the last id that it sent"
            ))
        })?),
    };
    ask.client.named_value(&id, &name).await?;
    let bill = ask.api.live().shared_bill();
    let following = Following {
        api: ask.api,
        client: ask.client,
        id,
        name,
        seen,
        over: false,
        _counted: bill.follower(),
    };
    let events = stream::unfold(following, Following::next);
    Ok(Raw(stream_of(events, bill)))
}

impl Following {
    async fn next(mut self) -> Option<(Text, Self)> {
        loop {
            if self.over || self.api.closing.is_closed() {
                return None;
            }
            // Subscribe before reading, so that no change is missed.
            let changed = self.client.changed(&self.id);
            let text = self.read().await?;
            if !text.is_empty() {
                self.api.live().bill().expect(1, text.len());
                return Some((text.into(), self));
            }
            let still_there = Text::from_static(STILL_THERE.as_bytes());
            if tokio::time::timeout(KEEP_ALIVE, changed).await.is_err() {
                return Some((still_there, self));
            }
        }
    }

    /// The events since the last read; `None` if the instance was purged, or the host has stopped.
    async fn read(&mut self) -> Option<String> {
        let api = Arc::clone(&self.api);
        let bill = api.live().bill();
        let turn = bill.turn(Turn::Behind).await;
        let value = self.client.named_value(&self.id, &self.name).await.ok()?;
        let (text, took) = timed(|| {
            let mut text = String::new();
            let id = value.version.to_string();
            if self.seen != Some(value.version) {
                write_event(&mut text, "value", &id, &value);
            }
            if value.is_of_ended() {
                write_event(&mut text, "ended", &id, &value);
            }
            text
        });
        bill.has_read(took);
        drop(turn);
        self.seen = Some(value.version);
        self.over = value.is_of_ended();
        Some(text)
    }
}
