//! `perennial deploy`.

use std::path::Path;

use anyhow::Context;
use perennial::{Client, DefinitionKind, Deployment, Grants, Module, Repointed};
use serde::Serialize;

use crate::cli::args::{Deploy, GrantArgs};
use crate::cli::error::{Exit, Said};
use crate::cli::output::Output;
use crate::cli::session::Session;

pub(super) async fn deploy(args: Deploy, session: &Session) -> anyhow::Result<Exit> {
    let Deploy {
        files,
        name,
        grants,
        replace,
        check,
    } = args;
    if name.is_some() && files.len() > 1 {
        return Err(Said::new(Exit::Usage, "--name is for one file")
            .hint("deploy the files one by one")
            .into());
    }
    let grants = self::grants(&grants)?;
    // All of them are looked at before the first is deployed: a broken file among them changes nothing.
    let mut modules = files
        .iter()
        .map(|file| open(file))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(name) = name {
        modules = modules
            .into_iter()
            .map(|module| module.named(name.clone()))
            .collect();
    }
    let client = session.client()?;
    if check {
        return super::check::check(&client, modules, grants, replace, session).await;
    }
    let mut deployments = Vec::new();
    for module in modules {
        deployments.push(send(&client, module, grants.clone(), replace).await?);
    }
    print(&deployments, session.output())?;
    Ok(Exit::Ok)
}

/// Reads a file and looks at what it defines.
pub(crate) fn open(file: &Path) -> anyhow::Result<Module> {
    // The library's message names the file, and calls what cannot be used invalid; on a command line the file is at fault, not its name.
    Module::from_file(file).map_err(|error| {
        let said = Said::new(Exit::Error, error.to_string());
        if file.exists() {
            said
        } else {
            said.hint("the first argument is the path of a .wasm file")
        }
        .into()
    })
}

/// Deploys one module.
pub(crate) async fn send(
    client: &Client,
    module: Module,
    grants: Option<Grants>,
    replace: bool,
) -> anyhow::Result<Deployment> {
    let name = module.name().to_owned();
    let mut deploy = client.deploy(module);
    if let Some(grants) = grants {
        deploy = deploy.grants(grants);
    }
    if replace {
        deploy = deploy.replace();
    }
    deploy
        .await
        .with_context(|| format!("could not deploy module {name:?}"))
}

/// What the options grant; `None` where they grant nothing, which keeps what there is.
pub(crate) fn grants(args: &GrantArgs) -> anyhow::Result<Option<Grants>> {
    if args.dirs.is_empty() && args.env.is_empty() && args.http_hosts.is_empty() {
        return Ok(None);
    }
    let mut grants = Grants {
        dirs: args.dirs.clone(),
        http_hosts: args.http_hosts.clone(),
        ..Grants::default()
    };
    for variable in &args.env {
        let value = match &variable.value {
            Some(value) => value.clone(),
            None => std::env::var(&variable.name).map_err(|_| {
                let said = Said::new(
                    Exit::Usage,
                    format!(
                        "--grant-env {0}: there is no variable {0} here",
                        variable.name
                    ),
                );
                said.hint(format!(
                    "give it a value: --grant-env {}=VALUE",
                    variable.name
                ))
            })?,
        };
        grants.env.push((variable.name.clone(), value));
    }
    Ok(Some(grants))
}

#[derive(Serialize)]
struct DeploymentJson<'a> {
    module: &'a str,
    digest: String,
    names: Vec<NameJson<'a>>,
}

#[derive(Serialize)]
struct NameJson<'a> {
    kind: DefinitionKind,
    name: &'a str,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

fn print(deployments: &[Deployment], output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        let json: Vec<DeploymentJson<'_>> = deployments.iter().map(json_of).collect();
        return output.json(&json);
    }
    for deployment in deployments {
        for line in lines_of(deployment) {
            output.line(&line)?;
        }
    }
    Ok(())
}

/// What a deployment did, a line for each name.
pub(crate) fn lines_of(deployment: &Deployment) -> Vec<String> {
    let mut lines = vec![format!("{} {}", deployment.name, deployment.digest.short())];
    let width = deployment
        .names
        .iter()
        .map(|name| name.name.chars().count())
        .max()
        .unwrap_or(0);
    lines.extend(deployment.names.iter().map(|name| {
        let change = match (change_of(name), name.before) {
            ("repointed", Some(before)) => format!("re-pointed from {}", before.short()),
            (change, _) => change.to_owned(),
        };
        format!(
            "  {:<13}  {:width$}  {change}",
            kind_name(name.kind),
            name.name
        )
    }));
    lines
}

fn json_of(deployment: &Deployment) -> DeploymentJson<'_> {
    DeploymentJson {
        module: &deployment.name,
        digest: deployment.digest.to_string(),
        names: deployment.names.iter().map(name_json).collect(),
    }
}

fn name_json(name: &Repointed) -> NameJson<'_> {
    let before = name.before.map(|digest| digest.to_string());
    NameJson {
        kind: name.kind,
        name: &name.name,
        change: change_of(name),
        before,
    }
}

fn change_of(name: &Repointed) -> &'static str {
    match (name.before, name.changed) {
        (None, _) => "new",
        (Some(_), true) => "repointed",
        (Some(_), false) => "unchanged",
    }
}

/// A kind in the words of the command line.
pub(super) fn kind_name(kind: DefinitionKind) -> &'static str {
    match kind {
        DefinitionKind::Orchestration => "orchestration",
        DefinitionKind::Activity => "activity",
    }
}
