//! Quotas: what is over one is refused by its name, and what is under it is as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use perennial::{ActivityContext, Error, Failure, Quotas, Start, Status};
use perennial_tests::{DataDir, module};
use serde_json::json;

use super::{completes, ended, host};

fn quotas(set: impl FnOnce(&mut Quotas)) -> Quotas {
    let mut quotas = Quotas::default();
    set(&mut quotas);
    quotas
}

async fn refused(start: Start, words: &str) -> Error {
    let error = start.await.unwrap_err();
    assert!(
        error.is_quota_exceeded() && error.is_limit_exceeded(),
        "{error:?}"
    );
    assert!(error.to_string().contains(words), "{error}");
    error
}

#[tokio::test]
async fn a_hub_has_no_more_live_instances_than_it_may() {
    let dir = DataDir::new();
    let three = quotas(|quotas| quotas.instances = Some(3));
    let first = host(&dir, |builder| builder.quotas(three)).await;
    let client = first.client();
    for id in ["a", "b", "c"] {
        client.start("Wait").id(id).await.unwrap();
    }
    let words = "the task hub has 3 live instances; its quota is 3 (instances)";
    refused(client.start("Wait").id("d"), words).await;
    assert!(client.status("d").await.unwrap().is_none());
    // What is there goes on, and each end makes room for one.
    client.raise_event("a", "Go", "well").await.unwrap();
    completes(&client, "a").await;
    client.start("Wait").id("d").await.unwrap();
    client.terminate("b", None).await.unwrap();
    ended(&client, "b").await;
    let later = std::time::Duration::from_secs(3_600);
    client.start("Wait").id("e").after(later).await.unwrap();
    refused(client.start("Wait").id("f"), words).await;
    // It is the same after a restart, and to who asks from outside.
    first.shut_down().await;
    let second = dir.host().quotas(three).start().await.unwrap();
    refused(second.client().start("Wait").id("f"), words).await;
    let outside = dir.client();
    refused(outside.start("Wait").id("f"), words).await;
    second.client().terminate("e", None).await.unwrap();
    ended(&second.client(), "e").await;
    outside.start("Wait").id("f").await.unwrap();
    second.shut_down().await;
    // A host without the quota has none.
    let third = dir.host().start().await.unwrap();
    third.client().start("Wait").id("g").await.unwrap();
    third.shut_down().await;
}

