//! PurgeInstances.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tonic::Status;

use crate::client::Client;
use crate::grpc::generated::purge_instances_request::Request;
use crate::grpc::generated::{PurgeInstanceFilter, PurgeInstancesRequest, PurgeInstancesResponse};
use crate::grpc::manage::{batch, list, named};
use crate::grpc::status::status;
use crate::grpc::time;

pub(in crate::grpc) async fn purge(
    client: &Client,
    request: PurgeInstancesRequest,
) -> Result<PurgeInstancesResponse, Status> {
    let recursive = request.recursive;
    match request.request {
        Some(Request::InstanceId(id)) => {
            named(&id)?;
            Ok(purged(one(client, &id, recursive).await?, true))
        }
        Some(Request::InstanceBatch(ids)) => {
            let mut deleted = 0;
            for id in batch(Some(ids))? {
                deleted += one(client, &id, recursive).await?;
            }
            Ok(purged(deleted, true))
        }
        Some(Request::PurgeInstanceFilter(filter)) => matching(client, filter, recursive).await,
        None => Err(Status::invalid_argument(
            "the request says not what to purge: set instanceId, instanceBatch or purgeInstanceFilter",
        )),
    }
}

fn purged(deleted: u64, is_complete: bool) -> PurgeInstancesResponse {
    PurgeInstancesResponse {
        deleted_instance_count: i32::try_from(deleted).unwrap_or(i32::MAX),
        is_complete: Some(is_complete),
    }
}

/// Deletes an instance. One that has not ended stays, and is no error.
async fn one(client: &Client, id: &str, recursive: bool) -> Result<u64, Status> {
    let mut purge = client.purge(id);
    if recursive {
        purge = purge.recursive();
    }
    match purge.await {
        Ok(deleted) => Ok(deleted),
        Err(error) if error.is_wrong_state() => Ok(0),
        Err(error) => Err(status(&error)),
    }
}

async fn matching(
    client: &Client,
    asked: PurgeInstanceFilter,
    recursive: bool,
) -> Result<PurgeInstancesResponse, Status> {
    let timeout = asked.timeout.map(|span| time::span("timeout", span));
    let timeout = timeout.transpose()?.unwrap_or(Duration::MAX);
    let filter = list::filter(
        &asked.runtime_status,
        asked.created_time_from,
        asked.created_time_to,
    )?;
    let Some(filter) = filter else {
        return Ok(purged(0, true));
    };
    let deleted = Arc::new(AtomicU64::new(0));
    let so_far = Arc::clone(&deleted);
    let mut purge = client
        .purge_where(filter)
        .on_progress(move |progress| so_far.store(progress.done, Relaxed));
    if recursive {
        purge = purge.recursive();
    }
    // What is deleted when the time is up stays deleted; another call does the rest.
    match tokio::time::timeout(timeout, purge.into_future()).await {
        Ok(done) => {
            let done = done.map_err(|error| status(&error))?;
            Ok(purged(done.done, true))
        }
        Err(_) => Ok(purged(deleted.load(Relaxed), false)),
    }
}
