use perennial::core::ChildCommand;
use perennial::{AttemptRun, Failure};

use super::*;

/// Events of turns, each of which is recorded a second after the one before.
fn history(turns: Vec<Vec<Event>>) -> Vec<HistoryEvent> {
    let mut number = 0;
    let mut all = Vec::new();
    for (turn, events) in turns.into_iter().enumerate() {
        for event in events {
            all.push(read(number, turn, &event));
            number += 1;
        }
    }
    all
}

/// An event of a history can be made by reading one only.
fn read(number: u64, turn: usize, event: &Event) -> HistoryEvent {
    let text = format!(
        r#"{{"number":{number},"turn":{turn},"at":"1970-01-01T00:00:{turn:02}Z","event":"TimerFired","task":0}}"#
    );
    let mut made: HistoryEvent = serde_json::from_str(&text).unwrap();
    made.event = event.clone();
    made
}

fn began() -> Event {
    Event::TurnStarted {
        now: Timestamp(0),
        history_events: 0,
        history_bytes: 0,
    }
}

fn started(execution: u32) -> Event {
    let text = r#"{"number":0,"turn":0,"at":"1970-01-01T00:00:00Z","event":"ExecutionStarted","name":"Order","instanceId":"a","executionId":"e"}"#;
    let made: HistoryEvent = serde_json::from_str(text).unwrap();
    let Event::ExecutionStarted(mut start) = made.event else {
        panic!("{text}");
    };
    start.execution = execution;
    Event::ExecutionStarted(start)
}

fn called(task: u32, name: &str) -> Event {
    Event::ActivityScheduled {
        task: TaskId(task),
        name: name.to_owned(),
        input: None,
        retry: None,
        attempt_timeout: None,
        target: perennial::core::Target::Native,
    }
}

fn completed(task: u32) -> Event {
    Event::ActivityCompleted {
        task: TaskId(task),
        output: Some(Json::from_text("1")),
        run: AttemptRun {
            attempt: 1,
            started_at: Timestamp(0),
            ended_at: Timestamp(0),
        },
    }
}

fn json(text: &str) -> Option<Json> {
    Some(Json::from_text(text.to_owned()))
}

fn name(what: &What) -> &str {
    match what {
        What::Activity { name, .. } | What::Child { name, .. } | What::Request { name, .. } => name,
        What::Timer { .. } => "timer",
    }
}

fn open(state: &State) -> Vec<&str> {
    state.tasks.values().map(|open| name(&open.what)).collect()
}

#[test]
fn open_tasks_appear_with_their_call_and_go_with_their_outcome() {
    let timer = Event::TimerSet {
        task: TaskId(2),
        fire_at: Timestamp(5),
    };
    let ended = Event::ExecutionCompleted { output: None };
    let states = states(&history(vec![
        vec![
            began(),
            started(0),
            called(0, "Reserve"),
            called(1, "Charge"),
            timer,
        ],
        vec![began(), completed(1)],
        vec![
            began(),
            Event::TimerFired { task: TaskId(2) },
            Event::TaskCanceled { task: TaskId(0) },
        ],
        vec![began(), called(3, "Ship")],
        vec![began(), completed(3), ended],
    ]));
    let all: Vec<Vec<&str>> = states.iter().map(|(_, state)| open(state)).collect();
    let expected: [&[&str]; 5] = [
        &["Reserve", "Charge", "timer"],
        &["Reserve", "timer"],
        &[],
        &["Ship"],
        &[],
    ];
    assert_eq!(all, expected);
    assert_eq!(
        states[0].1.tasks[&TaskId(2)].what,
        What::Timer { due: Timestamp(5) }
    );
    assert_eq!(
        (states[3].1.tasks[&TaskId(3)].turn, states[3].1.phase),
        (3, Phase::Running)
    );
    assert_eq!(states[4].1.phase, Phase::Completed);
}

#[test]
fn a_child_is_followed_through_its_attempts() {
    let child = Event::ChildScheduled {
        task: TaskId(0),
        name: "Ship".to_owned(),
        version: None,
        instance_id: "a:0".to_owned(),
        input: None,
        tags: Vec::new(),
        retry: None,
        target: perennial::core::Target::Native,
    };
    let again = Event::ChildRetryScheduled {
        task: TaskId(0),
        attempt: 2,
        at: Timestamp(9),
        failure: Failure::retryable("Late", "no ship"),
    };
    let retried = Event::ChildRetried {
        task: TaskId(0),
        attempt: 2,
        instance_id: "a:0:2".to_owned(),
    };
    let told = Event::ChildCommanded {
        task: TaskId(0),
        instance_id: "a:0:2".to_owned(),
        command: ChildCommand::Cancel,
        reason: None,
    };
    let states = states(&history(vec![
        vec![began(), started(0), child],
        vec![again],
        vec![retried],
        vec![began(), told],
    ]));
    let of = |turn: usize| match &states[turn].1.tasks[&TaskId(0)].what {
        What::Child {
            attempt,
            due,
            instance_id,
            last_failure,
            is_told_to_end,
            ..
        } => (
            *attempt,
            *due,
            &**instance_id,
            last_failure.is_some(),
            *is_told_to_end,
        ),
        other @ (What::Activity { .. } | What::Timer { .. } | What::Request { .. }) => {
            panic!("{other:?}")
        }
    };
    assert_eq!(of(0), (1, None, "a:0", false, false));
    assert_eq!(of(1), (2, Some(Timestamp(9)), "a:0", true, false));
    assert_eq!(of(2), (2, None, "a:0:2", true, false));
    assert_eq!(of(3), (2, None, "a:0:2", true, true));
}

