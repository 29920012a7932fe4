//! File descriptors: how many there may be, and a reserve for what keeps a host alive.
//!
//! The system gives the lowest number that is free. So the number of a file or socket that was just opened says that at least as many are
//! in use: nothing has to be counted, whoever opened them.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::want;

/// Descriptors that callers and guests leave alone, for the store, the compile cache, and a few connections that ask whether the host is
/// alive. Where there are few at all it is a quarter of them.
const RESERVE: u64 = 96;

/// Raises the number of files and sockets that this process may have open to what the system allows it. What it is then, `None` if there is
/// no bound.
///
/// `perennial serve` does so when it starts. A program that embeds a host may do it too, unless it uses `select`, which knows no descriptor
/// beyond 1,023.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            limit.current
        }
    }
}

/// Whether whoever would open something now were given one of the descriptors that are reserved.
pub(crate) fn are_short() -> bool {
    match std::io::stderr().as_fd().try_clone_to_owned() {
        Ok(probe) => is_in_reserve(probe),
        Err(error) => want::Resource::of_io(&error) == want::Resource::Descriptors,
    }
}

/// Whether what was just opened is one of the last that there are, which are reserved: whoever can do without it closes it.
pub(crate) fn is_in_reserve(opened: impl AsFd) -> bool {
    let number = u64::try_from(opened.as_fd().as_raw_fd()).unwrap_or(0);
    getrlimit(Resource::Nofile)
        .current
        .is_some_and(|limit| reserved(number, limit))
}

fn reserved(number: u64, limit: u64) -> bool {
    number >= limit - RESERVE.min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_reserved() {
        assert!(!reserved(1_024 - RESERVE - 1, 1_024));
        assert!(reserved(1_024 - RESERVE, 1_024));
        assert!(!reserved(59, 80));
        assert!(reserved(60, 80));
        let file = tempfile::tempfile().unwrap();
        assert!(!is_in_reserve(&file));
    }
}
