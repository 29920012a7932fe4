//! `perennial durable`: the verbs, flags, output and exit codes of `func durable`.
//!
//! It prints what `func durable` prints, except that failures which that does not report, such as an event to no instance, are errors here.
//! Every error has exit code 1, as there.

mod history;
mod state;

use std::time::Duration;

use futures::TryStreamExt;
use perennial::{Client, Hubs, InstanceStatus, Json, Status, Timestamp};

use crate::args::{
    Durable, DurableRaiseEvent, GetInstances, GetRuntimeStatus, OfInstance, PurgeHistory, StartNew,
    WithReason,
};
use crate::commands::change;
use crate::commands::start::StartedJson;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::report::report_as;
use crate::session::Session;

/// How long `terminate` waits.
const TERMINATES_WITHIN: Duration = Duration::from_secs(30);

/// Executes a verb.
pub(crate) async fn durable(verb: Durable, session: &Session) -> anyhow::Result<Exit> {
    let place = verb.place();
    let stored = place.connection_string_setting.as_deref().map(stored_at);
    let task_hub = place.task_hub_name.clone();
    let stored = match stored.transpose() {
        Ok(stored) => stored,
        Err(error) => return Ok(report_as(&error, session, Exit::Error)),
    };
    let session = session.elsewhere(task_hub);
    let session = match stored {
        Some(place) => session.stored_at(place),
        None => session,
    };
    match on(verb, &session).await {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => Ok(report_as(&error, &session, Exit::Error)),
    }
}

async fn on(verb: Durable, session: &Session) -> anyhow::Result<()> {
    match verb {
        Durable::StartNew(args) => start_new(args, session).await,
        Durable::GetRuntimeStatus(args) => get_runtime_status(args, session).await,
        Durable::GetHistory(args) => get_history(args, session).await,
        Durable::GetInstances(args) => get_instances(args, session).await,
        Durable::RaiseEvent(args) => raise_event(args, session).await,
        Durable::Terminate(args) => terminate(args, session).await,
        Durable::Rewind(args) => rewind(args, session).await,
        Durable::PurgeHistory(args) => purge_history(args, session).await,
        Durable::DeleteTaskHub(_) => delete_task_hub(session).await,
    }
}

/// The data directory, or the address of a database, that an environment variable names.
fn stored_at(variable: &str) -> anyhow::Result<String> {
    match std::env::var(variable) {
        Ok(place) if !place.is_empty() => Ok(place),
        _ => Err(CliError::new(Exit::Error, "No storage connection string found.")
            .hint(format!(
                "the environment variable {variable}, which --connection-string-setting names, must hold the data directory, or the address of a PostgreSQL database"
            ))
            .into()),
    }
}

/// A payload from a file or the command line. A text that is not JSON is taken as a JSON string.
fn payload(typed: Option<&str>) -> anyhow::Result<Option<Json>> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    let Some(path) = typed.strip_prefix('@') else {
        let json = perennial::parse_json(typed);
        return Ok(Some(json.or_else(|_| {
            perennial::parse_json(serde_json::Value::from(typed).to_string())
        })?));
    };
    let text = std::fs::File::open(path)
        .and_then(crate::payload::text_of)
        .map_err(|error| {
            let said = CliError::new(
                Exit::Error,
                format!("Could not find input file at '{path}'"),
            );
            said.causes(vec![error.to_string()])
        })?;
    let json = perennial::parse_json(text.trim()).map_err(|error| {
        let message =
            "Could not deserialize the input to the orchestration instance into a valid JSON object.";
        CliError::new(Exit::Error, message).causes(vec![format!("{path}: {error}")])
    })?;
    Ok(Some(json))
}

async fn start_new(args: StartNew, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let input = payload(args.input.as_deref())?;
    let mut start = client.start(&args.function_name).input_json(input);
    if let Some(id) = &args.id {
        start = start.id(id);
    }
    let id = start.await?;
    let status = client.status(&id).await?;
    let status = status.ok_or_else(|| {
        CliError::new(Exit::Error, format!("Could not start new instance '{id}'."))
    })?;
    let hosted = session.warn_if_unhosted(&client, "the instance waits");
    if session.output().is_json() {
        return session.output().json(&StartedJson {
            instance_id: &id,
            name: &status.name,
            hosted,
        });
    }
    session.output().line(&format!(
        "Started '{}' at {}. Instance ID: '{id}'.",
        status.name,
        date(Some(status.created_at), "")
    ))
}

