//! Rows of instances and inboxes.

use perennial_core::{Digest, Message, Quarantine, Status, Timestamp, Waiting, bounds};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{decode_waiting, encode, int, uint};
use crate::store::rows::modules;
use crate::store::rows::tags;
use crate::store::types::{InstanceKey, NewInstance, Summary};

/// The SQL term of the index on commands: the variant of a message follows the format byte.
macro_rules! is_command {
    () => {
        "substr(message, 1, 2) BETWEEN X'0107' AND X'0109'"
    };
}
pub(in crate::store) use is_command;

/// The columns of a new status row beside its start.
pub(crate) struct Row<'a> {
    pub(crate) status: Status,
    pub(crate) next_event: u64,
    pub(crate) turns: u32,
    pub(crate) inbox_next: u64,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) updated_at: Timestamp,
    pub(crate) after: Option<&'a Summary>,
}

/// The number of a status in the file.
pub(crate) fn status_number(status: Status) -> u8 {
    match status {
        Status::Pending => 0,
        Status::Running => 1,
        Status::Suspended => 2,
        Status::Completed => 3,
        Status::Failed => 4,
        Status::Terminated => 5,
    }
}

/// The inverse of [`status_number`].
pub(crate) fn status_of(number: u8) -> Result<Status, StoreError> {
    let found = Status::ALL
        .into_iter()
        .find(|status| status_number(*status) == number);
    found.ok_or_else(|| StoreError::Corrupt(format!("{number} is no status")))
}

/// The instance with an id.
pub(crate) fn find(db: &Connection, id: &str) -> Result<Option<(InstanceKey, Status)>, StoreError> {
    let mut query = db.prepare_cached("SELECT key, status FROM instance WHERE id = ?1")?;
    let row: Option<(i64, u8)> = query
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    row.map(|(key, status)| Ok((InstanceKey(key), status_of(status)?)))
        .transpose()
}

/// Whether the inbox of an instance contains a suspend or a resume.
pub(crate) fn will_change(db: &Connection, key: InstanceKey) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached(concat!(
        "SELECT EXISTS (SELECT 1 FROM inbox WHERE instance = ?1 AND ",
        is_command!(),
        " AND substr(message, 1, 2) < X'0109')"
    ))?;
    Ok(query.query_row([key.0], |row| row.get(0))?)
}

/// Adds a status row.
///
/// # Errors
/// [`StoreError::Conflict`] if its module was deleted.
pub(crate) fn insert(db: &Connection, new: &NewInstance, row: &Row<'_>) -> Result<(), StoreError> {
    let start = &new.start;
    if let Some(digest) = start.module {
        modules::expect(db, digest)?;
    }
    let tags = tags::text(&start.tags);
    let waiting = row
        .after
        .filter(|after| !after.status.is_end())
        .map(|after| encode(&after.waiting))
        .transpose()?;
    let failure = row
        .after
        .and_then(|after| after.failure.as_ref())
        .map(encode)
        .transpose()?;
    db.prepare_cached(
        "INSERT INTO instance (key, id, name, version, module, status, execution, execution_id, generation, next_event, turns,
             history_bytes, inbox_next, returned, deliveries, created_at, started_at, updated_at, scheduled_for, parent_id, parent_key, parent, tags,
             custom_status, output, failure, waiting)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)",
    )?
    .execute(params![
        new.key.0,
        start.instance_id,
        start.name,
        start.version,
        start.module.map(|digest| digest.0),
        status_number(row.status),
        start.execution,
        start.execution_id,
        int(row.next_event),
        row.turns,
        int(row.after.map_or(0, |after| after.history_bytes)),
        int(row.inbox_next),
        row.after.is_some_and(|after| after.returned),
        int(start.accepted_at.0),
        row.started_at.map(|at| int(at.0)),
        int(row.updated_at.0),
        start.scheduled_for.map(|at| int(at.0)),
        start.parent.as_ref().map(|parent| parent.instance_id.as_str()),
        new.parent.map(|key| key.0),
        start.parent.as_ref().map(encode).transpose()?,
        tags,
        row.after.and_then(|after| after.custom_status.as_ref()).map(|json| json.as_str()),
        row.after.and_then(|after| after.output.as_ref()).map(|json| json.as_str()),
        failure,
        waiting,
    ])?;
    if !start.tags.is_empty() {
        tag(db, new.key)?;
    }
    Ok(())
}

