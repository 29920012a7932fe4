//! Commands of processes that do not own the hub.
//!
//! Such a process appends its command, wakes the owner, and awaits the recorded answer. A crash of either side loses nothing: a command
//! stays until it is answered, and an answer until it is read. An owner that opens the hub deletes answers older than a day.

use perennial_core::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::codec::int;

/// Appends a command.
pub(crate) fn append(
    db: &Connection,
    token: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO command (token, at, body) VALUES (?1, ?2, ?3)")?
        .execute(params![token, int(now.0), body])?;
    Ok(())
}

/// The oldest commands without an answer, as token and body.
pub(crate) fn unanswered(
    db: &Connection,
    limit: u32,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT token, body FROM command WHERE answer IS NULL ORDER BY rowid LIMIT ?1",
    )?;
    let rows = query.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The answer to a command; `None` if there is none yet.
pub(crate) fn read_answer(db: &Connection, token: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut query = db.prepare_cached("SELECT answer FROM command WHERE token = ?1")?;
    Ok(query
        .query_row([token], |row| row.get::<_, Option<Vec<u8>>>(0))
        .optional()?
        .flatten())
}

/// Withdraws an unanswered command. Returns whether it did.
pub(crate) fn take_back(db: &Connection, token: &str) -> Result<bool, StoreError> {
    let taken = db
        .prepare_cached("DELETE FROM command WHERE token = ?1 AND answer IS NULL")?
        .execute([token])?;
    Ok(taken == 1)
}

/// Deletes a command after its answer was read.
pub(crate) fn forget(db: &Connection, token: &str) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM command WHERE token = ?1")?
        .execute([token])?;
    Ok(())
}
