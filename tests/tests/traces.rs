//! Traces: a collector of the tests' own sees one trace for an instance, its children and their activities, which continues the caller's.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use perennial::{Client, Status};
use perennial_tests::{DataDir, Process, binary, module};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A collector of traces on a free port, and what it was sent.
async fn collector() -> (String, Arc<Mutex<Vec<Value>>>) {
    let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
    let keep = Arc::clone(&sent);
    let take = post(async move |Json(body): Json<Value>| {
        keep.lock().unwrap().push(body);
        Json(json!({}))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/v1/traces", take);
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, sent)
}

/// A span, in words: its name, its instance, its status and attempt, and the error.
fn words(span: &Value) -> String {
    let attributes: BTreeMap<&str, String> = span["attributes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attribute| {
            let value = &attribute["value"];
            let text = value["stringValue"].as_str().map(str::to_owned);
            let text = text.unwrap_or_else(|| value["intValue"].to_string());
            (attribute["key"].as_str().unwrap(), text)
        })
        .collect();
    let of = |key: &str| attributes.get(key).map_or("-", String::as_str);
    format!(
        "{} {} {} {} {}",
        span["name"].as_str().unwrap(),
        of("perennial.instance_id"),
        of("perennial.status"),
        of("perennial.attempt").trim_matches('"'),
        of("error.type"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_one_trace_that_continues_its_callers() {
    let (url, sent) = collector().await;
    let dir = DataDir::new();
    let serve = Command::new(binary())
        .args(["serve", "--listen", "none", "--otlp", &url, "--data-dir"])
        .arg(dir.path())
        // Nothing is sent until the host stops: so the last spans are seen not to be lost.
        .env("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut serve = Process(serve);
    let mut ready = String::new();
    BufReader::new(serve.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();

    let client = Client::open(dir.path(), "default").unwrap();
    client.deploy(module("regional-report")).await.unwrap();
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    client
        .start("Report")
        .id("r")
        .trace_parent(format!("00-{trace}-{caller}-01"))
        .input(&json!([
            { "name": "north", "stores": ["a"] },
            { "name": "south", "stores": [] },
        ]))
        .await
        .unwrap();
    let waited = client.wait_for_completion("r", LIMIT).await.unwrap();
    assert_eq!(waited.status().runtime_status, Status::Completed);
    let stopped = tokio::task::spawn_blocking(move || {
        let killed = Command::new("kill")
            .args(["-TERM", &serve.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        serve.wait().unwrap()
    });
    assert!(stopped.await.unwrap().success());

    let sent = sent.lock().unwrap();
    let resources = sent
        .iter()
        .flat_map(|body| body["resourceSpans"].as_array().unwrap());
    let scopes = resources.flat_map(|resource| resource["scopeSpans"].as_array().unwrap());
    let spans: Vec<&Value> = scopes
        .flat_map(|scope| scope["spans"].as_array().unwrap())
        .collect();
    let mut tree: Vec<String> = spans
        .iter()
        .map(|span| {
            assert_eq!(span["traceId"], trace);
            let parent = spans
                .iter()
                .find(|other| other["spanId"] == span["parentSpanId"]);
            let inside = match parent {
                Some(parent) => parent["name"].as_str().unwrap().to_owned(),
                None => {
                    assert_eq!(span["parentSpanId"], caller);
                    "the caller".to_owned()
                }
            };
            format!("{} in {inside}", words(span))
        })
        .collect();
    tree.sort();
    assert_eq!(
        tree,
        [
            "activity:SalesOf r-north - 1 - in orchestration:RegionalReport",
            "orchestration:RegionalReport r-north Completed - - in orchestration:Report",
            "orchestration:RegionalReport r-south Failed - NoStores in orchestration:Report",
            "orchestration:Report r Completed - - in the caller",
        ]
    );
}

#[test]
fn what_is_no_collector_is_refused_before_anything_starts() {
    let dir = DataDir::new();
    let serve = |variable: (&'static str, &'static str)| {
        Command::new(binary())
            .args(["serve", "--listen", "none", "--data-dir"])
            .arg(dir.path())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .env(variable.0, variable.1)
            .output()
    };
    for (variable, said) in [
        (
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
            "\"localhost:4318\" is no address of a collector",
        ),
        (
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            "http/protobuf and http/json are spoken",
        ),
    ] {
        let output = serve(variable).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}
