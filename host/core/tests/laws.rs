//! Laws that hold for every guest and every order of messages.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::random::Dice;
use common::simulation::{Execution, Step, World, first_start, parked_turn, replay, story, turn};
use common::tried;
use perennial_core::{End, Event, Guest, Json, Message, State, Timestamp, Turn, replay_turn};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

/// Replays every execution as a whole.
fn check_replay(world: &World) {
    for (execution, run) in world.executions.iter().enumerate() {
        let state = replay(run.turns(), &mut *world.fresh_guest(execution));
        assert_eq!(state, run.state);
    }
}

/// Replays the turns before `cut`, then repeats the calls that came after.
fn check_cut(world: &World, execution: usize, cut: usize) {
    let runs = &world.executions[execution].runs;
    let mut guest = world.fresh_guest(execution);
    let mut state = replay(
        runs[..cut].iter().filter_map(|run| run.turn.as_ref()),
        &mut *guest,
    );
    for run in &runs[cut..] {
        let again = turn(&mut state, run.now, run.messages.clone(), &mut *guest);
        assert_eq!(again.as_ref(), Ok(&run.turn));
    }
    assert_eq!(state, world.executions[execution].state);
}

/// Runs every turn with an answer that comes later, and once more where one was lost.
fn check_parked(world: &World, execution: usize) {
    let mut guest = world.fresh_guest(execution);
    let mut state = State::new(0);
    for run in &world.executions[execution].runs {
        let later = Timestamp(run.now.0 + 1);
        let parked = parked_turn(
            &mut state,
            run.now,
            later,
            run.messages.clone(),
            &mut *guest,
        );
        let mut parked = parked.expect("the turn happens");
        // The next execution is accepted when the answer is there.
        if let Some(next) = parked.as_mut().and_then(|turn| turn.next.as_mut()) {
            assert_eq!(next.accepted_at, later);
            next.accepted_at = run.now;
        }
        assert_eq!(parked, run.turn);
    }
    assert_eq!(state, world.executions[execution].state);
}

/// Checks what a history says about itself.
fn check_counts(execution: &Execution) {
    let (mut events, mut bytes, mut first, mut next) = (0, 0, 0, 0);
    let mut carried = BTreeSet::new();
    for (number, turn) in execution.turns().enumerate() {
        assert_eq!((turn.number as usize, turn.first_event), (number, events));
        let before = (events as u32, bytes);
        for event in turn.events() {
            if let Event::TurnStarted {
                history_events,
                history_bytes,
                ..
            } = event
            {
                assert_eq!((*history_events, *history_bytes), before);
            } else if let Event::ExecutionStarted(start) = event {
                (first, next) = (start.next_external, start.next_external);
            } else if let Event::ExternalEventRaised { number, .. }
            | Event::RequestReceived { number, .. } = event
            {
                if *number < first {
                    assert!(carried.insert(*number));
                } else {
                    assert_eq!(*number, next);
                    next += 1;
                }
            }
            events += 1;
            bytes += event.size() as u64;
        }
        assert_eq!(turn.next_event(), events);
        let asked = matches!(turn.received.first(), Some(Event::TurnStarted { .. }));
        assert_eq!(
            asked,
            turn.received
                .iter()
                .any(|event| matches!(event, Event::TurnStarted { .. }))
        );
        assert!(turn.answer.is_none() || asked);
    }
    if let Some(running) = execution.state.running() {
        assert_eq!(running.next_external, next);
    }
}

/// Damages one turn of a history, in a way that `replay_turn` must see: `None` if there is nothing to damage.
fn damaged(turns: &[Turn], dice: &mut Dice) -> Option<Vec<Turn>> {
    let mut turns = turns.to_vec();
    let at = dice.roll(turns.len().checked_sub(1)? as u64 + 1) as usize;
    let last = at + 1 == turns.len();
    match dice.roll(7) {
        0 if !last => {
            turns.remove(at);
        }
        1 if !last => turns.swap(at, at + 1),
        2 => turns.insert(at, turns[at].clone()),
        3 if !turns[at].produced.is_empty() => {
            let event = dice.roll(turns[at].produced.len() as u64) as usize;
            turns[at].produced.remove(event);
        }
        4 if !last => {
            let event = dice.roll(turns[at].received.len() as u64) as usize;
            turns[at].received.remove(event);
        }
        5 => turns[at].answer = Some(turns[at].answer? ^ 1),
        6 => {
            let produced = turns[at].produced.iter_mut().find_map(|event| {
                if let Event::ActivityScheduled { name, .. }
                | Event::ChildScheduled { name, .. }
                | Event::RequestSent { name, .. }
                | Event::EventSent { name, .. } = event
                {
                    return Some(name);
                }
                None
            })?;
            produced.push('x');
        }
        _ => return None,
    }
    Some(turns)
}

