//! Fair order of computing attempts: the module with the least processor time lately is next, and within it the instance with the least.
//!
//! Each module and instance has a virtual time that advances while it computes. A newcomer starts at the time of the one that computed
//! last, so unused time is not saved up, and no other has to make up for it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use perennial_core::Digest;

use crate::store::InstanceKey;

/// Idle members that have used more than the others are remembered, at most this many per module.
const REMEMBERED_MAX: usize = 1_024;

/// The owner of a computation: an instance, and the module that it is pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Owner {
    pub(in crate::engine) module: Option<Digest>,
    pub(in crate::engine) key: InstanceKey,
}

/// Attempts that wait to compute, and their order.
#[derive(Debug, Default)]
pub(in crate::engine) struct Shares {
    modules: Line<Option<Digest>>,
    instances: HashMap<Option<Digest>, Line<InstanceKey>>,
    waiting: HashMap<(Option<Digest>, InstanceKey), VecDeque<u64>>,
}

impl Shares {
    /// Adds a waiting ticket behind the others of its instance.
    pub(in crate::engine) fn push(&mut self, owner: Owner, ticket: u64) {
        let waiting = self.waiting.entry((owner.module, owner.key)).or_default();
        waiting.push_back(ticket);
        if waiting.len() > 1 {
            return;
        }
        self.line(owner.module).wait(owner.key, ticket);
        self.modules.wait(owner.module, ticket);
    }

    /// The owner that is next.
    pub(in crate::engine) fn first(&self) -> Option<Owner> {
        let module = self.modules.first()?;
        let key = self.instances.get(&module)?.first()?;
        Some(Owner { module, key })
    }

    /// Takes the next ticket. Its owner counts as computing from now on.
    pub(in crate::engine) fn pop(&mut self) -> Option<(Owner, u64)> {
        let owner = self.first()?;
        let ticket = self
            .waiting
            .get_mut(&(owner.module, owner.key))?
            .pop_front()?;
        self.begin(owner);
        self.settle(owner);
        Some((owner, ticket))
    }

    /// Removes a waiting ticket.
    pub(in crate::engine) fn remove(&mut self, owner: Owner, ticket: u64) {
        if let Some(waiting) = self.waiting.get_mut(&(owner.module, owner.key)) {
            waiting.retain(|other| *other != ticket);
        }
        self.settle(owner);
    }

    /// Counts the owner as computing, without a ticket.
    pub(in crate::engine) fn begin(&mut self, owner: Owner) {
        self.modules.begin(owner.module);
        self.line(owner.module).begin(owner.key);
    }

    /// Records that an owner has computed for this long.
    pub(in crate::engine) fn end(&mut self, owner: Owner, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.modules.end(owner.module, nanos);
        self.line(owner.module).end(owner.key, nanos);
        self.settle(owner);
    }

    /// The number of running polls of an owner.
    pub(in crate::engine) fn computing(&self, owner: Owner) -> u32 {
        let of_module = self.instances.get(&owner.module);
        of_module.map_or(0, |line| line.computing(owner.key))
    }

    fn line(&mut self, module: Option<Digest>) -> &mut Line<InstanceKey> {
        self.instances.entry(module).or_default()
    }

    /// Removes an owner without waiting tickets from the order, and drops state that is no longer needed.
    fn settle(&mut self, owner: Owner) {
        let place = (owner.module, owner.key);
        if self.waiting.get(&place).is_none_or(VecDeque::is_empty) {
            self.waiting.remove(&place);
            if let Some(line) = self.instances.get_mut(&owner.module) {
                line.leave(owner.key);
                if line.order.is_empty() {
                    self.modules.leave(owner.module);
                }
                if line.members.is_empty() {
                    self.instances.remove(&owner.module);
                }
            }
        }
        if self.waiting.is_empty() && self.modules.members.values().all(|one| one.computing == 0) {
            // If no attempt waits or computes, no history matters.
            *self = Self::default();
        }
    }
}

/// Members that share processor time, each with its virtual time.
#[derive(Debug)]
struct Line<K> {
    /// The virtual time of the member that computed last.
    now: u64,
    members: HashMap<K, Member>,
    /// Members with waiting tickets.
    order: BTreeSet<(Member, K)>,
}

