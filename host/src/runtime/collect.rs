//! Removes unused modules from the hub and from the code cache.

use crate::client::{Client, Error, Result};
use crate::engine::Request;
use crate::store::{CollectedModule, OldVersions, Reply};
use crate::wasm;

/// Options for the deletion of unused modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collect {
    /// Also deletes modules that are kept only for an old version of an orchestration. Such versions cannot be started any more.
    pub old_versions: bool,
    /// Only lists the modules.
    pub dry_run: bool,
}

impl Collect {
    /// Deletes only modules that nothing refers to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether modules kept only for old versions of orchestrations are deleted too.
    #[must_use]
    pub fn old_versions(mut self, old_versions: bool) -> Self {
        self.old_versions = old_versions;
        self
    }

    /// Sets whether the modules are only listed.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

impl Client {
    /// Deletes the modules that nothing refers to, with their compiled code, and returns them, oldest first.
    ///
    /// These keep a module: its name; a name or version of an orchestration that new instances would use; an instance that is live or
    /// Failed (which could be rewound); an activity or child that waits for a retry. Completed and Terminated instances keep nothing.
    ///
    /// # Errors
    /// If the hub cannot be read or changed.
    pub async fn collect_modules(&self, which: Collect) -> Result<Vec<CollectedModule>> {
        let old = if which.old_versions {
            OldVersions::Forget
        } else {
            OldVersions::Keep
        };
        if let (Some(remote), true) = (self.remote(), which.dry_run) {
            return remote.collectable(which.old_versions).await;
        }
        if which.dry_run {
            return self.read(move |reader| reader.collectable(old)).await;
        }
        let modules = match self
            .submit("modules", Request::CollectModules { old })
            .await?
        {
            Reply::Collected(modules) => modules,
            other => return Err(Error::invalid(format!("it was answered with {other:?}"))),
        };
        // An owner has dropped its cached code. If this process was the owner for a moment, it must do so itself.
        if let Some(dir) = self.data_dir() {
            let dir = dir.join(wasm::CACHE_DIR);
            for module in &modules {
                wasm::forget_compiled(&dir, module.digest);
            }
        }
        Ok(modules)
    }

    /// Removes a module's name from the hub: its orchestrations and activities can no longer be started or called by others, and its grants
    /// are deleted. Live instances continue on the module that they are pinned to, which is kept until they have ended; but its activities
    /// have no grants any more.
    ///
    /// # Errors
    /// [`Error::is_not_found`]; [`Error::is_in_use`] if live instances run the module, unless `also` is [`RemoveInUse::Yes`].
    pub async fn remove_module(&self, name: &str, also: RemoveInUse) -> Result<()> {
        let request = Request::RemoveModule {
            name: name.to_owned(),
            in_use_too: also == RemoveInUse::Yes,
        };
        match self.submit(name, request).await? {
            Reply::Nothing => Err(Error::unknown_module(name)),
            _ => Ok(()),
        }
    }
}

/// Whether to remove a module although live instances run it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoveInUse {
    /// Refuse to remove it.
    #[default]
    No,
    /// Remove it.
    Yes,
}
