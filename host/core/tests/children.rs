//! Children and what runs a task, as histories.

mod common;

use common::words::*;
use common::{World, start};
use expect_test::{Expect, expect};
use perennial_core::{
    Action, ActivityCall, CallOptions, Callee, ChildCall, Event, Message, Millis, RetryPolicy,
    State, TaskId, TaskRef,
};

fn check(world: &World, history: Expect) {
    history.assert_eq(&world.told());
}

#[test]
fn a_child_that_fails_is_tried_again_as_another_instance() {
    let world = World::new([waits([retried_child(0, "Ship", 3)]), completes([], "1")])
        .runs_at(1000)
        .gets([child_failed(0, 1)])
        .runs_at(2000)
        .gets([child_due(0, 2)])
        .runs_at(2100)
        .gets([child_failed(0, 2)])
        .runs_at(3000)
        .gets([child_due(0, 3)])
        .runs_at(3100)
        .gets([child_done(0, 3, "5")])
        .runs_at(4000);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ChildScheduled 0 Ship version=2 as e0:0 by module 02
            at 2000
               3 < ChildRetryScheduled 0 attempt=2 at=2100 after Flaky
            at 2100
               4 < ChildRetried 0 attempt=2 as e0:0:2
            at 3000
               5 < ChildRetryScheduled 0 attempt=3 at=3100 after Flaky
            at 3100
               6 < ChildRetried 0 attempt=3 as e0:0:3
            at 4000
               7 < TurnStarted now=4000 after 7 events, 314 bytes
               8 < ChildCompleted 0 5
               9 > ExecutionCompleted 1
        "#]],
    );
}

#[test]
fn the_last_failure_of_a_child_reaches_the_guest() {
    let world = World::new([waits([retried_child(0, "Ship", 2)]), waits([])])
        .runs_at(1000)
        .gets([child_failed(0, 1)])
        .runs_at(2000)
        .gets([child_due(0, 2)])
        .runs_at(2100)
        .gets([child_failed(0, 2)])
        .runs_at(3000);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ChildScheduled 0 Ship version=2 as e0:0 by module 02
            at 2000
               3 < ChildRetryScheduled 0 attempt=2 at=2100 after Flaky
            at 2100
               4 < ChildRetried 0 attempt=2 as e0:0:2
            at 3000
               5 < TurnStarted now=3000 after 5 events, 271 bytes
               6 < ChildFailed 0 Flaky
        "#]],
    );
}

#[test]
fn a_retry_that_would_start_too_late_does_not_start() {
    let call = ChildCall {
        retry: Some(RetryPolicy {
            give_up_after: Some(Millis(500)),
            ..retry(9)
        }),
        ..child_call(0, "Ship")
    };
    let world = World::new([waits([Action::CallChild(call)]), waits([])])
        .runs_at(1000)
        .gets([child_failed(0, 1)])
        .runs_at(1401);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ChildScheduled 0 Ship version=2 as e0:0 by module 02
            at 1401
               3 < TurnStarted now=1401 after 3 events, 228 bytes
               4 < ChildFailed 0 Flaky
        "#]],
    );
}

#[test]
fn outcomes_of_stale_attempts_are_ignored() {
    let world = World::new([waits([retried_child(0, "Ship", 5)]), waits([])])
        .runs_at(1000)
        .gets([
            child_due(0, 2),
            child_failed(0, 2),
            child_failed(0, 1),
            child_failed(0, 1),
        ])
        .runs_at(2000)
        .gets([
            child_done(0, 1, "1"),
            child_done(0, 2, "2"),
            child_failed(0, 1),
        ])
        .runs_at(2050)
        .gets([child_due(0, 2), child_due(0, 2)])
        .runs_at(2100)
        .gets([child_done(0, 1, "1"), child_failed(0, 3)])
        .runs_at(2200)
        .gets([child_done(0, 2, "2"), child_done(0, 2, "3")])
        .runs_at(2300);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ChildScheduled 0 Ship version=2 as e0:0 by module 02
            at 2000
               3 < ChildRetryScheduled 0 attempt=2 at=2100 after Flaky
            at 2050 nothing changes
            at 2100
               4 < ChildRetried 0 attempt=2 as e0:0:2
            at 2200 nothing changes
            at 2300
               5 < TurnStarted now=2300 after 5 events, 271 bytes
               6 < ChildCompleted 0 2
        "#]],
    );
}

