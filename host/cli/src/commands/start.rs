//! `perennial start`.

use perennial::{Client, Json};
use serde::Serialize;

use crate::args::{self, Start, WaitFor};
use crate::error::{CliError, Exit};
use crate::payload;
use crate::session::Session;

/// What `--json` prints of a start.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StartedJson<'a> {
    pub(crate) instance_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) hosted: bool,
}

pub(super) async fn start(args: Start, session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let input = payload::read(args.input.as_ref(), "--input")?;
    let client = session.client()?;
    let name = args.orchestration.clone();
    let reuses_ended = matches!(args.reuse, args::Reuse::Ended);
    let (wait, limit) = (args.wait, args.timeout);
    // Made here where none is given, so that it can be told of a start of which nobody knows yet what becomes of it.
    let id = args.id.clone();
    let id = id.unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string());
    if let Err(error) = send(args, &id, input, &client).await {
        if error.is_queued() {
            // Whoever tries again with this id starts nothing twice.
            if !output.is_json() {
                output.line(&id)?;
            }
            let said = CliError::new(Exit::TimedOut, error.to_string());
            return Err(said
                .hint(format!("instance {id:?} begins when it does; to try again without starting another one: --id {id} --reuse never"))
                .into());
        }
        return Err(explained(error, reuses_ended));
    }
    if let Some(wait_for) = wait {
        if !output.is_json() {
            output.line(&id)?;
        }
        let status = super::wait::until(&client, &id, limit, wait_for, session).await?;
        return match wait_for {
            WaitFor::Completion => super::wait::ended(&status, session),
            WaitFor::Start if output.is_json() => output.json(&status).map(|()| Exit::Ok),
            WaitFor::Start => Ok(Exit::Ok),
        };
    }
    let hosted = session.warn_if_unhosted(&client, "the instance waits");
    if output.is_json() {
        output.json(&StartedJson {
            instance_id: &id,
            name: &name,
            hosted,
        })?;
    } else {
        output.line(&id)?;
    }
    Ok(Exit::Ok)
}

/// Adds the hint for an id in use, which depends on the instance that uses it.
fn explained(error: perennial::Error, reuses_ended: bool) -> anyhow::Error {
    if !error.is_already_exists() || reuses_ended {
        return error.into();
    }
    let said = CliError::new(Exit::WrongState, error.to_string());
    said.hint("without `--reuse never` an instance that has ended is replaced; without --id a new id is made")
        .into()
}

async fn send(
    args: Start,
    id: &str,
    input: Option<Json>,
    client: &Client,
) -> perennial::Result<()> {
    let reuse = match args.reuse {
        args::Reuse::Ended => perennial::Reuse::Ended,
        args::Reuse::Never => perennial::Reuse::Never,
        args::Reuse::Any => perennial::Reuse::Any,
    };
    let mut start = client
        .start(args.orchestration)
        .id(id)
        .input_json(input)
        .reuse(reuse);
    if let Some(version) = args.version {
        start = start.version(version);
    }
    if let Some(time) = args.at {
        start = start.at(time);
    }
    if let Some(delay) = args.after {
        start = start.after(delay);
    }
    if let Some(limit) = args.execution_timeout {
        start = start.execution_timeout(limit);
    }
    for (key, value) in args.tags {
        start = start.tag(key, value);
    }
    start.await.map(drop)
}
