//! Activities run at least once, and never again after their outcome is recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::world::*;
use perennial_core::bounds::FAILURE_MESSAGE_BYTES;
use perennial_core::{Event, Failure, Message, Millis, RetryPolicy, Status};

/// Calls one activity, and completes with its outcome.
fn calls(
    name: &'static str,
    policy: Option<RetryPolicy>,
    timeout: Option<Millis>,
) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let (policy, mut called) = (policy.clone(), false);
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call_with(name, 7, policy.clone(), timeout);
            }
            if seen.has(0) {
                completes(format!("{:?}", seen.result(0)))
            } else {
                waits()
            }
        })
    }
}

#[test]
fn an_activity_is_tried_again_until_it_ends_well() {
    let world = World::with("Call", calls("Third", retry(5, 1_000), None)).in_file();
    world
        .activities
        .add("Third", |attempt| match attempt.attempt {
            3 => Ok(None),
            _ => Err(Failure::retryable("Flaky", "")),
        });
    let host = world.open();
    host.start("Call", "a");
    for attempt in 1..3 {
        host.until_count(
            &format!("SELECT count(*) FROM task WHERE due IS NOT NULL AND attempt = {attempt} + 1"),
            1,
        );
        assert_eq!(
            world.activities.began().len(),
            attempt as usize,
            "not before its time"
        );
        host.advance(1_000);
    }
    assert_eq!(host.end("a"), "\"nothing\"");
    let run = host.events("a").into_iter().find_map(|event| {
        let Event::ActivityCompleted { run, .. } = event else {
            return None;
        };
        Some(run)
    });
    assert_eq!(run.unwrap().attempt, 3);
    host.check_histories();
}

