//! Attempts that last: heartbeats, at most once, and hosts that stop while attempts run.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use perennial_core::{CallOptions, Event, Failure, Millis, RetryPolicy};

use super::remote::{activity, everything};
use super::world::*;
use crate::engine::executor::HeartbeatError;
use crate::store::{TaskRow, with_suffix};

/// The tests here look at the engine that runs the instance.
fn one_engine(name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> World {
    World::with(name, make).with_one_engine()
}

const ONCE: CallOptions = CallOptions {
    heartbeat_timeout: None,
    at_most_once: true,
};

/// Calls an activity `calls` times in sequence with these options. Completes with the outcomes as words.
fn calls(
    name: &'static str,
    calls: u32,
    policy: Option<RetryPolicy>,
    options: CallOptions,
) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let (policy, mut next) = (policy.clone(), 0);
        Box::new(move |seen, out| {
            if next > 0 && !seen.has(next - 1) {
                return waits();
            }
            if next == calls {
                let all: Vec<String> = (0..calls).map(|task| seen.result(task)).collect();
                return completes(format!("{:?}", all.join(" ")));
            }
            out.call_so(name, next, policy.clone(), None, options);
            next += 1;
            waits()
        })
    }
}

fn tries(max_attempts: u32) -> Option<RetryPolicy> {
    retry(max_attempts, 1_000)
}

/// The attempts in a history: number, and kind of failure or success.
fn attempts(host: &Host<'_>, id: &str) -> Vec<(u32, String)> {
    let told = host.events(id).into_iter().filter_map(|event| match event {
        Event::AttemptFailed { failure, run, .. } => Some((run.attempt, failure.kind)),
        Event::ActivityFailed { failure, run, .. } => {
            Some((run.attempt, format!("last {}", failure.kind)))
        }
        Event::ActivityCompleted { run, .. } => Some((run.attempt, "well".to_owned())),
        _ => None,
    });
    told.collect()
}

fn are(attempts: &[(u32, &str)]) -> Vec<(u32, String)> {
    let all = attempts.iter();
    all.map(|(number, what)| (*number, (*what).to_owned()))
        .collect()
}

fn task_of(host: &Host<'_>, id: &str) -> TaskRow {
    let key = host.row(id).unwrap().key;
    host.engine.hub.reader.tasks_of(key).unwrap().remove(0)
}

/// The world after a crash of its host while it runs an attempt.
fn crashed(world: &World, host: Host<'_>, running: Held) -> World {
    let image = world.crash_image();
    drop(host);
    drop(running);
    image
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < patience(), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

// --- At most once

#[test]
fn an_attempt_that_a_crash_cut_off_is_not_followed_by_another() {
    let mut world = one_engine("Pay", calls("Hold", 1, tries(9), ONCE));
    let host = world.open();
    host.start("Pay", "a");
    let first = world.held();
    world = crashed(&world, host, first);
    world.clock.advance(Millis(50));
    let host = world.open();
    assert_eq!(host.end("a"), "\"OutcomeUnknown\"");
    assert_eq!(world.activities.began(), []);
    assert_eq!(attempts(&host, "a"), are(&[(1, "last OutcomeUnknown")]));
    let run = host.events("a").into_iter().find_map(|event| match event {
        Event::ActivityFailed { run, failure, .. } => Some((run, failure)),
        _ => None,
    });
    let (run, failure) = run.unwrap();
    assert_eq!((run.started_at.0, run.ended_at.0), (BEGIN, BEGIN + 50));
    assert!(!failure.retryable, "{failure}");
    host.check_histories();
}

#[test]
fn no_attempt_begins_twice_whenever_the_host_dies() {
    let world = one_engine("Pay", calls("Echo", 60, None, ONCE));
    let images = {
        let host = world.open();
        // What began before the image was taken had its start on the disk.
        let began = || world.activities.began();
        let images = host.images(3, |n| format!("p{n}"), |id| host.start("Pay", id), began);
        host.check_histories();
        images
    };
    for (count, began, image) in images.into_iter().take(10) {
        let host = image.open();
        for n in 0..count {
            let end = host.end(&format!("p{n}"));
            let unknown = end.matches("OutcomeUnknown").count();
            assert!(unknown <= 1, "only one ran: {end}");
        }
        let again = image.activities.began();
        let twice = again
            .iter()
            .find(|(key, _)| began.iter().any(|(before, _)| before == key));
        assert_eq!(twice, None);
        host.check_histories();
    }
}

#[test]
fn a_start_that_could_not_be_recorded_did_not_happen() {
    let world = one_engine("Pay", calls("Hold", 1, None, ONCE));
    let host = world.open();
    host.start("Pay", "first");
    world.held().ends(Ok("1"));
    host.end("first");
    host.idle();
    // The start of the instance and its turn are one write, that of the attempt is the next.
    host.faults().run.store(2, Ordering::Release);
    host.start("Pay", "a");
    until("the fault", || {
        host.faults().run.load(Ordering::Acquire) == 0
    });
    host.idle();
    assert_eq!(world.more_held(), 0, "it waits for its record");
    until("the next try", || {
        host.advance(1_000);
        host.idle();
        task_of(&host, "a").begun_at.is_some()
    });
    let first = world.held();
    assert_eq!(first.attempt.attempt, 1);
    first.ends(Ok("2"));
    assert_eq!(host.end("a"), "\"2\"");
    host.check_histories();
}

#[test]
fn a_failure_that_is_known_is_tried_again() {
    let world = one_engine("Pay", calls("Hold", 1, tries(3), ONCE));
    let mut host = world.open();
    host.start("Pay", "a");
    world.held().ends(Err(Failure::retryable("Busy", "")));
    until("the retry", || task_of(&host, "a").attempt == 2);
    assert_eq!(task_of(&host, "a").begun_at, None);
    drop(host);
    host = world.open();
    host.advance(1_000);
    let second = world.held();
    assert_eq!(second.attempt.attempt, 2);
    assert!(task_of(&host, "a").begun_at.is_some());
    second.ends(Ok("7"));
    assert_eq!(host.end("a"), "\"7\"");
    assert_eq!(attempts(&host, "a"), are(&[(1, "Busy"), (2, "well")]));
    host.check_histories();
}

#[test]
fn an_attempt_that_took_too_long_is_not_followed_by_another() {
    let world = one_engine("Pay", || {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call_so("Hold", 1, tries(9), Some(Millis(20)), ONCE);
            }
            match seen.has(0) {
                true => completes(format!("{:?}", seen.result(0))),
                false => waits(),
            }
        })
    });
    let host = world.open();
    host.start("Pay", "a");
    assert_eq!(host.end("a"), "\"OutcomeUnknown\"");
    assert_eq!(world.activities.began().len(), 1);
}

