//! What is found where a database is looked at, and what a host does against it.

use std::io::{Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perennial_core::Timestamp;

use crate::store::StoreError;
use crate::store::postgres::address::Address;
use crate::store::postgres::create::{create, hubs, unreadable};
use crate::store::postgres::needs;
use crate::store::postgres::product::Product;
use crate::store::postgres::quote::quoted;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::settings::{Database, clock_warning, clocks, look, pooled};
use crate::store::postgres::testing::{Server, say_skipped, server};
use crate::store::postgres::tests::writing::own;
use crate::store::queries::advice::{DatabaseAdvice, Severity};

/// A database of a server that no other test has.
pub(super) struct At<'a> {
    pub(super) server: &'a Server,
    pub(super) name: &'static str,
}

impl At<'_> {
    pub(super) fn address(&self, user: &str) -> Address {
        let dir = self.server.sockets();
        let url = format!("postgres://{user}@/{}?host={}", self.name, dir.display());
        Address::parse(&url).unwrap().with_hub("looked").unwrap()
    }

    /// Executes statements beside the hub.
    pub(super) fn does(&self, sql: &[&str]) {
        let session = Session::open(&self.server.address("beside"), Purpose::Manage).unwrap();
        sql.iter().for_each(|sql| session.batch(sql).unwrap());
    }

    fn made<'a>(server: &'a Server, name: &'static str, like: &str) -> At<'a> {
        let at = At { server, name };
        at.does(&[&format!("CREATE DATABASE {name} TEMPLATE template0 {like}")]);
        at
    }

    pub(super) fn finds(&self, check: &str) -> DatabaseAdvice {
        find(&self.address("perennial"), check)
    }
}

fn find(address: &Address, check: &str) -> DatabaseAdvice {
    let mut found = look(address).unwrap().into_iter();
    let found = found.find(|advice| advice.check == check);
    found.unwrap_or_else(|| panic!("{check} is not looked at"))
}

/// Checks what was found, and what mends it.
pub(super) fn says(advice: &DatabaseAdvice, severity: Severity, found: &str, fix: &str) {
    assert_eq!(advice.severity, severity, "{advice:?}");
    assert!(advice.found.contains(found), "{advice:?}");
    let given = advice.fix.as_deref().unwrap_or_default();
    assert!(given.contains(fix), "{advice:?}");
}

#[test]
fn what_is_as_it_should_be_is_said_without_a_remedy() {
    let Some(server) = server() else { return };
    let at = At::made(server, "looked_fine", "");
    for advice in look(&at.address("perennial")).unwrap() {
        // The servers of tests do not sync.
        let is_fast = matches!(advice.check, "fsync" | "full_page_writes");
        assert_eq!(advice.severity == Severity::Fine, !is_fast, "{advice:?}");
        assert_eq!(advice.fix.is_some(), is_fast, "{advice:?}");
    }
    says(
        &at.finds("fsync"),
        Severity::Warning,
        "off: a crash",
        "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();",
    );
    says(
        &at.finds("full_page_writes"),
        Severity::Warning,
        "half written",
        "ALTER SYSTEM SET full_page_writes = on;",
    );
    says(&at.finds("server"), Severity::Fine, "PostgreSQL ", "");
}

#[test]
fn settings_of_a_database_and_of_a_user_are_found_with_what_undoes_them() {
    let Some(server) = server() else { return };
    let at = At::made(server, "looked_set", "");
    at.does(&["ALTER DATABASE looked_set SET default_transaction_read_only = on"]);
    says(
        &at.finds("read only"),
        Severity::Failure,
        "no host can own a hub",
        "ALTER DATABASE \"looked_set\" RESET default_transaction_read_only;",
    );
    at.does(&[
        "ALTER DATABASE looked_set RESET default_transaction_read_only",
        "CREATE ROLE looked_role LOGIN SUPERUSER",
        "ALTER ROLE looked_role SET default_transaction_read_only = on",
    ]);
    let fix = "ALTER ROLE \"looked_role\" RESET default_transaction_read_only;";
    says(
        &find(&at.address("looked_role"), "read only"),
        Severity::Failure,
        "",
        fix,
    );
    says(&at.finds("read only"), Severity::Fine, "no", "");
    at.does(&["ALTER DATABASE looked_set CONNECTION LIMIT 5"]);
    says(
        &at.finds("connections"),
        Severity::Warning,
        "a host has up to 16",
        "CONNECTION LIMIT",
    );
}

