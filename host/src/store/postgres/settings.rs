//! Looks at a database for what keeps hubs in it from being durable, quick, or there at all, and says how to mend it.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::horizon;
use crate::store::postgres::needs;
use crate::store::postgres::pool::CONNECTIONS_MAX;
use crate::store::postgres::product::{Product, VERSION_MIN};
use crate::store::postgres::quote::quoted;
use crate::store::postgres::replica;
use crate::store::postgres::seat::{POOLED, UNPOOLED};
use crate::store::postgres::session::{Purpose, Session};
use crate::store::queries::advice::{DatabaseAdvice as Advice, Severity};

/// Connections of a host for each hub: its readers, its writer, one each that is told of commands and of messages, that looks who shares the hub, that
/// asks other hosts and that reads modules, and those of commands beside it.
const CONNECTIONS_OF_A_HOST: i64 = CONNECTIONS_MAX as i64 + 8;

/// How far the clocks of a host and of its database may be apart, in milliseconds.
const CLOCKS_APART_MAX: i64 = 1_000;

/// Settings that matter.
const SETTINGS: [&str; 17] = [
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "autovacuum",
    "track_counts",
    "default_transaction_read_only",
    "default_transaction_isolation",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
    "server_encoding",
    "server_version",
    "max_connections",
    "superuser_reserved_connections",
];

/// A setting as a session has it that sets nothing, and where it comes from.
struct Setting {
    value: String,
    source: String,
}

/// What there is to know of a database.
pub(super) struct Database {
    settings: HashMap<String, Setting>,
    pub(super) product: Product,
    pub(super) version: i32,
    is_standby: bool,
    user: String,
    name: String,
    /// Standbys that are known to get transactions after they are confirmed.
    pub(super) asynchronous: i64,
    in_use: i64,
    /// Connections that the database and the user may have; -1 if nobody says so.
    limits: [i32; 2],
    may_create: bool,
    /// Whether the user may change the hub, if it is there.
    may_change: Option<bool>,
}

/// Looks at a database as one of its hubs is used.
pub(in crate::store) fn look(address: &Address) -> Result<Vec<Advice>, StoreError> {
    let session = Session::open(address, Purpose::Look)?;
    let database = Database::read(&session, address)?;
    let horizon = horizon::look(&session, database.product)?;
    let other = Session::open(address, Purpose::Look)?;
    let is_pooled = backend(&session)? == backend(&other)?;
    let mut advice = vec![database.version(), database.primary()];
    advice.extend(database.durability());
    advice.extend([
        database.standbys(),
        database.writable(),
        database.isolation(),
        database.timeouts(),
        database.vacuum(),
        database.encoding(),
        database.connections(),
        database.rights(address),
        pooled(is_pooled),
        clocks(clocks_apart(&session)?),
    ]);
    // Where connections share sessions, neither can be told.
    if !is_pooled {
        advice.extend(needs::look(&session, address)?);
    }
    advice.extend(horizon);
    advice.extend(replica::advice(address));
    Ok(advice)
}

/// Warns of what may lose transactions that this connection confirms, and of clocks that differ.
pub(super) fn warn(session: &Session) {
    match clocks_apart(session) {
        Ok(apart) => {
            if let Some((found, fix)) = clock_warning(apart) {
                tracing::warn!(fix, "clock: {found}");
            }
        }
        Err(error) => tracing::debug!(%error, "the clock of the database was not read"),
    }
    let settings = match settings(session, "setting") {
        Ok(settings) => settings,
        Err(error) => {
            tracing::debug!(%error, "the settings of the database were not read");
            return;
        }
    };
    let product = asked(session).unwrap_or(Product::PostgreSql);
    let mend = |name: &str| product.mend(name, "on");
    for advice in durability(&settings, product, &mend) {
        if advice.severity != Severity::Fine {
            let fix = advice.fix.as_deref().unwrap_or_default();
            let (check, found) = (advice.check, advice.found);
            tracing::warn!(
                fix,
                "the database may lose what is acknowledged: {check} is {found}"
            );
        }
    }
}

/// The settings, by name; `column` is the one of their value.
fn settings(session: &Session, column: &str) -> Result<HashMap<String, Setting>, StoreError> {
    let sql = format!(
        "SELECT name, coalesce({column}, ''), source FROM pg_settings WHERE name = ANY($1)"
    );
    let names: &[&str] = &SETTINGS;
    let rows = session.query(&sql, &[&names])?;
    let mut settings = HashMap::new();
    for row in rows {
        let (value, source) = (row.try_get(1)?, row.try_get(2)?);
        settings.insert(row.try_get(0)?, Setting { value, source });
    }
    Ok(settings)
}

