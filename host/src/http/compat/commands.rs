//! Commands to one instance.

use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::client::{Error, Filter};
use crate::http::compat::{Call, Refused, reply, start};
use crate::http::query::{Known, once};
use crate::http::wire;

/// Answers 202 once the event is durable.
pub(super) async fn raise_event(
    call: &Call<'_>,
    id: &str,
    event: &str,
) -> Result<Response, Refused> {
    let media_type = call
        .header(header::CONTENT_TYPE.as_str())
        .unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = "Only application/json request content is supported";
        return Ok(reply::problem(StatusCode::BAD_REQUEST, message));
    }
    let data = call.payload()?;
    accepted(call.client.raise_event_json(id, event, data).await)
}

/// Answers 202 once the command is durable.
pub(super) async fn terminate(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    let reason = call.query.reason()?;
    accepted(call.client.terminate(id, reason.as_deref()).await)
}

/// Answers 202 once the command is durable.
pub(super) async fn suspend(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    let reason = call.query.reason()?;
    accepted(call.client.suspend(id, reason.as_deref()).await)
}

/// Answers 202 once the command is durable.
pub(super) async fn resume(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    let reason = call.query.reason()?;
    accepted(call.client.resume(id, reason.as_deref()).await)
}

/// Answers 202 once the rewind is durable.
pub(super) async fn rewind(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    let mut rewind = call.client.rewind(id);
    if let Some(reason) = call.query.reason()? {
        rewind = rewind.reason(reason);
    }
    let Err(error) = rewind.await else {
        return Ok(reply::accepted());
    };
    if error.is_not_found() {
        let message = format!("No orchestration with instance ID \"{id}\" found.");
        return Ok(wire::json(StatusCode::NOT_FOUND, &message));
    }
    if error.would_forget() {
        // This API has no option to discard completed work; the message names the CLI's.
        return Ok(wire::json(StatusCode::CONFLICT, &error.to_string()));
    }
    if error.is_wrong_state() {
        let status = current_status(call, id).await?;
        let message = format!(
            "This orchestration has status {status}, but only orchestrations in the \"Failed\" state can be rewound."
        );
        return Ok(wire::json(StatusCode::PRECONDITION_FAILED, &message));
    }
    Err(reply::error(&error))
}

/// The body of a restart. The query gives the options that the body omits.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RestartOptions {
    restart_with_new_instance_id: Option<bool>,
}

/// As [`restart`], with options in an optional body.
pub(super) async fn restart_with_options(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    let options = match reply::payload(&call.take_body())? {
        None => RestartOptions::default(),
        Some(body) => serde_json::from_str(body.as_str())
            .map_err(|error| reply::argument(&format!("the options of a restart: {error}")))?,
    };
    restart(call, id, options).await
}

/// Answers 202 with the URLs of the new run, or with its result if the caller waits. The run gets a new id unless the caller wants the
/// same.
pub(super) async fn restart(
    call: &Call<'_>,
    id: &str,
    options: RestartOptions,
) -> Result<Response, Refused> {
    call.query.only(&once([
        "restartWithNewInstanceId",
        "timeout",
        "pollingInterval",
    ]))?;
    let wait = start::wait(call)?;
    let mut restart = call.client.restart(id);
    let in_query = call.query.flag("restartWithNewInstanceId", true)?;
    if options.restart_with_new_instance_id.unwrap_or(in_query) {
        restart = restart.with_new_id();
    }
    match restart.await {
        Ok(id) => start::begun(call, &id, wait).await,
        Err(error) if error.is_not_found() => {
            let message = "InstanceId does not match a valid orchestration instance.";
            Ok(wire::json(StatusCode::BAD_REQUEST, message))
        }
        Err(error) if error.is_wrong_state() => {
            let message = "A non-terminal instance with this instance ID already exists.";
            Ok(wire::json(StatusCode::CONFLICT, message))
        }
        Err(error) => Err(reply::error(&error)),
    }
}

/// The answer to a purge.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Purged {
    instances_deleted: u64,
}

/// Answers 200 if the instance was deleted.
pub(super) async fn purge(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    call.query.only(&[])?;
    match call.client.purge(id).await {
        Ok(0) => Ok(reply::no_instance()),
        Ok(instances_deleted) => Ok(wire::json(StatusCode::OK, &Purged { instances_deleted })),
        Err(error) if error.is_wrong_state() => {
            let status = current_status(call, id).await?;
            let message = format!(
                "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID {id} has status {status}"
            );
            Ok(wire::json(StatusCode::PRECONDITION_FAILED, &message))
        }
        Err(error) => Err(reply::error(&error)),
    }
}

/// Answers 200 with the number of instances deleted, or 404 if there were none. The filter needs a lower bound for the creation time.
pub(super) async fn purge_many(call: &Call<'_>) -> Result<Response, Refused> {
    let mut known = once(["createdTimeFrom", "createdTimeTo"]).to_vec();
    known.push(Known {
        name: "runtimeStatus",
        many: true,
        empty: false,
    });
    call.query.only(&known)?;
    let Some(from) = call.query.time("createdTimeFrom")? else {
        let message = "Please provide value for 'createdTimeFrom' parameter.";
        return Ok(wire::json(StatusCode::BAD_REQUEST, message));
    };
    let mut filter = Filter::new().created_from(from);
    if let Some(to) = call.query.time_through("createdTimeTo")? {
        filter = filter.created_to(to);
    }
    let instances_deleted = match call.query.statuses("runtimeStatus")? {
        Some(statuses) if statuses.is_empty() => 0,
        statuses => {
            let statuses = statuses.into_iter().flatten();
            let filter = statuses.fold(filter, Filter::status);
            let purged = call.client.purge_where(filter).await;
            purged.map_err(|error| reply::error(&error))?.done
        }
    };
    if instances_deleted == 0 {
        return Ok(reply::no_instance());
    }
    Ok(wire::json(StatusCode::OK, &Purged { instances_deleted }))
}

async fn current_status(call: &Call<'_>, id: &str) -> Result<&'static str, Refused> {
    let status = call.client.status(id).await;
    let status = status.map_err(|error| reply::error(&error))?;
    Ok(status.map_or("Unknown", |status| status.runtime_status.name()))
}

fn accepted<T>(done: Result<T, Error>) -> Result<Response, Refused> {
    match done {
        Ok(_) => Ok(reply::accepted()),
        Err(error) => Err(reply::error(&error)),
    }
}
