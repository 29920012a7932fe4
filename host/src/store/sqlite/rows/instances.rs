//! Rows of instances.

use perennial_core::{
    ChildPolicy, Digest, Millis, Parent, Quarantine, Start, Status, Tags, Timestamp, Turn,
};
use rusqlite::{OptionalExtension, params};

use crate::store::codec::{decode, decode_tags, encode, encode_tags, int, uint};
use crate::store::numbers::{policy_number, policy_of, status_number, status_of};
use crate::store::rows::Found;
use crate::store::rows::instances::{
    Child, Continued, Deleted, Head, InstanceRows, NewRow, PutBack, Recorded,
};
use crate::store::sqlite::rows::queries;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::sqlite::rows::tags;
use crate::store::types::{InstanceKey, InstanceRow, NewInstance, Position, Summary, began};

/// The statement that updates a row if the instance is still where the turn began. Callers add further columns only if they changed: setting
/// an indexed column costs an update of the index even if the value stays the same.
macro_rules! update_row {
    ($more:literal) => {
        update_row!($more, "")
    };
    ($more:literal, $returning:literal) => {
        concat!(
            "UPDATE instance SET next_event = ?1, turns = ?2, history_bytes = ?3, updated_at = ?4, returned = ?5,
                 waiting = iif(?12, ?6, waiting), unread_bytes = iif(?12, ?13, unread_bytes), custom_status = ?7, deliveries = 0",
            $more,
            " WHERE key = ?8 AND execution = ?9 AND generation = ?10 AND next_event = ?11",
            $returning
        )
    };
}

