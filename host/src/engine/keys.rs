//! How many keys a host has for new instances of a hub that is divided: their numbers begin with that of the owner, so that no two give the same.

/// The keys of one owner.
const OF_OWNER: i64 = 1 << 32;

/// How many are left when a host ends for that: more than it gives to instances while it ends.
const KEPT: i64 = 1 << 22;

/// What a host says then.
pub(super) const USED_UP: &str = "this host has numbered almost 4,294,967,296 instances of the task hub, which is as many as one process may; it ends, and \
     other hosts go on. Start it again: it gets new numbers then";

/// Whether the host should end for lack of keys. That is so for one number of each owner.
pub(super) fn are_few_left(number: i64) -> bool {
    number & (OF_OWNER - 1) == OF_OWNER - KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_ends_once_and_before_it_gives_keys_of_the_next_owner() {
        for owner in [0, 1, (1 << 21) - 1] {
            let (first, next) = (owner << 32, (owner + 1) << 32);
            assert!(!are_few_left(first) && !are_few_left(next - 1));
            assert!(are_few_left(next - KEPT));
            assert!(!are_few_left(next - KEPT - 1) && !are_few_left(next - KEPT + 1));
        }
    }
}
