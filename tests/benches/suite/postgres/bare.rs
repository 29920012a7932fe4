//! What PostgreSQL gives to a program that only writes: the rows of hello-sequence, taken from an instance that ran, in as many transactions
//! as the engine makes, each sent as a whole over one connection. It reads nothing, decides nothing, and answers nobody.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row, Statement};

use crate::limit::Rate;

/// The columns that a turn changes, after the key.
const OF_TURN: [&str; 17] = [
    "status",
    "next_event",
    "turns",
    "history_bytes",
    "inbox_next",
    "inbox_bytes",
    "unread_bytes",
    "returned",
    "deliveries",
    "started_at",
    "updated_at",
    "custom_status",
    "output",
    "failure",
    "waiting",
    "value_count",
    "has_requests",
];

/// Values of a column, or one of them.
#[derive(Clone)]
enum Column {
    Int(Vec<Option<i64>>),
    Small(Vec<Option<i16>>),
    Bool(Vec<Option<bool>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    /// The value of a row.
    fn of(row: &Row, at: usize) -> Self {
        match *row.columns()[at].type_() {
            Type::INT8 => Self::Int(vec![row.get(at)]),
            Type::INT2 => Self::Small(vec![row.get(at)]),
            Type::BOOL => Self::Bool(vec![row.get(at)]),
            Type::TEXT => Self::Text(vec![row.get(at)]),
            Type::BYTEA => Self::Bytes(vec![row.get(at)]),
            ref other => panic!("a column of type {other}"),
        }
    }

    fn array(&self) -> &'static str {
        match self {
            Self::Int(_) => "bigint[]",
            Self::Small(_) => "smallint[]",
            Self::Bool(_) => "boolean[]",
            Self::Text(_) => "text[]",
            Self::Bytes(_) => "bytea[]",
        }
    }

    fn push(&mut self, other: &Self) {
        match (self, other) {
            (Self::Int(all), Self::Int(more)) => all.extend(more),
            (Self::Small(all), Self::Small(more)) => all.extend(more),
            (Self::Bool(all), Self::Bool(more)) => all.extend(more),
            (Self::Text(all), Self::Text(more)) => all.extend(more.iter().cloned()),
            (Self::Bytes(all), Self::Bytes(more)) => all.extend(more.iter().cloned()),
            _ => panic!("columns of two types"),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Int(all) => all.clear(),
            Self::Small(all) => all.clear(),
            Self::Bool(all) => all.clear(),
            Self::Text(all) => all.clear(),
            Self::Bytes(all) => all.clear(),
        }
    }

    fn param(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Int(all) => all,
            Self::Small(all) => all,
            Self::Bool(all) => all,
            Self::Text(all) => all,
            Self::Bytes(all) => all,
        }
    }
}

/// A statement, with the rows that the next transaction has for it.
struct Writes {
    statement: Statement,
    names: Vec<String>,
    columns: Vec<Column>,
    rows: usize,
}

impl Writes {
    /// The statement for rows like this one: what is done with arrays of their columns.
    async fn like(
        client: &Client,
        row: &[(String, Column)],
        sql: impl Fn(&str, &str) -> String,
    ) -> Self {
        let arrays: Vec<String> = (1..)
            .zip(row)
            .map(|(at, (_, column))| format!("${at}::{}", column.array()))
            .collect();
        let names: Vec<String> = row.iter().map(|(name, _)| name.clone()).collect();
        let text = sql(&names.join(", "), &arrays.join(", "));
        let mut columns: Vec<Column> = row.iter().map(|(_, column)| column.clone()).collect();
        columns.iter_mut().for_each(Column::clear);
        Self {
            statement: client.prepare(&text).await.unwrap(),
            names,
            columns,
            rows: 0,
        }
    }

    /// Adds a row: a template with other values for some columns.
    fn push(&mut self, template: &[(String, Column)], others: &[(&str, Column)]) {
        for (name, all) in self.names.iter().zip(&mut self.columns) {
            let other = others.iter().find(|(other, _)| other == name);
            let own = template.iter().find(|(own, _)| own == name);
            all.push(other.map_or_else(|| &own.unwrap().1, |(_, value)| value));
        }
        self.rows += 1;
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.columns.iter_mut().for_each(Column::clear);
    }
}

type Template = Vec<(String, Column)>;

