//! Terminate, suspend and resume in each status.

use std::sync::atomic::Ordering;

use super::world::*;
use crate::engine::Request;
use crate::store::Reply;
use perennial_core::{Event, Status};

/// An instance in the hub that could not begin, because its guest cannot be created.
fn pending<'a>(world: &'a World, host: &Host<'a>) {
    world.programs.broken.store(true, Ordering::Release);
    // Started as a child, so that the start is in the hub before the first turn.
    host.raise("starter", "go", 1);
    host.until("a", |row| row.quarantine.is_some());
}

fn world() -> World {
    World::with("Listen", listens(2)).and("Starter", || {
        Box::new(|seen, out| {
            if !seen.events.is_empty() {
                out.start("Listen", "a");
            }
            waits()
        })
    })
}

#[test]
fn an_instance_is_terminated_in_each_status() {
    for status in ["pending", "running", "suspended"] {
        let world = world();
        let host = world.open();
        host.start("Starter", "starter");
        match status {
            "pending" => pending(&world, &host),
            "running" => host.start("Listen", "a"),
            _ => {
                host.start("Listen", "a");
                host.suspend("a");
            }
        }
        host.terminate("a");
        assert_eq!(
            host.until("a", |row| row.status.is_end())
                .output
                .unwrap()
                .as_str(),
            "\"enough\"",
            "{status}"
        );
        assert!(host.row("a").unwrap().quarantine.is_none());
        assert_eq!(
            host.row("a").unwrap().started_at.is_some(),
            status != "pending"
        );
        let again = host
            .submit(Request::Terminate {
                id: "a".to_owned(),
                reason: None,
                recursive: false,
            })
            .unwrap();
        assert!(matches!(again, Reply::Rejected(_)));
        world.programs.broken.store(false, Ordering::Release);
        host.check_histories();
    }
}

#[test]
fn an_instance_that_could_not_begin_begins_when_it_is_resumed() {
    let world = world();
    let host = world.open();
    host.start("Starter", "starter");
    pending(&world, &host);
    host.raise("a", "go", 1);
    // Nothing has changed, so another try fails too.
    host.resume("a");
    host.idle();
    assert!(host.row("a").unwrap().quarantine.is_some());
    world.programs.broken.store(false, Ordering::Release);
    host.resume("a");
    host.until("a", |row| row.status == Status::Running);
    host.raise("a", "go", 2);
    assert_eq!(host.end("a"), "[1,2]");
    host.check_histories();
}

#[test]
fn a_suspended_instance_takes_nothing_and_loses_nothing() {
    for restarts in [false, true] {
        let world = world();
        let mut host = world.open();
        host.start("Listen", "a");
        host.suspend("a");
        host.raise("a", "go", 1);
        host.raise("a", "go", 2);
        host.idle();
        let row = host.row("a").unwrap();
        assert_eq!((row.status, row.turns), (Status::Suspended, 2));
        if restarts {
            drop(host);
            host = world.open();
            host.idle();
            assert_eq!(host.row("a").unwrap().turns, 2);
        }
        let nothing = host
            .submit(Request::Suspend {
                id: "a".to_owned(),
                reason: None,
                recursive: false,
            })
            .unwrap();
        assert_eq!(nothing, Reply::Nothing);
        host.resume("a");
        assert_eq!(host.end("a"), "[1,2]");
        host.check_histories();
    }
}

#[test]
fn the_last_of_several_commands_at_once_is_the_one_that_counts() {
    let world = world();
    let host = world.open();
    host.start("Listen", "a");
    for _ in 0..20 {
        host.suspend("a");
        host.resume("a");
    }
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    host.suspend("a");
    for _ in 0..20 {
        host.resume("a");
        host.suspend("a");
    }
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Suspended);
    host.check_histories();
}

#[test]
fn a_suspended_instance_with_a_full_inbox_costs_nothing() {
    let world = World::with("Listen", listens(2_500));
    let host = world.open();
    host.start("Listen", "a");
    host.suspend("a");
    let events = (0..2_500).map(|n| {
        host.of("a").submit(Request::RaiseEvent {
            id: "a".to_owned(),
            name: "go".to_owned(),
            data: Some(json(n)),
        })
    });
    world.block_on("all events", futures::future::join_all(events));
    // The instance rests: nothing is queued, although many events wait.
    host.idle();
    assert_eq!(host.row("a").unwrap().turns, 2);
    host.resume("a");
    host.end("a");
    host.check_histories();
}

