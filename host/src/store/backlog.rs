//! How much waits for the writer, in bytes: whoever adds more than there is room for waits, as for a place in the queue.

use std::sync::{Condvar, Mutex, PoisonError};

use perennial_core::{Event, Json, Message, Start};

use crate::store::types::NewInstance;
use crate::store::write::Change;

/// Bytes that may wait for the writer.
const BYTES_MAX: usize = 128 << 20;

/// What a row costs beside its payloads, roughly.
const ROW_BYTES: usize = 256;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Mutex<usize>,
    room: Condvar,
}

impl Backlog {
    /// Waits for room. What is larger than all room there is waits until nothing else does.
    pub(super) fn enter(&self, bytes: usize) {
        let mut waiting = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        while *waiting > 0 && *waiting + bytes > BYTES_MAX {
            waiting = self
                .room
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *waiting += bytes;
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) == 0
    }

    /// Gives room back.
    pub(super) fn leave(&self, bytes: usize) {
        let mut waiting = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = waiting.saturating_sub(bytes);
        drop(waiting);
        self.room.notify_all();
    }
}

impl Change {
    /// Bytes that it adds to a transaction, roughly: its payloads, and something for each row.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Self::Turn(commit) => {
                let events: usize = commit
                    .turn
                    .events()
                    .map(|event| row(Event::size(event)))
                    .sum();
                let starts: usize = commit.starts.iter().map(start).sum();
                let carried: usize = commit
                    .carried
                    .iter()
                    .map(|message| row(message.size()))
                    .sum();
                events + starts + carried
            }
            Self::Start(new) => start(new),
            Self::Deliver { message, .. } => message.size(),
            Self::Post { messages, .. } => messages.iter().map(Message::size).map(row).sum(),
            Self::Deploy(module) => module.component.len(),
            Self::All(changes) => changes.iter().map(Self::bytes).sum(),
            Self::Purge(keys) => keys.len() * ROW_BYTES,
            _ => 0,
        };
        row(content)
    }
}

fn row(content: usize) -> usize {
    ROW_BYTES + content
}

fn start(new: &NewInstance) -> usize {
    let Start { input, tags, .. } = &*new.start;
    let tags: usize = tags
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    row(input.as_ref().map_or(0, Json::size) + tags)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let backlog = Arc::new(Backlog::default());
        let (waiting, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        std::thread::scope(|threads| {
            for _ in 0..8 {
                let (backlog, waiting, most) = (&backlog, &waiting, &most);
                threads.spawn(move || {
                    for _ in 0..200 {
                        let bytes = BYTES_MAX / 3;
                        backlog.enter(bytes);
                        let now = waiting.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        waiting.fetch_sub(bytes, Ordering::SeqCst);
                        backlog.leave(bytes);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= BYTES_MAX);
    }

    #[test]
    fn what_is_larger_than_all_room_is_let_in_alone() {
        let backlog = Backlog::default();
        backlog.enter(BYTES_MAX * 2);
        backlog.leave(BYTES_MAX * 2);
        backlog.enter(1);
        assert_eq!(*backlog.bytes.lock().unwrap(), 1);
    }
}
