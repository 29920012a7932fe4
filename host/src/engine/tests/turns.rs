//! Turns and commits: how many each operation costs, and which are combined.

use std::sync::atomic::Ordering;

use super::world::*;
use crate::engine::requests::request::Request;
use crate::store::Reply;
use crate::store::disk::Disk;
use perennial_core::{Ending, Event, Rejection, Status, Waiting};

#[test]
fn each_step_of_a_chain_is_one_commit() {
    let world = World::with("Chain", chain("Hold", 20)).in_file();
    let disk = Disk::under(world.dir());
    let host = world.open();
    host.faults().no_upkeep.store(true, Ordering::Release);
    let before = host.commits();
    host.start("Chain", "a");
    assert_eq!(
        host.commits(),
        before + 1,
        "a start and its first turn go down together"
    );
    let syncs = disk.syncs();
    for step in 1..=20 {
        world.held().ends(Ok("1"));
        host.until("a", |row| row.turns == step + 1);
        assert_eq!(host.commits(), before + 1 + u64::from(step));
    }
    assert_eq!(host.end("a"), "1");
    host.idle();
    assert_eq!(host.commits(), before + 21);
    assert_eq!(disk.syncs() - syncs, 20, "a commit is one sync");
    host.check_histories();
}

#[test]
fn results_that_arrive_during_a_commit_join_the_next_turn() {
    let world = World::with("Fan", || {
        Box::new(|seen, out| {
            if seen.results.is_empty() {
                for n in 0..8 {
                    out.call("Hold", n);
                }
            }
            if seen.results.len() == 8 {
                completes(8)
            } else {
                waits()
            }
        })
    })
    .in_file();
    let host = world.open();
    host.start("Fan", "a");
    let mut held: Vec<Held> = (0..8).map(|_| world.held()).collect();
    // Another process writes, so that the commit of the first result's turn has to wait.
    let db = rusqlite::Connection::open(world.path()).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    held.pop().unwrap().ends(Ok("1"));
    while host.engine.counts.turns.get() < 2 {
        std::thread::yield_now();
    }
    held.into_iter().for_each(|held| held.ends(Ok("1")));
    while host.engine.counts.activities.get() < 8 || host.engine.activities.counts().1 > 0 {
        std::thread::yield_now();
    }
    db.execute_batch("COMMIT").unwrap();
    assert_eq!(host.end("a"), "8");
    assert_eq!(host.turns("a").len(), 3);
    host.check_histories();
}

#[test]
fn a_wide_fan_out_takes_few_turns() {
    let world = World::with("Fan", || {
        Box::new(|seen, out| {
            if seen.results.is_empty() {
                for n in 0..2_000 {
                    out.call("Echo", n);
                }
            }
            if seen.results.len() == 2_000 {
                completes(seen.results.len())
            } else {
                waits()
            }
        })
    });
    let host = world.open();
    host.start("Fan", "a");
    assert_eq!(host.end("a"), "2000");
    assert_eq!(world.activities.began().len(), 2_000);
    host.check_histories();
}

#[test]
fn external_events_come_in_order_whether_or_not_somebody_waits() {
    let world = World::with("Listen", listens(50));
    let host = world.open();
    host.start("Listen", "a");
    (0..50).for_each(|n| host.raise("a", "go", n));
    let all: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(host.end("a"), format!("[{}]", all.join(",")));
    host.check_histories();
}

#[test]
fn instances_send_events_to_each_other_and_to_themselves() {
    let world = World::with("Ping", || {
        Box::new(|seen, out| {
            if seen.events.is_empty() {
                out.send(&seen.id, "me", "\"self\"");
                out.send("pong", "go", "\"ping\"");
                out.send("nobody", "go", "1");
                return waits();
            }
            if seen.events.len() == 2 {
                completes(seen.events.len())
            } else {
                waits()
            }
        })
    })
    .and("Pong", || {
        Box::new(|seen, out| {
            if seen.events.is_empty() {
                return waits();
            }
            out.send("ping", "back", "1");
            completes(seen.events[0].2.clone().unwrap())
        })
    });
    let host = world.open();
    host.start("Pong", "pong");
    host.start("Ping", "ping");
    assert_eq!(host.end("pong"), "\"ping\"");
    assert_eq!(host.end("ping"), "2");
    host.check_histories();
}

#[test]
fn continuing_as_new_a_thousand_times_keeps_the_file_small() {
    let world = World::with("Loop", || {
        Box::new(|seen, out| {
            if seen.results.is_empty() {
                out.call("Echo", seen.number());
                return waits();
            }
            match seen.number() {
                1_000 => completes(1_000),
                n => continues(n + 1, Vec::new()),
            }
        })
    })
    .in_file();
    let host = world.open();
    host.start_with("Loop", "a", 0);
    host.until("a", |row| row.execution >= 300);
    host.meddle("PRAGMA wal_checkpoint(TRUNCATE)");
    let size = std::fs::metadata(world.path()).unwrap().len();
    assert_eq!(host.end("a"), "1000");
    host.idle();
    assert_eq!(host.count("SELECT count(*) FROM garbage"), 0);
    assert_eq!(host.count("SELECT count(DISTINCT execution) FROM turn"), 1);
    host.meddle("PRAGMA wal_checkpoint(TRUNCATE)");
    let after = std::fs::metadata(world.path()).unwrap().len();
    assert!(after <= size + 64 * 1024, "{size} bytes became {after}");
}