#[test]
fn a_shortage_of_the_host_is_no_start() {
    let world = one_engine("Pay", calls("Hold", 1, None, ONCE));
    let host = world.open();
    host.start("Pay", "a");
    world
        .held()
        .lacks(crate::engine::executor::Resource::Memory);
    until("the record to go", || {
        task_of(&host, "a").begun_at.is_none()
    });
    until("the retry", || {
        host.idle();
        world.clock.advance(Millis(1_000));
        world.more_held() == 1
    });
    world.held().ends(Ok("1"));
    assert_eq!(host.end("a"), "\"1\"");
}

#[test]
fn only_what_runs_at_most_once_pays_for_it() {
    for (options, commits) in [(CallOptions::default(), 11), (ONCE, 21)] {
        let world = one_engine("Pay", calls("Echo", 10, None, options));
        let host = world.open();
        host.idle();
        let before = host.commits();
        host.start("Pay", "a");
        host.end("a");
        assert_eq!(host.commits() - before, commits, "{options:?}");
    }
}

#[test]
fn a_lost_worker_leaves_an_unknown_outcome() {
    let world = one_engine("Pay", calls("Elsewhere", 2, tries(9), ONCE));
    let host = world.open();
    let (connection, mut items) = host.engine.connect(everything(1, 1));
    host.start("Pay", "a");
    let work = activity(host.item(&mut items));
    assert!(host.engine.activity_answered(&work.token, Ok(None)));
    let lost = activity(host.item(&mut items));
    assert!(task_of(&host, "a").begun_at.is_some());
    drop(connection);
    assert_eq!(host.end("a"), "\"nothing OutcomeUnknown\"");
    assert!(!host.engine.activity_answered(&lost.token, Ok(None)));
    host.check_histories();
}

// --- Heartbeats

#[test]
fn the_next_attempt_goes_on_from_the_last_heartbeat() {
    let world = one_engine("Copy", calls("Hold", 1, tries(3), CallOptions::default()));
    let host = world.open();
    host.start("Copy", "a");
    let first = world.held();
    let heart = first.attempt.heart.clone();
    assert_eq!(heart.before(), None);
    heart.beat(Some(json(7))).unwrap();
    heart.beat(None).unwrap();
    assert_eq!(heart.details(), Some(json(7)));
    let place = (host.row("a").unwrap().key, first.attempt.task);
    let told = host.engine.heartbeat_of(place).unwrap();
    assert_eq!((told.0.0, told.1), (BEGIN, Some(json(7))));
    first.ends(Err(Failure::retryable("Broken", "pipe")));
    until("the retry", || task_of(&host, "a").attempt == 2);
    assert_eq!(
        heart.beat(Some(json(8))),
        Err(HeartbeatError::Canceled),
        "it is over"
    );
    let kept = task_of(&host, "a").heartbeat.unwrap();
    assert_eq!(kept.details, Some(json(7)), "kept with the failure");
    host.advance(1_000);
    let second = world.held();
    assert_eq!(second.attempt.heart.before(), Some(&json(7)));
    second.ends(Ok("1"));
    assert_eq!(host.end("a"), "\"1\"");
}

