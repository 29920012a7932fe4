//! More than a host can do: what is too much is refused at once, what was taken is done, and nobody waits for somebody else's crowd.

use axum::body::Body;
use axum::http::Request;
use futures::future::join_all;
use http_body_util::BodyExt;
use perennial::http::Api;
use perennial::{Limits, Quotas};
use perennial_tests::DataDir;
use tower::ServiceExt;

use super::{completes, host};

/// Requests that may wait.
const ROOM: usize = 50;

fn room(requests: usize) -> Quotas {
    let mut quotas = Quotas::default();
    quotas.requests_waiting = requests;
    quotas
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_more_starts_than_there_is_room_for_are_accepted_and_done_or_refused_and_gone() {
    let dir = DataDir::new();
    let host = host(&dir, |builder| builder.quotas(room(ROOM))).await;
    let client = host.client();
    let mut left: Vec<String> = (0..10 * ROOM).map(|n| format!("it-{n}")).collect();
    let (mut rounds, mut refusals) = (0, 0);
    while !left.is_empty() {
        let starts = left.iter().map(|id| {
            let start = client.start("Chain").id(id).input(&2);
            async { start.await.map_err(|error| (id.clone(), error)) }
        });
        let mut refused = Vec::new();
        for result in join_all(starts).await {
            if let Err((id, error)) = result {
                assert!(error.is_overloaded(), "{error:?}");
                assert!(error.to_string().contains("try again"), "{error}");
                refused.push(id);
            }
        }
        // As many as there is room for are taken each time, whoever else asks.
        assert!(refused.len() + ROOM.min(left.len()) <= left.len());
        if rounds == 0 {
            assert!(!refused.is_empty(), "nothing was refused");
            let some = client.status(&refused[0]).await.unwrap();
            assert!(some.is_none(), "{some:?}");
        }
        refusals += refused.len() as u64;
        (rounds, left) = (rounds + 1, refused);
    }
    for n in 0..10 * ROOM {
        completes(&client, &format!("it-{n}")).await;
    }
    assert_eq!(host.stats().requests_refused, refusals);
    host.shut_down().await;
}

#[tokio::test]
async fn over_http_a_refusal_says_when_to_come_back() {
    let dir = DataDir::new();
    let first = host(&dir, |builder| builder).await;
    first.shut_down().await;
    let mut full = Quotas::default();
    full.instances = Some(0);
    for (quotas, status, says) in [
        (room(0), 503, "try again"),
        (full, 429, "its quota is 0 (instances)"),
    ] {
        let host = dir.host().quotas(quotas).start().await.unwrap();
        let router = Api::new(host.client()).into_router();
        for (path, body) in [
            ("/api/v1/instances", r#"{"orchestration":"Wait","id":"it"}"#),
            ("/runtime/webhooks/durabletask/orchestrators/Wait/it", ""),
        ] {
            let request = Request::post(path).header("host", "localhost:7071");
            let request = request.body(Body::from(body)).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{path}");
            assert_eq!(answer.headers()["retry-after"], "1", "{path}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains(says), "{path}: {text}");
        }
        assert!(host.client().status("it").await.unwrap().is_none());
        host.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_instance_is_done_while_a_wide_one_has_most_before_it() {
    const WIDE: u32 = 100_000;
    const STEPS: u64 = 5;
    const AT_ONCE: usize = 16;
    let dir = DataDir::new();
    let limits = Limits {
        actions_per_turn: 2 * WIDE,
        action_bytes_per_turn: 256 << 20,
        memory_bytes: 1 << 30,
        fuel_base: 1 << 40,
        ..Limits::default()
    };
    let host = host(&dir, |builder| {
        builder.limits(limits).activities_max(AT_ONCE)
    })
    .await;
    let client = host.client();
    client
        .start("FanOutN")
        .id("wide")
        .input(&WIDE)
        .await
        .unwrap();
    // They are handed over after the start was accepted, and much faster than they run.
    while host.stats().activities_waiting < WIDE as usize / 2 {
        assert!(!client.status("wide").await.unwrap().unwrap().is_ended());
    }
    let before = host.stats().activity_attempts;
    client
        .start("Chain")
        .id("small")
        .input(&STEPS)
        .await
        .unwrap();
    completes(&client, "small").await;
    let between = host.stats().activity_attempts - before;
    assert!(
        between < u64::from(WIDE) / 4,
        "{between} attempts for {STEPS} steps"
    );
    let wide = client.status("wide").await.unwrap().unwrap();
    assert!(!wide.is_ended(), "{wide:?}");
    client.terminate("wide", None).await.unwrap();
    host.shut_down().await;
}
