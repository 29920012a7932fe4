//! Crashes: acknowledged work survives, interrupted work continues, and work that crashes its host repeatedly is stopped.

use super::world::*;
use perennial_core::Status;

#[test]
fn a_crash_at_any_moment_of_a_chain_loses_nothing() {
    let world = World::with("Chain", chain("Echo", 200));
    let images = {
        let host = world.open();
        let images = host.images(4, |n| format!("c{n}"), |id| host.start("Chain", id), || ());
        host.check_histories();
        images
    };
    for (count, (), image) in images.into_iter().take(8) {
        let recorded = image.recorded();
        let host = image.open();
        for n in 0..count {
            assert_eq!(host.end(&format!("c{n}")), "199");
        }
        host.check_histories();
        let again = image
            .activities
            .began()
            .into_iter()
            .find(|(key, _)| recorded.contains(key));
        assert_eq!(again, None, "its result was in the hub");
    }
}

#[test]
fn an_activity_that_takes_its_host_down_five_times_fails() {
    let mut world = World::with("Chain", chain("Hold", 1));
    for crash in 1..=5 {
        let host = world.open();
        if crash == 1 {
            host.start("Chain", "a");
        }
        let held = world.held();
        let image = world.crash_image();
        drop(host);
        drop(held);
        world = image;
        assert_eq!(world.activities.began().len(), 0, "{crash}");
    }
    let host = world.open();
    assert_eq!(host.end("a"), "HostCrashed");
    assert_eq!(world.activities.began().len(), 0);
    host.check_histories();
}

#[test]
fn a_host_that_stops_in_peace_counts_no_crash() {
    let world = World::with("Chain", chain("Hold", 1)).in_file();
    let mut host = world.open();
    host.start("Chain", "a");
    for _ in 0..8 {
        let running = world.held();
        drop(host);
        drop(running);
        host = world.open();
        assert_eq!(host.count("SELECT max(deliveries) FROM task"), 0);
    }
    world.held().ends(Ok("1"));
    assert_eq!(host.end("a"), "1");
}

#[test]
fn an_instance_that_takes_its_host_down_five_times_is_quarantined_until_it_is_resumed() {
    let (hold, held) = std::sync::mpsc::channel::<std::sync::mpsc::Sender<()>>();
    let deadly = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (hold, flag) = (std::sync::Mutex::new(hold), std::sync::Arc::clone(&deadly));
    let hold = std::sync::Arc::new(hold);
    let mut world = World::with("Deadly", move || {
        let (hold, flag) = (std::sync::Arc::clone(&hold), std::sync::Arc::clone(&flag));
        Box::new(move |seen, _| {
            if seen.events.is_empty() {
                return waits();
            }
            if flag.load(std::sync::atomic::Ordering::Acquire) {
                // Runs until the test releases it, after the host has died.
                let (go_on, goes_on) = std::sync::mpsc::channel();
                hold.lock().unwrap().send(go_on).unwrap();
                let _ = goes_on.recv();
            }
            completes(1)
        })
    });
    {
        let host = world.open();
        host.start("Deadly", "a");
        host.suspend("a");
        host.raise("a", "go", 1);
        deadly.store(true, std::sync::atomic::Ordering::Release);
    }
    // The first crash is that of the turn after the resume. After that, each host finds the turn running.
    let mut image = {
        let host = world.open();
        host.resume("a");
        let running = held.recv().unwrap();
        let image = world.crash_image();
        drop(running);
        drop(host);
        image
    };
    for _ in 1..5 {
        let host = image.open();
        let running = held.recv().unwrap();
        let next = image.crash_image();
        drop(running);
        drop(host);
        image = next;
    }
    world = image;
    let host = world.open();
    let row = host.until("a", |row| row.quarantine.is_some());
    assert_eq!(row.status, Status::Suspended);
    deadly.store(false, std::sync::atomic::Ordering::Release);
    host.resume("a");
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn another_owner_is_refused_until_the_first_one_ends() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    host.engine.announce(None);
    let Err(error) = world.try_open() else {
        panic!("two owners")
    };
    assert!(error.to_string().contains("a test"), "{error}");
    drop(host);
    world.open();
}

#[test]
fn an_owner_that_was_replaced_stops_and_writes_nothing() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    host.idle();
    host.meddle("UPDATE hub SET owner_epoch = owner_epoch + 1");
    let reply = host.submit(start("Listen", "b", None));
    assert!(
        matches!(reply, Err(crate::store::StoreError::Fenced)),
        "{reply:?}"
    );
    let reply = host.submit(start("Listen", "c", None));
    assert!(reply.is_err());
    assert!(host.row("b").is_none() && host.row("c").is_none());
    assert!(host.engine.is_stopping());
    drop(host);
    let host = world.open();
    host.raise("a", "go", 1);
    assert_eq!(host.end("a"), "[1]");
}

#[test]
fn garbage_that_a_crash_left_is_collected() {
    let world = World::with("Listen", listens(600)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    for n in 0..600 {
        host.raise("a", "go", n);
        host.until("a", |row| row.turns > n);
    }
    host.end("a");
    host.idle();
    // Changes the hub without the engine, as a crash right after the commit.
    host.meddle("INSERT INTO garbage SELECT key, -1 FROM instance; DELETE FROM instance");
    drop(host);
    let host = world.open();
    host.idle();
    assert_eq!(
        host.count("SELECT (SELECT count(*) FROM turn) + (SELECT count(*) FROM garbage)"),
        0
    );
}
