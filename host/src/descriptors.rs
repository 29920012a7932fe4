//! File descriptors: their limit, and a reserve that keeps the host working.
//!
//! The system assigns the lowest free number. So the number of a newly opened file or socket is a lower bound for the descriptors in use,
//! and nothing has to be counted.

use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::shortage::{self, Shortage};

/// Descriptors kept for the store, the compile cache and a few health checks; connections and guests do not use them. At most a quarter of
/// the limit.
const RESERVE: u64 = 96;

/// Raises this process's limit of open files and sockets to the system's maximum. Returns the new limit, or `None` if there is none.
///
/// `perennial serve` calls this when it starts. A program that embeds a host may call it too, unless it uses `select`, which cannot handle
/// descriptors above 1,023.
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

/// The fewest descriptors with which a host can answer requests while it runs instances.
const DESCRIPTORS_MIN: u64 = 48;

/// The least address space (`ulimit -v`) in which a host starts and compiles, including what its allocator reserves.
const ADDRESS_SPACE_MIN: u64 = 1 << 30;

/// The least data segment (`ulimit -d`): as the address space, without files and code.
const DATA_MIN: u64 = 512 << 20;

/// The least memory limit of a control group.
const GROUP_MEMORY_MIN: u64 = 64 << 20;

/// Checks that the limits of this process let a host start. What it needs to run depends on its modules.
///
/// `perennial serve` calls this when it starts. A program that embeds a host should call it too, and should ignore SIGXFSZ: when a file
/// reaches its size limit (`ulimit -f`), that signal ends the process. If the process ignores the signal, the host treats the limit as a
/// full disk.
///
/// # Errors
/// The error names the limit that is too low, its value, and the least that is needed.
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

/// The memory limit of this process's control group, if it has one.
fn group_memory() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let file = format!("/sys/fs/cgroup{}/memory.max", own.trim_end_matches('/'));
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether the process has a limit of file sizes.
pub(crate) fn files_are_bounded() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}

/// Whether the next descriptor would be one of the reserve.
pub(crate) fn are_short() -> bool {
    match std::io::stderr().as_fd().try_clone_to_owned() {
        Ok(probe) => is_in_reserve(probe),
        Err(error) => shortage::Resource::of_io(&error) == shortage::Resource::Descriptors,
    }
}

/// Whether a newly opened descriptor is one of the reserve. The caller should close it if it can do without.
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
