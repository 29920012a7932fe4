//! The queries of a [`FileReader`].

use perennial_core::{Envelope, Message, Millis, Status, TaskId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::store::StoreError;
use crate::store::codec::{decode, decode_tags, decode_waiting, int, uint};
use crate::store::numbers::{policy_of, status_number, status_of};
use crate::store::outbox::Sent;
use crate::store::owned::Sharing;
use crate::store::queries::found::LiveChild;
use crate::store::queries::found::RewindRow;
use crate::store::sqlite::rows::commands;
use crate::store::sqlite::rows::cuts;
use crate::store::sqlite::rows::inbox::is_command;
use crate::store::sqlite::rows::keys;
use crate::store::sqlite::rows::modules;
use crate::store::sqlite::rows::reader::FileReader;
use crate::store::sqlite::rows::tasks;
use crate::store::types::{
    InboxPage, InstanceKey, InstanceRow, KeyRow, NameRows, OldVersions, TaskRow,
};

/// A page of messages ends once it has this many bytes: the maximum that a turn takes.
pub(in crate::store) const PAGE_BYTES: usize = 4 << 20;

impl FileReader {
    /// The instance with an id.
    pub(crate) fn instance(&self, id: &str) -> Result<Option<InstanceRow>, StoreError> {
        self.with(|db| one_instance(db, "id = ?1", [id]))
    }

    /// The instance with a key.
    pub(crate) fn instance_by_key(
        &self,
        key: InstanceKey,
    ) -> Result<Option<InstanceRow>, StoreError> {
        self.with(|db| instance_by_key(db, key))
    }

    /// Instances that changed after a change, oldest first. Scans all instances: for followers that were disconnected.
    #[cfg(feature = "http")]
    pub(crate) fn updated_after(
        &self,
        after: (Timestamp, i64),
        limit: u32,
        bytes_max: usize,
    ) -> Result<(Vec<InstanceRow>, bool), StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM instance WHERE updated_at >= ?1 AND (updated_at, key) > (?1, ?2) ORDER BY updated_at, key LIMIT ?3"
        );
        self.with(|db| {
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query(params![int(after.0.0), after.1, limit])?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let row = instance_of(row)?;
                bytes += row.size();
                found.push(row);
                if bytes >= bytes_max {
                    return Ok((found, true));
                }
            }
            let more = found.len() >= limit as usize;
            Ok((found, more))
        })
    }

    /// Messages of an inbox from a number on: at most `limit`, and no more than [`PAGE_BYTES`] together.
    pub(crate) fn inbox(
        &self,
        key: InstanceKey,
        from: u64,
        limit: u32,
    ) -> Result<InboxPage, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT seq, message, at FROM inbox WHERE instance = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
            )?;
            let mut rows = query.query(params![key.0, int(from), limit])?;
            let mut envelopes = Vec::new();
            let mut bytes = 0;
            let mut more = false;
            while let Some(row) = rows.next()? {
                envelopes.push(envelope(row, &mut bytes)?);
                more = envelopes.len() >= limit as usize || bytes >= PAGE_BYTES;
                if more {
                    break;
                }
            }
            Ok(InboxPage { envelopes, more })
        })
    }

    /// The commands among the messages of an inbox from a number on.
    pub(crate) fn inbox_commands(
        &self,
        key: InstanceKey,
        from: u64,
    ) -> Result<Vec<Envelope>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(concat!(
                "SELECT seq, message, at FROM inbox INDEXED BY inbox_command WHERE instance = ?1 AND seq >= ?2 AND ",
                is_command!(),
                " ORDER BY seq"
            ))?;
            let mut rows = query.query(params![key.0, int(from)])?;
            let mut envelopes = Vec::new();
            while let Some(row) = rows.next()? {
                envelopes.push(envelope(row, &mut 0)?);
            }
            Ok(envelopes)
        })
    }

    pub(crate) fn rewinds(&self, row: &InstanceRow) -> Result<Vec<RewindRow>, StoreError> {
        if row.generation == 0 {
            return Ok(Vec::new());
        }
        self.with(|db| cuts::rewinds(db, row.key, row.execution))
    }

    #[cfg(feature = "http")]
    pub(crate) fn first_cut(
        &self,
        row: &InstanceRow,
        since: u32,
    ) -> Result<Option<u64>, StoreError> {
        self.with(|db| cuts::first_cut(db, row.key, row.execution, since))
    }

    /// Live instances with messages in their inbox; a start that is scheduled after `now` does not count.
    pub(crate) fn with_messages(&self, now: Timestamp) -> Result<Vec<InstanceKey>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare(
                "SELECT waiting.instance FROM (SELECT instance, count(*) AS count FROM inbox GROUP BY instance) waiting
                 CROSS JOIN instance ON instance.key = waiting.instance
                 WHERE status < 3 AND (count > 1 OR status <> 0 OR coalesce(scheduled_for, 0) <= ?1)",
            )?;
            let rows = query.query_map([int(now.0)], |row| Ok(InstanceKey(row.get(0)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The first terminate in an inbox, which may also contain unreadable messages.
    pub(crate) fn terminate_in(&self, key: InstanceKey) -> Result<Option<Envelope>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(concat!(
                "SELECT seq, message, at FROM inbox INDEXED BY inbox_command WHERE instance = ?1 AND ",
                is_command!(),
                " ORDER BY seq"
            ))?;
            let mut rows = query.query([key.0])?;
            while let Some(row) = rows.next()? {
                let read = envelope(row, &mut 0);
                if let Ok(found @ Envelope { message: Message::Terminate { .. }, .. }) = read {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    /// The first cancellation in an inbox, which its instance has not been told of.
    pub(crate) fn cancel_in(&self, key: InstanceKey) -> Result<Option<Envelope>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT seq, message, at FROM inbox WHERE instance = ?1 AND substr(message, 1, 2) = X'010D' ORDER BY seq LIMIT 1",
            )?;
            let mut rows = query.query([key.0])?;
            let found = rows.next()?.map(|row| envelope(row, &mut 0));
            found.transpose()
        })
    }

    /// Instances that are suspended.
    pub(crate) fn suspended(&self) -> Result<Vec<InstanceKey>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare("SELECT key FROM instance WHERE status = ?1")?;
            let rows = query.query_map([status_number(Status::Suspended)], |row| {
                Ok(InstanceKey(row.get(0)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// How long an instance may run, if that is limited.
    pub(crate) fn execution_timeout(&self, key: InstanceKey) -> Result<Option<Millis>, StoreError> {
        self.with(|db| {
            let mut query =
                db.prepare_cached("SELECT execution_timeout FROM instance WHERE key = ?1")?;
            let limit: Option<i64> = query
                .query_row([key.0], |row| row.get(0))
                .optional()?
                .flatten();
            Ok(limit.map(|limit| Millis(uint(limit))))
        })
    }

    /// Open tasks of one instance.
    pub(crate) fn tasks_of(&self, key: InstanceKey) -> Result<Vec<TaskRow>, StoreError> {
        self.tasks("WHERE instance = ?1 ORDER BY task", [key.0])
    }

    /// One open task.
    pub(crate) fn task(
        &self,
        key: InstanceKey,
        task: TaskId,
    ) -> Result<Option<TaskRow>, StoreError> {
        let rows = self.tasks(
            "WHERE instance = ?1 AND task = ?2",
            [key.0, i64::from(task.0)],
        )?;
        Ok(rows.into_iter().next())
    }

    /// Activities that may run at once, after a place in the order of instance and task.
    pub(crate) fn ready_activities(
        &self,
        after: (InstanceKey, i64),
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.tasks(
            "WHERE due IS NULL AND kind = 0 AND (instance, task) > (?1, ?2) ORDER BY instance, task LIMIT ?3",
            [after.0.0, after.1, i64::from(limit)],
        )
    }

    /// Tasks that come due after a time (and, at that time, after a place in the order of instance and task), in due order.
    pub(crate) fn due_tasks(
        &self,
        after: (Timestamp, InstanceKey, i64),
        limit: u32,
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.tasks(
            "WHERE due IS NOT NULL AND due >= ?1 AND (due, instance, task) > (?1, ?2, ?3) ORDER BY due, instance, task LIMIT ?4",
            [int(after.0.0), after.1.0, after.2, i64::from(limit)],
        )
    }

    fn tasks<const N: usize>(
        &self,
        clause: &str,
        values: [i64; N],
    ) -> Result<Vec<TaskRow>, StoreError> {
        self.with(|db| {
            let mut query =
                db.prepare_cached(&format!("SELECT {} FROM task {clause}", tasks::COLUMNS))?;
            let mut rows = query.query(params_from_iter(values))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(tasks::read(row)?);
            }
            Ok(found)
        })
    }

    /// Ids and statuses of the live children of an instance, with what becomes of them when it ends, and their number.
    pub(crate) fn live_children(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<(Vec<LiveChild>, u64), StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT id, status, when_dropped FROM instance WHERE parent_key = ?1 AND status < 3 ORDER BY status, key LIMIT ?2",
            )?;
            let mut rows = query.query(params![key.0, limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let policy = policy_of(row.get(2)?)?;
                found.push((row.get(0)?, status_of(row.get(1)?)?, policy));
            }
            let mut all = found.len() as u64;
            if all == u64::from(limit) {
                let mut count = db.prepare_cached(
                    "SELECT count(*) FROM instance WHERE parent_key = ?1 AND status < 3",
                )?;
                all = uint(count.query_row([key.0], |row| row.get(0))?);
            }
            Ok((found, all))
        })
    }

    /// The ended children of an instance after a key, in the order of their keys.
    pub(crate) fn ended_children(
        &self,
        key: InstanceKey,
        after: InstanceKey,
        limit: u32,
    ) -> Result<Vec<InstanceKey>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT key FROM instance WHERE parent_key = ?1 AND status >= 3 AND key > ?2 ORDER BY key LIMIT ?3",
            )?;
            let rows = query.query_map(params![key.0, after.0, limit], |row| {
                Ok(InstanceKey(row.get(0)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Children whose parent had this id and no longer exists: it was purged, or `key` is another instance with its id. Returns the live or
    /// the ended ones, in the order of their keys.
    pub(crate) fn left_behind(
        &self,
        id: &str,
        key: Option<InstanceKey>,
        live: bool,
        limit: u32,
    ) -> Result<Vec<(InstanceKey, String)>, StoreError> {
        self.with(|db| {
            // The index contains the status, so that the query reads only matching rows.
            let mut query = db.prepare_cached(
                "SELECT i.key, i.id FROM instance AS i INDEXED BY instance_parent
                 WHERE i.parent_key IS NOT NULL AND (i.status < 3) = ?2 AND i.parent_id = ?1 AND i.parent_key IS NOT ?3
                     AND NOT EXISTS (SELECT 1 FROM instance AS p WHERE p.key = i.parent_key)
                 ORDER BY i.key LIMIT ?4",
            )?;
            let of = params![id, live, key.map(|key| key.0), limit];
            let rows = query.query_map(of, |row| Ok((InstanceKey(row.get(0)?), row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Ids of the first children of an instance, in start order.
    pub(crate) fn child_ids(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT id FROM instance WHERE parent_key = ?1 ORDER BY key LIMIT ?2",
            )?;
            let rows = query.query_map(params![key.0, limit], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The first open tasks of an instance, and the number of all.
    pub(crate) fn first_tasks(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<(Vec<TaskRow>, u64), StoreError> {
        let tasks = self.tasks(
            "WHERE instance = ?1 ORDER BY task LIMIT ?2",
            [key.0, i64::from(limit)],
        )?;
        if tasks.len() < limit as usize {
            let all = tasks.len() as u64;
            return Ok((tasks, all));
        }
        self.with(|db| {
            let mut count = db.prepare_cached("SELECT count(*) FROM task WHERE instance = ?1")?;
            Ok((tasks, uint(count.query_row([key.0], |row| row.get(0))?)))
        })
    }

    /// The time of the last commit, by the clock of its host.
    pub(crate) fn last_commit(&self) -> Result<Timestamp, StoreError> {
        self.with(|db| {
            let at: i64 = db.query_row("SELECT at FROM hub", [], |row| row.get(0))?;
            Ok(Timestamp(uint(at)))
        })
    }

    /// Tasks whose due time was set by a clock ahead of `now`: for a host whose clock was set back. Scans all tasks due after `now`.
    pub(crate) fn tasks_set_after(&self, now: Timestamp) -> Result<Vec<TaskRow>, StoreError> {
        let mut rows = self.tasks("WHERE due IS NOT NULL AND due > ?1", [int(now.0)])?;
        rows.retain(|row| row.set_at > now);
        Ok(rows)
    }

    /// The highest key in use.
    pub(crate) fn last_key(&self) -> Result<InstanceKey, StoreError> {
        self.with(|db| {
            // Each owner begins far above all earlier owners, so that no key is reused, even if its instance was deleted.
            let sql = "SELECT max(owner_epoch << 40, coalesce((SELECT max(key) FROM instance), 0),
                 coalesce((SELECT max(instance) FROM garbage), 0)) FROM hub";
            Ok(InstanceKey(db.query_row(sql, [], |row| row.get(0))?))
        })
    }

    /// How many hosts crashed while they ran a turn of the instance.
    pub(crate) fn deliveries(&self, key: InstanceKey) -> Result<u32, StoreError> {
        self.with(|db| {
            let mut query = db.prepare_cached("SELECT deliveries FROM instance WHERE key = ?1")?;
            Ok(query
                .query_row([key.0], |row| row.get(0))
                .optional()?
                .unwrap_or(0))
        })
    }

    /// The hub is not divided, so that nothing is sent between partitions.
    pub(crate) fn outbox(&self, _: u32) -> Result<Vec<Sent>, StoreError> {
        Ok(Vec::new())
    }

    /// Whether rows of deleted instances are still to be removed.
    pub(crate) fn has_garbage(&self) -> Result<bool, StoreError> {
        self.with(|db| {
            Ok(
                db.query_row("SELECT EXISTS (SELECT 1 FROM garbage)", [], |row| {
                    row.get(0)
                })?,
            )
        })
    }

    /// When the hub was created.
    pub(crate) fn created_at(&self) -> Result<Timestamp, StoreError> {
        self.with(|db| {
            let at: i64 = db.query_row("SELECT created_at FROM hub", [], |row| row.get(0))?;
            Ok(Timestamp(uint(at)))
        })
    }

    /// A file has one owner, which is said beside it.
    pub(crate) fn sharing(&self) -> Result<Option<Sharing>, StoreError> {
        Ok(None)
    }

    /// It has one partition.
    pub(crate) fn oldest_sent(&self) -> Result<Option<i64>, StoreError> {
        Ok(None)
    }

    pub(crate) fn names(&self) -> Result<NameRows, StoreError> {
        self.with(modules::names)
    }

    pub(crate) fn digests(&self) -> Result<Vec<perennial_core::Digest>, StoreError> {
        self.with(modules::digests)
    }

    pub(crate) fn component(
        &self,
        digest: perennial_core::Digest,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|db| modules::component(db, digest))
    }

    pub(crate) fn grants(
        &self,
        digest: perennial_core::Digest,
    ) -> Result<Option<String>, StoreError> {
        self.with(|db| modules::grants(db, digest))
    }

    pub(crate) fn find_module(
        &self,
        text: &str,
    ) -> Result<Vec<perennial_core::Digest>, StoreError> {
        self.with(|db| modules::find(db, text))
    }

    pub(crate) fn defines(
        &self,
        digest: perennial_core::Digest,
        orchestration: &str,
    ) -> Result<bool, StoreError> {
        self.with(|db| modules::defines(db, digest, orchestration))
    }

    pub(crate) fn collectable(
        &self,
        old: OldVersions,
    ) -> Result<Vec<crate::store::CollectedModule>, StoreError> {
        self.with(|db| modules::collectable(db, old))
    }

    pub(crate) fn modules(&self) -> Result<Vec<crate::store::ModuleRow>, StoreError> {
        self.with(modules::list)
    }

    pub(crate) fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        self.with(keys::list)
    }

    pub(crate) fn unanswered(&self, limit: u32) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.with(|db| commands::unanswered(db, limit))
    }

    pub(crate) fn answer(&self, token: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|db| commands::read_answer(db, token))
    }
}

pub(in crate::store) const COLUMNS: &str = "key, id, name, version, module, status, execution, execution_id, generation, next_event, turns, history_bytes, \
     inbox_next, returned, created_at, started_at, updated_at, scheduled_for, iif(parent_id IS NULL, NULL, parent), parent_key, tags, custom_status, output, \
     failure, waiting, quarantine, value_count";

/// The instance with a key.
/// Reads an inbox row: number, message, arrival time. Adds its size to `bytes`.
fn envelope(row: &Row<'_>, bytes: &mut usize) -> Result<Envelope, StoreError> {
    let encoded = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
    *bytes += encoded.len();
    Ok(Envelope {
        seq: Some(uint(row.get(0)?)),
        at: Timestamp(uint(row.get(2)?)),
        message: decode(encoded, "a message")?,
    })
}

pub(crate) fn instance_by_key(
    db: &Connection,
    key: InstanceKey,
) -> Result<Option<InstanceRow>, StoreError> {
    one_instance(db, "key = ?1", [key.0])
}

fn one_instance(
    db: &Connection,
    clause: &str,
    value: impl rusqlite::Params,
) -> Result<Option<InstanceRow>, StoreError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM instance WHERE {clause}"))?;
    let mut rows = query.query(value)?;
    rows.next()?.map(instance_of).transpose()
}

pub(in crate::store) fn instance_of(row: &Row<'_>) -> Result<InstanceRow, StoreError> {
    use perennial_core::{Digest, Json};
    let time = |column| -> Result<Option<Timestamp>, StoreError> {
        Ok(row.get::<_, Option<i64>>(column)?.map(uint).map(Timestamp))
    };
    let json = |column| -> Result<Option<Json>, StoreError> {
        Ok(row.get::<_, Option<String>>(column)?.map(Json::from_text))
    };
    let blob = |column| -> Result<Option<Vec<u8>>, StoreError> { Ok(row.get(column)?) };
    Ok(InstanceRow {
        key: InstanceKey(row.get(0)?),
        id: row.get(1)?,
        name: row.get(2)?,
        version: row.get(3)?,
        module: row.get::<_, Option<[u8; 32]>>(4)?.map(Digest),
        status: status_of(row.get(5)?)?,
        execution: row.get(6)?,
        execution_id: row.get(7)?,
        generation: row.get(8)?,
        next_event: uint(row.get(9)?),
        turns: row.get(10)?,
        history_bytes: uint(row.get(11)?),
        returned: row.get(13)?,
        created_at: time(14)?.unwrap_or_default(),
        started_at: time(15)?,
        updated_at: time(16)?.unwrap_or_default(),
        scheduled_for: time(17)?,
        parent_key: row.get::<_, Option<i64>>(19)?.map(InstanceKey),
        parent: blob(18)?
            .map(|bytes| decode(&bytes, "a parent"))
            .transpose()?,
        tags: decode_tags(row.get(20)?)?,
        custom_status: json(21)?,
        output: json(22)?,
        failure: blob(23)?
            .map(|bytes| decode(&bytes, "the failure of an instance"))
            .transpose()?,
        waiting: blob(24)?
            .map(|bytes| decode_waiting(&bytes))
            .transpose()?
            .unwrap_or_default(),
        quarantine: blob(25)?
            .map(|bytes| decode(&bytes, "the quarantine of an instance"))
            .transpose()?,
        value_count: row.get(26)?,
    })
}
