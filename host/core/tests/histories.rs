//! Tasks, timers and external events, as histories.

mod common;

use common::World;
use common::words::*;
use expect_test::{Expect, expect};
use perennial_core::{Failure, Message, TaskId, TaskRef};

fn check(world: &World, history: Expect) {
    history.assert_eq(&world.told());
}

#[test]
fn a_sequence_of_activities_takes_one_turn_for_each_result() {
    let world = World::new([
        waits([activity(0, "Pay", "1")]),
        waits([activity(1, "Ship", "2")]),
        completes([], "3"),
    ])
    .runs_at(1000)
    .gets([activity_done(0, "10")])
    .runs_at(2000)
    .gets([activity_done(1, "20")])
    .runs_at(3000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
        at 2000
           3 < TurnStarted now=2000 after 3 events, 224 bytes
           4 < ActivityCompleted 0 10
           5 > ActivityScheduled 1 Ship 2 by module 01
        at 3000
           6 < TurnStarted now=3000 after 6 events, 311 bytes
           7 < ActivityCompleted 1 20
           8 > ExecutionCompleted 3
    "#]],
    );
}

#[test]
fn results_of_a_fan_out_join_one_turn_in_the_order_of_their_delivery() {
    let world = World::new([
        waits((0..3).map(|task| activity(task, "Resize", "1"))),
        waits([status("\"two of three\"")]),
        completes([], "true"),
    ])
    .runs_at(1000)
    .gets([activity_done(2, "2"), activity_failed(0, "TooLarge")])
    .runs_at(2000)
    .gets([activity_done(1, "1")])
    .runs_at(2500);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > ActivityScheduled 0 Resize 1 by module 01
               3 > ActivityScheduled 1 Resize 1 by module 01
               4 > ActivityScheduled 2 Resize 1 by module 01
            at 2000
               5 < TurnStarted now=2000 after 5 events, 337 bytes
               6 < ActivityCompleted 2 2
               7 < ActivityFailed 0 TooLarge
               8 > CustomStatusSet "two of three"
            at 2500
               9 < TurnStarted now=2500 after 9 events, 424 bytes
              10 < ActivityCompleted 1 1
              11 > ExecutionCompleted true
        "#]],
    );
}

#[test]
fn an_event_beats_a_timer_that_is_then_cancelled_and_may_still_fire() {
    let world = World::new([
        waits([timer(0, 5000)]),
        waits([cancel(0), activity(1, "Approve", "1")]),
    ])
    .runs_at(1000)
    .gets([raised("approval", "true")])
    .runs_at(2000)
    .gets([timer_fired(0)])
    .runs_at(5000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > TimerSet 0 due=5000
        at 2000
           3 < TurnStarted now=2000 after 3 events, 188 bytes
           4 < ExternalEventRaised 0 approval true
           5 > TaskCanceled 0
           6 > ActivityScheduled 1 Approve 1 by module 01
        at 5000 nothing changes
    "#]],
    );
}

#[test]
fn an_event_and_a_timer_in_one_turn_are_told_in_the_order_they_came() {
    let world = World::new([waits([timer(0, 5000)]), completes([cancel(0)], "\"late\"")])
        .runs_at(1000)
        .gets([timer_fired(0), raised("approval", "true")])
        .runs_at(6000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > TimerSet 0 due=5000
        at 6000
           3 < TurnStarted now=6000 after 3 events, 188 bytes
           4 < TimerFired 0
           5 < ExternalEventRaised 0 approval true
           6 > ExecutionCompleted "late"
    "#]],
    );
}

#[test]
fn the_late_result_of_a_cancelled_task_is_ignored() {
    let world = World::new([
        waits([activity(0, "Slow", "1"), activity(1, "Fast", "1")]),
        waits([cancel(0), cancel(0), cancel(1)]),
    ])
    .runs_at(1000)
    .gets([activity_done(1, "1")])
    .runs_at(2000)
    .gets([activity_done(0, "1"), activity_failed(0, "Late")])
    .runs_at(3000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Slow 1 by module 01
           3 > ActivityScheduled 1 Fast 1 by module 01
        at 2000
           4 < TurnStarted now=2000 after 4 events, 278 bytes
           5 < ActivityCompleted 1 1
           6 > TaskCanceled 0
        at 3000 nothing changes
    "#]],
    );
}

#[test]
fn a_task_scheduled_and_cancelled_in_one_answer_is_recorded_as_both() {
    let world = World::new([waits([activity(0, "Pay", "1"), cancel(0)])])
        .runs_at(1000)
        .gets([activity_done(0, "1")])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
           3 > TaskCanceled 0
        at 2000 nothing changes
    "#]],
    );
}

#[test]
fn a_result_that_comes_twice_is_told_once() {
    let world = World::new([waits([activity(0, "Pay", "1")]), waits([])])
        .runs_at(1000)
        .gets([
            activity_done(0, "1"),
            activity_done(0, "2"),
            activity_failed(0, "No"),
        ])
        .runs_at(2000)
        .gets([activity_done(0, "3")])
        .runs_at(3000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
        at 2000
           3 < TurnStarted now=2000 after 3 events, 224 bytes
           4 < ActivityCompleted 0 1
        at 3000 nothing changes
    "#]],
    );
}

