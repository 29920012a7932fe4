//! How long attempts of activities took since the host started, by the name of the activity.
//!
//! Invariant: an attempt costs one look-up in a small table, and its name is copied only the first time; the table holds at most
//! [`NAMES_MAX`] names.

use std::collections::BTreeMap;

use perennial_core::AttemptRun;

use crate::engine::locks::{OrderedMutex, rank};

/// The most names. Names beyond them are not counted: an instance can call any name.
const NAMES_MAX: usize = 1_000;

/// The attempts of an activity that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durations {
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) total_ms: u64,
    pub(crate) slowest_ms: u64,
}

/// The durations of all activities.
#[derive(Debug, Default)]
pub(crate) struct ActivityDurations(OrderedMutex<BTreeMap<String, Durations>, { rank::DURATIONS }>);

impl ActivityDurations {
    /// Counts an attempt that ended.
    pub(in crate::engine) fn ended(&self, name: &str, run: AttemptRun, has_failed: bool) {
        let ms = run.ended_at.since(run.started_at).0;
        let mut all = self.0.lock();
        if !all.contains_key(name) {
            if all.len() >= NAMES_MAX {
                return;
            }
            all.insert(name.to_owned(), Durations::default());
        }
        let Some(of) = all.get_mut(name) else { return };
        of.attempts += 1;
        of.failed += u64::from(has_failed);
        of.total_ms = of.total_ms.saturating_add(ms);
        of.slowest_ms = of.slowest_ms.max(ms);
    }

    /// Those with the slowest attempts, the slowest first.
    pub(crate) fn slowest(&self, at_most: usize) -> Vec<(String, Durations)> {
        let all = self.0.lock();
        let mut slowest: Vec<_> = all.iter().collect();
        slowest.sort_by_key(|(_, of)| std::cmp::Reverse(of.slowest_ms));
        slowest.truncate(at_most);
        let copied = slowest.into_iter();
        copied.map(|(name, of)| (name.clone(), *of)).collect()
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::Timestamp;

    use super::*;

    fn run(ms: u64) -> AttemptRun {
        AttemptRun {
            attempt: 1,
            started_at: Timestamp(1_000),
            ended_at: Timestamp(1_000 + ms),
        }
    }

    #[test]
    fn the_slowest_come_first_and_names_are_bounded() {
        let all = ActivityDurations::default();
        all.ended("Charge", run(5), false);
        all.ended("Charge", run(9), true);
        all.ended("Ship", run(700), false);
        let charged = Durations {
            attempts: 2,
            failed: 1,
            total_ms: 14,
            slowest_ms: 9,
        };
        let slowest = all.slowest(10);
        assert_eq!(slowest[0].0, "Ship");
        assert_eq!(slowest[1], ("Charge".to_owned(), charged));
        assert_eq!(all.slowest(1).len(), 1);
        for name in 0..2 * NAMES_MAX {
            all.ended(&name.to_string(), run(1), false);
        }
        assert_eq!(all.slowest(usize::MAX).len(), NAMES_MAX);
        all.ended("Ship", run(800), false);
        assert_eq!(all.slowest(1)[0].1.attempts, 2);
    }
}
