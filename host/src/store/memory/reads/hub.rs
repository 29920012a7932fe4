//! The hub itself: settings, keys, commands, statistics.

use perennial_core::Timestamp;
use serde::de::DeserializeOwned;

use crate::store::memory::Memory;
use crate::store::memory::reads::{first, sorted};
use crate::store::space::Pages;
use crate::store::types::{Ages, KeyRow, Setting, WorkerNames};
use crate::store::{InstanceFilter, Sharing, StoreError, Tally};

impl Memory {
    pub(crate) fn created_at(&self) -> Result<Timestamp, StoreError> {
        Ok(self.hub.created_at)
    }

    /// Only tests keep hubs in memory.
    pub(crate) fn sharing(&self) -> Result<Option<Sharing>, StoreError> {
        Ok(None)
    }

    pub(crate) fn oldest_sent(&self) -> Result<Option<i64>, StoreError> {
        Ok(self.outbox.keys().min().copied())
    }

    pub(crate) fn secret(&self) -> Result<Vec<u8>, StoreError> {
        Ok(self.hub.secret.clone())
    }

    pub(crate) fn last_commit(&self) -> Result<Timestamp, StoreError> {
        Ok(self.at)
    }

    pub(crate) fn has_garbage(&self) -> Result<bool, StoreError> {
        Ok(self.garbage.keys().any(|(key, _)| self.own.has_key(*key)))
    }

    pub(crate) fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let keys = self.keys.values().cloned();
        Ok(sorted(keys, |key| (key.created_at, key.id.clone())))
    }

    pub(crate) fn unanswered(&self, limit: u32) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let open = self.commands.iter();
        let open = open.filter(|(_, (_, answer))| answer.is_none());
        let open = open.filter_map(|(token, _)| self.hub.sent.get_key_value(token));
        let open = open.filter(|(_, (_, to, _))| self.own.has(*to));
        let open = sorted(open, |(_, (place, ..))| *place);
        let commands = open.into_iter();
        let commands = commands.map(|(token, (.., body))| (token.clone(), body.clone()));
        Ok(first(limit, commands))
    }

    pub(crate) fn answer(&self, token: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let command = self.commands.get(token);
        Ok(command.and_then(|(_, answer)| answer.clone()))
    }

    pub(crate) fn retention(&self) -> Result<Ages, StoreError> {
        self.set(Setting::Retention)
    }

    pub(crate) fn worker_names(&self) -> Result<WorkerNames, StoreError> {
        self.set(Setting::WorkerNames)
    }

    /// A setting; the default if it was never set.
    fn set<T: Default + DeserializeOwned>(&self, which: Setting) -> Result<T, StoreError> {
        let text = self.settings.get(which.name());
        let value = text.map(|text| which.read(text)).transpose()?;
        Ok(value.unwrap_or_default())
    }

    pub(crate) fn tally(&self) -> Result<Tally, StoreError> {
        let rows = || self.all().map(|of| &of.row);
        let modules = self.modules.values();
        Ok(Tally {
            created_at: self.hub.created_at,
            instances: self.counts(&InstanceFilter::default())?,
            turns: rows().map(|row| u64::from(row.turns)).sum(),
            events: rows().map(|row| row.next_event).sum(),
            history_bytes: rows().map(|row| row.history_bytes).sum(),
            modules: self.names.len() as u64,
            stored_modules: self.modules.len() as u64,
            module_bytes: modules.map(|module| module.component.len() as u64).sum(),
            garbage: self.has_garbage()?,
            pages: self.pages(),
        })
    }

    /// The bytes of what takes most of them, as pages of one byte.
    pub(in crate::store) fn pages(&self) -> Pages {
        let rows = self
            .all()
            .map(|of| of.row.size() as u64 + of.row.history_bytes);
        let modules = self.modules.values().map(|of| of.component.len() as u64);
        let inbox = self.inbox.values().map(|mail| mail.size);
        let values = self.values.values().map(|value| value.value.size() as u64);
        Pages {
            all: rows.chain(modules).chain(inbox).chain(values).sum(),
            free: 0,
            bytes_of_one: 1,
        }
    }
}
