//! The error type of the library.

use std::fmt;

use perennial_core::Rejection;

use crate::engine::brief;
use crate::engine::requests::refused;
use crate::shortage::{Resource, Shortage};
use crate::store::{DefinitionKind, Reply, StoreError};

/// Why something that was asked of Perennial was not done.
///
/// It has predicates for what a program may want to act on; everything else is for people. The message says what happened, to what, and
/// where there is something to do, what.
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
    /// What a host elsewhere answered.
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
}

/// What comes of asking Perennial for something.
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

    /// There is no such instance; a hub that is missing is something else.
    pub(crate) fn is_not_found_instance(&self) -> bool {
        self.is_not_found() && matches!(self.kind, Kind::Rejected { .. })
    }

    pub(crate) fn unknown_module(name: &str) -> Self {
        Self {
            kind: Kind::UnknownModule {
                name: name.to_owned(),
            },
        }
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

    /// A host elsewhere says that there is no such thing there.
    pub(crate) fn is_absent_there(&self) -> bool {
        self.has_code(&["notFound"])
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        matches!(&self.kind, Kind::Answered { code, .. } if codes.contains(&code.as_str()))
    }

    /// An answer that does not belong to what was asked, as of an owner of another version.
    pub(crate) fn unexpected(reply: &Reply) -> Self {
        Self::invalid(format!(
            "the owner of the task hub answered something else than what was asked: {reply:?}"
        ))
    }

    /// The same, about another instance than the one that was asked about.
    pub(crate) fn about(mut self, other: &str) -> Self {
        if let Kind::Rejected { id, .. } = &mut self.kind {
            *id = other.to_owned();
        }
        self
    }

    /// What a verdict that is not a success means for the instance or module that it is about.
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
            | Reply::Collected(_)) => Ok(done),
        }
    }

    /// There is no such instance, module or task hub.
    pub fn is_not_found(&self) -> bool {
        match &self.kind {
            Kind::Rejected { rejection, .. } => *rejection == Rejection::NotFound,
            Kind::UnknownModule { .. } => true,
            Kind::Store { source, .. } => matches!(source, StoreError::Missing(_)),
            _ => self.has_code(&["notFound", "noTaskHub"]),
        }
    }

    /// There is no such module.
    pub fn is_unknown_module(&self) -> bool {
        matches!(self.kind, Kind::UnknownModule { .. })
    }

    /// There is no such task hub, or the host that was asked does not serve it.
    pub fn is_unknown_hub(&self) -> bool {
        let is_missing = |source: &StoreError| matches!(source, StoreError::Missing(_));
        matches!(&self.kind, Kind::Store { source, .. } if is_missing(source))
            || self.has_code(&["noTaskHub"])
    }

    /// The id of a start, or the name of a task hub that was to be made, is in use.
    pub fn is_already_exists(&self) -> bool {
        matches!(
            self.kind,
            Kind::Rejected {
                rejection: Rejection::AlreadyExists(_),
                ..
            } | Kind::HubExists { .. }
        ) || self.has_code(&["alreadyExists"])
    }

    /// The instance is in a status in which the command makes no sense.
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

    /// Live instances run the module that was to be removed.
    pub fn is_in_use(&self) -> bool {
        matches!(self.kind, Kind::InUse { .. }) || self.has_code(&["inUse"])
    }

    /// A rewind would forget work that completed after the failure, and was not done. See
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

    /// A payload is over its limit, or a quota is used up.
    pub fn is_limit_exceeded(&self) -> bool {
        let payload =
            matches!(&self.kind, Kind::Refused { kind, .. } if kind == refused::LIMIT_EXCEEDED);
        payload || self.has_code(&["limitExceeded"]) || self.is_quota_exceeded()
    }

    /// A quota of the hub, of a module in it or of an instance is used up; the message names it. See [`Quotas`](crate::Quotas).
    pub fn is_quota_exceeded(&self) -> bool {
        let is_full = match &self.kind {
            Kind::Refused { kind, .. } => kind == refused::QUOTA_EXCEEDED,
            Kind::Rejected { rejection, .. } => *rejection == Rejection::TooManyUnread,
            _ => false,
        };
        is_full || self.has_code(&["quotaExceeded"])
    }

    /// The host has taken more than it can do, and refused this; nothing was changed. Try again in a moment.
    pub fn is_overloaded(&self) -> bool {
        matches!(&self.kind, Kind::Refused { kind, .. } if kind == refused::OVERLOADED)
            || self.has_code(&["overloaded"])
    }

    /// The host lacked something, such as room on the disk, memory or file descriptors, and what was asked has not happened: it may go
    /// through when it is tried again. [`lacks`](Self::lacks) says what it was.
    pub fn is_unavailable(&self) -> bool {
        self.lacks().is_some() || self.has_code(&["unavailable", "diskFull", "locked"])
    }

    /// What the host lacked, where that is why and this process knows it.
    pub fn lacks(&self) -> Option<Resource> {
        match &self.kind {
            Kind::Lacks(shortage) => Some(shortage.resource),
            Kind::Store { source, .. } => match source {
                StoreError::Sqlite(_)
                | StoreError::File { .. }
                | StoreError::Gone(_)
                | StoreError::LogGone(_)
                | StoreError::Lacks(_) => source.shortage().map(|shortage| shortage.resource),
                _ => None,
            },
            _ => None,
        }
    }

    /// What was given cannot be: an id with a slash, a text that is not JSON, a file that is no module.
    pub fn is_invalid(&self) -> bool {
        match &self.kind {
            Kind::Refused { kind, .. } => kind == refused::INVALID,
            Kind::Json { .. } | Kind::Token | Kind::Module { .. } | Kind::NeedsFile { .. } => true,
            _ => self.has_code(&["invalid"]),
        }
    }

    /// A module defines a name that another module owns.
    pub fn is_name_taken(&self) -> bool {
        matches!(self.kind, Kind::NameTaken { .. }) || self.has_code(&["nameTaken"])
    }

    /// The owner of the task hub did not answer, and what was asked could not be taken back: it may still be done.
    pub fn is_queued(&self) -> bool {
        matches!(self.kind, Kind::NoAnswer { .. })
    }

    /// The module that owns a name which another one defines, where [`is_name_taken`](Self::is_name_taken) and that is known.
    pub fn name_owner(&self) -> Option<&str> {
        match &self.kind {
            Kind::NameTaken { owner, .. } => Some(owner),
            _ => None,
        }
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

    /// The disk of the task hub is full; nothing was changed. The host goes on by itself once there is space.
    pub fn is_disk_full(&self) -> bool {
        matches!(&self.kind, Kind::Store { source, .. } if source.is_disk_full())
            || self.has_code(&["diskFull"])
    }

    /// Something else has locked the file of the task hub, such as another program with it open; nothing was changed. Try again in a moment.
    pub fn is_locked(&self) -> bool {
        matches!(&self.kind, Kind::Store { source, .. } if source.is_locked())
            || self.has_code(&["locked"])
    }

    /// What the hub's file says cannot be: a backup helps.
    pub fn is_damaged(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Store {
                source: StoreError::Corrupt(_),
                ..
            }
        )
    }

    /// Another version of Perennial wrote the hub's file, and this one cannot use it as it is.
    pub fn is_of_other_version(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Store {
                source: StoreError::Newer { .. } | StoreError::Older { .. },
                ..
            }
        )
    }

    /// The host is shutting down, or has been replaced by another.
    pub fn is_shutting_down(&self) -> bool {
        matches!(
            &self.kind,
            Kind::Store {
                source: StoreError::Closed | StoreError::Fenced,
                ..
            }
        ) || self.has_code(&["shuttingDown"])
    }

    /// Nothing answers at the address of a host, or not what speaks this API.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.kind,
            Kind::Unreachable { .. } | Kind::NotPerennial { .. }
        )
    }

    /// The host wants another key than the one that was sent, or one at all.
    pub fn is_unauthorized(&self) -> bool {
        self.has_code(&["unauthorized", "forbidden"])
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Rejected {
                id,
                rejection: Rejection::NotFound,
            } => write!(f, "there is no instance {:?}", brief(id)),
            Kind::Rejected {
                id,
                rejection: Rejection::AlreadyExists(status),
            } => {
                write!(f, "instance {id:?} exists already and is {status}")
            }
            Kind::Rejected { id, rejection } => write!(f, "instance {id:?}: {rejection}"),
            Kind::Refused { message, .. } | Kind::Module { message } => f.write_str(message),
            Kind::NameTaken { kind, name, owner } => {
                let kind = match kind {
                    DefinitionKind::Orchestration => "orchestration",
                    DefinitionKind::Activity => "activity",
                };
                write!(
                    f,
                    "the {kind} {name:?} belongs to module {owner:?}; deploy with replace to take it over"
                )
            }
            Kind::UnknownModule { name } => {
                write!(f, "there is no module {:?} in this task hub", brief(name))
            }
            Kind::InUse { name, live: 1 } => {
                write!(f, "a live instance runs module {name:?}")
            }
            Kind::InUse { name, live } => {
                write!(f, "{live} live instances run module {name:?}")
            }
            Kind::Store { hub, source } => write!(f, "task hub {hub:?}: {source}"),
            Kind::Json { what, message } => {
                write!(f, "{what} is not the JSON that was expected: {message}")
            }
            Kind::Token => f.write_str(
                "this continuation token does not belong to this list: use it with the filters and the order that it came from",
            ),
            Kind::HubExists { hub } => write!(f, "there is a task hub {hub:?} already"),
            Kind::MovedOn { id, status } => write!(
                f,
                "instance {id:?}, which is {status}, began another history while this one was read; read it again"
            ),
            Kind::NoAnswer { what } => write!(
                f,
                "{what} owns the task hub and did not answer in time; the command stays queued and takes effect when it does"
            ),
            Kind::Answered { message, .. } => f.write_str(message),
            Kind::Unreachable { address, message } => {
                write!(f, "no answer from {address}: {message}")
            }
            Kind::NotPerennial { address, what } => {
                write!(f, "what answers at {address} is no Perennial host: {what}")
            }
            Kind::NeedsFile { what } => write!(
                f,
                "{what} is not done over HTTP: it needs the file of the task hub"
            ),
            Kind::Lacks(shortage) => write!(f, "{shortage}; the host lacks {}", shortage.resource),
            Kind::Panicked => f.write_str(
                "a background operation of the library panicked; its message is in the log",
            ),
        }
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
