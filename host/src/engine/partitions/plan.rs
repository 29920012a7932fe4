//! How the hosts that share a hub divide its partitions among themselves.
//!
//! There is no leader. Each host looks at who lives and who has what, and everybody who sees the same computes the same division: as equal as
//! possible, by the order of epochs. A host takes what nobody has until it has its share, and gives away only what it has beyond its share,
//! to those who have less than theirs.

use crate::store::{Members, Partition};

/// What a host has to do after a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Partitions to take: nobody has them.
    pub(super) take: Vec<Partition>,
    /// How many partitions to give to which owners.
    pub(super) give: Vec<(i64, usize)>,
    /// How many partitions this host lacks.
    pub(super) lacks: usize,
}

/// What `members.me` has to do.
pub(super) fn plan(members: &Members) -> Plan {
    let Some(me) = members.owners.iter().position(|of| of.epoch == members.me) else {
        // It was declared dead.
        return Plan::default();
    };
    // One that is about to stop gives all that it has to the others, if there are any, and so does one that lacks what it needs.
    let note = |owner: &usize| &members.owners[*owner].note;
    let mut staying: Vec<usize> = (0..members.owners.len())
        .filter(|owner| !note(owner).leaves)
        .collect();
    if staying.iter().any(|owner| note(owner).lacks.is_none()) {
        staying.retain(|owner| note(owner).lacks.is_none());
    }
    let count = staying.len();
    if count == 0 {
        return Plan::default();
    }
    let held: Vec<usize> = members
        .owners
        .iter()
        .map(|of| of.partitions.len())
        .collect();
    let all = held.iter().sum::<usize>() + members.free.len();
    let share = |owner: usize| match staying.binary_search(&owner) {
        Ok(place) => all / count + usize::from(place < all % count),
        Err(_) => 0,
    };
    let lacks = |owner: usize| share(owner).saturating_sub(held[owner]);
    let beyond = |owner: usize| held[owner].saturating_sub(share(owner));
    // Who lacks some, in order; what is free fills the first of these places, and what others give the rest.
    let places: Vec<usize> = (0..members.owners.len())
        .flat_map(|owner| std::iter::repeat_n(owner, lacks(owner)))
        .collect();
    let (to_take, to_get) = places.split_at(members.free.len().min(places.len()));
    let before_me = to_take.iter().filter(|owner| **owner < me).count();
    let mine = to_take.iter().filter(|owner| **owner == me).count();
    let given_before: usize = (0..me).map(beyond).sum();
    let mut give: Vec<(i64, usize)> = Vec::new();
    for to in to_get.iter().skip(given_before).take(beyond(me)) {
        let to = members.owners[*to].epoch;
        match give.last_mut() {
            Some((last, count)) if *last == to => *count += 1,
            _ => give.push((to, 1)),
        }
    }
    Plan {
        take: members
            .free
            .iter()
            .skip(before_me)
            .take(mine)
            .copied()
            .collect(),
        give,
        lacks: lacks(me),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use perennial_core::Millis;

    use super::*;
    use crate::store::{Member, OwnerNote};

    /// A hub whose owners have the epochs 1, 2, … and so many partitions each; the rest is free.
    fn members(me: i64, all: u16, held: &[u16]) -> Members {
        let mut next = (0..all).map(Partition);
        let owners = (1..).zip(held).map(|(epoch, count)| Member {
            epoch,
            note: OwnerNote::of_this_process("a test", None),
            silent_for: Millis(0),
            transactions: None,
            partitions: next.by_ref().take(usize::from(*count)).collect(),
        });
        Members {
            me,
            owners: owners.collect(),
            free: next.collect(),
            workers: Vec::new(),
        }
    }

    #[test]
    fn one_host_takes_all() {
        let plan = plan(&members(1, 64, &[0]));
        assert_eq!((plan.take.len(), plan.lacks), (64, 64));
        assert!(plan.give.is_empty());
    }

    #[test]
    fn a_host_that_is_about_to_stop_gives_all_to_the_others() {
        let mut two = members(1, 9, &[3, 3, 3]);
        two.owners[1].note.leaves = true;
        let staying = plan(&two);
        assert!(staying.take.is_empty() && staying.give.is_empty());
        assert_eq!(staying.lacks, 2);
        two.me = two.owners[1].epoch;
        let leaving = plan(&two);
        let (first, last) = (two.owners[0].epoch, two.owners[2].epoch);
        assert_eq!(leaving.give, [(first, 2), (last, 1)]);
        // What is free goes to those that stay; if nobody stays, all is as it was.
        let mut free = members(2, 4, &[1, 0]);
        free.owners[1].note.leaves = true;
        assert_eq!(plan(&free), Plan::default());
        free.me = free.owners[0].epoch;
        assert_eq!(plan(&free).take.len(), 3);
        free.owners[0].note.leaves = true;
        assert_eq!(plan(&free), Plan::default());
    }

    #[test]
    fn a_host_that_lacks_something_gives_all_to_those_that_do_not_unless_all_do() {
        let mut three = members(2, 9, &[3, 3, 0]);
        three.owners[1].note.lacks = Some("memory".to_owned());
        // The first takes two of those that are free, and the last one.
        let last = three.owners[2].epoch;
        assert_eq!(plan(&three).give, [(last, 3)]);
        assert_eq!(plan(&three).take, []);
        // One that stops is worse than one that lacks something.
        three.owners[0].note.leaves = true;
        three.owners[2].note.lacks = Some("threads".to_owned());
        let short = plan(&three);
        assert_eq!((short.take.len(), short.give.len()), (2, 0));
    }

    #[test]
    fn a_host_that_was_declared_dead_does_nothing() {
        assert_eq!(plan(&members(3, 8, &[2, 2])), Plan::default());
    }

    #[test]
    fn a_second_host_gets_half() {
        assert_eq!(plan(&members(1, 64, &[64, 0])).give, [(2, 32)]);
        let second = plan(&members(2, 64, &[64, 0]));
        assert_eq!(
            (second.take.len(), second.give.len(), second.lacks),
            (0, 0, 32)
        );
    }

    /// Whatever is given away and taken at once by all who see the same leaves an equal division: no partition is taken twice, and nobody
    /// gets more than a share.
    #[test]
    fn all_hosts_together_reach_an_equal_division_at_once() {
        for all in [1u16, 2, 4, 7, 64] {
            for held in [
                vec![0],
                vec![0, 0],
                vec![all],
                vec![all, 0, 0],
                vec![0, all, 0],
                vec![all / 2, 0],
                vec![all / 2, all / 3, 0, 0],
                vec![0, all / 4, all / 4, all / 4],
                vec![1.min(all), 0, 0, 0, 0],
            ] {
                let owners = held.len() as i64;
                let mut count: BTreeMap<i64, usize> = (1..)
                    .zip(&held)
                    .map(|(epoch, n)| (epoch, usize::from(*n)))
                    .collect();
                let mut taken = Vec::new();
                for me in 1..=owners {
                    let plan = plan(&members(me, all, &held));
                    *count.get_mut(&me).unwrap() += plan.take.len();
                    taken.extend(plan.take);
                    for (to, given) in plan.give {
                        *count.get_mut(&me).unwrap() -= given;
                        *count.get_mut(&to).unwrap() += given;
                    }
                }
                let free = usize::from(all) - held.iter().map(|n| usize::from(*n)).sum::<usize>();
                taken.sort();
                taken.dedup();
                assert_eq!(taken.len(), free, "{all} {held:?}");
                let (least, most) = (count.values().min(), count.values().max());
                assert!(
                    most.unwrap() - least.unwrap() <= 1,
                    "{all} {held:?} {count:?}"
                );
            }
        }
    }
}
