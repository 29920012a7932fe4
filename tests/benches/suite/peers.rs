//! hello-sequence on other engines, in turn with Perennial. Each engine is a program of its own that answers questions, described in
//! `tests/bench/peers/README.md`; the suite asks, and counts the processor time of the program and of all that it started, and their syncs.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use perennial_tests::DataDir;
use serde_json::{Value, json};

use crate::charts::{bars, limit, ours};
use crate::hello::{self, HELLO};
use crate::measure::{data_dir, is_quick, median, median_of, percentile, rounds};
use crate::section::{Section, number};

pub(crate) const NAME: &str = "peers";
/// The workload that is a driver of Perennial like those of its peers.
pub(crate) const DRIVER: &str = "peers-perennial";

/// In one process with its clients.
const PERENNIAL: &str = "Perennial";
/// As a server of its own, asked as those peers are that are servers too.
const OVER_HTTP: &str = "Perennial over HTTP";
const RESTATE: &str = "Restate";
const IN_FLIGHT: usize = 64;

/// Answers questions on standard input until its end, as every driver does.
pub(crate) async fn driver() {
    let dir = data_dir();
    let host = hello::host(&dir).await;
    let client = host.client();
    println!(
        "{}",
        json!({ "version": env!("CARGO_PKG_VERSION"), "configuration": "in one process with its clients, activities in WebAssembly, every commit synced" })
    );
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let begun = std::time::Instant::now();
        match words[..] {
            ["throughput", in_flight, seconds] => {
                let span = std::time::Duration::from_secs_f64(seconds.parse().unwrap());
                let in_flight = in_flight.parse().unwrap();
                let done = hello::throughput(&client, HELLO, None, in_flight, span).await;
                println!(
                    "{}",
                    json!({ "done": done, "seconds": begun.elapsed().as_secs_f64() })
                );
            }
            ["latency", count] => {
                println!(
                    "{}",
                    json!({ "ms": hello::alone_ms(&client, count.parse().unwrap()).await })
                );
            }
            _ => panic!("unknown question {line:?}"),
        }
    }
    host.shut_down().await;
}

fn installed() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    cache.join("perennial/peers")
}

/// How a driver is started, without the directory that it works in, and what has to be there.
fn commands() -> Vec<(&'static str, Vec<PathBuf>)> {
    let at = installed();
    vec![
        (PERENNIAL, vec![std::env::current_exe().unwrap()]),
        (
            OVER_HTTP,
            vec![at.join("target/release/perennial"), program()],
        ),
        (RESTATE, vec![at.join("target/release/restate")]),
        ("Temporal", in_python("temporal.py")),
        ("DBOS", dbos()),
        ("duroxide", vec![at.join("target/release/duroxide")]),
    ]
}

/// A driver in Python.
fn in_python(file: &str) -> Vec<PathBuf> {
    let here = perennial_tests::root().join("tests/bench/peers");
    vec![installed().join("venv/bin/python"), here.join(file)]
}

/// The driver of DBOS.
pub(crate) fn dbos() -> Vec<PathBuf> {
    in_python("dbos_hello.py")
}

/// The command line that `make bench-peers` builds as this suite is built.
fn program() -> PathBuf {
    perennial_tests::target().join("bench/perennial")
}

fn restate_server() -> PathBuf {
    installed().join("restate/node_modules/@restatedev/restate-server-linux-x64/bin/restate-server")
}

/// An engine at work.
pub(crate) struct Driver {
    name: &'static str,
    pub(crate) version: String,
    pub(crate) configuration: String,
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _dir: DataDir,
}

