//! Modules and names.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use perennial_core::Digest;

use crate::store::StoreError;
use crate::store::memory::reads::sorted;
use crate::store::memory::{Memory, Module};
use crate::store::sqlite::rows::modules::{FIRST_CONTRACT, check_component, is_like_a_digest};
use crate::store::types::{
    CollectedModule, Definition, DefinitionKind, ModuleRow, NameRows, OldVersions, StoredRow,
};

impl Memory {
    pub(crate) fn names(&self) -> Result<NameRows, StoreError> {
        let mut rows = NameRows::default();
        let definitions = self.definitions.iter();
        rows.definitions = definitions.map(|(k, v)| (k.clone(), v.clone())).collect();
        let versions = self.versions.iter();
        rows.versions = versions
            .map(|(k, (_, digest))| (k.clone(), *digest))
            .collect();
        // An old version has the limits of its name. Limits of the current version take precedence.
        for (module, digest) in self.versions.values() {
            if let Some(name) = self.names.get(module).filter(|name| name.limits != "{}") {
                rows.limits.insert(*digest, name.limits.clone());
            }
        }
        for name in self.names.values().filter(|name| name.limits != "{}") {
            rows.limits.insert(name.digest, name.limits.clone());
        }
        for (digest, module) in self.modules.iter() {
            if module.contract != FIRST_CONTRACT {
                rows.cancellable.insert(*digest);
            }
            let activities = module.definitions.iter();
            let activities = activities.filter(|of| of.kind == DefinitionKind::Activity);
            let names = activities.map(|of| of.name.clone()).collect();
            rows.activities_of.insert(*digest, names);
        }
        Ok(rows)
    }

    pub(crate) fn digests(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(self.modules.keys().copied().collect())
    }

    pub(crate) fn component(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.modules.get(&digest);
        Ok(found.map(|module| module.component.clone()))
    }

    pub(crate) fn component_undamaged(
        &self,
        digest: Digest,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = self.component(digest)?;
        if let Some(bytes) = &bytes {
            check_component(digest, bytes)?;
        }
        Ok(bytes)
    }

    pub(crate) fn grants(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        if let Some(name) = self.names.values().find(|name| name.digest == digest) {
            return Ok(Some(name.grants.clone()));
        }
        let defined = self.modules.get(&digest).into_iter();
        let defined = defined.flat_map(|module| &module.definitions);
        let mut owners = defined.flat_map(|of| {
            let owned = self.definitions.iter();
            let owned = owned.filter(|((_, name), _)| *name == of.name);
            owned.filter_map(|(_, (owner, ..))| self.names.get(owner))
        });
        Ok(owners.next().map(|name| name.grants.clone()))
    }

    pub(crate) fn find_module(&self, text: &str) -> Result<Vec<Digest>, StoreError> {
        if let Some(name) = self.names.get(text) {
            return Ok(vec![name.digest]);
        }
        if !is_like_a_digest(text) {
            return Ok(Vec::new());
        }
        let digits = text.to_ascii_lowercase();
        let begins = |digest: &&Digest| digest.to_string().starts_with(&digits);
        Ok(self.modules.keys().filter(begins).copied().collect())
    }

    pub(crate) fn defines(&self, digest: Digest, orchestration: &str) -> Result<bool, StoreError> {
        let is =
            |of: &Definition| of.kind == DefinitionKind::Orchestration && of.name == orchestration;
        let module = self.modules.get(&digest);
        Ok(module.is_some_and(|module| module.definitions.iter().any(is)))
    }

    pub(crate) fn collectable(&self, old: OldVersions) -> Result<Vec<CollectedModule>, StoreError> {
        let mut used = self.modules_of(|_| true);
        used.extend(self.names.values().map(|name| name.digest));
        used.extend(self.definitions.values().map(|(_, digest, _)| *digest));
        if old == OldVersions::Keep {
            used.extend(self.versions.values().map(|(_, digest)| *digest));
        }
        let unused = self
            .modules
            .iter()
            .filter(|(digest, _)| !used.contains(digest));
        let unused = sorted(unused, |(digest, module)| (module.stored_at, **digest));
        let collected = |(digest, module): (&Digest, &Module)| CollectedModule {
            digest: *digest,
            bytes: module.component.len() as u64,
        };
        Ok(unused.into_iter().map(collected).collect())
    }

    /// The module that owns a definition, by name.
    fn owner(&self, of: &Definition) -> Option<&String> {
        let owned = self.definitions.get(&(of.kind, of.name.clone()));
        owned.map(|(owner, ..)| owner)
    }

    pub(crate) fn modules(&self) -> Result<Vec<ModuleRow>, StoreError> {
        let rows = self.names.iter().filter_map(|(name, row)| {
            let module = self.modules.get(&row.digest)?;
            let owned = module.definitions.iter();
            let owned = owned.filter(|of| self.owner(of) == Some(name));
            Some(ModuleRow {
                name: name.clone(),
                digest: row.digest,
                definitions: owned.cloned().collect(),
                imports: module.imports.clone(),
                grants: row.grants.clone(),
                limits: row.limits.clone(),
                deployed_at: row.deployed_at,
                size: module.component.len() as u64,
            })
        });
        Ok(rows.collect())
    }

    pub(crate) fn stored_modules(
        &self,
        only: Option<Digest>,
    ) -> Result<Vec<StoredRow>, StoreError> {
        let modules = self.modules.iter();
        let modules = modules.filter(|(digest, _)| only.is_none_or(|only| only == **digest));
        let newest = sorted(modules, |(digest, of)| (Reverse(of.stored_at), **digest));
        let stored = newest.into_iter().map(|(digest, module)| {
            let names = self.names.iter().filter(|(_, row)| row.digest == *digest);
            let owners = module.definitions.iter().filter_map(|of| self.owner(of));
            let owners: BTreeSet<&String> = owners.collect();
            StoredRow {
                digest: *digest,
                contract: module.contract.clone(),
                definitions: module.definitions.clone(),
                imports: module.imports.clone(),
                size: module.component.len() as u64,
                stored_at: module.stored_at,
                deployed_as: names.map(|(name, _)| name.clone()).collect(),
                versions_of: owners.into_iter().cloned().collect(),
            }
        });
        Ok(stored.collect())
    }
}
