//! Copies of hubs that fail: nothing is left of them, and nothing is replaced.

use super::plans::hex;
use super::transfers::{assert_same, named_rows_of, nowhere, rows_of, sound_hub};
use super::*;
use crate::store::postgres::address::Address;
use crate::store::postgres::reads::testing::Filled;
use crate::store::postgres::testing::{Server, say_skipped};
use crate::store::schema::Table;
use crate::store::sqlite::transfer::{FileRows, FileTarget};
use crate::store::transfer::rows::{Field, HubRow, ReadRows, UsedKeys, WriteRows};
use crate::store::transfer::{CopyFrom, CopyTo, between, copy};

fn error(from: CopyFrom<'_>, to: CopyTo<'_>) -> String {
    copy(from, to, &mut |_, _| {}).unwrap_err().to_string()
}

fn names_in(dir: &std::path::Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        name.into_string().unwrap()
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Whether a schema exists.
fn exists(at: &Filled, address: &Address) -> bool {
    let text = address.to_string();
    let hub = text.rsplit('#').next().unwrap();
    let sql = format!("SELECT count(*) FROM pg_namespace WHERE nspname = 'perennial_{hub}'");
    at.number(&sql) > 0
}

#[test]
fn what_is_there_is_not_replaced() {
    let hub = sound_hub(20);
    let Some(address) = nowhere("copy-taken") else {
        return;
    };
    let (from, to) = (hub.path(), hub.dir.path().join("taken.db"));
    let there = CopyTo::Database(&address);
    let at = Filled::at(address.clone());
    at.sql("CREATE SCHEMA \"perennial_copy-taken\"; CREATE TABLE other (a integer)");
    let refused = error(CopyFrom::File(&from), there);
    assert!(
        refused.contains("is not a task hub of Perennial; it was left unchanged"),
        "{refused}"
    );
    // An empty schema can be given to a user.
    at.sql("DROP TABLE other");
    copy(CopyFrom::File(&from), there, &mut |_, _| {}).unwrap();
    let refused = error(CopyFrom::File(&from), there);
    assert!(
        refused.starts_with("will not replace postgres://") && refused.contains("name another one"),
        "{refused}"
    );
    std::fs::write(&to, "mine").unwrap();
    for to in [CopyTo::File(&to), CopyTo::Backup(&to)] {
        let refused = error(CopyFrom::Database(&address), to);
        assert!(refused.starts_with("will not replace"), "{refused}");
    }
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    let nobody = nowhere("copy-nobody").unwrap();
    let missing = error(
        CopyFrom::Database(&nobody),
        CopyTo::File(&hub.dir.path().join("b.db")),
    );
    assert!(
        missing.starts_with("there is no task hub at postgres://"),
        "{missing}"
    );
    assert!(!hub.dir.path().join("b.db").exists());
}

#[test]
fn a_connection_that_is_cut_leaves_nothing_and_the_next_try_succeeds() {
    let Some(server) = Server::start(false) else {
        return say_skipped();
    };
    let hub = sound_hub(2_100);
    let (address, dir) = (server.address("cut"), hub.dir.path().join("copies"));
    let (from, back) = (hub.path(), dir.join("back.db"));
    // Keeps a connection of its own, which is not in a transaction.
    let others = Filled::at(server.fresh());
    let cut = |done: u64, _: u64| {
        if done == 1_000 {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL";
            assert_eq!(others.number(sql), 1);
        }
    };
    let there = CopyTo::Database(&address);
    let lost = copy(CopyFrom::File(&from), there, &mut cut.clone()).unwrap_err();
    assert!(
        lost.shortage().is_some() && lost.to_string().contains("#cut"),
        "{lost}"
    );
    assert!(!exists(&others, &address));
    copy(CopyFrom::File(&from), there, &mut |_, _| {}).unwrap();
    assert!(exists(&others, &address));

    let lost = copy(
        CopyFrom::Database(&address),
        CopyTo::File(&back),
        &mut cut.clone(),
    )
    .unwrap_err();
    assert!(lost.shortage().is_some(), "{lost}");
    assert_eq!(names_in(&dir), ["back.db.lock"]);
    copy(
        CopyFrom::Database(&address),
        CopyTo::File(&back),
        &mut |_, _| {},
    )
    .unwrap();
    assert_eq!(names_in(&dir), ["back.db", "back.db.lock"]);
    assert_same(&named_rows_of(&from), &named_rows_of(&back));
}

#[test]
fn a_panic_of_who_is_told_of_the_progress_leaves_nothing() {
    let hub = sound_hub(30);
    let Some(address) = nowhere("copy-panic") else {
        return;
    };
    let dir = hub.dir.path().join("copies");
    let other = dir.join("other.db");
    for to in [CopyTo::Database(&address), CopyTo::File(&other)] {
        let panics = || {
            copy(CopyFrom::File(&hub.path()), to, &mut |done, _| {
                assert_eq!(done, 0)
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    }
    assert_eq!(names_in(&dir), ["other.db.lock"]);
    // The server notices the end of the connection a little later: the next copy waits for it.
    copy(
        CopyFrom::File(&hub.path()),
        CopyTo::Database(&address),
        &mut |_, _| {},
    )
    .unwrap();
}

#[expect(clippy::too_many_lines, reason = "a list of kinds of damage")]
#[test]
fn a_row_that_the_target_cannot_hold_or_that_is_damaged_is_named() {
    let hub = sound_hub(50);
    let Some(address) = nowhere("copy-refused") else {
        return;
    };
    let at = Filled::at(address.clone());
    let (from, to) = (hub.path(), CopyTo::Database(&address));
    let damaged = |sql: &str, undo: &str, said: &[&str]| {
        hub.other().execute_batch(sql).unwrap();
        let error = error(CopyFrom::File(&from), to);
        for said in said {
            assert!(error.contains(said), "{error}");
        }
        assert!(!exists(&at, &address));
        hub.other().execute_batch(undo).unwrap();
    };
    let one = "WHERE key = (SELECT min(key) FROM instance WHERE status < 3)";
    let key = hub.count(&format!("SELECT key FROM instance {one}"));
    let row = hub
        .reader()
        .instance_by_key(InstanceKey(key))
        .unwrap()
        .unwrap();
    let named = [format!("{:?}", row.id), format!("(key {key})")];
    let [id, of] = named.each_ref().map(String::as_str);
    let undo = format!(
        "UPDATE instance SET custom_status = '{{}}', turns = 6, status = 1, waiting = NULL {one}"
    );
    for (change, said) in [
        (
            "custom_status = '\"' || char(0) || '\"'",
            "custom_status has a NUL character",
        ),
        (
            "turns = 1 << 40",
            "turns is 1099511627776, which it cannot be",
        ),
        ("status = 7", "7 is no status"),
        (
            "waiting = x'0109'",
            "what an instance waits for cannot be read",
        ),
    ] {
        let change = format!("UPDATE instance SET {change} {one}");
        let undo = undo.replace(one, &format!("WHERE key = {key}"));
        damaged(
            &change,
            &undo,
            &[said, id, of, "of the table instance", "purged"],
        );
    }
    let turn = format!("INSERT INTO turn VALUES ({key}, 0, 900, 1, 1, NULL, x'01FF', x'0100')");
    let gone = "DELETE FROM turn WHERE number = 900";
    damaged(
        &turn,
        gone,
        &["received cannot be read", id, of, "of the table turn"],
    );
    let message = format!("INSERT INTO inbox VALUES ({key}, 900, x'01FF', 1, 1)");
    damaged(
        &message,
        "DELETE FROM inbox WHERE seq = 900",
        &["message cannot be read", id, of],
    );
    damaged(
        "INSERT INTO rewind VALUES (77, 1 << 33, 0, 1, NULL, 0)",
        "DELETE FROM rewind WHERE instance = 77 AND execution > 5",
        &["execution is 8589934592", "(key 77)"],
    );
    damaged(
        "UPDATE module SET component = x'77' WHERE component = x'11'",
        "UPDATE module SET component = x'11' WHERE component = x'77'",
        &[
            "a row of the table module: ",
            "to deploy the same file again mends it",
        ],
    );
    // What made the host quarantine an instance goes over with it.
    let quarantine = hex(&perennial_core::Quarantine::because("it cannot be read"));
    let quarantined = format!(
        "UPDATE instance SET quarantine = {quarantine} WHERE key = {key}; {turn}; {message}"
    );
    hub.other().execute_batch(&quarantined).unwrap();
    copy(CopyFrom::File(&from), to, &mut |_, _| {}).unwrap();
    assert_eq!(at.number("SELECT count(*) FROM turn WHERE number = 900"), 1);
}

/// A file to which one row goes otherwise than it was read, or not at all.
struct Faulty {
    to: FileTarget,
    table: &'static str,
    /// Whether the row is lost.
    loses: bool,
    is_done: bool,
}

impl WriteRows for Faulty {
    fn divides(&self) -> Option<u16> {
        self.to.divides()
    }

    fn refuses(&self, table: &'static Table, row: &[Field<'_>]) -> Option<String> {
        self.to.refuses(table, row)
    }

    fn write(&mut self, table: &'static Table, row: &[Field<'_>]) -> Result<(), StoreError> {
        if table.name != self.table || std::mem::replace(&mut self.is_done, true) {
            return self.to.write(table, row);
        }
        if self.loses {
            return Ok(());
        }
        let mut row = row.to_vec();
        for field in row.iter_mut().skip(table.keys) {
            if let Field::Int(number) = field {
                *number ^= 1;
                break;
            }
        }
        self.to.write(table, &row)
    }

    fn end_table(&mut self) -> Result<(), StoreError> {
        self.to.end_table()
    }

    fn complete(&mut self, hub: &HubRow, keys: UsedKeys) -> Result<(), StoreError> {
        self.to.complete(hub, keys)
    }

    fn rows(&mut self) -> &mut dyn ReadRows {
        self.to.rows()
    }

    fn publish(self: Box<Self>) -> Result<(), StoreError> {
        Box::new(self.to).publish()
    }

    fn failed(&self, why: String) -> StoreError {
        self.to.failed(why)
    }
}

#[test]
fn a_copy_that_differs_from_its_source_is_not_kept() {
    let hub = sound_hub(90);
    let dir = hub.dir.path().join("copies");
    let to = dir.join("copy.db");
    for (table, loses) in [
        ("turn", false),
        ("instance", false),
        ("inbox", true),
        ("task", true),
        ("none", true),
    ] {
        let faulty = Faulty {
            to: FileTarget::of_hub(&to).unwrap(),
            table,
            loses,
            is_done: false,
        };
        let source = Box::new(FileRows::open(&hub.path()).unwrap());
        let copied = between(source, Box::new(faulty), &mut |_, _| {});
        if table == "none" {
            copied.unwrap();
            break;
        }
        let error = copied.unwrap_err().to_string();
        let said = format!("the copy differs from its source in the table {table}");
        assert!(
            error.contains(&said) && error.contains(" rows of ") == loses,
            "{error}"
        );
        assert_eq!(names_in(&dir), ["copy.db.lock"]);
    }
    assert_same(&rows_of(&hub.path()), &rows_of(&to));
}
