//! Reads what the changes of a batch need.

use perennial_core::{Digest, Event, Json, Millis, TaskId, TaskRef, Timestamp, Turn};
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::{decode, decode_tags, decode_waiting, int, uint};
use crate::store::memory::{Instance, Mail, Posted, Request, RewindRow, Task};
use crate::store::numbers::{policy_of, status_of, task_kind_of};
use crate::store::overlay::source::{Garbage, History, Left, Loaded, Source, Wanted};
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::error::unanswered;
use crate::store::postgres::garbage;
use crate::store::postgres::indexes::by;
use crate::store::postgres::loading::load;
use crate::store::postgres::partitions::{self, ranges};
use crate::store::postgres::session::{Param, Session};
use crate::store::postgres::wanted::{ASKED, GLANCE, LIVES_BELOW, WAITING};
use crate::store::types::{Asker, Beat, InstanceKey, InstanceRow, TaskRow, ValueRow, task_ref};

/// The connection of an owner; none after it was lost, until there is another one.
#[derive(Default)]
pub(in crate::store) struct Link(pub(super) Option<Session>);

impl Link {
    pub(super) fn session(&self) -> Result<&Session, StoreError> {
        match &self.0 {
            Some(session) => Ok(session),
            None => Err(unanswered("there is no connection to PostgreSQL")),
        }
    }

    /// Whether there is a connection that can be used.
    pub(super) fn is_up(&self) -> bool {
        self.0.as_ref().is_some_and(|session| !session.is_lost())
    }
}

impl Source for Link {
    fn load(&mut self, wanted: &Wanted, own: &Partitions) -> Result<Loaded, StoreError> {
        load(self.session()?, wanted, own)
    }

    fn history(
        &mut self,
        key: InstanceKey,
        execution: u32,
        from: u32,
    ) -> Result<History, StoreError> {
        let (execution, from) = (i64::from(execution), i64::from(from));
        let found = self.session()?.query_all(&[
            (
                "SELECT number, first_event, at, answer, received, produced FROM turn
                 WHERE instance = $1 AND execution = $2 AND number >= $3 ORDER BY number",
                &[&key.0, &execution, &from],
            ),
            (
                "SELECT generation, at, reason, cut FROM rewind WHERE instance = $1 AND execution = $2 ORDER BY generation",
                &[&key.0, &execution],
            ),
        ])?;
        let [turns, rewinds] = &found[..] else {
            return Ok(History::default());
        };
        Ok(History {
            turns: turns.iter().map(turn).collect::<Result<_, _>>()?,
            rewinds: rewinds.iter().map(rewind).collect::<Result<_, _>>()?,
        })
    }

    fn garbage(&mut self, at_most: usize, own: &Partitions) -> Result<Vec<Left>, StoreError> {
        let of = ranges(own);
        let rows = self
            .session()?
            .query(garbage::FIRST, &[&of.low, &of.high, &int(at_most as u64)])?;
        let left = |row: &Row| {
            let execution: i64 = row.try_get(1)?;
            Ok((InstanceKey(row.try_get(0)?), u32::try_from(execution).ok()))
        };
        rows.iter().map(left).collect()
    }

