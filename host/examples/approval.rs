//! An orchestration that calls a closure of this program, waits for an event, and has a deadline of three days, which passes at once: the
//! clock of the host is simulated.
//!
//! Run it with the component of the sample `human-approval`:
//!
//! ```text
//! cargo run --example approval -- target/guests/human-approval.wasm
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use perennial::{ActivityContext, Client, Failure, Host, InstanceStatus, Module, SimClock};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// An activity is ordinary code. This one is called by the name `Notify`.
async fn notify(attempt: ActivityContext, notice: Value) -> Result<(), Failure> {
    println!(
        "attempt {}: to the {}: {}",
        attempt.attempt(),
        notice["to"],
        notice["text"]
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::env::args().nth(1).ok_or("name a component")?;
    let data_dir = tempfile::tempdir()?;
    let clock = SimClock::default();
    let host = Host::builder()
        .data_dir(data_dir.path())
        .activity("Notify", notify)
        .clock(clock.clone())
        .start()
        .await?;
    let client = host.client();
    client.deploy(Module::from_file(component)?).await?;
    let request = json!({ "purpose": "a new chair" });

    // An event that arrives before the orchestration waits for it is kept.
    let decided = client.start("Approve").input(&request).await?;
    let decision = json!({ "approved": true, "by": "Ada" });
    client.raise_event(&decided, "Decision", &decision).await?;
    let status = client.wait_for_completion(&decided, LIMIT).await?;
    show(status.status());

    // Nobody decides this one. It waits for the manager, then for the director, three days each.
    let ignored = client.start("Approve").input(&request).await?;
    for boss in ["manager", "director"] {
        until_shown(&client, &ignored, boss).await?;
        clock.advance(Duration::from_secs(3 * 24 * 60 * 60));
    }
    let status = client.wait_for_completion(&ignored, LIMIT).await?;
    show(status.status());

    host.shut_down().await;
    Ok(())
}

/// Waits until the custom status of an instance names somebody.
async fn until_shown(client: &Client, id: &str, who: &str) -> perennial::Result<()> {
    let names = |status: &InstanceStatus| {
        let shown = status.custom_status.as_ref();
        shown.is_some_and(|shown| shown.as_str().contains(who))
    };
    client.wait_until(id, LIMIT, names).await.map(drop)
}

fn show(status: &InstanceStatus) {
    let output = status
        .output
        .as_ref()
        .map_or("nothing", |output| output.as_str());
    println!(
        "{} is {}: {output}",
        status.instance_id, status.runtime_status
    );
}