async fn get_runtime_status(args: GetRuntimeStatus, session: &Session) -> anyhow::Result<()> {
    let mut query = session.client()?.status(&args.of.id);
    if args.show_input {
        query = query.show_input();
    }
    match query.await? {
        Some(status) => {
            let state = state::State::new(&status, args.show_output);
            session.output().json_text(&pretty(&state)?)
        }
        None => session.output().line(&format!(
            "Could not find an orchestration instance with id '{}'",
            args.of.id
        )),
    }
}

async fn get_history(args: OfInstance, session: &Session) -> anyhow::Result<()> {
    let status = session
        .client()?
        .status(&args.id)
        .show_input()
        .show_history_output()
        .await?;
    // `func durable` has an empty history for what it cannot find.
    let history = status.and_then(|status| status.history);
    let events = history::events(&history.unwrap_or_default());
    session.output().json_text(&pretty(&events)?)
}

async fn get_instances(args: GetInstances, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let (instances, token) = match args.filter.filter() {
        Some(filter) => {
            let list = client.list().filter(filter).limit(args.top);
            let list = list.show_input().show_output();
            let token = args.continuation_token.filter(|token| !token.is_empty());
            let page = match token {
                Some(token) => list.continuation_token(token).await?,
                None => list.await?,
            };
            (page.instances, page.continuation_token)
        }
        None => (Vec::new(), None),
    };
    let states: Vec<state::State<'_>> = instances
        .iter()
        .map(|status| state::State::new(status, true))
        .collect();
    session.output().json_text(&pretty(&states)?)?;
    let token = format!(
        "Continuation token for next set of results: '{}'",
        token.unwrap_or_default()
    );
    tell(session, &token)
}

async fn raise_event(args: DurableRaiseEvent, session: &Session) -> anyhow::Result<()> {
    let data = payload(args.event_data.as_deref())?;
    let name = args
        .event_name
        .unwrap_or_else(|| format!("Event_{}", uuid::Uuid::new_v4().simple()));
    let (client, id) = (session.client()?, args.of.id);
    client.raise_event_json(&id, &name, data).await?;
    let raised = format!("Raised event '{name}' to instance '{id}'.");
    if session.output().is_json() {
        change::accepted(&client, &id, "raiseEvent", &raised, session)?;
        return Ok(());
    }
    session.output().line(&raised)?;
    session.warn_if_unhosted(&client, "it takes no effect");
    Ok(())
}

