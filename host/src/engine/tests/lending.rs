//! Remote workers that are connected to one of the hosts that share a hub.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use perennial_core::Millis;
use tokio::sync::mpsc::UnboundedReceiver;

use super::moves::balance;
use super::remote::{everything, remote, turn, world};
use super::world::*;
use crate::engine::remote::messages::HostMessage;
use crate::engine::remote::report::RemoteWorkers;
use crate::engine::remote::{ActivityItem, Connection, Offer, WorkItem};
use crate::engine::{Engine, Request};
use crate::store::Reply;

/// So many hosts that share a hub, each with its share.
fn shared(world: &World, hosts: usize) -> Host<'_> {
    let mut host = world.open();
    for _ in 1..hosts {
        host.join();
    }
    balance(&host);
    host
}

/// An id of an instance that this engine runs.
fn id_of(engine: &Engine, nth: usize) -> String {
    let ids = (0..).map(|n| format!("i{n}"));
    let mut own = ids.filter(|id| engine.partitions().elsewhere(id).is_none());
    own.nth(nth).unwrap()
}

/// The workers that each engine knows, those of others included.
fn known(host: &Host<'_>) -> Vec<usize> {
    let count = |engine: &Arc<Engine>| engine.known_workers();
    host.engines.iter().map(count).collect()
}

/// Looks with all engines until each knows so many workers.
fn until_known(host: &Host<'_>, workers: usize) {
    while known(host).iter().any(|count| *count != workers) {
        host.engines
            .iter()
            .for_each(|engine| _ = engine.balance().unwrap());
    }
}

/// Starts an instance, whose first turn may wait for a worker.
fn starts(host: &Host<'_>, id: &str) {
    let engine = Arc::clone(host.of(id));
    let start = remote("Chain", None, id, None);
    host.world.spawn(async move { engine.submit(start).await });
}

/// The next activity. Turns before it are answered: the first one with a new name may come twice, because the hub learns the name meanwhile.
fn next_activity(host: &Host<'_>, items: &mut UnboundedReceiver<WorkItem>) -> Box<ActivityItem> {
    loop {
        match host.item(items) {
            WorkItem::Activity(item) => return item,
            WorkItem::Orchestration(item) => {
                let answer = host.programs().answer(&item);
                host.engine.orchestration_answered(&item.token, answer);
            }
        }
    }
}

fn connect(engine: &Arc<Engine>, offer: Offer) -> (Connection, UnboundedReceiver<WorkItem>) {
    engine.connect(offer)
}

#[test]
fn a_worker_runs_what_all_hosts_have_for_it() {
    let world = world().and("Chain", chain("Elsewhere", 3)).shared_by(1);
    let host = shared(&world, 3);
    let worker = host.worker();
    until_known(&host, 1);
    let ids: Vec<String> = host
        .engines
        .iter()
        .flat_map(|engine| (0..4).map(|nth| id_of(engine, nth)))
        .collect();
    for id in &ids {
        starts(&host, id);
    }
    for id in &ids {
        assert_eq!(host.end(id), "2", "{id}");
    }
    until_known(&host, 1);
    let counted = host.engines.iter().map(|engine| engine.remote_counts().0);
    assert_eq!(counted.sum::<usize>(), 1, "it is counted where it is");
    for engine in &host.engines {
        let (replies, is_all) = world.block_on("all", engine.ask_hosts(Request::Workers));
        assert!(is_all);
        let mut workers = RemoteWorkers::default();
        for reply in replies {
            let Reply::Workers(text) = reply else {
                panic!("{reply:?}")
            };
            workers.extend(RemoteWorkers::from_text(&text).unwrap());
        }
        assert_eq!(workers.connected.len(), 1, "every host tells of it");
    }
    // It goes, and nobody knows it any more.
    worker.abort();
    until_known(&host, 0);
    host.check_histories();
}

#[test]
fn a_host_gives_items_to_workers_of_its_own_first() {
    let world = world().and("Chain", chain("Elsewhere", 2)).shared_by(1);
    let host = shared(&world, 2);
    let _first = host.worker();
    let (_connection, mut items) = connect(&host.engines[1], everything(9, 9));
    until_known(&host, 2);
    let id = id_of(&host.engines[0], 0);
    starts(&host, &id);
    assert_eq!(host.end(&id), "1");
    assert!(
        items.try_recv().is_err(),
        "the worker of the other host had something to do"
    );
}

#[test]
fn a_worker_gets_no_more_items_at_once_than_it_takes() {
    let world = world().and("Chain", chain("Elsewhere", 1)).shared_by(1);
    let host = shared(&world, 2);
    let (_connection, mut items) = connect(&host.engines[0], everything(1, 1));
    until_known(&host, 1);
    let ids: Vec<String> = host
        .engines
        .iter()
        .flat_map(|engine| (0..3).map(|nth| id_of(engine, nth)))
        .collect();
    for id in &ids {
        starts(&host, id);
    }
    let (programs, engine) = (host.programs(), Arc::clone(&host.engine));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    world.spawn(async move {
        let mut here = VecDeque::new();
        loop {
            if here.is_empty() {
                here.extend(items.recv().await);
            }
            here.extend(std::iter::from_fn(|| items.try_recv().ok()));
            let is_turn = |item: &&WorkItem| matches!(item, WorkItem::Orchestration(_));
            let turns = here.iter().filter(is_turn).count();
            seen.fetch_max(turns.max(here.len() - turns), Ordering::Relaxed);
            match here.pop_front().unwrap() {
                WorkItem::Orchestration(item) => {
                    engine.orchestration_answered(&item.token, programs.answer(&item));
                }
                WorkItem::Activity(item) => {
                    engine.activity_answered(&item.token, Ok(item.input.clone()));
                }
            }
        }
    });
    for id in &ids {
        assert_eq!(host.end(id), "0", "{id}");
    }
    assert_eq!(most.load(Ordering::Relaxed), 1);
}

