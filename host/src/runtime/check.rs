//! Compatibility check: replays live instances on a new module, without writing anything.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, IntoFuture};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_core::{Digest, Quarantine, Start, Status};

use crate::client::{Client, Error, Module, ModuleInfo, Result};
use crate::engine::executor::{Executor, ResidentGuest};
use crate::engine::{LoadError, replay};
use crate::foreign::Listener;
use crate::store::{
    DefinitionKind, InstanceFilter, InstanceKey, InstanceRow, ListQuery, Reader, StoreError,
};
use crate::wasm::{CACHE_DIR, Grants, Wasm, WasmConfig};

/// Instances read per page.
const PAGE: u32 = 500;

/// How often an instance that changes during the check is checked again.
const LOOKS_MAX: usize = 5;

/// The result of a check: what a deployment would change, and which live instances could continue on the new module.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// The name under which the module would be deployed.
    pub module: String,
    /// The digest of the new module.
    pub digest: Digest,
    /// The change of each name that the new module or the deployed one defines.
    pub names: Vec<CheckedName>,
    /// Interfaces that the new module imports and the deployed one does not.
    pub imports_added: Vec<String>,
    /// Interfaces that the deployed module imports and the new one does not.
    pub imports_removed: Vec<String>,
    /// The current grants of the name; empty if it is new.
    pub grants_before: Grants,
    /// The grants after the deployment.
    pub grants_after: Grants,
    /// All live instances of the orchestrations concerned, oldest last. Those of remote workers are left out: they run on no module.
    pub instances: Vec<CheckedInstance>,
}

/// The change of a name by a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckedName {
    /// Whether it is an orchestration or an activity.
    pub kind: DefinitionKind,
    /// The name of the orchestration or activity.
    pub name: String,
    /// The change by the deployment.
    pub change: NameChange,
}

/// What a deployment would do to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameChange {
    /// No module defines it yet.
    New,
    /// It already refers to this module.
    Unchanged,
    /// It would be updated to the new module, from the one with this digest.
    Updated(Digest),
    /// It belongs to the module with this name: the deployment would need to replace it.
    Taken(String),
    /// The new module no longer defines it, so it could not be started or called any more.
    Dropped,
}

/// A live instance, and whether it could continue on the new module.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckedInstance {
    /// The id of the instance.
    pub instance_id: String,
    /// The name of its orchestration.
    pub name: String,
    /// Its current status.
    pub runtime_status: Status,
    /// The module that it is pinned to. A deployment does not change that.
    pub pinned: Option<Digest>,
    /// Whether it could continue on the new module.
    pub outcome: CheckOutcome,
}

/// Whether an instance could continue on a module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckOutcome {
    /// Yes: the module replays its whole history.
    Compatible {
        /// The number of turns replayed.
        turns: u32,
    },
    /// No: the replay differs from the history as described.
    Differs(Box<Quarantine>),
    /// No: the module does not define its orchestration.
    NotDefined,
    /// It ended during the check.
    Ended,
    /// It changed too fast to be checked.
    Busy,
}

impl CheckReport {
    /// Instances that could not continue on the new module.
    pub fn incompatible(&self) -> impl Iterator<Item = &CheckedInstance> {
        self.instances
            .iter()
            .filter(|instance| match instance.outcome {
                CheckOutcome::Differs(_) | CheckOutcome::NotDefined | CheckOutcome::Busy => true,
                CheckOutcome::Compatible { .. } | CheckOutcome::Ended => false,
            })
    }

    /// Names that belong to other modules.
    pub fn taken(&self) -> impl Iterator<Item = &CheckedName> {
        let is_taken = |name: &&CheckedName| matches!(name.change, NameChange::Taken(_));
        self.names.iter().filter(is_taken)
    }
}

type OnProgress = Option<Listener<(usize, usize)>>;

/// A compatibility check. Await it.
#[must_use = "a check is made when it is awaited"]
pub struct Check {
    client: Client,
    module: Module,
    grants: Option<Grants>,
    on_progress: OnProgress,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Checks what deploying a module would change, and which live instances of the orchestrations concerned could continue on it. Replays
    /// their histories on all processors, without writing anything; a host may run the hub meanwhile. Await the returned value.
    ///
    /// A deployment does not affect live instances: they stay on the module that they are pinned to. [`resume_on`](Client::resume_on) moves
    /// a quarantined instance that is compatible to the new one.
    pub fn check(&self, module: Module) -> Check {
        Check {
            client: self.clone(),
            module,
            grants: None,
            on_progress: None,
        }
    }
}

impl Check {
    /// Sets the grants of the deployment. By default they are the current ones of the module's name.
    pub fn grants(mut self, grants: Grants) -> Self {
        self.grants = Some(grants);
        self
    }

