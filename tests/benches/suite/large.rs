//! W8: the start of a host with a large hub.

use std::path::Path;
use std::time::Instant;

use perennial_tests::DataDir;

use crate::charts::{bars, ours};
use crate::hello::host;
use crate::measure::{data_dir, ends, is_quick, median, one, rounds};
use crate::section::{Section, number};

const BYTES: u64 = 1 << 30;

/// Copies the instances of a hub, with their histories, until the file is so large: mostly such as have ended, and one in a hundred that waits.
fn grow(hub: &Path, bytes: u64) -> u64 {
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
    let mut next = 1_000_000_i64;
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
        "the start of a host with a hub of 1 GB",
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
    let small = { (0..rounds()).map(|_| &dir) };
    let (mut empty, mut cold, mut warm) = (vec![], vec![], vec![]);
    for dir in small {
        empty.push(restart(dir).await);
    }
    let instances = grow(&hub, if is_quick() { BYTES / 50 } else { BYTES });
    let mut dropped = true;
    for _ in 0..rounds() {
        dropped &= forget_cached(&hub);
        cold.push(restart(&dir).await);
        warm.push(restart(&dir).await);
    }
    let of = |rounds: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        median(&rounds.iter().map(of).collect::<Vec<_>>())
    };
    let row = |what: &str, rounds: &[(f64, f64)]| {
        [
            what.to_owned(),
            number(of(rounds, |r| r.0)),
            number(of(rounds, |r| r.1)),
        ]
    };
    section.table(
        &format!(
            "Seconds, with {} instances in {} MB",
            number(instances as f64),
            std::fs::metadata(&hub).unwrap().len() >> 20
        ),
        ["hub", "host started", "first instance ended"],
        vec![
            row("almost empty", &empty),
            row("large, read before", &warm),
            row("large, not in memory", &cold),
        ],
    );
    let bars_of = [
        ours("almost empty", of(&empty, |r| r.1)),
        ours("large, read before", of(&warm, |r| r.1)),
        ours("large, not in memory", of(&cold, |r| r.1)),
    ];
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
