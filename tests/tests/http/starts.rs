//! Starts, and starts that wait.

use expect_test::expect;

use crate::see::Wire;
use crate::{BASE, JSON};

#[tokio::test]
async fn a_start_answers_with_where_to_ask() {
    let wire = Wire::new().await;
    wire.accepts(&format!("POST {BASE}/orchestrators/Wait/s1"), "s1")
        .await;
    wire.accepts(&format!("POST {BASE}/orchestrators/Wait"), "<id>")
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
             "ExceptionMessage":"an instance id must not contain '/': control characters, those that change the direction of text, and / \\ # ? are not allowed",
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
             "ExceptionMessage":"the text is not valid JSON, or not of the expected form: EOF while parsing a value at line 1 column 6",
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
