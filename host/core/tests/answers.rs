//! What a guest may not answer, and what becomes of one that does.

mod common;

use common::words::*;
use common::{Script, World, start};
use expect_test::{Expect, expect};
use perennial_core::bounds::FAILURE_MESSAGE_BYTES;
use perennial_core::{
    Action, Answer, Callee, End, Ending, Event, Failure, State, Stop, TaskId, Timestamp,
    TurnContext, Waiting, kind, replay_turn, run_turn,
};

/// Limits that a small answer meets.
fn world(answers: impl IntoIterator<Item = Answer>) -> World {
    let mut start = start();
    start.limits.payload_bytes = 20;
    start.limits.custom_status_bytes = 10;
    start.limits.actions_per_turn = 4;
    start.limits.action_bytes_per_turn = 100;
    start.limits.open_tasks = 3;
    World::with_start(start, answers.into_iter().map(Ok)).runs_at(1000)
}

/// Checks what an answer of the first turn leads to: `fine`, or the failure.
fn check(answer: Answer, verdict: Expect) {
    let world = world([answer]);
    world.told();
    let Some(End::Failed { failure }) = world.state.end() else {
        return verdict.assert_eq("fine");
    };
    let turn = &world.turns[0];
    assert_eq!(
        turn.answer, None,
        "an answer that is refused is not recorded"
    );
    assert_eq!(turn.produced.len(), 1, "none of its actions is taken");
    verdict.assert_eq(&failure.to_string());
}

fn long(bytes: usize) -> String {
    "1".repeat(bytes)
}

#[test]
fn a_turn_has_no_more_actions_than_its_limit() {
    check(waits((0..4).map(|_| send("x", "y"))), expect!["fine"]);
    check(
        waits((0..5).map(|_| send("x", "y"))),
        expect!["LimitExceeded: actions in one turn: 5; at most 4 are allowed"],
    );
}

#[test]
fn a_turn_has_no_more_bytes_than_its_limit_in_payloads_and_names() {
    check(waits([activity(0, "Pay", &long(97))]), expect!["fine"]);
    check(
        waits([activity(0, "Pay", &long(98))]),
        expect!["LimitExceeded: bytes asked for in one turn: 101; at most 100 are allowed"],
    );
    check(
        waits([send("x", &long(101))]),
        expect!["LimitExceeded: bytes asked for in one turn: 102; at most 100 are allowed"],
    );
    check(
        waits([start_instance("x", &long(101))]),
        expect!["LimitExceeded: bytes asked for in one turn: 102; at most 100 are allowed"],
    );
    check(
        waits([child(0, &long(101))]),
        expect!["LimitExceeded: bytes asked for in one turn: 101; at most 100 are allowed"],
    );
}

#[test]
fn what_a_guest_says_it_waits_for_is_bounded_too() {
    let saying = |note: String| {
        ends(
            [],
            Ending::Waiting(Waiting {
                note: Some(note),
                requests: Vec::new(),
                ..Waiting::default()
            }),
        )
    };
    check(saying(long(100)), expect!["fine"]);
    check(
        saying(long(101)),
        expect!["LimitExceeded: bytes asked for in one turn: 101; at most 100 are allowed"],
    );
}

#[test]
fn no_more_tasks_are_open_than_the_limit() {
    let activities = |count| (0..count).map(|task| activity(task, "Pay", "1"));
    check(waits(activities(3)), expect!["fine"]);
    check(
        waits(activities(4)),
        expect!["LimitExceeded: open tasks: 4; at most 3 are allowed"],
    );
    check(waits(activities(3).chain([cancel(1)])), expect!["fine"]);
}

#[test]
fn a_task_that_is_cancelled_makes_room_for_another() {
    let full = || waits((0..3).map(|task| timer(task, 9000)));
    let swapped = world([full(), waits([timer(3, 9000), cancel(0), cancel(0)])])
        .gets([raised("go", "1")])
        .runs_at(2000);
    assert!(swapped.state.running().is_some());
    let twice = world([
        full(),
        waits([cancel(0), cancel(0), timer(3, 9000), timer(4, 9000)]),
    ])
    .gets([raised("go", "1")])
    .runs_at(2000);
    assert!(matches!(twice.state.end(), Some(End::Failed { .. })));
}

