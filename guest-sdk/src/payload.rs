//! JSON payloads, and errors that say which payload did not fit its type.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::kind::{INVALID_INPUT, INVALID_OUTPUT};

/// The role of a payload, for messages: `the input of activity "SayHello"`.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    Input { of: &'static str, name: &'a str },
    Output { of: &'static str, name: &'a str },
    EventData { name: &'a str },
    CustomStatus,
    Value { name: &'a str },
}

impl Payload<'_> {
    /// Writes a value as JSON.
    pub(crate) fn encode(self, value: &impl Serialize) -> Result<String, Failure> {
        serde_json::to_string(value)
            .map_err(|error| self.failure(format!("{self} cannot be written as JSON: {error}")))
    }

    /// Reads a value. Where the text is not of the type as it stands, it is taken for what other clients send:
    ///
    /// - An absent payload reads as `null`, so that `()` and `Option` accept it. So does an empty text as input, which clients send that have
    ///   no input.
    /// - A text in whose place no text is expected reads as the JSON that it contains, once: some clients encode their payloads twice.
    ///
    /// A type that accepts a text gets it as it is, also where its content is JSON.
    pub(crate) fn decode<T: DeserializeOwned>(self, json: Option<&str>) -> Result<T, Failure> {
        let json = json.unwrap_or("null");
        let read = serde_json::from_str(json);
        let read = read.or_else(|error| self.decode_text(json).ok_or(error));
        read.map_err(|error| {
            let expected = std::any::type_name::<T>();
            self.failure(format!(
                "{self} is not what was expected, `{expected}`: {}",
                brief(&error.to_string())
            ))
        })
    }

    /// Reads the content of a JSON text, if it is one.
    fn decode_text<T: DeserializeOwned>(self, json: &str) -> Option<T> {
        let text: String = serde_json::from_str(json).ok()?;
        let content = match self {
            Self::Input { .. } if text.is_empty() => "null",
            _ => &text,
        };
        serde_json::from_str(content).ok()
    }

    fn failure(self, message: String) -> Failure {
        let kind = match self {
            Self::Output { .. } => INVALID_OUTPUT,
            Self::Input { .. }
            | Self::EventData { .. }
            | Self::CustomStatus
            | Self::Value { .. } => INVALID_INPUT,
        };
        Failure::new(kind, message).not_retryable()
    }
}

/// Shortens a message that may quote a whole wrong value: keeps the beginning of the quote, and the end of the message, which names the
/// expected type and the position.
fn brief(message: &str) -> String {
    const KEPT: usize = 150;
    if message.len() <= 3 * KEPT {
        return message.to_owned();
    }
    let head = message.floor_char_boundary(KEPT);
    let tail = message.ceil_char_boundary(message.len() - KEPT);
    format!("{}…{}", &message[..head], &message[tail..])
}

impl fmt::Display for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { of, name } => write!(f, "the input of {of} {name:?}"),
            Self::Output { of, name } => write!(f, "the output of {of} {name:?}"),
            Self::EventData { name } => write!(f, "the data of event {name:?}"),
            Self::CustomStatus => f.write_str("the custom status"),
            Self::Value { name } => write!(f, "the value {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: Payload<'_> = Payload::Input {
        of: "orchestration",
        name: "A",
    };

    #[test]
    fn no_input_comes_in_several_forms() {
        for json in [None, Some("null"), Some(r#""""#)] {
            assert_eq!(INPUT.decode::<()>(json).ok(), Some(()));
            assert_eq!(INPUT.decode::<Option<u32>>(json).ok(), Some(None));
            assert!(INPUT.decode::<u32>(json).is_err());
        }
        let text = INPUT.decode::<String>(Some(r#""""#)).ok();
        assert_eq!(text.as_deref(), Some(""));
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Order {
        item: String,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    enum Colour {
        Red,
    }

    /// A value as a client sends it that encodes it twice.
    fn twice(json: &str) -> String {
        serde_json::to_string(json).unwrap()
    }

    #[test]
    fn what_is_encoded_twice_is_decoded_twice() {
        let order = || Order {
            item: "chair".to_owned(),
        };
        let json = twice(r#"{"item":"chair"}"#);
        for payload in [
            INPUT,
            Payload::EventData { name: "A" },
            Payload::Output {
                of: "activity",
                name: "A",
            },
        ] {
            assert_eq!(payload.decode(Some(&json)).ok(), Some(order()), "{payload}");
        }
        assert_eq!(INPUT.decode(Some(&twice("7"))).ok(), Some(7_u32));
        assert_eq!(INPUT.decode(Some(&twice("[1, 2]"))).ok(), Some(vec![1, 2]));
        assert_eq!(INPUT.decode(Some(&twice("null"))).ok(), Some(()));
        assert_eq!(INPUT.decode(Some(&twice("null"))).ok(), Some(None::<Order>));
        assert_eq!(
            INPUT.decode(Some(&twice(r#""Red""#))).ok(),
            Some(Colour::Red)
        );
        assert_eq!(INPUT.decode(Some(r#""Red""#)).ok(), Some(Colour::Red));
    }

    #[test]
    fn it_is_decoded_twice_once() {
        assert!(INPUT.decode::<u32>(Some(&twice(&twice("7")))).is_err());
        // Nor is what is no JSON: the error is about what was sent.
        let failure = INPUT.decode::<u32>(Some(r#""seven""#)).unwrap_err();
        assert!(
            failure
                .message()
                .contains("invalid type: string \"seven\", expected u32"),
            "{failure}"
        );
    }

    #[test]
    fn a_type_that_accepts_a_text_gets_it_as_it_is() {
        let json = twice(r#"{"item":"chair"}"#);
        let text = r#"{"item":"chair"}"#;
        assert_eq!(INPUT.decode::<String>(Some(&json)).unwrap(), text);
        assert_eq!(
            INPUT.decode::<Option<String>>(Some(&json)).unwrap(),
            Some(text.to_owned())
        );
        assert_eq!(
            INPUT.decode::<serde_json::Value>(Some(&json)).unwrap(),
            serde_json::Value::from(text)
        );
        let raw = INPUT.decode::<Box<serde_json::value::RawValue>>(Some(&json));
        assert_eq!(raw.unwrap().get(), json);
        assert_eq!(INPUT.decode::<String>(Some(&twice(&json))).unwrap(), json);
    }
}