impl Driver {
    /// `under`: the words of a command that the driver is an argument of. `database`: where it is to keep what it does, if it can.
    pub(crate) fn start(
        name: &'static str,
        command: &[PathBuf],
        under: &[&str],
        database: Option<&str>,
    ) -> Result<Self, String> {
        if let Some(missing) = command.iter().find(|part| !part.exists()) {
            return Err(format!("{} is not there", missing.display()));
        }
        let dir = data_dir();
        let words = under.iter().map(PathBuf::from).chain(command.to_vec());
        let words: Vec<PathBuf> = words.collect();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .arg(dir.path())
            .env(crate::WORKLOAD, DRIVER)
            .env("RESTATE_SERVER", restate_server())
            .env("PERENNIAL_HELLO", perennial_tests::guest("hello-sequence"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PEER_DATABASE", database.unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("it does not start: {error}"))?;
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut driver = Self {
            name,
            version: String::new(),
            configuration: String::new(),
            child,
            asks,
            answers,
            _dir: dir,
        };
        let ready = driver.answer()?;
        let text = |key: &str| ready[key].as_str().unwrap_or("unknown").to_owned();
        (driver.version, driver.configuration) = (text("version"), text("configuration"));
        Ok(driver)
    }

    fn answer(&mut self) -> Result<Value, String> {
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line);
            match read.map_err(|error| error.to_string())? {
                0 => return Err("it ended without an answer".to_owned()),
                // Some write their log there too.
                _ if !line.starts_with('{') => {}
                _ => {
                    return serde_json::from_str(&line)
                        .map_err(|error| format!("{error}: {line:?}"));
                }
            }
        }
    }

    fn ask(&mut self, question: &str) -> Value {
        writeln!(self.asks.as_mut().unwrap(), "{question}").unwrap();
        self.answer()
            .unwrap_or_else(|why| panic!("{} to {question:?}: {why}", self.name))
    }

    pub(crate) fn throughput(&mut self, in_flight: usize, seconds: f64) -> (f64, f64) {
        let answer = self.ask(&format!("throughput {in_flight} {seconds}"));
        let of = |key: &str| answer[key].as_f64().unwrap();
        (of("done"), of("seconds"))
    }

    pub(crate) fn latencies(&mut self, count: u32) -> Vec<f64> {
        let answer = self.ask(&format!("latency {count}"));
        let ms = answer["ms"].as_array().unwrap();
        ms.iter().map(|ms| ms.as_f64().unwrap()).collect()
    }

    /// Processor seconds of the driver and of all that it started.
    pub(crate) fn cpu(&self) -> f64 {
        family(self.child.id()).values().sum()
    }
}

impl Drop for Driver {
    /// The end of its input ends it, and everything that it started.
    fn drop(&mut self) {
        drop(self.asks.take());
        let _ = self.child.wait();
    }
}

/// Processor seconds of a process and of its descendants that live.
fn family(root: u32) -> HashMap<u32, f64> {
    let mut all: HashMap<u32, (u32, f64)> = HashMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        if let (Some(parent), Some(user), Some(system)) = (number(1), number(11), number(12)) {
            all.insert(pid, (parent as u32, (user + system) / 100.0));
        }
    }
    let mut found = HashMap::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let Some((_, cpu)) = all.get(&pid) else {
            continue;
        };
        let cpu: f64 = *cpu;
        found.insert(pid, cpu);
        next.extend(
            all.iter()
                .filter(|(_, (parent, _))| *parent == pid)
                .map(|(pid, _)| *pid),
        );
    }
    found
}

/// What one round measured of one engine.
struct Round {
    /// Instances for each second, with 64 in flight.
    rate: f64,
    /// Processor seconds of one of them.
    cpu: f64,
    /// Milliseconds of instances one after the other.
    ms: Vec<f64>,
}

fn round(driver: &mut Driver) -> Round {
    let seconds = if is_quick() { 0.3 } else { 4.0 };
    let before = driver.cpu();
    let (done, took) = driver.throughput(IN_FLIGHT, seconds);
    let cpu = driver.cpu() - before;
    let ms = driver.latencies(if is_quick() { 2 } else { 25 });
    Round {
        rate: done / took,
        cpu: cpu / done,
        ms,
    }
}

