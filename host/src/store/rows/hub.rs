//! Rows of the hub itself: modules, names, settings, keys, and commands of other processes.

use perennial_core::{Digest, Timestamp};

use crate::store::rows::Found;
use crate::store::types::{CollectedModule, DefinitionKind, KeyRow, NewModule, Setting};

/// Modules, and the names by which they are found.
pub(crate) trait ModuleRows {
    /// Whether a module is stored.
    fn has_module(&mut self, digest: Digest) -> Found<bool>;

    /// The names of all orchestrations that can be started.
    fn orchestrations(&mut self) -> Found<Vec<String>>;

    /// The module that owns a definition, by name, and its digest.
    fn definition(&mut self, kind: DefinitionKind, name: &str) -> Found<Option<(String, Digest)>>;

    /// Stores a module under its name; grants and limits that it does not give stay those of the name.
    fn put_module(&mut self, new: &NewModule, now: Timestamp) -> Found<()>;

    /// Makes the definitions of a module those of its name, also where another module owned them.
    fn put_definitions(&mut self, new: &NewModule) -> Found<()>;

    /// Changes the grants of a name. `false` if there is no such module.
    fn set_grants(&mut self, name: &str, grants: &str) -> Found<bool>;

    /// The module with a name.
    fn module_named(&mut self, name: &str) -> Found<Option<Digest>>;

    /// How many live instances run a module.
    fn live_on(&mut self, digest: Digest) -> Found<u64>;

    /// Deletes a name with its definitions and their versions.
    fn delete_name(&mut self, name: &str) -> Found<()>;

    /// Deletes the versions of orchestrations other than the current ones.
    fn delete_old_versions(&mut self) -> Found<()>;

    /// The modules that nothing refers to, in the order in which they were stored: no name, no version that can be started, no instance that
    /// is live or failed, and no task.
    fn unused_modules(&mut self) -> Found<Vec<CollectedModule>>;

    /// Deletes a module.
    fn delete_module(&mut self, digest: Digest) -> Found<()>;
}

/// Settings, keys, and commands of other processes.
pub(crate) trait SettingRows {
    /// A setting, as JSON; `None` if it was never set.
    fn setting(&mut self, which: Setting) -> Found<Option<String>>;

    /// Writes a setting.
    fn put_setting(&mut self, which: Setting, value: &str) -> Found<()>;

    /// Adds a key, unless there are so many already. Returns whether it did.
    fn insert_key(&mut self, key: &KeyRow, at_most: u32) -> Found<bool>;

    /// Deletes a key. `false` if it does not exist.
    fn delete_key(&mut self, id: &str) -> Found<bool>;

    /// Writes the answer to a command of another process. `false` if that has withdrawn it.
    fn answer_command(&mut self, token: &str, answer: &[u8]) -> Found<bool>;

    /// Deletes answers to commands from before this time, which nobody read.
    fn delete_old_answers(&mut self, before: Timestamp) -> Found<()>;
}
