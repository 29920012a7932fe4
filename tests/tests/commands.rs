//! What each command does in each status: one table, and each cell of it through the library and through the command line.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "commands/races.rs"]
mod races;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use perennial::{Client, Reuse, Status};
use perennial_tests::{DataDir, Serve, module, perennial};

/// How long a cell may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The statuses that an instance may be in before a command.
const STATUSES: [&str; 7] = [
    "missing",
    "Pending",
    "Running",
    "Suspended",
    "Completed",
    "Failed",
    "Terminated",
];

/// Each command, and what comes of it in each of [`STATUSES`]: the status afterwards (of the new instance, where there is one), or `!` and
/// the refusal.
#[rustfmt::skip]
const TABLE: &[(&str, [&str; 7])] = &[
    // command            missing       Pending           Running           Suspended         Completed         Failed            Terminated
    ("start",             ["Running",   "!AlreadyExists", "!AlreadyExists", "!AlreadyExists", "Running",        "Running",        "Running"]),
    ("start, never",      ["Running",   "!AlreadyExists", "!AlreadyExists", "!AlreadyExists", "!AlreadyExists", "!AlreadyExists", "!AlreadyExists"]),
    ("start, any",        ["Running",   "Running",        "Running",        "Running",        "Running",        "Running",        "Running"]),
    ("raise event",       ["!NotFound", "Pending",        "Running",        "Suspended",      "!NotRunning",    "!NotRunning",    "!NotRunning"]),
    ("terminate",         ["!NotFound", "Terminated",     "Terminated",     "Terminated",     "!NotRunning",    "!NotRunning",    "!NotRunning"]),
    ("terminate, all",    ["!NotFound", "Terminated",     "Terminated",     "Terminated",     "!NotRunning",    "!NotRunning",    "!NotRunning"]),
    ("suspend",           ["!NotFound", "Suspended",      "Suspended",      "Suspended",      "!NotRunning",    "!NotRunning",    "!NotRunning"]),
    ("suspend, all",      ["!NotFound", "Suspended",      "Suspended",      "Suspended",      "!NotRunning",    "!NotRunning",    "!NotRunning"]),
    ("resume",            ["!NotFound", "Pending",        "Running",        "Running",        "!NotRunning",    "!NotRunning",    "!NotRunning"]),
    ("resume, all",       ["!NotFound", "Pending",        "Running",        "Running",        "!NotRunning",    "!NotRunning",    "!NotRunning"]),
    ("rewind",            ["!NotFound", "!NotFailed",     "!NotFailed",     "!NotFailed",     "!NotFailed",     "Running",        "!NotFailed"]),
    ("restart",           ["!NotFound", "!NotTerminal",   "!NotTerminal",   "!NotTerminal",   "Running",        "Running",        "Running"]),
    ("restart, new id",   ["!NotFound", "Running",        "Running",        "Running",        "Running",        "Running",        "Running"]),
    ("purge",             ["missing",   "!NotTerminal",   "!NotTerminal",   "!NotTerminal",   "missing",        "missing",        "missing"]),
];

/// A hub with instances in every status.
struct Hub {
    dir: DataDir,
    files: tempfile::TempDir,
}

impl Hub {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("there"), "").unwrap();
        Self {
            dir: DataDir::new(),
            files,
        }
    }

    async fn deploy(&self, client: &Client) {
        let deployed = client.deploy(module("workloads"));
        deployed
            .grant_dir(self.files.path(), "/files")
            .await
            .unwrap();
    }

    /// Brings an instance into a status.
    async fn bring(&self, client: &Client, id: &str, status: &str) {
        let file = match status {
            "Failed" => format!("/files/{id}"),
            _ => "/files/there".to_owned(),
        };
        let start = client.start("Mendable").id(id).input(&file);
        match status {
            "missing" => return,
            "Pending" => start.after(Duration::from_secs(86_400)).await.unwrap(),
            _ => start.await.unwrap(),
        };
        match status {
            "Suspended" | "Terminated" | "Completed" => {
                wait_for_activity(client, id).await;
            }
            "Running" => wait_for_activity(client, id).await,
            _ => {}
        }
        match status {
            "Suspended" => drop(client.suspend(id, None).await.unwrap()),
            "Terminated" => drop(client.terminate(id, None).await.unwrap()),
            "Completed" => client.raise_event(id, "Go", "well").await.unwrap(),
            _ => {}
        }
        is(client, id, status).await;
        // What failed is mended before the command comes.
        if status == "Failed" {
            std::fs::write(self.files.path().join(id), "").unwrap();
        }
    }
}