#[test]
fn what_a_lost_worker_had_of_another_host_goes_to_the_next_one() {
    let world = world().and("Chain", chain("Elsewhere", 1)).shared_by(1);
    let host = shared(&world, 2);
    let (connection, mut items) = connect(&host.engines[0], everything(5, 5));
    until_known(&host, 1);
    let id = id_of(&host.engines[1], 0);
    starts(&host, &id);
    let lost = turn(host.item(&mut items));
    assert_eq!(lost.instance_id, id);
    drop(connection);
    let (connection, mut items) = connect(&host.engines[0], everything(5, 5));
    let again = turn(host.item(&mut items));
    assert_eq!(again.instance_id, id);
    let answer = host.programs().answer(&again);
    assert!(
        !host
            .engine
            .orchestration_answered(&lost.token, answer.clone()),
        "the answer of the lost one counts"
    );
    assert!(host.engine.orchestration_answered(&again.token, answer));
    let work = next_activity(&host, &mut items);
    // It is given back, and comes again.
    assert!(host.engine.abandoned(&work.token));
    drop(connection);
    let _worker = host.worker();
    // Its host hears of that some time.
    while !host.row(&id).unwrap().status.is_end() {
        world.clock.advance(Millis(1_000));
        std::thread::yield_now();
    }
    assert_eq!(host.end(&id), "0");
    host.check_histories();
}

#[test]
fn what_a_dead_host_had_for_its_workers_goes_to_workers_elsewhere() {
    let world = world().and("Chain", chain("Elsewhere", 1)).shared_by(1);
    let mut host = shared(&world, 2);
    let (_connection, mut items) = connect(&host.engines[0], everything(5, 5));
    until_known(&host, 1);
    let id = id_of(&host.engines[1], 0);
    starts(&host, &id);
    let item = turn(host.item(&mut items));
    assert_eq!(item.instance_id, id);
    let dead = host.engines.remove(0);
    world.declare_dead(dead.epoch().unwrap());
    host.engine = Arc::clone(&host.engines[0]);
    until_known(&host, 0);
    let _worker = host.worker();
    assert_eq!(host.end(&id), "0");
    host.check_histories();
}

#[test]
fn an_answer_may_come_by_way_of_any_host_and_counts_once() {
    let world = world().and("Chain", chain("Elsewhere", 1)).shared_by(1);
    let host = shared(&world, 2);
    let (_connection, mut items) = connect(&host.engines[0], everything(5, 5));
    let other = Arc::clone(&host.engines[1]);
    let id = id_of(&host.engines[0], 0);
    starts(&host, &id);
    let item = turn(host.item(&mut items));
    let there = other.host_of_token(&item.token);
    assert_eq!(there, host.engines[0].epoch());
    assert_eq!(host.engines[0].host_of_token(&item.token), None);
    until_known(&host, 1);
    let answer = Box::new(host.programs().answer(&item));
    for _ in 0..2 {
        let message = HostMessage::TurnAnswered {
            token: item.token.clone(),
            answer: answer.clone(),
        };
        let told = other.tell_host(there.unwrap(), message);
        assert!(world.block_on("an answer", told).unwrap());
    }
    let work = next_activity(&host, &mut items);
    let message = HostMessage::ActivityAnswered {
        token: work.token.clone(),
        outcome: Ok(work.input.clone()),
    };
    let told = other.tell_host(there.unwrap(), message);
    assert!(world.block_on("an answer", told).unwrap());
    let item = turn(host.item(&mut items));
    let answer = host.programs().answer(&item);
    assert!(host.engine.orchestration_answered(&item.token, answer));
    assert_eq!(host.end(&id), "0");
    // A host that is gone is told nothing.
    let gone = other.tell_host(
        -7,
        HostMessage::Lost {
            token: String::new(),
        },
    );
    assert!(!world.block_on("an answer", gone).unwrap());
}

#[test]
fn no_worker_gets_an_attempt_while_its_host_is_not_sure_to_own_the_hub() {
    let world = world().and("Chain", chain("Elsewhere", 1)).shared_by(1);
    let host = shared(&world, 1);
    let (_connection, mut items) = connect(&host.engine, everything(5, 5));
    let faults = host.faults();
    faults.unsure.store(true, Ordering::Release);
    starts(&host, "a");
    while host.row("a").is_none_or(|row| row.turns == 0) {
        match items.try_recv() {
            Ok(WorkItem::Orchestration(item)) => {
                let answer = host.programs().answer(&item);
                host.engine.orchestration_answered(&item.token, answer);
            }
            Ok(WorkItem::Activity(_)) => panic!("it may run elsewhere"),
            Err(_) => std::thread::yield_now(),
        }
    }
    host.until("a", |row| row.turns == 1);
    let mut all = std::iter::from_fn(|| items.try_recv().ok());
    let is_early = all.any(|item| matches!(item, WorkItem::Activity(_)));
    assert!(!is_early, "it may run elsewhere");
    faults.unsure.store(false, Ordering::Release);
    let item = next_activity(&host, &mut items);
    assert_eq!(item.name, "Elsewhere");
}
