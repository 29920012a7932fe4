//! [`Wasm`]: the engines and caches, and their configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use perennial_core::Digest;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};

use super::ambient::Ambient;
use super::cache::{CodeCache, Key};
use super::code;
use super::config::{WasmConfig, WasmError};
use super::contract::{ActivitiesPre, Contract, OrchestrationsPre};
use super::engines::Engines;
use super::granted;
use super::inspect::{self, Exports, Inspected};
use super::link::link;
use super::look::{self, Keys, Looker};
use super::module_cache::ModuleCache;
use super::module_error::ModuleError;
use super::sandbox::{Sandbox, Virtual};
use super::ticker::Ticker;
use crate::engine::executor::{Fault, Grants};
use crate::engine::workers::processors::Pace;
use crate::guest_lines::GuestLines;

/// Returns the stored bytes of a module.
pub type Source = Arc<dyn Fn(Digest) -> Result<Vec<u8>, Fault> + Send + Sync>;

/// Returns the current grants of a module.
pub type GrantsOf = Arc<dyn Fn(Digest) -> Result<Grants, Fault> + Send + Sync>;

/// Runs the modules of a hub. Cheap to clone; clones share all state.
#[derive(Clone)]
pub struct Wasm {
    pub(super) shared: Arc<Shared>,
}

/// The state that all clones share.
pub(super) struct Shared {
    pub(super) config: WasmConfig,
    pub(super) engines: Engines,
    pub(super) grants: GrantsOf,
    /// Where log lines of guests are kept.
    pub(super) lines: Option<Arc<GuestLines>>,
    /// One permit for each attempt that may run.
    pub(super) permits: Arc<Semaphore>,
    pub(super) ticker: Ticker,
    source: Source,
    cache: Arc<CodeCache>,
    keys: Keys,
    /// `None` if the component does not fit into the pool.
    pooled: ModuleCache<Option<OrchestrationsPre<Sandbox>>>,
    spare: ModuleCache<OrchestrationsPre<Sandbox>>,
    activities: ModuleCache<ReadyActivities>,
    spare_activities: ModuleCache<ReadyActivities>,
}

/// The activities of a module, and the engine that runs them.
pub(super) struct ReadyActivities {
    pub(super) pre: ActivitiesPre<Ambient>,
    pub(super) engine: wasmtime::Engine,
    /// The duration of polls, by activity.
    paces: Mutex<BTreeMap<String, Arc<Pace>>>,
}

impl ReadyActivities {
    pub(super) fn pace(&self, activity: &str) -> Arc<Pace> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = paces.get(activity) {
            return Arc::clone(pace);
        }
        let pace = Arc::new(Pace::quick());
        paces.insert(activity.to_owned(), Arc::clone(&pace));
        pace
    }
}

impl std::fmt::Debug for Wasm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wasm")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// Checks that the bytes of a module match its digest.
///
/// # Errors
/// A fault of the module: its instances wait until the right bytes are stored again.
pub(crate) fn undamaged(module: Digest, bytes: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if inspect::digest(&bytes) == module {
        return Ok(bytes);
    }
    Err(Fault::Module(format!(
        "the bytes of module {} are not those that were deployed: the file of the task hub is damaged: deploy the same file again, or restore a backup",
        module.short()
    )))
}

impl Wasm {
    /// Starts the engines. Asks `source` for a module's bytes only when they are first needed.
    ///
    /// # Errors
    /// [`WasmError`] if this system cannot run WebAssembly as configured. A cache directory that cannot be used is only a warning.
    pub fn new(config: WasmConfig, source: Source, grants: GrantsOf) -> Result<Self, WasmError> {
        Self::keeping_lines(None, config, source, grants)
    }

