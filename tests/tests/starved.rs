//! A host that is left without descriptors, memory, threads, room for temporary files or a cache of its own, as whoever shares a machine
//! with it may do: nothing is quarantined, nothing fails, it says that it lives and what it lacks, and goes on by itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use perennial_tests::{DataDir, Process, binary, guest};

/// How long something may take that happens by itself.
const PATIENCE: Duration = Duration::from_secs(90);

/// Instances that wait for something when the host is starved.
const INSTANCES: usize = 4;

const API: &str = "/runtime/webhooks/durabletask";

/// A host with HTTP, and a connection to it that was there before anything was lacking.
struct Starved {
    dir: DataDir,
    host: Process,
    address: SocketAddr,
    line: TcpStream,
}

impl Starved {
    /// A host that has instances that wait, and has not run any of them since it started: `command` runs the binary as it is to be run.
    fn serve(dir: DataDir, command: impl Fn() -> Command) -> Self {
        let mut first = Self::start(dir, command());
        first.waits();
        let Self { dir, host, .. } = first;
        drop(host);
        Self::start(dir, command())
    }

    fn start(dir: DataDir, mut command: Command) -> Self {
        let log = File::create(dir.path().join("log")).unwrap();
        let mut host = command
            .args(["--json", "--data-dir"])
            .arg(dir.path())
            .args(["serve", "--resident", "0", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut out = BufReader::new(host.stdout.take().unwrap());
        let host = Process(host);
        out.read_line(&mut ready).unwrap();
        let said = || std::fs::read_to_string(dir.path().join("log")).unwrap();
        let ready: serde_json::Value =
            serde_json::from_str(&ready).unwrap_or_else(|_| panic!("{}", said()));
        let url = ready["url"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
        let address = address.parse().unwrap();
        let line = connect(address);
        Self {
            dir,
            host,
            address,
            line,
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let answer = ask(&mut self.line, method, path, body);
        if answer.is_none() {
            // It was held for too long, or cut off; another one may be had.
            self.line = connect(self.address);
        }
        answer
    }

    fn status(&mut self, id: &str) -> String {
        let path = format!("{API}/instances/{id}");
        match self.ask("GET", &path, "") {
            Some((200 | 202, body)) => {
                let status: serde_json::Value = serde_json::from_str(&body).unwrap();
                status["runtimeStatus"].as_str().unwrap().to_owned()
            }
            // It may not be able to say.
            _ => "unknown".to_owned(),
        }
    }

    /// Sends an event until it is taken.
    fn raise(&mut self, id: &str) {
        let path = format!("{API}/instances/{id}/raiseEvent/Go");
        let begun = Instant::now();
        while !matches!(self.ask("POST", &path, "\"end\""), Some((202, _))) {
            assert!(begun.elapsed() < PATIENCE, "{id} is never told");
        }
    }

    /// Sets a limit of the host while it runs.
    fn limit(&self, limit: &str) {
        let pid = self.host.id().to_string();
        let set = Command::new("prlimit")
            .args(["--pid", &pid, limit])
            .status();
        assert!(set.unwrap().success(), "{limit}");
    }

    /// As [`limit`](Self::limit), of a host of nobody, by nobody. Whether that may be.
    fn limit_of_nobody(&self, limit: &str) -> bool {
        let pid = self.host.id().to_string();
        let set = Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups", "prlimit", "--pid", &pid])
            .arg(limit)
            .status();
        set.is_ok_and(|set| set.success())
    }

    fn open_files(&self) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.host.id()));
        files.unwrap().count()
    }

    fn address_space(&self) -> u64 {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.host.id())).unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        pages * 4_096
    }

    fn waits(&mut self) {
        for n in 0..INSTANCES {
            let path = format!("{API}/orchestrators/Wait/w{n}");
            let begun = Instant::now();
            while !matches!(self.ask("POST", &path, "null"), Some((202, _))) {
                assert!(begun.elapsed() < PATIENCE, "w{n} is never started");
            }
            let begun = Instant::now();
            while self.status(&format!("w{n}")) != "Running" {
                assert!(begun.elapsed() < PATIENCE, "w{n} does not begin");
            }
        }
    }

    /// The instances are woken while something lacks, and are all well when it no longer does.
    fn goes_on(mut self, starve: impl FnOnce(&mut Self), feed: impl FnOnce(&mut Self), says: &str) {
        starve(&mut self);
        let path = |n| format!("{API}/instances/w{n}/raiseEvent/Go");
        let told: Vec<bool> = (0..INSTANCES)
            .map(|n| matches!(self.ask("POST", &path(n), "\"end\""), Some((202, _))))
            .collect();
        let begun = Instant::now();
        let mut healthy = 0;
        while begun.elapsed() < Duration::from_secs(4) {
            if let Some((200, _)) = self.ask("GET", "/healthz", "") {
                healthy += 1;
            }
            for n in 0..INSTANCES {
                let status = self.status(&format!("w{n}"));
                assert!(
                    ["Running", "Completed", "unknown"].contains(&status.as_str()),
                    "w{n} is {status} for lack of {says}"
                );
            }
        }
        assert!(healthy > 0, "it does not say that it lives");
        // A host that had what it needed after all has nothing to say.
        let lacked = told.contains(&false)
            || (0..INSTANCES).any(|n| self.status(&format!("w{n}")) != "Completed");
        feed(&mut self);
        for (n, told) in told.iter().enumerate() {
            if !told {
                self.raise(&format!("w{n}"));
            }
            let begun = Instant::now();
            while self.status(&format!("w{n}")) != "Completed" {
                assert!(
                    begun.elapsed() < PATIENCE,
                    "w{n} does not go on: {}",
                    self.log()
                );
            }
        }
        let log = self.log();
        assert!(!log.contains("quarantined"), "{log}");
        assert!(
            !lacked || log.contains(says),
            "it never says {says:?}: {log}"
        );
        let lines = log.lines().count();
        assert!(lines < 100, "{lines} lines of log");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

/// The plain way to run the binary.
fn plain() -> Command {
    Command::new(binary())
}

/// A data directory with a module.
fn deployed() -> DataDir {
    let dir = DataDir::new();
    deploys(dir.path());
    dir
}

fn deploys(dir: &Path) {
    let deployed = Command::new(binary())
        .arg("--data-dir")
        .arg(dir)
        .arg("deploy")
        .arg(guest("workloads"))
        .output()
        .unwrap();
    assert!(deployed.status.success(), "{deployed:?}");
}

fn connect(address: SocketAddr) -> TcpStream {
    let line = TcpStream::connect(address).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    line
}

/// Asks on a connection that stays open. `None` if there is no whole answer.
fn ask(line: &mut TcpStream, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let length = body.len();
    write!(
        line,
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = Vec::new();
    let head = loop {
        let mut byte = [0];
        line.read_exact(&mut byte).ok()?;
        answer.push(byte[0]);
        if answer.ends_with(b"\r\n\r\n") {
            break String::from_utf8(std::mem::take(&mut answer)).ok()?;
        }
    };
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    line.read_exact(&mut body).ok()?;
    Some((status, String::from_utf8(body).ok()?))
}

#[test]
fn without_descriptors() {
    let starved = Starved::serve(deployed(), plain);
    let before = |host: &Starved| host.limit(&format!("--nofile={}:", host.open_files() + 1));
    // One connection more takes the last.
    let mut idle = None;
    starved.goes_on(
        |host| {
            before(host);
            idle = Some(connect(host.address));
        },
        |host| host.limit("--nofile=1024:"),
        "descriptors",
    );
}

#[test]
fn with_fewer_descriptors_than_callers() {
    let (limit, callers) = match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => (1_024, 1_100),
        None => (256, 400),
    };
    let mut host = Starved::serve(deployed(), || {
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--nofile={limit}:{limit}"))
            .arg(binary());
        command
    });
    let own = std::process::id().to_string();
    // Where this process may have no more, it has as many as it may.
    let _ = Command::new("prlimit")
        .args(["--pid", &own, "--nofile=4096:"])
        .status();
    let idle: Vec<TcpStream> = (0..callers)
        .map_while(|_| TcpStream::connect_timeout(&host.address, Duration::from_secs(3)).ok())
        .collect();
    println!(
        "{} idle callers of a host with {limit} descriptors",
        idle.len()
    );
    for n in 0..INSTANCES {
        host.raise(&format!("w{n}"));
        let begun = Instant::now();
        while host.status(&format!("w{n}")) != "Completed" {
            assert!(begun.elapsed() < PATIENCE, "{}", host.log());
        }
    }
    let log = host.log();
    assert!(!log.contains("quarantined"), "{log}");
}

#[test]
fn without_memory() {
    let starved = Starved::serve(deployed(), plain);
    starved.goes_on(
        |host| host.limit(&format!("--as={}:", host.address_space() + (256 << 20))),
        |host| host.limit("--as=unlimited:"),
        "",
    );
}

#[test]
fn without_threads() {
    // The number of threads is bounded for each user, but not for root.
    let dir = deployed();
    let given = Command::new("chown")
        .args(["-R", "65534"])
        .arg(dir.path())
        .status();
    let nobody = || {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--clear-groups"])
            .arg(binary());
        command
    };
    let can = nobody().arg("--version").output();
    let can = can.is_ok_and(|can| can.status.success());
    if !can || !given.is_ok_and(|given| given.success()) {
        println!("left out: this process may not run a host as another user");
        return;
    }
    let host = Starved::serve(dir, nobody);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.host.id())).unwrap();
    let threads = limits.lines().find_map(|line| {
        let line = line.strip_prefix("Max processes")?;
        line.split_whitespace().next().map(str::to_owned)
    });
    let before = format!("--nproc={}:", threads.unwrap());
    if !host.limit_of_nobody("--nproc=1:") {
        println!("left out: nobody may not set the limit of a host");
        return;
    }
    host.goes_on(|_| {}, |host| assert!(host.limit_of_nobody(&before)), "");
}

