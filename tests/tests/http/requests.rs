//! Requests to instances, over HTTP and with every kind of client.

use std::time::Duration;

use perennial::{Client, RequestState, RequestStatus, Result};
use perennial_tests::{DataDir, Serve, module};
use serde_json::{Value, json};

use crate::see::Wire;

const API: &str = "/api/v1";

const LIMIT: Duration = Duration::from_secs(30);

/// A wire with the cart, and an instance of it.
async fn with_cart() -> Wire {
    let wire = Wire::new().await;
    wire.client().deploy(module("cart")).await.unwrap();
    wire.begun("Cart", "c").await;
    wire
}

fn book(count: u64) -> Value {
    json!({ "sku": "book", "count": count })
}

#[tokio::test]
async fn a_request_is_answered_in_the_answer_to_its_call() {
    let wire = with_cart().await;
    let send = format!("POST {API}/instances/c/requests");
    let body = |name: &str, id: &str, input: Value| {
        json!({ "name": name, "requestId": id, "input": input }).to_string()
    };
    let added = wire
        .ask(&format!("{send}\n\n{}", body("AddItem", "r1", book(2))))
        .await;
    assert_eq!(added.status, 200, "{}", added.told());
    assert_eq!(
        added.json(),
        json!({
            "instanceId": "c", "requestId": "r1", "name": "AddItem", "state": "completed",
            "createdTime": "2030-01-01T00:00:00.000Z", "answeredTime": "2030-01-01T00:00:00.000Z", "output": 3_000
        })
    );
    // The same request again, by the body or by the header: nothing is added.
    let again = format!(
        "{send}\nidempotency-key: r1\n\n{}",
        json!({ "name": "additem" })
    );
    assert_eq!(wire.ask(&again).await.json()["output"], 3_000);
    // Refused by the validator: nothing is recorded.
    let declined = wire
        .ask(&format!("{send}\n\n{}", body("AddItem", "r2", book(0))))
        .await;
    assert_eq!(declined.status, 200);
    let told = declined.json();
    assert_eq!(
        (
            &told["state"],
            &told["failure"]["kind"],
            told.get("createdTime")
        ),
        (&json!("failed"), &json!("Count"), None)
    );
    assert_eq!(
        wire.ask(&format!("GET {API}/instances/c/requests/r2"))
            .await
            .status,
        404
    );
    // One that nobody serves waits, and is found later.
    let kept = format!("{send}?timeout=0.05\n\n{}", body("Gift", "r3", Value::Null));
    let kept = wire.ask(&kept).await;
    assert_eq!(
        (kept.status, &kept.json()["state"]),
        (202, &json!("pending"))
    );
    let listed = wire
        .ask(&format!("GET {API}/instances/c/requests"))
        .await
        .json();
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["requestId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["r1", "r3"]);
    let waits = wire.ask(&format!("GET {API}/instances/c")).await.json()["waitsFor"].clone();
    assert!(
        waits
            .as_array()
            .unwrap()
            .contains(&json!({ "kind": "request", "name": "AddItem" })),
        "{waits}"
    );
    // A start and a request in one.
    let start =
        json!({ "name": "AddItem", "input": book(1), "start": { "orchestration": "Cart" } });
    let new = wire
        .ask(&format!("POST {API}/instances/d/requests\n\n{start}"))
        .await;
    assert_eq!((new.status, &new.json()["output"]), (200, &json!(1_500)));
    // The end: what was open fails.
    let paid = format!(
        "{send}\n\n{}",
        body("Checkout", "pay", json!({ "card": "4242" }))
    );
    assert_eq!(wire.ask(&paid).await.json()["output"]["cents"], 3_000);
    wire.until_ended("c").await;
    let open = wire
        .ask(&format!("GET {API}/instances/c/requests/r3?timeout=30"))
        .await;
    assert_eq!(
        (open.status, &open.json()["failure"]["kind"]),
        (200, &json!("NotAnswered"))
    );
    for (bad, status, code) in [
        (
            format!("POST {API}/instances/nobody/requests\n\n{{\"name\":\"X\"}}"),
            404,
            "notFound",
        ),
        (format!("{send}\n\n{{\"name\":\"X\"}}"), 409, "wrongState"),
        (
            format!("{send}\n\n{}", body("Gift", "r1", Value::Null)),
            400,
            "invalid",
        ),
        (format!("{send}\n\n{{\"name\":\"\"}}"), 400, "invalid"),
        (format!("{send}\n\n{{\"input\":1}}"), 400, "invalid"),
        (
            format!(
                "{send}\nidempotency-key: a\n\n{}",
                body("Gift", "b", Value::Null)
            ),
            400,
            "invalid",
        ),
        (
            format!(
                "{send}\n\n{{\"name\":\"X\",\"start\":{{\"orchestration\":\"Cart\",\"id\":\"e\"}}}}"
            ),
            400,
            "invalid",
        ),
        (
            format!(
                "POST {API}/instances/e/requests\n\n{{\"name\":\"X\",\"start\":{{\"orchestration\":\"Nope\"}}}}"
            ),
            400,
            "unknownOrchestration",
        ),
        (
            format!("GET {API}/instances/nobody/requests"),
            404,
            "notFound",
        ),
        (
            format!("GET {API}/instances/c/requests/none"),
            404,
            "unknownRequest",
        ),
    ] {
        let answer = wire.ask(&bad).await;
        let told = answer.json();
        assert_eq!(
            (answer.status, &told["error"]["code"]),
            (status, &json!(code)),
            "{bad}: {told}"
        );
    }
}

#[tokio::test]
async fn a_start_may_bring_an_event() {
    let wire = Wire::new().await;
    let start = |id: &str| {
        let body =
            json!({ "orchestration": "Wait", "id": id, "event": { "name": "Go", "data": "now" } });
        format!("POST {API}/instances\n\n{body}")
    };
    assert_eq!(wire.ask(&start("a")).await.status, 201);
    wire.until_ended("a").await;
    wire.begun("Wait", "b").await;
    assert_eq!(wire.ask(&start("b")).await.status, 200);
    wire.until_ended("b").await;
}

/// What a client is told, without what differs from hub to hub.
async fn told(client: &Client) -> Vec<String> {
    fn shown(what: Result<Value>) -> String {
        match what {
            Ok(value) => value.to_string(),
            Err(error) => match error.request_failure() {
                Some(failure) => format!("{}: {error}", failure.kind),
                None => format!("{} {error}", error.code()),
            },
        }
    }
    let mut said = Vec::new();
    let cart = || client.start("Cart");
    let add = |id: &str, count: u64| client.request::<Value>("c", "AddItem", &book(count)).id(id);
    said.push(shown(add("r0", 1).await));
    said.push(shown(add("r1", 1).or_start(cart()).await));
    said.push(shown(add("r2", 1).or_start(cart()).await));
    said.push(shown(add("r2", 1).await));
    said.push(shown(add("r3", 100).await));
    said.push(shown(
        client.request("c", "AddItem", "a book").id("r4").await,
    ));
    let gift = client.request::<Value>("c", "Gift", &()).id("r5");
    let unanswered = gift.within(Duration::from_millis(10)).await.unwrap_err();
    assert!(unanswered.is_unanswered());
    assert_eq!(unanswered.request_id(), Some("r5"));
    said.push(unanswered.to_string());
    said.push(shown(client.request("c", "Gift", &()).id("r1").await));
    let receipt: Value = client
        .request("c", "Checkout", &json!({ "card": "4242" }))
        .await
        .unwrap();
    said.push(receipt["cents"].to_string());
    let ended = client.wait_for_completion("c", LIMIT).await.unwrap();
    assert!(ended.reached().is_some());
    said.push(shown(add("r6", 1).await));
    let late = client.wait_for_answer("c", "r5", LIMIT).await.unwrap();
    assert_eq!(late.state, RequestState::Failed);
    said.push(shown(late.output_as()));
    let status = |request: &RequestStatus| {
        let failure = request.failure.as_ref().map(|failure| &failure.kind);
        json!([request.name, request.state, failure]).to_string()
    };
    said.push(status(&client.request_status("c", "r1").await.unwrap()));
    said.push(client.requests("c").await.unwrap().len().to_string());
    for missing in [
        client.request_status("c", "none").await.map(drop),
        client.request_status("nobody", "r1").await.map(drop),
        client.requests("nobody").await.map(drop),
        client.wait_for_answer("c", "none", LIMIT).await.map(drop),
    ] {
        let error = missing.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        said.push(error.to_string());
    }
    let seen = client
        .start("Cart")
        .id("e")
        .with_event("Seen", &1)
        .await
        .unwrap();
    said.push(format!("{} {}", seen.id, seen.is_new));
    let seen = client
        .start("Cart")
        .id("e")
        .with_event("Seen", &1)
        .await
        .unwrap();
    said.push(format!("{} {}", seen.id, seen.is_new));
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_is_told_the_same() {
    let here = Wire::new().await;
    here.client().deploy(module("cart")).await.unwrap();
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
        client.deploy(module("cart")).await.unwrap();
        told(&client).await
    };
    assert_eq!(of_process(false).await, first);
    assert_eq!(of_process(true).await, first);
    expect_test::expect![[r#"
        notFound there is no instance "c"
        1500
        3000
        3000
        Count: request "AddItem" to instance "c" failed: Count: 100 is not a number of items: take 1 to 99
        InvalidInput: request "AddItem" to instance "c" failed: InvalidInput: the input of request "AddItem" is not what was expected, `cart::Item`: invalid type: string "a book", expected struct Item at line 1 column 8
        instance "c" has not answered request "Gift" yet; it keeps the request, and its answer is found under the id "r5"
        invalid instance "c" was asked "AddItem" under this id already: each request needs an id of its own
        3000
        wrongState instance "c": it has ended and is Completed
        NotAnswered: request "Gift" to instance "c" failed: NotAnswered: instance "c" is Completed and has not answered
        ["AddItem","completed",null]
        4
        instance "c" has no request with the id "none"
        there is no instance "nobody"
        there is no instance "nobody"
        instance "c" has no request with the id "none"
        e true
        e false
    "#]].assert_eq(&(first.join("\n") + "\n"));
}
