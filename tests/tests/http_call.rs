//! The activity `http` against servers of the tests' own: what is granted, what is tried again, and what never leaves the host.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial::{Client, Grants, Host, InstanceStatus, Limits, Status};
use perennial_tests::{DataDir, module};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The status line's end, more header lines, and the body.
type Reply = (&'static str, String, Vec<u8>);

/// An HTTP server that answers each request with what `answer` says of its number and of it.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn new(answer: impl Fn(usize, &Seen) -> Option<Reply> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else {
                    continue;
                };
                let number = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                match answer(number, &request) {
                    Some(reply) => write(&mut stream, reply),
                    None => unanswered.push(stream),
                }
            }
        });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut seen = Seen {
        line: line.trim_end().to_owned(),
        headers,
        body: Vec::new(),
    };
    let length = seen
        .header("content-length")
        .map_or(0, |n| n.parse().unwrap());
    seen.body = vec![0; length];
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}

fn write(stream: &mut TcpStream, (status, headers, body): Reply) {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // A client that went away needs no answer.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body));
}

fn ok(body: impl Into<Vec<u8>>) -> Option<Reply> {
    Some(("200 OK", String::new(), body.into()))
}

async fn start(dir: &DataDir, guest: &str, grants: Grants, limits: Limits) -> (Host, Client) {
    let host = dir.host().limits(limits).start().await.unwrap();
    let client = host.client();
    client.deploy(module(guest)).grants(grants).await.unwrap();
    (host, client)
}

fn hosts(granted: &[String]) -> Grants {
    granted.iter().fold(Grants::new(), Grants::http_host)
}

async fn run(client: &Client, orchestration: &str, input: &Value) -> InstanceStatus {
    let id = client.start(orchestration).input(input).await.unwrap();
    let waited = client.wait_for_completion(&id, LIMIT).await.unwrap();
    waited.reached().unwrap_or_else(|| panic!("it did not end"))
}

/// A guest that calls `http`.
struct Caller {
    host: Host,
    client: Client,
    _dir: DataDir,
}

impl Caller {
    async fn new() -> Self {
        let dir = DataDir::new();
        let (host, client) = start(&dir, "workloads", Grants::default(), Limits::default()).await;
        Self {
            host,
            client,
            _dir: dir,
        }
    }

