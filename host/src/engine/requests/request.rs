//! Requests of clients, and how they become changes of the hub. The owner's engine and a process that finds no owner share this code.

use perennial_core::{
    Command, Digest, InstanceOptions, Json, Limits, Message, Millis, Names, Resolved, Reuse,
    SEMANTICS_VERSION, Start, Tags, Timestamp, Unreadable, check_instance_id, check_known_id,
    closest,
};
use serde::{Deserialize, Serialize};

use crate::engine::modules::names::{NameTable, remote_limits};
use crate::engine::remote::items;
use crate::engine::remote::messages::ToHost;
use crate::engine::remote::report::RemoteWorkers;
use crate::engine::requests::bounds::{
    brief, problem_with_name, problem_with_reason, problem_with_tags, problem_with_trace,
};
use crate::engine::requests::refused::{self, refused};
use crate::guest_lines::KeptLines;
use crate::store::{
    Ages, Change, InstanceKey, KeyRow, NewInstance, NewModule, NewRequest, OldVersions, Reply, Run,
};

/// Tags that one request changes at most: more than an instance may have, because its orchestration may have set more.
const TAG_CHANGES_MAX: usize = 1_000;

/// A request of a client. Stored as the command of a process that does not own the hub: the order of variants and fields is a format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Start(StartRequest),
    RaiseEvent {
        id: String,
        name: String,
        data: Option<Json>,
    },
    Terminate {
        id: String,
        reason: Option<String>,
        recursive: bool,
    },
    Suspend {
        id: String,
        reason: Option<String>,
        recursive: bool,
    },
    Resume {
        id: String,
        reason: Option<String>,
        /// The module on which a quarantined instance continues.
        module: Option<Digest>,
        recursive: bool,
    },
    Deploy(Box<NewModule>),
    Grant {
        module: String,
        grants: String,
    },
    Rewind(RewindRequest),
    Restart(RestartRequest),
    /// Keys of instances. Those that have ended are deleted.
    Purge(Vec<i64>),
    PurgeId(String),
    Retain(Ages),
    /// Several requests in one transaction.
    All(Vec<Self>),
    CreateKey(KeyRow),
    RevokeKey {
        id: String,
    },
    CollectModules {
        old: OldVersions,
    },
    RemoveModule {
        name: String,
        in_use_too: bool,
    },
    /// As [`Rewind`](Self::Rewind), to before the first failure of the execution.
    RewindAll(RewindRequest),
    /// As [`Rewind`](Self::Rewind) or [`RewindAll`](Self::RewindAll), but allowed to forget completed work.
    RewindForgetting {
        rewind: RewindRequest,
        all_failures: bool,
    },
    /// A request by the protocol of remote workers: names that nothing defines wait for a worker, and payloads may be as large as its
    /// messages.
    Remote(Box<Self>),
    /// Asks for the remote workers that are connected to the owner. Changes nothing.
    Workers,
    /// Sets and removes tags of an instance.
    SetTags {
        id: String,
        /// Each key with its value; `None` removes it.
        changes: Vec<(String, Option<String>)>,
    },
    Cancel {
        id: String,
        reason: Option<String>,
        grace: Millis,
        recursive: bool,
    },
    /// A start of an instance that may run for so long.
    StartLimited {
        start: StartRequest,
        execution_timeout: Millis,
    },
    /// A request that the instance answers.
    Ask(AskRequest),
    /// Starts an instance if there is no live one with its id, and delivers something to it: an event or a request.
    StartFor {
        start: StartRequest,
        execution_timeout: Option<Millis>,
        then: Box<Self>,
    },
    /// A request to an instance, if it still has this run.
    IfRun {
        id: String,
        run: Run,
        then: Box<Self>,
    },
    /// Asks for the log lines of an instance that the owner keeps, from this time on. Changes nothing.
    Lines {
        id: String,
        from: Timestamp,
    },
    /// A message to another host of the hub. It changes nothing in the hub.
    ToHost(Box<ToHost>),
}

/// A request that an instance answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AskRequest {
    pub(crate) instance: String,
    /// Unique within the instance: a request that is sent again under its id is the same one.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) input: Option<Json>,
}

/// A request to put an instance back to before its failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RewindRequest {
    pub(crate) id: String,
    pub(crate) reason: Option<String>,
    /// The module on which it continues: a name, a digest, or the beginning of a digest.
    pub(crate) module: Option<String>,
}

/// A request to run an instance again from its beginning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RestartRequest {
    pub(crate) id: String,
    /// The id of the new instance; `None` to start the next execution of the same instance.
    pub(crate) new_id: Option<String>,
}

