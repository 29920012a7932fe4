//! Names and texts of others in statements that people paste.

use perennial_core::text::is_unseen;

/// A name as statements have it, on one line and of visible characters alone.
pub(super) fn quoted(name: &str) -> String {
    between(name, '"')
}

/// A text as statements have it, likewise.
pub(super) fn literal(text: &str) -> String {
    between(text, '\'')
}

fn between(text: &str, quote: char) -> String {
    let has_unseen = text.contains(is_unseen);
    let mut quoted = if has_unseen { "U&" } else { "" }.to_owned();
    quoted.push(quote);
    for c in text.chars() {
        match c {
            c if c == quote => quoted.extend([c, c]),
            '\\' if has_unseen => quoted.push_str("\\\\"),
            c if is_unseen(c) => quoted.push_str(&format!("\\+{:06X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}
