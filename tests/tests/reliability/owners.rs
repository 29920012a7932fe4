//! Who owns a hub: one, who says its name, until it dies or is replaced.

use std::process::Command;
use std::time::{Duration, Instant};

use perennial::{Event, Status};
use perennial_tests::{DataDir, Serve, module};

use crate::{hub_file, perennial, said};

fn signal(name: &str, host: &Serve) {
    let pid = host.pid().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn a_second_host_is_refused_and_told_of_the_first_whose_lock_is_free_when_it_is_dead() {
    let dir = DataDir::new();
    dir.client().deploy(module("workloads")).await.unwrap();
    let first = Serve::start(dir.path(), &[]);
    let refused = perennial(dir.path(), &["serve"]);
    assert!(!refused.status.success());
    let owner = format!("(process {})", first.pid());
    assert!(said(&refused).contains(&owner), "{}", said(&refused));
    for _ in 0..3 {
        let host = Serve::start(DataDir::new().path(), &[]);
        host.kill();
    }
    first.kill();
    let begun = Instant::now();
    drop(Serve::start(dir.path(), &[]));
    // Nothing is waited for: no lease has to run out.
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_owner_that_slept_while_it_was_replaced_writes_nothing_when_it_wakes() {
    let dir = DataDir::new();
    let client = dir.client();
    client.deploy(module("workloads")).await.unwrap();
    let sleeper = Serve::start(dir.path(), &[]);
    for n in 0..5 {
        client
            .start("Sleep")
            .id(format!("s{n}"))
            .input(&1_500)
            .await
            .unwrap();
    }
    for n in 0..5 {
        let id = format!("s{n}");
        client
            .wait_for_start(&id, Duration::from_secs(30))
            .await
            .unwrap();
    }
    signal("-STOP", &sleeper);
    // As somebody does who takes it for dead.
    let lock = hub_file(dir.path()).with_extension("db.lock");
    std::fs::remove_file(lock).unwrap();
    let heir = Serve::start(dir.path(), &[]);
    let limit = Duration::from_secs(30);
    let waited = client.wait_for_completion("s0", limit).await.unwrap();
    assert_eq!(waited.status().runtime_status, Status::Completed);
    signal("-CONT", &sleeper);
    for n in 0..5 {
        client
            .start("Sleep")
            .id(format!("t{n}"))
            .input(&100)
            .await
            .unwrap();
    }
    for id in (0..5).flat_map(|n| [format!("s{n}"), format!("t{n}")]) {
        client.wait_for_completion(&id, limit).await.unwrap();
        let status = client
            .status(&id)
            .show_history_output()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.runtime_status, Status::Completed);
        let fired =
            |event: &&perennial::HistoryEvent| matches!(event.event, Event::TimerFired { .. });
        assert_eq!(
            status.history.iter().flatten().filter(fired).count(),
            1,
            "{id}"
        );
    }
    let found = client.verify().await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(sleeper.ended(), Some(1), "it has nothing left to do");
    drop(heir);
}
