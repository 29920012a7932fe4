//! Child instances, and instances that start others.

use std::future::IntoFuture;

use super::world::*;
use crate::engine::{Request, StartRequest};
use crate::store::{Purged, Reply};
use perennial_core::{Event, RetryPolicy, Reuse, Status};

/// Calls a child, and completes with its outcome.
fn parent(
    name: &'static str,
    id: Option<&'static str>,
    policy: Option<RetryPolicy>,
) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let (policy, mut called) = (policy.clone(), false);
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.child(name, id, policy.clone());
            }
            if seen.has(0) {
                completes(format!("{:?}", seen.result(0)))
            } else {
                waits()
            }
        })
    }
}

fn completing(text: &'static str) -> impl Fn() -> Logic + Send + Sync {
    move || Box::new(move |_, _| completes(text))
}

fn failing() -> Logic {
    let failure = perennial_core::Failure::retryable("Child", "");
    Box::new(move |_, _| perennial_core::Ending::Failed {
        failure: failure.clone(),
        cause: None,
    })
}

fn replace(name: &str, id: &str) -> Request {
    Request::Start(StartRequest {
        name: name.to_owned(),
        version: None,
        id: id.to_owned(),
        input: None,
        tags: Vec::new(),
        reuse: Reuse::Any,
        trace_parent: None,
        scheduled_for: None,
    })
}

/// How often the parent received an end of a child.
fn told(host: &Host<'_>, id: &str) -> usize {
    let is_end = |event: &Event| {
        matches!(
            event,
            Event::ChildCompleted { .. } | Event::ChildFailed { .. }
        )
    };
    host.events(id).iter().filter(|event| is_end(event)).count()
}

#[test]
fn each_end_of_a_child_reaches_its_parent_once() {
    let world = World::with("Good", parent("Child", None, None))
        .and("Bad", parent("Failing", None, None))
        .and("Lost", parent("Missing", None, None))
        .and("Taken", parent("Child", Some("taken"), None))
        .and("Named", parent("Listen", Some("kid"), None))
        .and("Child", completing("5"))
        .and("Failing", failing)
        .and("Listen", listens(1));
    let host = world.open();
    host.start("Listen", "taken");
    for (name, outcome) in [
        ("Good", "\"5\""),
        ("Bad", "\"Child\""),
        ("Lost", "\"UnknownOrchestration\""),
        ("Taken", "\"InstanceExists\""),
    ] {
        host.start(name, name);
        assert_eq!(host.end(name), outcome);
        assert_eq!(told(&host, name), 1);
    }
    host.start("Named", "named");
    host.until("kid", |row| row.status == Status::Running);
    host.terminate("kid");
    assert_eq!(host.end("named"), "\"Terminated\"");
    assert_eq!(host.end("kid"), "Terminated");
    assert_eq!(host.row("taken").unwrap().status, Status::Running);
    host.check_histories();
}

#[test]
fn a_child_that_is_replaced_has_ended_for_its_parent() {
    let world = World::with("Named", parent("Listen", Some("kid"), None)).and("Listen", listens(1));
    let host = world.open();
    host.start("Named", "a");
    host.until("kid", |row| row.status == Status::Running);
    assert_eq!(host.submit(replace("Listen", "kid")).unwrap(), Reply::Done);
    assert_eq!(host.end("a"), "\"Replaced\"");
    host.raise("kid", "go", 1);
    assert_eq!(host.end("kid"), "[1]");
    assert_eq!(told(&host, "a"), 1);
    host.check_histories();
}

#[test]
fn the_end_of_a_child_does_not_reach_another_instance_with_its_parents_id() {
    let world = World::with("Named", parent("Listen", Some("kid"), None))
        .and("Other", parent("Listen", Some("other-kid"), None))
        .and("Listen", listens(1));
    let host = world.open();
    host.start("Named", "a");
    host.until("kid", |row| row.status == Status::Running);
    assert_eq!(host.submit(replace("Other", "a")).unwrap(), Reply::Done);
    host.until("other-kid", |row| row.status == Status::Running);
    host.raise("kid", "go", "\"wrong\"");
    host.end("kid");
    host.idle();
    assert_eq!(told(&host, "a"), 0);
    host.raise("other-kid", "go", "\"right\"");
    assert_eq!(host.end("a"), format!("{:?}", "[\"right\"]"));
    host.check_histories();
}

#[test]
fn a_child_is_tried_again_also_after_a_restart() {
    let world = World::with("Retry", parent("Failing", Some("kid"), retry(3, 1_000)))
        .and("Failing", failing);
    let host = world.open();
    host.start("Retry", "a");
    let scheduled = |event: &Event| matches!(event, Event::ChildRetryScheduled { .. });
    host.until("a", |_| {
        host.events("a")
            .iter()
            .filter(|event| scheduled(event))
            .count()
            == 1
    });
    host.advance(1_000);
    host.until("a", |_| {
        host.events("a")
            .iter()
            .filter(|event| scheduled(event))
            .count()
            == 2
    });
    drop(host);
    world.clock.advance(perennial_core::Millis(999));
    let host = world.open();
    host.idle();
    assert!(host.row("kid:3").is_none());
    host.advance(1);
    assert_eq!(host.end("a"), "\"Child\"");
    for id in ["kid", "kid:2", "kid:3"] {
        assert_eq!(host.row(id).unwrap().status, Status::Failed);
    }
    host.check_histories();
}

