//! The scope of a rewind: everything that failed together, time limits, children that were restarted meanwhile.

use std::sync::atomic::Ordering;

use super::rewind::{breakable, calls, fails_with, in_turn, restart, rewind};
use super::world::*;
use crate::engine::{Request, RewindRequest};
use crate::store::{Reply, Rewound};
use perennial_core::{Ending, FailedKind, Failure, Status, TaskId};

fn rewind_all(host: &Host<'_>, id: &str) -> Rewound {
    let request = RewindRequest {
        id: id.to_owned(),
        reason: None,
        module: None,
    };
    match host.submit(Request::RewindAll(request)).unwrap() {
        Reply::Rewound(done) => *done,
        other => panic!("{other:?}"),
    }
}

fn is_failed(seen: &Seen, task: u32) -> bool {
    matches!(seen.results.get(&task), Some(Err(_)))
}

/// Calls several activities, one of them with a policy, and a child at once. Waits for all, and fails with the failure of the last one that
/// failed.
fn joins() -> Logic {
    const TASKS: u32 = 4;
    Box::new(|seen, out| {
        if out.is_first() {
            out.call("First", 0);
            out.call_with("Retried", 1, retry(3, 10), None);
            out.call("Last", 2);
            out.child("Order", None, None);
        }
        if !(0..TASKS).all(|task| seen.has(task)) {
            return waits();
        }
        let failed = (0..TASKS).rev().find(|task| is_failed(seen, *task));
        match failed {
            Some(task) => fails_with(seen, task).unwrap(),
            None => completes(format!(
                "{:?}",
                (0..TASKS).map(|task| seen.result(task)).collect::<Vec<_>>()
            )),
        }
    })
}

#[test]
fn siblings_that_failed_at_different_times_take_one_rewind() {
    let world = World::with("Joins", joins).and("Order", in_turn(&["Echo", "Pay"]));
    let mended: Vec<_> = ["First", "Retried", "Last", "Pay"]
        .into_iter()
        .map(|name| breakable(&world, name))
        .collect();
    let host = world.open();
    host.start("Joins", "a");
    let begun = std::time::Instant::now();
    while !host.row("a").unwrap().status.is_end() {
        assert!(begun.elapsed() < patience());
        host.advance(10);
        host.idle();
    }
    assert_eq!(host.end("a"), "Down");
    for flag in &mended {
        flag.store(true, Ordering::Release);
    }
    let done = rewind(&host, "a");
    let again: Vec<&str> = done.activities.iter().map(|(_, name)| &**name).collect();
    assert_eq!(again, ["First", "Retried", "Last"]);
    assert_eq!((done.rewound.len(), done.remaining.len()), (1, 0));
    let end = host.end("a");
    assert!(!end.contains("Down"), "{end}");
    assert_eq!(host.row("a").unwrap().generation, 1);
    host.check_histories();
}

/// Handles the failure of one activity, calls another, and fails as that one does.
fn deals_with_one() -> Logic {
    let mut called = false;
    Box::new(move |seen, out| {
        if out.is_first() {
            out.call("First", 0);
        }
        if seen.has(0) && !std::mem::replace(&mut called, true) {
            out.call("Last", 1);
        }
        match fails_with(seen, 1) {
            Some(failed) => failed,
            None if seen.has(1) => completes(format!("{:?}", seen.result(0))),
            None => waits(),
        }
    })
}

#[test]
fn a_failure_that_stays_is_said_and_runs_again_where_all_are_asked_for() {
    let world = World::with("Order", deals_with_one);
    let mended = [breakable(&world, "First"), breakable(&world, "Last")];
    let host = world.open();
    for id in ["some", "all"] {
        host.start("Order", id);
        assert_eq!(host.end(id), "Down");
    }
    mended
        .iter()
        .for_each(|flag| flag.store(true, Ordering::Release));
    let done = rewind(&host, "some");
    let [stays] = &done.remaining[..] else {
        panic!("{:?}", done.remaining);
    };
    assert_eq!(
        (stays.task, stays.kind, &*stays.name, &*stays.failure),
        (TaskId(0), FailedKind::Activity, "First", "Down")
    );
    assert_eq!(host.end("some"), "\"Down\"");
    let done = rewind_all(&host, "all");
    assert_eq!((done.remaining.len(), done.dropped.len()), (0, 1));
    assert_eq!(host.end("all"), "\"0\"");
    host.check_histories();
}

/// Waits for an event for at most a minute. With `names_the_timer` its failure names the timer as the cause.
fn answers_in_time(names_the_timer: bool) -> impl Fn() -> Logic + Send + Sync {
    move || {
        Box::new(move |seen, out| {
            if out.is_first() {
                out.timer(seen.now.0 + 60_000);
            }
            match seen.events.first() {
                Some((_, _, data)) => completes(data.as_ref().unwrap()),
                None if seen.has(0) => Ending::Failed {
                    failure: Failure::permanent("Timeout", ""),
                    cause: names_the_timer.then_some(TaskId(0)),
                },
                None => waits(),
            }
        })
    }
}