#[test]
fn task_ids_increase() {
    check(
        waits([timer(0, 1), timer(1, 1), timer(5, 1)]),
        expect!["fine"],
    );
    check(
        waits([timer(1, 1), timer(1, 1)]),
        expect!["InvalidAnswer: it scheduled task 1 where the next one was 2"],
    );
    check(
        waits([timer(1, 1), activity(0, "Pay", "1")]),
        expect!["InvalidAnswer: it scheduled task 0 where the next one was 2"],
    );
    check(
        waits([timer(u32::MAX, 1)]),
        expect!["InvalidAnswer: it scheduled task 4294967295 where the next one was 0"],
    );
}

#[test]
fn a_task_id_is_not_used_again() {
    let world = world([waits([timer(0, 1)]), waits([timer(0, 1)])])
        .gets([timer_fired(0)])
        .runs_at(2000);
    assert!(world.told().ends_with(
        "ExecutionFailed InvalidAnswer: it scheduled task 0 where the next one was 1\n"
    ));
}

/// Some workers make each retry of a call under the id of the first attempt.
#[test]
fn a_worker_uses_the_id_of_a_task_that_ended_again() {
    let workers = |answers: [Answer; 3]| {
        let mut start = start();
        start.module = None;
        World::with_start(start, answers.into_iter().map(Ok)).runs_at(1000)
    };
    let failed = || activity_failed(0, "Busy");
    let call = || activity(0, "Pay", "1");
    let world = workers([
        waits([call()]),
        waits([timer(1, 1)]),
        waits([call(), timer(2, 9000)]),
    ])
    .gets([failed()])
    .runs_at(2000)
    .gets([timer_fired(1)])
    .runs_at(2000);
    world.told();
    let open: Vec<u32> = world.state.tasks().keys().map(|task| task.0).collect();
    assert_eq!(open, [0, 2]);
    for again in [waits([call(), call()]), waits([timer(1, 1)])] {
        let world = workers([waits([call()]), waits([timer(1, 9000)]), again])
            .gets([failed()])
            .runs_at(2000)
            .gets([raised("go", "1")])
            .runs_at(2000);
        let told = world.told();
        assert!(told.contains("InvalidAnswer: it scheduled task"), "{told}");
    }
}

#[test]
fn only_what_was_scheduled_is_cancelled() {
    check(waits([timer(0, 1), cancel(0)]), expect!["fine"]);
    check(
        waits([cancel(0)]),
        expect!["InvalidAnswer: it cancelled task 0, which it never scheduled"],
    );
    check(
        waits([cancel(0), timer(0, 1)]),
        expect!["InvalidAnswer: it cancelled task 0, which it never scheduled"],
    );
    check(
        waits([timer(2, 1), cancel(1)]),
        expect!["InvalidAnswer: it cancelled task 1, which it never scheduled"],
    );
}

#[test]
fn a_custom_status_is_small() {
    check(waits([status(&long(10))]), expect!["fine"]);
    check(
        waits([status(&long(11))]),
        expect!["LimitExceeded: bytes of the custom status: 11; at most 10 are allowed"],
    );
}

#[test]
fn what_goes_to_another_instance_is_within_the_limit() {
    let sent = |bytes| match send("x", "y") {
        Action::SendEvent(event) => Action::SendEvent(perennial_core::OutgoingEvent {
            data: Some(json(&long(bytes))),
            ..event
        }),
        other => other,
    };
    check(waits([sent(20)]), expect!["fine"]);
    check(
        waits([sent(21)]),
        expect![
            "LimitExceeded: bytes of what it sends to another instance: 21; at most 20 are allowed"
        ],
    );
    let started = |bytes| Action::StartInstance {
        instance_id: "x".to_owned(),
        name: "Audit".to_owned(),
        version: None,
        input: Some(json(&long(bytes))),
        tags: Vec::new(),
        options: perennial_core::InstanceOptions::default(),
    };
    check(
        waits([started(21)]),
        expect![
            "LimitExceeded: bytes of what it sends to another instance: 21; at most 20 are allowed"
        ],
    );
}

#[test]
fn an_input_over_the_limit_fails_its_task_alone() {
    check(
        waits([activity(0, "Pay", &long(21)), activity(1, "Pay", "1")]),
        expect!["fine"],
    );
}

