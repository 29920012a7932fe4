//! Looking at a module before it is deployed.

use std::path::Path;
use std::sync::Arc;

use crate::client::{Error, Module, Result};
use crate::engine::executor::Fault;
use crate::store::{Definition, DefinitionKind};
use crate::wasm::{self, Grants, ModuleError, Wasm, WasmConfig};

impl Module {
    /// Reads a `.wasm` file and looks at it: a component or a core module with an embedded component type, for a world of this contract.
    ///
    /// It is named after the file, without `.wasm`.
    ///
    /// # Errors
    /// [`Error::is_invalid`] says what the file is or lacks, and what to do.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|error| Error::module(format!("cannot read {}: {error}", path.display())))?;
        let name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        Self::from_bytes(name, &bytes).map_err(|error| {
            if error.is_unavailable() {
                return error;
            }
            Error::module(format!("{}: {error}", path.display()))
        })
    }

    /// As [`from_file`](Self::from_file), for bytes.
    ///
    /// # Errors
    /// [`Error::is_invalid`] says what the bytes are or lack, and what to do.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        let why = "a module that is only looked at is not run";
        let source = |_| Err(Fault::Module(why.to_owned()));
        let wasm = Wasm::new(
            WasmConfig::default(),
            Arc::new(source),
            Arc::new(|_| Ok(Grants::default())),
        );
        let wasm = wasm.map_err(|error| Error::module(error.to_string()))?;
        let found = wasm.inspect(bytes).map_err(|error| match error {
            ModuleError::Host(want) => Error::lacking(want),
            error => Error::module(error.to_string()),
        })?;
        let of_kind = |kind, definitions: Vec<wasm::Definition>| {
            definitions.into_iter().map(move |definition| Definition {
                kind,
                name: definition.name,
                version: definition.version,
                description: definition.description,
                input_schema: definition.input_schema,
            })
        };
        let definitions = of_kind(DefinitionKind::Orchestration, found.orchestrations)
            .chain(of_kind(DefinitionKind::Activity, found.activities))
            .collect();
        Ok(Self {
            name: name.into(),
            digest: found.digest,
            component: found.component,
            contract: found.contract.to_owned(),
            definitions,
            imports: found.imports,
        })
    }
}
