//! Histories that no engine wrote.

mod common;

use common::words::*;
use common::{Script, World};
use expect_test::expect;
use perennial_core::{Answer, Event, ReplayError, State, TaskId, Timestamp, Turn, replay_turn};

fn answers() -> [Answer; 3] {
    [
        waits([
            activity(0, "Pay", "1"),
            retried_child(1, "Ship", 3),
            timer(2, 5000),
        ]),
        waits([cancel(2)]),
        completes([], "1"),
    ]
}

/// A history with something of everything.
fn history() -> World {
    World::new(answers())
        .runs_at(1000)
        .gets([activity_done(0, "1"), raised("go", "1")])
        .runs_at(2000)
        .gets([child_failed(1, 1)])
        .runs_at(3000)
        .gets([suspend(), resume(), child_due(1, 2)])
        .runs_at(3100)
        .gets([child_done(1, 2, "1")])
        .runs_at(4000)
}

/// Applies the events, after `damage`.
fn applied(damage: impl FnOnce(&mut Vec<Event>)) -> String {
    let mut events = history().events();
    damage(&mut events);
    let mut state = State::new(0);
    match events.iter().try_for_each(|event| state.apply(event)) {
        Ok(()) => "it can be read".to_owned(),
        Err(corrupt) => corrupt.to_string(),
    }
}

#[test]
fn a_history_is_read_as_it_was_written() {
    assert_eq!(applied(|_| {}), "it can be read");
    expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > ActivityScheduled 0 Pay 1 by module 01
           3 > ChildScheduled 1 Ship version=2 as e0:1 by module 02
           4 > TimerSet 2 due=5000
        at 2000
           5 < TurnStarted now=2000 after 5 events, 296 bytes
           6 < ActivityCompleted 0 1
           7 < ExternalEventRaised 0 go 1
           8 > TaskCanceled 2
        at 3000
           9 < ChildRetryScheduled 1 attempt=2 at=3100 after Flaky
        at 3100
          10 < ExecutionSuspended holiday
        at 3100
          11 < ExecutionResumed
        at 3100
          12 < ChildRetried 1 attempt=2 as e0:1:2
        at 4000
          13 < TurnStarted now=4000 after 13 events, 446 bytes
          14 < ChildCompleted 1 1
          15 > ExecutionCompleted 1
    "#]]
    .assert_eq(&history().told());
}