    /// Calls `told` on its own thread with the number of instances checked, and of all instances. If it is slow, calls are skipped.
    pub fn on_progress(mut self, told: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        let told = move |(done, total)| told(done, total);
        self.on_progress = Some(Listener::new("the progress of a check", 1, told));
        self
    }
}

impl IntoFuture for Check {
    type Output = Result<CheckReport>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                module,
                grants,
                on_progress,
            } = self;
            let before = client.modules().await?;
            let before = before.into_iter().find(|info| info.name == module.name);
            let threads = std::thread::available_parallelism().map_or(2, usize::from);
            let cache_dir = client.data_dir().map(Path::to_owned);
            let asked = module.clone();
            let wasm = tokio::task::spawn_blocking(move || {
                executor_of(&asked, cache_dir.as_deref(), threads)
            });
            let wasm = wasm.await.map_err(|_| Error::panicked())??;
            let checked = module.clone();
            let on_progress = Arc::new(on_progress);
            let told = Arc::clone(&on_progress);
            let (names, instances) = client
                .read(move |reader| {
                    let names = names(reader, &checked)?;
                    let live = live(reader, &names)?;
                    let with = Checking {
                        reader,
                        executor: &*wasm,
                        module: &checked,
                    };
                    Ok((names, with.all(live, threads, &on_progress)?))
                })
                .await?;
            // Not on a thread of the runtime, because the callback may block.
            let close = move || told.iter().for_each(Listener::close);
            let closed = tokio::task::spawn_blocking(close);
            closed.await.map_err(|_| Error::panicked())?;
            Ok(report(module, before, grants, names, instances))
        })
    }
}

fn report(
    module: Module,
    before: Option<ModuleInfo>,
    grants: Option<Grants>,
    names: Vec<CheckedName>,
    instances: Vec<CheckedInstance>,
) -> CheckReport {
    let (imports, grants_before) =
        before.map_or_else(Default::default, |info| (info.imports, info.grants));
    let missing_in = |these: &[String], those: &[String]| -> Vec<String> {
        let missing = those.iter().filter(|import| !these.contains(import));
        missing.cloned().collect()
    };
    CheckReport {
        imports_added: missing_in(&imports, &module.imports),
        imports_removed: missing_in(&module.imports, &imports),
        grants_after: grants.unwrap_or_else(|| grants_before.clone()),
        grants_before,
        module: module.name,
        digest: module.digest,
        names,
        instances,
    }
}

/// The changes of the names that the new module or the deployed one defines.
fn names(reader: &Reader, module: &Module) -> Result<Vec<CheckedName>, StoreError> {
    let now = reader.names()?.definitions;
    let mut names = BTreeMap::new();
    for definition in &module.definitions {
        let key = (definition.kind, definition.name.clone());
        let change = match now.get(&key) {
            None => NameChange::New,
            Some((owner, _, _)) if *owner != module.name => NameChange::Taken(owner.clone()),
            Some((_, digest, _)) if *digest == module.digest => NameChange::Unchanged,
            Some((_, digest, _)) => NameChange::Updated(*digest),
        };
        names.insert(key, change);
    }
    let owned = now
        .into_iter()
        .filter(|(_, (owner, ..))| *owner == module.name);
    for (key, _) in owned {
        names.entry(key).or_insert(NameChange::Dropped);
    }
    let name = |((kind, name), change)| CheckedName { kind, name, change };
    Ok(names.into_iter().map(name).collect())
}

/// All live instances of these orchestrations, newest first. Those of remote workers never run on a module.
fn live(reader: &Reader, names: &[CheckedName]) -> Result<Vec<InstanceRow>, StoreError> {
    let mut live = Vec::new();
    let orchestrations = names
        .iter()
        .filter(|name| name.kind == DefinitionKind::Orchestration);
    for orchestration in orchestrations {
        let filter = InstanceFilter {
            statuses: vec![Status::Pending, Status::Running, Status::Suspended],
            name: Some(orchestration.name.clone()),
            ..InstanceFilter::default()
        };
        let mut query = ListQuery {
            filter,
            limit: PAGE,
            ..ListQuery::default()
        };
        loop {
            let page = reader.list(&query)?;
            if let Some(last) = page.rows.last() {
                query.after = Some((last.created_at, last.key.0));
            }
            live.extend(page.rows.into_iter().filter(|row| row.module.is_some()));
            if !page.more {
                break;
            }
        }
    }
    Ok(live)
}

/// Replays histories on the new module.
struct Checking<'a> {
    reader: &'a Reader,
    executor: &'a dyn Executor,
    module: &'a Module,
}

