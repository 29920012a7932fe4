//! What the disk and SQLite give to a program that does nothing else: the same rows as the engine, in as many transactions, on the same
//! settings, without reading, without a guest, without an answer to anybody.

use std::path::Path;
use std::time::{Duration, Instant};

use perennial_core::Event;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

const SCHEMA: &str = include_str!("../../../host/src/store/sqlite/file/schema.sql");

/// How often a file's new pages were synced, for so long.
pub(crate) fn fdatasyncs(dir: &Path, span: Duration) -> f64 {
    use std::io::{Seek, Write};
    let mut file = std::fs::File::create(dir.join("sync")).unwrap();
    let page = [7; 4096];
    // Over pages that are there already, as in a log that is used again.
    (0..1_000).for_each(|_| file.write_all(&page).unwrap());
    file.sync_all().unwrap();
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < span {
        if count % 1_000 == 0 {
            file.rewind().unwrap();
        }
        file.write_all(&page).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// A file with the settings of a hub, and with a write-ahead log that was used and folded once, as that of a host that runs for a while: a
/// log that is written again is synced faster than one that grows.
fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -16384;
         CREATE TABLE warm (v); INSERT INTO warm VALUES (zeroblob(20000000)); DROP TABLE warm; PRAGMA wal_checkpoint(PASSIVE)",
    )
    .unwrap();
    db.set_prepared_statement_cache_capacity(64);
    db
}

/// Transactions of one row each, for so long.
pub(crate) fn single_rows(dir: &Path, span: Duration) -> f64 {
    let file = tempfile::tempdir_in(dir).unwrap();
    let db = open(&file.path().join("rows.db"));
    db.execute_batch("CREATE TABLE t (v)").unwrap();
    let mut insert = db.prepare("INSERT INTO t VALUES (1)").unwrap();
    let (begun, mut commits) = (Instant::now(), 0);
    while begun.elapsed() < span {
        insert.execute([]).unwrap();
        commits += 1;
    }
    f64::from(commits) / begun.elapsed().as_secs_f64()
}

/// What a program did in which time.
#[derive(Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) instances: f64,
    pub(crate) commits: f64,
    pub(crate) rows: f64,
}

/// What the engine writes for one instance, turn by turn, taken from one that it ran.
pub(crate) struct Script {
    /// The columns of its status row and their values at its end.
    columns: Vec<String>,
    status: Vec<Value>,
    turns: Vec<TurnRow>,
}

struct TurnRow {
    columns: [Value; 7],
    scheduled: Vec<u32>,
    over: Vec<u32>,
}

fn events(bytes: &[u8]) -> Vec<Event> {
    postcard::from_bytes(&bytes[1..]).unwrap()
}

impl Script {
    /// That of an instance of a hub, by its id.
    pub(crate) fn of(hub: &Path, id: &str) -> Self {
        let db = Connection::open(hub).unwrap();
        let mut query = db.prepare("SELECT * FROM instance WHERE id = ?1").unwrap();
        let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
        let count = columns.len();
        let values = |row: &rusqlite::Row<'_>| (0..count).map(|i| row.get(i)).collect();
        let status: Vec<Value> = query.query_row([id], values).unwrap();
        let mut query = db
            .prepare(
                "SELECT execution, number, first_event, at, answer, received, produced FROM turn
                 WHERE instance = (SELECT key FROM instance WHERE id = ?1) ORDER BY number",
            )
            .unwrap();
        let turn = |row: &rusqlite::Row<'_>| {
            let (received, produced) = (row.get::<_, Vec<u8>>(5)?, row.get::<_, Vec<u8>>(6)?);
            let scheduled = |event: &Event| match event {
                Event::ActivityScheduled { task, .. } => Some(task.0),
                _ => None,
            };
            let over = |event: &Event| match event {
                Event::ActivityCompleted { task, .. } => Some(task.0),
                _ => None,
            };
            Ok(TurnRow {
                columns: [
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                ],
                scheduled: events(&produced).iter().filter_map(scheduled).collect(),
                over: events(&received).iter().filter_map(over).collect(),
            })
        };
        let turns = query
            .query_map([id], turn)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        Self {
            columns,
            status,
            turns,
        }
    }
}

/// A file that only a [`Script`] is written to.
pub(crate) struct Bare {
    db: Connection,
    script: Script,
    insert: String,
    next_key: i64,
}

impl Bare {
    pub(crate) fn new(dir: &Path, script: Script) -> Self {
        let db = open(&dir.join("bare.db"));
        db.execute_batch(SCHEMA).unwrap();
        // What later formats added to the rows that are written here.
        let known = "SELECT count(*) FROM pragma_table_info('instance') WHERE name = ?1";
        for column in &script.columns {
            let is_known = db.query_row(known, [column], |row| row.get::<_, bool>(0));
            if !is_known.unwrap() {
                let add = format!("ALTER TABLE instance ADD COLUMN {column} ANY");
                db.execute_batch(&add).unwrap();
            }
        }
        db.execute(
            "INSERT INTO hub (id, created_at, owner_epoch, commits) VALUES (1, 0, 1, 0)",
            [],
        )
        .unwrap();
        let places: Vec<String> = (1..=script.columns.len())
            .map(|i| format!("?{i}"))
            .collect();
        let insert = format!(
            "INSERT INTO instance ({}) VALUES ({})",
            script.columns.join(", "),
            places.join(", ")
        );
        Self {
            db,
            script,
            insert,
            next_key: 1,
        }
    }

