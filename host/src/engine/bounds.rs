//! What is checked of the words of a request before it becomes a change: names, labels, reasons.
//!
//! Payloads have a limit of their own, [`Limits::payload_bytes`](perennial_core::Limits::payload_bytes). What is bounded here is kept in
//! rows that lists and statuses read, and shown to people.

use perennial_core::Tags;

use crate::engine::request::{Request, refused};
use crate::store::Verdict;

/// Characters of a name: longer ones are payloads in disguise.
const NAME_CHARS_MAX: usize = 256;

/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 64 << 10;

/// Labels of an instance.
const TAGS_MAX: usize = 64;

/// Characters of the value of a label.
const TAG_VALUE_CHARS_MAX: usize = 1_024;

/// Characters of a trace parent; one of version 00 has 55.
const TRACE_PARENT_CHARS_MAX: usize = 256;

/// What a request takes up beside its payloads, roughly.
pub(super) const REQUEST_BYTES: u64 = 1_024;

/// Characters of a name that a message shows.
const SHOWN_CHARS_MAX: usize = 100;

/// Refuses a reason that is a payload in disguise.
pub(super) fn problem_with_reason(request: &Request) -> Option<Verdict> {
    let reason = match request {
        Request::Terminate { reason, .. }
        | Request::Suspend { reason, .. }
        | Request::Resume { reason, .. } => reason,
        Request::Rewind(rewind) => &rewind.reason,
        _ => return None,
    };
    let bytes = reason.as_ref().map_or(0, String::len);
    (bytes > REASON_BYTES_MAX).then(|| {
        refused(
            refused::LIMIT_EXCEEDED,
            format!("the reason has {bytes} bytes; {REASON_BYTES_MAX} are allowed"),
        )
    })
}

/// Refuses a name that cannot be one.
pub(super) fn problem_with_name(what: &str, name: &str) -> Option<Verdict> {
    let chars = name.chars().count();
    let problem = match chars {
        0 => format!("{what} must not be empty"),
        1..=NAME_CHARS_MAX => return None,
        _ => format!("{what} has at most {NAME_CHARS_MAX} characters, this one has {chars}"),
    };
    Some(refused(refused::INVALID, problem))
}

/// Refuses labels that cannot be.
pub(super) fn problem_with_tags(tags: &Tags) -> Option<Verdict> {
    if tags.len() > TAGS_MAX {
        let message = format!(
            "an instance has at most {TAGS_MAX} tags, this one has {}",
            tags.len()
        );
        return Some(refused(refused::INVALID, message));
    }
    tags.iter().find_map(|(key, value)| {
        problem_with_name("the key of a tag", key).or_else(|| {
            let chars = value.chars().count();
            (chars > TAG_VALUE_CHARS_MAX).then(|| {
                let key = brief(key);
                let rule = format!("has at most {TAG_VALUE_CHARS_MAX} characters");
                refused(
                    refused::INVALID,
                    format!("the value of a tag {rule}, that of {key:?} has {chars}"),
                )
            })
        })
    })
}

/// Refuses what is no W3C trace parent by its length alone: what else it may say is for whoever reads traces.
pub(super) fn problem_with_trace(trace_parent: Option<&str>) -> Option<Verdict> {
    let chars = trace_parent.map_or(0, |text| text.chars().count());
    (chars > TRACE_PARENT_CHARS_MAX).then(|| {
        let message = format!(
            "a trace parent has at most {TRACE_PARENT_CHARS_MAX} characters, this one has {chars}"
        );
        refused(refused::INVALID, message)
    })
}

/// A name as a message shows it: its beginning, where it is long.
pub(crate) fn brief(name: &str) -> std::borrow::Cow<'_, str> {
    match name.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &name[..end]).into(),
        None => name.into(),
    }
}
