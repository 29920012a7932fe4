//! Whoever may change the hub: the owner's engine, or a process that finds no owner.

use perennial_core::{Command, Rejection, decide};

use crate::engine::requests::refused::{self, refused};
use crate::engine::requests::request::Preparation;
use crate::store::{Change, InstanceRow, Reader, Reply, StoreError};

/// How often a request is worked out anew where the instance moves meanwhile.
pub(crate) const TRIES_MAX: u32 = 20;

/// Whoever may change the hub.
pub(crate) trait Owner {
    /// What the hub says.
    fn reader(&self) -> &Reader;

    /// Makes a change, and follows up on it; blocks until it is durable. With a token it is the answer to the command of another process.
    fn write(&self, change: Change, token: Option<String>) -> Result<Reply, StoreError>;

    /// What names mean, and what is needed to start something.
    fn prepared<T>(&self, make: impl FnOnce(&Preparation<'_>) -> T) -> Result<T, StoreError>;
}

/// Answers without a change.
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

/// The instance with an id, if the command makes sense for it.
pub(crate) fn look_up(
    owner: &impl Owner,
    id: &str,
    command: Command,
) -> Result<Result<InstanceRow, Reply>, StoreError> {
    if let Err(problem) = perennial_core::check_known_id(id) {
        return Ok(Err(refused(refused::INVALID, problem.to_string())));
    }
    let row = owner.reader().instance(id)?;
    Ok(
        match (decide(row.as_ref().map(|row| row.status), command), row) {
            (Ok(_), Some(row)) => Ok(row),
            (Ok(_), None) => Err(Reply::Rejected(Rejection::NotFound)),
            (Err(rejection), _) => Err(Reply::Rejected(rejection)),
        },
    )
}
