//! W6: an instance whose guest is not in memory, and its next step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial::{ActivityContext, Client, Failure, Host};
use perennial_tests::{DataDir, module};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::charts::line;
use crate::measure::{LIMIT, data_dir, is_quick, median, percentile, rounds};
use crate::section::{Section, number};

/// Wakes of one instance in a round.
const WAKES: u32 = 5;

/// A host that is told of each step after the first ones.
async fn host(dir: &DataDir, stepped: UnboundedSender<u32>) -> Host {
    let native = |_: ActivityContext, value: u32| async move { Ok::<_, Failure>(value) };
    let stepped = Arc::new(stepped);
    let tell = move |_: ActivityContext, value: u32| {
        let stepped = Arc::clone(&stepped);
        async move {
            let _ = stepped.send(value);
            Ok::<_, Failure>(value)
        }
    };
    let host = dir
        .host()
        .activity("Native", native)
        .activity("Stepped", tell)
        .start()
        .await
        .unwrap();
    host.client().deploy(module("workloads")).await.unwrap();
    host
}

/// Milliseconds from raising an event to the step that it leads to: the turn is on disk, and the activity it calls runs.
async fn step(client: &Client, id: &str, value: u32, stepped: &mut UnboundedReceiver<u32>) -> f64 {
    let begun = Instant::now();
    client.raise_event(id, "Go", &value).await.unwrap();
    while stepped.recv().await != Some(value) {}
    begun.elapsed().as_secs_f64() * 1e3
}

/// Waits until so many turns have run.
async fn turns_reach(host: &Host, turns: u64) {
    let deadline = Instant::now() + LIMIT;
    while host.stats().turns < turns {
        assert!(Instant::now() < deadline, "{:?}", host.stats());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Drops the guest of the instance, once it rests after its last turn.
async fn evict(host: &Host) {
    let deadline = Instant::now() + LIMIT;
    while host.evict_all() == 0 {
        assert!(Instant::now() < deadline, "{:?}", host.stats());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        "W6",
        "cold wake: the next step of an instance that is not in memory",
        "An instance has made so many steps of a native activity, a turn each, and waits for an event. Its guest is dropped, the event is raised, and \
         the clock stops when the activity that it leads to runs: the history was read and repeated, and the turn is on disk. In turn with the \
         same step of the same instance while its guest is in memory.",
    );
    let lengths: &[u32] = if is_quick() {
        &[10, 100]
    } else {
        &[10, 1_000, 10_000]
    };
    let dir = data_dir();
    let (tell, mut stepped) = unbounded_channel();
    let host = host(&dir, tell).await;
    let client = host.client();
    let (mut points, mut rows, mut value) = (vec![], vec![], 0);
    for turns in lengths {
        let begun = host.stats().turns;
        let id = client.start("StepsThenEvents").input(turns).await.unwrap();
        let mut reached = begun + u64::from(*turns) + 1;
        let (mut cold, mut warm) = (vec![], vec![]);
        for _ in 0..WAKES as usize * rounds() {
            turns_reach(&host, reached).await;
            evict(&host).await;
            let before = host.stats();
            value += 1;
            cold.push(step(&client, &id, value, &mut stepped).await);
            let repeated = host.stats().replayed_turns - before.replayed_turns;
            assert!(
                repeated >= u64::from(*turns),
                "only {repeated} turns were repeated"
            );
            // The event, and the result of the activity that it leads to.
            reached += 2;
            turns_reach(&host, reached).await;
            value += 1;
            reached += 2;
            warm.push(step(&client, &id, value, &mut stepped).await);
        }
        points.push((f64::from(*turns), median(&cold)));
        rows.push([
            number(f64::from(*turns)),
            number(median(&cold)),
            number(percentile(&cold, 0.99)),
            number(median(&warm)),
        ]);
        client.terminate(&id, None).await.unwrap();
    }
    if let Some((turns, millis)) = points.last() {
        section.at_most(
            &format!("{} turns, from evicted to the next step", number(*turns)),
            60.0,
            "ms",
            *millis,
        );
    }
    section.table(
        "Milliseconds from the event to the step",
        [
            "turns of history",
            "evicted, p50",
            "evicted, p99",
            "in memory, p50",
        ],
        rows,
    );
    section.chart(
        "w6-wake.svg",
        "W6, cold wakes",
        line(
            "Next step of an evicted instance",
            ("turns of history", "ms"),
            &points,
        ),
    );
    host.shut_down().await;
    section
}
