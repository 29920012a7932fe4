//! The management calls. Each is a function of a client and a request.

pub(super) mod control;
pub(super) mod history;
pub(super) mod hub;
pub(super) mod list;
pub(super) mod purge;
pub(super) mod read;
pub(super) mod start;

use tonic::Status;

/// The most instances of a batch.
const BATCH_MAX: usize = 500;

/// Refuses an empty id of an instance.
fn named(id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument(
            "the request names no instance: set instanceId",
        ));
    }
    Ok(())
}

/// The instances of a batch.
fn batch(batch: Option<crate::grpc::generated::InstanceBatch>) -> Result<Vec<String>, Status> {
    let ids = batch.unwrap_or_default().instance_ids;
    if ids.len() > BATCH_MAX {
        return Err(Status::invalid_argument(format!(
            "the batch has {} instances; at most {BATCH_MAX} are allowed: send several batches",
            ids.len()
        )));
    }
    ids.iter().try_for_each(|id| named(id))?;
    Ok(ids)
}

/// A count of a request; 0 means that none is given.
fn count(what: &str, count: i32) -> Result<Option<u32>, Status> {
    match u32::try_from(count) {
        Ok(0) => Ok(None),
        Ok(count) => Ok(Some(count)),
        Err(_) => Err(Status::invalid_argument(format!(
            "{what} is {count}; it must not be negative"
        ))),
    }
}

/// The text of a wrapper that SDKs also set to an empty text to say nothing.
fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
