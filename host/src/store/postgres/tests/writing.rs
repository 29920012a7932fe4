//! The writer: batches, fences, leases, what it sends.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use perennial_core::{Command, Timestamp};

use crate::store::owned::{OwnerNote, Share};
use crate::store::postgres::address::Address;
use crate::store::postgres::lease::{Taken, take};
use crate::store::postgres::owned::{Owned, take_over};
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::{Server, server, steadily};
use crate::store::tests::{MODULE, event, first_turn, new, turn_change};
use crate::store::writer::Writes as _;
use crate::store::{Change, Outcome, Reply, StoreError, Write};

/// A hub and its owner, and another connection to it.
pub(super) struct Hub {
    pub(super) address: Address,
    pub(super) owned: Owned,
}

pub(super) fn own(address: &Address, wait: Duration) -> Result<Owned, StoreError> {
    let until = Instant::now() + wait;
    take_over(address, Timestamp(1_000), "a test", Share::All, &|_| {
        Instant::now() < until
    })
}

fn a_note(what: &str) -> OwnerNote {
    OwnerNote::of_this_process(what, None)
}

impl Hub {
    pub(super) fn new(server: &Server) -> Self {
        let address = server.fresh();
        let owned = own(&address, Duration::ZERO).unwrap();
        let hub = Self { address, owned };
        let sql =
            "INSERT INTO module (digest, component, contract, definitions, imports, stored_at)
             VALUES ($1, '\\x00', '0.1', '[]', '[]', 0)";
        hub.other().execute(sql, &[&&MODULE.0[..]]).unwrap();
        hub
    }

    /// Another connection.
    pub(super) fn other(&self) -> Session {
        Session::open(&self.address, Purpose::Manage).unwrap()
    }

    pub(super) fn count(&self, sql: &str) -> i64 {
        self.other().query_opt(sql, &[]).unwrap().unwrap().get(0)
    }

    pub(super) fn submit(&self, change: Change) -> Receiver<Result<Outcome, StoreError>> {
        self.submit_as(change, None)
    }

    fn submit_as(
        &self,
        change: Change,
        token: Option<&str>,
    ) -> Receiver<Result<Outcome, StoreError>> {
        let (tell, told) = mpsc::channel();
        let mut write = Write::new(change, Timestamp(2_000), move |_, result| {
            drop(tell.send(result))
        });
        if let Some(token) = token {
            write = write.answering(token.to_owned());
        }
        self.owned.writer.submit_or_commit(write);
        told
    }

    pub(super) fn write(&self, change: Change) -> Result<Outcome, StoreError> {
        self.submit(change).recv().unwrap()
    }

    pub(super) fn does(&self, change: Change) {
        assert_eq!(self.write(change).unwrap().reply, Reply::Done);
    }

    /// Keeps the writer's thread until the end of the scope of what this returns.
    fn hold(&self) -> mpsc::Sender<()> {
        let (free, freed) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let wait = move |_, _| {
            tell.send(()).unwrap();
            let _ = freed.recv();
        };
        self.owned.writer.submit_or_commit(Write::new(
            Change::Answer(Reply::Done),
            Timestamp(2_000),
            wait,
        ));
        told.recv().unwrap();
        free
    }
}

pub(super) fn start(key: i64) -> Change {
    Change::Start(new(key, &format!("i{key}")))
}

pub(super) fn raise(key: i64, data: &str) -> Change {
    Change::Deliver {
        id: format!("i{key}"),
        command: Command::RaiseEvent,
        message: event(data),
    }
}

#[test]
fn a_batch_is_one_transaction_of_a_few_statements_and_no_reads() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    let faults = hub.owned.writer.faults();
    let spent = || {
        (
            faults.round_trips.load(Ordering::Relaxed),
            faults.sent.load(Ordering::Relaxed),
            faults.statements.load(Ordering::Relaxed),
        )
    };
    hub.does(start(1));
    hub.does(start(2));
    let before = spent();
    hub.does(raise(1, "1"));
    let after = spent();
    // Begin, claim, the row of the instance, its message, and the end.
    assert_eq!(
        (after.0 - before.0, after.1 - before.1, after.2 - before.2),
        (0, 1, 5)
    );
    let free = hub.hold();
    let before = spent();
    let waiting: Vec<_> = (3..103)
        .map(|key| hub.submit(turn_change(first_turn(new(key, &format!("i{key}"))))))
        .collect();
    drop(free);
    for told in waiting {
        told.recv().unwrap().unwrap();
    }
    let after = spent();
    // One look for the ids; begin, claim, instances, turns, end.
    assert_eq!(
        (after.0 - before.0, after.1 - before.1, after.2 - before.2),
        (1, 1, 5)
    );
    assert_eq!(hub.count("SELECT count(*) FROM turn"), 100);
}

