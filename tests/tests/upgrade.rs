//! Hubs that older versions left, and that this one must go on with; see `tests/hubs/README.md`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use perennial::{Client, InstanceStatus, Millis, Module, SimClock, Status, Timestamp, Wait};
use perennial_tests::{DataDir, root};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// The format that this version writes.
const FORMAT: u32 = 7;

/// When the recorded hosts ran.
const RECORDED: Timestamp = Timestamp(1_750_000_000_000);

fn file(format: u32) -> PathBuf {
    root().join(format!("tests/hubs/format-{format}.db"))
}

async fn until(client: &Client, id: &str, is: impl Fn(&InstanceStatus) -> bool + Clone) {
    let every = Duration::from_millis(10);
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let waited = client.wait_until(id, every, is.clone()).await.unwrap();
            if is(waited.status()) {
                return;
            }
        }
    });
    waited.await.unwrap();
}

fn shows(value: Value) -> impl Fn(&InstanceStatus) -> bool + Clone {
    move |status| {
        let shown = status.custom_status.as_ref();
        shown.is_some_and(|shown| serde_json::from_str::<Value>(shown.as_str()).unwrap() == value)
    }
}

/// The last round of the recorded program, which ends with what it saw.
async fn starts(client: &Client, id: &str) {
    let start = client.start("Rounds").id(id).input(&json!([2, ["before"]]));
    start.await.unwrap();
    until(client, id, shows(json!([2, "begun"]))).await;
}

async fn raises(client: &Client, id: &str, events: &[(&str, Value)]) {
    for (name, data) in events {
        client.raise_event(id, name, data).await.unwrap();
    }
}

async fn record(to: &Path) {
    let program = std::fs::read(root().join("tests/golden/events/program.wasm")).unwrap();
    let dir = DataDir::new();
    let host = dir.host().clock(SimClock::new(RECORDED));
    let host = host.start().await.unwrap();
    let client = host.client();
    let module = Module::from_bytes("events", &program).unwrap();
    client.deploy(module).await.unwrap();
    for id in ["ended", "halfway", "timer", "suspended"] {
        starts(&client, id).await;
    }
    let all = [
        ("Item", json!(1)),
        ("Item", json!(0)),
        ("Answer", json!("yes")),
        ("Left", json!("end")),
    ];
    raises(&client, "ended", &all).await;
    let waited = client.wait_for_completion("ended", LIMIT).await.unwrap();
    assert_eq!(waited.status().runtime_status, Status::Completed);
    raises(&client, "halfway", &all[..2]).await;
    until(&client, "halfway", shows(json!([2, "asks"]))).await;
    client
        .suspend("suspended", Some("until the upgrade"))
        .await
        .unwrap();
    until(&client, "suspended", |status| {
        status.runtime_status == Status::Suspended
    })
    .await;
    raises(&client, "suspended", &all[..1]).await;
    host.shut_down().await;
    drop(client);
    let file = dir.path().join("default.db");
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch("PRAGMA journal_mode = DELETE; VACUUM")
        .unwrap();
    std::fs::copy(file, to).unwrap();
}

fn output(status: &InstanceStatus) -> Value {
    serde_json::from_str(status.output.as_ref().unwrap().as_str()).unwrap()
}

/// Runs everything in the hub of a format to its end.
async fn goes_on(format: u32) {
    let dir = DataDir::new();
    let hub = dir.path().join("default.db");
    std::fs::copy(file(format), &hub).unwrap();
    // As long after as nothing but the timer is late.
    let clock = SimClock::new(Timestamp(RECORDED.0 + 60_000));
    let host = dir.host().clock(clock.clone()).start().await.unwrap();
    let client = host.client();
    let found = client.verify().await.unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);

    let ended = client.status("ended").await.unwrap().unwrap();
    assert_eq!(ended.runtime_status, Status::Completed);
    assert_eq!(
        output(&ended),
        json!(["before", "2: item 1", "2: Some(\"yes\")", "2: end"])
    );

    let answers = [("Answer", json!("yes")), ("Right", json!("end"))];
    raises(&client, "halfway", &answers).await;

    let timer = client.status("timer").await.unwrap().unwrap();
    let waits = |wait: &Wait| matches!(wait, Wait::Timer { .. });
    assert!(timer.waits_for.iter().any(waits), "{:?}", timer.waits_for);
    clock.advance(Millis(3 * 3_600_000));
    until(&client, "timer", shows(json!([2, "asks"]))).await;
    raises(&client, "timer", &answers).await;

    let suspended = client.status("suspended").await.unwrap().unwrap();
    assert_eq!(suspended.runtime_status, Status::Suspended);
    client.resume("suspended", None).await.unwrap();
    until(&client, "suspended", shows(json!([2, "asks"]))).await;
    raises(&client, "suspended", &answers).await;

    for (id, saw) in [
        ("halfway", "2: item 1"),
        ("suspended", "2: item 1"),
        ("timer", "2: time is up"),
    ] {
        let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
        let status = waited.reached().unwrap();
        assert_eq!(
            status.runtime_status,
            Status::Completed,
            "{id}: {:?}",
            status.failure
        );
        let log = output(&status);
        assert!(log[1].as_str().unwrap().starts_with(saw), "{id}: {log}");
    }
    starts(&client, "new").await;
    let found = client.verify().await.unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    host.shut_down().await;
    let db = rusqlite::Connection::open(hub).unwrap();
    let format = db.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0));
    assert_eq!(format.unwrap(), FORMAT);
}

#[tokio::test]
async fn a_hub_of_every_format_so_far_goes_on() {
    for format in 1..=FORMAT {
        if !file(format).exists() {
            assert!(
                format == FORMAT && std::env::var_os("PERENNIAL_RECORD").is_some(),
                "there is no hub of format {format}; see tests/hubs/README.md"
            );
            record(&file(format)).await;
        }
        goes_on(format).await;
    }
    assert!(
        !file(FORMAT + 1).exists(),
        "FORMAT is not that of the newest hub"
    );
}
