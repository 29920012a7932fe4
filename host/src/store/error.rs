//! Errors of the store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::shortage::{Resource, Shortage};
use crate::store::partition::Partition;

/// An error of a hub's file. Cheap to clone: a failed commit returns the same error to every change in its batch.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// The disk or the database failed. The operation was rolled back.
    #[error("the hub could not be read or written: {0}")]
    Database(Arc<DatabaseError>),
    /// A file beside the hub, or its directory, could not be used.
    #[error("{what} {path}: {source}")]
    File {
        /// The failed action, such as "could not write".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: Arc<std::io::Error>,
    },
    /// No hub at this path.
    #[error("there is no task hub at {0}; deploy a module or start a host to make it")]
    Missing(PathBuf),
    /// The hub's file was moved or deleted while its owner used it.
    #[error(
        "{0} was moved or deleted while it was in use, and nothing is accepted until it is back; put it back, or stop this process"
    )]
    Gone(PathBuf),
    /// The write-ahead log or its index was moved or deleted while the owner used it. Its content was folded into the hub's file.
    #[error(
        "{0} was deleted or replaced while its task hub was in use: what it had is in the hub, and nothing more is accepted by this process; stop it and start it again"
    )]
    LogGone(PathBuf),
    /// The file is not a hub. It is left unchanged.
    #[error(
        "{0} is not the file of a task hub; it was left unchanged: name another task hub, or move the file away"
    )]
    NotAHub(PathBuf),
    /// The file of which a hub was to be made is none.
    #[error("{0} is not a backup of a task hub: name a file that `perennial backup` wrote")]
    NotABackup(PathBuf),
    /// A newer version wrote the file. It is left unchanged.
    #[error(
        "{path} was written by a newer version of Perennial (format {found}; this one knows {known}); it was left unchanged: use that version or a newer one"
    )]
    Newer {
        /// The hub's file.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The newest format that this binary knows.
        known: u32,
    },
    /// An older version wrote the file, and no host of this version has migrated it.
    #[error(
        "{path} was written by an older version of Perennial (format {found}; this one has {known}); start a host on it, which brings it up to date"
    )]
    Older {
        /// The hub's file.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The format of this binary.
        known: u32,
    },
    /// The write-ahead log beside the hub belongs to another file, or to another state of this one. Both are left unchanged.
    #[error(
        "{} does not belong to {}, which was copied or moved here without the log that it had: move the log away to use the file as it is, or put back the file that belongs to the log", log.display(), path.display()
    )]
    ForeignLog {
        /// The hub's file.
        path: PathBuf,
        /// The log beside it.
        log: PathBuf,
    },
    /// The file has hard links.
    #[error(
        "{0} has another name too (a hard link), under which another host would not see that it is in use: copy the file and remove one of the names, or use a symbolic link"
    )]
    Linked(PathBuf),
    /// The address of a database cannot be used, or its TLS.
    #[cfg(feature = "postgres")]
    #[error("{0}")]
    Address(String),
    /// The schema of a database is not a hub. It is left unchanged.
    #[cfg(feature = "postgres")]
    #[error(
        "the schema {schema} of the database is not a task hub of Perennial; it was left unchanged: name another task hub, or rename the schema"
    )]
    NotAHubSchema {
        /// The name of the schema.
        schema: String,
    },
    /// The content of the file is inconsistent.
    #[error("the hub is damaged: {0}")]
    Corrupt(String),
    /// Another process owns the hub.
    #[error("the task hub is in use by {0}")]
    Owned(String),
    /// The hub's owner did not execute a command in time, and the client withdrew it. If the command takes several transactions, some may
    /// be done.
    #[error(
        "the command was withdrawn, because {owner}, which owns the task hub, could not execute it: {why}"
    )]
    NotTaken {
        /// A description of the owner.
        owner: String,
        /// Why the command was not executed.
        why: String,
    },
    /// An owner was asked for something, and it is not known whether it has done it, or will.
    #[error("{0}, which runs the instance, did not answer in time, and may still do it")]
    NoAnswer(String),
    /// The client withdrew the command.
    #[error("the command was withdrawn; try again")]
    TakenBack,
    /// Another owner took over the hub; this one must not write any more.
    #[error("another process has taken over the task hub, and this one writes nothing more")]
    Fenced,
    /// The database has fewer transactions of this owner than it had confirmed; this one must not write any more.
    #[cfg(feature = "postgres")]
    #[error(
        "the database has lost {0} transactions that it had confirmed, the last ones, as after a failover to a standby that was behind; \
         this process writes nothing more"
    )]
    Forgot(u64),
    /// Another host of the hub runs the instance.
    #[error("another host of the task hub runs the instance now; try again")]
    Elsewhere(Partition),
    /// The instance has moved since the change was prepared: for example, it was replaced or purged.
    #[error("the instance was changed at the same time; try again")]
    Conflict,
    /// The machine lacked a resource. The operation was rolled back.
    #[error(transparent)]
    Lacks(#[from] Shortage),
    /// The store is shutting down.
    #[error("the host is shutting down")]
    Closed,
}

