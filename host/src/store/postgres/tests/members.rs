//! Owners that share a hub.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use perennial_core::{Digest, Timestamp};

use crate::store::memory::Memory;
use crate::store::memory::delta::Delta;
use crate::store::outbox::{OutboxMessage, Sent};
use crate::store::owned::{Member, Members, OwnerNote, Ownership, Share};
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::address::Address;
use crate::store::postgres::copy::Copy;
use crate::store::postgres::lease::{LOCK, RENEWED_WITHIN, TTL, lock_of};
use crate::store::postgres::members::Shares;
use crate::store::postgres::owned::{Owned, take_over};
use crate::store::postgres::pool::Pool;
use crate::store::postgres::reads::PostgresReader;
use crate::store::postgres::running::file_of;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::{Server, server, steadily};
use crate::store::postgres::tests::rows::{BOUND, Dice, fill};
use crate::store::reads::Reader;
use crate::store::tests::{MODULE, event, new};
use crate::store::types::Ages;
use crate::store::writer::Writes as _;
use crate::store::{Change, FlightRecorder, InstanceKey, Outcome, StoreError, Write};

const COUNT: u16 = 4;

fn join(address: &Address, share: Share) -> Owned {
    take_over(address, Timestamp(1_000), "a test", share, &|_| false).unwrap()
}

fn some(own: &[u16]) -> Partitions {
    Partitions::some(COUNT, own.iter().copied().map(Partition))
}

fn all(own: &[u16]) -> Vec<Partition> {
    own.iter().copied().map(Partition).collect()
}

fn shares(address: &Address, owned: &Owned) -> Shares {
    shares_beside(address, owned, PathBuf::new())
}

/// Records of what runs are beside this file.
fn shares_beside(address: &Address, owned: &Owned, running: PathBuf) -> Shares {
    Shares::new(address.clone(), owned.epoch, &some(&[]), running)
}

/// A hub with four partitions, and a module.
fn hub(server: &Server) -> (Address, Session) {
    let address = server.divided(COUNT);
    let session = Session::open(&address, Purpose::Manage).unwrap();
    let sql = "INSERT INTO module (digest, component, contract, definitions, imports, stored_at)
         VALUES ($1, '\\x00', '0.1', '[]', '[]', 0)";
    session.execute(sql, &[&&MODULE.0[..]]).unwrap();
    (address, session)
}

fn write(owned: &Owned, change: Change) -> Result<Outcome, StoreError> {
    let (tell, told) = mpsc::channel();
    let write = Write::new(change, Timestamp(2_000), move |_, result| {
        drop(tell.send(result))
    });
    owned.writer.submit_or_commit(write);
    told.recv().unwrap()
}

fn look(shares: &mut Shares) -> Members {
    shares.look().unwrap().unwrap()
}

fn has(members: &Members, owned: &Owned) -> Vec<Partition> {
    let found = members.owners.iter().find(|of| of.epoch == owned.epoch);
    found.map(|of| of.partitions.clone()).unwrap()
}

#[test]
fn owners_take_what_nobody_has_and_give_it_away() {
    steadily(owners_take_and_give);
}

fn owners_take_and_give() {
    let Some(server) = server() else { return };
    let (address, _session) = hub(server);
    let (one, other) = (join(&address, Share::Joined), join(&address, Share::Joined));
    let (mut first, mut second) = (shares(&address, &one), shares(&address, &other));
    let members = look(&mut first);
    assert_eq!(members.me, one.epoch);
    assert_eq!(
        (members.owners.len(), members.free),
        (2, all(&[0, 1, 2, 3]))
    );
    assert_eq!(first.take(&all(&[0, 1, 2])).unwrap(), all(&[0, 1, 2]));
    assert_eq!(second.take(&all(&[2, 3])).unwrap(), all(&[3]));
    // Only what one has can be given by it.
    second.give(&all(&[0, 3]), None).unwrap();
    first.give(&all(&[2]), Some(other.epoch)).unwrap();
    let members = look(&mut second);
    assert_eq!(has(&members, &one), all(&[0, 1]));
    assert_eq!(has(&members, &other), all(&[2]));
    assert_eq!(members.free, all(&[3]));
    // Nobody has what is given to an owner that is gone.
    drop(other);
    first.give(&all(&[1]), Some(members.me)).unwrap();
    let members = look(&mut first);
    assert_eq!((members.owners.len(), members.free), (1, all(&[1, 2, 3])));
}