/// A request to start an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StartRequest {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) id: String,
    pub(crate) input: Option<Json>,
    pub(crate) tags: Tags,
    pub(crate) reuse: Reuse,
    pub(crate) trace_parent: Option<String>,
    /// The earliest start time; `None` to start now.
    pub(crate) scheduled_for: Option<Timestamp>,
}

impl Request {
    /// The reason in the request, if it has one.
    pub(in crate::engine) fn reason(&self) -> Option<&str> {
        match self {
            Self::Terminate { reason, .. }
            | Self::Cancel { reason, .. }
            | Self::Suspend { reason, .. }
            | Self::Resume { reason, .. } => reason.as_deref(),
            Self::Rewind(rewind)
            | Self::RewindAll(rewind)
            | Self::RewindForgetting { rewind, .. } => rewind.reason.as_deref(),
            Self::IfRun { then, .. } => then.reason(),
            _ => None,
        }
    }
}

/// The context in which a [`Request`] becomes a [`Change`].
pub(crate) struct Preparation<'a> {
    pub(crate) names: &'a NameTable,
    pub(crate) now: Timestamp,
    pub(crate) limits: Limits,
    pub(crate) next_key: &'a dyn Fn(&str) -> InstanceKey,
    pub(crate) fresh: &'a dyn Fn() -> (String, u64),
    /// Lists instances with a running attempt.
    pub(crate) running: &'a dyn Fn() -> Vec<InstanceKey>,
    /// Says why there is no room for another live instance of a module; `None` if there is room.
    pub(crate) full: &'a dyn Fn(Option<Digest>) -> Option<String>,
    /// Whether a connected worker runs an orchestration of this name and version.
    pub(crate) serves: &'a dyn Fn(&str, Option<&str>) -> bool,
    /// Whether a name that nothing defines may wait for a worker.
    pub(crate) waits: bool,
    /// The remote workers that are connected.
    pub(crate) workers: &'a dyn Fn() -> RemoteWorkers,
    /// The log lines of an instance from a time on.
    pub(crate) lines: &'a dyn Fn(&str, Timestamp) -> KeptLines,
}

impl<'a> Preparation<'a> {
    /// As it is for a request by the protocol of remote workers.
    pub(crate) fn remote(&self) -> Self {
        Self {
            limits: remote_limits(self.limits),
            waits: true,
            ..*self
        }
    }
}

/// Builds the change of a request; [`Change::Answer`] if the request is refused without reading the hub.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each request"
)]
pub(crate) fn prepare(request: Request, with: &Preparation<'_>) -> Change {
    if let Some(problem) = request.reason().and_then(problem_with_reason) {
        return Change::Answer(problem);
    }
    match request {
        Request::Start(start) => {
            prepare_start(start, with).map_or_else(Change::Answer, Change::Start)
        }
        Request::StartLimited {
            start,
            execution_timeout,
        } => match prepare_start(start, with) {
            Ok(mut new) => {
                new.options.execution_timeout = Some(execution_timeout);
                Change::Start(new)
            }
            Err(reply) => Change::Answer(reply),
        },
        Request::Cancel {
            id,
            reason,
            grace,
            recursive,
        } => {
            let message = Message::Cancel {
                reason,
                grace,
                recursive,
            };
            deliver(id, Command::Cancel, message)
        }
        Request::RaiseEvent { id, name, data } => raise_event(id, name, data, with),
        Request::Terminate {
            id,
            reason,
            recursive,
        } => terminate(id, reason, recursive, with),
        Request::Suspend {
            id,
            reason,
            recursive,
        } => deliver(id, Command::Suspend, Message::Suspend { reason, recursive }),
        Request::Resume {
            id,
            reason,
            module,
            recursive,
        } => {
            let message = Message::Resume {
                reason,
                module,
                recursive,
            };
            deliver(id, Command::Resume, message)
        }
        Request::Deploy(module) => Change::Deploy(module),
        Request::Grant { module, grants } => Change::Grant {
            name: module,
            grants,
        },
        // These are carried out in steps, each after reading the hub, so they cannot be part of another request.
        Request::Rewind(_)
        | Request::RewindAll(_)
        | Request::RewindForgetting { .. }
        | Request::Restart(_) => refuse(
            refused::INVALID,
            "a rewind or a restart is a command of its own".to_owned(),
        ),
        Request::Purge(keys) => Change::Purge(keys.into_iter().map(InstanceKey).collect()),
        Request::PurgeId(id) => Change::PurgeId(id),
        Request::Retain(ages) => Change::Retain(ages),
        Request::All(requests) => Change::All(
            requests
                .into_iter()
                .map(|request| prepare(request, with))
                .collect(),
        ),
        Request::CreateKey(key) => Change::CreateKey(key),
        Request::RevokeKey { id } => Change::RevokeKey { id },
        Request::CollectModules { old } => Change::CollectModules { old },
        Request::RemoveModule { name, in_use_too } => Change::RemoveModule { name, in_use_too },
        Request::Remote(request) => prepare(*request, &with.remote()),
        Request::SetTags { id, changes } => set_tags(id, changes),
        Request::Ask(ask) => prepare_ask(ask, with),
        Request::StartFor {
            start,
            execution_timeout,
            then,
        } => start_for(start, execution_timeout, *then, with),
        Request::IfRun { id, run, then } => match prepare(*then, with) {
            problem @ Change::Answer(_) => problem,
            then => Change::IfRun {
                id,
                run,
                then: Box::new(then),
            },
        },
        Request::Workers => Change::Answer(Reply::Workers((with.workers)().to_text())),
        Request::Lines { id, from } => {
            // Texts and numbers are always JSON.
            let lines = (with.lines)(&id, from);
            Change::Answer(Reply::Lines(
                serde_json::to_string(&lines).unwrap_or_default(),
            ))
        }
        // For a host that is not there.
        Request::ToHost(_) => Change::Answer(Reply::Nothing),
    }
}

