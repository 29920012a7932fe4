//! Code of the embedding program that panics or does not return.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::hears::Hears;
use super::world::*;
use crate::engine::spans::{Span, SpanSink};
use perennial_core::Failure;

/// Counts each span, then panics.
#[derive(Default)]
struct Panics(AtomicU64);

impl SpanSink for Panics {
    fn ended(&self, _: Span) {
        self.0.fetch_add(1, Ordering::AcqRel);
        panic!("on purpose");
    }
}

#[test]
fn a_sink_that_panics_loses_its_spans_and_nothing_else() {
    let mut world = World::with("Chain", chain("Echo", 5));
    let sink = Arc::new(Panics::default());
    world.spans = Some(sink.clone());
    let host = world.open();
    for n in 0..8 {
        host.start("Chain", &format!("c{n}"));
    }
    for n in 0..8 {
        assert_eq!(host.end(&format!("c{n}")), "4");
    }
    host.idle();
    // The outcome of an attempt is in the hub for a moment before its place is free.
    while host.activity_counts() != (0, 0) {
        std::thread::yield_now();
    }
    host.check_histories();
    drop(host);
    assert_eq!(sink.0.load(Ordering::Acquire), 8 * 6);
}

/// Does not return until the test allows it.
struct Holds(Mutex<mpsc::Receiver<()>>, AtomicU64);

impl SpanSink for Holds {
    fn ended(&self, _: Span) {
        self.1.fetch_add(1, Ordering::AcqRel);
        let _ = self.0.lock().unwrap().recv();
    }
}

#[test]
fn a_sink_that_does_not_return_holds_nobody_up() {
    let (release, held) = mpsc::channel::<()>();
    let sink = Arc::new(Holds(Mutex::new(held), AtomicU64::new(0)));
    let mut world = World::with("Chain", chain("Echo", 5));
    world.spans = Some(sink.clone());
    let world = world.with_one_engine();
    let host = world.open();
    for n in 0..8 {
        host.start("Chain", &format!("c{n}"));
    }
    for n in 0..8 {
        assert_eq!(host.end(&format!("c{n}")), "4");
    }
    host.idle();
    let stopping = Instant::now();
    host.engine.shut_down();
    assert!(stopping.elapsed() < Duration::from_secs(20));
    assert_eq!(sink.1.load(Ordering::Acquire), 1);
    drop(release);
}

#[test]
fn a_worker_that_panics_after_a_commit_brings_its_instance_back_and_goes_on() {
    let mut world = World::with("Chain", chain("Hold", 3));
    // Both workers panic, so that no other is left.
    world.config.workers = 2;
    let host = world.open();
    host.start("Chain", "a");
    for n in 0..3 {
        let held = world.held();
        world.programs.panics.store(2, Ordering::Release);
        held.ends(Ok("7"));
        let begun = Instant::now();
        while host.row("a").unwrap().turns < n + 2
            || world.programs.panics.load(Ordering::Acquire) > 0
        {
            assert!(begun.elapsed() < patience(), "turn {n} never comes");
            host.advance(1_000);
            if world.more_held() > 0 || host.row("a").unwrap().status.is_end() {
                break;
            }
            std::thread::yield_now();
        }
    }
    world.programs.panics.store(0, Ordering::Release);
    let begun = Instant::now();
    while !host.row("a").unwrap().status.is_end() {
        assert!(begun.elapsed() < patience(), "it never ends");
        host.advance(1_000);
        std::thread::yield_now();
    }
    assert_eq!(host.end("a"), "7");
    host.check_histories();
    host.idle();
    let queue = host.engine.queue();
    assert_eq!((queue.busy, queue.in_flight()), (0, 0));
}

#[test]
fn a_host_stops_in_its_time_whatever_does_not_return() {
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let (stuck, turn_stuck) = (Arc::clone(&held), held);
    let world = World::with("Chain", chain("Stuck", 1)).and("Turn", move || {
        let held = Arc::clone(&turn_stuck);
        Box::new(move |_, _| {
            let _ = held.lock().unwrap().recv();
            completes(1)
        })
    });
    let (begun, begins) = mpsc::channel();
    world.activities.add("Stuck", move |attempt| {
        let _ = begun.send(());
        let _ = stuck.lock().unwrap().recv();
        Ok(attempt.input)
    });
    let host = world.open();
    host.start("Chain", "a");
    begins.recv_timeout(patience()).unwrap();
    // A turn that does not return keeps its worker and its instance.
    let engine = Arc::clone(&host.engine);
    let answer = world.spawn(async move { engine.submit(start("Turn", "b", None)).await });
    let stopping = Instant::now();
    host.engine.shut_down();
    assert!(stopping.elapsed() < Duration::from_secs(20));
    drop(release);
    drop(host);
    world
        .block_on("the answer of the start", answer)
        .unwrap()
        .unwrap_err();
    // Another host takes over, and repeats the unfinished work.
    let host = world.open();
    assert_eq!(host.end("a"), "0");
    host.check_histories();
}

#[test]
fn an_attempt_ends_though_the_log_of_its_thread_panics() {
    let world = World::with("Call", || -> Logic {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call_with("Fails", 7, retry(2, 0), None);
            }
            if seen.has(0) {
                completes(format!("{:?}", seen.result(0)))
            } else {
                waits()
            }
        })
    });
    world.activities.add("Fails", |_| {
        // Set for the rest of this thread's life, because the attempt's lines are logged after it. A program may install any subscriber.
        let log = tracing::Dispatch::new(Hears(|_: &tracing::Event<'_>| panic!("on purpose")));
        std::mem::forget(tracing::dispatcher::set_default(&log));
        Err(Failure::retryable("Flaky", ""))
    });
    let host = world.open();
    for id in ["a", "b", "c"] {
        host.start("Call", id);
        assert_eq!(host.end(id), "\"Flaky\"");
    }
    host.idle();
    // An attempt gives its slot back after its outcome was passed on.
    while host.activity_counts() != (0, 0) {
        std::thread::yield_now();
    }
    // Each attempt ran once: none was repeated because its log line failed.
    assert_eq!(world.activities.began().len(), 6);
}