/// Syncs of an instance that is alone, and of one of 64, in a run of their own: what counts them makes each a little slower.
fn syncs(name: &'static str, command: &[PathBuf]) -> Result<(f64, f64), String> {
    let trace = data_dir();
    let file = trace.path().join("syncs");
    let file = file.to_str().unwrap();
    let calls = "trace=fsync,fdatasync,sync_file_range,msync";
    let under = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        calls,
        "-o",
        file,
    ];
    let mut driver = Driver::start(name, command, &under, None)?;
    let counted = || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // A call that another thread's interrupts is two lines, of which the second is not one more.
        let calls = text.lines().filter(|line| !line.contains("resumed>"));
        calls.count() as f64
    };
    let count = if is_quick() { 4 } else { 50 };
    driver.latencies(2);
    let before = counted();
    driver.latencies(count);
    let alone = (counted() - before) / f64::from(count);
    let before = counted();
    let (done, _) = driver.throughput(IN_FLIGHT, if is_quick() { 0.3 } else { 3.0 });
    Ok((alone, (counted() - before) / done))
}

/// What was measured of one engine.
struct Measured {
    name: &'static str,
    version: String,
    configuration: String,
    rounds: Vec<Round>,
    syncs: Result<(f64, f64), String>,
}

impl Measured {
    fn of(&self, pick: impl Fn(&Round) -> f64) -> f64 {
        median_of(&self.rounds, pick)
    }

    /// The median of what it is to another in the same round.
    fn to(&self, other: &Self, pick: impl Fn(&Round) -> f64) -> f64 {
        let ratios: Vec<f64> = self
            .rounds
            .iter()
            .zip(&other.rounds)
            .map(|(own, others)| pick(own) / pick(others))
            .collect();
        median(&ratios)
    }

    /// The median of what it is beyond another in the same round.
    fn beyond(&self, other: &Self, pick: impl Fn(&Round) -> f64) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        let differences: Vec<f64> = pairs
            .map(|(own, others)| pick(own) - pick(others))
            .collect();
        median(&differences)
    }

    fn all_ms(&self) -> Vec<f64> {
        self.rounds
            .iter()
            .flat_map(|round| round.ms.clone())
            .collect()
    }
}

fn p50(round: &Round) -> f64 {
    median(&round.ms)
}

pub(crate) fn run() -> Section {
    let mut section = Section::new(
        "Peers",
        "hello-sequence on other engines",
        "The same three activities, one after the other, on each engine that is there; what each is, and how it is set, is in \
         [peers/README.md](peers/README.md). Each engine is a program of its own with its clients in it, and a server of its own where it has one: Restate, and Perennial as \
         `perennial serve`, are servers that the same client asks over HTTP, and Perennial is measured in one process with its clients too. \
         In each of five rounds each has 64 in flight for four seconds, and then 25 instances one after the other. Processor time is that of all \
         its processes together; ratios are medians of those within a round. Syncs were counted with `strace` in a run of their own.",
    );
    let mut drivers = Vec::new();
    for (name, command) in commands() {
        match Driver::start(name, &command, &[], None) {
            Ok(mut driver) => {
                driver.throughput(IN_FLIGHT, if is_quick() { 0.3 } else { 2.0 });
                drivers.push((driver, Vec::new(), command));
            }
            Err(why) => {
                println!("{name} is left out: {why}; tests/bench/peers/install says what it needs");
                section.note(format!("{name} was not there."));
            }
        }
    }
    for _ in 0..rounds() {
        for (driver, all, _) in &mut drivers {
            all.push(round(driver));
        }
    }
    let measured: Vec<Measured> = drivers
        .into_iter()
        .map(|(driver, rounds, command)| {
            let (name, version) = (driver.name, driver.version.clone());
            let configuration = driver.configuration.clone();
            drop(driver);
            Measured {
                name,
                version,
                configuration,
                rounds,
                syncs: syncs(name, &command),
            }
        })
        .collect();
    say(&mut section, &measured);
    section
}

