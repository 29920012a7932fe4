//! A host under a mixed load for as long as one likes: what it holds in memory and open files does not grow.
//!
//! `PERENNIAL_SOAK_SECONDS` says for how long; `make soak` runs it for half an hour.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::time::{Duration, Instant};

use futures::future::join_all;
use perennial::{Client, Filter, Status};
use perennial_tests::{DataDir, module};
use serde_json::{Value, json};

/// Seconds where nobody says for how long.
const SHORT: u64 = 8;

/// Instances at once.
const CROWD: usize = 64;

/// What memory may differ by between two moments of the same load: allocators keep some for later.
const SLACK_BYTES: u64 = 48 << 20;

/// Files that readers open and close as there are many of them or few.
const FILES_SLACK: usize = 16;

/// Bytes in memory, and open files.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    files: usize,
}

fn held() -> Held {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    Held {
        bytes: kib << 10,
        files: std::fs::read_dir("/proc/self/fd").unwrap().count(),
    }
}

/// One instance of the load, from its start to its end.
async fn one(client: &Client, n: usize) {
    let (name, input) = match n % 8 {
        0 => ("Chain", json!(4)),
        1 => ("FanOutN", json!(16)),
        2 => ("CountDown", json!(4)),
        3 => ("Sleep", json!(20)),
        4 => ("ChildSum", json!(2)),
        5 => ("Retries", json!(4)),
        6 => ("Panics", Value::Null),
        _ => ("Wait", Value::Null),
    };
    let id = client.start(name).input(&input).await.unwrap();
    if name == "Wait" && n.is_multiple_of(16) {
        client.terminate(&id, Some("enough")).await.unwrap();
    } else if name == "Wait" {
        client.suspend(&id, None).await.unwrap();
        client.raise_event(&id, "Go", "x").await.unwrap();
        client.resume(&id, None).await.unwrap();
    }
    let limit = Duration::from_secs(120);
    let waited = client.wait_for_completion(&id, limit).await.unwrap();
    let status = waited
        .reached()
        .expect("an instance that was accepted ends");
    let expected = match name {
        "Panics" => Status::Failed,
        "Wait" if n.is_multiple_of(16) => Status::Terminated,
        _ => Status::Completed,
    };
    assert_eq!(status.runtime_status, expected, "{name}: {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_open_files_are_flat_under_load() {
    let seconds = std::env::var("PERENNIAL_SOAK_SECONDS");
    let seconds = seconds.map_or(SHORT, |text| text.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let dir = DataDir::new();
    let host = dir.host().resident_max(256).start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    let (begun, mut samples, mut done) = (Instant::now(), Vec::new(), 0);
    while begun.elapsed() < length || samples.len() < 6 {
        join_all((0..CROWD).map(|n| one(&client, done + n))).await;
        done += CROWD;
        client.purge_where(Filter::new()).await.unwrap();
        samples.push(held());
    }
    // The first third is for caches to fill.
    let third = samples.len() / 3;
    let most = |part: &[Held]| Held {
        bytes: part.iter().map(|held| held.bytes).max().unwrap(),
        files: part.iter().map(|held| held.files).max().unwrap(),
    };
    let (before, after) = (
        most(&samples[third..2 * third]),
        most(&samples[2 * third..]),
    );
    println!(
        "soak: {} s, {done} instances, {} commits; memory {} then {} MiB, files {} then {}",
        begun.elapsed().as_secs(),
        host.stats().commits,
        before.bytes >> 20,
        after.bytes >> 20,
        before.files,
        after.files,
    );
    assert!(
        after.bytes <= before.bytes + before.bytes / 10 + SLACK_BYTES,
        "{before:?} {after:?}"
    );
    assert!(
        after.files <= before.files + FILES_SLACK,
        "{before:?} {after:?}"
    );
    let left = client.counts().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    host.shut_down().await;
}
