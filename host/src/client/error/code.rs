//! The codes of errors, for programs.

use perennial_core::Rejection;

use super::{Error, Kind};
use crate::engine::requests::refused;
use crate::store::StoreError;

impl Error {
    /// A stable code for programs, such as `notFound` or `quotaExceeded`. The HTTP API answers with the same codes, and an error that a
    /// remote host answered has the code of that host.
    pub fn code(&self) -> &str {
        match &self.kind {
            Kind::Rejected { rejection, .. } => of_rejection(*rejection),
            Kind::Refused { kind, .. } => of_refusal(kind),
            Kind::NameTaken { .. } => "nameTaken",
            Kind::UnknownModule { .. } => "unknownModule",
            Kind::NotStored { .. } => "notStored",
            Kind::AmbiguousModule { .. } => "ambiguousModule",
            Kind::InUse { .. } => "inUse",
            Kind::Store { source, .. } => of_store(source),
            Kind::Json { .. } | Kind::Token | Kind::Module { .. } => "invalid",
            Kind::HubExists { .. } => "alreadyExists",
            Kind::MovedOn { .. } => "wrongState",
            Kind::NoAnswer { .. } => "queued",
            Kind::Panicked => "internal",
            Kind::Lacks(_) => "unavailable",
            Kind::Answered { code, .. } => code,
            Kind::Unreachable { .. } => "unreachable",
            Kind::NotPerennial { .. } => "notPerennial",
            Kind::NeedsFile { .. } => "needsFile",
            Kind::RequestFailed { .. } => "requestFailed",
            Kind::Unanswered { .. } => "unanswered",
            Kind::UnknownRequest { .. } => "unknownRequest",
            Kind::OtherRun { .. } => "otherRun",
        }
    }
}

fn of_rejection(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::NotFound => "notFound",
        Rejection::AlreadyExists(_) => "alreadyExists",
        Rejection::NotRunning(_)
        | Rejection::NotFailed(_)
        | Rejection::NotTerminal(_)
        | Rejection::NotQuarantined(_) => "wrongState",
        Rejection::TooManyUnread => "quotaExceeded",
    }
}

fn of_refusal(kind: &str) -> &'static str {
    match kind {
        refused::UNKNOWN_ORCHESTRATION => "unknownOrchestration",
        refused::INVALID => "invalid",
        refused::CORRUPT => "damaged",
        refused::OVERLOADED => "overloaded",
        refused::QUOTA_EXCEEDED => "quotaExceeded",
        refused::FORGETS => "wouldForget",
        refused::LIMIT_EXCEEDED => "limitExceeded",
        // A kind that an owner of another version knows.
        _ => "refused",
    }
}

