//! Looks for what keeps vacuum from removing the rows that updates and deletions leave, and for transaction ids that run out.
//!
//! Each transaction of a hub updates and deletes rows, and what it leaves can be removed once no transaction may see it any more. "Routine
//! Vacuuming" in the documentation of PostgreSQL names what keeps it back: transactions that stay open, prepared transactions that nobody ends,
//! and replication slots that nobody reads. The tables of a hub then grow by all that it writes, and each read becomes slower.

use perennial_core::text::is_unseen;
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::postgres::product::Product;
use crate::store::postgres::quote::{literal, quoted};
use crate::store::postgres::session::{Param, Session};
use crate::store::queries::advice::{DatabaseAdvice as Advice, Severity};

/// How long a transaction may stay open, in seconds. No transaction of a host takes a minute.
const OPEN_MAX_S: i64 = 600;

/// How many transactions what a replication slot, or a standby, still wants to see may lie back. A busy hub commits some hundreds a second.
const BEHIND_MAX: i64 = 1_000_000;

/// Transaction ids wrap around after 2^31. Autovacuum begins to freeze all of a table at the age `autovacuum_freeze_max_age` (200 million unless set
/// otherwise), whatever else is set, so that a database that is twice as old is not being frozen: something keeps it back. From the age
/// `vacuum_failsafe_age` (1.6 billion) on, vacuum leaves out all that can wait; some ten to forty million before the end the server warns, and one to
/// three million before it the server assigns no more ids ("Preventing Transaction ID Wraparound Failures"). Ids of multixacts have the same limits.
const FREEZE_MAX_TIMES: i64 = 2;
const FAILSAFE_AGE: i64 = 1_600_000_000;

/// The longest transaction that keeps something back, and how many sessions this user may not look at. A transaction of another database keeps rows
/// back when it has an id: all snapshots leave room for it. Vacuum itself keeps nothing back.
const OPEN: &str = "SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, ''), coalesce(a.usename::text, ''), coalesce(a.datname::text, ''),
         extract(epoch FROM clock_timestamp() - a.xact_start)::bigint
     FROM pg_stat_activity AS a
     WHERE a.xact_start < clock_timestamp() - $1::bigint * interval '1 s' AND a.pid <> pg_backend_pid()
         AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL AND a.datname = current_database())
         AND a.backend_type <> 'autovacuum worker' AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_vacuum AS v WHERE v.pid = a.pid)
     ORDER BY a.xact_start LIMIT 1";

/// Sessions of others, of which a user without the rights of `pg_read_all_stats` sees only that they are there.
const UNSEEN: &str = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>' AND usesysid IS NOT NULL";

const PREPARED: &str = "SELECT gid, database::text, owner::text, extract(epoch FROM clock_timestamp() - prepared)::bigint
     FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - $1::bigint * interval '1 s' ORDER BY prepared LIMIT 1";

/// A slot that nobody reads, and one whose reader wants to see what is long gone: a standby with `hot_standby_feedback` and a long query.
const SLOTS: &str = "SELECT slot_name::text, active, coalesce(age(xmin), 0)::bigint,
         coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint
     FROM pg_replication_slots
     WHERE NOT active AND (xmin IS NOT NULL OR restart_lsn IS NOT NULL) OR age(xmin) > $1::bigint
     ORDER BY active, 3 DESC, 4 DESC LIMIT 1";

/// The oldest database of the server, which counts for all of them.
const AGES: &str = "SELECT datname::text, age(datfrozenxid)::bigint, mxid_age(datminmxid)::bigint,
         current_setting('autovacuum_freeze_max_age')::bigint, current_setting('autovacuum_multixact_freeze_max_age')::bigint
     FROM pg_database ORDER BY greatest(age(datfrozenxid), mxid_age(datminmxid)) DESC LIMIT 1";

/// Looks at all of it.
///
/// # Errors
/// If the connection is lost. What cannot be looked at, for want of a right or of a view, is said.
pub(super) fn look(session: &Session, product: Product) -> Result<Vec<Advice>, StoreError> {
    look_beyond(session, product, OPEN_MAX_S)
}

/// As [`look`], at transactions that have been open for more seconds than that.
pub(super) fn look_beyond(
    session: &Session,
    product: Product,
    open_max: i64,
) -> Result<Vec<Advice>, StoreError> {
    let mut advice = vec![
        looked("transactions", one(session, OPEN, &[&open_max])?, |row| {
            transactions(row, unseen(session)?)
        })?,
        looked(
            "prepared transactions",
            one(session, PREPARED, &[&open_max])?,
            prepared,
        )?,
        looked(
            "replication slots",
            one(session, SLOTS, &[&BEHIND_MAX])?,
            slots,
        )?,
    ];
    // It gives transactions no ids of 32 bits.
    if product != Product::Yugabyte {
        advice.push(looked(
            "transaction ids",
            one(session, AGES, &[])?,
            |row| row.map_or_else(|| Ok(ages("", 0, 0, 1, 1)), aged),
        )?);
    }
    Ok(advice)
}

/// The row of a question, if there is one; the answer of the server if it refused it.
fn one(
    session: &Session,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Result<Option<Row>, StoreError>, StoreError> {
    match session.query_opt(sql, params) {
        Err(error) if session.is_lost() => Err(error),
        answer => Ok(answer),
    }
}

fn looked(
    check: &'static str,
    answer: Result<Option<Row>, StoreError>,
    say: impl FnOnce(Option<Row>) -> Result<Advice, StoreError>,
) -> Result<Advice, StoreError> {
    match answer {
        Ok(row) => say(row),
        Err(error) => Ok(Advice::fine(check, format!("not looked at: {error}"))),
    }
}

fn unseen(session: &Session) -> Result<i64, StoreError> {
    let row = one(session, UNSEEN, &[])?.ok().flatten();
    row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
}

/// A text of somebody else, in a line for people.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(64).collect();
    text.replace(is_unseen, "\u{fffd}")
}

