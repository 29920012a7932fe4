//! Taking a hub over, and reading one without owning it.

use std::path::Path;
use std::time::Duration;

use perennial_core::Timestamp;

use crate::outage::Outage;
use crate::store::StoreError;
use crate::store::flight::FlightRecorder;
use crate::store::owned::{OwnerNote, Share, machine};
use crate::store::partition::Partitions;
use crate::store::postgres::address::Address;
use crate::store::postgres::create::{check_format, create};
use crate::store::postgres::lease::{Lease, TTL_MS, Taken, read_note, take};
use crate::store::postgres::members::Shares;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::reads::PostgresReader;
use crate::store::postgres::running;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::settings;
use crate::store::postgres::writer::PostgresWriter;
use crate::store::reads::Reader;
use crate::store::writer::Writer;

/// How often a lease is looked at that another owner holds.
const LOOK_EVERY: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 200 });

/// A hub that this process owns.
pub(in crate::store) struct Owned {
    pub(in crate::store) writer: PostgresWriter,
    pub(in crate::store) reader: Pool,
    /// Whether this call created the hub.
    pub(in crate::store) made: bool,
    #[cfg(test)]
    pub(in crate::store) epoch: i64,
    /// What was taken.
    first: First,
}

/// What an owner begins with.
struct First {
    own: Partitions,
    lease: Lease,
    /// The owners that died.
    former: Vec<OwnerNote>,
}

/// Takes over a share of a hub; creates the hub if it does not exist. While another owner lives that has something of that share, asks `waits`,
/// with that owner, whether to go on waiting. `what` describes this process to people.
///
/// # Errors
/// [`StoreError::Owned`] if the other one still lives after that, and those of [`create`].
pub(in crate::store) fn take_over(
    address: &Address,
    now: Timestamp,
    what: &str,
    share: Share,
    waits: &dyn Fn(&str) -> bool,
) -> Result<Owned, StoreError> {
    let made = create(address, now)?;
    let note = OwnerNote {
        machine: machine(),
        ..OwnerNote::of_this_process(what, None)
    };
    let (session, first) = wait_for_lease(address, &note, share, waits)?;
    settings::warn(&session);
    Ok(Owned {
        writer: PostgresWriter::start(address.clone(), session, first.lease, first.own)?,
        reader: Pool::new(address.clone()),
        made,
        #[cfg(test)]
        epoch: first.lease.epoch,
        first,
    })
}

