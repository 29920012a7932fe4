//! `perennial deploy`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial::{
    Client, DefinitionKind, Deploy as Deploying, Deployment, Grants, Module, ModuleInfo,
    ModuleLimits, UpdatedName,
};
use perennial_core::bounds;
use perennial_core::text::shortened;
use serde::Serialize;

use crate::args::{Deploy, GrantArgs, LimitArgs};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::session::Session;

use super::modules::granted;

pub(super) async fn deploy(args: Deploy, session: &Session) -> anyhow::Result<Exit> {
    let Deploy {
        files,
        stored,
        name,
        grants,
        limits,
        replace,
        check,
    } = args;
    if name.is_some() && files.len() > 1 {
        return Err(CliError::new(Exit::Usage, "--name is for one file")
            .hint("deploy the files one by one")
            .into());
    }
    let grants = self::grants(&grants)?;
    // All of them are looked at before the first is deployed: a broken file among them changes nothing.
    let mut modules = Vec::with_capacity(files.len());
    for file in files {
        modules.push(named(open(file, session).await?, name.as_deref()));
    }
    let client = session.client()?;
    let stored = match stored {
        Some(stored) => Some(stored_as(&client, &stored, name).await?),
        None => None,
    };
    if check {
        if let Some((name, digest)) = stored {
            modules.push(client.load_module(&digest).await?.named(name));
        }
        return super::check::check(&client, modules, grants, replace, session).await;
    }
    // Read before, to say what changes.
    let before = match grants {
        Some(_) => granted_now(&client).await?,
        None => Vec::new(),
    };
    let again = stored.map(|(name, digest)| {
        let deploy = client.deploy_stored(digest).named(&name);
        (name, deploy)
    });
    let files = modules.into_iter().map(|module| {
        let name = module.name().to_owned();
        (name, client.deploy(module))
    });
    let mut deployments = Vec::new();
    for (name, deploy) in again.into_iter().chain(files) {
        match finish(deploy, &name, grants.clone(), limits, replace).await {
            Ok(deployment) => deployments.push(deployment),
            Err(error) => {
                // What comes before it is deployed.
                print(&deployments, session.output())?;
                return Err(error);
            }
        }
    }
    print(&deployments, session.output())?;
    if grants.is_some() {
        let after = granted_now(&client).await?;
        for deployment in &deployments {
            let of = |all: &[(String, Vec<String>)]| {
                let found = all.iter().find(|(name, _)| *name == deployment.name);
                found.map_or_else(Vec::new, |(_, granted)| granted.clone())
            };
            for line in grant_changes(&deployment.name, &of(&before), &of(&after)) {
                session.output().note(&line);
            }
        }
    }
    Ok(Exit::Ok)
}

/// What each module is granted, in lines.
async fn granted_now(client: &Client) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let modules = match client.modules().await {
        // The deployment makes it.
        Err(error) if error.is_unknown_hub() => Vec::new(),
        modules => modules?,
    };
    let line = |module: ModuleInfo| (module.name, granted(&module.grants));
    Ok(modules.into_iter().map(line).collect())
}

/// The name under which a stored module is deployed, and its whole digest.
async fn stored_as(
    client: &Client,
    digits: &str,
    name: Option<String>,
) -> anyhow::Result<(String, String)> {
    let stored = client.stored_module(digits).await?;
    let likely = stored.likely_name().map(str::to_owned);
    let name = name.or(likely).ok_or_else(|| {
        let names = match &stored.versions_of[..] {
            [] => "no deployed module defines any of its names".to_owned(),
            names => format!("it may be a version of any of these: {}", names.join(", ")),
        };
        let said = format!(
            "it is not clear which module {} is a version of: {names}",
            stored.digest.short()
        );
        CliError::new(Exit::Usage, said).hint("say under which name it is deployed: --name NAME")
    })?;
    Ok((name, stored.digest.to_string()))
}

fn named(module: Module, name: Option<&str>) -> Module {
    match name {
        Some(name) => module.named(name),
        None => module,
    }
}

/// The grants that a deployment adds and removes.
fn grant_changes(module: &str, before: &[String], after: &[String]) -> Vec<String> {
    let only = |some: &[String], others: &[String], sign: &str| -> Vec<String> {
        let only = some.iter().filter(|line| !others.contains(line));
        only.map(|line| format!("  {sign} {line}")).collect()
    };
    let mut lines = only(before, after, "-");
    lines.extend(only(after, before, "+"));
    if !lines.is_empty() {
        let replaced = format!(
            "what {module} is granted changed: a deployment that grants anything replaces all of it"
        );
        lines.insert(0, replaced);
    }
    lines
}

