//! File descriptors: how many there may be, and a reserve for what keeps a host alive.
//!
//! The system gives the lowest number that is free. So the number of a file or socket that was just opened says that at least as many are
//! in use: nothing has to be counted, whoever opened them.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::shortage::{self, Shortage};

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

/// The fewest descriptors with which a host answers while it runs instances.
const DESCRIPTORS_MIN: u64 = 48;

/// The least address space (`ulimit -v`) in which a host starts and compiles, with what its allocator sets aside.
const ADDRESS_SPACE_MIN: u64 = 1 << 30;

/// The least data (`ulimit -d`): as address space, without files and code.
const DATA_MIN: u64 = 512 << 20;

/// The least memory of a control group.
const GROUP_MEMORY_MIN: u64 = 64 << 20;

/// Whether the limits of this process leave a host what it needs to start at all. What it needs to run depends on its modules.
///
/// `perennial serve` asks when it starts. A program that embeds a host does well to ask too, and to ignore SIGXFSZ: where a limit of file
/// sizes (`ulimit -f`) is met, that signal ends a process which does not; one that does treats it as a full disk.
///
/// # Errors
/// Which limit is too low, what it is, and the least that it must be.
pub fn check_process_limits() -> Result<(), Shortage> {
    let of = |resource| getrlimit(resource).current;
    let limits = [
        (
            shortage::Resource::Descriptors,
            "files and sockets open (ulimit -n)",
            of(Resource::Nofile),
            DESCRIPTORS_MIN,
        ),
        (
            shortage::Resource::Memory,
            "bytes of address space (ulimit -v)",
            of(Resource::As),
            ADDRESS_SPACE_MIN,
        ),
        (
            shortage::Resource::Memory,
            "bytes of data (ulimit -d)",
            of(Resource::Data),
            DATA_MIN,
        ),
        (
            shortage::Resource::Memory,
            "bytes of memory in its control group (memory.max)",
            group_memory(),
            GROUP_MEMORY_MIN,
        ),
    ];
    for (resource, what, is, least) in limits {
        if let Some(is) = is.filter(|is| *is < least) {
            let message = format!("this process may have {is} {what}; it needs {least} at least");
            return Err(Shortage::new(resource, message));
        }
    }
    Ok(())
}

/// What the control group of this process may use, where it is in one that is bounded.
fn group_memory() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let file = format!("/sys/fs/cgroup{}/memory.max", own.trim_end_matches('/'));
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether this process may make files only so large.
pub(crate) fn files_are_bounded() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}

/// Whether whoever would open something now were given one of the descriptors that are reserved.
pub(crate) fn are_short() -> bool {
    match std::io::stderr().as_fd().try_clone_to_owned() {
        Ok(probe) => is_in_reserve(probe),
        Err(error) => shortage::Resource::of_io(&error) == shortage::Resource::Descriptors,
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