#[test]
fn a_child_that_waits_to_be_tried_again_can_be_cancelled() {
    let world = World::new([waits([retried_child(0, "Ship", 5)]), waits([cancel(0)])])
        .runs_at(1000)
        .gets([child_failed(0, 1)])
        .runs_at(2000)
        .gets([raised("stop", "1")])
        .runs_at(2050)
        .gets([child_due(0, 2), child_done(0, 2, "1")])
        .runs_at(2100);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ChildScheduled 0 Ship version=2 as e0:0 by module 02
            at 2000
               3 < ChildRetryScheduled 0 attempt=2 at=2100 after Flaky
            at 2050
               4 < TurnStarted now=2050 after 4 events, 249 bytes
               5 < ExternalEventRaised 0 stop 1
               6 > TaskCanceled 0
            at 2100 nothing changes
        "#]],
    );
}

#[test]
fn a_retry_and_a_result_share_a_turn() {
    let world = World::new([
        waits([retried_child(0, "Ship", 5), activity(1, "Pay", "1")]),
        waits([]),
    ])
    .runs_at(1000)
    .gets([child_failed(0, 1), activity_done(1, "1")])
    .runs_at(2000);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ChildScheduled 0 Ship version=2 as e0:0 by module 02
               3 > ActivityScheduled 1 Pay 1 by module 01
            at 2000
               4 < TurnStarted now=2000 after 4 events, 280 bytes
               5 < ChildRetryScheduled 0 attempt=2 at=2100 after Flaky
               6 < ActivityCompleted 1 1
        "#]],
    );
}

#[test]
fn a_child_has_the_id_it_was_given_else_one_of_its_parents_execution() {
    let call = |task, id: Option<&str>, version: Option<&str>| {
        Action::CallChild(ChildCall {
            instance_id: id.map(str::to_owned),
            version: version.map(str::to_owned),
            ..child_call(task, "Ship")
        })
    };
    let world = World::new([waits([
        call(0, Some("mine"), None),
        call(1, None, Some("1")),
    ])])
    .runs_at(1000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ChildScheduled 0 Ship version=2 as mine by module 02
           3 > ChildScheduled 1 Ship version=1 as e0:1 by module 02
    "#]],
    );
}

#[test]
fn a_generation_marks_the_tasks_that_it_arms_again() {
    let world = World::new([waits([activity(0, "Pay", "1")])]).runs_at(1000);
    let mut state = State::new(1);
    for event in world.events() {
        state.apply(&event).expect("it was written so");
    }
    assert_eq!(state.tasks()[&TaskId(0)].generation, 1);
    let stale = activity_done(0, "1");
    let current = TaskRef {
        generation: 1,
        ..task(0)
    };
    let current = Message::ActivityEnded {
        task: current,
        outcome: Ok(None),
        run: run(1),
    };
    for (message, turns) in [(stale, 0), (current, 1)] {
        let mut rewound = World::without_start([Ok(waits([]))]);
        rewound.state = state.clone();
        assert_eq!(rewound.gets([message]).runs_at(2000).turns.len(), turns);
    }
}

