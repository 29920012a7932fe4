//! Who shares a hub: an owner looks who lives, takes partitions that nobody has, and gives some away.
//!
//! Whatever changes who has a partition is done by one owner at a time, in a transaction that begins with a lock. An owner of a partition
//! that has no living row counts as nobody. No transaction of a writer looks at that: a partition is taken from an owner only after its
//! lease, which each of its transactions checks.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use perennial_core::Millis;
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::owned::{
    Member, Members, OfferedWorker, OwnerNote, Ownership, Sharing, WAITING_MAX, WereRunning,
};
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::lease::{
    KEEP, KEPT_FOR, LOCK, Living, RENEWED_WITHIN, Silent, TTL_MS, free_the_silent, living, lock_of,
    read_note,
};
use crate::store::postgres::partitions;
use crate::store::postgres::running;
use crate::store::postgres::session::{Param, Purpose, Session};
use crate::store::postgres::source::big;

/// Owners that live, with their partitions.
const OWNERS: &str = "SELECT epoch, host, greatest(extract(epoch FROM clock_timestamp() - renewed) * 1000, 0)::bigint,
         ARRAY(SELECT partition FROM partition AS p WHERE p.owner = o.epoch ORDER BY partition),
         commits - (host::jsonb ->> 'after')::bigint
     FROM owner AS o WHERE NOT dead ORDER BY epoch";

/// Partitions that nobody has.
const FREE: &str = "SELECT partition FROM partition AS p
     WHERE NOT EXISTS (SELECT 1 FROM owner AS o WHERE o.epoch = p.owner AND NOT o.dead) ORDER BY partition";

/// Takes some of them, with who had them before. A dead owner takes nothing.
const TAKE: &str = "UPDATE partition AS p SET owner = $1, since = clock_timestamp()
     FROM (SELECT partition, owner FROM partition) AS before
     WHERE before.partition = p.partition AND p.partition = ANY($2)
         AND NOT EXISTS (SELECT 1 FROM owner AS o WHERE o.epoch = p.owner AND NOT o.dead)
         AND EXISTS (SELECT 1 FROM owner AS o WHERE o.epoch = $1 AND NOT o.dead)
     RETURNING p.partition, before.owner";

/// Gives partitions to another owner, if that lives, or else to nobody.
const GIVE: &str = "UPDATE partition SET owner = (SELECT epoch FROM owner WHERE epoch = $3 AND NOT dead), since = clock_timestamp()
     WHERE partition = ANY($2) AND owner = $1";

/// Owners whose leases have not run out, in the columns of [`OWNERS`], each beside what the hub has altogether; that stands alone in its row
/// if there are none. One statement sees all as of one moment.
const SHARING: &str = "SELECT o.epoch, o.host, greatest(extract(epoch FROM clock_timestamp() - o.renewed) * 1000, 0)::bigint,
         ARRAY(SELECT p.partition FROM partition AS p WHERE p.owner = o.epoch ORDER BY p.partition),
         o.commits - (o.host::jsonb ->> 'after')::bigint, hub.partitions,
         (SELECT count(*) FROM partition AS p WHERE NOT EXISTS (SELECT 1 FROM owner AS l
             WHERE l.epoch = p.owner AND NOT l.dead AND l.renewed >= statement_timestamp() - $1::bigint * interval '1 ms'))::smallint,
         (SELECT count(*) FROM (SELECT 1 FROM outbox ORDER BY seq LIMIT $2) AS w)
     FROM hub LEFT JOIN owner AS o ON NOT o.dead AND o.renewed >= statement_timestamp() - $1::bigint * interval '1 ms'
         AND o.renewed <= statement_timestamp() + $1::bigint * interval '1 ms'
     WHERE hub.id = 1";

/// Remote workers that are connected to other owners.
const WORKERS: &str = "SELECT w.owner, w.number, w.offer FROM worker AS w JOIN owner AS o ON o.epoch = w.owner AND NOT o.dead
     WHERE w.owner <> $1 ORDER BY w.owner, w.number";

/// Deletes those of this owner, and of owners that are gone.
const FORGET: &str = "DELETE FROM worker AS w WHERE w.owner = $1 OR NOT EXISTS (SELECT 1 FROM owner AS o WHERE o.epoch = w.owner AND NOT o.dead)";

const OFFER: &str =
    "INSERT INTO worker (owner, number, offer) SELECT $1, * FROM unnest($2::bigint[], $3::text[])";

