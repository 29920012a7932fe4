//! Does what a form of an instance asks for, and leads back with what happened.

use std::time::Duration;

use axum::response::Response;
use perennial::{Client, CommandOutcome, InstanceCommand, Json, RequestState, Rewound, parse_json};

use crate::admit::Path;
use crate::change::{self, Sent};
use crate::fields::Fields;
use crate::page::Page;
use crate::refused::Refused;
use crate::show;
use crate::show::{brief, cut};

/// How long a page waits for the answer to a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Characters of an answer that are told at once.
const TOLD: usize = 500;

/// What was done, and the path of the page that tells it.
struct Done {
    to: String,
    what: String,
}

pub(super) async fn act(
    page: Page,
    Path((_, id, action)): Path<(String, String, String)>,
    Sent(fields): Sent,
) -> Response {
    match done(&page, &id, &action, &fields).await {
        Ok(done) => change::done(&done.to, &done.what),
        Err(refused) if refused.is_outdated => {
            change::outdated(&page, refused, &page.instance(&id, ""))
        }
        Err(refused) => change::refused(&page.instance(&id, ""), &refused),
    }
}

async fn done(page: &Page, id: &str, action: &str, fields: &Fields) -> Result<Done, Refused> {
    // What was looked at: a run that was started under the same id since is another one.
    let unsaid = "Nothing was done: the form does not say which run of the instance it is for. Reload the page, and send it again.";
    let run = fields.text("run").ok_or_else(|| Refused::invalid(unsaid))?;
    let page = &Page {
        client: page.client.for_run(run),
        ..page.clone()
    };
    let client = &page.client;
    let reason = fields.text("reason");
    let what = match action {
        "event" => raise(client, id, fields).await?,
        "request" => ask(client, id, fields).await?,
        "cancel" => {
            let command = client.cancel(id, reason).grace(grace(fields)?);
            let what = told(
                command,
                fields,
                "It was asked to end.",
                "It had been asked to end before.",
            )
            .await?;
            match client.status(id).await? {
                Some(status) if status.pending_cancellation.is_some() => {
                    "It is suspended, and will be asked to end when it is resumed.".to_owned()
                }
                _ => what,
            }
        }
        "terminate" => {
            told(
                client.terminate(id, reason),
                fields,
                "It was told to end at once.",
                "It had been told to end before.",
            )
            .await?
        }
        "suspend" => {
            told(
                client.suspend(id, reason),
                fields,
                "It was told to suspend.",
                "It was suspended already.",
            )
            .await?
        }
        "resume" => resume(client, id, fields).await?,
        "rewind" => rewind(client, id, fields).await?,
        "restart" => return restart(page, id, fields).await,
        "tags" => tag(client, id, fields).await?,
        "purge" => return purge(page, id, fields).await,
        _ => return Err(Refused::invalid(format!("There is no action {action:?}."))),
    };
    Ok(Done {
        to: page.instance(id, ""),
        what,
    })
}

/// A text of a form as JSON, which may be left out.
fn data(fields: &Fields) -> Result<Option<Json>, Refused> {
    Ok(fields.text("data").map(parse_json).transpose()?)
}

fn needed<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, Refused> {
    let missing = || Refused::invalid(format!("Nothing was done: the field {name:?} is empty."));
    fields.text(name).ok_or_else(missing)
}

fn grace(fields: &Fields) -> Result<Duration, Refused> {
    let seconds = fields.text("grace").unwrap_or("60").parse();
    let seconds = seconds.map_err(|_| {
        Refused::invalid("Nothing was done: the grace period must be a number of seconds.")
    })?;
    Ok(Duration::from_secs(seconds))
}

/// What a command did. It is durable by then, but may take effect a moment later: the sentence is true before and after.
async fn told(
    command: InstanceCommand,
    fields: &Fields,
    done: &str,
    unchanged: &str,
) -> Result<String, Refused> {
    let outcome = command.recursive_if(fields.is_set("recursive")).await?;
    Ok(match outcome {
        CommandOutcome::Unchanged => unchanged.to_owned(),
        _ => done.to_owned(),
    })
}

async fn raise(client: &Client, id: &str, fields: &Fields) -> Result<String, Refused> {
    let name = needed(fields, "name")?;
    client.raise_event_json(id, name, data(fields)?).await?;
    Ok(format!("The event {} was raised.", brief(name)))
}

