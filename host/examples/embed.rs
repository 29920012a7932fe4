//! A host in a program of your own: deploys a component, starts an instance of it, and waits for its result.
//!
//! Run it with the component of the sample `hello-sequence`:
//!
//! ```text
//! cargo run --example embed -- target/guests/hello-sequence.wasm
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use perennial::{Host, Module};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::env::args().nth(1).ok_or("name a component")?;
    let data_dir = tempfile::tempdir()?;

    // One host runs a task hub, which is one SQLite file. Whatever was accepted goes on when a host of it starts again.
    let host = Host::builder().data_dir(data_dir.path()).start().await?;
    let client = host.client();

    let deployment = client.deploy(Module::from_file(component)?).await?;
    for name in &deployment.names {
        println!("deployed {} {}", name.kind, name.name);
    }

    // The id is on disk when this returns. Starting it twice with an id of your own is harmless.
    let id = client.start("HelloSequence").id("greetings").await?;
    let waited = client
        .wait_for_completion(&id, Duration::from_secs(30))
        .await?;
    let status = waited.status();
    let greetings: Vec<String> = status.output_as()?;
    println!("{id} is {}: {}", status.runtime_status, greetings.join(" "));

    host.shut_down().await;
    Ok(())
}
