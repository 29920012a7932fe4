//! Random programs of the SDK's operations on the engine. Whatever happens to the host, each ends as an undisturbed run does, and as the
//! model predicts. The tests of whole processes run the same source as a component.

use std::sync::Arc;
use std::time::Instant;

use perennial_core::Failure;
use perennial_sdk::{Orchestration, OrchestrationFn};

use super::places::runs;
use super::sdk::Native;
use super::world::*;
use crate::engine::Request;
use crate::engine::executor::Executor;

#[path = "../../../../tests/guests/interpreter/src/program.rs"]
mod program;
#[path = "../../../../tests/guests/interpreter/src/run.rs"]
#[allow(
    clippy::too_many_lines,
    reason = "the guest has other lints than the host"
)]
mod run;

pub(super) use program::{Dice, FIRST_EVENT, Input, Op};

pub(super) static ORCHESTRATIONS: [Orchestration; 2] = [
    Orchestration::new("Program", |context| {
        OrchestrationFn::start(run::program, context)
    }),
    Orchestration::new("Fails", |context| {
        OrchestrationFn::start(run::fails, context)
    }),
];

/// Number of instances in a world.
const PROGRAMS: u64 = 4;

/// Number of restarts and crashes before a world is left alone.
const LIVES: u32 = 5;

/// Runs the programs natively.
pub(crate) fn native() -> Arc<dyn Executor> {
    Arc::new(Native(&ORCHESTRATIONS))
}

fn world(dice: &mut Dice, executor: Arc<dyn Executor>, remote: bool) -> World {
    let never: fn() -> Logic = || unreachable!("guests are of the SDK");
    let mut world = World::with("Program", never).and("Fails", never);
    world.executor = Some(executor);
    (world.remote, world.with_worker) = (remote, remote);
    world.config.resident_max = [0, 1, 2, 1_000][dice.roll(4) as usize];
    world.activities.add("FailsFirst", |attempt| {
        let (value, fails): (u64, u32) =
            serde_json::from_str(attempt.input.unwrap().as_str()).unwrap();
        if attempt.attempt <= fails {
            return Err(Failure::retryable("Flaky", ""));
        }
        Ok(Some(json(value)))
    });
    world
}

/// Starts random programs, and returns their expected results.
fn begin(host: &Host<'_>, dice: &mut Dice) -> Vec<u64> {
    let mut values = Vec::new();
    for n in 0..PROGRAMS {
        let (input, value, events) = Input::random(dice, 3);
        values.push(value);
        let id = format!("p{n}");
        host.start_with("Program", &id, serde_json::to_string(&input).unwrap());
        for event in 0..events {
            let (name, data) = (format!("E{event}"), Some(json(FIRST_EVENT + event)));
            // A program that has ended takes no event.
            host.submit(Request::RaiseEvent {
                id: id.clone(),
                name,
                data,
            })
            .unwrap();
        }
    }
    values
}

/// Disturbs the host or an instance.
fn disturb(host: &Host<'_>, dice: &mut Dice) {
    let id = format!("p{}", dice.roll(PROGRAMS));
    match dice.roll(if host.world.with_worker { 7 } else { 6 }) {
        0 => drop(host.evict_all()),
        6 => host.lose_worker(),
        1 => drop(
            host.submit(Request::Suspend {
                id,
                reason: None,
                recursive: false,
            })
            .unwrap(),
        ),
        2 | 3 => resume_all(host),
        _ => host.advance(dice.roll(30)),
    }
    for _ in 0..dice.roll(300) {
        std::thread::yield_now();
    }
}

fn resume_all(host: &Host<'_>) {
    for n in 0..PROGRAMS {
        let id = format!("p{n}");
        host.submit(Request::Resume {
            id,
            reason: None,
            module: None,
            recursive: false,
        })
        .unwrap();
    }
}

fn all_ended(host: &Host<'_>) -> bool {
    (0..PROGRAMS).all(|n| host.row(&format!("p{n}")).unwrap().status.is_end())
}

/// Runs random programs on an executor, with everything that can happen to a host.
pub(crate) fn check_on(seed: u64, executor: Arc<dyn Executor>) {
    check_by(seed, executor, false);
}

fn check_by(seed: u64, executor: Arc<dyn Executor>, remote: bool) {
    let mut dice = Dice(seed);
    let mut world = world(&mut dice, executor, remote);
    let values = begin(&world.open(), &mut dice);
    for _ in 0..LIVES {
        let host = world.open();
        (0..dice.roll(12)).for_each(|_| disturb(&host, &mut dice));
        if dice.roll(3) > 0 {
            let image = world.crash_image();
            drop(host);
            world = image;
        }
    }
    let host = world.open();
    resume_all(&host);
    let begun = Instant::now();
    while !all_ended(&host) {
        if begun.elapsed() > patience() {
            let open = (0..PROGRAMS).map(|n| format!("p{n}"));
            let open = open.filter(|id| !host.row(id).unwrap().status.is_end());
            let histories: Vec<_> = open.map(|id| (host.row(&id), host.events(&id))).collect();
            panic!("seed {seed}: {histories:#?}");
        }
        // Retries of compensations wait for seconds.
        host.advance(dice.roll(2_000));
        host.idle();
        std::thread::yield_now();
    }
    for (n, value) in values.iter().enumerate() {
        let id = format!("p{n}");
        assert_eq!(host.end(&id), value.to_string(), "seed {seed}, {id}");
    }
    host.check_histories();
}

/// Number of seeds in a usual run, and in a long one.
const SEEDS: (u64, u64) = (40, 2_000);

#[test]
fn random_programs_of_the_sdk_end_as_the_model_says_whatever_happens() {
    (0..runs(SEEDS)).for_each(|seed| check_on(seed, native()));
}

#[test]
fn random_programs_of_a_worker_end_as_the_model_says_whatever_happens() {
    (0..runs(SEEDS)).for_each(|seed| check_by(seed, native(), true));
}
