//! Writes the rows of a whole hub in one transaction. Until its end nobody sees the schema, and a process or a connection that dies before
//! that leaves nothing.
//!
//! The transaction holds the lock of those who create the hub: a host that is started on it meanwhile waits, and gives up after a while. As
//! any long transaction it keeps the server from clearing away old rows elsewhere in the database.

use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;

use futures::SinkExt as _;
use perennial_core::Timestamp;
use tokio_postgres::CopyInSink;

use crate::store::StoreError;
use crate::store::error::DatabaseError;
use crate::store::postgres::address::Address;
use crate::store::postgres::create::{PARTITIONS, create_in};
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::transfer::read::{DatabaseRows, PATIENCE};
use crate::store::schema::{Kind, Table};
use crate::store::transfer::rows::{Field, HubRow, ReadRows, UsedKeys, WriteRows};

/// What a binary copy begins with: its signature, flags, and the length of nothing more.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What it ends with instead of a row.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Rows are sent when they have this many bytes, and in parts of at most so many.
const SEND_BYTES: usize = 64 << 10;
const PART_BYTES: usize = 1 << 20;

/// The most bytes that a value may have.
const VALUE_BYTES_MAX: usize = 0x3fff_ffff;

/// The bits of a key below its partition.
const PARTITION_SHIFT: u32 = 53;

/// The highest epoch that a copy of a hub with one partition says was used: as many are left as owners may ever need. Its keys may be those
/// of a file with very many owners, which go beyond it, and the next owner takes keys above all that are there.
const EPOCH_MAX: i64 = 1 << 20;

/// A hub that is being written.
pub(in crate::store) struct DatabaseTarget {
    rows: DatabaseRows,
    address: Address,
    /// Names the transaction, to ask what became of it.
    transaction: String,
    open: Option<Open>,
}

/// Rows of a table that are on their way.
struct Open {
    table: &'static Table,
    sink: Pin<Box<CopyInSink<Cursor<Vec<u8>>>>>,
    unsent: Vec<u8>,
    count: u64,
}

/// Begins a hub that does not exist.
///
/// # Errors
/// [`StoreError::File`] if it exists, [`StoreError::NotAHubSchema`] if something else does, and those of a database that cannot be reached.
pub(in crate::store) fn create(address: &Address) -> Result<DatabaseTarget, StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    session.batch(PATIENCE)?;
    session.query(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        &[],
    )?;
    session.batch("BEGIN")?;
    if !create_in(&session, address, Timestamp(0))? {
        let what = std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "there is a task hub already; name another one, or delete it first",
        );
        return Err(StoreError::file("will not replace", address.to_string())(
            what,
        ));
    }
    let transaction = session.query_opt("SELECT pg_current_xact_id()::text", &[])?;
    let transaction = transaction.map_or(Ok(String::new()), |row| row.try_get(0))?;
    Ok(DatabaseTarget {
        rows: DatabaseRows(session),
        address: address.clone(),
        transaction,
        open: None,
    })
}

impl DatabaseTarget {
    /// The copy into a table.
    fn begin(&mut self, table: &'static Table) -> Result<Open, StoreError> {
        let session = &self.rows.0;
        let sql = format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            table.name,
            table.names()
        );
        let sink = session.wait(async {
            let statement = session.prepared(&sql).await?;
            session.client().copy_in(&statement).await
        });
        Ok(Open {
            table,
            sink: Box::pin(sink.map_err(|error| self.unwritten(error))?),
            unsent: HEADER.to_vec(),
            count: 0,
        })
    }

    fn send(&self, open: &mut Open) -> Result<(), StoreError> {
        let unsent = std::mem::take(&mut open.unsent);
        let parts = match unsent.len() <= PART_BYTES {
            true => vec![unsent],
            false => unsent.chunks(PART_BYTES).map(<[u8]>::to_vec).collect(),
        };
        for part in parts {
            let sent = self.rows.0.wait(open.sink.feed(Cursor::new(part)));
            sent.map_err(|error| self.unwritten(error))?;
        }
        Ok(())
    }

    /// The error with the address, since the source may be in a database too.
    fn unwritten(&self, error: StoreError) -> StoreError {
        let StoreError::Database(error) = error else {
            return error;
        };
        StoreError::Database(Arc::new(DatabaseError {
            resource: error.resource,
            is_locked: error.is_locked,
            is_away: error.is_away,
            stays: error.stays,
            hint: error.hint,
            cause: format!("could not write to {}: {}", self.address, error.cause).into(),
        }))
    }

    /// Asks on another connection whether the transaction was committed.
    fn is_committed(&self) -> Result<bool, StoreError> {
        let session = Session::open(&self.address, Purpose::Manage)?;
        let row = session.query_opt(
            "SELECT pg_xact_status(($1::text)::xid8)",
            &[&self.transaction],
        )?;
        let status: Option<String> = row.map_or(Ok(None), |row| row.try_get(0))?;
        match status.as_deref() {
            Some("committed") => Ok(true),
            Some("aborted") => Ok(false),
            _ => Err(StoreError::Closed),
        }
    }
}

