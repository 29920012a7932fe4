//! Random programs on a disk that fails, delays, and reports errors for writes that succeeded. A seed determines the programs, the faults
//! and the disturbances, but not the order of threads, which must not matter.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::places::runs;
use super::random::{Dice, Input, Op, world};
use super::world::*;
use crate::engine::Request;
use crate::store::{Reply, StoreError};

/// Number of seeds in a usual run, and in a long one.
const SEEDS: (u64, u64) = (200, 5_000);

/// Number of programs per seed.
const PROGRAMS: u64 = 3;

/// Number of disturbed hosts before the one in which everything ends.
const LIVES: u64 = 3;

/// The seeds to run: the one in `PERENNIAL_SEED`, those of `PERENNIAL_SEED=from..to`, or a default number.
pub(super) fn seeds(counts: (u64, u64)) -> Range<u64> {
    match std::env::var("PERENNIAL_SEED") {
        Ok(seed) => {
            let number = |text: &str| {
                text.parse::<u64>()
                    .expect("PERENNIAL_SEED is a number, or two")
            };
            match seed.split_once("..") {
                Some((from, to)) => number(from)..number(to),
                None => number(&seed)..number(&seed) + 1,
            }
        }
        Err(_) => 0..runs(counts),
    }
}

/// Prints the seed when a test fails.
pub(super) struct Named(pub(super) u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("PERENNIAL_SEED={} runs it again", self.0);
        }
    }
}

/// Runs the seeds in parallel, and returns (and prints) the sum of their counts.
pub(super) fn each_of(what: &str, seeds: Range<u64>, check: fn(u64) -> u64) -> u64 {
    let (count, begun) = (seeds.end - seeds.start, std::time::Instant::now());
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut counted = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return counted;
            }
            counted += check(seed);
        }
    };
    // They wait for the disk more than they compute.
    let counted: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count.min(6)).map(|_| scope.spawn(work)).collect();
        let counted = workers.into_iter().map(|worker| worker.join());
        counted.map(|counted| counted.expect("a seed failed")).sum()
    });
    eprintln!("{count} seeds, {counted} {what}, {:?}", begun.elapsed());
    let of_connections = crate::store::faults_of_connections();
    if !of_connections.is_empty() {
        eprintln!("faults of connections until now: {of_connections:?}");
    }
    counted
}

/// Repeats a request until it is accepted. A refused request must not have taken effect.
fn insist(host: &Host<'_>, ask: impl Fn() -> Request, happened: impl Fn() -> bool) {
    loop {
        match host.submit(ask()) {
            Ok(Reply::Done) => return,
            Ok(reply) => panic!("{reply:?}"),
            Err(error) => {
                assert!(!happened(), "it was refused, and happened: {error}");
                host.advance(200);
            }
        }
    }
}

fn id(n: u64) -> String {
    format!("p{n}")
}

/// Starts the programs, sends their events, and returns their expected results.
fn begin(host: &Host<'_>, dice: &mut Dice) -> Vec<u64> {
    let mut values = Vec::new();
    for n in 0..PROGRAMS {
        let mut events = 0;
        let rounds: Vec<Op> = (0..1 + dice.roll(2))
            .map(|_| Op::random(dice, 3, &mut events))
            .collect();
        values.push(rounds.iter().map(Op::value).sum());
        let input = json(serde_json::to_string(&Input { sum: 0, rounds }).unwrap());
        insist(
            host,
            || start("Program", &id(n), Some(input.clone())),
            || host.row(&id(n)).is_some(),
        );
        for event in 0..events {
            // The result of the program shows whether each event took effect exactly once.
            let raise = || Request::RaiseEvent {
                id: id(n),
                name: format!("e{event}"),
                data: Some(json(10_000 + event)),
            };
            insist(host, raise, || false);
        }
    }
    values
}

fn disturb(host: &Host<'_>, dice: &mut Dice) {
    let id = id(dice.roll(PROGRAMS));
    let told = match dice.roll(if host.world.with_worker { 9 } else { 8 }) {
        8 => {
            host.lose_worker();
            Ok(Reply::Done)
        }
        0 => {
            host.evict_all();
            Ok(Reply::Done)
        }
        1 => host.submit(Request::Suspend {
            id,
            reason: None,
            recursive: false,
        }),
        2 | 3 => resume(host, id),
        _ => {
            host.advance(dice.roll(1_500));
            Ok(Reply::Done)
        }
    };
    let is_lawful = matches!(
        told,
        Ok(Reply::Done | Reply::Nothing | Reply::Rejected(_))
            | Err(StoreError::Database(_) | StoreError::File { .. })
    );
    assert!(is_lawful, "{told:?}");
    for _ in 0..dice.roll(100) {
        std::thread::yield_now();
    }
}

