//! Log lines, which the host attributes to the instance that wrote them.
//!
//! The host drops the lines that an orchestration writes while it is replayed, so that each appears once. There is deliberately no way
//! to ask whether one is replayed: code that did something else then would not be the same function of its events, and its replay would
//! not match its record.

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// Details that help to find a mistake.
    Debug,
    /// Normal events.
    Info,
    /// Unexpected events that the code dealt with.
    Warn,
    /// Errors.
    Error,
}

/// Writes a line. The macros [`trace!`](crate::trace!), [`debug!`](crate::debug!), [`info!`](crate::info!), [`warn!`](crate::warn!) and
/// [`error!`](crate::error!) are shorter.
#[cfg(target_arch = "wasm32")]
pub fn write(level: Level, message: &str) {
    use crate::bindings::logging;

    let level = match level {
        Level::Trace => logging::Level::Trace,
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, message);
}

/// Writes a line; to standard error here, where there is no host.
#[cfg(not(target_arch = "wasm32"))]
pub fn write(level: Level, message: &str) {
    #[cfg(feature = "testing")]
    if keep(level, message) {
        return;
    }
    eprintln!("{level:?}: {message}");
}

#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
thread_local! {
    static COLLECTED: std::cell::RefCell<Option<Vec<(Level, String)>>> = const { std::cell::RefCell::new(None) };
}

/// Keeps a line, if lines are collected on this thread.
#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
fn keep(level: Level, message: &str) -> bool {
    COLLECTED.with_borrow_mut(|lines| {
        let Some(lines) = lines else { return false };
        lines.push((level, message.to_owned()));
        true
    })
}

/// Runs `work`, and returns the lines that it wrote with its result.
#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
pub(crate) fn collect<T>(work: impl FnOnce() -> T) -> (T, Vec<(Level, String)>) {
    let before = COLLECTED.replace(Some(Vec::new()));
    let result = work();
    let lines = COLLECTED.replace(before).unwrap_or_default();
    (result, lines)
}

/// Logs a line at [`Level::Trace`](crate::log::Level::Trace), formatted as by [`format!`].
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Trace, &::std::format!($($message)+)) };
}

/// Logs a line at [`Level::Debug`](crate::log::Level::Debug), formatted as by [`format!`].
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($message)+)) };
}

/// Logs a line at [`Level::Info`](crate::log::Level::Info), formatted as by [`format!`].
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($message)+)) };
}

/// Logs a line at [`Level::Warn`](crate::log::Level::Warn), formatted as by [`format!`].
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($message)+)) };
}

/// Logs a line at [`Level::Error`](crate::log::Level::Error), formatted as by [`format!`].
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($message)+)) };
}
