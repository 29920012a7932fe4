//! Shortages: resources that the host lacks at the moment, such as descriptors, memory, threads or disk space.
//!
//! Invariant: a shortage says nothing about an instance, a module or a request. The affected work is retried with a growing backoff until
//! the resource is there; nothing is quarantined and nothing fails because of it. Log lines about a shortage are rate-limited.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::outage::Outage;

/// How long a shortage is reported after it last occurred. Retries are more frequent than that.
const LASTS: Duration = Duration::from_secs(20);

/// How long a shortage must have lasted before it is taken to last on.
const LASTS_ON_AFTER: Duration = Duration::from_secs(10);

/// A limited resource that a process can run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Resource {
    /// Open files and sockets, of this process or of the whole system.
    Descriptors,
    /// Memory or address space.
    Memory,
    /// Threads.
    Threads,
    /// Disk space.
    Disk,
    /// A file or directory that cannot be used, because of its permissions for example.
    Files,
    /// The file of a task hub, which cannot be read or written at the moment.
    Hub,
    /// Any other resource of the host.
    Host,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "file descriptors",
            Self::Memory => "memory",
            Self::Threads => "threads",
            Self::Disk => "disk space",
            Self::Files => "access to a file",
            Self::Hub => "access to the task hub",
            Self::Host => "a resource",
        })
    }
}

impl Resource {
    /// Classifies an error of the operating system.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::of_errno(errno),
            None if error.kind() == io::ErrorKind::OutOfMemory => Self::Memory,
            None => Self::Files,
        }
    }

    fn of_errno(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE => Self::Descriptors,
            Errno::NOMEM => Self::Memory,
            Errno::AGAIN => Self::Threads,
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Self::Disk,
            _ => Self::Files,
        }
    }

    /// As [`of_io`](Self::of_io), for the first operating system error in a chain.
    pub(crate) fn in_chain(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                // An `io::Error` without a code only wraps another error.
                if error.raw_os_error().is_some() {
                    return Some(Self::of_io(error));
                }
                if let Some(found) = error.get_ref().and_then(|inner| Self::in_chain(inner)) {
                    return Some(found);
                }
            }
            if let Some(errno) = error.downcast_ref::<Errno>() {
                return Some(Self::of_errno(*errno));
            }
            next = error.source();
        }
        None
    }

    /// Whether the process itself has run out of it, so that no peer, guest or granted file can be the reason.
    pub(crate) fn is_of_process(self) -> bool {
        matches!(self, Self::Descriptors | Self::Memory | Self::Threads)
    }
}

/// An operation that failed because the host lacks a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Shortage {
    /// The missing resource.
    pub resource: Resource,
    /// A message for people that says what could not be done.
    pub message: String,
}

impl Shortage {
    /// An operation that `message` describes could not be done.
    pub fn new(resource: Resource, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { resource, message }
    }

    /// Prefixes the message with the operation that was under way.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }
}

/// The current shortages of a host.
#[derive(Debug, Default)]
pub(crate) struct Shortages(Mutex<BTreeMap<Resource, Lack>>);

#[derive(Debug, Default)]
struct Lack {
    said: Outage,
    /// When it occurred first, since it was over for a while, and last.
    first: Option<Instant>,
    last: Option<Instant>,
    message: String,
}

impl Shortages {
    /// Records a shortage and logs it, rate-limited.
    pub(crate) fn note(&self, shortage: &Shortage) {
        if let Some(unsaid) = self.noted_at(shortage, Instant::now()) {
            tracing::warn!(
                lacks = %shortage.resource,
                error = %shortage.message,
                unsaid,
                "the host lacks {}; what needs it waits, and is tried again",
                shortage.resource
            );
        }
    }

    /// Records a shortage that is logged elsewhere.
    pub(crate) fn notice(&self, shortage: &Shortage) {
        let _ = self.noted_at(shortage, Instant::now());
    }

    fn noted_at(&self, shortage: &Shortage, now: Instant) -> Option<u64> {
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lack = lacks.entry(shortage.resource).or_default();
        let is_over = |last: Instant| now.saturating_duration_since(last) >= LASTS;
        if lack.last.is_none_or(is_over) {
            lack.first = Some(now);
        }
        lack.last = Some(now);
        lack.message.clone_from(&shortage.message);
        lack.said.failed()
    }

    /// The resources that were lacking recently, each with the last operation that failed.
    pub(crate) fn now(&self) -> Vec<Shortage> {
        self.at(Instant::now())
    }

    /// A resource of the process that it has been lacking for a while, and does still.
    pub(crate) fn lasting(&self) -> Option<Resource> {
        self.lasting_at(Instant::now())
    }

    fn lasting_at(&self, now: Instant) -> Option<Resource> {
        let lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts_on = |lack: &Lack| {
            let (first, last) = lack.first.zip(lack.last)?;
            let is_still = now.saturating_duration_since(last) < LASTS;
            Some(is_still && last.saturating_duration_since(first) >= LASTS_ON_AFTER)
        };
        let mut lasting = lacks
            .iter()
            .filter(|(resource, lack)| resource.is_of_process() && lasts_on(lack) == Some(true));
        lasting.next().map(|(resource, _)| *resource)
    }

    fn at(&self, now: Instant) -> Vec<Shortage> {
        let lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = |last: Instant| now.saturating_duration_since(last) < LASTS;
        lacks
            .iter()
            .filter(|(_, lack)| lack.last.is_some_and(lasts))
            .map(|(resource, lack)| Shortage::new(*resource, lack.message.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_is_lacking() {
        for (errno, resource) in [
            (Errno::MFILE, Resource::Descriptors),
            (Errno::NFILE, Resource::Descriptors),
            (Errno::NOMEM, Resource::Memory),
            (Errno::AGAIN, Resource::Threads),
            (Errno::NOSPC, Resource::Disk),
            (Errno::FBIG, Resource::Disk),
            (Errno::ACCESS, Resource::Files),
        ] {
            let error = io::Error::from(errno);
            assert_eq!(Resource::of_io(&error), resource);
            // The error may be nested at any depth.
            let wrapped = io::Error::other(io::Error::other(error));
            assert_eq!(Resource::in_chain(&wrapped), Some(resource));
        }
        assert_eq!(Resource::in_chain(&io::Error::other("a text")), None);
    }

    #[test]
    fn what_is_lacking_is_said_once_and_known_for_a_while() {
        let shortages = Shortages::default();
        let begun = Instant::now();
        let shortage = Shortage::new(Resource::Memory, "no memory for a guest");
        let said = [0, 1, 2].map(|_| shortages.noted_at(&shortage, begun));
        assert_eq!(said, [Some(0), None, None]);
        assert_eq!(shortages.at(begun + LASTS / 2), [shortage]);
        assert_eq!(shortages.at(begun + LASTS), []);
    }

    #[test]
    fn a_shortage_of_the_process_that_goes_on_lasts() {
        let shortages = Shortages::default();
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let memory = Shortage::new(Resource::Memory, "no memory for a guest");
        let disk = Shortage::new(Resource::Disk, "the disk is full");
        for seconds in 0..10 {
            shortages.noted_at(&memory, after(seconds));
            shortages.noted_at(&disk, after(seconds * 2));
        }
        assert_eq!(shortages.lasting_at(after(9)), None);
        shortages.noted_at(&memory, after(10));
        assert_eq!(shortages.lasting_at(after(29)), Some(Resource::Memory));
        assert_eq!(shortages.lasting_at(after(30)), None);
        // It begins anew, once it was over.
        shortages.noted_at(&memory, after(40));
        assert_eq!(shortages.lasting_at(after(40)), None);
    }
}
