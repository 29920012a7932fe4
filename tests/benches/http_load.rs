//! The HTTP API under load: 2,000 reads of statuses and 500 starts a second, at once, for a minute, while what was started runs. Server and
//! callers share the machine, and every answer is looked at. `PERENNIAL_LOAD_SECONDS` says for how long. Fails on an answer that is wrong.
#![allow(missing_docs, reason = "a benchmark is a program")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perennial::{Client, Host, Status};
use perennial_tests::{DataDir, module};
use serde_json::Value;

const READS_PER_SECOND: u32 = 2_000;
const STARTS_PER_SECOND: u32 = 500;
/// Connections of each kind.
const LANES: u32 = 32;
const ORCHESTRATION: &str = "HelloSequence";

/// What the callers share.
struct Load {
    base: String,
    http: reqwest::Client,
    started: AtomicU64,
    reads: Mutex<Vec<Duration>>,
    starts: Mutex<Vec<Duration>>,
}

impl Load {
    /// Starts instances, so many a second, until the end.
    async fn start(&self, per_second: u32, end: Instant) {
        let mut due = every(per_second);
        let mut taken = Vec::new();
        while Instant::now() < end {
            due.tick().await;
            let number = self.started.load(Ordering::Acquire);
            let id = format!("load-{}", uuid::Uuid::new_v4().simple());
            let url = format!(
                "{}/runtime/webhooks/durabletask/orchestrators/{ORCHESTRATION}/{id}",
                self.base
            );
            let begun = Instant::now();
            let answer = self.http.post(url).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 202, "start {number}");
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            taken.push(begun.elapsed());
            assert_eq!(body["id"], id.as_str());
            self.started.fetch_add(1, Ordering::AcqRel);
        }
        self.starts.lock().unwrap().append(&mut taken);
    }

    /// Reads the status of one of the instances that were there before, so often a second, until the end.
    async fn read(&self, lane: u32, per_second: u32, ids: &[String], end: Instant) {
        let mut due = every(per_second);
        let mut taken = Vec::new();
        let mut next = lane as usize;
        while Instant::now() < end {
            due.tick().await;
            let id = &ids[next % ids.len()];
            next += LANES as usize;
            let url = format!("{}/runtime/webhooks/durabletask/instances/{id}", self.base);
            let begun = Instant::now();
            let answer = self.http.get(url).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200);
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            taken.push(begun.elapsed());
            assert_eq!(body["runtimeStatus"], "Completed");
        }
        self.reads.lock().unwrap().append(&mut taken);
    }
}

/// Ticks so often a second; those that were missed are made up for.
fn every(per_second: u32) -> tokio::time::Interval {
    tokio::time::interval(Duration::from_secs_f64(
        f64::from(LANES) / f64::from(per_second),
    ))
}

/// `n in span, median, 99 of 100, and the longest`.
fn line(what: &str, taken: &Mutex<Vec<Duration>>, span: Duration) {
    let mut taken = taken.lock().unwrap();
    taken.sort();
    let at = |part: f64| taken[(taken.len() as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{what:<8} {:>8}  {:>7.0}/s   p50 {:>6.2} ms   p99 {:>7.2} ms   longest {:>7.2} ms",
        taken.len(),
        taken.len() as f64 / span.as_secs_f64(),
        at(0.5),
        at(0.99),
        taken.last().unwrap().as_secs_f64() * 1e3,
    );
}

async fn ended(client: &Client) -> u64 {
    let counts = client.counts().await.unwrap();
    let completed = counts
        .iter()
        .find(|(status, _)| *status == Status::Completed);
    completed.map_or(0, |(_, count)| *count)
}

fn main() {
    // `cargo test` runs benchmarks too, to see that they run.
    let bench = std::env::args().any(|arg| arg == "--bench");
    let seconds = std::env::var("PERENNIAL_LOAD_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    let span = Duration::from_secs(seconds.unwrap_or(if bench { 60 } else { 1 }));
    tokio::runtime::Runtime::new().unwrap().block_on(run(span));
}

async fn run(span: Duration) {
    let dir = DataDir::new();
    let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
    let client = host.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..100 {
        let id = client.start(ORCHESTRATION).id(format!("before-{n}")).await;
        ids.push(id.unwrap());
    }
    for id in &ids {
        let waited = client
            .wait_for_completion(id, Duration::from_secs(60))
            .await;
        waited.unwrap().reached().unwrap();
    }
    let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = tokio::net::TcpListener::bind(socket).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = perennial::http::router(host.client());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let load = Arc::new(Load {
        base,
        http: reqwest::Client::builder()
            .tcp_nodelay(true)
            .build()
            .unwrap(),
        started: AtomicU64::new(0),
        reads: Mutex::default(),
        starts: Mutex::default(),
    });
    let ids = Arc::new(ids);
    let begun = Instant::now();
    let end = begun + span;
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (reads, starts, ids) = (Arc::clone(&load), Arc::clone(&load), Arc::clone(&ids));
        lanes.spawn(async move { reads.read(lane, READS_PER_SECOND, &ids, end).await });
        lanes.spawn(async move { starts.start(STARTS_PER_SECOND, end).await });
    }
    // An answer that is wrong is a panic of a caller.
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    let took = begun.elapsed();
    let at_the_end = ended(&client).await;
    let all = load.started.load(Ordering::Acquire) + ids.len() as u64;
    while ended(&client).await < all {
        assert!(
            begun.elapsed() < took + Duration::from_secs(60),
            "not all ended"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "\nthe HTTP API for {:.0} s, server and callers on {} processors, no answer wrong:\n",
        took.as_secs_f64(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    line("reads", &load.reads, took);
    line("starts", &load.starts, took);
    println!(
        "ended    {:>8}  {:>7.0}/s   {} were still running when the last request was answered; all ended {:.2} s later",
        all - ids.len() as u64,
        (at_the_end - ids.len() as u64) as f64 / took.as_secs_f64(),
        all - at_the_end,
        (begun.elapsed() - took).as_secs_f64(),
    );
    server.abort();
    host.shut_down().await;
}
