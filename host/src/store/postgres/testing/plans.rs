//! The plans of statements.

use std::collections::BTreeMap;

use tokio_postgres::{Row, SimpleQueryMessage};

use crate::store::postgres::session::Session;
use crate::store::postgres::writer::COUNT_LIVE;
use crate::store::schema::{OF_INSTANCES, TAG};

/// Statements with their plans.
pub(in crate::store) type Plans = BTreeMap<String, String>;

/// All prepared statements of a connection, and how many parameters they have.
pub(in crate::store) const PREPARED: &str =
    "SELECT statement, cardinality(parameter_types) FROM pg_prepared_statements
    WHERE statement NOT LIKE '%pg_prepared_statements%' AND statement NOT IN ('BEGIN', 'COMMIT')";

/// What [`PREPARED`] finds.
pub(in crate::store) fn texts_of(rows: &[Row]) -> Vec<(String, usize)> {
    let count = |row: &Row| usize::try_from(row.get::<_, i32>(1)).unwrap();
    rows.iter().map(|row| (row.get(0), count(row))).collect()
}

/// The generic plans of statements.
pub(in crate::store::postgres) fn plans(
    session: &Session,
    statements: &BTreeMap<String, usize>,
) -> Plans {
    let plan = |(text, count): (&String, &usize)| {
        // Any values do: the plan is generic.
        let nulls = vec!["NULL"; *count].join(", ");
        let with = if *count == 0 {
            String::new()
        } else {
            format!("({nulls})")
        };
        let sql = format!(
            "PREPARE shown AS {text}; EXPLAIN (COSTS OFF) EXECUTE shown{with}; DEALLOCATE shown"
        );
        let answers = session.wait(session.client().simple_query(&sql));
        let answers = answers.unwrap_or_else(|error| panic!("{error}: {text}"));
        let lines = answers.iter().filter_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        // How it sorts what it sorts depends on how much it expects.
        let lines = lines.filter(|line| !line.contains("Presorted Key: "));
        let lines = lines.map(|line| line.replace("Incremental Sort", "Sort"));
        // Whether a walk of an index may leave the rows alone depends on what was vacuumed.
        let lines = lines.map(|line| line.replace("Index Only Scan", "Index Scan"));
        (text.clone(), lines.collect::<Vec<_>>().join("\n"))
    };
    statements.iter().map(plan).collect()
}

/// Tables that grow without a bound. Those of the hub itself (modules, names, keys, settings) do not.
pub(in crate::store::postgres) fn growing() -> impl Iterator<Item = &'static str> {
    let of_instances = OF_INSTANCES.into_iter().chain([&TAG]);
    of_instances
        .map(|table| table.name)
        .chain(["command", "outbox"])
}

/// Whether a table grows without a bound.
fn grows(table: &str) -> bool {
    growing().any(|growing| growing == table)
}

/// Statements that do what others must not, by a part of their text, and why.
pub(in crate::store) type Excused = [(&'static str, &'static str)];

/// A node of a plan.
#[derive(Debug, Default)]
struct Node<'a> {
    what: &'a str,
    condition: &'a str,
    below: Vec<Self>,
}

impl<'a> Node<'a> {
    /// Reads what EXPLAIN prints: each node is further to the right than the one above it.
    fn read(plan: &'a str) -> Self {
        let mut lines = plan.lines().peekable();
        let root = lines.next().unwrap_or_default();
        Self::read_below(root, 0, &mut lines)
    }

    fn read_below(
        what: &'a str,
        indent: usize,
        lines: &mut std::iter::Peekable<std::str::Lines<'a>>,
    ) -> Self {
        let mut node = Self {
            what,
            ..Self::default()
        };
        while let Some(line) = lines.peek() {
            let text = line.trim_start();
            let at = line.len() - text.len();
            if at <= indent {
                break;
            }
            lines.next();
            let starts = ["->", "SubPlan ", "InitPlan ", "CTE "];
            if starts.iter().any(|start| text.starts_with(start)) {
                let what = text.trim_start_matches("->").trim_start();
                node.below.push(Self::read_below(what, at, lines));
            } else if let Some(condition) = text.strip_prefix("Index Cond: ") {
                node.condition = condition;
            }
        }
        node
    }

