//! hello-sequence on `perennial serve`, asked over HTTP: the server is a process of its own, as it is deployed.

use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};

use peers::http::{Calls, Server};

struct Perennial {
    run: Calls,
    _server: Server,
}

impl peers::Peer for Perennial {
    async fn one(&self, _: u64) {
        let answer = self.run.post().await;
        assert_eq!(
            answer,
            r#"["Hello Tokyo!","Hello Seattle!","Hello London!"]"#
        );
    }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().expect("the command line's program");
    let dir = arguments.next().expect("a directory");
    let module = std::env::var_os("PERENNIAL_HELLO").expect("PERENNIAL_HELLO names the module");
    let deployed = Command::new(&program)
        .args(["--quiet", "--data-dir", &dir, "deploy"])
        .arg(module)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(deployed.success(), "the module was not deployed");
    let log = std::fs::File::create(Path::new(&dir).join("server.log")).unwrap();
    let mut server = Command::new(&program)
        .args(["--json", "--data-dir", &dir])
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(server.stdout.take().unwrap()).lines();
    let server = Server(server);
    let ready = lines.next().expect("it is ready").unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let url = ready["url"].as_str().expect("it serves HTTP");
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let version = Command::new(&program).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let perennial = Perennial {
        run: Calls::new(
            address.to_owned(),
            "/orchestrators/HelloSequence/wait?timeout=60",
        ),
        _server: server,
    };
    let configuration = "`perennial serve`, activities in WebAssembly, every commit synced, requests that wait over kept connections";
    peers::serve(version.trim(), configuration, perennial).await;
}
