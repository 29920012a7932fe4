//! The API below `/api/v1`, and its document.

use std::time::Duration;

use axum::body::Body;
use expect_test::expect;
use http_body_util::BodyExt;
use perennial_tests::guest;
use serde_json::{Value, json};

use crate::see::{Wire, request};

const API: &str = "/api/v1";

#[tokio::test]
async fn instances_are_started_seen_and_told_what_to_do() {
    let wire = Wire::new().await;
    let start = |body: &str| format!("POST {API}/instances\n\n{body}");
    wire.check(
        &start(r#"{"orchestration":"Wait","id":"a b","input":null,"tags":{"team":"x"}}"#),
        expect![[r#"
            201
            location: /api/v1/instances/a%20b
            {"instanceId":"a b"}
        "#]],
    )
    .await;
    wire.client()
        .wait_for_start("a b", Duration::from_secs(30))
        .await
        .unwrap();
    let shown = wire
        .ask(&format!("GET {API}/instances/a%20b?input=true"))
        .await
        .json();
    assert_eq!(shown["input"], Value::Null);
    assert!(
        shown.as_object().unwrap().contains_key("input"),
        "an input of null is an input"
    );
    assert_eq!(
        (&shown["tags"], &shown["waitsFor"]),
        (
            &json!({ "team": "x" }),
            &json!([{ "kind": "externalEvent", "name": "Go" }])
        )
    );
    wire.check(
        &start(r#"{"orchestration":"Wait","id":"a b","reuse":"never"}"#),
        expect![[r#"
            409
            {"error":{"code":"alreadyExists","message":"instance \"a b\" exists already and is Running"}}
        "#]],
    )
    .await;
    wire.check(&start(r#"{"orchestration":"Nothing"}"#), expect![[r#"
        400
        {"error":{"code":"unknownOrchestration","message":"there is no orchestration \"Nothing\"; deployed: ..."}}
    "#]])
        .await;
    wire.check(
        &start(r#"{"orchestration":"Wait","color":"red"}"#),
        expect![[r#"
            400
            {"error":{"code":"invalid","message":"the body is not what was expected: unknown field `color`, expected one of `name`, `orchestration`, `id`, `instanceId`, `version`, `input`, `tags`, `reuse`, `scheduledTime`, `startAfterMs`, `traceParent`, `executionTimeoutMs`, `event` at line 1 column 31"}}
        "#]],
    )
    .await;
    wire.check(&start(""), expect![[r#"
        400
        {"error":{"code":"invalid","message":"the body is not what was expected: missing field `orchestration` at line 1 column 2"}}
    "#]]).await;
    wire.check(
        &format!("POST {API}/instances/a%20b/suspend\n\n{{\"reason\":\"hold\"}}"),
        expect![[r#"
            202
            {"changed":true}
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {API}/instances/a%20b/resume"),
        expect![[r#"
        202
        {"changed":true}
    "#]],
    )
    .await;
    wire.check(
        &format!("POST {API}/instances/a%20b/events/go\n\n\"now\""),
        expect![[r#"
            202
        "#]],
    )
    .await;
    let ended = wire
        .ask(&format!("GET {API}/instances/a%20b/wait?timeout=30"))
        .await;
    assert_eq!(
        (ended.status, &ended.json()["output"]),
        (200, &json!("now"))
    );
    wire.check(
        &format!("POST {API}/instances/a%20b/terminate"),
        expect![[r#"
            409
            {"error":{"code":"wrongState","message":"instance \"a b\": it has ended and is Completed"}}
        "#]],
    )
    .await;
    wire.check(
        &format!("GET {API}/instances/nobody"),
        expect![[r#"
        404
        {"error":{"code":"notFound","message":"there is no instance \"nobody\""}}
    "#]],
    )
    .await;
    wire.check(
        &format!("GET {API}/counts"),
        expect![[r#"
        200
        {"Completed":1}
    "#]],
    )
    .await;
    wire.begun("Wait", "b").await;
    assert_eq!(
        wire.ask(&format!("GET {API}/instances/b/wait?timeout=0"))
            .await
            .status,
        202
    );
    assert_eq!(
        wire.ask(&format!("GET {API}/instances/b/wait?for=start"))
            .await
            .status,
        200
    );
    wire.check(&format!("GET {API}/instances/b/wait?for=ever"), expect![[r#"
        400
        {"error":{"code":"invalid","message":"the parameter 'for' must be completion, start or change, not \"ever\""}}
    "#]])
        .await;
    let page = wire
        .ask(&format!("GET {API}/instances?limit=1"))
        .await
        .json();
    let after = page["continuationToken"].as_str().unwrap();
    let rest = wire
        .ask(&format!("GET {API}/instances?limit=1&after={after}"))
        .await
        .json();
    assert_eq!(
        (
            &page["instances"][0]["instanceId"],
            &rest["instances"][0]["instanceId"]
        ),
        (&json!("b"), &json!("a b"))
    );
    let hub = wire.ask(&format!("GET {API}/hub")).await.json();
    assert_eq!(
        (&hub["taskHub"], &hub["hosted"], &hub["counts"]["Running"]),
        (&json!("default"), &json!(true), &json!(1))
    );
}

#[tokio::test]
async fn modules_are_looked_at_and_deployed() {
    let wire = Wire::new().await;
    let bytes = std::fs::read(guest("fan-out")).unwrap();
    let send = |method: &str, path: &str, body: Vec<u8>| {
        let mut request = request(&format!("{method} {API}/{path}"));
        *request.body_mut() = Body::from(body);
        request
    };
    let found = wire
        .call(send("POST", "inspect?name=fan", bytes.clone()))
        .await;
    assert_eq!(
        (found.status, &found.json()["name"]),
        (200, &json!("fan")),
        "{}",
        found.body
    );
    assert_eq!(
        wire.ask(&format!("GET {API}/modules/fan")).await.status,
        404
    );
    let deployed = wire.call(send("PUT", "modules/fan", bytes.clone())).await;
    assert_eq!(deployed.status, 200, "{}", deployed.body);
    assert_eq!(deployed.json()["digest"], found.json()["digest"]);
    let shown = wire.ask(&format!("GET {API}/modules/fan")).await.json();
    assert_eq!(shown["definitions"], found.json()["definitions"]);
    let names: Vec<Value> = wire
        .ask(&format!("GET {API}/modules"))
        .await
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["name"].clone())
        .collect();
    assert_eq!(names, ["fan", "hello-sequence", "workloads"]);
    let taken = wire.call(send("PUT", "modules/other", bytes.clone())).await;
    assert_eq!(
        (taken.status, &taken.json()["error"]["code"]),
        (409, &json!("nameTaken")),
        "{}",
        taken.body
    );
    assert_eq!(
        wire.call(send("PUT", "modules/other?replace=true", bytes))
            .await
            .status,
        200
    );
    let nonsense = wire
        .call(send("POST", "inspect", b"nonsense".to_vec()))
        .await;
    expect![[r#"
        400
        {"error":{"code":"invalid","message":"not a WebAssembly file: it looks like a text that begins with \"nonsense\""}}
    "#]].assert_eq(&nonsense.told());
}

/// Reads server-sent events until one has a name, and tells their names, ids and data.
async fn events(wire: &Wire, text: &str, until: &str) -> Vec<(String, String, Value)> {
    let response = tower::ServiceExt::oneshot(wire.router.clone(), request(text))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut read = String::new();
    let mut found = Vec::new();
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(30), body.frame())
            .await
            .unwrap();
        let Some(frame) = frame else { return found };
        read.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        while let Some((event, rest)) = read.split_once("\n\n") {
            let field = |name: &str| {
                event
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            };
            let told = (
                field("event:"),
                field("id:"),
                serde_json::from_str(&field("data:")).unwrap_or_default(),
            );
            let last = told.0 == until;
            found.push(told);
            read = rest.to_owned();
            if last {
                return found;
            }
        }
    }
}

#[tokio::test]
async fn a_history_is_followed_and_taken_up_again() {
    let wire = Wire::new().await;
    wire.begun("CountEvents", "none").await;
    wire.client().start("Wait").id("it").await.unwrap();
    let follow = format!("GET {API}/instances/it/live");
    let (all, ()) = tokio::join!(events(&wire, &follow, "ended"), async {
        wire.client()
            .wait_for_start("it", Duration::from_secs(30))
            .await
            .unwrap();
        wire.client().raise_event("it", "Go", "now").await.unwrap();
    });
    let kinds: Vec<&str> = all
        .iter()
        .map(|(_, _, data)| data["event"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(
        kinds,
        [
            "TurnStarted",
            "ExecutionStarted",
            "TurnStarted",
            "ExternalEventRaised",
            "ExecutionCompleted",
            "-"
        ]
    );
    assert_eq!(all[5].2["output"], "now");
    let (third, fourth) = (&all[2].1, &all[3]);
    let rest = events(&wire, &format!("{follow}\nlast-event-id: {third}"), "ended").await;
    assert_eq!(rest.len(), 3);
    assert_eq!(&rest[0], fourth);
    let last = &all[5].1;
    let nothing = events(&wire, &format!("{follow}?after={last}"), "ended").await;
    assert_eq!(nothing.len(), 1, "only the end is told again");
    wire.check(
        &format!("{follow}\nlast-event-id: nonsense"),
        expect![[r#"
        400
        {"error":{"code":"invalid","message":"\"nonsense\" is not the id of an event of this stream; send the last id that it sent"}}
    "#]],
    )
    .await;
    wire.check(
        &format!("GET {API}/instances/nobody/live"),
        expect![[r#"
        404
        {"error":{"code":"notFound","message":"there is no instance \"nobody\""}}
    "#]],
    )
    .await;
}

#[tokio::test]
async fn whoever_follows_what_went_back_misses_nothing() {
    let wire = Wire::new().await;
    wire.ended("RunsFailing", "it", ()).await;
    let follow = format!("GET {API}/instances/it/live");
    let before = events(&wire, &follow, "ended").await;
    wire.client().rewind("it").await.unwrap();
    wire.until_ended("it").await;
    let after = events(&wire, &follow, "ended").await;
    let number = |event: &(String, String, Value)| event.2["number"].as_u64();
    let execution = before[0].1.split(':').next().unwrap();
    let cut = before
        .iter()
        .find(|event| event.2["event"] == "ActivityFailed")
        .and_then(number)
        .unwrap();
    // The turn of the failure begins one event before it.
    let cut = cut - 1;
    let retold: Vec<_> = after
        .iter()
        .filter(|event| number(event).is_none_or(|number| number >= cut))
        .cloned()
        .collect();
    assert!(retold.len() > 2, "{after:?}");
    let last_event = before[before.len() - 2].1.clone();
    let ended = before[before.len() - 1].1.clone();
    let old = format!("{execution}:{}", number(&before[before.len() - 2]).unwrap());
    for seen in [last_event, ended, old] {
        let rest = events(&wire, &format!("{follow}?after={seen}"), "ended").await;
        assert_eq!(rest, retold, "after {seen}");
    }
    // What came before the cut is not told again.
    let early = &before[0].1;
    let rest = events(&wire, &format!("{follow}\nlast-event-id: {early}"), "ended").await;
    assert_eq!(rest, after[1..]);
    let id = &retold[0].1;
    assert_eq!(id.split(':').nth(1), Some("1"), "{id} has no generation");
    // Nor is anything once it was seen as it became.
    let last = &retold[retold.len() - 1].1;
    let rest = events(&wire, &format!("{follow}?after={last}"), "ended").await;
    assert_eq!(rest.len(), 1);
}

#[tokio::test]
async fn what_begins_anew_is_told_from_its_beginning() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "it", ()).await;
    let follow = format!("GET {API}/instances/it/live");
    let before = events(&wire, &follow, "ended").await;
    let last = &before[before.len() - 1].1;
    wire.client().restart("it").await.unwrap();
    wire.until_ended("it").await;
    let rest = events(&wire, &format!("{follow}?after={last}"), "ended").await;
    assert_eq!(rest.len(), before.len());
    assert_eq!(rest[0].2["number"], 0);
}

#[tokio::test]
async fn many_follow_one_instance_and_each_is_told_everything() {
    let wire = Wire::new().await;
    wire.begun("CountEvents", "other").await;
    let start = wire.client().start("CountEvents").id("it").input(&40);
    start.await.unwrap();
    let follow = format!("GET {API}/instances/it/live");
    let followers = (0..50).map(|_| events(&wire, &follow, "ended"));
    let work = async {
        for n in 0..40_u32 {
            wire.client().raise_event("it", "go", &n).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (told, ()) = tokio::join!(futures::future::join_all(followers), work);
    let numbers = |told: &[(String, String, Value)]| -> Vec<u64> {
        let numbers = told.iter().filter_map(|event| event.2["number"].as_u64());
        numbers.collect()
    };
    let all = numbers(&events(&wire, &follow, "ended").await);
    assert!(all.len() > 40 && all.iter().zip(0..).all(|(a, b)| *a == b));
    for told in told {
        assert_eq!(numbers(&told), all);
    }
}

#[tokio::test]
async fn changes_are_followed_and_taken_up_again() {
    if perennial_tests::postgres::skips(
        "instances of several partitions that begin in the same millisecond have another order",
    ) {
        return;
    }
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "first", ()).await;
    wire.ended("HelloSequence", "other", ()).await;
    // From the beginning of time: what was missed comes first.
    let missed = events_n(&wire, &format!("GET {API}/live?after=0-0"), 2).await;
    let ids: Vec<&str> = missed
        .iter()
        .map(|(_, _, data)| data["instanceId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["first", "other"]);
    let after = events_n(&wire, &format!("GET {API}/live?after={}", missed[0].1), 1).await;
    assert_eq!(after[0], missed[1]);
    let third = format!("GET {API}/live?idPrefix=third");
    let watching = events_n(&wire, &third, 1);
    let (seen, ()) = tokio::join!(watching, async {
        wire.ended("HelloSequence", "unwanted", ()).await;
        wire.ended("HelloSequence", "third", ()).await;
    });
    assert_eq!(seen[0].2["instanceId"], "third");
    wire.check(
        &format!("GET {API}/live?after=nonsense"),
        expect![[r#"
        400
        {"error":{"code":"invalid","message":"\"nonsense\" is not the id of a change; send the last id that the stream sent"}}
    "#]],
    )
    .await;
}

/// So many events of a stream.
/// The event that says that something has changed.
fn changed() -> (String, String, Value) {
    ("changed".to_owned(), String::new(), serde_json::json!({}))
}

#[tokio::test]
async fn that_something_changed_is_told_without_what() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "before", ()).await;
    let (all, one, prefix) = (
        format!("GET {API}/live/changed?every=0.1"),
        format!("GET {API}/live/changed?every=0.1&id=one"),
        format!("GET {API}/live/changed?every=0.1&idPrefix=on"),
    );
    let told = async {
        tokio::join!(
            events_n(&wire, &all, 1),
            events_n(&wire, &one, 1),
            events_n(&wire, &prefix, 1),
        )
    };
    let ((all, one, prefix), ()) = tokio::join!(told, async {
        wire.ended("HelloSequence", "other", ()).await;
        wire.ended("HelloSequence", "one", ()).await;
    });
    for told in [all, one, prefix] {
        assert_eq!(told, [changed()]);
    }
}

#[tokio::test]
async fn notices_of_others_are_not_told() {
    let wire = Wire::new().await;
    let none = format!("GET {API}/live/changed?every=0.1&id=nobody");
    let response = tower::ServiceExt::oneshot(wire.router.clone(), request(&none))
        .await
        .unwrap();
    let mut body = response.into_body();
    let all = format!("GET {API}/live/changed?every=0.1");
    let (told, ()) = tokio::join!(
        events_n(&wire, &all, 1),
        wire.ended("HelloSequence", "somebody", ())
    );
    assert_eq!(told, [changed()]);
    let next = futures::FutureExt::now_or_never(body.frame());
    assert!(next.is_none(), "{next:?}");
}

async fn events_n(wire: &Wire, text: &str, n: usize) -> Vec<(String, String, Value)> {
    let response = tower::ServiceExt::oneshot(wire.router.clone(), request(text))
        .await
        .unwrap();
    let mut body = response.into_body();
    let mut read = String::new();
    while read.matches("\n\n").count() < n {
        let frame = tokio::time::timeout(Duration::from_secs(30), body.frame())
            .await
            .unwrap()
            .unwrap();
        read.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
    }
    let told = read.split_terminator("\n\n").take(n).map(|event| {
        let field = |name: &str| {
            event
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        (
            field("event:"),
            field("id:"),
            serde_json::from_str(&field("data:")).unwrap_or_default(),
        )
    });
    told.collect()
}

#[tokio::test]
async fn every_operation_of_the_document_is_there_and_answers_as_it_says() {
    let wire = Wire::new().await;
    wire.begun("Wait", "x").await;
    let document = wire.ask(&format!("GET {API}/openapi.json")).await.json();
    let paths = document["paths"].as_object().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "an id twice"
            );
            let path = path.replace("{id}", "x").replace("{name}", "nobody");
            let request = request(&format!("{} {API}{path}?timeout=0", method.to_uppercase()));
            let response = tower::ServiceExt::oneshot(wire.router.clone(), request)
                .await
                .unwrap();
            let status = response.status().as_str().to_owned();
            let described = operation["responses"].as_object().unwrap();
            assert!(
                described.contains_key(&status),
                "{method} {path}: {status} is not described"
            );
            if response
                .headers()
                .get("content-type")
                .is_none_or(|kind| kind != "text/event-stream")
            {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert!(
                    !String::from_utf8_lossy(&body).contains("openapi.json describes it"),
                    "{method} {path} is not there"
                );
            }
        }
    }
    assert!(ids.len() >= 15, "{ids:?}");
    // Everything that is referred to is there.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = format!("/{}", reference.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
    wire.check(&format!("PATCH {API}/instances"), expect![[r#"
        405
        allow: GET,HEAD,POST
        {"error":{"code":"methodNotAllowed","message":"there is no PATCH /api/v1/instances in this API, only other methods of the same path; /api/v1/openapi.json describes it"}}
    "#]])
        .await;
    wire.check(&format!("GET {API}/nothing/here"), expect![[r#"
        404
        {"error":{"code":"notFound","message":"there is no GET /api/v1/nothing/here in this API; /api/v1/openapi.json describes it"}}
    "#]])
        .await;
    wire.check(&format!("GET {API}/counts?taskHub=elsewhere"), expect![[r#"
        404
        {"error":{"code":"noTaskHub","message":"the task hub \"elsewhere\" is not served here; served: default"}}
    "#]])
        .await;
}
