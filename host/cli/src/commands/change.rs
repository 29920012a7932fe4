//! `perennial raise-event`, `cancel`, `terminate`, `suspend` and `resume`: a command to one instance.

use std::time::Duration;

use perennial::{
    Bulk, Client, CommandOutcome, Filter, InstanceCommand, InstanceStatus, Wait, Waited, closest,
};
use serde::Serialize;

use crate::args::{Cancel, Change, RaiseEvent, Resume, Terminate, WaitFor};
use crate::error::{CliError, Exit};
use crate::payload;
use crate::session::Session;

use super::bulk::{self, Selected, Words, meant};
use super::requests;

/// How long a host may take to replay a history before the command reports the state.
const REPLAY_LIMIT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedJson<'a> {
    instance_id: &'a str,
    command: &'a str,
    hosted: bool,
    /// Absent for commands that always change something.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
}

pub(super) async fn raise_event(args: RaiseEvent, session: &Session) -> anyhow::Result<Exit> {
    let data = payload::read(args.data.as_ref(), "--data")?;
    let client = session.client()?;
    match requests::start_of(&client, &args.start)? {
        Some(start) => {
            let start = start.id(&args.id);
            start.with_event_json(&args.name, data).await?;
        }
        None => client.raise_event_json(&args.id, &args.name, data).await?,
    }
    if let Some(waits) = waits_for_others(&client, &args.id, &args.name).await {
        session.output().note(&waits);
    }
    accepted(
        &client,
        &args.id,
        "raiseEvent",
        &format!("raised {:?} to {}", args.name, args.id),
        session,
    )
}

/// A note for an event that the instance does not wait for: its name may be misspelt, so the note lists the awaited names.
async fn waits_for_others(client: &Client, id: &str, name: &str) -> Option<String> {
    let status = client.status(id).await.ok()??;
    let awaited = status.waits_for.iter().filter_map(|wait| match wait {
        Wait::ExternalEvent { name } => Some(name.as_str()),
        _ => None,
    });
    let awaited: Vec<&str> = awaited.collect();
    let is_awaited = awaited.iter().any(|one| one.eq_ignore_ascii_case(name));
    if awaited.is_empty() || is_awaited {
        return None;
    }
    let list = awaited.iter().map(|one| format!("{one:?}"));
    let list = list.collect::<Vec<_>>().join(", ");
    let meant = match closest(name, awaited.iter().copied()) {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None => String::new(),
    };
    Some(format!(
        "{id} waits for {list} and not for {name:?}; the event is kept until {id} waits for {name:?}{meant}"
    ))
}

/// What a command does to one instance, or to many.
#[derive(Clone, Copy)]
enum Verb {
    /// With its grace period, if one was given.
    Cancel(Option<Duration>),
    Terminate,
    Suspend,
    Resume,
}

impl Verb {
    /// As in "terminate 3 instances", "terminating order-17" and "3 instances terminated".
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Cancel(_) => ("cancel", "cancelling", "asked to cancel"),
            Self::Terminate => ("terminate", "terminating", "terminated"),
            Self::Suspend => ("suspend", "suspending", "suspended"),
            Self::Resume => ("resume", "resuming", "resumed"),
        }
    }

    fn one(self, client: &Client, id: &str, reason: Option<&str>) -> InstanceCommand {
        match self {
            Self::Cancel(grace) => {
                let cancel = client.cancel(id, reason);
                match grace {
                    Some(grace) => cancel.grace(grace),
                    None => cancel,
                }
            }
            Self::Terminate => client.terminate(id, reason),
            Self::Suspend => client.suspend(id, reason),
            Self::Resume => client.resume(id, reason),
        }
    }

    /// Why the command changed nothing.
    fn already(self) -> &'static str {
        match self {
            Self::Cancel(_) | Self::Terminate => "has ended already",
            Self::Suspend => "is suspended already",
            Self::Resume => "is not suspended",
        }
    }

    /// Whether the command has taken effect without a host: terminating an instance that has not begun does.
    async fn is_over(self, client: &Client, id: &str) -> bool {
        let ended = |status: InstanceStatus| status.started_at.is_none() && status.is_ended();
        match self {
            Self::Cancel(_) | Self::Terminate => client
                .status(id)
                .await
                .is_ok_and(|one| one.is_some_and(ended)),
            Self::Suspend | Self::Resume => false,
        }
    }

    fn many(self, client: &Client, filter: Filter) -> Bulk {
        match self {
            Self::Cancel(_) => client.cancel_where(filter),
            Self::Terminate => client.terminate_where(filter),
            Self::Suspend => client.suspend_where(filter),
            Self::Resume => client.resume_where(filter),
        }
    }
}

pub(super) async fn cancel(args: Cancel, session: &Session) -> anyhow::Result<Exit> {
    end(Verb::Cancel(args.grace), args.terminate, session).await
}

pub(super) async fn terminate(args: Terminate, session: &Session) -> anyhow::Result<Exit> {
    end(Verb::Terminate, args, session).await
}

