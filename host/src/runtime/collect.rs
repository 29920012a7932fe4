//! Removes unused modules from the hub and from the code cache.

use std::path::Path;

use crate::client::{Client, Error, Result};
use crate::engine::Request;
use crate::store::{CollectedModule, OldVersions, Reply};
use crate::wasm;

/// Which modules are collected, and whether they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collect {
    /// Also those that are kept only because they have a version of an orchestration that is not the newest: such versions cannot be
    /// started any more.
    pub old_versions: bool,
    /// Nothing is changed.
    pub dry_run: bool,
}

impl Collect {
    /// Modules that nothing points to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether those go too that are kept only for old versions of orchestrations.
    #[must_use]
    pub fn old_versions(mut self, old_versions: bool) -> Self {
        self.old_versions = old_versions;
        self
    }

    /// Whether they are only listed.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

impl Client {
    /// Deletes the modules that nothing points to, with their compiled code. Which they were, the oldest first.
    ///
    /// What points to a module: its name; a name or a version that means it for new instances; a live instance, or a failed one, which could
    /// be rewound; an activity or a child that waits to be tried again. Instances that are Completed or Terminated do not.
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
        // The owner has forgotten what it kept. Where this process was the owner for a moment, nobody else does it.
        if let Some(dir) = self.path().and_then(Path::parent) {
            let dir = dir.join(wasm::CACHE_DIR);
            for module in &modules {
                wasm::forget_compiled(&dir, module.digest);
            }
        }
        Ok(modules)
    }

    /// Takes a module's name out of the hub: what it defines can no longer be started or called by others, and what it was granted is gone.
    /// Instances that live go on with the module that they are pinned to, and it is kept until they have ended; its activities are granted
    /// nothing any more.
    ///
    /// # Errors
    /// [`Error::is_not_found`]; [`Error::is_in_use`] where live instances run it, unless `also` says [`RemoveInUse::Yes`].
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

/// Whether a module is removed that live instances run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoveInUse {
    /// It is not.
    #[default]
    No,
    /// It is.
    Yes,
}
