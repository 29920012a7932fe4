//! Looks at instances: what conditions need that no index contains is read for many at once.

use std::collections::HashMap;

use perennial_core::{Status, TaskId, Timestamp};
use tokio_postgres::Row;

use crate::store::codec::{decode_failure_kind, uint};
use crate::store::numbers::{status_number, status_of, task_kind_of};
use crate::store::postgres::indexes::by;
use crate::store::postgres::pool::Conn;
use crate::store::postgres::reads::PostgresReader;
use crate::store::postgres::reads::walks::Entries;
use crate::store::postgres::source::{small, state, time};
use crate::store::queries::filter::{InstanceFilter, ListPlace};
use crate::store::queries::found::WaitCounts;
use crate::store::queries::looks::{ASKED_MAX, Looks, Seen, Sight};
use crate::store::queries::waits::WaitKind;
use crate::store::sqlite::rows::wait_counts::LIVE_LOOKED_MAX;
use crate::store::{StoreError, TaskRowKind};

/// Bytes of a failure that are read to know its kind, which comes first; the rest may have many.
pub(super) const KIND_BYTES: usize = 1_024;

/// Joins the instances of entries `e` that match. Written as a plain join, PostgreSQL would walk all instances once more for each entry if it
/// believed that there are few.
pub(super) const OF_ENTRIES: &str =
    "LEFT JOIN LATERAL (SELECT * FROM instance WHERE key = e.key AND e.fits OFFSET 0) AS i ON true";

/// Which contents of instances are read.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    failure: bool,
    waiting: bool,
    tasks: bool,
    child: bool,
    asked: bool,
    turn: bool,
}

impl Wanted {
    const OF_WAITS: Self = Self {
        failure: false,
        waiting: true,
        tasks: true,
        child: true,
        asked: true,
        turn: true,
    };

    fn of(filter: &InstanceFilter) -> Self {
        let wait = filter.waits_for.as_ref().map(|wait| wait.kind());
        Self {
            failure: filter.failure_kind.is_some(),
            waiting: wait.is_some_and(WaitKind::is_named),
            tasks: matches!(
                wait,
                Some(WaitKind::Activity | WaitKind::Retry | WaitKind::Timer | WaitKind::Start)
            ),
            child: wait == Some(WaitKind::Child),
            asked: wait == Some(WaitKind::Answer),
            turn: wait == Some(WaitKind::Worker),
        }
    }

    /// The columns of an instance `i`, in the order in which [`Contents::of`] reads them.
    fn columns(self) -> String {
        let only_if = |is_wanted, column: String, kind| {
            if is_wanted {
                column
            } else {
                format!("NULL::{kind}")
            }
        };
        let asked = |column| {
            format!(
                "(SELECT array_agg(a.{column} ORDER BY a.task) FROM
                     (SELECT r.task, r.name FROM request AS r WHERE r.asker = i.key AND r.execution = i.execution
                          AND r.generation = i.generation AND r.answer IS NULL ORDER BY r.task LIMIT {ASKED_MAX}) AS a)"
            )
        };
        let tasks = "(SELECT array_agg((t.kind * 2 + CASE WHEN t.failure IS NULL THEN 0 ELSE 1 END)::smallint ORDER BY t.task)
             FROM task AS t WHERE t.instance = i.key)";
        let child = concat!(
            "(SELECT true FROM instance AS c WHERE c.parent_key = i.key AND c.status < 3 AND c.",
            by!(parent),
            " ORDER BY c.status, c.key LIMIT 1)"
        );
        let turn = "((SELECT true FROM inbox AS m WHERE m.instance = i.key LIMIT 1)
             AND (SELECT true FROM task AS t WHERE t.instance = i.key AND t.kind = 3 LIMIT 1) IS NULL)";
        let failure = format!("substring(i.failure FROM 1 FOR {KIND_BYTES})");
        [
            "i.status, i.updated_at".to_owned(),
            only_if(self.failure, failure, "bytea"),
            only_if(self.waiting, "i.waiting".to_owned(), "bytea"),
            "i.quarantine IS NOT NULL, i.module IS NOT NULL, i.execution, i.generation".to_owned(),
            only_if(self.tasks, tasks.to_owned(), "smallint[]"),
            only_if(self.child, child.to_owned(), "boolean"),
            only_if(self.asked, asked("task"), "bigint[]"),
            only_if(self.asked, asked("name"), "text[]"),
            only_if(self.turn, turn.to_owned(), "boolean"),
        ]
        .join(", ")
    }
}