#[test]
fn a_host_works_whatever_timeouts_and_isolation_sessions_are_given() {
    let Some(server) = server() else { return };
    let at = At::made(server, "looked_timeouts", "");
    at.does(&[
        "ALTER DATABASE looked_timeouts SET default_transaction_isolation = 'serializable'",
        "ALTER DATABASE looked_timeouts SET statement_timeout = '4s'",
        "ALTER DATABASE looked_timeouts SET synchronous_commit = off",
    ]);
    let address = at.address("perennial");
    // PostgreSQL 14 and later have this one too.
    let known = Session::open(&address, Purpose::Manage).unwrap();
    let known = known.query(
        "SELECT 1 FROM pg_settings WHERE name = 'idle_session_timeout'",
        &[],
    );
    let ends_idle = !known.unwrap().is_empty();
    if ends_idle {
        at.does(&["ALTER DATABASE looked_timeouts SET idle_session_timeout = '100ms'"]);
    }
    says(
        &find(&address, "isolation"),
        Severity::Fine,
        "serializable; a host sets read committed",
        "",
    );
    let timeouts = find(&address, "timeouts");
    says(
        &timeouts,
        Severity::Fine,
        if ends_idle {
            "statement_timeout = 4000 ms, idle_session_timeout = 100 ms; a host sets its own"
        } else {
            "statement_timeout = 4000 ms; a host sets its own"
        },
        "",
    );
    says(
        &find(&address, "synchronous_commit"),
        Severity::Fine,
        "a host sets it on",
        "",
    );
    create(&address, Timestamp(1)).unwrap();
    for purpose in [Purpose::Read, Purpose::Write, Purpose::Manage] {
        let session = Session::open(&address, purpose).unwrap();
        let shown = |name: &str| -> String {
            let row = session
                .query_opt("SELECT current_setting($1)", &[&name])
                .unwrap();
            row.unwrap().get(0)
        };
        assert_eq!(shown("transaction_isolation"), "read committed");
        assert_eq!(shown("statement_timeout"), "1min");
        if ends_idle {
            assert_eq!(shown("idle_session_timeout"), "0");
        }
        if purpose == Purpose::Write {
            assert_eq!(shown("synchronous_commit"), "on");
        }
    }
    own(&address, Duration::ZERO).unwrap();
}

#[test]
fn what_a_user_may_not_do_is_found_with_what_grants_it() {
    let Some(server) = server() else { return };
    let at = At::made(server, "looked_rights", "");
    at.does(&["CREATE ROLE looked_poor LOGIN"]);
    let (poor, rich) = (at.address("looked_poor"), at.address("perennial"));
    let fix = "GRANT CREATE ON DATABASE \"looked_rights\" TO \"looked_poor\";";
    says(
        &find(&poor, "rights"),
        Severity::Failure,
        "may not create schemas",
        fix,
    );
    says(
        &find(&rich, "rights"),
        Severity::Fine,
        "may make the hub",
        "",
    );
    let seen = |by: &Address| (hubs(by).unwrap(), unreadable(by).unwrap());
    assert_eq!(seen(&poor), (Vec::new(), 0));
    create(&rich, Timestamp(1)).unwrap();
    let hub = vec!["looked".to_owned()];
    assert_eq!(seen(&poor), (Vec::new(), 1));
    assert_eq!(seen(&rich), (hub.clone(), 0));
    let lacking = find(&poor, "rights");
    says(
        &lacking,
        Severity::Failure,
        "may not change the hub",
        "GRANT USAGE ON SCHEMA \"perennial_looked\"",
    );
    // What it says is enough.
    let session = Session::open(&rich, Purpose::Manage).unwrap();
    session.batch(&lacking.fix.unwrap()).unwrap();
    says(
        &find(&poor, "rights"),
        Severity::Fine,
        "may change the hub",
        "",
    );
    own(&poor, Duration::ZERO).unwrap();
    assert_eq!(seen(&poor), (hub, 0));
}