    /// The table of a scan.
    fn table(&self) -> Option<&'a str> {
        let (_, of) = self
            .what
            .split_once(" on ")
            .filter(|(scan, _)| scan.contains("Scan") && !scan.contains("Subquery"))?;
        of.split_whitespace().next()
    }

    /// The rows that it reads for the node above it, other than those of its conditions.
    fn inputs(&self) -> impl Iterator<Item = &Self> {
        let is_input = |node: &&Self| {
            let starts = ["SubPlan ", "InitPlan ", "CTE "];
            !starts.iter().any(|start| node.what.starts_with(start))
        };
        self.below.iter().filter(is_input)
    }

    /// Whether there is a bound for its rows that does not grow with the hub: a limit, given values, tables of the hub itself, rows of
    /// given instances, which are asked for as a whole, or a range that the reader takes only after it has counted that it has few.
    fn is_bounded(&self) -> bool {
        if self.what.starts_with("Limit") || self.what == "Aggregate" {
            return true;
        }
        if let Some(table) = self.table() {
            let is_given = |column: &&str| {
                let starts = [format!("({column} = "), format!("(({column} = ")];
                starts.iter().any(|start| self.condition.starts_with(start))
            };
            let of_given = ["id", "instance", "asker", "parent_key", "parent", "seq"];
            return !grows(table)
                || self.what.contains("using instance_pkey ") && is_given(&"key")
                || of_given.iter().any(is_given)
                || self.is_counted_range();
        }
        let is_source = ["Result", "Function Scan", "Values Scan", "ProjectSet"]
            .iter()
            .any(|source| self.what.starts_with(source));
        let mut inputs = self.inputs().peekable();
        (is_source || inputs.peek().is_some()) && inputs.all(Self::is_bounded)
    }

    /// A prefix of ids, or a span in which instances ended: `few` in `list.rs` counts both, and otherwise walks another index.
    fn is_counted_range(&self) -> bool {
        let has_both = |of: &str| {
            [" >", " <"]
                .iter()
                .all(|than| self.condition.contains(&format!("{of}{than}")))
        };
        self.what.contains("using instance_id ") && self.condition.contains("(id >=")
            || self.what.contains("using instance_ended ") && has_both("ROW(ended_at, key)")
    }

    /// What is wrong with it or with a node below.
    fn fault(&self) -> Option<String> {
        if self.what.starts_with("Seq Scan") && self.table().is_some_and(grows) {
            return Some(format!("{} reads a whole table", self.what));
        }
        let keeps_all = ["Sort", "Hash"].contains(&self.what);
        if keeps_all && !self.inputs().all(Self::is_bounded) {
            return Some(format!("a {} has no bound", self.what));
        }
        self.below.iter().find_map(Self::fault)
    }
}

fn fault(plan: &str) -> Option<String> {
    Node::read(plan).fault()
}

