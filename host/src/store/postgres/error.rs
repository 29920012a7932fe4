//! Errors of PostgreSQL, as errors of a store.

use std::error::Error as _;
use std::fmt::Display;
use std::io::ErrorKind;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::shortage::Resource;
use crate::store::StoreError;
use crate::store::error::DatabaseError;
use crate::store::postgres::tls;

/// What the log of the server says of a transaction whose rows were changed.
macro_rules! changed {
    () => {
        "no fault of the database: a Perennial host found rows changed by another one, and rolls back"
    };
}

/// The end of a statement by which a transaction asks that rows are as it knows them, after the condition. It fails where they are not, and the
/// log of the server says why: a cast of a text to a number fails with the text.
macro_rules! else_changed {
    () => {
        concat!(
            " THEN '1' ELSE '",
            $crate::store::postgres::error::changed!(),
            "' END)::integer"
        )
    };
}

pub(super) use {changed, else_changed};

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        of_postgres(&error, "")
    }
}

/// An error of PostgreSQL, after the text of what failed.
pub(super) fn of_postgres(error: &tokio_postgres::Error, what: &str) -> StoreError {
    let code = error.code();
    if let Some(code) = code
        && (*code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED)
    {
        return StoreError::Corrupt(format!("{what}{}", text(error)));
    }
    StoreError::Database(Arc::new(DatabaseError {
        resource: match code {
            Some(code) if *code == SqlState::DISK_FULL => Resource::Disk,
            _ => in_chain(error),
        },
        is_locked: code.is_some_and(|code| *code == SqlState::LOCK_NOT_AVAILABLE),
        is_away: is_away(error),
        stays: code.is_some_and(stays),
        hint: hint(error),
        cause: format!("{what}{}", text(error)).into(),
    }))
}

/// An error of the database that says this.
pub(super) fn failed(what: impl Display) -> StoreError {
    said(what, false)
}

/// The error of a table that is not found because the user may not use the schema that it is in.
pub(super) fn no_rights(error: &tokio_postgres::Error) -> StoreError {
    StoreError::Database(Arc::new(DatabaseError {
        resource: Resource::Hub,
        is_locked: false,
        is_away: false,
        stays: true,
        hint: RIGHTS,
        cause: format!(
            "the user may not use the schema of the task hub: {}",
            text(error)
        )
        .into(),
    }))
}

/// An error that says that there is no answer: there may be one later.
pub(super) fn unanswered(what: impl Display) -> StoreError {
    said(what, true)
}

fn said(what: impl Display, is_away: bool) -> StoreError {
    StoreError::Database(Arc::new(DatabaseError {
        resource: Resource::Hub,
        is_locked: false,
        is_away,
        stays: false,
        hint: "",
        cause: what.to_string().into(),
    }))
}

/// An error that says what is wrong with the address of a database. It must have nothing of its text, which may have a password.
pub(super) fn bad_address(why: impl Display) -> StoreError {
    StoreError::Address(format!(
        "the address of the PostgreSQL database cannot be used: {why}"
    ))
}

/// Whether the connection is of no use any more.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            code.code().starts_with("08")
                || [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                    // A session keeps the settings with which it began, and the server that it leads to. A new one may be allowed to write.
                    SqlState::READ_ONLY_SQL_TRANSACTION,
                ]
                .contains(code)
        }
        None => {
            error.is_closed()
                || error
                    .source()
                    .is_some_and(|cause| cause.is::<std::io::Error>())
        }
    }
}

/// Whether the server may be there later, as it is after a restart or a failover. What its settings or the address forbid stays so.
fn is_away(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        // A database that may only be read answers.
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => false,
        Some(code) => is_lost(error) || *code == SqlState::TOO_MANY_CONNECTIONS,
        None => is_lost(error) && tls_error(error).is_none(),
    }
}

