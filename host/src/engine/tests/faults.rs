//! A disk with occasional faults.

use std::sync::atomic::Ordering;

use super::world::*;
use perennial_core::{Event, Status};

/// Runs some instances to their ends, with a fault at each position in turn.
fn check(fault: impl Fn(&Host<'_>, u64)) {
    let world = World::with("Mix", || {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call("Echo", 1);
                out.call_with("Twice", 2, retry(3, 10), None);
                out.child("Kid", None, None);
                out.timer(seen.now.0 + 20);
                out.send(&seen.id, "self", 1);
            }
            let done = seen.results.len() == 3 && seen.fired.len() == 1 && seen.events.len() == 1;
            if done {
                completes(format!(
                    "[{},{},{}]",
                    seen.result(0),
                    seen.result(1),
                    seen.result(2)
                ))
            } else {
                waits()
            }
        })
    })
    .and("Kid", || Box::new(|_, _| completes(3)));
    world
        .activities
        .add("Twice", |attempt| match attempt.attempt {
            1 => Err(perennial_core::Failure::retryable("Flaky", "")),
            _ => Ok(attempt.input),
        });
    let host = world.open();
    let mut ended = 0;
    for n in 1..60 {
        let id = format!("m{n}");
        fault(&host, n % 20 + 1);
        if !matches!(
            host.submit(start("Mix", &id, None)),
            Ok(crate::store::Reply::Done)
        ) {
            // The client got an error, so the start must not have been accepted.
            assert!(host.row(&id).is_none());
            continue;
        }
        while !host.row(&id).unwrap().status.is_end() {
            host.advance(100);
            std::thread::yield_now();
        }
        assert_eq!(host.end(&id), "[1,2,3]");
        assert_eq!(host.row(&id).unwrap().status, Status::Completed);
        let twice = |event: &&Event| matches!(event, Event::ChildCompleted { .. });
        assert_eq!(host.events(&id).iter().filter(twice).count(), 1);
        ended += 1;
    }
    assert!(ended > 40, "{ended} were accepted");
    let quiet = host.faults();
    [&quiet.run, &quiet.lost, &quiet.unheard]
        .into_iter()
        .for_each(|fault| fault.store(0, Ordering::Release));
    host.check_histories();
}

#[test]
fn a_write_that_fails_is_tried_again() {
    check(|host, n| host.faults().run.store(n, Ordering::Release));
}

#[test]
fn a_commit_that_is_lost_is_tried_again() {
    check(|host, n| host.faults().lost.store(n, Ordering::Release));
}

#[test]
fn a_commit_that_happened_and_reported_an_error_is_not_repeated() {
    check(|host, n| host.faults().unheard.store(n, Ordering::Release));
}

#[test]
fn a_guest_is_told_of_each_turn_once_and_when_it_is_in_the_hub() {
    for n in 1..8 {
        let world = World::with("Order", super::rewind::in_turn(&["Echo", "Echo", "Echo"]));
        let host = world.open();
        host.start("Order", "a");
        host.faults().lost.store(n, Ordering::Release);
        while !host.row("a").unwrap().status.is_end() {
            host.advance(1_000);
            std::thread::yield_now();
        }
        host.idle();
        let told = world.programs.committed.load(Ordering::Acquire);
        assert_eq!(told, host.row("a").unwrap().turns, "the fault at {n}");
    }
}