#[test]
fn a_history_without_its_beginning_is_refused() {
    let refused = |count: usize| applied(|events| drop(events.drain(..count)));
    expect![[r#"
        event 0 (ExecutionStarted) cannot stand in this history: an execution begins in the first turn of its guest
        event 0 (ActivityScheduled) cannot stand in this history: it does not run
        event 0 (ChildScheduled) cannot stand in this history: it does not run
        event 0 (TimerSet) cannot stand in this history: it does not run"#]].assert_eq(&(1..5).map(refused).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_history_with_any_event_but_the_last_missing_is_refused() {
    let count = history().events().len();
    for at in 0..count - 1 {
        assert_ne!(
            applied(|events| drop(events.remove(at))),
            "it can be read",
            "event {at}"
        );
    }
}

#[test]
fn a_history_with_any_event_twice_is_refused() {
    for at in 0..history().events().len() {
        assert_ne!(
            applied(|events| events.insert(at, events[at].clone())),
            "it can be read",
            "event {at}"
        );
    }
}

#[test]
fn foreign_events_are_refused() {
    let after = |at: usize, event: Event| applied(|events| events.insert(at, event));
    let task = TaskId(9);
    let fired = |task| Event::TimerFired { task: TaskId(task) };
    let raised = |number| Event::ExternalEventRaised {
        number,
        name: "go".to_owned(),
        data: None,
    };
    let told = [
        after(7, fired(9)),
        after(7, fired(0)),
        after(7, fired(2)),
        after(7, raised(7)),
        after(8, raised(0)),
        after(4, Event::TaskCanceled { task }),
        after(0, Event::CustomStatusSet { value: None }),
        after(
            5,
            Event::TimerSet {
                task: TaskId(1),
                fire_at: Timestamp(1),
            },
        ),
        after(10, Event::TaskCanceled { task: TaskId(1) }),
        after(11, Event::ExecutionResumed { reason: None }),
        after(1, Event::ExecutionSuspended { reason: None }),
        after(12, Event::CustomStatusSet { value: None }),
        after(12, Event::ExecutionSuspended { reason: None }),
        after(
            9,
            Event::ChildRetried {
                task: TaskId(1),
                attempt: 2,
                instance_id: "e0:1:2".to_owned(),
            },
        ),
        after(9, Event::ExecutionCompleted { output: None }),
        after(16, Event::ExecutionTerminated { reason: None }),
    ];
    expect![[r#"
        event 7 (TimerFired) cannot stand in this history: task 9 is not open
        event 7 (TimerFired) cannot stand in this history: task 0 is not open
        event 7 (TimerFired) cannot stand in this history: the timer is not due
        event 7 (ExternalEventRaised) cannot stand in this history: external event 7 comes before event 0
        event 8 (ExternalEventRaised) cannot stand in this history: external event 0 arrived already
        event 4 (TaskCanceled) cannot stand in this history: task 9 is not open
        event 0 (CustomStatusSet) cannot stand in this history: it does not run
        event 5 (TimerSet) cannot stand in this history: task 1 comes after task 2
        event 10 (TaskCanceled) cannot stand in this history: the guest was not asked in this turn
        event 12 (ExecutionResumed) cannot stand in this history: it is not suspended
        event 1 (ExecutionSuspended) cannot stand in this history: an execution begins in the first turn of its guest
        event 12 (CustomStatusSet) cannot stand in this history: the guest was not asked in this turn
        event 13 (ChildRetried) cannot stand in this history: it is suspended
        event 9 (ChildRetried) cannot stand in this history: attempt 2 was not scheduled
        event 9 (ExecutionCompleted) cannot stand in this history: activities or children are open
        event 16 (ExecutionTerminated) cannot stand in this history: the execution has ended"#]].assert_eq(&told.join("\n"));
}

#[test]
fn a_turn_that_does_not_fit_is_refused() {
    let refused = |damage: fn(&mut Vec<Turn>)| {
        let mut turns = history().turns;
        damage(&mut turns);
        let mut guest = Script::new(&answers().map(Ok));
        let mut state = State::new(0);
        for turn in &turns {
            if let Err(error) = replay_turn(&mut state, turn, &mut guest) {
                return error.to_string();
            }
        }
        "it repeats".to_owned()
    };
    let told = [
        refused(|_| {}),
        refused(|turns| drop(turns.remove(0))),
        refused(|turns| drop(turns.remove(1))),
        refused(|turns| turns.swap(0, 1)),
        refused(|turns| turns[1].number = 7),
        refused(|turns| turns[1].answer = None),
        refused(|turns| turns[2].answer = Some(1)),
        refused(|turns| turns[2].received.clear()),
        refused(|turns| turns[1].answer = Some(1)),
        refused(|turns| drop(turns[1].produced.pop())),
    ];
    expect![[r#"
        it repeats
        event 0 (Turn) cannot stand in this history: it begins with event 5
        event 5 (Turn) cannot stand in this history: it begins with event 9
        event 0 (Turn) cannot stand in this history: it begins with event 5
        event 5 (Turn) cannot stand in this history: it is turn 7 after 1
        event 5 (Turn) cannot stand in this history: the guest's answer is missing
        event 9 (Turn) cannot stand in this history: it has an answer of a guest that was not asked
        event 9 (Turn) cannot stand in this history: nothing came in
        turn 1 does not repeat: at event 9 the record has an answer with the hash 0000000000000001, and now the guest asks for the same events with the hash 5186dc9b345a95ae: a version or an instance id is spelled out that was left open, or the other way round
        turn 1 does not repeat: at event 8 the record has nothing more, and now the guest asks for the cancelling of task 2"#]].assert_eq(&told.join("\n"));
}

#[test]
fn a_difference_names_its_turn_and_event() {
    let mut turns = history().turns;
    turns[1].produced.clear();
    let mut state = State::new(0);
    let mut guest = Script::new(&answers().map(Ok));
    replay_turn(&mut state, &turns[0], &mut guest).expect("the first turn repeats");
    let error = replay_turn(&mut state, &turns[1], &mut guest);
    let Err(ReplayError::Differs(difference)) = error else {
        panic!("it differs: {error:?}");
    };
    assert_eq!((difference.turn, difference.event), (1, 8));
}

#[test]
fn no_event_of_a_return_that_cancels_and_ends_can_be_missing() {
    let answers = [waits([retried_child(0, "Ship", 3)]), completes([], "1")];
    let world = World::new(answers.clone())
        .runs_at(1000)
        .gets([child_failed(0, 1)])
        .runs_at(2000)
        .gets([raised("go", "1")])
        .runs_at(2010);
    let replayed = |turns: &[Turn]| {
        let mut guest = Script::new(&answers.clone().map(Ok));
        let mut state = State::new(0);
        turns
            .iter()
            .try_for_each(|turn| replay_turn(&mut state, turn, &mut guest))
    };
    replayed(&world.turns).unwrap();
    let last = world.turns.len() - 1;
    let produced: Vec<&str> = world.turns[last].produced.iter().map(Event::name).collect();
    assert_eq!(
        produced,
        ["TaskCanceled", "ExecutionReturned", "ExecutionCompleted"]
    );
    for (missing, name) in produced.into_iter().enumerate() {
        let mut turns = world.turns.clone();
        turns[last].produced.remove(missing);
        assert!(replayed(&turns).is_err(), "{name}");
    }
}
