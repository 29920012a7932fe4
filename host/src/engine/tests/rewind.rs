//! Rewinds and restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::*;
use crate::engine::{Request, RestartRequest, RewindRequest};
use crate::store::{Reply, Rewound};
use perennial_core::{Ending, Failure, Status, TaskId};

pub(super) fn rewind_request(id: &str) -> Request {
    Request::Rewind(RewindRequest {
        id: id.to_owned(),
        reason: Some("mended".to_owned()),
        module: None,
    })
}

pub(super) fn rewind(host: &Host<'_>, id: &str) -> Rewound {
    match host.submit(rewind_request(id)).unwrap() {
        Reply::Rewound(done) => *done,
        other => panic!("{other:?}"),
    }
}

pub(super) fn restart(host: &Host<'_>, id: &str, new_id: Option<&str>) -> Reply {
    let (id, new_id) = (id.to_owned(), new_id.map(str::to_owned));
    host.submit(Request::Restart(RestartRequest { id, new_id }))
        .unwrap()
}

/// Adds an activity that fails until the returned flag is set.
pub(super) fn breakable(world: &World, name: &str) -> Arc<AtomicBool> {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    world.activities.add(name, move |attempt| {
        if is_mended.load(Ordering::Acquire) {
            Ok(attempt.input)
        } else {
            Err(Failure::retryable("Down", "the bank is down"))
        }
    });
    mended
}

/// Fails with the failure of a task, if it has failed.
pub(super) fn fails_with(seen: &Seen, task: u32) -> Option<Ending> {
    match seen.results.get(&task) {
        Some(Err(failure)) => Some(Ending::Failed {
            failure: failure.clone(),
            cause: Some(TaskId(task)),
        }),
        _ => None,
    }
}

/// Calls these activities one after the other. Completes with the last result, or fails with the first failure.
pub(super) fn in_turn(activities: &'static [&'static str]) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut next = 0;
        Box::new(move |seen, out| {
            if next > 0 {
                if let Some(failed) = fails_with(seen, next - 1) {
                    return failed;
                }
                if !seen.has(next - 1) {
                    return waits();
                }
            }
            let Some(name) = activities.get(next as usize) else {
                return completes(seen.result(next - 1));
            };
            out.call(name, next);
            next += 1;
            waits()
        })
    }
}

/// Calls a child, and ends as the child does.
pub(super) fn calls(
    name: &'static str,
    id: Option<&'static str>,
) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.child(name, id, None);
            }
            match fails_with(seen, 0) {
                Some(failed) => failed,
                None if seen.has(0) => completes(seen.result(0)),
                None => waits(),
            }
        })
    }
}

fn attempts(world: &World, ending: &str) -> usize {
    let began = world.activities.began();
    began
        .iter()
        .filter(|(key, _)| key.ends_with(ending))
        .count()
}

#[test]
fn only_what_failed_runs_again_and_the_rest_is_kept() {
    let world = World::with("Order", in_turn(&["Echo", "Pay", "Echo"])).in_file();
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Order", "a");
    assert_eq!(host.end("a"), "Down");
    let before = host.row("a").unwrap();
    mended.store(true, Ordering::Release);
    let done = rewind(&host, "a");
    assert_eq!(done.activities, [(TaskId(1), "Pay".to_owned())]);
    assert_eq!((done.dropped.len(), done.cut_events), (0, 3));
    assert_eq!(host.end("a"), "2");
    let after = host.row("a").unwrap();
    assert_eq!(after.execution_id, before.execution_id);
    assert_eq!((before.generation, after.generation), (0, 1));
    assert_eq!(after.failure, None);
    // All attempts of a task have the same key.
    assert_eq!(
        (
            attempts(&world, ":0"),
            attempts(&world, ":1"),
            attempts(&world, ":2@1")
        ),
        (1, 2, 1)
    );
    host.check_histories();
    assert_eq!(
        host.count("SELECT count(*) FROM rewind WHERE reason = 'mended'"),
        1
    );
    assert_eq!(host.count("SELECT count(*) FROM cut_turn"), 1);
}

#[test]
fn an_instance_can_be_rewound_as_often_as_it_fails() {
    let world = World::with("Order", in_turn(&["Echo", "Pay"]));
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Order", "a");
    for generation in 1..=3 {
        assert_eq!(host.end("a"), "Down");
        rewind(&host, "a");
        host.until("a", |row| {
            row.generation == generation && row.status.is_end()
        });
    }
    mended.store(true, Ordering::Release);
    rewind(&host, "a");
    assert_eq!(host.end("a"), "1");
    assert_eq!(attempts(&world, ":0"), 1);
    host.check_histories();
}

