//! JSON texts with and without line breaks.
//!
//! Invariant: only white space between tokens comes or goes. Numbers of any size, the order of fields and fields that occur twice stay as
//! they are written, which a parser would not keep.

/// How deep lines are indented; deeper ones stand below each other.
const INDENT_MAX: usize = 32;

/// A JSON text with a line for each field and item, to be edited. The text must be valid.
pub(super) fn spread(text: &str) -> String {
    let compact = compact(text);
    let mut spread = String::with_capacity(compact.len() * 2);
    let mut depth = 0_usize;
    let mut string = InString::default();
    let mut chars = compact.chars().peekable();
    let line = |to: &mut String, depth: usize| {
        to.push('\n');
        to.extend(std::iter::repeat_n("  ", depth.min(INDENT_MAX)));
    };
    while let Some(char) = chars.next() {
        if string.see(char) {
            spread.push(char);
            continue;
        }
        match char {
            '{' | '[' => {
                spread.push(char);
                if matches!(chars.peek(), Some('}' | ']')) {
                    spread.extend(chars.next());
                } else {
                    depth += 1;
                    line(&mut spread, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut spread, depth);
                spread.push(char);
            }
            ',' => {
                spread.push(char);
                line(&mut spread, depth);
            }
            ':' => spread.push_str(": "),
            other => spread.push(other),
        }
    }
    spread
}

/// A JSON text without white space between its tokens.
pub(super) fn compact(text: &str) -> String {
    let mut string = InString::default();
    let keeps = |char: &char| string.see(*char) || !matches!(char, ' ' | '\t' | '\n' | '\r');
    text.chars().filter(keeps).collect()
}

/// Whether a place is within a string.
#[derive(Default)]
struct InString {
    is_within: bool,
    is_escaped: bool,
}

impl InString {
    /// Whether this next character belongs to a string, with its quotes.
    fn see(&mut self, char: char) -> bool {
        let was_within = self.is_within;
        match char {
            _ if self.is_escaped => self.is_escaped = false,
            '\\' if was_within => self.is_escaped = true,
            '"' => self.is_within = !was_within,
            _ => {}
        }
        was_within || self.is_within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_tokens_changes() {
        let text = r#"{"a" : [1e400, 12345678901234567890.10,{}, [] ],"b\"}": " x , \\","a":null}"#;
        let expected = "{\n  \"a\": [\n    1e400,\n    12345678901234567890.10,\n    {},\n    []\n  ],\n  \"b\\\"}\": \" x , \\\\\",\n  \"a\": null\n}";
        assert_eq!(spread(text), expected);
        let small = r#"{"a":[1e400,12345678901234567890.10,{},[]],"b\"}":" x , \\","a":null}"#;
        assert_eq!(compact(text), small);
        assert_eq!(compact(&spread(small)), small);
        assert_eq!(compact(&spread("\" a  b \"")), "\" a  b \"");
    }

    #[test]
    fn a_deep_text_does_not_grow_without_bounds() {
        let deep = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
        assert!(spread(&deep).len() < 300_000);
        assert_eq!(compact(&spread(&deep)), deep);
    }
}
