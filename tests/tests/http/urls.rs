//! The URLs in answers: right behind a proxy, below another program's path, and for ids of any kind.

use axum::Router;
use expect_test::expect;
use perennial::http::Api;
use tower::ServiceExt;

use crate::BASE;
use crate::see::{Answer, Wire, request};

async fn location(wire: &Wire, text: &str) -> String {
    let answer = wire.ask(text).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn the_request_says_where_the_server_is() {
    let wire = Wire::new().await;
    let start =
        format!("POST {BASE}/orchestrators/Wait/a?taskHub=DEFAULT&connection=Other&code=s%26cret");
    let url = location(&wire, &start).await;
    expect!["http://localhost:7071/runtime/webhooks/durabletask/instances/a?taskHub=default&connection=Other&code=s%26cret"].assert_eq(&url);
    let url = location(
        &wire,
        &format!("POST {BASE}/orchestrators/Wait/b\nx-forwarded-host: evil.example"),
    )
    .await;
    expect!["http://localhost:7071/runtime/webhooks/durabletask/instances/b?taskHub=default&connection=Storage"].assert_eq(&url);
}

#[tokio::test]
async fn a_trusted_proxy_says_it_better_and_a_setting_best() {
    let start = format!(
        "POST {BASE}/orchestrators/Wait/a\nx-forwarded-host: flows.example.com\nx-forwarded-proto: https"
    );
    let wire = Wire::with(Api::trust_forwarded).await;
    expect!["https://flows.example.com/runtime/webhooks/durabletask/instances/a?taskHub=default&connection=Storage"].assert_eq(&location(&wire, &start).await);
    let wire = Wire::with(|api| api.trust_forwarded().base_url("https://x.example/flows/")).await;
    expect!["https://x.example/flows/runtime/webhooks/durabletask/instances/a?taskHub=default&connection=Storage"].assert_eq(&location(&wire, &start).await);
}

#[tokio::test]
async fn other_bases_and_mounts_are_kept() {
    let wire = Wire::new().await;
    let legacy = "/admin/extensions/DurableTaskExtension";
    expect!["http://localhost:7071/admin/extensions/DurableTaskExtension/instances/a?taskHub=default&connection=Storage"].assert_eq(&location(&wire, &format!("POST {legacy}/orchestrators/Wait/a")).await);
    expect!["http://localhost:7071/runtime/webhooks/durabletask/instances/b?taskHub=default&connection=Storage"].assert_eq(&location(&wire, "POST /durabletask/orchestrators/Wait/b").await);
    let mounted = Router::new().nest("/flows", wire.router.clone());
    let answer = mounted
        .oneshot(request(&format!("POST /flows{BASE}/orchestrators/Wait/c")))
        .await;
    let answer = Answer::read(answer.unwrap()).await;
    expect!["http://localhost:7071/flows/runtime/webhooks/durabletask/instances/c?taskHub=default&connection=Storage"].assert_eq(answer.header("location").unwrap());
}

#[tokio::test]
async fn an_id_of_any_kind_comes_back_through_its_url() {
    let wire = Wire::new().await;
    for id in [
        "a b", "50%", "%2F", "é:ü", "a&b=c", "{x}", "...", "a;b", "\"'<>",
    ] {
        let escaped = id.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        let url = location(&wire, &format!("POST {BASE}/orchestrators/Wait/{escaped}")).await;
        let path = url.strip_prefix("http://localhost:7071").unwrap();
        let status = wire.ask(&format!("GET {path}")).await;
        assert_eq!(status.json()["instanceId"], id, "{url}");
        let again = status.header("location").unwrap();
        assert_eq!(again, url, "a status that is not final points to itself");
    }
}
