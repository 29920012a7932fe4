//! Annotated functions of a guest: what they are exported as, and what comes of typed failures and of payloads that are encoded twice.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::time::Duration;

use perennial::{Client, DefinitionKind, Event, InstanceStatus, NamedValue, Status};
use perennial_tests::{DataDir, module};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

async fn ended(client: &Client, id: &str) -> InstanceStatus {
    let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
    waited.reached().unwrap()
}

async fn run(client: &Client, orchestration: &str, input: &str) -> InstanceStatus {
    let id = client.start(orchestration).input(&input).await.unwrap();
    ended(client, &id).await
}

fn output(status: &InstanceStatus) -> Value {
    assert_eq!(status.runtime_status, Status::Completed, "{status:?}");
    serde_json::from_str(status.output.as_ref().unwrap().as_str()).unwrap()
}

#[tokio::test]
async fn what_is_written_is_what_is_exported() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("authored")).await.unwrap();
    let modules = client.modules().await.unwrap();
    let definitions: Vec<_> = modules[0]
        .definitions
        .iter()
        .map(|known| {
            let kind = if known.kind == DefinitionKind::Activity {
                'a'
            } else {
                'o'
            };
            let described = (known.version.as_deref(), known.description.as_deref());
            (kind, known.name.as_str(), described.0, described.1)
        })
        .collect();
    let expected = [
        (
            'o',
            "Prints",
            Some("3"),
            Some("Prints in each of its turns, and has an activity print too."),
        ),
        (
            'o',
            "Order",
            None,
            Some("Tells what the failure of an activity says, or hands it on."),
        ),
        ('o', "OrderByChild", None, Some("The same of a child.")),
        (
            'o',
            "stock.reserve",
            None,
            Some("Reserves, or says why not"),
        ),
        (
            'o',
            "Counts",
            None,
            Some(
                "Takes an input, the data of events and the outcome of an activity that may be encoded twice.",
            ),
        ),
        (
            'o',
            "Lease",
            None,
            Some("Takes something for a day, and gives it back when it is cancelled."),
        ),
        (
            'o',
            "LeaseByChild",
            None,
            Some("Has a child lease something, and drops it when it is told to."),
        ),
        (
            'o',
            "Copy",
            None,
            Some(
                "Copies in parts, in an activity whose first attempt fails half-way. Returns the part that the last attempt began with.",
            ),
        ),
        ('a', "PrintInActivity", None, None),
        ('a', "Reserve", None, None),
        ('a', "Echo", None, None),
        ('a', "CopyParts", None, None),
    ];
    assert_eq!(definitions, expected);
    host.shut_down().await;
}

#[tokio::test]
async fn a_typed_failure_is_matched_by_who_called() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("authored")).await.unwrap();
    for (orchestration, item, said) in [
        ("Order", "stool", "1 reserved"),
        ("Order", "chair", "only 2 of chair"),
        ("Order", "table", "come back tomorrow"),
        ("OrderByChild", "stool", "reserved"),
        ("OrderByChild", "chair", "the child has 2"),
    ] {
        let status = run(&client, orchestration, item).await;
        assert_eq!(output(&status), said, "{orchestration} {item}");
    }
    let failure = |status: InstanceStatus| {
        assert_eq!(status.runtime_status, Status::Failed);
        status.failure.unwrap()
    };
    let closed = failure(run(&client, "OrderByChild", "table").await);
    assert_eq!(
        (&*closed.kind, &*closed.message, closed.retryable),
        ("warehouse-closed", "Nobody answers at the warehouse.", true)
    );
    let sold_out = failure(run(&client, "stock.reserve", "chair").await);
    assert_eq!(
        (&*sold_out.kind, &*sold_out.message, sold_out.retryable),
        ("SoldOut", "2 left of chair", false)
    );
    let details: Value = serde_json::from_str(sold_out.details.as_ref().unwrap().as_str()).unwrap();
    assert_eq!(details, json!({ "item": "chair", "left": 2 }));
    host.shut_down().await;
}

