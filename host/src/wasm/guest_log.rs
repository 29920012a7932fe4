//! Forwards the log lines of guests to `tracing`.
//!
//! What leaves here is a line: written out, so that no guest begins a line of its own in the host's log or moves a terminal's cursor, and
//! within what [`log_budget`](super::log_budget) allows.

use std::sync::Arc;

use perennial_core::bounds::{FAILURE_MESSAGE_BYTES, FAILURE_TRACE_BYTES, LOG_LINE_BYTES};
use perennial_core::text::{bounded, shortened, visible};
use tracing::enabled;

use super::log_budget::{Allowance, TARGET};

/// A longer line without its end is broken, so that a guest that never ends one holds no memory of the host. Shorter than a line may be,
/// so that nothing of it is cut.
const LINE_BYTES_MAX: usize = LOG_LINE_BYTES / 2;

/// Bytes that are kept of what a guest wrote that says nothing to the log.
const KEPT_BYTES_MAX: usize = 2 << 10;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What a guest said about the trap that may follow.
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
    /// What was written to standard output and to standard error, and not yet ended with a line break.
    partial: [Vec<u8>; 2],
    panicking: Option<Panicking>,
    /// The end of everything that was written, where that is kept.
    kept: Option<Vec<u8>>,
    /// What was said in a turn that is not in the hub yet, where lines wait for that. Within what the allowance allows.
    held: Option<Vec<(Level, String)>>,
    allowance: Allowance,
}

/// A guest's state that has a log.
pub(super) trait HasLog {
    /// The log.
    fn log(&mut self) -> &mut GuestLog;
}

/// One of a guest's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Out = 0,
    Err = 1,
}

impl GuestLog {
    /// Of a guest that works for this instance, and lets its lines through.
    pub(super) fn loud(instance_id: impl Into<Arc<str>>) -> Self {
        Self {
            silent: false,
            ..Self::new(instance_id)
        }
    }

    /// As [`loud`](Self::loud), but says nothing until it is [unmuted](Self::mute).
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
        }
    }

    /// As [`new`](Self::new), but a line waits until it is [let go](Self::let_go): a turn that does not come to be recorded happens again,
    /// and says the same.
    pub(super) fn holding(instance_id: impl Into<Arc<str>>) -> Self {
        Self {
            held: Some(Vec::new()),
            ..Self::new(instance_id)
        }
    }

    /// Says what waits. What never is let go was never said.
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

    /// As [`new`](Self::new), but [keeps](Self::take_kept) the end of what it does not say.
    pub(super) fn keeping(instance_id: impl Into<Arc<str>>) -> Self {
        Self {
            kept: Some(Vec::new()),
            ..Self::new(instance_id)
        }
    }

    /// The end of what was written, if anything was.
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

    /// Drops what follows, or lets it through again: a turn that is repeated was logged when it happened. A turn that is not has its own
    /// allowance.
    pub(super) fn mute(&mut self, silent: bool) {
        self.silent = silent;
        if !silent {
            self.allowance.may_tell(self.held.is_none());
            self.allowance.renew();
        }
    }

    /// One line.
    pub(super) fn line(&mut self, level: Level, message: &str) {
        self.keep(message.as_bytes());
        self.keep(b"\n");
        if self.silent || !level.is_enabled() {
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
        let instance = &*self.instance_id;
        match level {
            Level::Trace => tracing::trace!(target: TARGET, instance, "{message}"),
            Level::Debug => tracing::debug!(target: TARGET, instance, "{message}"),
            Level::Info => tracing::info!(target: TARGET, instance, "{message}"),
            Level::Warn => tracing::warn!(target: TARGET, instance, "{message}"),
            Level::Error => tracing::error!(target: TARGET, instance, "{message}"),
        }
    }

    /// Bytes of an output stream, which become lines.
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

    /// Lets go of lines that were never ended.
    pub(super) fn flush(&mut self) {
        for output in [Output::Out, Output::Err] {
            if !self.partial[output as usize].is_empty() {
                self.end_line(output);
            }
        }
        self.allowance.tell_left_out();
    }

    /// Keeps what a trap that follows is about.
    pub(super) fn panicking(&mut self, panicking: Panicking) {
        self.panicking = Some(Panicking {
            message: bounded(panicking.message, FAILURE_MESSAGE_BYTES),
            location: bounded(panicking.location, FAILURE_TRACE_BYTES),
        });
    }

    /// What the trap that just happened is about.
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

/// What a guest says, as one line with an end.
fn one_line(message: &str) -> String {
    // Cut before it is written out, which makes it longer: nobody waits for the escapes of a hundred megabytes.
    let message = shortened(message, LOG_LINE_BYTES);
    let message = visible(&message);
    shortened(&message, LOG_LINE_BYTES).into_owned()
}

impl Level {
    /// Whether somebody writes such lines down. What nobody does uses up nothing.
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
                // More than it may say.
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
