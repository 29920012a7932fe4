//! The management API as part of a web server of your own: its router is mounted beside other routes.
//!
//! Run it with the component of the sample `hello-sequence`:
//!
//! ```text
//! cargo run --example router -- target/guests/hello-sequence.wasm
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use axum::Router;
use axum::routing::get;
use perennial::{Client, Host, Module};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let component = std::env::args().nth(1).ok_or("name a component")?;
    let data_dir = tempfile::tempdir()?;
    let host = Host::builder().data_dir(data_dir.path()).start().await?;
    host.client().deploy(Module::from_file(component)?).await?;

    let app = Router::new()
        .route("/", get(async || "our own page"))
        .merge(perennial::http::router(host.client()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    println!("serving {url}");

    // The same client as for a hub on this machine, over HTTP.
    let client = Client::connect(&url, "default", None)?;
    let id = client.start("HelloSequence").await?;
    let waited = client
        .wait_for_completion(&id, std::time::Duration::from_secs(30))
        .await?;
    println!("{}", serde_json::to_string_pretty(waited.status())?);

    server.abort();
    host.shut_down().await;
    Ok(())
}