#[test]
fn a_database_of_another_encoding_is_found() {
    let Some(server) = server() else { return };
    let at = At::made(
        server,
        "looked_latin",
        "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    says(
        &at.finds("encoding"),
        Severity::Failure,
        "LATIN1",
        "ENCODING 'UTF8'",
    );
}

#[test]
fn settings_of_a_server_and_a_standby_are_found() {
    let Some(mut server) = Server::start(true) else {
        return say_skipped();
    };
    fn at(server: &Server) -> At<'_> {
        At {
            server,
            name: "postgres",
        }
    }
    at(&server).does(&[
        "ALTER ROLE perennial SET synchronous_commit = local",
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "ALTER SYSTEM SET autovacuum = off",
        "SELECT pg_reload_conf()",
    ]);
    server.restart("INT");
    let reset = "ALTER ROLE \"perennial\" RESET synchronous_commit;";
    says(
        &at(&server).finds("synchronous_commit"),
        Severity::Warning,
        "a failover loses",
        reset,
    );
    says(
        &at(&server).finds("autovacuum"),
        Severity::Warning,
        "grow without end",
        "ALTER SYSTEM SET autovacuum = on;",
    );
    says(
        &at(&server).finds("primary"),
        Severity::Fine,
        "takes changes",
        "",
    );
    std::fs::write(server.sockets().join("data/standby.signal"), "").unwrap();
    server.restart("INT");
    says(
        &at(&server).finds("primary"),
        Severity::Failure,
        "is a standby",
        "target_session_attrs=read-write",
    );
}

#[test]
fn a_host_whose_clock_differs_says_so_when_it_begins() {
    assert_eq!(clock_warning(0), None);
    let (found, fix) = clock_warning(-61_000).unwrap();
    assert!(found.contains("61 s behind"), "{found}");
    assert!(fix.contains("NTP"), "{fix}");
}

#[test]
fn clocks_that_differ_and_old_servers_are_said() {
    says(&clocks(900), Severity::Fine, "agrees", "");
    says(&clocks(5_400), Severity::Warning, "5 s ahead of", "NTP");
    says(&clocks(-61_000), Severity::Warning, "61 s behind", "NTP");
    says(&pooled(false), Severity::Fine, "of its own", "");
    let Some(server) = server() else { return };
    let address = server.address("looked");
    let session = Session::open(&address, Purpose::Look).unwrap();
    let mut database = Database::read(&session, &address).unwrap();
    database.version = 110_022;
    says(
        &database.version(),
        Severity::Failure,
        "lacks what hubs need",
        "use version 12 or later",
    );
    database.asynchronous = 2;
    says(
        &database.standbys(),
        Severity::Warning,
        "2 asynchronous",
        "synchronous_standby_names",
    );
}

#[test]
fn a_pooler_that_shares_sessions_is_found() {
    let Some(server) = server() else { return };
    let dir = tempfile::tempdir().unwrap();
    pool(
        &server.sockets().join(".s.PGSQL.5432"),
        &dir.path().join(".s.PGSQL.5432"),
    );
    let url = format!(
        "postgres://perennial@/postgres?host={}",
        dir.path().display()
    );
    let address = Address::parse(&url).unwrap().with_hub("pooled").unwrap();
    says(
        &find(&address, "pooler"),
        Severity::Failure,
        "a connection pooler",
        "pool_mode = session",
    );
    says(
        &find(&server.address("pooled"), "pooler"),
        Severity::Fine,
        "",
        "",
    );
    // A hub is neither made nor used through it.
    let refused = |what: Result<bool, StoreError>| match what {
        Err(error @ StoreError::Address(_)) => {
            assert!(error.to_string().contains("a connection pooler"));
            // A module that cannot be read for it is not to blame.
            assert!(error.shortage().is_some());
        }
        other => panic!("{other:?}"),
    };
    refused(create(&address, Timestamp(0)));
    create(&server.address("pooled"), Timestamp(0)).unwrap();
    let first = Session::open(&address, Purpose::Read).unwrap();
    refused(Session::open(&address, Purpose::Read).map(|_| true));
    // Whoever gets the session of a connection that is gone shares it with nobody.
    drop(first);
    Session::open(&address, Purpose::Read).unwrap();
}