fn resume(host: &Host<'_>, id: String) -> Result<Reply, StoreError> {
    host.submit(Request::Resume {
        id,
        reason: None,
        module: None,
        recursive: false,
    })
}

fn all_ended(host: &Host<'_>) -> bool {
    (0..PROGRAMS).all(|n| host.row(&id(n)).unwrap().status.is_end())
}

/// Runs one seed, and returns the number of faulty writes.
fn check(seed: u64) -> u64 {
    check_in(world(), seed)
}

fn check_in(mut world: World, seed: u64) -> u64 {
    let _named = Named(seed);
    let mut dice = Dice(seed);
    world.config.resident_max = [0, 2, 1_000][dice.roll(3) as usize];
    // Every third world has the programs of a worker, which one engine runs.
    let remote = seed.is_multiple_of(3) && !world.is_divided();
    (world.remote, world.with_worker) = (remote, remote);
    let done = Arc::<Mutex<Vec<String>>>::default();
    let told = Arc::clone(&done);
    world.activities.add("Echo", move |attempt| {
        told.lock().unwrap().push(attempt.idempotency_key());
        Ok(attempt.input)
    });
    let one_in = 2 + dice.roll(30);
    let (mut values, mut dealt) = (Vec::new(), 0);
    for life in 0..=LIVES {
        let recorded = if life == 0 {
            BTreeSet::new()
        } else {
            world.recorded()
        };
        let before = world.activities.began().len();
        world.settle();
        done.lock().unwrap().clear();
        let host = world.open();
        for (n, faults) in (0..).zip(host.all_faults()) {
            faults.follow(seed * 16 + life + n * 1_000_003, one_in);
        }
        if life == 0 {
            values = begin(&host, &mut dice);
        }
        if life < LIVES {
            (0..dice.roll(10)).for_each(|_| disturb(&host, &mut dice));
        } else {
            while !all_ended(&host) {
                disturb(&host, &mut dice);
            }
        }
        dealt += host.all_faults().map(|faults| faults.dealt()).sum::<u64>();
        let began = world.activities.began().split_off(before);
        let again = began.iter().find(|(key, _)| recorded.contains(key));
        assert_eq!(again, None, "its result was in the hub");
        // A host that keeps running keeps results that it could not write yet.
        let done = std::mem::take(&mut *done.lock().unwrap());
        let once: BTreeSet<&String> = done.iter().collect();
        assert_eq!(once.len(), done.len(), "what succeeded ran again: {done:?}");
        if life == LIVES {
            host.all_faults().for_each(|faults| faults.cease());
            for (n, value) in (0..).zip(&values) {
                assert_eq!(host.end(&id(n)), value.to_string(), "{}", id(n));
            }
            host.check_histories();
        } else if dice.roll(2) == 0 {
            let image = world.crash_image();
            drop(host);
            world = image;
        }
    }
    dealt
}

#[test]
fn random_programs_end_as_they_should_whatever_the_disk_does() {
    let seeds = seeds(SEEDS);
    let count = seeds.end - seeds.start;
    let dealt = each_of("faults", seeds, check);
    assert!(dealt > count, "only {dealt} faults");
}

/// The store in memory waits for no disk, so that many more seeds than these are soon run: `PERENNIAL_LONG` runs 5,000.
#[test]
fn random_programs_end_as_they_should_on_a_store_in_memory_that_fails() {
    let seeds = seeds(SEEDS);
    let count = seeds.end - seeds.start;
    let dealt = each_of("faults", seeds, |seed| check_in(world().in_memory(), seed));
    assert!(dealt > count, "only {dealt} faults");
}

/// Several engines have the partitions of a hub, and others have them after each host that stopped.
#[test]
fn random_programs_end_as_they_should_on_partitions_that_change_their_owners() {
    let seeds = seeds(SEEDS);
    let count = seeds.end - seeds.start;
    let dealt = each_of("faults", seeds, |seed| check_in(world().divided(), seed));
    assert!(dealt > count, "only {dealt} faults");
}