/// Waits until an instance waits for its event.
async fn wait_for_activity(client: &Client, id: &str) {
    let waited = client.wait_until(id, PATIENCE, |status| {
        status.is_ended() || status.history_events >= 5
    });
    assert!(waited.await.unwrap().reached().is_some(), "{id}");
}

/// Waits until an instance is in a status.
async fn is(client: &Client, id: &str, expected: &str) {
    if expected == "missing" {
        return assert!(client.status(id).await.unwrap().is_none(), "{id} is there");
    }
    let expected = Status::from_name(expected).unwrap();
    let waited = client.wait_until(id, PATIENCE, |status| status.runtime_status == expected);
    let waited = waited.await.unwrap();
    let status = waited.status();
    assert_eq!(status.runtime_status, expected, "{id}: {status:?}");
}

/// What a refusal says, in a word.
fn refusal(message: &str) -> String {
    let words = [
        ("there is no instance", "!NotFound"),
        ("exists already", "!AlreadyExists"),
        ("it has ended and is", "!NotRunning"),
        ("only a Failed instance", "!NotFailed"),
        ("it has not ended", "!NotTerminal"),
    ];
    let word = words.iter().find(|(text, _)| message.contains(text));
    word.map_or_else(|| message.to_owned(), |(_, word)| (*word).to_owned())
}

/// Sends a command through the library; the id that it is about afterwards.
async fn send(client: &Client, command: &str, id: &str) -> perennial::Result<String> {
    let start = |reuse| {
        client
            .start("Mendable")
            .id(id)
            .input("/files/there")
            .reuse(reuse)
    };
    let (own, why) = (id.to_owned(), Some("a test"));
    match command {
        "start" => start(Reuse::Ended).await,
        "start, never" => start(Reuse::Never).await,
        "start, any" => start(Reuse::Any).await,
        "raise event" => client.raise_event(id, "Other", &1).await.map(|()| own),
        "terminate" => client.terminate(id, why).await.map(|_| own),
        "terminate, all" => client.terminate(id, why).recursive().await.map(|_| own),
        "suspend" => client.suspend(id, why).await.map(|_| own),
        "suspend, all" => client.suspend(id, why).recursive().await.map(|_| own),
        "resume" => client.resume(id, why).await.map(|_| own),
        "resume, all" => client.resume(id, why).recursive().await.map(|_| own),
        "rewind" => client.rewind(id).reason("a test").await.map(|_| own),
        "restart" => client.restart(id).await,
        "restart, new id" => client.restart(id).with_new_id().await,
        "purge" => client.purge(id).await.map(|_| own),
        other => panic!("{other} is no command"),
    }
}

/// As [`send`]; a refusal as one word.
async fn by_client(client: &Client, command: &str, id: &str) -> Result<String, String> {
    send(client, command, id).await.map_err(|error| {
        let word = refusal(&error.to_string());
        let is_told = match word.as_str() {
            "!NotFound" => error.is_not_found(),
            "!AlreadyExists" => error.is_already_exists() && error.is_wrong_state(),
            _ => error.is_wrong_state(),
        };
        assert!(is_told, "{command} {id}: {error}");
        word
    })
}

