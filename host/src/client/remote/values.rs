//! Parses what is written alike everywhere in the answers of a remote host: times, statuses, digests, payloads, failures.

use perennial_core::{Cause, Digest, Failure, Json, Status, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::client::parse_time;

/// A time, as RFC 3339.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub(super) Timestamp);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(Timestamp(u64::MAX)));
        }
        let time = parse_time(&text).ok_or_else(|| format!("{text:?} is no time"))?;
        Ok(Self(time))
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct StatusText(pub(super) Status);

impl TryFrom<String> for StatusText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let status = Status::from_name(&text).ok_or_else(|| format!("{text:?} is no status"))?;
        Ok(Self(status))
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Hex(pub(super) Digest);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digest = Digest::from_hex(&text).ok_or_else(|| format!("{text:?} is no digest"))?;
        Ok(Self(digest))
    }
}

/// A payload: one that is `null` is a payload too.
pub(super) fn payload<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
    Box::<RawValue>::deserialize(from).map(|raw| Some(Json::from_text(raw.get())))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FailureWire {
    kind: String,
    message: String,
    retryable: bool,
    #[serde(default, deserialize_with = "payload")]
    details: Option<Json>,
    trace: Option<String>,
    #[serde(default)]
    causes: Vec<Cause>,
}

impl From<FailureWire> for Failure {
    fn from(wire: FailureWire) -> Self {
        Self {
            kind: wire.kind,
            message: wire.message,
            details: wire.details,
            retryable: wire.retryable,
            trace: wire.trace,
            causes: wire.causes,
        }
    }
}
