//! `perennial run`: deploy, start, wait, print.

use std::path::Path;

use perennial::{Client, DefinitionKind, Host, Module};

use crate::args::{Run, WaitFor};
use crate::error::{CliError, Exit};
use crate::payload;
use crate::session::Session;

use super::serve::Signals;

pub(super) async fn run(args: Run, session: &Session) -> anyhow::Result<Exit> {
    // Everything that was typed is checked before the hub is touched.
    let module = super::deploy::open(args.file.clone(), session).await?;
    let orchestration = choose(&module, args.orchestration.as_deref(), &args.file)?;
    let input = payload::read(args.input.as_ref(), "--input")?;
    let grants = super::deploy::grants(&args.grants)?;

    let mut signals = Signals::new()?;
    let (host, client) = open(session).await?;
    let deployment = super::deploy::send(&client, module, grants, args.limits, false).await?;
    if deployment
        .names
        .iter()
        .any(|name| name.changed || name.before.is_none())
    {
        super::deploy::lines_of(&deployment)
            .iter()
            .take(1)
            .for_each(|line| session.output().note(&format!("deployed {line}")));
    }
    let mut start = client.start(&orchestration).input_json(input);
    if let Some(id) = &args.id {
        start = start.id(id);
    }
    let id = start.await?;
    session
        .output()
        .note(&format!("started {orchestration} as {id}"));

    let waited = tokio::select! {
        waited = super::wait::until(&client, &id, args.timeout, WaitFor::Completion, session) => waited,
        () = signals.next() => Err(interrupted(&id, host.is_some())),
    };
    if let Some(host) = host {
        if let Some(within) = args.drain {
            tokio::select! {
                () = super::serve::drain(std::iter::once(&host), within, session) => {}
                () = signals.next() => {}
            }
        }
        host.shut_down().await;
    }
    super::wait::ended(&waited?, session)
}

/// Becomes the host or, where there is one, its client.
async fn open(session: &Session) -> anyhow::Result<(Option<Host>, Client)> {
    if session.url().is_some() {
        return Ok((None, session.client()?));
    }
    if session.has_database() {
        // Hosts of a hub in a database share it. One that lives only as long as this command would take a part of it, and give that back.
        let client = session.client()?;
        if client.is_hosted() {
            return Ok((None, client));
        }
    }
    let builder = Host::builder()
        .store(session.store()?)
        .task_hub(session.task_hub())
        .name("perennial run");
    match super::hosts::start(&builder).await {
        Ok(host) => {
            let client = host.client();
            let others: u64 = super::serve::left(&client).await?.values().sum();
            if others > 0 {
                let others = crate::format::count(others, "other live instance");
                session.output().note(&format!(
                    "the task hub has {others}, which this process runs too meanwhile"
                ));
            }
            Ok((Some(host), client))
        }
        Err(error) if error.is_owned() => Ok((None, session.client()?)),
        Err(error) => Err(error.into()),
    }
}

fn choose(module: &Module, named: Option<&str>, file: &Path) -> anyhow::Result<String> {
    let of_kind = module
        .definitions()
        .iter()
        .filter(|definition| definition.kind == DefinitionKind::Orchestration);
    let names: Vec<&str> = of_kind.map(|definition| definition.name.as_str()).collect();
    let file = file.display();
    let list = names.join(", ");
    match (named, names.as_slice()) {
        (_, []) => Err(CliError::new(
            Exit::NotFound,
            format!("{file} defines no orchestration, only activities"),
        )
        .hint(format!(
            "`perennial deploy {file}` makes them known to the orchestrations of other modules"
        ))
        .into()),
        (Some(name), _) if names.contains(&name) => Ok(name.to_owned()),
        (Some(name), _) => Err(CliError::new(
            Exit::NotFound,
            format!("{file} defines no orchestration {name:?}; it defines {list}"),
        )
        .into()),
        (None, [only]) => Ok((*only).to_owned()),
        (None, [first, ..]) => Err(CliError::new(
            Exit::Usage,
            format!("{file} defines several orchestrations: {list}"),
        )
        .hint(format!("say which: perennial run {file} {first}"))
        .into()),
    }
}

fn interrupted(id: &str, hosted_here: bool) -> anyhow::Error {
    let said = CliError::new(
        Exit::Interrupted,
        format!("interrupted; instance {id:?} is kept"),
    );
    if hosted_here {
        said.hint("`perennial serve` goes on with it".to_owned())
            .into()
    } else {
        said.hint(format!("it goes on: `perennial wait {id}`"))
            .into()
    }
}
