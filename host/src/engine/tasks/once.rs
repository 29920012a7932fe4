//! Activities that are to run at most once: the hub knows of each attempt before it starts, so that none follows one whose outcome is unknown.
//!
//! Only these pay for it: with one commit for each attempt, which it waits for. The record is removed by the transaction that records the
//! outcome: that of the turn, or that of the next attempt after a failure. A host that finds it does not know what the attempt did.

use std::sync::Arc;

use perennial_core::{Failure, Timestamp, kind};

use crate::engine::tasks::attempts::fails_before;
use crate::engine::tasks::ready::{AttemptKey, Ready};
use crate::engine::tasks::timers::Due;
use crate::engine::{Engine, TRY_AGAIN_AFTER};
use crate::store::{Change, Reply, StoreError};

/// Whether an attempt may start.
pub(super) enum Started {
    /// It may. If its activity is to run at most once, the hub knows of it.
    Yes,
    /// It may not: an attempt before it may have done its work. The activity fails so.
    Unknown(Failure),
    /// It may not: its task is no longer awaited, or the hub cannot be written now.
    No,
}

impl Ready {
    /// The failure of an activity that is to run at most once, if what its last attempt did is not known.
    pub(super) fn unknown(&self) -> Option<Failure> {
        let began = self.begun_at?;
        let message = format!(
            "an attempt of activity {:?} began at {began} and was cut off: its host died or stopped, or its worker was lost; what it did is not known, and it is to run at most once",
            self.name
        );
        Some(Failure::permanent(kind::OUTCOME_UNKNOWN, message))
    }

    /// What an attempt failed with that the host cut short: where it is to run at most once, what it did is not known.
    pub(super) fn cut_short(&self, failure: Failure) -> Failure {
        if !self.options.at_most_once {
            return failure;
        }
        let message = format!(
            "{}; what it did is not known, and it is to run at most once",
            failure.message
        );
        Failure::permanent(kind::OUTCOME_UNKNOWN, message)
    }
}

/// Records that an attempt starts, if its activity is to run at most once.
pub(super) async fn start_once(engine: &Arc<Engine>, ready: &Ready, at: Timestamp) -> Started {
    if let Some(failure) = ready.unknown() {
        return Started::Unknown(failure);
    }
    // One that fails before it runs needs no record.
    if !ready.options.at_most_once || fails_before(engine, ready).is_some() {
        return Started::Yes;
    }
    let place = (ready.key, ready.task);
    match begin(engine, place, Some(at)).await {
        Ok(Reply::Done) => Started::Yes,
        Ok(_) => Started::No,
        Err(error) => {
            let instance = &ready.caller.instance_id;
            tracing::warn!(instance, %error, "could not record that an attempt starts; trying again");
            // First, so that an attempt that is due at once is not taken for a running one.
            engine.activities.is_given_back(place);
            let due = Due::Activity(ready.task);
            engine.timers.again_in(TRY_AGAIN_AFTER, ready.key, due);
            Started::No
        }
    }
}

/// Records that an attempt did not start after all, because the host lacked something for it.
pub(super) async fn did_not_start(engine: &Arc<Engine>, ready: &Ready) {
    if ready.options.at_most_once
        && let Err(error) = begin(engine, (ready.key, ready.task), None).await
    {
        let instance = &ready.caller.instance_id;
        tracing::warn!(instance, %error, "could not record that an attempt did not start; its activity will fail");
    }
}

async fn begin(
    engine: &Arc<Engine>,
    place: AttemptKey,
    at: Option<Timestamp>,
) -> Result<Reply, StoreError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let done = move |_, result: Result<crate::store::Outcome, StoreError>| {
        let _ = tell.send(result.map(|done| done.reply));
    };
    engine.write_later(Change::Begin { place, at }, done).await;
    told.await.unwrap_or(Err(StoreError::Closed))
}
