//! Who owns a hub: the lease of an owner, and how another one takes it.
//!
//! The row of an owner is its lease and its fence: each transaction of the owner renews it, and finds it gone once another owner took over.
//! Only the clock of the database judges whether it has run out. An owner also holds an advisory lock for as long as its connection lasts:
//! a process that died leaves it at once. To take over from an owner that lives is safe, and only wasteful.

use std::time::Duration;

use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::owned::OwnerNote;
use crate::store::postgres::address::Address;
use crate::store::postgres::session::Session;

/// How long a lease lasts without being renewed, in milliseconds. Short in the tests of this crate.
pub(super) const TTL_MS: i64 = if cfg!(test) { 1_500 } else { 5_000 };

/// As [`TTL_MS`].
pub(super) const TTL: Duration = Duration::from_millis(TTL_MS.unsigned_abs());

/// After this many milliseconds the lease of an owner is taken that has lost its connection too: one whose connection was only cut has
/// another one by then.
const ABANDONED_MS: i64 = if cfg!(test) { 500 } else { 1_000 };

/// A lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) epoch: i64,
    /// The number of the hub's last transaction.
    pub(super) number: i64,
    /// The version of what owners keep of the hub in memory.
    pub(super) version: i64,
}

/// What became of an attempt to take a hub over.
#[derive(Debug)]
pub(super) enum Taken {
    /// Taken. `former` are the owners that died, as far as their rows say it.
    Lease {
        lease: Lease,
        former: Vec<OwnerNote>,
    },
    /// This one owns it, and lives.
    By(String),
}

/// Takes the lease of a hub, unless its owner lives. `note` describes this process to others.
pub(super) fn take(
    session: &Session,
    address: &Address,
    note: &OwnerNote,
) -> Result<Taken, StoreError> {
    session.batch("BEGIN")?;
    let taken = take_in(session, address, note);
    match taken {
        Ok(Taken::Lease { lease, .. }) => {
            session.batch("COMMIT")?;
            hold(session, address, lease.epoch)?;
        }
        // An error leaves nothing, and closes the connection with its caller.
        Ok(Taken::By(_)) | Err(_) => drop(session.batch("ROLLBACK")),
    }
    taken
}

fn take_in(session: &Session, address: &Address, note: &OwnerNote) -> Result<Taken, StoreError> {
    let schema = address.schema();
    session.query(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
        &[&format!("{schema}/owner")],
    )?;
    let owners = session.query(
        "SELECT epoch, host, renewed < clock_timestamp() - $1::bigint * interval '1 ms',
             renewed < clock_timestamp() - $2::bigint * interval '1 ms'
                 AND pg_try_advisory_xact_lock(hashtextextended($3 || '/' || epoch, 0))
         FROM owner WHERE NOT dead ORDER BY epoch",
        &[&TTL_MS, &ABANDONED_MS, &schema],
    )?;
    let mut former = Vec::new();
    for owner in &owners {
        let (has_run_out, is_abandoned): (bool, bool) = (owner.try_get(2)?, owner.try_get(3)?);
        if !has_run_out && !is_abandoned {
            return Ok(Taken::By(said(owner.try_get(1)?)));
        }
        let epoch: i64 = owner.try_get(0)?;
        // Waits for a transaction of it that is under way; and that has renewed the lease.
        let died = session.execute(
            "UPDATE owner SET dead = true WHERE epoch = $1 AND NOT dead AND renewed < clock_timestamp() - $2::bigint * interval '1 ms'",
            &[&epoch, &ABANDONED_MS],
        )?;
        if died == 0 {
            return Ok(Taken::By(said(owner.try_get(1)?)));
        }
        former.extend(read_note(owner.try_get(1)?));
    }
    // Nobody needs the row of an owner that is dead: one without a row finds the same.
    session.batch("DELETE FROM owner WHERE dead")?;
    let host = serde_json::to_string(note).unwrap_or_default();
    let lease = session.query(
        // A database that is replaced by one that is behind gives a number again. So the epoch is no number alone, but ends with a random part:
        // the owner before that takes no lease for its own.
        "INSERT INTO owner (epoch, host, commits, renewed)
         SELECT nextval('owner_epoch') << 31 | floor(random() * 2147483648)::bigint,
             (($1::text)::jsonb || jsonb_build_object('after', commits))::text, commits, clock_timestamp() FROM hub
         RETURNING epoch, commits, (SELECT version FROM hub)",
        &[&host],
    )?;
    let lease = match lease.first() {
        Some(row) => lease_of(row)?,
        None => {
            return Err(StoreError::Corrupt(
                "the row of the hub is missing".to_owned(),
            ));
        }
    };
    session.execute(
        "UPDATE partition SET owner = $1, since = clock_timestamp()",
        &[&lease.epoch],
    )?;
    Ok(Taken::Lease { lease, former })
}