/// Whether an error stays until somebody acts at the server: resources that it lacks, other than connections; its files; errors of its own;
/// rights to some of its tables. A standby is not among them: it takes no change at all, so that one change that it took says that it is none.
fn stays(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    (matches!(class, "53" | "58" | "XX") && *code != SqlState::TOO_MANY_CONNECTIONS)
        || *code == SqlState::INSUFFICIENT_PRIVILEGE
}

/// What happened, without values of rows, which are in the details of PostgreSQL's errors.
fn text(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        if error.message().contains(changed!()) {
            return "rows of the hub were changed by another process at the same time".to_owned();
        }
        return format!("{} (SQLSTATE {})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What this process lacks, if it does.
fn in_chain(error: &tokio_postgres::Error) -> Resource {
    match Resource::in_chain(error) {
        Some(resource) if resource.is_of_process() => resource,
        _ => Resource::Hub,
    }
}

/// What to do about a right that the user lacks.
const RIGHTS: &str = "; `perennial doctor` with this address says which rights the user lacks, and the statements that give them. Without GRANT CONNECT on \
     the database it cannot look";

/// What to do about known causes.
fn hint(error: &tokio_postgres::Error) -> &'static str {
    let Some(code) = error.code() else {
        return hint_of_client(error);
    };
    if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        "; check the user, the database and sslmode, and pg_hba.conf of the server"
    } else if *code == SqlState::INVALID_PASSWORD {
        "; check the user, and the password in the address, in PGPASSWORD or in the password file"
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        "; create the database, or name another one"
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        RIGHTS
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "; raise max_connections of the server, or use fewer hosts"
    } else if *code == SqlState::DISK_FULL {
        "; the disk of the database server is full: make room there, for its tables and its write-ahead log. Hosts go on by themselves then"
    } else if *code == SqlState::OUT_OF_MEMORY {
        "; the database server has no memory left: give it more, or lower work_mem and max_connections there"
    } else if code.code().starts_with("53") || code.code().starts_with("54") {
        "; this is a limit of the database server: its log says more, and its settings say how much it may use"
    } else if code.code().starts_with("58") {
        "; the operating system of the database server refused it: look at the log of the server, at its disk and at the rights to its files"
    } else if code.code().starts_with("XX") {
        "; this is an internal error of the database server: its log says more. A full disk there is one cause, damaged files are another"
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        "; name the primary server, not a standby, and reset default_transaction_read_only where it is on"
    } else if *code == SqlState::DUPLICATE_PSTATEMENT || *code == SqlState::UNDEFINED_PSTATEMENT {
        "; a connection pooler in between gives one session of the server to several connections: name the server itself in the address, or the \
         pooler's port or setting for whole sessions (in PgBouncer pool_mode = session)"
    } else if *code == SqlState::QUERY_CANCELED {
        "; the statement took longer than it may"
    } else {
        ""
    }
}

/// The same for what this side of a connection found.
fn hint_of_client(error: &tokio_postgres::Error) -> &'static str {
    let Some(cause) = error.source() else {
        return "";
    };
    if let Some(error) = tls_error(error) {
        return tls::hint(error);
    }
    let kind = cause.downcast_ref().map(std::io::Error::kind);
    if let Some(ErrorKind::ConnectionRefused | ErrorKind::NotFound) = kind {
        return "; check the host and the port, and that the server runs and listens there";
    }
    // These are texts of tokio-postgres; `tests/tls.rs` notices when they change.
    match cause.to_string().as_str() {
        "server does not support TLS" => {
            "; turn on ssl in the server, or use sslmode=disable where nobody can listen"
        }
        "password missing" => {
            "; the server asks for a password: put it into PGPASSWORD or into the password file, ~/.pgpass"
        }
        _ => "",
    }
}

/// What is wrong with the certificates of a connection.
fn tls_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    // An `io::Error` hides the error that it wraps.
    let cause = error.source()?.downcast_ref::<std::io::Error>()?;
    cause.get_ref()?.downcast_ref()
}