async fn rows(client: &Client, sql: &str) -> Vec<Template> {
    let read = |row: &Row| -> Template {
        let columns = (0..).zip(row.columns());
        columns
            .map(|(at, column)| (column.name().to_owned(), Column::of(row, at)))
            .collect()
    };
    client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .map(read)
        .collect()
}

pub(super) async fn connected(database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The program, in a hub of its own.
pub(super) struct Bare {
    client: Client,
    begin: Statement,
    claim: Statement,
    commit: Statement,
    insert: Writes,
    update: Writes,
    turn: Writes,
    gone: Writes,
    task: Writes,
    instance: Template,
    turns: Vec<Template>,
    a_task: Template,
    commits: i64,
    next: i64,
}

impl Bare {
    /// In a hub that exists and has one instance, which has ended; a task is made as those that it had.
    pub(super) async fn new(database: &str) -> Self {
        let client = connected(database).await;
        let settings = "SET search_path = perennial_default; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
             SET enable_bitmapscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan;
             DELETE FROM owner; INSERT INTO owner (epoch, host, commits, renewed) VALUES (1000, '', 0, now());
             UPDATE hub SET commits = 0";
        client.batch_execute(settings).await.unwrap();
        let sql = "SELECT key, status, next_event, turns, history_bytes, inbox_next, inbox_bytes, unread_bytes, returned, deliveries, started_at,
                 updated_at, custom_status, output, failure, waiting, value_count, has_requests, id, name, version, module, execution,
                 execution_id, generation, created_at, scheduled_for, execution_timeout, parent_id, parent_key, parent, when_dropped, tags,
                 quarantine FROM instance";
        let instance = rows(&client, sql).await.remove(0);
        let turns = rows(&client, "SELECT * FROM turn ORDER BY number").await;
        let sql = "SELECT i.key AS instance, 0::bigint AS task, 0::smallint AS kind, 0::bigint AS execution, 0::bigint AS generation, i.module,
                 0::bigint AS turn, 0::bigint AS scheduled_in, NULL::bigint AS due, 1::bigint AS attempt, NULL::bigint AS first_started,
                 0::bigint AS deliveries, 0::bigint AS cut, NULL::bigint AS begun_at, NULL::bigint AS heartbeat_at, NULL::text AS heartbeat,
                 NULL::bytea AS failure, NULL::bytea AS attempts, NULL::bytea AS target FROM instance AS i";
        let a_task = rows(&client, sql).await.remove(0);
        let at_turn: Template = instance
            .iter()
            .filter(|(name, _)| name == "key" || OF_TURN.contains(&&**name))
            .cloned()
            .collect();
        let insert = |table: &'static str| {
            move |names: &str, arrays: &str| {
                format!("INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays})")
            }
        };
        let sets = OF_TURN.map(|name| format!("{name} = u.{name}")).join(", ");
        let update = |names: &str, arrays: &str| {
            format!(
                "UPDATE instance AS t SET {sets} FROM unnest({arrays}) AS u ({names}) WHERE t.ctid = (SELECT ctid FROM instance WHERE key = u.key)"
            )
        };
        let delete = |names: &str, arrays: &str| {
            format!(
                "DELETE FROM task AS t USING unnest({arrays}) AS u ({names})
                 WHERE t.ctid = (SELECT k.ctid FROM task AS k WHERE k.instance = u.instance AND k.task = u.task)"
            )
        };
        let claim = "WITH fenced AS (UPDATE owner SET commits = $1 + 1, renewed = clock_timestamp()
                 WHERE epoch = 1000 AND commits = $1 AND NOT dead RETURNING 1)
             UPDATE hub SET commits = $1 + 1 FROM fenced WHERE id = 1";
        Self {
            begin: client.prepare("BEGIN").await.unwrap(),
            claim: client.prepare(claim).await.unwrap(),
            commit: client.prepare("COMMIT").await.unwrap(),
            insert: Writes::like(&client, &instance, insert("instance")).await,
            update: Writes::like(&client, &at_turn, update).await,
            turn: Writes::like(&client, &turns[0], insert("turn")).await,
            gone: Writes::like(&client, &a_task[..2], delete).await,
            task: Writes::like(&client, &a_task, insert("task")).await,
            client,
            instance,
            turns,
            a_task,
            commits: 0,
            next: 1,
        }
    }

    /// Writes instances for so long: `lanes` of them at once, `batch` turns in each transaction.
    pub(super) async fn run(&mut self, lanes: usize, batch: usize, span: Duration) -> Rate {
        let begun = Instant::now();
        let mut at: Vec<(i64, usize)> = (0..lanes).map(|_| (self.key(), 0)).collect();
        let (mut lane, mut commits, mut ended, mut rows) = (0, 0, 0, 0);
        while begun.elapsed() < span {
            for _ in 0..batch {
                let (key, turn) = at[lane];
                self.turn(key, turn);
                at[lane].1 += 1;
                if turn + 1 == self.turns.len() {
                    at[lane] = (self.key(), 0);
                    ended += 1;
                }
                lane = (lane + 1) % lanes;
            }
            rows += self.send().await;
            commits += 1;
        }
        let seconds = begun.elapsed().as_secs_f64();
        Rate {
            instances: f64::from(ended) / seconds,
            commits: f64::from(commits) / seconds,
            rows: rows as f64 / seconds,
        }
    }

    /// Writes one instance, a transaction for each turn. How long it took.
    pub(super) async fn one(&mut self) -> Duration {
        let begun = Instant::now();
        let key = self.key();
        for turn in 0..self.turns.len() {
            self.turn(key, turn);
            self.send().await;
        }
        begun.elapsed()
    }

    /// In one of 64 partitions, as keys of the engine are.
    fn key(&mut self) -> i64 {
        self.next += 1;
        (self.next % 64) << 53 | 1_000 << 32 | self.next
    }

    fn turn(&mut self, key: i64, number: usize) {
        let last = number + 1 == self.turns.len();
        let int = |value: i64| Column::Int(vec![Some(value)]);
        let number = number as i64;
        let is_over = !last && number > 0;
        let mut now = vec![("key", int(key)), ("turns", int(number + 1))];
        if !last {
            now.push(("status", Column::Small(vec![Some(1)])));
            now.push(("output", Column::Text(vec![None])));
            now.push(("waiting", Column::Bytes(vec![Some(vec![1, 0, 1, 0, 0, 0])])));
        }
        if number == 0 {
            // Ids of the engine are in no order.
            let id = format!(
                "{:016x}{:016x}",
                key.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64),
                key
            );
            now.push(("id", Column::Text(vec![Some(id)])));
            self.insert.push(&self.instance, &now);
        } else {
            self.update.push(&self.instance, &now);
        }
        let of = ("instance", int(key));
        let turn = &self.turns[number as usize];
        self.turn.push(turn, std::slice::from_ref(&of));
        if is_over || last {
            self.gone
                .push(&self.a_task, &[of.clone(), ("task", int(number - 1))]);
        }
        if !last {
            let task = [of, ("task", int(number)), ("turn", int(number))];
            self.task.push(&self.a_task, &task);
        }
    }

    /// Sends what there is as one transaction. How many rows it wrote.
    async fn send(&mut self) -> usize {
        let none: &[&(dyn ToSql + Sync)] = &[];
        let claim: [&(dyn ToSql + Sync); 1] = [&self.commits];
        let all = [
            &self.update,
            &self.insert,
            &self.turn,
            &self.gone,
            &self.task,
        ];
        let written: Vec<(&Statement, Vec<&(dyn ToSql + Sync)>)> = all
            .iter()
            .filter(|writes| writes.rows > 0)
            .map(|writes| {
                (
                    &writes.statement,
                    writes.columns.iter().map(Column::param).collect(),
                )
            })
            .collect();
        let rows: usize = all.iter().map(|writes| writes.rows).sum();
        let sent = [(&self.begin, none), (&self.claim, &claim[..])]
            .into_iter()
            .chain(
                written
                    .iter()
                    .map(|(statement, params)| (*statement, &params[..])),
            )
            .chain([(&self.commit, none)]);
        let done =
            try_join_all(sent.map(|(statement, params)| self.client.execute(statement, params)));
        let done = done.await.unwrap();
        let told: u64 = done[2..].iter().sum();
        assert_eq!((done[1], told), (1, rows as u64));
        for writes in [
            &mut self.update,
            &mut self.insert,
            &mut self.turn,
            &mut self.gone,
            &mut self.task,
        ] {
            writes.clear();
        }
        self.commits += 1;
        rows + 1
    }
}
