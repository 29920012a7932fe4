//! The task hub, its keys, grants and modules over HTTP; histories in pages, families, and waiting for a change.

use axum::body::Body;
use expect_test::expect;
use http_body_util::BodyExt as _;
use perennial::{Grants, Role};
use perennial_tests::guest;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::see::{Answer, Wire, request};

const API: &str = "/api/v1";

/// A wire, and a key with which everything is allowed, as a header.
async fn with_key() -> (Wire, String) {
    let wire = Wire::new().await;
    let made = wire.client().create_key("all", Role::Admin).await.unwrap();
    (wire, format!("x-functions-key: {}", made.secret))
}

#[tokio::test]
async fn what_a_hub_holds_and_keeps_is_told_and_said() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "h1", ()).await;
    wire.begun("Wait", "w1").await;
    let stats = wire.ask(&format!("GET {API}/hub/stats")).await.json();
    assert_eq!(stats["instances"], json!({ "Running": 1, "Completed": 1 }));
    assert_eq!(
        (&stats["taskHub"], &stats["modules"]),
        (&json!("default"), &json!(2))
    );
    let counts = async |query: &str| wire.ask(&format!("GET {API}/counts?{query}")).await.json();
    assert_eq!(counts("name=Wait").await, json!({ "Running": 1 }));
    assert_eq!(counts("status=Canceled").await, json!({}));
    let first = async |order: &str| {
        let list = format!("GET {API}/instances?limit=1&order={order}");
        wire.ask(&list).await.json()["instances"][0]["instanceId"].clone()
    };
    assert_eq!(first("oldestFirst").await, "h1");
    assert_eq!(first("newestFirst").await, "w1");
    assert_eq!(
        wire.ask(&format!("GET {API}/instances?order=up"))
            .await
            .status,
        400
    );

    let retention = format!("GET {API}/hub/retention");
    wire.check(
        &format!("PUT {API}/hub/retention\n\n{{\"completed\": 3600000}}"),
        expect![[r#"
            200
            {"completed":3600000,
             "failed":null,
             "terminated":null}
        "#]],
    )
    .await;
    assert_eq!(wire.ask(&retention).await.json()["completed"], 3_600_000);
    let wrong = format!("PUT {API}/hub/retention\n\n{{\"done\": 1}}");
    assert_eq!(wire.ask(&wrong).await.status, 400);
}

#[tokio::test]
async fn keys_and_grants_are_for_whoever_has_a_key_that_may_do_everything() {
    let (wire, key) = with_key().await;
    let reader = wire
        .client()
        .create_key("eyes", Role::ReadOnly)
        .await
        .unwrap();
    let grants = r#"{"env": [["SECRET", "hush"]], "httpHosts": ["a.example.com"]}"#;
    let guarded = [
        ("GET", "keys", ""),
        ("POST", "keys", r#"{"name": "new", "role": "read-only"}"#),
        (
            "PUT",
            "modules/workloads/grants",
            // The name in the hub's file is accepted too.
            r#"{"http_hosts": ["b.example.com"]}"#,
        ),
        ("PUT", "modules/workloads/grants", grants),
        (
            "POST",
            "modules/workloads/grants",
            r#"{"env": [["MORE", "1"]]}"#,
        ),
    ];
    for (method, path, body) in guarded {
        let ask = async |headers: &str| {
            let text = format!("{method} {API}/{path}{headers}\n\n{body}");
            wire.ask(&text).await
        };
        for headers in [
            "",
            "\nx-functions-key: wrong",
            &format!("\nx-functions-key: {}", reader.secret),
        ] {
            let refused = ask(headers).await;
            assert_eq!(refused.status, 403, "{method} {path}");
            assert_eq!(refused.json()["error"]["code"], "forbidden");
        }
        assert!(
            ask(&format!("\n{key}")).await.status < 300,
            "{method} {path}"
        );
    }
    // Nobody is told what a granted variable holds.
    let shown = wire.ask(&format!("GET {API}/modules/workloads")).await;
    assert_eq!(
        shown.json()["grants"],
        json!({ "dirs": [], "env": ["SECRET", "MORE"], "httpHosts": ["a.example.com"] })
    );
    let all = wire.ask(&format!("GET {API}/modules\n{key}")).await;
    assert!(!shown.body.contains("hush") && !all.body.contains("hush"));

    let keys = wire.ask(&format!("GET {API}/keys\n{key}")).await.json();
    // Those of one millisecond are in any order.
    let keys: std::collections::BTreeMap<&str, &Value> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["name"].as_str().unwrap(), key))
        .collect();
    assert!(keys.keys().eq(&["all", "eyes", "new"]));
    assert!(keys["new"]["key"].is_null());
    let revoke = format!(
        "DELETE {API}/keys/{}\n{key}",
        keys["new"]["id"].as_str().unwrap()
    );
    assert_eq!(wire.ask(&revoke).await.status, 204);
    assert_eq!(wire.ask(&revoke).await.status, 404);
    let nobody = format!("PUT {API}/modules/nobody/grants\n{key}\n\n{{}}");
    assert_eq!(wire.ask(&nobody).await.status, 404);
    for wrong in [
        r#"{"dirs": [{"host": "/nowhere/at/all", "guest": "/x"}]}"#,
        r#"{"files": []}"#,
    ] {
        let text = format!("PUT {API}/modules/workloads/grants\n{key}\n\n{wrong}");
        assert_eq!(wire.ask(&text).await.status, 400, "{wrong}");
    }
}

