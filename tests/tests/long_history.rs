//! A history that grows long is said so in the log, once for each size.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial::Status;
use perennial_tests::{DataDir, module};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_warned_of_once() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    let dir = DataDir::new();
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    for (id, tasks) in [("short", 100), ("long", 5_200)] {
        client.start("FanOutN").id(id).input(&tasks).await.unwrap();
        let waited = client
            .wait_for_completion(id, Duration::from_secs(120))
            .await
            .unwrap();
        assert_eq!(waited.status().runtime_status, Status::Completed);
    }
    host.shut_down().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("has grown past"))
        .collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("past 10000 events"), "{log}");
    assert!(warnings[0].contains("instance=long"), "{log}");
}
