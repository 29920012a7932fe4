//! The error type of the library.

mod code;
mod message;
mod modules;

use perennial_core::{Failure, Rejection, Timestamp};

#[cfg(test)]
pub(crate) use code::tests::one_of_each;

use crate::engine::requests::refused;
use crate::shortage::{Resource, Shortage};
use crate::store::{DefinitionKind, Reply, StoreError};

/// Why a request to Perennial failed.
///
/// Predicates tell what a program may act on. The message, for people, says what happened, to what, and what can be done about it.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Rejected {
        id: String,
        rejection: Rejection,
    },
    Refused {
        kind: String,
        message: String,
    },
    NameTaken {
        kind: DefinitionKind,
        name: String,
        owner: String,
    },
    UnknownModule {
        name: String,
    },
    /// No stored module has this digest, or one that begins with these digits.
    NotStored {
        digest: String,
    },
    /// Several stored modules have a digest that begins with these digits.
    AmbiguousModule {
        digits: String,
        count: usize,
    },
    InUse {
        name: String,
        live: u64,
    },
    Store {
        hub: String,
        source: StoreError,
    },
    Json {
        what: &'static str,
        message: String,
    },
    Token,
    HubExists {
        hub: String,
    },
    MovedOn {
        id: String,
        status: perennial_core::Status,
    },
    NoAnswer {
        what: String,
    },
    Module {
        message: String,
    },
    Panicked,
    Lacks(Shortage),
    /// An error that a remote host answered.
    Answered {
        code: String,
        message: String,
    },
    Unreachable {
        address: String,
        message: String,
    },
    NotPerennial {
        address: String,
        what: String,
    },
    NeedsFile {
        what: &'static str,
    },
    /// A request was answered with a failure, or will not be answered.
    RequestFailed {
        id: String,
        request: String,
        failure: Box<Failure>,
    },
    /// A request has no answer yet.
    Unanswered {
        id: String,
        request: String,
        name: String,
    },
    UnknownRequest {
        id: String,
        request: String,
    },
    /// A command was meant for another run than the one that the instance began then.
    OtherRun {
        id: String,
        since: Timestamp,
    },
}

