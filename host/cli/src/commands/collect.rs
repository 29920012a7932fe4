//! `perennial modules --gc` and `perennial modules remove`.

use perennial::{Collect, CollectedModule, RemoveInUse};
use serde::Serialize;

use crate::args::{Modules, RemoveModule};
use crate::error::{CliError, Exit};
use crate::format::{bytes, count};
use crate::session::Session;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CollectedJson {
    dry_run: bool,
    collected: Vec<ModuleJson>,
}

#[derive(Serialize)]
struct ModuleJson {
    digest: String,
    size: u64,
}

pub(super) async fn collect(args: &Modules, session: &Session) -> anyhow::Result<Exit> {
    let which = Collect::new()
        .old_versions(args.old_versions)
        .dry_run(args.dry_run);
    let modules = session.client()?.collect_modules(which).await?;
    let output = session.output();
    if output.is_json() {
        let json = |module: &CollectedModule| ModuleJson {
            digest: module.digest.to_string(),
            size: module.bytes,
        };
        output.json(&CollectedJson {
            dry_run: args.dry_run,
            collected: modules.iter().map(json).collect(),
        })?;
        return Ok(Exit::Ok);
    }
    for module in &modules {
        output.line(&format!(
            "{}  {}",
            module.digest.short(),
            bytes(module.bytes)
        ))?;
    }
    let total = bytes(modules.iter().map(|module| module.bytes).sum());
    let many = count(modules.len() as u64, "module");
    output.note(&match (modules.is_empty(), args.dry_run) {
        (true, _) => "something points to every module".to_owned(),
        (false, true) => format!("{many}, {total}, to be deleted: nothing points to them"),
        (false, false) => format!("{many}, {total}, deleted"),
    });
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct RemovedJson<'a> {
    removed: &'a str,
}

pub(super) async fn remove(args: RemoveModule, session: &Session) -> anyhow::Result<Exit> {
    let also = if args.force {
        RemoveInUse::Yes
    } else {
        RemoveInUse::No
    };
    let client = session.client()?;
    let modules = client.modules().await?;
    let removed = client.remove_module(&args.name, also).await;
    removed.map_err(|error| {
        if !error.is_in_use() {
            return anyhow::Error::from(error);
        }
        let said = CliError::new(Exit::WrongState, error.to_string());
        said.hint("--force removes it nevertheless: the instances continue, but without the grants, which belong to the name")
            .into()
    })?;
    let output = session.output();
    if output.is_json() {
        output.json(&RemovedJson {
            removed: &args.name,
        })?;
    } else {
        let named = modules.iter().filter(|module| module.name == args.name);
        let gone: Vec<String> = named
            .flat_map(|module| &module.definitions)
            .map(|definition| definition.name.clone())
            .collect();
        output.note(&format!(
            "removed {}; `perennial modules --gc` deletes what nothing points to",
            args.name
        ));
        if !gone.is_empty() {
            output.note(&format!(
                "no module defines {} any more: to have one again, deploy a module that does",
                gone.join(", ")
            ));
        }
    }
    Ok(Exit::Ok)
}
