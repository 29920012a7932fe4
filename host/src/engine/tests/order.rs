//! Messages and timers are handled in the order of their times, however late the host notices.

use super::world::*;
use crate::store::{Change, Owned, Place, Write};
use perennial_core::{Command, Ending, Message, Status, TaskId, Timestamp, Waiting};

/// Waits for an event until a deadline after its start. Completes with `"event"` or `"timer"`, whichever comes first.
fn races(span: u64) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let (mut set, mut first) = (false, None);
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut set, true) {
                out.timer(seen.now.0 + span);
            }
            let fired = (!seen.fired.is_empty()).then_some("timer");
            let raised = (!seen.events.is_empty()).then_some("event");
            // Within one turn it sees both but not their order, which the history records.
            first = first.or(fired).or(raised);
            first.map_or_else(waits, |_| completes(1))
        })
    }
}

/// The one of the two that is first in the history.
fn winner(host: &Host<'_>, id: &str) -> &'static str {
    host.end(id);
    let events = host.events(id);
    let mut names = events.iter().map(perennial_core::Event::name);
    names
        .find(|name| ["TimerFired", "ExternalEventRaised"].contains(name))
        .unwrap()
}

/// Puts an event into the hub while no host owns it, as a client without a host does.
fn raise_without_a_host(world: &World, id: &str) {
    let Owned { writer, .. } = Place::File(world.path())
        .take_over(world.now(), "a test", &|_| false)
        .unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let change = Change::Deliver {
        id: id.to_owned(),
        command: Command::RaiseEvent,
        message: Message::ExternalEvent {
            number: None,
            name: "go".to_owned(),
            data: None,
        },
    };
    writer.submit(Write::new(change, world.now(), move |_, result| {
        tell.send(result.is_ok()).unwrap();
    }));
    assert!(told.recv().unwrap());
    writer.close(std::time::Instant::now() + patience());
}

#[test]
fn a_deadline_that_passed_while_no_host_ran_comes_before_an_event_that_came_later() {
    for (raised_at, wins) in [(999, "ExternalEventRaised"), (1_001, "TimerFired")] {
        let world = World::with("Race", races(1_000)).in_file();
        let ids: Vec<String> = (0..20).map(|n| format!("r{n}")).collect();
        {
            let host = world.open();
            ids.iter().for_each(|id| host.start("Race", id));
            host.idle();
        }
        world.clock.advance(perennial_core::Millis(raised_at));
        ids.iter().for_each(|id| raise_without_a_host(&world, id));
        world.clock.advance(perennial_core::Millis(5_000));
        let host = world.open();
        for id in &ids {
            assert_eq!(winner(&host, id), wins, "raised at {raised_at}");
        }
        host.check_histories();
    }
}

#[test]
fn a_deadline_that_passed_while_it_was_suspended_comes_before_an_event_that_came_later() {
    for (raised_at, wins) in [(999, "ExternalEventRaised"), (1_001, "TimerFired")] {
        for resident_max in [0, 1_000] {
            let mut world = World::with("Race", races(1_000));
            world.config.resident_max = resident_max;
            let host = world.open();
            host.start("Race", "a");
            host.idle();
            host.suspend("a");
            host.advance(raised_at);
            host.raise("a", "go", 1);
            host.advance(5_000);
            host.resume("a");
            assert_eq!(winner(&host, "a"), wins, "raised at {raised_at}");
            host.check_histories();
        }
    }
}

#[test]
fn events_keep_their_order_whatever_the_clock_shows_when_they_come() {
    let world = World::with("Listen", listens(4));
    world.clock.set(Timestamp(1_000_000_000));
    let host = world.open();
    host.start("Listen", "a");
    host.suspend("a");
    for n in 1..=4 {
        host.raise("a", "go", n);
        world.clock.set(Timestamp(world.now().0 - 10_000_000));
    }
    host.resume("a");
    assert_eq!(host.end("a"), "[1,2,3,4]");
}

/// Shows in its status that it waits for two events and a timer, with a text of its own.
fn says() -> Logic {
    let mut set = false;
    Box::new(move |seen, out| {
        if !std::mem::replace(&mut set, true) {
            out.timer(seen.now.0 + 1_000_000);
        }
        if seen.events.len() == 2 {
            return completes(1);
        }
        Ending::Waiting(Waiting {
            events: vec!["Decision".to_owned(), "Other".to_owned()],
            tasks: vec![TaskId(0)],
            note: Some("for the boss".to_owned()),
            requests: Vec::new(),
        })
    })
}

#[test]
fn what_an_instance_waits_for_survives_every_turn_without_its_guest() {
    for (resident_max, restarts) in [(1_000, false), (0, false), (1_000, true), (0, true)] {
        let mut world = World::with("Say", says);
        world.config.resident_max = resident_max;
        let mut host = world.open();
        host.start("Say", "a");
        let said = host.until("a", |row| row.turns == 1).waiting;
        assert_eq!(said.events.len(), 2);
        for _ in 0..2 {
            host.suspend("a");
            assert_eq!(host.row("a").unwrap().waiting, said);
            if restarts {
                drop(host);
                host = world.open();
            }
            host.resume("a");
            host.until("a", |row| row.status == Status::Running);
            assert_eq!(host.row("a").unwrap().waiting, said);
        }
        host.raise("a", "Decision", 1);
        host.raise("a", "Other", 1);
        assert_eq!(host.end("a"), "1");
        assert_eq!(host.row("a").unwrap().waiting, Waiting::default());
        host.check_histories();
    }
}
