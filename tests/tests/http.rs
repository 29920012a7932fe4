//! The Durable Functions API as its clients see it: a request and its answer for every route and every status code.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "http/again.rs"]
mod again;
#[path = "http/fuzz.rs"]
mod fuzz;
#[path = "http/histories.rs"]
mod histories;
#[path = "http/keys.rs"]
mod keys;
#[path = "http/lists.rs"]
mod lists;
#[path = "http/manage.rs"]
mod manage;
#[path = "http/native.rs"]
mod native;
#[path = "http/ops.rs"]
mod ops;
#[path = "http/overview.rs"]
mod overview;
#[path = "http/requests.rs"]
mod requests;
#[path = "http/runs.rs"]
mod runs;
#[path = "http/see.rs"]
mod see;
#[path = "http/starts.rs"]
mod starts;
#[path = "http/strict.rs"]
mod strict;
#[path = "http/urls.rs"]
mod urls;
#[path = "http/values.rs"]
mod values;

use expect_test::expect;

use crate::see::Wire;

const BASE: &str = "/runtime/webhooks/durabletask";
const JSON: &str = "content-type: application/json";

#[tokio::test]
async fn the_curl_lines_of_the_articles_work() {
    let wire = Wire::new().await;
    wire.accepts("POST /orchestrators/HelloSequence", "<id>")
        .await;
    wire.check(
        "POST /orchestrators/HelloSequence/wait?timeout=20&retryInterval=0.5",
        expect![[r#"
            200
            ["Hello Tokyo!",
             "Hello Seattle!",
             "Hello London!"]
        "#]],
    )
    .await;
    wire.accepts("POST /orchestrators/Wait/wait?timeout=0.01", "<id>")
        .await;
    wire.check(
        "POST /orchestrators/Wait/wait?timeout=1&retryInterval=1.5",
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"Total timeout 1 should be bigger than retry timeout 1.5",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
    wire.check(
        "POST /orchestrators/Nothing/wait",
        expect![[r#"
        400
        {"Message":"One or more of the arguments submitted is incorrect",
         "ExceptionMessage":"there is no orchestration \"Nothing\"; deployed: ...",
         "ExceptionType":"System.ArgumentException",
         "StackTrace":""}
    "#]],
    )
    .await;
    wire.check(
        "GET /orchestrators/HelloSequence",
        expect![[r#"
        404
        {"Message":"There is no GET /orchestrators/HelloSequence in this API.",
         "ExceptionMessage":"There is no GET /orchestrators/HelloSequence in this API."}
    "#]],
    )
    .await;
    wire.check(
        "POST /orchestrators/HelloSequence/other",
        expect![[r#"
        404
        {"Message":"There is no POST /orchestrators/HelloSequence/other in this API.",
         "ExceptionMessage":"There is no POST /orchestrators/HelloSequence/other in this API."}
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_status_says_how_it_is_and_when_to_ask_again() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "done", ()).await;
    wire.ended("RunsFailing", "failed", ()).await;
    wire.begun("Wait", "runs").await;
    wire.client().start("Wait").id("held").await.unwrap();
    wire.client()
        .suspend("held", Some("wait a bit"))
        .await
        .unwrap();
    let held =
        |status: &perennial::InstanceStatus| status.runtime_status == perennial::Status::Suspended;
    wire.client()
        .wait_until("held", std::time::Duration::from_secs(30), held)
        .await
        .unwrap();
    wire.begun("Wait", "over").await;
    wire.client()
        .terminate("over", Some("why not"))
        .await
        .unwrap();
    wire.until_ended("over").await;
    wire.check(
        &format!("GET {BASE}/instances/done"),
        expect![[r#"
        200
        {"name":"HelloSequence",
         "instanceId":"done",
         "runtimeStatus":"Completed",
         "input":null,
         "customStatus":null,
         "output":["Hello Tokyo!","Hello Seattle!","Hello London!"],
         "createdTime":"2030-01-01T00:00:00Z",
         "lastUpdatedTime":"2030-01-01T00:00:00Z"}
    "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/done/?showInput=False"),
        expect![[r#"
            200
            {"name":"HelloSequence",
             "instanceId":"done",
             "runtimeStatus":"Completed",
             "input":null,
             "customStatus":null,
             "output":["Hello Tokyo!","Hello Seattle!","Hello London!"],
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z"}
        "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/failed"),
        expect![[r#"
        200
        {"name":"RunsFailing",
         "instanceId":"failed",
         "runtimeStatus":"Failed",
         "input":null,
         "customStatus":null,
         "output":"Orchestrator function 'RunsFailing' failed: the card was declined",
         "createdTime":"2030-01-01T00:00:00Z",
         "lastUpdatedTime":"2030-01-01T00:00:00Z"}
    "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/failed?returnInternalServerErrorOnFailure=true"),
        expect![[r#"
            500
            {"name":"RunsFailing",
             "instanceId":"failed",
             "runtimeStatus":"Failed",
             "input":null,
             "customStatus":null,
             "output":"Orchestrator function 'RunsFailing' failed: the card was declined",
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z"}
        "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/runs?showInput=false&code=k"),
        expect![[r#"
            202
            location: http://localhost:7071/runtime/webhooks/durabletask/instances/runs?showInput=false&code=k
            retry-after: 5
            {"name":"Wait",
             "instanceId":"runs",
             "runtimeStatus":"Running",
             "input":null,
             "customStatus":null,
             "output":null,
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z"}
        "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/held"),
        expect![[r#"
            202
            location: http://localhost:7071/runtime/webhooks/durabletask/instances/held
            retry-after: 5
            {"name":"Wait",
             "instanceId":"held",
             "runtimeStatus":"Suspended",
             "input":null,
             "customStatus":null,
             "output":"wait a bit",
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z"}
        "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/over"),
        expect![[r#"
        200
        {"name":"Wait",
         "instanceId":"over",
         "runtimeStatus":"Terminated",
         "input":null,
         "customStatus":null,
         "output":"why not",
         "createdTime":"2030-01-01T00:00:00Z",
         "lastUpdatedTime":"2030-01-01T00:00:00Z"}
    "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/nobody"),
        expect![[r#"
        404
    "#]],
    )
    .await;
    wire.check(
        &format!("GET {BASE}/instances/done?showHistory=1"),
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"the parameter 'showHistory' must be true or false, not \"1\"",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn events_and_commands_are_accepted_or_refused() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "done", ()).await;
    wire.begun("Wait", "runs").await;
    let event = |id: &str, head: &str, body: &str| {
        format!("POST {BASE}/instances/{id}/raiseEvent/Go\n{head}\n\n{body}")
    };
    wire.check(
        &event("runs", "content-type: text/plain", "1"),
        expect![[r#"
        400
        {"Message":"Only application/json request content is supported",
         "ExceptionMessage":"Only application/json request content is supported"}
    "#]],
    )
    .await;
    wire.check(&event("runs", JSON, "{"), expect![[r#"
        400
        {"Message":"Invalid JSON content",
         "ExceptionMessage":"the text is not valid JSON, or not of the expected form: EOF while parsing an object at line 1 column 1",
         "ExceptionType":"System.FormatException",
         "StackTrace":""}
    "#]]).await;
    wire.check(
        &event("nobody", JSON, "1"),
        expect![[r#"
        404
    "#]],
    )
    .await;
    wire.check(
        &event("done", JSON, "1"),
        expect![[r#"
        410
    "#]],
    )
    .await;
    for command in ["suspend", "resume", "terminate"] {
        wire.check(
            &format!("POST {BASE}/instances/nobody/{command}"),
            expect![[r#"
            404
        "#]],
        )
        .await;
        wire.check(
            &format!("POST {BASE}/instances/done/{command}?reason=x"),
            expect![[r#"
            410
        "#]],
        )
        .await;
        wire.check(
            &format!("POST {BASE}/instances/runs/{command}?reason=bye%20now"),
            expect![[r#"
            202
        "#]],
        )
        .await;
    }
    wire.until_ended("runs").await;
    let ended = wire.ask(&format!("GET {BASE}/instances/runs")).await;
    assert_eq!(ended.json()["output"], "bye now");
    wire.begun("Wait", "more").await;
    wire.check(
        &event(
            "more",
            "Content-Type: application/json; charset=utf-8",
            "\"hello\"",
        ),
        expect![[r#"
            202
        "#]],
    )
    .await;
    wire.until_ended("more").await;
    let ended = wire.ask(&format!("GET {BASE}/instances/more")).await;
    assert_eq!(ended.json()["output"], "hello");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let wire = Wire::new().await;
    wire.check(&format!("PUT {BASE}/instances/a"), expect![[r#"
        404
        {"Message":"There is no PUT /runtime/webhooks/durabletask/instances/a in this API.",
         "ExceptionMessage":"There is no PUT /runtime/webhooks/durabletask/instances/a in this API."}
    "#]])
        .await;
    wire.check(
        &format!("POST {BASE}/instances"),
        expect![[r#"
        404
        {"Message":"There is no POST /runtime/webhooks/durabletask/instances in this API.",
         "ExceptionMessage":"There is no POST /runtime/webhooks/durabletask/instances in this API."}
    "#]],
    )
    .await;
    wire.check(&format!("GET {BASE}/instances/a/b/c"), expect![[r#"
        404
        {"Message":"There is no GET /runtime/webhooks/durabletask/instances/a/b/c in this API.",
         "ExceptionMessage":"There is no GET /runtime/webhooks/durabletask/instances/a/b/c in this API."}
    "#]])
        .await;
    wire.check(
        &format!("GET {BASE}/instances?taskHub=elsewhere"),
        expect![[r#"
            404
            {"Message":"The task hub \"elsewhere\" is not served here; served: default.",
             "ExceptionMessage":"The task hub \"elsewhere\" is not served here; served: default."}
        "#]],
    )
    .await;
    wire.check(&format!("GET {BASE}/entities/counter/1"), expect![[r#"
        501
        {"Message":"Durable entities are not supported by this host: only orchestrations and activities are.",
         "ExceptionMessage":"Durable entities are not supported by this host: only orchestrations and activities are."}
    "#]])
        .await;
    wire.check(
        &format!("POST {BASE}/makeprimary"),
        expect![[r#"
        200
    "#]],
    )
    .await;
    assert_eq!(wire.ask("GET /").await.status, 404);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let wire = Wire::with(|api| api.body_bytes_max(2 << 20)).await;
    let start = format!("POST {BASE}/orchestrators/Wait");
    let payload = format!("{start}/big\n\n\"{}\"", "x".repeat(1 << 20));
    wire.check(
        &payload,
        expect![[r#"
        413
        {"Message":"the payload has 1048578 bytes; at most 1048576 are allowed",
         "ExceptionMessage":"the payload has 1048578 bytes; at most 1048576 are allowed"}
    "#]],
    )
    .await;
    let body = format!("{start}/bigger\n\n\"{}\"", "x".repeat(2 << 20));
    wire.check(
        &body,
        expect![[r#"
        413
        {"Message":"The request's body is too large: at most 2097152 bytes are allowed.",
         "ExceptionMessage":"The request's body is too large: at most 2097152 bytes are allowed."}
    "#]],
    )
    .await;
    let claims = format!("{start}\ncontent-length: 99999999999\n\n1");
    assert_eq!(wire.ask(&claims).await.status, 413);
    assert_eq!(wire.client().counts().await.unwrap(), []);
}

#[tokio::test]
async fn a_host_that_stops_says_so() {
    let wire = Wire::new().await;
    let Wire { router, host, _dir } = wire;
    host.shut_down().await;
    let request = see::request(&format!("POST {BASE}/orchestrators/Wait"));
    let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
    expect![[r#"
        503
        retry-after: 1
        {"Message":"The host is shutting down; try again soon.",
         "ExceptionMessage":"The host is shutting down; try again soon."}
    "#]]
    .assert_eq(&see::Answer::read(answer).await.told());
}
