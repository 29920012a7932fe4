//! The turns of an execution: as they are, and as they were before a rewind.

use perennial_core::{Event, Timestamp, Turn};
use rusqlite::{OptionalExtension, Row, params};

use crate::store::StoreError;
use crate::store::codec::{decode, uint};
use crate::store::queries::found::TurnsQuery;
use crate::store::queries::histories::{Part, parts};
use crate::store::sqlite::rows::cuts;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::types::InstanceRow;

/// The columns that [`turn`] reads.
const COLUMNS: &str = "number, first_event, at, answer, received, produced";

impl FileReader {
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

    /// Turns of an execution, in order.
    pub(crate) fn turns_of(&self, asked: &TurnsQuery) -> Result<Vec<Turn>, StoreError> {
        let parts = match asked.before_rewind {
            None => vec![Part::WHOLE],
            Some(generation) => {
                let rewinds = self.with(|db| cuts::rewinds(db, asked.key, asked.execution))?;
                parts(
                    rewinds.iter().map(|row| (row.generation, row.turn)),
                    generation,
                )
            }
        };
        let (mut turns, mut bytes) = (Vec::new(), 0);
        for part in parts {
            let left = asked
                .limit
                .saturating_sub(u32::try_from(turns.len()).unwrap_or(u32::MAX));
            let from = part.from.max(asked.from);
            if bytes >= asked.bytes_max || left == 0 || from >= part.end {
                continue;
            }
            self.with(|db| {
                let (table, generation) = match part.cut_in {
                    None => ("turn", String::new()),
                    Some(generation) => ("cut_turn", format!("AND generation = {generation}")),
                };
                let mut query = db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM {table} WHERE instance = ?1 AND execution = ?2 {generation}
                     AND number >= ?3 AND number < ?4 ORDER BY number LIMIT ?5"
                ))?;
                let end = i64::from(part.end);
                let asked_for = params![asked.key.0, asked.execution, from, end, left];
                let mut rows = query.query(asked_for)?;
                while bytes < asked.bytes_max
                    && let Some(row) = rows.next()?
                {
                    turns.push(turn(row, &mut bytes)?);
                }
                Ok(())
            })?;
        }
        Ok(turns)
    }
}

/// Reads a turn, and adds its bytes.
fn turn(row: &Row<'_>, bytes: &mut usize) -> Result<Turn, StoreError> {
    let number: u32 = row.get(0)?;
    let mut events = |column, what: &str| -> Result<Vec<Event>, StoreError> {
        let encoded = row
            .get_ref(column)?
            .as_blob()
            .map_err(rusqlite::Error::from)?;
        *bytes += encoded.len();
        decode(encoded, format_args!("turn {number}, {what}"))
    };
    Ok(Turn {
        number,
        first_event: uint(row.get(1)?),
        at: Timestamp(uint(row.get(2)?)),
        answer: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
        received: events(4, "received")?,
        produced: events(5, "produced")?,
        next: None,
    })
}
