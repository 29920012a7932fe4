//! A guest that does not repeat itself, and histories that no engine wrote.

mod common;

use common::words::*;
use common::{Script, World};
use expect_test::{Expect, expect};
use perennial_core::{
    Action, ActivityCall, Answer, CallOptions, ChildCall, Ending, Failure, Millis, Start, State,
    Stop, TaskId, Timestamp, Turn, Waiting, replay_turn,
};

/// Records a first turn with one answer and repeats it with another.
fn check(recorded: Answer, now: Answer, message: Expect) {
    let world = World::new([recorded]).runs_at(1000);
    message.assert_eq(&replayed(&world.turns, [Ok(now)]));
}

fn replayed(turns: &[Turn], answers: impl IntoIterator<Item = Result<Answer, Stop>>) -> String {
    let mut guest = Script::new(&answers.into_iter().collect::<Vec<_>>());
    let mut state = State::new(0);
    for turn in turns {
        if let Err(error) = replay_turn(&mut state, turn, &mut guest) {
            return error.to_string();
        }
    }
    "it repeats".to_owned()
}

#[test]
fn the_same_answer_repeats_whatever_it_says_it_waits_for() {
    let waiting = Waiting {
        note: Some("the bank".to_owned()),
        requests: Vec::new(),
        ..Waiting::default()
    };
    check(
        waits([activity(0, "Pay", "1")]),
        ends([activity(0, "Pay", "1")], Ending::Waiting(waiting)),
        expect!["it repeats"],
    );
}

#[test]
fn another_name() {
    check(
        waits([activity(3, "Pay", "{\"a\":1}")]),
        waits([activity(3, "Refund", "{\"a\":1}")]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 3 with input {"a":1}, and now the guest asks for activity "Refund" as task 3 with input {"a":1}"#
        ]],
    );
}

#[test]
fn another_input() {
    check(
        waits([activity(0, "Pay", "1")]),
        waits([activity(0, "Pay", "2")]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 0 with input 1, and now the guest asks for activity "Pay" as task 0 with input 2"#
        ]],
    );
    let without = Action::CallActivity(ActivityCall {
        task: TaskId(0),
        name: "Pay".to_owned(),
        input: None,
        retry: None,
        attempt_timeout: None,
        options: CallOptions::default(),
    });
    check(
        waits([without]),
        waits([activity(0, "Pay", "2")]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 0 without input, and now the guest asks for activity "Pay" as task 0 with input 2"#
        ]],
    );
}

#[test]
fn another_end_of_a_long_input() {
    let long = |end| format!("\"{}{end}\"", "x".repeat(500));
    check(
        waits([activity(0, "Pay", &long("a"))]),
        waits([activity(0, "Pay", &long("b"))]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 0 with input "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx... (503 bytes, hash cbd0366f84580941), and now the guest asks for activity "Pay" as task 0 with input "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx... (503 bytes, hash be6e29806086325d)"#
        ]],
    );
}

#[test]
fn another_task_or_policy_or_timeout() {
    let call = |attempts: Option<u32>, timeout: Option<u64>| {
        Action::CallActivity(ActivityCall {
            task: TaskId(0),
            name: "Pay".to_owned(),
            input: None,
            retry: attempts.map(retry),
            attempt_timeout: timeout.map(Millis),
            options: CallOptions::default(),
        })
    };
    check(
        waits([timer(0, 10)]),
        waits([timer(1, 10)]),
        expect![
            "turn 0 does not repeat: at event 2 the record has a timer as task 0 due at 10 ms, and now the guest asks for a timer as task 1 due at 10 ms"
        ],
    );
    check(
        waits([call(Some(3), None)]),
        waits([call(Some(4), None)]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 0 without input, up to 3 attempts, 100 ms apart times 1.0, and now the guest asks for activity "Pay" as task 0 without input, up to 4 attempts, 100 ms apart times 1.0"#
        ]],
    );
    check(
        waits([call(None, Some(5))]),
        waits([call(None, None)]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 0 without input, 5 ms for each attempt, and now the guest asks for activity "Pay" as task 0 without input"#
        ]],
    );
}

