//! Input and output of the activity `http`. The guest SDK has the same types; histories contain them, so they stay readable.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default = "get")]
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) headers: Vec<RequestHeader>,
    #[serde(flatten)]
    pub(super) body: Body,
}

fn get() -> String {
    "GET".to_owned()
}

/// A header of a request: its value is given, or read from an environment variable of the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RequestHeader {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: Option<String>,
    /// An environment variable that the module is granted. Its value never enters a history.
    #[serde(default)]
    pub(super) from_env: Option<String>,
}

/// Bytes: as text if they are valid UTF-8, so that people can read a history; otherwise as Base64.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "body")]
    text: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "bodyBase64"
    )]
    base64: Option<String>,
}

impl Body {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() => Self::default(),
            Ok(text) => Self {
                text: Some(text),
                base64: None,
            },
            Err(error) => Self {
                text: None,
                base64: Some(STANDARD.encode(error.as_bytes())),
            },
        }
    }

    /// The bytes; `None` if the body is absent, and an error if it is malformed.
    pub(super) fn bytes(&self) -> Result<Option<Vec<u8>>, String> {
        match (&self.text, &self.base64) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(text.clone().into_bytes())),
            (None, Some(base64)) => STANDARD
                .decode(base64)
                .map(Some)
                .map_err(|error| format!("bodyBase64 is not Base64: {error}")),
            (Some(_), Some(_)) => Err("it has a body and a bodyBase64".to_owned()),
        }
    }
}

/// A response.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    pub(super) status: u16,
    /// The final address, after redirects.
    pub(super) url: String,
    pub(super) headers: Vec<ResponseHeader>,
    #[serde(flatten)]
    pub(super) body: Body,
}

/// A header of a response.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ResponseHeader {
    pub(super) name: String,
    pub(super) value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_whatever_they_are() {
        for bytes in [&b"plain \"text\""[..], &[0xff, 0, 0xfe], "é".as_bytes()] {
            let body = Body::of(bytes.to_vec());
            let text = serde_json::to_string(&body).unwrap();
            let again: Body = serde_json::from_str(&text).unwrap();
            assert_eq!(again.bytes().unwrap().as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(Body::of(Vec::new()).bytes(), Ok(None));
    }
}