async fn end(verb: Verb, args: Terminate, session: &Session) -> anyhow::Result<Exit> {
    let id = args.change.selection.id.clone();
    let Some(id) = id.filter(|_| args.wait) else {
        return change(verb, args.change, !args.yes, session).await;
    };
    let client = session.client()?;
    // That several are not meant is checked as for one that is not waited for.
    meant(&args.change.selection, verb.words().0)?;
    verb.one(&client, &id, args.change.reason.as_deref())
        .recursive_if(args.change.recursive)
        .await?;
    let status =
        super::wait::until(&client, &id, args.timeout, WaitFor::Completion, session).await?;
    is_now(&status, session)
}

pub(super) async fn suspend(args: Change, session: &Session) -> anyhow::Result<Exit> {
    change(Verb::Suspend, args, false, session).await
}

pub(super) async fn resume(args: Resume, session: &Session) -> anyhow::Result<Exit> {
    let Some(module) = args.module else {
        return change(Verb::Resume, args.change, false, session).await;
    };
    match meant(&args.change.selection, "resume")? {
        Selected::One(id) => resume_on(&id, &module, args.change.reason.as_deref(), session).await,
        // The arguments do not allow it: which modules could go on with many is for each to say.
        Selected::Many(_) => Err(CliError::new(Exit::Usage, "--module is for one instance").into()),
    }
}

/// Executes a command on the named instance, or on all that match; `asks` for confirmation first.
async fn change(verb: Verb, args: Change, asks: bool, session: &Session) -> anyhow::Result<Exit> {
    let Change {
        selection,
        recursive,
        reason,
    } = args;
    let client = session.client()?;
    let (word, doing, done) = verb.words();
    let words = Words {
        verb: word,
        done,
        asks,
        at_once: false,
    };
    let reason = reason.as_deref();
    let id = match meant(&selection, word)? {
        Selected::One(id) => id,
        Selected::Many(filter) => {
            let bulk = |filter| {
                let bulk = verb.many(&client, filter);
                let bulk = match reason {
                    Some(reason) => bulk.reason(reason),
                    None => bulk,
                };
                if recursive { bulk.recursive() } else { bulk }
            };
            return bulk::many(filter, bulk, words, &selection, session).await;
        }
    };
    let command = verb.one(&client, &id, reason);
    let outcome = command.recursive_if(recursive).await?;
    let already = verb.already();
    let said = match (outcome, recursive) {
        (CommandOutcome::Accepted, _) => format!("{doing} {id}"),
        (CommandOutcome::Unchanged, false) => format!("{id} {already}: nothing was changed"),
        (CommandOutcome::Unchanged, true) => {
            format!("{id} {already}; {doing} its descendants")
        }
    };
    if verb.is_over(&client, &id).await && !session.output().is_json() {
        session
            .output()
            .note(&format!("{done} {id}, which had not begun"));
        return Ok(Exit::Ok);
    }
    answered(
        &client,
        &id,
        word,
        &said,
        Some(outcome.is_changed()),
        session,
    )
}

/// Resumes a quarantined instance with another module, and reports whether that replays its history.
async fn resume_on(
    id: &str,
    module: &str,
    reason: Option<&str>,
    session: &Session,
) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let before = client
        .status(id)
        .await?
        .and_then(|status| status.quarantine);
    client.resume_on(id, module, reason).await?;
    let said = format!("resuming {id} with module {module}");
    if !client.is_hosted() {
        return accepted(&client, id, "resume", &said, session);
    }
    session.output().note(&said);
    let tried = |status: &InstanceStatus| status.quarantine != before;
    let status = match client.wait_until(id, REPLAY_LIMIT, tried).await? {
        Waited::Reached(status) | Waited::TimedOut(status) => status,
    };
    if let Some(why) = &status.quarantine {
        let said = CliError::new(
            Exit::WrongState,
            format!("instance {id:?} stays quarantined: {why}"),
        );
        return Err(said
            .hint("`perennial deploy --check FILE.wasm` says whether instances can continue on a file")
            .into());
    }
    is_now(&status, session)
}

/// Prints the outcome for an instance.
fn is_now(status: &InstanceStatus, session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    if output.is_json() {
        output.json(status)?;
    } else {
        output.note(&format!(
            "{} is {}",
            status.instance_id, status.runtime_status
        ));
    }
    Ok(Exit::Ok)
}

/// Prints that a command is stored durably, and whether a host will execute it.
pub(crate) fn accepted(
    client: &Client,
    id: &str,
    command: &str,
    said: &str,
    session: &Session,
) -> anyhow::Result<Exit> {
    answered(client, id, command, said, None, session)
}

/// As [`accepted`]; `changed` says whether the instance itself was changed, if the command may leave it as it is.
fn answered(
    client: &Client,
    id: &str,
    command: &str,
    said: &str,
    changed: Option<bool>,
    session: &Session,
) -> anyhow::Result<Exit> {
    let output = session.output();
    output.note(said);
    let hosted = session.warn_if_unhosted(client, "it takes no effect");
    if output.is_json() {
        output.json(&AcceptedJson {
            instance_id: id,
            command,
            hosted,
            changed,
        })?;
    }
    Ok(Exit::Ok)
}
