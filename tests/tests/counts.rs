//! What a workload costs in counts, which do not depend on the clock: transactions, rows, guests. `make bench` measures times.

use std::time::Duration;

use perennial::{ActivityContext, Client, Failure, Host, HostStats};
use perennial_tests::{DataDir, module};

const LIMIT: Duration = Duration::from_secs(120);

async fn host(dir: &DataDir) -> Host {
    let native = |_: ActivityContext, value: u32| async move { Ok::<_, Failure>(value) };
    dir.host().activity("Native", native).start().await.unwrap()
}

async fn deployed(dir: &DataDir) -> Host {
    let host = host(dir).await;
    host.client()
        .deploy(module("hello-sequence"))
        .await
        .unwrap();
    host.client().deploy(module("workloads")).await.unwrap();
    host
}

async fn one(client: &Client, name: &str, input: impl Into<Option<u32>>) {
    let id = client.start(name).input(&input.into()).await.unwrap();
    let waited = client.wait_for_completion(&id, LIMIT).await.unwrap();
    let status = waited.reached().unwrap();
    assert!(status.failure.is_none(), "{:?}", status.failure);
}

/// What a host did since.
struct Since<'a>(&'a Host, HostStats);

impl<'a> Since<'a> {
    fn now(host: &'a Host) -> Self {
        Self(host, host.stats())
    }

    fn count(&self, of: fn(&HostStats) -> u64) -> u64 {
        of(&self.0.stats()) - of(&self.1)
    }
}

#[tokio::test]
async fn a_sequence_of_three_alone_takes_four_commits_and_one_guest() {
    const INSTANCES: u64 = 25;
    let dir = DataDir::new();
    let host = deployed(&dir).await;
    let since = Since::now(&host);
    for _ in 0..INSTANCES {
        one(&host.client(), "HelloSequence", None).await;
    }
    assert_eq!(since.count(|s| s.commits), 4 * INSTANCES);
    assert_eq!(since.count(|s| s.changes), 4 * INSTANCES);
    assert_eq!(since.count(|s| s.turns), 4 * INSTANCES);
    assert_eq!(since.count(|s| s.instantiations), INSTANCES);
    assert_eq!(since.count(|s| s.replays), 0);
    // Four transactions are counted; one row of status, written four times; four turns; three tasks that come and go.
    assert_eq!(since.count(|s| s.rows), (4 + 4 + 4 + 6) * INSTANCES);
    assert_eq!(since.count(|s| s.checkpoints), 0, "the log is short");
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_at_once_share_their_commits() {
    const IN_FLIGHT: u64 = 64;
    const EACH: u64 = 10;
    let dir = DataDir::new();
    let host = deployed(&dir).await;
    let since = Since::now(&host);
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let client = host.client();
        lanes.spawn(async move {
            for _ in 0..EACH {
                one(&client, "HelloSequence", None).await;
            }
        });
    }
    lanes.join_all().await;
    assert_eq!(since.count(|s| s.changes), 4 * IN_FLIGHT * EACH);
    assert_eq!(since.count(|s| s.instantiations), IN_FLIGHT * EACH);
    // A quarter of one on a machine that keeps up; four would be one for each turn.
    let commits = since.count(|s| s.commits);
    assert!(
        commits < 2 * IN_FLIGHT * EACH,
        "{commits} commits for {} instances",
        IN_FLIGHT * EACH
    );
    host.shut_down().await;
}

