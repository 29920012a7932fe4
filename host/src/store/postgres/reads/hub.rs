//! The hub itself: its settings, keys, commands, and statistics.

use perennial_core::Timestamp;
use serde::de::DeserializeOwned;

use crate::store::codec::uint;
use crate::store::outbox::Sent;
use crate::store::owned::Sharing;
use crate::store::postgres::members;
use crate::store::postgres::partitions;
use crate::store::postgres::reads::{PostgresReader, all, has_nul};
use crate::store::postgres::source::{big, readable, state, time};
use crate::store::postgres::wanted::WAITING;
use crate::store::postgres::writer::{SIZE, pages};
use crate::store::queries::found::Tally;
use crate::store::types::{Ages, KeyRow, Setting, WorkerNames};
use crate::store::{InstanceFilter, StoreError};

impl PostgresReader {
    pub(in crate::store) fn last_commit(&self) -> Result<Timestamp, StoreError> {
        let sql = "SELECT greatest(at, (SELECT max(at) FROM owner)) FROM hub WHERE id = 1";
        let row = self.query_one(sql, &[])?;
        Ok(time(&row, 0)?.unwrap_or_default())
    }

    pub(in crate::store) fn created_at(&self) -> Result<Timestamp, StoreError> {
        let row = self.query_one("SELECT created_at FROM hub WHERE id = 1", &[])?;
        Ok(time(&row, 0)?.unwrap_or_default())
    }

    pub(in crate::store) fn sharing(&self) -> Result<Option<Sharing>, StoreError> {
        members::sharing(|sql, params| self.query(sql, params)).map(Some)
    }

    pub(in crate::store) fn secret(&self) -> Result<Vec<u8>, StoreError> {
        let row = self.query_one("SELECT secret FROM hub WHERE id = 1", &[])?;
        Ok(row.try_get(0)?)
    }

    pub(in crate::store) fn outbox(&self, limit: u32) -> Result<Vec<Sent>, StoreError> {
        let without: [i64; 0] = [];
        let found = readable(&self.of, |of| {
            self.query(WAITING, &[&of, &i64::from(limit), &&without[..]])
        })?;
        let sent = found.into_iter().map(|(seq, posted)| Sent {
            seq,
            message: posted.message,
        });
        Ok(sent.collect())
    }

    pub(in crate::store) fn has_garbage(&self) -> Result<bool, StoreError> {
        let of = partitions::ranges(&self.of);
        let sql = "SELECT EXISTS (SELECT 1 FROM unnest($1::bigint[], $2::bigint[]) AS r (low, high)
             CROSS JOIN LATERAL (SELECT 1 FROM garbage WHERE instance BETWEEN r.low AND r.high LIMIT 1) AS g)";
        let row = self.query_one(sql, &[&of.low, &of.high])?;
        Ok(row.try_get(0)?)
    }

    pub(in crate::store) fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let sql = "SELECT id, name, role, hash, created_at FROM access_key ORDER BY created_at, id";
        all(&self.query(sql, &[])?, |row| {
            let hash: &[u8] = row.try_get(3)?;
            Ok(KeyRow {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                admin: state(row, 2)? != 0,
                hash: hash.try_into().map_err(|_| {
                    StoreError::Corrupt("the hash of a key does not have 32 bytes".to_owned())
                })?,
                created_at: time(row, 4)?.unwrap_or_default(),
            })
        })
    }

    pub(in crate::store) fn unanswered(
        &self,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let sql = "SELECT token, body FROM command WHERE answer IS NULL AND ($2::smallint[] IS NULL OR partition = ANY($2))
             ORDER BY seq LIMIT $1";
        let of = partitions::unless_all(&self.of);
        all(&self.query(sql, &[&i64::from(limit), &of])?, |row| {
            Ok((row.try_get(0)?, row.try_get(1)?))
        })
    }

    pub(in crate::store) fn answer(&self, token: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if has_nul(token) {
            return Ok(None);
        }
        let row = self.query_opt("SELECT answer FROM command WHERE token = $1", &[&token])?;
        row.map_or(Ok(None), |row| Ok(row.try_get(0)?))
    }

    pub(in crate::store) fn retention(&self) -> Result<Ages, StoreError> {
        self.setting(Setting::Retention)
    }

    pub(in crate::store) fn worker_names(&self) -> Result<WorkerNames, StoreError> {
        self.setting(Setting::WorkerNames)
    }

    /// A setting; the default if it was never set.
    fn setting<T: Default + DeserializeOwned>(&self, which: Setting) -> Result<T, StoreError> {
        let sql = "SELECT value FROM setting WHERE name = $1";
        match self.query_opt(sql, &[&which.name()])? {
            Some(row) => which.read(row.try_get(0)?),
            None => Ok(T::default()),
        }
    }

    pub(in crate::store) fn tally(&self) -> Result<Tally, StoreError> {
        let instances = self.counts(&InstanceFilter::default())?;
        let sql = "SELECT coalesce(sum(turns), 0)::bigint, coalesce(sum(next_event), 0)::bigint, coalesce(sum(history_bytes), 0)::bigint
             FROM instance";
        let histories = self.query_one(sql, &[])?;
        let modules = self.query_one(
            "SELECT (SELECT count(*) FROM module_name), count(*), coalesce(sum(octet_length(component)), 0)::bigint FROM module",
            &[],
        )?;
        let pages = pages(&self.query(SIZE, &[])?)?;
        Ok(Tally {
            created_at: self.created_at()?,
            instances,
            turns: big(&histories, 0)?,
            events: big(&histories, 1)?,
            history_bytes: big(&histories, 2)?,
            modules: big(&modules, 0)?,
            stored_modules: uint(modules.try_get(1)?),
            module_bytes: big(&modules, 2)?,
            garbage: self.has_garbage()?,
            pages,
        })
    }
}
