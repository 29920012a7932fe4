//! The management URLs of an instance.

use axum::http::{StatusCode, header};
use axum::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::http::compat::{Call, Refused, reply};
use crate::http::wire;

/// Characters to escape in a path segment or a query value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `Retry-After` in seconds: after a start, and for the status of a live instance.
pub(super) const RETRY_AFTER_START: &str = "10";
pub(super) const RETRY_AFTER_STATUS: &str = "5";

/// The body of a 202 answer: the management payload without `rewindPostUri`, which Durable Functions omits here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckStatus {
    id: String,
    status_query_get_uri: String,
    send_event_post_uri: String,
    terminate_post_uri: String,
    purge_history_delete_uri: String,
    restart_post_uri: String,
    suspend_post_uri: String,
    resume_post_uri: String,
}

/// Answers 202 with the URLs of an instance.
pub(super) fn check_status(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    let base = format!("{}?{}", call.base, required_query(call));
    let links = call.client.http_management_payload(id, &base);
    let links = links.map_err(|error| reply::error(&error))?;
    let mut status_query_get_uri = links.status_query_get_uri;
    if call
        .query
        .flag("returnInternalServerErrorOnFailure", false)?
    {
        status_query_get_uri.push_str("&returnInternalServerErrorOnFailure=true");
    }
    let location = status_query_get_uri.clone();
    let body = CheckStatus {
        id: links.id,
        status_query_get_uri,
        send_event_post_uri: links.send_event_post_uri,
        terminate_post_uri: links.terminate_post_uri,
        purge_history_delete_uri: links.purge_history_delete_uri,
        restart_post_uri: links.restart_post_uri,
        suspend_post_uri: links.suspend_post_uri,
        resume_post_uri: links.resume_post_uri,
    };
    let response = wire::json(StatusCode::ACCEPTED, &body);
    let response = wire::with_header(response, header::LOCATION, &location);
    Ok(wire::with_header(
        response,
        header::RETRY_AFTER,
        RETRY_AFTER_START,
    ))
}

/// The URL of this request, for a client that repeats it.
pub(super) fn same_url(call: &Call<'_>, id: &str) -> String {
    let query = call.head.uri.query().unwrap_or_default();
    let instance = format!("{}/instances/{}", call.base, escape(id));
    match query {
        "" => instance,
        query => format!("{instance}?{query}"),
    }
}

/// The query of every URL apart from the hub: the connection, and the key if the caller gave it in the URL.
fn required_query(call: &Call<'_>) -> String {
    let connection = escape(call.query.text("connection").unwrap_or("Storage"));
    let mut query = format!("connection={connection}");
    if let Some(code) = call.query.text("code") {
        query.push_str(&format!("&code={}", escape(code)));
    }
    query
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}