#[test]
fn a_change_that_fails_fails_alone() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    let free = hub.hold();
    let good = hub.submit(raise(1, "1"));
    // PostgreSQL refuses the whole statement in which such an id is.
    let bad = hub.submit(Change::Start(new(7, "a\0b")));
    let taken_back = hub.submit_as(raise(1, "2"), Some("no such command"));
    let last = hub.submit(raise(1, "3"));
    drop(free);
    good.recv().unwrap().unwrap();
    let refused = bad.recv().unwrap().unwrap_err();
    assert!(matches!(refused, StoreError::Database(_)), "{refused}");
    assert!(matches!(
        taken_back.recv().unwrap(),
        Err(StoreError::TakenBack)
    ));
    last.recv().unwrap().unwrap();
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 3);
    hub.does(start(8));
}

#[test]
fn a_disk_without_room_for_some_changes_is_remembered_though_others_find_some() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    let writer = &hub.owned.writer;
    hub.does(start(1));
    // Neither of these says anything about the database.
    let conflict = hub.write(start(1));
    assert!(conflict.is_ok_and(|reply| !matches!(reply.reply, Reply::Done)));
    let taken_back = hub.submit_as(raise(1, "2"), Some("no such command"));
    assert!(matches!(
        taken_back.recv().unwrap(),
        Err(StoreError::TakenBack)
    ));
    assert!(!writer.fails() && writer.refuses().is_none());
    hub.other()
        .batch(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';
             END $$;
             CREATE TRIGGER no_room BEFORE INSERT ON inbox FOR EACH ROW WHEN (length(NEW.message) > 1000) EXECUTE FUNCTION no_room()",
        )
        .unwrap();
    let free = hub.hold();
    let long = format!("\"{}\"", "x".repeat(100_000));
    let waiting = [raise(1, "3"), raise(1, &long), raise(1, "4")].map(|change| hub.submit(change));
    drop(free);
    let results = waiting.map(|told| told.recv().unwrap().map(drop));
    assert!(
        matches!(&results, [Ok(()), Err(error), Ok(())] if error.is_disk_full()),
        "{results:?}"
    );
    hub.does(raise(1, "5"));
    assert!(!writer.fails());
    let why = writer.refuses().unwrap();
    assert!(why.is_disk_full(), "{why}");
    assert!(why.to_string().contains("make room there"), "{why}");
}

#[test]
fn a_transaction_without_an_answer_is_known_while_it_is_under_way() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    let writer = &hub.owned.writer;
    let other = hub.other();
    other
        .batch("BEGIN; LOCK TABLE instance IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let told = hub.submit(start(1));
    let why = loop {
        if let Some(why) = writer.refuses() {
            break why;
        }
        std::thread::yield_now();
    };
    assert!(why.to_string().contains("has had no answer"), "{why}");
    // The last one that was answered succeeded.
    assert!(!writer.fails());
    other.batch("COMMIT").unwrap();
    told.recv().unwrap().unwrap();
    while writer.refuses().is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn a_command_is_answered_with_its_change() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    hub.other()
        .batch("INSERT INTO command (token, at, body) VALUES ('t', 5, '\\x01')")
        .unwrap();
    hub.submit_as(raise(1, "1"), Some("t"))
        .recv()
        .unwrap()
        .unwrap();
    let answered = "SELECT count(*) FROM command WHERE answer IS NOT NULL AND body = ''";
    assert_eq!(hub.count(answered), 1);
    // Another process withdraws one after it was looked at: nothing of the change is left, whenever that is.
    hub.other().batch("DELETE FROM command").unwrap();
    let withdrawn = hub.submit_as(raise(1, "2"), Some("t")).recv().unwrap();
    assert!(matches!(withdrawn, Err(StoreError::TakenBack)));
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 2);
}

#[test]
fn what_became_of_a_transaction_is_asked_when_its_answers_are_lost() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    let faults = hub.owned.writer.watched();
    faults.unanswered.store(1, Ordering::Relaxed);
    hub.does(raise(1, "1"));
    faults.unsent.store(1, Ordering::Relaxed);
    hub.does(raise(1, "2"));
    faults.unsent.store(3, Ordering::Relaxed);
    faults.unanswered.store(2, Ordering::Relaxed);
    hub.does(raise(1, "3"));
    hub.does(raise(1, "4"));
    assert_eq!(hub.count("SELECT count(DISTINCT message) FROM inbox"), 5);
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 5);
    // Others went on with the hub meanwhile.
    hub.other()
        .batch("UPDATE hub SET version = version + 3; UPDATE owner SET version = version + 3")
        .unwrap();
    hub.does(raise(1, "5"));
}

