//! `perennial raise-event`, `terminate`, `suspend` and `resume`: a command to one instance.

use std::time::Duration;

use perennial::{Bulk, Client, InstanceStatus, Waited};
use serde::Serialize;

use crate::cli::args::{Change, RaiseEvent, Resume, Terminate, WaitFor};
use crate::cli::error::{Exit, Said};
use crate::cli::payload;
use crate::cli::session::Session;

use super::bulk::{self, Meant, Words, meant};

/// How long a host may take to repeat a history before it is said how things stand.
const REPLAY_LIMIT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedJson<'a> {
    instance_id: &'a str,
    command: &'a str,
    hosted: bool,
}

pub(super) async fn raise_event(args: RaiseEvent, session: &Session) -> anyhow::Result<Exit> {
    let data = payload::read(args.data.as_ref(), "--data")?;
    let client = session.client()?;
    client.raise_event_json(&args.id, &args.name, data).await?;
    accepted(
        &client,
        &args.id,
        "raiseEvent",
        &format!("raised {:?} to {}", args.name, args.id),
        session,
    )
}

pub(super) async fn terminate(args: Terminate, session: &Session) -> anyhow::Result<Exit> {
    let Change {
        selection,
        recursive,
        reason,
    } = args.change;
    let client = session.client()?;
    let words = Words {
        verb: "terminate",
        done: "terminated",
        asks: !args.yes,
        at_once: false,
    };
    let id = match meant(&selection, words.verb)? {
        Meant::One(id) => id,
        Meant::Many(filter) => {
            let bulk = |filter| detailed(client.terminate_where(filter), &reason, recursive);
            return bulk::many(filter, bulk, words, selection.dry_run, session).await;
        }
    };
    client
        .terminate(&id, reason.as_deref())
        .recursive_if(recursive)
        .await?;
    if !args.wait {
        return accepted(
            &client,
            &id,
            "terminate",
            &format!("terminating {id}"),
            session,
        );
    }
    let status =
        super::wait::until(&client, &id, args.timeout, WaitFor::Completion, session).await?;
    if session.output().is_json() {
        session.output().json(&status)?;
    } else {
        session
            .output()
            .note(&format!("{id} is {}", status.runtime_status));
    }
    Ok(Exit::Ok)
}

pub(super) async fn suspend(args: Change, session: &Session) -> anyhow::Result<Exit> {
    let Change {
        selection,
        recursive,
        reason,
    } = args;
    let client = session.client()?;
    let words = Words {
        verb: "suspend",
        done: "suspended",
        asks: false,
        at_once: false,
    };
    let id = match meant(&selection, words.verb)? {
        Meant::One(id) => id,
        Meant::Many(filter) => {
            let bulk = |filter| detailed(client.suspend_where(filter), &reason, recursive);
            return bulk::many(filter, bulk, words, selection.dry_run, session).await;
        }
    };
    client
        .suspend(&id, reason.as_deref())
        .recursive_if(recursive)
        .await?;
    accepted(
        &client,
        &id,
        "suspend",
        &format!("suspending {id}"),
        session,
    )
}

fn detailed(mut bulk: Bulk, reason: &Option<String>, recursive: bool) -> Bulk {
    if let Some(reason) = reason {
        bulk = bulk.reason(reason);
    }
    if recursive { bulk.recursive() } else { bulk }
}

pub(super) async fn resume(args: Resume, session: &Session) -> anyhow::Result<Exit> {
    let Resume {
        change: Change {
            selection,
            recursive,
            reason,
        },
        module,
    } = args;
    let client = session.client()?;
    let words = Words {
        verb: "resume",
        done: "resumed",
        asks: false,
        at_once: false,
    };
    let id = match meant(&selection, words.verb)? {
        Meant::One(id) => id,
        Meant::Many(filter) => {
            let bulk = |filter| detailed(client.resume_where(filter), &reason, recursive);
            return bulk::many(filter, bulk, words, selection.dry_run, session).await;
        }
    };
    let Some(module) = module else {
        client
            .resume(&id, reason.as_deref())
            .recursive_if(recursive)
            .await?;
        return accepted(&client, &id, "resume", &format!("resuming {id}"), session);
    };
    let before = client
        .status(&id)
        .await?
        .and_then(|status| status.quarantine);
    client.resume_on(&id, &module, reason.as_deref()).await?;
    let said = format!("resuming {id} with module {module}");
    if !client.is_hosted() {
        return accepted(&client, &id, "resume", &said, session);
    }
    session.output().note(&said);
    let tried = |status: &InstanceStatus| status.quarantine != before;
    let status = match client.wait_until(&id, REPLAY_LIMIT, tried).await? {
        Waited::Ended(status) | Waited::TimedOut(status) => status,
    };
    if let Some(why) = &status.quarantine {
        let said = Said::new(
            Exit::WrongState,
            format!("instance {id:?} stays quarantined: {why}"),
        );
        return Err(said
            .hint("`perennial deploy --check FILE.wasm` says of a file whether instances can go on with it")
            .into());
    }
    if session.output().is_json() {
        session.output().json(&status)?;
    } else {
        session
            .output()
            .note(&format!("{id} is {}", status.runtime_status));
    }
    Ok(Exit::Ok)
}

/// Says that a command is durable, and whether anyone carries it out.
pub(crate) fn accepted(
    client: &Client,
    id: &str,
    command: &str,
    said: &str,
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
        })?;
    }
    Ok(Exit::Ok)
}
