//! What keeps vacuum back is found, and what is said against it ends it.

use std::time::{Duration, Instant};

use crate::store::postgres::horizon;
use crate::store::postgres::product::Product;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::settings::look;
use crate::store::postgres::testing::{Server, say_skipped};
use crate::store::postgres::tests::settings::{At, says};
use crate::store::queries::advice::{DatabaseAdvice, Severity};

/// What is found of one thing, where transactions are old at once.
fn found(at: &At<'_>, user: &str, check: &str) -> DatabaseAdvice {
    let session = Session::open(&at.address(user), Purpose::Look).unwrap();
    let all = horizon::look_beyond(&session, Product::PostgreSql, 0).unwrap();
    let found = all.into_iter().find(|advice| advice.check == check);
    found.unwrap()
}

/// A server on which nothing is kept back yet.
fn started() -> Option<Server> {
    let server = Server::with("max_prepared_transactions = 2");
    if server.is_none() {
        say_skipped();
    }
    let server = server?;
    let at = of(&server);
    at.does(&[
        "CREATE ROLE looked_poor LOGIN",
        "CREATE TABLE public.t (i int)",
    ]);
    for check in ["transactions", "prepared transactions", "replication slots"] {
        says(&found(&at, "perennial", check), Severity::Fine, "none ", "");
    }
    says(&at.finds("transaction ids"), Severity::Fine, "in time", "");
    Some(server)
}

fn of(server: &Server) -> At<'_> {
    At {
        server,
        name: "postgres",
    }
}

#[test]
fn a_transaction_that_is_open_for_long_is_found_with_what_ends_it() {
    let Some(server) = started() else { return };
    let at = of(&server);
    let open = Session::open(&server.address("open"), Purpose::Look).unwrap();
    open.batch("SET application_name = 'the culprit'; BEGIN; INSERT INTO public.t VALUES (1)")
        .unwrap();
    says(&at.finds("transactions"), Severity::Fine, "none has", "");
    let long = found(&at, "perennial", "transactions");
    says(
        &long,
        Severity::Warning,
        "(application \"the culprit\", user \"perennial\", database \"postgres\", idle in transaction)",
        "ALTER ROLE \"perennial\" SET idle_in_transaction_session_timeout = '10min';",
    );
    // Who may see nothing of others is told so, and all else.
    says(
        &found(&at, "looked_poor", "transactions"),
        Severity::Fine,
        "as far as this user may see",
        "",
    );
    assert!(look(&at.address("looked_poor")).unwrap().len() > 10);
    at.does(&["GRANT pg_read_all_stats TO looked_poor"]);
    says(
        &found(&at, "looked_poor", "transactions"),
        Severity::Warning,
        "the culprit",
        "pg_terminate_backend",
    );
    let (_, end) = long.fix.as_deref().unwrap().split_once(": ").unwrap();
    at.does(&[end.split_once(" and ").unwrap().0]);
    let until = Instant::now() + Duration::from_secs(30);
    while found(&at, "perennial", "transactions").severity != Severity::Fine {
        assert!(Instant::now() < until);
    }
}

#[test]
fn prepared_transactions_and_slots_that_nobody_reads_are_found_with_what_ends_them() {
    let Some(server) = started() else { return };
    let at = of(&server);
    at.does(&[
        "BEGIN; INSERT INTO public.t VALUES (1); PREPARE TRANSACTION 'it''s one'",
        "SELECT pg_create_physical_replication_slot('nobody', true)",
    ]);
    says(
        &at.finds("prepared transactions"),
        Severity::Fine,
        "none",
        "",
    );
    says(
        &at.finds("replication slots"),
        Severity::Warning,
        "nobody reads nobody, which keeps ",
        "SELECT pg_drop_replication_slot('nobody');",
    );
    says(
        &found(&at, "looked_poor", "prepared transactions"),
        Severity::Warning,
        "'it''s one' of \"perennial\" in the database \"postgres\"",
        "ROLLBACK PREPARED 'it''s one';",
    );
    at.does(&[
        "ROLLBACK PREPARED 'it''s one'",
        "SELECT pg_drop_replication_slot('nobody')",
    ]);
    for check in ["prepared transactions", "replication slots"] {
        says(&found(&at, "perennial", check), Severity::Fine, "none", "");
    }
}