/// What the tasks of one answer fail with at once.
fn check_targets(actions: Vec<Action>, failures: Expect) {
    let mut start = start();
    start.limits.payload_bytes = 8;
    let world = World::with_start(start, [Ok(waits(actions))]).runs_at(1000);
    world.told();
    let mut told = String::new();
    for event in world.events() {
        let (what, name, target, input) = if let Event::ActivityScheduled {
            name,
            target,
            input,
            ..
        } = &event
        {
            (Callee::Activity, name, target, input)
        } else if let Event::ChildScheduled {
            name,
            target,
            input,
            ..
        } = &event
        {
            (Callee::Orchestration, name, target, input)
        } else {
            continue;
        };
        match target.failure(what, name) {
            Some(failure) => told += &format!("{failure}\n"),
            None => told += &format!("{what} {name} runs with {input:?}\n"),
        }
    }
    failures.assert_eq(&told);
}

#[test]
fn a_task_that_nothing_can_run_fails_and_says_why() {
    let policy = |policy| {
        Action::CallActivity(ActivityCall {
            task: TaskId(10),
            name: "Pay".to_owned(),
            input: None,
            retry: Some(policy),
            attempt_timeout: None,
            options: CallOptions::default(),
        })
    };
    let named = |task, id: &str| {
        Action::CallChild(ChildCall {
            instance_id: Some(id.to_owned()),
            ..child_call(task, "Ship")
        })
    };
    check_targets(
        vec![
            activity(0, "Pay", "12345678"),
            activity(1, "Pay", "123456789"),
            activity(2, "MissingPay", "1"),
            activity(3, "NativePay", "1"),
            child(4, "MissingShip"),
            named(5, ""),
            named(6, "@x"),
            policy(RetryPolicy {
                max_attempts: 0,
                ..retry(1)
            }),
            retried_child(11, "Ship", 0),
            named(12, "fine"),
        ],
        expect![[r#"
            activity Pay runs with Some(12345678)
            LimitExceeded: the input of activity "Pay" has 9 bytes; at most 8 are allowed
            UnknownActivity: no deployed module, no registered closure and no connected worker has an activity named "MissingPay"
            activity NativePay runs with Some(1)
            UnknownOrchestration: no deployed module and no connected worker has an orchestration named "MissingShip"
            InvalidAnswer: orchestration "Ship" was not called: an instance id must not be empty (in "")
            InvalidAnswer: orchestration "Ship" was not called: an instance id must not start with '@' (in "@x")
            InvalidAnswer: activity "Pay" was not called: max-attempts counts the first try too and must be at least 1
            InvalidAnswer: orchestration "Ship" was not called: max-attempts counts the first try too and must be at least 1
            orchestration Ship runs with None
        "#]],
    );
}

#[test]
fn an_id_that_has_no_room_for_its_attempts_is_invalid() {
    let call = |max_attempts| {
        Action::CallChild(ChildCall {
            instance_id: Some("x".repeat(255)),
            retry: Some(retry(max_attempts)),
            ..child_call(0, "Ship")
        })
    };
    let is_invalid = |max_attempts| {
        World::new([waits([call(max_attempts)])])
            .runs_at(1000)
            .told()
            .contains("Invalid(")
    };
    assert!(!is_invalid(1));
    assert!(is_invalid(2));
}

#[test]
fn what_was_due_for_an_earlier_try_starts_nothing() {
    let told = |stale: &[Message]| {
        World::new([waits([retried_child(0, "Ship", 5)]), waits([])])
            .runs_at(1000)
            .gets([child_failed(0, 1)])
            .runs_at(2000)
            .gets([child_due(0, 2)])
            .runs_at(2100)
            .gets([child_failed(0, 2)])
            .runs_at(3000)
            .gets(stale.to_vec())
            .runs_at(3050)
            .told()
    };
    let stale = told(&[child_due(0, 2), child_due(0, 4)]);
    assert!(stale.ends_with("at 3050 nothing changes\n"), "{stale}");
    let due = told(&[child_due(0, 3)]);
    assert!(
        due.ends_with("ChildRetried 0 attempt=3 as e0:0:3\n"),
        "{due}"
    );
}
