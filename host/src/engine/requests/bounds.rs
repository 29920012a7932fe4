//! Validates the texts of a request: names, tags, reasons.
//!
//! Payloads have a limit of their own, [`Limits::payload_bytes`](perennial_core::Limits::payload_bytes). The texts checked here are stored
//! in rows that lists and statuses read, and are shown to people. The limits are in [`perennial_core::bounds`].

use perennial_core::bounds::{NAME_CHARS, REASON_BYTES, TAG_VALUE_CHARS, TAGS, TRACE_PARENT_CHARS};
use perennial_core::{Tags, check_name};

use crate::engine::requests::refused::{self, refused};
use crate::store::Reply;

/// The approximate size of a request without its payloads.
pub(in crate::engine) const REQUEST_BYTES: u64 = 1_024;

/// Maximum number of characters of a name in a message.
const SHOWN_CHARS_MAX: usize = 100;

/// Refuses a reason that is too long.
pub(in crate::engine) fn problem_with_reason(reason: &str) -> Option<Reply> {
    let bytes = reason.len();
    if bytes > REASON_BYTES {
        return Some(refused(
            refused::LIMIT_EXCEEDED,
            format!("the reason has {bytes} bytes; at most {REASON_BYTES} are allowed"),
        ));
    }
    problem_with_nul("the reason", reason)
}

/// Refuses an invalid name.
pub(in crate::engine) fn problem_with_name(what: &str, name: &str) -> Option<Reply> {
    let problem = check_name(name, NAME_CHARS).err()?;
    Some(refused(refused::INVALID, format!("{what} {problem}")))
}

/// Refuses the NUL character, which would end the text for code written in C.
fn problem_with_nul(what: &str, text: &str) -> Option<Reply> {
    text.contains('\0')
        .then(|| refused(refused::INVALID, format!("{what} must not contain '\\0'")))
}

/// Refuses invalid tags.
pub(in crate::engine) fn problem_with_tags(tags: &Tags) -> Option<Reply> {
    if tags.len() > TAGS {
        let message = format!(
            "an instance has at most {TAGS} tags, this one has {}",
            tags.len()
        );
        return Some(refused(refused::INVALID, message));
    }
    tags.iter().find_map(|(key, value)| {
        problem_with_name("the key of a tag", key)
            .or_else(|| {
                let chars = value.chars().count();
                (chars > TAG_VALUE_CHARS).then(|| {
                    let key = brief(key);
                    let rule = format!("has at most {TAG_VALUE_CHARS} characters");
                    refused(
                        refused::INVALID,
                        format!("the value of a tag {rule}, that of {key:?} has {chars}"),
                    )
                })
            })
            .or_else(|| problem_with_nul("the value of a tag", value))
    })
}

/// Refuses a W3C trace parent that is too long. Its content is not checked: tools that read traces do that.
pub(in crate::engine) fn problem_with_trace(trace_parent: Option<&str>) -> Option<Reply> {
    let chars = trace_parent.map_or(0, |text| text.chars().count());
    (chars > TRACE_PARENT_CHARS).then(|| {
        let message = format!(
            "a trace parent has at most {TRACE_PARENT_CHARS} characters, this one has {chars}"
        );
        refused(refused::INVALID, message)
    })
}

/// Shortens a long name for a message.
pub(crate) fn brief(name: &str) -> std::borrow::Cow<'_, str> {
    match name.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &name[..end]).into(),
        None => name.into(),
    }
}
