//! From the bytes of a module to code that an engine can run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use perennial_core::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{CodeCache, Key};
use crate::engine::executor::{Fault, Resource, Want};

/// The component for `engine`: from the cache if it is there and fits, else compiled from what `bytes` says and cached.
///
/// # Errors
/// Whatever `bytes` says, or why the component does not compile.
pub(super) fn load(
    engine: &Engine,
    cache: &CodeCache,
    module: Digest,
    key: Key,
    bytes: impl FnOnce() -> Result<Vec<u8>, Fault>,
) -> Result<Component, Fault> {
    if let Some(code) = cache.load(module, key) {
        match revive(engine, &code) {
            Ok(component) => return Ok(component),
            // To compile it takes more of what is lacking already.
            Err(error) if lacks(&error).is_some() => return Err(fault(&error)),
            Err(error) => {
                tracing::warn!(%module, error = format!("{error:#}"), "compiled code is of no use; it is made again")
            }
        }
    }
    let code = compile(engine, &bytes()?)?;
    cache.store(module, key, &code);
    revive(engine, &code).map_err(|error| fault(&error))
}

/// What the system had not enough of where wasmtime could not do something, if that is why.
pub(super) fn lacks(error: &wasmtime::Error) -> Option<Resource> {
    let out_of_memory = error
        .is::<wasmtime::OutOfMemory>()
        .then_some(Resource::Memory);
    let lacking = || error.downcast_ref::<Want>().map(|want| want.resource);
    out_of_memory
        .or_else(lacking)
        .or_else(|| error.chain().find_map(Resource::in_chain))
}

/// Where the fault lies that a component cannot be made ready: in itself, unless the system lacks something.
pub(super) fn fault(error: &wasmtime::Error) -> Fault {
    match lacks(error) {
        Some(resource) => Want::new(resource, format!("{error:#}")).into(),
        None => Fault::Module(format!("{error:#}")),
    }
}

/// Compiles a component to code that [`revive`] takes, on any engine with the same settings.
///
/// # Errors
/// Why the component does not compile.
pub(super) fn compile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, Fault> {
    // The compiler's own threads: those that it would share with everything else of the process are made once, and where the system has
    // none at that moment there never are any.
    let threads = rayon::ThreadPoolBuilder::new()
        .thread_name(|n| format!("perennial-compiler-{n}"))
        .build()
        .map_err(|error| Want::new(Resource::Threads, format!("the compiler: {error}")))?;
    let compile = || threads.install(|| engine.precompile_component(component));
    match catch_unwind(AssertUnwindSafe(compile)) {
        Ok(compiled) => compiled.map_err(|error| fault(&error)),
        Err(_) => Err(Want::new(Resource::Host, "the compiler panicked").into()),
    }
}

/// Makes compiled code runnable. It must come from [`compile`], directly or through [`CodeCache`].
#[expect(
    unsafe_code,
    reason = "loading compiled code is trusting it; the function says why it may be trusted"
)]
pub(super) fn revive(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that wasmtime itself wrote for this component, unchanged. They were either made by `compile` just
    // now, or read from a cache file whose checksum over exactly these bytes, module digest and engine key all matched, in a directory
    // that only the user of this process can write to. Whoever could forge such a file could replace this program as well. Code of another
    // wasmtime, other settings or another CPU is not unsound but an error: `deserialize` compares them itself.
    unsafe { Component::deserialize(engine, code) }
}
