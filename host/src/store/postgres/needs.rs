//! Whether a server does for connections what hosts need of it beside tables: advisory locks that exclude, and notifications.
//!
//! Some products that speak the protocol of PostgreSQL accept both, and do nothing.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::queries::advice::{DatabaseAdvice as Advice, Severity};

/// How long a notification may take.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(2);

const NO_LOCKS: &str = "the server gives one advisory lock to two connections at once: hosts would take each other for dead";
const INSTEAD: &str = "use PostgreSQL, without a connection pooler in between that shares sessions";

/// Whether an advisory lock of one connection keeps others out.
fn locks_exclude(one: &Session, other: &Session) -> Result<bool, StoreError> {
    let key = uuid::Uuid::new_v4().as_u64_pair().0 as i64;
    let got = |session: &Session, sql: &str| -> Result<bool, StoreError> {
        let row = session.query_opt(sql, &[&key])?;
        row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
    };
    let has = got(one, "SELECT pg_try_advisory_lock($1)")?;
    let other_has = got(other, "SELECT pg_try_advisory_xact_lock($1)")?;
    got(one, "SELECT pg_advisory_unlock($1)")?;
    Ok(has && !other_has)
}

/// Refuses a server on which hosts could not tell who of them lives.
///
/// # Errors
/// [`StoreError::Address`] says what it lacks.
pub(super) fn require(session: &Session, address: &Address) -> Result<(), StoreError> {
    let other = Session::open(address, Purpose::Manage)?;
    match locks_exclude(session, &other)? {
        true => Ok(()),
        false => Err(StoreError::Address(format!("{NO_LOCKS}; {INSTEAD}"))),
    }
}

pub(super) fn locks(exclude: bool) -> Advice {
    let check = "advisory locks";
    match exclude {
        true => Advice::fine(check, "one connection at a time has one"),
        false => Advice::bad(check, Severity::Failure, NO_LOCKS, INSTEAD),
    }
}

pub(super) fn notifications(arrive: bool) -> Advice {
    let check = "notifications";
    match arrive {
        true => Advice::fine(check, "they arrive"),
        false => Advice::bad(
            check,
            Severity::Warning,
            format!(
                "none arrived in {} s: what one host sends to another, and commands beside a host, wait up to a second longer",
                NOTIFIED_WITHIN.as_secs()
            ),
            "name the server itself in the address, and a product and version that has LISTEN and NOTIFY",
        ),
    }
}

/// Looks at both.
pub(super) fn look(session: &Session, address: &Address) -> Result<[Advice; 2], StoreError> {
    let (tell, told) = sync_channel(1);
    // If it is full, or nobody waits any more, one was enough.
    let tell = move |_: &str| _ = tell.try_send(());
    let other = Session::open_told(address, Purpose::Look, Arc::new(tell))?;
    let channel = format!("perennial_{}", uuid::Uuid::new_v4().simple());
    let sent = other
        .batch(&format!("LISTEN {channel}"))
        .and_then(|()| session.batch(&format!("NOTIFY {channel}, 'here'")));
    let arrived = sent.is_ok() && told.recv_timeout(NOTIFIED_WITHIN).is_ok();
    Ok([
        locks(locks_exclude(session, &other)?),
        notifications(arrived),
    ])
}
