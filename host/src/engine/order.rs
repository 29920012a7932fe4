//! Whose turn it is among activities that may run: each instance in turn, so that one with a hundred thousand of them holds nobody up.

use std::collections::{HashMap, VecDeque};

use perennial_core::{Digest, TaskRef};

use crate::engine::activities::Place;
use crate::store::InstanceKey;

/// Attempts that may run, by instance, and the instances in the order in which they come.
///
/// It may name what no longer waits: whoever takes something looks whether it still does.
#[derive(Debug, Default)]
pub(super) struct FairOrder {
    /// Each instance of `waiting` that is not held is here once.
    turns: VecDeque<InstanceKey>,
    waiting: HashMap<InstanceKey, Waiting>,
    /// Attempts that run, by module, where that is limited.
    running: HashMap<Option<Digest>, usize>,
    /// Instances whose module has as many running as it may.
    held: HashMap<Option<Digest>, VecDeque<InstanceKey>>,
    module_max: Option<usize>,
}

#[derive(Debug)]
struct Waiting {
    module: Option<Digest>,
    attempts: VecDeque<(TaskRef, u32)>,
}

impl FairOrder {
    /// At most so many at once of the instances of one module.
    pub(super) fn new(module_max: Option<usize>) -> Self {
        Self {
            module_max,
            ..Self::default()
        }
    }

    /// Adds an attempt, after those of its instance that wait already.
    pub(super) fn push(&mut self, (key, task): Place, attempt: u32, module: Option<Digest>) {
        let turns = &mut self.turns;
        let waiting = self.waiting.entry(key).or_insert_with(|| {
            turns.push_back(key);
            Waiting {
                module,
                attempts: VecDeque::new(),
            }
        });
        waiting.attempts.push_back((task, attempt));
    }

    /// Takes the next one, of a module that has room.
    pub(super) fn next(&mut self) -> Option<(Place, u32, Option<Digest>)> {
        while let Some(key) = self.turns.pop_front() {
            let Some(waiting) = self.waiting.get_mut(&key) else {
                continue;
            };
            let module = waiting.module;
            let running = self.running.get(&module).copied().unwrap_or(0);
            if self.module_max.is_some_and(|max| running >= max) {
                self.held.entry(module).or_default().push_back(key);
                continue;
            }
            let next = waiting.attempts.pop_front();
            if waiting.attempts.is_empty() {
                self.waiting.remove(&key);
            } else {
                self.turns.push_back(key);
            }
            if let Some((task, attempt)) = next {
                return Some(((key, task), attempt, module));
            }
        }
        None
    }

    /// One that was taken runs.
    pub(super) fn begun(&mut self, module: Option<Digest>) {
        if self.module_max.is_some() {
            *self.running.entry(module).or_default() += 1;
        }
    }

    /// One that ran does no longer: those that were held for it come next.
    pub(super) fn ended(&mut self, module: Option<Digest>) {
        if self.module_max.is_none() {
            return;
        }
        if let Some(running) = self.running.get_mut(&module) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(&module);
            }
        }
        for key in self.held.remove(&module).into_iter().flatten() {
            self.turns.push_back(key);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.turns.clear();
        self.waiting.clear();
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::TaskId;

    use super::*;

    fn place(key: i64, task: u32) -> Place {
        let task = TaskRef {
            execution: 0,
            generation: 0,
            task: TaskId(task),
        };
        (InstanceKey(key), task)
    }

    fn taken(order: &mut FairOrder) -> Option<(i64, u32)> {
        order.next().map(|((key, task), _, _)| (key.0, task.task.0))
    }

    #[test]
    fn instances_take_turns_and_each_keeps_its_order() {
        let mut order = FairOrder::new(None);
        for task in 0..1_000 {
            order.push(place(1, task), 1, None);
        }
        order.push(place(2, 0), 1, None);
        order.push(place(2, 1), 1, None);
        let first: Vec<_> = (0..6).filter_map(|_| taken(&mut order)).collect();
        assert_eq!(first, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn a_module_has_no_more_running_than_it_may_and_holds_nobody_else_up() {
        let (one, other) = (Some(Digest([1; 32])), Some(Digest([2; 32])));
        let mut order = FairOrder::new(Some(2));
        for task in 0..4 {
            order.push(place(1, task), 1, one);
            order.push(place(2, task), 1, one);
        }
        order.push(place(3, 0), 1, other);
        let begin = |order: &mut FairOrder| {
            let (place, _, module) = order.next()?;
            order.begun(module);
            Some((place.0.0, place.1.task.0))
        };
        assert_eq!(begin(&mut order), Some((1, 0)));
        assert_eq!(begin(&mut order), Some((2, 0)));
        assert_eq!(begin(&mut order), Some((3, 0)));
        assert_eq!(begin(&mut order), None);
        order.ended(one);
        assert_eq!(begin(&mut order), Some((1, 1)));
        assert_eq!(begin(&mut order), None);
        order.ended(one);
        order.ended(one);
        assert_eq!(begin(&mut order), Some((2, 1)));
        assert_eq!(begin(&mut order), Some((1, 2)));
        assert_eq!(begin(&mut order), None);
    }
}
