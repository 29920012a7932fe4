//! Suspending, resuming, terminating, returning and continuing as new, as histories.

mod common;

use common::words::*;
use common::{World, start};
use expect_test::{Expect, expect};
use perennial_core::Message;

fn check(world: &World, history: Expect) {
    history.assert_eq(&world.told());
}

#[test]
fn a_suspended_instance_holds_everything_until_it_is_resumed() {
    let world = World::new([waits([activity(0, "Pay", "1"), timer(1, 2000)]), waits([])])
        .runs_at(1000)
        .gets([suspend(), activity_done(0, "1"), timer_fired(1), suspend()])
        .runs_at(3000)
        .gets([raised("go", "1")])
        .runs_at(4000)
        .gets([resume()])
        .runs_at(5000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
           3 > TimerSet 1 due=2000
        at 3000
           4 < ExecutionSuspended holiday
        at 3000 nothing changes
        at 5000
           5 < ExecutionResumed
        at 5000
           6 < TurnStarted now=5000 after 6 events, 279 bytes
           7 < ActivityCompleted 0 1
           8 < TimerFired 1
           9 < ExternalEventRaised 0 go 1
    "#]],
    );
}

#[test]
fn commands_come_in_the_order_of_the_mail_and_have_turns_of_their_own() {
    let world = World::new([waits([]), waits([]), waits([]), waits([])])
        .runs_at(1000)
        .gets([
            raised("a", "1"),
            suspend(),
            raised("b", "2"),
            resume(),
            resume(),
            raised("c", "3"),
        ])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
        at 2000
           2 < TurnStarted now=2000 after 2 events, 172 bytes
           3 < ExternalEventRaised 0 a 1
        at 2000
           4 < ExecutionSuspended holiday
        at 2000
           5 < ExecutionResumed
        at 2000
           6 < TurnStarted now=2000 after 6 events, 245 bytes
           7 < ExternalEventRaised 1 b 2
        at 2000 nothing changes
        at 2000
           8 < TurnStarted now=2000 after 8 events, 279 bytes
           9 < ExternalEventRaised 2 c 3
    "#]],
    );
}

#[test]
fn a_start_that_waits_can_be_suspended_before_its_first_turn() {
    let world = World::without_start([Ok(waits([]))])
        .gets([suspend()])
        .runs_at(1000)
        .gets([Message::Start(Box::new(start())), raised("go", "1")])
        .runs_at(2000)
        .gets([resume()])
        .runs_at(3000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < ExecutionSuspended holiday
        at 3000
           1 < ExecutionResumed
        at 3000
           2 < TurnStarted now=3000 after 2 events, 39 bytes
           3 < ExecutionStarted Order execution=0 id=e0 next_external=0
           4 < ExternalEventRaised 0 go 1
    "#]],
    );
}

#[test]
fn a_suspend_that_came_before_the_start_comes_before_it() {
    let world = World::without_start([])
        .gets([
            raised("go", "1"),
            suspend(),
            Message::Start(Box::new(start())),
        ])
        .runs_at(1000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < ExecutionSuspended holiday
    "#]],
    );
}

#[test]
fn a_pending_instance_is_terminated_without_a_turn_of_its_guest() {
    let world = World::new([])
        .gets([raised("go", "1"), terminate("not wanted")])
        .runs_at(1000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < ExecutionTerminated not wanted
        at 1000 nothing changes
    "#]],
    );
}

#[test]
fn terminate_comes_before_everything_and_the_first_reason_wins() {
    let world = World::new([waits([activity(0, "Pay", "1")])])
        .runs_at(1000)
        .gets([
            activity_done(0, "1"),
            terminate("first"),
            suspend(),
            terminate("second"),
        ])
        .runs_at(2000)
        .gets([raised("late", "1"), activity_done(0, "1")])
        .runs_at(3000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
        at 2000
           3 < ExecutionTerminated first
        at 2000 nothing changes
        at 2000 nothing changes
        at 2000 nothing changes
        at 3000 nothing changes
    "#]],
    );
}

#[test]
fn a_suspended_instance_can_be_terminated() {
    let world = World::new([waits([activity(0, "Pay", "1")])])
        .runs_at(1000)
        .gets([suspend()])
        .runs_at(2000)
        .gets([activity_done(0, "1"), resume(), terminate("enough")])
        .runs_at(3000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
        at 2000
           3 < ExecutionSuspended holiday
        at 3000
           4 < ExecutionTerminated enough
        at 3000 nothing changes
        at 3000 nothing changes
    "#]],
    );
}

