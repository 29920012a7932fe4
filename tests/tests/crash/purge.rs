//! A purge that is killed half-way.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use perennial::{Client, Status};
use perennial_tests::{DataDir, binary, module};

use super::check_lawful;

/// So many that a purge of them takes a while.
const ENDED: usize = 4_000;

const LIMIT: Duration = Duration::from_secs(120);

fn purge(dir: &DataDir) -> Child {
    Command::new(binary())
        .arg("--data-dir")
        .arg(dir.path())
        .args(["purge", "--status", "Completed", "--yes", "--quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn completed(client: &Client) -> u64 {
    let counts = client.counts().await.unwrap();
    let completed = counts
        .iter()
        .find(|(status, _)| *status == Status::Completed);
    completed.map_or(0, |(_, count)| *count)
}

/// Rows of a table that belong to no instance.
fn orphans(dir: &DataDir, table: &str) -> i64 {
    let db = rusqlite::Connection::open(dir.path().join("default.db")).unwrap();
    let sql = format!(
        "SELECT count(*) FROM {table} AS r WHERE NOT EXISTS (SELECT 1 FROM instance AS i WHERE i.key = r.instance)
         AND NOT EXISTS (SELECT 1 FROM garbage AS g WHERE g.instance = r.instance)"
    );
    db.query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// Everything that is still there is whole, and nothing is there of what is not.
async fn check(dir: &DataDir, client: &Client) {
    let mut instances = client.list().limit(1_000).stream();
    while let Some(instance) = instances.try_next().await.unwrap() {
        let query = client.status(&instance.instance_id).show_input();
        let status = query.show_history_output().await.unwrap().unwrap();
        match status.runtime_status {
            Status::Completed => check_lawful(&status),
            live => assert_eq!(
                (status.instance_id.as_str(), live),
                ("live", Status::Running)
            ),
        }
        let events = status.history.map_or(0, |history| history.len());
        assert_eq!(
            events as u64, status.history_events,
            "{}",
            status.instance_id
        );
    }
    for table in [
        "turn",
        "cut_turn",
        "rewind",
        "task",
        "inbox",
        "instance_tag",
    ] {
        assert_eq!(orphans(dir, table), 0, "{table}");
    }
}

#[tokio::test]
async fn a_purge_that_is_killed_leaves_whole_instances_and_the_next_one_does_the_rest() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    client.start("Wait").id("live").await.unwrap();
    let starts = (0..ENDED).map(|i| {
        let start = client.start("Chain").input(&1).id(format!("i{i}"));
        async move { start.tag("of", "many").await }
    });
    futures::future::try_join_all(starts).await.unwrap();
    for i in 0..ENDED {
        let waited = client.wait_for_completion(&format!("i{i}"), LIMIT).await;
        assert!(waited.unwrap().reached().is_some());
    }
    host.shut_down().await;

    let client = dir.client();
    let (mut kills, begun) = (0, Instant::now());
    while completed(&client).await > ENDED as u64 / 4 {
        let before = completed(&client).await;
        let mut process = purge(&dir);
        while completed(&client).await + 200 > before && process.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LIMIT, "the purge stands still");
        }
        process.kill().unwrap();
        process.wait().unwrap();
        if completed(&client).await > 0 {
            kills += 1;
        }
        check(&dir, &client).await;
    }
    assert!(kills > 0, "every purge was done before it was killed");

    assert!(purge(&dir).wait().unwrap().success());
    assert_eq!(client.counts().await.unwrap(), [(Status::Running, 1)]);
    check(&dir, &client).await;
    println!("{kills} purges were killed");

    // What lives was not touched.
    let host = dir.host().start().await.unwrap();
    host.client().raise_event("live", "Go", "on").await.unwrap();
    let waited = host
        .client()
        .wait_for_completion("live", LIMIT)
        .await
        .unwrap();
    assert_eq!(waited.status().runtime_status, Status::Completed);
    host.shut_down().await;
}
