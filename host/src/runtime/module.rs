//! Inspects a module before it is deployed.

use std::io::Read;
use std::path::Path;

use crate::client::{Client, Error, Module, Result};
use crate::store::{Definition, DefinitionKind};
use crate::wasm::{self, CACHE_DIR, ModuleError};

impl Module {
    /// Reads and inspects a `.wasm` file: a component, or a core module with an embedded component type, for a world of this contract.
    ///
    /// The module is named after the file, without `.wasm`. It is compiled unless this process has already compiled it;
    /// [`from_file_in`](Self::from_file_in) also uses what other processes have compiled.
    ///
    /// # Errors
    /// [`Error::is_invalid`] says what the file is or lacks, and how to fix it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (name, bytes) = read(path)?;
        Self::from_bytes(name, &bytes).map_err(|error| of_file(path, error))
    }

    /// As [`from_file`](Self::from_file), with the code cache of this data directory, so that code compiled by any process there is not
    /// compiled again. The directory is not created.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_file_in(path: impl AsRef<Path>, data_dir: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (name, bytes) = read(path)?;
        let dir = data_dir.as_ref().join(CACHE_DIR);
        Self::look(name, &bytes, Some(&dir)).map_err(|error| of_file(path, error))
    }

    /// As [`from_file`](Self::from_file), for bytes.
    ///
    /// # Errors
    /// [`Error::is_invalid`] says what the bytes are or lack, and how to fix it.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        Self::look(name.into(), bytes, None)
    }

    /// Reads the bytes of a file that may be a module.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the file cannot be read, is not a regular file (a pipe may never end), or is too large.
    pub fn bytes_of_file(path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let cannot = |error| Error::module(format!("cannot read {}: {error}", path.display()));
        let found = std::fs::metadata(path).map_err(cannot)?;
        if !found.is_file() && !found.is_dir() {
            let message = format!("{} is not a regular file, as a module is", path.display());
            return Err(Error::module(message));
        }
        let file = std::fs::File::open(path).map_err(cannot)?;
        let most = wasm::MODULE_BYTES_MAX as u64;
        let mut bytes = Vec::new();
        file.take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(cannot)?;
        if bytes.len() as u64 > most {
            let bytes = found.len().max(most + 1);
            let message = format!(
                "{}: a module of {bytes} bytes: the limit is {most} bytes",
                path.display()
            );
            return Err(Error::module(message));
        }
        Ok(bytes)
    }

    fn look(name: String, bytes: &[u8], cache_dir: Option<&Path>) -> Result<Self> {
        let looked =
            wasm::look_at(bytes, cache_dir).map_err(|error| Error::module(error.to_string()))?;
        let found = looked.map_err(|error| match error {
            ModuleError::Host(shortage) => Error::lacking(shortage),
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
            name,
            digest: found.digest,
            component: found.component,
            contract: found.contract.to_owned(),
            definitions,
            imports: found.imports,
        })
    }
}

impl Client {
    /// Inspects a module as [`Module::from_bytes`] does, in the place where its compiled code is useful: a remote host inspects it itself,
    /// and for a local hub the code is cached where its host finds it.
    ///
    /// # Errors
    /// [`Error::is_invalid`] says what the bytes are or lack, and how to fix it.
    pub async fn look_at(&self, name: impl Into<String>, bytes: Vec<u8>) -> Result<Module> {
        let name = name.into();
        if let Some(remote) = self.remote() {
            return remote.inspect(name, bytes).await;
        }
        let dir = self.data_dir().map(|dir| dir.join(CACHE_DIR));
        let look = move || Module::look(name, &bytes, dir.as_deref());
        tokio::task::spawn_blocking(look)
            .await
            .map_err(|_| Error::panicked())?
    }
}

/// Reads a file, and names the module after it.
fn read(path: &Path) -> Result<(String, Vec<u8>)> {
    let bytes = Module::bytes_of_file(path)?;
    let name = path.file_stem().map(|stem| stem.to_string_lossy());
    Ok((name.unwrap_or_default().into_owned(), bytes))
}

fn of_file(path: &Path, error: Error) -> Error {
    if error.is_unavailable() {
        return error;
    }
    Error::module(format!("{}: {error}", path.display()))
}
