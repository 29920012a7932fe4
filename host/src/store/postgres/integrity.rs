//! Whether the rows of a hub agree with each other. Only reads, in one snapshot.
//!
//! PostgreSQL keeps its pages itself. What is checked is what the store says with them: rows belong to an instance, counters are those of
//! rows, and what is referred to is there.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures::TryStreamExt as _;
use tokio_postgres::{Row, RowStream};

use crate::store::StoreError;
use crate::store::codec::decode_tags;
use crate::store::partition::Partitions;
use crate::store::postgres::address::Address;
use crate::store::postgres::create::check_format;
use crate::store::postgres::error::failed;
use crate::store::postgres::lease;
use crate::store::postgres::runtime::wait;
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::source::posted;
use crate::store::schema::{CUT_TURN, GARBAGE, INSTANCE, OF_INSTANCES, REWIND, TAG, TURN, Table};
use crate::store::types::InstanceKey;

/// How long one look at whole tables may take.
const LOOK_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Each finds texts about what is wrong, at most `$1` of them.
const CHECKS: [&str; 13] = [
    // Turns are numbered without gaps, so that a number that is missing in the middle makes the last one too high.
    "SELECT format('instance %s (key %s) counts %s turns, and the rows of its execution are %s up to number %s',
         to_json(i.id), i.key, i.turns, coalesce(t.count, 0), coalesce(t.last, -1))
     FROM instance AS i LEFT JOIN (SELECT instance, execution, count(*) AS count, max(number) AS last FROM turn GROUP BY instance, execution) AS t
         ON t.instance = i.key AND t.execution = i.execution
     WHERE i.turns <> coalesce(t.count, 0) OR i.turns <> coalesce(t.last + 1, 0) ORDER BY i.key LIMIT $1",
    "SELECT format('instance %s (key %s) gives the next event the number %s, and its last turn begins with event %s',
         to_json(i.id), i.key, i.next_event, t.first_event)
     FROM instance AS i JOIN turn AS t ON t.instance = i.key AND t.execution = i.execution AND t.number = i.turns - 1
     WHERE i.next_event <= t.first_event ORDER BY i.key LIMIT $1",
    "SELECT format('instance %s (key %s) gives the next message the number %s, and its inbox has number %s',
         to_json(i.id), i.key, i.inbox_next, m.last)
     FROM instance AS i JOIN (SELECT instance, max(seq) AS last FROM inbox GROUP BY instance) AS m ON m.instance = i.key
     WHERE i.inbox_next <= m.last ORDER BY i.key LIMIT $1",
    "SELECT format('instance %s (key %s) counts %s values, and has %s', to_json(i.id), i.key, i.value_count, coalesce(v.count, 0))
     FROM instance AS i LEFT JOIN (SELECT instance, count(*) AS count FROM instance_value GROUP BY instance) AS v ON v.instance = i.key
     WHERE i.value_count <> coalesce(v.count, 0) ORDER BY i.key LIMIT $1",
    // That all requests of an instance are gone again is not noted.
    "SELECT format('instance %s (key %s) says that it has no requests, and has some', to_json(i.id), i.key)
     FROM instance AS i WHERE NOT i.has_requests AND EXISTS (SELECT 1 FROM request AS r WHERE r.instance = i.key) ORDER BY i.key LIMIT $1",
    // Those that completed or were terminated are not run again, so that their module may be gone. Statuses: 3 and 5.
    "SELECT format('instance %s (key %s) runs the module %s, which is not stored', to_json(i.id), i.key, left(encode(i.module, 'hex'), 12))
     FROM instance AS i WHERE i.status NOT IN (3, 5) AND i.module IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM module AS m WHERE m.digest = i.module) ORDER BY i.key LIMIT $1",
    "SELECT format('task %s of the instance with the key %s runs the module %s, which is not stored',
         t.task, t.instance, left(encode(t.module, 'hex'), 12))
     FROM task AS t WHERE t.module IS NOT NULL AND NOT EXISTS (SELECT 1 FROM module AS m WHERE m.digest = t.module)
     ORDER BY t.instance, t.task LIMIT $1",
    "SELECT format('the module name %s means %s, which is not stored', to_json(n.name), left(encode(n.digest, 'hex'), 12))
     FROM module_name AS n WHERE NOT EXISTS (SELECT 1 FROM module AS m WHERE m.digest = n.digest) ORDER BY n.name LIMIT $1",
    "SELECT format('the definition %s is of the module %s, which is not stored', to_json(d.name), left(encode(d.digest, 'hex'), 12))
     FROM definition AS d WHERE NOT EXISTS (SELECT 1 FROM module AS m WHERE m.digest = d.digest) ORDER BY d.kind, d.name LIMIT $1",
    "SELECT format('version %s of the definition %s is of the module %s, which is not stored',
         to_json(v.version), to_json(v.name), left(encode(v.digest, 'hex'), 12))
     FROM definition_version AS v WHERE NOT EXISTS (SELECT 1 FROM module AS m WHERE m.digest = v.digest)
     ORDER BY v.name, v.version LIMIT $1",
    "SELECT format('the bytes of module %s are not those that were deployed; to deploy the same file again mends it',
         left(encode(digest, 'hex'), 12))
     FROM module WHERE sha256(component) <> digest ORDER BY digest LIMIT $1",
    "SELECT format('message %s of the outbox is for the partition %s, which the task hub does not have', o.seq, o.partition)
     FROM outbox AS o WHERE NOT EXISTS (SELECT 1 FROM partition AS p WHERE p.partition = o.partition) ORDER BY o.seq LIMIT $1",
    "SELECT format('there are %s rows of partitions, and the hub has %s of them', (SELECT count(*) FROM partition), partitions)
     FROM hub WHERE partitions <> (SELECT count(*) FROM partition) LIMIT $1",
];

