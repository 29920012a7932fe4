//! Instances and values.

use perennial_core::{
    ChildPolicy, Digest, Json, Millis, Parent, Quarantine, Start, Status, Tags, Timestamp, Turn,
};

use crate::store::StoreError;
use crate::store::memory::{Instance, Memory, texts_of};
use crate::store::rows::Found;
use crate::store::rows::instances::{
    Child, Continued, Deleted, Head, InstanceRows, NewRow, PutBack, Recorded, ValueRows,
};
use crate::store::types::{
    InstanceKey, InstanceRow, NewInstance, Position, Summary, ValueRow, began,
};

impl InstanceRows for Memory {
    fn find(&mut self, id: &str) -> Found<Option<(InstanceKey, Status)>> {
        let key = self.ids.get(id).copied();
        Ok(key.and_then(|key| Some((key, self.instances.get(&key)?.row.status))))
    }

    fn status(&mut self, key: InstanceKey) -> Found<Option<Status>> {
        Ok(self.instances.get(&key).map(|found| found.row.status))
    }

    fn head(&mut self, key: InstanceKey) -> Found<Option<Head>> {
        Ok(self.instances.get(&key).map(Instance::head))
    }

    fn parent(&mut self, key: InstanceKey) -> Found<Option<(InstanceKey, Parent)>> {
        let row = self.instances.get(&key).map(|found| &found.row);
        Ok(row.and_then(|row| Some((row.parent_key?, row.parent.clone()?))))
    }

    fn instance(&mut self, key: InstanceKey) -> Found<Option<InstanceRow>> {
        Ok(self.instances.get(&key).map(Instance::shown))
    }

    fn insert_instance(&mut self, new: &NewInstance, row: &NewRow<'_>) -> Found<()> {
        let start = &new.start;
        let mut tags = start.tags.clone();
        tags.sort();
        let waiting = row.after.filter(|after| !after.status.is_end());
        let waiting = waiting.map(|after| after.waiting.clone());
        let inserted = Instance {
            row: InstanceRow {
                key: new.key,
                id: start.instance_id.clone(),
                name: start.name.clone(),
                version: start.version.clone(),
                module: start.module,
                status: row.status,
                execution: start.execution,
                execution_id: start.execution_id.clone(),
                generation: 0,
                next_event: row.next_event,
                turns: row.turns,
                history_bytes: row.after.map_or(0, |after| after.history_bytes),
                returned: row.after.is_some_and(|after| after.returned),
                created_at: start.accepted_at,
                started_at: row.started_at,
                updated_at: row.updated_at,
                scheduled_for: start.scheduled_for,
                parent: start.parent.clone(),
                parent_key: new.parent,
                tags,
                custom_status: row.after.and_then(|after| after.custom_status.clone()),
                output: row.after.and_then(|after| after.output.clone()),
                failure: row.after.and_then(|after| after.failure.clone()),
                waiting: waiting.clone().unwrap_or_default(),
                quarantine: None,
                value_count: 0,
            },
            waiting,
            parent_id: start
                .parent
                .as_ref()
                .map(|parent| parent.instance_id.clone()),
            inbox_next: row.inbox_next,
            inbox_bytes: 0,
            unread_bytes: 0,
            deliveries: 0,
            when_dropped: ChildPolicy::Abandon,
            execution_timeout: None,
            has_requests: false,
        };
        if self.ids.contains_key(&start.instance_id) || self.instances.contains_key(&new.key) {
            let what = format!("instance {:?} exists already", start.instance_id);
            return Err(StoreError::Corrupt(what));
        }
        self.put_instance(inserted);
        Ok(())
    }

    fn set_options(
        &mut self,
        key: InstanceKey,
        when_dropped: ChildPolicy,
        execution_timeout: Option<Millis>,
    ) -> Found<()> {
        self.with_instance(key, |found| {
            found.when_dropped = when_dropped;
            found.execution_timeout = execution_timeout;
        });
        Ok(())
    }

    fn execution_timeout(&mut self, key: InstanceKey) -> Found<Option<Millis>> {
        Ok(self
            .instances
            .get(&key)
            .and_then(|found| found.execution_timeout))
    }

    fn record_turn(
        &mut self,
        key: InstanceKey,
        expected: Position,
        before: Status,
        turn: &Turn,
        after: &Summary,
    ) -> Found<Option<Recorded>> {
        let Some(found) = self.at_position(key, expected) else {
            return Ok(None);
        };
        let row = &mut found.row;
        row.next_event = turn.next_event();
        row.turns = turn.number + 1;
        row.history_bytes = after.history_bytes;
        row.updated_at = turn.at;
        row.returned = after.returned;
        row.custom_status.clone_from(&after.custom_status);
        found.deliveries = 0;
        let ends = after.status.is_end();
        if turn.answer.is_some() || ends {
            found.waiting = (!ends).then(|| after.waiting.clone());
            row.waiting = found.waiting.clone().unwrap_or_default();
            found.unread_bytes = after.unread_bytes;
        }
        if before == after.status && !ends {
            return Ok(Some(Recorded::default()));
        }
        row.status = after.status;
        row.output.clone_from(&after.output);
        row.failure.clone_from(&after.failure);
        row.started_at = row.started_at.or(began(after).then_some(turn.at));
        row.quarantine = None;
        Ok(Some(Recorded {
            has_requests: found.has_requests,
            module: row.module,
        }))
    }