impl WriteRows for DatabaseTarget {
    fn divides(&self) -> Option<u16> {
        Some(PARTITIONS.cast_unsigned())
    }

    fn refuses(&self, table: &'static Table, row: &[Field<'_>]) -> Option<String> {
        for ((name, kind), field) in table.columns.iter().zip(row) {
            match field {
                Field::Text(text) if *kind == Kind::Text && text.contains(&0) => {
                    return Some(format!(
                        "{name} has a NUL character, which no text in PostgreSQL can have"
                    ));
                }
                Field::Text(bytes) | Field::Bytes(bytes) if bytes.len() > VALUE_BYTES_MAX => {
                    return Some(format!(
                        "{name} has {} bytes, and no value in PostgreSQL can have more than {VALUE_BYTES_MAX}",
                        bytes.len()
                    ));
                }
                _ => {}
            }
        }
        let key = table.instance_column().and_then(|column| row.get(column));
        match key {
            Some(Field::Int(key)) if key >> PARTITION_SHIFT >= i64::from(PARTITIONS) => {
                Some("its key is higher than those of a task hub in PostgreSQL can be".to_owned())
            }
            _ => None,
        }
    }

    fn write(&mut self, table: &'static Table, row: &[Field<'_>]) -> Result<(), StoreError> {
        let mut open = match self.open.take() {
            Some(open) if open.table.id == table.id => open,
            Some(other) => {
                self.open = Some(other);
                self.end_table()?;
                self.begin(table)?
            }
            None => self.begin(table)?,
        };
        encode(table, row, &mut open.unsent);
        open.count += 1;
        if open.unsent.len() >= SEND_BYTES {
            self.send(&mut open)?;
        }
        self.open = Some(open);
        Ok(())
    }

    fn end_table(&mut self) -> Result<(), StoreError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        open.unsent.extend(TRAILER);
        self.send(&mut open)?;
        let written = self.rows.0.wait(open.sink.as_mut().finish());
        let written = written.map_err(|error| self.unwritten(error))?;
        match written == open.count {
            true => Ok(()),
            false => Err(self.failed(format!(
                "{written} of {} rows of the table {} were written",
                open.count, open.table.name
            ))),
        }
    }

    fn complete(&mut self, hub: &HubRow, keys: UsedKeys) -> Result<(), StoreError> {
        let session = &self.rows.0;
        // Keys that tell no partition are all in the same one.
        let partitions = hub.partitions.unwrap_or(1);
        let sql = "WITH others AS (DELETE FROM partition WHERE partition >= $5)
             UPDATE hub SET created_at = $1, commits = $2, at = $3, secret = $4, partitions = $5";
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [
            &hub.created_at,
            &hub.commits,
            &hub.at,
            &hub.secret,
            &partitions.cast_signed(),
        ];
        let mut written = session.execute(sql, &params).map(drop);
        // Keys of a divided hub are told apart by the epochs alone.
        let epoch = match partitions {
            1 => keys.epoch.min(EPOCH_MAX),
            _ => keys.epoch,
        };
        if epoch > 0 && written.is_ok() {
            let used = session.query("SELECT setval('owner_epoch', $1)", &[&epoch]);
            written = used.map(drop);
        }
        written.map_err(|error| self.unwritten(error))
    }

    fn rows(&mut self) -> &mut dyn ReadRows {
        &mut self.rows
    }

    fn publish(self: Box<Self>) -> Result<(), StoreError> {
        let Err(error) = self.rows.0.batch("COMMIT") else {
            return Ok(());
        };
        if !self.rows.0.is_lost() {
            return Err(self.unwritten(error));
        }
        match self.is_committed() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.unwritten(error)),
            Err(_) => Err(self.failed(format!(
                "the connection was lost while the copy was committed, and it is not known whether it is there ({error}); look whether the task hub exists: if it does, it is whole"
            ))),
        }
    }

    fn failed(&self, why: String) -> StoreError {
        let address = self.address.to_string();
        StoreError::file("could not copy the task hub to", address)(std::io::Error::other(why))
    }
}

/// Appends a row in the format of a binary copy.
fn encode(table: &Table, row: &[Field<'_>], to: &mut Vec<u8>) {
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes();
    to.extend(i16::try_from(row.len()).unwrap_or(i16::MAX).to_be_bytes());
    for ((_, kind), field) in table.columns.iter().zip(row) {
        match (field, kind) {
            (Field::Null, _) => to.extend((-1_i32).to_be_bytes()),
            (Field::Int(number), Kind::Small) => {
                to.extend(size(2));
                to.extend(i16::try_from(*number).unwrap_or(i16::MAX).to_be_bytes());
            }
            (Field::Int(number), Kind::Bool) => {
                to.extend(size(1));
                to.push(u8::from(*number != 0));
            }
            (Field::Int(number), _) => {
                to.extend(size(8));
                to.extend(number.to_be_bytes());
            }
            (Field::Text(bytes) | Field::Bytes(bytes), _) => {
                to.extend(size(bytes.len()));
                to.extend_from_slice(bytes);
            }
        }
    }
}
