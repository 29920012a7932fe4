//! What the hosts of a hub tell each other beside its rows: which instances their clients wait for, and which of these have changed.
//!
//! A hint may be late, lost or repeated, and nothing relies on one: who waits looks at the hub as well, less often. Hints cost no row and no
//! write to the disk, and only those are sent that somebody wants.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The most instances that are named at once in hints that wait to be sent. Clients find the others by looking.
#[cfg(any(feature = "postgres", test))]
const NAMED_MAX: usize = 20_000;

/// Hints of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hints {
    /// The instances for whose end its clients wait.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) wait_for_end: BTreeSet<String>,
    /// The instances for whose next change its clients wait.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) wait_for_change: BTreeSet<String>,
    /// Whether its clients follow all instances.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) follow_all: bool,
    /// Instances of its own that have ended.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) ended: BTreeSet<String>,
    /// Instances of its own that have changed and not ended.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) changed: BTreeSet<String>,
}

#[cfg(any(feature = "postgres", test))]
impl Hints {
    pub(crate) fn is_empty(&self) -> bool {
        self.named() == 0 && !self.follow_all
    }

    fn named(&self) -> usize {
        let all = [
            &self.wait_for_end,
            &self.wait_for_change,
            &self.ended,
            &self.changed,
        ];
        all.map(BTreeSet::len).iter().sum()
    }

    /// Adds others. They are dropped if too many wait already.
    pub(in crate::store) fn add(&mut self, mut others: Self) {
        self.follow_all |= others.follow_all;
        if self.named() + others.named() > NAMED_MAX {
            return;
        }
        self.wait_for_end.append(&mut others.wait_for_end);
        self.wait_for_change.append(&mut others.wait_for_change);
        self.ended.append(&mut others.ended);
        self.changed.append(&mut others.changed);
    }

    /// The hints in parts, of each of which `fits` holds. What does not fit alone is left out.
    pub(in crate::store) fn parts(self, fits: &impl Fn(&Self) -> bool) -> Vec<Self> {
        if self.is_empty() {
            return Vec::new();
        }
        if fits(&self) {
            return vec![self];
        }
        if self.named() < 2 {
            return Vec::new();
        }
        let (mut first, mut second) = (Self::default(), Self::default());
        first.follow_all = self.follow_all;
        let halves = |all: BTreeSet<String>| {
            let (one, other): (Vec<_>, Vec<_>) =
                all.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
            [one, other].map(|half| half.into_iter().map(|(_, id)| id).collect::<BTreeSet<_>>())
        };
        // Kinds of one instance each would all stay in the first half.
        [first.wait_for_end, second.wait_for_end] = halves(self.wait_for_end);
        [second.wait_for_change, first.wait_for_change] = halves(self.wait_for_change);
        [first.ended, second.ended] = halves(self.ended);
        [second.changed, first.changed] = halves(self.changed);
        let mut parts = first.parts(fits);
        parts.extend(second.parts(fits));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(of: std::ops::Range<usize>) -> BTreeSet<String> {
        of.map(|n| format!("instance-{n}")).collect()
    }

    #[test]
    fn hints_are_sent_in_parts_that_fit() {
        let hints = Hints {
            wait_for_end: ids(0..100),
            wait_for_change: ids(3..4),
            follow_all: true,
            ended: ids(100..101),
            changed: ids(200..300),
        };
        let fits = |part: &Hints| part.named() <= 7;
        let parts = hints.clone().parts(&fits);
        assert!(parts.iter().all(|part| fits(part) && !part.is_empty()));
        let mut all = Hints::default();
        parts.into_iter().for_each(|part| all.add(part));
        assert_eq!(all, hints);
    }

    #[test]
    fn what_fits_nowhere_is_left_out() {
        let mut hints = Hints {
            ended: ["long".repeat(5_000), "short".to_owned()].into(),
            ..Hints::default()
        };
        let fits = |part: &Hints| part.ended.iter().map(String::len).sum::<usize>() < 100;
        let parts = hints.clone().parts(&fits);
        assert_eq!(parts.len(), 1);
        assert!(parts[0].ended.contains("short"));
        hints.ended.pop_last();
        assert_eq!(hints.parts(&fits), []);
    }

    #[test]
    fn too_many_are_not_kept() {
        let mut hints = Hints::default();
        for from in (0..3 * NAMED_MAX).step_by(1_000) {
            hints.add(Hints {
                changed: ids(from..from + 1_000),
                ..Hints::default()
            });
        }
        assert_eq!(hints.changed.len(), NAMED_MAX);
        hints.add(Hints {
            follow_all: true,
            ..Hints::default()
        });
        assert!(hints.follow_all);
    }
}
