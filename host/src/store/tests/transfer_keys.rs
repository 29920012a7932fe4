//! A hub in a file gets keys in PostgreSQL that tell the partitions of its instances.

use std::collections::BTreeSet;

use super::plans::hex;
use super::postgres_damage::hub_with_everything;
use super::transfers::{assert_same, named_rows_of, nowhere, place_of};
use super::*;
use crate::store::partition::Partitions;
use crate::store::postgres::reads::testing::Filled;
use crate::store::transfer::{CopyFrom, CopyTo, copy};

fn copied(from: CopyFrom<'_>, to: CopyTo<'_>) {
    copy(from, to, &mut |_, _| {}).unwrap();
}

/// A hub with rows in all tables: also a family, an instance that asks its parent something, rewinds, and a child whose parent is gone.
fn hub_with_families() -> Hub {
    let hub = hub_with_everything();
    let parent = hex(&Parent {
        instance_id: "i5".to_owned(),
        name: "Order".to_owned(),
        task: TaskRef {
            execution: 0,
            generation: 0,
            task: TaskId(1),
        },
        attempt: 1,
    });
    hub.other()
        .execute_batch(&format!(
            "UPDATE instance SET parent_id = 'i5', parent_key = 5, parent = {parent} WHERE key IN (6, 7);
             UPDATE instance SET parent_id = 'gone', parent_key = 3, parent = {parent} WHERE key = 8;
             INSERT INTO request (instance, id, name, at, asker, execution, generation, task) VALUES (5, 'asked', 'Price', 1, 6, 0, 0, 1),
                 (5, 'asked-by-none', 'Price', 1, 4, 0, 0, 1);
             INSERT INTO rewind VALUES (5, 0, 0, 5, 'because', 1), (6, 0, 0, 5, NULL, 0);
             INSERT INTO cut_turn VALUES (5, 0, 0, 2, 4, 5, NULL, x'0100', x'0100');
             INSERT INTO setting VALUES ('retention', '{{\"completed\":5,\"failed\":null,\"terminated\":null}}');
             INSERT INTO access_key VALUES ('k', 'a key', 1, x'{}', 1)",
            "07".repeat(32)
        ))
        .unwrap();
    hub
}

/// The keys in a column of a hub's file.
fn keys(file: &std::path::Path, column: &str) -> BTreeSet<i64> {
    let db = Connection::open(file).unwrap();
    let mut rows = db.prepare(&format!("SELECT {column}")).unwrap();
    let keys = rows.query_map([], |row| row.get(0)).unwrap();
    keys.map(Result::unwrap).collect()
}