#[test]
fn outputs_are_within_the_limit() {
    check(completes([], &long(20)), expect!["fine"]);
    check(
        completes([], &long(21)),
        expect!["LimitExceeded: bytes of the output: 21; at most 20 are allowed"],
    );
    let continued = |bytes| {
        let (input, version, carry_over) = (Some(json(&long(bytes))), None, Vec::new());
        ends(
            [],
            Ending::ContinuedAsNew {
                input,
                version,
                carry_over,
            },
        )
    };
    check(
        continued(21),
        expect!["LimitExceeded: bytes of the next execution's input: 21; at most 20 are allowed"],
    );
}

#[test]
fn a_failure_over_its_bounds_is_cut_and_its_history_repeats() {
    let failed = |details: &str, message: String| {
        let failure = Failure {
            details: Some(json(details)),
            ..Failure::permanent("Broken", message)
        };
        let cause = None;
        world([ends([], Ending::Failed { failure, cause })])
    };
    let world = failed(&long(21), "x".repeat(100 << 20));
    world.told();
    let Some(End::Failed { failure }) = world.state.end() else {
        panic!("it failed");
    };
    assert_eq!(failure.message.len(), FAILURE_MESSAGE_BYTES);
    expect!["… (cut: 104857600 bytes)"].assert_eq(failure.message.trim_start_matches('x'));
    expect![[r#""… (cut: 21 bytes)""#]].assert_eq(failure.details.as_ref().unwrap().as_str());
    assert!(world.turns[0].answer.is_some(), "it is the guest's answer");

    // What an older host recorded of the same answer is all of it, and repeats as it is.
    let whole = Failure {
        details: Some(json(&long(21))),
        ..Failure::permanent("Broken", "x".repeat(100 << 20))
    };
    let mut old = world;
    old.turns[0].produced = vec![Event::ExecutionFailed {
        failure: whole.clone(),
        cause: None,
    }];
    let mut state = State::new(0);
    let mut guest = Script::new(&[Ok(ends(
        [],
        Ending::Failed {
            failure: whole.clone(),
            cause: None,
        },
    ))]);
    replay_turn(&mut state, &old.turns[0], &mut guest).expect("it repeats");
    assert_eq!(state.end(), Some(&End::Failed { failure: whole }));

    // Another failure does not pass for a cut one.
    let other = failed(&long(21), "y".repeat(100 << 20));
    let mut guest = Script::new(&[Ok(fails("Broken", None))]);
    let differs = replay_turn(&mut State::new(0), &other.turns[0], &mut guest).unwrap_err();
    assert!(differs.to_string().len() < 2_000, "{differs}");
}

#[test]
fn a_verdict_is_bounded_too() {
    let failure = Failure::permanent(kind::PANIC, "x".repeat(16 << 20));
    let world = World::with_start(start(), [Err(Stop::Verdict(failure))]).runs_at(1000);
    world.told();
    let Some(End::Failed { failure }) = world.state.end() else {
        panic!("it failed");
    };
    assert_eq!(failure.message.len(), FAILURE_MESSAGE_BYTES);
}

#[test]
fn names_and_labels_are_within_their_bounds() {
    let name = |chars| "é".repeat(chars);
    let refused = |action| {
        let world = World::new([waits([action])]).runs_at(1000);
        world.told();
        match world.state.end() {
            Some(End::Failed { failure }) => failure.to_string(),
            _ => "fine".to_owned(),
        }
    };
    let with_tag = |key: &str, value: String| {
        let Action::CallChild(mut call) = child(0, "Ship") else {
            panic!("it is a call of a child");
        };
        call.tags = vec![(key.to_owned(), value)];
        refused(Action::CallChild(call))
    };
    assert_eq!(refused(activity(0, &name(256), "1")), "fine");
    assert_eq!(refused(send("other", &name(256))), "fine");
    expect!["LimitExceeded: characters of the name of an activity: 257; at most 256 are allowed"]
        .assert_eq(&refused(activity(0, &name(257), "1")));
    expect!["LimitExceeded: characters of the name of an event: 257; at most 256 are allowed"]
        .assert_eq(&refused(send("other", &name(257))));
    expect![[r#"InvalidAnswer: the name of an event must not contain '\0': control characters and those that change the direction of text are not allowed"#]]
        .assert_eq(&refused(send("other", "a\0b")));
    expect!["LimitExceeded: bytes of an instance id: 1025; at most 1024 are allowed"]
        .assert_eq(&refused(send(&long(1025), "go")));
    assert_eq!(with_tag("k", name(1024)), "fine");
    expect!["LimitExceeded: characters of the value of a tag: 1025; at most 1024 are allowed"]
        .assert_eq(&with_tag("k", name(1025)));
    expect!["InvalidAnswer: the value of a tag must not contain '\\0'"]
        .assert_eq(&with_tag("k", "\0".to_owned()));
    expect![[r#"InvalidAnswer: the key of a tag must not contain '\u{202e}': control characters and those that change the direction of text are not allowed"#]]
        .assert_eq(&with_tag("a\u{202e}", name(1)));
}

#[test]
fn payloads_that_no_client_could_read_are_refused() {
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let refused = |answer| {
        let world = World::new([answer]).runs_at(1000);
        world.told();
        match (world.state.end(), world.events().last()) {
            (Some(End::Failed { failure }), _) => failure.to_string(),
            (_, Some(Event::ActivityScheduled { target, input, .. })) => {
                assert_eq!(
                    input.is_none(),
                    target.failure(Callee::Activity, "Pay").is_some()
                );
                let failure = target.failure(Callee::Activity, "Pay");
                failure.map_or("fine".to_owned(), |failure| failure.to_string())
            }
            _ => "fine".to_owned(),
        }
    };
    let status = |levels| waits([Action::SetCustomStatus(Some(json(&deep(levels))))]);
    let sends = |levels| {
        let Action::SendEvent(mut event) = send("other", "go") else {
            panic!("it sends an event");
        };
        event.data = Some(json(&deep(levels)));
        waits([Action::SendEvent(event)])
    };
    let answers = |levels| {
        [
            waits([activity(0, "Pay", &deep(levels))]),
            status(levels),
            sends(levels),
            completes([], &deep(levels)),
        ]
    };
    assert_eq!(answers(128).map(refused), [(); 4].map(|()| "fine"));
    expect![[r#"
        InvalidAnswer: activity "Pay" was not called: its input has arrays and objects nested deeper than the 128 levels that are allowed
        LimitExceeded: the custom status: arrays and objects nested deeper than the 128 levels that are allowed
        LimitExceeded: what it sends to another instance: arrays and objects nested deeper than the 128 levels that are allowed
        LimitExceeded: the output: arrays and objects nested deeper than the 128 levels that are allowed
    "#]]
    .assert_eq(&answers(129).map(|answer| refused(answer) + "\n").concat());
}

#[test]
fn named_values_and_tags_have_bounds() {
    let set = |name: &str, bytes: usize| value(name, Some(&format!("\"{}\"", "x".repeat(bytes))));
    let many = |count: usize| waits((0..count).map(|i| set(&format!("v{i:03}"), 1)));
    let cases = [
        many(100),
        many(101),
        waits([set("a", (128 << 10) - 3), set("b", (128 << 10) - 3)]),
        waits([set("a", (128 << 10) - 3), set("b", (128 << 10) - 2)]),
        // Only what there is after the turn counts.
        waits([set("a", 200 << 10), value("a", None), set("b", 200 << 10)]),
        waits([set(&"n".repeat(128), 1)]),
        waits([set(&"n".repeat(129), 1)]),
        waits([value("", Some("1"))]),
        waits([value("a\u{202e}", None)]),
        waits((0..64).map(|i| tag(&format!("t{i}"), Some("")))),
        waits((0..65).map(|i| tag(&format!("t{i}"), Some("")))),
        waits([tag("", None)]),
        waits([tag("k", Some("\0"))]),
        waits([tag("k", Some(&"x".repeat(1025)))]),
    ];
    let said = cases.map(|answer| {
        let world = World::new([answer]).runs_at(1000);
        world.told();
        match world.state.end() {
            Some(End::Failed { failure }) => failure.to_string() + "\n",
            _ => "fine\n".to_owned(),
        }
    });
    expect![[r#"
        fine
        LimitExceeded: named values: 101; at most 100 are allowed
        fine
        LimitExceeded: bytes of the named values and their names: 262145; at most 262144 are allowed
        fine
        fine
        LimitExceeded: characters of the name of a value: 129; at most 128 are allowed
        InvalidAnswer: the name of a value must not be empty
        InvalidAnswer: the name of a value must not contain '\u{202e}': control characters and those that change the direction of text are not allowed
        fine
        LimitExceeded: tags of an instance: 65; at most 64 are allowed
        InvalidAnswer: the key of a tag must not be empty
        InvalidAnswer: the value of a tag must not contain '\0'
        LimitExceeded: characters of the value of a tag: 1025; at most 1024 are allowed
    "#]].assert_eq(&said.concat());
    // Those of earlier turns count too.
    let world = World::new([many(100), waits([set("v000", 2)]), waits([set("one", 1)])])
        .runs_at(1000)
        .gets([raised("go", "1")])
        .runs_at(2000);
    assert!(world.state.end().is_none());
    let world = world.gets([raised("go", "1")]).runs_at(3000);
    assert!(matches!(world.state.end(), Some(End::Failed { .. })));
    assert_eq!(
        world.state.values.len(),
        100,
        "none of that answer is taken"
    );
}

#[test]
fn what_it_says_it_waits_for_is_cut() {
    let waiting = Waiting {
        events: (0..2_000).map(|_| "é".repeat(1_000)).collect(),
        tasks: vec![TaskId(0); 150_000],
        note: Some("x".repeat(10_000)),
        requests: Vec::new(),
    };
    let world = World::new([ends([], Ending::Waiting(waiting))]).runs_at(1000);
    world.told();
    let kept = &world.state.running().expect("it waits").waiting;
    assert_eq!((kept.events.len(), kept.tasks.len()), (1_000, 100_000));
    assert_eq!(
        kept.events[0],
        format!("{}… (cut: 2000 bytes)", "é".repeat(501))
    );
    assert_eq!(kept.note.as_ref().unwrap().len(), 4 << 10);
}

#[test]
fn only_what_was_received_is_carried_over() {
    check(continues(None, &[]), expect!["fine"]);
    check(
        continues(None, &[0]),
        expect!["InvalidAnswer: it carries over external event 0, which it does not have"],
    );
    let with_event = |carry_over: &[u32]| {
        let world = world([waits([]), continues(None, carry_over)])
            .gets([raised("go", "1")])
            .runs_at(2000);
        world.told();
        world.state.end().cloned()
    };
    assert_eq!(with_event(&[0]), Some(End::ContinuedAsNew));
    assert!(matches!(with_event(&[0, 0]), Some(End::Failed { .. })));
    assert!(matches!(with_event(&[1]), Some(End::Failed { .. })));
}

#[test]
fn an_event_of_an_earlier_execution_is_not_carried_over_again() {
    let mut later = start();
    (later.execution, later.next_external) = (1, 3);
    let of = |number| {
        let world = World::with_start(later.clone(), [Ok(continues(None, &[number]))]);
        world
            .gets([moved(Some(1), "kept", "1")])
            .runs_at(1000)
            .state
            .end()
            .cloned()
    };
    assert_eq!(of(1), Some(End::ContinuedAsNew));
    assert!(matches!(of(0), Some(End::Failed { .. })));
}

#[test]
fn a_verdict_ends_the_execution_and_is_never_derived_again() {
    let panics = Stop::Verdict(Failure::permanent(kind::PANIC, "index out of bounds"));
    let world = World::with_start(start(), [Ok(waits([activity(0, "Pay", "1")])), Err(panics)])
        .runs_at(1000)
        .gets([activity_done(0, "1")])
        .runs_at(2000);
    expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
        at 2000
           3 < TurnStarted now=2000 after 3 events, 224 bytes
           4 < ActivityCompleted 0 1
           5 > ExecutionFailed Panic: index out of bounds
    "#]]
    .assert_eq(&world.told());
}

#[test]
fn a_host_that_cannot_run_the_guest_changes_nothing_durable() {
    let stopped = Err(Stop::Host("no memory for another instance".to_owned()));
    let world = World::with_start(start(), [stopped]).runs_at(1000);
    assert!(world.turns.is_empty());
    let mut state = State::new(0);
    let mut guest = Script::new(&[Ok(waits([timer(0, 5000)]))]);
    let mut context = TurnContext {
        now: Timestamp(1000),
        names: &common::Deployed,
        fresh: &mut || ("e1".to_owned(), 8),
    };
    let again = vec![perennial_core::Message::Start(Box::new(start()))];
    let turn = run_turn(&mut state, again, &mut context, &mut guest).expect("it runs now");
    assert_eq!(turn.map(|turn| turn.first_event), Some(0));
    assert!(state.tasks().contains_key(&TaskId(0)));
}
