//! A disk that is full, fails or disappears: clients get errors, nothing accepted is lost, and the host continues when the disk works
//! again.

use super::world::*;
use crate::store::disk::{Disk, Trouble};
use crate::store::{StoreError, with_suffix};

/// Breaks the disk while an instance runs. Requests meanwhile fail with an error that names the cause, and have no effect. When the disk
/// works again, everything that was accepted ends.
fn check(trouble: Trouble, says: &str) {
    let world = World::with("Chain", chain("Hold", 2))
        .and("Sleep", sleeps(1_000))
        .in_file();
    drop(world.open());
    let disk = Disk::under(world.dir());
    let host = world.open();
    host.start("Chain", "a");
    host.start("Sleep", "s");
    let held = world.held();
    disk.has(Some(trouble));
    for n in 0..3 {
        let id = format!("no{n}");
        let error = host.submit(start("Chain", &id, None)).unwrap_err();
        assert!(matches!(error, StoreError::Database(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    // A result and a timer that arrive meanwhile are kept until they can be written.
    held.ends(Ok("1"));
    host.advance(5_000);
    for _ in 0..3 {
        host.idle();
        host.advance(2_000);
    }
    assert!(disk.troubled() >= 3);
    disk.has(None);
    for n in 0..3 {
        assert!(host.row(&format!("no{n}")).is_none(), "it was refused");
    }
    host.start("Chain", "b");
    let mut ended = 0;
    while ended < 3 {
        host.advance(2_000);
        let held = world.held();
        assert_ne!(
            (held.attempt.instance_id.as_str(), held.attempt.task.task.0),
            ("a", 0),
            "it ran again, and its result was kept"
        );
        held.ends(Ok("2"));
        ended += 1;
    }
    let slept = host.end("s").parse::<u64>().unwrap();
    assert!(slept >= BEGIN + 1_000);
    assert_eq!((host.end("a"), host.end("b")), ("2".into(), "2".into()));
    host.check_histories();
    drop(host);
    let db = rusqlite::Connection::open(world.path()).unwrap();
    let found: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, "ok");
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_is_got_over() {
    check(Trouble::Full, "full");
}

#[test]
fn a_disk_that_cannot_write_refuses_loses_nothing_and_is_got_over() {
    check(Trouble::Write, "disk I/O error");
}

#[test]
fn a_disk_that_cannot_sync_refuses_loses_nothing_and_is_got_over() {
    check(Trouble::Sync, "disk I/O error");
}

#[test]
fn a_disk_that_falls_ill_at_any_moment_is_got_over() {
    let troubles = [Trouble::Full, Trouble::Write, Trouble::Sync, Trouble::Dead];
    let world = World::with("Chain", chain("Echo", 20)).in_file();
    drop(world.open());
    let disk = Disk::under(world.dir());
    let host = world.open();
    let mut accepted = Vec::new();
    for n in 0..40 {
        let id = format!("c{n}");
        if host.submit(start("Chain", &id, None)).is_ok() {
            accepted.push(id);
        }
        disk.has(Some(troubles[n % 4]));
        // Fails at a different moment each time.
        for _ in 0..n * 20 {
            std::thread::yield_now();
        }
        disk.has(None);
        host.advance(1_000);
    }
    assert!(accepted.len() > 20 && disk.troubled() > 0);
    for id in &accepted {
        while !host.row(id).unwrap().status.is_end() {
            host.advance(1_000);
            std::thread::yield_now();
        }
        assert_eq!(host.end(id), "19");
    }
    host.check_histories();
}

#[test]
fn a_hub_that_is_moved_away_takes_nothing_until_it_is_back() {
    let world = World::with("Chain", chain("Hold", 1)).in_file();
    let host = world.open();
    host.start("Chain", "a");
    let held = world.held();
    let away = with_suffix(&world.path(), ".away");
    std::fs::rename(world.path(), &away).unwrap();
    held.ends(Ok("1"));
    for n in 0..3 {
        let error = host.submit(start("Chain", &format!("no{n}"), None));
        let error = error.unwrap_err();
        assert!(matches!(error, StoreError::Gone(_)), "{error:?}");
        assert!(error.to_string().contains("hub.db was moved or deleted"));
        assert!(!world.path().exists(), "it was made again");
    }
    // Another file at the path is not mistaken for the hub.
    std::fs::write(world.path(), "").unwrap();
    let error = host.submit(start("Chain", "no", None)).unwrap_err();
    assert!(matches!(error, StoreError::Gone(_)), "{error:?}");
    std::fs::rename(&away, world.path()).unwrap();
    while !host.row("a").unwrap().status.is_end() {
        host.advance(2_000);
        std::thread::yield_now();
    }
    assert_eq!(host.end("a"), "1");
    assert!(host.row("no0").is_none() && host.row("no").is_none());
    host.check_histories();
}

#[test]
fn a_hub_whose_directory_is_deleted_takes_nothing() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    host.idle();
    std::fs::remove_dir_all(world.dir()).unwrap();
    for n in 0..3 {
        let error = host.submit(start("Listen", &format!("no{n}"), None));
        assert!(matches!(error, Err(StoreError::Gone(_))), "{error:?}");
    }
    assert!(!world.path().exists(), "it was made again");
}

#[test]
fn what_was_accepted_outlives_its_log() {
    for suffix in ["-wal", "-shm"] {
        let world = World::with("Listen", listens(1)).in_file();
        let host = world.open();
        host.start("Listen", "a");
        host.idle();
        std::fs::remove_file(with_suffix(&world.path(), suffix)).unwrap();
        let error = host.submit(start("Listen", "no", None)).unwrap_err();
        assert!(matches!(error, StoreError::LogGone(_)), "{error:?}");
        assert!(error.to_string().contains(suffix), "{error}");
        // The state after a crash at this moment.
        let after = world.crash_image();
        drop(host);
        let host = after.open();
        assert!(host.row("a").is_some() && host.row("no").is_none());
        host.raise("a", "go", 1);
        assert_eq!(host.end("a"), "[1]");
    }
}
