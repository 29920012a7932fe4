//! How often a step allocates: a count that does not depend on the clock, so that waste shows where times would not.
//!
//! In a program of its own, whose allocator counts everything that the host and its clients do.

use std::alloc::System;
use std::time::Duration;

use perennial::Client;
use perennial_tests::{DataDir, module};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LIMIT: Duration = Duration::from_secs(120);

/// A third more than was measured when it was last looked at: 122 times, 43 KB.
const STEP_MAX: f64 = 162.0;
const STEP_BYTES_MAX: f64 = 57_000.0;

/// Allocations, and bytes of them.
struct Allocated {
    count: f64,
    bytes: f64,
}

/// What a chain of so many activities allocates, from its start to its end.
async fn chain(client: &Client, steps: u32) -> Allocated {
    let region = Region::new(ALLOCATOR);
    let id = client.start("Chain").input(&steps).await.unwrap();
    let waited = client.wait_for_completion(&id, LIMIT).await.unwrap();
    let status = waited.reached().unwrap();
    assert!(status.failure.is_none(), "{:?}", status.failure);
    let change = region.change();
    Allocated {
        count: change.allocations as f64,
        bytes: change.bytes_allocated as f64,
    }
}

/// What a step of chains of this length allocates more than one of none: the least of several, since others of this process allocate too.
async fn step(client: &Client, steps: u32) -> Allocated {
    let mut least = Allocated {
        count: f64::MAX,
        bytes: f64::MAX,
    };
    for _ in 0..5 {
        let (short, long) = (chain(client, 1).await, chain(client, steps + 1).await);
        least.count = least
            .count
            .min((long.count - short.count) / f64::from(steps));
        least.bytes = least
            .bytes
            .min((long.bytes - short.bytes) / f64::from(steps));
    }
    least
}

#[tokio::test]
async fn a_step_allocates_a_bounded_number_of_times_however_long_the_history() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    // Everything is compiled and in its caches.
    chain(&client, 50).await;
    let (few, many) = (step(&client, 100).await, step(&client, 1_000).await);
    println!(
        "a step allocates {:.0} times, {:.0} bytes; of a chain ten times as long {:.0} times, {:.0} bytes",
        few.count, few.bytes, many.count, many.bytes
    );
    assert!(few.count < STEP_MAX, "{}", few.count);
    assert!(few.bytes < STEP_BYTES_MAX, "{}", few.bytes);
    assert!(many.count < few.count * 1.1, "{} {}", few.count, many.count);
    host.shut_down().await;
}
