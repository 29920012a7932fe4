//! Input that cannot be meant, through each way in: what is answered to it, and that nothing is changed by it.
//!
//! Each table has a line for one input: what it is, the input, and the answer. A hub with instances in it is dumped before and after.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "bad_input/api.rs"]
mod api;
#[path = "bad_input/cli.rs"]
mod cli;
#[path = "bad_input/http.rs"]
mod http;

use std::path::Path;
use std::time::Duration;

use perennial::{Client, Host, Status};
use perennial_tests::{DataDir, module};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

const LIMIT: Duration = Duration::from_secs(60);

/// A hub with a host, and in it an instance `waits` that waits for an event, a `done` one, and two that another list has.
struct Hub {
    host: Host,
    dir: DataDir,
}

impl Hub {
    async fn new() -> Self {
        let dir = DataDir::new();
        let host = dir.host().start().await.unwrap();
        let client = host.client();
        client.deploy(module("workloads")).await.unwrap();
        for id in ["waits", "waits-2"] {
            client.start("Wait").id(id).await.unwrap();
            let begun = client.wait_until(id, LIMIT, |status| status.history_events >= 2);
            begun.await.unwrap().reached().unwrap();
        }
        client.start("Chain").id("done").input(&1).await.unwrap();
        let ended = client.wait_for_completion("done", LIMIT).await.unwrap();
        assert_eq!(ended.status().runtime_status, Status::Completed);
        Self { host, dir }
    }

    fn client(&self) -> Client {
        self.host.client()
    }

    /// Every row of every table, and the files beside the hub that are anything to a user.
    fn dump(&self) -> Vec<String> {
        dump(self.dir.path())
    }

    /// A token of a list that is not the one of all instances.
    async fn foreign_token(&self) -> String {
        let page = self.client().list().name("Wait").limit(1).await.unwrap();
        page.continuation_token.unwrap()
    }
}

fn dump(dir: &Path) -> Vec<String> {
    let path = dir.join("default.db");
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut tables = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    let tables: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut rows = Vec::new();
    for table in &tables {
        let mut query = db.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
        let mut found = query.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let mut text = table.clone();
            for (at, column) in columns.iter().enumerate() {
                // It counts transactions, and a refusal may be one: that changes nothing that anybody asked for.
                if table.as_str() != "hub" || !["commits", "at"].contains(&column.as_str()) {
                    let value: Value = row.get(at).unwrap();
                    text.push_str(&format!(" {column}={value:?}"));
                }
            }
            rows.push(text);
        }
    }
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    files.sort();
    rows.extend(files);
    rows
}

/// Tells all wrong answers at once, and each row that differs.
fn judge(hub: &Hub, before: &[String], tried: usize, wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let after = hub.dump();
    let differs: Vec<_> = after
        .iter()
        .filter(|row| !before.contains(row))
        .chain(before.iter().filter(|row| !after.contains(row)))
        .map(|row| row.chars().take(500).collect::<String>())
        .collect();
    assert!(
        differs.is_empty(),
        "the hub has changed:\n{}",
        differs.join("\n")
    );
}

/// The beginning of a text, for a message about it.
fn shown(text: &str) -> String {
    text.chars().take(300).collect()
}