/// The tags of instances as their rows have them, and as they are listed.
const TAGS: &str = "SELECT i.key, i.id, i.tags, i.created_at, t.tag, t.value, t.created_at
     FROM instance AS i FULL JOIN instance_tag AS t ON t.instance = i.key
     WHERE i.key IS NOT NULL AND (i.tags IS NOT NULL OR t.instance IS NOT NULL) ORDER BY i.key";

/// What is wrong with a hub, which may be in use; at most so many texts. Empty if its rows agree.
///
/// # Errors
/// Those of a hub that cannot be read.
pub(in crate::store) fn integrity(address: &Address, most: u32) -> Result<Vec<String>, StoreError> {
    let session = Session::open(address, Purpose::Manage)?;
    check_format(&session, address)?;
    session.batch(
        "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 600000",
    )?;
    let most = most as usize;
    let mut found = Vec::new();
    let mut orphans: Vec<String> = OF_INSTANCES
        .into_iter()
        .chain([&TAG])
        .filter_map(orphans)
        .collect();
    orphans.extend(CHECKS.map(str::to_owned));
    for check in orphans {
        let left = most - found.len();
        if left == 0 {
            return Ok(found);
        }
        found.extend(texts(&session, &check, left)?);
    }
    tags(&session, most, &mut found)?;
    misplaced(&session, most, &mut found)?;
    unreadable(&session, most, &mut found)?;
    Ok(found)
}