#[test]
fn an_owner_says_who_it_is_and_what_it_lacks() {
    let Some(server) = server() else { return };
    let (address, _) = hub(server);
    let owned = join(&address, Share::Joined);
    let mut shares = shares(&address, &owned);
    let note = OwnerNote {
        lacks: Some("memory".to_owned()),
        ..OwnerNote::of_this_process("the host", None)
    };
    shares.announce(&note).unwrap();
    let members = look(&mut shares);
    let [Member { note, .. }] = &members.owners[..] else {
        panic!("{members:?}")
    };
    assert_eq!(note.what, "the host");
    assert_eq!(note.lacks.as_deref(), Some("memory"));
    assert!(note.machine.is_some());
    let recovered = OwnerNote::of_this_process("the host", None);
    shares.announce(&recovered).unwrap();
    assert_eq!(look(&mut shares).owners[0].note.lacks, None);
}

#[test]
fn outsiders_see_who_shares_a_hub_and_what_nobody_has() {
    steadily(outsiders_see_who_shares_a_hub);
}

fn outsiders_see_who_shares_a_hub() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let reader = Reader::new(PostgresReader::new(Pool::new(address.clone()), None));
    let sharing = || reader.sharing().unwrap().unwrap();
    let seen = sharing();
    assert_eq!((seen.partitions, seen.free, seen.waiting), (4, 4, 0));
    assert!(seen.owners.is_empty());

    let (one, other) = (join(&address, Share::Joined), join(&address, Share::Joined));
    shares(&address, &one).take(&all(&[0, 3])).unwrap();
    shares(&address, &other).take(&all(&[1])).unwrap();
    write(&one, Change::Retain(Ages::default())).unwrap();
    let sql = "INSERT INTO outbox (partition, body) SELECT 1, '' FROM generate_series(1, $1)";
    session.execute(sql, &[&3]).unwrap();
    let seen = sharing();
    assert_eq!((seen.partitions, seen.free, seen.waiting), (4, 1, 3));
    let [first, second] = &seen.owners[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((first.epoch, &first.partitions), (one.epoch, &all(&[0, 3])));
    assert_eq!(
        (second.epoch, &second.partitions),
        (other.epoch, &all(&[1]))
    );
    assert_eq!(
        (first.transactions, second.transactions),
        (Some(1), Some(0))
    );
    assert_eq!(first.note.what, "a test");

    // More are not counted, and whose lease has run out is not taken for dead.
    session.execute(sql, &[&10_000]).unwrap();
    drop(other);
    let sql = "INSERT INTO owner (epoch, host, commits, version, renewed)
         VALUES (7, '{}', 0, 0, clock_timestamp() - interval '1 hour')";
    session.execute(sql, &[]).unwrap();
    session
        .execute("UPDATE partition SET owner = 7 WHERE partition = 1", &[])
        .unwrap();
    let seen = sharing();
    assert_eq!((seen.free, seen.waiting, seen.owners.len()), (2, 10_000, 1));
    let dead = session.query_opt("SELECT dead FROM owner WHERE epoch = 7", &[]);
    assert!(!dead.unwrap().unwrap().get::<_, bool>(0));
}

#[test]
fn an_owner_whose_transaction_waits_for_long_is_not_dead() {
    steadily(an_owner_whose_transaction_waits);
}

