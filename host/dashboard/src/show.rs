//! How times, statuses, sizes, counts and failures look, on every page alike.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use maud::{Markup, html};
use perennial::{Failure, Status, Timestamp};

use crate::payload;

/// A time to the millisecond. Scripts show it in the viewer's zone, which they name; without them it is UTC.
pub(crate) fn time(at: Timestamp) -> Markup {
    let text = utc(at);
    html! { time datetime=(text) title=(text) { (text.replace('T', " ").trim_end_matches('Z')) " UTC" } }
}

/// A time as it is: how long ago, with the time itself on hover. Scripts keep it up to date.
pub(crate) fn ago(at: Timestamp) -> Markup {
    let text = utc(at);
    html! { time data-ago datetime=(text) title=(text) { (relative(at.0, now().0)) } }
}

/// How long something has lasted, with the time of its beginning on hover. Scripts keep it up to date.
pub(crate) fn lasting(since: Timestamp) -> Markup {
    let text = utc(since);
    html! { time data-lasting datetime=(text) title=(text) { (span(now().since(since).0)) } }
}

/// A time, if there is one.
pub(crate) fn maybe(at: Option<Timestamp>) -> Markup {
    match at {
        Some(at) => time(at),
        None => html! { span.none { "–" } },
    }
}

/// A time as text with milliseconds, such as `2026-03-01T12:00:00.250Z`.
pub(crate) fn utc(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => format!("{ms} ms"),
    }
}

/// The time of this machine.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(ms).unwrap_or(u64::MAX))
}

fn relative(at: u64, now: u64) -> String {
    if at > now {
        return format!("in {}", span(at - now));
    }
    match now - at {
        0..1_000 => "now".to_owned(),
        past => format!("{} ago", span(past)),
    }
}

/// A span of milliseconds in its two largest units, such as `3 min 20 s`.
pub(crate) fn span(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "min"),
        (1_000, "s"),
    ];
    if ms < 1_000 {
        return format!("{ms} ms");
    }
    let at = UNITS.iter().position(|(unit, _)| ms >= *unit);
    let at = at.unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[at];
    let mut text = format!("{} {name}", ms / unit);
    let rest = UNITS
        .get(at + 1)
        .map(|(small, name)| (ms % unit / small, name));
    if let Some((rest, name)) = rest.filter(|(rest, _)| *rest > 0) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {rest} {name}");
    }
    text
}

/// A size, such as `1.5 MiB`, as the command line writes it.
pub(crate) use perennial::core::text::size as bytes;

/// A number with thin groups of three digits, such as `12 345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Characters of a name or an id that a line shows.
const BRIEF: usize = 120;

/// A text that fits in a line.
pub(crate) fn brief(text: &str) -> String {
    cut(text, BRIEF)
}

/// A number with what it counts: `1 event`, `2 events`.
pub(crate) fn plural(number: u64, one: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {one}{end}", count(number))
}

/// A message with a capital and a full stop, so that another sentence can follow it.
pub(crate) fn sentence(message: &str) -> String {
    let message = message.trim_end();
    let mut rest = message.chars();
    let begin = rest.next().map(char::to_uppercase);
    let begin: String = begin.into_iter().flatten().collect();
    let end = if message.is_empty() || message.ends_with(['.', '!', '?', '…']) {
        ""
    } else {
        "."
    };
    format!("{begin}{}{end}", rest.as_str())
}

/// As [`cut`], but what is left out is in the middle: ids often differ at their ends only.
pub(crate) fn cut_middle(text: &str, chars: usize) -> String {
    let all = text.chars().count();
    if all <= chars {
        return text.to_owned();
    }
    let kept = chars.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let head: String = text.chars().take(head).collect();
    let tail: String = text.chars().skip(all - tail).collect();
    format!("{head}…{tail}")
}

/// At most so many characters of a text, with an ellipsis if there are more.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// A runtime status as a coloured word.
pub(crate) fn status(status: Status) -> Markup {
    let name = status.to_string();
    html! { span class=(format!("status {}", name.to_ascii_lowercase())) { (name) } }
}

/// A text that can be copied with a button, such as an id.
pub(crate) fn copyable(text: &str) -> Markup {
    html! { span.copyable { code { (text) } (copy(text, "Copy")) } }
}

/// A button that copies a text; only scripts can serve it.
pub(crate) fn copy(text: &str, label: &str) -> Markup {
    html! {
        button.copy type="button" hidden data-copy=(text) aria-label=(label) title=(label) {
            svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="1.5" {
                rect x="5.5" y="5.5" width="8" height="8" rx="1.5" {}
                path d="M10.5 5.500V4A1.500 1.500 0 0 0 9 2.500H4A1.500 1.500 0 0 0 2.500 4v5A1.500 1.500 0 0 0 4 10.500h1.500" {}
            }
        }
    }
}

/// A failure with its causes.
pub(crate) fn failure(failure: &Failure) -> Markup {
    html! {
        div.failure {
            p { strong { (failure.kind) } @if !failure.message.is_empty() { ": " (failure.message) } }
            @if !failure.causes.is_empty() {
                ol.causes aria-label="Caused by" {
                    @for cause in &failure.causes { li { strong { (cause.kind) } @if !cause.message.is_empty() { ": " (cause.message) } } }
                }
            }
            @if let Some(details) = &failure.details { (payload::json(Some(details), None)) }
            @if let Some(trace) = &failure.trace { details { summary { "where it happened" } (payload::shortened(trace, None)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("ééé", 3), "ééé");
        assert_eq!(cut("éééé", 3), "ééé…");
    }

    #[test]
    fn spans_have_two_units_at_most() {
        assert_eq!(span(999), "999 ms");
        assert_eq!(span(200_000), "3 min 20 s");
        assert_eq!(span(3_600_000), "1 h");
        assert_eq!(span(90_061_000), "1 d 1 h");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(utc(Timestamp(0)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn another_sentence_can_follow_a_message() {
        for (message, told) in [
            ("an id is \"a\"", "An id is \"a\"."),
            ("It is so. ", "It is so."),
            ("éa!", "Éa!"),
            ("", ""),
        ] {
            assert_eq!(sentence(message), told);
        }
    }

    #[test]
    fn ids_are_cut_in_the_middle() {
        assert_eq!(cut_middle("0123456789:7", 7), "012…9:7");
        assert_eq!(cut_middle("ééé", 3), "ééé");
        assert_eq!(
            (cut("ééé", 3), cut("éééé", 3)),
            ("ééé".to_owned(), "ééé…".to_owned())
        );
        assert_eq!(
            (plural(1, "span"), plural(2, "span")),
            ("1 span".to_owned(), "2 spans".to_owned())
        );
    }
}
