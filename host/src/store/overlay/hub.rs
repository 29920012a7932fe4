//! Modules, settings, keys, and commands.

use std::collections::BTreeSet;

use perennial_core::{Digest, Timestamp};

use crate::store::overlay::Overlay;
use crate::store::overlay::source::{Source, Wanted};
use crate::store::rows::Found;
use crate::store::rows::hub::{ModuleRows, SettingRows};
use crate::store::types::{
    CollectedModule, DefinitionKind, InstanceKey, KeyRow, NewModule, Setting,
};

/// Calls that need the rows of the hub itself.
macro_rules! of_hub {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, $($arg: $type),*) -> Found<$result> {
            self.need_hub()?;
            self.memory.$name($($arg),*)
        })*
    };
}

impl<S> Overlay<S> {
    /// The instances that this batch has touched, or whose tasks it has. The source knows of the others.
    fn touched(&self) -> BTreeSet<InstanceKey> {
        let tasks = self.memory.tasks.touched().map(|(key, _)| *key);
        let instances = self.memory.instances.touched().copied();
        instances.chain(tasks).collect()
    }
}

impl<S: Source> ModuleRows for Overlay<S> {
    of_hub! {
        fn has_module(digest: Digest) -> bool;
        fn orchestrations() -> Vec<String>;
        fn definition(kind: DefinitionKind, name: &str) -> Option<(String, Digest)>;
        fn put_module(new: &NewModule, now: Timestamp) -> ();
        fn put_definitions(new: &NewModule) -> ();
        fn set_grants(name: &str, grants: &str) -> bool;
        fn module_named(name: &str) -> Option<Digest>;
        fn delete_name(name: &str) -> ();
        fn delete_old_versions() -> ();
        fn delete_module(digest: Digest) -> ();
    }

    fn live_on(&mut self, digest: Digest) -> Found<u64> {
        let touched = self.touched();
        let except: Vec<InstanceKey> = touched.iter().copied().collect();
        self.round_trips += 1;
        let others = self.source.live_on(digest, &except)?;
        let here = |key: &&InstanceKey| self.memory.is_live_on(**key, digest);
        Ok(others + touched.iter().filter(here).count() as u64)
    }

    fn unused_modules(&mut self) -> Found<Vec<CollectedModule>> {
        self.need_hub()?;
        let touched = self.touched();
        let mut used = self.memory.modules_of(|key| touched.contains(&key));
        let mut unused = self.memory.modules_without_name();
        unused.retain(|module| !used.contains(&module.digest));
        if unused.is_empty() {
            return Ok(unused);
        }
        let among: Vec<Digest> = unused.iter().map(|module| module.digest).collect();
        let except: Vec<InstanceKey> = touched.into_iter().collect();
        self.round_trips += 1;
        used.extend(self.source.used_modules(&among, &except)?);
        unused.retain(|module| !used.contains(&module.digest));
        Ok(unused)
    }
}

impl<S: Source> SettingRows for Overlay<S> {
    of_hub! {
        fn setting(which: Setting) -> Option<String>;
        fn put_setting(which: Setting, value: &str) -> ();
        fn insert_key(key: &KeyRow, at_most: u32) -> bool;
        fn delete_key(id: &str) -> bool;
    }

    fn answer_command(&mut self, token: &str, answer: &[u8]) -> Found<bool> {
        self.fetch(Wanted {
            tokens: vec![token.to_owned()],
            ..Wanted::default()
        })?;
        self.memory.answer_command(token, answer)
    }

    fn delete_old_answers(&mut self, before: Timestamp) -> Found<()> {
        self.memory.delete_old_answers(before)?;
        self.batch.instructions.delete_answered.push(before);
        Ok(())
    }
}
