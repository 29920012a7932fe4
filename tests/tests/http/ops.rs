//! Health, metrics, and a real socket.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use perennial::http::{Api, Tls, serve};
use perennial::{ActivityContext, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::BASE;
use crate::see::Wire;

#[tokio::test]
async fn a_host_says_that_it_lives_and_can_work() {
    let wire = Wire::new().await;
    wire.check(
        "GET /healthz",
        expect![[r#"
        200
        content-type: text/plain; charset=utf-8
        ok

    "#]],
    )
    .await;
    wire.check(
        "GET /readyz",
        expect![[r#"
        200
        content-type: text/plain; charset=utf-8
        ready

    "#]],
    )
    .await;
    let Wire { router, host, _dir } = wire;
    host.shut_down().await;
    let answer = tower::ServiceExt::oneshot(router, crate::see::request("GET /readyz"))
        .await
        .unwrap();
    expect![[r#"
        503
        content-type: text/plain; charset=utf-8
        no host runs task hub "default"

    "#]]
    .assert_eq(&crate::see::Answer::read(answer).await.told());
}

#[tokio::test]
async fn while_the_file_of_the_hub_is_away_what_is_asked_may_be_asked_again() {
    if perennial_tests::postgres::skips("it moves the file away") {
        return;
    }
    let wire = Wire::new().await;
    let (file, away) = (
        wire._dir.path().join("default.db"),
        wire._dir.path().join("away"),
    );
    std::fs::rename(&file, &away).unwrap();
    for request in [
        format!("POST {BASE}/orchestrators/Wait/one"),
        "POST /api/v1/instances\n\n{\"orchestration\":\"Wait\",\"id\":\"two\"}".to_owned(),
    ] {
        let answer = wire.ask(&request).await;
        assert_eq!(answer.status, 503, "{request}: {}", answer.body);
        assert_eq!(answer.header("retry-after"), Some("1"), "{request}");
        assert!(answer.body.contains("ask again"), "{}", answer.body);
    }
    std::fs::rename(&away, &file).unwrap();
    let again = wire
        .ask(&format!("POST {BASE}/orchestrators/Wait/one"))
        .await;
    assert_eq!(again.status, 202, "{}", again.body);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let wire = Wire::new().await;
    let before = wire.ask("GET /metrics").await.body;
    let failed = "perennial_instances{hub=\"default\",status=\"Failed\"} 0";
    assert!(before.contains(failed), "an alert needs a series: {before}");
    wire.ended("HelloSequence", "done", ()).await;
    wire.ask(&format!("GET {BASE}/instances/nobody")).await;
    let metrics = wire.ask("GET /metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let value = |line: &str| -> f64 {
        let found = metrics.body.lines().find_map(|l| l.strip_prefix(line));
        found
            .unwrap_or_else(|| panic!("no {line} in\n{}", metrics.body))
            .trim()
            .parse()
            .unwrap()
    };
    assert_eq!(value("perennial_turns_total{hub=\"default\"}"), 4.0);
    assert_eq!(
        value("perennial_activity_attempts_total{hub=\"default\"}"),
        3.0
    );
    assert_eq!(
        value("perennial_instances{hub=\"default\",status=\"Completed\"}"),
        1.0
    );
    assert_eq!(value("perennial_http_requests_total{class=\"4xx\"}"), 1.0);
    let commits = value("perennial_commits_total{hub=\"default\"}");
    assert_eq!(
        value("perennial_commit_seconds_count{hub=\"default\"}"),
        commits
    );
    assert_eq!(
        value("perennial_commit_seconds_bucket{hub=\"default\",le=\"+Inf\"}"),
        commits
    );
    assert!(value("perennial_commit_seconds_sum{hub=\"default\"}") > 0.0);
    for line in metrics.body.lines() {
        let is_metric = line.starts_with("perennial_")
            && line.rsplit(' ').next().unwrap().parse::<f64>().is_ok();
        assert!(
            is_metric || line.starts_with("# HELP ") || line.starts_with("# TYPE "),
            "{line}"
        );
    }
}

/// A server on a free port, and what stops it.
async fn listen(
    wire: &Wire,
) -> (
    std::net::SocketAddr,
    oneshot::Sender<()>,
    tokio::task::JoinHandle<usize>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let api = Api::new(wire.client()).this_machine_only();
    let task = tokio::spawn(serve(listener, api, None, async { drop(stopped.await) }));
    (address, stop, task)
}

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_socket_is_served_and_drained() {
    let wire = Wire::new().await;
    let (address, stop, task) = listen(&wire).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = exchange(&mut stream, &format!("POST /orchestrators/HelloSequence/wait?timeout=30 HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("[\"Hello Tokyo!\",\"Hello Seattle!\",\"Hello London!\"]"),
        "{answer}"
    );
    // One that waits when the server stops is told at once where to ask later.
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let wait = format!(
        "POST /orchestrators/Wait/wait?timeout=200 HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n"
    );
    waiting.write_all(wait.as_bytes()).await.unwrap();
    let started = async {
        while wire
            .client()
            .list()
            .name("Wait")
            .await
            .unwrap()
            .instances
            .is_empty()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), started)
        .await
        .unwrap();
    stop.send(()).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    assert!(
        answer.contains(&format!("location: http://{address}{BASE}/instances/")),
        "{answer}"
    );
    assert_eq!(task.await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_is_no_http_is_refused_at_the_socket() {
    let wire = Wire::new().await;
    let (address, stop, task) = listen(&wire).await;
    for bytes in [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\u{0} HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = exchange(&mut stream, bytes).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{bytes:?}: {answer}"
        );
    }
    let many = (0..200)
        .map(|i| format!("x-{i}: y\r\n"))
        .collect::<String>();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = exchange(
        &mut stream,
        &format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    stop.send(()).unwrap();
    task.await.unwrap();
}

#[tokio::test]
async fn certificates_from_files_are_served() {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let file = |name: &str| perennial_tests::root().join("tests/tests/http").join(name);
    let (cert, key) = (file("tls-cert.pem"), file("tls-key.pem"));
    let wire = Wire::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let api = Api::new(wire.client()).this_machine_only();
    let tls = Some(Tls::from_files(&cert, &key).unwrap());
    let task = tokio::spawn(serve(listener, api, tls, async { drop(stopped.await) }));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&cert).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let start = format!(
        "POST {BASE}/orchestrators/Wait/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.contains("location: https://localhost/runtime"),
        "{answer}"
    );
    stop.send(()).unwrap();
    task.await.unwrap();
    for (cert, key) in [(&key, &key), (&cert, &cert), (&file("none.pem"), &key)] {
        let error = Tls::from_files(cert, key).unwrap_err();
        assert!(
            error.is_invalid() && error.to_string().contains(".pem"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn activities_are_told_where_their_instance_is_managed() {
    let dir = perennial_tests::DataDir::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let native = move |ctx: ActivityContext, n: u32| {
        tell.send(ctx.management_urls()).unwrap();
        async move { Ok::<_, Failure>(n) }
    };
    let host = dir
        .host()
        .management_url("https://flows.example.com/x?code=k")
        .activity("Native", native);
    let host = host.start().await.unwrap();
    host.client()
        .deploy(perennial_tests::module("workloads"))
        .await
        .unwrap();
    host.client()
        .start("NativeChain")
        .id("a b")
        .input(&1)
        .await
        .unwrap();
    let urls = told.recv().await.unwrap().unwrap();
    assert_eq!(urls.id, "a b");
    assert_eq!(
        urls.send_event_post_uri,
        "https://flows.example.com/x/instances/a%20b/raiseEvent/{eventName}?taskHub=default&code=k"
    );
    host.shut_down().await;
}
