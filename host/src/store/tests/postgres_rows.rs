//! A hub with random instances of all kinds, and the same rows in PostgreSQL.

use perennial_core::{Failure, Quarantine};
use rusqlite::types::Value;

use super::plans::hex;
use super::*;
use crate::store::postgres::reads::testing::Filled;
use crate::store::schema;

/// Columns that are no numbers in PostgreSQL.
const FLAGS: [&str; 2] = ["returned", "has_requests"];

/// Random numbers of a test, the same each time.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    pub(super) fn of<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64) as usize]
    }
}

/// Copies all rows of a table.
fn copy(hub: &Hub, to: &Filled, table: &str) {
    let db = hub.other();
    let mut query = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
    let mut rows = query.query([]).unwrap();
    let mut tuples = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let literal = |(i, column): (usize, &String)| match row.get(i).unwrap() {
            Value::Null => "NULL".to_owned(),
            Value::Integer(number) if FLAGS.contains(&column.as_str()) => (number != 0).to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Text(text) if (table, column.as_str()) == ("rewind", "reason") => {
                bytes(text.as_bytes())
            }
            Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Value::Blob(blob) => bytes(&blob),
            Value::Real(_) => unreachable!(),
        };
        let literals: Vec<String> = columns.iter().enumerate().map(literal).collect();
        tuples.push(format!("({})", literals.join(", ")));
    }
    for some in tuples.chunks(500) {
        to.sql(&format!(
            "INSERT INTO {table} ({}) VALUES {}",
            columns.join(", "),
            some.join(", ")
        ));
    }
}

fn bytes(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("'\\x{digits}'")
}

