//! What activities can reach, and how their attempts end: each a distinct kind of failure.

use perennial::{DirGrant, Grants};
use serde_json::json;

use super::*;

async fn call(stage: &Stage, name: &str, input: Value, timeout_ms: Option<u64>) -> InstanceStatus {
    stage.run("Calls", json!([name, input, timeout_ms])).await
}

#[tokio::test]
async fn nothing_is_granted_by_default() {
    // What is granted is a system's.
    if !Way::here().has_system() {
        return;
    }
    let mut stage = Stage::probe().await;
    let seen: Vec<String> =
        serde_json::from_value(output(&call(&stage, "Look", json!("/data"), None).await)).unwrap();
    assert_eq!(seen[0], "variables: []");
    for attempt in &seen[1..] {
        assert!(!attempt.contains("it worked"), "{attempt}");
    }
    stage.close().await;
}

#[tokio::test]
async fn what_is_granted_can_be_reached_and_nothing_beside_it() {
    // What is granted is a system's.
    if !Way::here().has_system() {
        return;
    }
    let mut stage = Stage::probe().await;
    let data = tempfile::tempdir().unwrap();
    let grants = |writable| {
        let mut dir = DirGrant::new(data.path(), "/data");
        dir.writable = writable;
        Grants::new().dir(dir).env("COLOUR", "green")
    };
    for writable in [false, true] {
        stage
            .client()
            .grant("probe", &grants(writable))
            .await
            .unwrap();
        let status = call(&stage, "Look", json!("/data"), None).await;
        let seen: Vec<String> = serde_json::from_value(output(&status)).unwrap();
        assert_eq!(seen[0], r#"variables: ["COLOUR=green"]"#);
        assert_eq!(seen[1], "list: it worked");
        assert_eq!(seen[2] == "write: it worked", writable, "{}", seen[2]);
        assert_eq!(data.path().join("new").exists(), writable);
        assert!(
            seen[3..]
                .iter()
                .all(|attempt| !attempt.contains("it worked")),
            "{seen:?}"
        );
    }
    // They are kept with the module, and an orchestration sees nothing of them.
    stage.disturb(Between::Restart).await;
    let kept = stage.client().modules().await.unwrap();
    assert_eq!(kept[0].grants, grants(true));
    stage.start("Surroundings", Value::Null).await;
    stage.awaits("Go").await;
    let history = stage
        .client()
        .status(ID)
        .show_input()
        .show_history()
        .await
        .unwrap()
        .unwrap();
    let text = serde_json::to_string(&history.history).unwrap();
    assert!(
        text.contains("variables: 0") && !text.contains("it worked"),
        "{text}"
    );
    stage.close().await;
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_interrupted_and_says_so() {
    let mut stage = Stage::probe().await;
    for (name, input) in [
        ("Spin", Value::Null),
        ("Sleep", json!(600_000)),
        ("Hold", Value::Null),
    ] {
        // Without a system the library cannot sleep.
        if name == "Sleep" && !Way::here().has_system() {
            continue;
        }
        let begun = Instant::now();
        let status = call(&stage, name, input, Some(200)).await;
        let failure = failure(&status);
        assert_eq!(failure.kind, "Timeout", "{failure:?}");
        assert!(
            failure.message.contains(name) && failure.retryable,
            "{failure:?}"
        );
        assert!(begun.elapsed() < LIMIT / 2, "{name} was not interrupted");
    }
    stage.close().await;
}

#[tokio::test]
async fn each_end_of_an_attempt_has_a_kind_of_its_own() {
    let mut stage = Stage::probe().await;
    for (name, input, kind, message) in [
        ("Panic", json!(null), "Panic", "the activity has had enough"),
        (
            "Trap",
            json!(null),
            "Trap",
            "wasm trap: wasm `unreachable` instruction executed",
        ),
        (
            "Hoard",
            json!(null),
            "OutOfMemory",
            "more than the limit of ",
        ),
        (
            "Recurse",
            json!(null),
            "StackOverflow",
            "the call stack is exhausted",
        ),
        (
            "Decline",
            json!("no money"),
            "CardDeclined",
            "declined: no money",
        ),
        (
            "Exit",
            json!(null),
            "Trap",
            match Way::here().has_system() {
                true => "ended its program",
                false => "wasm trap: wasm `unreachable` instruction executed",
            },
        ),
        (
            "NoJson",
            json!(null),
            "InvalidOutput",
            "the output of activity \"NoJson\" cannot be written as JSON: key must be a string",
        ),
        (
            "Sleep",
            json!("long"),
            "InvalidInput",
            "the input of activity \"Sleep\" is not what was expected, `u64`: invalid type: string \"long\", expected u64 at line 1 \
             column 6",
        ),
        (
            "Nobody",
            json!(null),
            "UnknownActivity",
            "no deployed module, no registered closure and no connected worker has an activity named \"Nobody\"",
        ),
    ] {
        let status = call(&stage, name, input, None).await;
        let failure = failure(&status);
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.message.contains(message), "{name}: {failure:?}");
        if kind == "Panic" {
            assert!(
                failure.trace.as_ref().unwrap().contains("acts.rs:"),
                "{failure:?}"
            );
        }
    }
    stage.close().await;
}
