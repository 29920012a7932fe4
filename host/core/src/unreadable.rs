//! Refuses payloads that are JSON and that clients could not read.
//!
//! A text of a hundred thousand brackets is JSON, and most readers end on it: those that recurse overflow their stack, the others refuse
//! it. So it is with half of a surrogate pair, which is no character, and with numbers that no double holds. One such payload would make
//! a whole page of a list unreadable, so none comes in.

use crate::Json;
use crate::bounds::JSON_LEVELS;

/// Digits that a number may have before it can be too large for a double without an exponent.
const DIGITS_OF_DOUBLE: usize = 300;

/// Why clients could not read a payload. Each reads as what the payload has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// More levels than [`JSON_LEVELS`].
    #[error("arrays and objects nested deeper than the {JSON_LEVELS} levels that are allowed")]
    TooDeep,
    /// A `\u` escape of a surrogate without the other one.
    #[error("half of a surrogate pair (U+D800 to U+DFFF), which is no character")]
    LoneSurrogate,
    /// A number that is infinite as a double.
    #[error("a number that is too large: the largest is about 1.8e308")]
    NumberTooLarge,
}

/// Checks that clients can read a text that is JSON. Of a text that is no JSON the answer means nothing.
///
/// It looks at each byte once, numbers with an exponent twice, and never recurses.
///
/// # Errors
/// The first thing that they could not read.
pub fn check_readable(json: &str) -> Result<(), Unreadable> {
    let bytes = json.as_bytes();
    let (mut levels, mut at) = (0_usize, 0);
    while let Some(byte) = bytes.get(at) {
        at = match byte {
            b'"' => end_of_text(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => end_of_number(json, at)?,
            b'[' | b'{' => {
                levels += 1;
                if levels > JSON_LEVELS {
                    return Err(Unreadable::TooDeep);
                }
                at + 1
            }
            b']' | b'}' => {
                levels = levels.saturating_sub(1);
                at + 1
            }
            _ => at + 1,
        };
    }
    Ok(())
}

/// Where a text ends whose first character is at `at`.
fn end_of_text(bytes: &[u8], mut at: usize) -> Result<usize, Unreadable> {
    while let Some(byte) = bytes.get(at) {
        at += match (byte, bytes.get(at + 1)) {
            (b'"', _) => return Ok(at + 1),
            (b'\\', Some(b'u')) => match (unit(bytes, at), unit(bytes, at + 6)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
                (Some(0xD800..=0xDFFF), _) => return Err(Unreadable::LoneSurrogate),
                _ => 6,
            },
            (b'\\', _) => 2,
            _ => 1,
        };
    }
    Ok(at)
}

/// The UTF-16 code unit of the `\u` escape at `at`, if there is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Where a number ends that begins at `start`.
fn end_of_number(json: &str, start: usize) -> Result<usize, Unreadable> {
    let rest = &json[start..];
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let number = &rest[..rest.bytes().take_while(is_part).count()];
    let may_be_large = number.len() > DIGITS_OF_DOUBLE || number.contains(['e', 'E']);
    if may_be_large && number.parse::<f64>().is_ok_and(f64::is_infinite) {
        return Err(Unreadable::NumberTooLarge);
    }
    Ok(start + number.len())
}

impl Json {
    /// As [`check_readable`].
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn check_readable(&self) -> Result<(), Unreadable> {
        check_readable(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(open: &str, close: &str, levels: usize) -> String {
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn as_many_levels_as_are_allowed_and_no_more() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), (" [ 2 , ", "]")] {
            assert_eq!(check_readable(&nested(open, close, 128)), Ok(()));
            assert_eq!(
                check_readable(&nested(open, close, 129)),
                Err(Unreadable::TooDeep)
            );
        }
        let deep = check_readable(&nested("[", "]", 100_000));
        assert_eq!(deep, Err(Unreadable::TooDeep));
    }

    #[test]
    fn brackets_in_texts_and_beside_each_other_do_not_count() {
        let text = format!("[{:?}, \"\\\\\", \"a\\\"[\"]", "[{".repeat(500));
        assert_eq!(check_readable(&text), Ok(()));
        assert_eq!(
            check_readable(&format!("[{}0]", "[],{},".repeat(500))),
            Ok(())
        );
    }

    #[test]
    fn a_surrogate_needs_its_pair() {
        for whole in [
            r#""\ud83d\ude00""#,
            r#"{"\uD83D\uDE00":"\u00e9\\ud800"}"#,
            r#""\"\\\/\b\u0000""#,
        ] {
            assert_eq!(check_readable(whole), Ok(()), "{whole}");
        }
        for half in [
            r#""a\ud800b""#,
            r#"{"\udc00":1}"#,
            r#""\ud800\ud800\udc00""#,
            r#""\ud800""#,
            r#""\ud800\n""#,
        ] {
            let lone = Err(Unreadable::LoneSurrogate);
            assert_eq!(check_readable(half), lone, "{half}");
        }
    }

    #[test]
    fn a_number_is_no_larger_than_a_double() {
        let (long, longer) = ("9".repeat(308), "9".repeat(400));
        for fits in ["[1e308,-1.7e308,1e-400,0.1,-0]", "{\"1e400\":2}", &long] {
            assert_eq!(check_readable(fits), Ok(()), "{fits}");
        }
        for large in ["1e400", "[1,-1E+309]", "{\"a\":1.9e308}", &longer] {
            let too_large = Err(Unreadable::NumberTooLarge);
            assert_eq!(check_readable(large), too_large, "{large}");
        }
    }
}
