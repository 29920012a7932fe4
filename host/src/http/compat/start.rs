//! Starts an instance, and waits for it.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;

use crate::budget::Spent;
use crate::client::Waited;
use crate::http::body;
use crate::http::compat::{Call, Refused, links, reply, status};
use perennial_core::{Status, TraceContext};

/// The default length of a wait.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The default polling interval. Waits are notified and never poll, but clients expect that it must fit into the timeout.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Starts an instance, and waits if both a timeout and an interval are given.
pub(super) async fn start(
    call: &Call<'_>,
    name: String,
    id: Option<String>,
) -> Result<Response, Refused> {
    let wait = wait(call)?;
    let id = accept(call, name, id).await?;
    begun(call, &id, wait).await
}

/// How long the caller waits for the end; `None` unless it gives both a timeout and an interval.
pub(super) fn wait(call: &Call<'_>) -> Result<Option<Duration>, Refused> {
    let timeout = call.query.seconds("timeout")?;
    let interval = call.query.seconds("pollingInterval")?;
    // Checked before the start: an invalid flag must not fail a request that has already started an instance.
    call.query
        .flag("returnInternalServerErrorOnFailure", false)?;
    let Some((timeout, interval)) = timeout.zip(interval) else {
        return Ok(None);
    };
    check(timeout, interval)?;
    Ok(Some(timeout))
}

/// The answer after a start: the URLs of the instance, or its result if the caller waits.
pub(super) async fn begun(
    call: &Call<'_>,
    id: &str,
    wait: Option<Duration>,
) -> Result<Response, Refused> {
    match wait {
        Some(timeout) => wait_for(call, id, timeout).await,
        None => links::check_status(call, id),
    }
}

/// Starts and waits, as the example in the Durable Functions articles does.
pub(super) async fn start_and_wait(call: &Call<'_>, name: String) -> Result<Response, Refused> {
    let timeout = call.query.seconds("timeout")?.unwrap_or(TIMEOUT);
    let interval = call.query.seconds("retryInterval")?;
    check(timeout, interval.unwrap_or(RETRY_INTERVAL.min(timeout)))?;
    call.query
        .flag("returnInternalServerErrorOnFailure", false)?;
    let id = accept(call, name, None).await?;
    wait_for(call, &id, timeout).await
}

/// Checks before the start, so that an invalid request changes nothing.
fn check(timeout: Duration, interval: Duration) -> Result<(), Refused> {
    if interval <= timeout {
        return Ok(());
    }
    Err(reply::argument(&format!(
        "Total timeout {} should be bigger than retry timeout {}",
        timeout.as_secs_f64(),
        interval.as_secs_f64()
    )))
}

async fn accept(call: &Call<'_>, name: String, id: Option<String>) -> Result<String, Refused> {
    let mut start = call.client.start(name).input_json(call.payload()?);
    if let Some(id) = &id {
        start = start.id(id);
    }
    if let Some(version) = call.query.text("version") {
        start = start.version(version);
    }
    if let Some(trace) = call
        .header("traceparent")
        .filter(|trace| TraceContext::parse(trace).is_some())
    {
        start = start.trace_parent(trace);
    }
    start.await.map_err(|error| match id {
        Some(id) if error.is_already_exists() => {
            let message = format!("An Orchestration instance with the ID {id} already exists.");
            Box::new(reply::problem(StatusCode::CONFLICT, &message))
        }
        _ => reply::error(&error),
    })
}

async fn wait_for(call: &Call<'_>, id: &str, timeout: Duration) -> Result<Response, Refused> {
    let limit = timeout.min(call.api.wait_max);
    let waited = tokio::select! {
        waited = call.client.wait_for_completion(id, limit) => waited,
        () = call.api.closing.closed() => return links::check_status(call, id),
    };
    match waited.map_err(|error| reply::error(&error))? {
        Waited::TimedOut(_) => links::check_status(call, id),
        Waited::Reached(ended) if ended.runtime_status == Status::Completed => {
            let output = ended.output.as_ref().map_or("null", |json| json.as_str());
            // The instance was started, so an error would mislead. If the output does not fit into the budget now, the caller can fetch it
            // later.
            match body::text_in_room(call.api, output) {
                Ok(response) => Ok(response),
                Err(Spent) => links::check_status(call, id),
            }
        }
        Waited::Reached(_) => status::status(call, id).await,
    }
}
