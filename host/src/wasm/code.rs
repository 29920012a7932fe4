//! From the bytes of a module to code that an engine can run.

use perennial_core::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::{CodeCache, Key};

/// The component for `engine`: from the cache if it is there and fits, else compiled from what `bytes` says and cached.
///
/// # Errors
/// Whatever `bytes` says, or why the component does not compile, for people.
pub(super) fn load(
    engine: &Engine,
    cache: &CodeCache,
    module: Digest,
    key: Key,
    bytes: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Component, String> {
    if let Some(code) = cache.load(module, key) {
        match revive(engine, &code) {
            Ok(component) => return Ok(component),
            Err(error) => {
                tracing::warn!(%module, error = format!("{error:#}"), "compiled code is of no use; it is made again")
            }
        }
    }
    let code = compile(engine, &bytes()?)?;
    cache.store(module, key, &code);
    revive(engine, &code).map_err(|error| format!("{error:#}"))
}

/// Compiles a component to code that [`revive`] takes, on any engine with the same settings.
///
/// # Errors
/// Why the component does not compile, for people.
pub(super) fn compile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, String> {
    engine
        .precompile_component(component)
        .map_err(|error| format!("{error:#}"))
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
