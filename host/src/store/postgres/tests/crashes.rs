//! Connections that are killed, and servers.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use perennial_core::{Message, Timestamp};

use crate::store::decode;
use crate::store::owned::Share;
use crate::store::postgres::owned::take_over;
use crate::store::postgres::pool::Pool;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::{Server, say_skipped, steadily};
use crate::store::postgres::tests::writing::{Hub, own, raise, start};
use crate::store::writer::Writes;

/// Events that each of some threads sends, one after the other.
const EVENTS: u32 = 60;
const THREADS: u32 = 4;

/// Sends events while `crash` is called with the number of those that were acknowledged, now and then. All must arrive, each once.
fn survives(hub: &Hub, every: u32, mut crash: impl FnMut(u32)) {
    hub.does(start(1));
    let (tell, told) = mpsc::channel();
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let tell = tell.clone();
            threads.spawn(move || {
                for number in 0..EVENTS {
                    // Some wait for the answer, others do not.
                    let sent = hub.submit(raise(1, &format!("{}", thread * EVENTS + number)));
                    sent.recv().unwrap().unwrap();
                    tell.send(()).unwrap();
                }
            });
        }
        drop(tell);
        let mut done = 0;
        while told.recv().is_ok() {
            done += 1;
            if done % every == 0 {
                crash(done);
            }
        }
    });
    let rows = hub
        .other()
        .query("SELECT message FROM inbox WHERE seq > 0", &[])
        .unwrap();
    let mut found = BTreeSet::new();
    for row in &rows {
        let message: Message = decode(row.get(0), "a message").unwrap();
        if let Message::ExternalEvent {
            data: Some(data), ..
        } = message
        {
            found.insert(data.as_str().parse::<u32>().unwrap());
        }
    }
    assert_eq!(rows.len(), (THREADS * EVENTS) as usize);
    assert_eq!(found.len(), rows.len());
}

#[test]
fn killed_connections_lose_nothing_and_do_nothing_twice() {
    let Some(server) = Server::start(false) else {
        return say_skipped();
    };
    let hub = Hub::new(&server);
    let killer = Session::open(&hub.address, Purpose::Manage).unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    survives(&hub, 3, |_| drop(killer.query(kill, &[]).unwrap()));
}

#[test]
fn a_server_that_is_killed_loses_nothing_that_was_acknowledged() {
    let Some(mut server) = Server::start(true) else {
        return say_skipped();
    };
    let hub = Hub::new(&server);
    survives(&hub, 40, |done| {
        server.restart(if done % 80 == 0 { "KILL" } else { "QUIT" })
    });
}

#[test]
fn readers_are_answered_while_the_server_is_away() {
    let Some(mut server) = Server::start(false) else {
        return say_skipped();
    };
    let pool = Pool::new(server.fresh());
    let read = || pool.read(|conn| conn.query("SELECT 1 FROM hub", &[]));
    let all = || {
        std::thread::scope(|threads| {
            let readers: Vec<_> = (0..24).map(|_| threads.spawn(read)).collect();
            readers
                .into_iter()
                .map(|reader| reader.join().unwrap())
                .collect::<Vec<_>>()
        })
    };
    assert!(all().iter().all(Result::is_ok));
    server.down("QUIT");
    for _ in 0..20 {
        for answer in all() {
            let error = answer.unwrap_err();
            assert!(error.is_away(), "{error}");
        }
    }
    server.up();
    assert!(all().iter().all(Result::is_ok));
}

#[test]
fn whoever_waits_for_a_hub_goes_on_waiting_while_the_server_is_away() {
    let Some(mut server) = Server::start(false) else {
        return say_skipped();
    };
    let address = server.fresh();
    let first = own(&address, Duration::ZERO).unwrap();
    let (tell, waits) = mpsc::channel();
    std::thread::scope(|threads| {
        let next = threads.spawn(|| {
            take_over(
                &address,
                Timestamp(1_000),
                "the next",
                Share::All,
                &move |_| tell.send(()).is_ok(),
            )
        });
        waits.recv().unwrap();
        server.down("QUIT");
        while waits.try_recv().is_ok() {}
        // It asks once more although there is nothing.
        waits.recv().unwrap();
        server.up();
        drop(first);
        let next = next.join().unwrap();
        assert!(next.is_ok(), "{:?}", next.err());
    });
}

#[test]
fn an_owner_that_hears_nothing_of_its_lease_is_not_sure_to_have_it() {
    steadily(an_owner_that_hears_nothing_of_its_lease);
}

fn an_owner_that_hears_nothing_of_its_lease() {
    let Some(mut server) = Server::start(false) else {
        return say_skipped();
    };
    let hub = Hub::new(&server);
    hub.does(start(1));
    assert!(hub.owned.writer.is_sure());
    server.down("QUIT");
    let mut looked = 0;
    while hub.owned.writer.is_sure() {
        looked += 1;
        std::thread::yield_now();
    }
    assert!(looked > 0, "it lasts for a while");
    server.up();
    hub.does(raise(1, "x"));
    assert!(hub.owned.writer.is_sure());
}

#[test]
fn a_database_that_may_only_be_read_for_a_while_is_written_to_again() {
    let Some(server) = Server::start(false) else {
        return say_skipped();
    };
    let hub = Hub::new(&server);
    hub.does(start(1));
    // Those that may not write, and one that may, as a superuser has who mends it.
    let admin = Session::open(&hub.address, Purpose::Manage).unwrap();
    let does = |sql: &str| drop(admin.query(sql, &[]).unwrap());
    let name: String = admin.query("SELECT current_database()", &[]).unwrap()[0].get(0);
    does(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ));
    // A session keeps the settings with which it began.
    does(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    let waits = hub.submit(raise(1, "x"));
    assert!(
        waits.recv_timeout(Duration::from_millis(300)).is_err(),
        "it was written"
    );
    does(&format!(
        "ALTER DATABASE {name} RESET default_transaction_read_only"
    ));
    waits.recv().unwrap().unwrap();
    hub.does(raise(1, "y"));
}
