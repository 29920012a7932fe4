//! Forwards the log lines of guests to `tracing`, and keeps the newest in memory.
//!
//! Each entry is one escaped line, so that no guest starts a line of its own in the host's log or moves a terminal's cursor, and stays
//! within the limits of [`log_budget`](super::log_budget).

use std::sync::Arc;

use perennial_core::bounds::{FAILURE_MESSAGE_BYTES, FAILURE_TRACE_BYTES, LOG_LINE_BYTES};
use perennial_core::text::{bounded, shortened, visible};
use tracing::enabled;

use super::log_budget::{Allowance, TARGET};
use crate::guest_lines::{GuestLines, LogLevel};

/// A partial line is broken at this size, so that a guest that never ends a line holds no memory of the host. Smaller than the maximum
/// line, so that nothing is cut.
const LINE_BYTES_MAX: usize = LOG_LINE_BYTES / 2;

/// Bytes of the muted output that are kept.
const KEPT_BYTES_MAX: usize = 2 << 10;

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// The guest's message about a trap that may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Panicking {
    pub(super) message: String,
    pub(super) location: String,
}

/// The log of one guest.
#[derive(Debug)]
pub(super) struct GuestLog {
    instance_id: Arc<str>,
    silent: bool,
    /// The unfinished lines of standard output and standard error.
    partial: [Vec<u8>; 2],
    panicking: Option<Panicking>,
    /// The end of all output, if it is kept.
    kept: Option<Vec<u8>>,
    /// Lines of a turn that is not committed yet, if lines wait for the commit. Bounded by the allowance.
    held: Option<Vec<(Level, String)>>,
    allowance: Allowance,
    /// Where lines are kept beside the log.
    lines: Option<Arc<GuestLines>>,
}

/// Guest state with a log.
pub(super) trait HasLog {
    /// The log of the guest.
    fn log(&mut self) -> &mut GuestLog;
}

/// One of a guest's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Out = 0,
    Err = 1,
}

impl GuestLog {
    /// The log of a guest of this instance, not muted.
    pub(super) fn loud(instance_id: impl Into<Arc<str>>) -> Self {
        Self {
            silent: false,
            ..Self::new(instance_id)
        }
    }

    /// As [`loud`](Self::loud), but muted until [`mute`](Self::mute) is called with `false`.
    pub(super) fn new(instance_id: impl Into<Arc<str>>) -> Self {
        let instance_id = instance_id.into();
        Self {
            allowance: Allowance::new(Arc::clone(&instance_id)),
            instance_id,
            silent: true,
            partial: [Vec::new(), Vec::new()],
            panicking: None,
            kept: None,
            held: None,
            lines: None,
        }
    }

    /// Keeps what it says there too.
    pub(super) fn kept_in(mut self, lines: Option<&Arc<GuestLines>>) -> Self {
        self.lines = lines.cloned();
        self
    }

    /// As [`new`](Self::new), but holds lines until they are [let go](Self::let_go): a turn that is not committed runs again, and logs the
    /// same.
    pub(super) fn holding(instance_id: impl Into<Arc<str>>) -> Self {
        Self {
            held: Some(Vec::new()),
            ..Self::new(instance_id)
        }
    }

    /// Writes the held lines. Lines that are never let go are never written.
    pub(super) fn let_go(&mut self) {
        let Some(held) = &mut self.held else {
            return;
        };
        for (level, message) in std::mem::take(held) {
            self.say(level, &message);
        }
        self.allowance.may_tell(true);
        self.allowance.tell_left_out();
    }

    /// As [`new`](Self::new), but [keeps](Self::take_kept) the end of the muted output.
    pub(super) fn keeping(instance_id: impl Into<Arc<str>>) -> Self {
        Self {
            kept: Some(Vec::new()),
            ..Self::new(instance_id)
        }
    }