#[test]
fn what_failed_by_its_time_limit_has_the_whole_span_again() {
    for names_the_timer in [true, false] {
        let world = World::with("Approval", answers_in_time(names_the_timer));
        let host = world.open();
        host.start("Approval", "late");
        host.start("Approval", "never");
        host.advance(60_000);
        for id in ["late", "never"] {
            assert_eq!(host.end(id), "Timeout");
        }
        host.advance(500_000);
        for id in ["late", "never"] {
            rewind(&host, id);
        }
        drop(host);
        // Another host computes the same time.
        let host = world.open();
        host.advance(59_999);
        host.idle();
        assert_eq!(host.row("late").unwrap().status, Status::Running);
        host.raise("late", "go", "\"yes\"");
        assert_eq!(host.end("late"), "\"yes\"");
        host.idle();
        assert_eq!(host.row("never").unwrap().status, Status::Running);
        host.advance(1);
        assert_eq!(host.end("never"), "Timeout");
        host.check_histories();
    }
}

#[test]
fn a_restarted_child_that_completed_gives_its_output_to_the_rewound_parent() {
    let world = World::with("Parent", calls("Order", Some("kid"))).and("Order", in_turn(&["Pay"]));
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Parent", "p");
    assert_eq!(host.end("p"), "Down");
    mended.store(true, Ordering::Release);
    assert_eq!(restart(&host, "kid", None), Reply::Done);
    assert_eq!(host.end("kid"), "0");
    let kid = host.row("kid").unwrap();
    assert_eq!((&kid.parent, kid.parent_key), (&None, None));
    let done = rewind(&host, "p");
    assert_eq!((done.rewound.len(), done.started.len()), (0, 0));
    assert_eq!(host.end("p"), "0");
    assert_eq!(host.row("kid").unwrap().key, kid.key);
    host.check_histories();
}

#[test]
fn a_restarted_child_that_still_runs_is_waited_for() {
    let world = World::with("Parent", calls("Kid", Some("kid"))).and("Kid", || {
        Box::new(|seen, out| {
            if out.is_first() {
                out.call("Hold", 1);
            }
            match fails_with(seen, 0) {
                Some(failed) => failed,
                None if seen.has(0) => completes(seen.result(0)),
                None => waits(),
            }
        })
    });
    let host = world.open();
    host.start("Parent", "p");
    world.held().ends(Err(Failure::permanent("Down", "")));
    assert_eq!(host.end("p"), "Down");
    assert_eq!(restart(&host, "kid", None), Reply::Done);
    let held = world.held();
    rewind(&host, "p");
    host.idle();
    assert_eq!(host.row("p").unwrap().status, Status::Running);
    let kid = host.row("kid").unwrap();
    assert_eq!(kid.parent.unwrap().instance_id, "p");
    // The attempt that ran when the parent took the child back continues.
    held.ends(Ok("5"));
    assert_eq!(host.end("p"), "5");
    host.check_histories();
}

#[test]
fn a_restarted_child_that_failed_again_goes_first_and_one_that_was_ended_begins_again() {
    let world = World::with("Parent", calls("Order", Some("kid")))
        .and("Order", in_turn(&["Pay"]))
        .and("Waits", calls("Listen", Some("ear")))
        .and("Listen", listens(1));
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Parent", "p");
    assert_eq!(host.end("p"), "Down");
    assert_eq!(restart(&host, "kid", None), Reply::Done);
    assert_eq!(host.end("kid"), "Down");
    mended.store(true, Ordering::Release);
    assert_eq!(rewind(&host, "p").rewound, ["kid"]);
    assert_eq!(host.end("p"), "0");

    host.start("Waits", "w");
    host.until("ear", |row| row.status == Status::Running);
    host.terminate("ear");
    assert_eq!(host.end("w"), "Terminated");
    assert_eq!(restart(&host, "ear", None), Reply::Done);
    host.until("ear", |row| row.status == Status::Running);
    host.terminate("ear");
    assert_eq!(host.end("ear"), "Terminated");
    assert_eq!(rewind(&host, "w").started, ["ear"]);
    host.until("ear", |row| row.status == Status::Running);
    host.raise("ear", "go", 7);
    assert_eq!(host.end("w"), "[7]");
    host.check_histories();
}

#[test]
fn another_instance_with_the_id_of_a_failed_child_is_not_taken_for_it() {
    let world = World::with("Parent", calls("Order", Some("kid")))
        .and("Order", in_turn(&["Pay"]))
        .and("Listen", listens(1));
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Parent", "p");
    assert_eq!(host.end("p"), "Down");
    host.start("Listen", "kid");
    // The unrelated instance keeps the id while it is live.
    let done = rewind(&host, "p");
    let [stays] = &done.remaining[..] else {
        panic!("{:?}", done.remaining);
    };
    assert_eq!(
        (stays.kind, &*stays.failure),
        (FailedKind::Child, "InstanceExists")
    );
    assert_eq!(host.end("p"), "InstanceExists");
    host.raise("kid", "go", 1);
    assert_eq!(host.end("kid"), "[1]");
    mended.store(true, Ordering::Release);
    assert_eq!(rewind(&host, "p").started, ["kid"]);
    assert_eq!(host.end("p"), "0");
    host.check_histories();
}