fn terminate(
    id: String,
    reason: Option<String>,
    recursive: bool,
    with: &Preparation<'_>,
) -> Change {
    let message = Message::Terminate { reason, recursive };
    if recursive && check_instance_id(&id).is_ok() {
        let running = (with.running)();
        return Change::TerminateAll {
            id,
            message,
            running,
        };
    }
    deliver(id, Command::Terminate, message)
}

fn deliver(id: String, command: Command, message: Message) -> Change {
    match check_known_id(&id) {
        Ok(()) => Change::Deliver {
            id,
            command,
            message,
        },
        Err(problem) => refuse(refused::INVALID, problem.to_string()),
    }
}

fn set_tags(id: String, changes: Vec<(String, Option<String>)>) -> Change {
    if let Err(problem) = check_known_id(&id) {
        return refuse(refused::INVALID, problem.to_string());
    }
    // The writer compares each with all others.
    if changes.len() > TAG_CHANGES_MAX {
        let message = format!(
            "one request changes at most {TAG_CHANGES_MAX} tags, this one {}: send several",
            changes.len()
        );
        return refuse(refused::INVALID, message);
    }
    let problem = changes.iter().find_map(|(key, value)| {
        let tag = vec![(key.clone(), value.clone().unwrap_or_default())];
        problem_with_tags(&tag)
    });
    match problem {
        Some(problem) => Change::Answer(problem),
        None => Change::SetTags { id, changes },
    }
}

fn prepare_ask(ask: AskRequest, with: &Preparation<'_>) -> Change {
    let AskRequest {
        instance,
        id,
        name,
        input,
    } = ask;
    if let Err(problem) = check_known_id(&instance) {
        return refuse(refused::INVALID, problem.to_string());
    }
    // A URL names it.
    let in_path = matches!(id.as_str(), "." | "..") || id.contains(['/', '\\', '?', '#']);
    if in_path {
        let message = r"the id of a request must not be . or .., and must not contain / \ ? #";
        return refuse(refused::INVALID, message.to_owned());
    }
    let problem = problem_with_name("the id of a request", &id)
        .or_else(|| problem_with_name("the name of a request", &name))
        .or_else(|| problem_with_payload(input.as_ref(), with));
    if let Some(problem) = problem {
        return Change::Answer(problem);
    }
    Change::Request(NewRequest {
        instance,
        id,
        name,
        input,
    })
}

fn start_for(
    start: StartRequest,
    execution_timeout: Option<Millis>,
    then: Request,
    with: &Preparation<'_>,
) -> Change {
    let mut new = match prepare_start(start, with) {
        Ok(new) => new,
        Err(reply) => return Change::Answer(reply),
    };
    new.options.execution_timeout = execution_timeout;
    match prepare(then, with) {
        problem @ Change::Answer(_) => problem,
        then => Change::StartFor {
            new,
            then: Box::new(then),
        },
    }
}

fn raise_event(id: String, name: String, data: Option<Json>, with: &Preparation<'_>) -> Change {
    let problem = problem_with_name("an event name", &name)
        .or_else(|| problem_with_payload(data.as_ref(), with));
    if let Some(problem) = problem {
        return Change::Answer(problem);
    }
    let message = Message::ExternalEvent {
        number: None,
        name,
        data,
    };
    deliver(id, Command::RaiseEvent, message)
}

