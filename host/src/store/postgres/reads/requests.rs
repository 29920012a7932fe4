//! Requests to instances, and named values.

use perennial_core::{Json, TaskId};
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::numbers::status_of;
use crate::store::postgres::reads::{PostgresReader, all, has_nul};
use crate::store::postgres::source::{decoded, small, state, time, value};
use crate::store::queries::found::{FoundRequest, FoundValue, RequestRow};
use crate::store::sqlite::rows::list::PAGE_BYTES_MAX;
use crate::store::types::{InstanceKey, Position, ValueRow};

impl PostgresReader {
    pub(in crate::store) fn request(
        &self,
        instance: &str,
        id: &str,
    ) -> Result<Option<FoundRequest>, StoreError> {
        if has_nul(instance) {
            return Ok(None);
        }
        // No request has such an id, but there may be the instance.
        let id = if has_nul(id) { None } else { Some(id) };
        let sql = "SELECT r.id, r.name, r.at, r.answered_at, r.answer, i.status FROM instance AS i
             LEFT JOIN LATERAL (SELECT * FROM request WHERE instance = i.key AND id = $2 OFFSET 0) AS r ON true WHERE i.id = $1";
        let Some(row) = self.query_opt(sql, &[&instance, &id])? else {
            return Ok(None);
        };
        let is_there = row.try_get::<_, Option<&str>>(0)?.is_some();
        let request = is_there.then(|| request_of(&row)).transpose()?;
        Ok(Some((status_of(state(&row, 5)?)?, request)))
    }

    pub(in crate::store) fn asked_by(
        &self,
        key: InstanceKey,
        at: Position,
        at_most: u32,
    ) -> Result<Vec<(TaskId, String, String)>, StoreError> {
        let sql = "SELECT r.task, r.name, i.id FROM request AS r
             CROSS JOIN LATERAL (SELECT id FROM instance WHERE key = r.instance OFFSET 0) AS i
             WHERE r.asker = $1 AND r.execution = $2 AND r.generation = $3 AND r.answer IS NULL ORDER BY r.task LIMIT $4";
        let rows = self.query(
            sql,
            &[
                &key.0,
                &i64::from(at.execution),
                &i64::from(at.generation),
                &i64::from(at_most),
            ],
        )?;
        all(&rows, |row| {
            Ok((TaskId(small(row, 0)?), row.try_get(1)?, row.try_get(2)?))
        })
    }

    pub(in crate::store) fn requests(
        &self,
        key: InstanceKey,
        at_most: u32,
    ) -> Result<Vec<RequestRow>, StoreError> {
        // An encoded answer has its payload's bytes and few more. Answers after twice the bytes of a page would not be shown.
        let sql = "SELECT id, name, at, answered_at, answer FROM
             (SELECT *, sum(coalesce(octet_length(answer), 0)) OVER
                  (ORDER BY at DESC, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM
                  (SELECT * FROM request WHERE instance = $1 ORDER BY at DESC, id LIMIT $2) AS f) AS r
             WHERE coalesce(before, 0) <= $3 ORDER BY at DESC, id";
        let bytes_max = i64::try_from(2 * PAGE_BYTES_MAX).unwrap_or(i64::MAX);
        let rows = self.query(sql, &[&key.0, &i64::from(at_most), &bytes_max])?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for row in &rows {
            let request = request_of(row)?;
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
    }

    pub(in crate::store) fn value(
        &self,
        id: &str,
        name: &str,
    ) -> Result<Option<FoundValue>, StoreError> {
        if has_nul(id) {
            return Ok(None);
        }
        let name = if has_nul(name) { None } else { Some(name) };
        let sql = "SELECT v.instance, v.name, v.value, v.version, v.at, i.status FROM instance AS i
             LEFT JOIN LATERAL (SELECT * FROM instance_value WHERE instance = i.key AND name = $2 OFFSET 0) AS v ON true WHERE i.id = $1";
        let Some(row) = self.query_opt(sql, &[&id, &name])? else {
            return Ok(None);
        };
        let is_set = row.try_get::<_, Option<&str>>(1)?.is_some();
        let found = is_set.then(|| value(&row)).transpose()?;
        Ok(Some((status_of(state(&row, 5)?)?, found)))
    }

    pub(in crate::store) fn values(&self, key: InstanceKey) -> Result<Vec<ValueRow>, StoreError> {
        let sql = "SELECT instance, name, value, version, at FROM instance_value WHERE instance = $1 ORDER BY name";
        all(&self.query(sql, &[&key.0])?, value)
    }
}

/// Reads a request whose columns are id, name, time, time of the answer, and answer.
fn request_of(row: &Row) -> Result<RequestRow, StoreError> {
    let answer = decoded(row, 4, "the answer to a request")?;
    Ok(RequestRow {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        at: time(row, 2)?.unwrap_or_default(),
        answer: time(row, 3)?.zip(answer),
    })
}