fn an_owner_whose_transaction_waits() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let (one, other) = (join(&address, Share::Joined), join(&address, Share::Joined));
    let mut first = shares(&address, &one);
    let begun = Instant::now();
    // As a transaction that waits for a lock of somebody else, for longer than a lease lasts.
    session.batch("BEGIN").unwrap();
    let renews = "UPDATE owner SET renewed = clock_timestamp() WHERE epoch = $1";
    session.execute(renews, &[&other.epoch]).unwrap();
    while begun.elapsed() < TTL + RENEWED_WITHIN * 3 {
        assert_eq!(look(&mut first).owners.len(), 2);
    }
    session.batch("COMMIT").unwrap();
    // What it renewed is old already. From now on it renews its lease as before.
    let begun = Instant::now();
    while begun.elapsed() < RENEWED_WITHIN * 3 {
        assert_eq!(look(&mut first).owners.len(), 2);
    }
    write(&other, Change::Join(all(&[]))).unwrap();
}

/// Adds an owner that stands still, with its connection.
fn stands_still(session: &Session, address: &Address) {
    let owner =
        "INSERT INTO owner (epoch, host, commits, renewed) VALUES (7, '{}', 0, clock_timestamp())";
    session.execute(owner, &[]).unwrap();
    let holds = "SELECT pg_advisory_lock(hashtextextended($1, 0))";
    let name = format!("{}/7", address.schema());
    session.query(holds, &[&name]).unwrap();
}

