//! A hub whose partitions several engines run.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use perennial_core::{
    Action, ChildCall, ChildPolicy, Event, IdReuse, InstanceOptions, Millis, Status, Turn,
};

use super::random::{Dice, Input, Op, world};
use super::rewind::{breakable, calls, fails_with, in_turn};
use super::seeds::{Named, each_of, seeds};
use super::world::*;
use crate::Loss;
use crate::engine::{Engine, Request, RewindRequest};
use crate::store::{Partition, Reply};

/// An id in a partition of a divided hub, which begins so.
fn id_in(host: &Host<'_>, partition: u16, begin: &str) -> String {
    let all = host.engine.partitions();
    let mut ids = (0..).map(|n| format!("{begin}{n}"));
    let is_there = |id: &String| all.of_id(id) == Partition(partition);
    ids.find(is_there).unwrap()
}

/// How many messages wait in the outbox.
fn outbox(host: &Host<'_>) -> usize {
    host.world.reader().outbox(1_000).unwrap().len()
}

/// A world with a parent in one partition, which calls a child in another one, and their ids.
fn two() -> (World, String, String) {
    let world = World::new().divided();
    let (parent, kid) = {
        let host = world.open();
        (id_in(&host, 1, "parent"), id_in(&host, 3, "kid"))
    };
    let child: &'static str = kid.clone().leak();
    let world = world
        .and("Parent", calls("Kid", Some(child)))
        .and("Kid", listens(1));
    (world, parent, kid)
}

#[test]
fn what_is_sent_to_a_partition_without_an_owner_waits_for_the_next_one() {
    let (world, parent, kid) = two();
    let mut host = world.open();
    while host.engines.len() < 3 {
        drop(host);
        host = world.open();
    }
    let runs = |engine: &Arc<Engine>| engine.partitions().has(Partition(3));
    let absent = host.engines.iter().position(runs).unwrap();
    host.engines[absent].shut_down();
    host.start("Parent", &parent);
    host.until(&parent, |row| row.turns == 1);
    assert_eq!((outbox(&host), host.row(&kid).is_none()), (1, true));
    host.replace(absent);
    host.until(&kid, |row| row.turns == 1);
    assert_eq!(outbox(&host), 0);
    host.raise(&kid, "go", 7);
    assert_eq!(host.end(&parent), "[7]");
    host.check_histories();
}

#[test]
fn an_owner_of_both_partitions_sends_nothing() {
    let (world, parent, kid) = two();
    let world = world.with_one_engine();
    let host = world.open();
    let before = host.commits();
    host.start("Parent", &parent);
    host.until(&kid, |row| row.turns == 1);
    host.idle();
    assert_eq!(host.commits() - before, 2, "the turns of both");
    host.raise(&kid, "go", 7);
    assert_eq!(host.end(&parent), "[7]");
}

/// Starts children that end in different ways with their parent, and ends when it is told to.
fn leaves_children() -> Logic {
    let mut called = false;
    Box::new(move |seen, out| {
        if !std::mem::replace(&mut called, true) {
            for n in 0..40 {
                let policies = [ChildPolicy::Abandon, ChildPolicy::Terminate];
                out.push(Action::CallChild(ChildCall {
                    task: perennial_core::TaskId(n),
                    name: "Kid".to_owned(),
                    version: None,
                    instance_id: Some(format!("kid{n}")),
                    input: None,
                    tags: Vec::new(),
                    retry: None,
                    options: InstanceOptions {
                        reuse: IdReuse::default(),
                        when_dropped: policies[n as usize % 2],
                        execution_timeout: None,
                    },
                }));
            }
        }
        match seen.events.is_empty() {
            true => waits(),
            false => completes(1),
        }
    })
}

#[test]
fn children_elsewhere_end_as_their_starts_said_when_their_parent_ends() {
    let world = World::with("Kid", listens(1))
        .and("Parent", leaves_children)
        .divided();
    let host = world.open();
    host.start("Parent", "p");
    host.idle();
    host.raise("p", "go", 1);
    // It returns, and ends with its last child.
    host.terminate("p");
    assert_eq!(host.end("p"), "Terminated");
    for n in 0..40 {
        let id = format!("kid{n}");
        if n % 2 == 1 {
            assert_eq!(host.end(&id), "Terminated", "{id}");
        }
    }
    host.idle();
    for n in (0..40).step_by(2) {
        let id = format!("kid{n}");
        assert_eq!(host.row(&id).unwrap().status, Status::Running, "{id}");
    }
    host.check_histories();
}