/// Adds an instance to the lists by tag, with the tags in its row.
pub(crate) fn tag(db: &Connection, key: InstanceKey) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT OR IGNORE INTO instance_tag (tag, value, created_at, instance)
         SELECT tag.key, tag.value, i.created_at, i.key FROM instance AS i, json_each(i.tags) AS tag WHERE i.key = ?1",
    )?
    .execute([key.0])?;
    Ok(())
}

/// Removes an instance from the lists by tag.
pub(crate) fn untag(db: &Connection, key: InstanceKey) -> Result<(), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT tag.key, tag.value, i.created_at FROM instance AS i, json_each(i.tags) AS tag WHERE i.key = ?1",
    )?;
    let tags: Vec<(String, String, i64)> = query
        .query_map([key.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (tag, value, created_at) in tags {
        db.prepare_cached(
            "DELETE FROM instance_tag WHERE tag = ?1 AND value = ?2 AND created_at = ?3 AND instance = ?4",
        )?
        .execute(params![tag, value, created_at, key.0])?;
    }
    Ok(())
}

/// Appends a message to an inbox. The instance's row allocates its number.
pub(crate) fn deliver(
    db: &Connection,
    key: InstanceKey,
    message: &Message,
) -> Result<u64, StoreError> {
    deliver_encoded(db, key, &encode(message)?, None)
}

/// As [`deliver`], for an encoded message. `at` is its arrival; `None` is the time of the transaction.
pub(crate) fn deliver_encoded(
    db: &Connection,
    key: InstanceKey,
    message: &[u8],
    at: Option<Timestamp>,
) -> Result<u64, StoreError> {
    let mut take = db.prepare_cached(
        "UPDATE instance SET inbox_next = inbox_next + 1, inbox_bytes = inbox_bytes + ?2 WHERE key = ?1
         RETURNING inbox_next - 1, inbox_bytes",
    )?;
    let place: Option<(i64, i64)> = take
        .query_row(params![key.0, int(message.len() as u64)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let (seq, bytes) = place.ok_or(StoreError::Conflict)?;
    insert_message(db, key, seq, message, at, bytes)?;
    Ok(uint(seq))
}

fn insert_message(
    db: &Connection,
    key: InstanceKey,
    seq: i64,
    message: &[u8],
    at: Option<Timestamp>,
    bytes: i64,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO inbox (instance, seq, message, at, bytes) VALUES (?1, ?2, ?3, coalesce(?4, (SELECT at FROM hub WHERE id = 1)), ?5)",
    )?
    .execute(params![key.0, seq, message, at.map(|at| int(at.0)), bytes])?;
    Ok(())
}

/// Inserts messages before all others in an inbox.
pub(crate) fn deliver_first(
    db: &Connection,
    key: InstanceKey,
    messages: &[Vec<u8>],
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT seq, bytes - length(message) FROM inbox WHERE instance = ?1 ORDER BY seq LIMIT 1",
    )?;
    let first: Option<(i64, i64)> = query
        .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let count = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    match first {
        Some((first, before)) if first >= count => {
            let mut bytes = before;
            for (seq, message) in (0..first).rev().zip(messages.iter().rev()) {
                insert_message(db, key, seq, message, None, bytes)?;
                bytes -= int(message.len() as u64);
            }
        }
        found => {
            let waiting = match found {
                Some(_) => take_all(db, key)?,
                None => Vec::new(),
            };
            for message in messages {
                deliver_encoded(db, key, message, None)?;
            }
            for (message, at) in waiting {
                deliver_encoded(db, key, &message, Some(at))?;
            }
        }
    }
    Ok(())
}

/// Empties an inbox. Returns its encoded messages with their arrival times.
fn take_all(db: &Connection, key: InstanceKey) -> Result<Vec<(Vec<u8>, Timestamp)>, StoreError> {
    let mut query =
        db.prepare_cached("SELECT message, at FROM inbox WHERE instance = ?1 ORDER BY seq")?;
    let messages = query
        .query_map([key.0], |row| {
            Ok((row.get(0)?, Timestamp(uint(row.get(1)?))))
        })?
        .collect::<Result<_, _>>()?;
    db.prepare_cached("DELETE FROM inbox WHERE instance = ?1")?
        .execute([key.0])?;
    Ok(messages)
}

/// Whether an instance has room for an external event or a request. Its queued events and those that the guest received but has not read share a bound,
/// so that clients cannot flood it. An event that the instance waits for is read at once, so it only has to fit the inbox.
pub(in crate::store) fn has_room_for_event(
    db: &Connection,
    key: InstanceKey,
    message: &Message,
) -> Result<bool, StoreError> {
    let what = if let Message::ExternalEvent { name, .. } = message {
        (Unread::Event, name.as_str())
    } else if let Message::Request { name, .. } = message {
        (Unread::Request, name.as_str())
    } else {
        return Ok(true);
    };
    let mut query = db.prepare_cached(
        "SELECT inbox_bytes - (SELECT bytes - length(message) FROM inbox WHERE instance = ?1 ORDER BY seq LIMIT 1), unread_bytes,
                module IS NULL
         FROM instance WHERE key = ?1",
    )?;
    let (waits, unread, is_remote): (Option<i64>, i64, bool) =
        query.query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let with_it = uint(waits.unwrap_or(0)) + message.size() as u64;
    if is_remote {
        // A worker does not say which events it has read, so that only its inbox is bounded.
        return Ok(with_it <= bounds::REMOTE_INBOX_EVENT_BYTES as u64);
    }
    let max = bounds::UNREAD_EVENT_BYTES as u64;
    if with_it + uint(unread) <= max {
        return Ok(true);
    }
    Ok(with_it <= max && awaits(db, key, what)?)
}

/// What clients send to an instance, which it reads when it wants to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    Event,
    Request,
}