    /// Takes the kept end of the output, if there is any.
    pub(super) fn take_kept(&mut self) -> Option<String> {
        let kept = self.kept.take()?;
        let text = String::from_utf8_lossy(&kept).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT_BYTES_MAX)..]);
            kept.drain(..kept.len().saturating_sub(KEPT_BYTES_MAX));
        }
    }

    /// Mutes or unmutes the log: a replayed turn was logged when it ran first. Unmuting starts a new allowance.
    pub(super) fn mute(&mut self, silent: bool) {
        self.silent = silent;
        if !silent {
            self.allowance.may_tell(self.held.is_none());
            self.allowance.renew();
        }
    }

    /// Writes one line.
    pub(super) fn line(&mut self, level: Level, message: &str) {
        self.keep(message.as_bytes());
        self.keep(b"\n");
        let is_kept = self.lines.is_some() && level.is_kept();
        if self.silent || !(is_kept || level.is_enabled()) {
            return;
        }
        let message = one_line(message);
        if !self.allowance.allows(message.len()) {
            return;
        }
        match &mut self.held {
            Some(held) => held.push((level, message)),
            None => self.say(level, &message),
        }
    }

    fn say(&self, level: Level, message: &str) {
        if let Some(lines) = &self.lines {
            lines.push(&self.instance_id, level.into(), message);
        }
        let instance = &*self.instance_id;
        match level {
            Level::Trace => tracing::trace!(target: TARGET, instance, "{message}"),
            Level::Debug => tracing::debug!(target: TARGET, instance, "{message}"),
            Level::Info => tracing::info!(target: TARGET, instance, "{message}"),
            Level::Warn => tracing::warn!(target: TARGET, instance, "{message}"),
            Level::Error => tracing::error!(target: TARGET, instance, "{message}"),
        }
    }

    /// Writes bytes of an output stream, split into lines.
    pub(super) fn write(&mut self, output: Output, mut bytes: &[u8]) {
        if self.silent {
            self.keep(bytes);
            return;
        }
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.partial[output as usize].extend_from_slice(&bytes[..end]);
            self.end_line(output);
            bytes = &bytes[end + 1..];
        }
        for chunk in bytes.chunks(LINE_BYTES_MAX) {
            self.partial[output as usize].extend_from_slice(chunk);
            if self.partial[output as usize].len() >= LINE_BYTES_MAX {
                self.end_line(output);
            }
        }
    }

    /// Writes the unfinished lines.
    pub(super) fn flush(&mut self) {
        for output in [Output::Out, Output::Err] {
            if !self.partial[output as usize].is_empty() {
                self.end_line(output);
            }
        }
        self.allowance.tell_left_out();
    }

    /// Saves the guest's message about a trap that may follow.
    pub(super) fn panicking(&mut self, panicking: Panicking) {
        self.panicking = Some(Panicking {
            message: bounded(panicking.message, FAILURE_MESSAGE_BYTES),
            location: bounded(panicking.location, FAILURE_TRACE_BYTES),
        });
    }

    /// Takes the message about the trap that just happened.
    pub(super) fn take_panicking(&mut self) -> Option<Panicking> {
        self.panicking.take()
    }

    fn end_line(&mut self, output: Output) {
        let bytes = std::mem::take(&mut self.partial[output as usize]);
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end_matches('\r');
        match output {
            Output::Out => self.line(Level::Info, line),
            Output::Err => self.line(Level::Warn, line),
        }
    }
}

/// Escapes a message into one line.
fn one_line(message: &str) -> String {
    // Cut before it is escaped, because escaping a hundred megabytes takes long.
    let message = shortened(message, LOG_LINE_BYTES);
    let message = visible(&message);
    shortened(&message, LOG_LINE_BYTES).into_owned()
}

impl Level {
    /// Whether lines of this level are kept in memory, also if no subscriber records them.
    fn is_kept(self) -> bool {
        matches!(self, Self::Info | Self::Warn | Self::Error)
    }

    /// Whether a subscriber records lines of this level. Lines that are neither recorded nor kept do not use the allowance.
    fn is_enabled(self) -> bool {
        match self {
            Self::Trace => enabled!(target: TARGET, tracing::Level::TRACE),
            Self::Debug => enabled!(target: TARGET, tracing::Level::DEBUG),
            Self::Info => enabled!(target: TARGET, tracing::Level::INFO),
            Self::Warn => enabled!(target: TARGET, tracing::Level::WARN),
            Self::Error => enabled!(target: TARGET, tracing::Level::ERROR),
        }
    }
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::hears::Hears;
    use perennial_core::bounds::LOG_ATTEMPT_BYTES;

    #[test]
    fn a_line_of_a_guest_is_one_line_with_an_end() {
        assert_eq!(one_line("step 1"), "step 1");
        assert_eq!(
            one_line("step 1\r\n2026-11-27 ERROR forged \u{1b}[2J"),
            r"step 1\r\n2026-11-27 ERROR forged \u{1b}[2J"
        );
        for text in ["x", "\u{1b}", "\u{e0041}"] {
            let line = one_line(&text.repeat(10 << 20));
            assert!(
                line.len() <= LOG_LINE_BYTES && line.contains("… (cut: "),
                "{line}"
            );
        }
    }

    /// The messages that were logged.
    #[derive(Clone, Default)]
    struct Heard(Arc<std::sync::Mutex<Vec<String>>>);

    impl tracing::field::Visit for Heard {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }

    #[test]
    fn a_turn_that_is_not_recorded_has_said_nothing() {
        let heard = Heard::default();
        let said = || std::mem::take(&mut *heard.0.lock().unwrap());
        let hears = heard.clone();
        let log = Hears(move |event: &tracing::Event<'_>| event.record(&mut hears.clone()));
        tracing::subscriber::with_default(log, || {
            let turn = || {
                let mut log = GuestLog::holding("said-once");
                log.line(Level::Info, "of a turn that is repeated");
                log.mute(false);
                log.line(Level::Info, "first");
                log.write(Output::Out, b"second\nthird");
                log.flush();
                // More than the allowance.
                for _ in 0..2 * LOG_ATTEMPT_BYTES / LOG_LINE_BYTES {
                    log.line(Level::Warn, &"x".repeat(LOG_LINE_BYTES));
                }
                log
            };
            drop(turn());
            assert_eq!(said(), [""; 0]);
            let mut log = turn();
            log.let_go();
            let said = said();
            assert_eq!(said[..3], ["first", "second", "third"]);
            assert!(said[said.len() - 1].contains("left out"), "{said:?}");
        });
    }

    #[test]
    fn what_a_guest_says_of_its_panic_has_an_end() {
        let mut log = GuestLog::new("a");
        log.panicking(Panicking {
            message: "x".repeat(16 << 20),
            location: "y".repeat(16 << 20),
        });
        let panicking = log.take_panicking().unwrap();
        assert_eq!(panicking.message.len(), FAILURE_MESSAGE_BYTES);
        assert_eq!(panicking.location.len(), FAILURE_TRACE_BYTES);
    }
}
