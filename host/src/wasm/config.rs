//! How much WebAssembly may use on this host, and why there is none.

use std::path::PathBuf;

/// How much a [`Wasm`](super::Wasm) may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WasmConfig {
    /// Where compiled code is kept, for this host's user alone; see the warning at [`WasmConfig::default`]. `None` compiles every module
    /// anew after each start.
    pub cache_dir: Option<PathBuf>,
    /// Orchestration instances that wait in memory between turns. More of them work too, each at the price of some system calls.
    pub resident_max: u32,
    /// Attempts of activities that run at once; more wait. Their deadlines do not.
    pub activities_max: u32,
    /// Memory that one attempt of an activity may use.
    pub activity_memory_bytes: u64,
    /// Whether turns of orchestrations run on fuel. Only what measures the price of fuel says no: nothing else ends a turn that never
    /// would.
    #[doc(hidden)]
    pub meters_fuel: bool,
}

impl Default for WasmConfig {
    /// No cache, 4,096 resident instances, 64 attempts at once, 256 MiB for each.
    ///
    /// A cache directory holds native code that this process will run: it is closed to other users, and must never be copied from
    /// somebody else.
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

/// Why there is no [`Wasm`](super::Wasm).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// The engines could not be made on this system.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// No thread for the clock of activities.
    #[error("the WebAssembly engine gets no thread")]
    Thread(#[source] std::io::Error),
}
