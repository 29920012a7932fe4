//! Bulk commands over a filter, and `perennial purge`.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use perennial::{Bulk, BulkProgress, Filter, InstanceFamily};
use serde::Serialize;

use crate::args::{Purge, Selection};
use crate::error::{CliError, Exit};
use crate::format::count;
use crate::paint::written_out;
use crate::progress::Progress;
use crate::session::Session;
use crate::suggest;

use super::missing::missing;

/// Limit of instances that are read of a family before it is purged.
const FAMILY_MAX: usize = 10_000;

/// The words of a bulk operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// As in "terminate 3 instances".
    pub(super) verb: &'static str,
    /// As in "3 instances terminated".
    pub(super) done: &'static str,
    /// Whether a person is asked before it is done.
    pub(super) asks: bool,
    /// Whether it takes effect at once, and not only when a host executes it.
    pub(super) at_once: bool,
}

#[derive(Serialize)]
struct ManyJson {
    #[serde(flatten)]
    outcome: BulkProgress,
    hosted: bool,
}

/// The selected instances: one, or those that match a filter. `None` means that no instance can match.
#[expect(clippy::large_enum_variant, reason = "there is one of them")]
pub(super) enum Selected {
    One(String),
    Many(Option<Filter>),
}

/// Checks the arguments that select instances, for a command that has a dry run only of many.
pub(super) fn meant(selection: &Selection, verb: &str) -> anyhow::Result<Selected> {
    let selected = select(selection, verb)?;
    if selection.dry_run && matches!(selected, Selected::One(_)) {
        let message = "--dry-run counts the instances that match filters; it cannot be used with one named instance";
        return Err(CliError::new(Exit::Usage, message).into());
    }
    Ok(selected)
}

