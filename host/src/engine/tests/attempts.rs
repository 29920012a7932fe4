//! Attempts are numbered and recorded, both failed ones and those that a crash cut off, and none starts too late.

use super::world::*;
use perennial_core::{Ending, Event, FailedAttempt, Failure, Millis, RetryPolicy};

/// Calls an activity with a policy, and completes with its outcome as a word.
fn calls(name: &'static str, policy: RetryPolicy) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let (policy, mut called) = (policy.clone(), false);
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call_with(name, 7, Some(policy.clone()), None);
            }
            if seen.has(0) {
                completes(format!("{:?}", seen.result(0)))
            } else {
                waits()
            }
        })
    }
}

fn policy(max_attempts: u32, first_delay: u64, give_up_after: Option<u64>) -> RetryPolicy {
    RetryPolicy {
        give_up_after: give_up_after.map(Millis),
        ..retry(max_attempts, first_delay).unwrap()
    }
}

/// Waits until this attempt of an activity waits for its retry.
fn until_attempt(host: &Host<'_>, attempt: i64) {
    host.until_count(
        "SELECT coalesce(max(attempt), 0) FROM task WHERE due IS NOT NULL",
        attempt,
    );
    host.idle();
}

/// The attempts in a history: number, and kind of failure or success.
fn attempts(host: &Host<'_>, id: &str) -> Vec<(u32, String)> {
    let told = host.events(id).into_iter().filter_map(|event| {
        if let Event::AttemptFailed { failure, run, .. } = event {
            Some((run.attempt, failure.kind))
        } else if let Event::ActivityFailed { failure, run, .. } = event {
            Some((run.attempt, format!("last {}", failure.kind)))
        } else if let Event::ActivityCompleted { run, .. } = event {
            Some((run.attempt, "well".to_owned()))
        } else {
            None
        }
    });
    told.collect()
}

fn seen(attempts: &[(u32, &str)]) -> Vec<(u32, String)> {
    let seen = attempts.iter();
    seen.map(|(number, what)| (*number, (*what).to_owned()))
        .collect()
}

#[test]
fn failures_that_were_followed_by_a_success_are_in_the_history() {
    for restarts in [false, true] {
        let world = World::with("Call", calls("Third", policy(5, 1_000, None))).in_file();
        world
            .activities
            .add("Third", |attempt| match attempt.attempt {
                3 => Ok(None),
                n => Err(Failure::retryable(format!("No{n}"), "x".repeat(5_000))),
            });
        let mut host = world.open();
        host.start("Call", "a");
        for attempt in 2..=3 {
            until_attempt(&host, attempt);
            if restarts {
                drop(host);
                host = world.open();
            }
            host.advance(1_000);
        }
        host.end("a");
        let well = seen(&[(1, "No1"), (2, "No2"), (3, "well")]);
        assert_eq!(attempts(&host, "a"), well);
        for event in host.events("a") {
            if let Event::AttemptFailed { failure, run, .. } = event {
                assert!(failure.message.len() < 1_100, "it is bounded");
                let at = BEGIN + u64::from(run.attempt - 1) * 1_000;
                assert_eq!((run.started_at.0, run.ended_at.0), (at, at));
            }
        }
        host.check_histories();
    }
}

#[test]
fn of_many_attempts_the_first_and_the_last_are_kept() {
    let world = World::with("Call", calls("Flaky", policy(30, 1_000, None))).in_file();
    let host = world.open();
    host.start("Call", "a");
    for attempt in 2..=30 {
        until_attempt(&host, attempt);
        host.advance(1_000);
    }
    assert_eq!(host.end("a"), "\"Flaky\"");
    let told = attempts(&host, "a");
    let numbers: Vec<u32> = told.iter().map(|(number, _)| *number).collect();
    let last = 30 - FailedAttempt::KEPT_MAX as u32 + 1;
    let expected: Vec<u32> = std::iter::once(1).chain(last..=30).collect();
    assert_eq!(numbers, expected);
    host.check_histories();
}