async fn ask(client: &Client, id: &str, fields: &Fields) -> Result<String, Refused> {
    let name = needed(fields, "name")?;
    let request = client.request_json::<serde_json::Value>(id, name, data(fields)?);
    let status = request.within(ANSWER_WITHIN).status().await?;
    let name = brief(name);
    Ok(match (status.state, &status.failure, &status.output) {
        (RequestState::Completed, _, Some(output)) => {
            format!("The answer to {name}: {}", cut(output.as_str(), TOLD))
        }
        (RequestState::Completed, ..) => {
            format!("The request {name} was answered, without an output.")
        }
        (_, Some(failure), _) => format!(
            "The request {name} failed: {}",
            cut(&failure.to_string(), TOLD)
        ),
        _ => format!("The request {name} has no answer yet; it stays in the list of requests."),
    })
}

async fn rewind(client: &Client, id: &str, fields: &Fields) -> Result<String, Refused> {
    let mut rewind = client.rewind(id);
    if let Some(reason) = fields.text("reason") {
        rewind = rewind.reason(reason);
    }
    if let Some(module) = fields.text("module") {
        rewind = rewind.module(module);
    }
    if fields.is_set("all") {
        rewind = rewind.all_failures();
    }
    if fields.is_set("forget") {
        rewind = rewind.forget_completed();
    }
    Ok(account(&rewind.await?))
}

/// What a rewind did, in sentences.
fn account(rewound: &Rewound) -> String {
    let mut text = format!(
        "Rewound: {} events were cut off.",
        show::count(rewound.cut_events)
    );
    let mut list = |what: &str, names: Vec<&str>| {
        if !names.is_empty() {
            let more = names.len().saturating_sub(5);
            let first: Vec<String> = names.iter().take(5).map(|name| cut(name, 60)).collect();
            text += &format!(
                " {what}: {}{}.",
                first.join(", "),
                if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                }
            );
        }
    };
    list(
        "Runs again",
        rewound
            .activities
            .iter()
            .map(|activity| &*activity.name)
            .collect(),
    );
    list(
        "Rewound children",
        rewound.rewound_children.iter().map(|id| &**id).collect(),
    );
    list(
        "Children that were started again",
        rewound.restarted_children.iter().map(|id| &**id).collect(),
    );
    list(
        "Discarded",
        rewound
            .dropped
            .iter()
            .map(|task| task.name.as_deref().unwrap_or("a timer"))
            .collect(),
    );
    list(
        "Failures that stay",
        rewound
            .remaining_failures
            .iter()
            .map(|failure| &*failure.name)
            .collect(),
    );
    list(
        "Events that are not delivered again",
        rewound
            .dropped_events
            .iter()
            .map(|event| &*event.name)
            .collect(),
    );
    text
}

async fn restart(page: &Page, id: &str, fields: &Fields) -> Result<Done, Refused> {
    let restart = page.client.restart(id);
    let restart = match fields.text("as") {
        Some("same") => restart,
        Some("given") => restart.with_id(needed(fields, "id")?),
        _ => restart.with_new_id(),
    };
    let new = restart.await?;
    let what = match new == id {
        true => "It runs again from its beginning.".to_owned(),
        false => format!("This is the new run of {}.", brief(id)),
    };
    Ok(Done {
        to: page.instance(&new, ""),
        what,
    })
}

async fn tag(client: &Client, id: &str, fields: &Fields) -> Result<String, Refused> {
    let key = needed(fields, "key")?;
    if fields.is_set("remove") {
        client.set_tags(id).remove(key).await?;
        return Ok(format!("The tag {} is gone.", brief(key)));
    }
    client
        .set_tags(id)
        .set(key, fields.text("value").unwrap_or_default())
        .await?;
    Ok(format!("The tag {} is set.", brief(key)))
}

async fn purge(page: &Page, id: &str, fields: &Fields) -> Result<Done, Refused> {
    let purge = page.client.purge(id);
    let purge = if fields.is_set("recursive") {
        purge.recursive()
    } else {
        purge
    };
    let what = match purge.await? {
        0 => format!("Nothing was deleted: there is no instance {}.", brief(id)),
        1 => format!("Instance {} was deleted.", brief(id)),
        more => format!("{more} instances were deleted."),
    };
    Ok(Done {
        to: page.path("/instances"),
        what,
    })
}

async fn resume(client: &Client, id: &str, fields: &Fields) -> Result<String, Refused> {
    let reason = fields.text("reason");
    let Some(module) = fields.text("module") else {
        return told(
            client.resume(id, reason),
            fields,
            "It was told to go on.",
            "It was not suspended.",
        )
        .await;
    };
    client.resume_on(id, module, reason).await?;
    Ok(format!(
        "It continues on module {}, if that replays its history.",
        brief(module)
    ))
}
