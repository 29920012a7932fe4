//! Lists of instances.

use axum::http::{HeaderName, StatusCode};
use axum::response::Response;

use perennial_core::Json;

use crate::client::{InstanceStatus, List, PAGE_BYTES_MAX};
use crate::http::body;
use crate::http::compat::history::Shown;
use crate::http::compat::status::StatusWire;
use crate::http::compat::{Call, Refused, reply};
use crate::http::wire;

/// The continuation token, in requests and answers.
const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation-token");

/// The default and largest number of instances in an answer. It is large because not every client asks for the second page.
const TOP_MAX: usize = 1_000;

/// Instances per read.
const STEP: usize = 100;

/// Bytes of payloads after which a page ends, so that answers with large inputs still fit into the budget.
const PAGE_BYTES: usize = 4 << 20;

/// Answers 200 with an array, and a token if there is another page.
pub(super) async fn list(call: &Call<'_>) -> Result<Response, Refused> {
    let shown = Shown {
        inputs: call.query.flag("showInput", true)?,
        outputs: false,
    };
    let top = match call.query.number("top")? {
        None => TOP_MAX,
        Some(top) => TOP_MAX.min(top as usize),
    };
    let filtered = filtered(call, shown)?;
    let mut instances: Vec<StatusWire> = Vec::new();
    let mut token = call
        .readable_header(CONTINUATION.as_str())?
        .map(str::to_owned);
    let Some(filtered) = filtered.filter(|_| top > 0) else {
        return Ok(wire::json(StatusCode::OK, &instances));
    };
    let room = body::room_for(call.api, PAGE_BYTES + PAGE_BYTES_MAX).await;
    let room = room.map_err(reply::no_room)?;
    let mut bytes = 0;
    loop {
        let step = STEP.min(top - instances.len());
        let mut list = filtered.clone().limit(u32::try_from(step).unwrap_or(1));
        if let Some(token) = token {
            list = list.continuation_token(token);
        }
        let page = list.await.map_err(|error| reply::error(&error))?;
        for status in page.instances {
            bytes += size(&status);
            instances.push(StatusWire::new(status, shown));
        }
        token = page.continuation_token;
        if token.is_none() || instances.len() >= top || bytes >= PAGE_BYTES {
            break;
        }
    }
    let response = body::json_in(room, StatusCode::OK, &instances);
    let response = response.map_err(reply::no_room)?;
    Ok(match token {
        Some(token) => wire::with_header(response, CONTINUATION, &token),
        None => response,
    })
}

/// The approximate size of an instance in an answer.
fn size(status: &InstanceStatus) -> usize {
    /// Bytes of the fields with a fixed size.
    const FIXED: usize = 256;
    let payloads = [&status.input, &status.output, &status.custom_status];
    let payloads = payloads.into_iter().flatten().map(Json::size);
    let failure = status.failure.as_ref().map_or(0, |f| f.message.len());
    FIXED + status.instance_id.len() + status.name.len() + payloads.sum::<usize>() + failure
}

/// The list that the parameters describe; `None` if no instance can match.
fn filtered(call: &Call<'_>, shown: Shown) -> Result<Option<List>, Refused> {
    let mut list = call.client.list().show_output();
    if shown.inputs {
        list = list.show_input();
    }
    if let Some(from) = call.query.time("createdTimeFrom")? {
        list = list.created_from(from);
    }
    if let Some(to) = call.query.time_through("createdTimeTo")? {
        list = list.created_to(to);
    }
    if let Some(prefix) = call.query.text("instanceIdPrefix") {
        list = list.id_prefix(prefix);
    }
    match call.query.statuses("runtimeStatus")? {
        Some(statuses) if statuses.is_empty() => return Ok(None),
        Some(statuses) => list = statuses.into_iter().fold(list, List::status),
        None => {}
    }
    Ok(Some(list))
}
