//! Fair queue of activity attempts. The next place goes to the module with the fewest running attempts, and within it to the instance with
//! the fewest, so that an instance with a hundred thousand queued attempts does not block others.
//!
//! Running attempts are not preempted. So some places stay free for instances that have none, and the more places an instance has, the more
//! it must leave free: a single instance gets seven of eight. If all places are taken all the same, the next free one goes to the instance
//! with the fewest, which waits no longer than one attempt of others.

use std::collections::{BTreeSet, HashMap, VecDeque};

use perennial_core::{Digest, TaskRef};

use crate::engine::tasks::ready::AttemptKey;
use crate::store::InstanceKey;

/// Below this number of places none is kept free: a host configured with so few wants to use them all.
const SHARED_MIN: usize = 16;

/// Attempts that may run, by instance, and the order of instances and modules.
///
/// An entry may be out of date. After [`next`](Self::next) the caller checks that the attempt still waits, and otherwise returns the place.
#[derive(Debug, Default)]
pub(in crate::engine) struct FairQueue {
    /// Total number of places.
    places: usize,
    /// Number of places in use.
    taken: usize,
    /// A counter that orders instances and modules by when they last queued or got a place.
    turns: u64,
    modules: HashMap<Option<Digest>, OfModule>,
    /// Modules with queued attempts.
    order: BTreeSet<(Standing, Option<Digest>)>,
    module_max: Option<usize>,
}

/// The sort key of a module or instance: its running attempts, then its turn. The least is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    running: usize,
    turn: u64,
}

#[derive(Debug, Default)]
struct OfModule {
    standing: Standing,
    instances: HashMap<InstanceKey, OfInstance>,
    /// Instances of the module with queued attempts.
    order: BTreeSet<(Standing, InstanceKey)>,
}

#[derive(Debug, Default)]
struct OfInstance {
    standing: Standing,
    waiting: VecDeque<(TaskRef, u32)>,
}

/// The owner of a place. Return the place with [`FairQueue::ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Holder {
    key: InstanceKey,
    module: Option<Digest>,
}

impl FairQueue {
    /// Creates a queue with `places` places, of which the instances of one module have at most `module_max`.
    pub(in crate::engine) fn new(places: usize, module_max: Option<usize>) -> Self {
        Self {
            places,
            module_max,
            ..Self::default()
        }
    }

    /// Queues an attempt behind the others of its instance.
    pub(in crate::engine) fn push(
        &mut self,
        (key, task): AttemptKey,
        attempt: u32,
        module: Option<Digest>,
    ) {
        self.turns += 1;
        let turn = self.turns;
        self.change(Holder { key, module }, |of_module, instance, is_first| {
            if is_first {
                of_module.turn = turn;
            }
            if instance.waiting.is_empty() {
                instance.standing.turn = turn;
            }
            instance.waiting.push_back((task, attempt));
        });
    }

    /// Takes the next attempt and a place for it.
    pub(in crate::engine) fn next(&mut self) -> Option<(AttemptKey, u32, Holder)> {
        let next = |(_, module): &(Standing, Option<Digest>)| self.next_of(*module);
        let holder = self.order.iter().find_map(next)?;
        self.turns += 1;
        self.taken += 1;
        let turn = self.turns;
        let (task, attempt) = self.change(holder, |of_module, instance, _| {
            for standing in [of_module, &mut instance.standing] {
                standing.running += 1;
                standing.turn = turn;
            }
            instance.waiting.pop_front()
        })?;
        Some(((holder.key, task), attempt, holder))
    }

    /// The instance of a module that gets the next place, if one may have it.
    fn next_of(&self, module: Option<Digest>) -> Option<Holder> {
        let of_module = self.modules.get(&module)?;
        let has = of_module.standing.running;
        if self.module_max.is_some_and(|max| has >= max) {
            return None;
        }
        // The first instance has the fewest places: if it may not have another, no instance of the module may.
        let (standing, key) = of_module.order.first()?;
        let may = self.may_have_another(has, standing.running);
        may.then_some(Holder { key: *key, module })
    }

    /// Whether a module with `of_module` places and its instance with `of_instance` places may have one of the free ones.
    ///
    /// Some places are reserved for instances that have few, and part of those for modules that have none. The fewer are left, the fewer an
    /// instance or module may have to get another.
    fn may_have_another(&self, of_module: usize, of_instance: usize) -> bool {
        let left = self.places.saturating_sub(self.taken);
        if left == 0 || of_module == 0 || self.places < SHARED_MIN {
            return left > 0;
        }
        let (for_instances, for_modules) = (self.places / 8, self.places / 32);
        let for_instances = for_instances - for_modules;
        // A single instance stops exactly when the reserved number of places is left.
        let may = |has: usize, left: usize, kept: usize, most: usize| {
            kept == 0 || has * kept < most * left
        };
        let most = self.places - for_modules;
        left > for_modules
            && may(of_module, left, for_modules, most)
            && may(
                of_instance,
                left - for_modules,
                for_instances,
                most - for_instances,
            )
    }

    /// Returns a place.
    pub(in crate::engine) fn ended(&mut self, holder: Holder) {
        self.taken -= 1;
        self.change(holder, |of_module, instance, _| {
            of_module.running -= 1;
            instance.standing.running -= 1;
        });
    }