/// Those of some owners that have no transaction under way.
const UNLOCKED: &str =
    "SELECT epoch FROM owner WHERE epoch = ANY($1::bigint[]) FOR NO KEY UPDATE SKIP LOCKED";

/// How long owners have to renew their leases after the database was away.
const HEARD_OF: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 3_000 });

/// How long a look may take, or be late, or how old the own lease may be, before leases of others mean nothing: not long after that, they would
/// have run out because nobody could renew them.
const STOOD_STILL: Duration = Duration::from_millis(if cfg!(test) { 800 } else { 2_500 });

/// An owner among those of a hub. It asks on a connection of its own.
pub(super) struct Shares {
    address: Address,
    epoch: i64,
    /// How the hub is divided.
    all: Partitions,
    /// What owners on this machine run is recorded beside this file.
    running: PathBuf,
    /// Who had partitions that were taken from the dead, until what ran there is counted.
    former: HashMap<Partition, i64>,
    session: Option<Session>,
    /// Whether the last look failed, and when one succeeded again after that, or after this host or the database stood still.
    fails: bool,
    back_since: Option<Instant>,
    /// When the last look ended.
    looked: Option<Instant>,
    /// The leases of others, by their epochs, and since when each is as it is.
    leases: HashMap<i64, (Silent, Instant)>,
    /// The own lease as this renewed it, and since when the writer has not.
    kept: Option<(Silent, Instant)>,
}

impl Shares {
    pub(super) fn new(address: Address, epoch: i64, own: &Partitions, running: PathBuf) -> Self {
        Self {
            address,
            epoch,
            all: Partitions::all(own.count()),
            running,
            former: HashMap::new(),
            session: None,
            fails: false,
            back_since: None,
            looked: None,
            leases: HashMap::new(),
            kept: None,
        }
    }

    /// Renews the own lease in place of the writer, which waits for a lock of somebody else before its transaction: this process lives, and
    /// reaches the database. A transaction under way has the row already. Not for ever: the writer may hang.
    fn keep_lease(&mut self, living: &[Living]) -> Result<(), StoreError> {
        let own = living.iter().find(|owner| owner.epoch == self.epoch);
        let Some(lease) = own.filter(|own| own.is_late).map(Living::lease) else {
            return Ok(());
        };
        let since = self.kept.filter(|(kept, _)| *kept == lease);
        let since = since.map_or_else(Instant::now, |(_, since)| since);
        if since.elapsed() > KEPT_FOR {
            return Ok(());
        }
        let row = self.session()?.query_opt(KEEP, &[&lease.0])?;
        if let Some(row) = row {
            self.kept = Some(((lease.0, row.try_get(0)?), since));
        }
        // What keeps the writer waiting may keep others.
        self.back_since = Some(Instant::now());
        Ok(())
    }

    /// Owners whose leases have run out, and that have a transaction under way, live: it renews the lease when it ends well. When it does not, they
    /// have as long from then on to renew it as any other.
    fn hear_of_locked(&mut self, living: &[Living]) -> Result<(), StoreError> {
        let others = living.iter().filter(|owner| owner.epoch != self.epoch);
        let stuck: Vec<i64> = others
            .filter(|owner| owner.is_stuck)
            .map(|owner| owner.epoch)
            .collect();
        if stuck.is_empty() {
            return Ok(());
        }
        let rows = self.session()?.query(UNLOCKED, &[&stuck])?;
        let unlocked: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let unlocked = unlocked?;
        for epoch in stuck.iter().filter(|epoch| !unlocked.contains(epoch)) {
            if let Some((_, since)) = self.leases.get_mut(epoch) {
                *since = Instant::now();
            }
        }
        Ok(())
    }

    /// The leases of other owners that count as dead. One that is connected has had time to renew its lease since that was last seen to change: a
    /// transaction that waited for long renews it as of its beginning.
    fn silent(&mut self, living: &[Living]) -> Vec<Silent> {
        let now = Instant::now();
        let others = living.iter().filter(|owner| owner.epoch != self.epoch);
        let mut leases = HashMap::new();
        let mut silent = Vec::new();
        for owner in others {
            let lease = owner.lease();
            let before = self.leases.get(&owner.epoch);
            let since = before.filter(|(before, _)| *before == lease);
            let since = since.map_or(now, |(_, since)| *since);
            leases.insert(owner.epoch, (lease, since));
            if owner.is_silent && (!owner.is_stuck || now - since >= RENEWED_WITHIN) {
                silent.push(lease);
            }
        }
        self.leases = leases;
        silent
    }

