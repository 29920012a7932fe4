//! Mounts the gRPC service for the Durable Task SDKs: which hub and key a call has, and its limits.
//!
//! Invariants: a refusal of any kind is a status of gRPC; a caller without permission is answered before its message is read; what calls
//! hold is bounded in total, and given back when the call ends or its caller is gone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::any;
use futures::FutureExt as _;
use tonic::Status;
use tower::Service as _;

use crate::foreign::panic_message;
use crate::grpc::{
    Hub, SERVICE_NAME, Service, TaskHubSidecarServiceServer, may_read, shutting_down,
};
use crate::http::Api;
use crate::http::body::room;
use crate::http::guard::{self, Refused};
use crate::http::revoked::Short;
use crate::limits::http as limits;

mod bodies;
mod streams;

use bodies::{Answer, Charge};

pub(super) use streams::WorkStreams;

/// The part of the budget that an answer of several pages takes, in bytes: what is read and what it becomes.
const PAGES_BYTES: usize = 8 << 20;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route(&format!("/{SERVICE_NAME}/{{call}}"), any(call))
}

/// Whether a request is one of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// A status as the whole answer.
pub(super) fn refused(status: Status) -> Response {
    status.into_http()
}

/// Answers calls of other services, as a client of gRPC expects it.
pub(super) async fn other_service(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_ours = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(SERVICE_NAME))
        .is_some_and(|rest| rest.starts_with('/'));
    if is_grpc(request.headers()) && !is_ours {
        return refused(Status::unimplemented(format!(
            "there is no {path} here; this server has the service {SERVICE_NAME}"
        )));
    }
    next.run(request).await
}

