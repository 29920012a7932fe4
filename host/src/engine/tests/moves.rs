//! Engines that share a hub, and take and give its partitions while they work.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use perennial_core::{Json, Millis};

use super::random::{Dice, Input, Op, world};
use super::rewind::{breakable, fails_with, rewind_request};
use super::seeds::{Named, each_of, seeds};
use super::shares::Others;
use super::world::*;
use crate::engine::{Engine, Request};
use crate::store::{Change, Outside, Partition, Reply, StoreError, decode, encode};

/// The partitions of each engine.
fn held(host: &Host<'_>) -> Vec<usize> {
    let count = |engine: &Arc<Engine>| engine.partitions().iter().count();
    host.engines.iter().map(count).collect()
}

/// Looks with all engines until they have divided the hub equally.
pub(super) fn balance(host: &Host<'_>) {
    let is_equal = || {
        let held = held(host);
        let (least, most) = (held.iter().min(), held.iter().max());
        held.iter().sum::<usize>() == 4 && most.unwrap() - least.unwrap() <= 1
    };
    while !is_equal() {
        host.engines
            .iter()
            .for_each(|engine| _ = engine.balance().unwrap());
    }
}

impl Host<'_> {
    /// Another engine joins.
    pub(super) fn join(&mut self) {
        let parts = self.world.parts(Others::of(self.world, &self.peers));
        let place = self.world.joining();
        let engine = Engine::start(&place, self.world.config.clone(), parts).unwrap();
        self.peers
            .lock()
            .unwrap()
            .insert(0, Arc::downgrade(&engine));
        self.engines.push(engine);
    }

    /// Asks whoever runs the instance, also while its partition moves.
    fn insist(&self, request: impl Fn() -> Request, id: &str) -> Reply {
        loop {
            let runs = |engine: &&Arc<Engine>| engine.partitions().elsewhere(id).is_none();
            let Some(engine) = self.engines.iter().find(runs) else {
                std::thread::yield_now();
                continue;
            };
            match self.world.block_on("an answer", engine.submit(request())) {
                Err(StoreError::Elsewhere(_) | StoreError::Closed | StoreError::Fenced) => {}
                other => return other.unwrap(),
            }
        }
    }
}

/// The hub of a world dies for an engine: others take what it had, and it learns of that when it writes.
fn kill(host: &Host<'_>, engine: &Engine) {
    let members = engine.look_at_members().unwrap().unwrap();
    host.world.declare_dead(members.me);
}

#[test]
fn a_host_that_joins_gets_its_share_and_one_that_leaves_gives_it_back() {
    let world = World::with("Listen", listens(1)).shared_by(1);
    let mut host = world.open();
    assert_eq!(held(&host), [4]);
    let ids: Vec<String> = (0..40).map(|n| format!("i{n}")).collect();
    for id in &ids {
        host.start("Listen", id);
    }
    host.idle();
    host.join();
    balance(&host);
    assert_eq!(held(&host), [2, 2]);
    for id in ids.iter().take(20) {
        let raise = || Request::RaiseEvent {
            id: id.clone(),
            name: "go".to_owned(),
            data: Some(json(7)),
        };
        assert_eq!(host.insist(raise, id), Reply::Done);
        assert_eq!(host.end(id), "[7]");
    }
    // The first one stops in good order.
    let gone = host.engines.remove(0);
    gone.shut_down();
    host.engine = Arc::clone(&host.engines[0]);
    balance(&host);
    assert_eq!(held(&host), [4]);
    for id in ids.iter().skip(20) {
        host.raise(id, "go", 8);
        assert_eq!(host.end(id), "[8]");
    }
    host.check_histories();
}

/// Calls an activity or, for an input of ids, itself as a child with the first of them and the others. Ends as that does.
fn descends() -> impl Fn() -> Logic + Send + Sync {
    || {
        let mut called = false;
        Box::new(move |seen, out| {
            let ids = seen.input.as_ref().map_or("[]", Json::as_str);
            let ids: Vec<String> = serde_json::from_str(ids).unwrap();
            if !std::mem::replace(&mut called, true) {
                match ids.split_first() {
                    Some((first, others)) => {
                        let others = json(serde_json::to_string(others).unwrap());
                        out.child_with("Descend", Some(first), Some(others), None);
                    }
                    None => _ = out.call("Pay", 1),
                }
            }
            match fails_with(seen, 0) {
                Some(failed) => failed,
                None if seen.has(0) => completes(seen.result(0)),
                None => waits(),
            }
        })
    }
}

