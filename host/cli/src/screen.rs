//! The one terminal: who writes to stderr beside a line of progress.

use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

/// The bar that is on the terminal right now, for those who must write beside it.
pub(crate) static ON_SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes to stderr without tearing a line of progress apart.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    let bar = ON_SCREEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}
