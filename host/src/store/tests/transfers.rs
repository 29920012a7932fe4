//! Hubs that are copied whole from one store to another.

use std::path::Path;

use rusqlite::types::Value;
use sha2::Digest as _;

use super::plans::hex;
use super::postgres_rows::mixed_hub;
use super::*;
use crate::store::memory::compare::compare_reads;
use crate::store::postgres;
use crate::store::postgres::address::Address;
use crate::store::postgres::reads::testing::Filled;
use crate::store::postgres::testing::server;
use crate::store::schema;
use crate::store::sqlite::owned::{open_reader, take_over};
use crate::store::sqlite::rows::load::load;
use crate::store::transfer::{Copied, CopyFrom, CopyTo, copy};
use crate::store::{postgres_place, with_suffix};

/// A hub with rows of all kinds, each of which can be read.
pub(super) fn sound_hub(many: u64) -> Hub {
    let hub = mixed_hub(many);
    // Messages and modules that are none.
    let mut sql = String::from("DELETE FROM inbox WHERE substr(message, 1, 2) = x'010D';");
    for i in 0..3 {
        let component = [0x10 + i];
        let digest: [u8; 32] = sha2::Sha256::digest(component).into();
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let before = format!("x'{}'", format!("ab0{i}").repeat(16));
        sql += &format!(
            "UPDATE module SET component = x'{:02x}' WHERE digest = {before};",
            component[0]
        );
        for table in ["module", "module_name", "definition", "definition_version"] {
            sql += &format!("UPDATE {table} SET digest = x'{digest}' WHERE digest = {before};");
        }
    }
    hub.other().execute_batch(&sql).unwrap();
    hub
}

/// A place on the server where there is nothing.
pub(super) fn nowhere(name: &str) -> Option<Address> {
    Some(server()?.address(name))
}

/// All rows of a hub's file, in order.
pub(super) fn rows_of(file: &Path) -> Vec<String> {
    let db = Connection::open(file).unwrap();
    let mut dump = Vec::new();
    let hub = (
        "hub",
        "created_at, at, hex(secret)".to_owned(),
        "1".to_owned(),
    );
    let tables = schema::all().map(|table| (table.name, table.names(), table.key_names()));
    for (table, names, keys) in [hub].into_iter().chain(tables) {
        let mut rows = db
            .prepare(&format!("SELECT {names} FROM {table} ORDER BY {keys}"))
            .unwrap();
        let width = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..width).map(|column| row.get(column).unwrap()).collect();
            dump.push(format!("{table}: {values:?}"));
        }
    }
    dump
}

/// All rows of a hub's file, with the ids of instances instead of their keys, so that those of a copy with other keys are the same. All
/// instances that are gone are the same one.
pub(super) fn named_rows_of(file: &Path) -> Vec<String> {
    let db = Connection::open(file).unwrap();
    let mut dump = Vec::new();
    for table in schema::all() {
        let columns = table.columns.iter().map(|(name, _)| match *name {
            "key" | "instance" | "parent_key" | "asker" => format!(
                "CASE WHEN t.{name} IS NOT NULL THEN coalesce((SELECT id FROM instance WHERE key = t.{name}), char(0)) END"
            ),
            name => format!("t.{name}"),
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let mut rows = db
            .prepare(&format!("SELECT {columns} FROM {} AS t", table.name))
            .unwrap();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..table.columns.len())
                .map(|column| row.get(column).unwrap())
                .collect();
            dump.push(format!("{}: {values:?}", table.name));
        }
    }
    dump.sort();
    dump
}

/// The only difference between two dumps would be too long to read as a whole.
pub(super) fn assert_same(one: &[String], other: &[String]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert!(one == other, "{one}\n{other}");
    }
}

fn copied(from: CopyFrom<'_>, to: CopyTo<'_>) -> Copied {
    let mut steps = Vec::new();
    let copied = copy(from, to, &mut |done, all| steps.push((done, all))).unwrap();
    assert!(steps.is_sorted() && steps.len() > 1, "{steps:?}");
    assert_eq!(steps.last(), Some(&(copied.instances, copied.instances)));
    copied
}

