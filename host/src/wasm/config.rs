//! Configuration of the WebAssembly runtime, and its startup errors.

use std::path::PathBuf;

/// Configuration of a [`Wasm`](super::Wasm).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WasmConfig {
    /// The directory of compiled code, for this host's user alone; see the warning at [`WasmConfig::default`]. `None` compiles every module
    /// again after each start.
    pub cache_dir: Option<PathBuf>,
    /// Orchestration instances that wait in pooled memory between turns. Further instances work too, but cost some system calls each.
    pub resident_max: u32,
    /// Attempts of activities that run at once; others queue, while their deadlines pass.
    pub activities_max: u32,
    /// Memory limit of one attempt of an activity, in bytes.
    pub activity_memory_bytes: u64,
    /// Whether turns of orchestrations are metered with fuel. Turn it off only to measure the cost of fuel: nothing else ends an endless
    /// turn.
    #[doc(hidden)]
    pub meters_fuel: bool,
}

impl Default for WasmConfig {
    /// No cache, 4,096 resident instances, 64 attempts at once, 256 MiB for each.
    ///
    /// A cache directory contains native code that this process will run: it is closed to other users, and must never be copied from
    /// another user.
    fn default() -> Self {
        Self {
            cache_dir: None,
            resident_max: 4096,
            activities_max: 64,
            activity_memory_bytes: 256 << 20,
            meters_fuel: true,
        }
    }
}

/// Why a [`Wasm`](super::Wasm) could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// The engines could not be created on this system.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// The thread that ticks for running activities could not be started.
    #[error("the WebAssembly engine gets no thread")]
    Thread(#[source] std::io::Error),
}