#[test]
fn families_whose_hosts_alternate_are_rewound_at_once_whoever_is_asked() {
    // More than there are threads for requests.
    const FAMILIES: usize = 20;
    let world = World::with("Descend", descends()).shared_by(1);
    let mended = breakable(&world, "Pay");
    let mut host = world.open();
    host.join();
    balance(&host);
    let own = |engine: usize, id: &str| {
        let own = host.engines[engine].partitions();
        own.has(own.of_id(id))
    };
    let mut ids = (0..).map(|n| format!("i{n}"));
    let mut of = |engine: usize| ids.find(|id| own(engine % 2, id)).unwrap();
    let families: Vec<Vec<String>> = (0..FAMILIES)
        .map(|n| (n..n + 5).map(&mut of).collect())
        .collect();
    for family in &families {
        let below = serde_json::to_string(&family[1..]).unwrap();
        host.start_with("Descend", &family[0], below);
    }
    families
        .iter()
        .for_each(|family| assert_eq!(host.end(&family[0]), "Down"));
    mended.store(true, Ordering::Release);
    // Each by two at once, of which one asks the other host.
    let asked = families.iter().map(|family| {
        let ask = |engine: &Arc<Engine>| {
            let (engine, request) = (Arc::clone(engine), rewind_request(&family[0]));
            async move { engine.submit(request).await }
        };
        futures::future::join(ask(&host.engines[0]), ask(&host.engines[1]))
    });
    let done = world.block_on("the rewinds", futures::future::join_all(asked));
    for (family, (one, other)) in families.iter().zip(done) {
        let mut told = Vec::new();
        for reply in [one, other] {
            match reply.unwrap() {
                Reply::Rewound(done) => told.extend(done.rewound),
                // It has done nothing.
                Reply::Rejected(_) => {}
                reply => panic!("{family:?}: {reply:?}"),
            }
        }
        // Both may tell of one whose descendants each of them has rewound a part of.
        told.sort();
        told.dedup();
        let mut below = family[1..].to_vec();
        below.sort();
        assert_eq!(told, below);
        assert_eq!(host.end(&family[0]), "1");
    }
    host.check_histories();
}

#[test]
fn a_command_that_was_left_for_the_wrong_partition_is_answered_once_and_does_nothing() {
    let world = World::with("Listen", listens(1)).shared_by(1);
    let mut host = world.open();
    host.join();
    balance(&host);
    let taker = &host.engines[0];
    let own = taker.partitions();
    let mut ids = (0..).map(|n| format!("i{n}"));
    let id = ids.find(|id| !own.has(own.of_id(id))).unwrap();
    let body = encode(&start("Listen", &id, None)).unwrap();
    let outside = Outside::new(world.place.clone());
    let to = own.iter().next().unwrap();
    outside.append(to, "start", &body, world.now()).unwrap();
    world
        .block_on("the commands", taker.take_commands())
        .unwrap();
    let answer = taker.hub.reader.answer("start").unwrap().unwrap();
    let Reply::Refused { message, .. } = decode(&answer, "an answer").unwrap() else {
        panic!("it was carried out");
    };
    assert!(message.contains("another partition"), "{message}");
    assert!(host.row(&id).is_none());
}

#[test]
fn a_start_that_is_being_written_while_its_partition_goes_is_answered_by_what_becomes_of_it() {
    let world = World::with("Listen", listens(1)).shared_by(1);
    let host = world.open();
    let engine = &host.engine;
    // No write is answered for longer than a move waits for turns.
    let (lets, goes_on) = std::sync::mpsc::channel::<()>();
    let busy = Change::Answer(Reply::Done);
    engine.write(busy, move |_, _| _ = goes_on.recv());
    let queued = || engine.hub.writer.faults().queued.load(Ordering::Acquire);
    while queued() > 0 {
        std::thread::yield_now();
    }
    let (tell, told) = std::sync::mpsc::channel();
    let (starter, request) = (Arc::clone(engine), start("Listen", "a", None));
    engine.runtime.spawn(async move {
        drop(tell.send(starter.submit_here(request).await));
    });
    let there = engine.partitions().of_id("a");
    // The writer waits, or goes on to this write while the thread that answers waits: this one has no answer either way.
    while engine.queue().in_flight() < 2 {
        std::thread::yield_now();
    }
    std::thread::scope(|threads| {
        let leaves = threads.spawn(|| engine.leave(&[there]));
        while !engine.slots_of(&[there]).is_empty() {
            std::thread::yield_now();
        }
        assert!(told.try_recv().is_err(), "nobody knows yet");
        drop(lets);
        leaves.join().unwrap().unwrap();
    });
    assert_eq!(told.recv().unwrap().unwrap(), Reply::Done);
    assert!(host.row("a").is_some());
    assert!(engine.slots_of(&[there]).is_empty(), "nothing is left");
}

