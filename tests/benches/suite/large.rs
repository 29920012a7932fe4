//! W8: the start of a host with a large hub.

use std::path::Path;
use std::time::Instant;

use perennial_tests::DataDir;

use crate::charts::{bars, ours};
use crate::hello::host;
use crate::measure::{data_dir, ends, is_quick, median, one, rounds};
use crate::section::{Section, number};

/// Bytes of the hubs. One is left out where the disk has no room for four of it.
const SIZES: [u64; 2] = [1 << 30, 10 << 30];

/// Copies the instances of a hub, with their histories, until the file is so large: mostly such as have ended, and one in a hundred that waits. `before` of them are there
/// already; how many are then.
fn grow(hub: &Path, bytes: u64, before: u64) -> u64 {
    const AT_ONCE: i64 = 20_000;
    let db = rusqlite::Connection::open(hub).unwrap();
    db.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144")
        .unwrap();
    let mut query = db.prepare("SELECT name FROM pragma_table_info('instance') WHERE name NOT IN ('key', 'id', 'created_at', 'updated_at')").unwrap();
    let columns: Vec<String> = query
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let columns = columns.join(", ");
    let mut next = 1_000_000 + i64::try_from(before).unwrap();
    while std::fs::metadata(hub).unwrap().len() < bytes {
        db.execute_batch(&format!(
            "BEGIN;
             CREATE TEMP TABLE IF NOT EXISTS n (n INTEGER PRIMARY KEY, template INTEGER);
             DELETE FROM n;
             INSERT INTO n WITH RECURSIVE c(n) AS (SELECT {next} UNION ALL SELECT n + 1 FROM c WHERE n < {next} + {AT_ONCE} - 1)
                 SELECT n, (SELECT key FROM main.instance WHERE id = iif(n % 100 = 0, 'waits', 'ended')) FROM c;
             INSERT INTO main.instance (key, id, created_at, updated_at, {columns})
                 SELECT n, 'past-' || n, i.created_at - n, i.updated_at - n, {columns} FROM n JOIN main.instance AS i ON i.key = n.template;
             INSERT INTO main.turn SELECT n, execution, number, first_event, at, answer, received, produced
                 FROM n JOIN main.turn AS t ON t.instance = n.template;
             COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
        ))
        .unwrap();
        next += AT_ONCE;
    }
    u64::try_from(next - 1_000_000).unwrap()
}

/// Bytes that are free where a file is.
fn free_beside(file: &Path) -> u64 {
    let said = std::process::Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(file)
        .output();
    let text = said.map_or_else(
        |_| String::new(),
        |out| String::from_utf8_lossy(&out.stdout).into_owned(),
    );
    text.lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or(0)
}

/// Drops what the system has of a file in memory, so that the next host reads it from the disk.
fn forget_cached(hub: &Path) -> bool {
    std::process::Command::new("dd")
        .arg(format!("of={}", hub.display()))
        .args([
            "oflag=nocache",
            "conv=notrunc,fdatasync",
            "count=0",
            "status=none",
        ])
        .status()
        .is_ok_and(|status| status.success())
}

async fn restart(dir: &DataDir) -> (f64, f64) {
    let begun = Instant::now();
    let host = dir.host().start().await.unwrap();
    let started = begun.elapsed().as_secs_f64();
    one(&host.client(), "Chain", 1).await;
    let turned = begun.elapsed().as_secs_f64();
    host.shut_down().await;
    (started, turned)
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        "W8",
        "the start of a host with a large hub",
        "The hub has copies of a hello-sequence that has ended, and one instance in a hundred that waits for an event. The clock runs from the start \
         of the host to the end of the first instance that is started on it; with the hub's pages dropped from the system's memory before, and \
         without.",
    );
    let dir = data_dir();
    let first = host(&dir).await;
    let client = first.client();
    ends(
        &client,
        &client.start("HelloSequence").id("ended").await.unwrap(),
    )
    .await;
    client.start("Wait").id("waits").await.unwrap();
    first.shut_down().await;
    let hub = dir.path().join("default.db");
    let mut hubs = Vec::new();
    let mut empty = Vec::new();
    for _ in 0..rounds() {
        empty.push(restart(&dir).await);
    }
    hubs.push(("almost empty".to_owned(), empty));
    let (mut instances, mut dropped) = (0, true);
    for bytes in SIZES {
        let bytes = if is_quick() { bytes / 50 } else { bytes };
        let gigabytes = number(bytes as f64 / f64::from(1 << 30));
        if free_beside(&hub) < 4 * bytes {
            section.note(format!("The disk has no room for a hub of {gigabytes} GB."));
            continue;
        }
        instances = grow(&hub, bytes, instances);
        let (mut cold, mut warm) = (vec![], vec![]);
        for _ in 0..rounds() {
            dropped &= forget_cached(&hub);
            cold.push(restart(&dir).await);
            warm.push(restart(&dir).await);
        }
        let size = format!("{gigabytes} GB, {} instances", number(instances as f64));
        hubs.push((format!("{size}, read before"), warm));
        hubs.push((format!("{size}, not in memory"), cold));
    }
    let of = |rounds: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        median(&rounds.iter().map(of).collect::<Vec<_>>())
    };
    let rows = hubs.iter().map(|(what, rounds)| {
        [
            what.clone(),
            number(of(rounds, |r| r.0)),
            number(of(rounds, |r| r.1)),
        ]
    });
    section.table(
        "Seconds",
        ["hub", "host started", "first instance ended"],
        rows.collect(),
    );
    // The numbers of instances are in the table.
    let short = |what: &str| match what.split_once(", ") {
        Some((size, rest)) => format!("{size}, {}", rest.rsplit(", ").next().unwrap_or(rest)),
        None => what.to_owned(),
    };
    let labels: Vec<String> = hubs.iter().map(|(what, _)| short(what)).collect();
    let bars_of: Vec<_> = labels
        .iter()
        .zip(&hubs)
        .map(|(label, (_, rounds))| ours(label, of(rounds, |r| r.1)))
        .collect();
    section.chart(
        "w8-start.svg",
        "W8, the start of a host",
        bars(
            "Start of a host, to the end of a first instance",
            "s",
            &bars_of,
            None,
        ),
    );
    if !dropped {
        section.note("The system's memory could not be told to forget the hub, so that all rounds had it there.");
    }
    section
}
