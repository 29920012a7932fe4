//! Compiles modules, at most once per module and kind of engine.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use perennial_core::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{CodeCache, Key};
use crate::engine::executor::{Fault, Resource, Shortage};
use crate::limits::CODE_KEPT_BYTES;

/// Code up to this size stays in memory after it was written to a cache directory: the next host of this process may use another directory.
const STAYS_BYTES_MAX: usize = 4 << 20;

/// The maximum number of modules whose compilations are counted.
const COUNTED_MAX: usize = 10_000;

/// Serialises compilations, so that concurrent requests do not multiply the compiler's memory.
static COMPILING: Mutex<()> = Mutex::new(());

/// Code that was compiled in this process without a cache directory: a caller that inspects a module often has none, and then passes the
/// module to a host in the same process.
static KEPT: Mutex<Kept> = Mutex::new(Kept {
    codes: VecDeque::new(),
    bytes: 0,
});

/// The caches of all hosts in this process, which share compiled code.
static OF_HOSTS: Mutex<Vec<Weak<CodeCache>>> = Mutex::new(Vec::new());

/// How often each module was compiled, for tests.
static COMPILED: Mutex<BTreeMap<Digest, u64>> = Mutex::new(BTreeMap::new());

/// Loads the component for `engine`: from the cache or memory if possible, otherwise compiles the result of `bytes` and caches it.
/// # Errors
/// The error of `bytes`, or why the component does not compile.
pub(super) fn load(
    engine: &Engine,
    cache: &CodeCache,
    module: Digest,
    key: Key,
    bytes: impl FnOnce() -> Result<Vec<u8>, Fault>,
) -> Result<Component, Fault> {
    if let Some(component) = find(engine, cache, module, key)? {
        return Ok(component);
    }
    let bytes = bytes()?;
    let _one = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have compiled it meanwhile.
    if let Some(component) = find(engine, cache, module, key)? {
        return Ok(component);
    }
    let code = compile(engine, module, &bytes)?;
    let component = revive(engine, &code).map_err(|error| fault(&error))?;
    keep(cache, module, key, code);
    Ok(component)
}

/// Saves compiled code or findings of a module: in the cache or, if that fails, in memory.
pub(super) fn keep(cache: &CodeCache, module: Digest, key: Key, made: Vec<u8>) {
    if !cache.store(module, key, &made) {
        kept().put(module, key, made);
    }
}

/// Returns what [`keep`] saved.
pub(super) fn recall(cache: &CodeCache, module: Digest, key: Key) -> Option<Arc<Vec<u8>>> {
    let elsewhere = || {
        let in_memory = kept().get(module, key);
        in_memory.or_else(|| of_hosts(module, key))
    };
    cache.load(module, key).map(Arc::new).or_else(elsewhere)
}

/// Registers the cache of a host, so that others find its code while the host exists.
pub(super) fn remember(cache: &Arc<CodeCache>) {
    let mut caches = OF_HOSTS.lock().unwrap_or_else(PoisonError::into_inner);
    caches.retain(|cache| cache.strong_count() > 0);
    if cache.keeps() {
        caches.push(Arc::downgrade(cache));
    }
}

fn of_hosts(module: Digest, key: Key) -> Option<Arc<Vec<u8>>> {
    let caches = OF_HOSTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut caches = caches.iter().filter_map(Weak::upgrade);
    caches
        .find_map(|cache| cache.load(module, key))
        .map(Arc::new)
}

/// Finds the component if it was compiled before.
fn find(
    engine: &Engine,
    cache: &CodeCache,
    module: Digest,
    key: Key,
) -> Result<Option<Component>, Fault> {
    let useful = |code: &[u8]| match revive(engine, code) {
        Ok(component) => Ok(Some(component)),
        // Compiling would need more of the missing resource.
        Err(error) if lacks(&error).is_some() => Err(fault(&error)),
        Err(error) => {
            tracing::warn!(%module, error = format!("{error:#}"), "compiled code is of no use; it is made again");
            Ok(None)
        }
    };
    if let Some(code) = cache.load(module, key)
        && let Some(component) = useful(&code)?
    {
        return Ok(Some(component));
    }
    let in_memory = kept().get(module, key);
    let Some(code) = in_memory.or_else(|| of_hosts(module, key)) else {
        return Ok(None);
    };
    let found = useful(&code)?;
    if found.is_some() && cache.store(module, key, &code) && code.len() > STAYS_BYTES_MAX {
        kept().forget(module, key);
    }
    Ok(found)
}

