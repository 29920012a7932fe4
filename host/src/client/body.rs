//! JSON bodies of the HTTP API: requests, and answers that have no other type. The server and the client of a remote host share them.

use std::collections::BTreeMap;

use perennial_core::{Digest, Json, Millis, Reuse, Status, Tags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{Map, serde_as, skip_serializing_none};

use crate::client::instances::start::StartFor;
use crate::client::json::{CollectedModuleJson, HexDigest, Payload, StatusName, TimeText};
use crate::client::{BulkProgress, Retention, Role};
use crate::engine::ModuleLimits;
use crate::engine::executor::{DirGrant, Grants};
use crate::store::{Ages, CollectedModule, Definition};

/// Starts an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Start")]
pub(crate) struct StartBody {
    // Also accepted under the name that statuses use.
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
    /// When the instance may begin. Excludes `startAfterMs`.
    // A text for the server, whose error message explains the format of a time.
    #[schemars(with = "Option<serde_with::Schema<perennial_core::Timestamp, TimeText>>")]
    pub(crate) scheduled_time: Option<String>,
    /// Delay in milliseconds before the instance begins, on the host's clock.
    pub(crate) start_after_ms: Option<u64>,
    /// A W3C `traceparent`: the instance continues that trace.
    pub(crate) trace_parent: Option<String>,
    /// After how many milliseconds the instance is asked to cancel, and fails with `Timeout`.
    pub(crate) execution_timeout_ms: Option<u64>,
    /// An event that the instance gets. Then a live instance with the id is no error: it gets the event.
    pub(crate) event: Option<EventBody>,
}

/// An event for an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "StartEvent")]
pub(crate) struct EventBody {
    pub(crate) name: String,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub(crate) data: Option<Json>,
}

/// A request to an instance.
#[skip_serializing_none]
#[serde_as]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Request")]
pub(crate) struct RequestBody {
    pub(crate) name: String,
    /// Unique within the instance: a request that is sent again under its id is the same one, and gets the same answer. A new one by default.
    pub(crate) request_id: Option<String>,
    #[serde_as(as = "Payload")]
    #[serde(default)]
    pub(crate) input: Option<Json>,
    /// How the instance is started if there is no live one. Its id is that of the path.
    pub(crate) start: Option<StartBody>,
}

impl From<StartFor> for StartBody {
    fn from(of: StartFor) -> Self {
        let StartFor {
            start,
            delay,
            execution_timeout,
        } = of;
        Self {
            orchestration: start.name,
            id: Some(start.id),
            version: start.version,
            input: start.input,
            tags: start.tags.into_iter().collect(),
            reuse: start.reuse.into(),
            scheduled_time: match delay {
                Some(_) => None,
                None => start.scheduled_for.map(|at| at.to_string()),
            },
            start_after_ms: delay.map(|delay| delay.0),
            trace_parent: start.trace_parent,
            execution_timeout_ms: execution_timeout.map(|limit| limit.0),
            event: None,
        }
    }
}

/// Which existing instance a start may replace if its id is in use.
#[serde_as]
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(crate) enum ReuseJson {
    #[default]
    Ended,
    Never,
    Any,
    Statuses(#[serde_as(as = "Vec<StatusName>")] Vec<Status>),
}

impl From<ReuseJson> for Reuse {
    fn from(json: ReuseJson) -> Self {
        match json {
            ReuseJson::Ended => Self::Ended,
            ReuseJson::Never => Self::Never,
            ReuseJson::Any => Self::Any,
            ReuseJson::Statuses(these) => Self::Among(these.into_iter().collect()),
        }
    }
}

impl From<Reuse> for ReuseJson {
    fn from(reuse: Reuse) -> Self {
        match reuse {
            Reuse::Ended => Self::Ended,
            Reuse::Never => Self::Never,
            Reuse::Any => Self::Any,
            Reuse::Among(these) => Self::Statuses(these.iter().collect()),
        }
    }
}

/// The id of the new instance.
#[cfg(feature = "http")]
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Started {
    pub(crate) instance_id: String,
}

/// Cancels, terminates, suspends or resumes an instance.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Command")]
pub(crate) struct CommandBody {
    pub(crate) reason: Option<String>,
    /// Whether the command also applies to all descendants.
    #[serde(default)]
    pub(crate) recursive: bool,
    /// Only for a resume: the module, by name or digest, on which a quarantined instance continues.
    pub(crate) module: Option<String>,
    /// Only for a cancellation: how many milliseconds the instance has to clean up before it is terminated; a minute by default.
    pub(crate) grace_ms: Option<u64>,
}

/// What a command did to the instance.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CommandOutcome")]
pub(crate) struct CommandAnswer {
    /// False if the instance was already in the state that the command leads to, so that nothing was changed.
    pub(crate) changed: bool,
}

/// Changes of tags: each key with its new value, or with `null`, which removes it.
#[serde_as]
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "TagChanges")]
pub(crate) struct TagsBody(#[serde_as(as = "Map<_, _>")] pub(crate) Vec<(String, Option<String>)>);

/// The tags of an instance.
#[serde_as]
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Tags")]
pub(crate) struct TagsAnswer(#[serde_as(as = "Map<_, _>")] pub(crate) Tags);

/// Rewinds an instance.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Rewind")]
pub(crate) struct RewindBody {
    pub(crate) reason: Option<String>,
    /// The module, by name or digest, on which the instance continues.
    pub(crate) module: Option<String>,
    /// Rewinds to before the first failure of the whole execution.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) all_failures: bool,
    /// Rewinds even if that discards completed work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forget_completed: bool,
}

/// Restarts an instance.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Restart")]
pub(crate) struct RestartBody {
    /// The id of the new instance; generated if absent.
    pub(crate) id: Option<String>,
}

/// A command to all instances that match the filter.
#[skip_serializing_none]
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Reason")]
pub(crate) struct ReasonBody {
    pub(crate) reason: Option<String>,
}

/// The number of deleted instances.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Deleted {
    pub(crate) deleted: u64,
}

/// One line of a streamed answer: either progress or the final result.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum BulkStep {
    Over { over: BulkProgress },
    Error(ErrorBody),
    Step(BulkProgress),
}

