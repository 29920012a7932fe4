//! Reads rows of the tables.

use perennial_core::{Digest, Event, Json, Millis, TaskId, TaskRef, Timestamp, Turn};
use tokio_postgres::Row;

use crate::outage::warn_seldom;
use crate::store::StoreError;
use crate::store::codec::{decode, decode_tags, decode_waiting, uint};
use crate::store::memory::{Instance, Mail, Posted, Request, RewindRow, Task};
use crate::store::numbers::{policy_of, status_of, task_kind_of};
use crate::store::partition::Partitions;
use crate::store::postgres::partitions;
use crate::store::types::{Asker, Beat, InstanceKey, InstanceRow, TaskRow, ValueRow, task_ref};

/// Reads a message of the outbox: its number, its partition and itself.
pub(super) fn posted(row: &Row) -> Result<(i64, Posted), StoreError> {
    let posted = Posted {
        to: partitions::partition(row.try_get(1)?),
        message: decode(row.try_get(2)?, "a message between partitions")?,
    };
    Ok((row.try_get(0)?, posted))
}

/// Reads messages to some partitions with `query`, which gets their numbers. A message that cannot be read keeps those after it to the same
/// partition, which must not overtake it, and no others.
pub(super) fn readable(
    of: &Partitions,
    mut query: impl FnMut(&[i16]) -> Result<Vec<Row>, StoreError>,
) -> Result<Vec<(i64, Posted)>, StoreError> {
    let mut of = partitions::numbers(of);
    loop {
        let rows = query(&of)?;
        let mut found = Vec::with_capacity(rows.len());
        let mut blocked = None;
        for row in &rows {
            match posted(row) {
                Ok(one) => found.push(one),
                Err(error @ StoreError::Corrupt(_)) => {
                    let (seq, partition): (i64, i16) = (row.try_get(0)?, row.try_get(1)?);
                    warn_seldom!(
                        partition, message = seq, %error,
                        "a message between partitions cannot be read, and those to the same partition wait; `perennial check` tells more"
                    );
                    blocked = Some(partition);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        match blocked {
            None => return Ok(found),
            Some(blocked) => of.retain(|one| *one != blocked),
        }
    }
}

/// An unsigned number of 32 bits.
pub(super) fn small(row: &Row, column: usize) -> Result<u32, StoreError> {
    let number: i64 = row.try_get(column)?;
    u32::try_from(number)
        .map_err(|_| StoreError::Corrupt(format!("{number} is no number of 32 bits")))
}

/// An unsigned number of 64 bits.
pub(super) fn big(row: &Row, column: usize) -> Result<u64, StoreError> {
    Ok(uint(row.try_get(column)?))
}

/// A number that stands for a state.
pub(super) fn state(row: &Row, column: usize) -> Result<u8, StoreError> {
    let number: i16 = row.try_get(column)?;
    u8::try_from(number).map_err(|_| StoreError::Corrupt(format!("{number} is no state")))
}

pub(super) fn time(row: &Row, column: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(row
        .try_get::<_, Option<i64>>(column)?
        .map(uint)
        .map(Timestamp))
}

pub(super) fn json(row: &Row, column: usize) -> Result<Option<Json>, StoreError> {
    Ok(row
        .try_get::<_, Option<String>>(column)?
        .map(Json::from_text))
}

pub(super) fn decoded<T: serde::de::DeserializeOwned>(
    row: &Row,
    column: usize,
    what: &str,
) -> Result<Option<T>, StoreError> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    bytes.map(|bytes| decode(bytes, what)).transpose()
}

pub(super) fn digest_of(row: &Row, column: usize) -> Result<Digest, StoreError> {
    maybe_digest(row, column)?.ok_or_else(|| StoreError::Corrupt("a digest is missing".to_owned()))
}

pub(super) fn maybe_digest(row: &Row, column: usize) -> Result<Option<Digest>, StoreError> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    let digest = |bytes: &[u8]| {
        bytes
            .try_into()
            .map(Digest)
            .map_err(|_| StoreError::Corrupt("a digest does not have 32 bytes".to_owned()))
    };
    bytes.map(digest).transpose()
}

/// Reads a row of [`INSTANCES`](crate::store::postgres::wanted::INSTANCES).
pub(super) fn instance(row: &Row) -> Result<Instance, StoreError> {
    let waiting = row
        .try_get::<_, Option<&[u8]>>(23)?
        .map(decode_waiting)
        .transpose()?;
    Ok(Instance {
        row: InstanceRow {
            key: InstanceKey(row.try_get(0)?),
            id: row.try_get(1)?,
            name: row.try_get(2)?,
            version: row.try_get(3)?,
            module: maybe_digest(row, 4)?,
            status: status_of(state(row, 5)?)?,
            execution: small(row, 6)?,
            execution_id: row.try_get(7)?,
            generation: small(row, 8)?,
            next_event: big(row, 9)?,
            turns: small(row, 10)?,
            history_bytes: big(row, 11)?,
            returned: row.try_get(12)?,
            created_at: time(row, 13)?.unwrap_or_default(),
            started_at: time(row, 14)?,
            updated_at: time(row, 15)?.unwrap_or_default(),
            scheduled_for: time(row, 16)?,
            parent: decoded(row, 17, "a parent")?,
            parent_key: row.try_get::<_, Option<i64>>(18)?.map(InstanceKey),
            tags: decode_tags(row.try_get(19)?)?,
            custom_status: json(row, 20)?,
            output: json(row, 21)?,
            failure: decoded(row, 22, "the failure of an instance")?,
            waiting: waiting.clone().unwrap_or_default(),
            quarantine: decoded(row, 24, "the quarantine of an instance")?,
            value_count: small(row, 25)?,
        },
        waiting,
        parent_id: row.try_get(26)?,
        inbox_next: big(row, 27)?,
        inbox_bytes: big(row, 28)?,
        unread_bytes: big(row, 29)?,
        deliveries: small(row, 30)?,
        when_dropped: policy_of(match row.try_get::<_, Option<i16>>(31)? {
            Some(_) => Some(state(row, 31)?),
            None => None,
        })?,
        execution_timeout: row.try_get::<_, Option<i64>>(32)?.map(uint).map(Millis),
        has_requests: row.try_get(33)?,
    })
}

pub(super) fn mail(row: &Row) -> Result<Mail, StoreError> {
    let message: &[u8] = row.try_get(2)?;
    Ok(Mail {
        message: decode(message, "a message")?,
        at: time(row, 3)?.unwrap_or_default(),
        size: message.len() as u64,
        bytes: big(row, 4)?,
    })
}

/// Reads a row of [`TASKS`](crate::store::postgres::wanted::TASKS).
pub(super) fn task(row: &Row) -> Result<Task, StoreError> {
    let details = json(row, 17)?;
    Ok(Task {
        row: TaskRow {
            key: InstanceKey(row.try_get(0)?),
            task: task_ref(small(row, 3)?, small(row, 4)?, small(row, 1)?),
            kind: task_kind_of(state(row, 2)?)?,
            turn: small(row, 5)?,
            due: time(row, 6)?,
            attempt: small(row, 7)?,
            first_started: time(row, 8)?,
            deliveries: small(row, 9)?,
            failure: decoded(row, 10, "the failure of a task")?,
            target: decoded(row, 11, "what runs a task")?,
            scheduled_in: small(row, 12)?,
            attempts: decoded(row, 13, "the attempts of a task")?.unwrap_or_default(),
            begun_at: time(row, 14)?,
            cut: small(row, 15)?,
            heartbeat: time(row, 16)?.map(|at| Beat { at, details }),
            // When the due time was set is not in the row.
            set_at: Timestamp(0),
        },
        module: maybe_digest(row, 18)?,
    })
}

pub(super) fn value(row: &Row) -> Result<ValueRow, StoreError> {
    Ok(ValueRow {
        name: row.try_get(1)?,
        value: Json::from_text(row.try_get::<_, String>(2)?),
        version: big(row, 3)?,
        at: time(row, 4)?.unwrap_or_default(),
    })
}

pub(super) fn request(row: &Row) -> Result<Request, StoreError> {
    let asker = match row.try_get::<_, Option<i64>>(6)? {
        Some(key) => Some(Asker {
            key: InstanceKey(key),
            task: TaskRef {
                execution: small(row, 7)?,
                generation: small(row, 8)?,
                task: TaskId(small(row, 9)?),
            },
        }),
        None => None,
    };
    Ok(Request {
        name: row.try_get(2)?,
        at: time(row, 3)?.unwrap_or_default(),
        asker,
        answer: time(row, 4)?.zip(decoded(row, 5, "the answer to a request")?),
    })
}

/// Reads a turn whose columns are number, first event, time, answer, and events received and produced.
pub(super) fn turn(row: &Row) -> Result<Turn, StoreError> {
    let events = |column: usize| -> Result<Vec<Event>, StoreError> {
        decode(row.try_get(column)?, "events")
    };
    Ok(Turn {
        number: small(row, 0)?,
        first_event: big(row, 1)?,
        at: time(row, 2)?.unwrap_or_default(),
        answer: row.try_get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
        received: events(4)?,
        produced: events(5)?,
        next: None,
    })
}

/// Reads a rewind whose columns are generation, time, reason and cut.
pub(super) fn rewind(row: &Row) -> Result<(u32, RewindRow), StoreError> {
    let reason: Option<Vec<u8>> = row.try_get(2)?;
    let reason = reason.map(String::from_utf8).transpose();
    let reason = reason
        .map_err(|_| StoreError::Corrupt("the reason of a rewind is not UTF-8".to_owned()))?;
    let rewind = RewindRow {
        at: time(row, 1)?.unwrap_or_default(),
        reason,
        cut: small(row, 3)?,
    };
    Ok((small(row, 0)?, rewind))
}
