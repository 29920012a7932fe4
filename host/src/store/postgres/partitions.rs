//! Which rows belong to some partitions, as parameters of queries.
//!
//! The partition of an instance is in the upper bits of its key, so that rows by key are in ranges, and in a column of its own where an
//! index begins with it. A hub of one partition may have any keys: those of one that was copied from a file are only numbers.

use std::collections::BTreeSet;

use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::create::PARTITIONS;
use crate::store::types::InstanceKey;

/// Ranges of keys, first and last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) low: Vec<i64>,
    pub(super) high: Vec<i64>,
}

/// The keys of instances in some partitions: as few ranges as there can be, in order.
pub(super) fn ranges(of: &Partitions) -> Ranges {
    if of.is_all() {
        return Ranges {
            low: vec![i64::MIN],
            high: vec![i64::MAX],
        };
    }
    let mut ranges = Ranges::default();
    for one in of.iter() {
        let (InstanceKey(first), InstanceKey(last)) = Partitions::keys(one);
        match ranges.high.last_mut() {
            Some(high) if *high == first - 1 => *high = last,
            _ => {
                ranges.low.push(first);
                ranges.high.push(last);
            }
        }
    }
    ranges
}

/// The numbers that the rows of some partitions have in a column `partition`.
pub(super) fn numbers(of: &Partitions) -> Vec<i16> {
    match of.count() {
        1 if of.has(Partition(0)) => (0..PARTITIONS).collect(),
        _ => of.iter().map(number).collect(),
    }
}

/// As [`numbers`]; `None` for all partitions, which is no condition.
pub(super) fn unless_all(of: &Partitions) -> Option<Vec<i16>> {
    (!of.is_all()).then(|| numbers(of))
}

/// The number of a partition in a row.
pub(super) fn number(of: Partition) -> i16 {
    of.0.cast_signed()
}

/// The partition with a number of a row.
pub(super) fn partition(number: i16) -> Partition {
    Partition(number.cast_unsigned())
}

/// What a notification says that is about some partitions.
pub(super) fn payload(about: impl IntoIterator<Item = Partition>) -> String {
    let about: BTreeSet<Partition> = about.into_iter().collect();
    let numbers: Vec<String> = about.iter().map(|one| one.0.to_string()).collect();
    numbers.join(",")
}

/// Whether a notification is about some partitions. One that says nothing is about all.
pub(super) fn is_about(payload: &str, which: &Partitions) -> bool {
    let mut numbers = payload.split(',').map(str::parse);
    payload.is_empty() || numbers.any(|one| one.is_ok_and(|one| which.has(Partition(one))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_follow_one_another_are_one_range() {
        let some = |of: &[u16]| ranges(&Partitions::some(8, of.iter().copied().map(Partition)));
        let at = |number: i64| number << 53;
        let expected = Ranges {
            low: vec![at(1), at(4)],
            high: vec![at(3) - 1, at(5) - 1],
        };
        assert_eq!(some(&[1, 2, 4]), expected);
        assert_eq!(some(&[]), Ranges::default());
        let all = ranges(&Partitions::all(8));
        assert_eq!((all.low, all.high), (vec![i64::MIN], vec![i64::MAX]));
        let last = ranges(&Partitions::some(1_024, [Partition(1_023)]));
        assert_eq!(last.high, [i64::MAX]);
    }

    #[test]
    fn a_hub_of_one_partition_has_keys_of_any() {
        assert_eq!(numbers(&Partitions::all(1)).len(), 64);
        assert_eq!(numbers(&Partitions::some(1, [])), Vec::<i16>::new());
        assert_eq!(numbers(&Partitions::some(4, [Partition(2)])), [2]);
        assert_eq!(unless_all(&Partitions::all(4)), None);
    }

    #[test]
    fn a_notification_says_whom_it_is_about() {
        let some = Partitions::some(64, [Partition(3), Partition(17)]);
        let said = payload([17, 5, 5].map(Partition));
        assert_eq!(said, "5,17");
        assert!(is_about(&said, &some) && is_about("", &some));
        assert!(!is_about("5,18", &some) && !is_about("what is this", &some));
    }
}
