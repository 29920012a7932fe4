//! The Durable Functions API as its clients see it: a request and its answer for every route and every status code.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "http/fuzz.rs"]
mod fuzz;
#[path = "http/histories.rs"]
mod histories;
#[path = "http/keys.rs"]
mod keys;
#[path = "http/lists.rs"]
mod lists;
#[path = "http/native.rs"]
mod native;
#[path = "http/ops.rs"]
mod ops;
#[path = "http/see.rs"]
mod see;
#[path = "http/urls.rs"]
mod urls;

use expect_test::expect;

use crate::see::Wire;

const BASE: &str = "/runtime/webhooks/durabletask";
const JSON: &str = "content-type: application/json";

#[tokio::test]
async fn a_start_answers_with_where_to_ask() {
    let wire = Wire::new().await;
    wire.check(&format!("POST {BASE}/orchestrators/Wait/s1"), expect![[r#"
        202
        location: http://localhost:7071/runtime/webhooks/durabletask/instances/s1?taskHub=default&connection=Storage
        retry-after: 10
        {"id":"s1",
         "statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/s1?taskHub=default&connection=Storage",
         "sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/s1/raiseEvent/{eventName}?taskHub=default&connection=Storage",
         "terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/s1/terminate?reason={text}&taskHub=default&connection=Storage",
         "purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/s1?taskHub=default&connection=Storage",
         "restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/s1/restart?taskHub=default&connection=Storage",
         "suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/s1/suspend?reason={text}&taskHub=default&connection=Storage",
         "resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/s1/resume?reason={text}&taskHub=default&connection=Storage"}
    "#]])
        .await;
    wire.check(&format!("POST {BASE}/orchestrators/Wait"), expect![[r#"
        202
        location: http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage
        retry-after: 10
        {"id":"<id>",
         "statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/raiseEvent/{eventName}?taskHub=default&connection=Storage",
         "terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/terminate?reason={text}&taskHub=default&connection=Storage",
         "purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/restart?taskHub=default&connection=Storage",
         "suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/suspend?reason={text}&taskHub=default&connection=Storage",
         "resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/resume?reason={text}&taskHub=default&connection=Storage"}
    "#]])
        .await;
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait/s1"),
        expect![[r#"
        409
        {"Message":"An Orchestration instance with the ID s1 already exists.",
         "ExceptionMessage":"An Orchestration instance with the ID s1 already exists."}
    "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/orchestrators/Nothing"),
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
        &format!("POST {BASE}/orchestrators/Wait/@counter@1"),
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"an instance id must not start with '@'",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait/a%2Fb"),
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"an instance id must not contain '/': control characters and / \\ # ? are not allowed",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait?version=9"),
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"there is no version \"9\" of orchestration \"Wait\"; none has a version",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait\n{JSON}\n\n{{\"a\": "),
        expect![[r#"
            400
            {"Message":"Invalid JSON content",
             "ExceptionMessage":"the text is not the JSON that was expected: EOF while parsing a value at line 1 column 6",
             "ExceptionType":"System.FormatException",
             "StackTrace":""}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_input_is_kept_as_it_was_sent() {
    let wire = Wire::new().await;
    let texts = [
        "",
        "null",
        "\"\"",
        "0",
        "false",
        "{\"b\":1.0,\"a\":[ ]}",
        r#""{\"a\": 1}""#,
    ];
    for (i, text) in texts.into_iter().enumerate() {
        let octets = "content-type: application/octet-stream";
        let started = wire
            .ask(&format!(
                "POST {BASE}/orchestrators/AwaitsNothing/i{i}\n{octets}\n\n{text}"
            ))
            .await;
        assert_eq!(started.status, 202, "{}", started.body);
        let status = wire
            .client()
            .status(format!("i{i}"))
            .show_input()
            .await
            .unwrap()
            .unwrap();
        let kept = status.input.as_ref().map_or("", |json| json.as_str());
        assert_eq!(kept, text);
        let shown = wire.ask(&format!("GET {BASE}/instances/i{i}")).await;
        let expected = if text.is_empty() { "null" } else { text };
        assert!(
            shown.body.contains(&format!("\"input\":{expected},")),
            "{}",
            shown.body
        );
    }
}

#[tokio::test]
async fn a_start_that_waits_answers_with_the_output() {
    let wire = Wire::new().await;
    let wait = "timeout=30&pollingInterval=0.5";
    wire.check(
        &format!("POST {BASE}/orchestrators/HelloSequence/w1?{wait}"),
        expect![[r#"
            200
            ["Hello Tokyo!",
             "Hello Seattle!",
             "Hello London!"]
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/orchestrators/RunsFailing/w2?{wait}"),
        expect![[r#"
            200
            {"name":"RunsFailing",
             "instanceId":"w2",
             "runtimeStatus":"Failed",
             "input":null,
             "customStatus":null,
             "output":"Orchestrator function 'RunsFailing' failed: the card was declined",
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z"}
        "#]],
    )
    .await;
    let fail = "returnInternalServerErrorOnFailure=true";
    wire.check(
        &format!("POST {BASE}/orchestrators/RunsFailing/w3?{wait}&{fail}"),
        expect![[r#"
            500
            {"name":"RunsFailing",
             "instanceId":"w3",
             "runtimeStatus":"Failed",
             "input":null,
             "customStatus":null,
             "output":"Orchestrator function 'RunsFailing' failed: the card was declined",
             "createdTime":"2030-01-01T00:00:00Z",
             "lastUpdatedTime":"2030-01-01T00:00:00Z"}
        "#]],
    )
    .await;
    let late = "timeout=0&pollingInterval=0";
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait/w4?{late}&{fail}"),
        expect![[r#"
            202
            location: http://localhost:7071/runtime/webhooks/durabletask/instances/w4?taskHub=default&connection=Storage&returnInternalServerErrorOnFailure=true
            retry-after: 10
            {"id":"w4",
             "statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/w4?taskHub=default&connection=Storage&returnInternalServerErrorOnFailure=true",
             "sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/w4/raiseEvent/{eventName}?taskHub=default&connection=Storage",
             "terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/w4/terminate?reason={text}&taskHub=default&connection=Storage",
             "purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/w4?taskHub=default&connection=Storage",
             "restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/w4/restart?taskHub=default&connection=Storage",
             "suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/w4/suspend?reason={text}&taskHub=default&connection=Storage",
             "resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/w4/resume?reason={text}&taskHub=default&connection=Storage"}
        "#]],
    )
    .await;
    let short = "timeout=1&pollingInterval=2";
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait/w5?{short}"),
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"Total timeout 1 should be bigger than retry timeout 2",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
    assert!(
        wire.client().status("w5").await.unwrap().is_none(),
        "what cannot be starts nothing"
    );
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait/w6?timeout=soon&pollingInterval=1"),
        expect![[r#"
            400
            {"Message":"One or more of the arguments submitted is incorrect",
             "ExceptionMessage":"the parameter 'timeout' must be a number of seconds, such as 2 or 0.5, not \"soon\"",
             "ExceptionType":"System.ArgumentException",
             "StackTrace":""}
        "#]],
    )
    .await;
}

#[tokio::test]
async fn the_curl_lines_of_the_articles_work() {
    let wire = Wire::new().await;
    wire.check("POST /orchestrators/HelloSequence", expect![[r#"
        202
        location: http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage
        retry-after: 10
        {"id":"<id>",
         "statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/raiseEvent/{eventName}?taskHub=default&connection=Storage",
         "terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/terminate?reason={text}&taskHub=default&connection=Storage",
         "purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/restart?taskHub=default&connection=Storage",
         "suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/suspend?reason={text}&taskHub=default&connection=Storage",
         "resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/resume?reason={text}&taskHub=default&connection=Storage"}
    "#]])
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
    wire.check("POST /orchestrators/Wait/wait?timeout=0.01", expect![[r#"
        202
        location: http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage
        retry-after: 10
        {"id":"<id>",
         "statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/raiseEvent/{eventName}?taskHub=default&connection=Storage",
         "terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/terminate?reason={text}&taskHub=default&connection=Storage",
         "purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/restart?taskHub=default&connection=Storage",
         "suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/suspend?reason={text}&taskHub=default&connection=Storage",
         "resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/resume?reason={text}&taskHub=default&connection=Storage"}
    "#]])
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
         "ExceptionMessage":"the text is not the JSON that was expected: EOF while parsing an object at line 1 column 1",
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
        {"Message":"the payload has 1048578 bytes; payload_bytes allows 1048576",
         "ExceptionMessage":"the payload has 1048578 bytes; payload_bytes allows 1048576"}
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

#[tokio::test]
async fn what_failed_is_rewound_and_what_ended_is_run_again() {
    let wire = Wire::new().await;
    wire.ended("RunsFailing", "failed", ()).await;
    wire.ended("HelloSequence", "done", ()).await;
    wire.begun("Wait", "runs").await;
    wire.check(
        &format!("POST {BASE}/instances/nobody/rewind"),
        expect![[r#"
        404
        "No orchestration with instance ID \"nobody\" found."
    "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/done/rewind?reason=x"),
        expect![[r#"
            412
            "This orchestration has status Completed, but only orchestrations in the \"Failed\" state can be rewound."
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/failed/rewind?reason=fixed"),
        expect![[r#"
            202
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/nobody/restart"),
        expect![[r#"
            400
            "InstanceId does not match a valid orchestration instance."
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/runs/restart?restartWithNewInstanceId=false"),
        expect![[r#"
            409
            "A non-terminal instance with this instance ID already exists."
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/instances/done/restart?restartWithNewInstanceId=false"),
        expect![[r#"
            202
            location: http://localhost:7071/runtime/webhooks/durabletask/instances/done?taskHub=default&connection=Storage
            retry-after: 10
            {"id":"done",
             "statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/done?taskHub=default&connection=Storage",
             "sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/done/raiseEvent/{eventName}?taskHub=default&connection=Storage",
             "terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/done/terminate?reason={text}&taskHub=default&connection=Storage",
             "purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/done?taskHub=default&connection=Storage",
             "restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/done/restart?taskHub=default&connection=Storage",
             "suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/done/suspend?reason={text}&taskHub=default&connection=Storage",
             "resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/done/resume?reason={text}&taskHub=default&connection=Storage"}
        "#]],
    )
    .await;
    wire.check(&format!("POST {BASE}/instances/done/restart"), expect![[r#"
        202
        location: http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage
        retry-after: 10
        {"id":"<id>",
         "statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/raiseEvent/{eventName}?taskHub=default&connection=Storage",
         "terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/terminate?reason={text}&taskHub=default&connection=Storage",
         "purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>?taskHub=default&connection=Storage",
         "restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/restart?taskHub=default&connection=Storage",
         "suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/suspend?reason={text}&taskHub=default&connection=Storage",
         "resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/<id>/resume?reason={text}&taskHub=default&connection=Storage"}
    "#]])
        .await;
}

#[tokio::test]
async fn what_has_ended_is_purged() {
    let wire = Wire::new().await;
    for id in ["a", "b", "c"] {
        wire.ended("HelloSequence", id, ()).await;
    }
    wire.begun("Wait", "runs").await;
    wire.check(&format!("DELETE {BASE}/instances/runs"), expect![[r#"
        412
        "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID runs has status Running"
    "#]])
        .await;
    wire.check(
        &format!("DELETE {BASE}/instances/a"),
        expect![[r#"
        200
        {"instancesDeleted":1}
    "#]],
    )
    .await;
    wire.check(
        &format!("DELETE {BASE}/instances/a"),
        expect![[r#"
        404
    "#]],
    )
    .await;
    wire.check(
        &format!("DELETE {BASE}/instances"),
        expect![[r#"
        400
        "Please provide value for 'createdTimeFrom' parameter."
    "#]],
    )
    .await;
    let all = "createdTimeFrom=0001-01-01T00:00:00Z";
    let of = |query: &str| format!("DELETE {BASE}/instances/?{query}");
    wire.check(
        &of(&format!("{all}&runtimeStatus=Failed,Canceled")),
        expect![[r#"
            404
        "#]],
    )
    .await;
    wire.check(
        &of(&format!("{all}&runtimeStatus=Canceled")),
        expect![[r#"
        404
    "#]],
    )
    .await;
    wire.check(
        &of(&format!("{all}&createdTimeTo=2030-01-01T00:00:00Z")),
        expect![[r#"
            404
        "#]],
    )
    .await;
    wire.check(
        &of(all),
        expect![[r#"
        200
        {"instancesDeleted":2}
    "#]],
    )
    .await;
    wire.check(
        &of(all),
        expect![[r#"
        404
    "#]],
    )
    .await;
}