#[test]
fn what_is_carried_over_comes_before_what_waits_already() {
    let world = World::with("Carry", || {
        Box::new(|seen, _| match (seen.number(), seen.events.len()) {
            // Events in quick succession may arrive in one turn.
            (0, 3..) => continues(1, seen.events.iter().skip(1).map(|(n, _, _)| *n).collect()),
            (1, 4) => {
                let all: Vec<String> = seen
                    .events
                    .iter()
                    .map(|(n, _, data)| format!("[{n},{}]", data.as_ref().unwrap()))
                    .collect();
                completes(format!("[{}]", all.join(",")))
            }
            _ => waits(),
        })
    });
    let host = world.open();
    host.start_with("Carry", "a", 0);
    (0..5).for_each(|n| host.raise("a", "go", n));
    assert_eq!(host.end("a"), "[[1,1],[2,2],[3,3],[4,4]]");
    host.check_histories();
}

/// Takes one event per execution and carries the others over. Ends after `count` events.
fn reads_one_at_a_time(count: u64) -> impl Fn() -> Logic + Send + Sync + 'static {
    move || {
        Box::new(move |seen, _| match (seen.number(), seen.events.len()) {
            (n, _) if n == count => completes(n),
            (_, 0) => waits(),
            (n, _) => continues(
                n + 1,
                seen.events.iter().skip(1).map(|(n, _, _)| *n).collect(),
            ),
        })
    }
}

#[test]
fn what_waits_costs_an_execution_nothing_that_continues_as_new() {
    const EVENTS: u64 = 600;
    let world = World::with("Reads", reads_one_at_a_time(EVENTS)).in_file();
    let host = world.open();
    host.start_with("Reads", "a", 0);
    host.until("a", |row| row.status == Status::Running);
    host.suspend("a");
    (0..EVENTS).for_each(|n| host.raise("a", "go", n));
    let waiting = "SELECT count(*) FROM inbox";
    assert_eq!(host.count(waiting), EVENTS as i64);
    // Counts the rows written to inboxes from here on.
    host.meddle(
        "CREATE TABLE written (n INTEGER); INSERT INTO written VALUES (0);
         CREATE TRIGGER count_written AFTER INSERT ON inbox BEGIN UPDATE written SET n = n + 1; END",
    );
    host.resume("a");
    assert_eq!(host.end("a"), EVENTS.to_string());
    let written = host.count("SELECT n FROM written");
    // Per execution: the start, and at most one page of events read too early. Carrying over all waiting events would write 180,000.
    assert!(written <= EVENTS as i64 * 33, "{written} rows");
    host.check_histories();
}

#[test]
fn a_command_does_not_wait_behind_events() {
    let world = World::with("Reads", reads_one_at_a_time(u64::MAX));
    let host = world.open();
    host.start_with("Reads", "a", 0);
    host.until("a", |row| row.status == Status::Running);
    host.suspend("a");
    (0..500).for_each(|n| host.raise("a", "go", n));
    host.resume("a");
    host.suspend("a");
    let held = host.until("a", |row| {
        row.status == Status::Suspended && row.execution > 0
    });
    assert!(held.execution < 400, "it read {} first", held.execution);
    host.terminate("a");
    let end = host.until("a", |row| row.status.is_end());
    assert_eq!(end.status, Status::Terminated);
    host.check_histories();
}

/// Waits for "go", then for "other".
fn waits_for_go() -> Logic {
    Box::new(|seen, _| {
        let has = |name: &str| seen.events.iter().any(|(_, other, _)| other == name);
        let awaited = match (has("go"), has("other")) {
            (true, true) => return completes(seen.events.len()),
            (true, false) => "other",
            (false, _) => "go",
        };
        Ending::Waiting(Waiting {
            events: vec![awaited.to_owned()],
            ..Waiting::default()
        })
    })
}

