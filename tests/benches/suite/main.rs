//! The workloads that say what the engine costs, each against what the same disk and processor allow, and the report of them.
//!
//! ```text
//! cargo bench --workspace --bench suite                  W1 to W6, W9 and PostgreSQL, and the report
//! cargo bench --workspace --bench suite -- long          W7 and W8, and the report
//! cargo bench --workspace --bench suite -- peers         the same as W1 on other engines, and the report
//! cargo bench --workspace --bench suite -- W3 W6         some of them, and the report with what was measured before
//! ```
//!
//! Each workload runs in a process of its own, so that memory, processor time and what is written are its own. What it measured is kept
//! in `target/bench/`; the report is made of everything that is there. `PERENNIAL_BENCH_QUICK=1` makes everything small, to try the suite
//! itself: nothing that it prints then means anything, and no report is written.
#![allow(missing_docs, reason = "a benchmark is a program")]

mod charts;
mod flame;
mod hello;
mod large;
mod limit;
mod machine;
mod measure;
mod mixed;
mod peers;
mod postgres;
mod profile;
mod remote;
mod report;
mod section;
mod steps;
mod timers;
mod waiting;
mod wake;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use section::Section;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The workload that this process runs, where it was started to run one.
const WORKLOAD: &str = "PERENNIAL_BENCH_WORKLOAD";

const SHORT: [&str; 9] = [
    "W1",
    "W2",
    "W3",
    "W4",
    "W5",
    "W6",
    "W9",
    postgres::NAME,
    profile::NAME,
];
const LONG: [&str; 2] = ["W7", "W8"];
/// In the order of the report.
const ALL: [&str; 12] = [
    "W1",
    "peers",
    postgres::NAME,
    "W2",
    "W3",
    "W4",
    "W5",
    "W6",
    "W9",
    "profile",
    "W7",
    "W8",
];

/// Where what was measured is kept.
fn results() -> PathBuf {
    let dir = perennial_tests::target().join("bench");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn kept(name: &str) -> PathBuf {
    results().join(format!("{name}.json"))
}

async fn run(name: &str) -> Section {
    match name {
        "W1" => hello::run().await,
        "W2" => steps::chains().await,
        "W3" => steps::fan_outs().await,
        "W4" => timers::run().await,
        "W5" => waiting::run().await,
        "W6" => wake::run().await,
        "W7" => mixed::run().await,
        "W8" => large::run().await,
        "W9" => remote::run().await,
        peers::NAME => peers::run(),
        postgres::NAME => postgres::run().await,
        other => panic!("there is no workload {other:?}"),
    }
}

fn in_this_process(name: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match name {
        profile::NAME => return runtime.block_on(profile::work()),
        peers::DRIVER => return runtime.block_on(peers::driver()),
        remote::WORKER => return runtime.block_on(remote::worker()),
        _ => {}
    }
    let (begun, busy) = (Instant::now(), machine::busy());
    let mut section = runtime.block_on(run(name));
    section.seconds = begun.elapsed().as_secs_f64();
    // Peers and servers are other programs, and measured.
    let is_alone = ![peers::NAME, postgres::NAME].contains(&name);
    section.others = is_alone.then(|| busy.others());
    keep(name, &section);
}

fn keep(name: &str, section: &Section) {
    section.print();
    if measure::is_quick() {
        return;
    }
    std::fs::write(kept(name), serde_json::to_vec(section).unwrap()).unwrap();
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(WORKLOAD) {
        in_this_process(&name);
        return ExitCode::SUCCESS;
    }
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let names: Vec<&str> = match asked.first().map(String::as_str) {
        None => SHORT.to_vec(),
        Some("long") => LONG.to_vec(),
        Some("report") => Vec::new(),
        Some(_) => asked.iter().map(String::as_str).collect(),
    };
    // Built before anything is measured.
    perennial_tests::guest("workloads");
    let mut failed = Vec::new();
    for name in names {
        if !measure::is_quick() {
            let _ = std::fs::remove_file(kept(name));
        }
        if name == profile::NAME {
            match profile::run() {
                Ok(section) => keep(name, &section),
                Err(why) => println!("there is no profile: {why}"),
            }
            continue;
        }
        let ran = Command::new(std::env::current_exe().unwrap())
            .env(WORKLOAD, name)
            .status()
            .unwrap();
        if !ran.success() {
            failed.push(name);
        }
    }
    if measure::is_quick() {
        println!("everything was small, so there is no report");
    } else {
        let sections = ALL.iter().filter_map(|name| {
            let bytes = std::fs::read(kept(name)).ok()?;
            serde_json::from_slice(&bytes).ok()
        });
        report::write(&sections.collect::<Vec<Section>>());
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("these workloads failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