    /// As [`new`](Self::new), and keeps the log lines of guests.
    pub(crate) fn keeping_lines(
        lines: Option<Arc<GuestLines>>,
        config: WasmConfig,
        source: Source,
        grants: GrantsOf,
    ) -> Result<Self, WasmError> {
        let engines =
            Engines::new(&config).map_err(|error| WasmError::Engine(format!("{error:#}")))?;
        let cache = Arc::new(CodeCache::open(config.cache_dir.clone()));
        code::remember(&cache);
        let source: Source = Arc::new(move |module| undamaged(module, source(module)?));
        Ok(Self {
            shared: Arc::new(Shared {
                lines,
                grants,
                permits: Arc::new(Semaphore::new(config.activities_max.max(1) as usize)),
                ticker: Ticker::new([engines.activities.clone(), engines.spare_activities.clone()])
                    .map_err(WasmError::Thread)?,
                source,
                cache,
                keys: Keys::of(&engines.spare, &engines.spare_activities),
                pooled: ModuleCache::new(),
                spare: ModuleCache::new(),
                activities: ModuleCache::new(),
                spare_activities: ModuleCache::new(),
                engines,
                config,
            }),
        })
    }

    /// Turns the bytes of a file into a module: checks that this host can run it, and reads its definitions.
    ///
    /// Accepts a component, or a core module as `wit-bindgen` guests are compiled to, which is encoded as a component. Compiles the module,
    /// which takes from a tenth of a second to minutes depending on its size, and caches the code. The guest code that runs for this runs
    /// in the sandbox of orchestrations with its own limits.
    /// # Errors
    /// [`ModuleError`] says what is wrong and what to do about it.
    pub fn inspect(&self, bytes: &[u8]) -> Result<Inspected, ModuleError> {
        let shared = &*self.shared;
        let looker = Looker {
            orchestrations: &shared.engines.spare,
            activities: &shared.engines.spare_activities,
            keys: shared.keys,
            cache: &shared.cache,
        };
        looker.look(bytes)
    }

    /// Prepares an inspected module to run: compiles or loads it, so that its first instance does not wait.
    ///
    /// # Errors
    /// Why this host cannot run it.
    pub fn ready(&self, module: Digest, component: &[u8]) -> Result<(), Fault> {
        let exports = Exports::of(component).map_err(|error| Fault::Module(error.to_string()))?;
        let bytes = || Ok(component.to_vec());
        if exports.orchestrations.is_some() {
            self.shared.pooled_from(module, &bytes)?;
        }
        if exports.activities.is_some() {
            self.shared.activities_from(module, &bytes)?;
        }
        // Saves the findings of the inspection beside the code.
        look::hand_over(&self.shared.cache, module, self.shared.keys);
        Ok(())
    }

    /// Drops everything that is cached for a module that was deleted. Existing guests continue.
    pub fn forget(&self, module: Digest) {
        self.shared.pooled.forget(module);
        self.shared.spare.forget(module);
        self.shared.activities.forget(module);
        self.shared.spare_activities.forget(module);
        self.shared.cache.forget(module);
    }
}

impl Shared {
    /// The orchestrations of a module, linked for the pool, or `None` if they do not fit.
    pub(super) fn pooled(
        &self,
        module: Digest,
    ) -> Result<Arc<Option<OrchestrationsPre<Sandbox>>>, Fault> {
        self.pooled_from(module, &|| (self.source)(module))
    }

    fn pooled_from(
        &self,
        module: Digest,
        bytes: &Bytes<'_>,
    ) -> Result<Arc<Option<OrchestrationsPre<Sandbox>>>, Fault> {
        self.pooled.get(module, || {
            match self.orchestrations(&self.engines.pooled, module, bytes) {
                Ok(pre) => Ok(Some(pre)),
                Err(shortage @ Fault::Host(_)) => Err(shortage),
                // Other errors than a component that is too large for the pool recur outside the pool, so try there.
                Err(error) => self.spare_from(module, bytes).map(|_| {
                    tracing::info!(%module, %error, "the module runs outside the instance pool");
                    None
                }),
            }
        })
    }