#[test]
fn heartbeats_outlive_a_crash_of_the_host() {
    let mut world = one_engine("Copy", calls("Hold", 1, None, CallOptions::default()));
    let host = world.open();
    host.start("Copy", "a");
    let first = world.held();
    first.attempt.heart.beat(Some(json(5))).unwrap();
    until("the heartbeat", || task_of(&host, "a").heartbeat.is_some());
    world = crashed(&world, host, first);
    let host = world.open();
    let second = world.held();
    assert_eq!(second.attempt.attempt, 2);
    assert_eq!(second.attempt.heart.before(), Some(&json(5)));
    second.ends(Ok("1"));
    assert_eq!(host.end("a"), "\"1\"");
}

#[test]
fn many_heartbeats_are_few_commits() {
    let world = one_engine("Copy", calls("Hold", 1, None, CallOptions::default()));
    let host = world.open();
    host.start("Copy", "a");
    let held = world.held();
    host.idle();
    let (before, began) = (host.commits(), Instant::now());
    for n in 0..5_000 {
        held.attempt.heart.beat(Some(json(n))).unwrap();
    }
    let most = 2 + began.elapsed().as_secs();
    let commits = host.commits() - before;
    assert!(commits <= most, "{commits} commits");
    held.ends(Ok("1"));
    host.end("a");
}

#[test]
fn large_details_are_an_error_of_the_caller() {
    let world = one_engine("Copy", calls("Hold", 1, None, CallOptions::default()));
    let host = world.open();
    host.start("Copy", "a");
    let held = world.held();
    let large = json(format!("{:?}", "x".repeat(20_000)));
    let refused = held.attempt.heart.beat(Some(large)).unwrap_err();
    assert_eq!(refused, HeartbeatError::TooLarge { bytes: 20_002 });
    assert!(refused.to_string().contains("16384"), "{refused}");
    assert_eq!(held.attempt.heart.details(), None);
    held.ends(Err(refused.into()));
    assert_eq!(host.end("a"), "\"LimitExceeded\"");
}

#[test]
fn a_silent_attempt_fails_and_another_follows() {
    let options = CallOptions {
        heartbeat_timeout: Some(Millis(30)),
        at_most_once: false,
    };
    let world = one_engine("Copy", calls("Hold", 1, tries(2), options));
    let host = world.open();
    host.start("Copy", "a");
    let silent = world.held();
    until("the timeout", || task_of(&host, "a").attempt == 2);
    assert!(silent.attempt.interrupt.is_set());
    assert_eq!(
        silent.attempt.heart.beat(None),
        Err(HeartbeatError::Canceled)
    );
    host.advance(1_000);
    let second = world.held();
    assert_eq!(host.end("a"), "\"HeartbeatTimeout\"");
    assert!(!second.is_awaited());
    assert_eq!(
        attempts(&host, "a"),
        are(&[(1, "HeartbeatTimeout"), (2, "last HeartbeatTimeout")])
    );
    host.check_histories();
}

#[test]
fn a_heartbeat_says_that_nobody_waits_any_more() {
    let world = one_engine("Copy", calls("Hold", 1, None, CallOptions::default()));
    let host = world.open();
    host.start("Copy", "a");
    let held = world.held();
    held.attempt.heart.beat(None).unwrap();
    host.terminate("a");
    host.end("a");
    // It runs on, and may stop in good order.
    until("the cancellation", || {
        held.attempt.heart.beat(None) == Err(HeartbeatError::Canceled)
    });
    assert!(!held.attempt.interrupt.is_set());
}

// --- Hosts that stop

#[test]
fn a_host_that_drains_lets_attempts_end_and_starts_none() {
    let mut world = one_engine("Copy", calls("Hold", 2, None, CallOptions::default()));
    world.config.activities_max = 1;
    let host = world.open();
    host.start("Copy", "a");
    let first = world.held();
    host.start("Copy", "b");
    let engine = std::sync::Arc::clone(&host.engine);
    let drained = world.spawn(async move { engine.drain(Duration::from_secs(600)).await });
    until("the drain", || first.attempt.heart.is_draining());
    assert_eq!(
        first.attempt.heart.beat(None),
        Err(HeartbeatError::Draining)
    );
    first.ends(Ok("1"));
    let left = world.block_on("the drain", drained).unwrap();
    assert_eq!(left, 0);
    host.idle();
    assert_eq!(world.more_held(), 0, "nothing starts");
    assert_eq!(attempts(&host, "a"), are(&[(1, "well")]), "it is committed");
    drop(host);
    let host = world.open();
    for _ in 0..3 {
        let next = world.held();
        assert_eq!(next.attempt.attempt, 1);
        next.ends(Ok("2"));
    }
    assert_eq!(host.end("a"), "\"1 2\"");
    assert_eq!(host.end("b"), "\"2 2\"");
}

