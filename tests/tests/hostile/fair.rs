//! An instance beside many activities of another, that sleep, compute or are over at once: it waits at most three times as long as it waits
//! alone, and for one attempt.

use std::time::{Duration, Instant};

use perennial::{ActivityContext, Client, Failure, Host, Limits};
use perennial_tests::{DataDir, module};

use super::completes;

/// How long one attempt of those takes that take long.
const LONG: Duration = Duration::from_millis(700);

/// How long those compute that do.
const SPIN: Duration = Duration::from_millis(5);

/// Steps of the instance that is beside the others.
const STEPS: u32 = 3;

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

/// The longest of some runs of a chain of activities.
async fn longest(client: &Client, chain: &str, name: &str) -> Duration {
    let mut longest = Duration::ZERO;
    for n in 0..5 {
        let (id, begun) = (format!("{name}-{chain}-{n}"), Instant::now());
        client.start(chain).id(&id).input(&STEPS).await.unwrap();
        completes(client, &id).await;
        longest = longest.max(begun.elapsed());
    }
    longest
}

/// Chains alone and beside a fan-out.
async fn check(fan_out: &str, chains: &[&str], does: fn() -> Option<Duration>, attempt: Duration) {
    let dir = DataDir::new();
    let host = host(&dir, does).await;
    let client = host.client();
    let mut alone = Vec::new();
    for chain in chains {
        // The first loads the module.
        longest(&client, chain, "first").await;
        alone.push(longest(&client, chain, "alone").await);
    }
    let wide = wide();
    let attempts = host.stats().activity_attempts;
    client.start(fan_out).id("wide").input(&wide).await.unwrap();
    while host.stats().activities_running < 40 && host.stats().activity_attempts < attempts + 200 {
        tokio::task::yield_now().await;
    }
    for (chain, alone) in chains.iter().zip(alone) {
        let beside = longest(&client, chain, "beside").await;
        let done = host.stats().activity_attempts - attempts;
        println!("{chain} alone {alone:?}, beside {wide} of {fan_out} {beside:?}; {done} done");
        // What a machine with other work adds to both.
        let slack = Duration::from_millis(100);
        assert!(
            beside <= 3 * alone + attempt + slack,
            "{chain} alone {alone:?}, beside {fan_out} {beside:?}"
        );
    }
    // The quick ones may be done by now.
    let _ = client.terminate("wide", None).await;
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_sleepers() {
    // They sleep long, and nobody waits for one of them: each step would.
    check("NativeFanOutN", &["Chain"], || Some(LONG), Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_closures_that_compute() {
    let spins = || {
        let begun = Instant::now();
        while begun.elapsed() < SPIN {
            std::hint::spin_loop();
        }
        None
    };
    check("NativeFanOutN", &["Chain", "NativeChain"], spins, SPIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_modules_that_compute() {
    check("SpinOutN", &["Chain", "NativeChain"], || None, SPIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_quick_ones() {
    let chains = ["Chain", "NativeChain"];
    check("NativeFanOutN", &chains, || None, Duration::ZERO).await;
}
