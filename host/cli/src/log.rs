//! The log, on stderr.
//!
//! Each event is one line. Names, messages and reasons come from modules and from callers of the HTTP API, and could contain line ends or
//! control sequences. So every field is escaped here, whether or not the code that logs it did so.

use std::fmt;
use std::io::{self, Write};

use anyhow::Context;
use perennial_core::text::{Visible, shortened, visible_json};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::output;
use crate::screen;

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Starts the log with a filter.
pub(crate) fn start(wanted: &str, format: Format) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(wanted).with_context(|| {
        format!("{wanted:?} is no filter for the log; write it like info or perennial=debug,warn")
    })?;
    // A peer of HTTP/2 could fill the log with what it does wrong; the server closes its connection.
    let filter = match wanted.contains("h2") {
        true => filter,
        false => filter.add_directive("h2=error".parse()?),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false);
    match format {
        // A second start, as in a test, keeps the first.
        Format::Text => drop(
            log.fmt_fields(debug_fn(field).delimited(" "))
                .with_ansi(output::stderr_has_colors())
                .with_writer(|| Stderr { is_json: false })
                .try_init(),
        ),
        Format::Json => drop(
            log.json()
                .flatten_event(true)
                .with_ansi(false)
                .with_writer(|| Stderr { is_json: true })
                .try_init(),
        ),
    }
    Ok(())
}

/// Writes one field of an event: the message as it is, the others as `name=value`.
fn field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = shortened(&value, FIELD_BYTES_MAX);
    match field.name() {
        "message" => write!(to, "{}", Visible(&value)),
        name if to.has_ansi_escapes() => {
            write!(
                to,
                "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{}",
                Visible(&value)
            )
        }
        name => write!(to, "{name}={}", Visible(&value)),
    }
}

/// Limit of a field: more than the longest incoming message has with its escapes.
const FIELD_BYTES_MAX: usize = 64 << 10;

/// How much a command logs that is a host only for a short time, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Errors only.
    Quiet,
    /// Warnings too.
    Warnings,
    /// Warnings, and the logs of guests.
    Guests,
}

/// Starts the log of a command with the level that it needs, unless `PERENNIAL_LOG` sets another filter.
pub(crate) fn start_quietly(need: Need) -> anyhow::Result<()> {
    let default = match need {
        // A guest's own errors are its warnings to a person, who wants none.
        Need::Quiet => "error,perennial::guest=off",
        Need::Warnings => "warn",
        Need::Guests => "warn,perennial::guest=info,perennial::engine::attempts=error",
    };
    let filter = std::env::var("PERENNIAL_LOG").unwrap_or_else(|_| default.to_owned());
    start(&filter, Format::Text).context("cannot use PERENNIAL_LOG")
}

/// Stderr, without tearing a line of progress apart.
struct Stderr {
    is_json: bool,
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // JSON leaves some characters that a terminal obeys as they are, and has escapes for all.
        let text = std::str::from_utf8(bytes).ok().filter(|_| self.is_json);
        let safe = text.map(visible_json);
        let safe = safe.as_deref().map_or(bytes, str::as_bytes);
        // An error here would be printed by whoever logs, to where nothing can be written, which panics.
        screen::to_stderr(safe);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