#[test]
fn an_owner_whose_transaction_fails_after_long_has_time_to_renew_its_lease() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let one = join(&address, Share::Joined);
    let mut first = shares(&address, &one);
    // One that is connected, and whose transaction waits for longer than a lease lasts.
    stands_still(&session, &address);
    session
        .batch("BEGIN; UPDATE owner SET renewed = clock_timestamp() WHERE epoch = 7")
        .unwrap();
    let begun = Instant::now();
    while begun.elapsed() < TTL + RENEWED_WITHIN * 3 {
        assert_eq!(look(&mut first).owners.len(), 2);
    }
    let locked = Instant::now();
    look(&mut first);
    session.batch("ROLLBACK").unwrap();
    let owners = look(&mut first).owners.len();
    // A machine that stood still says nothing.
    assert!(owners == 2 || locked.elapsed() >= RENEWED_WITHIN);
    while look(&mut first).owners.len() == 2 {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn an_owner_whose_writer_waits_keeps_its_lease_as_long_as_it_looks() {
    steadily(an_owner_whose_writer_waits);
}

fn an_owner_whose_writer_waits() {
    let Some(server) = server() else { return };
    let (address, _session) = hub(server);
    let (one, other) = (join(&address, Share::Joined), join(&address, Share::Joined));
    let (mut first, mut second) = (shares(&address, &one), shares(&address, &other));
    // It renews nothing meanwhile.
    let (lets, goes_on) = mpsc::channel::<()>();
    let change = Change::Join(all(&[]));
    let waits = Write::new(change, Timestamp(2_000), move |_, _| _ = goes_on.recv());
    one.writer.submit_or_commit(waits);
    let begun = Instant::now();
    while begun.elapsed() < TTL * 2 {
        look(&mut first);
        assert_eq!(look(&mut second).owners.len(), 2);
    }
    while look(&mut second).owners.len() == 2 {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    drop(lets);
}

#[test]
fn an_owner_whose_writer_waits_and_that_does_not_look_keeps_its_lease() {
    steadily(an_owner_whose_writer_waits_and_that_does_not_look);
}

fn an_owner_whose_writer_waits_and_that_does_not_look() {
    let Some(server) = server() else { return };
    let (address, _session) = hub(server);
    let (one, other) = (join(&address, Share::Joined), join(&address, Share::Joined));
    // What tells others keeps the lease too. Who looks may be waiting for the writer.
    one.writer.when_sent(Arc::new(|| {}));
    let mut second = shares(&address, &other);
    let (lets, goes_on) = mpsc::channel::<()>();
    let change = Change::Join(all(&[]));
    let waits = Write::new(change, Timestamp(2_000), move |_, _| _ = goes_on.recv());
    one.writer.submit_or_commit(waits);
    let begun = Instant::now();
    while begun.elapsed() < TTL * 3 {
        assert_eq!(look(&mut second).owners.len(), 2);
    }
    drop(lets);
}

#[test]
fn an_owner_that_is_connected_and_renews_nothing_is_dead_once_its_lease_has_run_out() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let one = join(&address, Share::Joined);
    let mut first = shares(&address, &one);
    // It stands still, with its connection.
    let begun = Instant::now();
    stands_still(&session, &address);
    while look(&mut first).owners.len() == 2 {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert!(begun.elapsed() >= TTL);
}

#[test]
fn the_lease_of_a_dead_owner_runs_out_though_the_clock_of_the_database_was_set_back() {
    steadily(the_clock_of_the_database_was_set_back);
}

fn the_clock_of_the_database_was_set_back() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let one = join(&address, Share::Joined);
    let mut first = shares(&address, &one);
    let dead = "INSERT INTO owner (epoch, host, commits, renewed) VALUES (7, '{}', 0, clock_timestamp() + interval '1 hour')";
    session.execute(dead, &[]).unwrap();
    let begun = Instant::now();
    assert_eq!(look(&mut first).owners.len(), 2, "it may live");
    while look(&mut first).owners.len() == 2 {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn what_a_dead_owner_had_is_free_and_it_writes_nothing_more() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let (one, other) = (join(&address, Share::Joined), join(&address, Share::Joined));
    let dir = tempfile::tempdir().unwrap();
    let running = dir.path().join("hub.running");
    let mut first = shares_beside(&address, &one, running.clone());
    let mut second = shares(&address, &other);
    let (flight, _) = FlightRecorder::open(file_of(&running, other.epoch)).unwrap();
    second.take(&all(&[1, 2])).unwrap();
    for (slot, partition) in [(0, 1), (1, 2), (2, 3)] {
        let (key, _) = Partitions::keys(Partition(partition));
        flight.begin(slot, key, None, Timestamp(1));
    }
    write(&other, Change::Join(all(&[1, 2]))).unwrap();
    let declares = "UPDATE owner SET dead = true WHERE epoch = $1";
    session.execute(declares, &[&other.epoch]).unwrap();
    assert_eq!(look(&mut first).owners.len(), 1);
    assert_eq!(look(&mut first).free, all(&[0, 1, 2, 3]));
    assert!(matches!(
        write(&other, Change::Leave(all(&[1]))),
        Err(StoreError::Fenced)
    ));
    // The dead take nothing.
    assert_eq!(second.take(&all(&[0])).unwrap(), all(&[]));
    // What ran in what is taken from it is told.
    for partition in [1, 3, 2] {
        let taken = all(&[partition]);
        assert_eq!(first.take(&taken).unwrap(), taken);
        let ran = first.were_running(&taken);
        // Its file is here, and of this boot.
        assert!(ran.unknown.is_empty() || partition == 3, "{ran:?}");
        let ran: Vec<_> = ran
            .known
            .iter()
            .map(|was| Partitions::all(COUNT).of_key(was.key))
            .collect();
        // The third one was never its own.
        let expected = if partition == 3 {
            all(&[])
        } else {
            taken.clone()
        };
        assert_eq!(ran, expected);
        // Until it is counted, whatever fails meanwhile.
        assert_eq!(first.were_running(&taken).known.len(), ran.len());
        first.were_counted(&taken);
        let counted = first.were_running(&taken);
        assert!(counted.known.is_empty() && counted.unknown.is_empty());
    }
}

#[test]
fn who_takes_all_waits_for_all_others_and_who_takes_some_only_for_theirs() {
    steadily(who_takes_all_waits_for_all_others);
}

fn who_takes_all_waits_for_all_others() {
    let Some(server) = server() else { return };
    let (address, _session) = hub(server);
    let one = join(&address, Share::Some(some(&[0, 1])));
    let other = join(&address, Share::Some(some(&[3])));
    let take = |share| take_over(&address, Timestamp(1_000), "a test", share, &|_| false);
    for share in [Share::All, Share::Some(some(&[1, 2]))] {
        assert!(matches!(take(share), Err(StoreError::Owned(_))));
    }
    drop(one);
    drop(take(Share::Some(some(&[1, 2]))).unwrap());
    assert!(matches!(take(Share::All), Err(StoreError::Owned(_))));
    drop(other);
    drop(take(Share::All).unwrap());
}

/// The key of an instance in its partition.
fn key_of(id: &str, number: i64) -> InstanceKey {
    Partitions::all(COUNT).key(id, number)
}

fn reader(
    owned: Owned,
    of: Partitions,
) -> (Reader, crate::store::postgres::writer::PostgresWriter) {
    let reader = Reader::new(PostgresReader::new(owned.reader, None)).within(of);
    (reader, owned.writer)
}

#[test]
fn what_one_owner_sends_another_one_is_told_of_and_receives_once() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let all = Partitions::all(COUNT);
    let in_zero = |id: &String| all.of_id(id) == Partition(0);
    let mut ids = (0..).map(|n| format!("i{n}")).filter(in_zero);
    let id = ids.next().unwrap();
    let sender = join(&address, Share::Some(some(&[1, 2, 3])));
    let receiver = join(&address, Share::Some(some(&[0])));
    let (tell, told) = mpsc::channel();
    receiver.writer.when_sent(Arc::new(move || {
        let _ = tell.send(());
    }));
    sender.writer.when_sent(Arc::new(|| {}));
    let key = key_of(&id, 7).0;
    write(&receiver, Change::Start(new(key, &id))).unwrap();
    let message = OutboxMessage::Deliver {
        key: InstanceKey(key),
        message: event("1"),
    };
    // Whoever receives a message for an instance elsewhere passes it on.
    let sent = Sent { seq: 0, message };
    let insert =
        "INSERT INTO outbox (seq, partition, body) OVERRIDING SYSTEM VALUE VALUES (0, 1, $1)";
    let body = crate::store::encode(&sent.message).unwrap();
    session.execute(insert, &[&body]).unwrap();
    write(&sender, Change::Receive(vec![sent.clone()])).unwrap();
    // It is gone, so that nothing happens the second time.
    write(&sender, Change::Receive(vec![sent])).unwrap();
    let (reader, writer) = reader(receiver, some(&[0]));
    let found = loop {
        told.recv_timeout(Duration::from_secs(60)).unwrap();
        let found = reader.outbox(10).unwrap();
        if !found.is_empty() {
            break found;
        }
    };
    assert_eq!(found.len(), 1);
    let count = |sql: &str| -> i64 { session.query(sql, &[]).unwrap()[0].get(0) };
    for received in [0, 0] {
        let (tell, done) = mpsc::channel();
        let change = Change::Receive(found.clone());
        let job = Write::new(change, Timestamp(2_000), move |_, result| {
            drop(tell.send(result))
        });
        writer.submit_or_commit(job);
        done.recv().unwrap().unwrap();
        assert_eq!(count("SELECT count(*) FROM outbox"), received);
        assert_eq!(count("SELECT count(*) FROM inbox"), 2);
    }
}

#[test]
fn an_owner_that_stops_between_two_requests_loses_the_lock_of_the_hub_and_goes_on_later() {
    steadily(an_owner_that_stops_between_two_requests);
}

fn an_owner_that_stops_between_two_requests() {
    let Some(server) = server() else { return };
    let (address, _session) = hub(server);
    let (one, other) = (join(&address, Share::Joined), join(&address, Share::Joined));
    let (mut first, mut second) = (shares(&address, &one), shares(&address, &other));
    let stopped = first.session().unwrap();
    stopped.begin().unwrap();
    let begun = Instant::now();
    stopped.query(LOCK, &[&lock_of(&address)]).unwrap();
    assert_eq!(second.take(&all(&[0])).unwrap(), all(&[0]));
    // It has waited for that, and for less than its own statement may wait for a lock.
    let waited = begun.elapsed();
    assert!(waited > Duration::from_secs(1), "{waited:?}");
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    // This may be the first to hear of the end of its connection.
    let taken = first.take(&all(&[0, 1]));
    let taken = taken.or_else(|_| first.take(&all(&[0, 1])));
    assert_eq!(taken.unwrap(), all(&[1]));
    assert_eq!(has(&look(&mut second), &one), all(&[1]));
}

#[test]
fn a_module_that_another_owner_uses_is_not_deleted() {
    let mut memory = Memory::default();
    let Some(mut copy) = Copy::of(&memory, BOUND) else {
        return;
    };
    fill(&mut memory, &mut Dice(3));
    copy.write(&memory.take_delta());
    let mut refused = 0;
    for byte in [0, 7, 255] {
        let digest = Digest([byte; 32]);
        let is_used = memory.modules_of(|_| true).contains(&digest);
        memory.modules.remove(&digest);
        let delta = Delta {
            own: some(&[1]),
            ..memory.take_delta()
        };
        assert_eq!(copy.try_write(&delta).is_err(), is_used, "{digest}");
        refused += usize::from(is_used);
    }
    assert!((1..3).contains(&refused), "{refused}");
}

#[test]
fn a_message_that_cannot_be_read_keeps_only_its_partition_waiting_and_a_check_names_it() {
    let Some(server) = server() else { return };
    let (address, session) = hub(server);
    let insert = "INSERT INTO outbox (partition, body) VALUES (1, '\\x01'), (2, '\\x01')";
    session.batch(insert).unwrap();
    let reader = Reader::new(PostgresReader::new(Pool::new(address.clone()), None));
    assert!(reader.outbox(10).unwrap().is_empty());
    let found = crate::store::postgres::integrity::integrity(&address, 10).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("to partition 1 keeps"), "{found:?}");
    let one = crate::store::postgres::integrity::integrity(&address, 1);
    assert_eq!(one.unwrap().len(), 1);
}

