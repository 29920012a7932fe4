//! Rows of histories, of cut turns, and of what is left to delete.

use perennial_core::{Timestamp, Turn};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{encode, int};
use crate::store::rows::Found;
use crate::store::rows::turns::TurnRows;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::{InstanceKey, Position};

/// An execution number that stands for all executions of an instance.
const ALL_EXECUTIONS: i64 = -1;

impl TurnRows for Sql<'_> {
    fn insert_turn(&mut self, key: InstanceKey, execution: u32, turn: &Turn) -> Found<()> {
        self.0
            .prepare_cached(
                "INSERT INTO turn (instance, execution, number, first_event, at, answer, received, produced)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                key.0,
                execution,
                turn.number,
                int(turn.first_event),
                int(turn.at.0),
                turn.answer.map(u64::cast_signed),
                encode(&turn.received)?,
                encode(&turn.produced)?,
            ])?;
        Ok(())
    }

    fn archive_turns(
        &mut self,
        key: InstanceKey,
        at: Position,
        cut: u32,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Found<()> {
        let (db, key) = (self.0, key.0);
        db.prepare_cached(
            "INSERT INTO rewind (instance, execution, generation, at, reason, cut) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![key, at.execution, at.generation, int(now.0), reason, cut])?;
        db.prepare_cached(
            "INSERT INTO cut_turn (instance, execution, generation, number, first_event, at, answer, received, produced)
                 SELECT instance, execution, ?3, number, first_event, at, answer, received, produced FROM turn
                 WHERE instance = ?1 AND execution = ?2 AND number >= ?4",
        )?
        .execute(params![key, at.execution, at.generation, cut])?;
        db.prepare_cached(
            "DELETE FROM turn WHERE instance = ?1 AND execution = ?2 AND number >= ?3",
        )?
        .execute(params![key, at.execution, cut])?;
        Ok(())
    }

    fn written_in(&mut self, key: InstanceKey, execution: u32, turn: u32) -> Found<u32> {
        let mut query = self.0.prepare_cached(
            "SELECT coalesce(max(generation) + 1, 0) FROM rewind WHERE instance = ?1 AND execution = ?2 AND cut <= ?3",
        )?;
        Ok(query.query_row(params![key.0, execution, turn], |row| row.get(0))?)
    }

    fn delete_turns(&mut self, key: InstanceKey) -> Found<()> {
        self.0
            .prepare_cached("DELETE FROM turn WHERE instance = ?1")?
            .execute([key.0])?;
        Ok(())
    }

    fn leave_garbage(&mut self, key: InstanceKey, execution: Option<u32>) -> Found<()> {
        let execution = execution.map_or(ALL_EXECUTIONS, i64::from);
        self.0
            .prepare_cached("INSERT OR IGNORE INTO garbage (instance, execution) VALUES (?1, ?2)")?
            .execute(params![key.0, execution])?;
        Ok(())
    }

    fn collect_garbage(&mut self, rows: u32) -> Found<bool> {
        let db = self.0;
        let mut left = rows as usize;
        while left > 0 {
            let mut next = db.prepare_cached("SELECT instance, execution FROM garbage LIMIT 1")?;
            let next: Option<(i64, i64)> = next
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((instance, execution)) = next else {
                return Ok(false);
            };
            let deleted = collect_one(db, instance, execution, left)?;
            if deleted < left {
                db.prepare_cached("DELETE FROM garbage WHERE instance = ?1 AND execution = ?2")?
                    .execute(params![instance, execution])?;
            }
            // The entry itself counts, so that many short histories do not make one long transaction.
            left = left.saturating_sub(deleted + 1);
        }
        Ok(true)
    }
}

/// Deletes up to `rows` rows of an execution, or of all executions of an instance. Returns their number.
fn collect_one(
    db: &Connection,
    instance: i64,
    execution: i64,
    rows: usize,
) -> Result<usize, StoreError> {
    let limit = int(rows as u64);
    let deleted = if execution == ALL_EXECUTIONS {
        db.prepare_cached(
            "DELETE FROM turn WHERE (instance, execution, number) IN
                 (SELECT instance, execution, number FROM turn WHERE instance = ?1 LIMIT ?2)",
        )?
        .execute(params![instance, limit])?
    } else {
        db.prepare_cached(
            "DELETE FROM turn WHERE (instance, execution, number) IN
                 (SELECT instance, execution, number FROM turn WHERE instance = ?1 AND execution = ?2 LIMIT ?3)",
        )?
        .execute(params![instance, execution, limit])?
    };
    Ok(deleted + collect_rewinds(db, instance, execution, limit)?)
}

/// Deletes up to `rows` turns that rewinds archived.
fn collect_rewinds(
    db: &Connection,
    instance: i64,
    execution: i64,
    rows: i64,
) -> Result<usize, StoreError> {
    let of = format!("instance = ?1 AND (?2 = {ALL_EXECUTIONS} OR execution = ?2)");
    let deleted = db
        .prepare_cached(&format!(
            "DELETE FROM cut_turn WHERE (instance, execution, generation, number) IN
                 (SELECT instance, execution, generation, number FROM cut_turn WHERE {of} LIMIT ?3)"
        ))?
        .execute(params![instance, execution, rows])?;
    db.prepare_cached(&format!("DELETE FROM rewind WHERE {of}"))?
        .execute(params![instance, execution])?;
    Ok(deleted)
}
