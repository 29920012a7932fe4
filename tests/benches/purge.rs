//! What a purge of a hundred thousand instances does to a workload that runs beside it, and what a page of a list costs among them.
//! Prints a report; gates nothing.
#![allow(missing_docs, reason = "a benchmark is a program")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use perennial::{Client, Filter, Status};
use perennial_tests::{DataDir, module};

const LIMIT: Duration = Duration::from_secs(300);

/// Instances that are purged.
const PAST: u32 = 100_000;

/// Runs `HelloSequence` in so many lanes until told to stop. The milliseconds from each start to its end.
async fn workload(client: &Client, lanes: usize, stop: &Arc<AtomicBool>) -> Vec<f64> {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..lanes {
        let (client, stop) = (client.clone(), Arc::clone(stop));
        running.spawn(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let id = client
                    .start("HelloSequence")
                    .tag("of", "the workload")
                    .await
                    .unwrap();
                let waited = client.wait_for_completion(&id, LIMIT).await.unwrap();
                assert_eq!(waited.reached().unwrap().runtime_status, Status::Completed);
                took.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            took
        });
    }
    let mut all = Vec::new();
    while let Some(took) = running.join_next().await {
        all.extend(took.unwrap());
    }
    all
}

fn report(what: &str, took: &[f64]) -> f64 {
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {} instances, median {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    at(0.99)
}

/// Copies the one instance of a hub, with its history, so many times.
fn multiply(dir: &DataDir) {
    let db = rusqlite::Connection::open(dir.path().join("default.db")).unwrap();
    let columns: Vec<String> = db
        .prepare("SELECT name FROM pragma_table_info('instance') WHERE name NOT IN ('key', 'id', 'created_at', 'updated_at')")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let columns = columns.join(", ");
    db.execute_batch(&format!(
        "BEGIN;
         CREATE TEMP TABLE n AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {PAST}) SELECT n FROM c;
         CREATE TEMP TABLE one AS SELECT min(key) AS key FROM main.instance;
         INSERT INTO main.instance (key, id, created_at, updated_at, {columns})
             SELECT i.key + n, 'past-' || n, i.created_at - n * 1000, i.updated_at - n * 1000, {columns} FROM main.instance AS i, n WHERE i.key = (SELECT key FROM one);
         INSERT INTO main.turn SELECT t.instance + n, execution, number, first_event, at, answer, received, produced
             FROM main.turn AS t, n WHERE t.instance = (SELECT key FROM one);
         COMMIT;"
    ))
    .unwrap();
}

async fn pages(client: &Client) {
    let list = || client.list().limit(100);
    let lists = [
        ("all", list()),
        ("a status", list().status(Status::Completed)),
        ("a name", list().name("HelloSequence")),
        ("a prefix of all", list().id_prefix("past-")),
        ("a prefix of few", list().id_prefix("past-4711")),
        ("a tag of none", list().tag("of", "nobody")),
    ];
    for (what, list) in lists {
        let mut took = Vec::new();
        for _ in 0..21 {
            let begun = Instant::now();
            list.clone().await.unwrap();
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        println!(
            "a page of {what}: {:.2} ms, worst {:.2} ms",
            took[10], took[20]
        );
    }
}

#[tokio::main]
async fn main() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    host.client()
        .deploy(module("hello-sequence"))
        .await
        .unwrap();
    let id = host.client().start("HelloSequence").await.unwrap();
    host.client()
        .wait_for_completion(&id, LIMIT)
        .await
        .unwrap()
        .reached()
        .unwrap();
    host.shut_down().await;
    multiply(&dir);

    let host = dir.host().start().await.unwrap();
    let client = host.client();
    pages(&client).await;
    // A tenth of the past at a time, and in turn with the workload alone, so that both see the same machine.
    let mut tenths = 1..=9;
    for (lanes, rounds) in [(1, 3), (16, 6)] {
        let (mut alone, mut beside, mut purged, mut took) = (vec![], vec![], 0, Duration::ZERO);
        for tenth in tenths.by_ref().take(rounds) {
            let stop = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&stop);
            let timer = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(3)).await;
                told.store(true, Ordering::Relaxed);
            });
            alone.extend(workload(&client, lanes, &stop).await);
            timer.await.unwrap();

            let stop = Arc::new(AtomicBool::new(false));
            let (purging, told) = (client.clone(), Arc::clone(&stop));
            let purge = tokio::spawn(async move {
                let begun = Instant::now();
                let some = Filter::new().id_prefix(format!("past-{tenth}"));
                let purge = purging.purge_where(some).await.unwrap();
                told.store(true, Ordering::Relaxed);
                (purge.done, begun.elapsed())
            });
            beside.extend(workload(&client, lanes, &stop).await);
            let (done, span) = purge.await.unwrap();
            purged += done;
            took += span;
        }
        alone.sort_by(f64::total_cmp);
        beside.sort_by(f64::total_cmp);
        println!(
            "{lanes} in flight, {purged} instances purged in {:.1} s",
            took.as_secs_f64()
        );
        let before = report("  alone", &alone);
        let after = report("  beside the purge", &beside);
        println!("  p99 {:.2} times what it was", after / before);
    }
    host.shut_down().await;
}
