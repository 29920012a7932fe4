//! Bodies of requests to the HTTP API, as the server reads them and the client of a remote host writes them, and its plain answers.

use std::collections::BTreeMap;

use perennial_core::{Digest, Json, Millis, Reuse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{serde_as, skip_serializing_none};

use crate::client::json::{CollectedModuleJson, HexDigest, Payload, TimeText};
use crate::client::{BulkProgress, Retention, Role};
use crate::engine::ModuleLimits;
use crate::engine::executor::Grants;
use crate::store::{Ages, CollectedModule, Definition};

/// Starts an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Start")]
pub(crate) struct StartBody {
    // Under the names that statuses have, too.
    #[serde(alias = "name")]
    pub(crate) orchestration: String,
    #[serde(alias = "instanceId")]
    pub(crate) id: Option<String>,
    pub(crate) version: Option<String>,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub(crate) input: Option<Json>,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) reuse: ReuseJson,
    /// When it begins. Not together with `startAfterMs`.
    // Read by the server, whose message says how to write a time.
    #[schemars(with = "Option<serde_with::Schema<perennial_core::Timestamp, TimeText>>")]
    pub(crate) scheduled_time: Option<String>,
    /// After how many milliseconds it begins, on the clock of the host.
    pub(crate) start_after_ms: Option<u64>,
    /// A W3C trace context.
    pub(crate) trace_parent: Option<String>,
}

/// What may be replaced by a start under an id that is in use.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(crate) enum ReuseJson {
    #[default]
    Ended,
    Never,
    Any,
}

impl From<ReuseJson> for Reuse {
    fn from(json: ReuseJson) -> Self {
        match json {
            ReuseJson::Ended => Self::Ended,
            ReuseJson::Never => Self::Never,
            ReuseJson::Any => Self::Any,
        }
    }
}

impl From<Reuse> for ReuseJson {
    fn from(reuse: Reuse) -> Self {
        match reuse {
            Reuse::Ended => Self::Ended,
            Reuse::Never => Self::Never,
            Reuse::Any => Self::Any,
        }
    }
}

/// The id of an instance that begins.
#[cfg(feature = "http")]
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Started {
    pub(crate) instance_id: String,
}

/// Changes one instance.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Command")]
pub(crate) struct CommandBody {
    pub(crate) reason: Option<String>,
    /// Its descendants too.
    #[serde(default)]
    pub(crate) recursive: bool,
    /// For a resume: the module with which a quarantined instance goes on.
    pub(crate) module: Option<String>,
}

/// Rewinds an instance.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Rewind")]
pub(crate) struct RewindBody {
    pub(crate) reason: Option<String>,
    /// The module with which it goes on.
    pub(crate) module: Option<String>,
    /// Back to before the first failure of all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) all_failures: bool,
    /// Also where completed work is forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forget_completed: bool,
}

/// Runs an instance again.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Restart")]
pub(crate) struct RestartBody {
    /// The id of the new run; a new one where there is none.
    pub(crate) id: Option<String>,
}

/// Changes many instances.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reason")]
pub(crate) struct ReasonBody {
    pub(crate) reason: Option<String>,
}

/// How many instances were deleted.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Deleted {
    pub(crate) deleted: u64,
}

/// A line of an answer that tells how far an operation is.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum BulkStep {
    Over { over: BulkProgress },
    Error(ErrorBody),
    Step(BulkProgress),
}

/// How long ended instances are kept, in milliseconds; for ever where that is `null` or left out.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewRetention")]
pub(crate) struct RetentionBody {
    completed: Option<u64>,
    failed: Option<u64>,
    terminated: Option<u64>,
}

impl From<Ages> for RetentionBody {
    fn from(ages: Ages) -> Self {
        let ms = |age: Option<Millis>| age.map(|age| age.0);
        Self {
            completed: ms(ages.completed),
            failed: ms(ages.failed),
            terminated: ms(ages.terminated),
        }
    }
}

impl From<RetentionBody> for Retention {
    fn from(body: RetentionBody) -> Self {
        let span = |ms: Option<u64>| ms.map(std::time::Duration::from_millis);
        Self {
            completed: span(body.completed),
            failed: span(body.failed),
            terminated: span(body.terminated),
        }
    }
}

/// Makes a key.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewKey")]
pub(crate) struct NewKeyBody {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// A component with what it is granted and may use.
#[skip_serializing_none]
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upload")]
pub(crate) struct UploadBody {
    /// In base64.
    #[schemars(extend("contentEncoding" = "base64"))]
    pub(crate) component: String,
    pub(crate) grants: Option<Grants>,
    pub(crate) limits: Option<ModuleLimits>,
}

/// Stored modules that nothing points to.
#[serde_as]
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct CollectedModules(
    #[serde_as(as = "Vec<CollectedModuleJson>")] pub(crate) Vec<CollectedModule>,
);

/// What a component is, without its being deployed.
#[serde_as]
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "InspectedModule")]
pub(crate) struct Inspected {
    pub(crate) name: String,
    #[serde_as(as = "HexDigest")]
    pub(crate) digest: Digest,
    /// The version of the contract that it was built for. Hosts before 0.2 do not say.
    #[serde(default)]
    pub(crate) contract: String,
    pub(crate) definitions: Vec<Definition>,
    /// The interfaces that it imports.
    pub(crate) imports: Vec<String>,
    /// Bytes of it.
    pub(crate) size: usize,
}

/// A request that was not done.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetails,
}

/// Why a request was not done.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ErrorDetails {
    /// For programs.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}
