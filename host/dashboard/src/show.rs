//! How times, statuses, sizes and payloads look, on every page alike.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use maud::{Markup, html};
use perennial::{Failure, Json, Status, Timestamp};
use serde_json::Value;

/// Payloads of more bytes are shown as text that is cut off, with a link to the whole.
const TREE_BYTES: usize = 64 << 10;

/// Bytes that are shown of a payload that is no tree.
const TEXT_BYTES: usize = 16 << 10;

/// Values in one tree.
const NODES: usize = 2_000;

/// How deep a tree goes; what lies deeper is shown as text.
const DEPTH: usize = 32;

/// Values up to this depth are unfolded at first.
const OPEN_DEPTH: usize = 2;

/// A time. Scripts show it in the viewer's zone; without them it is UTC.
pub(crate) fn time(at: Timestamp) -> Markup {
    let text = utc(at);
    html! { time datetime=(text) title=(text) { (text.replace('T', " ").trim_end_matches('Z')) " UTC" } }
}

/// A time as it is: how long ago, with the time itself on hover. Scripts keep it up to date.
pub(crate) fn ago(at: Timestamp) -> Markup {
    let text = utc(at);
    html! { time data-ago datetime=(text) title=(text) { (relative(at.0, now().0)) } }
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

/// A size, such as `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut size = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while size >= 1_024.0 && unit + 1 < UNITS.len() {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

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

/// A payload as a tree that can be folded; an absent one is said to be absent.
pub(crate) fn json(payload: Option<&Json>) -> Markup {
    match payload {
        None => html! { span.none { "none" } },
        Some(json) => tree(json.as_str()),
    }
}

fn tree(text: &str) -> Markup {
    let value = (text.len() <= TREE_BYTES).then(|| serde_json::from_str::<Value>(text));
    let copy = copy(text, "Copy the JSON");
    match value {
        Some(Ok(value)) => {
            let mut left = NODES;
            html! { div.json { (copy) (node(None, &value, 0, &mut left)) } }
        }
        _ => html! { div.json { (shortened(text)) } },
    }
}

/// A long text: its beginning, and how much follows.
fn shortened(text: &str) -> Markup {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    html! {
        pre { (&text[..end]) }
        @if end < text.len() { p.hint { (bytes((text.len() - end) as u64)) " more; the export of the instance has all of it." } }
    }
}

fn node(name: Option<&str>, value: &Value, depth: usize, left: &mut usize) -> Markup {
    *left = left.saturating_sub(1);
    let label = html! { @if let Some(name) = name { span.name { (name) } ": " } };
    let too_much = depth >= DEPTH || *left == 0;
    let (open, close, size) = match value {
        Value::Object(fields) if !fields.is_empty() => ('{', '}', fields.len()),
        Value::Array(items) if !items.is_empty() => ('[', ']', items.len()),
        leaf => return html! { div.leaf { (label) (scalar(leaf)) } },
    };
    if too_much {
        return html! { div.leaf { (label) span.more { (open) " " (count(size as u64)) " … " (close) } } };
    }
    let is_open = depth < OPEN_DEPTH && size <= 50;
    html! {
        details open[is_open] {
            summary { (label) span.brace { (open) } span.size { " " (count(size as u64)) " " } span.brace { (close) } }
            div.inner {
                @match value {
                    Value::Object(fields) => @for (name, value) in fields { @if *left > 0 { (node(Some(name), value, depth + 1, left)) } },
                    Value::Array(items) => @for (at, value) in items.iter().enumerate() { @if *left > 0 { (node(Some(&at.to_string()), value, depth + 1, left)) } },
                    _ => {},
                }
                @if *left == 0 { div.leaf { span.more { "…" } } }
            }
        }
    }
}

fn scalar(value: &Value) -> Markup {
    match value {
        Value::String(text) => {
            // Quotes and escapes as in JSON, so that a text with line breaks stays one line.
            let quoted = Value::String(text.clone()).to_string();
            html! { span.string { (quoted) } }
        }
        Value::Number(number) => html! { span.number { (number) } },
        Value::Object(_) => html! { span.brace { "{}" } },
        Value::Array(_) => html! { span.brace { "[]" } },
        word => html! { span.word { (word) } },
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
            @if let Some(details) = &failure.details { (json(Some(details))) }
            @if let Some(trace) = &failure.trace { details { summary { "where it happened" } (shortened(trace)) } }
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
    fn spans_and_sizes_have_two_units_at_most() {
        assert_eq!(span(999), "999 ms");
        assert_eq!(span(200_000), "3 min 20 s");
        assert_eq!(span(3_600_000), "1 h");
        assert_eq!(span(90_061_000), "1 d 1 h");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(utc(Timestamp(0)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn nothing_in_a_payload_is_markup() {
        let hostile = r#"{"</script><b>":"\"><img src=x onerror=alert(1)>","a":["<i>"]}"#;
        let shown = json(Some(&Json::from_text(hostile.to_owned()))).into_string();
        for markup in ["<b>", "<img", "<i>", "</script>"] {
            assert!(!shown.contains(markup), "{shown}");
        }
    }

    #[test]
    fn a_huge_payload_becomes_a_small_page() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(json(Some(&Json::from_text(deep))).into_string().len() < 20_000);
        let wide = format!("[{}0]", "0,".repeat(30_000));
        assert!(json(Some(&Json::from_text(wide))).into_string().len() < 400_000);
        let long = format!("\"{}\"", "x".repeat(4 << 20));
        let shown = json(Some(&Json::from_text(long))).into_string();
        assert!(shown.len() < 100_000, "{}", shown.len());
    }
}
