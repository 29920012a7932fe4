//! Loads the rows that a call needs.

use std::collections::BTreeSet;
use std::mem::take;

use crate::store::memory::tasks::may_have_begun;
use crate::store::overlay::Overlay;
use crate::store::overlay::source::{HubRows, Loaded, LoadedInstance, Source, Wanted};
use crate::store::rows::Found;
use crate::store::types::InstanceKey;

impl<S: Source> Overlay<S> {
    /// Makes sure that the rows of an instance are in memory, if it exists.
    pub(super) fn need(&mut self, key: InstanceKey) -> Found<()> {
        if self.has(key) {
            return Ok(());
        }
        self.fetch(Wanted {
            keys: vec![key],
            ..Wanted::default()
        })
    }

    /// Makes sure that the rows of the instance with an id are in memory, if there is one.
    pub(super) fn need_id(&mut self, id: &str) -> Found<()> {
        if self.has_id(id) {
            return Ok(());
        }
        self.fetch(Wanted {
            ids: vec![id.to_owned()],
            ..Wanted::default()
        })
    }

    /// Makes sure that the live children of an instance are in memory.
    pub(super) fn need_live_children(&mut self, key: InstanceKey) -> Found<()> {
        if self.batch.live_children.contains(&key) {
            return Ok(());
        }
        self.fetch(Wanted {
            live_children_of: vec![key],
            ..Wanted::default()
        })
    }

    /// Makes sure that the live children of an instance are in memory, and the ended ones are listed.
    pub(super) fn need_children(&mut self, key: InstanceKey) -> Found<()> {
        let batch = &self.batch;
        if batch.live_children.contains(&key) && batch.ended_children.contains_key(&key) {
            return Ok(());
        }
        self.fetch(Wanted {
            live_children_of: vec![key],
            ended_children_of: vec![key],
            ..Wanted::default()
        })
    }

    /// Makes sure that the rows of the hub itself are in memory.
    pub(super) fn need_hub(&mut self) -> Found<()> {
        if self.has_hub {
            return Ok(());
        }
        self.fetch(Wanted {
            hub: true,
            ..Wanted::default()
        })
    }

    /// Whether the rows of an instance are in memory, as far as it exists. They are kept until the end of the batch then.
    pub(super) fn has(&mut self, key: InstanceKey) -> bool {
        if self.batch.keys.contains(&key) {
            return true;
        }
        let is_cached = self.cache.contains(key);
        if is_cached {
            self.batch.keys.insert(key);
        }
        is_cached
    }

    fn has_id(&mut self, id: &str) -> bool {
        match self.memory.ids.get(id) {
            Some(&key) => self.has(key),
            None => self.batch.ids.contains(id) || self.memory.ids.is_touched(id),
        }
    }

    /// Whether an instance was created in this batch, so that the source has nothing of it.
    pub(super) fn is_fresh(&self, key: InstanceKey) -> bool {
        self.memory.instances.before(&key) == Some(false)
    }

    /// Loads what is wanted and not in memory, in one round trip or none.
    pub(super) fn fetch(&mut self, wanted: Wanted) -> Found<()> {
        let wanted = self.missing(wanted);
        if wanted == Wanted::default() {
            return Ok(());
        }
        self.round_trips += 1;
        let loaded = self.source.load(&wanted, &self.memory.own)?;
        self.take_in(loaded);
        let batch = &mut self.batch;
        batch.keys.extend(wanted.keys);
        batch
            .ids
            .extend(wanted.ids.into_iter().chain(wanted.starts));
        batch.tokens.extend(wanted.tokens);
        batch.sent.extend(wanted.sent);
        for key in wanted.below {
            batch.below.entry(key).or_default();
        }
        batch.live_children.extend(wanted.live_children_of);
        batch.askers.extend(wanted.asked_by);
        for key in wanted.ended_children_of {
            batch.ended_children.entry(key).or_default();
        }
        Ok(())
    }

