//! hello-sequence on duroxide with its SQLite provider.

use std::sync::Arc;
use std::time::Duration;

use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::runtime::{Runtime, RuntimeOptions};
use duroxide::{
    ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus,
};

struct Duroxide(Client);

impl peers::Peer for Duroxide {
    async fn one(&self, number: u64) {
        let id = format!("hello-{number}");
        self.0
            .start_orchestration(&id, "HelloSequence", "")
            .await
            .unwrap();
        let ended = self
            .0
            .wait_for_orchestration(&id, Duration::from_secs(120))
            .await
            .unwrap();
        match ended {
            OrchestrationStatus::Completed { output, .. } => {
                assert_eq!(output, "Hello Tokyo!, Hello Seattle!, Hello London!");
            }
            _ => panic!("{id} did not complete"),
        }
    }
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let path = std::path::Path::new(&dir).join("duroxide.db");
    std::fs::File::create(&path).unwrap();
    let store = SqliteProvider::new(&format!("sqlite:{}", path.display()), None)
        .await
        .unwrap();
    let store = Arc::new(store);
    let activities = ActivityRegistry::builder()
        .register("SayHello", |_: ActivityContext, city: String| async move {
            Ok(format!("Hello {city}!"))
        })
        .build();
    let hello = |ctx: OrchestrationContext, _: String| async move {
        let mut greetings = Vec::new();
        for city in ["Tokyo", "Seattle", "London"] {
            greetings.push(ctx.schedule_activity("SayHello", city).await?);
        }
        Ok(greetings.join(", "))
    };
    let orchestrations = OrchestrationRegistry::builder()
        .register("HelloSequence", hello)
        .build();
    let options = RuntimeOptions {
        dispatcher_min_poll_interval: Duration::from_millis(5),
        ..RuntimeOptions::default()
    };
    let runtime =
        Runtime::start_with_options(store.clone(), activities, orchestrations, options).await;
    let configuration =
        "SQLite provider as it ships (commits are not synced), polling every 5 ms in place of 100";
    peers::serve("0.1.32", configuration, Duroxide(Client::new(store))).await;
    runtime.shutdown(Some(0)).await;
}