#[test]
fn an_attempt_that_a_crash_cut_off_is_counted_and_seen() {
    let mut world = World::with("Call", calls("Hold", policy(2, 1_000, None))).in_file();
    {
        let host = world.open();
        host.start("Call", "a");
        let first = world.held();
        assert_eq!(first.attempt.attempt, 1);
        let image = world.crash_image();
        drop(host);
        drop(first);
        world = image;
    }
    world.clock.advance(Millis(50));
    let mut host = world.open();
    let second = world.held();
    assert_eq!(second.attempt.attempt, 2, "the first one was cut off");
    let row = &host
        .engine
        .hub
        .reader
        .tasks_of(host.row("a").unwrap().key)
        .unwrap()[0];
    let run = row.attempts[0].run;
    assert_eq!((run.started_at.0, run.ended_at.0), (BEGIN, BEGIN + 50));
    // The crash did not count for the policy, which allows two failures.
    second.ends(Err(Failure::retryable("Flaky", "")));
    until_attempt(&host, 2);
    drop(host);
    host = world.open();
    host.advance(1_000);
    let third = world.held();
    assert_eq!(third.attempt.attempt, 3);
    third.ends(Err(Failure::retryable("Worse", "")));
    assert_eq!(host.end("a"), "\"Worse\"");
    let all = seen(&[(1, "HostCrashed"), (2, "Flaky"), (3, "last Worse")]);
    assert_eq!(attempts(&host, "a"), all);
    host.check_histories();
}

#[test]
fn no_attempt_starts_after_giving_up_though_the_host_was_down() {
    for (down, gives_up) in [(1_400, false), (1_501, true)] {
        let world = World::with("Call", calls("Second", policy(9, 500, Some(1_500)))).in_file();
        world
            .activities
            .add("Second", |attempt| match attempt.attempt {
                1 => Err(Failure::retryable("Flaky", "no luck")),
                _ => Ok(None),
            });
        {
            let host = world.open();
            host.start("Call", "a");
            until_attempt(&host, 2);
        }
        world.clock.advance(Millis(down));
        let host = world.open();
        let end = host.end("a");
        if !gives_up {
            assert_eq!(end, "\"nothing\"");
            continue;
        }
        assert_eq!(end, "\"Flaky\"");
        assert_eq!(world.activities.began().len(), 1);
        assert_eq!(attempts(&host, "a"), seen(&[(1, "last Flaky")]));
        let failed = host.events("a").into_iter().find_map(|event| {
            let Event::ActivityFailed { failure, .. } = event else {
                return None;
            };
            Some(failure.message)
        });
        let said = failed.unwrap();
        assert!(said.starts_with("no luck; it was given up"), "{said}");
        assert!(said.contains("1500 ms"), "{said}");
        host.check_histories();
    }
}

#[test]
fn an_attempt_that_was_cut_off_counts_for_giving_up() {
    let mut world = World::with("Call", calls("Hold", policy(9, 500, Some(1_500))));
    {
        let host = world.open();
        host.start("Call", "a");
        let first = world.held();
        let image = world.crash_image();
        drop(host);
        drop(first);
        world = image;
    }
    world.clock.advance(Millis(1_501));
    let host = world.open();
    assert_eq!(host.end("a"), "\"HostCrashed\"");
    assert_eq!(world.activities.began().len(), 0);
    assert_eq!(attempts(&host, "a"), seen(&[(1, "last HostCrashed")]));
    host.check_histories();
}

#[test]
fn no_child_is_tried_again_after_giving_up() {
    let world = World::with("Parent", || {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.child("Failing", Some("kid"), Some(policy(9, 500, Some(1_500))));
            }
            if seen.has(0) {
                completes(format!("{:?}", seen.result(0)))
            } else {
                waits()
            }
        })
    })
    .and("Failing", || {
        Box::new(|_, _| Ending::Failed {
            failure: Failure::retryable("NoLuck", ""),
            cause: None,
        })
    })
    .in_file();
    {
        let host = world.open();
        host.start("Parent", "p");
        until_attempt(&host, 2);
    }
    world.clock.advance(Millis(1_501));
    let host = world.open();
    assert_eq!(host.end("p"), "\"NoLuck\"");
    assert!(host.row("kid:2").is_none());
    assert_eq!(host.count("SELECT count(*) FROM task"), 0);
    host.check_histories();
}