impl InstanceRows for Sql<'_> {
    fn find(&mut self, id: &str) -> Found<Option<(InstanceKey, Status)>> {
        let mut query = self
            .0
            .prepare_cached("SELECT key, status FROM instance WHERE id = ?1")?;
        let row: Option<(i64, u8)> = query
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        row.map(|(key, status)| Ok((InstanceKey(key), status_of(status)?)))
            .transpose()
    }

    fn status(&mut self, key: InstanceKey) -> Found<Option<Status>> {
        let mut query = self
            .0
            .prepare_cached("SELECT status FROM instance WHERE key = ?1")?;
        let status: Option<u8> = query.query_row([key.0], |row| row.get(0)).optional()?;
        status.map(status_of).transpose()
    }

    fn head(&mut self, key: InstanceKey) -> Found<Option<Head>> {
        let mut query = self.0.prepare_cached(
            "SELECT id, status, execution, generation, next_event, parent, parent_key, parent_id, module, quarantine IS NOT NULL, created_at
             FROM instance WHERE key = ?1",
        )?;
        let mut rows = query.query([key.0])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let parent: Option<Vec<u8>> = row.get(5)?;
        Ok(Some(Head {
            id: row.get(0)?,
            status: status_of(row.get(1)?)?,
            position: Position {
                execution: row.get(2)?,
                generation: row.get(3)?,
                next_event: uint(row.get(4)?),
            },
            parent: parent.map(|bytes| decode(&bytes, "a parent")).transpose()?,
            parent_key: row.get::<_, Option<i64>>(6)?.map(InstanceKey),
            parent_id: row.get(7)?,
            module: row.get::<_, Option<[u8; 32]>>(8)?.map(Digest),
            is_quarantined: row.get(9)?,
            created_at: Timestamp(uint(row.get(10)?)),
        }))
    }

    fn parent(&mut self, key: InstanceKey) -> Found<Option<(InstanceKey, Parent)>> {
        let mut query = self.0.prepare_cached(
            "SELECT parent_key, parent FROM instance WHERE key = ?1 AND parent_key IS NOT NULL AND parent IS NOT NULL",
        )?;
        let found: Option<(i64, Vec<u8>)> = query
            .query_row([key.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let place =
            |(key, bytes): (i64, Vec<u8>)| Ok((InstanceKey(key), decode(&bytes, "a parent")?));
        found.map(place).transpose()
    }

    fn instance(&mut self, key: InstanceKey) -> Found<Option<InstanceRow>> {
        queries::instance_by_key(self.0, key)
    }

    fn insert_instance(&mut self, new: &NewInstance, row: &NewRow<'_>) -> Found<()> {
        let start = &new.start;
        let waiting = row
            .after
            .filter(|after| !after.status.is_end())
            .map(|after| encode(&after.waiting))
            .transpose()?;
        let failure = row.after.and_then(|after| after.failure.as_ref());
        self.0.prepare_cached(
            "INSERT INTO instance (key, id, name, version, module, status, execution, execution_id, generation, next_event, turns,
                 history_bytes, inbox_next, returned, deliveries, created_at, started_at, updated_at, scheduled_for, parent_id, parent_key,
                 parent, tags, custom_status, output, failure, waiting)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)",
        )?
        .execute(params![
            new.key.0,
            start.instance_id,
            start.name,
            start.version,
            start.module.map(|digest| digest.0),
            status_number(row.status),
            start.execution,
            start.execution_id,
            int(row.next_event),
            row.turns,
            int(row.after.map_or(0, |after| after.history_bytes)),
            int(row.inbox_next),
            row.after.is_some_and(|after| after.returned),
            int(start.accepted_at.0),
            row.started_at.map(|at| int(at.0)),
            int(row.updated_at.0),
            start.scheduled_for.map(|at| int(at.0)),
            start.parent.as_ref().map(|parent| parent.instance_id.as_str()),
            new.parent.map(|key| key.0),
            start.parent.as_ref().map(encode).transpose()?,
            encode_tags(&start.tags),
            row.after.and_then(|after| after.custom_status.as_ref()).map(|json| json.as_str()),
            row.after.and_then(|after| after.output.as_ref()).map(|json| json.as_str()),
            failure.map(encode).transpose()?,
            waiting,
        ])?;
        if !start.tags.is_empty() {
            tags::enlist(self.0, new.key)?;
        }
        Ok(())
    }

    fn set_options(
        &mut self,
        key: InstanceKey,
        when_dropped: ChildPolicy,
        execution_timeout: Option<Millis>,
    ) -> Found<()> {
        let limit = execution_timeout.map(|limit| int(limit.0));
        self.0
            .prepare_cached(
                "UPDATE instance SET when_dropped = ?1, execution_timeout = ?2 WHERE key = ?3",
            )?
            .execute(params![policy_number(when_dropped), limit, key.0])?;
        Ok(())
    }

    fn execution_timeout(&mut self, key: InstanceKey) -> Found<Option<Millis>> {
        let mut query = self
            .0
            .prepare_cached("SELECT execution_timeout FROM instance WHERE key = ?1")?;
        let limit: Option<i64> = query
            .query_row([key.0], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(limit.map(|limit| Millis(uint(limit))))
    }

    fn record_turn(
        &mut self,
        key: InstanceKey,
        expected: Position,
        before: Status,
        turn: &Turn,
        after: &Summary,
    ) -> Found<Option<Recorded>> {
        let waiting = (!after.status.is_end())
            .then(|| encode(&after.waiting))
            .transpose()?;
        let at = params![
            int(turn.next_event()),
            turn.number + 1,
            int(after.history_bytes),
            int(turn.at.0),
            after.returned,
            waiting,
            after.custom_status.as_ref().map(|json| json.as_str()),
            key.0,
            expected.execution,
            expected.generation,
            int(expected.next_event),
            // Only the guest knows what it waits for. A turn that did not ask it (it may not be in memory) leaves the column as it was.
            turn.answer.is_some() || after.status.is_end(),
            int(after.unread_bytes),
        ];
        if before == after.status && !after.status.is_end() {
            let changed = self.0.prepare_cached(update_row!(""))?.execute(at)?;
            return Ok((changed == 1).then(Recorded::default));
        }
        let failure = after.failure.as_ref().map(encode).transpose()?;
        let status = params![
            status_number(after.status),
            after.output.as_ref().map(|json| json.as_str()),
            failure,
            began(after).then_some(int(turn.at.0)),
        ];
        let and_status = update_row!(
            ", status = ?14, output = ?15, failure = ?16, started_at = coalesce(started_at, ?17), quarantine = NULL",
            " RETURNING has_requests, module"
        );
        let recorded =
            self.0
                .prepare_cached(and_status)?
                .query_row(&[at, status].concat()[..], |row| {
                    Ok(Recorded {
                        has_requests: row.get(0)?,
                        module: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest),
                    })
                });
        Ok(recorded.optional()?)
    }

    fn add_epilogue(&mut self, key: InstanceKey, turn: &Turn, history_bytes: u64) -> Found<()> {
        self.0
            .prepare_cached(
                "UPDATE instance SET next_event = ?1, turns = ?2, history_bytes = ?3 WHERE key = ?4",
            )?
            .execute(params![
                int(turn.next_event()),
                turn.number + 1,
                int(history_bytes),
                key.0,
            ])?;
        Ok(())
    }

    fn next_execution(&mut self, key: InstanceKey, start: &Start) -> Found<Continued> {
        let mut update = self.0.prepare_cached(
            "UPDATE instance SET execution = ?1, execution_id = ?2, version = ?3, module = ?4, generation = 0, next_event = 0, turns = 0,
                 history_bytes = 0, waiting = NULL, unread_bytes = 0
             WHERE key = ?5 RETURNING tags, has_requests",
        )?;
        let at = params![
            start.execution,
            start.execution_id,
            start.version,
            start.module.map(|d| d.0),
            key.0
        ];
        let (tags, has_requests): (Option<String>, bool) =
            update.query_row(at, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Continued {
            tags: decode_tags(tags)?,
            has_requests,
        })
    }

    fn restart(
        &mut self,
        key: InstanceKey,
        expected: Position,
        start: &Start,
        now: Timestamp,
    ) -> Found<bool> {
        // The creation time is part of its position in the lists by tag.
        tags::delist(self.0, key)?;
        let changed = self
            .0
            .prepare_cached(
                "UPDATE instance SET status = 0, execution = ?1, execution_id = ?2, version = ?3, module = ?4, generation = 0, next_event = 0,
                     turns = 0, history_bytes = 0, returned = 0, deliveries = 0, created_at = ?5, started_at = NULL, updated_at = ?5,
                     scheduled_for = NULL, parent = iif(parent_key IS NULL AND parent_id IS NOT NULL, NULL, parent), parent_id = NULL,
                     parent_key = NULL, custom_status = NULL, output = NULL, failure = NULL, waiting = NULL, quarantine = NULL,
                     unread_bytes = 0, value_count = 0, has_requests = 0
                 WHERE key = ?6 AND execution = ?7 AND generation = ?8 AND next_event = ?9",
            )?
            .execute(params![
                start.execution,
                start.execution_id,
                start.version,
                start.module.map(|digest| digest.0),
                int(now.0),
                key.0,
                expected.execution,
                expected.generation,
                int(expected.next_event),
            ])?;
        tags::enlist(self.0, key)?;
        Ok(changed == 1)
    }

    fn put_back(&mut self, key: InstanceKey, to: &PutBack<'_>, now: Timestamp) -> Found<()> {
        self.0.prepare_cached(
            "UPDATE instance SET status = ?1, generation = ?2, next_event = ?3, turns = ?4, history_bytes = ?5, returned = 0, deliveries = 0,
                 updated_at = ?6, module = coalesce(?7, module), custom_status = ?8, output = NULL, failure = NULL, waiting = ?10,
                 unread_bytes = 0, quarantine = NULL
             WHERE key = ?9",
        )?
        .execute(params![
            status_number(Status::Running),
            to.generation,
            int(to.next_event),
            to.turns,
            int(to.history_bytes),
            int(now.0),
            to.module.map(|digest| digest.0),
            to.custom_status.map(|json| json.as_str()),
            key.0,
            to.waiting.map(encode).transpose()?,
        ])?;
        Ok(())
    }

    fn quarantine(&mut self, key: InstanceKey, why: &Quarantine) -> Found<Option<String>> {
        let mut update = self.0.prepare_cached(
            "UPDATE instance SET quarantine = ?1, status = ?2 WHERE key = ?3 AND status < 3 RETURNING id",
        )?;
        let suspended = status_number(Status::Suspended);
        Ok(update
            .query_row(params![encode(why)?, suspended, key.0], |row| row.get(0))
            .optional()?)
    }

    fn release(
        &mut self,
        key: InstanceKey,
        status: Status,
        module: Option<Digest>,
    ) -> Found<Option<String>> {
        let mut update = self.0.prepare_cached(
            "UPDATE instance SET quarantine = NULL, deliveries = 0, status = ?1, module = ?2 WHERE key = ?3 AND status < 3 RETURNING id",
        )?;
        let values = params![status_number(status), module.map(|digest| digest.0), key.0];
        Ok(update.query_row(values, |row| row.get(0)).optional()?)
    }

    fn count_crash(&mut self, key: InstanceKey) -> Found<()> {
        self.0
            .prepare_cached("UPDATE instance SET deliveries = deliveries + 1 WHERE key = ?1")?
            .execute([key.0])?;
        Ok(())
    }

    fn adopt(&mut self, key: InstanceKey, parent: InstanceKey, place: &Parent) -> Found<()> {
        self.0
            .prepare_cached(
                "UPDATE instance SET parent = ?1, parent_id = ?2, parent_key = ?3 WHERE key = ?4",
            )?
            .execute(params![encode(place)?, place.instance_id, parent.0, key.0])?;
        Ok(())
    }

    fn orphan(&mut self, key: InstanceKey) -> Found<()> {
        self.0
            .prepare_cached("UPDATE instance SET parent_key = NULL WHERE key = ?1")?
            .execute([key.0])?;
        Ok(())
    }

    fn touch(&mut self, key: InstanceKey, now: Timestamp) -> Found<()> {
        self.0
            .prepare_cached("UPDATE instance SET updated_at = max(updated_at, ?1) WHERE key = ?2")?
            .execute(params![int(now.0), key.0])?;
        Ok(())
    }

    fn delete_instance(&mut self, key: InstanceKey) -> Found<Option<Deleted>> {
        tags::delist(self.0, key)?;
        let mut delete = self.0.prepare_cached(
            "DELETE FROM instance WHERE key = ?1
             RETURNING status, module, execution, generation, turns, history_bytes, value_count > 0, has_requests",
        )?;
        let mut rows = delete.query([key.0])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let deleted = Deleted {
            status: status_of(row.get(0)?)?,
            module: row.get::<_, Option<[u8; 32]>>(1)?.map(Digest),
            execution: row.get(2)?,
            generation: row.get(3)?,
            turns: row.get(4)?,
            history_bytes: uint(row.get(5)?),
            has_values: row.get(6)?,
            has_requests: row.get(7)?,
        };
        // The statement ends when it has no more rows, and not before.
        while rows.next()?.is_some() {}
        Ok(Some(deleted))
    }

    fn children(&mut self, key: InstanceKey, live_only: bool) -> Found<Vec<Child>> {
        let mut query = self.0.prepare_cached(if live_only {
            "SELECT key, id, status FROM instance WHERE parent_key = ?1 AND status < 3 ORDER BY key"
        } else {
            "SELECT key, id, status FROM instance WHERE parent_key = ?1 ORDER BY key"
        })?;
        let mut rows = query.query([key.0])?;
        let mut children = Vec::new();
        while let Some(row) = rows.next()? {
            children.push(Child {
                key: InstanceKey(row.get(0)?),
                id: row.get(1)?,
                status: status_of(row.get(2)?)?,
            });
        }
        Ok(children)
    }

    fn bound_children(&mut self, key: InstanceKey) -> Found<Vec<(String, ChildPolicy)>> {
        let mut query = self.0.prepare_cached(
            "SELECT id, when_dropped FROM instance WHERE parent_key = ?1 AND when_dropped IS NOT NULL AND status < 3 ORDER BY key",
        )?;
        let mut rows = query.query([key.0])?;
        let mut children = Vec::new();
        while let Some(row) = rows.next()? {
            children.push((row.get(0)?, policy_of(row.get(1)?)?));
        }
        Ok(children)
    }

    fn tags(&mut self, key: InstanceKey) -> Found<Option<Tags>> {
        let mut query = self
            .0
            .prepare_cached("SELECT tags FROM instance WHERE key = ?1")?;
        let found: Option<Option<String>> =
            query.query_row([key.0], |row| row.get(0)).optional()?;
        found.map(decode_tags).transpose()
    }

    fn set_tags(&mut self, key: InstanceKey, before: &Tags, after: &Tags) -> Found<()> {
        tags::set(self.0, key, before, after)
    }
}