/// Replays turns that may be damaged; `None` if that is noticed.
fn replays(turns: &[Turn], guest: &mut dyn Guest) -> Option<State> {
    let mut state = State::new(0);
    for turn in turns {
        replay_turn(&mut state, turn, guest).ok()?;
    }
    Some(state)
}

proptest! {
    #![proptest_config(tried(4_000))]

    #[test]
    fn replaying_a_whole_history_comes_to_the_same_state((seed, manners, steps) in story()) {
        check_replay(&World::play(seed, manners, &steps));
    }

    #[test]
    fn cutting_a_history_and_going_on_writes_what_was_written_the_first_time((seed, manners, steps) in story(), cut in any::<prop::sample::Index>()) {
        let world = World::play(seed, manners, &steps);
        for (execution, run) in world.executions.iter().enumerate() {
            check_cut(&world, execution, cut.index(run.runs.len() + 1));
        }
    }

    #[test]
    fn a_turn_whose_guest_answers_later_is_the_same((seed, manners, steps) in story()) {
        let world = World::play(seed, manners, &steps);
        (0..world.executions.len()).for_each(|execution| check_parked(&world, execution));
    }

    #[test]
    fn evicting_at_any_moment_changes_nothing((seed, manners, steps) in story()) {
        let world = World::play(seed, manners, &steps);
        let resident: Vec<Step> = steps.iter().copied().filter(|step| !matches!(step, Step::Evict | Step::HostStop)).collect();
        let resident = World::play(seed, manners, &resident);
        prop_assert_eq!(world.executions.len(), resident.executions.len());
        for (one, other) in world.executions.iter().zip(&resident.executions) {
            prop_assert!(one.turns().eq(other.turns()));
            prop_assert_eq!(&one.state, &other.state);
        }
    }

    #[test]
    fn a_history_counts_itself_rightly_and_its_events_have_no_gap((seed, manners, steps) in story()) {
        World::play(seed, manners, &steps).executions.iter().for_each(check_counts);
    }

    #[test]
    fn messages_that_make_no_batch_change_nothing_or_make_a_lawful_history((seed, manners, steps) in story(), sizes in prop::collection::vec(1..6usize, 60)) {
        let world = World::play(seed, manners, &steps);
        let mut messages: Vec<Message> = world.sent.clone();
        messages.insert(messages.len() / 3, first_start());
        messages.insert(messages.len() / 2, first_start());
        let mut guest = world.fresh_guest(0);
        let mut state = State::new(0);
        let mut turns = Vec::new();
        for size in sizes {
            let rest = messages.split_off(size.min(messages.len()));
            let batch = std::mem::replace(&mut messages, rest);
            let before = state.clone();
            match turn(&mut state, world.now, batch, &mut *guest) {
                Ok(turn) => turns.extend(turn),
                Err(_) => prop_assert_eq!(&state, &before),
            }
        }
        prop_assert_eq!(replay(turns.iter(), &mut *world.fresh_guest(0)), state);
    }

    #[test]
    fn each_request_is_answered_at_most_once_or_moves_over((seed, manners, steps) in story()) {
        let world = World::play(seed, manners, &steps);
        let mut answered = BTreeSet::new();
        for (at, execution) in world.executions.iter().enumerate() {
            let mut open = BTreeSet::new();
            for event in execution.turns().flat_map(Turn::events) {
                if let Event::RequestReceived { number, .. } = event {
                    prop_assert!(open.insert(*number) && !answered.contains(number));
                } else if let Event::RequestAnswered { number: Some(number), .. } = event {
                    prop_assert!(open.remove(number) && answered.insert(*number));
                } else if let Event::ContinuedAsNew { carry_over, .. } = event {
                    prop_assert!(open.iter().all(|number| carry_over.contains(number)));
                    prop_assert!(carry_over.iter().all(|number| !answered.contains(number)));
                }
            }
            if let Some(running) = execution.state.running() {
                prop_assert_eq!(at + 1, world.executions.len());
                prop_assert!(running.requests.keys().eq(open.iter()));
            }
        }
    }

    #[test]
    fn the_custom_status_is_the_last_one_set_in_any_execution((seed, manners, steps) in story()) {
        let world = World::play(seed, manners, &steps);
        let mut shown = None;
        for execution in world.executions.iter().filter(|execution| execution.state.start().is_some()) {
            for event in execution.turns().flat_map(Turn::events) {
                if let Event::CustomStatusSet { value } = event {
                    shown = value.clone();
                }
            }
            prop_assert_eq!(&execution.state.custom_status, &shown);
        }
    }

    #[test]
    fn values_and_tags_are_the_last_ones_set_in_any_execution((seed, manners, steps) in story()) {
        let world = World::play(seed, manners, &steps);
        let (mut values, mut tags) = (BTreeMap::new(), BTreeMap::new());
        for execution in &world.executions {
            let Some(start) = execution.state.start() else { continue };
            // Not those of the start: an execution that continues as new hands on what the world is told of.
            for event in execution.turns().flat_map(|turn| &turn.produced) {
                if let Event::ValueSet { name, value } = event {
                    match value {
                        Some(value) => values.insert(name.clone(), value.clone()),
                        None => values.remove(name),
                    };
                } else if let Event::TagSet { key, value } = event {
                    match value {
                        Some(value) => tags.insert(key.clone(), value.clone()),
                        None => tags.remove(key),
                    };
                }
            }
            prop_assert_eq!(&execution.state.values, &values);
            let now: BTreeMap<_, _> = start.tags.iter().cloned().collect();
            prop_assert_eq!(&now, &tags);
        }
    }

    #[test]
    fn a_damaged_history_is_noticed((seed, manners, steps) in story(), chance in any::<u64>()) {
        let world = World::play(seed, manners, &steps);
        let mut dice = Dice(chance);
        for (execution, run) in world.executions.iter().enumerate() {
            let turns: Vec<Turn> = run.turns().cloned().collect();
            if let Some(damaged) = damaged(&turns, &mut dice) {
                let replayed = replays(&damaged, &mut *world.fresh_guest(execution));
                prop_assert!(replayed.is_none(), "{:#?}\nbecame\n{:#?}", turns, damaged);
            }
        }
    }

    #[test]
    fn a_changed_payload_is_noticed_or_leads_to_the_same_answers((seed, manners, steps) in story(), chance in any::<u64>()) {
        let world = World::play(seed, manners, &steps);
        let run = &world.executions[0];
        let mut turns: Vec<Turn> = run.turns().cloned().collect();
        let payloads: Vec<&mut Option<Json>> = turns.iter_mut().flat_map(|turn| turn.received.iter_mut()).filter_map(|event| {
            if let Event::ActivityCompleted { output, .. }
            | Event::ChildCompleted { output, .. }
            | Event::RequestReceived { input: output, .. }
            | Event::ExternalEventRaised { data: output, .. } = event
            {
                return Some(output);
            }
            None
        }).collect();
        let count = payloads.len();
        if let Some(payload) = payloads.into_iter().nth(Dice(chance).roll(count.max(1) as u64) as usize) {
            *payload = Some(Json::from_text("\"changed\""));
            if let Some(state) = replays(&turns, &mut *world.fresh_guest(0)) {
                prop_assert_eq!(state.end(), run.state.end());
                prop_assert_eq!(state.has_returned(), run.state.has_returned());
                prop_assert_eq!(state.tasks(), run.state.tasks());
            }
        }
    }
}

