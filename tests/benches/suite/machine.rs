//! What the figures were measured on.

use std::path::Path;

use crate::measure::cpu_seconds;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn after<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':'))
        .map_or("unknown", |(_, value)| value.trim())
}

/// Processor time of the machine, and this program's part of it, since a moment.
pub(crate) struct Busy {
    all: f64,
    idle: f64,
    own: f64,
}

/// From now on.
pub(crate) fn busy() -> Busy {
    let stat = read("/proc/stat");
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    // User, nice, system, idle, waiting for the disk, interrupts, soft interrupts, taken by other machines: in hundredths of a second.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Busy {
        all: ticks.iter().take(8).sum::<f64>() / 100.0,
        idle: idle / 100.0,
        own: cpu_seconds(),
    }
}

impl Busy {
    /// The part of the time since then that other programs, and other machines on the same processor, had.
    pub(crate) fn others(&self) -> f64 {
        let now = busy();
        let all = (now.all - self.all).max(0.01);
        let used = all - (now.idle - self.idle) - (now.own - self.own);
        (used / all).clamp(0.0, 1.0)
    }
}

/// The kind of file system that a directory is on: the longest mount point above it.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = read("/proc/mounts");
    let above = mounts.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        dir.starts_with(fields.get(1)?)
            .then(|| (fields[1].len(), fields[2].to_owned()))
    });
    above
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// A line for each thing that matters.
pub(crate) fn description() -> Vec<(&'static str, String)> {
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib: f64 = after(&memory, "MemTotal")
        .split_whitespace()
        .next()
        .and_then(|kib| kib.parse().ok())
        .unwrap_or(0.0);
    vec![
        (
            "processor",
            format!("{}, {cores} cores", after(&cpu, "model name")),
        ),
        (
            "virtual",
            if cpu.contains("hypervisor") {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
        ),
        ("memory", format!("{:.0} GiB", kib / f64::from(1 << 20))),
        (
            "system",
            format!(
                "{} {}",
                read("/proc/sys/kernel/ostype").trim(),
                read("/proc/sys/kernel/osrelease").trim()
            ),
        ),
        ("file system of the hubs", file_system(&crate::results())),
        ("SQLite", rusqlite::version().to_owned()),
        ("perennial", env!("CARGO_PKG_VERSION").to_owned()),
    ]
}
