//! Requests to instances, and their answers.
//!
//! A request is a row from when it is accepted, so that one that is repeated under its id is known again, and its answer can be read later.
//! The first answer stands. A request that is not answered when its instance ends has no answer in its row: it reads as failed as long as
//! the instance is ended, and a rewind opens it again.

use perennial_core::{Failure, Json, Message, Status, TaskId, TaskRef, Timestamp, kind};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::{decode, encode, int, uint};
use crate::store::rows::instances::{self, deliver, status_of};
use crate::store::rows::list::PAGE_BYTES_MAX;
use crate::store::rows::reader::Reader;
use crate::store::types::{Effects, InstanceKey, Position};

/// The answer to a request.
pub(crate) type RequestAnswer = Result<Option<Json>, Failure>;

/// How long an answer is kept at least, while the instance goes on as new.
const ANSWER_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// Answers deleted with one continue-as-new, at most: more than one execution usually adds.
const ANSWERS_DELETED: u32 = 100;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestRow {
    pub(crate) id: String,
    pub(crate) name: String,
    /// When it was accepted.
    pub(crate) at: Timestamp,
    /// The answer, with its time.
    pub(crate) answer: Option<(Timestamp, RequestAnswer)>,
}

/// A request, or its absence, with the status of its instance.
pub(crate) type FoundRequest = (Status, Option<RequestRow>);

/// The instance that made a request, and its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) key: InstanceKey,
    pub(crate) task: TaskRef,
}

impl Reader {
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

/// The name of a request, if there is one with this id.
pub(in crate::store) fn name_of(
    db: &Connection,
    key: InstanceKey,
    id: &str,
) -> Result<Option<String>, StoreError> {
    let mut query =
        db.prepare_cached("SELECT name FROM request WHERE instance = ?1 AND id = ?2")?;
    Ok(query
        .query_row(params![key.0, id], |row| row.get(0))
        .optional()?)
}

/// Adds a request. One that is there already stays.
pub(in crate::store) fn insert(
    db: &Connection,
    key: InstanceKey,
    (id, name): (&str, &str),
    asker: Option<Asker>,
) -> Result<bool, StoreError> {
    let task = asker.map(|asker| asker.task);
    let added = db
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
        db.prepare_cached("UPDATE instance SET has_requests = 1 WHERE key = ?1")?
            .execute([key.0])?;
    }
    Ok(added > 0)
}

/// Records the answer to a request, unless it has one, and tells the instance that asked.
pub(in crate::store) fn answer(
    db: &Connection,
    key: InstanceKey,
    id: &str,
    outcome: &RequestAnswer,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut update = db.prepare_cached(
        "UPDATE request SET answer = ?1, answered_at = (SELECT at FROM hub WHERE id = 1)
         WHERE instance = ?2 AND id = ?3 AND answer IS NULL RETURNING asker, execution, generation, task",
    )?;
    let answered = update
        .query_row(params![encode(outcome)?, key.0, id], |row| asker_of(row, 0))
        .optional()?;
    match answered.flatten() {
        Some(asker) => tell(db, asker, outcome.clone(), effects),
        None => Ok(()),
    }
}

fn asker_of(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Option<Asker>> {
    let key: Option<i64> = row.get(first)?;
    let Some(key) = key else {
        return Ok(None);
    };
    Ok(Some(Asker {
        key: InstanceKey(key),
        task: TaskRef {
            execution: row.get(first + 1)?,
            generation: row.get(first + 2)?,
            task: TaskId(row.get(first + 3)?),
        },
    }))
}

/// Delivers the answer to a request to the instance that asked, if that is live.
pub(in crate::store) fn tell(
    db: &Connection,
    asker: Asker,
    outcome: RequestAnswer,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if instances::is_live(db, asker.key)? {
        let task = asker.task;
        deliver(db, asker.key, &Message::RequestEnded { task, outcome })?;
        effects.woken.push(asker.key);
    }
    Ok(())
}

/// The failure of a request that will not be answered.
pub(crate) fn not_answered(why: impl Into<String>) -> Failure {
    Failure::permanent(kind::NOT_ANSWERED, why.into())
}

/// Tells the instances that asked one that has ended, or is deleted, that it will not answer.
pub(in crate::store) fn fail_open(
    db: &Connection,
    key: InstanceKey,
    why: &str,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut query = db.prepare_cached(
        "SELECT id FROM request WHERE instance = ?1 AND asker IS NOT NULL AND answer IS NULL ORDER BY at, id",
    )?;
    let open: Vec<String> = query
        .query_map([key.0], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in open {
        answer(db, key, &id, &Err(not_answered(why)), effects)?;
    }
    Ok(())
}

/// Deletes all requests to an instance; the instances that asked are told.
pub(in crate::store) fn delete_all(
    db: &Connection,
    key: InstanceKey,
    why: &str,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    fail_open(db, key, why, effects)?;
    db.prepare_cached("DELETE FROM request WHERE instance = ?1")?
        .execute([key.0])?;
    Ok(())
}

/// Deletes old answers of an instance that goes on as new, so that one that goes on for ever does not keep all of them.
pub(in crate::store) fn delete_old(
    db: &Connection,
    key: InstanceKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = now.0.saturating_sub(ANSWER_KEPT_MS);
    db.prepare_cached(
        "DELETE FROM request WHERE (instance, id) IN
             (SELECT instance, id FROM request WHERE instance = ?1 AND answered_at < ?2 LIMIT ?3)",
    )?
    .execute(params![key.0, int(before), ANSWERS_DELETED])?;
    Ok(())
}

/// After a rewind: the answers to the requests of these tasks are for the new generation, and nobody waits for those to the others.
pub(in crate::store) fn asker_was_rewound(
    db: &Connection,
    asker: Asker,
    kept: &[TaskId],
) -> Result<(), StoreError> {
    let TaskRef {
        execution,
        generation,
        ..
    } = asker.task;
    for task in kept {
        db.prepare_cached(
            "UPDATE request SET generation = ?1 WHERE asker = ?2 AND execution = ?3 AND task = ?4 AND generation = ?1 - 1",
        )?
        .execute(params![generation, asker.key.0, execution, task.0])?;
    }
    db.prepare_cached("UPDATE request SET asker = NULL WHERE asker = ?1 AND (execution <> ?2 OR generation <> ?3)")?
        .execute(params![asker.key.0, execution, generation])?;
    Ok(())
}