/// The same rows in PostgreSQL. `None` if there is no server.
pub(super) fn copied(hub: &Hub) -> Option<Filled> {
    let to = Filled::new()?;
    for table in schema::all().map(|table| table.name).chain(["command"]) {
        copy(hub, &to, table);
    }
    let db = hub.other();
    let (at, created_at, secret): (i64, i64, Vec<u8>) = db
        .query_row("SELECT at, created_at, secret FROM hub", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    to.sql(&format!(
        "UPDATE hub SET at = {at}, created_at = {created_at}, secret = {}",
        bytes(&secret)
    ));
    Some(to)
}

const NAMES: [&str; 4] = ["Order", "Ship", "order", "\u{fc}ber"];
const PREFIXES: [&str; 6] = ["a", "a%", "\u{fc}", "Z_", "\u{10ffff}", "a-"];

pub(super) fn key_of(n: u64) -> i64 {
    (((n % 3) << 53) | n) as i64
}

/// A hub with instances of all kinds.
#[expect(clippy::too_many_lines, reason = "it is a list of tables")]
pub(super) fn mixed_hub(many: u64) -> Hub {
    let hub = Hub::new();
    let mut random = Random(7);
    let mut sql = String::from("BEGIN;");
    let failures = ["CardDeclined", "Timeout"].map(|kind| Failure::permanent(kind, "no money"));
    let long = Failure::permanent("K".repeat(3_000), "long");
    for n in 1..=many {
        let key = key_of(n);
        let status = random.below(6);
        let id = format!("{}{n}", random.of(&PREFIXES));
        let name = *random.of(&NAMES);
        let version = ["NULL", "'1'", "'2'"][random.below(3) as usize];
        let created = 1_000 + random.below(many / 4 + 1);
        let updated = created + random.below(300);
        let parent = if n > 20 && random.below(3) == 0 {
            key_of(1 + random.below(20)).to_string()
        } else {
            "NULL".to_owned()
        };
        let parent_id = if parent == "NULL" {
            "NULL".to_owned()
        } else {
            format!("'p{}'", random.below(3))
        };
        let failure = match (status, random.below(9)) {
            (4, 0) => hex(&long),
            (4, 1) => "NULL".to_owned(),
            (4, _) => hex(random.of(&failures)),
            _ => "NULL".to_owned(),
        };
        let waiting = Waiting {
            events: (0..random.below(3))
                .map(|i| ["Go", "Approval"][i as usize].to_owned())
                .collect(),
            tasks: vec![TaskId(random.below(4) as u32)],
            note: None,
            requests: if random.below(4) == 0 {
                vec!["AddItem".to_owned()]
            } else {
                Vec::new()
            },
        };
        let waiting = if status < 3 && random.below(2) == 0 {
            hex(&waiting)
        } else {
            "NULL".to_owned()
        };
        let quarantine = if status == 2 && random.below(2) == 0 {
            hex(&Quarantine::because("it differs".to_owned()))
        } else {
            "NULL".to_owned()
        };
        let module = if random.below(3) == 0 {
            "NULL".to_owned()
        } else {
            format!("x'{}'", MODULE.0.map(|b| format!("{b:02x}")).concat())
        };
        let tags: Vec<(&str, &str)> = [("team", "a"), ("team2", "b"), ("unit", "\u{fc}")]
            .into_iter()
            .filter(|_| random.below(2) == 0)
            .collect();
        let of_tags = if tags.is_empty() {
            "NULL".to_owned()
        } else {
            let pairs: Vec<String> = tags
                .iter()
                .map(|(k, v)| format!("\"{k}\":\"{v}\""))
                .collect();
            format!("'{{{}}}'", pairs.join(","))
        };
        let bound = ["NULL", "1", "2"][random.below(3) as usize];
        let output = if status == 3 {
            format!(
                "'\"{}\"'",
                "x".repeat(random.below(if many > 1_000 { 900 } else { 90_000 }) as usize)
            )
        } else {
            "NULL".to_owned()
        };
        sql += &format!(
            "INSERT INTO instance (key, id, name, version, module, status, execution, execution_id, generation, next_event, turns,
                 history_bytes, inbox_next, returned, deliveries, created_at, started_at, updated_at, scheduled_for, parent_id, parent_key, tags,
                 custom_status, output, failure, waiting, quarantine, when_dropped, execution_timeout, value_count)
             VALUES ({key}, '{id}', '{name}', {version}, {module}, {status}, {}, 'e', {}, {}, 6, 500, 5, {}, {}, {created}, {created}, {updated},
                 {}, {parent_id}, {parent}, {of_tags}, '{{}}', {output}, {failure}, {waiting}, {quarantine}, {bound}, {}, 1);",
            random.below(2), random.below(3), 12, random.below(2), random.below(3),
            ["NULL", "500", "5000"][random.below(3) as usize], ["NULL", "60000"][random.below(2) as usize],
        );
        for (tag, value) in tags {
            sql +=
                &format!("INSERT INTO instance_tag VALUES ('{tag}', '{value}', {created}, {key});");
        }
        for value in 0..random.below(3) {
            sql += &format!(
                "INSERT INTO instance_value VALUES ({key}, 'v{value}', '{n}', {n}, {created});"
            );
        }
        if status < 3 {
            for task in 0..random.below(4) {
                let due = if random.below(2) == 0 {
                    "NULL".to_owned()
                } else {
                    (900 + random.below(900)).to_string()
                };
                let failed = if random.below(2) == 0 {
                    hex(&failures[0])
                } else {
                    "NULL".to_owned()
                };
                sql += &format!(
                    "INSERT INTO task (instance, task, kind, execution, generation, turn, scheduled_in, due, attempt, deliveries, failure, cut)
                     VALUES ({key}, {task}, {}, 0, 0, {}, 0, {due}, {}, {}, {failed}, {});",
                    random.below(7), random.below(8), random.below(5), random.below(2), random.below(3)
                );
                let asked = key_of(1 + random.below(many));
                let answer = if random.below(3) == 0 {
                    format!(
                        "{created}, {}",
                        hex(&Ok::<_, Failure>(Some(Json::from_text("3"))))
                    )
                } else {
                    "NULL, NULL".to_owned()
                };
                sql += &format!(
                    "INSERT OR IGNORE INTO request (instance, id, name, at, answered_at, answer, asker, execution, generation, task)
                     VALUES ({asked}, 'r{n}-{task}', '{}', {created}, {answer}, {key}, (SELECT execution FROM instance WHERE key = {key}),
                         (SELECT generation FROM instance WHERE key = {key}), {task});",
                    ["Price", "AddItem"][random.below(2) as usize]
                );
            }
            for seq in 0..random.below(4) {
                let message = match random.below(4) {
                    0 => hex(&Message::Terminate {
                        reason: Some("enough".to_owned()),
                        recursive: false,
                    }),
                    1 => hex(&Message::Suspend {
                        reason: None,
                        recursive: true,
                    }),
                    2 => format!("x'010D00{}'", "00".repeat(random.below(3) as usize)),
                    _ => hex(&event(&"9".repeat(random.below(2_000) as usize))),
                };
                sql += &format!(
                    "INSERT INTO inbox (instance, seq, message, at, bytes) VALUES ({key}, {seq}, {message}, {created}, 0);"
                );
            }
        }
        if n % 5 == 0 {
            let received = hex(&vec![Event::TurnStarted {
                now: Timestamp(3_000),
                history_events: 0,
                history_bytes: 0,
            }]);
            for turn in 0..6 {
                sql += &format!(
                    "INSERT INTO turn VALUES ({key}, 0, {turn}, {}, {updated}, {}, {received}, x'0100');",
                    turn * 2,
                    turn as i64 - 3
                );
                sql += &format!(
                    "INSERT INTO cut_turn VALUES ({key}, 0, {}, {turn}, {}, {updated}, NULL, {received}, x'0100');",
                    turn % 2,
                    turn * 2
                );
            }
            sql += &format!(
                "INSERT INTO rewind VALUES ({key}, 0, 0, 5, 'because of \u{fc}', 3), ({key}, 0, 1, 6, NULL, 2);"
            );
        }
        if n % 40 == 0 {
            sql += &format!("INSERT INTO garbage VALUES ({key}, -1);");
            sql += &format!(
                "INSERT INTO command (token, at, body, answer) VALUES ('t{}', {n}, x'01', {});",
                many - n,
                if n % 80 == 0 { "x'02'" } else { "NULL" }
            );
            sql += &format!(
                "INSERT INTO access_key VALUES ('k{n}', 'key {n}', {}, x'{n:064x}', {});",
                n % 80 / 40,
                1_000 - n / 80
            );
        }
    }
    let definitions = r#"[{"kind":"orchestration","name":"Order","version":"1"},{"kind":"activity","name":"Charge"}]"#;
    for (i, name) in ["shop", "pay", "old"].into_iter().enumerate() {
        let digest = format!("x'{}'", format!("ab0{i}").repeat(16));
        sql += &format!(
            "INSERT INTO module VALUES ({digest}, x'0{i}', '0.{}', '{definitions}', '[\"wasi:io\"]', {});",
            i + 1,
            10 - i
        );
        if i < 2 {
            sql += &format!(
                "INSERT INTO module_name (name, digest, grants, deployed_at, limits) VALUES ('{name}', {digest}, '{{\"of\":\"{name}\"}}', 5, '{{\"fuel\":{i}}}');"
            );
            sql += &format!(
                "INSERT INTO definition VALUES ({i}, '{}', '{name}', {digest}, NULL);",
                ["Order", "Charge"][i]
            );
            sql += &format!(
                "INSERT INTO definition_version VALUES ('Order', '{i}', '{name}', {digest});"
            );
        }
    }
    sql += "INSERT INTO setting VALUES ('retention', '{\"completed\":5,\"failed\":null,\"terminated\":null}');
        UPDATE hub SET at = 77; COMMIT;";
    hub.other().execute_batch(&sql).unwrap();
    hub
}