/// Takes a share of a hub, once nobody else owns anything of it. Who waits goes on waiting while the database is away.
fn wait_for_lease(
    address: &Address,
    note: &OwnerNote,
    share: Share,
    waits: &dyn Fn(&str) -> bool,
) -> Result<(Session, First), StoreError> {
    let (mut open, mut last) = (None::<Session>, None::<String>);
    let outage = Outage::new();
    loop {
        let session = match open.take().filter(|session| !session.is_lost()) {
            Some(session) => Ok(session),
            None => Session::open(address, Purpose::Write),
        };
        let taken =
            session.and_then(|session| Ok((take(&session, address, note, share)?, session)));
        let error = match taken {
            Ok((Taken::Lease { lease, own, former }, session)) => {
                return Ok((session, First { own, lease, former }));
            }
            Ok((Taken::By(owner), _)) if !waits(&owner) => return Err(StoreError::Owned(owner)),
            Ok((Taken::By(owner), session)) => {
                (open, last) = (Some(session), Some(owner));
                if let Some(unsaid) = outage.succeeded() {
                    tracing::info!(unsaid, "the database can be reached again");
                }
                None
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            let goes_on = last.as_ref().is_some_and(|owner| waits(owner));
            if !error.is_away() || !goes_on {
                return Err(error);
            }
            if let Some(unsaid) = outage.failed() {
                tracing::warn!(%error, unsaid, "the database cannot be reached; this host still waits to take the task hub over");
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Takes a hub over as [`take_over`] does. What runs is recorded in a file of this machine.
pub(in crate::store) fn owned(
    address: &Address,
    running: &Path,
    now: Timestamp,
    what: &str,
    share: Share,
    waits: &dyn Fn(&str) -> bool,
) -> Result<crate::store::Owned, StoreError> {
    if let Some(dir) = running.parent() {
        std::fs::create_dir_all(dir)
            .map_err(StoreError::file("could not create the directory", dir))?;
    }
    let Owned {
        writer,
        reader,
        made,
        first: First { own, lease, former },
        ..
    } = take_over(address, now, what, share, waits)?;
    let is_shared = share == Share::Joined && own.count() > 1;
    if is_shared {
        let ended = ended_of(address, &running::epochs(running))?;
        running::remove_all(running, &ended)?;
    }
    let (flight, mut were_running) = FlightRecorder::open(match is_shared {
        true => running::file_of(running, lease.epoch),
        false => running.to_owned(),
    })?;
    // If the last owner ran elsewhere, what this machine recorded is of an owner before that one.
    if !former.iter().any(OwnerNote::is_here) {
        were_running.clear();
    }
    were_running.retain(|was| own.has_key(was.key));
    let reader = Reader::new(PostgresReader::new(reader, Some(running.to_owned())));
    Ok(crate::store::Owned {
        owner: Box::new(Shares::new(
            address.clone(),
            lease.epoch,
            &own,
            running.to_owned(),
        )),
        partitions: own,
        is_shared,
        first_key: match own.count() {
            1 => reader.last_key()?.0 + 1,
            _ => lease.first_key()?,
        },
        writer: Writer::new(writer),
        reader,
        flight,
        were_running,
        made,
    })
}

/// How many owners are named where a hub is in use.
const NAMED_MAX: usize = 5;

/// The owners of a hub that live, for people; `None` if there are none, or there is no hub.
pub(in crate::store) fn owners_now(address: &Address) -> Result<Option<String>, StoreError> {
    let session = Session::open(address, Purpose::Beside)?;
    match check_format(&session, address) {
        Err(StoreError::Missing(_)) => return Ok(None),
        checked => checked?,
    }
    let sql = "SELECT host FROM owner WHERE NOT dead AND renewed >= clock_timestamp() - $1::bigint * interval '1 ms' ORDER BY epoch";
    let rows = session.query(sql, &[&TTL_MS])?;
    let mut owners = Vec::new();
    for row in &rows {
        let note = read_note(row.try_get(0)?);
        owners.push(note.map_or_else(|| "another process".to_owned(), |note| note.to_string()));
    }
    Ok((!owners.is_empty()).then(|| named(&owners)))
}

/// Some of them, and how many more there are.
fn named(owners: &[String]) -> String {
    let (named, more) = owners.split_at(owners.len().min(NAMED_MAX));
    let more = match more.len() {
        0 => None,
        more => Some(format!("{more} more")),
    };
    let mut names: Vec<&str> = named.iter().map(String::as_str).collect();
    names.extend(more.as_deref());
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.concat(),
    }
}

/// Which of some owners are gone, and had nothing that nobody has taken yet.
fn ended_of(address: &Address, among: &[i64]) -> Result<Vec<i64>, StoreError> {
    let sql = "SELECT e.epoch FROM unnest($1::bigint[]) AS e (epoch)
         WHERE NOT EXISTS (SELECT 1 FROM owner AS o WHERE o.epoch = e.epoch AND NOT o.dead)
             AND NOT EXISTS (SELECT 1 FROM partition AS p WHERE p.owner = e.epoch)";
    if among.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Session::open(address, Purpose::Beside)?.query(sql, &[&among])?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Reads a hub without owning it. `running` is where an owner on this machine records what runs.
///
/// # Errors
/// [`StoreError::Missing`] if there is none, and those of another format.
pub(in crate::store) fn open_reader(
    address: &Address,
    running: &Path,
) -> Result<Reader, StoreError> {
    check_format(&Session::open(address, Purpose::Read)?, address)?;
    let pool = Pool::new(address.clone());
    Ok(Reader::new(PostgresReader::new(
        pool,
        Some(running.to_owned()),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Place;
    use crate::store::postgres::testing::server;

    #[test]
    fn who_would_delete_or_compact_a_hub_that_hosts_run_is_told_which() {
        let Some(server) = server() else { return };
        let address = server.fresh();
        assert_eq!(owners_now(&server.address("nowhere")).unwrap(), None);
        assert_eq!(owners_now(&address).unwrap(), None);
        let session = Session::open(&address, Purpose::Manage).unwrap();
        let join = |epoch: i64| {
            let note = OwnerNote::of_this_process(&format!("host {epoch}"), None);
            let note = serde_json::to_string(&note).unwrap();
            let sql = "INSERT INTO owner (epoch, host, commits, renewed) VALUES ($1, $2, 0, clock_timestamp())";
            session.execute(sql, &[&epoch, &note]).unwrap();
        };
        let place = Place::Postgres(Box::new(address), "/nowhere/running".into(), Share::All);
        let refused = |done: Result<(), StoreError>| match done {
            Err(StoreError::Owned(by)) => by.replace(&std::process::id().to_string(), "1"),
            other => panic!("{other:?}"),
        };
        (1..=3).for_each(join);
        let all = "host 1 (process 1), host 2 (process 1) and host 3 (process 1)";
        assert_eq!(refused(place.delete(false)), all);
        assert_eq!(refused(place.compact().map(drop)), all);
        (4..=7).for_each(join);
        let some = refused(place.delete(false));
        assert!(some.ends_with(", host 5 (process 1) and 2 more"), "{some}");
    }

    #[test]
    fn owners_are_named_up_to_a_few() {
        let owners =
            |count: usize| -> Vec<String> { (1..=count).map(|n| format!("h{n}")).collect() };
        assert_eq!(named(&owners(1)), "h1");
        assert_eq!(named(&owners(2)), "h1 and h2");
        assert_eq!(named(&owners(5)), "h1, h2, h3, h4 and h5");
        assert_eq!(named(&owners(6)), "h1, h2, h3, h4, h5 and 1 more");
        assert_eq!(named(&owners(9)), "h1, h2, h3, h4, h5 and 4 more");
    }
}