fn transactions(row: Option<Row>, unseen: i64) -> Result<Advice, StoreError> {
    let check = "transactions";
    let minutes = OPEN_MAX_S / 60;
    let Some(row) = row else {
        let found = format!("none has been open for longer than {minutes} min");
        return Ok(Advice::fine(
            check,
            match unseen {
                0 => found,
                unseen => format!(
                    "{found}, as far as this user may see; it may not look at {unseen} of the sessions unless it is granted pg_read_all_stats"
                ),
            },
        ));
    };
    let pid: i32 = row.try_get(0)?;
    let [application, state, user, database]: [String; 4] = [
        row.try_get(1)?,
        row.try_get(2)?,
        row.try_get(3)?,
        row.try_get(4)?,
    ];
    let open: i64 = row.try_get(5)?;
    let mut fix = format!("end it if nobody needs it: SELECT pg_terminate_backend({pid});");
    if state.starts_with("idle in transaction") {
        fix += &format!(
            " and against others like it: ALTER ROLE {} SET idle_in_transaction_session_timeout = '{minutes}min';",
            quoted(&user)
        );
    }
    Ok(Advice::bad(
        check,
        Severity::Warning,
        format!(
            "process {pid} of the server (application {:?}, user {:?}, database {:?}, {}) has had one open for {} min: what hubs have deleted since then cannot be \
             removed, so that their tables grow and become slow",
            shown(&application),
            shown(&user),
            shown(&database),
            shown(&state),
            open / 60
        ),
        fix,
    ))
}

fn prepared(row: Option<Row>) -> Result<Advice, StoreError> {
    let check = "prepared transactions";
    let Some(row) = row else {
        return Ok(Advice::fine(check, "none has been waiting for its end"));
    };
    let [name, database, owner]: [String; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
    let waits: i64 = row.try_get(3)?;
    let name = literal(&name);
    Ok(Advice::bad(
        check,
        Severity::Warning,
        format!(
            "{name} of {:?} in the database {:?} has been waiting for its end for {} min: what hubs have deleted since then cannot be removed, so that \
             their tables grow and become slow",
            shown(&owner),
            shown(&database),
            waits / 60
        ),
        format!("in that database: COMMIT PREPARED {name}; or ROLLBACK PREPARED {name};"),
    ))
}

fn slots(row: Option<Row>) -> Result<Advice, StoreError> {
    let check = "replication slots";
    let Some(row) = row else {
        return Ok(Advice::fine(check, "none keeps anything that nobody reads"));
    };
    let (name, is_active): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    let (behind, kept): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    if is_active {
        return Ok(Advice::bad(
            check,
            Severity::Warning,
            format!(
                "the reader of {name} wants to see what is {behind} transactions old: what hubs have deleted since then cannot be removed, so that \
                 their tables grow and become slow"
            ),
            "end the long query at the standby, or set hot_standby_feedback = off there",
        ));
    }
    Ok(Advice::bad(
        check,
        Severity::Warning,
        format!(
            "nobody reads {name}, which keeps {} of the log{}: the disk fills up",
            perennial_core::text::size(u64::try_from(kept).unwrap_or_default()),
            match behind {
                0 => String::new(),
                behind =>
                    format!(", and all rows that were deleted in the last {behind} transactions"),
            }
        ),
        format!(
            "start what reads it, or, if nothing will: SELECT pg_drop_replication_slot({});",
            literal(&name)
        ),
    ))
}

fn aged(row: Row) -> Result<Advice, StoreError> {
    let name: String = row.try_get(0)?;
    Ok(ages(
        &name,
        row.try_get(1)?,
        row.try_get(2)?,
        row.try_get(3)?,
        row.try_get(4)?,
    ))
}

/// The oldest database, its oldest ids, and at which age each kind is frozen.
fn ages(database: &str, ids: i64, multi: i64, freeze: i64, freeze_multi: i64) -> Advice {
    let check = "transaction ids";
    let kinds = [
        ("transaction ids", ids, freeze),
        ("ids of multixacts", multi, freeze_multi),
    ];
    let old = kinds
        .into_iter()
        .find(|(_, age, freeze)| *age > (freeze * FREEZE_MAX_TIMES).min(FAILSAFE_AGE));
    match old {
        None => Advice::fine(check, "they are frozen in time"),
        Some((kind, age, freeze)) => Advice::bad(
            check,
            Severity::Warning,
            format!(
                "the database {:?} has {kind} of the last {age} still, although vacuum freezes those beyond {freeze}: some two billion back the server \
                 refuses all changes",
                shown(database)
            ),
            "mend what the lines about transactions, prepared transactions and replication slots name, and then execute VACUUM (FREEZE) in that \
             database, as its owner or a superuser",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_not_frozen_are_warned_of_before_they_run_out() {
        let million = 1_000_000;
        let usual = |ids, multi| ages("hubs", ids, multi, 200 * million, 400 * million);
        assert_eq!(usual(390 * million, 790 * million).severity, Severity::Fine);
        let old = usual(401 * million, 0);
        assert_eq!(old.severity, Severity::Warning);
        assert!(
            old.found
                .contains("transaction ids of the last 401000000 still"),
            "{old:?}"
        );
        assert!(usual(0, 801 * million).found.contains("multixacts"));
        // However late they are to be frozen.
        let late = ages("hubs", 1_601 * million, 0, 2_000 * million, 400 * million);
        assert_eq!(late.severity, Severity::Warning);
    }
}