    /// The connection; another one, if it was lost.
    pub(super) fn session(&mut self) -> Result<&Session, StoreError> {
        let open = self.session.take().filter(|open| !open.is_lost());
        let session = match open {
            Some(open) => open,
            None => Session::open(&self.address, Purpose::Beside)?,
        };
        Ok(self.session.insert(session))
    }

    /// Whether owners that are silent had time to be heard of. After an outage of the database all of them were, and are not dead.
    fn may_judge(&mut self) -> Result<bool, StoreError> {
        let is_back = self
            .back_since
            .is_none_or(|since| since.elapsed() > HEARD_OF);
        if self.fails || !is_back {
            return Ok(false);
        }
        let sql =
            "SELECT clock_timestamp() - pg_postmaster_start_time() > $1::bigint * interval '1 ms' AND EXISTS
                 (SELECT 1 FROM owner WHERE epoch = $2 AND NOT dead AND renewed > clock_timestamp() - $3::bigint * interval '1 ms')";
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let (heard_of, fresh, epoch) = (ms(HEARD_OF), ms(STOOD_STILL), self.epoch);
        let row = self
            .session()?
            .query_opt(sql, &[&heard_of, &epoch, &fresh])?;
        row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
    }

    fn look_now(&mut self) -> Result<Members, StoreError> {
        let (address, me) = (self.address.clone(), self.epoch);
        let begun = self.looked.unwrap_or_else(Instant::now);
        let living = living(self.session()?, &address)?;
        self.hear_of_locked(&living)?;
        let silent = self.silent(&living);
        self.keep_lease(&living)?;
        if begun.elapsed() > STOOD_STILL {
            // Leases may have run out for that alone.
            self.back_since = Some(Instant::now());
        }
        if !silent.is_empty() && self.may_judge()? {
            let free = |session: &Session| free_the_silent(session, &address, me, &silent);
            for heard_of in self.change(free)? {
                if let Some((_, since)) = self.leases.get_mut(&heard_of) {
                    *since = Instant::now();
                }
            }
        }
        let mut found = self
            .session()?
            .query_all(&[(OWNERS, &[]), (FREE, &[]), (WORKERS, &[&me])])?
            .into_iter();
        let mut next = || found.next().unwrap_or_default();
        let (owners, free, workers) = (next(), next(), next());
        let owners: Vec<Member> = owners.iter().map(member).collect::<Result<_, _>>()?;
        // If this one cannot renew its lease, others may be unable to as well, without being dead.
        let own = owners.iter().find(|owner| owner.epoch == me);
        if own.is_some_and(|own| Duration::from_millis(own.silent_for.0) > STOOD_STILL) {
            self.back_since = Some(Instant::now());
        }
        self.looked = Some(Instant::now());
        Ok(Members {
            me,
            owners,
            free: numbered(&free)?,
            workers: workers.iter().map(worker).collect::<Result<_, _>>()?,
        })
    }

    /// Changes who has what, in a transaction in which nobody else does.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&Session) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lock = lock_of(&self.address);
        let session = self.session()?;
        session.begin()?;
        let changed = session
            .query(LOCK, &[&lock])
            .and_then(|_| change(session))
            .and_then(|done| session.batch("COMMIT").map(|()| done));
        if changed.is_err() {
            // Ends the transaction, if the connection can still do that.
            drop(session.batch("ROLLBACK"));
        }
        changed
    }
}

impl Ownership for Shares {
    fn epoch(&self) -> Option<i64> {
        Some(self.epoch)
    }

    fn announce(&mut self, note: &OwnerNote) -> io::Result<()> {
        let host = serde_json::to_string(note)?;
        let epoch = self.epoch;
        let said = self.session().and_then(|session| {
            session.execute(
                "UPDATE owner SET host = (host::jsonb || ($2::text)::jsonb)::text WHERE epoch = $1 AND NOT dead",
                &[&epoch, &host],
            )
        });
        said.map(drop).map_err(io::Error::other)
    }

    fn look(&mut self) -> Result<Option<Members>, StoreError> {
        if self.all.count() == 1 {
            return Ok(None);
        }
        let found = self.look_now();
        match (&found, self.fails) {
            (Err(_), _) => self.fails = true,
            (Ok(_), true) => (self.fails, self.back_since) = (false, Some(Instant::now())),
            (Ok(_), false) => {}
        }
        found.map(Some)
    }