    fn garbage_of(&mut self, left: &[Left], at_most: usize) -> Result<Garbage, StoreError> {
        let instances: Vec<i64> = left.iter().map(|(key, _)| key.0).collect();
        let from: Vec<i64> = left
            .iter()
            .map(|(_, execution)| execution.map_or(0, i64::from))
            .collect();
        let to: Vec<i64> = left
            .iter()
            .map(|(_, execution)| execution.map_or(i64::MAX, i64::from))
            .collect();
        let at_most = int(at_most as u64);
        let limited: [Param<'_>; 4] = [&instances, &from, &to, &at_most];
        let found = self.session()?.query_all(&[
            (garbage::TURNS, &limited),
            (garbage::CUT_TURNS, &limited),
            (garbage::REWINDS, &limited[..3]),
        ])?;
        let [turns, cut_turns, rewinds] = &found[..] else {
            return Ok(Garbage::default());
        };
        let three = |row: &Row| Ok((InstanceKey(row.try_get(0)?), small(row, 1)?, small(row, 2)?));
        let four = |row: &Row| {
            Ok((
                InstanceKey(row.try_get(0)?),
                small(row, 1)?,
                small(row, 2)?,
                small(row, 3)?,
            ))
        };
        Ok(Garbage {
            turns: turns.iter().map(three).collect::<Result<_, StoreError>>()?,
            cut_turns: cut_turns
                .iter()
                .map(four)
                .collect::<Result<_, StoreError>>()?,
            rewinds: rewinds
                .iter()
                .map(three)
                .collect::<Result<_, StoreError>>()?,
        })
    }

    fn live_on(&mut self, digest: Digest, except: &[InstanceKey]) -> Result<u64, StoreError> {
        let except: Vec<i64> = except.iter().map(|key| key.0).collect();
        let sql = concat!(
            "SELECT count(*) FROM instance WHERE status < 3 AND module = $1 AND key <> ALL($2) AND ",
            by!(live)
        );
        let row = self.session()?.query_opt(sql, &[&&digest.0[..], &except])?;
        row.map_or(Ok(0), |row| big(&row, 0))
    }

    fn used_modules(
        &mut self,
        among: &[Digest],
        except: &[InstanceKey],
    ) -> Result<Vec<Digest>, StoreError> {
        let except: Vec<i64> = except.iter().map(|key| key.0).collect();
        let among: Vec<&[u8]> = among.iter().map(|digest| &digest.0[..]).collect();
        // Statuses: 3 is Completed, 5 Terminated.
        let sql = concat!(
            "SELECT module FROM instance WHERE status IN (0, 1, 2, 4) AND module = ANY($1) AND key <> ALL($2) AND ",
            by!(status),
            " UNION SELECT module FROM task WHERE module = ANY($1) AND instance <> ALL($2)
              UNION SELECT module FROM outbox WHERE module = ANY($1)"
        );
        let rows = self.session()?.query(sql, &[&among, &except])?;
        rows.iter().map(|row| digest_of(row, 0)).collect()
    }

    fn messages_for(
        &mut self,
        of: &Partitions,
        limit: u32,
        without: &[i64],
    ) -> Result<Vec<(i64, Posted)>, StoreError> {
        let of = partitions::numbers(of);
        let rows = self
            .session()?
            .query(WAITING, &[&of, &i64::from(limit), &without])?;
        rows.iter().map(posted).collect()
    }

    fn partitions_asked_by(&mut self, asker: InstanceKey) -> Result<Vec<Partition>, StoreError> {
        let rows = self.session()?.query(ASKED, &[&asker.0])?;
        let asked = rows.iter();
        asked
            .map(|row| Ok(partitions::partition(row.try_get(0)?)))
            .collect()
    }

    fn glance(&mut self, id: &str) -> Result<Option<Instance>, StoreError> {
        let row = self.session()?.query_opt(GLANCE, &[&id])?;
        row.as_ref().map(instance).transpose()
    }

    fn lives_below(
        &mut self,
        ancestor: InstanceKey,
        own: &Partitions,
        starters: &[InstanceKey],
    ) -> Result<bool, StoreError> {
        let starters: Vec<i64> = starters.iter().map(|key| key.0).collect();
        let own = partitions::numbers(own);
        let row = self
            .session()?
            .query_opt(LIVES_BELOW, &[&ancestor.0, &own, &starters])?;
        row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
    }
}

/// Reads a message of the outbox: its number, its partition and itself.
pub(super) fn posted(row: &Row) -> Result<(i64, Posted), StoreError> {
    let posted = Posted {
        to: partitions::partition(row.try_get(1)?),
        message: decode(row.try_get(2)?, "a message between partitions")?,
    };
    Ok((row.try_get(0)?, posted))
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
