//! QueryInstances and ListInstanceIds.

use perennial_core::Status as Runs;
use perennial_core::bounds::INSTANCE_ID_CHARS;
use prost::Message as _;
use tonic::Status;

use crate::Order;
use crate::client::{Client, Filter};
use crate::grpc::generated as wire;
use crate::grpc::generated::OrchestrationStatus;
use crate::grpc::manage::{count, read, some};
use crate::grpc::status::status;
use crate::grpc::time;

/// The statuses that a request names; `None` if it names any. Those that no instance of this host can have are left out.
pub(in crate::grpc) fn statuses(asked: &[i32]) -> Result<Option<Vec<Runs>>, Status> {
    if asked.is_empty() {
        return Ok(None);
    }
    let mut statuses = Vec::with_capacity(Runs::ALL.len());
    for number in asked {
        let wire = OrchestrationStatus::try_from(*number).map_err(|_| {
            Status::invalid_argument(format!(
                "there is no orchestration status {number}; the statuses are 0 to 7"
            ))
        })?;
        let same = Runs::ALL
            .into_iter()
            .find(|status| read::runs(*status) == wire);
        statuses.extend(same.filter(|status| !statuses.contains(status)));
    }
    Ok(Some(statuses))
}

pub(in crate::grpc) async fn query(
    client: &Client,
    request: wire::QueryInstancesRequest,
) -> Result<wire::QueryInstancesResponse, Status> {
    let query = request.query.unwrap_or_default();
    let filter = filter(
        &query.runtime_status,
        query.created_time_from,
        query.created_time_to,
    )?;
    let limit = count("maxInstanceCount", query.max_instance_count)?;
    let hub = client.task_hub();
    let is_of_hub = query.task_hub_names.is_empty()
        || query
            .task_hub_names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(hub));
    let Some(mut filter) = filter.filter(|_| is_of_hub) else {
        return Ok(wire::QueryInstancesResponse::default());
    };
    if let Some(prefix) = some(query.instance_id_prefix) {
        if prefix.chars().nth(INSTANCE_ID_CHARS).is_some() {
            return Err(Status::invalid_argument(format!(
                "instanceIdPrefix is longer than any id, which has at most {INSTANCE_ID_CHARS} characters"
            )));
        }
        filter = filter.id_prefix(prefix);
    }
    let mut list = client.list().filter(filter).order(Order::OldestFirst);
    if let Some(limit) = limit {
        list = list.limit(limit);
    }
    if let Some(token) = some(query.continuation_token) {
        list = list.continuation_token(token);
    }
    if query.fetch_inputs_and_outputs {
        list = list.show_input().show_output();
    }
    let shows = query.fetch_inputs_and_outputs;
    let (mut states, mut token) = page(list.clone(), shows).await?;
    let mut bytes = 0;
    let fits = states.iter().take_while(|state| {
        bytes += state.encoded_len();
        bytes <= PAGE_BYTES
    });
    let fits = fits.count().max(1);
    if fits < states.len() {
        // Read once more, so that the token is that of the last instance which fits.
        let fits = u32::try_from(fits).unwrap_or(u32::MAX);
        (states, token) = page(list.limit(fits), shows).await?;
    }
    Ok(wire::QueryInstancesResponse {
        orchestration_state: states,
        continuation_token: token,
    })
}

/// Bytes of the instances on a page, unless one alone has more: a client refuses messages over 4 MiB unless it was told otherwise.
const PAGE_BYTES: usize = 3 << 20;

async fn page(
    list: crate::List,
    shows_payloads: bool,
) -> Result<(Vec<wire::OrchestrationState>, Option<String>), Status> {
    let page = list.await.map_err(|error| status(&error))?;
    let states = page.instances.into_iter();
    let states = states.map(|status| read::state(status, shows_payloads));
    Ok((states.collect(), page.continuation_token))
}

/// The filter of some statuses and times of creation; `None` if no instance can match.
pub(in crate::grpc) fn filter(
    asked: &[i32],
    from: Option<prost_types::Timestamp>,
    to: Option<prost_types::Timestamp>,
) -> Result<Option<Filter>, Status> {
    let mut filter = Filter::new();
    if let Some(from) = time::optional("createdTimeFrom", from)? {
        filter = filter.created_from(from);
    }
    if let Some(to) = time::optional("createdTimeTo", to)? {
        filter = filter.created_to(to);
    }
    Ok(match statuses(asked)? {
        None => Some(filter),
        Some(statuses) if statuses.is_empty() => None,
        Some(statuses) => Some(statuses.into_iter().fold(filter, Filter::status)),
    })
}

pub(in crate::grpc) async fn list_ids(
    client: &Client,
    request: wire::ListInstanceIdsRequest,
) -> Result<wire::ListInstanceIdsResponse, Status> {
    let filter = filter(&request.runtime_status, None, None)?;
    let limit = count("pageSize", request.page_size)?;
    let from = time::optional("completedTimeFrom", request.completed_time_from)?;
    let to = time::optional("completedTimeTo", request.completed_time_to)?;
    let Some(filter) = filter else {
        return Ok(wire::ListInstanceIdsResponse::default());
    };
    let mut list = client.list().filter(filter).order(Order::EndedFirst);
    if let Some(from) = from {
        list = list.ended_from(from);
    }
    if let Some(to) = to {
        list = list.ended_to(to);
    }
    if let Some(limit) = limit {
        list = list.limit(limit);
    }
    if let Some(key) = some(request.last_instance_key) {
        list = list.continuation_token(key);
    }
    let page = list.await.map_err(|error| status(&error))?;
    let ids = page.instances.into_iter().map(|status| status.instance_id);
    Ok(wire::ListInstanceIdsResponse {
        instance_ids: ids.collect(),
        last_instance_key: page.continuation_token,
    })
}
