//! The check of a hub in PostgreSQL finds rows that contradict each other.

use super::postgres_rows::copied;
use super::*;
use crate::store::postgres::address::Address;
use crate::store::postgres::integrity::integrity;
use crate::store::postgres::reads::testing::Filled;

/// A hub that the rules of the store have made: instances with a turn, messages, values, tags, a task and requests, and what is left of
/// some that are gone.
pub(super) fn hub_with_everything() -> Hub {
    let hub = Hub::new();
    for key in [5, 6] {
        let mut new = new(key, &format!("i{key}"));
        new.start.tags = vec![
            ("team".to_owned(), "a".to_owned()),
            ("unit".to_owned(), "\u{fc}".to_owned()),
        ];
        let mut commit = first_turn(new);
        commit.turn.produced = vec![
            Event::ValueSet {
                name: "total".to_owned(),
                value: Some(Json::from_text("5")),
            },
            Event::TimerSet {
                task: TaskId(1),
                fire_at: Timestamp(90_000),
            },
        ];
        commit.after.value_count = 1;
        hub.does(turn_change(commit));
        hub.does(turn_change(turn(&hub, key, Status::Running, Vec::new())));
    }
    // These wait for their first turn.
    hub.start(7, "i7");
    hub.start(8, "i8");
    hub.other()
        .execute_batch(&format!(
            "INSERT INTO request (instance, id, name, at) VALUES (5, 'r', 'Price', 1); UPDATE instance SET has_requests = 1 WHERE key = 5;
             INSERT INTO garbage VALUES (3, -1), (5, 7);
             INSERT INTO turn VALUES (3, 0, 0, 0, 1, NULL, x'0100', x'0100'), (3, 1, 0, 0, 1, NULL, x'0100', x'0100'), (5, 7, 0, 0, 1, NULL, x'0100', x'0100');
             INSERT INTO rewind VALUES (3, 0, 0, 1, NULL, 0);
             INSERT INTO module_name (name, digest, grants, deployed_at) VALUES ('m', x'{module}', '{{}}', 1);
             INSERT INTO definition VALUES (0, 'Order', 'm', x'{module}', '1');
             INSERT INTO definition_version VALUES ('Order', '1', 'm', x'{module}')",
            module = MODULE.0.map(|byte| format!("{byte:02x}")).concat()
        ))
        .unwrap();
    hub
}