/// What was read of an instance.
#[derive(Debug)]
pub(super) struct Contents {
    seen: Seen,
    tasks: Vec<(TaskRowKind, bool)>,
    has_child: bool,
    asked: Vec<(TaskId, String)>,
    has_turn: bool,
}

impl Contents {
    /// Reads a row of [`Wanted::columns`], after the key. `None` if there is no such instance.
    fn of(conn: &Conn<'_>, row: &Row, key: i64) -> Result<Option<Self>, StoreError> {
        if row.try_get::<_, Option<i16>>(4)?.is_none() {
            return Ok(None);
        }
        let mut tasks = Vec::new();
        for task in row.try_get::<_, Option<Vec<i16>>>(12)?.unwrap_or_default() {
            let kind = u8::try_from(task / 2).unwrap_or(u8::MAX);
            tasks.push((task_kind_of(kind)?, task % 2 == 1));
        }
        let ids: Vec<i64> = row.try_get::<_, Option<_>>(14)?.unwrap_or_default();
        let names: Vec<String> = row.try_get::<_, Option<_>>(15)?.unwrap_or_default();
        let ids = ids
            .into_iter()
            .map(|id| TaskId(u32::try_from(id).unwrap_or(u32::MAX)));
        Ok(Some(Self {
            seen: Seen {
                key,
                status: status_of(state(row, 4)?)?,
                updated_at: time(row, 5)?.unwrap_or_default(),
                failure: match row.try_get(6)? {
                    Some(start) => Some(kind_bytes(conn, key, start)?),
                    None => None,
                },
                waiting: row.try_get(7)?,
                is_quarantined: row.try_get(8)?,
                has_module: row.try_get(9)?,
                execution: small(row, 10)?,
                generation: small(row, 11)?,
            },
            tasks,
            has_child: row.try_get::<_, Option<bool>>(13)?.unwrap_or(false),
            asked: ids.zip(names).collect(),
            has_turn: row.try_get::<_, Option<bool>>(16)?.unwrap_or(false),
        }))
    }
}

/// The bytes of a failure from which its kind can be read: those at its start, unless the kind is longer.
pub(super) fn kind_bytes(conn: &Conn<'_>, key: i64, start: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    if start.len() < KIND_BYTES || decode_failure_kind(&start).is_ok() {
        return Ok(start);
    }
    let row = conn.query_opt("SELECT failure FROM instance WHERE key = $1", &[&key])?;
    match row {
        Some(row) => Ok(row.try_get::<_, Option<Vec<u8>>>(0)?.unwrap_or(start)),
        None => Ok(start),
    }
}

/// Candidates, and what was read of those that may match.
pub(super) struct Chunk {
    pub(super) places: Vec<(ListPlace, bool)>,
    pub(super) seen: HashMap<i64, Contents>,
}

impl Chunk {
    /// Reads the candidates of a walk.
    pub(super) fn read(
        conn: &Conn<'_>,
        entries: &Entries,
        filter: &InstanceFilter,
    ) -> Result<Self, StoreError> {
        Self::of(
            conn,
            &entries.text,
            &entries.values.params(),
            Wanted::of(filter),
        )
    }

