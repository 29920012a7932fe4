//! Who owns a hub, or some of its partitions: the lease of an owner, and how another one takes it.
//!
//! The row of an owner is its lease and its fence: each transaction of the owner renews it, and finds it gone once another owner took over.
//! Only the clock of the database judges whether it has run out. An owner also holds an advisory lock for as long as its connection lasts:
//! a process that died leaves it at once. To take over from an owner that lives is safe, and only wasteful.

use std::time::Duration;

use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::owned::{OwnerNote, Share};
use crate::store::partition::{MOST, Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::create::{is_old, upgrade};
use crate::store::postgres::error::failed;
use crate::store::postgres::partitions;
use crate::store::postgres::session::Session;

/// How long a lease lasts without being renewed, in milliseconds. Short in the tests of this crate.
pub(super) const TTL_MS: i64 = if cfg!(test) { 1_500 } else { 5_000 };

/// As [`TTL_MS`].
pub(super) const TTL: Duration = Duration::from_millis(TTL_MS.unsigned_abs());

/// After this many milliseconds the lease of an owner is taken that has lost its connection too: one whose connection was only cut has
/// another one by then.
const ABANDONED_MS: i64 = if cfg!(test) { 500 } else { 1_000 };

/// How long an owner that lives takes at most to renew its lease once its database answers again.
pub(super) const RENEWED_WITHIN: Duration =
    Duration::from_millis(if cfg!(test) { 300 } else { 1_200 });

/// Renews a lease, unless a transaction of its owner is about to.
pub(super) const KEEP: &str = "UPDATE owner SET renewed = clock_timestamp() WHERE epoch = (SELECT epoch FROM owner WHERE epoch = $1 AND NOT dead FOR UPDATE SKIP LOCKED)
     RETURNING (extract(epoch FROM renewed) * 1000000)::bigint";

/// How long the lease of an owner is kept whose writer does not renew it: longer than a statement may take.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(90);

/// An owner that renewed its lease longer ago than this many milliseconds is kept waiting: an idle one renews it more often.
pub(super) const LATE_MS: i64 = if cfg!(test) { 800 } else { 2_000 };

/// The bits of an epoch below its number: they are random.
const RANDOM_BITS: u32 = 31;

/// The bits of a key for those that one owner of a divided hub gives to instances.
const KEY_BITS: u32 = 32;

/// The highest number of an owner of a divided hub: what fits the bits of its keys.
const NUMBER_MAX: i64 = (1 << 21) - 1;

/// A lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) epoch: i64,
    /// The number of the owner's last transaction: each has the next one, and one that was [given up](settle) has had two. It begins with the highest of owners that are gone.
    pub(super) number: i64,
    /// The version of what owners keep of the hub in memory.
    pub(super) version: i64,
}

/// What became of an attempt to take a hub over.
#[derive(Debug)]
pub(super) enum Taken {
    /// Taken, with these partitions. `former` are the owners that died, as far as their rows say it.
    Lease {
        lease: Lease,
        own: Partitions,
        former: Vec<OwnerNote>,
    },
    /// This one owns it, and lives.
    By(String),
}

impl Lease {
    /// The number of the first key for a new instance of a divided hub. No other owner takes it, or those after it.
    pub(super) fn first_key(&self) -> Result<i64, StoreError> {
        let number = self.epoch >> RANDOM_BITS;
        match number <= NUMBER_MAX {
            true => Ok(number << KEY_BITS),
            false => Err(failed(format_args!(
                "the task hub has had {NUMBER_MAX} owners, and the keys of its instances can tell no more of them apart; copy it, and use the copy"
            ))),
        }
    }
}

