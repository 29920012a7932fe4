//! JSON of the public types.
//!
//! The core serializes its types in the stored form. These adapters write what clients read and send: times as RFC 3339, digests in
//! hexadecimal, payloads as plain JSON. Serialization, deserialization and the schema of each API type derive from one definition, which
//! the server, the client of a remote host, the command line and the OpenAPI document share.

use std::borrow::Cow;
use std::collections::BTreeMap;

use perennial_core::{
    AttemptRun, Cause, Digest, FailedAttempt, Failure, Json, Quarantine, Status, Timestamp,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_with::schemars_1::JsonSchemaAs;
use serde_with::{
    DeserializeAs, FromInto, SerializeAs, serde_as, serde_conv, skip_serializing_none,
};

use crate::client::parse_time;
use crate::store::{CollectedModule, DefinitionKind, UpdatedName};

/// The text for a time that no calendar can express, such as that of a timer that never fires.
pub(crate) const NEVER: &str = "never";

serde_conv!(
    pub(crate) TimeText,
    Timestamp,
    Timestamp::to_string,
    |text: Cow<'_, str>| match &*text {
        NEVER => Ok(Timestamp(u64::MAX)),
        time => parse_time(time).ok_or_else(|| format!("{time:?} is no time")),
    }
);

serde_conv!(
    pub(crate) StatusName,
    Status,
    |status: &Status| status.name(),
    |name: Cow<'_, str>| Status::from_name(&name).ok_or_else(|| format!("{name:?} is no status"))
);

serde_conv!(
    pub(crate) HexDigest,
    Digest,
    Digest::to_string,
    |text: Cow<'_, str>| Digest::from_hex(&text).ok_or_else(|| format!("{text:?} is no digest"))
);

impl JsonSchemaAs<Timestamp> for TimeText {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl JsonSchemaAs<Status> for StatusName {
    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": Status::ALL.map(Status::name) })
    }
}

impl JsonSchemaAs<Digest> for HexDigest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

pub(crate) fn raw(payload: &Json) -> Box<RawValue> {
    let text = payload.as_str().to_owned();
    // Payloads are checked on arrival; one that is not JSON after all is shown as a string.
    RawValue::from_string(text).unwrap_or_else(|_| {
        let text = serde_json::Value::from(payload.as_str()).to_string();
        RawValue::from_string(text).unwrap_or_default()
    })
}

/// An optional payload. `null` is a payload too, and differs from an absent one.
pub(crate) struct Payload;

impl SerializeAs<Option<Json>> for Payload {
    fn serialize_as<S: Serializer>(payload: &Option<Json>, to: S) -> Result<S::Ok, S::Error> {
        payload.as_ref().map(raw).serialize(to)
    }
}

impl<'de> DeserializeAs<'de, Option<Json>> for Payload {
    fn deserialize_as<D: Deserializer<'de>>(from: D) -> Result<Option<Json>, D::Error> {
        Box::<RawValue>::deserialize(from).map(|raw| Some(Json::from_text(raw.get())))
    }
}

impl JsonSchemaAs<Option<Json>> for Payload {
    fn schema_name() -> Cow<'static, str> {
        "Payload".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

/// A payload that is always there, such as one of several named ones.
pub(crate) struct Present;

impl SerializeAs<Json> for Present {
    fn serialize_as<S: Serializer>(payload: &Json, to: S) -> Result<S::Ok, S::Error> {
        raw(payload).serialize(to)
    }
}

impl<'de> DeserializeAs<'de, Json> for Present {
    fn deserialize_as<D: Deserializer<'de>>(from: D) -> Result<Json, D::Error> {
        Box::<RawValue>::deserialize(from).map(|raw| Json::from_text(raw.get()))
    }
}

impl JsonSchemaAs<Json> for Present {
    fn schema_name() -> Cow<'static, str> {
        "PresentPayload".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

/// The failure of an orchestration or an activity.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Failure", rename_all = "camelCase")]
#[schemars(rename = "Failure")]
pub(crate) struct FailureJson {
    kind: String,
    message: String,
    retryable: bool,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    details: Option<Json>,
    trace: Option<String>,
    #[serde_as(as = "Vec<CauseJson>")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
}

/// One cause in the chain of a failure.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Cause")]
#[schemars(rename = "Cause")]
pub(crate) struct CauseJson {
    kind: String,
    message: String,
    trace: Option<String>,
}

/// A name that a deployment defines, and how its meaning changed.
#[serde_as]
#[skip_serializing_none]
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "UpdatedName")]
#[schemars(rename = "UpdatedName")]
pub(crate) struct UpdatedNameJson {
    kind: DefinitionKind,
    name: String,
    #[serde_as(as = "Option<HexDigest>")]
    before: Option<Digest>,
    changed: bool,
}

