//! Hubs on a server: made, checked, listed, dropped.

mod beside;
mod crashes;
mod exchange;
mod horizon;
mod members;
mod plans;
mod probe;
mod rows;
mod settings;
mod tls;
mod writing;

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::postgres::create::{check_format, create, delete, hubs};
use crate::store::postgres::pool::Pool;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::{Server, say_skipped, server};

#[test]
fn what_only_somebody_at_the_server_can_mend_is_said_in_words_and_stays() {
    let Some(server) = server() else { return };
    let session = Session::open(&server.address("said"), Purpose::Manage).unwrap();
    let raised = |code: &str| {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$");
        session.batch(&raise).unwrap_err()
    };
    for (code, words) in [
        ("53100", "the disk of the database server is full"),
        ("53200", "the database server has no memory left"),
        ("53400", "a limit of the database server"),
        ("58030", "the operating system of the database server"),
        ("XX000", "an internal error of the database server"),
        ("42501", "which rights the user lacks"),
        ("25006", "name the primary server"),
    ] {
        let error = raised(code);
        let said = error.to_string();
        assert!(said.contains(words) && said.contains("SQLSTATE"), "{said}");
        assert_eq!(error.stays(), code != "25006", "{said}");
        assert_eq!(error.is_disk_full(), code == "53100", "{said}");
    }
    // Serialization failures, deadlocks, lost connections, connections that are all taken, a value that does not fit.
    for code in ["40001", "40P01", "08006", "53300", "22001"] {
        assert!(!raised(code).stays(), "{code}");
    }
}

#[test]
fn a_hub_is_made_once_also_by_two_at_once() {
    let Some(server) = server() else { return };
    let address = server.address("made-once");
    let session = Session::open(&address, Purpose::Manage).unwrap();
    let missing = check_format(&session, &address).unwrap_err();
    assert!(matches!(missing, StoreError::Missing(_)), "{missing}");
    let made = std::thread::scope(|threads| {
        let tries: Vec<_> = (0..8)
            .map(|_| threads.spawn(|| create(&address, Timestamp(7)).unwrap()))
            .collect();
        tries
            .into_iter()
            .map(|made| made.join().unwrap())
            .filter(|made| *made)
            .count()
    });
    assert_eq!(made, 1);
    check_format(&session, &address).unwrap();
    assert!(hubs(&address).unwrap().contains(&"made-once".to_owned()));
    assert!(delete(&address).unwrap());
    assert!(!delete(&address).unwrap());
    assert!(!hubs(&address).unwrap().contains(&"made-once".to_owned()));
}

#[test]
fn what_is_no_hub_or_of_another_format_is_told_and_left() {
    let Some(server) = server() else { return };
    let address = server.address("other");
    let session = Session::open(&address, Purpose::Manage).unwrap();
    session
        .batch(
            "CREATE SCHEMA \"perennial_other\"; CREATE TABLE \"perennial_other\".hub (id integer)",
        )
        .unwrap();
    for error in [
        create(&address, Timestamp(7)).unwrap_err(),
        delete(&address).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NotAHubSchema { .. }), "{error}");
    }
    // A schema without tables may be there.
    session.batch("DROP TABLE \"perennial_other\".hub").unwrap();
    assert!(create(&address, Timestamp(7)).unwrap());
    let set = |change: &str| {
        session
            .batch(&format!("UPDATE \"perennial_other\".hub SET {change}"))
            .unwrap()
    };
    set("format = 99");
    let newer = create(&address, Timestamp(7)).unwrap_err();
    assert!(
        matches!(newer, StoreError::Newer { found: 99, .. }),
        "{newer}"
    );
    set("format = 1, mark = 'else'");
    let other = create(&address, Timestamp(7)).unwrap_err();
    assert!(matches!(other, StoreError::NotAHubSchema { .. }), "{other}");
    set("mark = 'perennial'");
    assert!(!create(&address, Timestamp(7)).unwrap());
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_address() {
    let address =
        crate::store::postgres::address::Address::parse("postgres://me:s3cret@/app?host=/nowhere")
            .unwrap();
    let Err(error) = Session::open(&address, Purpose::Read) else {
        panic!("there is a server")
    };
    let said = error.to_string();
    assert!(
        said.contains("could not connect to postgres://me@/nowhere/app#default")
            && !said.contains("s3cret"),
        "{said}"
    );
    assert!(error.shortage().is_some());
}

#[test]
fn a_read_survives_the_loss_of_all_connections() {
    let Some(mut server) = Server::start(false) else {
        return say_skipped();
    };
    let address = server.fresh();
    let pool = Pool::new(address.clone());
    let read = || {
        pool.read(|conn| Ok(conn.query("SELECT partition FROM partition", &[])?.len()))
            .unwrap()
    };
    assert_eq!(read(), 64);
    server.restart("QUIT");
    assert_eq!(read(), 64);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let session = Session::open(&address, Purpose::Manage).unwrap();
    assert_eq!(session.query(kill, &[]).unwrap().len(), 1);
    assert_eq!(read(), 64);
    let twice = pool.snapshot(|conn| {
        conn.query_all(&[
            ("SELECT 1", &[]),
            ("SELECT id FROM hub WHERE id > $1", &[&0_i16]),
        ])
    });
    assert_eq!(twice.unwrap().len(), 2);
    let readonly = pool
        .read(|conn| conn.query("DELETE FROM hub", &[]))
        .unwrap_err();
    assert!(readonly.to_string().contains("read-only"), "{readonly}");
}