/// Takes a share of a hub, unless an owner lives that has something of it. `note` describes this process to others.
pub(super) fn take(
    session: &Session,
    address: &Address,
    note: &OwnerNote,
    share: Share,
) -> Result<Taken, StoreError> {
    let silent = wait_for_signs_of_life(session, address)?;
    session.begin()?;
    let taken = take_in(session, address, note, share, &silent);
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

/// Waits as long as an owner that lives takes to renew its lease, if one has let it run out and is connected still: the database, or a
/// transaction of that one, may have stood still. Returns the leases of those that had lost their connections, or let the lease run out before
/// the wait.
fn wait_for_signs_of_life(session: &Session, address: &Address) -> Result<Vec<Silent>, StoreError> {
    let living = living(session, address)?;
    if living.iter().any(|owner| owner.is_stuck) {
        std::thread::sleep(RENEWED_WITHIN);
    }
    let silent = living.iter().filter(|owner| owner.is_silent);
    Ok(silent.map(Living::lease).collect())
}

fn take_in(
    session: &Session,
    address: &Address,
    note: &OwnerNote,
    share: Share,
    silent: &[Silent],
) -> Result<Taken, StoreError> {
    session.query(LOCK, &[&lock_of(address)])?;
    let is_old = is_old(session, address)?;
    // A hub of one partition has one owner. One of an older format will have one partition.
    let share = match is_old || count(session)? == 1 {
        true => Share::All,
        false => share,
    };
    let mut former = Vec::new();
    for owner in living(session, address)? {
        let is_in_the_way = match share {
            Share::All => true,
            Share::Some(own) => owner.partitions.iter().any(|one| own.has(*one)),
            Share::Joined => false,
        };
        if !is_in_the_way {
            continue;
        }
        let is_silent = owner.is_silent && silent.contains(&owner.lease());
        if !is_silent || !kill(session, owner.epoch, is_old)? {
            return Ok(Taken::By(said(&owner.note)));
        }
        former.extend(read_note(&owner.note));
    }
    if is_old {
        upgrade(session, address)?;
    }
    // A former owner that is told so, and how far it got, has ended long before.
    session
        .batch("DELETE FROM owner WHERE dead AND renewed < clock_timestamp() - interval '1 day'")?;
    let own = own(session, share)?;
    let lease = insert(session, note)?;
    let numbers: Vec<i16> = own.iter().map(partitions::number).collect();
    session.execute(
        "UPDATE partition SET owner = $1, since = clock_timestamp() WHERE partition = ANY($2)",
        &[&lease.epoch, &numbers],
    )?;
    Ok(Taken::Lease { lease, own, former })
}

/// Keeps others from becoming owners, and from changing what all owners keep in memory, until the end of a transaction.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

/// The parameter of [`LOCK`].
pub(super) fn lock_of(address: &Address) -> String {
    format!("{}/owner", address.schema())
}

/// A lease as it was found: the epoch of its owner, and when that renewed it, in microseconds by the clock of the database.
pub(super) type Silent = (i64, i64);

/// An owner that is not known to be dead.
pub(super) struct Living {
    pub(super) epoch: i64,
    /// See [`Silent`].
    renewed: i64,
    note: String,
    /// Whether its lease has run out, or it has lost its connection and not made another one.
    pub(super) is_silent: bool,
    /// Whether its lease has run out although it is connected.
    pub(super) is_stuck: bool,
    /// Whether it renews the lease later than an idle owner does.
    pub(super) is_late: bool,
    partitions: Vec<Partition>,
}

impl Living {
    pub(super) fn lease(&self) -> Silent {
        (self.epoch, self.renewed)
    }
}

/// The owners that are not known to be dead.
pub(super) fn living(session: &Session, address: &Address) -> Result<Vec<Living>, StoreError> {
    let (found, from_the_future) = found(session, address)?;
    if !from_the_future {
        return Ok(found);
    }
    // The clock of the database was set back, or a standby took over whose clock is. Leases last from now on.
    let begin_anew = "UPDATE owner SET renewed = clock_timestamp() WHERE epoch IN
         (SELECT epoch FROM owner WHERE NOT dead AND renewed > clock_timestamp() FOR UPDATE SKIP LOCKED)";
    session.execute(begin_anew, &[])?;
    Ok(self::found(session, address)?.0)
}

/// As [`living`], and whether the lease of one was renewed at a time that the database has not reached.
fn found(session: &Session, address: &Address) -> Result<(Vec<Living>, bool), StoreError> {
    let owners = session.query(
        "SELECT epoch, host, renewed < clock_timestamp() - $1::bigint * interval '1 ms',
             renewed < clock_timestamp() - $2::bigint * interval '1 ms'
                 AND pg_try_advisory_xact_lock(hashtextextended($3 || '/' || epoch, 0)),
             ARRAY(SELECT partition FROM partition AS p WHERE p.owner = o.epoch), (extract(epoch FROM greatest(renewed, 'epoch')) * 1000000)::bigint,
             renewed < clock_timestamp() - $4::bigint * interval '1 ms', renewed > clock_timestamp()
         FROM owner AS o WHERE NOT dead ORDER BY epoch",
        &[&TTL_MS, &ABANDONED_MS, &address.schema(), &LATE_MS],
    )?;
    let mut from_the_future = false;
    let living = owners.iter().map(|row| {
        from_the_future |= row.try_get::<_, bool>(7)?;
        let (has_run_out, is_abandoned): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
        let partitions: Vec<i16> = row.try_get(4)?;
        let partitions = partitions.into_iter();
        Ok(Living {
            epoch: row.try_get(0)?,
            renewed: row.try_get(5)?,
            note: row.try_get(1)?,
            is_silent: has_run_out || is_abandoned,
            is_stuck: has_run_out && !is_abandoned,
            is_late: row.try_get(6)?,
            partitions: partitions.map(partitions::partition).collect(),
        })
    });
    let living: Result<Vec<Living>, StoreError> = living.collect();
    Ok((living?, from_the_future))
}

/// Frees what owners had that are silent, and whose leases are as they were found, unless this one was declared dead itself. Returns those that
/// are about to renew theirs. The caller has the lock.
pub(super) fn free_the_silent(
    session: &Session,
    address: &Address,
    me: i64,
    silent: &[Silent],
) -> Result<Vec<i64>, StoreError> {
    let mut heard_of = Vec::new();
    let living = living(session, address)?;
    if living.iter().all(|owner| owner.epoch != me) {
        return Ok(heard_of);
    }
    for owner in living {
        if !owner.is_silent || !silent.contains(&owner.lease()) {
            continue;
        }
        if kill(session, owner.epoch, false)? {
            tracing::warn!(
                owner = said(&owner.note),
                partitions = owner.partitions.len(),
                "another owner of the task hub has died; others run its partitions"
            );
        } else {
            heard_of.push(owner.epoch);
        }
    }
    Ok(heard_of)
}

/// Ends the lease of an owner that is silent. Nobody has its partitions then, though they say who had them. `false` if it was heard of
/// meanwhile.
fn kill(session: &Session, epoch: i64, is_old: bool) -> Result<bool, StoreError> {
    // Whose transaction is under way has renewed the lease in it, however long ago that began: it waits for others, and lives. The database ends
    // the transaction of a process that stands still in the middle of it.
    let died = session.execute(
        "UPDATE owner SET dead = true WHERE epoch =
             (SELECT epoch FROM owner WHERE epoch = $1 AND NOT dead AND renewed < clock_timestamp() - $2::bigint * interval '1 ms'
              FOR UPDATE SKIP LOCKED)",
        &[&epoch, &ABANDONED_MS],
    )?;
    if died == 0 {
        return Ok(false);
    }
    // Owners of a hub of an older format counted there themselves.
    if !is_old {
        session.execute(COUNT, &[&epoch])?;
    }
    Ok(true)
}

/// Keeps how far an owner got that is gone.
const COUNT: &str = "UPDATE hub SET commits = greatest(hub.commits, o.commits), at = greatest(hub.at, o.at) FROM owner AS o WHERE o.epoch = $1";

/// How many partitions the hub has.
pub(super) fn count(session: &Session) -> Result<u16, StoreError> {
    let row = session.query_opt("SELECT partitions FROM hub WHERE id = 1", &[])?;
    let count: i16 = row.map_or(Ok(0), |row| row.try_get(0))?;
    match u16::try_from(count) {
        Ok(known) if known.is_power_of_two() && known <= MOST => Ok(known),
        _ => Err(StoreError::Corrupt(format!(
            "the task hub is said to have {count} partitions"
        ))),
    }
}

/// The partitions of a share.
fn own(session: &Session, share: Share) -> Result<Partitions, StoreError> {
    let count = count(session)?;
    match share {
        Share::All => Ok(Partitions::all(count)),
        Share::Joined => Ok(Partitions::some(count, [])),
        Share::Some(own) if own.count() == count => Ok(own),
        Share::Some(own) => Err(failed(format_args!(
            "some of {} partitions were to be taken of a task hub that has {count}",
            own.count()
        ))),
    }
}

/// Makes this process an owner.
fn insert(session: &Session, note: &OwnerNote) -> Result<Lease, StoreError> {
    let host = serde_json::to_string(note).unwrap_or_default();
    let lease = session.query_opt(
        // A database that is replaced by one that is behind gives a number again. So the epoch is no number alone, but ends with a random part:
        // the owner before that takes no lease for its own.
        "INSERT INTO owner (epoch, host, commits, version, renewed)
         SELECT nextval('owner_epoch') << 31 | floor(random() * 2147483648)::bigint,
             (($1::text)::jsonb || jsonb_build_object('after', commits))::text, commits, version, clock_timestamp() FROM hub
         RETURNING epoch, commits, version",
        &[&host],
    )?;
    match lease {
        Some(row) => Ok(Lease {
            epoch: row.try_get(0)?,
            number: row.try_get(1)?,
            version: row.try_get(2)?,
        }),
        None => Err(StoreError::Corrupt(
            "the row of the hub is missing".to_owned(),
        )),
    }
}

/// What an owner said about itself.
pub(super) fn read_note(text: &str) -> Option<OwnerNote> {
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
        "UPDATE owner SET renewed = clock_timestamp() WHERE epoch = $1 AND NOT dead RETURNING commits, version",
        &[&epoch],
    )?;
    standing_of(session, epoch, renewed)
}