#[test]
fn an_attempt_that_stops_with_its_host_has_not_failed() {
    for options in [CallOptions::default(), ONCE] {
        let world = one_engine("Copy", calls("Hold", 1, None, options));
        let host = world.open();
        host.start("Copy", "a");
        let first = world.held();
        let engine = std::sync::Arc::clone(&host.engine);
        let drained = world.spawn(async move { engine.drain(Duration::from_secs(600)).await });
        until("the drain", || first.attempt.heart.is_draining());
        let stop = first.attempt.heart.beat(Some(json(3))).unwrap_err();
        first.ends(Err(stop.into()));
        assert_eq!(world.block_on("the drain", drained).unwrap(), 0);
        drop(host);
        let host = world.open();
        let second = world.held();
        assert_eq!(second.attempt.attempt, 2);
        assert_eq!(second.attempt.heart.before(), Some(&json(3)));
        second.ends(Ok("1"));
        assert_eq!(host.end("a"), "\"1\"");
        assert_eq!(
            attempts(&host, "a"),
            are(&[(1, "HostStopped"), (2, "well")])
        );
        host.check_histories();
    }
}

#[test]
fn a_drain_ends_with_its_time() {
    let world = one_engine("Copy", calls("Hold", 1, None, CallOptions::default()));
    let host = world.open();
    host.start("Copy", "a");
    let first = world.held();
    let engine = std::sync::Arc::clone(&host.engine);
    let drained = world.spawn(async move { engine.drain(Duration::from_millis(20)).await });
    assert_eq!(world.block_on("the drain", drained).unwrap(), 1);
    drop(host);
    drop(first);
    let host = world.open();
    assert_eq!(world.held().attempt.attempt, 2);
    drop(host);
}

#[test]
fn an_attempt_that_a_shutdown_cut_off_counts_and_is_seen() {
    let world = one_engine("Copy", calls("Hold", 1, None, CallOptions::default()));
    let mut host = world.open();
    host.start("Copy", "a");
    for number in 1..=3 {
        let running = world.held();
        assert_eq!(running.attempt.attempt, number);
        drop(host);
        drop(running);
        host = world.open();
    }
    let last = world.held();
    assert_eq!(last.attempt.attempt, 4);
    last.ends(Ok("1"));
    assert_eq!(host.end("a"), "\"1\"");
    let stopped = (1..=3).map(|n| (n, "HostStopped"));
    let all: Vec<(u32, &str)> = stopped.chain([(4, "well")]).collect();
    assert_eq!(attempts(&host, "a"), are(&all));
    host.check_histories();
}

#[test]
fn an_attempt_to_run_at_most_once_that_a_shutdown_cut_off_is_not_followed() {
    let world = one_engine("Pay", calls("Hold", 1, tries(9), ONCE));
    let host = world.open();
    host.start("Pay", "a");
    let running = world.held();
    drop(host);
    drop(running);
    let host = world.open();
    assert_eq!(host.end("a"), "\"OutcomeUnknown\"");
}

#[test]
fn after_a_power_failure_no_number_is_told_twice() {
    let mut world = one_engine("Copy", calls("Hold", 1, None, CallOptions::default())).in_file();
    for (boots_anew, number) in [(true, 2), (false, 2)] {
        let host = world.open();
        host.start("Copy", "a");
        let first = world.held();
        let image = crashed(&world, host, first);
        // The flight recorder is not synced, so that a power failure may lose it.
        std::fs::remove_file(with_suffix(&image.path(), ".running")).unwrap();
        if boots_anew {
            let db = rusqlite::Connection::open(image.path()).unwrap();
            db.execute_batch("UPDATE setting SET value = json_set(value, '$.boot', 'another') WHERE name = 'last-host'").unwrap();
        }
        let host = image.open();
        let again = image.held();
        // On the same boot the recorder cannot be lost.
        let expected = if boots_anew { number } else { 1 };
        assert_eq!(again.attempt.attempt, expected);
        assert_eq!(
            host.count("SELECT max(deliveries) FROM task"),
            0,
            "it is not to blame"
        );
        again.ends(Ok("1"));
        assert_eq!(host.end("a"), "\"1\"");
        drop(host);
        world = world.another();
    }
}
