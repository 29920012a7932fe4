//! Inboxes.

use perennial_core::{Envelope, Message, Timestamp};
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::{decode, int};
use crate::store::postgres::partitions;
use crate::store::postgres::reads::{PostgresReader, all};
use crate::store::postgres::source::{big, time};
use crate::store::sqlite::rows::queries::PAGE_BYTES;
use crate::store::types::{InboxPage, InstanceKey};

/// As in the index of commands.
const IS_COMMAND: &str = r"substr(message, 1, 2) BETWEEN '\x0107'::bytea AND '\x0109'::bytea";

impl PostgresReader {
    pub(in crate::store) fn inbox(
        &self,
        key: InstanceKey,
        from: u64,
        limit: u32,
    ) -> Result<InboxPage, StoreError> {
        // Messages beyond the bytes of a page are not sent.
        let sql = "SELECT seq, message, at FROM
             (SELECT seq, message, at, sum(octet_length(message)) OVER (ORDER BY seq) - octet_length(message) AS before FROM
                 (SELECT seq, message, at FROM inbox WHERE instance = $1 AND seq >= $2 ORDER BY seq LIMIT $3) AS f) AS m
             WHERE before < $4 ORDER BY seq";
        let bytes_max = i64::try_from(PAGE_BYTES).unwrap_or(i64::MAX);
        let rows = self.query(sql, &[&key.0, &int(from), &i64::from(limit), &bytes_max])?;
        let mut page = InboxPage::default();
        let mut bytes = 0;
        for row in &rows {
            page.envelopes.push(envelope(row, &mut bytes)?);
            page.more = page.envelopes.len() >= limit as usize || bytes >= PAGE_BYTES;
            if page.more {
                break;
            }
        }
        Ok(page)
    }

    pub(in crate::store) fn inbox_commands(
        &self,
        key: InstanceKey,
        from: u64,
    ) -> Result<Vec<Envelope>, StoreError> {
        let sql = format!(
            "SELECT seq, message, at FROM inbox WHERE instance = $1 AND seq >= $2 AND {IS_COMMAND} ORDER BY seq"
        );
        all(&self.query(&sql, &[&key.0, &int(from)])?, |row| {
            envelope(row, &mut 0)
        })
    }

    pub(in crate::store) fn with_messages(
        &self,
        now: Timestamp,
    ) -> Result<Vec<InstanceKey>, StoreError> {
        // The ranges are in order, and so are the instances of each.
        let of = partitions::ranges(&self.of);
        let sql = "SELECT m.instance FROM unnest($2::bigint[], $3::bigint[]) AS r (low, high) CROSS JOIN LATERAL
             (SELECT w.instance FROM
                  (SELECT instance, count(*) AS count FROM inbox WHERE instance BETWEEN r.low AND r.high
                   GROUP BY instance ORDER BY instance) AS w
              CROSS JOIN LATERAL (SELECT status, scheduled_for FROM instance WHERE key = w.instance OFFSET 0) AS i
              WHERE i.status < 3 AND (w.count > 1 OR i.status <> 0 OR coalesce(i.scheduled_for, 0) <= $1) OFFSET 0) AS m";
        let rows = self.query(sql, &[&int(now.0), &of.low, &of.high])?;
        all(&rows, |row| Ok(InstanceKey(row.try_get(0)?)))
    }

    pub(in crate::store) fn terminate_in(
        &self,
        key: InstanceKey,
    ) -> Result<Option<Envelope>, StoreError> {
        let sql = format!(
            "SELECT seq, message, at FROM inbox WHERE instance = $1 AND {IS_COMMAND} ORDER BY seq"
        );
        for row in &self.query(&sql, &[&key.0])? {
            let read = envelope(row, &mut 0);
            if let Ok(
                found @ Envelope {
                    message: Message::Terminate { .. },
                    ..
                },
            ) = read
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(in crate::store) fn cancel_in(
        &self,
        key: InstanceKey,
    ) -> Result<Option<Envelope>, StoreError> {
        let sql = r"SELECT seq, message, at FROM inbox WHERE instance = $1 AND substr(message, 1, 2) = '\x010d'::bytea ORDER BY seq LIMIT 1";
        let row = self.query_opt(sql, &[&key.0])?;
        row.map(|row| envelope(&row, &mut 0)).transpose()
    }
}

/// Reads number, message and time of arrival, and adds the size to `bytes`.
fn envelope(row: &Row, bytes: &mut usize) -> Result<Envelope, StoreError> {
    let encoded: &[u8] = row.try_get(1)?;
    *bytes += encoded.len();
    Ok(Envelope {
        seq: Some(big(row, 0)?),
        at: time(row, 2)?.unwrap_or_default(),
        message: decode(encoded, "a message")?,
    })
}
