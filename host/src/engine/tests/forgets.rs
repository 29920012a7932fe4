//! Work that a rewind forgets: completed work only on request, and an event that could not be read.

use std::sync::atomic::Ordering;

use super::rewind::{breakable, calls, fails_with, rewind, rewind_request};
use super::world::*;
use crate::engine::requests::refused;
use crate::engine::{Request, RewindRequest};
use crate::store::Reply;
use perennial_core::{Ending, Failure, Json, Status};

/// A saga: calls "Pay"; if that fails, compensates with "Echo" and a timer.
fn saga() -> Logic {
    let mut undone = false;
    Box::new(move |seen, out| {
        if out.is_first() {
            out.call("Pay", 1);
        }
        match fails_with(seen, 0) {
            Some(failed) => {
                if !std::mem::replace(&mut undone, true) {
                    out.call("Echo", 5);
                }
                if seen.has(1) { failed } else { waits() }
            }
            None if seen.has(0) => completes(seen.result(0)),
            None => waits(),
        }
    })
}

pub(super) fn forgetting(id: &str) -> Request {
    Request::RewindForgetting {
        rewind: RewindRequest {
            id: id.to_owned(),
            reason: None,
            module: None,
        },
        all_failures: false,
    }
}

fn is_refused(host: &Host<'_>, id: &str, of: &str) {
    let before = host.row(of).unwrap();
    match host.submit(rewind_request(id)).unwrap() {
        Reply::Refused { kind, message } => {
            assert_eq!(kind, refused::FORGETS);
            for said in [&format!("{of:?}"), "\"Echo\"", "--forget-completed"] {
                assert!(message.contains(said), "{message}");
            }
        }
        other => panic!("{other:?}"),
    }
    let after = host.row(of).unwrap();
    assert_eq!(
        (before.generation, after.status),
        (after.generation, Status::Failed)
    );
}

#[test]
fn what_a_saga_undid_is_forgotten_only_if_that_is_asked_for() {
    let world = World::with("Trip", saga);
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Trip", "trip");
    assert_eq!(host.end("trip"), "Down");
    mended.store(true, Ordering::Release);
    is_refused(&host, "trip", "trip");
    match host.submit(forgetting("trip")).unwrap() {
        Reply::Rewound(done) => assert!(done.dropped[0].is_work_done()),
        other => panic!("{other:?}"),
    }
    assert_eq!(host.end("trip"), "1");
    host.check_histories();
}

#[test]
fn what_a_child_undid_keeps_its_family_as_it_is() {
    let world = World::with("Tour", || {
        Box::new(|seen, out| {
            if out.is_first() {
                out.child("Plain", Some("plain"), None);
                out.child("Trip", Some("trip"), None);
            }
            match fails_with(seen, 1) {
                Some(failed) if seen.results.contains_key(&0) => failed,
                _ => waits(),
            }
        })
    })
    .and("Plain", super::rewind::in_turn(&["Pay"]))
    .and("Trip", saga)
    .and("Agency", calls("Tour", Some("tour")));
    let _never_mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Agency", "agency");
    assert_eq!(host.end("agency"), "Down");
    is_refused(&host, "agency", "trip");
    for id in ["agency", "tour", "plain"] {
        let row = host.row(id).unwrap();
        assert_eq!((row.generation, row.status), (0, Status::Failed), "{id}");
    }
    assert!(matches!(
        host.submit(forgetting("agency")).unwrap(),
        Reply::Rewound(_)
    ));
    host.until("agency", |row| row.generation == 1 && row.status.is_end());
}

#[test]
fn what_runs_beside_a_failure_is_kept_and_hinders_no_rewind() {
    let world = World::with("FanOut", || {
        Box::new(|seen, out| {
            if out.is_first() {
                out.call("Pay", 1);
                out.call("Hold", 2);
            }
            match fails_with(seen, 0) {
                Some(failed) if seen.has(1) => failed,
                None if seen.has(0) && seen.has(1) => completes(seen.result(0)),
                _ => waits(),
            }
        })
    });
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("FanOut", "a");
    let held = world.held();
    host.until("a", |row| row.turns == 2);
    held.ends(Ok("7"));
    assert_eq!(host.end("a"), "Down");
    mended.store(true, Ordering::Release);
    assert!(rewind(&host, "a").dropped.is_empty());
    assert_eq!(host.end("a"), "1");
}

/// Waits for an event with a number, after an activity whose failure it handles.
fn wants_a_number(says: fn(u32, &str) -> Failure) -> impl Fn() -> Logic + Send + Sync {
    move || {
        Box::new(move |seen, out| {
            if out.is_first() {
                out.call("Pay", 1);
            }
            match seen.events.first() {
                Some((number, name, data)) if seen.results.contains_key(&0) => {
                    let data = data.as_ref().map_or("null", Json::as_str);
                    match data.parse::<u32>() {
                        Ok(value) => completes(value),
                        Err(_) => Ending::Failed {
                            failure: says(*number, name),
                            cause: None,
                        },
                    }
                }
                _ => waits(),
            }
        })
    }
}

fn by_number(number: u32, _: &str) -> Failure {
    let details =
        format!(r#"{{"externalEvent":{{"number":{number},"name":"it does not matter"}}}}"#);
    Failure {
        details: Some(Json::from_text(details)),
        ..Failure::permanent("InvalidInput", "no number")
    }
}

fn by_name(_: u32, name: &str) -> Failure {
    let message = format!("the data of event {name:?} is not what was expected");
    Failure::permanent("InvalidInput", message)
}

#[test]
fn an_event_that_could_not_be_read_is_put_aside_and_waited_for_anew() {
    let world =
        World::with("Number", wants_a_number(by_number)).and("Named", wants_a_number(by_name));
    let _never_mended = breakable(&world, "Pay");
    let host = world.open();
    for name in ["Number", "Named"] {
        host.start(name, name);
        host.until(name, |row| row.turns == 2);
        host.raise(name, "Decision", "\"yes\"");
        assert_eq!(host.end(name), "InvalidInput");
        let done = rewind(&host, name);
        let [(id, event)] = &done.dropped_events[..] else {
            panic!("{done:?}")
        };
        assert_eq!(
            (id.as_str(), event.number, event.name.as_str()),
            (name, 0, "Decision")
        );
        // The handled failure is not the cause.
        assert_eq!((done.cut_events, done.activities.len()), (3, 0), "{name}");
        host.until(name, |row| row.status == Status::Running);
        host.raise(name, "Decision", 4);
        assert_eq!(host.end(name), "4");
    }
    host.check_histories();
}

#[test]
fn other_code_reads_the_event_once_more() {
    let world = World::with("Number", wants_a_number(by_number));
    let _never_mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Number", "a");
    host.until("a", |row| row.turns == 2);
    host.raise("a", "Decision", "\"yes\"");
    assert_eq!(host.end("a"), "InvalidInput");
    let request = RewindRequest {
        id: "a".to_owned(),
        reason: None,
        module: Some("all".to_owned()),
    };
    match host.submit(Request::Rewind(request)).unwrap() {
        Reply::Rewound(done) => assert_eq!(done.dropped_events, []),
        other => panic!("{other:?}"),
    }
    assert_eq!(host.end("a"), "InvalidInput");
    assert_eq!(rewind(&host, "a").dropped_events.len(), 1);
}