#[test]
fn what_hosts_need_beside_tables_is_tried() {
    let Some(server) = server() else { return };
    let address = server.address("needs");
    says(&find(&address, "advisory locks"), Severity::Fine, "", "");
    says(&find(&address, "notifications"), Severity::Fine, "", "");
    says(
        &needs::locks(false),
        Severity::Failure,
        "to two connections at once",
        "use PostgreSQL",
    );
    says(
        &needs::notifications(false),
        Severity::Warning,
        "none arrived",
        "LISTEN and NOTIFY",
    );
}

#[test]
fn a_name_is_quoted_so_that_it_can_be_pasted() {
    let Some(server) = server() else { return };
    let session = Session::open(&server.address("quoted"), Purpose::Manage).unwrap();
    for name in [
        "a\"b",
        "r\u{1b}[31mred\nerror: \"forged\\",
        "back\\slash",
        "\u{202e}ö",
    ] {
        let quoted = quoted(name);
        assert!(
            !quoted.contains(perennial_core::text::is_unseen),
            "{quoted:?}"
        );
        session.batch(&format!("CREATE ROLE {quoted}")).unwrap();
        let there = "SELECT 1 FROM pg_roles WHERE rolname = $1";
        assert!(
            session.query_opt(there, &[&name]).unwrap().is_some(),
            "{quoted:?}"
        );
    }
}

#[test]
fn settings_of_a_service_are_mended_where_it_has_them() {
    let Some(server) = server() else { return };
    let address = server.address("service");
    let session = Session::open(&address, Purpose::Look).unwrap();
    let mut database = Database::read(&session, &address).unwrap();
    database.product = Product::Aurora;
    database.asynchronous = 1;
    says(
        &database.standbys(),
        Severity::Warning,
        "1 asynchronous",
        "synchronous replication where the service has it",
    );
    says(
        &database.version(),
        Severity::Fine,
        "of Amazon Aurora, on which Perennial was not tested",
        "",
    );
    database.product = Product::Yugabyte;
    says(
        &database.version(),
        Severity::Warning,
        "YugabyteDB",
        "with your own load",
    );
}

/// Listens at a path, and lets all who connect share one session of the server, a transaction each, as poolers do.
fn pool(server: &Path, path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    let session = Arc::new(Mutex::new((
        UnixStream::connect(server).unwrap(),
        None::<Vec<u8>>,
    )));
    // Ends with the process of the test.
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let session = Arc::clone(&session);
            std::thread::spawn(move || share(client, &session));
        }
    });
}

fn share(mut client: UnixStream, session: &Mutex<(UnixStream, Option<Vec<u8>>)>) -> Option<()> {
    let hello = message(&mut client, 0)?;
    let greeting = {
        let (server, greeting) = &mut *session.lock().unwrap();
        if greeting.is_none() {
            server.write_all(&hello).ok()?;
            *greeting = Some(until(server, b"Z")?);
        }
        greeting.clone()?
    };
    client.write_all(&greeting).ok()?;
    loop {
        let asked = until(&mut client, b"SQ")?;
        let (server, _) = &mut *session.lock().unwrap();
        server.write_all(&asked).ok()?;
        client.write_all(&until(server, b"Z")?).ok()?;
    }
}

/// Messages up to one of these kinds.
fn until(from: &mut UnixStream, kinds: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let next = message(from, 1)?;
        let kind = next[0];
        all.extend(next);
        if kinds.contains(&kind) {
            return Some(all);
        }
        if kind == b'X' {
            return None;
        }
    }
}

/// A message: so many bytes of its kind, its length, and as many bytes.
fn message(from: &mut UnixStream, kind: usize) -> Option<Vec<u8>> {
    let mut message = vec![0; kind + 4];
    from.read_exact(&mut message).ok()?;
    let length = i32::from_be_bytes(message[kind..].try_into().unwrap());
    let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
    from.read_exact(&mut rest).ok()?;
    message.extend(rest);
    Some(message)
}
