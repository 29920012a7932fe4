//! Where the processor time of W1 with 64 in flight goes, where `perf` is installed to say it.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::charts::{bars, ours};
use crate::flame::Calls;
use crate::hello;
use crate::measure::{data_dir, is_quick};
use crate::section::{Section, number};

/// The name of the workload that is looked at.
pub(crate) const NAME: &str = "profile";

/// Functions that are listed.
const LISTED: usize = 25;

/// Runs what is looked at.
pub(crate) async fn work() {
    let dir = data_dir();
    let host = hello::host(&dir).await;
    let span = Duration::from_secs(if is_quick() { 6 } else { 15 });
    hello::throughput(&host.client(), hello::HELLO, None, 64, span).await;
    host.shut_down().await;
}

/// Looks at this program while it runs the work; `None`, and why, where that cannot be done here.
pub(crate) fn run() -> Result<Section, String> {
    let (begun, data) = (Instant::now(), crate::results().join("perf.data"));
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let recorded = Command::new("perf")
        .args(["record", "-q", "-D", "5000", "-F", "299"])
        .args(["--call-graph", "dwarf,16384", "-o"])
        .arg(&data)
        .arg(program)
        .env(crate::WORKLOAD, NAME)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("perf is not there: {error}"))?;
    if !recorded.success() {
        return Err(format!("perf cannot record here: {recorded}"));
    }
    let reported = Command::new("perf")
        .args([
            "report",
            "--stdio",
            "--no-inline",
            "--no-children",
            "-g",
            "none",
            "-F",
            "overhead,comm,sym",
            "-t",
            "|",
            "-i",
        ])
        .arg(&data)
        .output()
        .map_err(|error| error.to_string())?;
    let script = Command::new("perf")
        .args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"])
        .arg(&data)
        .output()
        .map_err(|error| error.to_string())?;
    let _ = std::fs::remove_file(&data);
    let mut section = section(&String::from_utf8_lossy(&reported.stdout));
    section.chart(
        "profile-flame.svg",
        "flame graph of W1",
        Calls::of_script(&String::from_utf8_lossy(&script.stdout)).svg(
            "hello-sequence, 64 in flight: who spends the processor time, from below to above",
        ),
    );
    section.seconds = begun.elapsed().as_secs_f64();
    Ok(section)
}

/// The lines of a report: share, thread, function.
fn section(report: &str) -> Section {
    let mut section = Section::new(
        "Profile",
        "where the processor time of W1 goes",
        "`perf` samples the suite's process 299 times a second while it runs hello-sequence with 64 in flight for ten seconds, from its fifth second on. `[k]` is the kernel, `[.]` the program.",
    );
    let (mut threads, mut rows) = (BTreeMap::<String, f64>::new(), Vec::new());
    for line in report.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('|').map(str::trim).collect();
        let [share, thread, function] = fields[..] else {
            continue;
        };
        let Ok(percent) = share.trim_end_matches('%').parse::<f64>() else {
            continue;
        };
        *threads.entry(thread.to_owned()).or_default() += percent;
        if rows.len() < LISTED {
            let function = function.replace('<', "‹").replace('>', "›");
            rows.push([number(percent), thread.to_owned(), format!("`{function}`")]);
        }
    }
    let mut threads: Vec<(String, f64)> = threads
        .into_iter()
        .filter(|(_, share)| *share >= 0.5)
        .collect();
    threads.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shares: Vec<_> = threads
        .iter()
        .map(|(thread, share)| ours(thread, *share))
        .collect();
    section.chart(
        "profile-threads.svg",
        "processor time by thread",
        bars(
            "hello-sequence, 64 in flight: processor time by thread",
            "%",
            &shares,
            None,
        ),
    );
    section.table(
        "The functions that took most",
        ["%", "thread", "function"],
        rows,
    );
    section
}
