//! Disks that are really full, read-only, or somebody else's: a small file system of memory in a namespace of its own, which ends with the
//! processes in it. Where the tests may not mount, they say so.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use perennial_tests::{DataDir, Process, binary, module};

use crate::{perennial, said};

/// A command that runs the rest of its words with a file system of memory of its own at `$0`.
const MOUNTED: &str = r#"mount -t tmpfs -o "size=$1" perennial "$0" && shift && exec "$@""#;

/// A file system of memory, and the process that it lives as long as.
struct Small {
    dir: DataDir,
    keeper: Process,
}

impl Small {
    /// `None` where this process may not mount.
    fn new(size: &str) -> Option<Self> {
        let dir = DataDir::new();
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "bash", "-c", MOUNTED])
            .arg(dir.path())
            .args([size, "bash", "-c", "echo mounted; exec sleep infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let out = keeper.stdout.take().unwrap();
        let small = Self {
            dir,
            keeper: Process(keeper),
        };
        BufReader::new(out).read_line(&mut line).unwrap();
        if line.trim() != "mounted" {
            println!("left out: this process may not mount a file system");
            return None;
        }
        Some(small)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes what room is left.
    fn fill(&self) {
        let ballast = self.path().join("ballast");
        let filled = self
            .inside(Path::new("dd"))
            .args(["if=/dev/zero", "bs=512", "status=none"])
            .arg(format!("of={}", ballast.display()))
            .stderr(Stdio::null())
            .status();
        assert!(!filled.unwrap().success(), "the file system has no end");
    }

    /// A command where the file system is.
    fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.keeper.id().to_string()]);
        command.arg("--").arg(program);
        command.env("PERENNIAL_LISTEN", "none").stdin(Stdio::null());
        command
    }

    fn remount(&self, options: &str) {
        let mut mount = self.inside(Path::new("mount"));
        mount.args(["-o", &format!("remount,{options}")]);
        assert!(mount.arg(self.path()).status().unwrap().success());
    }

    fn perennial(&self, args: &[&str]) -> Output {
        let mut command = self.inside(&binary());
        command.arg("--data-dir").arg(self.path()).args(args);
        command.output().unwrap()
    }

    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.perennial(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A host that is asked over HTTP, and where.
    fn serve_http(&self) -> (Process, SocketAddr) {
        let mut command = self.inside(&binary());
        command.arg("--data-dir").arg(self.path());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut ready).unwrap();
        let address = ready.split("http://").nth(1).unwrap().trim();
        (Process(child), address.parse().unwrap())
    }

    fn serve(&self) -> Process {
        let mut command = self.inside(&binary());
        command.arg("--data-dir").arg(self.path()).arg("serve");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut ready).unwrap();
        assert!(!ready.is_empty(), "the host ended before it was ready");
        Process(child)
    }
}

/// A host on a small disk, and an instance that waits for `Go`.
fn at_work(size: &str) -> Option<(Small, Process)> {
    let small = Small::new(size)?;
    let workloads = perennial_tests::guest("workloads").display().to_string();
    small.succeeds(&["deploy", &workloads]);
    let host = small.serve();
    small.succeeds(&["start", "Wait", "--id", "waits"]);
    small.succeeds(&["wait", "waits", "--for", "start", "--timeout", "60s"]);
    Some((small, host))
}

#[test]
fn a_disk_that_is_really_full_is_said_and_nothing_that_was_accepted_is_lost() {
    let Some((small, host)) = at_work("12m") else {
        return;
    };
    let large = small.path().with_extension("json");
    std::fs::write(&large, format!("\"{}\"", "x".repeat(700 << 10))).unwrap();
    let input = format!("@{}", large.display());
    let (mut accepted, mut refused) = (0, 0);
    while refused < 2 {
        assert!(accepted < 60, "it never is full");
        let output = small.perennial(&["raise-event", "waits", "Filler", "--data", &input]);
        if output.status.success() {
            accepted += 1;
        } else {
            assert!(said(&output).contains("full"), "{}", said(&output));
            refused += 1;
        }
    }
    std::fs::remove_file(&large).unwrap();
    assert!(accepted >= 2);
    // What is there can be read all the same.
    let status = small.succeeds(&["status", "waits"]);
    assert!(status.contains("Running"), "{status}");
    small.remount("size=100m");
    small.succeeds(&["raise-event", "waits", "Go", "--data", "\"end\""]);
    let ended = small.succeeds(&["wait", "waits", "--timeout", "60s"]);
    assert!(ended.contains("end"), "{ended}");
    let history = small.succeeds(&["history", "waits", "--json"]);
    assert_eq!(history.matches("Filler").count(), accepted);
    assert!(small.succeeds(&["start", "Wait"]).len() > 10);
    drop(host);
    small.succeeds(&["check"]);
}