/// A failure of the database below a store.
#[derive(Debug, thiserror::Error)]
#[error("{cause}{hint}")]
pub(crate) struct DatabaseError {
    /// What it lacked.
    pub(in crate::store) resource: Resource,
    /// Whether another process held its lock for too long.
    pub(in crate::store) is_locked: bool,
    /// Whether nothing answered where the database is, or nothing that accepts connections now.
    pub(in crate::store) is_away: bool,
    /// Whether it stays until somebody acts: see [`StoreError::stays`].
    pub(in crate::store) stays: bool,
    /// Advice for known causes that the message omits.
    pub(in crate::store) hint: &'static str,
    pub(in crate::store) cause: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// Whether the disk is full, or the process reached its file size limit.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Database(error) => error.resource == Resource::Disk,
            Self::File { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::FileTooLarge
            ),
            _ => false,
        }
    }

    /// Whether the database has no room or another resource left, forbids what hosts do, or has an error of its own: this comes again until
    /// somebody acts there, though other changes may succeed meanwhile.
    #[cfg(feature = "postgres")]
    pub(in crate::store) fn stays(&self) -> bool {
        self.is_disk_full() || matches!(self, Self::Database(error) if error.stays)
    }

    /// Whether the store failed: what was to be changed has nothing to do with it.
    #[cfg(feature = "postgres")]
    pub(in crate::store) fn is_failure(&self) -> bool {
        !matches!(
            self,
            Self::Conflict
                | Self::TakenBack
                | Self::Elsewhere(_)
                | Self::NotTaken { .. }
                | Self::NoAnswer(_)
        )
    }

    /// Whether this process does not own the hub any more, or is about to let it go.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Fenced | Self::Closed => true,
            #[cfg(feature = "postgres")]
            Self::Forgot(_) => true,
            _ => false,
        }
    }

    /// Whether another process held the database's lock for longer than the busy timeout.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_locked)
    }

    /// Whether the server of the database cannot be reached: a later try may succeed, with a connection of its own.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_away)
    }

    /// The missing resource, if the cause is neither the file's content nor the request: a later try may succeed.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let resource = match self {
            Self::Database(error) => error.resource,
            Self::File { source, .. } => Resource::of_io(source),
            Self::Missing(_)
            | Self::Gone(_)
            | Self::LogGone(_)
            | Self::NotAHub(_)
            | Self::NotABackup(_)
            | Self::ForeignLog { .. }
            | Self::Linked(_)
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::Owned(_)
            | Self::NotTaken { .. }
            | Self::NoAnswer(_)
            | Self::Fenced
            | Self::Conflict
            | Self::Elsewhere(_)
            | Self::Closed => Resource::Hub,
            // A way to the database that cannot be used says nothing about what is in it.
            #[cfg(feature = "postgres")]
            Self::NotAHubSchema { .. } | Self::Forgot(_) | Self::Address(_) => Resource::Hub,
            Self::Lacks(shortage) => return Some(shortage.clone()),
            Self::Corrupt(_) | Self::TakenBack => return None,
        };
        Some(Shortage::new(resource, self.to_string()))
    }

    /// Wraps an error of using a file.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            what,
            path,
            source: Arc::new(source),
        }
    }
}
