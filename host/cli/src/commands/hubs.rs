//! `perennial hubs` and `perennial delete-task-hub`.

use std::time::Duration;

use anyhow::Context;
use perennial::{Client, HubHosts, HubInfo, HubStats, Hubs, Retention, Status, Timestamp};
use serde::Serialize;

use crate::args::{DeleteTaskHub, HubsCommand, HubsSet};
use crate::error::{CliError, Exit};
use crate::format::{bytes, count, now, time};
use crate::output::{Cell, plain};
use crate::progress::Bar;
use crate::session::Session;
use crate::value::Limit;

use super::bulk::confirmed;

#[derive(Serialize)]
struct ShownJson<'a> {
    #[serde(flatten)]
    stats: &'a HubStats,
    #[serde(flatten)]
    hosts: &'a HubHosts,
    retention: Retention,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletedJson<'a> {
    task_hub: &'a str,
    deleted: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CompactedJson<'a> {
    task_hub: &'a str,
    bytes_before: u64,
    bytes: u64,
}

/// The hint for the deletion of a hub that is in use.
const FORCE: &str = "stop what runs it first; --force deletes the hub all the same";

pub(super) async fn hubs(command: Option<HubsCommand>, session: &Session) -> anyhow::Result<Exit> {
    let hubs = Hubs::new(session.store()?);
    match command.unwrap_or(HubsCommand::List) {
        HubsCommand::List => list(&hubs, session).await,
        HubsCommand::Create { name } => create(&hubs, &name, session).await,
        HubsCommand::Show { name } => {
            let name = name.unwrap_or_else(|| session.task_hub().to_owned());
            show(&name, session).await
        }
        HubsCommand::Set(args) => set(args, session).await,
        HubsCommand::Copy { name, to, as_name } => {
            let name = name.unwrap_or_else(|| session.task_hub().to_owned());
            let as_name = as_name.unwrap_or_else(|| name.clone());
            copy((&hubs, &name), (to, &as_name), session).await
        }
        HubsCommand::Compact { name } => {
            let name = name.unwrap_or_else(|| session.task_hub().to_owned());
            compact(&hubs, &name, session).await
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CopiedJson<'a> {
    task_hub: &'a str,
    to: String,
    #[serde(rename = "as")]
    as_name: &'a str,
    instances: u64,
}

async fn copy(
    (hubs, name): (&Hubs, &str),
    (to, as_name): (String, &str),
    session: &Session,
) -> anyhow::Result<Exit> {
    let to = session
        .clone()
        .stored_at(to)
        .store()
        .context("cannot use --to")?;
    let place = to.to_string();
    let output = session.output();
    let bar = Bar::new(output, "copying");
    let shown = move |done, all| bar.show(done, all);
    let copied = hubs.copy(name, &Hubs::new(to), as_name, shown).await;
    let copied = copied.map_err(|error| match error.is_already_exists() {
        true => CliError::new(Exit::WrongState, format!("{error} in {place}"))
            .hint("--as gives the copy another name")
            .into(),
        false => explain(error, name, "stop what runs it first", session),
    })?;
    output.note(&format!(
        "copied task hub {name:?} with {} to {place}, as {as_name:?}; no host runs the copy",
        count(copied.instances, "instance")
    ));
    if output.is_json() {
        output.json(&CopiedJson {
            task_hub: name,
            to: place,
            as_name,
            instances: copied.instances,
        })?;
    }
    Ok(Exit::Ok)
}

async fn compact(hubs: &Hubs, name: &str, session: &Session) -> anyhow::Result<Exit> {
    let compacted = hubs.compact(name).await;
    let (before, after) = compacted.map_err(|error| {
        let hint = match session.has_database() {
            true => "the database uses the space of deleted rows again by itself; stop all hosts of the hub to have it back at once",
            false => "a host gives space back by itself while it has nothing else to do; stop it to have all of it back at once",
        };
        explain(error, name, hint, session)
    })?;
    let output = session.output();
    if output.is_json() {
        output.json(&CompactedJson {
            task_hub: name,
            bytes_before: before,
            bytes: after,
        })?;
    } else {
        output.note(&format!(
            "task hub {name:?} has {} on the disk, and had {}",
            bytes(after),
            bytes(before)
        ));
    }
    Ok(Exit::Ok)
}

async fn list(hubs: &Hubs, session: &Session) -> anyhow::Result<Exit> {
    let (found, output) = (hubs.list().await?, session.output());
    let unreadable = hubs.unreadable().await?;
    if output.is_json() {
        output.json(&found)?;
    } else if found.is_empty() {
        output.note(&format!("no task hubs in {}", session.store()?));
    } else {
        let header = ["TASK HUB", "SIZE", "CREATED (UTC)", "HOST"];
        output.table(&header, found.iter().map(row).collect())?;
    }
    if unreadable > 0 {
        let (schemas, look) = match unreadable {
            1 => ("1 schema".to_owned(), "looks like a task hub"),
            many => (format!("{many} schemas"), "look like task hubs"),
        };
        output.note(&format!(
            "{schemas} of the database {look} and cannot be read by this user; their owner gives rights to them (`GRANT USAGE ON SCHEMA`), and \
             `perennial doctor --task-hub NAME` has the statements"
        ));
    }
    Ok(Exit::Ok)
}

fn row(hub: &HubInfo) -> Vec<Cell> {
    let state = match (&hub.problem, &hub.owner) {
        (Some(problem), _) => problem.clone(),
        (None, Some(owner)) => owner.clone(),
        (None, None) => "none".to_owned(),
    };
    vec![
        Cell::new(&hub.name),
        Cell::new(bytes(hub.bytes)),
        Cell::new(hub.created_at.map(time).unwrap_or_default()),
        Cell::new(plain(&state)),
    ]
}

/// The file of a hub, or the address of its database.
fn place(hub: &HubInfo) -> String {
    let file = hub.path.as_ref().map(|file| file.display().to_string());
    file.or_else(|| hub.database.clone()).unwrap_or_default()
}

fn kind_of_place(hub: &HubInfo) -> &'static str {
    match &hub.path {
        Some(_) => "file",
        None => "database",
    }
}

async fn create(hubs: &Hubs, name: &str, session: &Session) -> anyhow::Result<Exit> {
    let made = hubs.create(name).await.map_err(|error| {
        if error.is_already_exists() {
            let said = CliError::new(Exit::WrongState, error.to_string());
            said.hint("`perennial hubs show` shows what it holds")
                .into()
        } else {
            anyhow::Error::from(error)
        }
    })?;
    let output = session.output();
    if output.is_json() {
        output.json(&made)?;
    } else {
        output.note(&format!("made task hub {name:?}, {}", place(&made)));
    }
    Ok(Exit::Ok)
}

async fn show(name: &str, session: &Session) -> anyhow::Result<Exit> {
    let client = session.elsewhere(Some(name.to_owned())).client()?;
    let stats = client.stats().await;
    let stats = stats.map_err(|error| explain(error, name, FORCE, session))?;
    let (hosts, retention) = (client.hosts().await?, client.retention().await?);
    let output = session.output();
    if output.is_json() {
        output.json(&ShownJson {
            stats: &stats,
            hosts: &hosts,
            retention,
        })?;
        return Ok(Exit::Ok);
    }
    let hub = &stats.hub;
    let all: u64 = stats.instances.iter().map(|(_, count)| count).sum();
    let mut fields = vec![
        ("task hub", hub.name.clone()),
        (kind_of_place(hub), place(hub)),
        (
            "size",
            format!(
                "{}; {} in use, {} free",
                bytes(hub.bytes),
                bytes(stats.used_bytes),
                bytes(stats.free_bytes)
            ),
        ),
    ];
    fields.extend(
        hub.created_at
            .map(|at| ("created", format!("{} UTC", time(at)))),
    );
    fields.extend(hosting(&hosts, hub));
    fields.push(("instances", all.to_string()));
    for (status, number) in &stats.instances {
        fields.push(("", format!("{number} {}", output.status(*status))));
    }
    let history = format!(
        "{} in {}, {}",
        count(stats.history_events, "event"),
        count(stats.history_turns, "turn"),
        bytes(stats.history_bytes)
    );
    fields.push(("history", history));
    let modules = format!(
        "{}, {} kept, {}",
        stats.modules,
        count(stats.stored_modules, "version"),
        bytes(stats.module_bytes)
    );
    fields.push(("modules", modules));
    fields.push(("retention", retained(retention)));
    if stats.has_garbage {
        fields.push((
            "",
            "histories of deleted instances are still being removed".to_owned(),
        ));
    }
    output.block(&fields)?;
    Ok(Exit::Ok)
}

/// The hosts of a hub. What each has of it, if it is divided.
fn hosting(found: &HubHosts, hub: &HubInfo) -> Vec<(&'static str, String)> {
    let partitions = |number: u16| count(u64::from(number), "partition");
    let mut fields: Vec<_> = found
        .hosts
        .iter()
        .map(|host| {
            let mut said = match (found.partitions, host.lease_age) {
                (0 | 1, _) | (_, None) => host.to_string(),
                (_, Some(age)) => format!(
                    "{host}, version {}: {}, lease renewed {} ms ago",
                    host.version,
                    partitions(host.partitions),
                    age.as_millis()
                ),
            };
            if let Some(lacks) = &host.lacks {
                said += &format!(", lacks {lacks}");
            }
            said
        })
        .map(|host| ("host", host))
        .collect();
    if fields.is_empty() {
        let owner = hub.owner.clone();
        fields.push(("host", owner.unwrap_or_else(|| "none".to_owned())));
    }
    if found.partitions > 1 {
        let mut said = partitions(found.partitions);
        match found.free_partitions {
            0 => {}
            free if free == found.partitions => said += ", which no host has",
            free => said += &format!(", of which no host has {free}"),
        }
        fields.push(("partitions", said));
    }
    if found.waiting_messages > 0 {
        let waiting = count(found.waiting_messages, "message");
        fields.push((
            "",
            format!("{waiting} to instances of other partitions under way"),
        ));
    }
    fields
}

fn retained(retention: Retention) -> String {
    let kept = |name: &str, age: Option<Duration>| match age {
        Some(age) => {
            format!("{name} {}", whole(age))
        }
        None => format!("{name} for ever"),
    };
    [
        kept("Completed", retention.completed),
        kept("Failed", retention.failed),
        kept("Terminated", retention.terminated),
    ]
    .join(", ")
}

/// A duration in full, as it is typed: `7d`, `1d 12h`, `0s`.
fn whole(age: Duration) -> String {
    let (seconds, ms) = (age.as_secs(), age.subsec_millis());
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(ms), "ms"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if said.is_empty() {
        "0s".to_owned()
    } else {
        said.join(" ")
    }
}

async fn set(args: HubsSet, session: &Session) -> anyhow::Result<Exit> {
    let name = args.name.as_deref().unwrap_or_else(|| session.task_hub());
    let there = session.elsewhere(Some(name.to_owned()));
    let client = there.client()?;
    let retention = client.retention().await;
    let mut retention = retention.map_err(|error| explain(error, name, FORCE, session))?;
    let changes: [(&mut Option<Duration>, Option<Limit>); 3] = [
        (&mut retention.completed, args.retain_completed),
        (&mut retention.failed, args.retain_failed),
        (&mut retention.terminated, args.retain_terminated),
    ];
    let mut changed = false;
    for (age, to) in changes {
        if let Some(Limit(to)) = to {
            (*age, changed) = (to, true);
        }
    }
    let kept = [
        (Status::Completed, args.retain_completed),
        (Status::Failed, args.retain_failed),
        (Status::Terminated, args.retain_terminated),
    ];
    let older = match args.yes {
        true => 0,
        false => count_older(&client, kept).await?,
    };
    if older > 0 {
        let deleted = count(older, "instance");
        if !confirmed(&format!("delete up to {deleted} that ended longer ago?"))? {
            session.output().note("nothing was changed");
            return Ok(Exit::Error);
        }
    }
    if !changed {
        let said = CliError::new(Exit::Usage, "no setting is given");
        return Err(said
            .hint("such as --retain-completed 7d; `perennial hubs show` shows what is set")
            .into());
    }
    client.set_retention(retention).await?;
    let output = session.output();
    if output.is_json() {
        output.json(&retention)?;
    } else {
        output.note(&format!("task hub {name:?} keeps {}", retained(retention)));
        there.warn_if_unhosted(&client, "nothing is deleted");
    }
    Ok(Exit::Ok)
}

/// An upper bound of the instances that the retention deletes at once: those created longer ago than it keeps their status.
async fn count_older(client: &Client, kept: [(Status, Option<Limit>); 3]) -> anyhow::Result<u64> {
    let mut older = 0;
    for (status, kept) in kept {
        let Some(Limit(Some(age))) = kept else {
            continue;
        };
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let made_by = Timestamp(now().0.saturating_sub(age));
        let ended = client.list().status(status).created_to(made_by);
        older += ended
            .counts()
            .await?
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>();
    }
    Ok(older)
}

/// Adds the hint that fits an error about a hub, and not about an instance.
fn explain(
    error: perennial::Error,
    name: &str,
    if_owned: &str,
    session: &Session,
) -> anyhow::Error {
    if error.is_owned() {
        let said = CliError::new(Exit::WrongState, error.to_string());
        said.hint(if_owned).into()
    } else if error.is_unknown_hub() && session.url().is_some() {
        // The host's message lists the hubs that it serves; `hubs list` needs their files.
        let said = CliError::new(Exit::NotFound, format!("there is no task hub {name:?}"));
        said.hint(error.to_string()).into()
    } else if error.is_not_found() {
        let said = CliError::new(Exit::NotFound, format!("there is no task hub {name:?}"));
        said.hint("`perennial hubs` lists them").into()
    } else {
        error.into()
    }
}

pub(super) async fn delete(args: DeleteTaskHub, session: &Session) -> anyhow::Result<Exit> {
    let hubs = Hubs::new(session.store()?);
    let found = hubs
        .list()
        .await?
        .into_iter()
        .find(|hub| hub.name == args.name);
    if let Some(hub) = found
        && !args.yes
    {
        let what = match &hub.owner {
            Some(owner) if args.force => format!(", run by {owner},"),
            _ => String::new(),
        };
        let question = format!(
            "delete task hub {:?}{what} with everything in it?",
            hub.name
        );
        if !confirmed(&question)? {
            session.output().note("nothing was changed");
            return Ok(Exit::Error);
        }
    }
    let deleted = if args.force {
        hubs.delete_forced(&args.name).await
    } else {
        hubs.delete(&args.name).await
    };
    deleted.map_err(|error| explain(error, &args.name, FORCE, session))?;
    let output = session.output();
    if output.is_json() {
        let task_hub = &args.name;
        output.json(&DeletedJson {
            task_hub,
            deleted: true,
        })?;
    } else {
        output.note(&format!("deleted task hub {:?}", args.name));
    }
    Ok(Exit::Ok)
}