/// Checks the arguments that select instances.
fn select(selection: &Selection, verb: &str) -> anyhow::Result<Selected> {
    let usage = |message: String| CliError::new(Exit::Usage, message);
    match &selection.id {
        Some(_) if selection.all || !selection.filter.is_empty() => {
            let message = format!("name one instance to {verb}, or filters, and not both");
            Err(usage(message).into())
        }
        Some(id) => Ok(Selected::One(id.clone())),
        None if !selection.all && selection.filter.is_empty() => {
            let said = usage(format!(
                "no instance to {verb} is named, and no filter is given"
            ));
            Err(said
                .hint("name an instance, or filters such as --status and --name; --all means every one")
                .into())
        }
        None => Ok(Selected::Many(selection.filter.filter())),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PurgedJson<'a> {
    instance_id: &'a str,
    deleted: u64,
    children_left: u64,
    dry_run: bool,
}

pub(super) async fn purge(args: Purge, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let words = Words {
        verb: "purge",
        done: "purged",
        asks: !args.yes,
        at_once: true,
    };
    match select(&args.selection, words.verb)? {
        Selected::One(id) => one(&id, &args, session).await,
        Selected::Many(filter) => {
            let bulk = |filter| {
                let bulk = client.purge_where(filter);
                if args.recursive {
                    bulk.recursive()
                } else {
                    bulk
                }
            };
            many(filter, bulk, words, &args.selection, session).await
        }
    }
}

/// Purges one instance, and notes which children stay.
async fn one(id: &str, args: &Purge, session: &Session) -> anyhow::Result<Exit> {
    let (client, output) = (session.client()?, session.output());
    let family = client.family(id, FAMILY_MAX).await?;
    let dry_run = args.selection.dry_run;
    let deleted = match (&family, dry_run) {
        (None, true) => return Err(missing(id, session).into()),
        (Some(family), true) if !family.instance.is_ended() => {
            let status = family.instance.runtime_status;
            let message = format!("instance {id:?}: it has not ended and is {status}");
            return Err(CliError::new(Exit::WrongState, message).into());
        }
        (Some(family), true) if args.recursive => ended(family),
        (Some(_), true) => 1,
        (_, false) if args.recursive => client.purge(id).recursive().await?,
        (_, false) => client.purge(id).await?,
    };
    if deleted == 0 {
        return Err(missing(id, session).into());
    }
    let children = family.iter().flat_map(|family| &family.children);
    // What lives is not purged, nor is what is below it.
    let is_left = |child: &&InstanceFamily| !args.recursive || !child.instance.is_ended();
    let left = children.filter(is_left).count() as u64;
    if output.is_json() {
        output.json(&PurgedJson {
            instance_id: id,
            deleted,
            children_left: left,
            dry_run,
        })?;
        return Ok(Exit::Ok);
    }
    let would = if dry_run { "would be " } else { "" };
    output.note(&format!("{} {would}purged", count(deleted, "instance")));
    if left > 0 {
        let children = match left {
            1 => "its child stays".to_owned(),
            more => format!("its {more} children stay"),
        };
        let why = match args.recursive {
            true => "instances that have not ended are not purged".to_owned(),
            false => {
                format!("`perennial purge {id} --recursive` deletes what has ended below it")
            }
        };
        output.note(&format!("{children}: {why}"));
    }
    Ok(Exit::Ok)
}

/// Counts the instances of a family that have ended and have no live ancestor.
fn ended(family: &InstanceFamily) -> u64 {
    if !family.instance.is_ended() {
        return 0;
    }
    1 + family.children.iter().map(ended).sum::<u64>()
}

/// Executes a bulk command, after a confirmation if it asks for one.
pub(super) async fn many(
    filter: Option<Filter>,
    bulk: impl Fn(Filter) -> Bulk,
    words: Words,
    selection: &Selection,
    session: &Session,
) -> anyhow::Result<Exit> {
    let dry_run = selection.dry_run;
    let output = session.output();
    // What was asked about, however long the answer takes.
    let mut asked = None;
    let Some(filter) = filter else {
        return told(BulkProgress::default(), words, session);
    };
    if dry_run || words.asks {
        let mut would = bulk(filter.clone()).dry_run().await?;
        if dry_run || would.matched == 0 {
            would.dry_run = dry_run;
            let exit = told(would, words, session)?;
            if would.matched == 0 {
                suggest::tell_unknown(&selection.filter, session).await;
            }
            return Ok(exit);
        }
        asked = would.as_of;
        let question = format!("{} {}?", words.verb, count(would.matched, "instance"));
        if !confirmed(&question)? {
            output.note("nothing was changed");
            return Ok(Exit::Error);
        }
    }
    let mut progress = Progress::new(output, words.verb);
    let bulk = match asked {
        Some(moment) => bulk(filter).as_of(moment),
        None => bulk(filter),
    };
    let bulk = bulk.on_progress(move |so_far| {
        let text = format!("{} of {} {}", so_far.done, so_far.matched, words.done);
        progress.tell(&text);
    });
    let done = bulk.await?;
    let exit = told(done, words, session)?;
    if done.matched == 0 {
        suggest::tell_unknown(&selection.filter, session).await;
    }
    Ok(exit)
}

fn told(outcome: BulkProgress, words: Words, session: &Session) -> anyhow::Result<Exit> {
    let (output, client) = (session.output(), session.client()?);
    let verb = if outcome.dry_run { "would be " } else { "" };
    let number = if outcome.dry_run {
        outcome.matched
    } else {
        outcome.done
    };
    let skipped = match outcome.skipped {
        0 => String::new(),
        skipped => format!("; {skipped} had changed meanwhile"),
    };
    let newer = match outcome.newer {
        0 => String::new(),
        newer => format!("; {newer} that match only since the question were left alone"),
    };
    if !output.is_json() {
        let instances = count(number, "instance");
        match outcome.matched {
            0 => output.note("no instance matches"),
            _ => output.note(&format!("{instances} {verb}{}{skipped}{newer}", words.done)),
        }
    }
    let waits = !outcome.dry_run && !words.at_once && outcome.done > 0;
    let hosted = if waits {
        session.warn_if_unhosted(&client, "it takes no effect on what has begun")
    } else {
        client.is_hosted()
    };
    if output.is_json() {
        output.json(&ManyJson { outcome, hosted })?;
    }
    Ok(Exit::Ok)
}

/// Asks for confirmation on the terminal. Without one it is an error: scripts pass `--yes`.
pub(super) fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let question = question.trim_end_matches('?');
        let message = format!("would {question}; no terminal to confirm");
        return Err(CliError::new(Exit::Usage, message)
            .hint("pass --yes")
            .into());
    }
    let mut answer = String::new();
    write!(io::stderr(), "{} [y/N] ", written_out(question))
        .and_then(|()| io::stdin().read_line(&mut answer))
        .context("could not ask")?;
    let answer = answer.trim().to_ascii_lowercase();
    Ok(answer == "y" || answer == "yes")
}