/// Checks plans, of which some are excused; each excuse must be needed.
fn check(plans: &Plans, excused: &Excused) {
    let is_excused = |text: &str| excused.iter().find(|(part, _)| text.contains(part));
    let mut faults = Vec::new();
    for (text, plan) in plans {
        match (fault(plan), is_excused(text)) {
            (Some(fault), None) => faults.push(format!("{fault}:\n{text}\n{plan}")),
            (None, Some((_, why))) => {
                faults.push(format!("no excuse is needed ({why}):\n{text}\n{plan}"));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    assert!(
        faults.is_empty(),
        "{} plans:\n{}",
        faults.len(),
        faults.join("\n\n")
    );
}

/// Statements that bring rows together: by modules, once for an owner or when modules are collected, or those of one family by partitions.
/// PostgreSQL may sort them or make a table of hashes.
const GROUPED: [&str; 4] = [
    COUNT_LIVE,
    "SELECT module FROM instance WHERE status IN",
    "SELECT DISTINCT parent_key, (key >> 53)",
    "SELECT DISTINCT (instance >> 53)",
];

/// Checks that statements have the same plans, other than those that read nothing that grows: the hub itself has few rows of anything.
fn same(what: &str, before: &Plans, now: &Plans) {
    let reads = |plan: &str| {
        let of = |table: &'static str| plan.contains(&format!(" on {table}"));
        growing().any(of)
    };
    let differ: Vec<String> = before
        .iter()
        .filter(|(_, plan)| reads(plan))
        .filter(|(text, _)| !GROUPED.iter().any(|grouped| text.starts_with(grouped)))
        .filter(|(text, plan)| now[*text] != **plan)
        .map(|(text, plan)| format!("{text}\n{plan}\nnow:\n{}", now[text]))
        .collect();
    assert!(
        differ.is_empty(),
        "{what}: {} of {} plans differ:\n{}",
        differ.len(),
        before.len(),
        differ.join("\n\n")
    );
}

/// Checks the plans of statements on a hub without rows, which it fills: they are the same whatever is in the tables, and whatever PostgreSQL
/// believes to be in them because it looked at another time. `few` are the plans on a hub with some rows.
pub(in crate::store) fn check_in_all_states(
    sql: &dyn Fn(&str),
    plans: &dyn Fn() -> Plans,
    few: &Plans,
    excused: &Excused,
) {
    let each = |statement: &str| {
        for table in growing() {
            sql(&statement.replace("{}", table));
        }
    };
    // Nothing is analyzed but where this says so.
    each("ALTER TABLE {} SET (autovacuum_enabled = off)");
    let none = plans();
    each("ANALYZE {}");
    let analyzed_empty = plans();
    sql(CROWD);
    let analyzed_empty_now_many = plans();
    each("ANALYZE {}");
    let many = plans();
    each("DELETE FROM {} WHERE ctid < (SELECT max(ctid) FROM {})");
    each("VACUUM (ANALYZE) {}");
    let one_in_many_pages = plans();
    check(&many, excused);
    same("of many rows and of few", &many, few);
    same("of many rows and of none", &many, &none);
    same(
        "of many rows and of none that were analyzed",
        &many,
        &analyzed_empty,
    );
    same(
        "of many rows and of many that were analyzed when there were none",
        &many,
        &analyzed_empty_now_many,
    );
    same(
        "of many rows and of the last one of many",
        &many,
        &one_in_many_pages,
    );
}

/// Rows for all tables that grow, 100,000 of most.
const CROWD: &str = "
    INSERT INTO instance (key, id, name, version, module, status, execution, execution_id, generation, next_event, turns, history_bytes,
        inbox_next, returned, deliveries, created_at, started_at, updated_at, parent_id, parent_key, when_dropped, tags)
    SELECT ((n % 64)::bigint << 53) | n, 'order-' || n, 'Flow' || n % 7, CASE WHEN n % 3 > 0 THEN 'v' || n % 5 END,
        CASE WHEN n % 2 > 0 THEN decode(repeat('0' || n % 8, 32), 'hex') END,
        CASE n % 1000 WHEN 1 THEN 4 WHEN 2 THEN 1 WHEN 3 THEN 2 WHEN 4 THEN 0 WHEN 5 THEN 5 ELSE 3 END,
        0, 'e', 0, 9, 3, 500, 5, false, 0, n * 60000, n * 60000, n * 60000 + 5000,
        CASE WHEN n % 10 = 0 THEN 'p' END, CASE WHEN n % 10 = 0 THEN (((n / 10) % 64)::bigint << 53) | (n / 10) END,
        CASE WHEN n % 20 = 0 THEN 1 END,
        '{\"team\":\"t\"}'
    FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO instance_tag SELECT 'team', 't' || n % 11, n * 60000, ((n % 64)::bigint << 53) | n
        FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO instance_value SELECT ((n % 64)::bigint << 53) | n, 'v', '1', 1, 1 FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO turn SELECT ((n % 64)::bigint << 53) | n, 0, t, t * 3, 5, NULL, '\\x00', '\\x00'
        FROM generate_series(100000::bigint, 149999) AS n, generate_series(0, 2) AS t;
    INSERT INTO cut_turn SELECT ((n % 64)::bigint << 53) | n, 0, 0, n % 4, 0, 5, NULL, '\\x00', '\\x00'
        FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO rewind SELECT ((n % 64)::bigint << 53) | n, 0, 0, 5, NULL, 1 FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO task (instance, task, kind, execution, generation, turn, scheduled_in, due, attempt, deliveries)
        SELECT ((n % 64)::bigint << 53) | n, 0, n % 7, 0, 0, 0, 0, CASE WHEN n % 2 = 0 THEN n * 60 END, 1, 0
        FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO inbox
        SELECT ((n % 64)::bigint << 53) | n, 1, CASE WHEN n % 100 = 0 THEN '\\x010700'::bytea ELSE '\\x010d00'::bytea END, 5, 3
        FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO request
        SELECT ((n % 64)::bigint << 53) | n, 'r', 'Price', 5, CASE WHEN n % 2 = 0 THEN 6 END, CASE WHEN n % 2 = 0 THEN '\\x00'::bytea END,
        CASE WHEN n % 3 = 0 THEN ((n % 64)::bigint << 53) | n END, 0, 0, 0 FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO garbage SELECT ((n % 64)::bigint << 53) | n, -1 FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO outbox (partition, module, parent, asker, body) SELECT n % 64, CASE WHEN n % 2 > 0 THEN decode(repeat('0' || n % 8, 32), 'hex') END,
        CASE WHEN n % 3 = 0 THEN ((n % 64)::bigint << 53) | n END, CASE WHEN n % 3 = 1 THEN ((n % 64)::bigint << 53) | n END, '\\x01'
        FROM generate_series(100000::bigint, 199999) AS n;
    INSERT INTO command (token, at, body, answer) SELECT 't' || n, n, '\\x01', CASE WHEN n % 100 > 0 THEN '\\x01'::bytea END
        FROM generate_series(100000::bigint, 199999) AS n;
";