#[tokio::test]
async fn payloads_that_are_encoded_twice_are_read() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("authored")).await.unwrap();
    let reservation = |count: u32| json!({ "item": "chair", "count": count });
    // As values, and as texts that contain their JSON.
    for twice in [false, true] {
        let sent = |value: Value| match twice {
            false => value,
            true => Value::from(value.to_string()),
        };
        let start = client.start("Counts").input(&sent(reservation(3)));
        let id = start.await.unwrap();
        let more = sent(reservation(4));
        client.raise_event(&id, "More", &more).await.unwrap();
        // What is wanted is a text, so it is not looked into.
        let text = "[1]";
        client.raise_event(&id, "Text", &text).await.unwrap();
        let status = ended(&client, &id).await;
        assert_eq!(output(&status), "3 chair, 4 chair, 7, [1]");
    }
    let wrong = run(&client, "Counts", "no reservation").await;
    let failure = wrong.failure.unwrap();
    assert_eq!(failure.kind, "InvalidInput");
    assert!(
        failure
            .message
            .contains(r#"invalid type: string "no reservation""#),
        "{failure:?}"
    );
    host.shut_down().await;
}

/// The inputs of the calls of `Echo` in a history.
async fn echoed(client: &Client, id: &str) -> Vec<String> {
    let history = client.history(id).await.unwrap();
    let events = history.iter().flatten();
    let inputs = events.filter_map(|event| match &event.event {
        Event::ActivityScheduled { input, .. } => Some(input.as_ref()?.as_str().to_owned()),
        _ => None,
    });
    inputs.collect()
}

#[tokio::test]
async fn what_is_cancelled_compensates_and_ends_with_the_reason() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("authored")).await.unwrap();
    client
        .start("Lease")
        .id("a")
        .input(&"a boat")
        .await
        .unwrap();
    let leased = |stage: &NamedValue| stage.value.is_some();
    let waited = client.wait_for_value("a", "stage", LIMIT, leased).await;
    waited.unwrap();
    let command = client.cancel("a", Some("it rains"));
    assert!(command.await.unwrap().is_changed());
    let status = ended(&client, "a").await;
    assert_eq!(status.runtime_status, Status::Terminated, "{status:?}");
    assert_eq!(status.output.unwrap().as_str(), "\"it rains\"");
    let expected = ["\"a boat taken\"", "\"a boat given back\""];
    assert_eq!(echoed(&client, "a").await, expected);
    // What has ended is not asked.
    let late = client.cancel("a", None).await.unwrap_err();
    assert!(late.is_wrong_state(), "{late}");
}

#[tokio::test]
async fn a_child_that_is_dropped_is_cancelled_and_a_time_limit_ends_as_a_failure() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("authored")).await.unwrap();
    let id = client.start("LeaseByChild").input(&"a tent").await.unwrap();
    client.wait_for_start("the-lease", LIMIT).await.unwrap();
    client.raise_event(&id, "Drop", &()).await.unwrap();
    assert_eq!(ended(&client, &id).await.runtime_status, Status::Completed);
    let child = ended(&client, "the-lease").await;
    assert_eq!(child.runtime_status, Status::Terminated, "{child:?}");
    let start = client.start("Lease").input(&"a car");
    let id = start
        .execution_timeout(Duration::from_millis(50))
        .await
        .unwrap();
    let status = ended(&client, &id).await;
    assert_eq!(status.runtime_status, Status::Failed, "{status:?}");
    assert_eq!(status.failure.unwrap().kind, "Timeout");
}

#[tokio::test]
async fn the_next_attempt_goes_on_from_the_last_heartbeat() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("authored")).await.unwrap();
    let id = client.start("Copy").input(&10).await.unwrap();
    assert_eq!(output(&ended(&client, &id).await), json!([5, "once"]));
}
