//! What an instance waits for that has not begun.

use perennial::{ActivityContext, Failure, Status, Timestamp, Wait};
use perennial_tests::{DataDir, module, postgres};

#[tokio::test]
async fn what_has_not_begun_says_until_when_and_for_whom() {
    if postgres::skips("it holds the lock of a file") {
        return;
    }
    let dir = DataDir::new();
    let client = dir.client();
    client.deploy(module("workloads")).await.unwrap();
    client.start("Wait").id("now").await.unwrap();
    let due = Timestamp(4_070_908_800_000);
    client.start("Wait").id("later").at(due).await.unwrap();
    let waits = async |id: &str| {
        let status = client.status(id).await.unwrap().unwrap();
        assert_eq!(status.runtime_status, Status::Pending);
        status.waits_for
    };
    assert_eq!(waits("now").await, [Wait::Host]);
    assert_eq!(waits("later").await, [Wait::Start { due }]);
    assert_eq!(Wait::Host.to_string(), "a host that runs it");

    // Whoever has the lock is the host, and has not come to it.
    let lock = std::fs::File::open(dir.path().join("default.db.lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(waits("now").await, [Wait::FirstTurn]);
    assert_eq!(waits("later").await, [Wait::Start { due }]);
    assert_eq!(
        serde_json::to_value(Wait::FirstTurn).unwrap(),
        serde_json::json!({ "kind": "firstTurn" })
    );
    lock.unlock().unwrap();
    assert_eq!(waits("now").await, [Wait::Host]);
}

#[tokio::test]
async fn a_closure_that_takes_long_learns_that_nobody_waits_for_it() {
    let dir = DataDir::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let native = move |context: ActivityContext, n: u32| {
        let tell = tell.clone();
        async move {
            let _ = tell.send("began");
            context.canceled().await;
            let _ = tell.send("canceled");
            Ok::<_, Failure>(n)
        }
    };
    let host = dir.host().activity("Native", native).start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    client
        .start("NativeChain")
        .id("one")
        .input(&1)
        .await
        .unwrap();
    assert_eq!(told.recv().await, Some("began"));
    client.terminate("one", None).recursive().await.unwrap();
    assert_eq!(told.recv().await, Some("canceled"));
    host.shut_down().await;
}