#[test]
fn other_options() {
    let call = |heartbeat: Option<u64>, at_most_once| {
        Action::CallActivity(ActivityCall {
            task: TaskId(0),
            name: "Pay".to_owned(),
            input: None,
            retry: None,
            attempt_timeout: None,
            options: CallOptions {
                heartbeat_timeout: heartbeat.map(Millis),
                at_most_once,
            },
        })
    };
    check(
        waits([call(Some(5), true)]),
        waits([call(Some(6), false)]),
        expect![
            "turn 0 does not repeat: at event 3 the record has options for task 0: a heartbeat every 5 ms, at most once, and now the guest asks for options for task 0: a heartbeat every 6 ms"
        ],
    );
    check(
        waits([call(None, true)]),
        waits([call(None, false)]),
        expect![
            "turn 0 does not repeat: at event 3 the record has options for task 0: at most once, and now the guest asks for a call without options"
        ],
    );
    check(
        waits([call(None, false)]),
        waits([call(None, true)]),
        expect![
            "turn 0 does not repeat: at event 3 the record has nothing more, and now the guest asks for options for task 0: at most once"
        ],
    );
}

#[test]
fn another_timer() {
    check(
        waits([timer(0, 5000)]),
        waits([timer(0, 6000)]),
        expect![
            "turn 0 does not repeat: at event 2 the record has a timer as task 0 due at 5000 ms, and now the guest asks for a timer as task 0 due at 6000 ms"
        ],
    );
}

#[test]
fn another_kind_of_action() {
    check(
        waits([timer(0, 5000)]),
        waits([child(0, "Ship")]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has a timer as task 0 due at 5000 ms, and now the guest asks for child "Ship" as task 0 in instance "e0:0" without input"#
        ]],
    );
}

#[test]
fn a_missing_action() {
    check(
        waits([activity(0, "Pay", "1"), timer(1, 5000)]),
        waits([activity(0, "Pay", "1")]),
        expect![
            "turn 0 does not repeat: at event 3 the record has a timer as task 1 due at 5000 ms, and now the guest asks for nothing more"
        ],
    );
    check(
        waits([activity(0, "Pay", "1"), timer(1, 5000)]),
        waits([timer(1, 5000)]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 0 with input 1, and now the guest asks for a timer as task 1 due at 5000 ms"#
        ]],
    );
}

#[test]
fn a_missing_or_extra_cancelling() {
    check(
        waits([timer(0, 5000), cancel(0)]),
        waits([timer(0, 5000)]),
        expect![
            "turn 0 does not repeat: at event 3 the record has the cancelling of task 0, and now the guest asks for nothing more"
        ],
    );
    check(
        waits([timer(0, 5000)]),
        waits([timer(0, 5000), cancel(0)]),
        expect![
            "turn 0 does not repeat: at event 3 the record has nothing more, and now the guest asks for the cancelling of task 0"
        ],
    );
}

#[test]
fn an_extra_action() {
    check(
        waits([activity(0, "Pay", "1")]),
        waits([activity(0, "Pay", "1"), send("other", "hello")]),
        expect![[
            r#"turn 0 does not repeat: at event 3 the record has nothing more, and now the guest asks for event "hello" to instance "other" without data"#
        ]],
    );
    check(
        waits([]),
        waits([start_instance("x", "Audit")]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has nothing more, and now the guest asks for the start of "Audit" as instance "x" without input"#
        ]],
    );
}

#[test]
fn another_order() {
    let (pay, go) = (activity(0, "Pay", "1"), send("other", "go"));
    check(
        waits([pay.clone(), go.clone()]),
        waits([go, pay]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has activity "Pay" as task 0 with input 1, and now the guest asks for event "go" to instance "other" without data"#
        ]],
    );
}

