//! Colours that survive the escaping of untrusted text.
//!
//! A coloured text is joined with untrusted names and messages before it is printed. So a colour is first encoded as a mark that contains a
//! random number of this process, which untrusted text cannot guess. [`written_out`] replaces these marks by ANSI sequences, and escapes
//! every other control character.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use perennial_core::text::visible_lines;

/// The beginning of a mark. Untrusted text contains it with a probability of one in 2^64.
static SECRET: LazyLock<String> = LazyLock::new(|| {
    // Randomly keyed for each process.
    format!(
        "\u{1}{:016x}:",
        RandomState::new().hash_one(std::process::id())
    )
});

/// The end of a mark.
const END: char = '\u{2}';

/// A text between marks for an ANSI style, such as `1` for bold.
pub(crate) fn painted(code: &str, text: &str) -> String {
    let mark = |code| format!("{}{code}{END}", *SECRET);
    format!("{}{text}{}", mark(code), mark("0"))
}

/// A text for the terminal: line ends stay, the marks of [`painted`] become ANSI sequences, other control characters are escaped.
pub(crate) fn written_out(text: &str) -> String {
    let mut parts = text.split(SECRET.as_str());
    let mut out = visible_lines(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        match part.split_once(END) {
            Some((code, rest)) => out += &format!("\u{1b}[{code}m{}", visible_lines(rest)),
            None => out += &visible_lines(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_painted_has_colour_and_what_is_not_is_written_out() {
        let hostile = "a\u{1b}[31mb\u{1}0000000000000000:31\u{2}c\u{9b}2J\u{202e}d\r";
        let line = format!(
            "{} {hostile}\n{}",
            painted("1", "title"),
            painted("2", hostile)
        );
        let written = r"a\u{1b}[31mb\u{1}0000000000000000:31\u{2}c\u{9b}2J\u{202e}d\r";
        assert_eq!(
            written_out(&line),
            format!("\u{1b}[1mtitle\u{1b}[0m {written}\n\u{1b}[2m{written}\u{1b}[0m")
        );
    }
}
