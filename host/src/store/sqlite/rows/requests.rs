//! Requests to instances, and their answers.
//!
//! A request is a row from when it is accepted, so that one that is repeated under its id is known again, and its answer can be read later.
//! The first answer stands. A request that is not answered when its instance ends has no answer in its row: it reads as failed as long as
//! the instance is ended, and a rewind opens it again.

use perennial_core::{Json, TaskId, TaskRef, Timestamp};
use rusqlite::{OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{decode, encode, int, uint};
use crate::store::numbers::status_of;
use crate::store::queries::found::FoundRequest;
use crate::store::queries::found::RequestRow;
use crate::store::rows::Found;
use crate::store::rows::requests::RequestRows;
use crate::store::sqlite::rows::list::PAGE_BYTES_MAX;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::{Asker, InstanceKey, Position, RequestAnswer};

impl FileReader {
    /// A request to the instance with an id; `None` if there is no such instance.
    pub(crate) fn request(
        &self,
        instance: &str,
        id: &str,
    ) -> Result<Option<FoundRequest>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT i.status, r.id, r.name, r.at, r.answered_at, r.answer FROM instance AS i
                 LEFT JOIN request AS r ON r.instance = i.key AND r.id = ?2 WHERE i.id = ?1",
            )?;
            let mut rows = query.query([instance, id])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let status = status_of(row.get(0)?)?;
            let is_there = row.get::<_, Option<String>>(1)?.is_some();
            let request = is_there.then(|| request_of(row, 1)).transpose()?;
            Ok(Some((status, request)))
        })
    }

    /// The requests of an execution that have no answer, at most so many: the task, the name, and the id of the instance that is asked.
    pub(crate) fn asked_by(
        &self,
        key: InstanceKey,
        at: Position,
        at_most: u32,
    ) -> Result<Vec<(TaskId, String, String)>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT r.task, r.name, i.id FROM request AS r CROSS JOIN instance AS i ON i.key = r.instance
                 WHERE r.asker = ?1 AND r.execution = ?2 AND r.generation = ?3 AND r.answer IS NULL ORDER BY r.task LIMIT ?4",
            )?;
            let found = query.query_map(
                params![key.0, at.execution, at.generation, at_most],
                |row| Ok((TaskId(row.get(0)?), row.get(1)?, row.get(2)?)),
            )?;
            Ok(found.collect::<Result<_, _>>()?)
        })
    }

    /// Requests to an instance that were accepted last, the newest first, at most so many, and no more bytes of answers than a page of a list has.
    pub(crate) fn requests(
        &self,
        key: InstanceKey,
        at_most: u32,
    ) -> Result<Vec<RequestRow>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT id, name, at, answered_at, answer FROM request WHERE instance = ?1 ORDER BY at DESC, id LIMIT ?2",
            )?;
            let mut rows = query.query(params![key.0, at_most])?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let request = request_of(row, 0)?;
                bytes += match &request.answer {
                    Some((_, Ok(output))) => output.as_ref().map_or(0, Json::size),
                    Some((_, Err(failure))) => failure.size(),
                    None => 0,
                };
                if bytes > PAGE_BYTES_MAX && !found.is_empty() {
                    break;
                }
                found.push(request);
            }
            Ok(found)
        })
    }
}

/// Reads a request from a row whose columns from this one on are id, name, time, time of the answer, and answer.
fn request_of(row: &rusqlite::Row<'_>, first: usize) -> Result<RequestRow, StoreError> {
    let answered_at: Option<i64> = row.get(first + 3)?;
    let answer: Option<Vec<u8>> = row.get(first + 4)?;
    let answer = match (answered_at, answer) {
        (Some(at), Some(answer)) => Some((
            Timestamp(uint(at)),
            decode(&answer, "the answer to a request")?,
        )),
        (Some(_) | None, Some(_) | None) => None,
    };
    Ok(RequestRow {
        id: row.get(first)?,
        name: row.get(first + 1)?,
        at: Timestamp(uint(row.get(first + 2)?)),
        answer,
    })
}