#[test]
fn a_retry_survives_a_restart() {
    let world = World::with("Call", calls("Flaky", retry(3, 1_000), None)).in_file();
    let host = world.open();
    host.start("Call", "a");
    host.until_count("SELECT count(*) FROM task WHERE attempt = 2", 1);
    drop(host);
    let host = world.open();
    host.advance(1_000);
    host.until_count("SELECT count(*) FROM task WHERE attempt = 3", 1);
    drop(host);
    world.clock.advance(Millis(5_000));
    let host = world.open();
    assert_eq!(host.end("a"), "\"Flaky\"");
    assert_eq!(
        world
            .activities
            .began()
            .iter()
            .map(|(_, attempt)| *attempt)
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
    host.check_histories();
}

#[test]
fn an_attempt_that_takes_too_long_fails_and_is_told() {
    let world = World::with("Call", calls("Hold", retry(2, 0), Some(Millis(20))));
    let host = world.open();
    host.start("Call", "a");
    let (first, second) = (world.held(), world.held());
    assert_eq!(host.end("a"), "\"Timeout\"");
    for held in [first, second] {
        assert!(held.attempt.interrupt.is_set() && !held.is_awaited());
    }
}

#[test]
fn an_activity_that_panics_in_the_host_fails_its_attempt() {
    let world = World::with("Call", calls("Panic", retry(2, 0), None)).in_file();
    world.activities.add("Panic", |_| panic!("on purpose"));
    let host = world.open();
    host.start("Call", "a");
    assert_eq!(host.end("a"), "\"Panic\"");
    // An attempt gives its slot back after its outcome was passed on.
    while host.engine.activities.counts() != (0, 0) {
        std::thread::yield_now();
    }
}

#[test]
fn what_was_meant_by_a_name_that_there_is_not_is_said() {
    let message = |failure: &Failure| json(format!("{:?}", failure.message));
    let world = World::with("Call", move || {
        Box::new(move |seen, out| {
            if out.is_first() {
                out.call("ecko", 1);
                out.child("Kit", None, None);
            }
            match (seen.results.get(&0), seen.results.get(&1)) {
                (Some(Err(a)), Some(Err(b))) => {
                    completes(format!("[{},{}]", message(a).as_str(), message(b).as_str()))
                }
                _ => waits(),
            }
        })
    })
    .and("Kid", || Box::new(|_, _| completes(1)));
    let host = world.open();
    host.start("Call", "a");
    let said = host.end("a");
    for meant in ["Echo", "Kid"] {
        let meant = format!("did you mean \\\"{meant}\\\"?");
        assert!(said.contains(&meant), "{meant} is not in {said}");
    }
}

#[test]
fn unknown_activities_and_results_over_the_limit_fail_their_task() {
    let mut world = World::with("Call", calls("Nowhere", None, None))
        .and("Long", calls("Long", retry(5, 0), None));
    world.config.limits.payload_bytes = 100;
    world
        .activities
        .add("Long", |_| Ok(Some(json("1".repeat(101)))));
    let host = world.open();
    host.start("Call", "a");
    host.start("Long", "b");
    assert_eq!(host.end("a"), "\"UnknownActivity\"");
    assert_eq!(host.end("b"), "\"LimitExceeded\"");
    assert_eq!(world.activities.began().len(), 1, "not tried again");
}

#[test]
fn a_failure_of_any_size_comes_in_bounded_and_its_caller_lives() {
    let world = World::with("Call", calls("Huge", retry(2, 0), None));
    world.activities.add("Huge", |_| {
        let text = "x".repeat(100 << 20);
        Err(Failure {
            details: Some(json(format!("[{}]", "1,".repeat(1 << 20) + "1"))),
            trace: Some(text.clone()),
            ..Failure::retryable(text.clone(), text)
        })
    });
    let host = world.open();
    host.start("Call", "a");
    let kind = host.end("a");
    assert!(kind.ends_with("… (cut: 104857600 bytes)\""), "{kind}");
    let failures: Vec<Failure> = host
        .events("a")
        .into_iter()
        .filter_map(|event| {
            let Event::ActivityFailed { failure, .. } = event else {
                return None;
            };
            Some(failure)
        })
        .collect();
    let [failure] = &failures[..] else {
        panic!("it failed once: {failures:?}");
    };
    assert_eq!(failure.message.len(), FAILURE_MESSAGE_BYTES);
    assert_eq!(failure.details, Some(json("\"… (cut: 2097155 bytes)\"")));
    host.check_histories();
}

#[test]
fn a_result_that_no_client_could_read_fails_its_task() {
    let world = World::with("Call", calls("Deep", None, None));
    world.activities.add("Deep", |_| {
        Ok(Some(json("[".repeat(129) + &"]".repeat(129))))
    });
    let host = world.open();
    host.start("Call", "a");
    assert_eq!(host.end("a"), "\"LimitExceeded\"");
}

#[test]
fn a_cancelled_activity_is_told_and_its_result_is_dropped() {
    let world = World::with("Cancel", || {
        Box::new(|seen, out| {
            if seen.events.is_empty() {
                out.call("Hold", 1);
                return waits();
            }
            if seen.events.len() == 1 {
                out.cancel(0);
                return waits();
            }
            completes(seen.results.len())
        })
    });
    let host = world.open();
    host.start("Cancel", "a");
    let held = world.held();
    host.raise("a", "go", 1);
    host.until("a", |row| row.turns == 2);
    assert!(held.attempt.interrupt.is_set());
    held.ends(Ok("1"));
    host.raise("a", "go", 2);
    assert_eq!(host.end("a"), "0");
    host.check_histories();
}

#[test]
fn results_of_a_suspended_instance_are_kept_and_no_activity_runs_twice() {
    for restarts in [false, true] {
        let mut world = World::with("Fan", || {
            Box::new(|seen, out| {
                if seen.results.is_empty() {
                    for n in 0..6 {
                        out.call("Hold", n);
                    }
                }
                if seen.results.len() == 6 {
                    completes(6)
                } else {
                    waits()
                }
            })
        })
        .in_file();
        world.config.activities_max = 3;
        let mut host = world.open();
        host.start("Fan", "a");
        let held: Vec<Held> = (0..3).map(|_| world.held()).collect();
        host.suspend("a");
        // Until the engine has heard of its commit, the place of an attempt that ends is free for the next one.
        host.until("a", |row| row.status == Status::Suspended);
        host.idle();
        held.into_iter().for_each(|held| held.ends(Ok("1")));
        host.until_count("SELECT count(*) FROM inbox", 3);
        while host.engine.activities.counts() != (0, 0) {
            std::thread::yield_now();
        }
        assert_eq!(world.more_held(), 0, "nothing new starts");
        if restarts {
            drop(host);
            host = world.open();
            host.idle();
            assert_eq!(world.more_held(), 0, "nor after a restart");
        }
        assert_eq!(host.row("a").unwrap().status, Status::Suspended);
        host.resume("a");
        for _ in 0..3 {
            world.held().ends(Ok("1"));
        }
        assert_eq!(host.end("a"), "6");
        let mut began = world.activities.began();
        began.sort();
        began.dedup();
        assert_eq!((began.len(), world.activities.began().len()), (6, 6));
        host.check_histories();
    }
}

#[test]
fn results_that_wait_in_memory_are_kept_when_the_host_stops() {
    let world = World::with("Fan", || {
        Box::new(|seen, out| {
            if seen.results.is_empty() {
                for n in 0..8 {
                    out.call("Hold", n);
                }
            }
            if seen.results.len() == 8 {
                completes(8)
            } else {
                waits()
            }
        })
    });
    let world = world.with_one_engine();
    let host = world.open();
    host.start("Fan", "a");
    let held: Vec<Held> = (0..8).map(|_| world.held()).collect();
    host.idle();
    // The phase `Busy` keeps the workers from taking the results.
    let key = host.row("a").unwrap().key;
    let slot = host.engine.memory.slots.slot(key);
    slot.mailbox().phase = crate::engine::memory::slots::SlotPhase::Busy;
    held.into_iter().for_each(|held| held.ends(Ok("1")));
    while slot.mailbox().mail.len() < 8 {
        std::thread::yield_now();
    }
    drop(host);
    let host = world.open();
    assert_eq!(host.end("a"), "8");
    assert_eq!(world.activities.began().len(), 8, "none runs again");
}

#[test]
fn an_activity_that_obeys_a_host_that_stops_has_not_failed() {
    let world = World::with("Call", calls("Obeys", None, None));
    let (tell, told) = std::sync::mpsc::channel();
    let attempts = AtomicU32::new(0);
    world.activities.add("Obeys", move |attempt| {
        if attempts.fetch_add(1, Ordering::Relaxed) > 0 {
            return Ok(None);
        }
        tell.send(()).unwrap();
        while !attempt.interrupt.is_set() {
            std::thread::yield_now();
        }
        Err(Failure::permanent("Canceled", "it was told to stop"))
    });
    let host = world.open();
    host.start("Call", "a");
    told.recv().unwrap();
    drop(host);
    let host = world.open();
    let end = host.end("a");
    assert!(!end.contains("Canceled"), "{end}");
    assert_eq!(world.activities.began().len(), 2, "it ran again");
    host.check_histories();
}

#[test]
fn no_new_attempt_starts_after_the_return() {
    for restarts in [false, true] {
        let world = World::with("Return", || {
            Box::new(|seen, out| {
                if seen.events.is_empty() {
                    out.call_with("Flaky", 1, retry(5, 1_000_000), None);
                    out.call_with("Hold", 1, retry(5, 1_000_000), None);
                    return waits();
                }
                completes("\"returned\"")
            })
        })
        .in_file();
        let mut host = world.open();
        host.start("Return", "a");
        let held = world.held();
        host.until_count("SELECT count(*) FROM task WHERE attempt = 2", 1);
        host.raise("a", "go", 1);
        let row = host.until("a", |row| row.returned);
        assert_eq!(row.status, Status::Running);
        if restarts {
            drop(host);
            host = world.open();
            world.held().ends(Err(Failure::retryable("Late", "")));
        } else {
            held.ends(Err(Failure::retryable("Late", "")));
        }
        assert_eq!(host.end("a"), "\"returned\"");
        let failed = host
            .events("a")
            .into_iter()
            .filter(|event| matches!(event, Event::ActivityFailed { .. }));
        assert_eq!(failed.count(), 2);
        host.check_histories();
    }
}

#[test]
fn an_activity_of_an_earlier_execution_takes_nobodys_place() {
    let mut world = World::with("Loop", || {
        Box::new(|seen, out| match (seen.number(), seen.events.len()) {
            (3, 0) if seen.results.is_empty() => {
                out.call("Echo", 1);
                waits()
            }
            (3, _) => completes(seen.results.len()),
            (_, 0) => {
                out.call("Hold", 1);
                waits()
            }
            (n, _) => continues(n + 1, Vec::new()),
        })
    });
    world.config.activities_max = 4;
    let host = world.open();
    host.start_with("Loop", "a", 0);
    let mut late = Vec::new();
    for n in 0..3 {
        late.push(world.held());
        host.raise("a", "go", n);
    }
    assert_eq!(host.end("a"), "1");
    late.into_iter().for_each(|held| held.ends(Ok("1")));
    while host.engine.activities.counts() != (0, 0) {
        std::thread::yield_now();
    }
    for n in 0..4 {
        host.start_with("Loop", &format!("b{n}"), 0);
    }
    let all: Vec<Held> = (0..4).map(|_| world.held()).collect();
    assert_eq!(all.len(), 4, "every place is free again");
}

#[test]
fn a_queued_activity_may_be_pushed_twice_and_runs_once() {
    let mut world = World::with("Call", calls("Hold", None, None));
    world.config.activities_max = 1;
    let host = world.open();
    host.start("Call", "a");
    let first = world.held();
    host.start("Call", "b");
    for _ in 0..3 {
        host.suspend("b");
        host.resume("b");
        host.until("b", |row| row.status == Status::Running);
    }
    first.ends(Ok("1"));
    world.held().ends(Ok("2"));
    assert_eq!(
        (host.end("a"), host.end("b")),
        ("\"1\"".to_owned(), "\"2\"".to_owned())
    );
    assert_eq!(world.activities.began().len(), 2);
}

#[test]
fn suspending_and_resuming_at_any_moment_loses_no_activity() {
    let ran = Arc::new(AtomicU32::new(0));
    let world = World::with("Chain", chain("Count", 300));
    let counted = Arc::clone(&ran);
    world.activities.add("Count", move |attempt| {
        counted.fetch_add(1, Ordering::AcqRel);
        Ok(attempt.input)
    });
    let host = world.open();
    host.start("Chain", "a");
    let mut rounds = 0;
    while host.row("a").is_some_and(|row| !row.status.is_end()) {
        rounds += 1;
        for request in [
            crate::engine::Request::Suspend {
                id: "a".to_owned(),
                reason: None,
                recursive: false,
            },
            crate::engine::Request::Resume {
                id: "a".to_owned(),
                reason: None,
                module: None,
                recursive: false,
            },
        ] {
            host.submit(request).unwrap();
        }
        if host.row("a").unwrap().status == Status::Suspended {
            host.submit(crate::engine::Request::Resume {
                id: "a".to_owned(),
                reason: None,
                module: None,
                recursive: false,
            })
            .unwrap();
        }
        if rounds % 16 == 0 {
            // Commands are accepted faster than they are carried out, and a result is handled after all that were accepted before it.
            host.until("a", |row| {
                row.status.is_end()
                    || host
                        .engine
                        .hub
                        .reader
                        .inbox(row.key, 0, 1)
                        .unwrap()
                        .envelopes
                        .is_empty()
            });
        }
        assert!(rounds < 100_000, "it does not end");
    }
    assert_eq!(host.end("a"), "299");
    assert_eq!(ran.load(Ordering::Acquire), 300, "each ran once");
    host.check_histories();
}

#[test]
fn a_result_that_is_posted_twice_counts_once() {
    let world = World::with("Chain", chain("Hold", 2));
    let host = world.open();
    host.start("Chain", "a");
    let held = world.held();
    let (key, task) = (host.row("a").unwrap().key, held.attempt.task);
    held.ends(Ok("1"));
    let second = world.held();
    let run = Default::default();
    host.engine.post(
        key,
        world.now(),
        Message::ActivityEnded {
            task,
            outcome: Ok(None),
            run,
        },
    );
    host.idle();
    second.ends(Ok("5"));
    assert_eq!(host.end("a"), "5");
    host.check_histories();
}

#[test]
fn no_attempt_begins_while_the_host_is_not_sure_to_own_the_hub() {
    let world = World::with("Call", calls("Counts", None, None)).with_one_engine();
    world.activities.add("Counts", |_| Ok(None));
    let host = world.open();
    host.faults().unsure.store(true, Ordering::Release);
    host.start("Call", "a");
    host.until("a", |row| row.turns == 1);
    let began = Instant::now();
    while host.activity_counts() == (0, 0) {
        assert!(began.elapsed() < patience(), "the attempt is not there");
        std::thread::yield_now();
    }
    assert!(world.activities.began().is_empty(), "it may run elsewhere");
    host.faults().unsure.store(false, Ordering::Release);
    host.end("a");
    assert_eq!(world.activities.began().len(), 1);
    host.check_histories();
}
