//! Rows in memory as a source: what one has to answer.

use perennial_core::{Digest, TaskId};

use crate::store::StoreError;
use crate::store::memory::{Instance, Memory, Posted, texts_of};
use crate::store::overlay::source::{
    Garbage, History, HubRows, Left, Loaded, LoadedInstance, Source, Wanted,
};
use crate::store::partition::{Partition, Partitions};
use crate::store::rows::instances::Child;
use crate::store::rows::outbox::OutboxRows;
use crate::store::types::InstanceKey;

impl Source for Memory {
    fn load(&mut self, wanted: &Wanted, own: &Partitions) -> Result<Loaded, StoreError> {
        self.own = *own;
        let mut keys = wanted.keys.clone();
        let ids = wanted.ids.iter().chain(&wanted.starts);
        keys.extend(ids.filter_map(|id| self.ids.get(id)));
        for child in &wanted.parents_of {
            let child = self.instances.get(child);
            keys.extend(child.and_then(|child| child.row.parent_key));
        }
        for parent in &wanted.live_children_of {
            let children = self.children_of(*parent);
            let live = children.filter(|child| !child.row.status.is_end());
            keys.extend(live.map(|child| child.row.key));
        }
        for ((key, _), request) in self.requests.iter() {
            if request
                .asker
                .is_some_and(|asker| wanted.asked_by.contains(&asker.key))
            {
                keys.push(*key);
            }
        }
        keys.retain(|key| own.has_key(*key));
        let instances = keys.iter().filter_map(|key| self.instances.get(key));
        let tokens = wanted.tokens.iter();
        let commands = tokens.filter_map(|token| {
            let command = self.commands.get(token)?;
            Some((token.clone(), command.clone()))
        });
        let mut ended_children = Vec::new();
        for parent in &wanted.ended_children_of {
            let children = self.children_of(*parent);
            let ended = children.filter(|child| child.row.status.is_end());
            ended_children.extend(ended.map(|child| (*parent, child_of(child))));
        }
        Ok(Loaded {
            instances: instances.map(|of| self.with_rows(of)).collect(),
            ended_children,
            below: wanted
                .below
                .iter()
                .flat_map(|parent| self.below(*parent).map(|partition| (*parent, partition)))
                .collect(),
            sent: wanted
                .sent
                .iter()
                .filter_map(|seq| Some((*seq, self.outbox.get(seq)?.clone())))
                .collect(),
            commands: commands.collect(),
            hub: wanted.hub.then(|| self.hub()),
        })
    }

    fn history(
        &mut self,
        key: InstanceKey,
        execution: u32,
        from: u32,
    ) -> Result<History, StoreError> {
        let turns = self
            .turns
            .range((key, execution, from)..=(key, execution, u32::MAX));
        let rewinds = self
            .rewinds
            .range((key, execution, 0)..=(key, execution, u32::MAX));
        Ok(History {
            turns: turns.map(|(_, turn)| turn.clone()).collect(),
            rewinds: rewinds
                .map(|((.., generation), rewind)| (*generation, rewind.clone()))
                .collect(),
        })
    }

    fn garbage(&mut self, at_most: usize, own: &Partitions) -> Result<Vec<Left>, StoreError> {
        let left = self.garbage.keys().filter(|(key, _)| own.has_key(*key));
        Ok(left.take(at_most).copied().collect())
    }

    fn garbage_of(&mut self, left: &[Left], at_most: usize) -> Result<Garbage, StoreError> {
        let mut found = Garbage::default();
        for (key, execution) in left {
            let (first, last) = execution.map_or((0, u32::MAX), |of| (of, of));
            let of = (*key, first, 0)..=(*key, last, u32::MAX);
            let turns = self.turns.range(of.clone()).take(at_most);
            found.turns.extend(turns.map(|(place, _)| *place));
            let rewinds = self.rewinds.range(of);
            found.rewinds.extend(rewinds.map(|(place, _)| *place));
            let of = (*key, first, 0, 0)..=(*key, last, u32::MAX, u32::MAX);
            let cut_turns = self.cut_turns.range(of).take(at_most);
            found.cut_turns.extend(cut_turns.map(|(place, _)| *place));
            if found.turns.len() + found.cut_turns.len() >= at_most {
                break;
            }
        }
        Ok(found)
    }

