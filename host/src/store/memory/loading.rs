//! Rows that are here for a while, and elsewhere for good. What this does is no change.

use perennial_core::{Json, TaskId};

use crate::store::memory::{Instance, Memory, texts_of};
use crate::store::types::InstanceKey;

/// Bytes of a row beside its texts, with its places in the tables.
const ROW: usize = 200;

impl Memory {
    /// Adds the row of an instance as another store has it.
    pub(in crate::store) fn load_instance(&mut self, instance: Instance) {
        let key = instance.row.key;
        if let Some(parent) = instance.row.parent_key {
            self.families.load((parent, key), ());
        }
        self.ids.load(instance.row.id.clone(), key);
        self.instances.load(key, instance);
    }

    /// Drops an instance with all of its rows other than its history.
    pub(in crate::store) fn evict_instance(&mut self, key: InstanceKey) {
        if let Some(instance) = self.instances.get(&key) {
            let (id, parent) = (instance.row.id.clone(), instance.row.parent_key);
            self.ids.evict(&id);
            if let Some(parent) = parent {
                self.families.evict(&(parent, key));
            }
            self.instances.evict(&key);
        }
        self.inbox.evict_range((key, 0)..=(key, u64::MAX));
        let tasks = (key, TaskId(0))..=(key, TaskId(u32::MAX));
        self.tasks.evict_range(tasks);
        self.values.evict_range(texts_of(key));
        self.requests.evict_range(texts_of(key));
    }

    /// Drops what no batch needs of those before it: histories, what is left of them, messages, commands, and the components of modules.
    pub(in crate::store) fn evict_histories(&mut self) {
        self.turns.clear();
        self.cut_turns.clear();
        self.rewinds.clear();
        self.garbage.clear();
        self.commands.clear();
        self.outbox.clear();
        let full = self.modules.iter();
        let full = full.filter(|(_, module)| !module.component.is_empty());
        for digest in full.map(|(digest, _)| *digest).collect::<Vec<_>>() {
            let Some(module) = self.modules.get(&digest) else {
                continue;
            };
            let hollow = module.without_component();
            self.modules.evict(&digest);
            self.modules.load(digest, hollow);
        }
    }

    /// The approximate bytes of an instance with all of its rows other than its history.
    pub(in crate::store) fn size(&self, key: InstanceKey) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, Json::size);
        let instance = self.instances.get(&key).map_or(0, |of| of.row.size() + ROW);
        let inbox = self.inbox.range((key, 0)..=(key, u64::MAX));
        let inbox = inbox.map(|(_, mail)| ROW + usize::try_from(mail.size).unwrap_or(usize::MAX));
        let tasks = self.tasks.range((key, TaskId(0))..=(key, TaskId(u32::MAX)));
        let tasks = tasks.map(|(_, task)| {
            let failure = task.row.failure.as_ref().map_or(0, |of| of.size());
            let attempts = task.row.attempts.iter().map(|of| of.failure.size() + ROW);
            let details = task.row.heartbeat.as_ref().map(|beat| json(&beat.details));
            ROW + failure + attempts.sum::<usize>() + details.unwrap_or(0)
        });
        let values = self.values.range(texts_of(key));
        let values = values.map(|(_, value)| ROW + 2 * value.name.len() + value.value.size());
        let requests = self.requests.range(texts_of(key));
        let requests = requests.map(|((_, id), request)| {
            let answer = match &request.answer {
                Some((_, Ok(output))) => json(output),
                Some((_, Err(failure))) => failure.size(),
                None => 0,
            };
            ROW + id.len() + request.name.len() + answer
        });
        instance
            + inbox.sum::<usize>()
            + tasks.sum::<usize>()
            + values.sum::<usize>()
            + requests.sum::<usize>()
    }
}
