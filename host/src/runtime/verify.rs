//! Integrity check of a hub: checks the file and every history, and replays every live instance that has a module. Writes nothing.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use perennial_core::{Quarantine, Start, Status};

use crate::client::{Client, Error, Result};
use crate::engine::executor::{Executor, Fault};
use crate::engine::{LoadError, MakeGuest, replay};
use crate::foreign::Listener;
use crate::runtime::check::spawn_some;
use crate::runtime::fault;
use crate::store::{InstanceRow, ListQuery, Place, Reader, StoreError};
use crate::wasm::{self, CACHE_DIR, Grants, Wasm, WasmConfig};

/// Instances read per page.
const PAGE: u32 = 500;

/// How often an instance that changes during the check is checked again.
const LOOKS_MAX: usize = 5;

/// Maximum number of reported problems of the file; a single damaged page causes many.
const FILE_PROBLEMS_MAX: u32 = 100;

/// The result of an integrity check.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HubCheck {
    /// Problems of the file that SQLite reports; empty if the file is intact.
    pub file_problems: Vec<String>,
    /// Number of instances whose histories were checked.
    pub instances: u64,
    /// Number of live instances among them that were replayed on their modules. Instances of remote workers have none.
    pub replayed: u64,
    /// Number of turns in all histories.
    pub turns: u64,
    /// Number of instances that ended, were purged or changed too fast during the check. A later check includes them.
    pub moved: u64,
    /// Instances with a problem.
    pub problems: Vec<HubProblem>,
}

impl HubCheck {
    /// Whether no problem was found.
    pub fn is_sound(&self) -> bool {
        self.file_problems.is_empty() && self.problems.is_empty()
    }
}

/// An instance with a problem.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubProblem {
    /// The id of the instance.
    pub instance_id: String,
    /// The name of its orchestration.
    pub name: String,
    /// Its status in the hub.
    pub runtime_status: Status,
    /// The problem, with the turn and event.
    pub why: Box<Quarantine>,
}

type OnProgress = Option<Listener<(u64, u64)>>;

/// An integrity check of a hub. Await it.
#[must_use = "a check is made when it is awaited"]
pub struct Verify {
    client: Client,
    on_progress: OnProgress,
}

impl std::fmt::Debug for Verify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verify").finish_non_exhaustive()
    }
}

impl Client {
    /// Checks the integrity of the hub: the file, with SQLite's check, or in PostgreSQL that the rows of all tables agree; every history, against the rules and the instance's row; and every
    /// live instance, by a replay on the module that it is pinned to; an instance of a remote worker has none. Uses all processors and writes nothing; a host may run the hub
    /// meanwhile. Await the returned value.
    ///
    /// ```no_run
    /// # async fn example(client: perennial::Client) -> perennial::Result<()> {
    /// let found = client.verify().await?;
    /// assert!(found.is_sound(), "{:?}", found.problems);
    /// # Ok(())
    /// # }
    /// ```
    pub fn verify(&self) -> Verify {
        Verify {
            client: self.clone(),
            on_progress: None,
        }
    }
}

impl Verify {
    /// Calls `told` on its own thread with the number of instances checked, and the approximate number of all instances. If it is slow,
    /// calls are skipped.
    pub fn on_progress(mut self, told: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        let told = move |(done, total)| told(done, total);
        self.on_progress = Some(Listener::new("the progress of a check", 1, told));
        self
    }
}

impl IntoFuture for Verify {
    type Output = Result<HubCheck>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self {
                client,
                on_progress,
            } = self;
            let place = client.place();
            let place = place.ok_or_else(|| Error::needs_file("a check of the hub"))?;
            let (hub, place) = (client.task_hub().to_owned(), place.clone());
            let verify = move || {
                let found = verify(&hub, &place, &on_progress);
                on_progress.iter().for_each(Listener::close);
                found
            };
            tokio::task::spawn_blocking(verify)
                .await
                .map_err(|_| Error::panicked())?
        })
    }
}

fn verify(hub: &str, place: &Place, on_progress: &OnProgress) -> Result<HubCheck> {
    let failed = |error: StoreError| Error::store(hub, error);
    let opened = place
        .integrity(FILE_PROBLEMS_MAX)
        .and_then(|problems| Ok((problems, place.open_reader()?)));
    let (file_problems, reader) = match opened {
        Ok((problems, reader)) => (problems, Arc::new(reader)),
        // A hub that is too damaged to be opened is a result of the check.
        Err(StoreError::Corrupt(why)) => {
            return Ok(HubCheck {
                file_problems: vec![format!("it cannot be opened: {why}")],
                ..HubCheck::default()
            });
        }
        Err(error) => return Err(failed(error)),
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let config = WasmConfig {
        // Uses code that a host has compiled, but does not cache what only this check compiles.
        cache_dir: place
            .data_dir()
            .map(|dir| dir.join(CACHE_DIR))
            .filter(|dir| dir.is_dir()),
        resident_max: u32::try_from(threads).unwrap_or(u32::MAX),
        ..WasmConfig::default()
    };
    let modules = Arc::clone(&reader);
    let source = move |digest| match modules.component(digest) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Fault::Module("it is not in the hub".to_owned())),
        Err(error) => Err(fault(error)),
    };
    let wasm = Wasm::new(
        config,
        Arc::new(source),
        Arc::new(|_| Ok(Grants::default())),
    );
    let wasm = wasm.map_err(|error| Error::module(error.to_string()))?;
    let verifying = Verifying {
        reader: &reader,
        executor: &wasm,
        threads,
        on_progress,
        found: Mutex::new(HubCheck {
            file_problems,
            ..HubCheck::default()
        }),
    };
    match verifying.all() {
        // Report everything that can be read from a damaged file.
        Err(StoreError::Corrupt(why)) => {
            let mut found = verifying.found();
            found
                .file_problems
                .push(format!("not all instances could be read: {why}"));
        }
        done => done.map_err(failed)?,
    }
    let found = verifying.found;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The state of a running check.
