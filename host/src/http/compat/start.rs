//! Starting an instance, and waiting for it.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;

use crate::budget::Spent;
use crate::client::Waited;
use crate::http::body;
use crate::http::compat::{Call, Refused, links, reply, status};
use perennial_core::{Status, TraceContext};

/// How long a wait lasts where that is not said.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds between two looks where that is not said. Nobody looks: a wait is told. It only has to fit into the timeout.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Starts, and waits where both a timeout and an interval are given.
pub(super) async fn start(
    call: &Call<'_>,
    name: String,
    id: Option<String>,
) -> Result<Response, Refused> {
    let wait = wait(call)?;
    let id = accept(call, name, id).await?;
    begun(call, &id, wait).await
}

/// How long the caller waits for the end: where it gives both a timeout and an interval.
pub(super) fn wait(call: &Call<'_>) -> Result<Option<Duration>, Refused> {
    let timeout = call.query.seconds("timeout")?;
    let interval = call.query.seconds("pollingInterval")?;
    // A flag that cannot be read must not be found out after the start.
    call.query
        .flag("returnInternalServerErrorOnFailure", false)?;
    let Some((timeout, interval)) = timeout.zip(interval) else {
        return Ok(None);
    };
    check(timeout, interval)?;
    Ok(Some(timeout))
}

/// What is answered once it has begun.
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

/// Starts and waits, as the articles' example does.
pub(super) async fn start_and_wait(call: &Call<'_>, name: String) -> Result<Response, Refused> {
    let timeout = call.query.seconds("timeout")?.unwrap_or(TIMEOUT);
    let interval = call.query.seconds("retryInterval")?;
    check(timeout, interval.unwrap_or(RETRY_INTERVAL.min(timeout)))?;
    call.query
        .flag("returnInternalServerErrorOnFailure", false)?;
    let id = accept(call, name, None).await?;
    wait_for(call, &id, timeout).await
}

/// Before anything is started: what cannot be must change nothing.
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
            // It has been started, which must not look as if it was not: where the output does not fit now, it is there to be asked for.
            match body::text_in_room(call.api, output) {
                Ok(response) => Ok(response),
                Err(Spent) => links::check_status(call, id),
            }
        }
        Waited::Reached(_) => status::status(call, id).await,
    }
}
