//! The first things a user does, with the real guests.

use std::time::Duration;

use perennial::Status;
use perennial_tests::{DataDir, module};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn hello_sequence_greets_three_cities() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    let id = client.start("HelloSequence").await.unwrap();
    let status = client
        .wait_for_completion(&id, LIMIT)
        .await
        .unwrap()
        .reached()
        .unwrap();
    assert_eq!(status.runtime_status, Status::Completed, "{status:?}");
    assert_eq!(
        status.output.unwrap().as_str(),
        r#"["Hello Tokyo!","Hello Seattle!","Hello London!"]"#
    );
    println!("{:?}", host.stats());
    for event in client
        .status(&id)
        .show_input()
        .show_history_output()
        .await
        .unwrap()
        .unwrap()
        .history
        .unwrap()
    {
        println!("{}", serde_json::to_string(&event).unwrap());
    }
    host.shut_down().await;
}
