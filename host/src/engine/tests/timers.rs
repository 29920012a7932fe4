//! Timers fire in order and not too early, whatever happens to the host.

use super::world::*;
use perennial_core::{Event, Status};

/// A day in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// Sets this many timers, the one to fire first last. Completes with the order in which they fired.
fn many(timers: u32) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut set = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut set, true) {
                for n in 0..timers {
                    out.timer(seen.now.0 + u64::from(timers - n) * 10);
                }
            }
            if seen.fired.len() < timers as usize {
                return waits();
            }
            let in_order = seen.fired.iter().rev().copied().eq(0..timers);
            completes(in_order)
        })
    }
}

#[test]
fn a_timer_fires_at_its_time_and_not_before() {
    let world = World::with("Sleep", sleeps(100 * 365 * DAY)).and("Witness", sleeps(DAY));
    let host = world.open();
    host.start("Sleep", "a");
    host.start("Witness", "w");
    host.advance(DAY);
    assert_eq!(host.end("w"), (BEGIN + DAY).to_string());
    host.idle();
    assert_eq!(host.row("a").unwrap().turns, 1);
    host.advance(100 * 365 * DAY);
    assert_eq!(host.end("a"), (BEGIN + DAY + 100 * 365 * DAY).to_string());
    host.check_histories();
}

#[test]
fn more_timers_than_memory_holds_fire_in_order() {
    let world = World::with("Many", many(300)).and("Sleep", sleeps(1_000_000));
    let host = world.open();
    host.start("Many", "a");
    for step in 0..30 {
        // New timers are added before, between and after those in memory.
        host.start("Sleep", &format!("far{step}"));
        host.advance(50);
    }
    host.advance(3_000);
    assert_eq!(host.end("a"), "true");
    host.advance(1_000_000);
    for step in 0..30 {
        assert_eq!(
            host.row(&format!("far{step}")).unwrap().created_at.0,
            BEGIN + 50 * step
        );
        host.end(&format!("far{step}"));
    }
    host.check_histories();
}

#[test]
fn timers_of_many_instances_survive_a_restart() {
    let world = World::with("Many", many(7)).and("Sleep", sleeps(5 * DAY));
    {
        let host = world.open();
        (0..40).for_each(|n| host.start("Many", &format!("m{n}")));
        host.start("Sleep", "s");
        host.advance(30);
        host.idle();
    }
    world.clock.advance(perennial_core::Millis(10));
    let host = world.open();
    host.advance(10_000);
    (0..40).for_each(|n| assert_eq!(host.end(&format!("m{n}")), "true", "m{n}"));
    host.advance(5 * DAY);
    host.end("s");
    host.check_histories();
}

#[test]
fn what_came_due_while_no_host_ran_fires_at_once() {
    let world = World::with("Sleep", sleeps(DAY));
    {
        let host = world.open();
        host.start("Sleep", "a");
        host.idle();
    }
    world.clock.advance(perennial_core::Millis(2 * DAY));
    let host = world.open();
    assert_eq!(host.end("a"), (BEGIN + 2 * DAY).to_string());
}

#[test]
fn a_timer_that_was_cancelled_does_not_fire() {
    let world = World::with("Cancel", || {
        Box::new(|seen, out| {
            if seen.events.is_empty() {
                out.timer(BEGIN + 100);
                out.timer(BEGIN + 200);
                return waits();
            }
            if !seen.has(1) {
                out.cancel(0);
                return waits();
            }
            completes(seen.fired.len())
        })
    })
    .in_file();
    let host = world.open();
    host.start("Cancel", "a");
    host.raise("a", "go", 1);
    host.until("a", |row| row.turns == 2);
    assert_eq!(host.count("SELECT count(*) FROM task"), 1);
    host.advance(500);
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn timers_that_come_due_while_suspended_fire_in_order_on_resume() {
    for restarts in [false, true] {
        let world = World::with("Many", many(60)).and("Witness", sleeps(10_000));
        {
            let host = world.open();
            host.start("Many", "a");
            host.start("Witness", "w");
            host.suspend("a");
            host.advance(10_000);
            host.end("w");
            host.idle();
            assert_eq!(host.row("a").unwrap().status, Status::Suspended);
            if !restarts {
                host.resume("a");
                assert_eq!(host.end("a"), "true");
                host.check_histories();
                continue;
            }
        }
        let host = world.open();
        host.resume("a");
        assert_eq!(host.end("a"), "true");
        host.check_histories();
    }
}

#[test]
fn timers_of_an_execution_that_is_over_mean_nothing() {
    let world = World::with("Again", || {
        Box::new(|seen, out| match (seen.number(), seen.events.len()) {
            (0, 0) => {
                out.timer(BEGIN + 100);
                waits()
            }
            (0, _) => continues(1, Vec::new()),
            _ => {
                if seen.fired.is_empty() && seen.events.is_empty() {
                    out.timer(BEGIN + 1_000);
                }
                if seen.fired.is_empty() {
                    waits()
                } else {
                    completes(seen.now.0)
                }
            }
        })
    })
    .and("Witness", sleeps(500));
    let host = world.open();
    host.start_with("Again", "a", 0);
    host.start("Witness", "w");
    host.raise("a", "go", 1);
    host.until("a", |row| row.execution == 1 && row.turns == 1);
    host.advance(500);
    host.end("w");
    host.idle();
    assert!(
        !host
            .events("a")
            .iter()
            .any(|event| matches!(event, Event::TimerFired { .. }))
    );
    host.advance(500);
    assert_eq!(host.end("a"), (BEGIN + 1_000).to_string());
}

#[test]
fn timers_of_one_turn_that_are_due_already_fire_in_their_order() {
    let world = World::with("Race", || {
        let mut set = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut set, true) {
                out.timer(27);
                out.timer(14);
            }
            seen.fired.first().map_or_else(waits, completes)
        })
    });
    let host = world.open();
    for n in 0..100 {
        host.start("Race", &format!("r{n}"));
    }
    for n in 0..100 {
        assert_eq!(host.end(&format!("r{n}")), "1");
    }
}
