//! `perennial values` and `perennial tag`.

use std::collections::BTreeMap;

use perennial::{Client, Json, NamedValue, WaitedValue};
use serde::Serialize;
use serde_json::Value;

use crate::args::{Tag, Values};
use crate::error::{CliError, Exit};
use crate::format::time;
use crate::output::{Cell, plain};
use crate::payload;
use crate::session::Session;

pub(super) async fn values(args: Values, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let output = session.output();
    let Some(name) = &args.name else {
        let values = client.values(&args.id).await?;
        if output.is_json() {
            output.json(&values)?;
        } else {
            let rows = values.iter().map(row);
            output.table(&["NAME", "VALUE", "SET (UTC)"], rows.collect())?;
        }
        return Ok(Exit::Ok);
    };
    let value = if args.wait {
        waited(&client, &args, name, session).await?
    } else {
        client.named_value(&args.id, name).await?
    };
    if value.value.is_none() && !args.wait {
        return Err(unset(&client, &args.id, name).await.into());
    }
    if output.is_json() {
        output.json(&value)?;
    } else if let Some(value) = &value.value {
        output.payload(value)?;
    }
    Ok(Exit::Ok)
}

fn row(value: &NamedValue) -> Vec<Cell> {
    let text = value.value.as_ref().map_or("", Json::as_str);
    vec![
        Cell::new(plain(&value.name)),
        Cell::new(plain(text)),
        Cell::new(value.set_at.map(time).unwrap_or_default()),
    ]
}

/// The error for a value that is not set, with the names of those that are.
async fn unset(client: &Client, id: &str, name: &str) -> CliError {
    let message = format!("instance {id:?} has no value {name:?}");
    let said = CliError::new(Exit::NotFound, message);
    let values = client.values(id).await.unwrap_or_default();
    let names: Vec<String> = values.iter().map(|one| format!("{:?}", one.name)).collect();
    said.hint(match names.is_empty() {
        true => format!("it has set none yet; `perennial values {id} {name} --wait` waits for it"),
        false => format!("it has {}", names.join(", ")),
    })
}

async fn waited(
    client: &Client,
    args: &Values,
    name: &str,
    session: &Session,
) -> anyhow::Result<NamedValue> {
    let wanted = payload::read(args.is.as_ref(), "--is")?;
    let wanted = wanted.map(|json| serde_json::from_str::<Value>(json.as_str()));
    let wanted = wanted.transpose()?;
    let is_it = |value: &NamedValue| match (&wanted, args.since) {
        (Some(wanted), _) => value.value.as_ref().is_some_and(|json| {
            serde_json::from_str::<Value>(json.as_str()).ok().as_ref() == Some(wanted)
        }),
        (None, Some(since)) => value.version != since,
        (None, None) => value.value.is_some(),
    };
    let mut asked = false;
    let condition = |value: &NamedValue| {
        let there = is_it(value);
        if !there && !asked && !value.is_of_ended() {
            asked = true;
            session.warn_if_unhosted(client, "nothing will happen");
        }
        there
    };
    let limit = args.timeout.duration();
    let (value, exit, why) = match client
        .wait_for_value(&args.id, name, limit, condition)
        .await?
    {
        WaitedValue::Reached(value) => return Ok(value),
        WaitedValue::Ended(value) => (value, Exit::Error, "ended"),
        WaitedValue::TimedOut(value) => (value, Exit::TimedOut, "timed out"),
    };
    let now = match &value.value {
        Some(now) => format!(
            "value {name:?} of instance {:?} is {}",
            args.id,
            plain(now.as_str())
        ),
        None => format!("instance {:?} has no value {name:?}", args.id),
    };
    let message = match why {
        "ended" => format!("the instance is {}, and {now}", value.runtime_status),
        _ => format!("gave up waiting: {now}"),
    };
    Err(CliError::new(exit, message).into())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaggedJson<'a> {
    instance_id: &'a str,
    tags: BTreeMap<String, String>,
}

pub(super) async fn tag(args: Tag, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    if let Some((key, _)) = args.set.iter().find(|(key, _)| args.remove.contains(key)) {
        let message = format!("the label {key:?} cannot be both set and removed");
        return Err(CliError::new(Exit::Usage, message).into());
    }
    let mut change = client.set_tags(&args.id);
    for (key, value) in args.set {
        change = change.set(key, value);
    }
    for key in args.remove {
        change = change.remove(key);
    }
    let tags = change.await?;
    let output = session.output();
    if output.is_json() {
        output.json(&TaggedJson {
            instance_id: &args.id,
            tags: tags.into_iter().collect(),
        })?;
    } else {
        for (key, value) in tags {
            output.line(&plain(&format!("{key}={value}")))?;
        }
    }
    Ok(Exit::Ok)
}
