//! Inspects and compiles a module that is about to be deployed.
//!
//! The cheap checks come first: a file that is not a component, belongs to another world, or is too complex is refused without compilation.
//! The findings are stored beside the compiled code, so that another look at the same bytes compiles and runs nothing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use perennial_core::Digest;
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use super::bounds::refusal;
use super::cache::{CodeCache, Key};
use super::contract::Contract;
use super::definition::Definition;
use super::engines::PlainEngines;
use super::granted;
use super::inspect::{self, Exports, Inspected, digest};
use super::module_error::ModuleError;
use super::{WasmError, code, module};
use crate::engine::executor::Fault;

/// Increment this if other modules are accepted than before, or if the findings change.
const LOOK_VERSION: u32 = 1;

/// The cache keys for the engine of orchestrations and that of activities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) orchestrations: Key,
    pub(super) activities: Key,
    found: Key,
}

impl Keys {
    pub(super) fn of(orchestrations: &Engine, activities: &Engine) -> Self {
        let found = format!("looked at {LOOK_VERSION} {}", env!("CARGO_PKG_VERSION"));
        Self {
            orchestrations: Key::of(orchestrations, "orchestrations"),
            activities: Key::of(activities, "activities"),
            found: Key::of(orchestrations, &found),
        }
    }
}

/// Inspects modules.
pub(super) struct Looker<'a> {
    pub(super) orchestrations: &'a Engine,
    pub(super) activities: &'a Engine,
    pub(super) keys: Keys,
    pub(super) cache: &'a CodeCache,
}

impl Looker<'_> {
    /// Inspects the bytes of a file: see [`Wasm::inspect`](super::Wasm::inspect).
    pub(super) fn look(&self, bytes: &[u8]) -> Result<Inspected, ModuleError> {
        let (component, digest) = match module::kind(bytes)? {
            module::Kind::Component => {
                let digest = digest(bytes);
                if let Some(found) = self.found_before(digest) {
                    return Ok(found.of(digest, bytes.to_vec()));
                }
                // Reading the names is cheaper than checking the code.
                Exports::of(bytes)?;
                module::check(bytes)?;
                (bytes.to_vec(), digest)
            }
            module::Kind::Core => {
                let component = module::encode(bytes)?;
                let digest = digest(&component);
                if let Some(found) = self.found_before(digest) {
                    return Ok(found.of(digest, component));
                }
                (component, digest)
            }
        };
        let exports = Exports::of(&component)?;
        inspect::check_imports(&exports)?;
        let looked = self.compile(digest, &component, self.orchestrations)?;
        let (orchestrations, activities) =
            inspect::definitions(self.orchestrations, &looked, &exports)?;
        if !activities.is_empty() {
            let component = self.compile(digest, &component, self.activities)?;
            granted::prepare(&component)
                .map_err(|error| ModuleError::Unlinkable(format!("{error:#}")))?;
        }
        let found = Found {
            contract: exports.contract().version().to_owned(),
            orchestrations: orchestrations.into_iter().map(Into::into).collect(),
            activities: activities.into_iter().map(Into::into).collect(),
            imports: exports.imports.into_iter().collect(),
        };
        if let Ok(text) = serde_json::to_vec(&found) {
            code::keep(self.cache, digest, self.keys.found, text);
        }
        Ok(found.of(digest, component))
    }

    fn compile(
        &self,
        digest: Digest,
        component: &[u8],
        engine: &Engine,
    ) -> Result<wasmtime::component::Component, ModuleError> {
        let key = if Engine::same(engine, self.activities) {
            self.keys.activities
        } else {
            self.keys.orchestrations
        };
        code::load(engine, self.cache, digest, key, || Ok(component.to_vec())).map_err(|fault| {
            match fault {
                Fault::Module(said) => refusal(component, said),
                fault => ModuleError::from_fault(fault),
            }
        })
    }

    fn found_before(&self, digest: Digest) -> Option<Found> {
        let text = code::recall(self.cache, digest, self.keys.found)?;
        let found: Found = serde_json::from_slice(&text).ok()?;
        Contract::of_version(&found.contract)
            .is_some()
            .then_some(found)
    }
}

/// Inspects a module without a host. Uses code cached in `dir` or by a host of this process. Saves new code in `dir` or, if that does not
/// exist, in memory until a host runs the module.
///
/// # Errors
/// Why this system cannot run WebAssembly, or else [`ModuleError`].
pub(crate) fn look_at(
    bytes: &[u8],
    dir: Option<&Path>,
) -> Result<Result<Inspected, ModuleError>, WasmError> {
    let (engines, keys) = plain()?;
    let looker = Looker {
        orchestrations: &engines.orchestrations,
        activities: &engines.activities,
        keys: *keys,
        cache: &dir.map(cache_in).unwrap_or_default(),
    };
    Ok(looker.look(bytes))
}

/// Writes the compiled code of an inspected module to a cache directory, for the next host.
pub(crate) fn keep_compiled(dir: PathBuf, module: Digest) {
    if let Ok((_, keys)) = plain() {
        hand_over(&CodeCache::open(Some(dir)), module, *keys);
    }
}

/// Writes the saved code and findings of a module to a host's cache.
pub(super) fn hand_over(cache: &CodeCache, module: Digest, keys: Keys) {
    for key in [keys.orchestrations, keys.activities, keys.found] {
        code::hand_over(cache, module, key);
    }
}

/// A cache in a directory beside a hub, if that exists: an inspection creates no directory for hubs.
fn cache_in(dir: &Path) -> CodeCache {
    let there = dir.parent().is_some_and(Path::is_dir);
    CodeCache::open(there.then(|| dir.to_owned()))
}

/// The engines with which this process inspects modules, created once.
fn plain() -> Result<&'static (PlainEngines, Keys), WasmError> {
    static PLAIN: OnceLock<Result<(PlainEngines, Keys), String>> = OnceLock::new();
    let made = PLAIN.get_or_init(|| {
        let engines = PlainEngines::new().map_err(|error| format!("{error:#}"))?;
        let keys = Keys::of(&engines.orchestrations, &engines.activities);
        Ok((engines, keys))
    });
    made.as_ref()
        .map_err(|error| WasmError::Engine(error.clone()))
}

/// The findings about a module, as they are stored beside its code.
#[derive(Serialize, Deserialize)]
struct Found {
    contract: String,
    orchestrations: Vec<FoundDefinition>,
    activities: Vec<FoundDefinition>,
    imports: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct FoundDefinition {
    name: String,
    version: Option<String>,
    description: Option<String>,
    input_schema: Option<String>,
}

impl Found {
    fn of(self, digest: Digest, component: Vec<u8>) -> Inspected {
        let definitions = |found: Vec<FoundDefinition>| found.into_iter().map(Into::into).collect();
        Inspected {
            digest,
            component,
            contract: Contract::of_version(&self.contract)
                .unwrap_or(Contract::V0_1)
                .version(),
            orchestrations: definitions(self.orchestrations),
            activities: definitions(self.activities),
            imports: self.imports,
        }
    }
}

impl From<Definition> for FoundDefinition {
    fn from(definition: Definition) -> Self {
        Self {
            name: definition.name,
            version: definition.version,
            description: definition.description,
            input_schema: definition.input_schema,
        }
    }
}

impl From<FoundDefinition> for Definition {
    fn from(found: FoundDefinition) -> Self {
        Self {
            name: found.name,
            version: found.version,
            description: found.description,
            input_schema: found.input_schema,
        }
    }
}
