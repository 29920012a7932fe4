//! Instances, and their children.

use perennial_core::{Millis, Status, Timestamp};
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::{int, uint};
use crate::store::numbers::{policy_of, status_number, status_of};
use crate::store::postgres::indexes::by;
use crate::store::postgres::partitions;
use crate::store::postgres::reads::{PostgresReader, all, has_nul};
use crate::store::postgres::source::{instance, small, state, time};
use crate::store::queries::found::LiveChild;
use crate::store::types::{InstanceKey, InstanceRow};

/// The columns of an instance `i`, in the order in which they are read.
pub(super) const COLUMNS: &str = "i.key, i.id, i.name, i.version, i.module, i.status, i.execution, i.execution_id, i.generation, i.next_event,
     i.turns, i.history_bytes, i.returned, i.created_at, i.started_at, i.updated_at, i.scheduled_for,
     CASE WHEN i.parent_id IS NOT NULL THEN i.parent END AS parent, i.parent_key, i.tags, i.custom_status, i.output, i.failure, i.waiting,
     i.quarantine, i.value_count, i.parent_id, i.inbox_next, i.inbox_bytes, i.unread_bytes, i.deliveries, i.when_dropped,
     i.execution_timeout, i.has_requests";

/// Reads a row of [`COLUMNS`].
pub(super) fn instance_of(row: &Row) -> Result<InstanceRow, StoreError> {
    Ok(instance(row)?.row)
}

fn key_of(row: &Row) -> Result<InstanceKey, StoreError> {
    Ok(InstanceKey(row.try_get(0)?))
}

impl PostgresReader {
    pub(in crate::store) fn instance(&self, id: &str) -> Result<Option<InstanceRow>, StoreError> {
        if has_nul(id) {
            return Ok(None);
        }
        let sql = format!("SELECT {COLUMNS} FROM instance AS i WHERE i.id = $1");
        let row = self.query_opt(&sql, &[&id])?;
        row.as_ref().map(instance_of).transpose()
    }

