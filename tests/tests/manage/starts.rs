//! Instances that orchestrations start and do not wait for: each is there, or the history of who asked for it says why it is not.

use std::collections::BTreeSet;

use perennial::{Event, Status};
use perennial_tests::{DataDir, module};
use serde_json::json;

use crate::LIMIT;

#[tokio::test]
async fn every_start_that_is_refused_stands_in_a_history_whoever_raced_for_the_id() {
    let (starters, ids) = match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => (400, 200),
        None => (24, 20),
    };
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    let wanted: Vec<String> = (0..ids).map(|n| format!("wanted-{n}")).collect();
    let mut running = tokio::task::JoinSet::new();
    for n in 0..starters {
        let (client, mut ids) = (client.clone(), wanted.clone());
        let turned = n % ids.len();
        ids.rotate_left(turned);
        running.spawn(async move {
            let id = format!("starter-{n}");
            let input = json!({ "ids": ids, "fails": n % 2 == 1 });
            client
                .start("Launches")
                .id(&id)
                .input(&input)
                .await
                .unwrap();
            let ended = client.wait_for_completion(&id, LIMIT).await.unwrap();
            let status = ended.reached().unwrap().runtime_status;
            assert_eq!(status == Status::Failed, n % 2 == 1);
            let history = client.history(&id).await.unwrap().unwrap();
            let skipped = history.iter().filter_map(|recorded| match &recorded.event {
                Event::InstanceStartSkipped { instance_id, .. } => Some(instance_id.clone()),
                _ => None,
            });
            skipped.collect::<BTreeSet<String>>()
        });
    }
    let (mut refused, mut all) = (0, 0);
    while let Some(skipped) = running.join_next().await {
        let skipped = skipped.unwrap();
        assert!(skipped.iter().all(|id| wanted.contains(id)), "{skipped:?}");
        refused += skipped.len();
        all += wanted.len();
    }
    // None of them ends, so each id is given once.
    assert_eq!(all - refused, wanted.len());
    for id in &wanted {
        let status = client.status(id).await.unwrap().unwrap();
        // It may not have begun yet.
        assert!(!status.runtime_status.is_end(), "{id}: {status:?}");
    }
    host.shut_down().await;
}
