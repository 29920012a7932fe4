//! The turns of an execution: as they are, and as they were before a rewind.

use perennial_core::{Event, Turn};
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::decode;
use crate::store::postgres::reads::{PostgresReader, all};
use crate::store::postgres::source::{big, rewind, small, time};
use crate::store::queries::found::{RewindRow, TurnsQuery};
use crate::store::queries::histories::{Part, parts};
use crate::store::types::{InstanceKey, InstanceRow};

impl PostgresReader {
    pub(in crate::store) fn turn_with_event(
        &self,
        row: &InstanceRow,
        event: u64,
    ) -> Result<u32, StoreError> {
        if event >= row.next_event {
            return Ok(row.turns);
        }
        // Turns have no gaps, so that a search needs no index of events.
        let sql =
            "SELECT first_event FROM turn WHERE instance = $1 AND execution = $2 AND number = $3";
        self.pool.read(|conn| {
            let (mut from, mut to) = (0, row.turns);
            while to - from > 1 {
                let middle = from + (to - from) / 2;
                let found = conn.query_opt(
                    sql,
                    &[&row.key.0, &i64::from(row.execution), &i64::from(middle)],
                )?;
                match found.map(|found| big(&found, 0)).transpose()? {
                    Some(first) if first <= event => from = middle,
                    _ => to = middle,
                }
            }
            Ok(from)
        })
    }

    pub(in crate::store) fn turns_of(&self, asked: &TurnsQuery) -> Result<Vec<Turn>, StoreError> {
        let parts = match asked.before_rewind {
            None => vec![Part::WHOLE],
            Some(generation) => {
                let rewinds = self.rewinds_of(asked.key, asked.execution)?;
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
            let (table, generation) = match part.cut_in {
                None => ("turn", ""),
                Some(_) => ("cut_turn", "AND generation = $7"),
            };
            let of_generation = i64::from(part.cut_in.unwrap_or(0));
            // Turns beyond the wanted bytes are not sent.
            let sql = format!(
                "SELECT number, first_event, at, answer, received, produced FROM
                     (SELECT *, sum(octet_length(received) + octet_length(produced)) OVER
                          (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM
                          (SELECT * FROM {table} WHERE instance = $1 AND execution = $2 AND number >= $3 AND number < $4 {generation}
                           ORDER BY number LIMIT $5) AS f) AS t
                 WHERE coalesce(before, 0) < $6 ORDER BY number"
            );
            let wanted = i64::try_from(asked.bytes_max - bytes).unwrap_or(i64::MAX);
            let (execution, from, end) = (
                i64::from(asked.execution),
                i64::from(from),
                i64::from(part.end),
            );
            let left = i64::from(left);
            let mut params: Vec<crate::store::postgres::session::Param<'_>> =
                vec![&asked.key.0, &execution, &from, &end, &left, &wanted];
            if part.cut_in.is_some() {
                params.push(&of_generation);
            }
            for row in &self.query(&sql, &params)? {
                if bytes >= asked.bytes_max {
                    break;
                }
                turns.push(turn(row, &mut bytes)?);
            }
        }
        Ok(turns)
    }

    pub(in crate::store) fn rewinds(
        &self,
        row: &InstanceRow,
    ) -> Result<Vec<RewindRow>, StoreError> {
        if row.generation == 0 {
            return Ok(Vec::new());
        }
        self.rewinds_of(row.key, row.execution)
    }

    fn rewinds_of(&self, key: InstanceKey, execution: u32) -> Result<Vec<RewindRow>, StoreError> {
        let sql = "SELECT generation, at, reason, cut FROM rewind WHERE instance = $1 AND execution = $2 ORDER BY generation";
        let rows = self.query(sql, &[&key.0, &i64::from(execution)])?;
        all(&rows, |row| {
            let (generation, found) = rewind(row)?;
            Ok(RewindRow {
                generation,
                at: found.at,
                reason: found.reason,
                turn: found.cut,
            })
        })
    }

    #[cfg(feature = "http")]
    pub(in crate::store) fn first_cut(
        &self,
        row: &InstanceRow,
        since: u32,
    ) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT min(first_event) FROM cut_turn WHERE instance = $1 AND execution = $2 AND generation >= $3";
        let found = self.query_one(
            sql,
            &[&row.key.0, &i64::from(row.execution), &i64::from(since)],
        )?;
        Ok(found
            .try_get::<_, Option<i64>>(0)?
            .map(crate::store::codec::uint))
    }
}

/// Reads a turn, and adds its bytes.
fn turn(row: &Row, bytes: &mut usize) -> Result<Turn, StoreError> {
    let number = small(row, 0)?;
    let mut events = |column: usize, what: &str| -> Result<Vec<Event>, StoreError> {
        let encoded: &[u8] = row.try_get(column)?;
        *bytes += encoded.len();
        decode(encoded, format_args!("turn {number}, {what}"))
    };
    Ok(Turn {
        number,
        first_event: big(row, 1)?,
        at: time(row, 2)?.unwrap_or_default(),
        answer: row.try_get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
        received: events(4, "received")?,
        produced: events(5, "produced")?,
        next: None,
    })
}
