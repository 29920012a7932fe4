//! Bounds the changes that wait for the writer, by number and by bytes. A caller that adds more waits: threads block, and async tasks
//! yield.

use std::sync::{Condvar, Mutex, PoisonError};

use perennial_core::{Event, Json, Start};
use tokio::sync::Notify;

use crate::limits::{WRITER_BYTES, WRITER_CHANGES};
use crate::store::change::Change;
use crate::store::types::NewInstance;

/// The approximate bytes of a row beside its payloads.
const ROW_BYTES: usize = 256;

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::store) struct Backlog {
    waiting: Mutex<Waiting>,
    room: Condvar,
    room_on_runtimes: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: usize,
    bytes: usize,
}

impl Waiting {
    /// Reserves room, if there is some. A change larger than the whole bound gets room when the backlog is empty.
    fn enter(&mut self, bytes: usize) -> bool {
        let is_room = self.jobs < WRITER_CHANGES && self.bytes + bytes <= WRITER_BYTES;
        if is_room || self.jobs == 0 {
            self.jobs += 1;
            self.bytes += bytes;
            return true;
        }
        false
    }
}

impl Backlog {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves room, if there is some now.
    pub(in crate::store) fn try_enter(&self, bytes: usize) -> bool {
        self.waiting().enter(bytes)
    }

    /// Waits for room. Blocks the thread.
    pub(in crate::store) fn enter(&self, bytes: usize) {
        let mut waiting = self.waiting();
        while !waiting.enter(bytes) {
            waiting = self
                .room
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for room without blocking the thread.
    pub(in crate::store) async fn enter_later(&self, bytes: usize) {
        loop {
            let mut room = std::pin::pin!(self.room_on_runtimes.notified());
            // From here on this waiter is notified.
            room.as_mut().enable();
            if self.try_enter(bytes) {
                return;
            }
            room.await;
        }
    }

    /// Whether the backlog is empty.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.waiting().jobs == 0
    }

    /// Frees the room of this many changes.
    pub(in crate::store) fn leave(&self, jobs: usize, bytes: usize) {
        {
            let mut waiting = self.waiting();
            waiting.jobs = waiting.jobs.saturating_sub(jobs);
            waiting.bytes = waiting.bytes.saturating_sub(bytes);
        }
        self.room.notify_all();
        self.room_on_runtimes.notify_waiters();
    }
}

impl Change {
    /// The approximate bytes that it adds to a transaction: its payloads, and [`ROW_BYTES`] for each row.
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
            Self::Request(request) => request.input.as_ref().map_or(0, Json::size),
            Self::StartFor { new, then } => start(new) + then.bytes(),
            Self::Post { messages, .. } => messages.iter().map(|e| row(e.message.size())).sum(),
            Self::Deploy(module) => module.component.len(),
            Self::Beats(beats) => beats
                .iter()
                .map(|(_, beat)| row(beat.details.as_ref().map_or(0, Json::size)))
                .sum(),
            Self::All(changes) => changes.iter().map(Self::bytes).sum(),
            Self::IfRun { then, .. } => then.bytes(),
            Self::Purge(keys) => keys.len() * ROW_BYTES,
            Self::Receive(sent) => sent.iter().map(|one| row(one.message.size())).sum(),
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
                        let bytes = WRITER_BYTES / 3;
                        backlog.enter(bytes);
                        let now = waiting.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        waiting.fetch_sub(bytes, Ordering::SeqCst);
                        backlog.leave(1, bytes);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= WRITER_BYTES);
    }

    #[test]
    fn what_is_larger_than_all_room_is_let_in_alone() {
        let backlog = Backlog::default();
        backlog.enter(WRITER_BYTES * 2);
        assert!(!backlog.try_enter(1));
        backlog.leave(1, WRITER_BYTES * 2);
        backlog.enter(1);
        assert_eq!(backlog.waiting().bytes, 1);
    }

    #[test]
    fn what_waits_is_bounded_in_number() {
        let backlog = Backlog::default();
        assert!((0..WRITER_CHANGES).all(|_| backlog.try_enter(1)));
        assert!(!backlog.try_enter(1));
        backlog.leave(2, 2);
        assert!(backlog.try_enter(1) && backlog.try_enter(1) && !backlog.try_enter(1));
    }

    #[test]
    fn what_waits_for_room_on_a_runtime_keeps_no_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let backlog = Arc::new(Backlog::default());
        backlog.enter(WRITER_BYTES);
        // The runtime's only thread polls five waiters, then the task that frees room.
        runtime.block_on(async {
            let waiting: Vec<_> = (0..5)
                .map(|_| {
                    let backlog = Arc::clone(&backlog);
                    tokio::spawn(async move {
                        backlog.enter_later(WRITER_BYTES).await;
                        backlog.leave(1, WRITER_BYTES);
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            backlog.leave(1, WRITER_BYTES);
            for waits in waiting {
                waits.await.unwrap();
            }
        });
        assert!(backlog.is_empty());
    }
}
