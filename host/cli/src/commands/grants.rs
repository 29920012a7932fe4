//! `perennial grants`: what modules are granted, shown and changed without a deployment.

use std::collections::BTreeMap;

use perennial::{Client, ModuleInfo};

use super::modules::{GrantsJson, granted};
use crate::args::GrantsArgs;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::session::Session;

pub(super) async fn grants(args: GrantsArgs, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let given = super::deploy::grants(&args.grants)?;
    let Some(name) = &args.module else {
        if given.is_some() {
            let said = CliError::new(Exit::Usage, "there is no module to grant this to");
            return Err(said
                .hint("name it first: perennial grants MODULE --grant-dir DIR")
                .into());
        }
        let all = client.modules().await?;
        return show(&all.iter().collect::<Vec<_>>(), session.output());
    };
    // What is not there is said before anything about it.
    find(&client, name).await?;
    let changed = match (args.set, given) {
        (true, given) => {
            client.grant(name, &given.unwrap_or_default()).await?;
            true
        }
        (false, Some(given)) => {
            client.grant_more(name, &given).await?;
            true
        }
        (false, None) => false,
    };
    if changed && !session.output().is_json() {
        session
            .output()
            .note(&format!("from the next attempt on, {name} is granted:"));
    }
    show(&[&find(&client, name).await?], session.output())
}

async fn find(client: &Client, name: &str) -> anyhow::Result<ModuleInfo> {
    let modules = client.modules().await?;
    let found = modules.into_iter().find(|module| module.name == name);
    found.ok_or_else(|| {
        let said = CliError::new(
            Exit::NotFound,
            format!("there is no module {name:?} in this task hub"),
        );
        said.hint("`perennial modules` lists them").into()
    })
}

fn show(modules: &[&ModuleInfo], output: &Output) -> anyhow::Result<Exit> {
    if output.is_json() {
        let json: BTreeMap<&str, GrantsJson<'_>> = modules
            .iter()
            .map(|module| (module.name.as_str(), GrantsJson::from(&module.grants)))
            .collect();
        output.json(&json)?;
        return Ok(Exit::Ok);
    }
    if modules.is_empty() {
        output.note("nothing is deployed in this task hub yet: see `perennial deploy --help`");
        return Ok(Exit::Ok);
    }
    let line = |module: &&ModuleInfo| {
        let lines = granted(&module.grants);
        let lines = if lines.is_empty() {
            "nothing".to_owned()
        } else {
            lines.join("\n")
        };
        (module.name.clone(), lines)
    };
    let fields: Vec<(String, String)> = modules.iter().map(line).collect();
    let fields: Vec<(&str, String)> = fields
        .iter()
        .map(|(name, lines)| (name.as_str(), lines.clone()))
        .collect();
    output.block(&fields)?;
    Ok(Exit::Ok)
}
