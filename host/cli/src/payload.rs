//! Reads JSON payloads from an argument, a file or stdin.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::Context;
use perennial::Json;
use serde::de::IgnoredAny;

use crate::error::{CliError, Exit};
use crate::output::say;

/// Where a payload comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The argument itself.
    Typed(String),
    /// A file.
    File(PathBuf),
    /// Stdin.
    Stdin,
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None if text == "-" => Self::Stdin,
            None => Self::Typed(text.to_owned()),
        }
    }
}

/// Reads a payload, if one is given, and checks that it is JSON. `option` is the option that gives it, such as `--input`.
pub(crate) fn read(source: Option<&Source>, option: &str) -> anyhow::Result<Option<Json>> {
    let Some(source) = source else {
        return Ok(None);
    };
    let (text, place) = match source {
        Source::Typed(text) => (text.clone(), option.to_owned()),
        Source::File(path) => {
            let text = std::fs::File::open(path)
                .and_then(text_of)
                .with_context(|| format!("could not read {option} from {}", path.display()))?;
            (text, format!("{option} in {}", path.display()))
        }
        Source::Stdin => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                say(&format!(
                    "reading {option} from the terminal: write JSON, then Ctrl-D on a line of its own"
                ));
            }
            let text = text_of(stdin.lock())
                .with_context(|| format!("could not read {option} from stdin"))?;
            (text, format!("{option} on stdin"))
        }
    };
    // The line end that an editor or `echo` leaves is not part of a value.
    let text = match source {
        Source::Typed(_) => text.as_str(),
        Source::File(_) | Source::Stdin => text.trim(),
    };
    check(text, &place, option).map(Some)
}

/// Whitespace around a payload does not count towards its limit. At most this much is read, since the input may be endless.
const BLANKS: usize = 4_096;

/// Reads the text of a payload, up to the limit of payloads.
pub(crate) fn text_of(from: impl Read) -> std::io::Result<String> {
    let most = perennial_core::bounds::PAYLOAD_BYTES;
    let mut text = Vec::new();
    let limit = u64::try_from(most + BLANKS + 1).unwrap_or(u64::MAX);
    from.take(limit).read_to_end(&mut text)?;
    if text.len() > most + BLANKS {
        let message =
            format!("it has more than {most} bytes, which is the most that a payload may have");
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            message,
        ));
    }
    let text = String::from_utf8(text).map_err(|error| {
        let message = format!("it is not UTF-8: {}", error.utf8_error());
        std::io::Error::new(std::io::ErrorKind::InvalidData, message)
    })?;
    // Editors of Windows begin a file so.
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

fn check(text: &str, place: &str, option: &str) -> anyhow::Result<Json> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(perennial::parse_json(text)?),
        Err(error) => Err(not_json(text, place, option, &error).into()),
    }
}

/// The error for a text that is not JSON: the text, the position of the error, and a hint.
fn not_json(text: &str, place: &str, option: &str, error: &serde_json::Error) -> CliError {
    if text.trim().is_empty() {
        let said = CliError::new(
            Exit::Usage,
            format!("{place} is empty, which is not valid JSON"),
        );
        return said.hint(format!("leave {option} out for no value, or write null"));
    }
    let mut problem = error.to_string();
    if let Some(end) = problem.rfind(" at line ") {
        problem.truncate(end);
    }
    let line = text
        .lines()
        .nth(error.line().saturating_sub(1))
        .unwrap_or(text);
    let (shown, caret) = around(line, error.column());
    let at = if text.lines().count() > 1 {
        format!("line {}: ", error.line())
    } else {
        String::new()
    };
    let pad = " ".repeat(at.chars().count() + caret);
    let said = CliError::new(
        Exit::Usage,
        format!("{place} is not JSON: {problem}\n  {at}{shown}\n  {pad}^"),
    );
    let word = text.trim();
    let is_word =
        !word.starts_with(['{', '[', '"', '\'']) && !word.contains(['\n', '\'', '"', '\\']);
    if is_word {
        said.hint(format!("a text needs quotes of its own, and those need quotes for the shell: {option} '\"{}\"'", clip(word, 40)))
    } else if word.starts_with(['{', '[']) && !word.contains('"') {
        said.hint(format!("the shell takes double quotes away; put single quotes around all of it: {option} '{{\"name\": \"value\"}}'"))
    } else {
        said
    }
}

/// The part of a line around a column (from 1, in bytes), and where the column is in it.
fn around(line: &str, column: usize) -> (String, usize) {
    const BEFORE: usize = 50;
    const AFTER: usize = 20;
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let index = line
        .char_indices()
        .take_while(|(at, _)| at + 1 < column)
        .count();
    let first = index.saturating_sub(BEFORE);
    let shown: String = line
        .chars()
        .skip(first)
        .take(index - first + AFTER)
        .map(printable)
        .collect();
    let cut = if first > 0 { "..." } else { "" };
    (format!("{cut}{shown}"), index - first + cut.len())
}

fn clip(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        text.to_owned()
    } else {
        format!("{}...", text.chars().take(chars).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check_typed(text: &str, expected: Expect) {
        let shown = match read(Some(&Source::Typed(text.to_owned())), "--input") {
            Ok(json) => format!("{json:?}\n"),
            Err(error) => {
                let said = error
                    .downcast_ref::<CliError>()
                    .expect("what is typed is the user's to mend");
                let hint = said
                    .hint_text()
                    .map(|hint| format!("hint: {hint}\n"))
                    .unwrap_or_default();
                format!("{said}\n{hint}")
            }
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn json_is_kept_as_it_is_typed() {
        check_typed("{ \"a\": 1.0 }", expect!["Some({ \"a\": 1.0 })\n"]);
        check_typed("null", expect!["Some(null)\n"]);
        check_typed("\"\"", expect!["Some(\"\")\n"]);
    }

    #[test]
    fn what_is_no_json_is_shown_with_where_it_breaks() {
        check_typed(
            "Tokyo",
            expect![[r#"
                --input is not JSON: expected value
                  Tokyo
                  ^
                hint: a text needs quotes of its own, and those need quotes for the shell: --input '"Tokyo"'
            "#]],
        );
        check_typed(
            "{root: /data}",
            expect![[r#"
                --input is not JSON: key must be a string
                  {root: /data}
                   ^
                hint: the shell takes double quotes away; put single quotes around all of it: --input '{"name": "value"}'
            "#]],
        );
        check_typed(
            "{\"a\": 1,\n \"b\": }",
            expect![[r#"
                --input is not JSON: expected value
                  line 2:  "b": }
                                ^
            "#]],
        );
        check_typed(
            "",
            expect![[r#"
                --input is empty, which is not valid JSON
                hint: leave --input out for no value, or write null
            "#]],
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let long = format!("[{}x]", "1, ".repeat(100));
        check_typed(
            &long,
            expect![[r#"
                --input is not JSON: expected value
                  ..., 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, x]
                                                                       ^
                hint: the shell takes double quotes away; put single quotes around all of it: --input '{"name": "value"}'
            "#]],
        );
    }

    #[test]
    fn files_and_stdin_have_a_sign_of_their_own() {
        assert_eq!(
            Source::from("@order.json"),
            Source::File("order.json".into())
        );
        assert_eq!(Source::from("-"), Source::Stdin);
        assert_eq!(Source::from("-1"), Source::Typed("-1".to_owned()));
        assert_eq!(Source::from("\"@\""), Source::Typed("\"@\"".to_owned()));
    }
}
