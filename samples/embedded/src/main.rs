//! A program of your own with the host in it: the orchestrations are components, and an activity is a closure of the program.
#![allow(clippy::print_stdout, reason = "this is what the program is for")]

use std::path::Path;
use std::time::Duration;

use perennial::{ActivityContext, Client, Failure, Host, InstanceStatus, Module};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// What `human-approval` calls to tell somebody.
async fn notify(_: ActivityContext, notice: Value) -> Result<(), Failure> {
    println!("to the {}: {}", notice["to"], notice["text"]);
    Ok(())
}

/// Runs two samples on a hub in `data_dir`, and returns what came out.
pub(crate) async fn run(data_dir: &Path, guests: &Path) -> perennial::Result<Vec<InstanceStatus>> {
    let host = Host::builder()
        .data_dir(data_dir)
        .activity("Notify", notify)
        .start()
        .await?;
    let client = host.client();
    for guest in ["hello-sequence.wasm", "human-approval.wasm"] {
        client
            .deploy(Module::from_file(guests.join(guest))?)
            .await?;
    }
    let ended = vec![greet(&client).await?, approve(&client).await?];
    host.shut_down().await;
    Ok(ended)
}

async fn greet(client: &Client) -> perennial::Result<InstanceStatus> {
    let id = client.start("HelloSequence").await?;
    Ok(client
        .wait_for_completion(&id, LIMIT)
        .await?
        .status()
        .clone())
}

/// Here the program is also the manager. The event is kept until the orchestration waits for it.
async fn approve(client: &Client) -> perennial::Result<InstanceStatus> {
    let request = json!({ "purpose": "a new chair" });
    let id = client.start("Approve").input(&request).await?;
    let decision = json!({ "approved": true, "by": "Ada" });
    client.raise_event(&id, "Decision", &decision).await?;
    Ok(client
        .wait_for_completion(&id, LIMIT)
        .await?
        .status()
        .clone())
}

#[tokio::main]
async fn main() -> perennial::Result<()> {
    for status in run(Path::new(".perennial"), Path::new("target/guests")).await? {
        let output = status
            .output
            .as_ref()
            .map_or("nothing", |json| json.as_str());
        println!("{} {}: {output}", status.name, status.runtime_status);
    }
    Ok(())
}
