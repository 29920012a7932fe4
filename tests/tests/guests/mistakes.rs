//! What authors do wrong, and what they are told. Mistakes that do not compile are in the documentation of the SDK, as examples that
//! fail; what is no module at all is in the tests of deployment.

use expect_test::expect;
use serde_json::json;

use super::*;

#[tokio::test]
async fn each_mistake_has_its_words() {
    let mut stage = Stage::probe().await;
    let mut told = String::new();
    for (name, input) in [
        ("Sleeps", json!(null)),
        ("ReadsInput", json!(null)),
        ("Exits", json!(null)),
        ("Traps", json!(null)),
        ("PollsForOthers", json!(null)),
        ("RacesNobody", json!(null)),
        ("TriesNever", json!(null)),
        ("Unlisted", json!(null)),
        ("StartsNobody", json!(null)),
        ("ChildOfNobody", json!(null)),
        ("SendsTooMuch", json!(2 << 20)),
        ("ShowsTooMuch", json!(20 << 10)),
        ("ReturnsTooMuch", json!(2 << 20)),
        ("ReturnsNoJson", json!(null)),
        ("CallsWithTooMuch", json!(2 << 20)),
        ("CallsWithNoJson", json!(null)),
        ("CallsTooOften", json!(10_001)),
        ("CallsTooOften", json!("often")),
        ("Calls", json!(["Kep", null, null])),
        ("Calls", json!(["Sleep", "long", null])),
    ] {
        let status = stage.run(name, input).await;
        let end = match &status.failure {
            Some(failure) => failure.to_string(),
            None => format!("completed with {}", output(&status)),
        };
        told.push_str(&format!("{name}: {end}\n"));
    }
    stage.close().await;
    // Which version of an interface is asked for is the standard library's.
    let told = told
        .split("@0.2.")
        .enumerate()
        .map(|(at, part)| match at {
            0 => part.to_owned(),
            _ => format!(
                "@0.2.N{}",
                part.trim_start_matches(|c: char| c.is_ascii_digit())
            ),
        })
        .collect::<String>();
    // Without a system the library can neither sleep nor exit, and says so by a panic and a trap.
    let told = if Way::here().has_system() {
        told
    } else {
        told.replace(
            "Sleeps: Panic: can't sleep",
            "Sleeps: ForbiddenImport: an orchestration has no effects but the actions of its turns, so it must not call: \
             wasi:clocks/monotonic-clock@0.2.N#subscribe-duration",
        )
        .replace(
            "Exits: Trap: wasm trap: wasm `unreachable` instruction executed",
            "Exits: Trap: the guest ended its program instead of returning",
        )
    };
    expect![[r#"
        Sleeps: ForbiddenImport: an orchestration has no effects but the actions of its turns, so it must not call: wasi:clocks/monotonic-clock@0.2.N#subscribe-duration
        ReadsInput: completed with 0
        Exits: Trap: the guest ended its program instead of returning
        Traps: Trap: wasm trap: wasm `unreachable` instruction executed
        PollsForOthers: ForeignAwait: the orchestration awaits something that can never happen: no activity, child, timer, external event or request is open that could wake it. An orchestration can only await what its `Context` makes, and combinations of that; sleep with `ctx.timer`, and do input and output in an activity
        RacesNobody: Panic: a race needs somebody to win it
        TriesNever: Panic: a task is tried at least once
        Unlisted: NotExported: `probe::mistakes::not_in_the_list` has no name: list it under `activities` in `perennial_sdk::export!`
        StartsNobody: completed with "done"
        ChildOfNobody: UnknownOrchestration: no deployed module and no connected worker has an orchestration named "NoSuchOrchestration"
        SendsTooMuch: LimitExceeded: bytes of what it sends to another instance: 2097154; at most 1048576 are allowed
        ShowsTooMuch: LimitExceeded: bytes of the custom status: 20482; at most 16384 are allowed
        ReturnsTooMuch: LimitExceeded: bytes of the output: 2097154; at most 1048576 are allowed
        ReturnsNoJson: InvalidOutput: the output of orchestration "ReturnsNoJson" cannot be written as JSON: key must be a string
        CallsWithTooMuch: LimitExceeded: the input of activity "Keep" has 2097154 bytes; at most 1048576 are allowed
        CallsWithNoJson: InvalidInput: the input of activity "Keep" cannot be written as JSON: key must be a string
        CallsTooOften: LimitExceeded: actions in one turn: 10001; at most 10000 are allowed
        CallsTooOften: InvalidInput: the input of orchestration "CallsTooOften" is not what was expected, `u32`: invalid type: string "often", expected u32 at line 1 column 7
        Calls: UnknownActivity: no deployed module, no registered closure and no connected worker has an activity named "Kep"; did you mean "Keep"?
        Calls: InvalidInput: the input of activity "Sleep" is not what was expected, `u64`: invalid type: string "long", expected u64 at line 1 column 6
    "#]].assert_eq(&told);
}

#[tokio::test]
async fn what_is_asked_for_after_the_end_is_not_done() {
    for between in ALL {
        let mut stage = Stage::probe().await;
        stage.start("CallsAfterTheEnd", Value::Null).await;
        stage.awaits("Go").await;
        stage.disturb(between).await;
        stage.raise("Go", Value::Null).await;
        let ended = stage.end(ID).await;
        assert_eq!(failure(&ended).kind, "ForeignAwait");
        assert_eq!(
            ended.custom_status.as_ref().unwrap().as_str(),
            "\"in time\""
        );
        let history = stage
            .client()
            .status(ID)
            .show_history()
            .await
            .unwrap()
            .unwrap();
        let text = serde_json::to_string(&history.history).unwrap();
        assert!(
            !text.contains("too late") && !text.contains("Late") && !text.contains("Keep"),
            "{text}"
        );
        stage.close().await;
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_at_the_door() {
    let mut stage = Stage::probe().await;
    let client = stage.client();
    let large = "x".repeat(2 << 20);
    let start = client.start("Listens").input(&large).await.unwrap_err();
    stage.start("Listens", json!(["Go"])).await;
    let event = client.raise_event(ID, "Go", &large).await.unwrap_err();
    expect![[r#"
        the payload has 2097154 bytes; at most 1048576 are allowed
        the payload has 2097154 bytes; at most 1048576 are allowed
    "#]]
    .assert_eq(&format!("{start}\n{event}\n"));
    stage.raise("Go", json!("small")).await;
    assert_eq!(output(&stage.end(ID).await), json!(["small"]));
    stage.close().await;
}
