//! Real file systems that are full or may not be written. They are mounted for the test, which takes root: elsewhere the tests say that
//! they are skipped, and the same faults come from a simulated disk in the tests of the host.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use perennial_tests::{DataDir, module};

use crate::{perennial, said};

/// A file system of a test's own, gone when dropped.
struct Mount(DataDir);

impl Mount {
    /// `None` where nothing may be mounted, and says so.
    fn new(test: &str, size: &str) -> Option<Self> {
        let dir = DataDir::new();
        let size = format!("size={size}");
        if !mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], dir.path()) {
            eprintln!("skipped: {test}: this user may not mount a file system");
            return None;
        }
        Some(Self(dir))
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], self.0.path()));
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    let done = Command::new("mount").args(args).arg(at).output();
    done.is_ok_and(|done| done.status.success())
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: files that are still open keep it until they are closed.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_hub_on_a_disk_that_is_full_refuses_keeps_what_it_has_and_goes_on_when_there_is_room() {
    let Some(disk) = Mount::new("a full disk", "14m") else {
        return;
    };
    let host = disk.0.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    let filler = "x".repeat(20_000);
    let mut accepted = Vec::new();
    let refused = loop {
        let id = format!("i{}", accepted.len());
        match client.start("Wait").id(&id).input(&filler).await {
            Ok(_) => accepted.push(id),
            Err(error) => break error.to_string(),
        }
        assert!(accepted.len() < 2_000, "it is never full");
    };
    assert!(refused.contains("full"), "{refused}");
    for id in &accepted {
        assert!(client.status(id).await.unwrap().is_some(), "{id} is lost");
    }
    let found = client.verify().await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    disk.remount("size=64m");
    let after = client.start("Chain").input(&3).await.unwrap();
    let waited = client
        .wait_for_completion(&after, Duration::from_secs(60))
        .await
        .unwrap();
    waited.ended().unwrap();
    for id in &accepted {
        client.raise_event(id, "Go", "on").await.unwrap();
        let waited = client
            .wait_for_completion(id, Duration::from_secs(60))
            .await
            .unwrap();
        waited.ended().unwrap();
    }
    host.shut_down().await;
}

#[tokio::test]
async fn a_hub_that_may_not_be_written_says_so_and_is_used_again_when_it_may() {
    let Some(disk) = Mount::new("a read-only disk", "64m") else {
        return;
    };
    let dir = disk.0.path();
    let host = disk.0.host().start().await.unwrap();
    host.client().deploy(module("workloads")).await.unwrap();
    host.client()
        .start("Chain")
        .id("a")
        .input(&2)
        .await
        .unwrap();
    host.shut_down().await;
    disk.remount("ro");
    for args in [
        &["serve"][..],
        &["start", "Chain", "--input", "1"],
        &["purge", "a"],
    ] {
        let output = perennial(dir, args);
        let text = said(&output);
        assert!(!output.status.success(), "{args:?}: {text}");
        assert!(
            text.to_lowercase().contains("read-only"),
            "{args:?}: {text}"
        );
    }
    for args in [&["status", "a"][..], &["list"], &["check"]] {
        let output = perennial(dir, args);
        let text = said(&output);
        assert!(
            output.status.success() || text.contains("read-only"),
            "{args:?}: {text}"
        );
    }
    disk.remount("rw");
    let output = perennial(dir, &["start", "Chain", "--id", "b", "--input", "1"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(perennial(dir, &["status", "a"]).status.success());
}
