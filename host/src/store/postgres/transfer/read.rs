//! Reads the rows of a hub as they are at one moment.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::postgres::address::Address;
use crate::store::postgres::create::check_format;
use crate::store::postgres::error::failed;
use crate::store::postgres::lease;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::schema::{Kind, Table};
use crate::store::transfer::rows::{EachRow, Field, HubRow, ReadRows};

/// A transaction that reads much, or writes it, lasts for as long as that takes: one statement reads all rows of a table or of many
/// instances, and waits while these are written elsewhere. Each message of the server is still waited for for a limited time only. Rows
/// come in the order of an index, so that the first one comes at once.
pub(super) const PATIENCE: &str =
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 600000;
     SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;";

/// A transaction that reads a hub.
pub(in crate::store) struct DatabaseRows(pub(super) Session);

/// Opens a hub that may be in use.
///
/// # Errors
/// [`StoreError::Missing`] if there is none, and those of a database that cannot be reached.
pub(in crate::store) fn open(address: &Address) -> Result<DatabaseRows, StoreError> {
    let session = Session::open(address, Purpose::Read)?;
    check_format(&session, address)?;
    session.batch(PATIENCE)?;
    begin(&session)?;
    Ok(DatabaseRows(session))
}

/// How long a copy waits for a moment at which no messages are on their way between owners, and how often it looks for one.
const QUIET_MAX: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 10_000 });
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Begins the transaction that reads, at a moment at which no messages are on their way between owners: a copy has none.
fn begin(session: &Session) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let sent = session.query("SELECT 1 FROM outbox ORDER BY seq LIMIT 1", &[])?;
        if sent.is_empty() {
            return Ok(());
        }
        session.batch("ROLLBACK")?;
        if begun.elapsed() > QUIET_MAX {
            return Err(failed(
                "there are messages on their way between the partitions of the task hub, which a copy cannot take with it; if no host runs, \
                 start one and try again; if several run, try again when they have less to do, or stop all but one",
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl ReadRows for DatabaseRows {
    fn hub(&mut self) -> Result<HubRow, StoreError> {
        let sql = "SELECT created_at, greatest(commits, (SELECT max(commits) FROM owner)), greatest(at, (SELECT max(at) FROM owner)), secret
             FROM hub";
        let row = self.0.query_opt(sql, &[])?;
        let row =
            row.ok_or_else(|| StoreError::Corrupt("the row of the hub is missing".to_owned()))?;
        Ok(HubRow {
            created_at: row.try_get(0)?,
            commits: row.try_get(1)?,
            at: row.try_get(2)?,
            secret: row.try_get(3)?,
            partitions: Some(lease::count(&self.0)?),
        })
    }

    fn instances(&mut self) -> Result<u64, StoreError> {
        let row = self.0.query_opt("SELECT count(*) FROM instance", &[])?;
        let count: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
        Ok(count.unsigned_abs())
    }

    fn chunk(&mut self, from: i64, at_most: u32) -> Result<(u64, Option<i64>), StoreError> {
        let sql = "SELECT count(*), max(key) FROM (SELECT key FROM instance WHERE key >= $1 ORDER BY key LIMIT $2) AS found";
        let row = self.0.query_opt(sql, &[&from, &int(at_most.into())])?;
        let Some(row) = row else { return Ok((0, None)) };
        let count: i64 = row.try_get(0)?;
        Ok((count.unsigned_abs(), row.try_get(1)?))
    }

    fn each(
        &mut self,
        table: &'static Table,
        of: Option<(i64, i64)>,
        each: &mut EachRow<'_>,
    ) -> Result<(), StoreError> {
        let range = match of {
            Some(_) => format!("WHERE {} BETWEEN $1 AND $2", table.columns[0].0),
            None => String::new(),
        };
        let (names, name, keys) = (table.names(), table.name, table.key_names());
        let sql = format!("SELECT {names} FROM {name} {range} ORDER BY {keys}");
        let params = of.map_or_else(Vec::new, |(from, to)| vec![from, to]);
        let session = &self.0;
        let mut rows = Box::pin(session.wait(async {
            let statement = session.prepared(&sql).await?;
            session.client().query_raw(&statement, params).await
        })?);
        while let Some(row) = session.wait(rows.try_next())? {
            let mut fields = Vec::with_capacity(table.columns.len());
            for (column, (_, kind)) in table.columns.iter().enumerate() {
                fields.push(field(&row, column, *kind)?.unwrap_or(Field::Null));
            }
            each(&fields)?;
        }
        Ok(())
    }

    fn id(&mut self, key: i64) -> Result<Option<String>, StoreError> {
        let row = self
            .0
            .query_opt("SELECT id FROM instance WHERE key = $1", &[&key])?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }
}

fn field(row: &Row, column: usize, kind: Kind) -> Result<Option<Field<'_>>, tokio_postgres::Error> {
    Ok(match kind {
        Kind::Int => row.try_get::<_, Option<i64>>(column)?.map(Field::Int),
        Kind::Small => row
            .try_get::<_, Option<i16>>(column)?
            .map(|number| Field::Int(number.into())),
        Kind::Bool => row
            .try_get::<_, Option<bool>>(column)?
            .map(|flag| Field::Int(flag.into())),
        Kind::Text => row
            .try_get::<_, Option<&str>>(column)?
            .map(|text| Field::Text(text.as_bytes())),
        Kind::AnyText => row.try_get::<_, Option<&[u8]>>(column)?.map(Field::Text),
        Kind::Bytes => row.try_get::<_, Option<&[u8]>>(column)?.map(Field::Bytes),
    })
}