#[test]
fn the_list_of_columns_is_that_of_both_stores() {
    let hub = Hub::new();
    let Some(database) = Filled::new() else {
        return;
    };
    for table in schema::all() {
        let mut known: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let keys = known[..table.keys].join(", ");
        known.sort_unstable();
        let of = |query: &str| -> String {
            let sql = format!(
                "SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_table_info('{}') {query})",
                table.name
            );
            hub.other().query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(of("ORDER BY name"), known.join(", "), "{}", table.name);
        assert_eq!(of("WHERE pk > 0 ORDER BY pk"), keys, "{}", table.name);
        let columns = database.number(&format!(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 AND attgenerated = ''",
            table.name
        ));
        assert_eq!(columns, known.len() as i64, "{}", table.name);
    }
}

#[test]
fn a_hub_goes_from_a_file_over_two_schemas_to_a_file_with_all_its_rows() {
    let hub = sound_hub(180);
    let (Some(first), Some(second)) = (nowhere("copy-first"), nowhere("copy-second")) else {
        return;
    };
    let back = hub.dir.path().join("new/back.db");
    let there = copied(CopyFrom::File(&hub.path()), CopyTo::Database(&first));
    assert_eq!(there.instances, 180);
    let again = copied(CopyFrom::Database(&first), CopyTo::Database(&second));
    let home = copied(CopyFrom::Database(&second), CopyTo::File(&back));
    assert!(there == again && again == home);
    let rows = named_rows_of(&hub.path());
    assert!(rows.iter().any(|row| row.starts_with("garbage")));
    assert_same(&rows, &named_rows_of(&back));
    assert_eq!(there.rows as usize, rows.len());
    // Between databases, and from one to a file, keys stay as they are.
    let straight = hub.dir.path().join("new/straight.db");
    copied(CopyFrom::Database(&first), CopyTo::File(&straight));
    assert_same(&rows_of(&straight), &rows_of(&back));

    // All reads find the same in each of them.
    assert!(hub.count("SELECT count(*) FROM command") > 0);
    let memory = load(&Connection::open(&back).unwrap()).unwrap();
    assert!(memory.commands.is_empty());
    let readers = [
        open_reader(&back).unwrap(),
        postgres::owned::open_reader(&first, Path::new("none")).unwrap(),
        postgres::owned::open_reader(&second, Path::new("none")).unwrap(),
    ];
    for reader in &readers {
        for dice in 0..6 {
            let mut memory = memory.clone();
            memory.number = dice;
            assert_eq!(compare_reads(reader, &memory), None);
        }
    }
}

#[test]
fn a_copy_has_no_owner_and_its_first_one_gives_no_key_that_is_in_use() {
    let hub = Hub::new();
    let (Some(server), Some(address)) = (server(), nowhere("copy-keys")) else {
        return;
    };
    // A parent that is gone had the highest key, in a hub of one partition that has had this many owners.
    let (key, gone) = (7 << 32, (9 << 32) + 5);
    let source = server.divided(1);
    hub.start(key, "a");
    let at = Filled::at(source.clone());
    let insert = "INSERT INTO instance (key, id, name, status, execution, execution_id, generation, next_event, turns, history_bytes,
         inbox_next, returned, deliveries, created_at, updated_at, parent_id, parent_key)";
    at.sql(&format!(
        "{insert} VALUES ({key}, 'a', 'Order', 0, 0, 'e', 0, 0, 0, 0, 0, false, 0, 1, 1, 'p', {gone});
         UPDATE hub SET commits = 70; SELECT setval('owner_epoch', 8)"
    ));
    let (back, kept) = (
        hub.dir.path().join("back.db"),
        hub.dir.path().join("kept.db"),
    );
    copied(CopyFrom::Database(&source), CopyTo::Database(&address));
    copied(CopyFrom::Database(&address), CopyTo::File(&back));
    copied(CopyFrom::Database(&address), CopyTo::Backup(&kept));
    assert!(!with_suffix(&kept, ".lock").exists());
    let database = Filled::at(address.clone());
    assert_eq!(database.number("SELECT count(*) FROM owner"), 0);
    let free = "SELECT count(*) FROM partition WHERE owner IS NULL";
    assert_eq!(database.number(free), 1, "its keys tell no partitions");
    assert_eq!(database.number("SELECT commits FROM hub"), 70);
    let owned = take_over(&back, Timestamp(9_000)).unwrap();
    assert!(owned.first_key > gone);
    let ahead: i64 = Connection::open(&back)
        .unwrap()
        .query_row("SELECT commits FROM hub", [], |row| row.get(0))
        .unwrap();
    // Values that are set now have a higher version than any before.
    assert!(ahead > 70 + (1 << 39));
    let owned = place_of(&hub, &address)
        .take_over(Timestamp(9_000), "a test", &|_| false)
        .unwrap();
    assert!(owned.first_key > gone);
}

/// The place of a hub in PostgreSQL whose host keeps its files beside another hub.
pub(super) fn place_of(hub: &Hub, address: &Address) -> crate::store::Place {
    crate::store::Place::Postgres(
        Box::new(address.clone()),
        hub.dir.path().join("running"),
        Default::default(),
    )
}

#[test]
fn a_divided_hub_is_copied_with_its_partitions_once_no_messages_wait() {
    let Some(server) = server() else { return };
    let (from, to) = (server.divided(4), server.address("divided-copy"));
    let database = Filled::at(from.clone());
    database.sql("INSERT INTO outbox (partition, body) VALUES (1, '\\x00')");
    let refused = copy(
        CopyFrom::Database(&from),
        CopyTo::Database(&to),
        &mut |_, _| {},
    );
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("messages on their way"), "{said}");
    database.sql("DELETE FROM outbox");
    copied(CopyFrom::Database(&from), CopyTo::Database(&to));
    let copy = Filled::at(to.clone());
    assert_eq!(copy.number("SELECT count(*) FROM partition"), 4);
    assert_eq!(copy.number("SELECT partitions::bigint FROM hub"), 4);
    assert!(postgres::create::delete(&to).unwrap());
}