    /// Changes the sort keys of an instance and its module. `change` is told whether the module has no queued attempts.
    fn change<T>(
        &mut self,
        Holder { key, module }: Holder,
        change: impl FnOnce(&mut Standing, &mut OfInstance, bool) -> T,
    ) -> T {
        let of_module = self.modules.entry(module).or_default();
        let is_first = of_module.order.is_empty();
        self.order.remove(&(of_module.standing, module));
        let instance = of_module.instances.entry(key).or_default();
        of_module.order.remove(&(instance.standing, key));
        let done = change(&mut of_module.standing, instance, is_first);
        if !instance.waiting.is_empty() {
            of_module.order.insert((instance.standing, key));
        } else if instance.standing.running == 0 {
            of_module.instances.remove(&key);
        }
        if !of_module.order.is_empty() {
            self.order.insert((of_module.standing, module));
        } else if of_module.instances.is_empty() {
            self.modules.remove(&module);
        }
        done
    }

    /// Removes all queued attempts.
    pub(in crate::engine) fn clear(&mut self) {
        self.order.clear();
        for of_module in self.modules.values_mut() {
            of_module.order.clear();
            let instances = of_module.instances.values_mut();
            instances.for_each(|instance| instance.waiting.clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_core::TaskId;

    use super::*;

    fn place(key: i64, task: u32) -> AttemptKey {
        let task = TaskRef {
            execution: 0,
            generation: 0,
            task: TaskId(task),
        };
        (InstanceKey(key), task)
    }

    fn module(n: u8) -> Option<Digest> {
        Some(Digest([n; 32]))
    }

    impl FairQueue {
        fn many(&mut self, key: i64, module: Option<Digest>, count: u32) {
            (0..count).for_each(|task| self.push(place(key, task), 1, module));
        }

        /// The instances that are given places until nobody may have another, in order.
        fn begun(&mut self) -> Vec<(i64, Holder)> {
            std::iter::from_fn(|| self.next().map(|((key, _), _, holder)| (key.0, holder)))
                .collect()
        }

        fn taken_by(&mut self) -> Vec<i64> {
            self.begun().into_iter().map(|(key, _)| key).collect()
        }
    }

    fn count(of: i64, all: &[i64]) -> usize {
        all.iter().filter(|key| **key == of).count()
    }

    #[test]
    fn instances_take_turns_and_each_keeps_its_order() {
        let mut order = FairQueue::new(6, None);
        order.many(1, None, 1_000);
        order.many(2, None, 2);
        let first: Vec<_> = std::iter::from_fn(|| order.next())
            .map(|((key, task), _, _)| (key.0, task.task.0))
            .collect();
        assert_eq!(first, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn an_instance_that_is_alone_has_seven_of_eight_places_and_a_newcomer_finds_one() {
        for (places, most) in [(1, 1), (8, 8), (15, 15), (16, 14), (64, 56), (1_000, 875)] {
            let mut order = FairQueue::new(places, None);
            order.many(1, module(1), 100_000);
            assert_eq!(order.taken_by().len(), most, "of {places}");
            // One of the same module, and one of another.
            if most < places {
                order.many(2, module(1), 1);
                order.many(3, module(2), 1);
                assert_eq!(count(2, &order.taken_by()), 1, "of {places}");
            }
        }
    }

    #[test]
    fn a_module_with_many_instances_leaves_places_to_others() {
        let mut order = FairQueue::new(64, None);
        (0..1_000).for_each(|key| order.many(key, module(1), 100));
        assert_eq!(order.taken_by().len(), 62);
        order.many(5_000, module(2), 100);
        order.many(6_000, module(3), 100);
        assert_eq!(order.taken_by(), [5_000, 6_000]);
    }

    #[test]
    fn a_place_that_is_given_back_goes_to_whoever_has_fewest() {
        let mut order = FairQueue::new(8, None);
        order.many(1, module(1), 100_000);
        let all = order.begun();
        assert_eq!(all.len(), 8);
        (2..6).for_each(|key| order.many(key, module(1), 10));
        for (_, holder) in &all[..4] {
            order.ended(*holder);
        }
        assert_eq!(order.taken_by(), [2, 3, 4, 5]);
        for (_, holder) in &all[4..] {
            order.ended(*holder);
        }
        // By now all five want one more.
        assert_eq!(order.taken_by(), [1, 2, 3, 4]);
    }

    #[test]
    fn shares_come_to_be_equal_however_they_began() {
        let mut order = FairQueue::new(64, None);
        order.many(1, module(1), 100_000);
        let mut running: VecDeque<(i64, Holder)> = order.begun().into();
        order.many(2, module(1), 100_000);
        order.many(3, module(2), 100_000);
        for _ in 0..1_000 {
            running.extend(order.begun());
            let (_, holder) = running.pop_front().unwrap();
            order.ended(holder);
        }
        running.extend(order.begun());
        let keys: Vec<i64> = running.into_iter().map(|(key, _)| key).collect();
        let [one, two, three] = [1, 2, 3].map(|key| count(key, &keys));
        // A module with one instance has no less for it than one with two has for each.
        assert!(three >= one.max(two), "{one} {two} {three}");
        assert!(one.abs_diff(two) <= 2, "{one} {two} {three}");
        assert!(one + two + three >= 56, "{one} {two} {three}");
    }

    #[test]
    fn a_module_has_no_more_running_than_it_may_and_holds_nobody_else_up() {
        let mut order = FairQueue::new(8, Some(2));
        order.many(1, module(1), 4);
        order.many(2, module(1), 4);
        order.many(3, module(2), 1);
        let begun = order.begun();
        let keys: Vec<i64> = begun.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [1, 3, 2]);
        order.ended(begun[0].1);
        assert_eq!(order.taken_by(), [1]);
    }

    #[test]
    fn nothing_is_kept_of_what_is_over() {
        let mut order = FairQueue::new(8, None);
        order.many(1, module(1), 20);
        loop {
            let begun = order.begun();
            if begun.is_empty() {
                break;
            }
            begun
                .into_iter()
                .for_each(|(_, holder)| order.ended(holder));
        }
        assert!(order.modules.is_empty() && order.order.is_empty());
        assert_eq!(order.taken, 0);
    }
}