/// Reads and inspects a file. With `--url` the host inspects it: it has to compile it anyway.
pub(crate) async fn open(file: PathBuf, session: &Session) -> anyhow::Result<Module> {
    if session.url().is_none() {
        return open_here(file, session).await;
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let bytes = Module::bytes_of_file(&file).map_err(|error| unusable(&file, error.to_string()))?;
    let looked = session.client()?.look_at(name, bytes).await;
    looked.map_err(|error| match error.is_invalid() {
        true => unusable(&file, format!("{}: {error}", file.display())),
        false => error.into(),
    })
}

/// As [`open`], always in this process.
pub(crate) async fn open_here(file: PathBuf, session: &Session) -> anyhow::Result<Module> {
    let data_dir = session.data_dir().to_owned();
    let look = move || {
        Module::from_file_in(&file, data_dir).map_err(|error| unusable(&file, error.to_string()))
    };
    tokio::task::spawn_blocking(look).await?
}

/// The error for a file that cannot be used. It is no usage error: the file is at fault, not the command line.
fn unusable(file: &Path, message: String) -> anyhow::Error {
    let said = CliError::new(Exit::Error, message);
    let is_name = file.extension().is_none() && file.components().count() == 1;
    if file.is_dir() {
        said.hint("`perennial build` makes a file such as target/NAME.wasm of a project in a directory")
    } else if file.exists() {
        said
    } else if is_name {
        said.hint("the first argument is the path of a .wasm file; `perennial start NAME --wait` starts an orchestration that is deployed")
    } else {
        said.hint("the first argument is the path of a .wasm file")
    }
    .into()
}

/// Deploys one module.
pub(crate) async fn send(
    client: &Client,
    module: Module,
    grants: Option<Grants>,
    limits: LimitArgs,
    replace: bool,
) -> anyhow::Result<Deployment> {
    let name = module.name().to_owned();
    finish(client.deploy(module), &name, grants, limits, replace).await
}

/// Makes a deployment, whose name an error tells.
async fn finish(
    mut deploy: Deploying,
    name: &str,
    grants: Option<Grants>,
    limits: LimitArgs,
    replace: bool,
) -> anyhow::Result<Deployment> {
    if let Some(grants) = grants {
        deploy = deploy.grants(grants);
    }
    if limits.fuel.is_some() || limits.memory.is_some() {
        let limits = ModuleLimits::default()
            .with_fuel(limits.fuel)
            .with_memory_bytes(limits.memory);
        deploy = deploy.limits(limits);
    }
    if replace {
        deploy = deploy.replace();
    }
    deploy.await.with_context(|| {
        format!(
            "could not deploy module {:?}",
            shortened(name, bounds::MODULE_NAME_CHARS)
        )
    })
}

/// The grants of the options; `None` if there are none, which keeps the present grants.
pub(crate) fn grants(args: &GrantArgs) -> anyhow::Result<Option<Grants>> {
    if args.dirs.is_empty() && args.env.is_empty() && args.http_hosts.is_empty() {
        return Ok(None);
    }
    let mut grants = Grants::new();
    grants.dirs.clone_from(&args.dirs);
    grants.http_hosts.clone_from(&args.http_hosts);
    for variable in &args.env {
        let value = match &variable.value {
            Some(value) => value.clone(),
            None => std::env::var(&variable.name).map_err(|_| {
                let said = CliError::new(
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
    change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

/// What a deployment does to a name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    New,
    Repointed,
    Unchanged,
}

impl Change {
    fn of(name: &UpdatedName) -> Self {
        match (name.before, name.changed) {
            (None, _) => Self::New,
            (Some(_), true) => Self::Repointed,
            (Some(_), false) => Self::Unchanged,
        }
    }
}

fn print(deployments: &[Deployment], output: &Output) -> anyhow::Result<()> {
    if deployments.is_empty() {
        return Ok(());
    }
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

/// Describes a deployment, a line for each name.
pub(crate) fn lines_of(deployment: &Deployment) -> Vec<String> {
    let mut lines = vec![format!("{} {}", deployment.name, deployment.digest.short())];
    let width = deployment
        .names
        .iter()
        .map(|name| name.name.chars().count())
        .max()
        .unwrap_or(0);
    lines.extend(deployment.names.iter().map(|name| {
        let change = match (Change::of(name), name.before) {
            (Change::Repointed, Some(before)) if before != deployment.digest => {
                format!("updated from {}", before.short())
            }
            (Change::Repointed, _) => "taken over from another module".to_owned(),
            (Change::New, _) => "new".to_owned(),
            (Change::Unchanged, _) => "unchanged".to_owned(),
        };
        format!("  {:<13}  {:width$}  {change}", name.kind, name.name)
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

fn name_json(name: &UpdatedName) -> NameJson<'_> {
    let before = name.before.map(|digest| digest.to_string());
    NameJson {
        kind: name.kind,
        name: &name.name,
        change: Change::of(name),
        before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_deployment_takes_away_is_said() {
        let lines = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let (before, after) = (lines(&["a", "b"]), lines(&["b", "c"]));
        assert_eq!(grant_changes("m", &before, &before), lines(&[]));
        assert_eq!(
            grant_changes("m", &before, &after)[1..],
            lines(&["  - a", "  + c"])
        );
    }
}
