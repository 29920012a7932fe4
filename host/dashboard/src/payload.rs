//! Payloads as trees that can be folded, made of the tokens as they were recorded: numbers keep their digits, and objects the order of their
//! names, also of repeated ones.
//!
//! Invariant: a tree has at most [`NODES`] values and [`DEPTH`] levels; a larger payload is shown as text that is cut off.

use std::borrow::Cow;
use std::fmt;

use maud::{Markup, html};
use perennial::Json;
use perennial::core::text::visible_json;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::show::{bytes, copy, count, plural};

/// Payloads of more bytes are shown as text that is cut off, with a link to the whole.
const TREE_BYTES: usize = 64 << 10;

/// Bytes that are shown of a payload that is no tree.
const TEXT_BYTES: usize = 16 << 10;

/// Values in one tree.
const NODES: usize = 2_000;

/// How deep a tree goes; what lies deeper is counted only.
const DEPTH: usize = 32;

/// Values up to this depth are unfolded at first.
const OPEN_DEPTH: usize = 2;

/// A payload as a tree; an absent one is said to be absent. `whole` is the path of its whole text.
pub(crate) fn json(payload: Option<&Json>, whole: Option<&str>) -> Markup {
    match payload {
        None => html! { span.none { "none" } },
        Some(json) => shown(json.as_str(), whole),
    }
}

fn shown(text: &str, whole: Option<&str>) -> Markup {
    let root = (text.len() <= TREE_BYTES).then(|| serde_json::from_str::<&RawValue>(text));
    match root {
        Some(Ok(root)) => {
            let mut left = NODES;
            let tree = node(None, root.get(), 0, &mut left);
            html! {
                div.json { (copy(text, "Copy the JSON")) (tree)
                    @if left == 0 { (rest(whole, "Not all of it is shown. ", text.len())) } }
            }
        }
        _ => html! { div.json { (shortened(text, whole)) } },
    }
}

/// A long text: its beginning, how much follows, and where the whole is.
pub(crate) fn shortened(text: &str, whole: Option<&str>) -> Markup {
    let end = text.floor_char_boundary(TEXT_BYTES);
    html! {
        pre { (&text[..end]) }
        @if end < text.len() {
            (rest(whole, &format!("{} more. ", bytes((text.len() - end) as u64)), text.len()))
        }
    }
}

fn rest(whole: Option<&str>, what: &str, size: usize) -> Markup {
    html! { p.hint { (what) @if let Some(whole) = whole { a href=(whole) { "The whole as text" } " (" (bytes(size as u64)) ")" } } }
}

/// A value: what is in it, each part as it was recorded.
#[derive(Debug)]
enum Parts<'a> {
    Object(Vec<(Cow<'a, str>, &'a RawValue)>),
    Array(Vec<&'a RawValue>),
    /// A value without parts.
    Token,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let read = match text.as_bytes().first() {
            Some(b'{' | b'[') => serde_json::from_str(text),
            _ => return Self::Token,
        };
        // It is JSON, so that it can be read.
        read.unwrap_or(Self::Token)
    }
}

impl<'de> Deserialize<'de> for Parts<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(PartsVisitor)
    }
}

struct PartsVisitor;

/// A name of an object, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts<'de>, A::Error> {
        let mut found = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            found.push((name, value));
        }
        Ok(Parts::Object(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parts<'de>, A::Error> {
        let mut found = Vec::new();
        while let Some(value) = seq.next_element()? {
            found.push(value);
        }
        Ok(Parts::Array(found))
    }
}

fn node(name: Option<&str>, text: &str, depth: usize, left: &mut usize) -> Markup {
    *left = left.saturating_sub(1);
    let label = html! { @if let Some(name) = name { span.name { (name) } ": " } };
    let parts = Parts::of(text);
    let (open, close, size) = match &parts {
        Parts::Object(fields) if !fields.is_empty() => ('{', '}', fields.len()),
        Parts::Array(items) if !items.is_empty() => ('[', ']', items.len()),
        _ => return html! { div.leaf { (label) (token(text)) } },
    };
    let what = match parts {
        Parts::Object(_) => plural(size as u64, "field"),
        _ => plural(size as u64, "item"),
    };
    if depth >= DEPTH || *left == 0 {
        return html! { div.leaf { (label) span.more { (open) " " (what) " " (close) } } };
    }
    let is_open = depth < OPEN_DEPTH && size <= 50;
    html! {
        details open[is_open] {
            summary { (label) span.brace { (open) } span.size title=(what) { " " (count(size as u64)) " " } span.brace { (close) } }
            div.inner {
                @match &parts {
                    Parts::Object(fields) => @for (name, value) in fields { @if *left > 0 { (node(Some(name), value.get(), depth + 1, left)) } },
                    Parts::Array(items) => @for (at, value) in items.iter().enumerate() { @if *left > 0 { (node(Some(&at.to_string()), value.get(), depth + 1, left)) } },
                    Parts::Token => {},
                }
                @if *left == 0 { div.leaf { span.more { "…" } } }
            }
        }
    }
}

fn token(text: &str) -> Markup {
    let class = match text.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{' | b'[') => "brace",
        Some(b't' | b'f' | b'n') => "word",
        _ => "number",
    };
    html! { span class=(class) { (visible_json(text)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_as(text: &str) -> String {
        json(Some(&Json::from_text(text.to_owned())), None).into_string()
    }

    #[test]
    fn tokens_are_shown_as_they_were_recorded() {
        let numbers = [
            "340282366920938463463374607431768211455",
            "1234567890.123456789012345",
            "-9223372036854775809",
            "-0",
            "1E+2",
            "0.1000000000000000055511151231257827",
        ];
        for number in numbers {
            for text in [number.to_owned(), format!("{{\"a\": [{number} ]}}")] {
                let shown = shown_as(&text);
                let token = format!("<span class=\"number\">{number}</span>");
                assert!(shown.contains(&token), "{shown}");
            }
        }
        let shown = shown_as(r#"{"b":1,"a":2,"a":3,"\u0061":"\u00e9"}"#);
        let names: Vec<&str> = shown
            .split("class=\"name\">")
            .skip(1)
            .map(|rest| &rest[..1])
            .collect();
        assert_eq!(names, ["b", "a", "a", "a"]);
        assert!(shown.contains(r"&quot;\u00e9&quot;"), "{shown}");
    }

    #[test]
    fn a_cut_payload_leads_to_the_whole() {
        let long = Json::from_text(format!("\"{}\"", "x".repeat(1 << 20)));
        let shown = json(Some(&long), Some("/whole")).into_string();
        assert!(shown.contains("href=\"/whole\"") && shown.len() < 100_000);
        let wide = Json::from_text(format!("[{}0]", "0,".repeat(30_000)));
        let shown = json(Some(&wide), Some("/whole")).into_string();
        assert!(shown.contains("href=\"/whole\"") && shown.len() < 400_000);
    }

    #[test]
    fn nothing_in_a_payload_is_markup() {
        let shown = shown_as(r#"{"</script><b>":"\"><img src=x onerror=alert(1)>","a":["<i>"]}"#);
        for markup in ["<b>", "<img", "<i>", "</script>"] {
            assert!(!shown.contains(markup), "{shown}");
        }
    }

    #[test]
    fn a_deep_payload_becomes_a_small_page() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(shown_as(&deep).len() < 20_000);
        for other in ["", "nonsense", "[1,", "[]", "{}"] {
            assert!(shown_as(other).contains("json"));
        }
    }
}