    fn of(
        conn: &Conn<'_>,
        entries: &str,
        params: &[crate::store::postgres::session::Param<'_>],
        wanted: Wanted,
    ) -> Result<Self, StoreError> {
        let sql = format!(
            "SELECT e.at, e.key, e.fits, e.n, {} FROM (SELECT w.at, w.key, w.fits, row_number() OVER () AS n FROM ({entries}) AS w) AS e
             {OF_ENTRIES} ORDER BY e.n",
            wanted.columns()
        );
        let mut chunk = Self {
            places: Vec::new(),
            seen: HashMap::new(),
        };
        for row in &conn.query(&sql, params)? {
            let (at, key): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            chunk
                .places
                .push(((Timestamp(uint(at)), key), row.try_get(2)?));
            if let Some(contents) = Contents::of(conn, row, key)? {
                chunk.seen.insert(key, contents);
            }
        }
        Ok(chunk)
    }
}

/// The instances of the last chunk.
#[derive(Default)]
pub(super) struct Shown(HashMap<i64, Contents>);

impl Shown {
    /// Shows the instances of the next chunk.
    pub(super) fn show(&mut self, seen: HashMap<i64, Contents>) {
        self.0 = seen;
    }
}

/// Looks under a filter, at nothing yet.
pub(super) fn looked(filter: &InstanceFilter) -> Looks<'_, Shown> {
    Looks::new(Shown::default(), filter)
}

impl Sight for Shown {
    fn see(&mut self, key: i64) -> Result<Option<Seen>, StoreError> {
        Ok(self.0.get(&key).map(|contents| contents.seen.clone()))
    }

    fn tasks(
        &mut self,
        key: i64,
        told: &mut dyn FnMut(TaskRowKind, bool) -> bool,
    ) -> Result<(), StoreError> {
        let mut tasks = self
            .0
            .get(&key)
            .into_iter()
            .flat_map(|contents| &contents.tasks);
        tasks.any(|(kind, has_failed)| told(*kind, *has_failed));
        Ok(())
    }

    fn asked(
        &mut self,
        seen: &Seen,
        told: &mut dyn FnMut(TaskId, &str) -> bool,
    ) -> Result<(), StoreError> {
        let mut asked = self
            .0
            .get(&seen.key)
            .into_iter()
            .flat_map(|contents| &contents.asked);
        asked.any(|(task, name)| told(*task, name));
        Ok(())
    }

    fn has_child(&mut self, key: i64) -> Result<bool, StoreError> {
        Ok(self.0.get(&key).is_some_and(|contents| contents.has_child))
    }

    fn has_turn(&mut self, key: i64) -> Result<bool, StoreError> {
        Ok(self.0.get(&key).is_some_and(|contents| contents.has_turn))
    }
}

impl PostgresReader {
    pub(in crate::store) fn wait_counts(&self) -> Result<WaitCounts, StoreError> {
        let filter = InstanceFilter {
            waits_for: Some(WaitKind::Event.into()),
            ..InstanceFilter::default()
        };
        let sql = concat!(
            "SELECT created_at AS at, key, true AS fits FROM instance WHERE status = $1::bigint::smallint AND ",
            by!(status),
            " ORDER BY created_at, key LIMIT $2"
        );
        self.pool.snapshot(|conn| {
            let mut looks = looked(&filter);
            let (mut found, mut left) = (WaitCounts::default(), LIVE_LOOKED_MAX);
            let mut counts = WaitKind::ALL.map(|kind| (kind, 0));
            for status in [Status::Suspended, Status::Pending, Status::Running] {
                let params = (i64::from(status_number(status)), i64::from(left) + 1);
                let chunk = Chunk::of(conn, sql, &[&params.0, &params.1], Wanted::OF_WAITS)?;
                looks.sight.show(chunk.seen);
                for ((_, key), _) in chunk.places {
                    let Some(after) = left.checked_sub(1) else {
                        found.is_partial = true;
                        break;
                    };
                    left = after;
                    let waits = looks.kinds(key)?;
                    for (_, count) in counts.iter_mut().filter(|(kind, _)| waits.contains(kind)) {
                        *count += 1;
                    }
                }
            }
            found.counts = counts.into_iter().filter(|(_, count)| *count > 0).collect();
            Ok(found)
        })
    }
}
