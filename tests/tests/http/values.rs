//! Named values and tags, over HTTP and with every kind of client.

use std::time::Duration;

use expect_test::expect;
use http_body_util::BodyExt;
use perennial::{Client, NamedValue, WaitedValue};
use perennial_tests::{DataDir, Serve, module};
use serde_json::{Value, json};

use crate::see::{Wire, request};

const API: &str = "/api/v1";

const LIMIT: Duration = Duration::from_secs(30);

async fn goes_to(client: &Client, id: &str, stage: &str) {
    client.raise_event(id, "Go", stage).await.unwrap();
    let wanted = Some(format!("{stage:?}"));
    let is_it = |value: &NamedValue| value.value.as_ref().map(|json| json.to_string()) == wanted;
    let waited = client.wait_for_value(id, "stage", LIMIT, is_it).await;
    assert!(waited.unwrap().reached().is_some(), "{stage}");
}

fn without_versions(mut value: Value) -> Value {
    if let Value::Array(values) = &mut value {
        return values.iter().cloned().map(without_versions).collect();
    }
    if let Some(version) = value.get_mut("version") {
        *version = json!(version.as_u64().unwrap().min(1));
    }
    value
}

#[tokio::test]
async fn values_are_read_waited_for_and_followed() {
    let wire = Wire::new().await;
    let client = wire.client();
    wire.begun("Stages", "it").await;
    let values = format!("GET {API}/instances/it/values");
    wire.check(
        &values,
        expect![[r#"
        200
        []
    "#]],
    )
    .await;
    wire.check(
        &format!("{values}/stage"),
        expect![[r#"
            200
            {"name":"stage",
             "version":0,
             "runtimeStatus":"Running"}
        "#]],
    )
    .await;
    // Who waits is answered at the change.
    let waits = format!("{values}/stage?since=0&timeout=30");
    let (answer, ()) = tokio::join!(wire.ask(&waits), goes_to(&client, "it", "paid"));
    assert_eq!(answer.status, 200);
    let told = answer.json();
    let version = told["version"].as_u64().unwrap();
    assert_eq!(
        without_versions(told),
        json!({ "name": "stage", "value": "paid", "version": 1, "setTime": "2030-01-01T00:00:00.000Z", "runtimeStatus": "Running" })
    );
    let still = format!("{values}/stage?since={version}&timeout=0.05");
    assert_eq!(wire.ask(&still).await.status, 202);
    let earlier = format!("{values}/stage?since=1&timeout=30");
    assert_eq!(wire.ask(&earlier).await.status, 200);
    let all = wire.ask(&values).await.json();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    let shown = wire.ask(&format!("GET {API}/instances/it")).await.json();
    assert_eq!(
        shown["values"],
        json!({ "stage": "paid", "tags": [["stage", "paid"]] })
    );
    let listed = wire.ask(&format!("GET {API}/instances")).await.json();
    assert!(listed["instances"][0].get("values").is_none());
    // A follower has each value, and the end.
    let follow = format!("{values}/stage/live");
    let (told, ()) = tokio::join!(followed(&wire, &follow), async {
        for stage in ["sent", "clear", "there"] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            client.raise_event("it", "Go", stage).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.raise_event("it", "Go", "end").await.unwrap();
    });
    let seen: Vec<(&str, &Value)> = told
        .iter()
        .map(|(event, _, data)| (event.as_str(), &data["value"]))
        .collect();
    assert_eq!(
        seen,
        [
            ("value", &json!("paid")),
            ("value", &json!("sent")),
            ("value", &Value::Null),
            ("value", &json!("there")),
            ("ended", &json!("there"))
        ]
    );
    let last = &told[3].1;
    let rest = followed(&wire, &format!("{follow}\nlast-event-id: {last}")).await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    // The end is no reason to wait on, and the values are still there.
    let version = wire.ask(&format!("{values}/stage")).await.json()["version"].to_string();
    let ended = format!("{values}/stage?since={version}&timeout=30");
    let begun = std::time::Instant::now();
    assert_eq!(wire.ask(&ended).await.status, 202);
    assert!(begun.elapsed() < LIMIT);
    for (bad, status) in [
        (format!("GET {API}/instances/nobody/values"), 404),
        (format!("GET {API}/instances/nobody/values/x"), 404),
        (format!("GET {API}/instances/nobody/values/x?since=0"), 404),
        (format!("GET {API}/instances/nobody/values/x/live"), 404),
        (format!("{values}/stage?since=soon"), 400),
        (format!("{follow}?after=soon"), 400),
    ] {
        assert_eq!(wire.ask(&bad).await.status, status, "{bad}");
    }
    let history = client.history("it").page(None).await.unwrap();
    let text = serde_json::to_value(&history.events).unwrap();
    let events: Vec<&Value> = text.as_array().unwrap().iter().collect();
    let of = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    assert_eq!(of("ValueSet")["name"], "stage");
    assert_eq!(
        (&of("TagSet")["key"], &of("TagSet")["tagValue"]),
        (&json!("stage"), &json!("paid"))
    );
}

/// The server-sent events of a stream that ends: their names, ids and data.
async fn followed(wire: &Wire, text: &str) -> Vec<(String, String, Value)> {
    let response = tower::ServiceExt::oneshot(wire.router.clone(), request(text));
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let body = tokio::time::timeout(LIMIT, response.into_body().collect()).await;
    let body = body.unwrap().unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let events = text.split_terminator("\n\n").filter(|event| *event != ":");
    let told = events.map(|event| {
        let field = |name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let data = serde_json::from_str(&field("data:")).unwrap();
        (field("event:"), field("id:"), data)
    });
    told.collect()
}

#[tokio::test]
async fn tags_are_changed_and_lists_know_it_at_once() {
    let wire = Wire::new().await;
    wire.begun("Wait", "it").await;
    let tags = format!("PATCH {API}/instances/it/tags\n\n");
    wire.check(
        &format!(r#"{tags}{{"team":"red","owner":"eve","gone":null}}"#),
        expect![[r#"
            200
            {"owner":"eve",
             "team":"red"}
        "#]],
    )
    .await;
    wire.check(
        &format!(r#"{tags}{{"owner":null}}"#),
        expect![[r#"
        200
        {"team":"red"}
    "#]],
    )
    .await;
    let found = wire.ask(&format!("GET {API}/instances?tag=team=red")).await;
    assert_eq!(found.json()["instances"][0]["instanceId"], "it");
    wire.client().raise_event("it", "Go", "now").await.unwrap();
    wire.until_ended("it").await;
    wire.check(
        &format!(r#"{tags}{{"late":"yes"}}"#),
        expect![[r#"
        200
        {"late":"yes",
         "team":"red"}
    "#]],
    )
    .await;
    wire.check(
        &format!("PATCH {API}/instances/nobody/tags\n\n{{\"a\":\"b\"}}"),
        expect![[r#"
            404
            {"error":{"code":"notFound","message":"there is no instance \"nobody\""}}
        "#]],
    )
    .await;
    wire.check(&format!(r#"{tags}{{"a":1}}"#), expect![[r#"
        400
        {"error":{"code":"invalid","message":"the body is not what was expected: invalid type: integer `1`, expected a string at line 1 column 6"}}
    "#]])
        .await;
    wire.check(
        &format!(r#"{tags}{{"":"x"}}"#),
        expect![[r#"
        400
        {"error":{"code":"invalid","message":"the key of a tag must not be empty"}}
    "#]],
    )
    .await;
    let many: serde_json::Map<String, Value> =
        (0..63).map(|i| (format!("t{i}"), json!(""))).collect();
    wire.check(&format!("{tags}{}", Value::Object(many)), expect![[r#"
        400
        {"error":{"code":"invalid","message":"an instance has at most 64 tags, \"it\" would have 65: remove some with the same request"}}
    "#]])
        .await;
}

/// What a client is told, without what differs from hub to hub.
async fn told(client: &Client) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |what: Value| said.push(what.to_string());
    let named = |value: &NamedValue| without_times(serde_json::to_value(value).unwrap());
    client.start("Stages").id("it").await.unwrap();
    client.wait_for_start("it", LIMIT).await.unwrap();
    say(json!(client.value("it", "stage").await.unwrap().is_none()));
    let seen = client.named_value("it", "stage").await.unwrap();
    say(named(&seen));
    let changed = |value: &NamedValue| value.version != seen.version;
    let change = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.raise_event("it", "Go", "paid").await.unwrap();
    };
    let (waited, ()) = tokio::join!(client.wait_for_value("it", "stage", LIMIT, changed), change);
    say(named(waited.unwrap().value()));
    goes_to(client, "it", "sent").await;
    let short = Duration::from_millis(10);
    let never = client
        .wait_for_value("it", "stage", short, |_| false)
        .await
        .unwrap();
    assert!(matches!(never, WaitedValue::TimedOut(_)));
    for value in client.values("it").await.unwrap() {
        say(named(&value));
    }
    say(json!(
        client
            .set_tags("it")
            .set("owner", "eve")
            .remove("none")
            .await
            .unwrap()
    ));
    say(json!(
        client
            .set_tags("it")
            .set("", "x")
            .await
            .unwrap_err()
            .to_string()
    ));
    let many = (0..64).fold(client.set_tags("it"), |change, i| {
        change.set(format!("t{i}"), "")
    });
    say(json!(many.await.unwrap_err().to_string()));
    client.raise_event("it", "Go", "again").await.unwrap();
    // The next execution knows what a client has set, and what the one before has.
    goes_to(client, "it", "next").await;
    say(json!(
        client
            .value("it", "tags")
            .await
            .unwrap()
            .unwrap()
            .to_string()
    ));
    client.raise_event("it", "Go", "end").await.unwrap();
    let never = client
        .wait_for_value("it", "stage", LIMIT, |_| false)
        .await
        .unwrap();
    assert!(matches!(never, WaitedValue::Ended(_)));
    say(named(never.value()));
    let status = client.wait_for_completion("it", LIMIT).await.unwrap();
    say(json!(
        status
            .status()
            .values
            .iter()
            .map(|(k, v)| (k, v.to_string()))
            .collect::<Vec<_>>()
    ));
    say(json!(status.status().tags));
    say(json!(
        client.set_tags("it").set("late", "yes").await.unwrap()
    ));
    for missing in [
        client.value("nobody", "x").await.map(drop),
        client.values("nobody").await.map(drop),
        client
            .wait_for_value("nobody", "x", LIMIT, |_| true)
            .await
            .map(drop),
        client.set_tags("nobody").set("a", "b").await.map(drop),
    ] {
        let error = missing.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        say(json!(error.to_string()));
    }
    said
}

fn without_times(value: Value) -> Value {
    let mut value = without_versions(value);
    if let Some(at) = value.get_mut("setTime") {
        *at = json!("then");
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_is_told_the_same() {
    let here = Wire::new().await;
    let first = told(&here.client()).await;
    let of_process = async |remote: bool| {
        let dir = DataDir::new();
        let serve = Serve::start(dir.path(), &["--listen", "127.0.0.1:0"]);
        let client = match remote {
            true => {
                let url = format!("http://{}", serve.address());
                Client::connect(&url, "default", None).unwrap()
            }
            false => dir.client(),
        };
        client.deploy(module("workloads")).await.unwrap();
        told(&client).await
    };
    assert_eq!(of_process(false).await, first);
    assert_eq!(of_process(true).await, first);
    expect![[r#"
        true
        {"name":"stage","runtimeStatus":"Running","version":0}
        {"name":"stage","runtimeStatus":"Running","setTime":"then","value":"paid","version":1}
        {"name":"stage","runtimeStatus":"Running","setTime":"then","value":"sent","version":1}
        {"name":"tags","runtimeStatus":"Running","setTime":"then","value":[["stage","sent"]],"version":1}
        [["owner","eve"],["stage","sent"]]
        "the key of a tag must not be empty"
        "an instance has at most 64 tags, \"it\" would have 66: remove some with the same request"
        "[[\"owner\",\"eve\"],[\"stage\",\"next\"]]"
        {"name":"stage","runtimeStatus":"Completed","setTime":"then","value":"next","version":1}
        [["stage","\"next\""],["tags","[[\"owner\",\"eve\"],[\"stage\",\"next\"]]"]]
        [["owner","eve"],["stage","next"]]
        [["late","yes"],["owner","eve"],["stage","next"]]
        "there is no instance \"nobody\""
        "there is no instance \"nobody\""
        "there is no instance \"nobody\""
        "there is no instance \"nobody\""
    "#]].assert_eq(&(first.join("\n") + "\n"));
}
