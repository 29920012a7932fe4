//! Accepts requests to instances: from clients, and from other instances.

use perennial_core::{Command, Json, Message, Rejection, decide};
use rusqlite::Connection;

use crate::store::StoreError;
use crate::store::changes::create;
use crate::store::reply::Reply;
use crate::store::rows::instances::{self, deliver};
use crate::store::rows::requests::{self, Asker};
use crate::store::types::{Effects, NewInstance};
use perennial_core::Timestamp;

/// A request to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRequest {
    /// The instance that is asked.
    pub(crate) instance: String,
    /// The id of the request, unique within the instance.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) input: Option<Json>,
}

impl NewRequest {
    fn message(&self) -> Message {
        Message::Request {
            number: None,
            id: self.id.clone(),
            name: self.name.clone(),
            input: self.input.clone(),
        }
    }
}

/// Accepts a request of a client. One that is known already is not delivered again, also if the instance has ended.
pub(crate) fn request(
    db: &Connection,
    new: &NewRequest,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let Some((key, _)) = instances::find(db, &new.instance)? else {
        return Ok(Reply::Rejected(Rejection::NotFound));
    };
    match requests::name_of(db, key, &new.id)? {
        // Names of requests compare without regard to case.
        Some(name) if name.to_lowercase() == new.name.to_lowercase() => Ok(Reply::Nothing),
        Some(name) => Ok(Reply::OtherRequest(name)),
        None => Ok(match deliver_request(db, new, None, effects)? {
            Ok(()) => Reply::Done,
            Err(rejection) => Reply::Rejected(rejection),
        }),
    }
}

/// Delivers a new request to an instance that is live and has room for it.
pub(in crate::store) fn deliver_request(
    db: &Connection,
    new: &NewRequest,
    asker: Option<Asker>,
    effects: &mut Effects,
) -> Result<Result<(), Rejection>, StoreError> {
    let found = instances::find(db, &new.instance)?;
    if let Err(rejection) = decide(found.map(|(_, status)| status), Command::RaiseEvent) {
        return Ok(Err(rejection));
    }
    let Some((key, _)) = found else {
        return Ok(Err(Rejection::NotFound));
    };
    let message = new.message();
    if !instances::has_room_for_event(db, key, &message)? {
        return Ok(Err(Rejection::TooManyUnread));
    }
    if requests::insert(db, key, (&new.id, &new.name), asker)? {
        deliver(db, key, &message)?;
        effects.woken.push(key);
    }
    Ok(Ok(()))
}

/// Starts an instance if there is no live one with its id. A request that is known already starts none: the instance that it was for has
/// ended.
///
/// Returns whether it was started, or why it could not be.
pub(crate) fn start_for(
    db: &Connection,
    new: &NewInstance,
    request: Option<&NewRequest>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    if let Some((key, status)) = instances::find(db, &new.start.instance_id)? {
        let is_known = match request {
            Some(request) => requests::name_of(db, key, &request.id)?.is_some(),
            None => false,
        };
        if is_known || !status.is_end() {
            return Ok(Reply::Nothing);
        }
    }
    Ok(match create::start(db, new, now, effects)? {
        Ok(()) => Reply::Done,
        Err(rejection) => Reply::Rejected(rejection),
    })
}
