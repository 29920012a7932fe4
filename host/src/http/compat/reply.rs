//! Answers, and the mapping of library errors to them.

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use perennial_core::Json;
use serde::Serialize;

use crate::budget::Spent;
use crate::client::{DISK_FULL, Error, LOCKED, lacking, parse_json};
use crate::http::Api;
use crate::http::body::{self, Unread};
use crate::http::compat::Refused;
use crate::http::query::BadParameter;
use crate::http::wire;

/// The body of an error. Clients read either of the two fields, so both contain the message.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Problem<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception_message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_trace: Option<&'a str>,
}

pub(in crate::http) fn problem(status: StatusCode, message: &str) -> Response {
    let problem = Problem {
        message,
        exception_message: Some(message),
        exception_type: None,
        stack_trace: None,
    };
    wire::json(status, &problem)
}

fn refuse(status: StatusCode, message: &str) -> Refused {
    Box::new(problem(status, message))
}

/// An invalid argument of the caller.
fn bad_argument(message: &str) -> Refused {
    let problem = Problem {
        message: "One or more of the arguments submitted is incorrect",
        exception_message: Some(message),
        exception_type: Some("System.ArgumentException"),
        stack_trace: Some(""),
    };
    Box::new(wire::json(StatusCode::BAD_REQUEST, &problem))
}

impl From<BadParameter> for Refused {
    fn from(bad: BadParameter) -> Self {
        bad_argument(&bad.0)
    }
}

/// An invalid parameter or combination of parameters.
pub(super) fn argument(message: &str) -> Refused {
    bad_argument(message)
}

/// 200 without a body.
pub(super) fn ok() -> Response {
    wire::empty(StatusCode::OK)
}

/// 202 for a command that is durable and will be executed soon.
pub(super) fn accepted() -> Response {
    wire::empty(StatusCode::ACCEPTED)
}

/// The operation does not exist.
pub(super) fn no_route(head: &Parts) -> Response {
    let message = format!(
        "There is no {} {} in this API.",
        head.method,
        head.uri.path()
    );
    problem(StatusCode::NOT_FOUND, &message)
}

/// The instance does not exist.
pub(super) fn no_instance() -> Response {
    wire::empty(StatusCode::NOT_FOUND)
}

/// The hub does not exist or is not served here.
pub(super) fn no_hub(name: &str, served: &str) -> Refused {
    let message = format!("The task hub {name:?} is not served here; served: {served}.");
    refuse(StatusCode::NOT_FOUND, &message)
}

/// Entities are a programming model that this engine does not have.
pub(super) fn no_entities() -> Response {
    let message =
        "Durable entities are not supported by this host: only orchestrations and activities are.";
    problem(StatusCode::NOT_IMPLEMENTED, message)
}

/// Reads a body up to the size limit.
pub(super) async fn read_body(api: &Api, head: &Parts, body: Body) -> Result<Bytes, Refused> {
    let read = body::read(api, &head.headers, body, api.body_bytes_max).await;
    read.map_err(|unread| match unread {
        Unread::TooLarge(limit) => too_large(limit),
        Unread::Slow => {
            let message = "The request's body took too long.";
            refuse(StatusCode::REQUEST_TIMEOUT, message)
        }
        Unread::Broken => {
            let message = "The request's body ended before it was complete.";
            refuse(StatusCode::BAD_REQUEST, message)
        }
        Unread::NoRoom => Box::new(full()),
    })
}

/// The budget of bodies and answers is exhausted.
pub(super) fn no_room(_: Spent) -> Refused {
    Box::new(full())
}

/// As [`no_room`], as an answer.
pub(in crate::http) fn full() -> Response {
    let message = "The answers and bodies that other callers have not taken or sent yet take up all the memory that there is for them; try again soon.";
    let response = problem(StatusCode::SERVICE_UNAVAILABLE, message);
    wire::with_header(response, header::RETRY_AFTER, "1")
}

fn too_large(limit: usize) -> Refused {
    let message = format!("The request's body is too large: at most {limit} bytes are allowed.");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, &message)
}

/// Parses a body as JSON; `None` if it is empty.
pub(super) fn payload(body: &Bytes) -> Result<Option<Json>, Refused> {
    let invalid = |detail: &str| {
        let problem = Problem {
            message: "Invalid JSON content",
            exception_message: Some(detail),
            exception_type: Some("System.FormatException"),
            stack_trace: Some(""),
        };
        Box::new(wire::json(StatusCode::BAD_REQUEST, &problem))
    };
    let text = std::str::from_utf8(body).map_err(|_| invalid("the body is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(None);
    }
    let json = parse_json(text).map_err(|error| invalid(&error.to_string()))?;
    Ok(Some(json))
}

/// Maps a library error to an answer.
pub(super) fn error(error: &Error) -> Refused {
    let message = error.to_string();
    if error.is_not_found() && !error.is_unknown_hub() {
        Box::new(no_instance())
    } else if error.is_already_exists() {
        refuse(StatusCode::CONFLICT, &message)
    } else if error.is_wrong_state() {
        Box::new(wire::empty(StatusCode::GONE))
    } else if error.is_overloaded() {
        Box::new(later(StatusCode::SERVICE_UNAVAILABLE, &message))
    } else if error.is_quota_exceeded() {
        Box::new(later(StatusCode::TOO_MANY_REQUESTS, &message))
    } else if error.is_limit_exceeded() {
        refuse(StatusCode::PAYLOAD_TOO_LARGE, &message)
    } else if error.is_invalid() || error.is_unknown_orchestration() {
        bad_argument(&message)
    } else if error.is_shutting_down() {
        Box::new(later(
            StatusCode::SERVICE_UNAVAILABLE,
            "The host is shutting down; try again soon.",
        ))
    } else if error.is_queued() || error.is_withdrawn() {
        Box::new(later(StatusCode::SERVICE_UNAVAILABLE, &message))
    } else if error.is_disk_full() {
        Box::new(later(StatusCode::INSUFFICIENT_STORAGE, DISK_FULL))
    } else if error.is_locked() {
        Box::new(later(StatusCode::SERVICE_UNAVAILABLE, LOCKED))
    } else if let Some(lacking) = lacking(error) {
        Box::new(later(StatusCode::SERVICE_UNAVAILABLE, &lacking))
    } else {
        internal(&message)
    }
}

/// A failure after which a retry may succeed.
fn later(status: StatusCode, message: &str) -> Response {
    wire::with_header(problem(status, message), header::RETRY_AFTER, "1")
}

/// Logs an internal error under a random id, and tells the caller only the id.
fn internal(message: &str) -> Refused {
    let reference = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(%reference, error = message, "a request failed");
    let detail = format!("the log of the host says more under the reference {reference}");
    let problem = Problem {
        message: "Something went wrong while processing your request",
        exception_message: Some(&detail),
        exception_type: None,
        stack_trace: None,
    };
    Box::new(wire::json(StatusCode::INTERNAL_SERVER_ERROR, &problem))
}