/// Writes the saved code of a module, from memory or another host's cache, to a cache directory.
pub(super) fn hand_over(cache: &CodeCache, module: Digest, key: Key) {
    if cache.keeps()
        && !cache.has(module, key)
        && let Some(code) = recall(&CodeCache::default(), module, key)
    {
        cache.store(module, key, &code);
    }
}

/// Compiles a component to code that [`revive`] accepts on any engine with the same settings.
fn compile(engine: &Engine, module: Digest, component: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.len() >= COUNTED_MAX {
        compiled.clear();
    }
    *compiled.entry(module).or_default() += 1;
    drop(compiled);
    // A thread pool for this compilation: the global pool of the process is created only once, and if the system has no threads at that
    // moment, it never has any.
    let threads = rayon::ThreadPoolBuilder::new()
        .thread_name(|n| format!("perennial-compiler-{n}"))
        .build()
        .map_err(|error| Shortage::new(Resource::Threads, format!("the compiler: {error}")))?;
    let compile = || threads.install(|| engine.precompile_component(component));
    match catch_unwind(AssertUnwindSafe(compile)) {
        Ok(compiled) => compiled.map_err(|error| fault(&error)),
        Err(_) => Err(Shortage::new(Resource::Host, "the compiler panicked").into()),
    }
}

/// The resource whose shortage caused an error of wasmtime, if that is the cause.
pub(super) fn lacks(error: &wasmtime::Error) -> Option<Resource> {
    let out_of_memory = error
        .is::<wasmtime::OutOfMemory>()
        .then_some(Resource::Memory);
    let lacking = || {
        error
            .downcast_ref::<Shortage>()
            .map(|shortage| shortage.resource)
    };
    out_of_memory
        .or_else(lacking)
        .or_else(|| error.chain().find_map(Resource::in_chain))
}

/// The fault of a component that cannot be prepared: its own, unless the system lacks a resource.
pub(super) fn fault(error: &wasmtime::Error) -> Fault {
    match lacks(error) {
        Some(resource) => Shortage::new(resource, format!("{error:#}")).into(),
        None => Fault::Module(format!("{error:#}")),
    }
}

/// How often this process compiled a module: normally once for its orchestrations, and once for its activities if it has any.
pub fn compilations(module: Digest) -> u64 {
    let compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.get(&module).copied().unwrap_or(0)
}

/// Loads compiled code. It must come from [`compile`], directly or through [`CodeCache`].
#[expect(
    unsafe_code,
    reason = "loading compiled code is trusting it; the function says why it may be trusted"
)]
fn revive(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that wasmtime itself wrote for this component, unchanged. They were either made by `compile` in this
    // process, or read from a cache file whose checksum over exactly these bytes, module digest and engine key all matched, a plain file in
    // a directory that only the user of this process can write to, and that belongs to that user itself. A user who could forge such a file
    // could replace this program as well. Code of another wasmtime, other settings or another CPU is not unsound but an error:
    // `deserialize` compares them itself.
    unsafe { Component::deserialize(engine, code) }
}

/// Compiled code in memory, the most recently used last.
struct Kept {
    codes: VecDeque<(Digest, Key, Arc<Vec<u8>>)>,
    bytes: usize,
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn get(&mut self, module: Digest, key: Key) -> Option<Arc<Vec<u8>>> {
        let at = self.at(module, key)?;
        let found = self.codes.remove(at)?;
        let code = Arc::clone(&found.2);
        self.codes.push_back(found);
        Some(code)
    }

    fn put(&mut self, module: Digest, key: Key, code: Vec<u8>) {
        self.forget(module, key);
        self.bytes += code.len();
        self.codes.push_back((module, key, Arc::new(code)));
        while self.bytes > CODE_KEPT_BYTES
            && let Some((_, _, code)) = self.codes.pop_front()
        {
            self.bytes -= code.len();
        }
    }

    fn forget(&mut self, module: Digest, key: Key) {
        if let Some((_, _, code)) = self.at(module, key).and_then(|at| self.codes.remove(at)) {
            self.bytes -= code.len();
        }
    }

    fn at(&self, module: Digest, key: Key) -> Option<usize> {
        self.codes
            .iter()
            .position(|(of, as_key, _)| (*of, *as_key) == (module, key))
    }
}
