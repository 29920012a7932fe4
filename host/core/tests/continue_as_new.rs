//! Continuing as new, as histories.

mod common;

use common::words::*;
use common::{NEWEST, PINNED, World, start};
use expect_test::{Expect, expect};
use perennial_core::{Digest, Ending, Event, Message, TaskId};

/// Checks the history, and the start of what follows it.
fn check(world: &World, history: Expect, next: Expect) {
    history.assert_eq(&world.told());
    let start = world.next.as_ref().map(|start| {
        let module = match start.module {
            Some(PINNED) => "pinned",
            Some(NEWEST) => "newest",
            Some(Digest(_)) => "another",
            None => "none",
        };
        format!(
            "{} {} execution={} id={} seed={} version={:?} input={:?} module={module} next_external={} accepted_at={}",
            start.instance_id, start.name, start.execution, start.execution_id, start.seed, start.version, start.input,
            start.next_external, start.accepted_at.0
        )
    });
    next.assert_eq(&start.unwrap_or_else(|| "nothing".to_owned()));
}

#[test]
fn continue_as_new_starts_the_next_execution_on_the_newest_module() {
    let world = World::new([waits([activity(0, "Pay", "1")]), continues(None, &[0, 2])])
        .gets([raised("a", "1"), raised("b", "2")])
        .runs_at(1000)
        .gets([raised("c", "3")])
        .runs_at(2000)
        .gets([activity_done(0, "1"), raised("d", "4")])
        .runs_at(3000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 < ExternalEventRaised 0 a 1
           3 < ExternalEventRaised 1 b 2
           4 > ActivityScheduled 0 Pay 1 by module 01
        at 2000
           5 < TurnStarted now=2000 after 5 events, 260 bytes
           6 < ExternalEventRaised 2 c 3
           7 > ContinuedAsNew 2 carrying [0, 2] as e1
        at 3000 nothing changes
    "#]],
        expect![[
            r#"order Order execution=1 id=e1 seed=8 version=Some("2") input=Some(2) module=newest next_external=3 accepted_at=2000"#
        ]],
    );
}

#[test]
fn the_next_execution_carries_on_with_the_numbers() {
    let first = World::new([continues(None, &[1])])
        .gets([raised("a", "1"), raised("b", "2")])
        .runs_at(1000);
    let next = *first.next.expect("it continued as new");
    let world = World::with_start(next, [Ok(continues(None, &[1, 2]))])
        .gets([moved(Some(1), "b", "2"), raised("c", "3")])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 2000
           0 < TurnStarted now=2000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=1 id=e1 next_external=2
           2 < ExternalEventRaised 1 b 2
           3 < ExternalEventRaised 2 c 3
           4 > ContinuedAsNew 2 carrying [1, 2] as e1
    "#]],
        expect![[
            r#"order Order execution=2 id=e1 seed=8 version=Some("2") input=Some(2) module=newest next_external=3 accepted_at=2000"#
        ]],
    );
}

#[test]
fn continue_as_new_on_a_version_runs_that_version() {
    let world = World::new([continues(Some("1.5"), &[])]).runs_at(1000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ContinuedAsNew 2 carrying [] as e1
    "#]],
        expect![[
            r#"order Order execution=1 id=e1 seed=8 version=Some("1.5") input=Some(2) module=newest next_external=0 accepted_at=1000"#
        ]],
    );
}

#[test]
fn continue_as_new_on_an_unknown_version_fails() {
    let world = World::new([continues(Some("missing"), &[])]).runs_at(1000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ExecutionFailed UnknownOrchestration: no deployed module has version "missing" of orchestration "Order"
    "#]],
        expect!["nothing"],
    );
}

#[test]
fn an_orchestration_that_is_deployed_no_more_continues_on_its_own_module() {
    let missing = || {
        let mut start = start();
        start.name = "MissingNow".to_owned();
        start
    };
    for version in [None, Some("1")] {
        let world = World::with_start(missing(), [Ok(continues(version, &[]))]).runs_at(1000);
        let next = world.next.as_ref().expect("it continued as new");
        assert_eq!(
            (next.module, next.version.as_deref()),
            (Some(PINNED), Some("1"))
        );
    }
    let world = World::with_start(missing(), [Ok(continues(Some("2"), &[]))]).runs_at(1000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted MissingNow execution=0 id=e0 next_external=0
           2 > ExecutionFailed UnknownOrchestration: no deployed module has version "2" of orchestration "MissingNow"
    "#]],
        expect!["nothing"],
    );
}

#[test]
fn a_native_orchestration_has_no_module() {
    let mut start = start();
    (start.name, start.module, start.version) = ("Native".to_owned(), None, None);
    let world = World::with_start(start, [Ok(continues(None, &[]))]).runs_at(1000);
    assert_eq!(world.next.as_ref().map(|next| next.module), Some(None));
}

#[test]
fn terminate_beats_continue_as_new() {
    let world = World::new([waits([]), continues(None, &[])])
        .runs_at(1000)
        .gets([raised("go", "1"), terminate("enough")])
        .runs_at(2000);
    check(
        &world,
        expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
        at 2000
           2 < ExecutionTerminated enough
        at 2000 nothing changes
    "#]],
        expect!["nothing"],
    );
}

/// What the execution before showed.
fn left(value: &str) -> Message {
    Message::CustomStatus { value: json(value) }
}

