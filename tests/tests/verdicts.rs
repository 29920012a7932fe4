//! What an author does wrong, and what comes of it: each a distinct kind of failure, recorded once.

use std::time::Duration;

use perennial::{Client, Host, InstanceStatus, Status};
use perennial_tests::{DataDir, Way, module};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

async fn host(dir: &DataDir) -> (Host, Client) {
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    (host, client)
}

async fn run(client: &Client, name: &str, input: Value) -> InstanceStatus {
    let id = client.start(name).input(&input).await.unwrap();
    let waited = client.wait_for_completion(&id, LIMIT).await.unwrap();
    waited
        .reached()
        .unwrap_or_else(|| panic!("{name} did not end"))
}

/// The instance fails with this kind, and its message has these words. It still does after a restart of the host.
async fn check(name: &str, input: Value, kind: &str, words: &[&str]) {
    let dir = DataDir::new();
    let (host, client) = host(&dir).await;
    let status = run(&client, name, input).await;
    assert_eq!(status.runtime_status, Status::Failed, "{status:?}");
    let failure = status.failure.unwrap();
    assert_eq!(failure.kind, kind, "{failure:?}");
    for word in words {
        let text = format!(
            "{} {}",
            failure.message,
            failure.trace.clone().unwrap_or_default()
        );
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
    // A module that does wrong harms only its own instance.
    assert_eq!(
        run(&client, "Chain", 2.into()).await.runtime_status,
        Status::Completed
    );
    host.shut_down().await;
    let host = dir.host().start().await.unwrap();
    let again = host
        .client()
        .status(&status.instance_id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.failure, Some(failure));
    host.shut_down().await;
}

#[tokio::test]
async fn a_panic_says_what_and_where() {
    check(
        "Panics",
        Value::Null,
        "Panic",
        &["the sky is falling", "src/lib.rs:"],
    )
    .await;
}

#[tokio::test]
async fn an_endless_loop_runs_out_of_fuel() {
    check("Spins", Value::Null, "OutOfFuel", &[]).await;
}

#[tokio::test]
async fn hoarding_runs_out_of_memory() {
    check("Allocates", Value::Null, "OutOfMemory", &[]).await;
}

#[tokio::test]
async fn endless_recursion_overflows_the_stack() {
    check("Recurses", 0.into(), "StackOverflow", &[]).await;
}

#[tokio::test]
async fn awaiting_what_is_not_perennials_is_an_error_and_no_hang() {
    check("AwaitsNothing", Value::Null, "ForeignAwait", &["await"]).await;
}

#[tokio::test]
async fn an_unknown_activity_is_named() {
    check(
        "CallsUnknown",
        Value::Null,
        "UnknownActivity",
        &["NoSuchActivity"],
    )
    .await;
}

#[tokio::test]
async fn an_activitys_failure_comes_through() {
    check(
        "RunsFailing",
        Value::Null,
        "CardDeclined",
        &["the card was declined"],
    )
    .await;
}

#[tokio::test]
async fn input_of_another_type_is_named() {
    check("Chain", "many".into(), "InvalidInput", &["Chain", "u32"]).await;
}

#[tokio::test]
async fn a_flaky_activity_is_tried_again() {
    let dir = DataDir::new();
    let (host, client) = host(&dir).await;
    let status = run(&client, "Retries", 5.into()).await;
    assert_eq!(status.output.unwrap().as_str(), "3");
    let status = run(&client, "Retries", 2.into()).await;
    assert_eq!(status.failure.unwrap().message, "attempt 2 failed");
    host.shut_down().await;
}

#[tokio::test]
async fn an_unknown_orchestration_is_an_error_that_lists_what_there_is() {
    let dir = DataDir::new();
    let (host, client) = host(&dir).await;
    let error = client.start("Chian").await.unwrap_err();
    assert!(error.is_unknown_orchestration());
    let says = "there is no orchestration \"Chian\"; did you mean \"Chain\"? deployed: Allocates, ";
    assert!(error.to_string().starts_with(says), "{error}");
    host.shut_down().await;
}

#[tokio::test]
async fn an_orchestration_sees_only_its_turn_and_its_seed() {
    // Without a system the library does not even look.
    if !Way::here().has_system() {
        return;
    }
    let dir = DataDir::new();
    let (host, client) = host(&dir).await;
    for evict in [false, true] {
        // The same execution, once in memory all the time and once replayed before each turn.
        let id = client.start("Observes").await.unwrap();
        for _ in 0..2 {
            if evict {
                host.evict_all();
            }
            client.raise_event(&id, "Go", &()).await.unwrap();
        }
        let status = client
            .wait_for_completion(&id, LIMIT)
            .await
            .unwrap()
            .reached()
            .unwrap();
        assert_eq!(
            status.runtime_status,
            Status::Completed,
            "{:?}",
            status.failure
        );
        let observed: Vec<String> = status.output_as().unwrap();
        let (first, second) = observed.split_at(5);
        for turn in [first, second] {
            assert_eq!(turn[0], "true", "the clock is not the turn's");
            assert_eq!(turn[2], "0", "it sees environment variables");
            assert_eq!(turn[3], "true", "it can read a directory");
        }
        assert_ne!(first[4], second[4], "random numbers repeat");
    }
    host.shut_down().await;
}