    /// Calls `http` so, where `granted` is granted.
    async fn call(
        &self,
        granted: &[String],
        request: Value,
        attempts: u32,
        timeout_millis: u64,
    ) -> Result<Value, perennial::Failure> {
        self.client
            .grant("workloads", &hosts(granted))
            .await
            .unwrap();
        let input =
            json!({ "request": request, "attempts": attempts, "timeout_millis": timeout_millis });
        let status = run(&self.client, "CallsHttp", &input).await;
        match status.failure {
            Some(failure) => Err(failure),
            None => Ok(status.output_as().unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_orders_from_a_shop_that_is_down_now_and_then_and_keeps_its_secret() {
    let shop = Server::new(|number, request| match (number, request.line.as_str()) {
        (0, _) | (2, _) => Some(("503 Service Unavailable", String::new(), b"later".to_vec())),
        (_, "GET /prices/chair HTTP/1.1") => ok(r#"{"cents": 4200}"#),
        (_, "POST /orders HTTP/1.1") => ok(r#"{"number": 7}"#),
        _ => Some(("404 Not Found", String::new(), Vec::new())),
    });
    let dir = DataDir::new();
    let grants = hosts(&[shop.address.to_string()]).env("SHOP_TOKEN", "Bearer sesame");
    let (host, client) = start(&dir, "http-call", grants, Limits::default()).await;
    let order =
        |item: &str, cents: u32| json!({ "shop": shop.url(""), "item": item, "cents_max": cents });
    let status = run(&client, "Order", &order("chair", 5_000)).await;
    assert_eq!(status.failure, None);
    let placed: Value = status.output_as().unwrap();
    assert_eq!(placed, json!({ "number": 7, "cents": 4200 }));
    let seen = shop.seen();
    let lines: Vec<&str> = seen.iter().map(|request| request.line.as_str()).collect();
    let (get, post) = ("GET /prices/chair HTTP/1.1", "POST /orders HTTP/1.1");
    assert_eq!(lines, [get, get, post, post]);
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(seen[0].header("idempotency-key"), None);
    assert_eq!(seen[2].header("authorization"), Some("Bearer sesame"));
    assert_eq!(seen[2].header("content-type"), Some("application/json"));
    let key = seen[2].header("idempotency-key").unwrap();
    assert_eq!(seen[3].header("idempotency-key"), Some(key));
    assert_eq!(seen[3].body, br#"{"cents":4200,"item":"chair"}"#);

    let none = run(&client, "Order", &order("stool", 5_000)).await;
    assert_eq!(none.failure.unwrap().kind, "NoSuchItem");
    let dear = run(&client, "Order", &order("chair", 100)).await;
    assert_eq!(dear.failure.unwrap().kind, "TooExpensive");
    host.shut_down().await;
    let file = std::fs::read(dir.path().join("default.db")).unwrap();
    let secret = b"sesame";
    let found = file.windows(secret.len()).filter(|at| at == secret).count();
    assert_eq!(
        found, 1,
        "it is in what the module is granted, and nowhere else"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_host_that_is_not_granted() {
    let caller = Caller::new().await;
    let server = Server::new(|_, _| ok("hello"));
    let other_port = format!("127.0.0.1:{}", server.address.port() ^ 1);
    for granted in [
        vec![],
        vec!["127.0.0.1".to_owned()],
        vec![other_port],
        vec!["localhost".to_owned()],
    ] {
        let request = json!({ "url": server.url("/?token=sesame") });
        let failure = caller.call(&granted, request, 3, 10_000).await.unwrap_err();
        assert_eq!(failure.kind, "HttpNotGranted", "{failure:?}");
        assert!(!failure.retryable);
        assert!(
            failure.message.contains(&server.address.to_string()),
            "{failure}"
        );
        assert!(!format!("{failure:?}").contains("sesame"), "{failure:?}");
    }
    assert!(server.seen().is_empty());
    caller.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_counts_from_the_next_attempt_on_without_a_deployment() {
    let server = Server::new(|_, _| ok("hello"));
    let dir = DataDir::new();
    let (host, client) = start(&dir, "workloads", Grants::default(), Limits::default()).await;
    let input =
        json!({ "request": { "url": server.url("/") }, "attempts": 1, "timeout_millis": 10_000 });
    let before = run(&client, "CallsHttp", &input).await;
    assert_eq!(before.failure.unwrap().kind, "HttpNotGranted");
    let granted = hosts(&[server.address.to_string()]);
    client.grant("workloads", &granted).await.unwrap();
    let after = run(&client, "CallsHttp", &input).await;
    assert_eq!(
        after.runtime_status,
        Status::Completed,
        "{:?}",
        after.failure
    );
    client.grant("workloads", &Grants::default()).await.unwrap();
    let taken = run(&client, "CallsHttp", &input).await;
    assert_eq!(taken.failure.unwrap().kind, "HttpNotGranted");
    let wrong = client
        .grant("workloads", &hosts(&["http://x".to_owned()]))
        .await;
    assert!(wrong.unwrap_err().is_invalid());
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_as_far_as_hosts_are_granted_and_secrets_stay_behind() {
    let caller = Caller::new().await;
    let elsewhere = Server::new(|_, _| ok("there"));
    let to = elsewhere.url("/there");
    let server = Server::new(move |_, request| match request.line.as_str() {
        "POST /moved HTTP/1.1" => Some((
            "303 See Other",
            "location: /here\r\n".to_owned(),
            Vec::new(),
        )),
        "GET /here HTTP/1.1" => ok("here"),
        "POST /kept HTTP/1.1" => Some((
            "308 Permanent Redirect",
            format!("location: {to}\r\n"),
            Vec::new(),
        )),
        _ => Some(("302 Found", "location: /round\r\n".to_owned(), Vec::new())),
    });
    let request = |method: &str, path: &str| json!({ "method": method, "url": server.url(path), "body": "order", "headers": [{ "name": "Authorization", "value": "sesame" }] });
    let (first, second) = (server.address.to_string(), elsewhere.address.to_string());
    let answer = caller
        .call(
            std::slice::from_ref(&first),
            request("POST", "/moved"),
            1,
            10_000,
        )
        .await
        .unwrap();
    assert_eq!(
        (&answer["body"], &answer["url"]),
        (&json!("here"), &json!(server.url("/here")))
    );
    let seen = server.seen();
    assert_eq!(
        seen[1].header("authorization"),
        Some("sesame"),
        "the same server"
    );
    assert!(seen[1].body.is_empty());

    let failure = caller
        .call(
            std::slice::from_ref(&first),
            request("POST", "/kept"),
            1,
            10_000,
        )
        .await
        .unwrap_err();
    assert_eq!(failure.kind, "HttpNotGranted");
    assert!(elsewhere.seen().is_empty());
    let answer = caller
        .call(
            &[first.clone(), second],
            request("POST", "/kept"),
            1,
            10_000,
        )
        .await
        .unwrap();
    assert_eq!(answer["body"], "there");
    let seen = elsewhere.seen();
    assert_eq!(
        (seen[0].line.as_str(), &seen[0].body[..]),
        ("POST /there HTTP/1.1", &b"order"[..])
    );
    assert_eq!(seen[0].header("authorization"), None, "another server");

    let failure = caller
        .call(&[first], request("GET", "/round"), 1, 10_000)
        .await
        .unwrap_err();
    assert!(failure.message.contains("more than 10 times"), "{failure}");
    caller.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_tried_again_and_what_is_not() {
    let caller = Caller::new().await;
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    let request = json!({ "url": format!("http://{address}/?q=sesame") });
    let failure = caller
        .call(&[address.to_string()], request, 3, 10_000)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, "HttpFailed", "{failure:?}");
    assert!(
        failure.retryable && !format!("{failure:?}").contains("sesame"),
        "{failure:?}"
    );

    let server = Server::new(|_, _| {
        Some((
            "429 Too Many Requests",
            "x-why: busy\r\n".to_owned(),
            b"busy".to_vec(),
        ))
    });
    let granted = [server.address.to_string()];
    let failure = caller
        .call(&granted, json!({ "url": server.url("/") }), 3, 10_000)
        .await
        .unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.retryable),
        ("HttpStatus", true)
    );
    assert_eq!(server.seen().len(), 3);
    let response: Value = serde_json::from_str(failure.details.unwrap().as_str()).unwrap();
    assert_eq!(
        (&response["status"], &response["body"]),
        (&json!(429), &json!("busy"))
    );

    let server = Server::new(|_, _| None);
    let failure = caller
        .call(
            &[server.address.to_string()],
            json!({ "url": server.url("/") }),
            2,
            100,
        )
        .await
        .unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.retryable),
        ("Timeout", true)
    );
    assert_eq!(server.seen().len(), 2);

    for request in [
        json!({ "url": "no url" }),
        json!({ "url": "ftp://a.b/" }),
        json!({ "url": "http://me:sesame@a.b/" }),
        json!({ "url": "http://a.b/", "method": "G E T" }),
        json!({ "url": "http://a.b/", "headers": [{ "name": "Host", "value": "c" }] }),
        json!({ "url": "http://a.b/", "headers": [{ "name": "x", "value": "a\nb" }] }),
        json!({ "url": "http://a.b/", "headers": [{ "name": "x" }] }),
        json!({ "url": "http://a.b/", "bodyBase64": "*" }),
        json!(null),
    ] {
        let failure = caller
            .call(&["a.b".to_owned()], request.clone(), 3, 10_000)
            .await
            .unwrap_err();
        assert_eq!(
            (failure.kind.as_str(), failure.retryable),
            ("InvalidInput", false),
            "{request}: {failure}"
        );
        assert!(!failure.message.contains("sesame"), "{failure}");
    }
    caller.host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bytes_within_the_limit_of_payloads() {
    let server = Server::new(|_, request| match request.line.as_str() {
        "GET /large HTTP/1.1" => ok(vec![b'x'; 20_000]),
        _ => ok(request.body.clone()),
    });
    let dir = DataDir::new();
    let limits = Limits {
        payload_bytes: 10_000,
        ..Limits::default()
    };
    let (host, client) = start(
        &dir,
        "workloads",
        hosts(&[server.address.to_string()]),
        limits,
    )
    .await;
    let input =
        |request: Value| json!({ "request": request, "attempts": 3, "timeout_millis": 10_000 });
    let bytes = input(json!({ "method": "PUT", "url": server.url("/"), "bodyBase64": "/wD+" }));
    let answer: Value = run(&client, "CallsHttp", &bytes).await.output_as().unwrap();
    assert_eq!(answer["bodyBase64"], "/wD+");
    let large = run(
        &client,
        "CallsHttp",
        &input(json!({ "url": server.url("/large") })),
    )
    .await;
    let failure = large.failure.unwrap();
    assert_eq!(
        (failure.kind.as_str(), failure.retryable),
        ("LimitExceeded", false),
        "{failure}"
    );
    assert_eq!(server.seen().len(), 2);
    host.shut_down().await;
}
