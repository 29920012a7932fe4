//! `perennial rewind` and `perennial restart`.

use futures::StreamExt as _;
use perennial::{Client, DroppedTask, Rewound};
use serde::Serialize;

use crate::args::again::{Restart, Rewind};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::session::Session;

use super::bulk::{self, Selected, Words, meant};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RewoundJson<'a> {
    instance_id: &'a str,
    command: &'a str,
    hosted: bool,
    #[serde(flatten)]
    rewound: &'a Rewound,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestartedJson<'a> {
    instance_id: &'a str,
    command: &'a str,
    hosted: bool,
}

pub(super) async fn rewind(args: Rewind, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let mut rewind = client.rewind(&args.id);
    if let Some(reason) = args.reason {
        rewind = rewind.reason(reason);
    }
    if let Some(module) = args.module {
        rewind = rewind.module(module);
    }
    if args.all_failures {
        rewind = rewind.all_failures();
    }
    if args.forget_completed {
        rewind = rewind.forget_completed();
    }
    let rewound = rewind.await?;
    let output = session.output();
    tell(&args.id, &rewound, output);
    let hosted = session.warn_if_unhosted(&client, "nothing runs again");
    if output.is_json() {
        output.json(&RewoundJson {
            instance_id: &args.id,
            command: "rewind",
            hosted,
            rewound: &rewound,
        })?;
    }
    Ok(Exit::Ok)
}

/// Describes a rewind for people.
fn tell(id: &str, rewound: &Rewound, output: &Output) {
    let events = match rewound.cut_events {
        1 => "1 event is".to_owned(),
        count => format!("{count} events are"),
    };
    output.note(&format!("rewound {id}: {events} cut off"));
    for activity in &rewound.activities {
        let (name, task) = (&activity.name, activity.task);
        output.note(&format!("  runs again: activity {name:?} (task {task})"));
    }
    for child in &rewound.rewound_children {
        output.note(&format!("  rewound first: child {child}"));
    }
    for child in &rewound.restarted_children {
        output.note(&format!("  started again: child {child}"));
    }
    for event in &rewound.dropped_events {
        let of = match event.instance_id == id {
            true => String::new(),
            false => format!(" of child {}", event.instance_id),
        };
        output.note(&format!(
            "  put aside: event {:?} (number {}){of}, which it failed on: raise it again with data that it can read",
            event.name, event.number
        ));
    }
    for dropped in &rewound.dropped {
        output.note(&format!("  forgotten: {}", of(dropped)));
    }
    for remaining in &rewound.remaining_failures {
        let (kind, name, task) = (remaining.kind, &remaining.name, remaining.task);
        let failure = &remaining.failure;
        output.note(&format!(
            "  stays failed: {kind} {name:?} (task {task}) with {failure:?}: {}",
            remaining.why
        ));
    }
    match rewound.more_remaining {
        0 => {}
        more => output.note(&format!("  and {more} earlier failures stay")),
    }
}

fn of(dropped: &DroppedTask) -> String {
    let name = dropped.name.as_ref();
    let name = name.map_or_else(String::new, |name| format!(" {name:?}"));
    let how = if dropped.completed {
        ", which had completed"
    } else {
        ""
    };
    format!("{}{name} (task {}){how}", dropped.kind, dropped.task)
}

fn in_use(error: perennial::Error) -> anyhow::Error {
    if error.is_already_exists() {
        let said = CliError::new(Exit::WrongState, error.to_string());
        return said.hint("`--new-id` alone makes a new id").into();
    }
    error.into()
}

/// A note about the parts of the original start that a restart does not repeat. `None` too if they are not known.
async fn not_repeated(client: &Client, id: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let Ok(Some(status)) = client.status(id).await else {
        return notes;
    };
    let Some(started) = status.started_at else {
        if status.scheduled_for.is_some() {
            notes.push("its schedule is not repeated: it begins now".to_owned());
        }
        return notes;
    };
    // A rewind to the very beginning begins its history anew, and keeps its input.
    let history = client.history(id).hide_inputs().hide_outputs();
    if status.rewinds.is_empty()
        && let Some(Ok(first)) = history.stream().next().await
        && first.at > started
    {
        notes.push(
            "it had continued as new: it begins with the input that it continued with last, for earlier ones are not kept".to_owned(),
        );
    }
    notes
}

pub(super) async fn restart(args: Restart, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let words = Words {
        verb: "restart",
        done: "restarted",
        asks: false,
        at_once: false,
    };
    let id = match meant(&args.selection, words.verb)? {
        Selected::One(id) => id,
        Selected::Many(filter) => {
            let bulk = |filter| client.restart_where(filter);
            return bulk::many(filter, bulk, words, &args.selection, session).await;
        }
    };
    let notes = not_repeated(&client, &id).await;
    let restart = client.restart(&id);
    let id = match args.new_id {
        None => restart.await?,
        Some(None) => restart.with_new_id().await?,
        Some(Some(id)) => restart.with_id(id).await.map_err(in_use)?,
    };
    let output = session.output();
    notes.iter().for_each(|note| output.note(note));
    let hosted = session.warn_if_unhosted(&client, "the instance waits");
    if output.is_json() {
        output.json(&RestartedJson {
            instance_id: &id,
            command: "restart",
            hosted,
        })?;
    } else {
        output.line(&id)?;
    }
    Ok(Exit::Ok)
}
