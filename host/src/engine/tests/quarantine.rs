//! Instances that the host cannot continue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::world::*;
use perennial_core::Status;

/// Waits for two events. If the mood changes, its replay asks for something else.
fn fickle(mood: &Arc<AtomicU32>) -> impl Fn() -> Logic + Send + Sync + use<> {
    let mood = Arc::clone(mood);
    move || {
        let (mood, mut called) = (Arc::clone(&mood), false);
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call("Hold", mood.load(Ordering::Acquire));
            }
            if seen.events.len() < 2 {
                waits()
            } else {
                completes(seen.results.len())
            }
        })
    }
}

#[test]
fn a_guest_that_does_not_repeat_itself_is_quarantined_until_it_does() {
    let mood = Arc::new(AtomicU32::new(0));
    let world = World::with("Fickle", fickle(&mood)).in_file();
    let host = world.open();
    host.start("Fickle", "a");
    let held = world.held();
    host.idle();
    assert_eq!(host.evict_all(), 1);
    mood.store(1, Ordering::Release);
    host.raise("a", "go", 1);
    let row = host.until("a", |row| row.quarantine.is_some());
    assert_eq!((row.status, row.turns), (Status::Suspended, 1));
    assert!(row.quarantine.unwrap().reason.contains("does not repeat"));
    // Messages are kept but not consumed meanwhile.
    held.ends(Ok("1"));
    host.raise("a", "go", 2);
    host.until_count("SELECT count(*) FROM inbox", 3);
    host.idle();
    assert_eq!(host.row("a").unwrap().turns, 1);
    host.resume("a");
    host.idle();
    assert!(
        host.row("a").unwrap().quarantine.is_some(),
        "nothing has changed"
    );
    assert_eq!(
        host.count("SELECT count(*) FROM inbox"),
        3,
        "the resume was taken"
    );
    mood.store(0, Ordering::Release);
    host.resume("a");
    assert_eq!(host.end("a"), "1");
    assert_eq!(world.activities.began().len(), 1);
    host.check_histories();
}

#[test]
fn a_quarantined_instance_can_be_terminated_also_after_a_restart() {
    let mood = Arc::new(AtomicU32::new(0));
    let world = World::with("Fickle", fickle(&mood));
    let host = world.open();
    host.start("Fickle", "a");
    drop(world.held());
    drop(host);
    mood.store(1, Ordering::Release);
    let host = world.open();
    host.raise("a", "go", 1);
    host.until("a", |row| row.quarantine.is_some());
    drop(host);
    let host = world.open();
    host.idle();
    assert!(host.row("a").unwrap().quarantine.is_some());
    host.terminate("a");
    assert_eq!(host.end("a"), "Terminated");
    mood.store(0, Ordering::Release);
    host.check_histories();
}

#[test]
fn timers_and_activities_of_a_quarantined_instance_are_armed_again() {
    let mood = Arc::new(AtomicU32::new(0));
    let fickle = Arc::clone(&mood);
    let mut world = World::with("Fickle", move || {
        let (mood, mut called) = (Arc::clone(&fickle), false);
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call("Hold", mood.load(Ordering::Acquire));
                out.call("Hold", 5);
                out.timer(BEGIN + 1_000);
            }
            if seen.results.len() < 2 || seen.fired.is_empty() {
                waits()
            } else {
                completes(1)
            }
        })
    })
    .and("Witness", sleeps(2_000));
    world.config.activities_max = 1;
    let world = world.with_one_engine();
    let host = world.open();
    host.start("Fickle", "a");
    host.start("Witness", "w");
    let held = world.held();
    host.idle();
    host.evict_all();
    mood.store(1, Ordering::Release);
    host.raise("a", "go", 1);
    host.until("a", |row| row.quarantine.is_some());
    // The row is there before the engine has heard of its commit, and until then the next attempt may begin.
    host.idle();
    held.ends(Ok("1"));
    host.advance(2_000);
    host.end("w");
    host.idle();
    assert_eq!(world.more_held(), 0);
    mood.store(0, Ordering::Release);
    host.resume("a");
    world.held().ends(Ok("1"));
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn an_instance_that_was_suspended_before_its_quarantine_is_resumed_with_it() {
    let mood = Arc::new(AtomicU32::new(0));
    let world = World::with("Fickle", fickle(&mood)).in_file();
    let host = world.open();
    host.start("Fickle", "a");
    drop(world.held());
    host.suspend("a");
    host.idle();
    host.evict_all();
    host.meddle("UPDATE instance SET deliveries = 5");
    host.raise("a", "go", 1);
    host.until("a", |row| row.quarantine.is_some());
    host.resume("a");
    host.until("a", |row| {
        row.status == Status::Running && row.quarantine.is_none()
    });
    host.raise("a", "go", 2);
    host.end("a");
    host.check_histories();
}

