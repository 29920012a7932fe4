//! Types of the hub itself: modules, names, keys, and settings.

use std::collections::{BTreeMap, BTreeSet};

use perennial_core::{Digest, Millis, Status, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;

/// The kind of a definition.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DefinitionKind {
    /// A deterministic workflow.
    Orchestration,
    /// An ordinary function, which may have side effects.
    Activity,
}

impl std::fmt::Display for DefinitionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Orchestration => "orchestration",
            Self::Activity => "activity",
        })
    }
}

/// A named definition of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct Definition {
    /// Orchestration or activity.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// The version, if the module declares one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// The module's description of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// The JSON Schema of the input, as a JSON text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub input_schema: Option<String>,
}

/// A module to deploy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewModule {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) component: Vec<u8>,
    pub(crate) contract: String,
    #[serde(with = "as_json")]
    pub(crate) definitions: Vec<Definition>,
    pub(crate) imports: Vec<String>,
    /// The new grants, as JSON; `None` keeps those of its name.
    pub(crate) grants: Option<String>,
    /// Whether to take over names that another module owns.
    pub(crate) replace: bool,
    /// The new limits of its executions, as JSON; `None` keeps those of its name.
    pub(crate) limits: Option<String>,
}

/// A deployed module.
#[derive(Clone, Debug)]
pub(crate) struct ModuleRow {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) imports: Vec<String>,
    pub(crate) grants: String,
    pub(crate) limits: String,
    pub(crate) deployed_at: Timestamp,
    pub(crate) size: u64,
}

/// A stored module, whether a name refers to it or not.
#[derive(Clone, Debug)]
pub(crate) struct StoredRow {
    pub(crate) digest: Digest,
    pub(crate) contract: String,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) imports: Vec<String>,
    pub(crate) size: u64,
    pub(crate) stored_at: Timestamp,
    /// The names of modules that refer to it.
    pub(crate) deployed_as: Vec<String>,
    /// The modules that own a name that it defines.
    pub(crate) versions_of: Vec<String>,
}

/// A module that was deleted because nothing referred to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CollectedModule {
    /// The digest of the module.
    pub digest: Digest,
    /// The size of its component in bytes.
    pub bytes: u64,
}

/// A name whose module a deployment changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UpdatedName {
    /// Orchestration or activity.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// The former module; `None` if the name is new.
    pub before: Option<Digest>,
    /// Whether the digest or the owning module changed; `false` for a repeated deployment.
    pub changed: bool,
}

/// A deployment conflict: another module owns the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameTaken {
    pub(crate) kind: DefinitionKind,
    pub(crate) name: String,
    pub(crate) owner: String,
}

/// All deployed names with their meanings.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameRows {
    /// Orchestrations and activities: the module, its digest, the version.
    pub(crate) definitions: BTreeMap<(DefinitionKind, String), (String, Digest, Option<String>)>,
    /// Versions of orchestrations.
    pub(crate) versions: BTreeMap<(String, String), Digest>,
    /// The limits of each module's executions, as JSON, unless they are the host's defaults.
    pub(crate) limits: BTreeMap<Digest, String>,
    /// Activities that each module defines, including old versions of modules.
    pub(crate) activities_of: BTreeMap<Digest, Vec<String>>,
    /// The modules whose executions can be told to cancel.
    pub(crate) cancellable: BTreeSet<Digest>,
}

/// A stored key: its hash, not the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether it permits changes.
    pub(crate) admin: bool,
    /// The SHA-256 of the key's text.
    pub(crate) hash: [u8; 32],
    pub(crate) created_at: Timestamp,
}

/// Whether a collection keeps old versions of orchestrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OldVersions {
    /// They can still be started, so they keep their modules.
    Keep,
    /// They can no longer be started.
    Forget,
}

/// Retention: how long ended instances are kept, by status; `None` keeps them for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ages {
    pub(crate) completed: Option<Millis>,
    pub(crate) failed: Option<Millis>,
    pub(crate) terminated: Option<Millis>,
}

impl Ages {
    /// The age for a status; `None` also for those that are not ends.
    pub(crate) fn of(&self, status: Status) -> Option<Millis> {
        match status {
            Status::Completed => self.completed,
            Status::Failed => self.failed,
            Status::Terminated => self.terminated,
            Status::Pending | Status::Running | Status::Suspended => None,
        }
    }
}

/// The names that remote workers have run in this hub, in lower case: a caller may name them while no worker is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerNames {
    pub(crate) orchestrations: BTreeSet<String>,
    pub(crate) activities: BTreeSet<String>,
}

/// The last host of a hub: what the next one can rely on to know which attempts had begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastHost {
    /// The boot of the machine that it ran on. If the machine still runs, the flight recorder is complete.
    pub(crate) boot: Option<String>,
    /// Whether it stopped in good order, and counted the attempts that it cut off.
    pub(crate) stopped: bool,
}

impl LastHost {
    /// Whether attempts may have begun of which neither the hub nor the flight recorder knows, as seen by a host on this boot of a machine.
    pub(crate) fn may_have_lost(&self, boot: Option<&str>) -> bool {
        !self.stopped && (boot.is_none() || self.boot.as_deref() != boot)
    }
}

/// A setting of a hub, stored as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// [`Ages`].
    Retention,
    /// [`WorkerNames`].
    WorkerNames,
    /// [`LastHost`].
    LastHost,
}

impl Setting {
    /// Its name in the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::WorkerNames => "worker-names",
            Self::LastHost => "last-host",
        }
    }

    /// Reads its value.
    pub(crate) fn read<T: DeserializeOwned>(self, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text)
            .map_err(|e| StoreError::Corrupt(format!("the setting {:?}: {e}", self.name())))
    }
}

/// Definitions omit absent fields, which a format without field names cannot express. So a command contains them as a JSON text.
mod as_json {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Definition;

    pub(super) fn serialize<S: Serializer>(
        definitions: &[Definition],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        serde_json::to_string(definitions)
            .map_err(S::Error::custom)?
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Definition>, D::Error> {
        serde_json::from_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