#[test]
fn retry_policies_and_timers_go_on_after_a_rewind() {
    let world = World::with("Patient", || {
        let mut step = 0;
        Box::new(move |seen, out| {
            if step == 0 {
                out.call_with("Pay", 1, retry(2, 100), None);
                out.timer(BEGIN + 5_000);
                step = 1;
            }
            if let Some(failed) = fails_with(seen, 0) {
                return failed;
            }
            match (seen.has(0), seen.has(1)) {
                (true, true) => completes(seen.now.0),
                _ => waits(),
            }
        })
    })
    .in_file();
    let mended = breakable(&world, "Pay");
    let host = world.open();
    let until_it_waits_to_retry = || {
        host.until_count("SELECT count(*) FROM task WHERE attempt = 2", 1);
        host.idle();
    };
    host.start("Patient", "a");
    until_it_waits_to_retry();
    host.advance(100);
    assert_eq!(host.end("a"), "Down");
    // The timer becomes due after the instance has failed.
    host.advance(10_000);
    rewind(&host, "a");
    until_it_waits_to_retry();
    mended.store(true, Ordering::Release);
    host.advance(100);
    assert_eq!(host.end("a"), (BEGIN + 10_200).to_string());
    let tries: Vec<u32> = world
        .activities
        .began()
        .iter()
        .map(|(_, attempt)| *attempt)
        .collect();
    assert_eq!(tries, [1, 2, 1, 2]);
    host.check_histories();
}

#[test]
fn events_that_came_in_after_the_failure_are_not_lost() {
    let world = World::with("Listens", || {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call("Hold", 1);
            }
            match fails_with(seen, 0) {
                Some(failed) => failed,
                None if seen.has(0) => {
                    let events: Vec<String> = seen
                        .events
                        .iter()
                        .map(|(_, name, _)| name.clone())
                        .collect();
                    completes(format!("{:?}", events.join(" ")))
                }
                None => waits(),
            }
        })
    });
    let host = world.open();
    host.start("Listens", "a");
    host.raise("a", "one", 1);
    host.until("a", |row| row.turns == 2);
    // A queued attempt would wait until the instance is resumed.
    let held = world.held();
    host.suspend("a");
    held.ends(Err(Failure::permanent("Down", "")));
    host.raise("a", "two", 2);
    host.resume("a");
    assert_eq!(host.end("a"), "Down");
    rewind(&host, "a");
    host.raise("a", "three", 3);
    let raised = |event: &&perennial_core::Event| event.name() == "ExternalEventRaised";
    host.until("a", |_| host.events("a").iter().filter(raised).count() == 3);
    world.held().ends(Ok("5"));
    assert_eq!(host.end("a"), "\"one two three\"");
    host.check_histories();
}

#[test]
fn failed_children_are_rewound_first() {
    let world = World::with("Grandparent", calls("Parent", None))
        .and("Parent", calls("Order", None))
        .and("Order", in_turn(&["Echo", "Pay"]));
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Grandparent", "g");
    assert_eq!(host.end("g"), "Down");
    mended.store(true, Ordering::Release);
    let done = rewind(&host, "g");
    assert_eq!(done.rewound.len(), 2);
    assert_eq!(host.end("g"), "1");
    for id in &done.rewound {
        assert_eq!(host.row(id).unwrap().status, Status::Completed, "{id}");
    }
    assert_eq!(attempts(&world, ":0"), 1);
    host.check_histories();
}

#[test]
fn a_child_that_fails_once_more_fails_its_parent_once_more() {
    let world = World::with("Parent", calls("Order", None)).and("Order", in_turn(&["Pay"]));
    let _never_mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Parent", "p");
    for generation in 1..=2 {
        assert_eq!(host.end("p"), "Down");
        assert_eq!(rewind(&host, "p").rewound.len(), 1);
        host.until("p", |row| {
            row.generation == generation && row.status.is_end()
        });
    }
    host.check_histories();
}

#[test]
fn a_child_that_is_gone_or_was_terminated_is_started_again() {
    let world = World::with("Parent", calls("Listen", Some("kid")))
        .and("Listen", listens(1))
        .in_file();
    let host = world.open();
    host.start("Parent", "p");
    host.until("kid", |row| row.status == Status::Running);
    host.terminate("kid");
    assert_eq!(host.end("p"), "Terminated");
    assert_eq!(rewind(&host, "p").started, ["kid"]);
    host.until("kid", |row| row.status == Status::Running);
    host.terminate("kid");
    assert_eq!(host.end("p"), "Terminated");
    drop(host);
    // Only a purge leaves a parent without its child.
    let host = world.open();
    host.meddle("DELETE FROM instance WHERE id = 'kid'");
    assert_eq!(rewind(&host, "p").started, ["kid"]);
    host.until("kid", |row| row.status == Status::Running);
    host.raise("kid", "go", 7);
    assert_eq!(host.end("p"), "[7]");
}

