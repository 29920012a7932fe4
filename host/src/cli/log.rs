//! The log, on stderr.

use std::io::{self, Write};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::output;
use crate::cli::progress;

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Begins to log what passes the filter.
pub(crate) fn start(filter: &str, format: Format) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(filter).with_context(|| {
        format!("{filter:?} is no filter for the log; write it like info or perennial=debug,warn")
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr)
        .with_ansi(output::stderr_has_colors());
    match format {
        // A second start, as in a test, keeps the first.
        Format::Text => drop(log.try_init()),
        Format::Json => drop(log.json().flatten_event(true).try_init()),
    }
    Ok(())
}

/// How much commands log that are no host for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Errors.
    Quiet,
    /// What a person must know.
    Warnings,
    /// That, and what guests say.
    Guests,
}

/// The log of commands that are no host for long, unless the environment asks for more.
pub(crate) fn start_quietly(need: Need) -> anyhow::Result<()> {
    let default = match need {
        // A guest's own errors are its warnings to a person, who wants none.
        Need::Quiet => "error,perennial::guest=off",
        Need::Warnings => "warn",
        Need::Guests => "warn,perennial::guest=info",
    };
    let filter = std::env::var("PERENNIAL_LOG").unwrap_or_else(|_| default.to_owned());
    start(&filter, Format::Text).context("cannot use PERENNIAL_LOG")
}

/// Stderr, without tearing a line of progress apart.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::aside(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
