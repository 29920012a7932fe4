//! Answers requests, and tells the instances that asked.
//!
//! The first answer stands. A request that is not answered when its instance ends has no answer in its row: it reads as failed as long as the
//! instance is ended, and a rewind opens it again.

use perennial_core::{Failure, Message, Timestamp, kind};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::rules::inbox::deliver_if_live;
use crate::store::types::{Asker, Effects, InstanceKey, RequestAnswer};

/// How long an answer is kept at least, while the instance goes on as new.
const ANSWER_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// Answers deleted with one continue-as-new, at most: more than one execution usually adds.
const ANSWERS_DELETED: u32 = 100;

/// Records the answer to a request, unless it has one, and tells the instance that asked.
pub(super) fn answer(
    rows: &mut impl Rows,
    key: InstanceKey,
    id: &str,
    outcome: &RequestAnswer,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    match rows.answer_request(key, id, outcome)? {
        Some(asker) => tell(rows, asker, outcome.clone(), effects),
        None => Ok(()),
    }
}

/// Delivers the answer to a request to the instance that asked, if that is live.
pub(super) fn tell(
    rows: &mut impl Rows,
    asker: Asker,
    outcome: RequestAnswer,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let task = asker.task;
    let message = Message::RequestEnded { task, outcome };
    deliver_if_live(rows, asker.key, &message, effects)
}

/// The failure of a request that will not be answered.
pub(crate) fn not_answered(why: impl Into<String>) -> Failure {
    Failure::permanent(kind::NOT_ANSWERED, why.into())
}

/// Tells the instances that asked one that has ended, or is deleted, that it will not answer.
pub(super) fn fail_open(
    rows: &mut impl Rows,
    key: InstanceKey,
    why: &str,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    for id in rows.open_requests(key)? {
        answer(rows, key, &id, &Err(not_answered(why)), effects)?;
    }
    Ok(())
}

/// Deletes all requests to an instance; the instances that asked are told.
pub(super) fn delete_all(
    rows: &mut impl Rows,
    key: InstanceKey,
    why: &str,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    fail_open(rows, key, why, effects)?;
    rows.delete_requests(key)
}

/// Deletes old answers of an instance that goes on as new, so that one that goes on for ever does not keep all of them.
pub(super) fn delete_old(
    rows: &mut impl Rows,
    key: InstanceKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = Timestamp(now.0.saturating_sub(ANSWER_KEPT_MS));
    rows.delete_answered(key, before, ANSWERS_DELETED)
}