    /// What of this is not in memory, each once.
    fn missing(&mut self, wanted: Wanted) -> Wanted {
        let mut keys: BTreeSet<InstanceKey> = wanted.keys.into_iter().collect();
        let mut parents_of: BTreeSet<InstanceKey> = BTreeSet::new();
        for key in wanted.parents_of {
            if self.has(key) {
                let known = self.memory.instances.get(&key);
                keys.extend(known.and_then(|known| known.row.parent_key));
            } else {
                parents_of.insert(key);
            }
        }
        // Nothing is kept in memory that other owners change.
        let own = self.memory.own;
        keys.retain(|key| own.has_key(*key) && !self.has(*key));
        let mut ids: BTreeSet<String> = wanted.ids.into_iter().collect();
        ids.retain(|id| own.elsewhere(id).is_none() && !self.has_id(id));
        let mut starts: BTreeSet<String> = wanted.starts.into_iter().collect();
        starts.retain(|id| own.elsewhere(id).is_none() && !ids.contains(id) && !self.has_id(id));
        let (memory, batch) = (&self.memory, &self.batch);
        let is_fresh = |key: &InstanceKey| memory.instances.before(key) == Some(false);
        let live = wanted.live_children_of.into_iter();
        let live = live.filter(|key| !batch.live_children.contains(key) && !is_fresh(key));
        let ended = wanted.ended_children_of.into_iter();
        let ended = ended.filter(|key| !batch.ended_children.contains_key(key) && !is_fresh(key));
        let askers = wanted.asked_by.into_iter();
        let askers = askers.filter(|key| !batch.askers.contains(key) && !is_fresh(key));
        let below = wanted.below.into_iter();
        let below = below.filter(|key| !batch.below.contains_key(key) && !is_fresh(key));
        let sent = wanted.sent.into_iter();
        let sent = sent.filter(|seq| !batch.sent.contains(seq));
        let tokens = wanted.tokens.into_iter();
        let tokens = tokens.filter(|token| !batch.tokens.contains(token));
        Wanted {
            keys: keys.into_iter().collect(),
            ids: ids.into_iter().collect(),
            starts: starts.into_iter().collect(),
            parents_of: parents_of.into_iter().collect(),
            live_children_of: live.collect::<BTreeSet<_>>().into_iter().collect(),
            ended_children_of: ended.collect::<BTreeSet<_>>().into_iter().collect(),
            asked_by: askers.collect::<BTreeSet<_>>().into_iter().collect(),
            below: below.collect::<BTreeSet<_>>().into_iter().collect(),
            sent: sent.collect::<BTreeSet<_>>().into_iter().collect(),
            tokens: tokens.collect::<BTreeSet<_>>().into_iter().collect(),
            hub: wanted.hub && !self.has_hub,
        }
    }

    /// Adds rows of the source, other than those that are in memory already, which may have been changed.
    fn take_in(&mut self, loaded: Loaded) {
        for instance in loaded.instances {
            let key = instance.instance.row.key;
            if !self.has(key) {
                self.take_in_instance(key, instance);
            }
        }
        for (parent, child) in loaded.ended_children {
            let children = self.batch.ended_children.entry(parent);
            children.or_default().push(child);
        }
        for (parent, partition) in loaded.below {
            self.batch
                .below
                .entry(parent)
                .or_default()
                .insert(partition);
        }
        for (seq, posted) in loaded.sent {
            self.memory.outbox.load(seq, posted);
        }
        let delete_before = self.batch.instructions.delete_answered.iter().max();
        for (token, command) in loaded.commands {
            let is_deleted = command.1.is_some() && Some(&command.0) < delete_before;
            if !is_deleted && !self.batch.tokens.contains(&token) {
                self.memory.commands.load(token, command);
            }
        }
        if let Some(hub) = loaded.hub {
            self.take_in_hub(hub);
        }
    }

    fn take_in_instance(&mut self, key: InstanceKey, loaded: LoadedInstance) {
        self.batch.keys.insert(key);
        let memory = &mut self.memory;
        for (seq, mail) in loaded.inbox {
            memory.inbox.load((key, seq), mail);
        }
        for mut task in loaded.tasks {
            for (of, now) in &self.batch.instructions.count_unknown {
                task.row.cut += u32::from(of.has_key(key) && may_have_begun(&task.row, *now));
            }
            memory.tasks.load((key, task.row.task.task), task);
        }
        for value in loaded.values {
            memory.values.load((key, value.name.clone()), value);
        }
        for (id, request) in loaded.requests {
            memory.requests.load((key, id), request);
        }
        memory.load_instance(loaded.instance);
        if !self.batch.instructions.count_unknown.is_empty() {
            self.batch.counted.push(key);
        }
    }

    fn take_in_hub(&mut self, mut hub: HubRows) {
        macro_rules! load {
            ($($table:ident)*) => {
                $(for (key, row) in take(&mut hub.$table) {
                    self.memory.$table.load(key, row);
                })*
            };
        }
        load!(modules names definitions versions settings keys);
        self.has_hub = true;
    }
}
