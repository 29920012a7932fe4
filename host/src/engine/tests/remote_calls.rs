//! What remote workers call and are called for, and how their orchestrations go on: versions, components, rewinds, restarts, suspensions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use perennial_core::{
    Action, ActivityCall, CallDetails, CallOptions, Ending, Event, Status, TaskId,
};

use super::remote::*;
use super::rewind::{breakable, calls, in_turn, restart, rewind};
use super::world::*;
use crate::engine::remote::{Filter, Offer, WorkItem};

/// The tests here look at the engine that runs the instance.
fn one_engine(name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> World {
    World::with(name, make).with_one_engine()
}

#[test]
fn an_activity_goes_only_to_a_worker_of_its_version() {
    let world = world();
    let host = world.open();
    let (_orchestrator, mut turns) = host.engine.connect(Offer {
        activities: Filter::Only(Vec::new()),
        ..everything(1, 1)
    });
    let (_old, mut old) = host.engine.connect(Offer {
        orchestrations: Filter::Only(Vec::new()),
        activities: only(&[("Pay", &["1.0"])]),
        ..everything(1, 1)
    });
    let (_new, mut new) = host.engine.connect(Offer {
        orchestrations: Filter::Only(Vec::new()),
        activities: only(&[("Pay", &["2.0"])]),
        ..everything(1, 1)
    });
    host.starts("Order", Some("2.0"), "a");
    let item = turn(host.item(&mut turns));
    let call = |task: u32| {
        Action::CallActivity(ActivityCall {
            task: TaskId(task),
            name: "Pay".to_owned(),
            input: None,
            retry: None,
            attempt_timeout: None,
            options: CallOptions::default(),
        })
    };
    let version = Action::Describe(CallDetails {
        task: TaskId(1),
        version: Some("1.0".to_owned()),
        tags: vec![("a".to_owned(), "b".to_owned())],
    });
    let mut answer = waiting();
    answer.answer.actions = vec![call(0), call(1), version];
    assert!(host.engine.orchestration_answered(&item.token, answer));
    let inherits = activity(host.item(&mut new));
    assert_eq!((inherits.task.0, inherits.version.as_deref()), (0, None));
    let own = activity(host.item(&mut old));
    assert_eq!((own.task.0, own.version.as_deref()), (1, Some("1.0")));
    assert_eq!(own.tags, [("a".to_owned(), "b".to_owned())]);
    assert!(host.engine.activity_answered(&own.token, Ok(None)));
    let item = turn(host.item(&mut turns));
    let done = ending(Ending::Completed(None));
    assert!(host.engine.orchestration_answered(&item.token, done));
    assert_eq!(host.end("a"), "nothing", "complete whatever is open");
    host.check_histories();
}

#[test]
fn a_component_calls_what_only_a_worker_runs() {
    let world = one_engine("Chain", chain("Elsewhere", 1));
    let host = world.open();
    host.start("Chain", "unserved");
    assert_eq!(host.end("unserved"), "UnknownActivity");
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    host.start("Chain", "a");
    let work = activity(host.item(&mut items));
    assert_eq!(work.name, "Elsewhere");
    assert!(
        host.engine
            .activity_answered(&work.token, Ok(Some(json(7))))
    );
    assert_eq!(host.end("a"), "7");
    host.check_histories();
}

#[test]
fn events_that_continue_as_new_carries_over_come_in_again() {
    let world = world();
    let host = world.open();
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    host.starts("Order", None, "a");
    let item = turn(host.item(&mut items));
    host.engine.orchestration_answered(&item.token, waiting());
    host.until("a", |row| row.status == Status::Running);
    host.raise("a", "E", 1);
    let item = turn(host.item(&mut items));
    host.engine.orchestration_answered(&item.token, waiting());
    host.idle();
    host.raise("a", "E", 1);
    let item = turn(host.item(&mut items));
    let first = item.execution_id.clone();
    let mut answer = ending(Ending::ContinuedAsNew {
        input: Some(json(5)),
        version: None,
        carry_over: Vec::new(),
    });
    answer.carried = vec![
        ("e".to_owned(), Some(json(1))),
        ("E".to_owned(), Some(json(1))),
    ];
    host.engine.orchestration_answered(&item.token, answer);
    let item = turn(host.item(&mut items));
    assert_ne!(item.execution_id, first);
    let raised = item
        .received
        .iter()
        .filter(|e| matches!(e, Event::ExternalEventRaised { .. }));
    assert_eq!(raised.count(), 2);
    host.engine
        .orchestration_answered(&item.token, ending(Ending::Completed(None)));
    assert_eq!(host.end("a"), "nothing");
    host.check_histories();
}

#[test]
fn an_orchestration_of_a_worker_is_rewound_with_its_child_as_often_as_it_fails() {
    let mut world =
        one_engine("Parent", calls("Order", None)).and("Order", in_turn(&["Echo", "Pay"]));
    (world.remote, world.with_worker) = (true, true);
    let mended = breakable(&world, "Pay");
    let host = world.open();
    host.start("Parent", "a");
    for generation in 1..=2 {
        assert_eq!(host.end("a"), "Down");
        let done = rewind(&host, "a");
        assert_eq!(done.rewound.len(), 1, "its child");
        host.until("a", |row| {
            row.generation == generation && row.status.is_end()
        });
    }
    mended.store(true, Ordering::Release);
    rewind(&host, "a");
    assert_eq!(host.end("a"), "1");
    assert_eq!(host.row("a").unwrap().module, None);
    host.check_histories();
}

#[test]
fn an_orchestration_of_a_worker_is_restarted_in_place_and_as_another() {
    let mut world = one_engine("Chain", chain("Echo", 2));
    (world.remote, world.with_worker) = (true, true);
    let host = world.open();
    host.start("Chain", "a");
    assert_eq!(host.end("a"), "1");
    restart(&host, "a", None);
    let again = host.until("a", |row| row.execution == 1 && row.status.is_end());
    assert_eq!(again.module, None);
    restart(&host, "a", Some("b"));
    assert_eq!(host.end("b"), "1");
}

#[test]
fn a_suspended_orchestration_of_a_worker_gets_its_events_when_it_is_resumed() {
    let mut world = one_engine("Listens", listens(2));
    (world.remote, world.with_worker) = (true, true);
    let host = world.open();
    host.start("Listens", "a");
    host.suspend("a");
    host.raise("a", "E", 1);
    host.raise("a", "E", 2);
    host.lose_worker();
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Suspended);
    host.resume("a");
    assert_eq!(host.end("a"), "[1,2]");
}

