//! Counts the streams of work items that workers hold.
//!
//! Invariant: no key can take all streams, because a worker that cannot connect runs nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::KeyHash;
use crate::limits::http as limits;

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct WorkStreams(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of_key: HashMap<KeyHash, usize>,
}

/// An open stream, until it is dropped.
#[derive(Debug)]
pub(super) struct WorkStream {
    streams: Arc<WorkStreams>,
    key: Option<KeyHash>,
}

impl WorkStreams {
    /// Counts a stream; `None` if there are too many in all or of its key.
    pub(super) fn open(self: &Arc<Self>, key: Option<KeyHash>) -> Option<WorkStream> {
        let mut counts = self.counts();
        let has = key.and_then(|key| counts.of_key.get(&key).copied());
        if counts.all >= limits::WORK_STREAMS
            || has.unwrap_or_default() >= limits::WORK_STREAMS_OF_KEY
        {
            return None;
        }
        counts.all += 1;
        if let Some(key) = key {
            *counts.of_key.entry(key).or_default() += 1;
        }
        drop(counts);
        Some(WorkStream {
            streams: Arc::clone(self),
            key,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WorkStream {
    fn drop(&mut self) {
        let mut counts = self.streams.counts();
        counts.all -= 1;
        if let Some(key) = self.key
            && let Some(count) = counts.of_key.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                counts.of_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_only_its_part_of_the_streams_and_gets_them_back() {
        let streams = Arc::<WorkStreams>::default();
        let open = |key: u8| streams.open(Some([key; 32]));
        let held: Vec<_> = std::iter::from_fn(|| open(1)).collect();
        assert_eq!(held.len(), limits::WORK_STREAMS_OF_KEY);
        assert!(open(2).is_some(), "another key has its own");
        drop(held);
        assert!(open(1).is_some());
        let all: Vec<_> = std::iter::from_fn(|| streams.open(None)).collect();
        assert_eq!(all.len(), limits::WORK_STREAMS);
        assert!(open(3).is_none());
        drop(all);
        assert_eq!(streams.counts().all, 0);
        assert!(streams.counts().of_key.is_empty());
    }
}