fn say(section: &mut Section, all: &[Measured]) {
    let own = &all[0];
    assert_eq!(own.name, PERENNIAL);
    let over_http = all.iter().find(|one| one.name == OVER_HTTP);
    if let Some(http) = over_http {
        section.at_least(
            "64 in flight, throughput over HTTP of that in one process",
            0.5,
            "",
            http.to(own, |round| round.rate),
        );
        section.at_most(
            "1 in flight, p50 over HTTP beyond that in one process",
            0.4,
            "ms",
            http.beyond(own, p50),
        );
    }
    for peer in all[1..].iter().filter(|one| one.name != OVER_HTTP) {
        // A server that is asked over HTTP is compared with one; what runs in one process with its clients, with that.
        let (own, how, throughput) = match (peer.name, over_http) {
            (RESTATE, Some(http)) => (http, ", both over HTTP", 8.0),
            (RESTATE, None) => (own, "", 8.0),
            _ => (own, "", 50.0),
        };
        section.at_least(
            &format!("64 in flight, throughput of {}'s{how}", peer.name),
            throughput,
            "times",
            own.to(peer, |round| round.rate),
        );
        if peer.name == RESTATE {
            section.at_least(
                &format!("1 in flight, p50: Restate's of ours{how}"),
                5.0,
                "times",
                peer.to(own, p50),
            );
        }
    }
    let chart = |section: &mut Section,
                 file: &str,
                 title: &str,
                 unit: &str,
                 of: &dyn Fn(&Measured) -> f64| {
        let of_all: Vec<_> = all
            .iter()
            .map(|one| match one.name {
                PERENNIAL | OVER_HTTP => ours(one.name, of(one)),
                name => limit(name, of(one)),
            })
            .collect();
        section.chart(file, title, bars(title, unit, &of_all, None));
    };
    chart(
        section,
        "peers-throughput.svg",
        "hello-sequence, 64 in flight: instances for each second",
        "/s",
        &|one| one.of(|round| round.rate),
    );
    chart(
        section,
        "peers-latency.svg",
        "hello-sequence, 1 in flight: p50, milliseconds",
        "ms",
        &|one| one.of(p50),
    );
    chart(
        section,
        "peers-cpu.svg",
        "hello-sequence, 64 in flight: milliseconds of CPU for each",
        "ms",
        &|one| one.of(|round| round.cpu * 1e3),
    );
    let counted = |syncs: &Result<(f64, f64), String>, pick: fn(&(f64, f64)) -> f64| match syncs {
        Ok(counts) => number(pick(counts)),
        Err(_) => "not counted".to_owned(),
    };
    let rows = all.iter().map(|one| {
        let ms = one.all_ms();
        [
            one.name.to_owned(),
            number(one.of(|round| round.rate)),
            number(own.to(one, |round| round.rate)),
            over_http.map_or_else(String::new, |http| number(http.to(one, |round| round.rate))),
            number(percentile(&ms, 0.5)),
            number(percentile(&ms, 0.99)),
            number(one.of(|round| round.cpu * 1e3)),
            counted(&one.syncs, |syncs| syncs.0),
            counted(&one.syncs, |syncs| syncs.1),
        ]
    });
    section.table(
        "One hello-sequence",
        [
            "engine",
            "64 in flight, 1/s",
            "Perennial in process is so many times as fast",
            "and over HTTP",
            "1 in flight, p50 ms",
            "p99 ms",
            "ms of CPU, of 64",
            "syncs, alone",
            "syncs, of 64",
        ],
        rows.collect(),
    );
    let rows = all.iter().map(|one| {
        [
            one.name.to_owned(),
            one.version.clone(),
            one.configuration.clone(),
        ]
    });
    section.table(
        "What was measured",
        ["engine", "version", "configuration"],
        rows.collect(),
    );
    for one in all {
        if let Err(why) = &one.syncs {
            section.note(format!(
                "The syncs of {} were not counted: {why}.",
                one.name
            ));
        }
    }
}
