//! Writes to stderr through one bounded queue: no writer fails or blocks, and log lines do not tear a progress line.
//!
//! A log may go to a full disk, or into a pipe that nobody reads. A host must go on all the same: a thread writes the queued texts, and
//! texts are dropped and counted if the queue is full or the write fails.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

/// The progress bar on the terminal, which other writers must suspend.
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

/// Capacity of the queue, in texts. Most are a line; the longest have some hundreds of KiB.
const WAITING_MAX: usize = 512;

/// How long the end of the program waits for queued texts.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A message to the writing thread.
enum Told {
    Text(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// The queue of the writing thread, if one was started.
static QUEUE: OnceLock<SyncSender<Told>> = OnceLock::new();

/// Dropped texts that are not reported yet.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Starts the writing thread. If there is no thread for it, writers keep writing to stderr themselves.
pub(crate) fn queue_stderr() {
    let (queue, texts) = sync_channel(WAITING_MAX);
    let spawned = std::thread::Builder::new()
        .name("perennial-stderr".to_owned())
        .spawn(move || write_all(&texts));
    if spawned.is_ok() {
        // A second queue ends with its sender.
        let _ = QUEUE.set(queue);
    }
}

fn write_all(texts: &Receiver<Told>) {
    for told in texts {
        match told {
            Told::Text(text) => write_one(&text),
            Told::Flush(done) => drop(done.try_send(())),
        }
    }
}

/// Writes a text, after a line with the number of dropped ones, if there are any.
fn write_one(text: &[u8]) {
    let lost = LOST.swap(0, Ordering::Relaxed);
    let said = match lost {
        0 => Ok(()),
        lost => aside(|| {
            writeln!(
                io::stderr(),
                "({lost} lines are missing here: stderr could not be written, or was not read)"
            )
        }),
    };
    if said
        .and_then(|()| aside(|| io::stderr().write_all(text)))
        .is_err()
    {
        LOST.fetch_add(lost + 1, Ordering::Relaxed);
    }
}

/// Queues a text for stderr, or writes it if there is no queue.
pub(crate) fn to_stderr(text: &[u8]) {
    match QUEUE.get() {
        Some(queue) => match queue.try_send(Told::Text(text.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        },
        None => drop(aside(|| io::stderr().write_all(text))),
    }
}

/// Waits until the queue is written, for at most [`LAST_WORDS`].
pub(crate) fn finish() {
    let Some(queue) = QUEUE.get() else {
        return;
    };
    let until = Instant::now() + LAST_WORDS;
    let (done, is_done) = sync_channel(1);
    while queue.try_send(Told::Flush(done.clone())).is_err() {
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // Later than that, nobody reads it.
    let _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
}