/// Sends a command through the binary; the id that it is about afterwards.
fn by_binary(dir: &Path, command: &str, id: &str) -> Result<String, String> {
    let start = [
        "start",
        "Mendable",
        "--id",
        id,
        "--input",
        "\"/files/there\"",
    ];
    let args: Vec<&str> = match command {
        "start" => start.to_vec(),
        "start, never" => [&start[..], &["--reuse", "never"]].concat(),
        "start, any" => [&start[..], &["--reuse", "any"]].concat(),
        "raise event" => vec!["raise-event", id, "Other", "--data", "1"],
        "terminate" => vec!["terminate", id, "--reason", "a test"],
        "terminate, all" => vec!["terminate", id, "--recursive"],
        "suspend" => vec!["suspend", id],
        "suspend, all" => vec!["suspend", id, "--recursive"],
        "resume" => vec!["resume", id],
        "resume, all" => vec!["resume", id, "--recursive"],
        "rewind" => vec!["rewind", id, "--reason", "a test"],
        "restart" => vec!["restart", id],
        "restart, new id" => vec!["restart", id, "--new-id"],
        "purge" => vec!["purge", id, "--yes", "--quiet"],
        other => panic!("{other} is no command"),
    };
    let output = perennial(dir)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if output.status.success() {
        let new_id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        return Ok(if new_id.is_empty() {
            id.to_owned()
        } else {
            new_id
        });
    }
    let word = refusal(&String::from_utf8(output.stderr).unwrap());
    let code = match word.as_str() {
        "!NotFound" => 3,
        _ => 4,
    };
    assert_eq!(output.status.code(), Some(code), "{command} {id}: {word}");
    if command == "purge" && word == "!NotFound" {
        // Where there is nothing to delete the library says that nothing was deleted, and the command line what was not found.
        return Ok(id.to_owned());
    }
    Err(word)
}

/// Checks what a command came to against its cell.
async fn check(
    client: &Client,
    id: &str,
    status: &str,
    expected: &str,
    done: Result<String, String>,
) {
    match done {
        Ok(about) => {
            assert!(!expected.starts_with('!'), "{id} was not refused");
            is(client, &about, expected).await;
            if about != id {
                is(client, id, status).await;
            }
        }
        Err(word) => {
            assert_eq!(word, expected, "{id}");
            is(client, id, status).await;
        }
    }
}

fn cells() -> impl Iterator<Item = (&'static str, &'static str, &'static str, String)> {
    TABLE.iter().flat_map(|(command, cells)| {
        STATUSES.iter().zip(cells).map(move |(status, expected)| {
            let id = format!("{command} {status}").replace([' ', ','], "-");
            (*command, *status, *expected, id)
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cell_of_the_table_holds_through_the_library() {
    let hub = Hub::new();
    let host = hub.dir.host().start().await.unwrap();
    let client = host.client();
    hub.deploy(&client).await;
    for (command, status, expected, id) in cells() {
        hub.bring(&client, &id, status).await;
        let before = client.status(&id).await.unwrap().map(|s| s.execution_id);
        let done = by_client(&client, command, &id).await;
        check(&client, &id, status, expected, done).await;
        let after = client.status(&id).await.unwrap().map(|s| s.execution_id);
        let begins = expected == "Running" && matches!(command, "start" | "start, any" | "restart");
        let comes_or_goes = before.is_some() != after.is_some();
        assert_eq!(before != after, begins || comes_or_goes, "{id}");
    }
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cell_of_the_table_holds_through_the_command_line() {
    let hub = Hub::new();
    let client = hub.dir.client();
    hub.deploy(&client).await;
    let _host = Serve::start(hub.dir.path(), &[]);
    for (command, status, expected, id) in cells() {
        hub.bring(&client, &id, status).await;
        let done = by_binary(hub.dir.path(), command, &id);
        check(&client, &id, status, expected, done).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_begun_ends_at_once_even_where_no_host_owns_the_hub() {
    let hub = Hub::new();
    let client = hub.dir.client();
    hub.deploy(&client).await;
    client.start("Mendable").id("now").await.unwrap();
    let later = client.start("Mendable").id("later");
    later.after(Duration::from_secs(3_600)).await.unwrap();
    for id in ["now", "later"] {
        client.terminate(id, Some("no longer")).await.unwrap();
        let status = client.status(id).await.unwrap().unwrap();
        assert_eq!(status.runtime_status, Status::Terminated);
        assert_eq!(status.output_as::<String>().unwrap(), "no longer");
        // It has its input still, and can begin again.
        client.restart(id).await.unwrap();
        is(&client, id, "Pending").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recursive_termination_interrupts_the_activities_of_modules() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    client.start("RunsBusy").id("busy").await.unwrap();
    let runs = |status: &perennial::InstanceStatus| status.history_events >= 3;
    client.wait_until("busy", PATIENCE, runs).await.unwrap();
    client.terminate("busy", None).recursive().await.unwrap();
    is(&client, "busy", "Terminated").await;
    let begun = std::time::Instant::now();
    while host.stats().activities_running > 0 {
        assert!(begun.elapsed() < PATIENCE, "it is not interrupted");
        tokio::task::yield_now().await;
    }
    host.shut_down().await;
}
