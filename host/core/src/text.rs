//! Text from outside: bounded where it enters, and visible where it is printed.
//!
//! Whatever a module, a client or a closure says is data. It may be a hundred megabytes long, and it may hold what moves a cursor, starts
//! a line that somebody else seems to have written, or turns the order of what is read around. So it is cut (here) or refused
//! ([`bounds`](crate::bounds) has the table) where it comes in, and nothing prints or logs it but through [`Visible`].

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// A text of at most `max` bytes: a longer one is cut between two characters, and ends with how long it was.
///
/// What is cut once is not cut again by the same bound.
pub fn bounded(mut text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let mark = mark(text.len());
    text.truncate(floor(&text, max.saturating_sub(mark.len())));
    text.shrink_to_fit();
    text + &mark
}

/// As [`bounded`], of a text that may stay where it is.
pub fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let mark = mark(text.len());
    let kept = &text[..floor(text, max.saturating_sub(mark.len()))];
    Cow::Owned(format!("{kept}{mark}"))
}

/// A number of bytes as people read it, in its largest binary unit and to one decimal: `512 B`, `1.5 KiB`, `2.0 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1 << 10 {
        return format!("{bytes} B");
    }
    let (mut unit, mut at) = (1_u64 << 10, 0);
    // What would be rounded to 1024.0 is 1.0 of the next unit.
    while at + 1 < UNITS.len() && bytes >= (unit << 10) - unit / 20 {
        (unit, at) = (unit << 10, at + 1);
    }
    let tenths = (u128::from(bytes) * 10 + u128::from(unit / 2)) / u128::from(unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[at])
}

/// Whether `cut` is what some bound left of `whole`. Histories keep what the bound of their time left.
pub fn is_cut_of(cut: &str, whole: &str) -> bool {
    let kept = cut.strip_suffix(&mark(whole.len()));
    kept.is_some_and(|kept| kept.len() < whole.len() && whole.starts_with(kept))
}

/// What stands where a text was cut.
fn mark(bytes: usize) -> String {
    format!("… (cut: {bytes} bytes)")
}

/// The end of the last whole character of the first `at` bytes.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// Prints a text in one line, with what a terminal would obey or a reader would not see written out: `\n`, `\u{1b}`, `\u{202e}`.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&visible(self.0))
    }
}

/// As [`Visible`], over several lines where the text has several: each after the first begins with `indent`, so that none can be taken
/// for a line of the host's own.
#[derive(Clone, Copy, Debug)]
pub struct VisibleLines<'a> {
    /// The text.
    pub text: &'a str,
    /// What stands before each line but the first.
    pub indent: &'a str,
}

impl fmt::Display for VisibleLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.text.split('\n').enumerate() {
            if i > 0 {
                write!(f, "\n{}", self.indent)?;
            }
            f.write_str(&visible(line.strip_suffix('\r').unwrap_or(line)))?;
        }
        Ok(())
    }
}

/// The text that [`Visible`] prints.
pub fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, is_unseen)
}

/// As [`visible`], but line breaks and tabulators stay.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    written_out(text, |c| !matches!(c, '\n' | '\t') && is_unseen(c))
}

/// JSON that a terminal can be given: what JSON leaves as it is within its texts, and [`Visible`] writes out, is escaped as JSON does it.
/// Every reader of JSON finds the same values in it.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    // Between its values JSON has no other characters than these.
    let stays = |c: char| matches!(c, '\n' | '\r' | '\t') || !is_unseen(c);
    if json.bytes().all(plain) || json.chars().all(stays) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 32);
    for c in json.chars() {
        if stays(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    Cow::Owned(out)
}

fn written_out(text: &str, which: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.bytes().all(plain) || !text.chars().any(&which) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 32);
    for c in text.chars() {
        match c {
            c if !which(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// What most texts are made of.
fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Whether a character is nothing to be read: a control character, one that ends a line or turns its order around, or one without width.
///
/// Beside the control characters (C0, DEL, C1) these are Unicode's format characters, its line and paragraph separators, and what it
/// calls default ignorable, but for the selectors that choose the look of the character before them.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
            | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character may not stand in an id or a name: a control character, one that ends a line, or one that turns the order of what
/// is read around.
pub fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_their_largest_unit() {
        let shown = [0, 1_023, 1_536, 2_000, 3 << 20, (1 << 20) - 1, 5 << 40].map(size);
        let expected = [
            "0 B", "1023 B", "1.5 KiB", "2.0 KiB", "3.0 MiB", "1.0 MiB", "5.0 TiB",
        ];
        assert_eq!(shown, expected);
        assert!(size(u64::MAX).ends_with(" TiB"));
    }

    #[test]
    fn a_text_over_its_bound_is_cut_between_characters_and_says_how_long_it_was() {
        assert_eq!(bounded("short".to_owned(), 5), "short");
        let long = "é".repeat(100);
        assert_eq!(
            bounded(long.clone(), 64),
            format!("{}… (cut: 200 bytes)", "é".repeat(22))
        );
        for max in 32..200 {
            let cut = bounded(long.clone(), max);
            assert!(cut.len() <= max, "{max}");
            assert_eq!(bounded(cut.clone(), max), cut, "cut twice at {max}");
            assert_eq!(shortened(&long, max), cut);
            assert!(is_cut_of(&cut, &long));
        }
        assert_eq!(shortened(&long, 200), long);
    }

    #[test]
    fn only_a_beginning_with_the_mark_of_the_whole_is_a_cut() {
        let whole = "abc".repeat(100);
        assert!(is_cut_of("abca… (cut: 300 bytes)", &whole));
        assert!(!is_cut_of("abca… (cut: 301 bytes)", &whole));
        assert!(!is_cut_of("abcb… (cut: 300 bytes)", &whole));
        assert!(!is_cut_of("abca", &whole));
        assert!(!is_cut_of(&whole, &whole));
    }

    #[test]
    fn what_a_terminal_obeys_or_nobody_sees_is_written_out() {
        assert!(matches!(visible("Grüße, 世界 👋🏽!"), Cow::Borrowed(_)));
        assert_eq!(
            Visible("a\u{1b}[2Jb\r\n\tc\u{7f}\u{9b}1m").to_string(),
            r"a\u{1b}[2Jb\r\n\tc\u{7f}\u{9b}1m"
        );
        assert_eq!(
            visible("user\u{202e}txt.exe \u{200b}\u{2028}\u{feff}\u{e0041}"),
            r"user\u{202e}txt.exe \u{200b}\u{2028}\u{feff}\u{e0041}"
        );
        assert_eq!(format!("[{:>5}]", Visible("\n")), r"[   \n]");
    }

    #[test]
    fn lines_stay_lines_and_are_set_in() {
        let lines = VisibleLines {
            text: "one\r\ntwo\u{7}\n\tthree",
            indent: "  ",
        };
        assert_eq!(lines.to_string(), "one\n  two\\u{7}\n  \\tthree");
        assert_eq!(visible_lines("one\n\ttwo\u{1b}c"), "one\n\ttwo\\u{1b}c");
    }

    #[test]
    fn json_says_the_same_in_escapes_of_its_own() {
        assert!(matches!(
            visible_json("{\n  \"a\": \"é\"\n}"),
            Cow::Borrowed(_)
        ));
        assert_eq!(
            visible_json("{\"a\":\n\"\u{7f}\u{9b}\u{202e}\u{e0041}\"}"),
            "{\"a\":\n\"\\u007f\\u009b\\u202e\\udb40\\udc41\"}"
        );
    }
}
