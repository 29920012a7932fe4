//! What destroys does what was asked and nothing more; what clients send in their own way means what they meant.

use std::time::Duration;

use axum::http::HeaderValue;
use perennial::{Client, Host};
use perennial_tests::DataDir;
use serde_json::json;

use crate::see::{NOW, Wire, request};
use crate::{BASE, JSON};

const API: &str = "/api/v1";

#[tokio::test]
async fn what_destroys_refuses_every_parameter_that_it_does_not_know() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "done", ()).await;
    wire.begun("Wait", "runs").await;
    let since = "createdTimeFrom=2020-01-01T00:00:00Z";
    for refused in [
        format!("DELETE {BASE}/instances?{since}&instanceIdPrefix=x"),
        format!("DELETE {BASE}/instances?{since}&createdTimeTo="),
        format!("DELETE {BASE}/instances?{since}&runtimeStatus="),
        format!("DELETE {BASE}/instances?{since}&runtimeStatus=Done"),
        format!("DELETE {BASE}/instances?{since}&createdTimeTo=soon"),
        format!("DELETE {BASE}/instances?{since}&{since}"),
        format!("DELETE {BASE}/instances?{since}&name=Wait"),
        format!("DELETE {BASE}/instances/done?recursive=true"),
        format!("DELETE {BASE}/instances/done?createdTimeTo=2020-01-01"),
        format!("POST {BASE}/instances/runs/terminate?reason=x&recursive=true"),
        format!("POST {BASE}/instances/runs/terminate?reason=x&reason=y"),
        format!("POST {BASE}/instances/done/restart?restartWithNewInstanceID=no"),
        format!("POST {BASE}/instances/done/restart?restartWithNewInstance=false"),
        format!("POST {BASE}/instances/done/restartWithOptions\n{JSON}\n\n{{\"version\":\"2\"}}"),
        format!("POST {API}/bulk/purge?createdFrom=2020-01-01&instanceIdPrefix=x"),
        format!("POST {API}/bulk/purge?createdFrom=2020-01-01&idPrefix="),
        format!("POST {API}/bulk/terminate?all=true&idprefx=x"),
        format!("POST {API}/bulk/terminate?all=true&dryrun=yes"),
        format!("POST {API}/bulk/purge?name=HelloSequence&name=Wait"),
        format!("DELETE {API}/instances/done?recursve=true"),
        format!("POST {API}/collect?dryRun=true&oldVersion=true"),
    ] {
        let answer = wire.ask(&refused).await;
        assert_eq!(answer.status, 400, "{refused}: {}", answer.body);
    }
    let ids = |page: perennial::Page| -> Vec<String> {
        let ids = page.instances.into_iter();
        ids.map(|instance| format!("{} {}", instance.instance_id, instance.runtime_status))
            .collect()
    };
    let mut left = ids(wire.client().list().await.unwrap());
    left.sort();
    assert_eq!(left, ["done Completed", "runs Running"]);
    // What published clients send with everything is let through.
    let always = "taskHub=default&connection=Storage&code=&systemKey=k&showInput=true";
    let terminated = format!("POST {BASE}/instances/runs/terminate?reason=&{always}");
    assert_eq!(wire.ask(&terminated).await.status, 202);
    wire.until_ended("runs").await;
    let purged = format!(
        "DELETE {BASE}/instances?{since}&runtimeStatus=Completed,Failed&runtimeStatus=Terminated&{always}"
    );
    assert_eq!(
        wire.ask(&purged).await.json(),
        json!({ "instancesDeleted": 2 })
    );
}

#[tokio::test]
async fn a_time_that_was_shown_finds_what_it_was_shown_for() {
    let dir = DataDir::new();
    // In the middle of a second, which no answer of the compatible API shows.
    let clock = perennial::SimClock::new(perennial::Timestamp(NOW.0 + 678));
    let host: Host = dir.host().clock(clock).start().await.unwrap();
    let client: Client = host.client();
    client
        .deploy(perennial_tests::module("hello-sequence"))
        .await
        .unwrap();
    client.start("HelloSequence").id("it").await.unwrap();
    client
        .wait_for_completion("it", Duration::from_secs(60))
        .await
        .unwrap();
    let wire = Wire {
        router: perennial::http::router(client),
        host,
        _dir: dir,
    };
    let shown = wire.ask(&format!("GET {BASE}/instances/it")).await.json();
    let shown = shown["createdTime"].as_str().unwrap();
    assert_eq!(shown, "2030-01-01T00:00:00Z");
    let within = |from: &str, to: &str| {
        format!("{BASE}/instances?createdTimeFrom={from}&createdTimeTo={to}")
    };
    let count = async |from: &str, to: &str| {
        let list = wire.ask(&format!("GET {}", within(from, to))).await.json();
        list.as_array().unwrap().len()
    };
    assert_eq!(count(shown, shown).await, 1);
    assert_eq!(count(shown, "2030-01-01T00:00:00.100Z").await, 1);
    assert_eq!(count(shown, "2029-12-31T23:59:59.999Z").await, 0);
    assert_eq!(
        count("2030-01-01T00:00:01Z", "2030-01-01T00:00:01Z").await,
        0
    );
    let earlier = format!("DELETE {}", within("2020-01-01", "2029-12-31T23:59:59Z"));
    assert_eq!(wire.ask(&earlier).await.status, 404);
    let deleted = wire.ask(&format!("DELETE {}", within(shown, shown))).await;
    assert_eq!(deleted.json(), json!({ "instancesDeleted": 1 }));
}