#[test]
fn what_a_worker_ran_may_be_called_while_it_is_away() {
    let world = one_engine("Chain", chain("Elsewhere", 1));
    let host = world.open();
    let (connection, _) = host.engine.connect(Offer {
        orchestrations: only(&[("Order", &["2"])]),
        activities: only(&[("Elsewhere", &[])]),
        ..everything(1, 1)
    });
    drop(connection);
    host.idle();
    drop(host);
    let host = world.open();
    host.start("Chain", "a");
    let start = start("Order", "b", None);
    let engine = Arc::clone(&host.engine);
    let started = world.spawn(async move { engine.submit(start).await });
    let reply = world.block_on("the start", started).unwrap();
    assert_eq!(reply.unwrap(), crate::store::Reply::Done);
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    for _ in 0..2 {
        match host.item(&mut items) {
            WorkItem::Activity(work) => {
                assert!(
                    host.engine
                        .activity_answered(&work.token, Ok(Some(json(7))))
                );
            }
            WorkItem::Orchestration(item) => {
                let done = ending(Ending::Completed(Some(json(8))));
                assert!(host.engine.orchestration_answered(&item.token, done));
            }
        }
    }
    assert_eq!(
        (host.end("a"), host.end("b")),
        ("7".to_owned(), "8".to_owned())
    );
}

#[test]
fn an_activity_that_is_given_back_goes_to_the_same_worker_after_a_while() {
    let world = one_engine("Chain", chain("Elsewhere", 1));
    let host = world.open();
    let (_connection, mut items) = host.engine.connect(everything(1, 1));
    host.start("Chain", "a");
    let work = activity(host.item(&mut items));
    assert!(host.engine.abandoned(&work.token));
    host.idle();
    assert!(items.try_recv().is_err(), "not at once");
    host.advance(60_000);
    let again = activity(host.item(&mut items));
    assert!(!host.engine.activity_answered(&work.token, Ok(None)));
    assert!(
        host.engine
            .activity_answered(&again.token, Ok(Some(json(7))))
    );
    assert_eq!(host.end("a"), "7");
}
