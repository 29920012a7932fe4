//! Clocks that are set: a time span keeps its length whatever the clock shows, and a date follows the clock.

use super::world::*;
use crate::engine::clock::{Clock, OnJump, SimClock};
use crate::engine::tasks::timers::{Due, Fired, Timers};
use crate::engine::{Request, StartRequest};
use crate::store::InstanceKey;
use perennial_core::{Event, Failure, Millis, Status, TaskId, TaskRef, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// A world whose clock can be set back.
fn with(name: &str, make: impl Fn() -> Logic + Send + Sync + 'static) -> World {
    let world = World::with(name, make);
    world.clock.set(Timestamp(100 * DAY));
    world
}

fn set_back(world: &World, span: u64) {
    world.clock.set(Timestamp(world.now().0 - span));
}

/// Sleeps for `span` after each event, and completes with the time after the last sleep.
fn sleeps_after(events: usize, span: u64) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut set = 0;
        Box::new(move |seen, out| {
            while set < seen.events.len() {
                set += 1;
                out.timer(seen.now.0 + span);
            }
            if seen.fired.len() == events {
                completes(seen.fired.len())
            } else {
                waits()
            }
        })
    }
}

#[test]
fn a_span_that_begins_after_the_clock_was_set_back_is_no_longer_than_it_says() {
    for (resident_max, restarts) in [(1_000, false), (0, false), (1_000, true)] {
        let mut world = with("Sleep", sleeps_after(2, 2_000));
        world.config.resident_max = resident_max;
        let mut host = world.open();
        host.start("Sleep", "a");
        host.idle();
        set_back(&world, DAY);
        for nap in 1..=2 {
            if restarts {
                drop(host);
                host = world.open();
            }
            host.raise("a", "go", 1);
            host.until("a", |row| row.turns == 2 * nap);
            if restarts {
                drop(host);
                host = world.open();
            }
            host.idle();
            host.advance(1_999);
            host.idle();
            assert_eq!(host.row("a").unwrap().turns, 2 * nap, "not before its time");
            host.idle();
            host.advance(1);
            host.until("a", |row| row.turns == 2 * nap + 1);
        }
        assert_eq!(host.end("a"), "2");
        host.check_histories();
    }
}

#[test]
fn a_span_that_has_begun_when_the_clock_is_set_back_goes_on() {
    let world = with("Sleep", sleeps(10_000));
    let host = world.open();
    host.start("Sleep", "a");
    host.idle();
    host.advance(4_000);
    host.idle();
    set_back(&world, DAY);
    host.idle();
    host.advance(5_999);
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    host.idle();
    host.advance(1);
    // In the guest's time it slept as long as it asked for.
    assert_eq!(host.end("a"), (100 * DAY + 10_000).to_string());
    host.check_histories();
}

#[test]
fn a_clock_that_is_set_back_and_forward_again_wakes_nobody_early() {
    let world = with("Sleep", sleeps(10 * DAY));
    let host = world.open();
    host.start("Sleep", "a");
    host.idle();
    for _ in 0..3 {
        host.idle();
        set_back(&world, DAY);
        host.idle();
        host.advance(1_000);
        world.clock.set(Timestamp(world.now().0 + DAY));
    }
    // Setting the clock forward and back delays no timer that was set before.
    world.clock.set(Timestamp(world.now().0 + 3 * DAY));
    host.idle();
    set_back(&world, 3 * DAY);
    host.idle();
    host.advance(10 * DAY - 3_001);
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    host.idle();
    host.advance(1);
    host.end("a");
}