    /// The orchestrations of a module, linked outside the pool.
    pub(super) fn spare(&self, module: Digest) -> Result<Arc<OrchestrationsPre<Sandbox>>, Fault> {
        self.spare_from(module, &|| (self.source)(module))
    }

    fn spare_from(
        &self,
        module: Digest,
        bytes: &Bytes<'_>,
    ) -> Result<Arc<OrchestrationsPre<Sandbox>>, Fault> {
        self.spare.get(module, || {
            self.orchestrations(&self.engines.spare, module, bytes)
        })
    }

    /// The activities of a module, linked for the pool, or outside it if they do not fit.
    pub(super) fn activities(&self, module: Digest) -> Result<Arc<ReadyActivities>, Fault> {
        self.activities_from(module, &|| (self.source)(module))
    }

    fn activities_from(
        &self,
        module: Digest,
        bytes: &Bytes<'_>,
    ) -> Result<Arc<ReadyActivities>, Fault> {
        self.activities.get(module, || {
            let pooled = self.prepare_activities(&self.engines.activities, module, bytes);
            pooled.or_else(|error| {
                if matches!(error, Fault::Host(_)) {
                    return Err(error);
                }
                let spare = &self.engines.spare_activities;
                let ready = self.prepare_activities(spare, module, bytes)?;
                tracing::info!(%module, %error, "the module's activities run outside the instance pool");
                Ok(ready)
            })
        })
    }

    /// The activities of a module, linked outside the pool.
    pub(super) fn spare_activities(&self, module: Digest) -> Result<Arc<ReadyActivities>, Fault> {
        self.spare_activities.get(module, || {
            let bytes = || (self.source)(module);
            self.prepare_activities(&self.engines.spare_activities, module, &bytes)
        })
    }

    fn prepare_activities(
        &self,
        engine: &wasmtime::Engine,
        module: Digest,
        bytes: &Bytes<'_>,
    ) -> Result<ReadyActivities, Fault> {
        let component = self.load(engine, module, self.keys.activities, bytes)?;
        let pre = granted::prepare(&component).map_err(|error| unlinkable(module, &error))?;
        let engine = engine.clone();
        Ok(ReadyActivities {
            pre,
            engine,
            paces: Mutex::default(),
        })
    }

    /// Whether [`Shared::activities`] would return at once.
    pub(super) fn has_activities(&self, module: Digest) -> bool {
        self.activities.has(module)
    }

    fn orchestrations(
        &self,
        engine: &wasmtime::Engine,
        module: Digest,
        bytes: &Bytes<'_>,
    ) -> Result<OrchestrationsPre<Sandbox>, Fault> {
        let component = self.load(engine, module, self.keys.orchestrations, bytes)?;
        let mut linker = Linker::new(engine);
        link(&mut linker, &component, &Virtual).map_err(|error| {
            Fault::Module(format!("module {module:?} cannot be linked: {error}"))
        })?;
        let pre = linker
            .instantiate_pre(&component)
            .map_err(|error| unlinkable(module, &error))?;
        let contract = Contract::of(&component, Contract::orchestrations);
        OrchestrationsPre::new(contract, pre).map_err(|error| unlinkable(module, &error))
    }

    fn load(
        &self,
        engine: &wasmtime::Engine,
        module: Digest,
        key: Key,
        bytes: &Bytes<'_>,
    ) -> Result<Component, Fault> {
        code::load(engine, &self.cache, module, key, bytes)
            .map_err(|fault| fault.context(format!("module {module:?} cannot be loaded")))
    }
}

/// Returns the bytes of a module when they are needed.
type Bytes<'a> = dyn Fn() -> Result<Vec<u8>, Fault> + 'a;

fn unlinkable(module: Digest, error: &wasmtime::Error) -> Fault {
    code::fault(error).context(format!("module {module:?} cannot be linked"))
}
