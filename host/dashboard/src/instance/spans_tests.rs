use perennial::core::Target;
use perennial::{Failure, Json};

use super::*;

fn event(turn: u32, at: u64, event: Event) -> HistoryEvent {
    // Its fields are public but it cannot be built outside of its crate, so it is read as clients of the API read it.
    let mut told: HistoryEvent = serde_json::from_str(
        r#"{"number":0,"turn":0,"at":"1970-01-01T00:00:00Z","event":"TimerFired","task":0}"#,
    )
    .unwrap();
    told.turn = turn;
    told.at = Timestamp(1_000_000 + at);
    told.event = event;
    told
}

fn run(attempt: u32, from: u64, to: u64) -> AttemptRun {
    AttemptRun {
        attempt,
        started_at: Timestamp(1_000_000 + from),
        ended_at: Timestamp(1_000_000 + to),
    }
}

fn activity(task: u32, name: &str) -> Event {
    Event::ActivityScheduled {
        task: TaskId(task),
        name: name.to_owned(),
        input: None,
        retry: None,
        attempt_timeout: None,
        target: Target::Unknown,
    }
}

fn child(task: u32, id: &str) -> Event {
    Event::ChildScheduled {
        task: TaskId(task),
        name: "Child".to_owned(),
        version: None,
        instance_id: id.to_owned(),
        input: None,
        tags: Vec::new(),
        retry: None,
        target: Target::Unknown,
    }
}

fn told(events: impl IntoIterator<Item = HistoryEvent>) -> Spans {
    let mut spans = Spans::default();
    for event in events {
        spans.tell(&event);
    }
    spans
}

#[test]
fn an_activity_is_a_span_with_its_attempts() {
    let failure = Failure::retryable("Busy", "later");
    let spans = told([
        event(0, 0, activity(1, "Charge")),
        event(
            1,
            900,
            Event::AttemptFailed {
                task: TaskId(1),
                failure,
                run: run(1, 10, 100),
            },
        ),
        event(
            1,
            900,
            Event::ActivityCompleted {
                task: TaskId(1),
                output: None,
                run: run(2, 500, 880),
            },
        ),
    ]);
    let span = &spans.spans[0];
    assert_eq!(
        (span.start, span.end, span.outcome),
        (0, Some(880), Outcome::Completed)
    );
    let times: Vec<_> = span
        .attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.start, attempt.end))
        .collect();
    assert_eq!(times, [(1, 10, Some(100)), (2, 500, Some(880))]);
    assert_eq!(span.attempts[0].failure.as_deref(), Some("Busy: later"));
    assert_eq!(spans.turns, [Tick(0, 0), Tick(1, 900)]);
}

#[test]
fn attempts_do_not_overlap_although_the_clock_was_set_back() {
    let failure = Failure::retryable("Busy", "");
    let spans = told([
        event(0, 50, activity(1, "Charge")),
        event(
            1,
            900,
            Event::AttemptFailed {
                task: TaskId(1),
                failure,
                run: run(1, 0, 300),
            },
        ),
        event(
            1,
            900,
            Event::ActivityCompleted {
                task: TaskId(1),
                output: None,
                run: run(2, 100, 200),
            },
        ),
    ]);
    let span = &spans.spans[0];
    assert!(span.attempts[1].start >= span.attempts[0].end.unwrap());
    assert!(span.end.unwrap() >= span.start);
}

#[test]
fn a_child_has_attempts_with_a_wait_between() {
    let failure = Failure::retryable("Busy", "later");
    let retry = Event::ChildRetryScheduled {
        task: TaskId(3),
        attempt: 2,
        at: Timestamp(1_000_500),
        failure,
    };
    let again = Event::ChildRetried {
        task: TaskId(3),
        attempt: 2,
        instance_id: "c-2".to_owned(),
    };
    let spans = told([
        event(0, 0, child(3, "c-1")),
        event(1, 200, retry),
        event(2, 500, again),
        event(
            3,
            700,
            Event::ChildCompleted {
                task: TaskId(3),
                output: None,
            },
        ),
    ]);
    let span = &spans.spans[0];
    let times: Vec<_> = span
        .attempts
        .iter()
        .map(|attempt| (attempt.start, attempt.end))
        .collect();
    assert_eq!(times, [(0, Some(200)), (500, Some(700))]);
    assert_eq!(
        (span.instance.as_deref(), span.outcome),
        (Some("c-2"), Outcome::Completed)
    );
}

#[test]
fn timers_events_and_requests_have_their_outcomes() {
    let set = |task: u32| Event::TimerSet {
        task: TaskId(task),
        fire_at: Timestamp(1_000_400),
    };
    let asked = Event::RequestReceived {
        number: 0,
        id: "r".to_owned(),
        name: "Add".to_owned(),
        input: None,
    };
    let declined = Err(Failure::permanent("No", ""));
    let spans = told([
        event(0, 0, set(1)),
        event(0, 0, set(2)),
        event(0, 0, set(3)),
        event(
            1,
            100,
            Event::ExternalEventRaised {
                number: 0,
                name: "Go".to_owned(),
                data: Some(Json::from_text("1")),
            },
        ),
        event(1, 100, Event::TaskCanceled { task: TaskId(2) }),
        event(2, 200, asked),
        event(
            2,
            300,
            Event::RequestAnswered {
                number: Some(0),
                id: "r".to_owned(),
                outcome: declined,
            },
        ),
        event(3, 400, Event::TimerFired { task: TaskId(1) }),
        event(3, 400, Event::TimerFired { task: TaskId(99) }),
    ]);
    let outcomes: Vec<_> = spans
        .spans
        .iter()
        .map(|span| (span.kind, span.outcome, span.end))
        .collect();
    assert_eq!(
        outcomes,
        [
            (Kind::Timer, Outcome::Fired, Some(400)),
            (Kind::Timer, Outcome::Canceled, Some(100)),
            (Kind::Timer, Outcome::Open, None),
            (Kind::Event, Outcome::Received, Some(100)),
            (Kind::Answer, Outcome::Failed, Some(300)),
        ]
    );
    assert_eq!(spans.spans[2].due, Some(400));
}

#[test]
fn a_long_history_of_hostile_names_becomes_few_short_spans() {
    let name = "<b>\u{202e}".repeat(10_000);
    let begun = std::time::Instant::now();
    let spans = told(
        (0..SPANS_MAX as u32 + 500).map(|task| event(task, task.into(), activity(task, &name))),
    );
    assert_eq!((spans.spans.len(), spans.more), (SPANS_MAX, 500));
    assert!(spans.turns.len() <= TURNS_MAX);
    assert!(
        spans
            .spans
            .iter()
            .all(|span| span.name.chars().count() <= TEXT + 1)
    );
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}