#[test]
fn what_an_instance_waits_for_comes_where_its_partition_went() {
    let world = World::with("Sleep", || {
        let mut timer = None;
        Box::new(move |seen, out| {
            let timer = *timer.get_or_insert_with(|| out.timer(seen.now.0 + 5_000));
            match seen.fired.contains(&timer) {
                true => completes(1),
                false => waits(),
            }
        })
    })
    .and("Work", || {
        let mut task = None;
        Box::new(move |seen, out| {
            let task = *task.get_or_insert_with(|| out.call("Hold", 1));
            match seen.has(task) {
                true => completes(2),
                false => waits(),
            }
        })
    })
    .shared_by(1);
    let mut host = world.open();
    let ids: Vec<String> = (0..8).map(|n| format!("i{n}")).collect();
    for id in &ids {
        host.start("Sleep", id);
    }
    host.start("Work", "w");
    let before = world.held();
    let there = host.engine.partitions().of_id("w");
    // All go to another host, one after the other, while an attempt runs.
    host.join();
    let to = host.engines[1].look_at_members().unwrap().unwrap().me;
    let all: Vec<Partition> = host.engine.partitions().iter().collect();
    assert!(all.contains(&there));
    host.engine.give_anyway(&all, to).unwrap();
    host.engines[1].balance().unwrap();
    // The attempt is repeated there, and what the first one says afterwards means nothing.
    let again = world.held();
    drop(before);
    again.ends(Ok("3"));
    while !host.row("w").unwrap().status.is_end() {
        std::thread::yield_now();
    }
    world.clock.advance(Millis(5_000));
    for id in &ids {
        while !host.row(id).unwrap().status.is_end() {
            std::thread::yield_now();
        }
    }
}

/// Activities whose outcome is in the hub, and how many attempts had begun by then.
type Recorded = (std::collections::BTreeSet<String>, usize);

/// Checks that nothing began again whose outcome was in the hub before, and looks anew.
fn nothing_again(world: &World, (before, began): &Recorded) -> Recorded {
    let again = world.activities.began();
    let again = again.into_iter().skip(*began);
    let mut again = again.filter(|(key, _)| before.contains(key));
    assert_eq!(again.next(), None, "its result was in the hub");
    (world.recorded(), world.activities.began().len())
}

/// Starts programs, and lets engines join, leave and die, and partitions move, while they run.
fn check_moved(seed: u64) -> u64 {
    let _named = Named(seed);
    let mut dice = Dice(seed);
    let mut world = world().shared_by(1 + dice.roll(3) as usize);
    world.config.resident_max = [0, 2, 1_000][dice.roll(3) as usize];
    let mut host = world.open();
    balance(&host);
    let (mut values, mut zombies) = (Vec::new(), Vec::<Arc<Engine>>::new());
    let id = |n: u64| format!("p{n}");
    for n in 0..4 {
        let mut events = 0;
        let rounds: Vec<Op> = (0..1 + dice.roll(2))
            .map(|_| Op::random(&mut dice, 3, &mut events))
            .collect();
        values.push(rounds.iter().map(Op::value).sum::<u64>());
        let input = json(serde_json::to_string(&Input { sum: 0, rounds }).unwrap());
        host.insist(|| start("Program", &id(n), Some(input.clone())), &id(n));
        for event in 0..events {
            let raise = || Request::RaiseEvent {
                id: id(n),
                name: format!("e{event}"),
                data: Some(json(10_000 + event)),
            };
            host.insist(raise, &id(n));
        }
    }
    let mut count = 0;
    let mut recorded = (world.recorded(), world.activities.began().len());
    while !(0..4).all(|n| host.row(&id(n)).unwrap().status.is_end()) {
        match dice.roll(12) {
            0 if count < 20 => host.join(),
            1 if count < 20 && host.engines.len() > 1 => {
                let number = dice.roll(host.engines.len() as u64) as usize;
                host.engines.remove(number).shut_down();
            }
            2 if count < 20 && host.engines.len() > 1 => {
                let number = dice.roll(host.engines.len() as u64) as usize;
                let killed = host.engines.remove(number);
                kill(&host, &killed);
                zombies.push(killed);
            }
            3 => drop(zombies.drain(..).map(|engine| engine.shut_down()).count()),
            4 => recorded = nothing_again(&world, &recorded),
            _ => {
                for engine in &host.engines {
                    engine.balance().unwrap();
                }
                world.clock.advance(Millis(dice.roll(1_500)));
                continue;
            }
        }
        count += 1;
        host.engine = Arc::clone(&host.engines[0]);
        for _ in 0..dice.roll(200) {
            std::thread::yield_now();
        }
    }
    zombies.iter().for_each(Engine::shut_down);
    balance(&host);
    for (n, value) in (0..).zip(&values) {
        assert_eq!(host.end(&id(n)), value.to_string(), "{}", id(n));
    }
    host.check_histories();
    assert!(world.reader().outbox(10).unwrap().is_empty());
    count
}

#[test]
fn random_programs_end_as_they_should_though_partitions_move() {
    let seeds = seeds((60, 3_000));
    let count = seeds.end - seeds.start;
    let moved = each_of("joins, ends and deaths", seeds, check_moved);
    assert!(moved > count / 4, "only {moved}");
}
