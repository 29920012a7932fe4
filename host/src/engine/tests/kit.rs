//! The SDK's test kit records what the engine records: programs that do one thing after another have the same events on both, and random ones
//! come to what the model says.

use std::sync::Arc;

use perennial_core::{AttemptRun, Event, Failure as CoreFailure, Target, Timestamp};
use perennial_sdk::serde_json::Value;
use perennial_sdk::testing::{Environment, Exported, Input as Given, Report};
use perennial_sdk::{ActivityContext, Failure};

use super::programs::{Dice, FIRST_EVENT, Input, ORCHESTRATIONS, Op, native};
use super::world::*;

/// The activities that the programs call.
fn environment() -> Environment {
    Environment::of(Exported::new(&ORCHESTRATIONS, &[]))
        .activity("Echo", |value: Value| Ok::<_, Failure>(value))
        .activity("Broken", || {
            Err::<(), _>(Failure::new("Broken", "").not_retryable())
        })
        .activity("FailsFirst", |ctx: ActivityContext, input: (u64, u32)| {
            let (value, fails) = input;
            match ctx.attempt() <= fails {
                true => Err(Failure::new("Flaky", "")),
                false => Ok(value),
            }
        })
}

fn world() -> World {
    let never: fn() -> Logic = || unreachable!("guests are of the SDK");
    let mut world = World::with("Program", never).and("Fails", never);
    world.executor = Some(native());
    world.activities.add("FailsFirst", |attempt| {
        let (value, fails): (u64, u32) =
            serde_json::from_str(attempt.input.unwrap().as_str()).unwrap();
        if attempt.attempt <= fails {
            return Err(CoreFailure::retryable("Flaky", ""));
        }
        Ok(Some(json(value)))
    });
    world
}

/// The events of the last execution, in words, without what differs from run to run: times, ids of executions, and what runs a name.
fn told(events: &[Event]) -> Vec<String> {
    let begins = |event: &Event| matches!(event, Event::ExecutionStarted(_));
    let last = events.iter().rposition(begins).unwrap();
    let Event::ExecutionStarted(start) = &events[last] else {
        unreachable!("it was found as a start")
    };
    let mut told = vec![format!(
        "{} {:?} {:?} {} {}",
        start.name, start.input, start.tags, start.execution, start.next_external
    )];
    let ids: Vec<&str> = [
        Some(&start.execution_id),
        start.parent.as_ref().map(|p| &p.instance_id),
    ]
    .into_iter()
    .flatten()
    .map(String::as_str)
    .collect();
    for event in &events[last + 1..] {
        let mut event = event.clone();
        match &mut event {
            Event::TurnStarted { .. } => continue,
            Event::ActivityCompleted { run, .. }
            | Event::ActivityFailed { run, .. }
            | Event::AttemptFailed { run, .. } => {
                *run = AttemptRun {
                    attempt: run.attempt,
                    ..AttemptRun::default()
                };
            }
            Event::ActivityScheduled { target, .. }
            | Event::ChildScheduled { target, .. }
            | Event::InstanceStarted { target, .. } => *target = Target::Native,
            Event::TimerSet { fire_at: at, .. } | Event::ChildRetryScheduled { at, .. } => {
                *at = Timestamp(0);
            }
            _ => {}
        }
        let text = format!("{event:?}");
        told.push(ids.iter().fold(text, |text, id| text.replace(id, "ID")));
    }
    told
}

/// Runs a program on the engine, until it ends.
fn on_the_engine(input: &Input, events: u64, check: impl Fn(&Host<'_>)) {
    let world = world();
    let host = world.open();
    host.start_with("Program", "p", serde_json::to_string(input).unwrap());
    let mut next = 0;
    loop {
        host.idle();
        let row = host.row("p").unwrap();
        if row.status.is_end() {
            break;
        }
        if next < events && row.waiting.events.contains(&format!("e{next}")) {
            host.raise("p", &format!("E{next}"), FIRST_EVENT + next);
            next += 1;
        } else {
            host.advance(5);
        }
    }
    host.idle();
    check(&host);
}

fn on_the_kit(input: &Input, events: u64) -> Report {
    let environment = environment();
    let run = environment.start("Program", input).id("p");
    let events = 0..events;
    let run = events.fold(run, |run, event| {
        run.raise_when_waiting(&format!("E{event}"), FIRST_EVENT + event)
    });
    run.finish()
}

fn same(rounds: Vec<Op>, events: u64, others: &[&str]) {
    let input = Input { sum: 0, rounds };
    let report = on_the_kit(&input, events);
    on_the_engine(&input, events, |host| {
        assert_eq!(told(&report.recorded()), told(&host.events("p")));
        for id in others {
            let events = report.instance(id).recorded();
            assert_eq!(told(&events), told(&host.events(id)), "{id}");
        }
    });
}

#[test]
fn activities_with_retries_have_the_same_history() {
    let ops = vec![
        Op::Echo(1),
        Op::Flaky(2, 3),
        Op::Exhausted(3),
        Op::Broken,
        Op::Status(5),
        Op::Dropped,
        Op::Detached,
    ];
    same(vec![Op::Seq(ops)], 0, &[]);
}

#[test]
fn timers_and_events_have_the_same_history() {
    let ops = vec![
        Op::Event(0),
        Op::Timer(20),
        Op::Within(30),
        Op::Duel(10, 25),
        Op::Event(1),
    ];
    same(vec![Op::Seq(ops)], 2, &[]);
}

#[test]
fn children_have_the_same_history_as_their_parents() {
    let child = || Box::new(Op::Seq(vec![Op::Echo(3), Op::Timer(4)]));
    let ops = vec![
        Op::Named(0, child()),
        Op::FailingChild(Box::new(Op::Echo(9))),
        Op::Child(Box::new(Op::Exhausted(2))),
    ];
    same(vec![Op::Seq(ops)], 0, &["p.0"]);
}

#[test]
fn a_saga_and_continue_as_new_have_the_same_history() {
    let saga = Op::Saga(vec![Op::Echo(1), Op::Echo(2), Op::Timer(5)], true);
    let rounds = vec![
        Op::Status(1),
        Op::Event(0),
        Op::Seq(vec![Op::Echo(4), saga]),
    ];
    same(rounds, 1, &[]);
}

#[test]
fn random_programs_on_the_kit_come_to_what_the_model_says() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let (input, value, events) = Input::random(&mut dice, 3);
        let mut run = environment().seed(seed).start("Program", &input).id("p");
        run.settle();
        // In any order, and before anybody waits for them.
        for event in (0..events).rev() {
            run.give(Given::raise(format!("E{event}"), FIRST_EVENT + event));
        }
        let report = run.finish();
        assert_eq!(report.output::<u64>(), value, "seed {seed}\n{report}");
    }
}

#[test]
fn what_the_kit_records_is_replayed_by_the_executor_of_the_engine() {
    let input = Input {
        sum: 0,
        rounds: vec![Op::Seq(vec![Op::Draws, Op::Flaky(1, 1), Op::Timer(3)])],
    };
    let report = on_the_kit(&input, 0);
    let events = report.recorded();
    let executor: Arc<dyn crate::engine::executor::Executor> = native();
    let Event::ExecutionStarted(start) = &events[1] else {
        panic!("the second event is the start: {events:?}")
    };
    let guest = executor.instantiate(start.module.unwrap(), &start.limits, "p", start.clock());
    let (mut guest, mut state) = (guest.unwrap(), perennial_core::State::new(0));
    for turn in report.turns() {
        perennial_core::replay_turn(&mut state, turn, guest.as_mut()).unwrap();
    }
    assert!(state.has_ended());
}
