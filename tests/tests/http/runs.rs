//! Commands that are meant for what somebody has seen: for one run of an instance, and for what matched a filter then.

use axum::body::Body;
use perennial::{Client, Role};
use perennial_tests::guest;
use serde_json::json;

use crate::see::{Wire, request};

const API: &str = "/api/v1";

/// An instance whose id was started again after it was looked at: its run then.
async fn replaced(wire: &Wire, id: &str) -> String {
    wire.begun("Wait", id).await;
    let shown = wire.ask(&format!("GET {API}/instances/{id}")).await.json();
    wire.client().terminate(id, None).await.unwrap();
    wire.until_ended(id).await;
    wire.begun("Wait", id).await;
    shown["run"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_command_for_a_run_does_not_reach_the_one_that_took_its_place() {
    let wire = Wire::new().await;
    let before = replaced(&wire, "a").await;
    let shown = wire.ask(&format!("GET {API}/instances/a")).await.json();
    let now = shown["run"].as_str().unwrap().to_owned();
    assert_ne!(before, now);
    for command in [
        "POST /instances/a/cancel",
        "POST /instances/a/terminate",
        "POST /instances/a/suspend",
        "POST /instances/a/resume",
        "POST /instances/a/rewind",
        "POST /instances/a/restart",
        "POST /instances/a/events/E",
        "DELETE /instances/a",
        "DELETE /instances/a?recursive=true",
        "PATCH /instances/a/tags",
        "POST /instances/a/requests",
    ] {
        let (method, path) = command.split_once(' ').unwrap();
        let join = if path.contains('?') { '&' } else { '?' };
        let body = match path {
            "/instances/a/tags" => r#"{"k":"v"}"#,
            "/instances/a/requests" => r#"{"name":"R"}"#,
            "/instances/a/terminate" => r#"{"recursive":true}"#,
            _ => "",
        };
        let with = |run: &str| format!("{method} {API}{path}{join}ifRun={run}\n\n{body}");
        let refused = wire.ask(&with(&before)).await;
        assert_eq!(refused.status, 409, "{command}: {}", refused.body);
        assert_eq!(refused.json()["error"]["code"], "otherRun", "{command}");
        assert!(
            refused.body.contains("has changed since"),
            "{}",
            refused.body
        );
        let unknown = wire.ask(&with("0")).await;
        assert_eq!(unknown.status, 400, "{command}: {}", unknown.body);
    }
    let status = wire.client().status("a").await.unwrap().unwrap();
    assert!(!status.is_ended() && status.tags.is_empty());
    let right = format!("POST {API}/instances/a/terminate?ifRun={now}");
    assert_eq!(wire.ask(&right).await.status, 202);
    wire.until_ended("a").await;
    // It stays the same run until it is started again.
    let deleted = format!("DELETE {API}/instances/a?ifRun={now}");
    assert_eq!(wire.ask(&deleted).await.status, 200);
    assert_eq!(wire.ask(&deleted).await.status, 404);
    // Operations for which it means nothing do not pass over it.
    let bulk = format!("POST {API}/bulk/purge?all=true&ifRun={now}");
    assert_eq!(wire.ask(&bulk).await.status, 400);
}

#[tokio::test]
async fn a_remote_client_and_one_in_the_process_refuse_the_same() {
    let wire = Wire::new().await;
    let before = replaced(&wire, "a").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = wire.router.clone();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let remote = Client::connect(&url, "default", None).unwrap();
    for client in [remote, wire.client()] {
        let only = client.for_run(&before);
        let refused = [
            only.terminate("a", None).recursive().await.unwrap_err(),
            only.purge("a").recursive().await.unwrap_err(),
            only.restart("a").await.unwrap_err(),
            only.rewind("a").await.unwrap_err(),
            only.set_tags("a").set("k", "v").await.unwrap_err(),
            only.raise_event("a", "E", &1).await.unwrap_err(),
        ];
        for error in refused {
            assert!(error.is_other_run(), "{error}");
        }
        let now = client.status("a").await.unwrap().unwrap();
        assert!(!now.is_ended());
        let suspended = client.for_run(&now.run).suspend("a", None).await.unwrap();
        client.resume("a", None).await.unwrap();
        assert!(suspended.is_changed());
        let many = only.terminate_where(perennial::Filter::new());
        assert!(many.await.unwrap_err().is_invalid());
    }
    serving.abort();
}

#[tokio::test]
async fn a_bulk_operation_is_for_what_its_dry_run_counted() {
    let wire = Wire::new().await;
    for id in ["a-1", "a-2"] {
        wire.ended("HelloSequence", id, ()).await;
    }
    let purge = |more: &str| format!("POST {API}/bulk/purge?idPrefix=a-{more}");
    let would = wire.ask(&purge("&dryRun=true")).await.json();
    let then = would["asOf"].as_str().unwrap().to_owned();
    assert_eq!(
        (&would["matched"], &would["newer"]),
        (&json!(2), &json!(null))
    );
    // The clock of the test stands still: what comes now comes later.
    let earlier = perennial::parse_time(&then).unwrap().0 - 1;
    let earlier = perennial::Timestamp(earlier).to_string();
    let none = wire.ask(&purge(&format!("&asOf={earlier}"))).await.json();
    assert_eq!((&none["matched"], &none["newer"]), (&json!(0), &json!(2)));
    assert_eq!(none["asOf"], json!(earlier));
    let all = wire.ask(&purge(&format!("&asOf={then}"))).await.json();
    assert_eq!((&all["matched"], &all["done"]), (&json!(2), &json!(2)));
    let wrong = wire.ask(&purge("&asOf=soon")).await;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
}

#[tokio::test]
async fn nobody_gets_the_grants_of_a_module_by_an_upload() {
    let wire = Wire::new().await;
    let client = wire.client();
    let made = client.create_key("all", Role::Admin).await.unwrap();
    let put = async |path: &str, bytes: &[u8], key: &str| {
        let mut request = request(&format!("PUT {API}/modules/{path}{key}"));
        *request.body_mut() = Body::from(bytes.to_vec());
        wire.call(request).await
    };
    let [fan, hello] =
        ["fan-out", "human-approval"].map(|name| std::fs::read(guest(name)).unwrap());
    assert_eq!(put("fan", &fan, "").await.status, 200);
    let grants = perennial::Grants::new().env("A", "1");
    client.grant("fan", &grants).await.unwrap();
    for path in ["fan", "fan?replace=true"] {
        let refused = put(path, &hello, "").await;
        assert_eq!(refused.status, 403, "{}", refused.body);
        let what = refused.body.contains("has grants") && refused.body.contains("perennial deploy");
        assert!(what, "{}", refused.body);
    }
    // Nor by taking over the names of its activities.
    let refused = put("thief?replace=true", &fan, "").await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(put("thief", &fan, "").await.status, 409);
    // The same component keeps them, and who may grant decides.
    assert_eq!(put("fan", &fan, "").await.status, 200);
    let shown = client.modules().await.unwrap();
    let of_fan = shown.iter().find(|module| module.name == "fan").unwrap();
    assert_eq!(of_fan.grants, grants);
    let key = format!("\nx-functions-key: {}", made.secret);
    assert_eq!(put("fan", &hello, &key).await.status, 200);
    // Without grants an upload is as free as before.
    client
        .grant("fan", &perennial::Grants::new())
        .await
        .unwrap();
    assert_eq!(put("fan", &fan, "").await.status, 200);
}