/// How long ended instances are kept, in milliseconds; `null` or absent keeps them until they are purged.
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

/// Creates an access key.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewKey")]
pub(crate) struct NewKeyBody {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// What the activities of a module may access.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(rename = "Grants")]
pub(crate) struct GrantsBody {
    /// Directories of the host.
    dirs: Vec<DirGrant>,
    /// Environment variables, as name and value.
    env: Vec<(String, String)>,
    /// Hosts that the activity `http` may send requests to for the module's orchestrations, as `HOST` or `HOST:PORT`. Without a port, ports
    /// 80 and 443 are granted. `*.example.com` is every host below that domain. `http_hosts` is accepted too.
    // The name in the hub's file, and of earlier hosts.
    #[serde(alias = "http_hosts")]
    http_hosts: Vec<String>,
}

impl From<Grants> for GrantsBody {
    fn from(grants: Grants) -> Self {
        Self {
            dirs: grants.dirs,
            env: grants.env,
            http_hosts: grants.http_hosts,
        }
    }
}

impl From<GrantsBody> for Grants {
    fn from(body: GrantsBody) -> Self {
        let mut grants = Self::new();
        grants.dirs = body.dirs;
        grants.env = body.env;
        grants.http_hosts = body.http_hosts;
        grants
    }
}

/// A component to deploy, or a stored one to deploy again, with its grants and limits.
#[skip_serializing_none]
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Upload")]
pub(crate) struct UploadBody {
    /// The component, in base64.
    #[schemars(extend("contentEncoding" = "base64"))]
    pub(crate) component: Option<String>,
    /// Instead of a component: at least six digits of the digest of a stored module, or the name of a deployed one.
    pub(crate) stored: Option<String>,
    pub(crate) grants: Option<GrantsBody>,
    pub(crate) limits: Option<ModuleLimits>,
}

/// Stored modules that nothing refers to.
#[serde_as]
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct CollectedModules(
    #[serde_as(as = "Vec<CollectedModuleJson>")] pub(crate) Vec<CollectedModule>,
);

/// A description of a component that is not deployed.
#[serde_as]
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "InspectedModule")]
pub(crate) struct Inspected {
    pub(crate) name: String,
    #[serde_as(as = "HexDigest")]
    pub(crate) digest: Digest,
    /// The version of the contract that it was built for. Absent in answers of hosts before 0.2.
    #[serde(default)]
    pub(crate) contract: String,
    pub(crate) definitions: Vec<Definition>,
    /// The WIT interfaces that it imports.
    pub(crate) imports: Vec<String>,
    /// Its size in bytes.
    pub(crate) size: usize,
}

/// The answer to a request that failed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody {
    pub(crate) error: ErrorDetails,
}

/// Why a request failed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ErrorDetails {
    /// A stable code for programs, such as `notFound`.
    pub(crate) code: String,
    /// An explanation for people.
    pub(crate) message: String,
}