/// A stored module that nothing refers to.
#[serde_as]
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "CollectedModule")]
#[schemars(rename = "CollectedModule")]
pub(crate) struct CollectedModuleJson {
    #[serde_as(as = "HexDigest")]
    digest: Digest,
    #[serde(rename = "size")]
    bytes: u64,
}

/// Declares `serde_as` adapters that serialize a type through another one, also inside options and lists.
macro_rules! adapters {
    ($($json:ident for $value:ty),*) => {$(
        impl SerializeAs<$value> for $json {
            fn serialize_as<S: Serializer>(value: &$value, to: S) -> Result<S::Ok, S::Error> {
                $json::serialize(value, to)
            }
        }

        impl<'de> DeserializeAs<'de, $value> for $json {
            fn deserialize_as<D: Deserializer<'de>>(from: D) -> Result<$value, D::Error> {
                $json::deserialize(from)
            }
        }

        impl JsonSchemaAs<$value> for $json {
            fn schema_name() -> Cow<'static, str> {
                <$json as JsonSchema>::schema_name()
            }

            fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
                <$json as JsonSchema>::json_schema(schemas)
            }
        }
    )*};
}

adapters!(
    FailureJson for Failure,
    CauseJson for Cause,
    UpdatedNameJson for UpdatedName,
    CollectedModuleJson for CollectedModule
);

/// Why the host stopped an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Quarantine")]
pub(crate) struct QuarantineJson {
    reason: String,
    turn: Option<u32>,
    event: Option<u64>,
    recorded: Option<String>,
    asked: Option<String>,
    #[serde_as(as = "Option<HexDigest>")]
    module: Option<Digest>,
    host: String,
    #[serde_as(as = "TimeText")]
    time: Timestamp,
}

impl From<Quarantine> for QuarantineJson {
    fn from(quarantine: Quarantine) -> Self {
        Self {
            reason: quarantine.reason,
            turn: quarantine.turn,
            event: quarantine.event,
            recorded: quarantine.recorded,
            asked: quarantine.asked,
            module: quarantine.module,
            host: quarantine.host,
            time: quarantine.at,
        }
    }
}

impl From<QuarantineJson> for Quarantine {
    fn from(json: QuarantineJson) -> Self {
        let mut quarantine = Self::because(json.reason);
        (quarantine.turn, quarantine.event) = (json.turn, json.event);
        (quarantine.recorded, quarantine.asked) = (json.recorded, json.asked);
        quarantine.module = json.module;
        (quarantine.host, quarantine.at) = (json.host, json.time);
        quarantine
    }
}

/// An attempt of an activity that failed or was cut off by a crash.
#[serde_as]
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "FailedAttempt")]
pub(crate) struct FailedAttemptJson {
    attempt: u32,
    #[serde_as(as = "TimeText")]
    started_at: Timestamp,
    #[serde_as(as = "TimeText")]
    ended_at: Timestamp,
    #[serde_as(as = "FailureJson")]
    failure: Failure,
}

impl From<FailedAttempt> for FailedAttemptJson {
    fn from(failed: FailedAttempt) -> Self {
        let AttemptRun {
            attempt,
            started_at,
            ended_at,
        } = failed.run;
        Self {
            attempt,
            started_at,
            ended_at,
            failure: failed.failure,
        }
    }
}

impl From<FailedAttemptJson> for FailedAttempt {
    fn from(json: FailedAttemptJson) -> Self {
        Self {
            run: AttemptRun {
                attempt: json.attempt,
                started_at: json.started_at,
                ended_at: json.ended_at,
            },
            failure: json.failure,
        }
    }
}

/// The number of instances in each status; statuses without instances are absent.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counts(BTreeMap<String, u64>);

pub(crate) type AsCounts = FromInto<Counts>;

impl From<Vec<(Status, u64)>> for Counts {
    fn from(counts: Vec<(Status, u64)>) -> Self {
        let named = counts
            .into_iter()
            .map(|(status, n)| (status.name().to_owned(), n));
        Self(named.collect())
    }
}

impl From<Counts> for Vec<(Status, u64)> {
    /// Ordered by status. Statuses that this version does not know are left out.
    fn from(Counts(by_name): Counts) -> Self {
        let counted = |status: &Status| Some((*status, *by_name.get(status.name())?));
        Status::ALL.iter().filter_map(counted).collect()
    }
}