#[test]
fn the_custom_status_stays_until_it_is_set_again() {
    let first = World::new([ends(
        [status("1")],
        Ending::ContinuedAsNew {
            input: None,
            version: None,
            carry_over: vec![0],
        },
    )])
    .gets([raised("a", "1")])
    .runs_at(1000);
    let next = *first.next.expect("it continued as new");
    // Whatever overtook it, it comes with the start.
    let world = World::without_start([Ok(waits([])), Ok(waits([status("2")]))])
        .gets([
            activity_done(0, "1"),
            Message::Start(Box::new(next.clone())),
        ])
        .gets([moved(Some(0), "a", "1"), left("1")])
        .runs_at(2000);
    assert_eq!(world.state.custom_status, Some(json("1")));
    let world = world.gets([raised("b", "2")]).runs_at(3000);
    assert_eq!(world.state.custom_status, Some(json("2")));
    expect![[r#"
        at 2000
           0 < TurnStarted now=2000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=1 id=e1 next_external=1
           2 < CustomStatusSet 1
           3 < ExternalEventRaised 0 a 1
        at 3000
           4 < TurnStarted now=3000 after 4 events, 207 bytes
           5 < ExternalEventRaised 1 b 2
           6 > CustomStatusSet 2
    "#]]
    .assert_eq(&world.told());
    // An instance begins with none, and none comes later.
    let begins = World::new([waits([]), waits([])])
        .gets([left("1")])
        .runs_at(1000)
        .gets([left("2"), raised("a", "1")])
        .runs_at(2000);
    assert_eq!(begins.state.custom_status, None);
    let late = World::with_start(next, [Ok(waits([])), Ok(waits([]))])
        .runs_at(1000)
        .gets([left("2"), raised("a", "1")])
        .runs_at(2000);
    assert_eq!(late.state.custom_status, None);
}

#[test]
fn values_and_tags_go_on_and_a_value_can_be_cleared_in_the_next_execution() {
    let first = World::new([ends(
        [
            value("stage", Some("\"paid\"")),
            value("owner", Some("1")),
            value("gone", Some("2")),
            value("gone", None),
            tag("team", Some("red")),
            tag("team", Some("blue")),
            status("1"),
        ],
        Ending::ContinuedAsNew {
            input: None,
            version: None,
            carry_over: vec![],
        },
    )])
    .runs_at(1000);
    let names: Vec<&str> = first.state.values.keys().map(String::as_str).collect();
    assert_eq!(names, ["owner", "stage"]);
    let next = *first.next.expect("it continued as new");
    assert_eq!(next.tags, [("team".to_owned(), "blue".to_owned())]);
    let values = |values: &[(&str, &str)]| {
        let named = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json(value)));
        Message::Values {
            values: named.collect(),
        }
    };
    let left_values = || values(&[("owner", "1"), ("stage", "\"paid\"")]);
    // Whatever overtook it, it comes with the start.
    let script = [
        Ok(waits([])),
        Ok(waits([value("owner", None), tag("team", None)])),
    ];
    let world = World::with_start(next.clone(), script)
        .gets([raised("a", "1"), left("1"), left_values()])
        .runs_at(2000);
    assert_eq!(world.state.values.len(), 2);
    let world = world.gets([raised("b", "2")]).runs_at(3000);
    assert_eq!(world.state.values.get("stage"), Some(&json("\"paid\"")));
    assert_eq!(world.state.values.len(), 1);
    assert_eq!(world.state.start().map(|start| start.tags.len()), Some(0));
    expect![[r#"
        at 2000
           0 < TurnStarted now=2000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=1 id=e1 next_external=0
           2 < ValueSet owner 1
           3 < ValueSet stage "paid"
           4 < CustomStatusSet 1
           5 < ExternalEventRaised 0 a 1
        at 3000
           6 < TurnStarted now=3000 after 6 events, 264 bytes
           7 < ExternalEventRaised 1 b 2
           8 > ValueSet owner -
           9 > TagSet team None
    "#]]
    .assert_eq(&world.told());
    // An instance begins with none, and none comes later.
    let begins = World::new([waits([]), waits([])])
        .gets([left_values()])
        .runs_at(1000)
        .gets([left_values(), raised("a", "1")])
        .runs_at(2000);
    assert!(begins.state.values.is_empty());
    let late = World::with_start(next, [Ok(waits([])), Ok(waits([]))])
        .runs_at(1000)
        .gets([left_values(), raised("a", "1")])
        .runs_at(2000);
    assert!(late.state.values.is_empty());
}

#[test]
fn what_was_not_started_is_noted_also_after_the_end_and_by_the_next_execution() {
    let skipped = || Message::StartSkipped {
        instance_id: "taken".to_owned(),
        reason: "it exists".to_owned(),
    };
    let first = World::new([continues(None, &[])]).runs_at(1000);
    let next = *first.next.expect("it continued as new");
    let world = World::with_start(next, [Ok(waits([]))])
        .gets([skipped()])
        .runs_at(2000);
    let names: Vec<&str> = world.turns[0].events().map(Event::name).collect();
    assert_eq!(
        names,
        ["TurnStarted", "ExecutionStarted", "InstanceStartSkipped"]
    );
    let mut ended = World::new([completes([], "1")]).runs_at(1000).state;
    let late = Event::InstanceStartSkipped {
        instance_id: "taken".to_owned(),
        reason: "it exists".to_owned(),
    };
    assert_eq!(ended.apply(&late), Ok(()));
    let other = Event::TimerFired { task: TaskId(0) };
    assert!(ended.apply(&other).is_err());
}
