//! Accepts requests to instances: from clients, and from other instances.

use perennial_core::{Command, Rejection, decide};

use crate::store::StoreError;
use crate::store::reply::Reply;
use crate::store::rows::Rows;
use crate::store::rules::create;
use crate::store::rules::inbox::{deliver, has_room_for};
use crate::store::types::{Asker, Effects, NewInstance, NewRequest};
use perennial_core::Timestamp;

/// Accepts a request of a client. One that is known already is not delivered again, also if the instance has ended.
pub(crate) fn request(
    rows: &mut impl Rows,
    new: &NewRequest,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let Some((key, _)) = rows.find(&new.instance)? else {
        return Ok(Reply::Rejected(Rejection::NotFound));
    };
    match rows.request_name(key, &new.id)? {
        // Names of requests compare without regard to case.
        Some(name) if name.to_lowercase() == new.name.to_lowercase() => Ok(Reply::Nothing),
        Some(name) => Ok(Reply::OtherRequest(name)),
        None => Ok(match deliver_request(rows, new, None, effects)? {
            Ok(()) => Reply::Done,
            Err(rejection) => Reply::Rejected(rejection),
        }),
    }
}

/// Delivers a new request to an instance that is live and has room for it.
pub(super) fn deliver_request(
    rows: &mut impl Rows,
    new: &NewRequest,
    asker: Option<Asker>,
    effects: &mut Effects,
) -> Result<Result<(), Rejection>, StoreError> {
    let found = rows.find(&new.instance)?;
    if let Err(rejection) = decide(found.map(|(_, status)| status), Command::RaiseEvent) {
        return Ok(Err(rejection));
    }
    let Some((key, _)) = found else {
        return Ok(Err(Rejection::NotFound));
    };
    let message = new.message();
    if !has_room_for(rows, key, &message)? {
        return Ok(Err(Rejection::TooManyUnread));
    }
    if rows.insert_request(key, &new.id, &new.name, asker)? {
        deliver(rows, key, &message, effects)?;
    }
    Ok(Ok(()))
}

/// Starts an instance if there is no live one with its id. A request that is known already starts none: the instance that it was for has
/// ended.
///
/// Returns whether it was started, or why it could not be.
pub(crate) fn start_for(
    rows: &mut impl Rows,
    new: &NewInstance,
    request: Option<&NewRequest>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    if let Some((key, status)) = rows.find(&new.start.instance_id)? {
        let is_known = match request {
            Some(request) => rows.request_name(key, &request.id)?.is_some(),
            None => false,
        };
        if is_known || !status.is_end() {
            return Ok(Reply::Nothing);
        }
    }
    Ok(match create::start(rows, new, now, effects)? {
        Ok(()) => Reply::Done,
        Err(rejection) => Reply::Rejected(rejection),
    })
}
