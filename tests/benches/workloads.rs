//! Whole workloads on a real hub, synced to disk, against what the same disk does bare. Prints a report; gates nothing.
#![allow(missing_docs, reason = "a benchmark is a program")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use perennial::{ActivityContext, Client, Failure, Host};
use perennial_tests::{DataDir, module};

const LIMIT: Duration = Duration::from_secs(300);
const ROUNDS: usize = 5;

/// Single-row commits, each synced, for so long: what the disk gives.
fn bare_commits(dir: &Path, span: Duration) -> f64 {
    let path = dir.join("bare.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS t (v)",
    )
    .unwrap();
    let mut insert = db.prepare("INSERT INTO t VALUES (1)").unwrap();
    let begun = Instant::now();
    let mut commits = 0u32;
    while begun.elapsed() < span {
        insert.execute([]).unwrap();
        commits += 1;
    }
    f64::from(commits) / begun.elapsed().as_secs_f64()
}

async fn one(client: &Client, name: &str, input: u32) {
    let id = client.start(name).input(&input).await.unwrap();
    let status = client
        .wait_for_completion(&id, LIMIT)
        .await
        .unwrap()
        .ended()
        .unwrap();
    assert!(status.failure.is_none(), "{:?}", status.failure);
}

/// Instances per second with so many in flight.
async fn throughput(
    client: &Client,
    name: &'static str,
    in_flight: usize,
    span: Duration,
) -> (f64, u32) {
    let done = Arc::new(AtomicU32::new(0));
    let begun = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (client, done) = (client.clone(), Arc::clone(&done));
        lanes.spawn(async move {
            while begun.elapsed() < span {
                let id = client.start(name).await.unwrap();
                client
                    .wait_for_completion(&id, LIMIT)
                    .await
                    .unwrap()
                    .ended()
                    .unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while lanes.join_next().await.is_some() {}
    let done = done.load(Ordering::Relaxed);
    (f64::from(done) / begun.elapsed().as_secs_f64(), done)
}

/// Processor seconds that this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // In ticks of a hundredth of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Processor seconds of the threads that live now, to the nanosecond: what an idle host uses is less than a tick.
fn thread_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = tasks.filter_map(|task| {
        let schedstat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        schedstat.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What something costs for each of so many steps, in milliseconds: of the processor, and by the clock.
async fn cost(steps: u32, work: impl Future<Output = ()>) -> Cost {
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    work.await;
    let per_step = |seconds: f64| seconds * 1e3 / f64::from(steps);
    (
        per_step(cpu_seconds() - cpu),
        per_step(begun.elapsed().as_secs_f64()),
    )
}

/// Milliseconds of the processor and by the clock.
type Cost = (f64, f64);

/// Prints the costs of one step in two workloads, which were measured in turn, and how they compare.
fn compare(what: &str, rounds: &[(Cost, Cost)]) {
    let of = |pick: fn(&(Cost, Cost)) -> f64| median(rounds.iter().map(pick).collect());
    println!(
        "{what}: {:.3} against {:.3} ms of CPU a step, {:.2} times; {:.3} against {:.3} ms by the clock, {:.2} times",
        of(|round| round.0.0),
        of(|round| round.1.0),
        of(|round| round.0.0 / round.1.0),
        of(|round| round.0.1),
        of(|round| round.1.1),
        of(|round| round.0.1 / round.1.1),
    );
}

/// A step must not cost more because many came before it.
async fn long_chain(client: &Client) {
    const LONG: u32 = 10_000;
    const SHORT: u32 = 100;
    const SHORTS: u32 = 20;
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let short = async {
            for _ in 0..SHORTS {
                one(client, "NativeChain", SHORT).await;
            }
        };
        let short = cost(SHORT * SHORTS, short).await;
        let long = cost(LONG, one(client, "NativeChain", LONG)).await;
        rounds.push((long, short));
    }
    compare("a chain of 10,000 against chains of 100", &rounds);
}

/// Many at once, against as many in ten chains at once.
async fn wide_fan_out(client: &Client) {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let wide = cost(1_000, one(client, "FanOutN", 1_000)).await;
        let chains = async {
            let mut chains = tokio::task::JoinSet::new();
            for _ in 0..10 {
                let client = client.clone();
                chains.spawn(async move { one(&client, "Chain", 100).await });
            }
            chains.join_all().await;
        };
        rounds.push((wide, cost(1_000, chains).await));
    }
    compare("a fan-out of 1,000 against 10 chains of 100", &rounds);
}

async fn host(dir: &DataDir) -> Host {
    let native = |_: ActivityContext, value: u32| async move { Ok::<_, Failure>(value) };
    let host = dir.host().activity("Native", native).start().await.unwrap();
    let client = host.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    client.deploy(module("workloads")).await.unwrap();
    host
}

#[tokio::main]
async fn main() {
    let dir = DataDir::new();
    let host = host(&dir).await;
    let client = host.client();
    one(&client, "Chain", 10).await;
    println!(
        "hello-sequence: 3 wasm activities; every turn synced to disk (WAL, synchronous = FULL)"
    );

    let before = host.stats();
    let mut latencies = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        let id = client.start("HelloSequence").await.unwrap();
        client
            .wait_for_completion(&id, LIMIT)
            .await
            .unwrap()
            .ended()
            .unwrap();
        latencies.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let after = host.stats();
    println!(
        "1 in flight: {:.2} commits an instance, median {:.2} ms",
        (after.commits - before.commits) as f64 / 50.0,
        median(latencies)
    );

    let (mut ours, mut bare, mut ratios, mut commits, mut cpu) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let limit = bare_commits(dir.path(), Duration::from_secs(2));
        let (before, cpu_before) = (host.stats(), cpu_seconds());
        let (rate, done) = throughput(&client, "HelloSequence", 64, Duration::from_secs(2)).await;
        commits.push((host.stats().commits - before.commits) as f64 / f64::from(done));
        cpu.push((cpu_seconds() - cpu_before) * 1e3 / f64::from(done));
        ours.push(rate);
        bare.push(limit);
        ratios.push(rate / limit);
    }
    println!(
        "64 in flight: {:.0} instances/s; bare single-row commits {:.0}/s; ratio {:.2}; {:.3} commits and {:.2} ms of CPU an instance",
        median(ours),
        median(bare),
        median(ratios),
        median(commits),
        median(cpu)
    );

    for (name, n) in [("Chain", 100), ("NativeChain", 100), ("NativeChain", 2_000)] {
        let (before, begun) = (host.stats(), Instant::now());
        one(&client, name, n).await;
        let commits = host.stats().commits - before.commits;
        println!(
            "{name} of {n}: {commits} commits, {:.3} ms a step",
            begun.elapsed().as_secs_f64() * 1e3 / f64::from(n)
        );
    }
    for n in [100, 1_000] {
        let (before, begun) = (host.stats(), Instant::now());
        one(&client, "FanOutN", n).await;
        let commits = host.stats().commits - before.commits;
        println!(
            "FanOutN of {n}: {commits} commits, {:.0} activities/s",
            f64::from(n) / begun.elapsed().as_secs_f64()
        );
    }

    long_chain(&client).await;
    wide_fan_out(&client).await;

    const WAITING: usize = 10_000;
    let begun = Instant::now();
    let mut starts = tokio::task::JoinSet::new();
    for lane in 0..64 {
        let client = client.clone();
        starts.spawn(async move {
            for i in (lane..WAITING).step_by(64) {
                client.start("Wait").id(format!("wait-{i}")).await.unwrap();
            }
        });
    }
    while starts.join_next().await.is_some() {}
    println!(
        "{WAITING} starts: {:.0}/s; {} guests resident",
        WAITING as f64 / begun.elapsed().as_secs_f64(),
        host.stats().resident
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, begun) = (thread_seconds(), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (thread_seconds() - before) / begun.elapsed().as_secs_f64() * 100.0;
    println!("idle with {WAITING} waiting: {share:.3} % of a core over 10 s");
    host.shut_down().await;
}