/// Messages between partitions that cannot be read. Those that are sent after them to the same partition wait.
fn unreadable(session: &Session, most: usize, found: &mut Vec<String>) -> Result<(), StoreError> {
    let mut after = i64::MIN;
    loop {
        // That a message is for none of the partitions is told anyway.
        let sql = "SELECT seq, partition, body FROM outbox
             WHERE seq > $1 AND partition < (SELECT partitions FROM hub WHERE id = 1) ORDER BY seq LIMIT 1000";
        let rows = session.query(sql, &[&after])?;
        for row in &rows {
            after = row.try_get(0)?;
            if found.len() >= most {
                return Ok(());
            }
            if let Err(error) = posted(row) {
                let partition: i16 = row.try_get(1)?;
                found.push(format!(
                    "message {after} to partition {partition} keeps those after it from being received: {error}"
                ));
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
    }
}

/// The check of a table for rows whose instance does not exist.
fn orphans(table: &'static Table) -> Option<String> {
    if [INSTANCE.id, GARBAGE.id].contains(&table.id) {
        return None;
    }
    // The garbage has all executions of an instance as -1.
    let is_left = match [TURN.id, CUT_TURN.id, REWIND.id].contains(&table.id) {
        true => {
            "AND NOT EXISTS (SELECT 1 FROM garbage AS g WHERE g.instance = t.instance AND g.execution IN (-1, t.execution))"
        }
        false => "",
    };
    let name = table.name;
    Some(format!(
        "SELECT format('the table {name} has %s rows of an instance that does not exist (key %s)', count(*), t.instance)
         FROM {name} AS t WHERE NOT EXISTS (SELECT 1 FROM instance AS i WHERE i.key = t.instance) {is_left}
         GROUP BY t.instance ORDER BY t.instance LIMIT $1"
    ))
}

/// Waits for the answer to a question about whole tables.
fn answer<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match wait(LOOK_MAX, answer) {
        Some(answer) => Ok(answer?),
        None => Err(failed("the check of the task hub took too long")),
    }
}

fn texts(session: &Session, sql: &str, most: usize) -> Result<Vec<String>, StoreError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = answer(async {
        let statement = session.client().prepare(sql).await?;
        session.client().query(&statement, &[&most]).await
    })?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The rows that a query finds, one after the other.
fn stream(session: &Session, sql: &str) -> Result<Pin<Box<RowStream>>, StoreError> {
    let rows = answer(async {
        let statement = session.client().prepare(sql).await?;
        let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
        session.client().query_raw(&statement, none).await
    })?;
    Ok(Box::pin(rows))
}

/// The tags of one instance.
struct Tagged {
    key: i64,
    id: String,
    /// What its row says: the tags, each with the time by which it is listed.
    wanted: Result<BTreeSet<Entry>, StoreError>,
    listed: BTreeSet<Entry>,
}

/// A tag, its value, and when its instance was created.
type Entry = (String, String, i64);

impl Tagged {
    fn of(row: &Row, key: i64) -> Result<Self, StoreError> {
        let created_at: i64 = row.try_get(3)?;
        let tags = decode_tags(row.try_get(2)?);
        Ok(Self {
            key,
            id: row.try_get(1)?,
            wanted: tags.map(|tags| {
                let entries = tags.into_iter();
                entries
                    .map(|(tag, value)| (tag, value, created_at))
                    .collect()
            }),
            listed: BTreeSet::new(),
        })
    }

    /// What is wrong with it.
    fn problem(self) -> Option<String> {
        let (id, key) = (self.id, self.key);
        match self.wanted {
            Err(error) => Some(format!("instance {id:?} (key {key}): {error}")),
            Ok(wanted) if wanted == self.listed => None,
            Ok(wanted) => {
                let missing = wanted.difference(&self.listed).count();
                let stray = self.listed.difference(&wanted).count();
                Some(format!(
                    "instance {id:?} (key {key}) has {missing} tags that are not in the lists by tag, and is in {stray} where it does not belong"
                ))
            }
        }
    }
}

/// Compares the tags of each instance with the lists by tag.
fn tags(session: &Session, most: usize, found: &mut Vec<String>) -> Result<(), StoreError> {
    let mut rows = stream(session, TAGS)?;
    let mut of: Option<Tagged> = None;
    while found.len() < most
        && let Some(row) = answer(rows.try_next())?
    {
        let key: i64 = row.try_get(0)?;
        if of.as_ref().is_none_or(|tagged| tagged.key != key) {
            found.extend(of.take().and_then(Tagged::problem));
            of = Some(Tagged::of(&row, key)?);
        }
        let tag: Option<String> = row.try_get(4)?;
        if let (Some(tag), Some(tagged)) = (tag, &mut of) {
            tagged
                .listed
                .insert((tag, row.try_get(5)?, row.try_get(6)?));
        }
    }
    if found.len() < most {
        found.extend(of.and_then(Tagged::problem));
    }
    Ok(())
}

/// Finds instances whose keys say another partition than their ids: their messages would go where they are not.
fn misplaced(session: &Session, most: usize, found: &mut Vec<String>) -> Result<(), StoreError> {
    let of = match lease::count(session) {
        Ok(count) => Partitions::all(count),
        Err(StoreError::Corrupt(what)) => {
            found.extend((found.len() < most).then_some(what));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut rows = stream(session, "SELECT key, id FROM instance ORDER BY key")?;
    while found.len() < most
        && let Some(row) = answer(rows.try_next())?
    {
        let (key, id): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (said, right) = (of.of_key(InstanceKey(key)), of.of_id(id));
        if said != right {
            let (said, right) = (said.0, right.0);
            found.push(format!(
                "instance {id:?} (key {key}) is in the partition {said}, and its id belongs to {right}"
            ));
        }
    }
    Ok(())
}