#[test]
fn the_simulated_worlds_reach_every_end_and_every_event() {
    let mut seen = BTreeSet::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..1500 {
        let (seed, manners, steps) = story().new_tree(&mut runner).expect("a story").current();
        let world = World::play(seed, manners, &steps);
        for execution in &world.executions {
            seen.extend(execution.turns().flat_map(Turn::events).map(Event::name));
            if let Some(End::Failed { failure }) = execution.state.end() {
                seen.insert(match failure.kind.as_str() {
                    "InvalidAnswer" => "InvalidAnswer",
                    "LimitExceeded" => "LimitExceeded",
                    "Panic" => "Panic",
                    "UnknownOrchestration" => "UnknownOrchestration",
                    _ => "Broken",
                });
            }
        }
    }
    expect_test::expect![[r#"
        {
            "ActivityCompleted",
            "ActivityFailed",
            "ActivityOptions",
            "ActivityScheduled",
            "Broken",
            "CancellationRequested",
            "ChildCommanded",
            "ChildCompleted",
            "ChildFailed",
            "ChildRetried",
            "ChildRetryScheduled",
            "ChildScheduled",
            "ContinuedAsNew",
            "CustomStatusSet",
            "EventSent",
            "ExecutionCompleted",
            "ExecutionFailed",
            "ExecutionResumed",
            "ExecutionReturned",
            "ExecutionStarted",
            "ExecutionSuspended",
            "ExecutionTerminated",
            "ExecutionTimedOut",
            "ExternalEventRaised",
            "InstanceOptions",
            "InstanceStartSkipped",
            "InstanceStarted",
            "InvalidAnswer",
            "LimitExceeded",
            "Panic",
            "RequestAnswered",
            "RequestCompleted",
            "RequestFailed",
            "RequestReceived",
            "RequestSent",
            "TagSet",
            "TaskCanceled",
            "TimerFired",
            "TimerSet",
            "TimerSetAt",
            "TurnStarted",
            "UnknownOrchestration",
            "ValueSet",
        }
    "#]]
    .assert_debug_eq(&seen);
}