/// What makes a hub of this version one of format 1.
const BACK: &str = "ALTER TABLE owner DROP COLUMN at; ALTER TABLE owner DROP COLUMN version; ALTER TABLE owner DROP COLUMN url;
     ALTER TABLE command DROP COLUMN partition; DROP TABLE outbox; DROP TABLE worker; UPDATE hub SET format = 1";

#[test]
fn the_next_owner_of_a_hub_of_format_1_upgrades_it_and_it_keeps_one_partition() {
    let Some(server) = server() else { return };
    let address = server.fresh();
    let session = Session::open(&address, Purpose::Manage).unwrap();
    session.batch(BACK).unwrap();
    let insert =
        "INSERT INTO owner (epoch, host, commits, renewed) VALUES (5, '{}', 3, clock_timestamp())";
    session.batch(insert).unwrap();
    // It waits for an owner of the version before, whatever it wants: this one lives for as long as its transaction is under way.
    let busy = Session::open(&address, Purpose::Manage).unwrap();
    busy.batch("BEGIN; SELECT 1 FROM owner FOR UPDATE").unwrap();
    let take = |share| take_over(&address, Timestamp(1_000), "a test", share, &|_| false);
    assert!(matches!(take(Share::Joined), Err(StoreError::Owned(_))));
    busy.batch("COMMIT").unwrap();
    session.batch("DELETE FROM owner").unwrap();
    let owned = take(Share::Joined).unwrap();
    let count = |sql: &str| -> i64 { session.query(sql, &[]).unwrap()[0].get(0) };
    assert_eq!(
        count("SELECT count(*) FROM partition WHERE owner IS NOT NULL"),
        1
    );
    assert_eq!(
        count("SELECT partitions::bigint FROM hub WHERE format = 2"),
        1
    );
    assert_eq!(count("SELECT count(*) FROM outbox"), 0);
    // Nobody shares it.
    assert!(matches!(take(Share::Joined), Err(StoreError::Owned(_))));
    drop(owned);
    drop(take(Share::All).unwrap());
    assert!(
        crate::store::postgres::integrity::integrity(&address, 10)
            .unwrap()
            .is_empty()
    );
}
