//! Requests to instances and their answers, external events that had no effect, and log lines.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::client::body::RequestBody;
use crate::client::{InstanceLogs, PAGE_BYTES_MAX, PendingEvent, RequestStatus};
use crate::http::body;
use crate::http::native::doc::{Operation, get, post};
use crate::http::native::extract::{Ask, Failed, Object, Segments};
use crate::http::native::instances::start_of;
use crate::http::native::reply::Reply;

/// The default length of a wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A header by which clients say that a request is a repeat, in place of `requestId`.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) fn operations() -> Vec<Operation> {
    let timeout = json!({ "type": "number", "minimum": 0 });
    vec![
        post(
            "/instances/{id}/requests",
            send,
            "sendRequest",
            "Asks an instance, and waits for its answer. The request is on disk before it is delivered; one that is sent again under its \
             `requestId`, or with the same header Idempotency-Key, is the same request",
        )
        .query(
            "timeout",
            timeout.clone(),
            "How many seconds to wait for the answer, 10 by default",
        )
        .for_a_run()
        .answer(
            200,
            "The answer: an output, or a failure of the orchestration or of its validator",
        )
        .answer(
            202,
            "There is no answer yet; the instance keeps the request",
        )
        .fails(&[
            (409, "The instance has ended"),
            (413, "The input is larger than its limit"),
        ]),
        get(
            "/instances/{id}/requests",
            list,
            "listRequests",
            "The requests to an instance that were recorded last, the newest first: at most a thousand, and at most 4 MiB of answers beside the newest",
        )
        .answer(200, "The requests"),
        get(
            "/instances/{id}/pending-events",
            pending_events,
            "listPendingEvents",
            "The external events that an instance has received and that had no effect so far, the oldest first: at most a hundred, and at \
             most 4 MiB of payloads beside the last one that has its payload",
        )
        .answer(200, "The events"),
        get(
            "/instances/{id}/logs",
            logs,
            "showLogs",
            "What the guests of an instance logged since the host started: the newest lines that are still in its memory, at most 200",
        )
        .answer(200, "The lines, the oldest first"),
        get(
            "/instances/{id}/requests/{requestId}",
            show,
            "showRequest",
            "A request to an instance, with its answer if it has one",
        )
        .query(
            "timeout",
            timeout,
            "How many seconds to wait for the answer, 0 by default",
        )
        .answer(200, "The answer")
        .answer(202, "There is no answer yet"),
    ]
}

async fn send(
    ask: Ask,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    Object(body): Object<RequestBody>,
) -> Result<Reply<RequestStatus>, Failed> {
    let limit = ask.query.seconds("timeout")?.unwrap_or(TIMEOUT);
    let limit = limit.min(ask.api.wait_max);
    let RequestBody {
        name,
        request_id,
        input,
        start,
    } = body;
    // Without a wait: the wait below also ends when the host does.
    let mut request = ask.client.request_json::<()>(&id, &name, input);
    request = request.within(Duration::ZERO);
    if let Some(key) = key_of(&headers, request_id)? {
        request = request.id(key);
    }
    if let Some(start) = start {
        if start.event.is_some() || start.id.as_ref().is_some_and(|other| *other != id) {
            return Err(Failed::invalid(
                "a start with a request has the id of the path, and no event",
            ));
        }
        request = request.or_start(start_of(&ask.client, start)?);
    }
    let status = request.status().await?;
    answered(&ask, status, limit).await
}

/// The id that the caller gave the request: in the body, or in the header.
fn key_of(headers: &HeaderMap, request_id: Option<String>) -> Result<Option<String>, Failed> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(header) = keys.next() else {
        return Ok(request_id);
    };
    if header.is_empty() || keys.any(|other| other != header) {
        return Err(Failed::invalid(
            "the header Idempotency-Key must be the id of the request, and be given once",
        ));
    }
    let key = header
        .to_str()
        .map_err(|_| Failed::invalid("the header Idempotency-Key must be printable ASCII"))?;
    match request_id {
        Some(other) if other != key => Err(Failed::invalid(
            "requestId and the header Idempotency-Key differ: give one of them",
        )),
        Some(_) | None => Ok(Some(key.to_owned())),
    }
}

async fn logs(ask: Ask, Segments(id): Segments<String>) -> Result<Reply<InstanceLogs>, Failed> {
    let room = body::room_for(&ask.api, PAGE_BYTES_MAX).await?;
    Reply::ok_in(room, &ask.client.logs(&id).await?)
}

async fn pending_events(
    ask: Ask,
    Segments(id): Segments<String>,
) -> Result<Reply<Vec<PendingEvent>>, Failed> {
    let room = body::room_for(&ask.api, PAGE_BYTES_MAX).await?;
    Reply::ok_in(room, &ask.client.pending_events(&id).await?)
}

async fn list(
    ask: Ask,
    Segments(id): Segments<String>,
) -> Result<Reply<Vec<RequestStatus>>, Failed> {
    let room = body::room_for(&ask.api, PAGE_BYTES_MAX).await?;
    Reply::ok_in(room, &ask.client.requests(&id).await?)
}

async fn show(
    ask: Ask,
    Segments((id, request)): Segments<(String, String)>,
) -> Result<Reply<RequestStatus>, Failed> {
    let limit = ask.query.seconds("timeout")?.unwrap_or_default();
    let limit = limit.min(ask.api.wait_max);
    let status = ask.client.request_status(&id, &request).await?;
    answered(&ask, status, limit).await
}

/// Waits until a request has an answer, or the host stops.
async fn answered(
    ask: &Ask,
    status: RequestStatus,
    limit: Duration,
) -> Result<Reply<RequestStatus>, Failed> {
    let (id, request) = (&status.instance_id, &status.request_id);
    let status = if status.is_pending() && !limit.is_zero() {
        tokio::select! {
            waited = ask.client.wait_for_answer(id, request, limit) => waited?,
            () = ask.api.closing.closed() => status,
        }
    } else {
        status
    };
    let code = match status.is_pending() {
        true => StatusCode::ACCEPTED,
        false => StatusCode::OK,
    };
    Ok(Reply::new(code, &status))
}
