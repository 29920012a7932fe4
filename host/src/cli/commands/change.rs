//! `perennial raise-event`, `terminate`, `suspend` and `resume`: a command to one instance.

use perennial::Client;
use serde::Serialize;

use crate::cli::args::{Change, RaiseEvent, Terminate, WaitFor};
use crate::cli::error::Exit;
use crate::cli::payload;
use crate::cli::session::Session;

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
    let Change { id, reason } = args.change;
    let client = session.client()?;
    client.terminate(&id, reason.as_deref()).await?;
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
    let client = session.client()?;
    client.suspend(&args.id, args.reason.as_deref()).await?;
    accepted(
        &client,
        &args.id,
        "suspend",
        &format!("suspending {}", args.id),
        session,
    )
}

pub(super) async fn resume(args: Change, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    client.resume(&args.id, args.reason.as_deref()).await?;
    accepted(
        &client,
        &args.id,
        "resume",
        &format!("resuming {}", args.id),
        session,
    )
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