/// Whether an instance waits for an external event or a request of this name, as of its last turn.
fn awaits(
    db: &Connection,
    key: InstanceKey,
    (of, name): (Unread, &str),
) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached("SELECT waiting FROM instance WHERE key = ?1")?;
    let waiting: Option<Vec<u8>> = query.query_row([key.0], |row| row.get(0))?;
    let waiting: Option<Waiting> = waiting
        .map(|waiting| decode_waiting(&waiting))
        .transpose()?;
    Ok(waiting.is_some_and(|waiting| match of {
        Unread::Event => waiting.may_await(name),
        Unread::Request => waiting.may_answer(name),
    }))
}

/// Whether an instance exists and has not ended.
pub(crate) fn is_live(db: &Connection, key: InstanceKey) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached("SELECT status FROM instance WHERE key = ?1")?;
    let status: Option<u8> = query.query_row([key.0], |row| row.get(0)).optional()?;
    Ok(match status {
        Some(status) => !status_of(status)?.is_end(),
        None => false,
    })
}

/// Quarantines an instance, with the reason. Returns its id if it is still live.
pub(crate) fn quarantine(
    db: &Connection,
    key: InstanceKey,
    why: &Quarantine,
) -> Result<Option<String>, StoreError> {
    let mut update = db.prepare_cached(
        "UPDATE instance SET quarantine = ?1, status = ?2 WHERE key = ?3 AND status < 3 RETURNING id",
    )?;
    let suspended = status_number(Status::Suspended);
    Ok(update
        .query_row(params![encode(why)?, suspended, key.0], |row| row.get(0))
        .optional()?)
}

/// Ends the quarantine of an instance: sets its status, pins it to this module, and resets its count of crashes. Returns its id if it is
/// still live.
///
/// # Errors
/// [`StoreError::Conflict`] if the module was deleted.
pub(crate) fn release(
    db: &Connection,
    key: InstanceKey,
    status: Status,
    module: Option<Digest>,
) -> Result<Option<String>, StoreError> {
    if let Some(digest) = module {
        modules::expect(db, digest)?;
    }
    let mut update = db.prepare_cached(
        "UPDATE instance SET quarantine = NULL, deliveries = 0, status = ?1, module = ?2 WHERE key = ?3 AND status < 3 RETURNING id",
    )?;
    let values = params![status_number(status), module.map(|digest| digest.0), key.0];
    Ok(update.query_row(values, |row| row.get(0)).optional()?)
}

/// Whether an instance is quarantined.
pub(crate) fn is_quarantined(db: &Connection, key: InstanceKey) -> Result<bool, StoreError> {
    let mut query =
        db.prepare_cached("SELECT quarantine IS NOT NULL FROM instance WHERE key = ?1")?;
    Ok(query
        .query_row([key.0], |row| row.get(0))
        .optional()?
        .unwrap_or(false))
}

/// Whether an inbox has messages.
pub(in crate::store) fn has_mail(db: &Connection, key: InstanceKey) -> Result<bool, StoreError> {
    let mut query = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM inbox WHERE instance = ?1)")?;
    Ok(query.query_row([key.0], |row| row.get(0))?)
}

/// Deletes messages from an inbox.
pub(crate) fn discard(db: &Connection, key: InstanceKey, seqs: &[u64]) -> Result<(), StoreError> {
    for seq in seqs {
        db.prepare_cached("DELETE FROM inbox WHERE instance = ?1 AND seq = ?2")?
            .execute(params![key.0, int(*seq)])?;
    }
    Ok(())
}