#[test]
fn what_was_asked_for_after_the_failure_is_dropped_and_asked_for_anew() {
    let world = World::with("Saga", || {
        let mut undone = false;
        Box::new(move |seen, out| {
            if out.is_first() {
                out.call("Pay", 1);
            }
            if let Some(failed) = fails_with(seen, 0) {
                if !std::mem::replace(&mut undone, true) {
                    out.call("Echo", 5);
                    out.child("Listen", None, None);
                    out.timer(BEGIN + 60_000);
                }
                return if seen.has(1) { failed } else { waits() };
            }
            if seen.has(0) && !std::mem::replace(&mut undone, true) {
                // Other tasks, an activity and a child, get the ids of the forgotten ones.
                out.call("Echo", 6);
                out.child("Listen", None, None);
            }
            match seen.has(2) {
                true => completes(seen.result(2)),
                false => waits(),
            }
        })
    })
    .and("Listen", listens(1));
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Saga", "a");
    assert_eq!(host.end("a"), "Down");
    let kid = format!("{}:2", host.row("a").unwrap().execution_id);
    let first = host.until(&kid, |row| row.status == Status::Running);
    mended.store(true, Ordering::Release);
    let Reply::Rewound(done) = host.submit(super::forgets::forgetting("a")).unwrap() else {
        panic!("it was asked to forget what completed")
    };
    assert_eq!(done.dropped.len(), 3);
    assert!(done.dropped[0].completed && !done.dropped[1].completed);
    let second = host.until(&kid, |row| row.key != first.key);
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    host.until(&kid, |row| row.status == Status::Running);
    host.raise(&kid, "go", 8);
    assert_eq!(host.end("a"), "[8]");
    assert_eq!(host.row(&kid).unwrap().key, second.key);
    let keys: Vec<String> = world
        .activities
        .began()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let own: std::collections::BTreeSet<&String> =
        keys.iter().filter(|key| key.contains(":1")).collect();
    assert_eq!(own.len(), 2, "another task has another key: {keys:?}");
    host.check_histories();
}

#[test]
fn a_result_of_before_the_rewind_means_nothing_after_it() {
    let world = World::with("Two", || {
        Box::new(|seen, out| {
            if out.is_first() {
                out.call("Hold", 1);
                out.call("Pay", 2);
            }
            match fails_with(seen, 1) {
                Some(failed) => failed,
                None if seen.has(0) && seen.has(1) => completes(seen.result(0)),
                None => waits(),
            }
        })
    });
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Two", "a");
    let old = world.held();
    assert_eq!(host.end("a"), "Down");
    mended.store(true, Ordering::Release);
    rewind(&host, "a");
    let new = world.held();
    assert!(old.attempt.interrupt.is_set());
    assert_eq!(old.attempt.idempotency_key(), new.attempt.idempotency_key());
    old.ends(Ok("\"old\""));
    host.idle();
    new.ends(Ok("\"new\""));
    assert_eq!(host.end("a"), "\"new\"");
    host.check_histories();
}

#[test]
fn a_failure_in_the_first_turn_begins_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let world = World::with("Early", move || {
        let is_broken = Arc::clone(&is_broken);
        Box::new(move |seen, _| match is_broken.load(Ordering::Acquire) {
            true => fails("Early"),
            false => completes(seen.number()),
        })
    });
    let host = world.open();
    host.start_with("Early", "a", 5);
    assert_eq!(host.end("a"), "Early");
    broken.store(false, Ordering::Release);
    rewind(&host, "a");
    assert_eq!(host.end("a"), "5");
    host.check_histories();
}

#[test]
fn a_crash_before_or_after_a_rewind_loses_nothing() {
    let world =
        World::with("Parent", calls("Order", None)).and("Order", in_turn(&["Echo", "Pay", "Echo"]));
    let mended = breakable(&world, "Pay");
    let mut images = Vec::new();
    {
        let host = world.open();
        host.start("Parent", "p");
        assert_eq!(host.end("p"), "Down");
        mended.store(true, Ordering::Release);
        images.push(world.crash_image());
        std::thread::scope(|scope| {
            let rewound = scope.spawn(|| rewind(&host, "p"));
            while !rewound.is_finished() {
                images.push(world.crash_image());
            }
        });
        while !host.row("p").unwrap().status.is_end() {
            images.push(world.crash_image());
        }
        images.push(world.crash_image());
    }
    let count = images.len();
    for (number, image) in images.into_iter().enumerate() {
        if number % (count / 12 + 1) != 0 && number + 1 != count {
            continue;
        }
        let recorded = image.recorded();
        let host = image.open();
        if host.row("p").unwrap().status == Status::Failed {
            rewind(&host, "p");
        }
        assert_eq!(host.end("p"), "2");
        host.check_histories();
        let began = image.activities.began();
        let again = began
            .iter()
            .find(|(key, _)| recorded.contains(key) && !key.ends_with(":1"));
        assert_eq!(again, None, "its result was in the hub");
    }
}
