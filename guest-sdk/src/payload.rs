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
}

impl Payload<'_> {
    /// Writes a value as JSON.
    pub(crate) fn encode(self, value: &impl Serialize) -> Result<String, Failure> {
        serde_json::to_string(value)
            .map_err(|error| self.failure(format!("{self} cannot be written as JSON: {error}")))
    }

    /// Reads a value. An absent payload reads as `null`, so that `()` and `Option` accept it; so does an empty text as input where no text is
    /// expected, which is what clients of other languages send that have no input.
    pub(crate) fn decode<T: DeserializeOwned>(self, json: Option<&str>) -> Result<T, Failure> {
        const EMPTY: &str = r#""""#;
        let read = serde_json::from_str(json.unwrap_or("null"));
        let read = match (&read, self) {
            (Err(_), Self::Input { .. }) if json == Some(EMPTY) => {
                serde_json::from_str("null").or(read)
            }
            _ => read,
        };
        read.map_err(|error| {
            let expected = std::any::type_name::<T>();
            self.failure(format!(
                "{self} is not what was expected, `{expected}`: {}",
                brief(&error.to_string())
            ))
        })
    }

    fn failure(self, message: String) -> Failure {
        let kind = match self {
            Self::Output { .. } => INVALID_OUTPUT,
            Self::Input { .. } | Self::EventData { .. } | Self::CustomStatus => INVALID_INPUT,
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
}