    fn live_on(&mut self, digest: Digest, except: &[InstanceKey]) -> Result<u64, StoreError> {
        let others = self.instances.keys().filter(|key| !except.contains(key));
        let live = others.filter(|key| self.is_live_on(**key, digest));
        Ok(live.count() as u64)
    }

    fn used_modules(
        &mut self,
        among: &[Digest],
        except: &[InstanceKey],
    ) -> Result<Vec<Digest>, StoreError> {
        let used = self.modules_of(|key| !except.contains(&key));
        let among = among.iter().filter(|digest| used.contains(digest));
        Ok(among.copied().collect())
    }

    fn messages_for(
        &mut self,
        of: &Partitions,
        limit: u32,
        without: &[i64],
    ) -> Result<Vec<(i64, Posted)>, StoreError> {
        let sent = self.outbox.iter();
        let sent = sent.filter(|(seq, sent)| of.has(sent.to) && !without.contains(seq));
        let sent = sent.map(|(seq, sent)| (*seq, sent.clone()));
        Ok(sent.take(limit as usize).collect())
    }

    fn partitions_asked_by(&mut self, asker: InstanceKey) -> Result<Vec<Partition>, StoreError> {
        let asked = self.requests.iter();
        let asked = asked.filter(|(_, request)| request.asker.is_some_and(|of| of.key == asker));
        let there = asked.map(|((key, _), _)| self.own.of_key(*key));
        let under_way = self.outbox.values();
        let under_way = under_way.filter(|posted| posted.message.asker() == Some(asker));
        Ok(there.chain(under_way.map(|posted| posted.to)).collect())
    }

    fn glance(&mut self, id: &str) -> Result<Option<Instance>, StoreError> {
        let key = self.ids.get(id);
        Ok(key.and_then(|key| self.instances.get(key)).cloned())
    }

    fn lives_below(
        &mut self,
        ancestor: InstanceKey,
        own: &Partitions,
        starters: &[InstanceKey],
    ) -> Result<bool, StoreError> {
        self.own = *own;
        let mut parents = vec![ancestor];
        while let Some(parent) = parents.pop() {
            parents.extend(self.child_keys(parent));
            if starters.contains(&parent) {
                return Ok(true);
            }
        }
        OutboxRows::lives_below(self, ancestor)
    }
}

fn child_of(instance: &Instance) -> Child {
    Child {
        key: instance.row.key,
        id: instance.row.id.clone(),
        status: instance.row.status,
    }
}

impl Memory {
    fn child_keys(&self, parent: InstanceKey) -> impl Iterator<Item = InstanceKey> {
        let of = (parent, InstanceKey(i64::MIN))..=(parent, InstanceKey(i64::MAX));
        self.families.range(of).map(|((_, child), ())| *child)
    }

    /// The partitions in which an instance has children, or is about to.
    fn below(&self, parent: InstanceKey) -> impl Iterator<Item = Partition> {
        let there = self.child_keys(parent).map(|child| self.own.of_key(child));
        let started = self.outbox.values();
        let started = started.filter(move |posted| posted.message.parent() == Some(parent));
        there.chain(started.map(|posted| posted.to))
    }

    fn with_rows(&self, instance: &Instance) -> LoadedInstance {
        let key = instance.row.key;
        let inbox = self.inbox.range((key, 0)..=(key, u64::MAX));
        let tasks = self.tasks.range((key, TaskId(0))..=(key, TaskId(u32::MAX)));
        let values = self.values.range(texts_of(key));
        let requests = self.requests.range(texts_of(key));
        LoadedInstance {
            instance: instance.clone(),
            inbox: inbox.map(|((_, seq), mail)| (*seq, mail.clone())).collect(),
            tasks: tasks.map(|(_, task)| task.clone()).collect(),
            values: values.map(|(_, value)| value.clone()).collect(),
            requests: requests
                .map(|((_, id), request)| (id.clone(), request.clone()))
                .collect(),
        }
    }

    fn hub(&self) -> HubRows {
        let modules = self.modules.iter();
        macro_rules! rows {
            ($table:ident) => {
                self.$table
                    .iter()
                    .map(|(key, row)| (key.clone(), row.clone()))
                    .collect()
            };
        }
        HubRows {
            modules: modules
                .map(|(digest, module)| (*digest, module.without_component()))
                .collect(),
            names: rows!(names),
            definitions: rows!(definitions),
            versions: rows!(versions),
            settings: rows!(settings),
            keys: rows!(keys),
        }
    }
}
