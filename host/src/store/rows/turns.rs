//! How turns are read.

use perennial_core::{Event, Timestamp, Turn};
use rusqlite::{OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{decode, uint};
use crate::store::rows::reader::Reader;
use crate::store::types::{InstanceKey, InstanceRow};

impl Reader {
    /// The turns of an execution from a number on, in order, at most `limit`.
    pub(crate) fn turns(
        &self,
        key: InstanceKey,
        execution: u32,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError> {
        self.turns_within(key, execution, from, limit, usize::MAX)
    }

    /// As [`turns`](Self::turns), but stops once they have this many bytes; returns at least one if there is one.
    pub(crate) fn turns_within(
        &self,
        key: InstanceKey,
        execution: u32,
        from: u32,
        limit: u32,
        bytes_max: usize,
    ) -> Result<Vec<Turn>, StoreError> {
        self.with(|db| {
            let mut bytes = 0;
            let mut query = db.prepare_cached(
                "SELECT number, first_event, at, answer, received, produced FROM turn
                 WHERE instance = ?1 AND execution = ?2 AND number >= ?3 ORDER BY number LIMIT ?4",
            )?;
            let mut rows = query.query(params![key.0, execution, from, limit])?;
            let mut turns = Vec::new();
            while let Some(row) = rows.next()? {
                let number: u32 = row.get(0)?;
                let mut events = |column, what: &str| -> Result<Vec<Event>, StoreError> {
                    let encoded = row
                        .get_ref(column)?
                        .as_blob()
                        .map_err(rusqlite::Error::from)?;
                    bytes += encoded.len();
                    decode(encoded, format_args!("turn {number}, {what}"))
                };
                turns.push(Turn {
                    number,
                    first_event: uint(row.get(1)?),
                    at: Timestamp(uint(row.get(2)?)),
                    answer: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
                    received: events(4, "received")?,
                    produced: events(5, "produced")?,
                    next: None,
                });
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(turns)
        })
    }

    /// The number of the turn of the current execution that contains an event, or the one after the last turn.
    pub(crate) fn turn_with_event(&self, row: &InstanceRow, event: u64) -> Result<u32, StoreError> {
        if event >= row.next_event {
            return Ok(row.turns);
        }
        self.with(|db| {
            let mut first = db.prepare_cached(
                "SELECT first_event FROM turn WHERE instance = ?1 AND execution = ?2 AND number = ?3",
            )?;
            // Turns have no gaps, so that a search needs no index of events.
            let (mut from, mut to) = (0, row.turns);
            while to - from > 1 {
                let middle = from + (to - from) / 2;
                let found: Option<i64> = first
                    .query_row(params![row.key.0, row.execution, middle], |row| row.get(0))
                    .optional()?;
                match found {
                    Some(first) if uint(first) <= event => from = middle,
                    _ => to = middle,
                }
            }
            Ok(from)
        })
    }
}
