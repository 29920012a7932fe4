//! An instance beside many activities of another, that sleep, compute or are over at once: it waits at most three times as long as it waits
//! alone, and for one attempt.

use std::time::{Duration, Instant};

use perennial::{ActivityContext, Client, Failure, Host, Limits};
use perennial_tests::{DataDir, module};

use super::completes;

/// How long one attempt of those takes that take long.
const LONG: Duration = Duration::from_millis(700);

/// Activities of the other instance.
const WIDE: u32 = 2_000;
const WIDE_LONG: u32 = 100_000;

fn wide() -> u32 {
    match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => WIDE_LONG,
        None => WIDE,
    }
}

/// A host whose activity `Native` does this.
async fn host(dir: &DataDir, does: fn() -> Option<Duration>) -> Host {
    let limits = Limits {
        actions_per_turn: 2 * WIDE_LONG,
        action_bytes_per_turn: 256 << 20,
        memory_bytes: 1 << 30,
        fuel_base: 1 << 40,
        ..Limits::default()
    };
    let native = move |_: ActivityContext, n: u32| async move {
        if let Some(sleeps) = does() {
            tokio::time::sleep(sleeps).await;
        }
        Ok::<_, Failure>(n)
    };
    let host = dir.host().limits(limits).activity("Native", native);
    let host = host.start().await.unwrap();
    host.client().deploy(module("workloads")).await.unwrap();
    host
}

/// The longest of some runs of a chain of three activities.
async fn longest(client: &Client, name: &str) -> Duration {
    let mut longest = Duration::ZERO;
    for n in 0..5 {
        let (id, begun) = (format!("{name}-{n}"), Instant::now());
        client.start("Chain").id(&id).input(&3).await.unwrap();
        completes(client, &id).await;
        longest = longest.max(begun.elapsed());
    }
    longest
}

async fn check(does: fn() -> Option<Duration>, attempt: Duration) {
    let dir = DataDir::new();
    let host = host(&dir, does).await;
    let client = host.client();
    // The first loads the module.
    longest(&client, "first").await;
    let alone = longest(&client, "alone").await;
    let wide = wide();
    let others = client.start("NativeFanOutN").id("wide").input(&wide);
    others.await.unwrap();
    while host.stats().activities_running < 40 && host.stats().activity_attempts < 200 {
        tokio::task::yield_now().await;
    }
    let beside = longest(&client, "beside").await;
    println!("alone {alone:?}, beside {wide} others {beside:?}");
    // What a machine with other work adds to both.
    let slack = Duration::from_millis(300);
    assert!(
        beside <= 3 * alone + attempt + slack,
        "alone {alone:?}, beside the others {beside:?}"
    );
    // The quick ones may be done by now.
    let _ = client.terminate("wide", None).await;
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_sleepers() {
    // They sleep long, and nobody waits for one of them: each step would.
    check(|| Some(LONG), Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_spinners() {
    let spins = || {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        None
    };
    // Each of the 56 that run at once takes its 5 ms of two cores before the next step's attempt has its turn on the runtime.
    check(spins, Duration::from_millis(2_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_quick_ones() {
    check(|| None, Duration::from_millis(500)).await;
}
