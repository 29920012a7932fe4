//! `perennial modules --stored` and `perennial modules save`: the stored modules and their components.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use perennial::{DefinitionKind, StoredModule};
use serde::Serialize;

use super::definitions::{DefinitionJson, names};
use crate::args::SaveModule;
use crate::error::{CliError, Exit};
use crate::format::{bytes, time};
use crate::output::Output;
use crate::session::Session;

pub(super) async fn list(session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let modules = session.client()?.stored_modules().await?;
    if output.is_json() {
        output.json(&modules.iter().map(StoredJson::from).collect::<Vec<_>>())?;
        return Ok(Exit::Ok);
    }
    if modules.is_empty() {
        output.note("nothing was deployed in this task hub yet: see `perennial deploy --help`");
    }
    for (i, module) in modules.iter().enumerate() {
        if i > 0 {
            output.line("")?;
        }
        show(module, output)?;
    }
    Ok(Exit::Ok)
}

fn show(module: &StoredModule, output: &Output) -> anyhow::Result<()> {
    let digest = output.bold(&module.digest.short());
    let fields = [
        (
            "digest",
            format!("{digest}  {}", output.dim(&bytes(module.size))),
        ),
        ("stored", format!("{} UTC", time(module.stored_at))),
        ("deployed as", module.deployed_as.join(", ")),
        ("version of", earlier(module).join(", ")),
        (
            "orchestrations",
            names(&module.definitions, DefinitionKind::Orchestration).join("\n"),
        ),
        (
            "activities",
            names(&module.definitions, DefinitionKind::Activity).join("\n"),
        ),
    ];
    let told = fields.into_iter().filter(|(_, text)| !text.is_empty());
    output.block(&told.collect::<Vec<_>>())
}

/// The modules that it is another version of.
fn earlier(module: &StoredModule) -> Vec<&str> {
    let others = module.versions_of.iter();
    let others = others.filter(|name| !module.deployed_as.contains(name));
    others.map(String::as_str).collect()
}

pub(super) async fn save(args: SaveModule, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let stored = client.stored_module(&args.module).await?;
    let digest = stored.digest.to_string();
    let component = client.component(&digest).await?;
    write(&args.file, &component)?;
    let (output, size) = (session.output(), component.len() as u64);
    output.note(&format!(
        "{} is the component of module {} ({})",
        args.file.display(),
        stored.digest.short(),
        bytes(size)
    ));
    if output.is_json() {
        output.json(&SavedJson {
            digest,
            file: &args.file,
            size,
        })?;
    }
    Ok(Exit::Ok)
}

/// Writes a new file; a file that breaks off is removed again.
fn write(path: &Path, component: &[u8]) -> anyhow::Result<()> {
    let cannot = |error: std::io::Error| {
        let said = CliError::new(
            Exit::Error,
            format!("cannot write {}: {error}", path.display()),
        );
        match error.kind() {
            ErrorKind::AlreadyExists => said.hint("name a file that does not exist yet"),
            _ => said,
        }
    };
    let mut file = std::fs::File::create_new(path).map_err(cannot)?;
    let written = file.write_all(component).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // What is left of it is of no use, and the error says more than another one of its removal.
        let _ = std::fs::remove_file(path);
        cannot(error)
    })?;
    Ok(())
}

#[derive(Serialize)]
struct SavedJson<'a> {
    digest: String,
    file: &'a Path,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredJson<'a> {
    digest: String,
    contract: &'a str,
    definitions: Vec<DefinitionJson<'a>>,
    imports: &'a [String],
    size: u64,
    stored_time: String,
    deployed_as: &'a [String],
    versions_of: &'a [String],
}

impl<'a> From<&'a StoredModule> for StoredJson<'a> {
    fn from(module: &'a StoredModule) -> Self {
        Self {
            digest: module.digest.to_string(),
            contract: &module.contract,
            definitions: module
                .definitions
                .iter()
                .map(DefinitionJson::from)
                .collect(),
            imports: &module.imports,
            size: module.size,
            stored_time: module.stored_at.to_string(),
            deployed_as: &module.deployed_as,
            versions_of: &module.versions_of,
        }
    }
}