/// The same in PostgreSQL, with the same keys, which tell no partitions.
fn damageable() -> Option<(Address, Filled)> {
    let at = copied(&hub_with_everything())?;
    at.sql("UPDATE hub SET partitions = 1; DELETE FROM partition WHERE partition > 0");
    Some((at.address().clone(), at))
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a list of damages")]
fn each_contradiction_is_found() {
    let Some((address, at)) = damageable() else {
        return;
    };
    assert_eq!(integrity(&address, 10).unwrap(), [""; 0]);
    let digest = "'\\x".to_owned() + &"07".repeat(32) + "'";
    for (damage, undo, said) in [
        (
            "INSERT INTO turn VALUES (99, 0, 0, 0, 1, NULL, '\\x0100', '\\x0100'), (99, 0, 1, 0, 1, NULL, '\\x0100', '\\x0100')".to_owned(),
            "DELETE FROM turn WHERE instance = 99",
            "the table turn has 2 rows of an instance that does not exist (key 99)",
        ),
        (
            "INSERT INTO cut_turn VALUES (99, 0, 0, 0, 0, 1, NULL, '\\x0100', '\\x0100')".to_owned(),
            "DELETE FROM cut_turn WHERE instance = 99",
            "the table cut_turn has 1 rows",
        ),
        (
            "INSERT INTO rewind VALUES (99, 0, 0, 1, NULL, 0)".to_owned(),
            "DELETE FROM rewind WHERE instance = 99",
            "the table rewind has 1 rows",
        ),
        (
            "INSERT INTO instance_value VALUES (99, 'a', '1', 1, 1)".to_owned(),
            "DELETE FROM instance_value WHERE instance = 99",
            "the table instance_value has 1 rows",
        ),
        (
            "UPDATE task SET instance = 99 WHERE instance = 5".to_owned(),
            "UPDATE task SET instance = 5 WHERE instance = 99",
            "the table task has 1 rows",
        ),
        (
            "INSERT INTO inbox VALUES (99, 0, '\\x01', 1, 1)".to_owned(),
            "DELETE FROM inbox WHERE instance = 99",
            "the table inbox has 1 rows",
        ),
        (
            "INSERT INTO request (instance, id, name, at) VALUES (3, 'r', 'Price', 1)".to_owned(),
            "DELETE FROM request WHERE instance = 3",
            "the table request has 1 rows of an instance that does not exist (key 3)",
        ),
        (
            "INSERT INTO instance_tag VALUES ('a', 'b', 1, 99)".to_owned(),
            "DELETE FROM instance_tag WHERE instance = 99",
            "the table instance_tag has 1 rows",
        ),
        (
            "UPDATE turn SET number = 2 WHERE instance = 5 AND execution = 0 AND number = 1".to_owned(),
            "UPDATE turn SET number = 1 WHERE instance = 5 AND number = 2",
            "instance \"i5\" (key 5) counts 2 turns, and the rows of its execution are 2 up to number 2",
        ),
        (
            "UPDATE instance SET turns = 1 WHERE key = 7".to_owned(),
            "UPDATE instance SET turns = 0 WHERE key = 7",
            "instance \"i7\" (key 7) counts 1 turns, and the rows of its execution are 0 up to number -1",
        ),
        (
            "UPDATE instance SET next_event = 1 WHERE key = 6".to_owned(),
            "UPDATE instance SET next_event = 4 WHERE key = 6",
            "instance \"i6\" (key 6) gives the next event the number 1",
        ),
        (
            "UPDATE instance SET inbox_next = 0 WHERE key = 8".to_owned(),
            "UPDATE instance SET inbox_next = 1 WHERE key = 8",
            "instance \"i8\" (key 8) gives the next message the number 0, and its inbox has number 0",
        ),
        (
            "UPDATE instance SET value_count = 4 WHERE key = 5".to_owned(),
            "UPDATE instance SET value_count = 1 WHERE key = 5",
            "instance \"i5\" (key 5) counts 4 values, and has 1",
        ),
        (
            "UPDATE instance SET has_requests = false WHERE key = 5".to_owned(),
            "UPDATE instance SET has_requests = true WHERE key = 5",
            "instance \"i5\" (key 5) says that it has no requests, and has some",
        ),
        (
            "DELETE FROM instance_tag WHERE instance = 5 AND tag = 'team'".to_owned(),
            "INSERT INTO instance_tag SELECT 'team', 'a', created_at, key FROM instance WHERE key = 5",
            "instance \"i5\" (key 5) has 1 tags that are not in the lists by tag, and is in 0",
        ),
        (
            "UPDATE instance_tag SET created_at = created_at + 1 WHERE instance = 6 AND tag = 'unit'".to_owned(),
            "UPDATE instance_tag SET created_at = created_at - 1 WHERE instance = 6 AND tag = 'unit'",
            "instance \"i6\" (key 6) has 1 tags that are not in the lists by tag, and is in 1",
        ),
        (
            "INSERT INTO instance_tag VALUES ('a', 'b', 1, 7)".to_owned(),
            "DELETE FROM instance_tag WHERE instance = 7",
            "instance \"i7\" (key 7) has 0 tags that are not in the lists by tag, and is in 1",
        ),
        (
            "UPDATE instance SET tags = '{' WHERE key = 6".to_owned(),
            "UPDATE instance SET tags = (SELECT tags FROM instance WHERE key = 5) WHERE key = 6",
            "instance \"i6\" (key 6): the hub is damaged: the tags of an instance",
        ),
        (
            format!("UPDATE instance SET module = {digest} WHERE key = 8"),
            "UPDATE instance SET module = (SELECT module FROM instance WHERE key = 7) WHERE key = 8",
            "instance \"i8\" (key 8) runs the module 070707070707, which is not stored",
        ),
        (
            format!("UPDATE task SET module = {digest} WHERE instance = 5"),
            "UPDATE task SET module = NULL WHERE instance = 5",
            "task 1 of the instance with the key 5 runs the module 070707070707, which is not stored",
        ),
        (
            format!("UPDATE module_name SET digest = {digest}"),
            "UPDATE module_name SET digest = (SELECT digest FROM module)",
            "the module name \"m\" means 070707070707, which is not stored",
        ),
        (
            format!("UPDATE definition SET digest = {digest}"),
            "UPDATE definition SET digest = (SELECT digest FROM module)",
            "the definition \"Order\" is of the module 070707070707, which is not stored",
        ),
        (
            format!("UPDATE definition_version SET digest = {digest}"),
            "UPDATE definition_version SET digest = (SELECT digest FROM module)",
            "version \"1\" of the definition \"Order\" is of the module 070707070707, which is not stored",
        ),
        (
            "UPDATE module SET component = '\\x77'".to_owned(),
            "UPDATE module SET component = '\\x00'",
            "the bytes of module 6e340b9cffb3 are not those that were deployed",
        ),
        (
            "INSERT INTO outbox (partition, body) VALUES (7, '\\x00')".to_owned(),
            "DELETE FROM outbox",
            "is for the partition 7, which the task hub does not have",
        ),
        (
            "DELETE FROM partition".to_owned(),
            "INSERT INTO partition (partition) VALUES (0)",
            "there are 0 rows of partitions, and the hub has 1 of them",
        ),
    ] {
        at.sql(&damage);
        let found = integrity(&address, 10).unwrap();
        assert!(found.len() == 1 && found[0].contains(said), "{damage}: {found:?}");
        at.sql(undo);
        assert_eq!(integrity(&address, 10).unwrap(), [""; 0], "{undo}");
    }
}

#[test]
fn no_more_is_told_than_was_asked_for() {
    let Some((address, at)) = damageable() else {
        return;
    };
    at.sql("UPDATE instance SET value_count = 9; DELETE FROM instance_tag; INSERT INTO rewind SELECT n, 0, 0, 1, NULL, 0 FROM generate_series(1000, 1020) AS n");
    for most in [0, 3, 21, 23, 26] {
        assert_eq!(integrity(&address, most).unwrap().len(), most as usize);
    }
    assert_eq!(integrity(&address, 1_000).unwrap().len(), 21 + 4 + 2);
}
