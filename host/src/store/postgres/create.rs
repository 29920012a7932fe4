//! Makes hubs, checks their format, lists and drops them.

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::codec::{int, uint};
use crate::store::postgres::address::{Address, PREFIX};
use crate::store::postgres::needs;
use crate::store::postgres::session::{Purpose, Session};

/// The format that `schema.sql` creates, and that this binary writes.
const FORMAT: u32 = 2;

/// Partitions of a new hub: enough for some thirty hosts. They never change.
pub(super) const PARTITIONS: i16 = 64;

const SCHEMA: &str = include_str!("schema.sql");
const SHARED: &str = include_str!("shared.sql");
const UPGRADE: &str = include_str!("upgrade.sql");

/// The table of the advisory locks of this program: "PERN".
const LOCKS: i32 = 0x5045_524e;

/// Creates the hub if there is none. Returns whether it did. One of an older format stays as it is: its next owner [upgrades](upgrade) it.
///
/// A schema without tables may be there already: a user who may not create one can be given it.
///
/// # Errors
/// [`StoreError::NotAHubSchema`] and [`StoreError::Newer`] if it is something else; it is left unchanged. [`StoreError::Address`] if the server
/// lacks what hosts need.
pub(in crate::store) fn create(address: &Address, now: Timestamp) -> Result<bool, StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    if found(&session, address)?.is_some() {
        return Ok(false);
    }
    needs::require(&session, address)?;
    session.begin()?;
    let made = create_in(&session, address, now);
    match made {
        Ok(true) => session.batch("COMMIT")?,
        // The connection is closed in any case.
        Ok(false) | Err(_) => drop(session.batch("ROLLBACK")),
    }
    made
}

/// In a transaction, of which only one at a time gets past the first statement.
pub(super) fn create_in(
    session: &Session,
    address: &Address,
    now: Timestamp,
) -> Result<bool, StoreError> {
    session.query(
        "SELECT pg_advisory_xact_lock($1, hashtext($2))",
        &[&LOCKS, &address.schema()],
    )?;
    if found(session, address)?.is_some() {
        return Ok(false);
    }
    let schema = address.schema();
    let exists = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
    let mut sql = SCHEMA.replace("{schema}", &address.quoted_schema());
    if session.query_opt(exists, &[&schema])?.is_some() {
        // Needs a right to create schemas even where there is one.
        sql = sql.replace("CREATE SCHEMA IF NOT EXISTS", "-- ");
    }
    session.batch(&sql)?;
    session.batch(SHARED)?;
    session.execute(
        "INSERT INTO hub (id, format, created_at, partitions, secret) VALUES (1, $1, $2, $3, $4)",
        &[
            &(FORMAT as i32),
            &int(now.0),
            &PARTITIONS,
            &&uuid::Uuid::new_v4().as_bytes()[..],
        ],
    )?;
    session.execute(
        "INSERT INTO partition (partition) SELECT generate_series(0, $1 - 1)::smallint",
        &[&i32::from(PARTITIONS)],
    )?;
    Ok(true)
}

/// Checks that there is a hub of the format of this version.
///
/// # Errors
/// [`StoreError::Missing`] if there is none, [`StoreError::Older`], and those of [`create`].
pub(super) fn check_format(session: &Session, address: &Address) -> Result<(), StoreError> {
    match found(session, address)? {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(StoreError::Older {
            path: address.to_string().into(),
            found,
            known: FORMAT,
        }),
        None => Err(StoreError::Missing(address.to_string().into())),
    }
}

/// Brings a hub of an older format to that of this version. The caller is in a transaction, and nobody owns the hub.
pub(super) fn upgrade(session: &Session, address: &Address) -> Result<(), StoreError> {
    session.batch(UPGRADE)?;
    session.batch(SHARED)?;
    tracing::info!(hub = %address, format = FORMAT, "brought the task hub to the format of this version");
    Ok(())
}

/// Whether a hub is of an older format, so that its next owner has to upgrade it.
pub(super) fn is_old(session: &Session, address: &Address) -> Result<bool, StoreError> {
    Ok(found(session, address)?.is_some_and(|format| format < FORMAT))
}

