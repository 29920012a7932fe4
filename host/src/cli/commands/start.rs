//! `perennial start`.

use perennial::Client;
use serde::Serialize;

use crate::cli::args::{self, Start, WaitFor};
use crate::cli::error::Exit;
use crate::cli::payload;
use crate::cli::session::Session;

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
    let client = session.client()?;
    let name = args.orchestration.clone();
    let (wait, limit) = (args.wait, args.timeout);
    let id = send(args, &client).await?;
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

async fn send(args: Start, client: &Client) -> anyhow::Result<String> {
    let input = payload::read(args.input.as_ref(), "--input")?;
    let reuse = match args.reuse {
        args::Reuse::Ended => perennial::Reuse::Ended,
        args::Reuse::Never => perennial::Reuse::Never,
        args::Reuse::Any => perennial::Reuse::Any,
    };
    let mut start = client
        .start(args.orchestration)
        .input_json(input)
        .reuse(reuse);
    if let Some(id) = args.id {
        start = start.id(id);
    }
    if let Some(version) = args.version {
        start = start.version(version);
    }
    if let Some(time) = args.at {
        start = start.at(time);
    }
    if let Some(delay) = args.after {
        start = start.after(delay);
    }
    for (key, value) in args.tags {
        start = start.tag(key, value);
    }
    Ok(start.await?)
}
