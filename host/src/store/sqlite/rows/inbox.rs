//! Rows of inboxes.

use perennial_core::{Message, Timestamp, Waiting};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{decode, decode_waiting, encode, int, uint};
use crate::store::rows::Found;
use crate::store::rows::inbox::{InboxRows, Room};
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::InstanceKey;

/// The SQL term of the index on commands: the variant of a message follows the format byte.
macro_rules! is_command {
    () => {
        "substr(message, 1, 2) BETWEEN X'0107' AND X'0109'"
    };
}
pub(in crate::store) use is_command;

impl InboxRows for Sql<'_> {
    fn push(&mut self, key: InstanceKey, message: &Message, at: Option<Timestamp>) -> Found<u64> {
        push_encoded(self.0, key, &encode(message)?, at)
    }

    fn push_first(&mut self, key: InstanceKey, messages: &[Message]) -> Found<()> {
        let db = self.0;
        let encoded = messages.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let mut query = db.prepare_cached(
            "SELECT seq, bytes - length(message) FROM inbox WHERE instance = ?1 ORDER BY seq LIMIT 1",
        )?;
        let first: Option<(i64, i64)> = query
            .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let count = i64::try_from(encoded.len()).unwrap_or(i64::MAX);
        match first {
            Some((first, before)) if first >= count => {
                let mut bytes = before;
                for (seq, message) in (0..first).rev().zip(encoded.iter().rev()) {
                    insert(db, key, seq, message, None, bytes)?;
                    bytes -= int(message.len() as u64);
                }
            }
            found => {
                let waiting = match found {
                    Some(_) => take_all(db, key)?,
                    None => Vec::new(),
                };
                for message in &encoded {
                    push_encoded(db, key, message, None)?;
                }
                for (message, at) in waiting {
                    push_encoded(db, key, &message, Some(at))?;
                }
            }
        }
        Ok(())
    }

    fn insert_start(&mut self, key: InstanceKey, start: &Message) -> Found<()> {
        self.0
            .prepare_cached("INSERT INTO inbox (instance, seq, message) VALUES (?1, 0, ?2)")?
            .execute(params![key.0, encode(start)?])?;
        Ok(())
    }

    fn discard(&mut self, key: InstanceKey, seqs: &[u64]) -> Found<()> {
        for seq in seqs {
            self.0
                .prepare_cached("DELETE FROM inbox WHERE instance = ?1 AND seq = ?2")?
                .execute(params![key.0, int(*seq)])?;
        }
        Ok(())
    }

    fn clear_inbox(&mut self, key: InstanceKey) -> Found<()> {
        self.0
            .prepare_cached("DELETE FROM inbox WHERE instance = ?1")?
            .execute([key.0])?;
        Ok(())
    }

    fn has_mail(&mut self, key: InstanceKey) -> Found<bool> {
        let mut query = self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM inbox WHERE instance = ?1)")?;
        Ok(query.query_row([key.0], |row| row.get(0))?)
    }

    fn will_change(&mut self, key: InstanceKey) -> Found<bool> {
        let mut query = self.0.prepare_cached(concat!(
            "SELECT EXISTS (SELECT 1 FROM inbox WHERE instance = ?1 AND ",
            is_command!(),
            " AND substr(message, 1, 2) < X'0109')"
        ))?;
        Ok(query.query_row([key.0], |row| row.get(0))?)
    }

    fn refusals(&mut self, key: InstanceKey) -> Found<Vec<(u64, Message)>> {
        let sample = encode(&Message::StartSkipped {
            instance_id: String::new(),
            reason: String::new(),
        })?;
        // The variant of a message follows the format byte; the query need not read the rest.
        let mut query = self.0.prepare_cached(
            "SELECT seq, message FROM inbox WHERE instance = ?1 AND substr(message, 1, 2) = ?2 ORDER BY seq",
        )?;
        let mut rows = query.query(params![key.0, &sample[..2]])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let message: Vec<u8> = row.get(1)?;
            found.push((uint(row.get(0)?), decode(&message, "a message")?));
        }
        Ok(found)
    }

    fn room(&mut self, key: InstanceKey) -> Found<Room> {
        let mut query = self.0.prepare_cached(
            "SELECT inbox_bytes - (SELECT bytes - length(message) FROM inbox WHERE instance = ?1 ORDER BY seq LIMIT 1), unread_bytes,
                    module IS NULL
             FROM instance WHERE key = ?1",
        )?;
        let room = query.query_row([key.0], |row| {
            Ok(Room {
                waits: uint(row.get::<_, Option<i64>>(0)?.unwrap_or(0)),
                unread: uint(row.get(1)?),
                is_remote: row.get(2)?,
            })
        })?;
        Ok(room)
    }

    fn waiting(&mut self, key: InstanceKey) -> Found<Option<Waiting>> {
        let mut query = self
            .0
            .prepare_cached("SELECT waiting FROM instance WHERE key = ?1")?;
        let waiting: Option<Vec<u8>> = query.query_row([key.0], |row| row.get(0))?;
        waiting.map(|waiting| decode_waiting(&waiting)).transpose()
    }
}

fn push_encoded(
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
    insert(db, key, seq, message, at, bytes)?;
    Ok(uint(seq))
}

fn insert(
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