#[test]
fn an_instance_that_returned_waits_for_its_tasks_and_then_completes() {
    let world = World::new([
        waits([activity(0, "Pay", "1"), child(1, "Ship"), timer(2, 9000)]),
        completes([activity(3, "Log", "1")], "\"done\""),
    ])
    .runs_at(1000)
    .gets([activity_done(0, "1")])
    .runs_at(2000)
    .gets([
        timer_fired(2),
        raised("late", "1"),
        suspend(),
        child_failed(1, 1),
    ])
    .runs_at(9000)
    .gets([activity_done(3, "1"), activity_done(3, "2")])
    .runs_at(9500)
    .gets([raised("later", "1")])
    .runs_at(9900);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ActivityScheduled 0 Pay 1 by module 01
               3 > ChildScheduled 1 Ship version=2 as e0:1 by module 02
               4 > TimerSet 2 due=9000
            at 2000
               5 < TurnStarted now=2000 after 5 events, 296 bytes
               6 < ActivityCompleted 0 1
               7 > ActivityScheduled 3 Log 1 by module 01
               8 > ExecutionReturned "done"
            at 9000 nothing changes
            at 9000 nothing changes
            at 9000
               9 < ChildFailed 1 Flaky
            at 9500
              10 < ActivityCompleted 3 1
              11 > ExecutionCompleted "done"
            at 9900 nothing changes
        "#]],
    );
}

#[test]
fn timers_hold_up_no_return() {
    let world = World::new([completes([timer(0, 9000)], "1")])
        .runs_at(1000)
        .gets([timer_fired(0)])
        .runs_at(9000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > TimerSet 0 due=9000
           3 > ExecutionCompleted 1
        at 9000 nothing changes
    "#]],
    );
}

#[test]
fn a_child_that_waits_for_its_next_attempt_is_dropped_with_the_return() {
    let world = World::new([waits([retried_child(0, "Ship", 3)]), completes([], "1")])
        .runs_at(1000)
        .gets([child_failed(0, 1)])
        .runs_at(2000)
        .gets([raised("go", "1")])
        .runs_at(2010)
        .gets([child_due(0, 2)])
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
            at 2010
               4 < TurnStarted now=2010 after 4 events, 249 bytes
               5 < ExternalEventRaised 0 go 1
               6 > TaskCanceled 0
               7 > ExecutionReturned 1
               8 > ExecutionCompleted 1
            at 2100 nothing changes
        "#]],
    );
}

#[test]
fn no_child_is_tried_again_after_the_return() {
    let world = World::new([completes([retried_child(0, "Ship", 3)], "1")])
        .runs_at(1000)
        .gets([child_failed(0, 1)])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ChildScheduled 0 Ship version=2 as e0:0 by module 02
               3 > ExecutionReturned 1
            at 2000
               4 < ChildFailed 0 Flaky
               5 > ExecutionCompleted 1
        "#]],
    );
}

#[test]
fn an_instance_that_returned_can_be_terminated() {
    let world = World::new([completes([activity(0, "Pay", "1")], "\"kept\"")])
        .runs_at(1000)
        .gets([terminate("enough"), activity_done(0, "1")])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
           3 > ExecutionReturned "kept"
        at 2000
           4 < ExecutionTerminated enough
        at 2000 nothing changes
    "#]],
    );
}

#[test]
fn a_failure_does_not_wait_for_tasks() {
    let world = World::new([
        waits([activity(0, "Pay", "1"), activity(1, "Pay", "2")]),
        fails("CardDeclined", Some(0)),
    ])
    .runs_at(1000)
    .gets([activity_failed(0, "CardDeclined")])
    .runs_at(2000)
    .gets([activity_done(1, "1")])
    .runs_at(3000);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ActivityScheduled 0 Pay 1 by module 01
               3 > ActivityScheduled 1 Pay 2 by module 01
            at 2000
               4 < TurnStarted now=2000 after 4 events, 276 bytes
               5 < ActivityFailed 0 CardDeclined
               6 > ExecutionFailed CardDeclined cause=0
            at 3000 nothing changes
        "#]],
    );
}
