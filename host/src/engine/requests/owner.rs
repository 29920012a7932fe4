//! Access to a hub that may be changed: by the owner's engine, or by a process that finds no owner.

use perennial_core::{Command, Rejection, decide};

use crate::engine::requests::refused::{self, refused};
use crate::engine::requests::request::{Preparation, Request};
use crate::store::{Change, InstanceRow, Partition, Reader, Reply, Run, StoreError};

/// Maximum number of retries of a request whose instance changes meanwhile.
pub(crate) const TRIES_MAX: u32 = 20;

/// A party that may change the hub.
pub(crate) trait Owner {
    /// Reads the hub.
    fn reader(&self) -> &Reader;

    /// Makes a change and applies its effects; blocks until it is durable. If there is a token, the reply is also recorded as the answer to
    /// the command of another process.
    fn write(&self, change: Change, token: Option<String>) -> Result<Reply, StoreError>;

    /// Calls `make` with the names and everything else that is needed to start something.
    fn prepared<T>(&self, make: impl FnOnce(&Preparation<'_>) -> T) -> Result<T, StoreError>;

    /// The partition of an id, if another owner runs it.
    fn elsewhere(&self, id: &str) -> Option<Partition>;

    /// Passes a request on to the owner of another partition; blocks until that has answered.
    fn pass_on(&self, to: Partition, request: Request) -> Result<Reply, StoreError>;
}

/// Answers a request without a change.
pub(crate) fn answer(
    owner: &impl Owner,
    reply: Reply,
    token: Option<String>,
) -> Result<Reply, StoreError> {
    match token {
        Some(token) => owner.write(Change::Answer(reply), Some(token)),
        None => Ok(reply),
    }
}

/// Reads an instance, or refuses the command if it does not apply to the instance's status, or is meant for another run of it.
pub(crate) fn look_up(
    owner: &impl Owner,
    id: &str,
    command: Command,
    run: Option<Run>,
) -> Result<Result<InstanceRow, Reply>, StoreError> {
    if let Err(problem) = perennial_core::check_known_id(id) {
        return Ok(Err(refused(refused::INVALID, problem.to_string())));
    }
    let row = owner.reader().instance(id)?;
    if let (Some(run), Some(row)) = (run, &row)
        && let Some(refusal) = run.refusal(Run::of(row))
    {
        return Ok(Err(refusal));
    }
    Ok(
        match (decide(row.as_ref().map(|row| row.status), command), row) {
            (Ok(_), Some(row)) => Ok(row),
            (Ok(_), None) => Err(Reply::Rejected(Rejection::NotFound)),
            (Err(rejection), _) => Err(Reply::Rejected(rejection)),
        },
    )
}