/// What an owner said about itself.
fn read_note(text: &str) -> Option<OwnerNote> {
    serde_json::from_str(text).ok()
}

/// The same, for people.
fn said(text: &str) -> String {
    read_note(text).map_or_else(|| "another process".to_owned(), |note| note.to_string())
}

/// The owner of a hub, if one lives: its row is not that of a dead one, and its lease has not run out.
pub(super) const OWNER: &str = "SELECT host FROM owner WHERE NOT dead AND renewed >= clock_timestamp() - $1::bigint * interval '1 ms'
     ORDER BY epoch DESC LIMIT 1";

/// See [`OWNER`]; the row is that of the query.
pub(super) fn owner_of(row: &Row) -> Result<OwnerNote, StoreError> {
    let text: &str = row.try_get(0)?;
    read_note(text)
        .ok_or_else(|| StoreError::Corrupt("the row of the owner cannot be read".to_owned()))
}

fn lease_of(row: &Row) -> Result<Lease, StoreError> {
    Ok(Lease {
        epoch: row.try_get(0)?,
        number: row.try_get(1)?,
        version: row.try_get(2)?,
    })
}

/// Takes the advisory lock of an owner for a connection. Returns whether it got it, which makes no difference to what is safe: a connection
/// that was lost before may have it still, for a moment.
pub(super) fn hold(session: &Session, address: &Address, epoch: i64) -> Result<bool, StoreError> {
    let name = format!("{}/{epoch}", address.schema());
    let sql = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
    let row = session.query_opt(sql, &[&name])?;
    row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
}

/// Renews a lease without a transaction. The caller compares the number: a database that was replaced may have a former one.
pub(super) fn renew(session: &Session, epoch: i64) -> Result<Standing, StoreError> {
    let renewed = session.query_opt(
        "UPDATE owner SET renewed = clock_timestamp() WHERE epoch = $1 AND NOT dead RETURNING commits, (SELECT version FROM hub)",
        &[&epoch],
    )?;
    standing_of(session, epoch, renewed)
}

/// Gives a lease back, so that the next owner does not wait for its end.
pub(super) fn release(session: &Session, epoch: i64) -> Result<(), StoreError> {
    session.execute("DELETE FROM owner WHERE epoch = $1", &[&epoch])?;
    session
        .execute(
            "UPDATE partition SET owner = NULL WHERE owner = $1",
            &[&epoch],
        )
        .map(drop)
}

/// What the database has of an owner.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// Its transactions, and the version of the hub.
    Owns { number: i64, version: i64 },
    /// Another owner took over, after so many transactions of the hub or, where it does not say so, fewer.
    Fenced { number: i64 },
}

/// Reads what the database has of an owner. Waits for a transaction of it that may still be under way on a lost connection.
pub(super) fn standing(session: &Session, epoch: i64) -> Result<Standing, StoreError> {
    let sql = "SELECT commits, (SELECT version FROM hub) FROM owner WHERE epoch = $1 AND NOT dead FOR UPDATE";
    let row = session.query_opt(sql, &[&epoch])?;
    standing_of(session, epoch, row)
}

/// `row` is that of the owner, if it has one still.
fn standing_of(session: &Session, epoch: i64, row: Option<Row>) -> Result<Standing, StoreError> {
    if let Some(row) = row {
        return Ok(Standing::Owns {
            number: row.try_get(0)?,
            version: row.try_get(1)?,
        });
    }
    // Those who took over say after which transaction. Those that follow may have hidden how many were lost.
    let sql = "SELECT coalesce(min((host::jsonb ->> 'after')::bigint), (SELECT commits FROM hub)) FROM owner WHERE epoch <> $1";
    let number = match session.query_opt(sql, &[&epoch])? {
        Some(row) => row.try_get::<_, Option<i64>>(0)?.unwrap_or(i64::MAX),
        None => i64::MAX,
    };
    Ok(Standing::Fenced { number })
}