async fn put(wire: &Wire, head: &str, body: Vec<u8>) -> Answer {
    let mut request = request(head);
    *request.body_mut() = Body::from(body);
    wire.call(request).await
}

#[tokio::test]
async fn a_module_is_deployed_with_its_grants_and_removed_and_collected() {
    let (wire, key) = with_key().await;
    let bytes = std::fs::read(guest("fan-out")).unwrap();
    let plain = put(&wire, &format!("PUT {API}/modules/fan"), bytes.clone()).await;
    assert_eq!(plain.status, 200, "{}", plain.body);
    let upload = json!({
        "component": base64(&bytes),
        "grants": Grants::new().env("A", "1"),
    });
    let upload = upload.to_string().into_bytes();
    let head = format!("PUT {API}/modules/fan\ncontent-type: application/json");
    assert_eq!(put(&wire, &head, upload.clone()).await.status, 403);
    let granted = put(&wire, &format!("{head}\n{key}"), upload).await;
    assert_eq!(granted.json()["digest"], plain.json()["digest"]);
    let shown = wire.ask(&format!("GET {API}/modules/fan")).await.json();
    assert_eq!(shown["grants"]["env"], json!(["A"]));
    for broken in [r#"{"component": "?"}"#, r#"{"component": "AA=="}"#, "{}"] {
        let broken = put(&wire, &head, broken.as_bytes().to_vec()).await;
        assert_eq!(broken.status, 400, "{}", broken.body);
    }

    components(&wire, plain.json()["digest"].as_str().unwrap()).await;
    wire.begun("Wait", "w1").await;
    wire.check(
        &format!("DELETE {API}/modules/workloads"),
        expect![[r#"
            409
            {"error":{"code":"inUse","message":"a live instance runs module \"workloads\""}}
        "#]],
    )
    .await;
    let removed = async |path: &str| {
        wire.ask(&format!("DELETE {API}/modules/{path}"))
            .await
            .status
    };
    assert_eq!(removed("fan").await, 204);
    assert_eq!(removed("fan").await, 404);
    assert_eq!(removed("workloads?inUseToo=true").await, 204);
    let collect = async |query: &str| {
        let collected = wire
            .ask(&format!("POST {API}/collect?{query}"))
            .await
            .json();
        let digests = collected.as_array().unwrap().iter();
        digests
            .map(|module| module["digest"].clone())
            .collect::<Vec<_>>()
    };
    let fan = vec![plain.json()["digest"].clone()];
    assert_eq!(collect("dryRun=true").await, fan);
    assert_eq!(collect("").await, fan);
    assert_eq!(collect("").await, Vec::<Value>::new());
}

/// The component of a stored module is read, kept by its tag, and deployed again.
async fn components(wire: &Wire, digest: &str) {
    let read = async |more: &str| {
        let request = request(&format!(
            "GET {API}/modules/{}/component{more}",
            &digest[..8]
        ));
        let response = wire.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let tag = head.headers["etag"].to_str().unwrap().to_owned();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), tag, body, head.headers)
    };
    let (status, tag, body, headers) = read("").await;
    assert_eq!((status, &tag), (200, &format!("\"{digest}\"")));
    assert_eq!(headers["content-type"], "application/wasm");
    let found = perennial::Module::from_bytes("fan", &body).unwrap();
    assert_eq!(found.digest().to_string(), digest);
    assert_eq!(found.size(), body.len());
    let (status, _, body, _) = read(&format!("\nif-none-match: {tag}")).await;
    assert_eq!((status, body.len()), (304, 0));

    let stored = wire.ask(&format!("GET {API}/stored-modules")).await.json();
    assert!(stored.as_array().unwrap().len() > 1, "{stored}");
    let one = wire
        .ask(&format!("GET {API}/stored-modules/{digest}"))
        .await;
    assert_eq!(one.json()["deployedAs"], json!(["fan"]));
    let head = format!("PUT {API}/modules/fan\ncontent-type: application/json");
    let again = json!({ "stored": &digest[..8] }).to_string().into_bytes();
    let again = put(wire, &head, again).await;
    assert_eq!(
        (again.status, &again.json()["digest"]),
        (200, &json!(digest))
    );
    let unknown = br#"{"stored": "0123456789ab"}"#.to_vec();
    let unknown = put(wire, &head, unknown).await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]["code"]),
        (404, &json!("notStored"))
    );
    let both = br#"{"stored": "0123456789ab", "component": "AA=="}"#.to_vec();
    assert_eq!(put(wire, &head, both).await.status, 400);
}

