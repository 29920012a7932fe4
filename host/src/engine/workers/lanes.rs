//! The queue of the workers: one lane for each module, served in turn.
//!
//! Invariant: commits that need follow-up work come first, because this frees memory and wakes waiters. Then the modules take turns, each
//! in the order of arrival. So thirty thousand ready instances of one module delay those of another by one turn only.

use std::collections::{HashMap, VecDeque};

use crate::engine::Work;
use crate::engine::memory::slots::Lane;

/// Number of empty lanes that are kept for reuse.
const KEPT: usize = 64;

/// See the [module](self).
#[derive(Default)]
pub(in crate::engine) struct Lanes {
    committed: VecDeque<Work>,
    lanes: HashMap<Lane, VecDeque<Work>>,
    /// Lanes with waiting work; the first is next.
    order: VecDeque<Lane>,
    /// Amount of waiting work in all lanes.
    waiting: usize,
}

impl Lanes {
    pub(in crate::engine) fn push(&mut self, work: Work) {
        let lane = match &work {
            Work::Committed(_) => return self.committed.push_front(work),
            Work::Run(slot) => slot.lane(),
            Work::Collect | Work::Retain | Work::Receive => Lane::HOST,
        };
        let waiting = self.lanes.entry(lane).or_default();
        if waiting.is_empty() {
            self.order.push_back(lane);
        }
        waiting.push_back(work);
        self.waiting += 1;
    }

    pub(in crate::engine) fn pop(&mut self) -> Option<Work> {
        if let Some(work) = self.committed.pop_front() {
            return Some(work);
        }
        let lane = self.order.pop_front()?;
        let waiting = self.lanes.get_mut(&lane)?;
        let work = waiting.pop_front()?;
        self.waiting -= 1;
        if !waiting.is_empty() {
            self.order.push_back(lane);
        } else if self.lanes.len() > KEPT {
            self.lanes.remove(&lane);
        }
        Some(work)
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.committed.len() + self.waiting
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(in crate::engine) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::Digest;

    use super::*;
    use crate::engine::memory::slots::Slots;
    use crate::store::InstanceKey;

    #[test]
    fn a_module_with_many_that_are_ready_holds_another_up_for_one_turn() {
        let slots = Slots::new(1, 1);
        let ready = |key: i64, module: Option<u8>| {
            let slot = slots.slot(InstanceKey(key));
            slot.is_of(module.map(|n| Digest([n; 32])));
            Work::Run(slot)
        };
        let mut lanes = Lanes::default();
        (0..1_000).for_each(|key| lanes.push(ready(key, Some(1))));
        lanes.push(ready(1_000, Some(2)));
        lanes.push(ready(1_001, None));
        lanes.push(Work::Collect);
        lanes.push(ready(1_002, Some(2)));
        assert_eq!(lanes.len(), 1_004);
        let mut taken = Vec::new();
        while let Some(work) = lanes.pop() {
            taken.push(match work {
                Work::Run(slot) => slot.key.0,
                _ => -1,
            });
        }
        assert_eq!(taken[..8], [0, 1_000, 1_001, -1, 1, 1_002, 2, 3]);
        assert_eq!((taken.len(), lanes.is_empty()), (1_004, true));
    }
}