#[test]
fn a_damaged_history_is_left_as_it_is() {
    for damage in [
        "DELETE FROM turn WHERE number = 1",
        "UPDATE turn SET produced = x'01ff' WHERE number = 0",
        "UPDATE instance SET next_event = next_event + 1",
    ] {
        let world = World::with("Listen", listens(3)).in_file();
        let host = world.open();
        host.start("Listen", "a");
        host.raise("a", "go", 1);
        host.until("a", |row| row.turns == 2);
        host.raise("a", "go", 1);
        host.until("a", |row| row.turns == 3);
        host.idle();
        host.evict_all();
        host.meddle(damage);
        host.raise("a", "go", 3);
        host.until("a", |row| row.quarantine.is_some());
        host.idle();
        assert_eq!(host.count("SELECT count(*) FROM inbox"), 1, "{damage}");
    }
}

#[test]
fn a_damaged_message_stops_its_instance_and_no_other() {
    let world = World::with("Listen", listens(2)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    host.start("Listen", "b");
    host.suspend("a");
    host.raise("a", "go", 1);
    host.idle();
    host.evict_all();
    host.meddle("UPDATE inbox SET message = x'0163'");
    host.resume("a");
    host.until("a", |row| row.quarantine.is_some());
    host.idle();
    host.raise("a", "go", 1);
    host.raise("b", "go", 1);
    host.raise("b", "go", 2);
    assert_eq!(host.end("b"), "[1,2]");
    host.idle();
}

#[test]
fn an_inbox_without_a_start_is_no_reason_to_spin() {
    let world = World::with("Listen", listens(2))
        .and("Starter", || {
            Box::new(|_, out| {
                out.start("Listen", "a");
                completes(1)
            })
        })
        .in_file();
    let host = world.open();
    world.programs.broken.store(false, Ordering::Release);
    host.start("Listen", "blocker");
    host.suspend("blocker");
    host.meddle(
        "INSERT INTO instance SELECT 77, 'a', name, version, module, 0, execution, execution_id, generation, 0, 0, 0, 5, 0, 0,
             created_at, NULL, updated_at, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, NULL, NULL, 0 FROM instance",
    );
    host.raise("a", "go", 1);
    let row = host.until("a", |row| row.quarantine.is_some());
    assert_eq!(
        row.quarantine.map(|why| why.reason).as_deref(),
        Some("its inbox does not begin with a start")
    );
    host.idle();
}

#[test]
fn a_guest_that_panics_in_the_host_stops_one_instance() {
    let world = World::with("Panic", || {
        Box::new(|seen, _| {
            if seen.events.is_empty() {
                waits()
            } else {
                panic!("on purpose")
            }
        })
    })
    .and("Listen", listens(1));
    let host = world.open();
    host.start("Panic", "a");
    host.raise("a", "go", 1);
    // A single panic proves nothing, so the turn is tried again.
    while host.row("a").unwrap().quarantine.is_none() {
        host.advance(1_000);
        host.idle();
    }
    let row = host.row("a").unwrap();
    assert!(row.quarantine.unwrap().reason.contains("on purpose"));
    for n in 0..4 {
        host.start("Listen", &format!("l{n}"));
        host.raise(&format!("l{n}"), "go", 1);
        assert_eq!(host.end(&format!("l{n}")), "[1]");
    }
}
