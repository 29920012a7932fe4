//! hello-sequence on Restate: a server of its own, and the service in this process.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use peers::http::{Calls, Server};
use restate_sdk::prelude::*;

struct Hello;

#[service]
impl Hello {
    #[handler]
    async fn run(&self, ctx: Context<'_>) -> Result<String, HandlerError> {
        let mut greetings = Vec::new();
        for city in ["Tokyo", "Seattle", "London"] {
            let greeting: String = ctx
                .run(move || async move { Ok(format!("Hello {city}!")) })
                .name("SayHello")
                .await?;
            greetings.push(greeting);
        }
        Ok(greetings.join(", "))
    }
}

struct Restate {
    run: Calls,
    _server: Server,
}

impl peers::Peer for Restate {
    async fn one(&self, _: u64) {
        let answer = self.run.post().await;
        assert_eq!(answer, r#""Hello Tokyo!, Hello Seattle!, Hello London!""#);
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

async fn until_ready(http: &reqwest::Client, url: &str) {
    let begun = Instant::now();
    loop {
        let ready = http.get(url).send().await;
        if ready.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{url} is not ready"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let program = std::env::var("RESTATE_SERVER").expect("RESTATE_SERVER");
    let (ingress, admin, node, service) = (free_port(), free_port(), free_port(), free_port());
    let log = std::fs::File::create(std::path::Path::new(&dir).join("server.log")).unwrap();
    let server = Command::new(&program)
        .args(["--no-logo", "--listen-mode", "tcp", "--base-dir", &dir])
        .args(["--bind-address", &format!("127.0.0.1:{node}")])
        .env(
            "RESTATE_INGRESS__BIND_ADDRESS",
            format!("127.0.0.1:{ingress}"),
        )
        .env("RESTATE_ADMIN__BIND_ADDRESS", format!("127.0.0.1:{admin}"))
        .env("RESTATE_DISABLE_TELEMETRY", "true")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let server = Server(server);
    let endpoint = Endpoint::builder().bind(Hello).build();
    tokio::spawn(async move {
        let address = format!("127.0.0.1:{service}").parse().unwrap();
        HttpServer::new(endpoint).listen_and_serve(address).await;
    });
    let http = reqwest::Client::new();
    until_ready(&http, &format!("http://127.0.0.1:{admin}/health")).await;
    until_ready(&http, &format!("http://127.0.0.1:{ingress}/restate/health")).await;
    let deployment = serde_json::json!({ "uri": format!("http://127.0.0.1:{service}") });
    let registered = http
        .post(format!("http://127.0.0.1:{admin}/deployments"))
        .json(&deployment)
        .send()
        .await
        .unwrap();
    let status = registered.status();
    assert!(
        status.is_success(),
        "{status}: {}",
        registered.text().await.unwrap()
    );
    let version = Command::new(&program).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let restate = Restate {
        run: Calls::new(format!("127.0.0.1:{ingress}"), "/Hello/run"),
        _server: server,
    };
    let configuration = "one node, defaults (the log is synced), the service in Rust, requests that wait over kept connections";
    peers::serve(version.trim(), configuration, restate).await;
}