/// Starts instances, and waits until they are durable.
fn start(owned: &Owned, range: std::ops::Range<i64>) {
    let (tell, told) = mpsc::channel();
    for n in range.clone() {
        let tell = tell.clone();
        let start = Change::Start(new(1_000 + n, &format!("i{n}")));
        let write = Write::new(start, Timestamp(2_000), move |_, result| {
            tell.send(result.map(drop)).unwrap();
        });
        owned.writer.submit(write);
    }
    for _ in range {
        told.recv().unwrap().unwrap();
    }
}

/// The hub of an owner who starts more instances whenever the copy has progressed.
fn copied_at_work(owned: &Owned, from: CopyFrom<'_>, to: CopyTo<'_>) -> Vec<(u64, u64)> {
    let mut steps: Vec<(u64, u64)> = Vec::new();
    copy(from, to, &mut |done, all| {
        let next = 2_500 + 10 * steps.len() as i64;
        start(owned, next..next + 10);
        steps.push((done, all));
    })
    .unwrap();
    steps
}

#[test]
fn a_copy_is_the_hub_at_one_moment_while_its_owner_writes() {
    let hub = Hub::new();
    let Some(address) = nowhere("copy-at-work") else {
        return;
    };
    let file = hub.dir.path().join("copy.db");
    let work = postgres_place(hub.dir.path()).unwrap();
    let crate::store::Place::Postgres(source, ..) = &work else {
        panic!("it is in PostgreSQL")
    };
    let module = CopyTo::Database(&address);
    start(&hub.owned, 0..2_500);
    let steps = copied_at_work(&hub.owned, CopyFrom::File(&hub.path()), module);
    assert_eq!(
        steps,
        [(0, 2_500), (1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]
    );
    let there = Filled::at(address.clone());
    assert_eq!(there.number("SELECT count(*) FROM instance"), 2_500);
    assert_eq!(there.number("SELECT count(*) FROM inbox"), 2_500);
    assert_eq!(hub.count("SELECT count(*) FROM instance"), 2_540);

    let owned = work
        .take_over(Timestamp(1_000), "a test", &|_| false)
        .unwrap();
    let module: String = MODULE.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let database = Filled::at((**source).clone());
    database.sql(&format!(
        "INSERT INTO module VALUES ('\\x{module}', '\\x00', '0.1', '[]', '[]', 0)"
    ));
    start(&owned, 0..2_500);
    let steps = copied_at_work(&owned, CopyFrom::Database(source), CopyTo::File(&file));
    assert_eq!(steps.len(), 4);
    let db = Connection::open(&file).unwrap();
    let count = |sql: &str| -> i64 { db.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM instance"), 2_500);
    assert_eq!(count("SELECT count(*) FROM inbox"), 2_500);
    assert_eq!(database.number("SELECT count(*) FROM instance"), 2_540);
}

#[test]
fn an_instance_with_a_long_history_and_a_large_inbox_goes_over() {
    let hub = Hub::new();
    let Some(address) = nowhere("copy-long") else {
        return;
    };
    hub.start(5, "long");
    let (events, message) = (
        hex(&vec![Event::TimerFired { task: TaskId(1) }; 20]),
        hex(&event(&format!("\"{}\"", "x".repeat(3 << 20)))),
    );
    hub.other()
        .execute_batch(&format!(
            "BEGIN;
             WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 9999)
             INSERT INTO turn SELECT 5, 0, n, 2 * n, n, -n, {events}, {events} FROM n;
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 12)
             INSERT INTO inbox (instance, seq, message, at, bytes) SELECT 5, n, {message}, n, n FROM n;
             COMMIT"
        ))
        .unwrap();
    let back = hub.dir.path().join("back.db");
    let there = copied(CopyFrom::File(&hub.path()), CopyTo::Database(&address));
    assert!(there.instances == 1 && there.rows > 10_000);
    copied(CopyFrom::Database(&address), CopyTo::File(&back));
    assert_same(&named_rows_of(&hub.path()), &named_rows_of(&back));
}

#[test]
fn many_instances_go_over_in_chunks() {
    let hub = sound_hub(3_500);
    let Some(address) = nowhere("copy-many") else {
        return;
    };
    let back = hub.dir.path().join("back.db");
    for (from, to) in [
        (CopyFrom::File(&hub.path()), CopyTo::Database(&address)),
        (CopyFrom::Database(&address), CopyTo::File(&back)),
    ] {
        let begun = std::time::Instant::now();
        let there = copied(from, to);
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!(
            "{:.0} instances and {:.0} rows in a second, to {to:?}",
            there.instances as f64 / seconds,
            there.rows as f64 / seconds
        );
    }
    assert_same(&named_rows_of(&hub.path()), &named_rows_of(&back));
}