async fn call(State(api): State<Arc<Api>>, Path(call): Path<String>, request: Request) -> Response {
    if !is_grpc(request.headers()) {
        let message = "This is a service of gRPC: the Content-Type must be application/grpc.";
        return crate::http::failure(
            request.uri().path(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            message,
        );
    }
    if request.version() != Version::HTTP_2 {
        let message = "gRPC needs HTTP/2; this request came with an older version, perhaps through a proxy that must be set up for HTTP/2.";
        return crate::http::failure(
            request.uri().path(),
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            message,
        );
    }
    let (head, body) = request.into_parts();
    answer(&api, &call, head, body)
        .await
        .unwrap_or_else(refused)
}

async fn answer(api: &Arc<Api>, call: &str, head: Parts, body: Body) -> Result<Response, Status> {
    let named = hub_name(&head.headers)?;
    let admitted = guard::admit(api, &head, named, may_read(call)).await;
    let admitted = admitted.map_err(not_admitted)?;
    let hub = hub(api, named, call)?;
    let deadline = deadline(&head.headers)?;
    let place = api.calls.try_take(1).map_err(|_| {
        Status::resource_exhausted(
            "this server has as many calls as it takes, waits and streams among them; try again soon",
        )
    })?;
    let works = match call {
        "GetWorkItems" => {
            let key = admitted.as_ref().map(|admitted| admitted.key);
            let stream = api.work_streams.open(key);
            Some(stream.ok_or_else(too_many_workers)?)
        }
        _ => None,
    };
    let is_stream = matches!(call, "GetWorkItems" | "StreamInstanceHistory");
    let pages = match call {
        "QueryInstances" | "StreamInstanceHistory" => {
            Some(room(api, PAGES_BYTES).await.map_err(|_| no_room())?)
        }
        _ => None,
    };
    let charge = Charge::new(api.budget.clone());
    let request = Request::from_parts(head, bodies::received(body, Arc::clone(&charge)));
    let service = Service::new(hub, Arc::clone(&api.workers), api.closing.subscribe());
    let mut server = TaskHubSidecarServiceServer::new(service)
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(limits::MESSAGE_BYTES);
    // Waits end at shutdown; everything else ends by itself.
    let waits = call.starts_with("WaitForInstance");
    let closing = Arc::clone(&api.closing);
    let work = AssertUnwindSafe(async move {
        tokio::select! {
            answered = server.call(request) => answered.unwrap_or_else(|never| match never {}),
            () = closing.closed(), if waits => shutting_down().into_http(),
        }
    });
    let closing = Arc::clone(&api.closing);
    let work = async {
        let answered = match deadline {
            Some(limit) => tokio::time::timeout(limit, work.catch_unwind())
                .await
                .unwrap_or_else(|_| Ok(too_late(limit).into_http())),
            None => work.catch_unwind().await,
        };
        let answered = answered.unwrap_or_else(|panic| panicked(panic).into_http());
        if is_stream {
            let held = (place, charge, pages, works);
            return answered.map(|body| Body::new(Answer::new(body, Some(closing), held)));
        }
        // What the caller has not taken counts as what it has sent.
        let answered = bodies::whole(answered, &charge).await;
        let held = (place, charge, pages, works);
        let mut response = answered.map(|body| Body::new(Answer::new(body, None, held)));
        response.extensions_mut().insert(Short);
        response
    };
    match admitted {
        None => Ok(work.await),
        Some(admitted) => {
            let answered = api.revocations.guard(admitted, work).await;
            answered.ok_or_else(|| not_admitted(guard::REVOKED))
        }
    }
}

/// The hub that the metadata name; `None` if they name none.
fn hub_name(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let value = headers
        .get("taskhub")
        .or_else(|| headers.get("durable-taskhub"));
    let name = value.map(|value| {
        value.to_str().map_err(|_| {
            Status::invalid_argument("the metadata taskhub must be the name of a task hub")
        })
    });
    Ok(name.transpose()?.filter(|name| !name.is_empty()))
}

/// The hub that a call is about.
fn hub(api: &Api, named: Option<&str>, call: &str) -> Result<Hub, Status> {
    if let Some(client) = api.client(named) {
        return Ok(Hub::Served(client.clone()));
    }
    let name = named.unwrap_or_default();
    match api.client(None) {
        Some(served) if matches!(call, "CreateTaskHub" | "DeleteTaskHub") => Ok(Hub::Other {
            served: served.clone(),
            name: name.to_owned(),
        }),
        _ => Err(Status::not_found(format!(
            "the task hub {name:?} is not served here; served: {}",
            api.hub_names()
        ))),
    }
}

fn not_admitted(refused: Refused) -> Status {
    let message = refused.message;
    match refused.status {
        StatusCode::UNAUTHORIZED => Status::unauthenticated(message),
        StatusCode::FORBIDDEN => Status::permission_denied(message),
        StatusCode::BAD_REQUEST => Status::invalid_argument(message),
        _ => Status::unavailable(message),
    }
}

fn no_room() -> Status {
    Status::resource_exhausted(
        "the answers and messages that other callers have not taken or sent yet take up all the memory that there is for them; try again soon",
    )
}

fn too_many_workers() -> Status {
    Status::resource_exhausted(format!(
        "as many workers are connected as this server takes: {} in all, {} with one key; let one worker take more items at a time",
        limits::WORK_STREAMS,
        limits::WORK_STREAMS_OF_KEY
    ))
}

fn too_late(limit: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the time of this call was up after {} ms; what it asked for may still be done",
        limit.as_millis()
    ))
}

/// A panic ends only its own call, and the answer reveals nothing.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Status {
    let why = panic_message(panic);
    tracing::error!(why, "a gRPC call panicked");
    Status::internal(
        "something went wrong while this call was processed; the log of the host says what",
    )
}

/// The time that the caller gives a call: up to eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let span = value.to_str().ok().and_then(|text| {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let is_number =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let count: u64 = digits.parse().ok().filter(|_| is_number)?;
        Some(match unit {
            "H" => Duration::from_secs(count * 3_600),
            "M" => Duration::from_secs(count * 60),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    });
    let problem =
        "the metadata grpc-timeout must be up to eight digits and one of H, M, S, m, u, n";
    span.map(Some)
        .ok_or_else(|| Status::invalid_argument(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_content_type() {
        let is = |kind: &str| {
            let kind = HeaderValue::from_str(kind).unwrap();
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]))
        };
        assert!(is("application/grpc") && is("application/grpc+proto"));
        assert!(is("application/grpc;charset=utf-8"));
        assert!(!is("application/grpc-web") && !is("application/json"));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn deadlines_are_read_in_each_unit_and_nothing_else_is_one() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(text).unwrap());
            deadline(&headers).ok().flatten()
        };
        assert_eq!(deadline(&HeaderMap::new()).unwrap(), None);
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(359_999_996_400))
        );
        assert_eq!(read("2M"), Some(Duration::from_secs(120)));
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "+1S", "1 S"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
