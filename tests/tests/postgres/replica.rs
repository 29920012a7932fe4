//! A standby that follows the server by streaming: as a replica for lists, and as the next server.

use std::time::{Duration, Instant};

use perennial::{Client, Host, Store};
use perennial_tests::postgres::Database;
use perennial_tests::{DataDir, Serve, guest, module};

use crate::told;

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until a list has so many instances.
async fn lists(client: &Client, count: usize) {
    let within = Instant::now() + LIMIT;
    loop {
        let page = client.list().await.unwrap();
        if page.instances.len() == count {
            return;
        }
        assert!(Instant::now() < within, "{page:?}");
    }
}

async fn runs(client: &Client, id: &str) {
    client.start("HelloSequence").id(id).await.unwrap();
    let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
    assert!(waited.reached().is_some(), "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_read_at_a_replica_unless_that_is_behind_or_away() {
    let Some(mut database) = Database::start() else {
        return;
    };
    let replica = database.follow();
    let dir = DataDir::new();
    let store = Store::postgres(&database.address()).unwrap();
    let store = store.read_replica(&replica).unwrap().data_dir(dir.path());
    let host = Host::builder().store(store).start().await.unwrap();
    let client = host.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    runs(&client, "a").await;
    lists(&client, 1).await;
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'perennial %'";
    let within = Instant::now() + LIMIT;
    // The copy of the hub may come a moment after the first list.
    while database.sql_at_standby(sessions).unwrap().trim() == "0" {
        lists(&client, 1).await;
        assert!(Instant::now() < within, "nobody reads at the replica");
    }
    assert_eq!(client.counts().await.unwrap().len(), 1);
    assert!(doctor(&database, &replica, &dir).contains("read replica: "));

    // One that is behind is not asked, and status is never read there.
    database
        .sql_at_standby("SELECT pg_wal_replay_pause()")
        .unwrap();
    runs(&client, "b").await;
    assert!(client.status("b").await.unwrap().is_some());
    lists(&client, 2).await;
    let said = doctor(&database, &replica, &dir);
    assert!(said.contains("s behind, more than the 5 s"), "{said}");

    // Nor is one that is away.
    database.abandon();
    runs(&client, "c").await;
    lists(&client, 3).await;
    host.shut_down().await;
}

/// What `doctor` says of a database with a replica.
fn doctor(database: &Database, replica: &str, dir: &DataDir) -> String {
    let (said, _) = told(
        &database.address(),
        dir.path(),
        &["doctor", "--read-replica", replica],
    );
    said
}

#[test]
fn a_replica_of_another_hub_is_not_read() {
    let Some(database) = Database::start() else {
        return;
    };
    let dir = DataDir::new();
    database.sql("CREATE DATABASE other").unwrap();
    let address = database.address();
    let other = address.replacen("/postgres?", "/other?", 1);
    for at in [&address, &other] {
        let (said, succeeds) = told(
            at,
            dir.path(),
            &["deploy", "-q", guest("hello-sequence").to_str().unwrap()],
        );
        assert!(succeeds, "{said}");
    }
    let (said, _) = told(
        &address,
        dir.path(),
        &["start", "HelloSequence", "--id", "a"],
    );
    assert!(said.contains('a'), "{said}");
    let (said, succeeds) = told(&address, dir.path(), &["list", "--read-replica", &other]);
    assert!(succeeds && said.contains("HelloSequence"), "{said}");
    let said = doctor(&database, &other, &dir);
    assert!(said.contains("another task hub of that name"), "{said}");
    let here = dir.path().to_str().unwrap();
    let (said, succeeds) = told(
        "",
        dir.path(),
        &["list", "--data-dir", here, "--read-replica", "x"],
    );
    assert!(!succeeds && said.contains("read replica"), "{said}");
}

#[test]
fn a_standby_that_was_behind_takes_over_and_the_host_says_what_is_lost() {
    let Some(mut database) = Database::start() else {
        return;
    };
    database.follow();
    let dirs = [DataDir::new(), DataDir::new()];
    let log = tempfile::NamedTempFile::new().unwrap();
    let address = database.address_of_either();
    let runs = |args: &[&str]| {
        let (said, succeeds) = told(&address, dirs[0].path(), args);
        assert!(succeeds, "{args:?}: {said}");
        said
    };
    runs(&["deploy", "-q", guest("hello-sequence").to_str().unwrap()]);
    let args = ["--store", &address, "--log", "info"];
    let host = Serve::start_logged(dirs[0].path(), &args, log.path());
    runs(&["start", "HelloSequence", "--id", "kept"]);
    runs(&["wait", "kept"]);
    let at = database.sql("SELECT pg_current_wal_flush_lsn()").unwrap();
    let follows = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", at.trim());
    while database.sql_at_standby(&follows).unwrap().trim() != "t" {
        std::thread::yield_now();
    }
    // It receives nothing from now on.
    database
        .sql_at_standby("ALTER SYSTEM SET primary_conninfo = ''")
        .unwrap();
    database.sql_at_standby("SELECT pg_reload_conf()").unwrap();
    let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
    while database.sql_at_standby(receivers).unwrap().trim() != "0" {
        std::thread::yield_now();
    }
    runs(&["start", "HelloSequence", "--id", "lost"]);
    runs(&["wait", "lost"]);
    database.down("KILL");
    database.promote();
    assert_eq!(host.ended(), Some(1));
    let said = std::fs::read_to_string(log.path()).unwrap();
    assert!(said.contains("the database has lost the last "), "{said}");
    let _next = Serve::start(dirs[1].path(), &["--store", &address]);
    assert!(runs(&["status", "kept"]).contains("Completed"));
    let (said, succeeds) = told(&address, dirs[0].path(), &["status", "lost"]);
    assert!(!succeeds && said.contains("lost"), "{said}");
    runs(&["start", "HelloSequence", "--id", "lost"]);
    runs(&["wait", "lost"]);
    assert!(runs(&["check"]).contains("is sound"));
}