    fn add_epilogue(&mut self, key: InstanceKey, turn: &Turn, history_bytes: u64) -> Found<()> {
        self.with_instance(key, |found| {
            found.row.next_event = turn.next_event();
            found.row.turns = turn.number + 1;
            found.row.history_bytes = history_bytes;
        });
        Ok(())
    }

    fn next_execution(&mut self, key: InstanceKey, start: &Start) -> Found<Continued> {
        let found = self.instances.get_mut(&key).ok_or(StoreError::Conflict)?;
        begin(&mut found.row, start);
        found.waiting = None;
        found.unread_bytes = 0;
        Ok(Continued {
            tags: found.row.tags.clone(),
            has_requests: found.has_requests,
        })
    }

    fn restart(
        &mut self,
        key: InstanceKey,
        expected: Position,
        start: &Start,
        now: Timestamp,
    ) -> Found<bool> {
        let former = self.instances.get(&key).and_then(|of| of.row.parent_key);
        let Some(found) = self.at_position(key, expected) else {
            return Ok(false);
        };
        begin(&mut found.row, start);
        let row = &mut found.row;
        row.status = Status::Pending;
        row.returned = false;
        (row.created_at, row.started_at, row.updated_at) = (now, None, now);
        row.scheduled_for = None;
        // The task that a former parent waited for is kept: a rewind of that parent may adopt the outcome.
        if row.parent_key.is_none() && found.parent_id.is_some() {
            row.parent = None;
        }
        (row.parent_key, found.parent_id) = (None, None);
        (row.custom_status, row.output, row.failure) = (None, None, None);
        (row.quarantine, row.value_count) = (None, 0);
        (found.waiting, found.unread_bytes, found.deliveries) = (None, 0, 0);
        found.has_requests = false;
        self.move_family(key, former, None);
        Ok(true)
    }

    fn put_back(&mut self, key: InstanceKey, to: &PutBack<'_>, now: Timestamp) -> Found<()> {
        self.with_instance(key, |found| {
            let row = &mut found.row;
            row.status = Status::Running;
            row.generation = to.generation;
            (row.next_event, row.turns) = (to.next_event, to.turns);
            row.history_bytes = to.history_bytes;
            row.returned = false;
            row.updated_at = now;
            row.module = to.module.or(row.module);
            row.custom_status = to.custom_status.cloned();
            (row.output, row.failure, row.quarantine) = (None, None, None);
            row.waiting = to.waiting.cloned().unwrap_or_default();
            found.waiting = to.waiting.cloned();
            (found.unread_bytes, found.deliveries) = (0, 0);
        });
        Ok(())
    }

    fn quarantine(&mut self, key: InstanceKey, why: &Quarantine) -> Found<Option<String>> {
        Ok(self.live(key).map(|found| {
            found.row.quarantine = Some(why.clone());
            found.row.status = Status::Suspended;
            found.row.id.clone()
        }))
    }

    fn release(
        &mut self,
        key: InstanceKey,
        status: Status,
        module: Option<Digest>,
    ) -> Found<Option<String>> {
        Ok(self.live(key).map(|found| {
            found.row.quarantine = None;
            found.deliveries = 0;
            (found.row.status, found.row.module) = (status, module);
            found.row.id.clone()
        }))
    }

    fn count_crash(&mut self, key: InstanceKey) -> Found<()> {
        self.with_instance(key, |found| found.deliveries += 1);
        Ok(())
    }

    fn adopt(&mut self, key: InstanceKey, parent: InstanceKey, place: &Parent) -> Found<()> {
        let mut former = None;
        let found = self.with_instance(key, |found| {
            found.row.parent = Some(place.clone());
            former = found.row.parent_key.replace(parent);
            found.parent_id = Some(place.instance_id.clone());
        });
        if found && former != Some(parent) {
            self.move_family(key, former, Some(parent));
        }
        Ok(())
    }

    fn orphan(&mut self, key: InstanceKey) -> Found<()> {
        let mut former = None;
        self.with_instance(key, |found| former = found.row.parent_key.take());
        self.move_family(key, former, None);
        Ok(())
    }

    fn touch(&mut self, key: InstanceKey, now: Timestamp) -> Found<()> {
        self.with_instance(key, |found| {
            found.row.updated_at = found.row.updated_at.max(now);
        });
        Ok(())
    }

