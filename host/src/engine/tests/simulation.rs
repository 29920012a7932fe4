//! Simulates a day of work in a moment: the clock moves from one due time to the next, one thing happens at a time, and the seed decides
//! what happens. So each seed reproduces the same run.

use super::programs::Dice;
use super::seeds::{Named, each_of, seeds};
use super::world::*;
use crate::engine::Request;
use crate::store::InstanceKey;
use perennial_core::{Event, Failure, Status, Timestamp};

/// Number of seeds in a usual run, and in a long one.
const SEEDS: (u64, u64) = (4, 200);

const HOUR: u64 = 3_600_000;

/// Number of monitored jobs.
const JOBS: u64 = 4;

/// Looks twelve times with pauses of minutes, by an activity and a timer in turn. An event asks it to report.
fn monitor() -> Logic {
    let (mut looks, mut waits_for, mut sleeps) = (0, None, false);
    Box::new(move |seen, out| {
        let minutes = seen.number();
        loop {
            if waits_for.is_some_and(|task| !seen.has(task)) {
                return waits();
            }
            if looks == 12 && !sleeps {
                return completes(format!("{}", seen.events.len()));
            }
            waits_for = Some(if sleeps {
                out.timer(seen.now.0 + minutes * 60_000)
            } else {
                looks += 1;
                out.call_with("Look", looks, retry(5, 30_000), None)
            });
            sleeps = !sleeps;
        }
    })
}

/// The next due time in the hub.
fn next_due(host: &Host<'_>) -> Option<Timestamp> {
    let first = (Timestamp(0), InstanceKey(i64::MIN), i64::MIN);
    let next = host.engine.hub.reader.due_tasks(first, 1).unwrap();
    next.first().and_then(|row| row.due)
}

/// Waits until everything due is done, with all its consequences.
fn settle(host: &Host<'_>) {
    loop {
        host.idle();
        let is_due = next_due(host).is_some_and(|due| due <= host.world.now());
        if host.activity_counts() == (0, 0) && !is_due {
            let queue = host.engine.queue();
            if queue.busy == 0 && queue.in_flight() == 0 && queue.work.is_empty() {
                return;
            }
        }
        std::thread::yield_now();
    }
}

/// Runs a seed. Returns every history with its times, and the number of turns.
fn run(seed: u64) -> (Vec<String>, u64) {
    let mut dice = Dice(seed);
    let mut world = World::with("Monitor", monitor);
    (world.config.workers, world.config.activities_max) = (1, 1);
    world.activities.add("Look", move |attempt| {
        // Attempts run in any order, so each has its own random outcome.
        let what = (&attempt.instance_id, &attempt.task.task.0, attempt.attempt);
        let what = format!("{what:?}");
        let chance = what.bytes().fold(seed, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        if attempt.attempt < 5 && Dice(chance).roll(4) == 0 {
            return Err(Failure::retryable("Flaky", ""));
        }
        Ok(attempt.input)
    });
    let mut turns = 0;
    for hour in 0..24 {
        // A new host takes over every hour.
        let host = world.open();
        settle(&host);
        for n in 0..JOBS {
            if dice.roll(6) == 0 {
                let id = format!("j{hour}-{n}");
                host.start_with("Monitor", &id, 5 + dice.roll(40));
                settle(&host);
            }
        }
        let end = BEGIN + (hour + 1) * HOUR;
        while world.now().0 < end {
            let due = next_due(&host).map_or(end, |due| due.0.min(end));
            host.advance(due.saturating_sub(world.now().0).max(1));
            settle(&host);
            if dice.roll(20) == 0 {
                let hour = dice.roll(hour + 1);
                let raise = Request::RaiseEvent {
                    id: format!("j{hour}-{}", dice.roll(JOBS)),
                    name: "report".to_owned(),
                    data: None,
                };
                host.submit(raise).unwrap();
                settle(&host);
            }
        }
        if hour == 23 {
            host.check_histories();
        }
    }
    let reader = world.reader();
    let query = crate::store::ListQuery {
        limit: 1_000,
        ..Default::default()
    };
    let mut lines = Vec::new();
    for row in reader.list(&query).unwrap().rows {
        for turn in reader.turns(row.key, row.execution, 0, u32::MAX).unwrap() {
            turns += 1;
            // Ids of executions are random by design.
            let told = turn.events().map(|event| {
                if let Event::ExecutionStarted(start) = event {
                    format!("{:?}", start.input)
                } else {
                    format!("{event:?}")
                }
            });
            let told: Vec<String> = told.collect();
            lines.push(format!("{} {} {:?} {told:?}", row.id, turn.number, turn.at));
        }
        assert!(matches!(row.status, Status::Running | Status::Completed));
    }
    lines.sort();
    (lines, turns)
}

fn check(seed: u64) -> u64 {
    let _named = Named(seed);
    let (first, turns) = run(seed);
    let (second, _) = run(seed);
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first, second);
    }
    assert_eq!(first.len(), second.len());
    turns
}

#[test]
fn a_day_of_work_takes_a_moment_and_is_the_same_day_for_the_same_seed() {
    let turns = each_of("turns of simulated days", seeds(SEEDS), check);
    assert!(turns > 50, "{turns} turns");
}