impl RequestRows for Sql<'_> {
    fn request_name(&mut self, key: InstanceKey, id: &str) -> Found<Option<String>> {
        let mut query = self
            .0
            .prepare_cached("SELECT name FROM request WHERE instance = ?1 AND id = ?2")?;
        Ok(query
            .query_row(params![key.0, id], |row| row.get(0))
            .optional()?)
    }

    fn insert_request(
        &mut self,
        key: InstanceKey,
        id: &str,
        name: &str,
        asker: Option<Asker>,
    ) -> Found<bool> {
        let task = asker.map(|asker| asker.task);
        let added = self
            .0
            .prepare_cached(
                "INSERT OR IGNORE INTO request (instance, id, name, at, asker, execution, generation, task)
                 VALUES (?1, ?2, ?3, (SELECT at FROM hub WHERE id = 1), ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                key.0,
                id,
                name,
                asker.map(|asker| asker.key.0),
                task.map(|task| task.execution),
                task.map(|task| task.generation),
                task.map(|task| task.task.0),
            ])?;
        if added > 0 {
            self.0
                .prepare_cached("UPDATE instance SET has_requests = 1 WHERE key = ?1")?
                .execute([key.0])?;
        }
        Ok(added > 0)
    }

    fn answer_request(
        &mut self,
        key: InstanceKey,
        id: &str,
        answer: &RequestAnswer,
    ) -> Found<Option<Asker>> {
        let mut update = self.0.prepare_cached(
            "UPDATE request SET answer = ?1, answered_at = (SELECT at FROM hub WHERE id = 1)
             WHERE instance = ?2 AND id = ?3 AND answer IS NULL RETURNING asker, execution, generation, task",
        )?;
        let answered = update
            .query_row(params![encode(answer)?, key.0, id], asker_of)
            .optional()?;
        Ok(answered.flatten())
    }

    fn open_requests(&mut self, key: InstanceKey) -> Found<Vec<String>> {
        let mut query = self.0.prepare_cached(
            "SELECT id FROM request WHERE instance = ?1 AND asker IS NOT NULL AND answer IS NULL ORDER BY at, id",
        )?;
        let open = query.query_map([key.0], |row| row.get(0))?;
        Ok(open.collect::<Result<_, _>>()?)
    }

    fn delete_requests(&mut self, key: InstanceKey) -> Found<()> {
        self.0
            .prepare_cached("DELETE FROM request WHERE instance = ?1")?
            .execute([key.0])?;
        Ok(())
    }

    fn delete_answered(&mut self, key: InstanceKey, before: Timestamp, at_most: u32) -> Found<()> {
        self.0
            .prepare_cached(
                "DELETE FROM request WHERE (instance, id) IN
                     (SELECT instance, id FROM request WHERE instance = ?1 AND answered_at < ?2 LIMIT ?3)",
            )?
            .execute(params![key.0, int(before.0), at_most])?;
        Ok(())
    }

    fn readdress(&mut self, asker: Asker, kept: &[TaskId]) -> Found<()> {
        let TaskRef {
            execution,
            generation,
            ..
        } = asker.task;
        for task in kept {
            self.0.prepare_cached(
                "UPDATE request SET generation = ?1 WHERE asker = ?2 AND execution = ?3 AND task = ?4 AND generation = ?1 - 1",
            )?
            .execute(params![generation, asker.key.0, execution, task.0])?;
        }
        self.0.prepare_cached("UPDATE request SET asker = NULL WHERE asker = ?1 AND (execution <> ?2 OR generation <> ?3)")?
            .execute(params![asker.key.0, execution, generation])?;
        Ok(())
    }
}

fn asker_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Asker>> {
    let key: Option<i64> = row.get(0)?;
    let Some(key) = key else {
        return Ok(None);
    };
    Ok(Some(Asker {
        key: InstanceKey(key),
        task: TaskRef {
            execution: row.get(1)?,
            generation: row.get(2)?,
            task: TaskId(row.get(3)?),
        },
    }))
}