/// Finds out what became of a transaction of which nobody has heard, after the one of this number. If it did not happen, it never will: its
/// number is taken, with the one after it, so that this is not confused with it. Waits for it if it is still under way on a lost connection.
pub(super) fn settle(session: &Session, epoch: i64, last: i64) -> Result<Settled, StoreError> {
    let given_up =
        "UPDATE owner SET commits = commits + 2 WHERE epoch = $1 AND commits = $2 AND NOT dead";
    if session.execute(given_up, &[&epoch, &last])? == 1 {
        return Ok(Settled::Undone(last + 2));
    }
    Ok(match standing(session, epoch)? {
        Standing::Owns { number, .. } if number == last + 1 => Settled::Done,
        // This was done before, and the answer was lost too.
        Standing::Owns { number, .. } if number == last + 2 => Settled::Undone(number),
        standing => Settled::Unclear(standing),
    })
}

/// What [`settle`] found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Settled {
    Done,
    /// It never happens. The owner goes on after this number.
    Undone(i64),
    /// The owner is not one any more, or the database has lost what it had confirmed.
    Unclear(Standing),
}

/// Gives a lease back, so that the next owner does not wait for its end.
pub(super) fn release(session: &Session, epoch: i64) -> Result<(), StoreError> {
    session.execute(
        "WITH gone AS (DELETE FROM owner WHERE epoch = $1 RETURNING commits, at),
             free AS (UPDATE partition SET owner = NULL WHERE owner = $1)
         UPDATE hub SET commits = greatest(hub.commits, gone.commits), at = greatest(hub.at, gone.at) FROM gone",
        &[&epoch],
    )?;
    Ok(())
}

/// What the database has of an owner.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// Its transactions, and the version of the hub.
    Owns { number: i64, version: i64 },
    /// Its lease was taken after the transaction of this number or, where nobody says so, at the most so many.
    Fenced { number: i64 },
}

/// Reads what the database has of an owner. Waits for a transaction of it that may still be under way on a lost connection.
pub(super) fn standing(session: &Session, epoch: i64) -> Result<Standing, StoreError> {
    let sql = "SELECT commits, version FROM owner WHERE epoch = $1 AND NOT dead FOR UPDATE";
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
    // Its row says it, if that was not lost too. Otherwise those do that came after it; what they did since may hide how many were lost.
    let sql = "SELECT coalesce((SELECT commits FROM owner WHERE epoch = $1),
             (SELECT min((host::jsonb ->> 'after')::bigint) FROM owner WHERE epoch >> 31 >= $1::bigint >> 31), (SELECT commits FROM hub))";
    let number = match session.query_opt(sql, &[&epoch])? {
        Some(row) => row.try_get::<_, Option<i64>>(0)?.unwrap_or(i64::MAX),
        None => i64::MAX,
    };
    Ok(Standing::Fenced { number })
}
