//! Requests to the engine of this process.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::client::{Error, Result};
use crate::engine::{Engine, Request};
use crate::store::Reply;

/// How often it is looked whether the hub can be written, while an answer is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// In how many looks in a row it cannot be written before the client is told.
const LOOKS_MAX: u32 = 10;

/// Makes a change. A database that is away for long keeps nobody waiting: a store with one goes on trying to write what it was given.
///
/// # Errors
/// [`Error::is_queued`] if there was no answer in time: it may still happen.
pub(super) async fn submit(hub: &str, engine: &Arc<Engine>, request: Request) -> Result<Reply> {
    let mut submitted = pin!(engine.submit(request));
    let mut looks = 0;
    loop {
        match timeout(LOOK_EVERY, &mut submitted).await {
            Ok(answer) => return answer.map_err(|error| Error::store(hub, error)),
            Err(_) if !engine.fails_to_write() => looks = 0,
            Err(_) => looks += 1,
        }
        if looks == LOOKS_MAX {
            return Err(Error::no_answer(
                "the host, which cannot write to the task hub at the moment,",
            ));
        }
    }
}