#[tokio::test]
async fn a_step_of_a_chain_is_one_commit_however_long_the_chain_is() {
    let dir = DataDir::new();
    let host = deployed(&dir).await;
    let client = host.client();
    for (name, steps) in [("Chain", 100), ("NativeChain", 100), ("NativeChain", 1_000)] {
        let since = Since::now(&host);
        one(&client, name, steps).await;
        let steps = u64::from(steps);
        assert_eq!(since.count(|s| s.commits), steps + 1, "{name} of {steps}");
        assert_eq!(since.count(|s| s.turns), steps + 1, "{name} of {steps}");
        assert_eq!(since.count(|s| s.instantiations), 1, "{name} of {steps}");
        // A turn: the transaction, the status, the turn; a step: a task that comes and goes.
        assert_eq!(
            since.count(|s| s.rows),
            3 * (steps + 1) + 2 * steps,
            "{name} of {steps}"
        );
    }
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_is_scheduled_in_one_commit_and_its_results_share_theirs() {
    const WIDE: u64 = 1_000;
    let dir = DataDir::new();
    let host = deployed(&dir).await;
    for name in ["FanOutN", "NativeFanOutN"] {
        let since = Since::now(&host);
        one(&host.client(), name, 1_000).await;
        let (commits, turns) = (since.count(|s| s.commits), since.count(|s| s.turns));
        assert_eq!(
            turns, commits,
            "{name}: each turn is one change, and nothing else is written"
        );
        assert!(commits <= WIDE / 2, "{name}: {commits} commits");
        assert_eq!(since.count(|s| s.activity_attempts), WIDE, "{name}");
        assert_eq!(since.count(|s| s.instantiations), 1, "{name}");
        // A task comes and goes for each activity; the rest is for each turn.
        let rows = since.count(|s| s.rows);
        assert!(
            rows <= 2 * WIDE + 4 * commits + 2,
            "{name}: {rows} rows in {commits} commits"
        );
    }
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_wait_cost_nothing_when_a_host_starts() {
    const WAITING: u64 = 300;
    let dir = DataDir::new();
    let first = deployed(&dir).await;
    let since = Since::now(&first);
    for i in 0..WAITING {
        first
            .client()
            .start("Wait")
            .id(format!("wait-{i}"))
            .await
            .unwrap();
    }
    assert_eq!(since.count(|s| s.changes), WAITING);
    first.shut_down().await;

    let second = host(&dir).await;
    let client = second.client();
    let before = second.stats();
    assert_eq!(
        (before.instantiations, before.replays, before.turns),
        (0, 0, 0)
    );
    let since = Since::now(&second);
    for i in 0..WAITING {
        let id = format!("wait-{i}");
        client.raise_event(&id, "Go", "now").await.unwrap();
        client
            .wait_for_completion(&id, LIMIT)
            .await
            .unwrap()
            .reached()
            .unwrap();
    }
    // The event, and the turn that takes it.
    assert_eq!(since.count(|s| s.commits), 2 * WAITING);
    assert_eq!(since.count(|s| s.instantiations), WAITING);
    assert_eq!(since.count(|s| s.replayed_turns), WAITING);
    second.shut_down().await;
}

#[tokio::test]
async fn an_evicted_instance_is_repeated_once_for_its_next_step() {
    const STEPS: u32 = 200;
    let dir = DataDir::new();
    let stepped = |_: ActivityContext, value: u32| async move { Ok::<_, Failure>(value) };
    let host = dir
        .host()
        .activity("Native", stepped)
        .activity("Stepped", stepped)
        .start()
        .await
        .unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    let id = client.start("StepsThenEvents").input(&STEPS).await.unwrap();
    let turns_reach = async |turns: u64| {
        let deadline = std::time::Instant::now() + LIMIT;
        while host.stats().turns < turns || host.evict_all() == 0 {
            assert!(std::time::Instant::now() < deadline, "{:?}", host.stats());
            tokio::task::yield_now().await;
        }
    };
    let mut turns = u64::from(STEPS) + 1;
    turns_reach(turns).await;
    for value in 0..3 {
        let since = Since::now(&host);
        client.raise_event(&id, "Go", &value).await.unwrap();
        // The event, and the result of the activity that it leads to.
        let before = turns;
        turns += 2;
        turns_reach(turns).await;
        assert_eq!(since.count(|s| s.replays), 1);
        assert_eq!(since.count(|s| s.replayed_turns), before);
        assert_eq!(since.count(|s| s.commits), 3);
    }
    host.shut_down().await;
}