/// Which product the server is.
fn asked(session: &Session) -> Result<Product, StoreError> {
    let Some(row) = session.query_opt(Product::ASKS, &[&Product::roles()])? else {
        return Ok(Product::PostgreSql);
    };
    let (version, is_aurora): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    let roles: Vec<String> = row.try_get(2)?;
    Ok(Product::named(&version, is_aurora, &roles))
}

/// The process of the server that serves a connection.
fn backend(session: &Session) -> Result<i32, StoreError> {
    let row = session.query_opt("SELECT pg_backend_pid()", &[])?;
    row.map_or(Ok(0), |row| Ok(row.try_get(0)?))
}

/// How many milliseconds the clock of the database is ahead of this one's, as far as the way there lets one know.
fn clocks_apart(session: &Session) -> Result<i64, StoreError> {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis() as i64
    };
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    // The statement is prepared the first time.
    session.query_opt(sql, &[])?;
    let before = now();
    let there: i64 = match session.query_opt(sql, &[])? {
        Some(row) => row.try_get(0)?,
        None => return Ok(0),
    };
    let after = now();
    Ok(match there {
        there if there < before => there - before,
        there if there > after => there - after,
        _ => 0,
    })
}

pub(super) fn clocks(apart: i64) -> Advice {
    let check = "clock";
    if apart.abs() <= CLOCKS_APART_MAX {
        return Advice::fine(
            check,
            "that of the database agrees with that of this machine",
        );
    }
    let way = if apart > 0 { "ahead of" } else { "behind" };
    Advice::bad(
        check,
        Severity::Warning,
        format!(
            "that of the database is {} s {way} that of this machine: where hosts have different clocks, timers and retries come due earlier or \
             later after another host took over",
            apart.abs() / 1_000
        ),
        "set the clocks of all machines by NTP (chrony or systemd-timesyncd)",
    )
}

/// What is said when a host begins whose clock differs from that of its database, and what mends it.
pub(super) fn clock_warning(apart: i64) -> Option<(String, String)> {
    let advice = clocks(apart);
    Some((advice.found, advice.fix?))
}

/// Whether two connections, open at once, are served by one process of the server.
pub(super) fn pooled(are_one: bool) -> Advice {
    let check = "pooler";
    match are_one {
        false => Advice::fine(
            check,
            "each connection has a session of the server of its own",
        ),
        true => Advice::bad(check, Severity::Failure, POOLED, UNPOOLED),
    }
}

/// Whether what is confirmed stays. `mend` says how a setting is changed.
fn durability(
    settings: &HashMap<String, Setting>,
    product: Product,
    mend: &dyn Fn(&str) -> String,
) -> Vec<Advice> {
    let is = |name: &str, value: &str| {
        settings
            .get(name)
            .is_some_and(|setting| setting.value == value)
    };
    let of = |check, is_bad: bool, fine: &str, bad: &str| match is_bad {
        true => Advice::bad(check, Severity::Warning, bad, mend(check)),
        false => Advice::fine(check, fine),
    };
    let has_standbys = settings
        .get("synchronous_standby_names")
        .is_some_and(|setting| !setting.value.is_empty());
    let commit = match () {
        () if is("synchronous_commit", "off") => (
            true,
            "off: a crash of the server loses the last transactions that it confirmed",
        ),
        () if is("synchronous_commit", "local") && has_standbys => (
            true,
            "local, although synchronous_standby_names names standbys: a failover loses the last transactions that were confirmed",
        ),
        () => (false, ""),
    };
    let storage = product.name().filter(|_| product.has_own_storage());
    let of_files = |check, bad: &str| match storage {
        Some(name) => Advice::fine(check, format!("the storage of {name} does without it")),
        None => of(check, is(check, "off"), "on", bad),
    };
    vec![
        of_files(
            "fsync",
            "off: a crash of the machine may destroy the database, and with it all hubs",
        ),
        of_files(
            "full_page_writes",
            "off: a crash of the machine may leave pages of the database half written, and with them damaged hubs",
        ),
        of(
            "synchronous_commit",
            commit.0,
            "a commit is on disk before it is confirmed",
            commit.1,
        ),
    ]
}

