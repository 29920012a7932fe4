//! Clocks, counters, medians. It reads `/proc`: the suite runs on Linux.

use std::time::{Duration, Instant};

use perennial::{Client, Host, HostStats};
use perennial_tests::DataDir;

use crate::section::number;

/// Longer than anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// Every figure is the median of so many rounds.
pub(crate) const ROUNDS: usize = 5;

/// Whether only the suite itself is tried.
pub(crate) fn is_quick() -> bool {
    std::env::var_os("PERENNIAL_BENCH_QUICK").is_some()
}

/// `full`, or a fraction of it where only the suite itself is tried.
pub(crate) fn sized(full: u32) -> u32 {
    if is_quick() { (full / 50).max(2) } else { full }
}

/// How long a round of a throughput takes.
pub(crate) fn span() -> Duration {
    Duration::from_millis(if is_quick() { 100 } else { 1_500 })
}

pub(crate) fn rounds() -> usize {
    if is_quick() { 2 } else { ROUNDS }
}

/// A hub's directory on the disk of the build, not in a directory for temporary files, which may be memory.
pub(crate) fn data_dir() -> DataDir {
    DataDir::within(&crate::results())
}

fn proc_file(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/{name}")).expect("the suite reads /proc")
}

/// Processor seconds of this process, to the hundredth.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = proc_file("stat");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Processor seconds of a process, of its children, and of those that have ended.
pub(crate) fn processes_cpu(parent: u32) -> f64 {
    let numbers = |pid: &str, from: usize, to: usize| -> Option<f64> {
        // It may have ended since: then its parent has its time.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields = stat.rsplit(')').next()?.split_whitespace();
        let ticks = fields.skip(from).take(to - from);
        Some(ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum())
    };
    let (parent, children) = (
        parent.to_string(),
        format!("/proc/{parent}/task/{parent}/children"),
    );
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let ticks: f64 = children
        .split_whitespace()
        .filter_map(|child| numbers(child, 11, 13))
        .sum();
    (ticks + numbers(&parent, 11, 15).unwrap_or(0.0)) / 100.0
}

/// Bytes that this process had the disk written.
pub(crate) fn bytes_written() -> u64 {
    field(&proc_file("io"), "write_bytes:")
}

/// Bytes of memory that this process has to itself.
pub(crate) fn memory_bytes() -> u64 {
    field(&proc_file("status"), "RssAnon:") * 1024
}

fn field(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value that so much of all are at most.
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let place = (part * values.len() as f64).ceil() as usize;
    values[place.clamp(1, values.len()) - 1]
}

/// The median of something of each round.
pub(crate) fn median_of<T>(rounds: &[T], of: impl Fn(&T) -> f64) -> f64 {
    median(&rounds.iter().map(of).collect::<Vec<_>>())
}

/// What work took: by the clock, of the processor, of the disk, and in counts.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) bytes: f64,
    pub(crate) commits: f64,
    pub(crate) changes: f64,
    pub(crate) rows: f64,
    pub(crate) checkpoints: f64,
    pub(crate) instantiations: f64,
}

/// Measures a piece of work on a host.
pub(crate) async fn cost<T>(host: &Host, work: impl Future<Output = T>) -> (Cost, T) {
    let (begun, cpu, bytes, before) =
        (Instant::now(), cpu_seconds(), bytes_written(), host.stats());
    let done = work.await;
    let seconds = begun.elapsed().as_secs_f64();
    let after = host.stats();
    let since = |of: fn(&HostStats) -> u64| (of(&after) - of(&before)) as f64;
    let cost = Cost {
        seconds,
        cpu: cpu_seconds() - cpu,
        bytes: (bytes_written() - bytes) as f64,
        commits: since(|s| s.commits),
        changes: since(|s| s.changes),
        rows: since(|s| s.rows),
        checkpoints: since(|s| s.checkpoints),
        instantiations: since(|s| s.instantiations),
    };
    (cost, done)
}

impl Cost {
    /// Of one unit, where it was of so many.
    pub(crate) fn each(self, units: f64) -> Self {
        Self {
            seconds: self.seconds / units,
            cpu: self.cpu / units,
            bytes: self.bytes / units,
            commits: self.commits / units,
            changes: self.changes / units,
            rows: self.rows / units,
            checkpoints: self.checkpoints / units,
            instantiations: self.instantiations / units,
        }
    }
}

/// The columns of [`counts_row`].
pub(crate) const COUNTS: [&str; 7] = [
    "for each",
    "commits (one sync each)",
    "checkpoints",
    "rows written",
    "guests made",
    "KiB written",
    "ms of CPU",
];

/// The medians of what one unit cost in several rounds.
pub(crate) fn counts_row(what: &str, rounds: &[Cost]) -> [String; 7] {
    let of = |pick: fn(&Cost) -> f64| number(median_of(rounds, pick));
    [
        what.to_owned(),
        of(|c| c.commits),
        of(|c| c.checkpoints),
        of(|c| c.rows),
        of(|c| c.instantiations),
        of(|c| c.bytes / 1024.0),
        of(|c| c.cpu * 1e3),
    ]
}

/// Runs one instance to its end. It must not fail.
pub(crate) async fn one(client: &Client, name: &str, input: u32) {
    let id = client.start(name).input(&input).await.unwrap();
    ends(client, &id).await;
}

/// Waits until an instance has completed.
pub(crate) async fn ends(client: &Client, id: &str) {
    let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
    let status = waited.reached().unwrap();
    assert!(status.failure.is_none(), "{id}: {:?}", status.failure);
}