/// The format of the hub, if there is one: that of this version or an older one.
fn found(session: &Session, address: &Address) -> Result<Option<u32>, StoreError> {
    // One statement sees all as of one moment: between two, another host may have made the hub.
    let seen = "SELECT EXISTS (SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1),
         (SELECT count(*) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1 AND c.relname = 'hub' AND a.attname IN ('mark', 'format')) = 2";
    let seen = session.query_opt(seen, &[&address.schema()])?;
    let (has_anything, is_hub) = match seen {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => (false, false),
    };
    if !is_hub {
        return match has_anything {
            true => Err(StoreError::NotAHubSchema {
                schema: address.schema(),
            }),
            false => Ok(None),
        };
    }
    let columns = format!(
        "SELECT mark::text, format::bigint FROM {}.hub WHERE id = 1",
        address.quoted_schema()
    );
    let row = session.query_opt(&columns, &[])?;
    let (mark, format): (String, i64) = match row {
        Some(row) => (row.try_get(0)?, row.try_get(1)?),
        None => {
            return Err(StoreError::NotAHubSchema {
                schema: address.schema(),
            });
        }
    };
    let found = match u32::try_from(format) {
        Ok(found) if mark == "perennial" && found > 0 => found,
        _ => {
            return Err(StoreError::NotAHubSchema {
                schema: address.schema(),
            });
        }
    };
    match found <= FORMAT {
        true => Ok(Some(found)),
        false => Err(StoreError::Newer {
            path: address.to_string().into(),
            found,
            known: FORMAT,
        }),
    }
}

/// Whether there is a schema of this name with anything in it.
pub(in crate::store) fn exists(address: &Address) -> Result<bool, StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    let anything = "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace($1) LIMIT 1";
    let found = session.query_opt(anything, &[&address.quoted_schema()])?;
    Ok(found.is_some())
}

/// The bytes of all tables of a hub, with their indexes.
pub(in crate::store) fn bytes(address: &Address) -> Result<u64, StoreError> {
    bytes_in(&Session::open(address, Purpose::Manage)?, address)
}

fn bytes_in(session: &Session, address: &Address) -> Result<u64, StoreError> {
    let sql = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
         WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'";
    let row = session.query_opt(sql, &[&address.quoted_schema()])?;
    row.map_or(Ok(0), |row| Ok(uint(row.try_get(0)?)))
}

/// Rewrites all tables of a hub without unused space. Returns their bytes before and after.
///
/// # Errors
/// [`StoreError::Missing`] if there is none.
pub(in crate::store) fn compact(address: &Address) -> Result<(u64, u64), StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    check_format(&session, address)?;
    // A table of many gigabytes takes longer than a statement of a host may.
    session.batch("SET statement_timeout = 0")?;
    let before = bytes_in(&session, address)?;
    let tables = "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'";
    for row in session.query(tables, &[&address.quoted_schema()])? {
        let table: String = row.try_get(0)?;
        let schema = address.quoted_schema();
        session.batch_of_any_length(&format!("VACUUM (FULL, ANALYZE) {schema}.{table}"))?;
    }
    Ok((before, bytes_in(&session, address)?))
}

/// Schemas that look like hubs from outside, which everybody may look at.
macro_rules! like_hubs {
    () => {
        "FROM pg_namespace AS n JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'hub' AND c.relkind = 'r'
         WHERE starts_with(n.nspname, $1) AND EXISTS (SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'mark')"
    };
}

/// How many schemas look like hubs that the user may not read.
pub(crate) fn unreadable(address: &Address) -> Result<u64, StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    let sql = concat!(
        "SELECT count(*) ",
        like_hubs!(),
        " AND NOT has_schema_privilege(n.oid, 'USAGE')"
    );
    let row = session.query_opt(sql, &[&PREFIX])?;
    row.map_or(Ok(0), |row| Ok(uint(row.try_get(0)?)))
}

/// The hubs of a database, by name, in order. Those that the user may not read are not among them: see [`unreadable`].
pub(crate) fn hubs(address: &Address) -> Result<Vec<String>, StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    let sql = concat!(
        "SELECT n.nspname ",
        like_hubs!(),
        " AND has_schema_privilege(n.oid, 'USAGE') ORDER BY 1"
    );
    let rows = session.query(sql, &[&PREFIX])?;
    let mut hubs = Vec::new();
    for row in rows {
        let schema: String = row.try_get(0)?;
        hubs.push(schema[PREFIX.len()..].to_owned());
    }
    hubs.sort();
    Ok(hubs)
}

/// Deletes a hub, of whatever format. `false` if there is none.
///
/// # Errors
/// [`StoreError::NotAHubSchema`] if the schema is something else.
pub(in crate::store) fn delete(address: &Address) -> Result<bool, StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    match found(&session, address) {
        Ok(Some(_)) | Err(StoreError::Newer { .. }) => {}
        Ok(None) => return Ok(false),
        Err(error) => return Err(error),
    }
    session.batch(&format!("DROP SCHEMA {} CASCADE", address.quoted_schema()))?;
    Ok(true)
}