    pub(in crate::store) fn instance_by_key(
        &self,
        key: InstanceKey,
    ) -> Result<Option<InstanceRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM instance AS i WHERE i.key = $1");
        let row = self.query_opt(&sql, &[&key.0])?;
        row.as_ref().map(instance_of).transpose()
    }

    #[cfg(feature = "http")]
    pub(in crate::store) fn updated_after(
        &self,
        after: (Timestamp, i64),
        limit: u32,
        bytes_max: usize,
    ) -> Result<(Vec<InstanceRow>, bool), StoreError> {
        // Those that have ended are found by their index; all that live are looked at. Rows after so many bytes of payloads are not sent:
        // they would not be read.
        let of_ended = |status| {
            format!(
                "(SELECT * FROM instance WHERE status = {} AND ended_at IS NOT NULL AND (ended_at, key) > ($1, $2) AND {}
                  ORDER BY ended_at, key LIMIT $3)",
                status_number(status),
                by!(ended)
            )
        };
        let ended = Status::ALL.into_iter().filter(|status| status.is_end());
        let ended: Vec<String> = ended.map(of_ended).collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM
                 (SELECT *, sum(coalesce(octet_length(output), 0) + coalesce(octet_length(custom_status), 0)) OVER
                      (ORDER BY updated_at, key ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM
                      (SELECT * FROM (
                           (SELECT * FROM (SELECT * FROM instance WHERE status < 3 AND {} ORDER BY status, created_at, key OFFSET 0) AS live
                            WHERE (updated_at, key) > ($1, $2) ORDER BY updated_at, key LIMIT $3)
                           UNION ALL {}) AS c ORDER BY updated_at, key LIMIT $3) AS f)
                 AS i
             WHERE coalesce(before, 0) < $4 ORDER BY updated_at, key",
            by!(status),
            ended.join(" UNION ALL ")
        );
        let (at, limit_of) = (int(after.0.0), i64::from(limit));
        let bytes_of = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let rows = self.query(&sql, &[&at, &after.1, &limit_of, &bytes_of])?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for row in &rows {
            let row = instance_of(row)?;
            bytes += row.size();
            found.push(row);
            if bytes >= bytes_max {
                return Ok((found, true));
            }
        }
        let more = found.len() >= limit as usize;
        Ok((found, more))
    }

    pub(in crate::store) fn suspended(&self) -> Result<Vec<InstanceKey>, StoreError> {
        let status = i16::from(status_number(Status::Suspended));
        if self.of.is_all() {
            let sql = concat!(
                "SELECT key FROM instance WHERE status = $1 AND ",
                by!(status),
                " ORDER BY created_at, key"
            );
            return all(&self.query(sql, &[&status])?, key_of);
        }
        let sql = concat!(
            "SELECT i.key, i.created_at FROM unnest($2::smallint[]) AS p (number)
             CROSS JOIN LATERAL (SELECT key, created_at FROM instance WHERE partition = p.number AND status = $1 AND status < 3 AND ",
            by!(live),
            " ORDER BY module OFFSET 0) AS i"
        );
        let rows = self.query(sql, &[&status, &partitions::numbers(&self.of)])?;
        let mut found = all(&rows, |row| Ok((time(row, 1)?, key_of(row)?)))?;
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, key)| key).collect())
    }

    pub(in crate::store) fn execution_timeout(
        &self,
        key: InstanceKey,
    ) -> Result<Option<Millis>, StoreError> {
        let row = self.query_opt(
            "SELECT execution_timeout FROM instance WHERE key = $1",
            &[&key.0],
        )?;
        let limit: Option<i64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(limit.map(|limit| Millis(uint(limit))))
    }

    pub(in crate::store) fn deliveries(&self, key: InstanceKey) -> Result<u32, StoreError> {
        let row = self.query_opt("SELECT deliveries FROM instance WHERE key = $1", &[&key.0])?;
        row.map_or(Ok(0), |row| small(&row, 0))
    }

    pub(in crate::store) fn live_children(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<(Vec<LiveChild>, u64), StoreError> {
        let sql = concat!(
            "SELECT id, status, when_dropped FROM instance WHERE parent_key = $1 AND status < 3 AND ",
            by!(parent),
            " ORDER BY status, key LIMIT $2"
        );
        let rows = self.query(sql, &[&key.0, &i64::from(limit)])?;
        let found = all(&rows, |row| {
            let policy = match row.try_get::<_, Option<i16>>(2)? {
                Some(_) => Some(state(row, 2)?),
                None => None,
            };
            Ok((
                row.try_get(0)?,
                status_of(state(row, 1)?)?,
                policy_of(policy)?,
            ))
        })?;
        let mut count = found.len() as u64;
        if count == u64::from(limit) {
            let sql = concat!(
                "SELECT count(*) FROM instance WHERE parent_key = $1 AND status < 3 AND ",
                by!(parent)
            );
            count = uint(self.query_one(sql, &[&key.0])?.try_get(0)?);
        }
        Ok((found, count))
    }

    pub(in crate::store) fn ended_children(
        &self,
        key: InstanceKey,
        after: InstanceKey,
        limit: u32,
    ) -> Result<Vec<InstanceKey>, StoreError> {
        let sql = concat!(
            "SELECT key FROM
             (SELECT key FROM instance WHERE parent_key = $1 AND status >= 3 AND key > $2 AND ",
            by!(parent),
            " ORDER BY status, key OFFSET 0) AS child ORDER BY key LIMIT $3"
        );
        let rows = self.query(sql, &[&key.0, &after.0, &i64::from(limit)])?;
        all(&rows, key_of)
    }

    pub(in crate::store) fn left_behind(
        &self,
        id: &str,
        key: Option<InstanceKey>,
        live: bool,
        limit: u32,
    ) -> Result<Vec<(InstanceKey, String)>, StoreError> {
        if has_nul(id) {
            return Ok(Vec::new());
        }
        let sql = concat!(
            "SELECT i.key, i.id FROM
             (SELECT key, id, parent_key FROM instance
              WHERE parent_key IS NOT NULL AND (status < 3) = $2 AND parent_id = $1 AND parent_key IS DISTINCT FROM $3::bigint AND ",
            by!(parent),
            " ORDER BY parent_key, status, key OFFSET 0) AS i
             WHERE (SELECT true FROM instance AS p WHERE p.key = i.parent_key) IS NULL ORDER BY i.key LIMIT $4"
        );
        let rows = self.query(sql, &[&id, &live, &key.map(|key| key.0), &i64::from(limit)])?;
        all(&rows, |row| Ok((key_of(row)?, row.try_get(1)?)))
    }

    pub(in crate::store) fn child_ids(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let sql = concat!(
            "SELECT id FROM (SELECT key, id FROM instance WHERE parent_key = $1 AND ",
            by!(parent),
            " ORDER BY status, key OFFSET 0) AS child ORDER BY key LIMIT $2"
        );
        let rows = self.query(sql, &[&key.0, &i64::from(limit)])?;
        all(&rows, |row| Ok(row.try_get(0)?))
    }

    pub(in crate::store) fn last_key(&self) -> Result<InstanceKey, StoreError> {
        // Each owner begins far above all earlier owners, so that no key is reused, even if its instance was deleted.
        let sql = "SELECT greatest((SELECT last_value FROM owner_epoch) << 32, (SELECT max(key) FROM instance),
             (SELECT max(instance) FROM garbage))";
        key_of(&self.query_one(sql, &[])?)
    }

    pub(in crate::store) fn ended_by(
        &self,
        status: Status,
        by: Timestamp,
        limit: u32,
    ) -> Result<Vec<InstanceKey>, StoreError> {
        let sql = concat!(
            "SELECT key FROM instance WHERE status = $1 AND ended_at IS NOT NULL AND ended_at <= $2
                 AND ($4::smallint[] IS NULL OR (key >> 53)::smallint = ANY($4)) AND ",
            by!(ended),
            " ORDER BY ended_at, key LIMIT $3"
        );
        let status = i16::from(status_number(status));
        let of = partitions::unless_all(&self.of);
        let rows = self.query(sql, &[&status, &int(by.0), &i64::from(limit), &of])?;
        all(&rows, key_of)
    }

    pub(in crate::store) fn first_end(
        &self,
        status: Status,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = concat!(
            "SELECT ended_at FROM instance WHERE status = $1 AND ended_at IS NOT NULL
                 AND ($2::smallint[] IS NULL OR (key >> 53)::smallint = ANY($2)) AND ",
            by!(ended),
            " ORDER BY ended_at, key LIMIT 1"
        );
        let of = partitions::unless_all(&self.of);
        let row = self.query_opt(sql, &[&i16::from(status_number(status)), &of])?;
        row.map_or(Ok(None), |row| time(&row, 0))
    }
}
