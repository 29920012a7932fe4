//! Payloads: the texts that an SDK serialised, and the JSON that the hub stores.
//!
//! Invariant: an SDK gets back exactly the text that it sent; absent, empty and `null` are three different payloads. A text that is JSON is
//! stored as it is, so that components and other clients can read it. Any other text is stored as a JSON string that begins with the
//! character NUL, and so is a JSON text that looks like one of these or that other clients could not read.

use perennial_core::Json;

/// How a stored text begins that is not JSON itself.
const MARK: &str = r#""\u0000"#;

/// The first character of a reason that is not JSON.
const REASON_MARK: char = '\u{1}';

/// The payload that stores a text.
pub(crate) fn from_text(text: String) -> Json {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
    if is_json && !text.starts_with(MARK) {
        let json = Json::from_text(text);
        if json.check_readable().is_ok() {
            return json;
        }
        return marked(json.as_str());
    }
    marked(&text)
}

fn marked(text: &str) -> Json {
    Json::from_text(json_string(&format!("\0{text}")))
}

/// The text that a payload stores.
pub(crate) fn to_text(json: &Json) -> String {
    let text = json.as_str();
    if text.starts_with(MARK)
        && let Ok(mut marked) = serde_json::from_str::<String>(text)
    {
        marked.remove(0);
        return marked;
    }
    text.to_owned()
}

/// The reason of a termination whose output is this text. A reason is a text for people: a JSON string becomes its content, unless
/// that would be taken for JSON when it is read.
pub(crate) fn reason_from_text(text: String) -> String {
    match serde_json::from_str::<serde_json::Value>(&text) {
        Err(_) => format!("{REASON_MARK}{text}"),
        Ok(serde_json::Value::String(content))
            if !content.starts_with(REASON_MARK)
                && !content.contains('\0')
                && serde_json::from_str::<serde::de::IgnoredAny>(&content).is_err()
                && json_string(&content) == text =>
        {
            content
        }
        Ok(_) => text,
    }
}

/// The output of an instance that was terminated for this reason.
pub(crate) fn reason_to_text(reason: &str) -> String {
    if let Some(text) = reason.strip_prefix(REASON_MARK) {
        return text.to_owned();
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(reason).is_ok() {
        return reason.to_owned();
    }
    json_string(reason)
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_knows_the_empty_text() {
        let stored = from_text(String::new());
        assert_eq!(stored.as_str(), crate::engine::remote::items::EMPTY_TEXT);
    }

    #[test]
    fn every_text_comes_back_as_it_was() {
        let deep = "[".repeat(300) + &"]".repeat(300);
        for text in [
            "",
            "null",
            "0",
            "\"\"",
            "false",
            " {\"a\" : 1.0} ",
            "not JSON",
            "\0",
            "\"\\u0000\"",
            "\"\\u0000nested\"",
            "\"\\ud800\"",
            "1e999",
            "é\"\\",
            &deep,
        ] {
            let stored = from_text(text.to_owned());
            assert!(
                serde_json::from_str::<serde_json::Value>(stored.as_str()).is_ok(),
                "{stored}"
            );
            assert_eq!(stored.check_readable(), Ok(()), "{stored}");
            assert_eq!(to_text(&stored), text);
        }
    }

    #[test]
    fn json_is_stored_as_it_is() {
        for text in ["null", " [1, 2]", "\"a\"", "\"a\\u0000\""] {
            assert_eq!(from_text(text.to_owned()).as_str(), text);
        }
        assert_eq!(from_text("a".to_owned()).as_str(), "\"\\u0000a\"");
    }

    #[test]
    fn the_output_of_a_termination_comes_back_as_it_was_and_its_reason_can_be_read() {
        for (text, reason) in [
            ("\"ordered twice\"", "ordered twice"),
            ("null", "null"),
            ("\"null\"", "\"null\""),
            ("{\"a\":1}", "{\"a\":1}"),
            ("\"42\"", "\"42\""),
            ("\"\\\"x\\\"\"", "\"\\\"x\\\"\""),
            ("\"\\u0041\"", "\"\\u0041\""),
            ("\"\\u0000\"", "\"\\u0000\""),
            ("", "\u{1}"),
            ("plain", "\u{1}plain"),
        ] {
            assert_eq!(reason_from_text(text.to_owned()), reason);
            assert_eq!(reason_to_text(reason), text);
        }
        assert_eq!(
            reason_to_text("the shop is closed"),
            "\"the shop is closed\""
        );
    }
}