    fn delete_instance(&mut self, key: InstanceKey) -> Found<Option<Deleted>> {
        Ok(self.take_instance(key).map(|found| Deleted {
            status: found.row.status,
            module: found.row.module,
            execution: found.row.execution,
            generation: found.row.generation,
            turns: found.row.turns,
            history_bytes: found.row.history_bytes,
            has_values: found.row.value_count > 0,
            has_requests: found.has_requests,
        }))
    }

    fn children(&mut self, key: InstanceKey, live_only: bool) -> Found<Vec<Child>> {
        let children = self.children_of(key).map(|found| &found.row);
        let children = children.filter(|row| !live_only || !row.status.is_end());
        let child = |row: &InstanceRow| Child {
            key: row.key,
            id: row.id.clone(),
            status: row.status,
        };
        Ok(children.map(child).collect())
    }

    fn bound_children(&mut self, key: InstanceKey) -> Found<Vec<(String, ChildPolicy)>> {
        let children = self.children_of(key).filter(|found| {
            found.when_dropped != ChildPolicy::Abandon && !found.row.status.is_end()
        });
        Ok(children
            .map(|found| (found.row.id.clone(), found.when_dropped))
            .collect())
    }

    fn tags(&mut self, key: InstanceKey) -> Found<Option<Tags>> {
        Ok(self.instances.get(&key).map(|found| found.row.tags.clone()))
    }

    fn set_tags(&mut self, key: InstanceKey, _before: &Tags, after: &Tags) -> Found<()> {
        self.with_instance(key, |found| found.row.tags.clone_from(after));
        Ok(())
    }
}

impl Instance {
    /// The columns that decisions need.
    pub(in crate::store) fn head(&self) -> Head {
        Head {
            id: self.row.id.clone(),
            status: self.row.status,
            position: self.row.position(),
            parent: self.row.parent.clone(),
            parent_key: self.row.parent_key,
            parent_id: self.parent_id.clone(),
            module: self.row.module,
            is_quarantined: self.row.quarantine.is_some(),
            created_at: self.row.created_at,
        }
    }

    /// The row as a query returns it.
    pub(in crate::store) fn shown(&self) -> InstanceRow {
        InstanceRow {
            // An instance that lost its parent shows none.
            parent: self.parent_id.as_ref().and(self.row.parent.clone()),
            ..self.row.clone()
        }
    }
}

/// Sets what the beginning of an execution sets in a row.
fn begin(row: &mut InstanceRow, start: &Start) {
    row.execution = start.execution;
    row.execution_id.clone_from(&start.execution_id);
    row.version.clone_from(&start.version);
    row.module = start.module;
    row.generation = 0;
    (row.next_event, row.turns, row.history_bytes) = (0, 0, 0);
    row.waiting = perennial_core::Waiting::default();
}

impl Memory {
    fn live(&mut self, key: InstanceKey) -> Option<&mut Instance> {
        let is_live = !self.instances.get(&key)?.row.status.is_end();
        is_live.then(|| self.instances.get_mut(&key)).flatten()
    }

    fn at_position(&mut self, key: InstanceKey, expected: Position) -> Option<&mut Instance> {
        let is_there = self.instances.get(&key)?.row.position() == expected;
        is_there.then(|| self.instances.get_mut(&key)).flatten()
    }
}

impl ValueRows for Memory {
    fn values(&mut self, key: InstanceKey) -> Found<Vec<ValueRow>> {
        let of = self.values.range(texts_of(key));
        Ok(of.map(|(_, value)| value.clone()).collect())
    }

    fn set_values(
        &mut self,
        key: InstanceKey,
        changes: &[(&str, Option<&Json>)],
        at: Timestamp,
    ) -> Found<()> {
        let mut changed = false;
        for (name, value) in changes {
            let place = (key, (*name).to_owned());
            match value {
                Some(value) => {
                    let before = self.values.get(&place);
                    if before.is_some_and(|before| before.value == **value) {
                        continue;
                    }
                    let row = ValueRow {
                        name: place.1.clone(),
                        value: (*value).clone(),
                        version: self.number,
                        at,
                    };
                    self.values.insert(place, row);
                    changed = true;
                }
                None => changed |= self.values.remove(&place).is_some(),
            }
        }
        if !changed {
            return Ok(());
        }
        let count = self.values.range(texts_of(key)).count();
        self.with_instance(key, |found| {
            found.row.value_count = u32::try_from(count).unwrap_or(u32::MAX);
        });
        Ok(())
    }

    fn delete_values(&mut self, key: InstanceKey) -> Found<()> {
        let names: Vec<_> = self
            .values
            .range(texts_of(key))
            .map(|(place, _)| place.clone())
            .collect();
        for name in names {
            self.values.remove(&name);
        }
        Ok(())
    }
}
