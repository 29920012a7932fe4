//! `perennial check`, backups under load, and files that are not what they should be.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use perennial::{Client, HubCheck};
use perennial_tests::{DataDir, module};

use crate::{hub_file, perennial, said};

const LIMIT: Duration = Duration::from_secs(60);

/// A hub with some instances that have ended and some that wait, and nobody who runs it.
async fn hub() -> DataDir {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    for n in 0..4 {
        let (done, waits) = (format!("done{n}"), format!("waits{n}"));
        client.start("Chain").id(&done).input(&3).await.unwrap();
        client
            .start("CountEvents")
            .id(&waits)
            .input(&9)
            .await
            .unwrap();
        client.raise_event(&waits, "go", &1).await.unwrap();
        client.wait_for_completion(&done, LIMIT).await.unwrap();
        client.wait_for_start(&waits, LIMIT).await.unwrap();
    }
    host.shut_down().await;
    dir
}

fn meddle(dir: &DataDir, sql: &str) {
    let db = rusqlite::Connection::open(hub_file(dir.path())).unwrap();
    db.execute_batch(sql).unwrap();
}

async fn found(dir: &DataDir) -> HubCheck {
    dir.client().verify().await.unwrap()
}

#[tokio::test]
async fn a_check_says_that_a_sound_hub_is_sound_and_changes_nothing() {
    let dir = hub().await;
    let before = std::fs::read(hub_file(dir.path())).unwrap();
    let checked = found(&dir).await;
    assert!(checked.is_sound(), "{checked:?}");
    assert_eq!(
        (checked.instances, checked.replayed, checked.moved),
        (8, 4, 0)
    );
    let output = perennial(dir.path(), &["check"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains(r#"task hub "default" is sound"#), "{text}");
    let output = perennial(dir.path(), &["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["sound"], &json["replayed"]),
        (&true.into(), &4.into())
    );
    assert_eq!(std::fs::read(hub_file(dir.path())).unwrap(), before);
}

#[tokio::test]
async fn a_check_names_each_instance_that_is_damaged_and_says_how() {
    for (damage, id, says) in [
        ("DELETE FROM turn WHERE number = 1 AND instance = (SELECT key FROM instance WHERE id = 'done1')", "done1", "turn 1 is missing"),
        ("UPDATE turn SET received = x'ffff' WHERE number = 0 AND instance = (SELECT key FROM instance WHERE id = 'waits2')", "waits2", ""),
        ("UPDATE instance SET status = 1 WHERE id = 'done3'", "done3", "its history says otherwise"),
        ("UPDATE instance SET next_event = next_event + 1 WHERE id = 'waits0'", "waits0", "events where the instance has"),
        ("UPDATE instance SET module = x'1111111111111111111111111111111111111111111111111111111111111111' WHERE id = 'waits3'", "waits3", "cannot be brought"),
        // The events of two turns in the other order are a history that nobody could have written.
        ("UPDATE turn SET produced = (SELECT produced FROM turn AS other WHERE other.instance = turn.instance AND number = 0)
          WHERE number = 2 AND instance = (SELECT key FROM instance WHERE id = 'done0')", "done0", ""),
    ] {
        let dir = hub().await;
        meddle(&dir, damage);
        let checked = found(&dir).await;
        let problems: Vec<&str> = checked.problems.iter().map(|p| p.instance_id.as_str()).collect();
        assert_eq!(problems, [id], "{damage}: {checked:?}");
        assert!(checked.problems[0].why.reason.contains(says), "{checked:?}");
        assert_eq!(checked.instances, 8, "the others are looked at all the same");
        let output = perennial(dir.path(), &["check"]);
        assert_eq!(output.status.code(), Some(6));
        assert!(said(&output).contains(id), "{}", said(&output));
    }
}

#[tokio::test]
async fn a_check_finds_a_damaged_file() {
    let dir = hub().await;
    let file = hub_file(dir.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 4096].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    let output = perennial(dir.path(), &["check"]);
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("the file:") || text.contains("damaged"),
        "{text}"
    );
}

#[tokio::test]
async fn a_hub_of_a_newer_version_is_refused_by_every_command_and_left_as_it_is() {
    let dir = hub().await;
    meddle(
        &dir,
        "PRAGMA journal_mode = DELETE; PRAGMA user_version = 99",
    );
    let before = std::fs::read(hub_file(dir.path())).unwrap();
    let file = hub_file(dir.path()).display().to_string();
    for args in [
        &["serve"][..],
        &["check"],
        &["status", "done0"],
        &["start", "Chain", "--input", "1"],
        &["purge", "done0"],
        &["backup", "copy.db"],
        &["--task-hub", "other", "restore", &file],
    ] {
        let output = perennial(dir.path(), args);
        let text = said(&output);
        assert!(!output.status.success(), "{args:?}: {text}");
        assert!(
            text.contains("newer version of Perennial (format 99"),
            "{args:?}: {text}"
        );
        assert_eq!(
            std::fs::read(hub_file(dir.path())).unwrap(),
            before,
            "{args:?}"
        );
    }
    assert!(!Path::new("copy.db").exists() && !dir.path().join("other.db").exists());
}

#[tokio::test]
async fn backups_of_a_busy_hub_are_sound_and_have_what_was_acknowledged_before() {
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    host.client().deploy(module("workloads")).await.unwrap();
    let (accepted, over) = (
        Arc::new(AtomicU32::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (client, counted, ends) = (host.client(), Arc::clone(&accepted), Arc::clone(&over));
    let load = tokio::spawn(async move {
        while !ends.load(Ordering::Acquire) {
            let n = counted.load(Ordering::Acquire);
            client
                .start("Chain")
                .id(format!("c{n}"))
                .input(&5)
                .await
                .unwrap();
            counted.store(n + 1, Ordering::Release);
        }
    });
    for copy in 0..5 {
        while accepted.load(Ordering::Acquire) < (copy + 1) * 40 {
            tokio::task::yield_now().await;
        }
        let before = accepted.load(Ordering::Acquire);
        let file = dir.path().join(format!("copy{copy}.backup"));
        host.client().backup(&file, |_| {}).await.unwrap();
        let name = format!("copy{copy}");
        let restored = Client::restore(dir.path(), &name, &file, |_| {})
            .await
            .unwrap();
        let checked = restored.verify().await.unwrap();
        assert!(checked.is_sound(), "{checked:?}");
        assert!(
            checked.instances >= u64::from(before),
            "{before}: {checked:?}"
        );
        // And what is under way in it goes on to its end.
        let other = dir.host().task_hub(&name).start().await.unwrap();
        let last = format!("c{}", before - 1);
        let waited = other
            .client()
            .wait_for_completion(&last, LIMIT)
            .await
            .unwrap();
        waited.reached().unwrap();
        other.shut_down().await;
    }
    over.store(true, Ordering::Release);
    load.await.unwrap();
    // A check of a hub at work finds nothing wrong with it either.
    let checked = host.client().verify().await.unwrap();
    assert!(checked.is_sound(), "{checked:?}");
    host.shut_down().await;
}
