//! The status of an instance.

use axum::http::{StatusCode, header};
use axum::response::Response;
use perennial_core::{Json, Status};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::budget::Permit;
use crate::client::InstanceStatus;
use crate::client::json::raw;
use crate::http::body;
use crate::http::compat::history::{EventWire, Shown, shape};
use crate::http::compat::{Call, Refused, links, reply};
use crate::http::wire::{self, reason_text};

/// A status in the JSON of Durable Functions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusWire {
    name: String,
    instance_id: String,
    runtime_status: &'static str,
    input: Option<Box<RawValue>>,
    custom_status: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    created_time: String,
    last_updated_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_events: Option<Vec<EventWire>>,
}

impl StatusWire {
    /// Converts a status, with its history if that was read.
    pub(super) fn new(status: InstanceStatus, shown: Shown) -> Self {
        let output = output(&status);
        let payload = |json: &Option<Json>| json.as_ref().map(raw);
        let history = status
            .history
            .filter(|_| status.runtime_status != Status::Pending);
        Self {
            input: payload(&status.input).filter(|_| shown.inputs),
            custom_status: payload(&status.custom_status),
            output,
            runtime_status: status.runtime_status.name(),
            created_time: wire::time(status.created_at),
            last_updated_time: wire::time(status.last_updated_at),
            history_events: history.map(|history| shape(history, shown)),
            name: status.name,
            instance_id: status.instance_id,
        }
    }
}

/// The output, the failure, or the reason of the termination.
fn output(status: &InstanceStatus) -> Option<Box<RawValue>> {
    match &status.failure {
        Some(failure) => {
            let message = format!(
                "Orchestrator function '{}' failed: {}",
                status.name, failure.message
            );
            reason_text(Some(&message))
        }
        None => status.output.as_ref().map(raw),
    }
}

/// Answers 200 for an ended instance; 202 with `Location` and `Retry-After` for a live one.
pub(super) async fn status(call: &Call<'_>, id: &str) -> Result<Response, Refused> {
    let show_history = call.query.flag("showHistory", false)?;
    let fail = call
        .query
        .flag("returnInternalServerErrorOnFailure", false)?;
    let shown = Shown {
        inputs: call.query.flag("showInput", true)?,
        outputs: call.query.flag("showHistoryOutput", false)?,
    };
    let mut query = call.client.status(id);
    if shown.inputs {
        query = query.show_input();
    }
    if show_history && shown.outputs {
        query = query.show_history_output();
    } else if show_history {
        query = query.show_history();
    }
    let room = if show_history {
        Some(room_for_history(call, id).await?)
    } else {
        None
    };
    let status = query.await.map_err(|error| reply::error(&error))?;
    let Some(status) = status else {
        return Ok(reply::no_instance());
    };
    let runtime_status = status.runtime_status;
    let code = match runtime_status {
        Status::Pending | Status::Running | Status::Suspended => StatusCode::ACCEPTED,
        Status::Failed if fail => StatusCode::INTERNAL_SERVER_ERROR,
        Status::Completed | Status::Failed | Status::Terminated => StatusCode::OK,
    };
    let status = StatusWire::new(status, shown);
    let response = match room.flatten() {
        Some(room) => body::json_in(room, code, &status).map_err(reply::no_room)?,
        None => wire::json(code, &status),
    };
    if runtime_status.is_end() {
        return Ok(response);
    }
    let response = wire::with_header(response, header::LOCATION, &links::same_url(call, id));
    Ok(wire::with_header(
        response,
        header::RETRY_AFTER,
        links::RETRY_AFTER_STATUS,
    ))
}

/// Reserves memory for an instance with its history; `None` if it does not exist.
async fn room_for_history(call: &Call<'_>, id: &str) -> Result<Option<Permit>, Refused> {
    let status = call.client.status(id).await;
    let Some(status) = status.map_err(|error| reply::error(&error))? else {
        return Ok(None);
    };
    let room = body::room_for_history(call.api, &status).await;
    let room = room.map_err(reply::no_room)?;
    if room.is_some() {
        return Ok(room);
    }
    let message = format!(
        "The history of this instance has {} events and {} bytes, too many for one answer; /api/v1/instances/{{id}}/history has it in pages.",
        status.history_events, status.history_bytes
    );
    let problem = reply::problem(StatusCode::PAYLOAD_TOO_LARGE, &message);
    Err(Box::new(problem))
}
