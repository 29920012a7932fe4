//! Formats that both APIs share: times, payloads, errors.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use perennial_core::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

/// The content type of JSON.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Formats a time in whole seconds, such as `2018-02-28T05:18:49Z`.
pub(crate) fn time(at: Timestamp) -> String {
    calendar(at, "%Y-%m-%dT%H:%M:%SZ")
}

/// Formats a time with seven fractional digits, such as `2018-02-28T05:18:49.3450000Z`.
pub(crate) fn fine_time(at: Timestamp) -> String {
    calendar(at, "%Y-%m-%dT%H:%M:%S.%7fZ")
}

/// Times beyond the calendar become its last second, because clients expect a time here.
fn calendar(at: Timestamp, format: &str) -> String {
    let ms = i64::try_from(at.0).ok();
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(jiff::Timestamp::MAX)
        .strftime(format)
        .to_string()
}

/// A reason as a JSON string.
pub(crate) fn reason_text(reason: Option<&str>) -> Option<Box<RawValue>> {
    let text = serde_json::to_string(reason?).ok()?;
    RawValue::from_string(text).ok()
}

pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(status, body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An answer whose text is JSON already.
pub(crate) fn json_text(status: StatusCode, text: &str) -> Response {
    bytes(status, text.as_bytes().to_vec())
}

fn bytes(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// Sets a header; an invalid value is omitted.
pub(crate) fn with_header(
    mut response: Response,
    name: header::HeaderName,
    value: &str,
) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