/// Checks a start, and builds the new instance.
pub(crate) fn prepare_start(
    request: StartRequest,
    with: &Preparation<'_>,
) -> Result<NewInstance, Reply> {
    let StartRequest {
        name,
        version,
        id,
        input,
        tags,
        reuse,
        trace_parent,
        scheduled_for,
    } = request;
    check_instance_id(&id).map_err(|problem| refused(refused::INVALID, problem.to_string()))?;
    let problem = problem_with_payload(input.as_ref(), with)
        .or_else(|| problem_with_tags(&tags))
        .or_else(|| problem_with_trace(trace_parent.as_deref()));
    if let Some(problem) = problem {
        return Err(problem);
    }
    let (module, version) = match with.names.orchestration(None, &name, version.as_deref()) {
        Resolved::Module(digest, version) => (Some(digest), version),
        Resolved::Native => (None, None),
        Resolved::Remote => (None, version),
        Resolved::Unknown if with.waits || (with.serves)(&name, version.as_deref()) => {
            check_remote_name(&name, version.as_deref())?;
            (None, version)
        }
        Resolved::Unknown => return Err(unknown(&name, version.as_deref(), with.names)),
    };
    has_room(module, with)?;
    let input = match module {
        Some(_) => items::as_json(input),
        None => input,
    };
    let (execution_id, seed) = (with.fresh)();
    let start = Start {
        instance_id: id,
        execution_id,
        execution: 0,
        name,
        version,
        input,
        parent: None,
        tags,
        trace_parent,
        seed,
        module,
        limits: with.names.limits_of(module),
        next_external: 0,
        semantics: SEMANTICS_VERSION,
        accepted_at: with.now,
        // A start that is already due is an ordinary one.
        scheduled_for: scheduled_for.filter(|at| *at > with.now),
    };
    Ok(NewInstance {
        key: (with.next_key)(&start.instance_id),
        parent: None,
        start: Box::new(start),
        reuse,
        options: InstanceOptions::default(),
    })
}

/// Refuses a request that makes an instance live if there is no room for it.
pub(crate) fn has_room(module: Option<Digest>, with: &Preparation<'_>) -> Result<(), Reply> {
    match (with.full)(module) {
        Some(why) => Err(refused(refused::QUOTA_EXCEEDED, why)),
        None => Ok(()),
    }
}

/// Checks a name that nothing has checked yet: that of a definition was checked when its module was deployed.
fn check_remote_name(name: &str, version: Option<&str>) -> Result<(), Reply> {
    let problem = problem_with_name("an orchestration's name", name)
        .or_else(|| version.and_then(|version| problem_with_name("a version", version)));
    problem.map_or(Ok(()), Err)
}

fn unknown(name: &str, version: Option<&str>, names: &NameTable) -> Reply {
    let list = |names: Vec<&str>| names.join(", ");
    let (name, version) = (&*brief(name), version.map(brief));
    let known: Vec<&str> = names.orchestration_names().collect();
    let message = match &version {
        Some(version) if known.contains(&name) => {
            let versions = list(names.versions_of(name).collect());
            let versions = if versions.is_empty() {
                "none has a version".to_owned()
            } else {
                format!("deployed: {versions}")
            };
            format!("there is no version {version:?} of orchestration {name:?}; {versions}")
        }
        _ if known.is_empty() => {
            format!(
                "there is no orchestration {name:?}: no module that is deployed in this task hub defines one"
            )
        }
        _ => {
            let meant = closest(name, known.iter().copied());
            let meant = meant.map_or_else(String::new, |meant| format!("did you mean {meant:?}? "));
            format!(
                "there is no orchestration {name:?}; {meant}deployed: {}",
                list(known)
            )
        }
    };
    refused(refused::UNKNOWN_ORCHESTRATION, message)
}

fn problem_with_payload(payload: Option<&Json>, with: &Preparation<'_>) -> Option<Reply> {
    let payload = payload?;
    let (bytes, limit) = (payload.size() as u64, with.limits.payload_bytes);
    if bytes > limit {
        return Some(refused(
            refused::LIMIT_EXCEEDED,
            format!("the payload has {bytes} bytes; at most {limit} are allowed"),
        ));
    }
    let why = payload.check_readable().err()?;
    let kind = match why {
        Unreadable::TooDeep => refused::LIMIT_EXCEEDED,
        Unreadable::LoneSurrogate | Unreadable::NumberTooLarge => refused::INVALID,
    };
    Some(refused(kind, format!("the payload has {why}")))
}

fn refuse(kind: &str, message: String) -> Change {
    Change::Answer(refused(kind, message))
}