impl Database {
    pub(super) fn read(session: &Session, address: &Address) -> Result<Self, StoreError> {
        let sql = "SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(), current_user::text, current_database()::text,
                 (SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'async'),
                 (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                 (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
                 (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
                 has_database_privilege(current_database(), 'CREATE')
                     OR coalesce(has_schema_privilege(to_regnamespace($1)::oid, 'CREATE'), false),
                 (SELECT bool_and(has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
                      AND has_table_privilege(oid, 'DELETE') AND has_schema_privilege(relnamespace, 'USAGE'))
                  FROM pg_class WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $2))";
        let row = session.query_opt(sql, &[&address.quoted_schema(), &address.schema()])?;
        let row = row.ok_or(StoreError::Closed)?;
        Ok(Self {
            // What the session itself set does not count.
            settings: settings(session, "reset_val")?,
            product: asked(session)?,
            version: row.try_get(0)?,
            is_standby: row.try_get(1)?,
            user: row.try_get(2)?,
            name: row.try_get(3)?,
            asynchronous: row.try_get(4)?,
            in_use: row.try_get(5)?,
            limits: [row.try_get(6)?, row.try_get(7)?],
            may_create: row.try_get(8)?,
            may_change: row.try_get(9)?,
        })
    }

    fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", |setting| &setting.value)
    }

    /// The statement that gives a setting another value; undoes what a role or a database says of it.
    fn mend(&self, name: &str, value: &str) -> String {
        let (user, database) = (quoted(&self.user), quoted(&self.name));
        match self
            .settings
            .get(name)
            .map(|setting| setting.source.as_str())
        {
            Some("user") => format!("ALTER ROLE {user} RESET {name};"),
            Some("database") => format!("ALTER DATABASE {database} RESET {name};"),
            Some("database user") => {
                format!("ALTER ROLE {user} IN DATABASE {database} RESET {name};")
            }
            Some("client" | "environment variable") => {
                format!("take {name} out of the options of the address, and out of PGOPTIONS")
            }
            _ => self.product.mend(name, value),
        }
    }

    pub(super) fn version(&self) -> Advice {
        let version = self.setting("server_version");
        if u32::try_from(self.version / 10_000).unwrap_or(0) < VERSION_MIN {
            return Advice::bad(
                "server",
                Severity::Failure,
                format!("PostgreSQL {version} lacks what hubs need"),
                format!("use version {VERSION_MIN} or later"),
            );
        }
        match (self.product, self.product.name()) {
            (_, None) => Advice::fine("server", format!("PostgreSQL {version}")),
            (Product::Yugabyte, Some(name)) => Advice::bad(
                "server",
                Severity::Warning,
                format!("{name} {version}: Perennial was not tested on it"),
                "try it with your own load before you rely on it, or use PostgreSQL",
            ),
            (_, Some(name)) => Advice::fine(
                "server",
                format!("PostgreSQL {version} of {name}, on which Perennial was not tested"),
            ),
        }
    }

    fn primary(&self) -> Advice {
        match self.is_standby {
            false => Advice::fine("primary", "the server takes changes"),
            true => Advice::bad(
                "primary",
                Severity::Failure,
                "the server is a standby (in recovery), which takes no changes: no host can own a hub there",
                "name the primary in the address, or all servers with target_session_attrs=read-write; `SELECT pg_promote();` makes it one",
            ),
        }
    }

    fn durability(&self) -> Vec<Advice> {
        let mut found = durability(&self.settings, self.product, &|name| self.mend(name, "on"));
        // The writer of a host sets it on.
        let is_off = self.setting("synchronous_commit") == "off";
        for advice in found
            .iter_mut()
            .filter(|advice| is_off && advice.check == "synchronous_commit")
        {
            *advice = Advice::fine(
                "synchronous_commit",
                "off; a host sets it on for its own transactions, so that nothing is lost that it acknowledged",
            );
        }
        found
    }

    pub(super) fn standbys(&self) -> Advice {
        match self.asynchronous {
            0 => Advice::fine("standbys", "none is known to be asynchronous"),
            count => Advice::bad(
                "standbys",
                Severity::Warning,
                format!(
                    "{count} asynchronous: a failover to one loses the last transactions, which clients were told had happened"
                ),
                match self.product {
                    Product::PostgreSql => format!(
                        "unless nobody fails over to it: {}",
                        self.product.mend("synchronous_standby_names", "'*'")
                    ),
                    _ => "unless nobody fails over to it: choose synchronous replication where the service has it".to_owned(),
                },
            ),
        }
    }

    fn writable(&self) -> Advice {
        match self.setting("default_transaction_read_only") {
            "on" => Advice::bad(
                "read only",
                Severity::Failure,
                "default_transaction_read_only is on: no host can own a hub",
                self.mend("default_transaction_read_only", "off"),
            ),
            _ => Advice::fine("read only", "no"),
        }
    }

    fn isolation(&self) -> Advice {
        let found = match self.setting("default_transaction_isolation") {
            "read committed" | "" => "read committed".to_owned(),
            other => format!("{other}; a host sets read committed for its own sessions"),
        };
        Advice::fine("isolation", found)
    }

    /// Sessions of hosts have timeouts of their own.
    fn timeouts(&self) -> Advice {
        let names = SETTINGS.iter().filter(|name| name.ends_with("_timeout"));
        let set = names.filter(|name| !matches!(self.setting(name), "" | "0"));
        let set: Vec<String> = set
            .map(|name| format!("{name} = {} ms", self.setting(name)))
            .collect();
        Advice::fine(
            "timeouts",
            match set.is_empty() {
                true => "none that would cut off statements of a host".to_owned(),
                false => format!("{}; a host sets its own for its sessions", set.join(", ")),
            },
        )
    }

    fn vacuum(&self) -> Advice {
        for name in ["autovacuum", "track_counts"] {
            if self.setting(name) == "off" {
                return Advice::bad(
                    "autovacuum",
                    Severity::Warning,
                    format!("{name} is off: the tables of hubs grow without end, and become slow"),
                    self.mend(name, "on"),
                );
            }
        }
        Advice::fine("autovacuum", "on")
    }

    fn encoding(&self) -> Advice {
        match self.setting("server_encoding") {
            "UTF8" => Advice::fine("encoding", "UTF8"),
            other => Advice::bad(
                "encoding",
                Severity::Failure,
                format!("{other}: texts of instances cannot be stored"),
                "CREATE DATABASE hubs ENCODING 'UTF8' TEMPLATE template0; and name that one in the address",
            ),
        }
    }

    fn connections(&self) -> Advice {
        let number = |name: &str| self.setting(name).parse::<i64>().unwrap_or(0);
        let server = number("max_connections") - number("superuser_reserved_connections");
        let limits = self
            .limits
            .iter()
            .copied()
            .filter(|limit| *limit >= 0)
            .map(i64::from);
        let most = limits.fold(server, i64::min);
        let free = most - self.in_use;
        let found = format!(
            "{} of {most} are in use; a host has up to {CONNECTIONS_OF_A_HOST} for each of its hubs",
            self.in_use
        );
        if free >= CONNECTIONS_OF_A_HOST {
            return Advice::fine("connections", found);
        }
        let wanted = (2 * CONNECTIONS_OF_A_HOST + self.in_use).max(100);
        let fix = match most < server {
            true => format!(
                "ALTER DATABASE {} CONNECTION LIMIT {wanted}; or ALTER ROLE {} CONNECTION LIMIT {wanted};",
                quoted(&self.name),
                quoted(&self.user)
            ),
            false if self.product == Product::PostgreSql => {
                format!("ALTER SYSTEM SET max_connections = {wanted}; and restart the server")
            }
            false => format!(
                "{}, and restart the server",
                self.product.mend("max_connections", &wanted.to_string())
            ),
        };
        Advice::bad(
            "connections",
            Severity::Warning,
            format!(
                "{found}: another host, or one that is busy, waits for a connection or gets none"
            ),
            fix,
        )
    }

    fn rights(&self, address: &Address) -> Advice {
        let (schema, user) = (address.quoted_schema(), quoted(&self.user));
        match (self.may_change, self.may_create) {
            (Some(true), _) => Advice::fine("rights", "the user may change the hub"),
            (None, true) => Advice::fine("rights", "the user may make the hub"),
            (Some(false), _) => Advice::bad(
                "rights",
                Severity::Failure,
                format!(
                    "the user {} may not change the hub, which another one made",
                    self.user
                ),
                format!(
                    "GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}; \
                     GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {user};"
                ),
            ),
            (None, false) => Advice::bad(
                "rights",
                Severity::Failure,
                format!(
                    "the user {} may not create schemas in the database, and the hub is not there",
                    self.user
                ),
                format!(
                    "GRANT CREATE ON DATABASE {} TO {user}; or CREATE SCHEMA {schema} AUTHORIZATION {user};",
                    quoted(&self.name)
                ),
            ),
        }
    }
}