/// Starts programs, and replaces engines at random while they run. The replaced ones live on for a while.
fn check_replaced(seed: u64) -> u64 {
    let _named = Named(seed);
    let mut dice = Dice(seed);
    let mut world = world().divided();
    world.config.resident_max = [0, 2, 1_000][dice.roll(3) as usize];
    let mut host = world.open();
    let (mut values, mut replaced) = (Vec::new(), Vec::new());
    let id = |n: u64| format!("p{n}");
    for n in 0..4 {
        let mut events = 0;
        let rounds: Vec<Op> = (0..1 + dice.roll(2))
            .map(|_| Op::random(&mut dice, 3, &mut events))
            .collect();
        values.push(rounds.iter().map(Op::value).sum::<u64>());
        let input = Input { sum: 0, rounds };
        host.start_with("Program", &id(n), serde_json::to_string(&input).unwrap());
        for event in 0..events {
            host.raise(&id(n), &format!("e{event}"), 10_000 + event);
        }
    }
    let mut count = 0;
    while !(0..4).all(|n| host.row(&id(n)).unwrap().status.is_end()) {
        if dice.roll(4) == 0 && count < 20 {
            let number = dice.roll(host.engines.len() as u64) as usize;
            replaced.push(host.replace(number));
            count += 1;
        }
        if dice.roll(3) == 0 {
            replaced.drain(..).for_each(|engine| engine.shut_down());
        }
        host.world.clock.advance(Millis(dice.roll(1_500)));
        for _ in 0..dice.roll(200) {
            std::thread::yield_now();
        }
    }
    replaced.drain(..).for_each(|engine| engine.shut_down());
    for (n, value) in (0..).zip(&values) {
        assert_eq!(host.end(&id(n)), value.to_string(), "{}", id(n));
    }
    host.check_histories();
    assert_eq!(outbox(&host), 0);
    count
}

#[test]
fn random_programs_end_as_they_should_though_owners_are_replaced() {
    let seeds = seeds((60, 3_000));
    let count = seeds.end - seeds.start;
    let replaced = each_of("replaced owners", seeds, check_replaced);
    assert!(replaced > count / 4, "only {replaced}");
}

/// Calls several children at once, waits for all, and fails with the first failure.
fn fans(name: &'static str, count: u32) -> impl Fn() -> Logic + Send + Sync {
    move || {
        Box::new(move |seen, out| {
            if out.is_first() {
                for _ in 0..count {
                    out.child(name, None, None);
                }
            }
            if !(0..count).all(|task| seen.has(task)) {
                return waits();
            }
            let failed = (0..count).find_map(|task| fails_with(seen, task));
            failed.unwrap_or_else(|| completes(count))
        })
    }
}

#[test]
fn a_family_across_partitions_is_rewound_as_one() {
    let world = World::with("Root", fans("Middle", 3))
        .and("Middle", fans("Leaf", 2))
        .and("Leaf", in_turn(&["Pay"]))
        .divided();
    let mended = breakable(&world, "Pay");
    let host = world.open();
    let roots: Vec<String> = (0..6).map(|n| format!("root{n}")).collect();
    for id in &roots {
        host.start("Root", id);
        assert_eq!(host.end(id), "Down");
    }
    host.idle();
    mended.store(true, Ordering::Release);
    for id in &roots {
        let request = RewindRequest {
            id: id.clone(),
            reason: None,
            module: None,
        };
        match host.submit(Request::RewindAll(request)).unwrap() {
            Reply::Rewound(done) => assert_eq!(done.rewound.len(), 9, "{done:?}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(host.end(id), "3");
        let turns = host.turns(id);
        let events = turns.iter().flat_map(Turn::events);
        let is_end = |event: &&Event| matches!(event, Event::ChildCompleted { .. });
        assert_eq!(events.filter(is_end).count(), 3);
    }
    host.check_histories();
}

#[test]
fn a_host_whose_keys_are_used_up_says_so_and_not_that_it_was_replaced() {
    let world = World::new().divided();
    let host = world.open();
    let engine = &host.engines[0];
    let why = || engine.end.lost.borrow().as_ref().map(Loss::of);
    let last = (1 << 32) - (1 << 22);
    engine.hub.next_key.store(last - 1, Ordering::Relaxed);
    engine.next_key("one");
    assert_eq!(why(), None);
    engine.next_key("other");
    assert_eq!(why(), Some(Loss::UsedUp));
}
