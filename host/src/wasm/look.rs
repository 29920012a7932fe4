//! Inspects and compiles a module that is about to be deployed.
//!
//! The cheap questions come first. What is no component, is one of another world, or is too much for a compiler is refused by reading it;
//! only then is anything compiled. What was found is kept beside the compiled code, so that looking at the same bytes again compiles and
//! runs nothing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use perennial_core::Digest;
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use super::bounds::refusal;
use super::cache::{CodeCache, Key};
use super::definition::Definition;
use super::engines::PlainEngines;
use super::granted;
use super::inspect::{self, Exports, Inspected, digest};
use super::module_error::ModuleError;
use super::{WasmError, code, module, v0_1};
use crate::engine::executor::Fault;

/// Counted up whenever other modules are accepted than before, or something else is found in them.
const LOOK_VERSION: u32 = 1;

/// Which code and findings fit an engine for orchestrations and one for activities.
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

/// Looks at modules.
pub(super) struct Looker<'a> {
    pub(super) orchestrations: &'a Engine,
    pub(super) activities: &'a Engine,
    pub(super) keys: Keys,
    pub(super) cache: &'a CodeCache,
}

impl Looker<'_> {
    /// Turns the bytes of a file into a module: see [`Wasm::inspect`](super::Wasm::inspect).
    pub(super) fn look(&self, bytes: &[u8]) -> Result<Inspected, ModuleError> {
        let (component, digest) = match module::kind(bytes)? {
            module::Kind::Component => {
                let digest = digest(bytes);
                if let Some(found) = self.found_before(digest) {
                    return Ok(found.of(digest, bytes.to_vec()));
                }
                // A look at its names is cheaper than one at its code.
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
            contract: v0_1::CONTRACT.to_owned(),
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
        (found.contract == v0_1::CONTRACT).then_some(found)
    }
}

/// Looks at a module without a host. Code is taken from where `dir` or a host of this process keeps it, and kept in `dir` or, where that is
/// not there, in memory until a host runs the module.
///
/// # Errors
/// Why this system runs no WebAssembly, else [`ModuleError`].
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

/// Writes what was compiled for a module that was looked at to a directory of compiled code, for the next host.
pub(crate) fn keep_compiled(dir: PathBuf, module: Digest) {
    if let Ok((_, keys)) = plain() {
        hand_over(&CodeCache::open(Some(dir)), module, *keys);
    }
}

/// Writes what is kept in memory of a module to where a host keeps it.
pub(super) fn hand_over(cache: &CodeCache, module: Digest, keys: Keys) {
    for key in [keys.orchestrations, keys.activities, keys.found] {
        code::hand_over(cache, module, key);
    }
}

/// A cache in a directory beside a hub, as far as there is one: looking at a module makes no directory for hubs.
fn cache_in(dir: &Path) -> CodeCache {
    let there = dir.parent().is_some_and(Path::is_dir);
    CodeCache::open(there.then(|| dir.to_owned()))
}

/// The engines with which this process looks at modules, made once.
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

/// What was found in a module, as it is kept beside its code.
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
            contract: v0_1::CONTRACT,
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