/// As RFC 4648 has it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[tokio::test]
async fn a_parameter_that_no_request_has_is_refused_in_reads_too() {
    let wire = Wire::new().await;
    for path in ["counts?staus=Running", "instances?staus=Failed&limit=1"] {
        let answer = wire.ask(&format!("GET {API}/{path}")).await;
        assert_eq!(answer.status, 400);
        let said = answer.json()["error"]["message"].to_string();
        assert!(said.contains("staus") && said.contains("status"), "{said}");
    }
    let runs = wire.ask(&format!("GET {API}/hosts?instance=a")).await;
    assert_eq!(runs.json()["hosts"][0]["isThis"], true);
}

#[tokio::test]
async fn a_long_history_is_read_page_by_page() {
    let wire = Wire::new().await;
    wire.ended("Chain", "long", 600).await;
    let (mut events, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = format!("GET {API}/instances/long/history?after={after}");
        let page = wire.ask(&page).await.json();
        events.extend(page["events"].as_array().unwrap().clone());
        pages += 1;
        match page["continuationToken"].as_str() {
            Some(token) => after = token.to_owned(),
            None => break,
        }
    }
    assert!(pages > 3, "{pages} pages");
    let whole = wire
        .ask(&format!("GET {API}/instances/long?history=true&input=true"))
        .await;
    assert_eq!(whole.json()["history"].as_array(), Some(&events));
    let bare = format!("GET {API}/instances/long/history?input=false&output=false");
    let bare = wire.ask(&bare).await.json();
    let has_payload = |event: &Value| event.get("input").or(event.get("output")).is_some();
    assert!(!bare["events"].as_array().unwrap().iter().any(has_payload));

    // A token is of one execution, and of one instance.
    wire.client().restart("long").await.unwrap();
    for (path, status) in [
        (format!("long/history?after={after}"), 409),
        ("long/history?after=nonsense".to_owned(), 400),
        ("nobody/history".to_owned(), 404),
    ] {
        let answer = wire.ask(&format!("GET {API}/instances/{path}")).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_family_is_told_and_commanded_as_one() {
    let wire = Wire::new().await;
    wire.ended("ChildSum", "family", 3).await;
    let family = async |limit: u32| {
        let family = format!("GET {API}/instances/family/family?limit={limit}");
        let family = wire.ask(&family).await.json();
        (
            family["children"].as_array().unwrap().len(),
            family["more"].clone(),
        )
    };
    assert_eq!(family(10).await, (3, json!(false)));
    assert_eq!(family(2).await, (1, json!(true)));
    assert_eq!(
        wire.ask(&format!("GET {API}/instances/nobody/family"))
            .await
            .status,
        404
    );

    let input =
        r#"{"orchestration": "WaitsWidely", "id": "wide", "input": {"timers": 0, "children": 2}}"#;
    assert_eq!(
        wire.ask(&format!("POST {API}/instances\n\n{input}"))
            .await
            .status,
        201
    );
    let running = format!("GET {API}/counts?name=Wait&status=Running");
    while wire.ask(&running).await.json()["Running"] != 2 {
        tokio::task::yield_now().await;
    }
    let terminate = format!("POST {API}/instances/wide/terminate\n\n{{\"recursive\": true}}");
    assert_eq!(wire.ask(&terminate).await.status, 202);
    let ended = format!("GET {API}/counts?name=Wait&status=Terminated");
    while wire.ask(&ended).await.json()["Terminated"] != 2 {
        tokio::task::yield_now().await;
    }
    let both =
        format!("POST {API}/instances/wide/resume\n\n{{\"recursive\": true, \"module\": \"x\"}}");
    assert_eq!(wire.ask(&both).await.status, 400);
}

#[tokio::test]
async fn a_change_is_waited_for_and_never_missed() {
    let wire = Wire::new().await;
    let start = r#"{"orchestration": "Wait", "id": "w1", "scheduledTime": "2099-01-01T00:00:00Z"}"#;
    assert_eq!(
        wire.ask(&format!("POST {API}/instances\n\n{start}"))
            .await
            .status,
        201
    );
    let waits = wire.ask(&format!("GET {API}/instances/w1")).await.json();
    assert_eq!(waits["scheduledTime"], "2099-01-01T00:00:00.000Z");
    assert_eq!(waits["waitsFor"][0]["kind"], "start");
    let bad = r#"{"orchestration": "Wait", "scheduledTime": "soon"}"#;
    assert_eq!(
        wire.ask(&format!("POST {API}/instances\n\n{bad}"))
            .await
            .status,
        400
    );

    let wait = async |since: &str, timeout: u32| {
        let wait =
            format!("GET {API}/instances/w1/wait?for=change&since={since}&timeout={timeout}");
        let answer = wire.ask(&wait).await;
        (answer.status, answer.header("x-stamp").unwrap().to_owned())
    };
    // What is seen for the first time is a change; what was seen is none.
    let (status, seen) = wait("", 0).await;
    assert_eq!(status, 200);
    assert_eq!(wait(&seen, 0).await, (202, seen.clone()));
    wire.client().terminate("w1", None).await.unwrap();
    let (status, ended) = wait(&seen, 30).await;
    assert_eq!(status, 200);
    assert_ne!(ended, seen);
}

#[tokio::test]
async fn events_that_an_instance_does_not_read_do_not_fill_its_memory() {
    let wire = Wire::new().await;
    wire.begun("Wait", "w1").await;
    let big = format!("\"{}\"", "x".repeat(900_000));
    let raise = |name: &str| format!("POST {API}/instances/w1/events/{name}\n\n{big}");
    let mut accepted = 0;
    let refused = loop {
        let answer = wire.ask(&raise("Other")).await;
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 20, "more than its guest can hold");
    };
    assert_eq!((accepted, refused.status), (9, 429), "{}", refused.body);
    let why = refused.json().to_string();
    assert!(why.contains("fill 8 MiB"), "{why}");
    let compatible = "POST /runtime/webhooks/durabletask/instances/w1/raiseEvent/Other";
    let refused = wire
        .ask(&format!(
            "{compatible}\ncontent-type: application/json\n\n{big}"
        ))
        .await;
    assert_eq!(refused.status, 429);
    let status = wire.ask(&format!("GET {API}/instances/w1")).await.json();
    assert_eq!(status["runtimeStatus"], "Running");
}