impl Checking<'_> {
    fn all(
        &self,
        live: Vec<InstanceRow>,
        threads: usize,
        on_progress: &OnProgress,
    ) -> Result<Vec<CheckedInstance>, StoreError> {
        let (total, done) = (live.len(), AtomicUsize::new(0));
        let progress = |done| on_progress.iter().for_each(|told| told.tell((done, total)));
        progress(0);
        let queue: Mutex<VecDeque<(usize, InstanceRow)>> =
            Mutex::new(live.into_iter().enumerate().collect());
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front()
        };
        let work = || -> Result<Vec<(usize, CheckedInstance)>, StoreError> {
            let mut checked = Vec::new();
            while let Some((place, row)) = next() {
                checked.push((place, self.one(row)?));
                progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            }
            Ok(checked)
        };
        let mut checked = std::thread::scope(|scope| {
            let workers = spawn_some(scope, threads.min(total), &work);
            let mut all = work()?;
            for worker in workers {
                // Code of guests and of the core is guarded, so a panic here is a bug of the check.
                let checked = worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                all.extend(checked);
            }
            Ok::<_, StoreError>(all)
        })?;
        checked.sort_by_key(|(place, _)| *place);
        Ok(checked.into_iter().map(|(_, checked)| checked).collect())
    }

    fn one(&self, row: InstanceRow) -> Result<CheckedInstance, StoreError> {
        let (key, name) = (row.key, row.name.clone());
        let checked = |row: &InstanceRow, outcome| CheckedInstance {
            instance_id: row.id.clone(),
            name: row.name.clone(),
            runtime_status: row.status,
            pinned: row.module,
            outcome,
        };
        if !defines(self.module, &name) {
            return Ok(checked(&row, CheckOutcome::NotDefined));
        }
        let mut row = row;
        for _ in 0..LOOKS_MAX {
            match self.replay(&row) {
                Ok(()) => return Ok(checked(&row, CheckOutcome::Compatible { turns: row.turns })),
                Err(LoadError::Store(error)) => return Err(error),
                Err(LoadError::Panicked(why)) => {
                    let why = Box::new(Quarantine::because(why));
                    return Ok(checked(&row, CheckOutcome::Differs(why)));
                }
                Err(LoadError::Quarantine(why)) => {
                    // The instance changed during the replay. If it continued as new, its history was replaced.
                    let Some(now) = self.now(key)? else {
                        return Ok(checked(&row, CheckOutcome::Ended));
                    };
                    if (now.execution, now.generation) == (row.execution, row.generation) {
                        return Ok(checked(&now, CheckOutcome::Differs(why)));
                    }
                    row = now;
                }
            }
        }
        Ok(checked(&row, CheckOutcome::Busy))
    }

    fn now(&self, key: InstanceKey) -> Result<Option<InstanceRow>, StoreError> {
        let row = self.reader.instance_by_key(key)?;
        Ok(row.filter(|row| !row.status.is_end()))
    }

    fn replay(&self, row: &InstanceRow) -> Result<(), LoadError> {
        let mut bring = |start: &Start| bring(self.executor, self.module, start);
        replay(self.reader, row, Some(&mut bring), &mut |_| {}).map(|_| ())
    }
}

/// Makes guests of one module, outside any hub. At most `guests` exist at once.
///
/// # Errors
/// [`Error::is_invalid`] if WebAssembly cannot be run here.
pub(super) fn executor_of(
    module: &Module,
    cache_dir: Option<&Path>,
    guests: usize,
) -> Result<Arc<Wasm>> {
    let config = WasmConfig {
        // The code was compiled when the module was inspected.
        cache_dir: cache_dir.map(|dir| dir.join(CACHE_DIR)),
        resident_max: u32::try_from(guests).unwrap_or(u32::MAX),
        ..WasmConfig::default()
    };
    let component = module.component.clone();
    let source = Arc::new(move |_| Ok(component.clone()));
    let wasm = Wasm::new(config, source, Arc::new(|_| Ok(Grants::default())));
    wasm.map(Arc::new)
        .map_err(|error| Error::module(error.to_string()))
}

/// Makes the guest of a replay on this module.
pub(super) fn bring(
    executor: &dyn Executor,
    module: &Module,
    start: &Start,
) -> Result<Box<dyn ResidentGuest>, LoadError> {
    let (limits, id) = (&start.limits, &start.instance_id);
    executor
        .instantiate(module.digest, limits, id, start.clock())
        .map_err(LoadError::from)
}

/// Whether a module defines an orchestration.
pub(super) fn defines(module: &Module, orchestration: &str) -> bool {
    module.definitions.iter().any(|definition| {
        definition.kind == DefinitionKind::Orchestration && definition.name == orchestration
    })
}

/// Spawns up to this many threads in a scope. Stops at the first that the system cannot create, since the work also continues without them.
pub(super) fn spawn_some<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    count: usize,
    work: &'scope (dyn Fn() -> T + Sync),
) -> Vec<std::thread::ScopedJoinHandle<'scope, T>> {
    let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
    (1..count).map_while(spawn).collect()
}