#[test]
fn what_a_host_began_whose_clock_was_days_ahead_waits_no_longer_than_it_says() {
    let world = with("Sleep", sleeps_after(2, 2_000));
    {
        world.clock.set(Timestamp(103 * DAY));
        let host = world.open();
        host.start("Sleep", "a");
        host.idle();
        host.raise("a", "go", 1);
        host.until("a", |row| row.turns == 2);
    }
    set_back(&world, 3 * DAY);
    let host = world.open();
    host.idle();
    host.advance(2_000);
    host.until("a", |row| row.turns == 3);
    host.raise("a", "go", 2);
    host.until("a", |row| row.turns == 4);
    host.idle();
    host.advance(2_000);
    assert_eq!(host.end("a"), "2");
    host.check_histories();
}

#[test]
fn more_timers_than_memory_holds_of_a_host_that_was_days_ahead_are_all_found() {
    let world = with("Sleep", sleeps(2_000)).and("Long", sleeps(DAY));
    {
        let host = world.open();
        for n in 0..60 {
            host.start("Long", &format!("long{n}"));
        }
        host.idle();
    }
    world.clock.set(Timestamp(103 * DAY));
    {
        let host = world.open();
        // Timers that are overdue by the clock fire, for whatever reason they are late.
        (0..60).for_each(|n| drop(host.end(&format!("long{n}"))));
        for n in 0..20 {
            host.start("Sleep", &format!("a{n}"));
        }
        host.idle();
    }
    set_back(&world, 3 * DAY);
    let host = world.open();
    for n in 60..120 {
        host.start("Long", &format!("long{n}"));
    }
    host.idle();
    host.advance(2_000);
    (0..20).for_each(|n| drop(host.end(&format!("a{n}"))));
}

#[test]
fn a_retry_waits_for_its_delay_and_not_for_the_clock() {
    let world = with("Call", || {
        Box::new(|seen, out| {
            if out.is_first() && !seen.has(0) {
                out.call_with("Twice", 1, retry(3, 1_000), None);
            }
            if seen.results.contains_key(&0) {
                completes(seen.result(0))
            } else {
                waits()
            }
        })
    })
    .in_file();
    world
        .activities
        .add("Twice", |attempt| match attempt.attempt {
            1 => Err(Failure::retryable("Flaky", "")),
            _ => Ok(attempt.input),
        });
    let host = world.open();
    host.start("Call", "a");
    host.until_count("SELECT count(*) FROM task WHERE attempt = 2", 1);
    host.idle();
    set_back(&world, DAY);
    host.idle();
    host.advance(1_000);
    assert_eq!(host.end("a"), "1");
}

#[test]
fn a_scheduled_start_is_a_date() {
    let world = with("Echo", || Box::new(|_, _| completes(1))).and("Witness", sleeps(2_000));
    let host = world.open();
    let Request::Start(start) = start("Echo", "a", None) else {
        unreachable!()
    };
    host.submit(Request::Start(StartRequest {
        scheduled_for: Some(Timestamp(100 * DAY + 1_000)),
        ..start
    }))
    .unwrap();
    host.idle();
    set_back(&world, DAY);
    host.start("Witness", "w");
    host.idle();
    host.advance(2_000);
    host.end("w");
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Pending);
    host.idle();
    host.advance(DAY);
    assert_eq!(host.end("a"), "1");
}

#[test]
fn the_time_that_a_guest_is_told_never_goes_back() {
    let world = with("Sleep", sleeps_after(3, 500));
    let host = world.open();
    host.start("Sleep", "a");
    host.idle();
    for _ in 0..3 {
        host.idle();
        set_back(&world, DAY);
        host.raise("a", "go", 1);
        host.idle();
        host.advance(600);
        host.idle();
    }
    host.end("a");
    let told: Vec<u64> = host
        .events("a")
        .iter()
        .filter_map(|event| {
            let Event::TurnStarted { now, .. } = event else {
                return None;
            };
            Some(now.0)
        })
        .collect();
    assert!(told.is_sorted(), "{told:?}");
    host.check_histories();
}

/// A clock of an embedding program that does not report elapsed time.
#[derive(Clone, Default)]
struct Shown(Arc<AtomicU64>, Arc<Mutex<Vec<OnJump>>>);