#[test]
fn results_of_another_execution_or_generation_or_kind_of_task_are_ignored() {
    let of = |execution, generation| TaskRef {
        execution,
        generation,
        task: TaskId(0),
    };
    let ended = |task| Message::ActivityEnded {
        task,
        outcome: Err(Failure::permanent("Stale", "")),
        run: run(1),
    };
    let world = World::new([waits([activity(0, "Pay", "1")])])
        .runs_at(1000)
        .gets([ended(of(1, 0)), ended(of(0, 1))])
        .gets([
            timer_fired(0),
            child_done(0, 1, "1"),
            child_due(0, 2),
            activity_done(9, "1"),
        ])
        .gets([Message::Start(Box::new(common::start()))])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
        at 2000 nothing changes
    "#]],
    );
}

#[test]
fn time_never_runs_backwards() {
    let world = World::new([waits([]), waits([]), waits([])])
        .runs_at(5000)
        .gets([raised("a", "1")])
        .runs_at(3000)
        .gets([raised("a", "2")])
        .runs_at(5001);
    check(
        &world,
        expect![[r#"
        at 5000
           0 < TurnStarted now=5000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
        at 3000
           2 < TurnStarted now=5000 after 2 events, 172 bytes
           3 < ExternalEventRaised 0 a 1
        at 5001
           4 < TurnStarted now=5001 after 4 events, 206 bytes
           5 < ExternalEventRaised 1 a 2
    "#]],
    );
}

#[test]
fn no_turn_is_before_a_timer_that_it_fires() {
    let world = World::new([waits([timer(0, 5000), timer(1, 7000)]), waits([])])
        .runs_at(1000)
        .gets([timer_fired(0), timer_fired(1)])
        .runs_at(4990);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > TimerSet 0 due=5000
           3 > TimerSet 1 due=7000
        at 4990
           4 < TurnStarted now=7000 after 4 events, 204 bytes
           5 < TimerFired 0
           6 < TimerFired 1
    "#]],
    );
}

#[test]
fn external_events_are_numbered_in_the_order_they_came() {
    let world = World::new([waits([]), waits([])])
        .gets([raised("early", "1"), raised("early", "2")])
        .runs_at(1000)
        .gets([raised("later", "3")])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 < ExternalEventRaised 0 early 1
           3 < ExternalEventRaised 1 early 2
        at 2000
           4 < TurnStarted now=2000 after 4 events, 216 bytes
           5 < ExternalEventRaised 2 later 3
    "#]],
    );
}

#[test]
fn an_event_that_overtook_the_start_waits_for_it() {
    let world = World::without_start([Ok(waits([]))])
        .gets([raised("early", "1"), activity_done(0, "1")])
        .runs_at(1000)
        .gets([Message::Start(Box::new(common::start()))])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 2000
           0 < TurnStarted now=2000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 < ExternalEventRaised 0 early 1
    "#]],
    );
}

#[test]
fn an_event_that_moved_over_keeps_its_number_and_comes_once() {
    let mut start = common::start();
    (start.execution, start.next_external) = (1, 5);
    let world = World::with_start(start, [Ok(waits([])), Ok(waits([]))])
        .gets([
            moved(Some(2), "kept", "1"),
            raised("new", "2"),
            moved(Some(3), "kept", "3"),
        ])
        .runs_at(1000)
        .gets([moved(Some(2), "kept", "1"), raised("new", "4")])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=1 id=e0 next_external=5
           2 < ExternalEventRaised 2 kept 1
           3 < ExternalEventRaised 5 new 2
           4 < ExternalEventRaised 3 kept 3
        at 2000
           5 < TurnStarted now=2000 after 5 events, 234 bytes
           6 < ExternalEventRaised 6 new 4
    "#]],
    );
}

#[test]
fn events_that_a_rewind_gave_back_get_their_numbers_again() {
    let world = World::new([waits([])])
        .gets([
            moved(Some(0), "again", "1"),
            moved(Some(1), "again", "2"),
            raised("new", "3"),
        ])
        .runs_at(1000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 < ExternalEventRaised 0 again 1
           3 < ExternalEventRaised 1 again 2
           4 < ExternalEventRaised 2 new 3
    "#]],
    );
}

#[test]
fn what_a_guest_sends_and_starts_is_recorded_and_a_skipped_start_too() {
    let skipped = Message::StartSkipped {
        instance_id: "audit".to_owned(),
        reason: "the id is in use".to_owned(),
    };
    let world = World::new([waits([
        send("other", "hello"),
        start_instance("audit", "Audit"),
        start_instance("a/b", "Audit"),
        start_instance("x", "Missing"),
        status("{\"step\":1}"),
    ])])
    .runs_at(1000)
    .gets([skipped])
    .runs_at(2000);
    check(
        &world,
        expect![[r#"
            at 1000
               0 < TurnStarted now=1000 after 0 events, 0 bytes
               1 < ExecutionStarted Order execution=0 id=e0 next_external=0
               2 > EventSent hello to other
               3 > InstanceStarted Audit as audit by module 02
               4 > InstanceStarted Audit as a/b by Invalid("an instance id must not contain '/': control characters, those that change the direction of text, and / \\ # ? are not allowed")
               5 > InstanceStarted Missing as x by Unknown
               6 > CustomStatusSet {"step":1}
            at 2000
               7 < InstanceStartSkipped audit: the id is in use
        "#]],
    );
}
