//! The dashboard of a host in your own program.
//!
//! Run it with the components that it deploys:
//!
//! ```text
//! cargo run --example dashboard -- target/guests/hello-sequence.wasm
//! ```
//!
//! `PERENNIAL_DATA_DIR` names a directory that it keeps; without it, everything is gone afterwards. It ends when its input ends.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::io::Read as _;

use perennial::http::{Api, serve};
use perennial::{Host, Module};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let data_dir = std::env::var_os("PERENNIAL_DATA_DIR");
    let data_dir = data_dir.map_or_else(|| temporary.path().to_owned(), Into::into);
    let host = Host::builder().data_dir(data_dir).start().await?;
    for component in std::env::args().skip(1) {
        host.client().deploy(Module::from_file(component)?).await?;
    }
    let api = Api::new(host.client())
        .this_machine_only()
        .pages(perennial_dashboard::pages());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut rest);
        drop(stop);
    });
    serve(listener, api, None, async {
        let _ = stopped.await;
    })
    .await;
    host.shut_down().await;
    Ok(())
}