impl Shown {
    fn set(&self, to: u64) {
        self.0.store(to, Ordering::SeqCst);
        self.1.lock().unwrap().iter().for_each(|tell| tell());
    }
}

impl Clock for Shown {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, _: Timestamp) -> Option<Duration> {
        None
    }

    fn on_jump(&self, told: OnJump) {
        self.1.lock().unwrap().push(told);
    }
}

#[test]
fn a_clock_that_says_nothing_of_the_time_that_passed_is_believed_while_it_goes_on() {
    let clock = Shown::default();
    clock.set(50_000);
    let timers = Timers::new(Arc::new(clock.clone()));
    let task = |task| TaskRef {
        execution: 0,
        generation: 0,
        task: TaskId(task),
    };
    let due = |at: u64| {
        clock.set(at);
        let (due, _) = timers.take_due(InstanceKey(1));
        let due = due.into_iter().map(|Fired { due, .. }| due);
        due.collect::<Vec<_>>()
    };
    let (first, second) = (Due::Timer(task(0)), Due::Timer(task(1)));
    timers.add(Timestamp(60_000), Timestamp(50_000), InstanceKey(1), first);
    // Steps of less than a second count as noise of the clock.
    assert_eq!(due(49_500), []);
    assert_eq!(due(59_999), []);
    // 20 s back: the remaining time of 1 ms stays the same.
    assert_eq!(due(39_999), []);
    timers.add(Timestamp(40_500), Timestamp(39_999), InstanceKey(1), second);
    assert_eq!(due(40_000), [Due::Timer(task(0))]);
    assert_eq!(due(40_499), []);
    assert_eq!(due(40_500), [Due::Timer(task(1))]);
}

#[test]
fn a_clock_that_is_set_back_between_a_turn_and_the_arming_of_its_timers_makes_none_late() {
    let key = InstanceKey(1);
    let task = |task| TaskRef {
        execution: 0,
        generation: 0,
        task: TaskId(task),
    };
    let (turn_at, span) = (Timestamp(100 * DAY), 2_000);
    let asked = Timestamp(turn_at.0 + span);
    // Only one of the two clocks reports the time that passed.
    let simulated = SimClock::new(turn_at);
    let shown = Shown::default();
    shown.set(turn_at.0);
    let set_shown = shown.clone();
    let set_simulated = simulated.clone();
    type Set = Box<dyn Fn(u64)>;
    let clocks: [(Arc<dyn Clock>, Set); 2] = [
        (Arc::new(shown), Box::new(move |at| set_shown.set(at))),
        (
            Arc::new(simulated),
            Box::new(move |at| {
                // Backward the clock is set; forward, time passes.
                match at.checked_sub(set_simulated.now().0) {
                    Some(passes) => set_simulated.advance(Millis(passes)),
                    None => set_simulated.set(Timestamp(at)),
                }
            }),
        ),
    ];
    for (clock, set) in clocks {
        let timers = Timers::new(Arc::clone(&clock));
        set(99 * DAY);
        timers.add_turn(key, turn_at, &[(asked, Due::Timer(task(0)))]);
        timers.add(asked, turn_at, key, Due::Activity(task(1)));
        timers.add(asked, turn_at, key, Due::Child(task(2), 1));
        // A date follows the clock.
        timers.add(asked, turn_at, InstanceKey(2), Due::Start);
        set(99 * DAY + span - 1);
        assert_eq!(timers.take_due(key).0.len(), 0, "not before its time");
        set(99 * DAY + span);
        let due = timers.take_due(key).0.into_iter().map(|fired| fired.due);
        // The timer thread starts attempts.
        assert_eq!(
            due.collect::<Vec<_>>(),
            [Due::Timer(task(0)), Due::Child(task(2), 1)]
        );
        assert_eq!(timers.take_due(InstanceKey(2)).0.len(), 0);
    }
}
