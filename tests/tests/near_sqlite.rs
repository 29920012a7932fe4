//! How near the engine comes to a program that only writes the same rows in as many transactions: a ratio of rates that are measured in
//! turn, so that a slow machine is slow for both. It holds against a loss of several times, not of percents: `make bench` has the figure.

#[path = "../benches/suite/limit.rs"]
#[allow(dead_code, reason = "the benchmark measures more of it")]
mod limit;

use std::time::{Duration, Instant};

use perennial::{Client, Host};
use perennial_tests::{DataDir, module};

use limit::{Bare, Script};

const LANES: usize = 64;

/// Instances of each lane in a round.
const EACH: usize = 12;

const ROUNDS: usize = 5;

/// What was measured is 0.49, with the benchmark's build on a quiet machine of two processors; this build has its assertions.
const AT_LEAST: f64 = 0.1;

const LIMIT: Duration = Duration::from_secs(120);

async fn one(client: &Client) -> String {
    let id = client.start("HelloSequence").await.unwrap();
    let waited = client.wait_for_completion(&id, LIMIT).await.unwrap();
    assert!(waited.reached().unwrap().failure.is_none());
    id
}

/// Instances for each second, and turns in each transaction.
async fn round(host: &Host) -> (f64, f64) {
    let (before, begun) = (host.stats(), Instant::now());
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..LANES {
        let client = host.client();
        lanes.spawn(async move {
            for _ in 0..EACH {
                one(&client).await;
            }
        });
    }
    lanes.join_all().await;
    let (seconds, after) = (begun.elapsed().as_secs_f64(), host.stats());
    let turns = (after.changes - before.changes) as f64;
    (
        (LANES * EACH) as f64 / seconds,
        turns / (after.commits - before.commits) as f64,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_come_near_to_bare_sqlite() {
    let (dir, bare_dir) = (DataDir::new(), DataDir::new());
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    let template = one(&client).await;
    let script = Script::of(&dir.path().join("default.db"), &template);
    let mut bare = Bare::new(bare_dir.path(), script);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (ours, batch) = round(&host).await;
        let span = Duration::from_secs_f64((LANES * EACH) as f64 / ours);
        let theirs = bare.run(LANES, batch.round() as usize, span);
        ratios.push(ours / theirs.instances);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    println!("{median:.2} of bare SQLite: {ratios:.2?}");
    assert!(median >= AT_LEAST, "{ratios:.2?} of bare SQLite");
    host.shut_down().await;
}