#[tokio::test]
async fn what_ended_lives_again_only_where_there_is_room() {
    let dir = DataDir::new();
    let one = quotas(|quotas| quotas.instances = Some(1));
    let host = host(&dir, |builder| builder.quotas(one)).await;
    let client = host.client();
    client.start("Panics").id("failed").await.unwrap();
    ended(&client, "failed").await;
    client.start("Wait").id("waits").await.unwrap();
    let before = format!("{:?}", client.status("failed").await.unwrap());
    let words = "the task hub has 1 live instance; its quota is 1 (instances)";
    for outside in [false, true] {
        let client = if outside { dir.client() } else { host.client() };
        for refused in [
            client.restart("failed").await.map(drop),
            client.restart("failed").with_new_id().await.map(drop),
            client.rewind("failed").await.map(drop),
        ] {
            let error = refused.unwrap_err();
            assert!(error.is_quota_exceeded(), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let after = format!("{:?}", client.status("failed").await.unwrap());
    assert_eq!(after, before);
    client.terminate("waits", None).await.unwrap();
    ended(&client, "waits").await;
    client.rewind("failed").await.unwrap();
    ended(&client, "failed").await;
    client.restart("failed").await.unwrap();
    ended(&client, "failed").await;
    host.shut_down().await;
}

#[tokio::test]
async fn a_child_for_which_there_is_no_room_fails_by_the_quotas_name() {
    let dir = DataDir::new();
    let two = quotas(|quotas| quotas.instances_per_module = Some(2));
    let host = host(&dir, |builder| builder.quotas(two)).await;
    let client = host.client();
    client.deploy(module("probe")).await.unwrap();
    // It starts a child, and that one a child of its own, for which there is no room.
    client
        .start("FailsThrough")
        .id("deep")
        .input(&3)
        .await
        .unwrap();
    let deep = ended(&client, "deep").await;
    let said = serde_json::to_string(&deep.failure.unwrap().causes).unwrap();
    assert!(
        said.contains("LimitExceeded") && said.contains("its quota is 2 (instances_per_module)"),
        "{said}"
    );
    // Another module has room of its own, and to continue as new is to be the same instance.
    for id in ["a", "b"] {
        client.start("Wait").id(id).await.unwrap();
    }
    refused(
        client.start("Wait"),
        "its quota is 2 (instances_per_module)",
    )
    .await;
    client.raise_event("a", "Go", "well").await.unwrap();
    completes(&client, "a").await;
    client
        .start("CountDown")
        .id("down")
        .input(&5)
        .await
        .unwrap();
    completes(&client, "down").await;
    host.shut_down().await;
}

#[tokio::test]
async fn an_execution_whose_history_is_full_fails_by_the_quotas_name() {
    let dir = DataDir::new();
    let short = quotas(|quotas| quotas.history_events = Some(50));
    let first = host(&dir, |builder| builder.quotas(short)).await;
    let client = first.client();
    client.start("Chain").id("short").input(&10).await.unwrap();
    client.start("Chain").id("long").input(&100).await.unwrap();
    client
        .start("CountDown")
        .id("anew")
        .input(&40)
        .await
        .unwrap();
    completes(&client, "short").await;
    completes(&client, "anew").await;
    let long = ended(&client, "long").await;
    let failure = long.failure.clone().unwrap();
    assert_eq!(
        (long.runtime_status, &*failure.kind),
        (Status::Failed, "LimitExceeded")
    );
    assert!(
        failure.message.contains("its quota is 50 (history_events)"),
        "{failure:?}"
    );
    assert!((50..60).contains(&long.history_events), "{long:?}");
    first.shut_down().await;
    let bytes = quotas(|quotas| quotas.history_bytes = Some(2_000));
    let second = dir.host().quotas(bytes).start().await.unwrap();
    second
        .client()
        .start("Chain")
        .id("heavy")
        .input(&1_000)
        .await
        .unwrap();
    let heavy = ended(&second.client(), "heavy").await;
    let failure = heavy.failure.unwrap();
    assert!(
        failure
            .message
            .contains("its quota is 2000 (history_bytes)"),
        "{failure:?}"
    );
    second.shut_down().await;
}

#[tokio::test]
async fn a_hub_that_is_full_starts_nothing_and_finishes_what_it_has() {
    let dir = DataDir::new();
    let first = host(&dir, |builder| builder).await;
    first.client().start("Wait").id("it").await.unwrap();
    first.shut_down().await;
    let full = quotas(|quotas| quotas.hub_bytes = Some(1));
    let second = dir.host().quotas(full).start().await.unwrap();
    let client = second.client();
    refused(client.start("Wait"), "its quota is 1 (hub_bytes)").await;
    client.raise_event("it", "Go", "well").await.unwrap();
    completes(&client, "it").await;
    second.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_runs_no_more_activities_at_once_than_it_may() {
    for most in [1, 3] {
        let dir = DataDir::new();
        let (now, peak) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let run = {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            move |_: ActivityContext, n: u32| {
                let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
                async move {
                    peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Failure>(n)
                }
            }
        };
        let few = quotas(|quotas| quotas.activities_per_module = Some(most));
        let host = host(&dir, |builder| builder.quotas(few).activity("Native", run)).await;
        let client = host.client();
        for n in 0..20 {
            client
                .start("NativeChain")
                .id(format!("{n}"))
                .input(&json!(10))
                .await
                .unwrap();
        }
        for n in 0..20 {
            completes(&client, &n.to_string()).await;
        }
        assert!(
            (1..=most).contains(&peak.load(Ordering::SeqCst)),
            "{peak:?}"
        );
        host.shut_down().await;
    }
}
