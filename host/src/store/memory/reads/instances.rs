//! Single instances, and those that belong together.

use perennial_core::{Millis, Status, Timestamp};

use crate::store::StoreError;
use crate::store::memory::reads::{first, sorted};
use crate::store::memory::{Instance, Memory, texts_of};
use crate::store::queries::found::{FoundValue, LiveChild};
use crate::store::types::{InstanceKey, InstanceRow, ValueRow};

impl Memory {
    pub(crate) fn instance(&self, id: &str) -> Result<Option<InstanceRow>, StoreError> {
        Ok(self.named(id).map(Instance::shown))
    }

    pub(crate) fn instance_by_key(
        &self,
        key: InstanceKey,
    ) -> Result<Option<InstanceRow>, StoreError> {
        Ok(self.instances.get(&key).map(Instance::shown))
    }

    #[cfg(feature = "http")]
    pub(crate) fn updated_after(
        &self,
        after: (Timestamp, i64),
        limit: u32,
        bytes_max: usize,
    ) -> Result<(Vec<InstanceRow>, bool), StoreError> {
        let place = |of: &&Instance| (of.row.updated_at, of.row.key.0);
        let later = self.all().filter(|of| place(of) > after);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for instance in first(limit, sorted(later, place)) {
            let row = instance.shown();
            bytes += row.size();
            found.push(row);
            if bytes >= bytes_max {
                return Ok((found, true));
            }
        }
        let more = found.len() >= limit as usize;
        Ok((found, more))
    }

    pub(crate) fn suspended(&self) -> Result<Vec<InstanceKey>, StoreError> {
        let own = self.all().filter(|of| self.own.has_key(of.row.key));
        let suspended = own.filter(|of| of.row.status == Status::Suspended);
        let suspended = sorted(suspended, |of| (of.row.created_at, of.row.key));
        Ok(suspended.into_iter().map(|of| of.row.key).collect())
    }

    pub(crate) fn execution_timeout(&self, key: InstanceKey) -> Result<Option<Millis>, StoreError> {
        let found = self.instances.get(&key);
        Ok(found.and_then(|found| found.execution_timeout))
    }

    pub(crate) fn deliveries(&self, key: InstanceKey) -> Result<u32, StoreError> {
        let found = self.instances.get(&key);
        Ok(found.map_or(0, |found| found.deliveries))
    }

    /// The children of an instance, in the order of their keys.
    fn of_parent(&self, key: InstanceKey) -> impl Iterator<Item = &InstanceRow> {
        let rows = self.all().map(|of| &of.row);
        rows.filter(move |row| row.parent_key == Some(key))
    }

    pub(crate) fn live_children(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<(Vec<LiveChild>, u64), StoreError> {
        let live = self.all().filter(|of| of.row.parent_key == Some(key));
        let live = live.filter(|of| !of.row.status.is_end());
        let live = sorted(live, |of| (of.row.status, of.row.key));
        let all = live.len() as u64;
        let child = |of: &Instance| (of.row.id.clone(), of.row.status, of.when_dropped);
        Ok((first(limit, live.into_iter().map(child)), all))
    }

    pub(crate) fn ended_children(
        &self,
        key: InstanceKey,
        after: InstanceKey,
        limit: u32,
    ) -> Result<Vec<InstanceKey>, StoreError> {
        let ended = self.of_parent(key).filter(|row| row.status.is_end());
        let later = ended.map(|row| row.key).filter(|key| *key > after);
        Ok(first(limit, later))
    }

    pub(crate) fn left_behind(
        &self,
        id: &str,
        key: Option<InstanceKey>,
        live: bool,
        limit: u32,
    ) -> Result<Vec<(InstanceKey, String)>, StoreError> {
        let of = self.all().filter(|of| of.parent_id.as_deref() == Some(id));
        let rows = of.map(|of| &of.row);
        let rows = rows.filter(|row| row.status.is_end() != live);
        let left = rows.filter(|row| {
            row.parent_key
                .is_some_and(|parent| Some(parent) != key && self.instances.get(&parent).is_none())
        });
        Ok(first(limit, left.map(|row| (row.key, row.id.clone()))))
    }

    pub(crate) fn child_ids(
        &self,
        key: InstanceKey,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        Ok(first(limit, self.of_parent(key).map(|row| row.id.clone())))
    }

    pub(crate) fn last_key(&self) -> Result<InstanceKey, StoreError> {
        let least = i64::try_from(self.hub.epoch << 40).unwrap_or(i64::MAX);
        let instance = self.instances.iter().next_back().map(|(key, _)| *key);
        let garbage = self.garbage.iter().next_back();
        let garbage = garbage.map(|((key, _), ())| *key);
        let used = instance.max(garbage).unwrap_or(InstanceKey(0));
        Ok(InstanceKey(least).max(used))
    }

    pub(crate) fn ended_by(
        &self,
        status: Status,
        by: Timestamp,
        limit: u32,
    ) -> Result<Vec<InstanceKey>, StoreError> {
        let own = self.ended(status).filter(|row| self.own.has_key(row.key));
        let ended = own.filter(|row| row.updated_at <= by);
        let ended = sorted(ended, |row| (row.updated_at, row.key));
        Ok(first(limit, ended.into_iter().map(|row| row.key)))
    }

    pub(crate) fn first_end(&self, status: Status) -> Result<Option<Timestamp>, StoreError> {
        let own = self.ended(status).filter(|row| self.own.has_key(row.key));
        Ok(own.map(|row| row.updated_at).min())
    }

    /// The instances that ended with a status; none if it is not an end.
    pub(super) fn ended(&self, status: Status) -> impl Iterator<Item = &InstanceRow> {
        let rows = self.all().map(|of| &of.row);
        rows.filter(move |row| row.status == status && status.is_end())
    }

    pub(crate) fn value(&self, id: &str, name: &str) -> Result<Option<FoundValue>, StoreError> {
        Ok(self.named(id).map(|of| {
            let value = self.values.get(&(of.row.key, name.to_owned()));
            (of.row.status, value.cloned())
        }))
    }

    pub(crate) fn values(&self, key: InstanceKey) -> Result<Vec<ValueRow>, StoreError> {
        let of = self.values.range(texts_of(key));
        Ok(of.map(|(_, value)| value.clone()).collect())
    }
}