    /// Writes instances for so long: `lanes` of them at once, `batch` turns in each transaction.
    pub(crate) fn run(&mut self, lanes: usize, batch: usize, span: Duration) -> Rate {
        let begun = Instant::now();
        let before = self.db.total_changes();
        let mut at: Vec<(i64, usize)> = (0..lanes).map(|_| (self.key(), 0)).collect();
        let (mut lane, mut commits, mut ended) = (0, 0u64, 0u64);
        while begun.elapsed() < span {
            self.begin();
            for _ in 0..batch {
                let (key, turn) = at[lane];
                self.turn(key, turn);
                at[lane].1 += 1;
                if turn + 1 == self.script.turns.len() {
                    at[lane] = (self.key(), 0);
                    ended += 1;
                }
                lane = (lane + 1) % lanes;
            }
            self.db.execute_batch("COMMIT").unwrap();
            commits += 1;
        }
        let seconds = begun.elapsed().as_secs_f64();
        Rate {
            instances: ended as f64 / seconds,
            commits: commits as f64 / seconds,
            rows: (self.db.total_changes() - before) as f64 / seconds,
        }
    }

    /// Writes one instance, a transaction for each turn. How long it took.
    pub(crate) fn one(&mut self) -> Duration {
        let begun = Instant::now();
        let key = self.key();
        for turn in 0..self.script.turns.len() {
            self.begin();
            self.turn(key, turn);
            self.db.execute_batch("COMMIT").unwrap();
        }
        begun.elapsed()
    }

    fn key(&mut self) -> i64 {
        self.next_key += 1;
        self.next_key
    }

    fn begin(&self) {
        self.db.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.run_sql(
            "UPDATE hub SET commits = commits + 1 WHERE id = 1 AND owner_epoch = 1",
            [],
        );
    }

    fn run_sql(&self, sql: &str, values: impl rusqlite::Params) {
        self.db
            .prepare_cached(sql)
            .unwrap()
            .execute(values)
            .unwrap();
    }

    fn turn(&self, key: i64, number: usize) {
        let turn = &self.script.turns[number];
        let last = number + 1 == self.script.turns.len();
        let number = i64::try_from(number).unwrap();
        if number == 0 {
            self.run_sql(&self.insert, params_from_iter(self.status_row(key)));
        } else if last {
            self.run_sql(
                "UPDATE instance SET next_event = ?1, turns = ?2, history_bytes = ?3, updated_at = ?4, returned = 0, waiting = NULL,
                     custom_status = NULL, deliveries = 0, status = 3, output = ?6, failure = NULL, quarantine = NULL WHERE key = ?5",
                params![turn.columns[2], number + 1, number * 100, turn.columns[3], key, self.column("output")],
            );
        } else {
            self.run_sql(
                "UPDATE instance SET next_event = ?1, turns = ?2, history_bytes = ?3, updated_at = ?4, returned = 0, waiting = x'01',
                     custom_status = NULL, deliveries = 0 WHERE key = ?5",
                params![turn.columns[2], number + 1, number * 100, turn.columns[3], key],
            );
        }
        let columns = &turn.columns;
        self.run_sql(
            "INSERT INTO turn (instance, execution, number, first_event, at, answer, received, produced) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![key, columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], columns[6]],
        );
        for task in &turn.over {
            self.run_sql(
                "DELETE FROM task WHERE instance = ?1 AND task = ?2",
                params![key, task],
            );
        }
        for task in &turn.scheduled {
            self.run_sql(
                "INSERT INTO task (instance, task, kind, execution, generation, module, turn, scheduled_in, attempt, deliveries)
                 VALUES (?1, ?2, 0, 0, 0, ?3, ?4, 0, 1, 0)",
                params![key, task, self.column("module"), number],
            );
        }
    }

    fn column(&self, name: &str) -> &Value {
        let place = self
            .script
            .columns
            .iter()
            .position(|column| column == name)
            .unwrap();
        &self.script.status[place]
    }

    /// The status row as it is after the first turn: running, without an output, and with a key and an id of its own.
    fn status_row(&self, key: i64) -> impl Iterator<Item = Value> {
        self.script
            .columns
            .iter()
            .zip(&self.script.status)
            .map(move |(name, value)| match name.as_str() {
                "key" => Value::Integer(key),
                "id" => Value::Text(format!("{key:032x}")),
                "status" => Value::Integer(1),
                "output" => Value::Null,
                "waiting" => Value::Blob(vec![1]),
                _ => value.clone(),
            })
    }
}
