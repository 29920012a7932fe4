//! Server-sent events: how a stream is resumed, written and kept open.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures::stream::Stream;
use schemars::{Schema, SchemaGenerator};

use crate::http::bill::{Bill, Follows};
use crate::http::native::extract::Ask;

/// The interval of keep-alive comments, so that proxies keep the connection open.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The header with the id of the last event received.
const LAST_EVENT: &str = "last-event-id";

/// The schema of server-sent events is a string.
pub(super) fn events(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<String>()
}

pub(super) fn last_seen(ask: &Ask, headers: &HeaderMap) -> Option<String> {
    let header = headers.get(LAST_EVENT).and_then(|last| last.to_str().ok());
    header
        .or_else(|| ask.query.text("after"))
        .filter(|last| !last.is_empty())
        .map(str::to_owned)
}

/// An answer with server-sent events, which proxies must not buffer.
pub(super) fn stream_of(
    events: impl Stream<Item = Bytes> + Send + 'static,
    bill: Arc<Bill>,
) -> Response {
    let events = futures::StreamExt::map(events, Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    let kept = HeaderValue::from_static("no-cache");
    headers.insert(header::CACHE_CONTROL, kept);
    response.extensions_mut().insert(Follows(bill));
    response
}

/// Writes one event. JSON contains no line break.
pub(super) fn write_event(text: &mut String, name: &str, id: &str, data: &impl serde::Serialize) {
    match serde_json::to_string(data) {
        Ok(data) => {
            // Writing to a string cannot fail.
            let _ = write!(text, "event: {name}\nid: {id}\ndata: {data}\n\n");
        }
        Err(error) => {
            tracing::error!(%error, "an event could not be written as JSON");
            text.push_str(": an event could not be written\n\n");
        }
    }
}

/// The comment that is sent if there are no events.
pub(super) const STILL_THERE: &str = ":\n\n";