#[test]
fn events_that_nobody_reads_are_refused_before_they_fill_a_memory() {
    let world = World::with("Go", || waits_for_go()).in_file();
    let host = world.open();
    let big = format!("\"{}\"", "x".repeat(1_000_000));
    let raise = |id: &str, name: &str| {
        host.submit(Request::RaiseEvent {
            id: id.to_owned(),
            name: name.to_owned(),
            data: Some(json(&big)),
        })
        .unwrap()
    };
    let full = Reply::Rejected(Rejection::TooManyUnread);
    for (id, held) in [("running", false), ("held", true)] {
        host.start("Go", id);
        host.until(id, |row| row.status == Status::Running);
        if held {
            host.suspend(id);
        }
        for n in 0..8 {
            assert_eq!(raise(id, "other"), Reply::Done, "{n}");
            host.idle();
        }
        assert_eq!(raise(id, "other"), full);
        assert_eq!(
            raise(id, "other"),
            full,
            "nothing was counted that was refused"
        );
        // An event that the guest waits for is accepted, unless the instance is suspended.
        assert_eq!(
            raise(id, "GO"),
            if held { full.clone() } else { Reply::Done }
        );
    }
    host.idle();
    let of = |id: &str, column: &str| {
        host.count(&format!("SELECT {column} FROM instance WHERE id = '{id}'"))
    };
    assert!(of("running", "unread_bytes") > 8_000_000);
    assert_eq!(of("held", "unread_bytes"), 0);
    // Room is freed as the events are read.
    host.resume("held");
    host.until("held", |row| row.turns > 3);
    host.idle();
    assert_eq!(raise("held", "go"), Reply::Done);
    assert_eq!(host.end("held"), "9");
    host.check_histories();
}

#[test]
fn a_command_takes_effect_although_every_execution_continues_as_new_in_its_first_turn() {
    // It ends eventually, so that the test fails if the suspension takes no effect.
    let world = World::with("Loop", || {
        Box::new(|seen, _| match seen.number() {
            20_000 => completes(20_000),
            n => continues(n + 1, Vec::new()),
        })
    });
    let host = world.open();
    host.start_with("Loop", "a", 0);
    host.suspend("a");
    host.idle();
    let held = host.row("a").unwrap();
    assert_eq!(held.status, Status::Suspended);
    host.resume("a");
    let on = host.until("a", |row| row.execution > held.execution);
    assert_eq!(on.status, Status::Running);
    host.terminate("a");
    let end = host.until("a", |row| row.status.is_end());
    assert_eq!(end.status, Status::Terminated);
    host.check_histories();
}

#[test]
fn ten_thousand_waiting_instances_cost_nothing() {
    let mut world = World::with("Listen", listens(1));
    world.config.resident_max = 100;
    let world = world.with_one_engine();
    let host = world.open();
    let starts = (0..10_000).map(|n| host.engine.submit(start("Listen", &format!("i{n}"), None)));
    world
        .block_on("all starts", futures::future::join_all(starts))
        .into_iter()
        .for_each(|reply| drop(reply.unwrap()));
    host.idle();
    assert!(host.engine.resident() <= 100);
    let before = (host.engine.counts.turns.get(), host.commits());
    host.advance(1_000_000);
    host.raise("i77", "go", 1);
    assert_eq!(host.end("i77"), "[1]");
    host.idle();
    assert_eq!(
        (host.engine.counts.turns.get(), host.commits()),
        (before.0 + 1, before.1 + 2)
    );
    assert!(
        host.engine.memory.slots.all().len() <= 101,
        "an instance that waits needs no memory"
    );
}

#[test]
fn an_eviction_changes_nothing() {
    let mut histories = Vec::new();
    for resident_max in [0, 1, 1_000] {
        let mut world = World::with("Mix", || {
            let mut sum = 0;
            Box::new(move |seen, out| {
                if seen.results.is_empty() && seen.events.is_empty() {
                    out.call("Echo", 1);
                    return waits();
                }
                sum += 1;
                if seen.events.len() == 3 {
                    completes(sum)
                } else {
                    waits()
                }
            })
        });
        world.config.resident_max = resident_max;
        let host = world.open();
        let mut all = Vec::new();
        for id in ["a", "b", "c"] {
            host.start("Mix", id);
            host.until(id, |row| row.turns == 2);
            for n in 0..3 {
                host.raise(id, "go", n);
                host.until(id, |row| row.turns == 3 + n);
            }
            assert_eq!(host.end(id), "4");
            let told: Vec<Event> = host
                .events(id)
                .into_iter()
                .filter(|e| !matches!(e, Event::ExecutionStarted(_)))
                .collect();
            all.push(told);
        }
        histories.push(all);
        assert!(host.engine.resident() <= resident_max);
        host.check_histories();
    }
    // Start events contain generated ids, which have the same length in each world, so the histories have equal sizes.
    assert_eq!(histories[0], histories[2]);
    assert_eq!(histories[1], histories[2]);
}

#[test]
fn a_slot_that_has_ended_leaves_nothing_in_memory() {
    let world = World::with("Race", || {
        Box::new(|seen, out| {
            if seen.results.is_empty() {
                out.call("Echo", 1);
                out.call("Hold", 1);
                return waits();
            }
            fails("Lost")
        })
    });
    let host = world.open();
    for n in 0..20 {
        host.start("Race", &format!("r{n}"));
        let late = world.held();
        assert_eq!(host.end(&format!("r{n}")), "Lost");
        late.ends(Ok("1"));
    }
    while host.engine.activities.counts() != (0, 0) {
        std::thread::yield_now();
    }
    host.idle();
    assert_eq!(host.engine.memory.slots.all().len(), 0);
    assert_eq!(host.row("r3").unwrap().status, Status::Failed);
}