#[test]
fn keys_of_a_file_get_their_partitions_and_nothing_else_changes() {
    let hub = hub_with_families();
    let Some(address) = nowhere("keys-divided") else {
        return;
    };
    let (back, again) = (
        hub.dir.path().join("back.db"),
        hub.dir.path().join("again.db"),
    );
    let rows = named_rows_of(&hub.path());
    for table in crate::store::schema::all() {
        let is_of = |row: &&String| row.starts_with(&format!("{}: ", table.name));
        assert!(rows.iter().any(|row| is_of(&row)), "{}", table.name);
    }
    copied(CopyFrom::File(&hub.path()), CopyTo::Database(&address));
    let at = Filled::at(address.clone());
    assert_eq!(at.number("SELECT partitions::bigint FROM hub"), 64);
    assert_eq!(at.number("SELECT count(*) FROM partition"), 64);
    let place = place_of(&hub, &address);
    assert_eq!(place.integrity(10).unwrap(), [""; 0]);

    // A file keeps the keys as they are.
    copied(CopyFrom::Database(&address), CopyTo::File(&back));
    assert_same(&rows, &named_rows_of(&back));
    let all = Partitions::all(64);
    let db = Connection::open(&back).unwrap();
    let mut found = db.prepare("SELECT key, id FROM instance").unwrap();
    let found = found.query_map([], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    });
    let mut partitions = BTreeSet::new();
    for instance in found.unwrap() {
        let (key, id) = instance.unwrap();
        assert_eq!(key >> 53, i64::from(all.of_id(&id).0), "{id}");
        partitions.insert(key >> 53);
    }
    assert!(partitions.len() > 1, "{partitions:?}");
    // What is left of an instance that is gone still belongs together: its rows, its children and its entry in the garbage.
    let of_gone = |column: &str| {
        let gone = "NOT IN (SELECT key FROM instance)";
        let (table, column) = column.split_once('.').unwrap();
        keys(
            &back,
            &format!("{column} FROM {table} WHERE {column} {gone}"),
        )
    };
    let gone = of_gone("garbage.instance");
    assert!(gone.len() == 1 && gone.iter().all(|key| *key > 0 && key >> 53 == 0));
    for same in ["turn.instance", "rewind.instance", "instance.parent_key"] {
        assert_eq!(of_gone(same), gone, "{same}");
    }
    let asker = of_gone("request.asker");
    assert!(asker.len() == 1 && asker != gone, "{asker:?}");

    // Such keys fit into a hub that is divided again, and the owner of a file goes on above them.
    let owned = take_over(&back, Timestamp(9_000)).unwrap();
    assert!(owned.first_key > *keys(&back, "key FROM instance").last().unwrap());
    drop(owned);
    let second = nowhere("keys-divided-again").unwrap();
    copied(CopyFrom::File(&back), CopyTo::Database(&second));
    assert_eq!(place_of(&hub, &second).integrity(10).unwrap(), [""; 0]);
    copied(CopyFrom::Database(&second), CopyTo::File(&again));
    assert_same(&rows, &named_rows_of(&again));
}

#[test]
fn an_owner_of_a_divided_copy_gives_no_key_that_is_in_use_and_refuses_old_places_in_lists() {
    let hub = Hub::new();
    let Some(address) = nowhere("keys-used") else {
        return;
    };
    // Keys of a file that has had very many owners.
    for n in 0..40 {
        hub.start((1 << 62) + n, &format!("i{n}"));
    }
    copied(CopyFrom::File(&hub.path()), CopyTo::Database(&address));
    let at = Filled::at(address.clone());
    let highest = "SELECT max(key & ((1::bigint << 53) - 1)) FROM instance";
    assert_eq!(at.number(highest), 40);
    let owned = place_of(&hub, &address)
        .take_over(Timestamp(9_000), "a test", &|_| false)
        .unwrap();
    assert_eq!(owned.partitions, Partitions::all(64));
    assert_eq!(owned.first_key, 1 << 32);
    assert_ne!(
        owned.reader.secret().unwrap(),
        hub.reader().secret().unwrap()
    );
}

#[test]
fn an_instance_in_the_wrong_partition_is_found() {
    let hub = hub_with_families();
    let Some(address) = nowhere("keys-wrong") else {
        return;
    };
    copied(CopyFrom::File(&hub.path()), CopyTo::Database(&address));
    let place = place_of(&hub, &address);
    let (all, at) = (Partitions::all(64), Filled::at(address));
    let (before, after) = (all.of_id("i7").0, all.of_id("another").0);
    assert_ne!(before, after);
    at.sql("UPDATE instance SET id = 'another' WHERE id = 'i7'");
    let found = place.integrity(10).unwrap();
    let said = format!("is in the partition {before}, and its id belongs to {after}");
    assert!(
        found.len() == 1 && found[0].contains(&said) && found[0].contains("\"another\""),
        "{found:?}"
    );
    assert_eq!(place.integrity(0).unwrap(), [""; 0]);
    at.sql("UPDATE instance SET id = 'i7' WHERE id = 'another'; UPDATE hub SET partitions = 3");
    let found = place.integrity(10).unwrap();
    assert!(
        found
            .iter()
            .any(|what| what.contains("is said to have 3 partitions")),
        "{found:?}"
    );
}
