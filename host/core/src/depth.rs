//! Limits how deeply JSON may be nested.
//!
//! A text of a hundred thousand brackets is JSON, and most readers end on it: those that recurse overflow their stack, the others refuse
//! it. So a payload that no client could read does not come in.

use crate::Json;
use crate::bounds::JSON_LEVELS;

/// A payload with more levels than [`JSON_LEVELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("arrays and objects nested deeper than the {JSON_LEVELS} levels that JSON_LEVELS allows")]
pub struct TooDeep;

/// Checks that a text that is JSON has at most [`JSON_LEVELS`] levels. Of a text that is no JSON the answer means nothing.
///
/// It looks at each byte once and never recurses.
///
/// # Errors
/// [`TooDeep`].
pub fn check_levels(json: &str) -> Result<(), TooDeep> {
    // A text this short has no room for more.
    if json.len() <= 2 * JSON_LEVELS {
        return Ok(());
    }
    let (mut levels, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => {
                levels += 1;
                if levels > JSON_LEVELS {
                    return Err(TooDeep);
                }
            }
            b']' | b'}' => levels = levels.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

impl Json {
    /// As [`check_levels`].
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn check_levels(&self) -> Result<(), TooDeep> {
        check_levels(self.as_str())
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
            assert_eq!(check_levels(&nested(open, close, 128)), Ok(()));
            assert_eq!(check_levels(&nested(open, close, 129)), Err(TooDeep));
        }
        assert_eq!(check_levels(&nested("[", "]", 100_000)), Err(TooDeep));
    }

    #[test]
    fn brackets_in_texts_and_beside_each_other_do_not_count() {
        let text = format!("[{:?}, \"\\\\\", \"a\\\"[\"]", "[{".repeat(500));
        assert_eq!(check_levels(&text), Ok(()));
        assert_eq!(
            check_levels(&format!("[{}0]", "[],{},".repeat(500))),
            Ok(())
        );
    }
}
