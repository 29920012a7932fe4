//! A shortage of the host quarantines and fails nothing: the work is tried again, and the shortage is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::*;
use crate::shortage::Resource;
use perennial_core::Status;

const EACH: [Resource; 7] = [
    Resource::Descriptors,
    Resource::Memory,
    Resource::Threads,
    Resource::Disk,
    Resource::Files,
    Resource::Hub,
    Resource::Host,
];

/// Advances the clock until the condition is met.
fn until(host: &Host<'_>, mut met: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !met() {
        assert!(begun.elapsed() < patience(), "waited in vain");
        host.advance(1_000);
        host.idle();
        std::thread::yield_now();
    }
}

#[test]
fn an_instance_waits_for_what_the_host_lacks_and_then_goes_on() {
    for resource in EACH {
        let world = World::with("Listen", listens(2));
        let world = world.with_one_engine();
        let host = world.open();
        host.start("Listen", "a");
        host.raise("a", "go", 1);
        host.until("a", |row| row.turns == 2);
        host.idle();
        host.evict_all();
        *world.programs.lacks.lock().unwrap() = Some(resource);
        host.raise("a", "go", 2);
        let mut tries = 0;
        until(&host, || {
            tries += 1;
            tries > 30
        });
        let row = host.row("a").unwrap();
        assert_eq!((row.status, row.quarantine), (Status::Running, None));
        let shortages = host.engine.trouble.shortages.now();
        assert!(
            shortages
                .iter()
                .any(|shortage| shortage.resource == resource),
            "{shortages:?}"
        );
        *world.programs.lacks.lock().unwrap() = None;
        until(&host, || host.row("a").unwrap().status.is_end());
        assert_eq!(host.end("a"), "[1,2]");
        host.check_histories();
    }
}

#[test]
fn a_start_is_accepted_and_runs_when_there_is_what_it_takes() {
    let world = World::with("Listen", listens(0)).and("Chain", chain("Echo", 2));
    let host = world.open();
    *world.programs.lacks.lock().unwrap() = Some(Resource::Memory);
    host.start("Chain", "a");
    host.idle();
    let row = host.row("a").unwrap();
    assert_eq!((row.status, row.quarantine), (Status::Pending, None));
    *world.programs.lacks.lock().unwrap() = None;
    until(&host, || host.row("a").unwrap().status.is_end());
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn an_attempt_that_the_host_has_nothing_for_is_none() {
    let world = World::with("Chain", chain("Hold", 1));
    let host = world.open();
    host.start("Chain", "a");
    for _ in 0..5 {
        let held = world.held();
        assert_eq!(held.attempt.attempt, 1);
        held.lacks(Resource::Descriptors);
        until(&host, || world.more_held() > 0);
    }
    let held = world.held();
    assert_eq!(held.attempt.attempt, 1);
    held.ends(Ok("1"));
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn a_resumed_instance_begins_an_attempt_that_waited_when_it_was_suspended() {
    let world = World::with("Chain", chain("Hold", 1));
    let host = world.open();
    host.start("Chain", "a");
    world.held().lacks(Resource::Threads);
    while host.activity_counts() != (0, 0) {
        std::thread::yield_now();
    }
    host.suspend("a");
    host.idle();
    host.advance(60_000);
    host.idle();
    assert_eq!(world.more_held(), 0);
    host.resume("a");
    world.held().ends(Ok("1"));
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn one_panic_in_a_turn_is_no_proof() {
    let panics = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&panics);
    let world = World::with("Panic", move || {
        let told = Arc::clone(&told);
        Box::new(move |seen, _| {
            assert!(!told.swap(false, Ordering::AcqRel), "on purpose");
            match seen.events.len() {
                0 => waits(),
                events => completes(events),
            }
        })
    });
    let host = world.open();
    host.start("Panic", "a");
    host.idle();
    panics.store(true, Ordering::Release);
    host.raise("a", "go", 1);
    until(&host, || host.row("a").unwrap().status.is_end());
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}