#[test]
fn another_ending() {
    check(
        completes([], "1"),
        waits([]),
        expect![
            "turn 0 does not repeat: at event 2 the record has the end with output 1, and now the guest asks for nothing more"
        ],
    );
    check(
        waits([]),
        completes([], "1"),
        expect![
            "turn 0 does not repeat: at event 2 the record has nothing more, and now the guest asks for the end with output 1"
        ],
    );
    check(
        completes([], "1"),
        completes([], "2"),
        expect![
            "turn 0 does not repeat: at event 2 the record has the end with output 1, and now the guest asks for the end with output 2"
        ],
    );
    check(
        completes([activity(0, "Pay", "1")], "1"),
        completes([activity(0, "Pay", "1")], "2"),
        expect![
            "turn 0 does not repeat: at event 3 the record has the end with output 1, and now the guest asks for the end with output 2"
        ],
    );
    check(
        fails("CardDeclined", None),
        fails("CardDeclined", Some(0)),
        expect![
            "turn 0 does not repeat: at event 2 the record has the failure CardDeclined, and now the guest asks for the failure CardDeclined, of task 0"
        ],
    );
    check(
        continues(None, &[]),
        continues(Some("3"), &[]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has the continuing as new with input 2, and now the guest asks for the continuing as new with input 2, version "3""#
        ]],
    );
}

#[test]
fn another_child() {
    let named = |id: Option<&str>| {
        Action::CallChild(ChildCall {
            instance_id: id.map(str::to_owned),
            ..child_call(0, "Ship")
        })
    };
    check(
        waits([named(None)]),
        waits([named(Some("mine"))]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has child "Ship" version "2" as task 0 in instance "e0:0" without input, and now the guest asks for child "Ship" as task 0 in instance "mine" without input"#
        ]],
    );
    check(
        waits([named(None)]),
        waits([named(Some("e0:0"))]),
        expect![
            "turn 0 does not repeat: at event 3 the record has an answer with the hash 023ebd3542a688fe, and now the guest asks for the same events with the hash a6b3ed9909c1c321: a version or an instance id is spelled out that was left open, or the other way round"
        ],
    );
    let versioned = |version: &str| {
        Action::CallChild(ChildCall {
            version: Some(version.to_owned()),
            tags: vec![("k".to_owned(), "v".to_owned())],
            ..child_call(0, "Ship")
        })
    };
    check(
        waits([versioned("1")]),
        waits([versioned("2")]),
        expect![[
            r#"turn 0 does not repeat: at event 2 the record has child "Ship" version "1" as task 0 in instance "e0:0" without input, tags "k"="v", and now the guest asks for child "Ship" version "2" as task 0 in instance "e0:0" without input, tags "k"="v""#
        ]],
    );
}

#[test]
fn another_custom_status() {
    check(
        waits([status("1")]),
        waits([status("2")]),
        expect![
            "turn 0 does not repeat: at event 2 the record has custom status 1, and now the guest asks for custom status 2"
        ],
    );
    check(
        waits([status("1")]),
        waits([Action::SetCustomStatus(None)]),
        expect![
            "turn 0 does not repeat: at event 2 the record has custom status 1, and now the guest asks for no custom status"
        ],
    );
}

#[test]
fn a_guest_that_fails_where_it_answered() {
    let world = World::new([waits([])]).runs_at(1000);
    let panics = Stop::Verdict(Failure::permanent("Panic", "index out of bounds"));
    expect!["turn 0 does not repeat: it was recorded as answered, and now it fails with Panic: index out of bounds"].assert_eq(&replayed(&world.turns, [Err(panics)]));
    expect!["the guest could not be run: no memory"].assert_eq(&replayed(
        &world.turns,
        [Err(Stop::Host("no memory".to_owned()))],
    ));
}

#[test]
fn until_the_first_turn_the_clock_stands_where_the_rules_of_the_start_have_it() {
    let start = common::start();
    assert_eq!(start.clock(), start.accepted_at);
    assert_ne!(start.accepted_at, Timestamp(0));
    let old = Start {
        semantics: 1,
        ..start
    };
    assert_eq!(old.clock(), Timestamp(0));
}