/// The result of a request to Perennial.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn rejected(id: &str, rejection: Rejection) -> Self {
        Self {
            kind: Kind::Rejected {
                id: id.to_owned(),
                rejection,
            },
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Refused {
                kind: refused::INVALID.to_owned(),
                message: message.into(),
            },
        }
    }

    pub(crate) fn store(hub: &str, source: StoreError) -> Self {
        if let StoreError::NoAnswer(owner) = source {
            return Self::no_answer(owner);
        }
        Self {
            kind: Kind::Store {
                hub: hub.to_owned(),
                source,
            },
        }
    }

    pub(crate) fn json(what: &'static str, error: &serde_json::Error) -> Self {
        Self {
            kind: Kind::Json {
                what,
                message: error.to_string(),
            },
        }
    }

    pub(crate) fn token() -> Self {
        Self { kind: Kind::Token }
    }

    pub(crate) fn hub_exists(hub: &str) -> Self {
        Self {
            kind: Kind::HubExists {
                hub: hub.to_owned(),
            },
        }
    }

    pub(crate) fn moved_on(id: &str, status: perennial_core::Status) -> Self {
        Self {
            kind: Kind::MovedOn {
                id: id.to_owned(),
                status,
            },
        }
    }

    /// There is no such instance. A missing hub or module does not count.
    pub(crate) fn is_not_found_instance(&self) -> bool {
        self.is_not_found() && matches!(self.kind, Kind::Rejected { .. })
    }

    pub(crate) fn no_answer(what: impl Into<String>) -> Self {
        Self {
            kind: Kind::NoAnswer { what: what.into() },
        }
    }

    pub(crate) fn module(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Module {
                message: message.into(),
            },
        }
    }

    pub(crate) fn panicked() -> Self {
        Self {
            kind: Kind::Panicked,
        }
    }

    pub(crate) fn lacking(shortage: Shortage) -> Self {
        Self {
            kind: Kind::Lacks(shortage),
        }
    }

    pub(crate) fn answered(code: String, message: String) -> Self {
        Self {
            kind: Kind::Answered { code, message },
        }
    }

    /// The caller may not do this.
    #[cfg(feature = "http")]
    pub(crate) fn forbidden(message: String) -> Self {
        Self::answered("forbidden".to_owned(), message)
    }

    pub(crate) fn unreachable(address: &str, message: String) -> Self {
        Self {
            kind: Kind::Unreachable {
                address: address.to_owned(),
                message,
            },
        }
    }

    pub(crate) fn not_perennial(address: &str, what: String) -> Self {
        Self {
            kind: Kind::NotPerennial {
                address: address.to_owned(),
                what,
            },
        }
    }

    pub(crate) fn needs_file(what: &'static str) -> Self {
        Self {
            kind: Kind::NeedsFile { what },
        }
    }

    /// A remote host answered that the requested thing does not exist.
    pub(crate) fn is_absent_there(&self) -> bool {
        self.has_code(&["notFound", "unknownModule", "notStored"])
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        matches!(&self.kind, Kind::Answered { code, .. } if codes.contains(&code.as_str()))
    }

    /// An answer of the wrong kind, for example from an owner of another version.
    pub(crate) fn unexpected(reply: &Reply) -> Self {
        Self::invalid(format!(
            "the host of the task hub gave an answer that does not belong to the request; use the same version of Perennial as the host: {reply:?}"
        ))
    }

    pub(crate) fn request_failed(id: &str, name: &str, failure: &Failure) -> Self {
        Self {
            kind: Kind::RequestFailed {
                id: id.to_owned(),
                request: name.to_owned(),
                failure: Box::new(failure.clone()),
            },
        }
    }

    pub(crate) fn unanswered(id: &str, request: &str, name: &str) -> Self {
        Self {
            kind: Kind::Unanswered {
                id: id.to_owned(),
                request: request.to_owned(),
                name: name.to_owned(),
            },
        }
    }

    pub(crate) fn unknown_request(id: &str, request: &str) -> Self {
        Self {
            kind: Kind::UnknownRequest {
                id: id.to_owned(),
                request: request.to_owned(),
            },
        }
    }

    /// Names another instance in the message.
    pub(crate) fn about(mut self, other: &str) -> Self {
        if let Kind::Rejected { id, .. } = &mut self.kind {
            *id = other.to_owned();
        }
        self
    }

    /// Turns a reply that is not a success into an error about the instance or module `about`.
    pub(crate) fn from_reply(about: &str, reply: Reply) -> Result<Reply> {
        match reply {
            Reply::Rejected(rejection) => Err(Self::rejected(about, rejection)),
            Reply::Refused { kind, message } => Err(Self {
                kind: Kind::Refused { kind, message },
            }),
            Reply::NameTaken(taken) => Err(Self {
                kind: Kind::NameTaken {
                    kind: taken.kind,
                    name: taken.name,
                    owner: taken.owner,
                },
            }),
            Reply::TooManyTags(tags) => Err(Self::invalid(format!(
                "an instance has at most {} tags, {about:?} would have {tags}: remove some with the same request",
                perennial_core::bounds::TAGS
            ))),
            Reply::InUse(live) => Err(Self {
                kind: Kind::InUse {
                    name: about.to_owned(),
                    live,
                },
            }),
            done @ (Reply::Done
            | Reply::Nothing
            | Reply::Deployed(_)
            | Reply::Rewound(_)
            | Reply::RewindFirst(_)
            | Reply::Purged(_)
            | Reply::All(_)
            | Reply::Collected(_)
            | Reply::Workers(_)
            | Reply::Lines(_)
            | Reply::Declined(_)
            | Reply::Tagged(_)) => Ok(done),
            Reply::OtherRun(since) => Err(Self {
                kind: Kind::OtherRun {
                    id: about.to_owned(),
                    since,
                },
            }),
            Reply::OtherRequest(name) => Err(Self::invalid(format!(
                "instance {about:?} was asked {name:?} under this id already: each request needs an id of its own"
            ))),
        }
    }

    /// The failure of a [request](crate::Client::request): the one that the orchestration answered with or that its validator gave, or
    /// `NotAnswered`.
    pub fn request_failure(&self) -> Option<&Failure> {
        match &self.kind {
            Kind::RequestFailed { failure, .. } => Some(failure),
            _ => None,
        }
    }

    /// The instance does not know a request with this id.
    pub fn is_unknown_request(&self) -> bool {
        matches!(self.kind, Kind::UnknownRequest { .. }) || self.has_code(&["unknownRequest"])
    }

    /// A [request](crate::Client::request) had no answer in time. It is not withdrawn: [`Client::wait_for_answer`](crate::Client::wait_for_answer)
    /// gets the answer later, with the [id](Self::request_id) of the request.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.kind, Kind::Unanswered { .. })
    }

    /// The id of the request that [has no answer yet](Self::is_unanswered).
    pub fn request_id(&self) -> Option<&str> {
        match &self.kind {
            Kind::Unanswered { request, .. } => Some(request),
            _ => None,
        }
    }

    /// The instance, module, request or task hub does not exist.
    pub fn is_not_found(&self) -> bool {
        match &self.kind {
            Kind::Rejected { rejection, .. } => *rejection == Rejection::NotFound,
            Kind::UnknownModule { .. } | Kind::NotStored { .. } | Kind::UnknownRequest { .. } => {
                true
            }
            Kind::Store { source, .. } => matches!(source, StoreError::Missing(_)),
            _ => self.has_code(&[
                "notFound",
                "unknownModule",
                "notStored",
                "unknownRequest",
                "noTaskHub",
            ]),
        }
    }

    /// The task hub does not exist, or the host does not serve it.
    pub fn is_unknown_hub(&self) -> bool {
        let is_missing = |source: &StoreError| matches!(source, StoreError::Missing(_));
        matches!(&self.kind, Kind::Store { source, .. } if is_missing(source))
            || self.has_code(&["noTaskHub"])
    }

    /// The id of a start, or the name of a new task hub, is in use.
    pub fn is_already_exists(&self) -> bool {
        matches!(
            self.kind,
            Kind::Rejected {
                rejection: Rejection::AlreadyExists(_),
                ..
            } | Kind::HubExists { .. }
        ) || self.has_code(&["alreadyExists"])
    }

    /// The command does not apply to the instance in its current status.
    pub fn is_wrong_state(&self) -> bool {
        match &self.kind {
            Kind::Rejected { rejection, .. } => {
                !matches!(rejection, Rejection::NotFound | Rejection::TooManyUnread)
            }
            Kind::HubExists { .. } | Kind::MovedOn { .. } | Kind::InUse { .. } => true,
            Kind::Refused { kind, .. } => kind == refused::FORGETS,
            _ => self.has_code(&["wrongState", "alreadyExists", "inUse", "wouldForget"]),
        }
    }

    /// A command was meant for one run of an instance, which has another one now: see [`Client::for_run`](crate::Client::for_run). Nothing was
    /// changed.
    pub fn is_other_run(&self) -> bool {
        matches!(self.kind, Kind::OtherRun { .. }) || self.has_code(&["otherRun"])
    }

    /// The rewind was refused because it would discard work that completed after the failure. See
    /// [`Rewind::forget_completed`](crate::Rewind::forget_completed).
    pub fn would_forget(&self) -> bool {
        matches!(&self.kind, Kind::Refused { kind, .. } if kind == refused::FORGETS)
            || self.has_code(&["wouldForget"])
    }

    /// No deployed module defines the orchestration, or the version of it, that was to be started.
    pub fn is_unknown_orchestration(&self) -> bool {
        matches!(&self.kind, Kind::Refused { kind, .. } if kind == refused::UNKNOWN_ORCHESTRATION)
            || self.has_code(&["unknownOrchestration"])
    }

    /// A payload exceeds its limit, or a quota is exhausted.
    pub fn is_limit_exceeded(&self) -> bool {
        let payload =
            matches!(&self.kind, Kind::Refused { kind, .. } if kind == refused::LIMIT_EXCEEDED);
        payload || self.has_code(&["limitExceeded"]) || self.is_quota_exceeded()
    }

    /// A quota of the hub, of a module or of an instance is exhausted; the message names it. See [`Quotas`](crate::Quotas).
    pub fn is_quota_exceeded(&self) -> bool {
        let is_full = match &self.kind {
            Kind::Refused { kind, .. } => kind == refused::QUOTA_EXCEEDED,
            Kind::Rejected { rejection, .. } => *rejection == Rejection::TooManyUnread,
            _ => false,
        };
        is_full || self.has_code(&["quotaExceeded"])
    }

    /// The host has too much queued work and refused the request; nothing was changed. Retry soon.
    pub fn is_overloaded(&self) -> bool {
        matches!(&self.kind, Kind::Refused { kind, .. } if kind == refused::OVERLOADED)
            || self.has_code(&["overloaded"])
    }

    /// The host lacked a resource, such as disk space, memory or file descriptors. Nothing was changed, and a retry may succeed.
    /// [`lacks`](Self::lacks) names the resource.
    pub fn is_unavailable(&self) -> bool {
        self.lacks().is_some() || self.has_code(&["unavailable", "diskFull", "locked"])
    }

    /// The resource that the host lacked, if that caused the error and this process knows it.
    pub fn lacks(&self) -> Option<Resource> {
        match &self.kind {
            Kind::Lacks(shortage) => Some(shortage.resource),
            Kind::Store { source, .. } => match source {
                StoreError::Database(_)
                | StoreError::File { .. }
                | StoreError::Gone(_)
                | StoreError::LogGone(_)
                | StoreError::Lacks(_) => source.shortage().map(|shortage| shortage.resource),
                #[cfg(feature = "postgres")]
                StoreError::Address(_) => source.shortage().map(|shortage| shortage.resource),
                _ => None,
            },
            _ => None,
        }
    }

    /// An argument is invalid, such as an id with a slash, a text that is not JSON, or a file that is not a module.
    pub fn is_invalid(&self) -> bool {
        match &self.kind {
            Kind::Refused { kind, .. } => kind == refused::INVALID,
            Kind::Json { .. }
            | Kind::Token
            | Kind::Module { .. }
            | Kind::NeedsFile { .. }
            | Kind::AmbiguousModule { .. } => true,
            _ => self.has_code(&["invalid", "ambiguousModule"]),
        }
    }

    /// The owner of the task hub did not execute the command in time, and it was withdrawn. It can be given again.
    pub fn is_withdrawn(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Store {
                source: StoreError::NotTaken { .. } | StoreError::TakenBack,
                ..
            }
        ) || self.has_code(&["withdrawn"])
    }

    /// The owner of the task hub did not answer, and the command could not be withdrawn: it may still be executed.
    pub fn is_queued(&self) -> bool {
        matches!(self.kind, Kind::NoAnswer { .. }) || self.has_code(&["queued"])
    }

    /// Another process owns the task hub.
    pub fn is_owned(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Store {
                source: StoreError::Owned(_),
                ..
            }
        )
    }

    /// The disk of the task hub is full; nothing was changed. The host continues by itself once there is space.
    pub fn is_disk_full(&self) -> bool {
        matches!(&self.kind, Kind::Store { source, .. } if source.is_disk_full())
            || self.has_code(&["diskFull"])
    }

    /// Another program has locked the file of the task hub; nothing was changed. Retry soon.
    pub fn is_locked(&self) -> bool {
        matches!(&self.kind, Kind::Store { source, .. } if source.is_locked())
            || self.has_code(&["locked"])
    }

    /// The server of the task hub's database cannot be reached now, for example because it is restarted; nothing was changed. Retry soon.
    pub fn is_database_away(&self) -> bool {
        matches!(&self.kind, Kind::Store { source, .. } if source.is_away())
    }

    /// The hub's file is damaged. Restore a backup.
    pub fn is_damaged(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Store {
                source: StoreError::Corrupt(_),
                ..
            }
        )
    }

    /// Another version of Perennial wrote the hub's file, and this version cannot use it as it is.
    pub fn is_of_other_version(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Store {
                source: StoreError::Newer { .. } | StoreError::Older { .. },
                ..
            }
        )
    }

    /// The host is shutting down, or another host has replaced it.
    pub fn is_shutting_down(&self) -> bool {
        matches!(&self.kind, Kind::Store { source, .. } if source.is_end())
            || self.has_code(&["shuttingDown"])
    }

    /// Nothing answers at the address of the host, or something that does not speak this API.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.kind,
            Kind::Unreachable { .. } | Kind::NotPerennial { .. }
        )
    }

    /// The host requires a key, and none or a wrong one was sent.
    pub fn is_unauthorized(&self) -> bool {
        self.has_code(&["unauthorized", "forbidden"])
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Store { source, .. } => Some(source),
            _ => None,
        }
    }
}
