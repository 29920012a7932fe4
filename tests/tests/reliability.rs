//! The promises of RELIABILITY.md that need whole processes and whole hubs: kills under load, owners that were taken over, checks, backups.

#[path = "reliability/check.rs"]
mod check;
#[path = "reliability/clocks.rs"]
mod clocks;
#[path = "reliability/disks.rs"]
mod disks;
#[path = "reliability/kills.rs"]
mod kills;
#[path = "reliability/owners.rs"]
mod owners;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the binary on a data directory.
fn perennial(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(perennial_tests::binary());
    command.arg("--data-dir").arg(dir).args(args);
    command.env("PERENNIAL_LISTEN", "none").output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap()
}

/// The file of the usual hub.
fn hub_file(dir: &Path) -> PathBuf {
    dir.join(format!("{}.db", perennial::DEFAULT_TASK_HUB))
}