#[tokio::test]
async fn a_list_of_none_has_none() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "done", ()).await;
    let none = wire.ask(&format!("GET {BASE}/instances?top=0")).await;
    assert_eq!((none.status, none.json()), (200, json!([])));
    for refused in ["instances?limit=0", "instances/done/family?limit=0"] {
        let answer = wire.ask(&format!("GET {API}/{refused}")).await;
        assert_eq!(answer.status, 400, "{refused}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_payload_that_the_client_for_python_writes_twice_is_what_was_meant() {
    let wire = Wire::new().await;
    let agent = "user-agent: Python/3.13 aiohttp/3.14.5";
    let start = |id: &str, head: &str, body: &str| {
        format!("POST {BASE}/orchestrators/Wait/{id}\n{JSON}\n{head}\n\n{body}")
    };
    let twice = r#""{\"a\": 1}""#;
    for (id, head, body, meant) in [
        ("dict", agent, twice, json!({ "a": 1 })),
        ("text", agent, r#""\"now\"""#, json!("now")),
        ("once", agent, r#"{"a":"1"}"#, json!({ "a": "1" })),
        ("plain", agent, r#""now""#, json!("now")),
        ("other", "user-agent: axios/1.7", twice, json!("{\"a\": 1}")),
    ] {
        assert_eq!(wire.ask(&start(id, head, body)).await.status, 202);
        let shown = wire.ask(&format!("GET {BASE}/instances/{id}")).await;
        assert_eq!(shown.json()["input"], meant, "{id}");
    }
    let event = |id: &str, head: &str| {
        format!("POST {BASE}/instances/{id}/raiseEvent/Go\n{JSON}\n{head}\n\n\"\\\"now\\\"\"")
    };
    for (id, head, meant) in [
        ("twice", agent, json!("now")),
        ("exactly", "user-agent: curl/8", json!("\"now\"")),
    ] {
        wire.begun("Wait", id).await;
        assert_eq!(wire.ask(&event(id, head)).await.status, 202);
        wire.until_ended(id).await;
        let ended = wire.ask(&format!("GET {BASE}/instances/{id}")).await;
        assert_eq!(ended.json()["output"], meant, "{id}");
    }
}

#[tokio::test]
async fn a_restart_waits_where_it_is_told_to() {
    let wire = Wire::new().await;
    wire.ended("HelloSequence", "done", ()).await;
    let hello = json!(["Hello Tokyo!", "Hello Seattle!", "Hello London!"]);
    let wait = "timeout=20&pollingInterval=0.5";
    for path in [
        format!("restart?{wait}"),
        format!("restart?{wait}&restartWithNewInstanceId=false"),
        format!("restartWithOptions?{wait}\n{JSON}\n\n{{\"restartWithNewInstanceId\":false}}"),
        format!("RestartWithOptions?{wait}"),
    ] {
        let answer = wire
            .ask(&format!("POST {BASE}/instances/done/{path}"))
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, hello.clone()),
            "{path}"
        );
    }
    let at_once = wire
        .ask(&format!("POST {BASE}/instances/done/restart"))
        .await;
    assert_eq!(at_once.status, 202);
    let bad = format!("POST {BASE}/instances/done/restart?timeout=1&pollingInterval=2");
    assert_eq!(wire.ask(&bad).await.status, 400);
    // Two under the old id, and two of their own.
    let count = wire.client().list().limit(100).await.unwrap().instances;
    assert_eq!(count.len(), 4);
}

#[tokio::test]
async fn a_host_that_is_named_badly_is_refused() {
    let wire = Wire::with(|api| api.this_machine_only()).await;
    for host in ["", "a b", "localhost:port", "me@localhost"] {
        let mut request = request(&format!("GET {BASE}/instances/x"));
        let host = HeaderValue::from_str(host).unwrap();
        request.headers_mut().insert("host", host.clone());
        assert_eq!(wire.call(request).await.status, 400, "{host:?}");
    }
    let mut request = request(&format!("GET {BASE}/instances/x"));
    let other = HeaderValue::from_static("localhost");
    request.headers_mut().append("host", other);
    assert_eq!(wire.call(request).await.status, 400, "two of them");
    let elsewhere = format!("GET http://evil.example{BASE}/instances/x");
    assert_eq!(wire.ask(&elsewhere).await.status, 403);
}

#[tokio::test]
async fn a_bulk_operation_says_how_far_it_is() {
    let wire = Wire::new().await;
    for n in 0..3 {
        wire.ended("HelloSequence", &format!("done-{n}"), ()).await;
    }
    let purge = format!("POST {API}/bulk/purge?idPrefix=done-\naccept: application/x-ndjson");
    let answer = wire.ask(&purge).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<serde_json::Value> = answer
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let over = json!({ "matched": 3, "done": 3, "skipped": 0, "dryRun": false });
    assert_eq!(lines.last().unwrap(), &json!({ "over": over }));
    assert!(lines.len() >= 2, "nothing was said in between: {lines:?}");
}

#[tokio::test]
async fn what_this_server_does_not_do_is_refused_and_not_passed_over() {
    let wire = Wire::new().await;
    let start = r#"{"orchestration":"Wait"}"#;
    for (header, status) in [
        ("content-encoding: gzip", 415),
        ("transfer-encoding: gzip, chunked", 501),
        ("expect: 200-ok", 417),
    ] {
        let asked = format!("POST {API}/instances\n{JSON}\n{header}\n\n{start}");
        let answer = wire.ask(&asked).await;
        assert_eq!(answer.status, status, "{header}: {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], "unsupported", "{header}");
    }
    let long = format!("GET {BASE}/instances\nx-long: {}", "x".repeat(70_000));
    assert_eq!(wire.ask(&long).await.status, 431);
    let mut odd = request(&format!("GET {BASE}/instances"));
    let token = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    odd.headers_mut().insert("x-ms-continuation-token", token);
    let answer = wire.call(odd).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("x-ms-continuation-token"));
    let list = wire.ask(&format!("GET {API}/instances")).await.json();
    assert_eq!(list["instances"], json!([]), "nothing was started");
}

#[tokio::test]
async fn another_method_of_a_path_that_there_is_names_those_that_there_are() {
    let wire = Wire::new().await;
    let answer = wire.ask(&format!("PUT {API}/instances")).await;
    assert_eq!(answer.status, 405, "{}", answer.body);
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
    assert_eq!(answer.json()["error"]["code"], "methodNotAllowed");
    for nowhere in ["/", "/api", "/runtime/webhooks/DurableTask/instances"] {
        let answer = wire.ask(&format!("GET {nowhere}")).await;
        assert_eq!(answer.status, 404, "{nowhere}");
        assert!(
            answer.body.contains("/api/v1/openapi.json"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn a_start_knows_the_names_that_a_status_has() {
    let wire = Wire::new().await;
    let start = r#"{"name":"Wait","instanceId":"named"}"#;
    let asked = format!("POST {API}/instances\n{JSON}\n\n{start}");
    assert_eq!(wire.ask(&asked).await.status, 201);
    let found = wire.ask(&format!("GET {API}/instances/named")).await.json();
    assert_eq!(found["name"], "Wait");
}

#[tokio::test]
async fn what_no_client_could_read_is_not_let_in() {
    let wire = Wire::new().await;
    for (input, why) in [
        (r#""a\ud800b""#, "surrogate"),
        ("1e400", "too large"),
        (
            &*format!("{}{}", "[".repeat(129), "]".repeat(129)),
            "128 levels",
        ),
    ] {
        let start = format!(r#"{{"orchestration":"Wait","input":{input}}}"#);
        let asked = format!("POST {API}/instances\n{JSON}\n\n{start}");
        let answer = wire.ask(&asked).await;
        assert!(
            matches!(answer.status, 400 | 413),
            "{input}: {}",
            answer.body
        );
        let asked = format!("POST {BASE}/orchestrators/Wait\n{JSON}\n\n{input}");
        let answer = wire.ask(&asked).await;
        assert!(
            matches!(answer.status, 400 | 413),
            "{input}: {}",
            answer.body
        );
        assert!(answer.body.contains(why), "{}", answer.body);
    }
}