fn of_store(error: &StoreError) -> &'static str {
    if error.is_disk_full() {
        return "diskFull";
    }
    if error.is_locked() {
        return "locked";
    }
    match error {
        StoreError::Missing(_) => "noTaskHub",
        StoreError::NotAHub(_) | StoreError::NotABackup(_) => "notATaskHub",
        #[cfg(feature = "postgres")]
        StoreError::NotAHubSchema { .. } => "notATaskHub",
        #[cfg(feature = "postgres")]
        StoreError::Address(_) => "unavailable",
        StoreError::Newer { .. } | StoreError::Older { .. } => "otherVersion",
        StoreError::ForeignLog { .. } => "foreignLog",
        StoreError::Linked(_) => "hardLinked",
        StoreError::Corrupt(_) => "damaged",
        StoreError::Owned(_) => "owned",
        StoreError::NotTaken { .. } | StoreError::TakenBack => "withdrawn",
        StoreError::NoAnswer(_) => "queued",
        StoreError::Conflict => "conflict",
        StoreError::Elsewhere(_) => "moved",
        StoreError::Fenced | StoreError::Closed => "shuttingDown",
        #[cfg(feature = "postgres")]
        StoreError::Forgot(_) => "shuttingDown",
        StoreError::Database(_)
        | StoreError::File { .. }
        | StoreError::Gone(_)
        | StoreError::LogGone(_)
        | StoreError::Lacks(_) => "unavailable",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use perennial_core::Status;

    use super::*;
    use crate::shortage::{Resource, Shortage};
    use crate::store::DefinitionKind;

    /// Which variant of [`Kind`] comes after this one. Without a wildcard, so that a new variant must be added here, and to the samples.
    fn next(kind: Option<&Kind>) -> Option<Vec<Kind>> {
        let text = String::new;
        Some(match kind {
            None => rejections(),
            Some(Kind::Rejected { .. }) => refusals(),
            Some(Kind::Refused { .. }) => vec![Kind::NameTaken {
                kind: DefinitionKind::Activity,
                name: text(),
                owner: text(),
            }],
            Some(Kind::NameTaken { .. }) => vec![Kind::UnknownModule { name: text() }],
            Some(Kind::UnknownModule { .. }) => vec![Kind::NotStored { digest: text() }],
            Some(Kind::NotStored { .. }) => vec![Kind::AmbiguousModule {
                digits: text(),
                count: 2,
            }],
            Some(Kind::AmbiguousModule { .. }) => vec![Kind::InUse {
                name: text(),
                live: 2,
            }],
            Some(Kind::InUse { .. }) => stores(),
            Some(Kind::Store { .. }) => vec![Kind::Json {
                what: "a text",
                message: text(),
            }],
            Some(Kind::Json { .. }) => vec![Kind::Token],
            Some(Kind::Token) => vec![Kind::HubExists { hub: text() }],
            Some(Kind::HubExists { .. }) => vec![Kind::MovedOn {
                id: text(),
                status: Status::Running,
            }],
            Some(Kind::MovedOn { .. }) => vec![Kind::NoAnswer { what: text() }],
            Some(Kind::NoAnswer { .. }) => vec![Kind::Module { message: text() }],
            Some(Kind::Module { .. }) => vec![Kind::Panicked],
            Some(Kind::Panicked) => vec![Kind::Lacks(Shortage::new(Resource::Memory, ""))],
            Some(Kind::Lacks(_)) => vec![Kind::Answered {
                code: "forbidden".to_owned(),
                message: text(),
            }],
            Some(Kind::Answered { .. }) => vec![Kind::Unreachable {
                address: text(),
                message: text(),
            }],
            Some(Kind::Unreachable { .. }) => vec![Kind::NotPerennial {
                address: text(),
                what: text(),
            }],
            Some(Kind::NotPerennial { .. }) => vec![Kind::NeedsFile { what: "this" }],
            Some(Kind::NeedsFile { .. }) => vec![Kind::RequestFailed {
                id: text(),
                request: text(),
                failure: Box::new(perennial_core::Failure::permanent("Declined", text())),
            }],
            Some(Kind::RequestFailed { .. }) => vec![Kind::Unanswered {
                id: text(),
                request: text(),
                name: text(),
            }],
            Some(Kind::Unanswered { .. }) => vec![Kind::UnknownRequest {
                id: text(),
                request: text(),
            }],
            Some(Kind::UnknownRequest { .. }) => vec![Kind::OtherRun {
                id: text(),
                since: perennial_core::Timestamp(1),
            }],
            Some(Kind::OtherRun { .. }) => return None,
        })
    }

    fn rejections() -> Vec<Kind> {
        [
            Rejection::NotFound,
            Rejection::AlreadyExists(Status::Running),
            Rejection::NotRunning(Status::Failed),
            Rejection::NotFailed(Status::Running),
            Rejection::NotTerminal(Status::Running),
            Rejection::NotQuarantined(Status::Running),
            Rejection::TooManyUnread,
        ]
        .map(|rejection| Kind::Rejected {
            id: "a".to_owned(),
            rejection,
        })
        .into()
    }

    fn refusals() -> Vec<Kind> {
        [
            refused::UNKNOWN_ORCHESTRATION,
            refused::INVALID,
            refused::CORRUPT,
            refused::OVERLOADED,
            refused::QUOTA_EXCEEDED,
            refused::FORGETS,
            refused::LIMIT_EXCEEDED,
        ]
        .map(|kind| Kind::Refused {
            kind: kind.to_owned(),
            message: String::new(),
        })
        .into()
    }

    fn stores() -> Vec<Kind> {
        // Of SQLite: the disk is full, the file is locked, and a read or write failed.
        let sqlite = StoreError::of_sqlite;
        let path = PathBuf::new;
        [
            sqlite(13),
            sqlite(5),
            sqlite(10),
            StoreError::File {
                what: "could not write",
                path: path(),
                source: Arc::new(std::io::Error::other("")),
            },
            StoreError::Missing(path()),
            StoreError::Gone(path()),
            StoreError::LogGone(path()),
            StoreError::NotAHub(path()),
            StoreError::NotABackup(path()),
            StoreError::Newer {
                path: path(),
                found: 2,
                known: 1,
            },
            StoreError::Older {
                path: path(),
                found: 1,
                known: 2,
            },
            StoreError::ForeignLog {
                path: path(),
                log: path(),
            },
            StoreError::Linked(path()),
            StoreError::Corrupt(String::new()),
            StoreError::Owned(String::new()),
            StoreError::NotTaken {
                owner: String::new(),
                why: String::new(),
            },
            StoreError::NoAnswer(String::new()),
            StoreError::TakenBack,
            StoreError::Fenced,
            #[cfg(feature = "postgres")]
            StoreError::Forgot(2),
            StoreError::Conflict,
            StoreError::Elsewhere(crate::store::Partition(3)),
            StoreError::Lacks(Shortage::new(Resource::Memory, "")),
            StoreError::Closed,
        ]
        .map(|source| Kind::Store {
            hub: String::new(),
            source,
        })
        .into()
    }

    /// An error of each kind.
    pub(crate) fn one_of_each() -> Vec<Error> {
        let mut all: Vec<Kind> = Vec::new();
        while let Some(more) = next(all.last()) {
            all.extend(more);
        }
        all.into_iter().map(|kind| Error { kind }).collect()
    }

    #[test]
    fn every_kind_of_error_has_a_code_of_its_own() {
        let all = one_of_each();
        for error in &all {
            let code = error.code();
            assert!(
                !["", "error", "refused"].contains(&code),
                "{error:?} has no code of its own, but {code:?}"
            );
            // A remote client that gets only the code decides as the host itself does.
            let there = Error::answered(code.to_owned(), String::new());
            let decisions = |error: &Error| {
                [
                    error.is_not_found(),
                    error.is_unknown_module(),
                    error.is_not_stored(),
                    error.is_ambiguous_module(),
                    error.is_unknown_request(),
                    error.is_unknown_hub(),
                    error.is_already_exists(),
                    error.is_wrong_state(),
                    error.is_in_use(),
                    error.is_other_run(),
                    error.would_forget(),
                    error.is_unknown_orchestration(),
                    error.is_limit_exceeded(),
                    error.is_quota_exceeded(),
                    error.is_overloaded(),
                    error.is_unavailable(),
                    error.is_invalid(),
                    error.is_name_taken(),
                    error.is_queued(),
                    error.is_owned(),
                    error.is_disk_full(),
                    error.is_locked(),
                    error.is_damaged(),
                    error.is_of_other_version(),
                    error.is_shutting_down(),
                    error.is_unreachable(),
                    error.is_unauthorized(),
                ]
            };
            // What only this process can know is not answered by a host.
            let is_of_this_process = [
                "queued",
                "owned",
                "damaged",
                "otherVersion",
                "unreachable",
                "notPerennial",
                "needsFile",
                "requestFailed",
                "unanswered",
            ];
            if !is_of_this_process.contains(&code) {
                assert_eq!(decisions(&there), decisions(error), "{error:?}: {code}");
            }
        }
    }
}