#[test]
fn terminate_comes_before_everything_that_waits() {
    let world = world().in_file();
    let host = world.open();
    host.start("Listen", "a");
    host.idle();
    let raise = |id: &str| Request::RaiseEvent {
        id: id.to_owned(),
        name: "go".to_owned(),
        data: None,
    };
    // The writer blocks on the first command, and commits the others together.
    let db = rusqlite::Connection::open(world.path()).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ask = |request: Request| {
        let engine = std::sync::Arc::clone(&host.engine);
        world.spawn(async move { engine.submit(request).await })
    };
    let begun = std::time::Instant::now();
    let queued = |in_flight: usize| {
        while host.engine.queue().in_flight() < in_flight
            || host.engine.hub.writer.queued() + 1 < in_flight as u64
        {
            // The writer waits only for a limited time for the lock of the file.
            assert!(begun.elapsed() < patience(), "the machine stood still");
            std::thread::yield_now();
        }
    };
    let taken = || host.faults().taken.load(Ordering::Acquire);
    let before = taken();
    let first = ask(raise("nobody"));
    while taken() == before {
        assert!(begun.elapsed() < patience(), "the machine stood still");
        std::thread::yield_now();
    }
    let mut replies = Vec::new();
    let commands = [
        raise("a"),
        Request::Suspend {
            id: "a".to_owned(),
            reason: None,
            recursive: false,
        },
        Request::Terminate {
            id: "a".to_owned(),
            reason: None,
            recursive: false,
        },
    ];
    for (n, command) in commands.into_iter().enumerate() {
        replies.push(ask(command));
        queued(n + 2);
    }
    db.execute_batch("COMMIT").unwrap();
    let rejected = world.block_on("the first verdict", first).unwrap().unwrap();
    assert!(matches!(rejected, Reply::Rejected(_)));
    for reply in replies {
        let reply = world.block_on("a verdict", reply).unwrap().unwrap();
        assert_eq!(reply, Reply::Done);
    }
    assert_eq!(host.end("a"), "Terminated");
    let raised = |event: &&Event| matches!(event, Event::ExternalEventRaised { .. });
    assert_eq!(host.events("a").iter().filter(raised).count(), 0);
    host.check_histories();
}

#[test]
fn suspend_after_the_return_changes_nothing() {
    let world = World::with("Return", || {
        Box::new(|_, out| {
            out.call("Hold", 1);
            completes(1)
        })
    });
    let host = world.open();
    host.start("Return", "a");
    let held = world.held();
    assert_eq!(
        host.submit(Request::Suspend {
            id: "a".to_owned(),
            reason: None,
            recursive: false
        })
        .unwrap(),
        Reply::Done
    );
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    held.ends(Ok("1"));
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn stopping_answers_everyone_and_takes_no_time() {
    let world = World::with("Fan", || {
        Box::new(|seen, out| {
            if seen.results.is_empty() {
                for n in 0..100 {
                    out.call("Hold", n);
                }
            }
            waits()
        })
    })
    .in_file();
    let host = world.open();
    let starts: Vec<_> = (0..500)
        .map(|n| {
            let engine = std::sync::Arc::clone(&host.engine);
            world.spawn(async move { engine.submit(start("Fan", &format!("f{n}"), None)).await })
        })
        .collect();
    world.held();
    drop(host);
    let mut accepted = 0;
    for (n, reply) in starts.into_iter().enumerate() {
        if let Ok(Reply::Done) = world.block_on("an answer", reply).unwrap() {
            accepted += 1;
            assert!(
                world.reader().instance(&format!("f{n}")).unwrap().is_some(),
                "what was acknowledged is there"
            );
        }
    }
    assert!(accepted > 0);
    let host = world.open();
    assert_eq!(
        host.count("SELECT max(deliveries) FROM task"),
        0,
        "a host that stops in peace blames nothing"
    );
}
