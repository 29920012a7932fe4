//! Parses the answers of a remote host.

use std::collections::BTreeMap;
use std::time::Duration;

use perennial_core::{AttemptRun, FailedAttempt, Failure, Json, Quarantine, Status, TaskId};
use serde::Deserialize;

use super::events::EventRead;
use super::values::{FailureWire, Hex, StatusText, Time, payload};
use crate::client::{
    AccessKey, BulkProgress, HistoryPage, HubInfo, HubStats, InstanceFamily, InstanceStatus,
    ModuleInfo, NewAccessKey, Page, Retention, RewindRecord, Role, Wait,
};
use crate::engine::ModuleLimits;
use crate::engine::executor::Grants;
use crate::store::{CollectedModule, Definition, DefinitionKind, UpdatedName};

/// A request that was not done.
#[derive(Deserialize)]
pub(super) struct Failed {
    pub(super) error: FailedError,
}

#[derive(Deserialize)]
pub(super) struct FailedError {
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QuarantineWire {
    reason: String,
    turn: Option<u32>,
    event: Option<u64>,
    recorded: Option<String>,
    asked: Option<String>,
    module: Option<Hex>,
    host: String,
    time: Time,
}

impl From<QuarantineWire> for Quarantine {
    fn from(wire: QuarantineWire) -> Self {
        let mut why = Self::because(wire.reason);
        (why.turn, why.event) = (wire.turn, wire.event);
        (why.recorded, why.asked) = (wire.recorded, wire.asked);
        why.module = wire.module.map(|module| module.0);
        (why.host, why.at) = (wire.host, wire.time.0);
        why
    }
}

#[derive(Deserialize)]
struct RewindWire {
    time: Time,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttemptWire {
    attempt: u32,
    started_at: Time,
    ended_at: Time,
    failure: FailureWire,
}

impl From<AttemptWire> for FailedAttempt {
    fn from(wire: AttemptWire) -> Self {
        Self {
            run: AttemptRun {
                attempt: wire.attempt,
                started_at: wire.started_at.0,
                ended_at: wire.ended_at.0,
            },
            failure: wire.failure.into(),
        }
    }
}

/// A wait: `kind` says which of the others are there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WaitWire {
    kind: String,
    name: Option<String>,
    task: Option<TaskId>,
    attempt: Option<u32>,
    running_since: Option<Time>,
    next_attempt_time: Option<Time>,
    #[serde(default)]
    failed_attempts: Vec<AttemptWire>,
    last_failure: Option<FailureWire>,
    due: Option<Time>,
    instance_id: Option<String>,
    runtime_status: Option<StatusText>,
    note: Option<String>,
}

impl WaitWire {
    /// `None` for a kind that a later version has.
    fn wait(self, quarantine: Option<&Quarantine>) -> Option<Wait> {
        let due = self.due.map(|due| due.0);
        Some(match self.kind.as_str() {
            "externalEvent" => Wait::ExternalEvent { name: self.name? },
            "activity" => Wait::Activity {
                task: self.task?,
                name: self.name?,
                attempt: self.attempt?,
                running_since: self.running_since.map(|at| at.0),
                next_attempt_at: self.next_attempt_time.map(|at| at.0),
                last_failure: self.last_failure.map(Failure::from),
                failed_attempts: self.failed_attempts.into_iter().map(Into::into).collect(),
            },
            "timer" => Wait::Timer {
                task: self.task?,
                due: due?,
            },
            "start" => Wait::Start { due: due? },
            "child" => Wait::Child {
                instance_id: self.instance_id?,
                status: self.runtime_status?.0,
            },
            "note" => Wait::Note(self.note?),
            "quarantine" => Wait::Quarantine(Box::new(quarantine?.clone())),
            "host" => Wait::Host,
            "firstTurn" => Wait::FirstTurn,
            "nothing" => Wait::Nothing,
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceWire {
    instance_id: String,
    name: String,
    runtime_status: StatusText,
    created_time: Time,
    scheduled_time: Option<Time>,
    started_time: Option<Time>,
    last_updated_time: Time,
    #[serde(default)]
    execution_id: String,
    version: Option<String>,
    module: Option<Hex>,
    #[serde(default, deserialize_with = "payload")]
    input: Option<Json>,
    #[serde(default, deserialize_with = "payload")]
    custom_status: Option<Json>,
    #[serde(default, deserialize_with = "payload")]
    output: Option<Json>,
    failure: Option<FailureWire>,
    parent_instance_id: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    quarantine: Option<QuarantineWire>,
    #[serde(default)]
    rewinds: Vec<RewindWire>,
    #[serde(default)]
    waits_for: Vec<WaitWire>,
    #[serde(default)]
    still_runs: Vec<WaitWire>,
    #[serde(default)]
    waits_for_more: u64,
    #[serde(default)]
    events_without_effect: Vec<String>,
    history_events: u64,
    history_bytes: u64,
    history: Option<Vec<EventRead>>,
}

impl From<InstanceWire> for InstanceStatus {
    fn from(wire: InstanceWire) -> Self {
        let quarantine = wire.quarantine.map(Quarantine::from);
        let waits = wire.waits_for.into_iter();
        let rewinds = wire.rewinds.into_iter().map(|rewind| RewindRecord {
            at: rewind.time.0,
            reason: rewind.reason,
        });
        let history = wire.history;
        Self {
            instance_id: wire.instance_id,
            name: wire.name,
            runtime_status: wire.runtime_status.0,
            created_at: wire.created_time.0,
            started_at: wire.started_time.map(|at| at.0),
            scheduled_for: wire.scheduled_time.map(|at| at.0),
            last_updated_at: wire.last_updated_time.0,
            execution_id: wire.execution_id,
            version: wire.version,
            module: wire.module.map(|module| module.0),
            input: wire.input,
            custom_status: wire.custom_status,
            output: wire.output,
            failure: wire.failure.map(Failure::from),
            parent_instance_id: wire.parent_instance_id,
            tags: wire.tags.into_iter().collect(),
            waits_for: waits
                .filter_map(|wait| wait.wait(quarantine.as_ref()))
                .collect(),
            quarantine,
            rewinds: rewinds.collect(),
            waits_for_more: wire.waits_for_more,
            still_runs: wire
                .still_runs
                .into_iter()
                .filter_map(|wait| wait.wait(None))
                .collect(),
            events_without_effect: wire.events_without_effect,
            history_events: wire.history_events,
            history_bytes: wire.history_bytes,
            history: history.map(|events| events.into_iter().map(|event| event.0).collect()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageWire {
    instances: Vec<InstanceWire>,
    continuation_token: Option<String>,
}

impl From<PageWire> for Page {
    fn from(wire: PageWire) -> Self {
        Self {
            instances: wire
                .instances
                .into_iter()
                .map(InstanceStatus::from)
                .collect(),
            continuation_token: wire.continuation_token,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct FamilyWire {
    instance: InstanceWire,
    children: Vec<Self>,
    #[serde(default, rename = "leftBehind")]
    left_behind: Vec<Self>,
    more: bool,
}

impl From<FamilyWire> for InstanceFamily {
    fn from(wire: FamilyWire) -> Self {
        Self {
            instance: wire.instance.into(),
            children: wire.children.into_iter().map(Self::from).collect(),
            left_behind: wire.left_behind.into_iter().map(Self::from).collect(),
            more: wire.more,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BulkWire {
    matched: u64,
    done: u64,
    skipped: u64,
    dry_run: bool,
}

/// A line of an answer that says how far an operation is.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum BulkStepWire {
    Over { over: BulkWire },
    Error { error: FailedError },
    Step(BulkWire),
}

impl From<BulkWire> for BulkProgress {
    fn from(wire: BulkWire) -> Self {
        Self {
            matched: wire.matched,
            done: wire.done,
            skipped: wire.skipped,
            dry_run: wire.dry_run,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct DeploymentWire {
    pub(super) names: Vec<NameWire>,
}

#[derive(Deserialize)]
pub(super) struct InspectedWire {
    pub(super) digest: Hex,
    /// Hosts before 0.2 do not say.
    #[serde(default)]
    pub(super) contract: String,
    pub(super) definitions: Vec<Definition>,
    pub(super) imports: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct NameWire {
    kind: DefinitionKind,
    name: String,
    before: Option<Hex>,
    changed: bool,
}

impl From<NameWire> for UpdatedName {
    fn from(wire: NameWire) -> Self {
        Self {
            kind: wire.kind,
            name: wire.name,
            before: wire.before.map(|before| before.0),
            changed: wire.changed,
        }
    }
}

/// What a module is granted. The values of variables stay with the host.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GrantsWire {
    dirs: Vec<crate::engine::executor::DirGrant>,
    env: Vec<String>,
    http_hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModuleWire {
    name: String,
    digest: String,
    definitions: Vec<Definition>,
    imports: Vec<String>,
    #[serde(default)]
    grants: GrantsWire,
    #[serde(default)]
    limits: ModuleLimits,
    deployed_time: String,
    size: u64,
}

impl From<ModuleWire> for ModuleInfo {
    fn from(wire: ModuleWire) -> Self {
        let names = wire.grants.env.into_iter();
        Self {
            name: wire.name,
            digest: wire.digest,
            definitions: wire.definitions,
            imports: wire.imports,
            grants: Grants {
                dirs: wire.grants.dirs,
                env: names.map(|name| (name, String::new())).collect(),
                http_hosts: wire.grants.http_hosts,
            },
            limits: wire.limits,
            deployed_time: wire.deployed_time,
            size: wire.size,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct CollectedWire {
    digest: Hex,
    size: u64,
}

impl From<CollectedWire> for CollectedModule {
    fn from(wire: CollectedWire) -> Self {
        Self {
            digest: wire.digest.0,
            bytes: wire.size,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyWire {
    id: String,
    name: String,
    role: String,
    created_time: Time,
    #[serde(default)]
    key: String,
}

impl From<KeyWire> for AccessKey {
    fn from(wire: KeyWire) -> Self {
        Self {
            id: wire.id,
            name: wire.name,
            role: match wire.role.as_str() {
                "admin" => Role::Admin,
                _ => Role::ReadOnly,
            },
            created_at: wire.created_time.0,
        }
    }
}

impl From<KeyWire> for NewAccessKey {
    fn from(mut wire: KeyWire) -> Self {
        let secret = std::mem::take(&mut wire.key);
        Self {
            key: wire.into(),
            secret,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RetentionWire {
    completed: Option<u64>,
    failed: Option<u64>,
    terminated: Option<u64>,
}

impl From<RetentionWire> for Retention {
    fn from(wire: RetentionWire) -> Self {
        Self {
            completed: wire.completed.map(Duration::from_millis),
            failed: wire.failed.map(Duration::from_millis),
            terminated: wire.terminated.map(Duration::from_millis),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HubWire {
    task_hub: String,
    file: std::path::PathBuf,
    bytes: u64,
    created_time: Option<Time>,
    owner: Option<String>,
    problem: Option<String>,
    instances: BTreeMap<String, u64>,
    history_turns: u64,
    history_events: u64,
    history_bytes: u64,
    modules: u64,
    stored_modules: u64,
    module_bytes: u64,
    #[serde(default)]
    used_bytes: u64,
    #[serde(default)]
    free_bytes: u64,
    #[serde(default)]
    has_garbage: bool,
}

impl From<HubWire> for HubStats {
    fn from(wire: HubWire) -> Self {
        Self {
            hub: HubInfo {
                name: wire.task_hub,
                path: wire.file,
                bytes: wire.bytes,
                created_at: wire.created_time.map(|at| at.0),
                owner: wire.owner,
                problem: wire.problem,
            },
            instances: counts(&wire.instances),
            history_turns: wire.history_turns,
            history_events: wire.history_events,
            history_bytes: wire.history_bytes,
            modules: wire.modules,
            stored_modules: wire.stored_modules,
            module_bytes: wire.module_bytes,
            used_bytes: wire.used_bytes,
            free_bytes: wire.free_bytes,
            has_garbage: wire.has_garbage,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HistoryWire {
    events: Vec<EventRead>,
    continuation_token: Option<String>,
}

impl From<HistoryWire> for HistoryPage {
    fn from(wire: HistoryWire) -> Self {
        Self {
            events: wire.events.into_iter().map(|event| event.0).collect(),
            continuation_token: wire.continuation_token,
        }
    }
}

/// Counts by status, in the order of the statuses.
pub(super) fn counts(by_name: &BTreeMap<String, u64>) -> Vec<(Status, u64)> {
    let counted = |status: &Status| Some((*status, *by_name.get(status.name())?));
    Status::ALL.iter().filter_map(counted).collect()
}