#[test]
fn without_room_for_temporary_files_and_with_a_cache_of_somebody_else() {
    let dir = deployed();
    let cache = dir.path().join("cache");
    let _ = std::fs::remove_dir_all(&cache);
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(cache.join("file"), "of somebody else").unwrap();
    // Where the tests may not give it away, it is one that nobody can use.
    let given = Command::new("chown")
        .args(["-R", "65534"])
        .arg(&cache)
        .status();
    let closed = Command::new("chmod").arg("000").arg(&cache).status();
    assert!(given.is_ok() && closed.unwrap().success());
    let starved = Starved::serve(dir, || {
        let mut command = plain();
        command.env("TMPDIR", "/dev/full");
        command
    });
    starved.goes_on(|_| {}, |_| {}, "");
}

/// What the log of a host may be: a disk without room for ever, and a pipe that nobody reads.
#[test]
fn with_a_log_that_cannot_be_written() {
    for stderr in [
        Stdio::from(File::options().write(true).open("/dev/full").unwrap()),
        Stdio::piped(),
    ] {
        let dir = deployed();
        let mut host = plain();
        let host = host
            .args(["--json", "--data-dir"])
            .arg(dir.path())
            // Far more than a pipe takes.
            .args(["serve", "--log", "trace", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut host = Process(host.spawn().unwrap());
        let mut ready = String::new();
        let mut out = BufReader::new(host.stdout.take().unwrap());
        out.read_line(&mut ready).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let url = ready["url"].as_str().unwrap();
        let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
        let mut line = connect(address.parse().unwrap());
        for n in 0..60 {
            let start = format!("{API}/orchestrators/Chain/a{n}");
            let (status, body) = ask(&mut line, "POST", &start, "3").unwrap();
            assert_eq!(status, 202, "{body}");
        }
        let begun = Instant::now();
        for n in 0..60 {
            let path = format!("{API}/instances/a{n}");
            loop {
                let (_, body) = ask(&mut line, "GET", &path, "").unwrap();
                let status: serde_json::Value = serde_json::from_str(&body).unwrap();
                match status["runtimeStatus"].as_str().unwrap() {
                    "Completed" => break,
                    "Pending" | "Running" => assert!(begun.elapsed() < PATIENCE, "a{n}: {body}"),
                    other => panic!("a{n} is {other}: {body}"),
                }
            }
        }
        let pid = host.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        assert!(host.wait().unwrap().success(), "it stops as it should");
    }
}

/// Runs a command under a limit that it starts with: its exit code, and what it said on stderr.
fn under(limit: &str, dir: &DataDir, args: &[&str]) -> (Option<i32>, String) {
    let ended = Command::new("prlimit")
        .arg(limit)
        .arg(binary())
        .arg("--data-dir")
        .arg(dir.path())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended.status.code(), said)
}

/// A host that could not answer, or would end at its first instance, does not say that it is ready.
#[test]
fn with_limits_under_which_no_host_can_run() {
    let dir = deployed();
    for (limit, is, option) in [
        ("--nofile=24:24", "24 ", "ulimit -n"),
        ("--data=102400000", "102400000 ", "ulimit -d"),
        ("--as=900000000", "900000000 ", "ulimit -v"),
    ] {
        let (code, said) = under(limit, &dir, &["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!(code, Some(1), "{limit}: {said}");
        assert!(said.contains(is) && said.contains(option), "{said}");
        assert!(said.contains("it needs"), "{said}");
    }
}

/// A limit of file sizes is a full disk: it ends nobody, and is waited for.
#[test]
fn with_files_that_may_not_grow() {
    let mut host = Starved::serve(deployed(), plain);
    let used =
        std::fs::metadata(host.dir.path().join("default.db-wal")).map_or(0, |file| file.len());
    let file = std::fs::metadata(host.dir.path().join("default.db")).unwrap();
    host.limit(&format!("--fsize={}:", used.max(file.len()) + 100_000));
    let input = format!("\"{}\"", "a".repeat(60_000));
    let begun = Instant::now();
    let mut n = 0;
    let refused = loop {
        n += 1;
        let path = format!("{API}/orchestrators/Wait/f{n}");
        match host.ask("POST", &path, &input) {
            Some((202, _)) | None => assert!(begun.elapsed() < PATIENCE, "nothing is refused"),
            Some(refused) => break refused,
        }
    };
    assert_eq!(refused.0, 507, "{}", refused.1);
    assert!(matches!(host.ask("GET", "/healthz", ""), Some((200, _))));
    host.limit("--fsize=unlimited:");
    host.raise("w0");
    let begun = Instant::now();
    while host.status("w0") != "Completed" {
        assert!(begun.elapsed() < PATIENCE, "{}", host.log());
    }
}

/// A terminal that is closed stops a host as SIGTERM does, though it hangs up more than once.
#[test]
fn a_host_that_is_hung_up_on_stops() {
    let dir = deployed();
    // Whoever runs this test may ignore the signal, as `nohup` does, and then so would the host.
    let mut host = Command::new("env");
    let host = host
        .arg("--default-signal=HUP")
        .arg(plain().get_program())
        .args(["--json", "--data-dir"])
        .arg(dir.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut host = Process(host.spawn().unwrap());
    let mut out = BufReader::new(host.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    assert!(said.contains("ready"), "{said}");
    let pid = host.id().to_string();
    for _ in 0..2 {
        let hung_up = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(hung_up.unwrap().success());
    }
    said.clear();
    out.read_to_string(&mut said).unwrap();
    assert!(said.contains("stopped"), "{said:?}");
    assert_eq!(host.wait().unwrap().code(), Some(0));
}

/// What has no end is read as far as it could be of use, and refused.
#[test]
fn with_inputs_without_an_end() {
    let dir = deployed();
    let pipe = dir.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let pipe = pipe.to_str().unwrap();
    // Far less than an endless input would take, and far more than is needed.
    let limit = "--cpu=20";
    for (args, says) in [
        (&["deploy", "/dev/zero"][..], "is not a regular file"),
        (&["deploy", pipe], "is not a regular file"),
        (&["inspect", "/dev/zero"], "is not a regular file"),
        (
            &["start", "Wait", "--input", "@/dev/zero"],
            "more than 1048576 bytes",
        ),
    ] {
        let (code, said) = under(limit, &dir, args);
        assert!(code.is_some_and(|code| code > 0), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
    let stdin = Command::new(binary())
        .arg("--data-dir")
        .arg(dir.path())
        .args(["start", "Wait", "--input", "-"])
        .stdin(File::open("/dev/zero").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stdin.stderr);
    assert!(said.contains("more than 1048576 bytes"), "{said}");
}
