//! Modules, settings, keys, and commands.

use std::collections::BTreeSet;

use perennial_core::{Digest, Status, Timestamp};

use crate::store::memory::{Memory, Name};
use crate::store::rows::Found;
use crate::store::rows::hub::{ModuleRows, SettingRows};
use crate::store::types::{
    CollectedModule, DefinitionKind, InstanceKey, KeyRow, NewModule, Setting,
};

impl Memory {
    /// The modules to which no name and no version that can be started refers, in the order in which they were stored.
    pub(in crate::store) fn modules_without_name(&self) -> Vec<CollectedModule> {
        let named = self.names.values().map(|name| name.digest);
        let defined = self.definitions.values().map(|(_, digest, _)| *digest);
        let versions = self.versions.values().map(|(_, digest)| *digest);
        let used: BTreeSet<Digest> = named.chain(defined).chain(versions).collect();
        let others = self.modules.iter();
        let others = others.filter(|(digest, _)| !used.contains(digest));
        let mut found: Vec<_> = others
            .map(|(digest, module)| (module.stored_at, *digest, module.bytes))
            .collect();
        found.sort();
        let collected = |(_, digest, bytes)| CollectedModule { digest, bytes };
        found.into_iter().map(collected).collect()
    }

    /// The modules to which some instances, if they are live or failed, and their tasks refer, and starts in the outbox.
    pub(in crate::store) fn modules_of(
        &self,
        of: impl Fn(InstanceKey) -> bool,
    ) -> BTreeSet<Digest> {
        let rows = self.instances.values().map(|found| &found.row);
        let run = rows.filter(|row| !row.status.is_end() || row.status == Status::Failed);
        let run = run.filter(|row| of(row.key)).filter_map(|row| row.module);
        let tasks = self.tasks.iter().filter(|((key, _), _)| of(*key));
        let tasks = tasks.filter_map(|(_, task)| task.module);
        let sent = self.outbox.values();
        let sent = sent.filter_map(|posted| posted.message.module());
        run.chain(tasks).chain(sent).collect()
    }

    /// Whether this batch touched what owners keep of the hub in memory.
    #[cfg(test)]
    pub(in crate::store) fn changes_hub(&self) -> bool {
        self.modules.touched().next().is_some()
            || self.names.touched().next().is_some()
            || self.definitions.touched().next().is_some()
            || self.versions.touched().next().is_some()
            || self.settings.touched().next().is_some()
            || self.keys.touched().next().is_some()
    }

    /// Whether an instance is live and runs a module.
    pub(in crate::store) fn is_live_on(&self, key: InstanceKey, digest: Digest) -> bool {
        let row = self.instances.get(&key).map(|found| &found.row);
        row.is_some_and(|row| row.module == Some(digest) && !row.status.is_end())
    }
}

impl ModuleRows for Memory {
    fn has_module(&mut self, digest: Digest) -> Found<bool> {
        Ok(self.modules.contains_key(&digest))
    }

    fn orchestrations(&mut self) -> Found<Vec<String>> {
        let names = self.definitions.keys();
        let names = names.filter(|(kind, _)| *kind == DefinitionKind::Orchestration);
        Ok(names.map(|(_, name)| name.clone()).collect())
    }

    fn definition(&mut self, kind: DefinitionKind, name: &str) -> Found<Option<(String, Digest)>> {
        let found = self.definitions.get(&(kind, name.to_owned()));
        Ok(found.map(|(module, digest, _)| (module.clone(), *digest)))
    }

    fn put_module(&mut self, new: &NewModule, now: Timestamp) -> Found<()> {
        self.deployed(new, now);
        let or_empty = || "{}".to_owned();
        let (grants, limits) = self.names.get(&new.name).map_or_else(
            || (or_empty(), or_empty()),
            |before| (before.grants.clone(), before.limits.clone()),
        );
        let name = Name {
            digest: new.digest,
            grants: new.grants.clone().unwrap_or(grants),
            limits: new.limits.clone().unwrap_or(limits),
            deployed_at: now,
        };
        self.names.insert(new.name.clone(), name);
        Ok(())
    }

    fn put_definitions(&mut self, new: &NewModule) -> Found<()> {
        self.definitions
            .retain(|_, (module, ..)| *module != new.name);
        for definition in &new.definitions {
            let place = (definition.kind, definition.name.clone());
            let version = definition.version.clone();
            self.definitions
                .insert(place, (new.name.clone(), new.digest, version.clone()));
            if let (DefinitionKind::Orchestration, Some(version)) = (definition.kind, version) {
                self.versions.insert(
                    (definition.name.clone(), version),
                    (new.name.clone(), new.digest),
                );
            }
        }
        Ok(())
    }

    fn set_grants(&mut self, name: &str, grants: &str) -> Found<bool> {
        let found = self.names.get_mut(name);
        Ok(found
            .map(|name| grants.clone_into(&mut name.grants))
            .is_some())
    }

    fn module_named(&mut self, name: &str) -> Found<Option<Digest>> {
        Ok(self.names.get(name).map(|name| name.digest))
    }

    fn live_on(&mut self, digest: Digest) -> Found<u64> {
        let live = self.instances.keys();
        let live = live.filter(|key| self.is_live_on(**key, digest));
        Ok(live.count() as u64)
    }

    fn delete_name(&mut self, name: &str) -> Found<()> {
        self.versions.retain(|_, (module, _)| module != name);
        self.definitions.retain(|_, (module, ..)| module != name);
        self.names.remove(name);
        Ok(())
    }

    fn delete_old_versions(&mut self) -> Found<()> {
        let definitions = &self.definitions;
        self.versions.retain(|(name, version), (_, digest)| {
            let current = definitions.get(&(DefinitionKind::Orchestration, name.clone()));
            current
                .is_some_and(|(_, of, current)| (of, current.as_ref()) == (digest, Some(version)))
        });
        Ok(())
    }

    fn unused_modules(&mut self) -> Found<Vec<CollectedModule>> {
        let used = self.modules_of(|_| true);
        let mut unused = self.modules_without_name();
        unused.retain(|module| !used.contains(&module.digest));
        Ok(unused)
    }

    fn delete_module(&mut self, digest: Digest) -> Found<()> {
        self.modules.remove(&digest);
        Ok(())
    }
}

impl SettingRows for Memory {
    fn setting(&mut self, which: Setting) -> Found<Option<String>> {
        Ok(self.settings.get(which.name()).cloned())
    }

    fn put_setting(&mut self, which: Setting, value: &str) -> Found<()> {
        self.settings
            .insert(which.name().to_owned(), value.to_owned());
        Ok(())
    }

    fn insert_key(&mut self, key: &KeyRow, at_most: u32) -> Found<bool> {
        if self.keys.len() >= at_most as usize {
            return Ok(false);
        }
        self.keys.insert(key.id.clone(), key.clone());
        Ok(true)
    }

    fn delete_key(&mut self, id: &str) -> Found<bool> {
        Ok(self.keys.remove(id).is_some())
    }

    fn answer_command(&mut self, token: &str, answer: &[u8]) -> Found<bool> {
        let found = self.commands.get_mut(token);
        Ok(found.map(|(_, of)| *of = Some(answer.to_vec())).is_some())
    }

    fn delete_old_answers(&mut self, before: Timestamp) -> Found<()> {
        self.commands
            .retain(|_, (at, answer)| answer.is_none() || *at >= before);
        Ok(())
    }
}