    fn take(&mut self, which: &[Partition]) -> Result<Vec<Partition>, StoreError> {
        let (epoch, numbers) = (self.epoch, numbers(which));
        let rows = self.change(|session| session.query(TAKE, &[&epoch, &numbers]))?;
        let mut taken = numbered(&rows)?;
        for (row, partition) in rows.iter().zip(&taken) {
            if let Some(former) = row.try_get::<_, Option<i64>>(1)? {
                self.former.insert(*partition, former);
            }
        }
        // In which order an update returns its rows differs between versions of PostgreSQL.
        taken.sort_unstable();
        Ok(taken)
    }

    fn were_running(&mut self, which: &[Partition]) -> WereRunning {
        let mut of: BTreeMap<i64, Vec<Partition>> = BTreeMap::new();
        for one in which {
            if let Some(former) = self.former.get(one) {
                of.entry(*former).or_default().push(*one);
            }
        }
        let mut found = WereRunning::default();
        for (former, partitions) in of {
            if !running::is_complete(&self.running, former) {
                found.unknown.extend(&partitions);
            }
            let mut recorded = running::of_owner(&self.running, former);
            recorded.retain(|was| partitions.contains(&self.all.of_key(was.key)));
            found.known.extend(recorded);
        }
        found
    }

    fn were_counted(&mut self, which: &[Partition]) {
        self.former.retain(|one, _| !which.contains(one));
    }

    fn offer(&mut self, workers: &[(u64, String)]) -> Result<(), StoreError> {
        let epoch = self.epoch;
        let numbers: Vec<i64> = workers.iter().map(|(number, _)| int(*number)).collect();
        let offers: Vec<&str> = workers.iter().map(|(_, offer)| offer.as_str()).collect();
        self.change(|session| {
            session.execute(FORGET, &[&epoch])?;
            session
                .execute(OFFER, &[&epoch, &numbers, &offers])
                .map(drop)
        })
    }

    fn give(&mut self, which: &[Partition], to: Option<i64>) -> Result<(), StoreError> {
        let (epoch, numbers) = (self.epoch, numbers(which));
        self.change(|session| session.execute(GIVE, &[&epoch, &numbers, &to]).map(drop))?;
        // If they come back, somebody else has run them since.
        self.were_counted(which);
        Ok(())
    }
}

fn numbers(which: &[Partition]) -> Vec<i16> {
    which.iter().copied().map(partitions::number).collect()
}

fn numbered(rows: &[Row]) -> Result<Vec<Partition>, StoreError> {
    rows.iter()
        .map(|row| Ok(partitions::partition(row.try_get(0)?)))
        .collect()
}

/// Reads a row of [`WORKERS`].
fn worker(row: &Row) -> Result<OfferedWorker, StoreError> {
    Ok(OfferedWorker {
        host: row.try_get(0)?,
        number: big(row, 1)?,
        offer: row.try_get(2)?,
    })
}

/// Reads a row of [`OWNERS`].
fn member(row: &Row) -> Result<Member, StoreError> {
    let numbers: Vec<i16> = row.try_get(3)?;
    let note = read_note(row.try_get(1)?);
    let transactions: Option<i64> = row.try_get(4)?;
    Ok(Member {
        epoch: row.try_get(0)?,
        note: note.unwrap_or_else(|| OwnerNote {
            pid: 0,
            ..OwnerNote::of_this_process("another process", None)
        }),
        silent_for: Millis(big(row, 2)?),
        transactions: transactions.and_then(|count| u64::try_from(count).ok()),
        partitions: numbers.into_iter().map(partitions::partition).collect(),
    })
}

/// Who shares a hub, as an outsider sees it.
pub(super) fn sharing(
    query: impl FnOnce(&str, &[Param<'_>]) -> Result<Vec<Row>, StoreError>,
) -> Result<Sharing, StoreError> {
    let rows = query(SHARING, &[&TTL_MS, &WAITING_MAX])?;
    let lacks = || StoreError::Corrupt("the task hub lacks a row".to_owned());
    let hub = rows.first().ok_or_else(lacks)?;
    let count = |at| -> Result<u16, StoreError> {
        let count: i16 = hub.try_get(at)?;
        Ok(u16::try_from(count).unwrap_or_default())
    };
    let mut owners = Vec::new();
    for row in &rows {
        if row.try_get::<_, Option<i64>>(0)?.is_some() {
            owners.push(member(row)?);
        }
    }
    owners.sort_by_key(|owner: &Member| owner.epoch);
    Ok(Sharing {
        partitions: count(5)?,
        free: count(6)?,
        waiting: big(hub, 7)?,
        owners,
    })
}