#[test]
fn a_transaction_that_arrives_after_it_was_given_up_happens_once() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    let faults = hub.owned.writer.watched();
    for event in ["1", "2"] {
        faults.late.store(2, Ordering::Relaxed);
        hub.does(raise(1, event));
    }
    hub.does(raise(1, "3"));
    assert_eq!(hub.count("SELECT count(DISTINCT message) FROM inbox"), 4);
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 4);
}

#[test]
fn a_large_change_that_loses_its_connection_each_time_fails_and_others_go_on() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    let faults = hub.owned.writer.watched();
    let large = || raise(1, &format!("\"{}\"", "x".repeat(300_000)));
    faults.unsent.store(3, Ordering::Relaxed);
    hub.does(large());
    faults.unsent.store(4, Ordering::Relaxed);
    let error = hub.write(large()).unwrap_err().to_string();
    assert!(error.contains("was lost 4 times"), "{error}");
    hub.does(large());
    // A small one is not why.
    faults.unsent.store(9, Ordering::Relaxed);
    hub.does(raise(1, "1"));
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 4);
}

#[test]
fn a_writer_that_panics_in_a_transaction_tells_that_it_writes_nothing_more() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    let (tell, told) = mpsc::channel();
    let writer = &hub.owned.writer;
    writer.when_fenced(Box::new(move |why| tell.send(why.clone()).unwrap()));
    writer.watched().panics.store(1, Ordering::Relaxed);
    let failed = hub.write(raise(1, "1")).unwrap_err().to_string();
    assert!(failed.contains("panicked"), "{failed}");
    let why = told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(why, StoreError::Fenced), "{why:?}");
    assert!(matches!(hub.write(raise(1, "2")), Err(StoreError::Fenced)));
}

#[test]
fn an_owner_that_is_never_idle_takes_its_advisory_lock_again() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    let name = format!("{}/{}", hub.address.schema(), hub.owned.epoch);
    let (other, waits) = (hub.other(), hub.other());
    let pid = |session: &Session, condition: &str| -> Option<i32> {
        let sql = format!(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND {condition}
                 AND classid::bigint << 32 | objid::bigint = hashtextextended($1, 0)"
        );
        let row = session.query_opt(&sql, &[&name]).unwrap();
        row.map(|row| row.get(0))
    };
    let writer = pid(&other, "granted").unwrap();
    std::thread::scope(|threads| {
        let lock = || waits.query("SELECT pg_advisory_lock(hashtextextended($1, 0))", &[&name]);
        let got = threads.spawn(lock);
        while pid(&other, "NOT granted").is_none() {
            std::thread::yield_now();
        }
        let end = "SELECT pg_terminate_backend($1)";
        other.query(end, &[&writer]).unwrap();
        got.join().unwrap().unwrap();
    });
    hub.does(raise(1, "1"));
    let next = pid(&other, "granted").unwrap();
    waits.batch("SELECT pg_advisory_unlock_all()").unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    // It is never idle for as long as it takes to renew the lease.
    while pid(&other, "granted").is_none_or(|holder| holder == next) {
        assert!(Instant::now() < until, "the lock is not taken again");
        for event in ["2", "3", "4"] {
            hub.does(raise(1, event));
        }
    }
}

#[test]
fn the_size_of_a_hub_is_known_once_it_is_wanted() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    let space = hub.owned.writer.space();
    hub.does(start(1));
    assert_eq!(space.bytes(), 0);
    space.enable();
    hub.does(start(2));
    let all = hub.count(
        "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'",
    );
    let bytes = i64::try_from(space.bytes()).unwrap();
    assert!(bytes > all / 2 && bytes <= all, "{bytes} of {all}");
}

#[test]
fn a_database_that_lost_transactions_is_written_no_more() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    hub.does(raise(1, "1"));
    hub.other()
        .batch("UPDATE owner SET commits = commits - 1")
        .unwrap();
    for event in ["2", "3"] {
        let refused = hub.write(raise(1, event));
        assert!(matches!(refused, Err(StoreError::Forgot(1))), "{refused:?}");
    }
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 2);
}