#[test]
fn the_custom_status_values_and_tags_are_those_of_the_turn() {
    let status = |text| Event::CustomStatusSet { value: json(text) };
    let value = |value| Event::ValueSet {
        name: "left".to_owned(),
        value,
    };
    let tag = |value: Option<&str>| Event::TagSet {
        key: "k".to_owned(),
        value: value.map(str::to_owned),
    };
    let states = states(&history(vec![
        vec![
            began(),
            started(0),
            status("1"),
            value(json("3")),
            tag(Some("v")),
        ],
        vec![began(), completed(0), status("2")],
        vec![
            began(),
            completed(1),
            Event::CustomStatusSet { value: None },
            value(None),
            tag(None),
        ],
    ]));
    let text = |turn: usize| states[turn].1.custom_status.as_ref().map(Json::as_str);
    assert_eq!([text(0), text(1), text(2)], [Some("1"), Some("2"), None]);
    assert_eq!(states[1].1.values["left"].as_str(), "3");
    assert_eq!(states[1].1.tags["k"], "v");
    assert!(states[2].1.values.is_empty() && states[2].1.tags.is_empty());
}

#[test]
fn an_execution_that_continues_as_new_waits_for_nothing_and_its_successor_begins_with_what_it_left()
{
    let next = Event::ContinuedAsNew {
        input: None,
        version: None,
        carry_over: vec![0],
        execution_id: "f".to_owned(),
    };
    let before = states(&history(vec![vec![
        began(),
        started(0),
        called(0, "Poll"),
        next,
    ]]));
    assert_eq!(
        (before[0].1.phase, before[0].1.tasks.len()),
        (Phase::ContinuedAsNew, 0)
    );

    let left = vec![
        Event::ValueSet {
            name: "round".to_owned(),
            value: json("2"),
        },
        Event::CustomStatusSet {
            value: json("\"on\""),
        },
    ];
    let turn: Vec<Event> = [
        vec![began(), started(1)],
        left.clone(),
        vec![called(0, "Poll")],
    ]
    .concat();
    let events = history(vec![turn]);
    assert_eq!(received(&events), 4);
    let after = states(&events);
    assert_eq!(after[0].1.values["round"].as_str(), "2");

    let own: Vec<Event> = [vec![began(), started(0)], left].concat();
    assert_eq!(
        received(&history(vec![own])),
        2,
        "the first execution takes over nothing"
    );
}

#[test]
fn requests_suspension_and_the_end_are_seen() {
    let request = Event::RequestReceived {
        number: 0,
        id: "r".to_owned(),
        name: "AddItem".to_owned(),
        input: None,
    };
    let answer = Event::RequestAnswered {
        number: Some(0),
        id: "r".to_owned(),
        outcome: Ok(None),
    };
    let states = states(&history(vec![
        vec![began(), started(0), request],
        vec![Event::ExecutionSuspended { reason: None }],
        vec![Event::ExecutionResumed { reason: None }],
        vec![began(), answer.clone()],
        vec![Event::ExecutionTerminated { reason: None }],
    ]));
    let status = |turn: usize| states[turn].1.phase.status(states[turn].1.is_suspended);
    assert_eq!(states[0].1.requests["r"], "AddItem");
    assert_eq!(
        [status(1), status(2), status(4)],
        [Status::Suspended, Status::Running, Status::Terminated]
    );
    assert!(states[3].1.requests.is_empty());

    let refused = Event::RequestAnswered {
        number: None,
        id: "s".to_owned(),
        outcome: Ok(None),
    };
    assert_eq!(received(&history(vec![vec![began(), refused, answer]])), 2);
    let killed = Event::ExecutionTerminated { reason: None };
    assert_eq!(received(&history(vec![vec![killed.clone()]])), 1);
    assert_eq!(
        received(&history(vec![vec![began(), killed]])),
        1,
        "it ends as it was asked to"
    );
}

#[test]
fn outcomes_of_unknown_tasks_change_nothing() {
    let states = states(&history(vec![vec![
        completed(7),
        Event::TimerFired { task: TaskId(8) },
    ]]));
    assert_eq!(states[0].1, State::default());
}
