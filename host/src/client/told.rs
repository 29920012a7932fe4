//! Messages for callers over a network about errors that they did not cause. They reveal nothing of the host's internals.

use crate::client::Error;
use crate::outage::warn_seldom;
use crate::shortage::Resource;

/// The message if the process lacks a resource or the hub's file is unusable.
pub(crate) fn lacking(error: &Error) -> Option<String> {
    let resource = match error.lacks() {
        // The hub existed when the host started.
        None if error.is_unknown_hub() => Resource::Hub,
        None => return None,
        // The caller gets no details; the operator finds them in the log.
        Some(Resource::Files | Resource::Host) => Resource::Hub,
        Some(resource) => resource,
    };
    if !resource.is_of_process() {
        warn_seldom!(%error, "a request was put off");
    }
    Some(format!(
        "the host lacks {resource} at the moment; nothing was changed: ask again in a moment"
    ))
}

/// The disk is full.
pub(crate) const DISK_FULL: &str =
    "the disk of the task hub is full: nothing was changed; make space, and ask again";

/// Another program has locked the file.
pub(crate) const LOCKED: &str =
    "something else has locked the task hub: nothing was changed; ask again in a moment";