#[test]
fn an_instance_that_cannot_be_started_is_noted_and_holds_nobody_up() {
    let world = World::with("Starter", || {
        Box::new(|seen, out| {
            if seen.events.is_empty() {
                out.start("Child", "new");
                out.start("Child", "taken");
                out.start("Missing", "lost");
                return waits();
            }
            completes(1)
        })
    })
    .and("Child", completing("5"))
    .and("Listen", listens(1));
    let host = world.open();
    host.start("Listen", "taken");
    host.start("Starter", "a");
    assert_eq!(host.end("new"), "5");
    let skipped = |host: &Host<'_>| {
        let is_skipped = |event: &&Event| matches!(event, Event::InstanceStartSkipped { .. });
        host.events("a").iter().filter(is_skipped).count()
    };
    host.until("a", |_| skipped(&host) == 2);
    host.raise("a", "go", 1);
    assert_eq!(host.end("a"), "1");
    assert!(host.row("new").unwrap().parent.is_none() && host.row("lost").is_none());
    host.check_histories();
}

#[test]
fn a_return_waits_for_children_that_still_run() {
    let world = World::with("Return", || {
        Box::new(|_, out| {
            out.child("Listen", Some("kid"), None);
            completes("\"early\"")
        })
    })
    .and("Listen", listens(1));
    let host = world.open();
    host.start("Return", "a");
    let row = host.until("a", |row| row.returned);
    assert_eq!(row.status, Status::Running);
    // Another owner may start it later.
    host.until("kid", |_| true);
    host.raise("kid", "go", 1);
    assert_eq!(host.end("a"), "\"early\"");
    host.check_histories();
}

#[test]
fn a_family_tree_of_a_thousand_ends() {
    let world = World::with("Tree", || {
        Box::new(|seen, out| {
            let depth = seen.id.matches('.').count();
            if depth == 3 {
                return completes(1);
            }
            if seen.results.is_empty() {
                for n in 0..10 {
                    out.child("Tree", Some(&format!("{}.{n}", seen.id)), None);
                }
                return waits();
            }
            if seen.results.len() < 10 {
                return waits();
            }
            let sum: u64 = (0..10)
                .map(|n| seen.result(n).parse::<u64>().unwrap())
                .sum();
            completes(sum)
        })
    });
    let host = world.open();
    host.start("Tree", "t");
    assert_eq!(host.end("t"), "1000");
    host.check_histories();
}

#[test]
fn a_purged_child_reaches_its_parent_once_and_not_if_it_had_told_before() {
    let world = World::with("Patient", || {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.child("Child", Some("told"), None);
                out.child("Child", Some("late"), None);
                out.child("Listen", Some("lost"), None);
            }
            if seen.has(0) && seen.has(1) && seen.has(2) {
                completes(format!(
                    "{:?}",
                    (0..3).map(|i| seen.result(i)).collect::<Vec<_>>()
                ))
            } else {
                waits()
            }
        })
    })
    .and("Child", completing("ok"))
    .and("Listen", listens(1))
    .in_file();
    let host = world.open();
    host.start("Patient", "p");
    host.idle();
    assert_eq!(told(&host, "p"), 2);
    let purge = |id: &str| host.submit(Request::PurgeId(id.to_owned())).unwrap();
    let one = Reply::Purged(Purged {
        deleted: 1,
        live: 0,
    });
    assert!(matches!(purge("lost"), Reply::Rejected(_)));
    // A child that has reported its end is deleted, whether the parent runs or is suspended.
    assert_eq!(purge("told"), one);
    host.suspend("p");
    host.idle();
    assert_eq!(purge("late"), one);
    host.resume("p");
    host.idle();
    assert_eq!(told(&host, "p"), 2);
    // This child ended without a report, so its parent would wait for ever.
    host.meddle("UPDATE instance SET status = 4 WHERE id = 'lost'");
    assert_eq!(purge("lost"), one);
    assert_eq!(purge("lost"), Reply::Purged(Purged::default()));
    let end = host.end("p");
    assert!(end.contains("ok") && end.contains("Purged"), "{end}");
    assert_eq!(told(&host, "p"), 3);
    host.check_histories();
}

#[test]
fn what_waits_for_nothing_says_so() {
    let world = World::with("Idle", || Box::new(|_, _| waits())).in_file();
    let host = world.open();
    host.start("Idle", "a");
    host.idle();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = crate::Client::open(world.dir(), "hub").unwrap();
    let status = runtime.block_on(client.status("a").into_future());
    assert_eq!(status.unwrap().unwrap().waits_for, [crate::Wait::Nothing]);
}