struct Verifying<'a> {
    reader: &'a Reader,
    executor: &'a dyn Executor,
    threads: usize,
    on_progress: &'a OnProgress,
    found: Mutex<HubCheck>,
}

impl Verifying<'_> {
    fn found(&self) -> std::sync::MutexGuard<'_, HubCheck> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, done: u64, total: u64) {
        if let Some(told) = self.on_progress {
            told.tell((done, total));
        }
    }

    fn all(&self) -> std::result::Result<(), StoreError> {
        let mut query = ListQuery {
            limit: PAGE,
            ..ListQuery::default()
        };
        self.modules()?;
        let total = self.reader.counts(&query.filter)?;
        let total = total.iter().map(|(_, count)| count).sum();
        let done = AtomicU64::new(0);
        self.progress(0, total);
        loop {
            let page = self.reader.list(&query)?;
            if let Some(last) = page.rows.last() {
                query.after = Some((last.created_at, last.key.0));
            }
            self.page(&page.rows, &done, total)?;
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Checks that the bytes of each module match its digest.
    fn modules(&self) -> std::result::Result<(), StoreError> {
        for module in self.reader.digests()? {
            let Some(bytes) = self.reader.component(module)? else {
                continue;
            };
            if let Err(damage) = wasm::undamaged(module, bytes) {
                self.found().file_problems.push(damage.to_string());
            }
        }
        Ok(())
    }

    fn page(
        &self,
        rows: &[InstanceRow],
        done: &AtomicU64,
        total: u64,
    ) -> std::result::Result<(), StoreError> {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.one(row.clone())?;
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                self.progress(done, total.max(done));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads = self.threads.min(rows.len());
            let workers = spawn_some(scope, threads, &work);
            work()?;
            workers.into_iter().try_for_each(|worker| {
                // Code of guests and of the core is guarded, so a panic here is a bug of the check.
                let done = worker.join();
                done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    fn one(&self, mut row: InstanceRow) -> std::result::Result<(), StoreError> {
        for _ in 0..LOOKS_MAX {
            let why = match self.look(&row) {
                Ok(()) => {
                    let mut found = self.found();
                    found.instances += 1;
                    found.turns += u64::from(row.turns);
                    found.replayed += u64::from(!row.status.is_end() && row.module.is_some());
                    return Ok(());
                }
                Err(LoadError::Store(error)) => return Err(error),
                Err(LoadError::Quarantine(why)) => why,
                Err(LoadError::Panicked(why)) => Box::new(Quarantine::because(why)),
            };
            // The instance and its rows changed during the check.
            let Some(now) = self.reader.instance_by_key(row.key)? else {
                break;
            };
            let place = |row: &InstanceRow| (row.execution, row.generation, row.next_event);
            if place(&now) == place(&row) && now.status == row.status {
                let mut found = self.found();
                found.instances += 1;
                found.problems.push(HubProblem {
                    instance_id: row.id,
                    name: row.name,
                    runtime_status: row.status,
                    why,
                });
                return Ok(());
            }
            row = now;
        }
        self.found().moved += 1;
        Ok(())
    }

    fn look(&self, row: &InstanceRow) -> std::result::Result<(), LoadError> {
        let mut bring = |start: &Start| {
            let module = row.module.or(start.module);
            let module = module.ok_or_else(|| LoadError::because("it is pinned to no module"))?;
            let (limits, id) = (&start.limits, &start.instance_id);
            let made = self.executor.instantiate(module, limits, id, start.clock());
            made.map_err(|fault| {
                fault
                    .context(format!("module {} cannot be brought", module.short()))
                    .into()
            })
        };
        // An ended instance is not replayed: it never runs again, and its module may have been deleted.
        let is_live = !row.status.is_end() && !row.returned;
        // Nor is an instance of a remote worker: this process cannot run it.
        let is_replayed = is_live && row.module.is_some();
        let with = is_replayed.then_some(&mut bring as &mut MakeGuest<'_>);
        let (state, _) = replay(self.reader, row, with, &mut |_| {})?;
        if state.has_ended() != row.status.is_end() {
            return Err(LoadError::because(format!(
                "it is {}, and its history says otherwise",
                row.status
            )));
        }
        match &row.quarantine {
            Some(why) if is_live => Err(LoadError::Quarantine(Box::new(why.clone()))),
            _ => Ok(()),
        }
    }
}