/// A request over HTTP, and its answer.
fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_full_disk_is_told_over_http_until_there_is_space() {
    let Some(small) = Small::new("12m") else {
        return;
    };
    let workloads = perennial_tests::guest("workloads").display().to_string();
    small.succeeds(&["deploy", &workloads]);
    let (host, address) = small.serve_http();
    let is = |answer: &str, status: u16| answer.starts_with(&format!("HTTP/1.1 {status}"));
    let start = r#"{"orchestration":"Wait","id":"waits"}"#;
    let started = ask(address, "POST /api/v1/instances", start);
    assert!(is(&started, 201), "{started}");
    let filler = format!("\"{}\"", "x".repeat(700 << 10));
    let raise = |address| {
        ask(
            address,
            "POST /api/v1/instances/waits/events/Filler",
            &filler,
        )
    };
    let until_refused = || {
        let answers = (0..60).map(|_| raise(address));
        let mut refused = answers.skip_while(|answer| is(answer, 202));
        refused.next().expect("it never is full")
    };
    until_refused();
    // The host folds its log into the file while nobody writes, which makes room again: so all that is left is taken.
    small.fill();
    let refused = until_refused();
    assert!(is(&refused, 507), "{refused}");
    assert!(refused.contains("diskFull") && refused.contains("retry-after: 1"));
    let compat = ask(
        address,
        "POST /runtime/webhooks/durabletask/orchestrators/Wait",
        &filler,
    );
    assert!(is(&compat, 507), "{compat}");
    let ready = ask(address, "GET /readyz", "");
    assert!(
        is(&ready, 503) && ready.contains("its disk is full"),
        "{ready}"
    );
    assert!(is(&ask(address, "GET /healthz", ""), 200));
    let shown = ask(address, "GET /api/v1/instances/waits", "");
    assert!(is(&shown, 200), "{shown}");
    small.remount("size=100m");
    // Nobody sends it work until it is ready: it finds out by itself.
    let ready = ask(address, "GET /readyz", "");
    assert!(is(&ready, 200), "{ready}");
    assert!(is(&raise(address), 202));
    drop(host);
}

#[test]
fn a_host_that_is_started_again_on_a_full_disk_waits_for_room() {
    let Some((small, mut host)) = at_work("12m") else {
        return;
    };
    // Stopped, so that no log is left with room in it.
    let told = Command::new("kill").arg(host.id().to_string()).status();
    assert!(told.unwrap().success() && host.wait().unwrap().success());
    small.fill();
    let mut command = small.inside(&binary());
    command.arg("--data-dir").arg(small.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, log) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let host = Process(child);
    let mut log = BufReader::new(log).lines().map(Result::unwrap);
    let line = log.find(|line| line.contains("is tried again"));
    let line = line.expect("it says why it waits");
    let file = small.path().join("default.db").display().to_string();
    assert!(
        line.contains("full; make room") && line.contains(&file),
        "{line}"
    );
    let address = line.split("http://").nth(1).unwrap();
    let is_address = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
    let address = address.split(|c| !is_address(c)).next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let is = |answer: &str, status: u16| answer.starts_with(&format!("HTTP/1.1 {status}"));
    assert!(is(&ask(address, "GET /healthz", ""), 200));
    let ready = ask(address, "GET /readyz", "");
    assert!(is(&ready, 503), "{ready}");
    small.remount("size=100m");
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert!(
        line.starts_with("ready: ") && line.contains("takes up 1 instance"),
        "{line}"
    );
    let ready = ask(address, "GET /readyz", "");
    assert!(is(&ready, 200), "{ready}");
    small.succeeds(&["raise-event", "waits", "Go", "--data", "\"end\""]);
    small.succeeds(&["wait", "waits", "--timeout", "60s"]);
    drop(host);
}

#[test]
fn a_read_only_disk_is_said_and_can_be_read() {
    let Some((small, host)) = at_work("32m") else {
        return;
    };
    drop(host);
    small.remount("ro");
    for args in [
        &["serve"][..],
        &["start", "Wait"],
        &["raise-event", "waits", "go"],
    ] {
        let output = small.perennial(args);
        assert!(!output.status.success());
        assert!(
            said(&output).contains("ead-only"),
            "{args:?}: {}",
            said(&output)
        );
    }
    small.remount("rw");
    let _host = small.serve();
    small.succeeds(&["raise-event", "waits", "Go", "--data", "\"end\""]);
    small.succeeds(&["wait", "waits", "--timeout", "60s"]);
}

/// Runs the binary as somebody who may not write here; as this user, if that is nobody special.
fn as_stranger(dir: &Path, program: &Path, args: &[&str]) -> Output {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    command.arg("--data-dir").arg(dir).args(args);
    command.env("PERENNIAL_LISTEN", "none").output().unwrap()
}

#[tokio::test]
async fn a_directory_of_somebody_else_is_named_and_what_may_be_read_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let (dir, elsewhere) = (DataDir::new(), DataDir::new());
    let program = elsewhere.path().join("perennial");
    std::fs::copy(binary(), &program).unwrap();
    allow(elsewhere.path(), 0o755);
    dir.client().deploy(module("workloads")).await.unwrap();
    let started = perennial(dir.path(), &["start", "Wait", "--id", "waits"]);
    assert!(started.status.success(), "{}", said(&started));
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        allow(&path, if path.is_dir() { 0o555 } else { 0o444 });
    }
    allow(dir.path(), 0o555);
    for args in [
        &["serve"][..],
        &["start", "Wait"],
        &["raise-event", "waits", "go"],
    ] {
        let output = as_stranger(dir.path(), &program, args);
        let text = said(&output);
        assert!(!output.status.success(), "{args:?}: {text}");
        let named = dir.path().display().to_string();
        assert!(
            text.contains("ermission denied") && text.contains(&named),
            "{args:?}: {text}"
        );
    }
    let listed = as_stranger(dir.path(), &program, &["list"]);
    assert!(listed.status.success(), "{}", said(&listed));
    assert!(said(&listed).contains("waits"));
    allow(dir.path(), 0o755);
}
