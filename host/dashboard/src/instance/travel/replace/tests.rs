use perennial::{AttemptRun, HistoryEvent, TaskId, Timestamp};

use super::*;

const HOSTILE: &str = "\"</textarea><script>\u{202e}\\u0000\"";

fn started() -> Event {
    let text = r#"{"number":0,"turn":0,"at":"1970-01-01T00:00:00Z","event":"ExecutionStarted","name":"Order","instanceId":"a","executionId":"e","input":[1]}"#;
    serde_json::from_str::<HistoryEvent>(text).unwrap().event
}

/// The beginning of a turn after these events.
fn began(before: &[Event]) -> Event {
    Event::TurnStarted {
        now: Timestamp(1),
        history_events: u32::try_from(before.len()).unwrap(),
        history_bytes: before.iter().map(|event| event.size() as u64).sum(),
    }
}

/// The events of the first turn.
fn first_turn() -> [Event; 4] {
    [began(&[]), started(), called(0), called(1)]
}

fn called(task: u32) -> Event {
    Event::ActivityScheduled {
        task: TaskId(task),
        name: "Charge".to_owned(),
        input: None,
        retry: None,
        attempt_timeout: None,
        target: perennial::core::Target::Native,
    }
}

fn completed(task: u32, output: &str) -> Event {
    Event::ActivityCompleted {
        task: TaskId(task),
        output: json(output),
        run: AttemptRun {
            attempt: 2,
            started_at: Timestamp(3),
            ended_at: Timestamp(4),
        },
    }
}

fn json(text: &str) -> Option<Json> {
    Some(Json::from_text(text.to_owned()))
}

/// The execution asks for two activities, and gets both results in one turn.
fn recorded() -> RecordedHistory {
    let turns = [
        (0, 0, first_turn()[..2].to_vec(), first_turn()[2..].to_vec()),
        (
            1,
            4,
            vec![
                began(&first_turn()),
                completed(0, "7"),
                completed(1, HOSTILE),
            ],
            vec![],
        ),
    ];
    let turns: Vec<Value> = (turns.iter())
        .map(|(number, first, received, produced)| {
            serde_json::json!({
                "number": number, "firstEvent": first, "at": 5, "answer": "a03948493aee2c2e",
                "received": encode(received).unwrap(), "produced": encode(produced).unwrap(),
            })
        })
        .collect();
    let history = serde_json::json!({
        "perennialHistory": 1, "instanceId": "a", "name": "Order", "runtimeStatus": "Running",
        "execution": 0, "generation": 0, "turns": turns,
    });
    RecordedHistory::from_json(history.to_string().as_bytes()).unwrap()
}

fn turns(history: &RecordedHistory) -> Vec<Value> {
    let json = serde_json::to_value(history).unwrap();
    json["turns"].as_array().unwrap().clone()
}

fn events(turn: &Value) -> Vec<Event> {
    decode(turn["received"].as_str().unwrap()).unwrap()
}

#[test]
fn everything_but_the_event_stays_as_it_was() {
    let history = recorded();
    let same = in_history(&history, 5, |event| Some(event.clone())).unwrap();
    assert_eq!(same, history, "the encoding is that of the host");

    let other = in_history(&history, 5, |event| {
        replaced(event, Instead::Value(json("8")))
    })
    .unwrap();
    let (before, after) = (turns(&history), turns(&other));
    assert_eq!(before[0], after[0]);
    assert_eq!(before[1]["produced"], after[1]["produced"]);
    let expected = [
        began(&first_turn()),
        completed(0, "8"),
        completed(1, HOSTILE),
    ];
    assert_eq!(events(&after[1]), expected);
    assert_eq!(
        in_history(&other, 5, |event| replaced(
            event,
            Instead::Value(json("7"))
        ))
        .unwrap(),
        history
    );
}

#[test]
fn a_result_becomes_a_failure_and_a_result_again() {
    let failure = Failure::permanent("Declined", HOSTILE);
    let history = recorded();
    let fails = |event: &Event| replaced(event, Instead::Failure(failure.clone()));
    let failed = in_history(&history, 6, fails).unwrap();
    let stored_events = events(&turns(&failed)[1]);
    let Event::ActivityFailed {
        task,
        failure: stored,
        run,
    } = &stored_events[2]
    else {
        panic!("{failed:?}");
    };
    assert_eq!((*task, stored, run.attempt), (TaskId(1), &failure, 2));
    let again = in_history(&failed, 6, |event| {
        replaced(event, Instead::Value(json(HOSTILE)))
    });
    assert_eq!(again.unwrap(), history);
}

#[test]
fn an_input_can_be_replaced_and_cannot_fail() {
    let history = recorded();
    let other = in_history(&history, 1, |event| replaced(event, Instead::Value(None))).unwrap();
    assert!(
        matches!(&events(&turns(&other)[0])[1], Event::ExecutionStarted(start) if start.input.is_none())
    );
    let failure = Instead::Failure(Failure::permanent("A", ""));
    assert!(in_history(&history, 1, |event| replaced(event, failure)).is_err());
}

#[test]
fn what_did_not_come_in_cannot_be_replaced() {
    let history = recorded();
    for number in [0, 2, 3, 4, 7, 8, u64::MAX] {
        let changed = in_history(&history, number, |event| {
            replaced(event, Instead::Value(None))
        });
        assert!(changed.is_err(), "{number}");
    }
}
