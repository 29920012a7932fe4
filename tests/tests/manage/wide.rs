//! Instances with very many children and timers, and with very long histories: what is told of them, and what they cost others.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use perennial::{Client, Status, Wait, Waited};
use perennial_tests::{DataDir, module};
use serde_json::json;

use super::{LIMIT, ended};

/// Children of the widest family.
const CHILDREN: u32 = 10_000;

/// Most of what somebody else's small instance may take meanwhile: the turns of the whole family may go first.
const PATIENCE: Duration = Duration::from_secs(60);

async fn started(client: &Client, id: &str, timers: u32, children: u32) {
    let wide = json!({ "timers": timers, "children": children });
    client
        .start("WaitsWidely")
        .id(id)
        .input(&wide)
        .await
        .unwrap();
    let waited = client.wait_for_start(id, LIMIT).await.unwrap();
    assert!(matches!(waited, Waited::Reached(_)));
}

#[tokio::test]
async fn what_waits_for_more_than_is_told_says_for_how_much_more() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    started(&client, "wide", 0, 150).await;
    // From the host and from a process that reads the file.
    for client in [client, dir.client()] {
        let status = client.status("wide").await.unwrap().unwrap();
        let children = |wait: &&Wait| matches!(wait, Wait::Child { .. });
        assert_eq!(status.waits_for.iter().filter(children).count(), 100);
        assert_eq!((status.waits_for.len(), status.waits_for_more), (100, 50));
        let shown = serde_json::to_value(&status).unwrap();
        assert_eq!(shown["waitsForMore"], 50);
    }
    host.shut_down().await;
}

/// The longest that a small instance took while `busy` was, the one that then still ran counted so far. Ids begin with
/// `prefix`, which must be a new one: that last instance is left running.
async fn longest_beside(client: &Client, prefix: &str, busy: impl Future<Output = ()>) -> Duration {
    let begun = Cell::new(Instant::now());
    let longest = Cell::new(Duration::ZERO);
    let beside = async {
        for i in 0.. {
            let id = format!("{prefix}{i}");
            assert_eq!(ended(client, "Chain", &id, 1).await, Status::Completed);
            longest.set(longest.get().max(begun.replace(Instant::now()).elapsed()));
        }
    };
    tokio::select! {
        () = busy => {}
        () = beside => {}
    }
    longest.get().max(begun.get().elapsed())
}

#[tokio::test]
async fn a_command_to_a_very_wide_family_reaches_all_of_it_and_others_go_on() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    started(&client, "wide", 0, CHILDREN).await;
    let all = u64::from(CHILDREN);
    let until = async |status: Status, count: u64| {
        let begun = Instant::now();
        loop {
            let counts = client.list().name("Wait").counts().await.unwrap();
            if counts.contains(&(status, count)) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{counts:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(Status::Running, all).await;
    let commands = ["suspend", "resume", "terminate"];
    for (command, status) in
        commands
            .into_iter()
            .zip([Status::Suspended, Status::Running, Status::Terminated])
    {
        let begun = Instant::now();
        let longest = longest_beside(&client, &format!("beside-{command}-"), async {
            let command = match command {
                "suspend" => client.suspend("wide", None),
                "resume" => client.resume("wide", None),
                _ => client.terminate("wide", None),
            };
            command.recursive().await.unwrap();
            until(status, all).await;
        })
        .await;
        println!(
            "{command} of {CHILDREN} children: {:?}; the longest beside it {longest:?}",
            begun.elapsed()
        );
        assert!(
            longest < PATIENCE,
            "{command} holds others up for {longest:?}"
        );
    }
    let begun = Instant::now();
    assert_eq!(client.purge("wide").recursive().await.unwrap(), all + 1);
    println!("purge: {:?}", begun.elapsed());
    host.shut_down().await;
}