/// Waits for what a writer tells of why it lost its hub.
fn told_why(hub: &Hub, change: &str) -> StoreError {
    let (tell, told) = mpsc::channel();
    hub.owned
        .writer
        .when_fenced(Box::new(move |why| tell.send(why.clone()).unwrap()));
    hub.other().batch(change).unwrap();
    told.recv_timeout(Duration::from_secs(60)).unwrap()
}

#[test]
fn an_idle_owner_notices_that_its_database_lost_transactions() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    (1..=3).for_each(|key| hub.does(start(key)));
    // A standby that was behind.
    let behind = "UPDATE owner SET commits = commits - 2; UPDATE hub SET commits = commits - 2";
    let why = told_why(&hub, behind);
    assert!(matches!(why, StoreError::Forgot(2)), "{why:?}");
}

#[test]
fn an_owner_notices_that_another_one_took_over_a_database_that_lost_transactions() {
    let Some(server) = server() else { return };
    for lost in [0, 2] {
        let hub = Hub::new(server);
        (1..=3).for_each(|key| hub.does(start(key)));
        // The next owner took over after fewer transactions, and has made more since.
        let taken = format!(
            "UPDATE owner SET epoch = epoch + 1, commits = commits + 7,
                 host = (host::jsonb || jsonb_build_object('after', commits - {lost}))::text;
             UPDATE hub SET commits = commits + 7"
        );
        let why = told_why(&hub, &taken);
        match lost {
            0 => assert!(matches!(why, StoreError::Fenced), "{why:?}"),
            _ => assert!(matches!(why, StoreError::Forgot(2)), "{why:?}"),
        }
    }
}

#[test]
fn only_one_owns_a_hub_and_the_next_one_fences_it() {
    steadily(one_owns_a_hub_and_the_next_one_fences_it);
}

fn one_owns_a_hub_and_the_next_one_fences_it() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    let Err(StoreError::Owned(by)) = own(&hub.address, Duration::ZERO) else {
        panic!("two own it")
    };
    assert!(by.starts_with("a test (process "), "{by}");
    // As if it had not been heard of for long, and another one had noticed that.
    let dead = "UPDATE owner SET dead = true";
    hub.other().batch(dead).unwrap();
    let next = own(&hub.address, Duration::ZERO).unwrap();
    assert!(matches!(hub.write(raise(1, "2")), Err(StoreError::Fenced)));
    assert!(next.epoch > hub.owned.epoch && !next.made);
    let (tell, told) = mpsc::channel();
    next.writer.submit_or_commit(Write::new(
        raise(1, "3"),
        Timestamp(2_000),
        move |_, result| drop(tell.send(result)),
    ));
    told.recv().unwrap().unwrap();
    assert_eq!(hub.count("SELECT count(*) FROM inbox"), 2);
    // One that closes gives the lease back at once.
    drop(next);
    own(&hub.address, Duration::ZERO).unwrap();
}

#[test]
fn the_lease_of_a_process_that_died_is_taken_soon() {
    let Some(server) = server() else { return };
    let address = server.fresh();
    let session = Session::open(&address, Purpose::Write).unwrap();
    assert!(matches!(
        take(&session, &address, &a_note("one that dies"), Share::All).unwrap(),
        Taken::Lease { .. }
    ));
    drop(session);
    own(&address, Duration::from_secs(60)).unwrap();
    // One whose connection is held, and does not renew, is waited for.
    let session = Session::open(&address, Purpose::Write).unwrap();
    assert!(matches!(
        take(&session, &address, &a_note("one that hangs"), Share::All).unwrap(),
        Taken::Lease { .. }
    ));
    own(&address, Duration::from_secs(60)).unwrap();
}

#[test]
fn an_idle_owner_renews_its_lease_and_counts_what_is_live() {
    let Some(server) = server() else { return };
    let hub = Hub::new(server);
    hub.does(start(1));
    hub.owned.writer.live().enable();
    hub.does(start(2));
    assert_eq!(hub.owned.writer.live().all(), 2);
    assert_eq!(hub.owned.writer.live().of_module(MODULE), 2);
    let other = hub.other();
    let renewed = || -> f64 {
        other
            .query_opt("SELECT extract(epoch FROM renewed)::float8 FROM owner", &[])
            .unwrap()
            .unwrap()
            .get(0)
    };
    let (before, until) = (renewed(), Instant::now() + Duration::from_secs(60));
    while renewed() <= before {
        assert!(Instant::now() < until, "the lease is not renewed");
    }
}