/// Sorted by its fields; the least is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    /// Virtual time, in nanoseconds.
    time: u64,
    computing: u32,
    /// The ticket with which it began to wait.
    ticket: u64,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Self {
            now: 0,
            members: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Eq + Hash + Ord> Line<K> {
    fn first(&self) -> Option<K> {
        self.order.first().map(|(_, key)| *key)
    }

    fn computing(&self, key: K) -> u32 {
        self.members.get(&key).map_or(0, |member| member.computing)
    }

    fn wait(&mut self, key: K, ticket: u64) {
        self.forget();
        let now = self.now;
        let member = self.members.entry(key).or_default();
        if self.order.contains(&(*member, key)) {
            return;
        }
        member.time = member.time.max(now);
        member.ticket = ticket;
        self.order.insert((*member, key));
    }

    fn begin(&mut self, key: K) {
        let now = self.now;
        self.change(key, |member| {
            member.time = member.time.max(now);
            member.computing += 1;
        });
        let time = self.members.get(&key).map_or(now, |member| member.time);
        self.now = now.max(time);
    }

    fn end(&mut self, key: K, nanos: u64) {
        self.change(key, |member| {
            member.time = member.time.saturating_add(nanos);
            member.computing = member.computing.saturating_sub(1);
        });
    }

    /// Changes a member, and its position in the order.
    fn change(&mut self, key: K, change: impl FnOnce(&mut Member)) {
        let member = self.members.entry(key).or_default();
        let waits = self.order.remove(&(*member, key));
        change(member);
        if waits {
            self.order.insert((*member, key));
        }
    }

    /// Removes a member without waiting tickets from the order.
    fn leave(&mut self, key: K) {
        let Some(member) = self.members.get(&key) else {
            return;
        };
        self.order.remove(&(*member, key));
        if member.computing == 0 && member.time <= self.now {
            self.members.remove(&key);
        }
    }

    /// Drops idle members when there are many. When they return, they start at the least time of those dropped, or later.
    fn forget(&mut self) {
        if self.members.len() < REMEMBERED_MAX.max(2 * self.order.len()) {
            return;
        }
        let order = &self.order;
        let is_idle =
            |key: &K, member: &Member| member.computing == 0 && !order.contains(&(*member, *key));
        let idle = self.members.iter();
        let idle = idle.filter(|(key, member)| is_idle(key, member));
        let first = idle.map(|(_, member)| member.time).min();
        self.now = self.now.max(first.unwrap_or_default());
        self.members.retain(|key, member| !is_idle(key, member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn owner(module: u8, key: i64) -> Owner {
        Owner {
            module: Some(Digest([module; 32])),
            key: InstanceKey(key),
        }
    }

    /// Something computes for so long, each time that it is its turn; it waits again at once.
    fn run(shares: &mut Shares, turns: usize, took: impl Fn(Owner) -> Duration) -> Vec<i64> {
        let turns = 0..turns;
        let run = turns.map(|_| {
            let (owner, ticket) = shares.pop().unwrap();
            shares.push(owner, ticket + 1_000_000);
            shares.end(owner, took(owner));
            owner.key.0
        });
        run.collect()
    }

    fn count(of: i64, all: &[i64]) -> usize {
        all.iter().filter(|key| **key == of).count()
    }

    #[test]
    fn an_instance_with_one_waits_for_one_of_another_with_many() {
        let mut shares = Shares::default();
        (0..100).for_each(|n| shares.push(owner(1, 1), n));
        assert_eq!(run(&mut shares, 50, |_| 5 * MS), vec![1; 50]);
        shares.push(owner(1, 2), 5_000);
        let next = run(&mut shares, 4, |_| 5 * MS);
        assert_eq!(count(2, &next), 2, "{next:?}");
    }

    #[test]
    fn whoever_computes_longer_comes_more_rarely() {
        let mut shares = Shares::default();
        for n in 0..40 {
            shares.push(owner(1, n % 4), u64::try_from(n).unwrap());
        }
        let took = |owner: Owner| if owner.key.0 == 0 { 30 * MS } else { 10 * MS };
        let keys = run(&mut shares, 1_000, took);
        assert!(count(0, &keys).abs_diff(100) <= 2, "{}", count(0, &keys));
        assert!(count(1, &keys).abs_diff(300) <= 2, "{}", count(1, &keys));
    }

    #[test]
    fn a_module_with_many_instances_has_no_more_than_one_with_one() {
        let mut shares = Shares::default();
        (0..50).for_each(|n| shares.push(owner(1, n), 1));
        shares.push(owner(2, 100), 1);
        let keys = run(&mut shares, 200, |_| MS);
        assert!(count(100, &keys).abs_diff(100) <= 1);
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut shares = Shares::default();
        shares.push(owner(1, 1), 1);
        shares.push(owner(1, 2), 2);
        run(&mut shares, 1_000, |_| MS);
        shares.push(owner(1, 3), 3);
        let keys = run(&mut shares, 300, |_| MS);
        assert!(count(3, &keys).abs_diff(100) <= 1, "{}", count(3, &keys));
    }

    #[test]
    fn those_that_come_and_go_hold_nobody_up() {
        let mut shares = Shares::default();
        shares.push(owner(1, 0), 0);
        run(&mut shares, 10, |_| 5 * MS);
        // Each of many others computes once, and another is there by then.
        let mut waited = 0;
        for key in 1..20_000 {
            let ticket = u64::try_from(key).unwrap();
            shares.push(owner(1, key), ticket);
            let (first, _) = shares.pop().unwrap();
            shares.end(first, MS);
            if first.key.0 == 0 {
                waited = 0;
                shares.push(owner(1, 0), ticket);
            } else {
                waited += 1;
            }
            assert!(waited < 8 * REMEMBERED_MAX, "{key}");
        }
        let line = &shares.instances[&owner(1, 0).module];
        assert!(line.members.len() <= 3 * REMEMBERED_MAX.max(line.order.len()));
    }

    #[test]
    fn nothing_is_kept_of_what_is_over() {
        let mut shares = Shares::default();
        for n in 0..10 {
            shares.push(owner(1, n), 1);
            shares.push(owner(2, n), 2);
        }
        shares.remove(owner(2, 0), 2);
        assert_eq!(shares.computing(owner(1, 0)), 0);
        while let Some((owner, _)) = shares.pop() {
            assert_eq!(shares.computing(owner), 1);
            shares.end(owner, MS);
        }
        assert!(shares.modules.members.is_empty() && shares.instances.is_empty());
    }
}
