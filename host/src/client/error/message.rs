//! The messages of errors, for people.

use std::fmt;

use perennial_core::Rejection;

use super::{Error, Kind};
use crate::engine::brief;
use crate::store::DefinitionKind;

impl fmt::Display for Error {
    #[expect(
        clippy::too_many_lines,
        reason = "it is a table, with an arm for each kind"
    )]
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
            Kind::NotStored { digest } => write!(
                f,
                "this task hub has no module {:?}: it was never deployed here, or was deleted because nothing needed it; deploy its file",
                brief(digest)
            ),
            Kind::AmbiguousModule { digits, count } => write!(
                f,
                "{digits:?} may be any of {count} modules; give more digits of the digest"
            ),
            Kind::InUse { name, live: 1 } => {
                write!(f, "a live instance runs module {name:?}")
            }
            Kind::InUse { name, live } => {
                write!(f, "{live} live instances run module {name:?}")
            }
            // About no single one.
            Kind::Store { hub, source } if hub.is_empty() => write!(f, "task hubs: {source}"),
            Kind::Store { hub, source } => write!(f, "task hub {hub:?}: {source}"),
            Kind::Json { what, message } => {
                write!(f, "{what} is not valid JSON, or not of the expected form: {message}")
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
                "{what} did not answer in time; the command stays queued and takes effect when it does"
            ),
            Kind::Answered { message, .. } => f.write_str(message),
            Kind::Unreachable { address, message } => {
                write!(f, "no answer from {address}: {message}")
            }
            Kind::NotPerennial { address, what } => {
                write!(f, "the server at {address} is not a Perennial host: {what}")
            }
            Kind::RequestFailed {
                id,
                request,
                failure,
            } => write!(f, "request {request:?} to instance {id:?} failed: {failure}"),
            Kind::Unanswered { id, request, name } => write!(
                f,
                "instance {id:?} has not answered request {name:?} yet; it keeps the request, and its answer is found under the id {request:?}"
            ),
            Kind::UnknownRequest { id, request } => {
                let (id, request) = (brief(id), brief(request));
                write!(f, "instance {id:?} has no request with the id {request:?}")
            }
            Kind::OtherRun { id, since } => write!(
                f,
                "the instance has changed since: {:?} was started again at {since}, and the command was for the run before that. Nothing was changed; look at the instance, and give the command again if it is meant for this run",
                brief(id)
            ),
            Kind::NeedsFile { what } => write!(
                f,
                "{what} cannot be done over HTTP, because it needs the file of the task hub: do it on the machine of the host"
            ),
            Kind::Lacks(shortage) => write!(f, "{shortage}; the host lacks {}", shortage.resource),
            Kind::Panicked => f.write_str(
                "a background operation of the library panicked; its message is in the log",
            ),
        }
    }
}