async fn terminate(args: WithReason, session: &Session) -> anyhow::Result<()> {
    let (client, id, output) = (session.client()?, args.of.id, session.output());
    match client.terminate(&id, args.reason.as_deref()).await {
        Err(error)
            if session.lacks_instance(&error)
                && (session.url().is_some() || session.may_have_hub()) =>
        {
            return output.line(&format!(
                "Failed to find instance '{id}'. No instance was terminated."
            ));
        }
        Err(error) if error.is_wrong_state() => {
            let status = client.status(&id).await?;
            return terminated(status.as_ref(), &id, session);
        }
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut status = client.status(&id).await?;
    let ended =
        |status: &Option<InstanceStatus>| status.as_ref().is_none_or(InstanceStatus::is_ended);
    if !ended(&status) {
        tell(
            session,
            &format!(
                "Sent a termination message to instance '{id}'. Waiting up to 30 seconds for the orchestration to actually terminate..."
            ),
        )?;
        session.warn_if_unhosted(&client, "it takes no effect");
        status = Some(wait(&client, &id).await?);
    }
    terminated(status.as_ref(), &id, session)
}

async fn wait(client: &Client, id: &str) -> anyhow::Result<InstanceStatus> {
    let waited = client.wait_for_completion(id, TERMINATES_WITHIN).await?;
    Ok(waited.status().clone())
}

fn terminated(status: Option<&InstanceStatus>, id: &str, session: &Session) -> anyhow::Result<()> {
    let now = status.map(|status| status.runtime_status);
    if now != Some(Status::Terminated) {
        let said = CliError::new(
            Exit::Error,
            "Instance did not terminate within the given timeout.",
        );
        let now = now.map_or_else(|| "gone".to_owned(), |status| status.to_string());
        return Err(said
            .causes(vec![format!("instance '{id}' is {now}")])
            .into());
    }
    if let (true, Some(status)) = (session.output().is_json(), status) {
        return session.output().json(status);
    }
    session
        .output()
        .line(&format!("Successfully terminated '{id}'"))
}

async fn purge_history(args: PurgeHistory, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let (mut deleted, mut rows) = (0, 0);
    if let Some(filter) = args.filter.filter() {
        let mut ended = client.list().filter(filter.clone()).limit(1_000).stream();
        while let Some(instance) = ended.try_next().await? {
            if instance.is_ended() {
                rows += instance.history_events;
            }
        }
        let mut progress = Progress::new(session.output(), "purge");
        let purge = client.purge_where(filter).on_progress(move |so_far| {
            progress.tell(&format!("{} of {} purged", so_far.done, so_far.matched));
        });
        deleted = purge.await?.done;
    }
    if session.output().is_json() {
        let json = serde_json::json!({ "instancesDeleted": deleted, "rowsDeleted": rows });
        return session.output().json(&json);
    }
    let from = date(args.filter.created_after, "01/01/0001 00:00:00");
    let to = date(args.filter.created_before, "12/30/9999 23:59:59");
    let mut text = format!(
        "Purged orchestration history for all instances created between '{from}' and '{to}'"
    );
    if let Some(typed) = args.filter.statuses() {
        let names: Vec<&str> = typed.iter().map(|status| status.name()).collect();
        text += &format!(
            " and whose runtime status matched one of the following: [{}]",
            names.join(",")
        );
    }
    session.output().line(&text)?;
    session
        .output()
        .line(&format!("Instances deleted: {deleted}"))?;
    session.output().line(&format!("Rows deleted: {rows}"))
}

async fn delete_task_hub(session: &Session) -> anyhow::Result<()> {
    let hub = session.task_hub();
    Hubs::new(session.store()?).delete(hub).await?;
    if session.output().is_json() {
        let json = serde_json::json!({ "taskHub": hub, "deleted": true });
        return session.output().json(&json);
    }
    session
        .output()
        .line(&format!("Task hub '{hub}' successfully deleted."))
}

async fn rewind(args: WithReason, session: &Session) -> anyhow::Result<()> {
    let (client, id) = (session.client()?, args.of.id);
    let mut rewind = client.rewind(&id);
    if let Some(reason) = args.reason {
        rewind = rewind.reason(reason);
    }
    if let Err(error) = rewind.await {
        let has_not_failed = error.is_wrong_state() && !error.would_forget();
        if !has_not_failed && !session.lacks_instance(&error) {
            return Err(error.into());
        }
        let said = CliError::new(
            Exit::Error,
            "Orchestration instance not rewound. Must have a status of 'Failed', or an EventType of 'TaskFailed' or 'SubOrchestrationInstanceFailed' to be rewound.",
        );
        return Err(said.causes(vec![error.to_string()]).into());
    }
    tell(
        session,
        &format!("Rewind message sent to instance '{id}'. Retrieving new status now..."),
    )?;
    session.warn_if_unhosted(&client, "nothing runs again");
    let Some(status) = client.status(&id).await? else {
        return Ok(());
    };
    if session.output().is_json() {
        return session.output().json(&status);
    }
    // Only what has failed is rewound.
    tell(
        session,
        &format!("Status before rewind: {}", Status::Failed),
    )?;
    tell(
        session,
        &format!("Status after rewind: {}", status.runtime_status),
    )
}

/// Prints a line for people; with `--json` it goes to stderr.
fn tell(session: &Session, text: &str) -> anyhow::Result<()> {
    let output = session.output();
    if output.is_json() {
        output.note(text);
        return Ok(());
    }
    output.line(text)
}

/// Indented, as `func durable` prints it wherever it goes.
fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// A time as .NET writes it where no culture is set.
fn date(at: Option<Timestamp>, absent: &str) -> String {
    let time = at
        .and_then(|at| i64::try_from(at.0).ok())
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => time.strftime("%m/%d/%Y %H:%M:%S").to_string(),
        None => absent.to_owned(),
    }
}
