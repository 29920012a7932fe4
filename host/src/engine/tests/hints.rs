//! What engines that share a hub tell each other of instances that clients of others wait for.

use std::sync::Arc;
use std::time::Duration;

use super::moves::balance;
use super::world::*;
use crate::engine::{Engine, Until};
use crate::store::Hints;

/// Hints that are sent before a listener is there are lost: asks until the other one has heard of it.
fn asks(from: &Engine, of: &Engine, hints: &Hints) {
    while !of.memory.elsewhere.is_asked() {
        from.hub.writer.hint(hints.clone());
        std::thread::yield_now();
    }
}

fn all() -> Hints {
    Hints {
        follow_all: true,
        ..Hints::default()
    }
}

/// Two engines that share the hub, one of which runs the instance `a`.
fn started(world: &World) -> Host<'_> {
    let mut host = world.open();
    host.join();
    balance(&host);
    host.start("Listen", "a");
    host.idle();
    host
}

/// Two engines that hear each other, the first of which runs the instance.
fn two<'a>(host: &'a Host<'_>, id: &str) -> [&'a Arc<Engine>; 2] {
    let [one, other] = [&host.engines[0], &host.engines[1]];
    let two = match one.partitions().elsewhere(id) {
        None => [one, other],
        Some(_) => [other, one],
    };
    // The one that waits hears what the other one tells it.
    asks(two[0], two[1], &all());
    two
}

#[test]
fn who_waits_at_another_host_is_told_of_the_end() {
    let world = World::with("Listen", listens(2)).shared_by(1);
    let host = started(&world);
    let [runs, waits] = two(&host, "a");
    let wait_for_end = Hints {
        wait_for_end: ["a".to_owned()].into(),
        ..Hints::default()
    };
    asks(waits, runs, &wait_for_end);
    // These do not look at the hub.
    let mut change = waits.memory.waiters.watch("a", Until::Changed).told;
    let end = waits.memory.waiters.watch("a", Until::Ended).told;
    host.raise("a", "go", 1);
    host.idle();
    host.raise("a", "go", 2);
    world.block_on("the end", end).unwrap();
    assert!(change.try_recv().is_ok(), "an end is a change");
    assert!(!runs.memory.elsewhere.is_asked(), "it ends once");
}

#[test]
fn who_follows_at_another_host_is_told_of_each_change() {
    let world = World::with("Listen", listens(2)).shared_by(1);
    let host = started(&world);
    let [runs, waits] = two(&host, "a");
    asks(waits, runs, &all());
    let mut told = waits.memory.waiters.watch_all();
    for n in [1, 2] {
        let change = waits.memory.waiters.watch("a", Until::Changed).told;
        host.raise("a", "go", n);
        world.block_on("a change", change).unwrap();
    }
    assert_eq!(&*told.try_recv().unwrap(), "a");
}

#[test]
fn who_has_waited_for_a_while_asks_and_who_has_not_does_not() {
    let world = World::with("Listen", listens(1)).shared_by(1);
    let host = started(&world);
    let [runs, waits] = two(&host, "a");
    let soon = waits.watch("a", Until::Ended, Duration::ZERO);
    world.block_on("a look", soon.told).unwrap();
    assert!(!runs.memory.elsewhere.is_asked());
    while !runs.memory.elsewhere.is_asked() {
        // A hint may be lost.
        waits.memory.elsewhere.forget_all();
        let late = waits.watch("a", Until::Ended, Duration::from_millis(20));
        world.block_on("a look", late.told).unwrap();
    }
    let answer = waits.watch_answer("a", "r", Duration::from_secs(1));
    host.raise("a", "go", 1);
    for watch in answer {
        world.block_on("the end", watch.told).unwrap();
    }
}
