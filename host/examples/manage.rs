//! Many instances: starts them with tags, lists and counts those that match a filter, and ends and deletes them together.
//!
//! Run it with the component of the sample `human-approval`:
//!
//! ```text
//! cargo run --example manage -- target/guests/human-approval.wasm
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use futures::StreamExt;
use perennial::{Client, Filter, Host, Module, Status};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::env::args().nth(1).ok_or("name a component")?;
    let data_dir = tempfile::tempdir()?;
    let host = Host::builder().data_dir(data_dir.path()).start().await?;
    host.client().deploy(Module::from_file(component)?).await?;

    // Any process on this machine may manage the hub, not only the one that runs it. `Client::connect` does so over HTTP.
    let client = Client::open(data_dir.path(), "default")?;
    for number in 0..12 {
        let request = json!({ "purpose": format!("chair {number}") });
        let city = if number % 3 == 0 { "Oslo" } else { "Rome" };
        let start = client.start("Approve").id(format!("chair-{number:02}"));
        start.tag("city", city).input(&request).await?;
    }

    let in_oslo = Filter::new().name("Approve").tag("city", "Oslo");
    let mut found = client.list().filter(in_oslo.clone()).stream();
    while let Some(status) = found.next().await {
        let status = status?;
        println!("{} was started {}", status.instance_id, status.created_at);
    }

    // A dry run changes nothing and says how many there are.
    let matched = client.terminate_where(in_oslo.clone()).dry_run().await?;
    println!("{} in Oslo would be terminated", matched.matched);
    let done = client
        .terminate_where(in_oslo)
        .reason("the office moved")
        .await?;
    println!("{} were terminated", done.done);

    for (status, count) in client.counts().await? {
        println!("{status}: {count}");
    }
    let ended = Filter::new().status(Status::Terminated);
    println!("{} were deleted", client.purge_where(ended).await?.done);

    host.shut_down().await;
    Ok(())
}
