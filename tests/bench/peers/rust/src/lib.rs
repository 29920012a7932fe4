//! What the drivers share: the questions that they answer, and the lanes of instances.

pub mod http;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// One hello-sequence from its start to its end, with a number that no other has.
pub trait Peer: Send + Sync + 'static {
    fn one(&self, number: u64) -> impl Future<Output = ()> + Send;
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// Answers standard input until its end.
pub async fn serve(version: &str, configuration: &str, peer: impl Peer) {
    let (peer, numbers) = (Arc::new(peer), Arc::new(AtomicU64::new(0)));
    say(&json!({ "version": version, "configuration": configuration }));
    loop {
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next());
        let Some(Ok(line)) = line.await.unwrap() else {
            return;
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["throughput", in_flight, seconds] => {
                let span = Duration::from_secs_f64(seconds.parse().unwrap());
                say(&throughput(&peer, &numbers, in_flight.parse().unwrap(), span).await);
            }
            ["latency", count] => say(&latency(&*peer, &numbers, count.parse().unwrap()).await),
            _ => panic!("unknown question {line:?}"),
        }
    }
}

async fn throughput<P: Peer>(
    peer: &Arc<P>,
    numbers: &Arc<AtomicU64>,
    in_flight: usize,
    span: Duration,
) -> Value {
    let begun = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (peer, numbers) = (Arc::clone(peer), Arc::clone(numbers));
        lanes.spawn(async move {
            let mut done = 0_u64;
            while begun.elapsed() < span {
                peer.one(numbers.fetch_add(1, Ordering::Relaxed)).await;
                done += 1;
            }
            done
        });
    }
    let done: u64 = lanes.join_all().await.into_iter().sum();
    json!({ "done": done, "seconds": begun.elapsed().as_secs_f64() })
}

async fn latency(peer: &impl Peer, numbers: &AtomicU64, count: usize) -> Value {
    let mut ms = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        peer.one(numbers.fetch_add(1, Ordering::Relaxed)).await;
        ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    json!({ "ms": ms })
}
