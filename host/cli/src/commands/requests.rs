//! `perennial request`, `perennial requests` and `perennial pending-events`.

use perennial::{
    Client, Failure, Json, PendingEvent, RequestState, RequestStatus, Start, Status, Wait, closest,
};

use crate::args::{OrStart, PendingEvents, Request, Requests};
use crate::error::{CliError, Exit};
use crate::format::time;
use crate::output::{Cell, plain};
use crate::payload;
use crate::session::Session;

pub(super) async fn request(args: Request, session: &Session) -> anyhow::Result<Exit> {
    let input = payload::read(args.input.as_ref(), "--input")?;
    let client = session.client()?;
    let mut request = client.request_json::<()>(&args.id, &args.name, input);
    if let Some(id) = &args.request_id {
        request = request.id(id);
    }
    if let Some(start) = start_of(&client, &args.start)? {
        request = request.or_start(start);
    }
    session.warn_if_unhosted(&client, "nobody answers");
    let status = request.within(args.timeout.duration()).status().await?;
    show(&status, &client, session).await
}

/// The start of an instance that may not be there.
pub(super) fn start_of(client: &Client, args: &OrStart) -> anyhow::Result<Option<Start>> {
    let Some(orchestration) = &args.or_start else {
        return Ok(None);
    };
    let input = payload::read(args.start_input.as_ref(), "--start-input")?;
    Ok(Some(client.start(orchestration).input_json(input)))
}

pub(super) async fn requests(args: Requests, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let output = session.output();
    let Some(id) = &args.request_id else {
        let requests = client.requests(&args.id).await?;
        if output.is_json() {
            output.json(&requests)?;
        } else {
            let rows = requests.iter().map(row);
            let heads = ["REQUEST ID", "NAME", "SENT (UTC)", "STATE", "ANSWER"];
            output.table(&heads, rows.collect())?;
        }
        return Ok(Exit::Ok);
    };
    let status = if args.wait {
        session.warn_if_unhosted(&client, "nobody answers");
        let limit = args.timeout.duration();
        client.wait_for_answer(&args.id, id, limit).await?
    } else {
        client.request_status(&args.id, id).await?
    };
    if status.is_pending() && !args.wait {
        if output.is_json() {
            return output.json(&status).map(|()| Exit::WrongState);
        }
        let message = format!("instance {:?} has not answered request {id:?} yet", args.id);
        let hint = format!(
            "`perennial requests {} {id} --wait` waits for the answer",
            args.id
        );
        return Err(CliError::new(Exit::WrongState, message).hint(hint).into());
    }
    show(&status, &client, session).await
}

pub(super) async fn pending_events(args: PendingEvents, session: &Session) -> anyhow::Result<Exit> {
    let events = session.client()?.pending_events(&args.id).await?;
    let output = session.output();
    if output.is_json() {
        output.json(&events)?;
    } else {
        let heads = ["NAME", "RECEIVED (UTC)", "EVENT", "DATA"];
        output.table(&heads, events.iter().map(pending).collect())?;
    }
    Ok(Exit::Ok)
}

fn pending(event: &PendingEvent) -> Vec<Cell> {
    let data = match &event.data {
        Some(data) => plain(data.as_str()),
        None if event.data_bytes > 0 => format!("{} bytes", event.data_bytes),
        None => String::new(),
    };
    let number = event.event_number.map(|number| number.to_string());
    vec![
        Cell::new(plain(&event.name)),
        Cell::new(event.received_at.map(time).unwrap_or_default()),
        Cell::new(number.unwrap_or_default()),
        Cell::new(data),
    ]
}

/// Why a request has no answer yet, as far as the status of its instance says.
async fn why_unanswered(request: &RequestStatus, client: &Client) -> String {
    let (id, name) = (&request.instance_id, &request.name);
    let Ok(Some(status)) = client.status(id).await else {
        return String::new();
    };
    if matches!(status.runtime_status, Status::Suspended | Status::Pending) {
        return format!("it is {}; ", status.runtime_status);
    }
    let served = status.waits_for.iter().filter_map(|wait| match wait {
        Wait::Request { name } => Some(name.as_str()),
        _ => None,
    });
    let served: Vec<&str> = served.collect();
    let is_served = served.iter().any(|one| one.eq_ignore_ascii_case(name));
    match closest(name, served.iter().copied()) {
        _ if is_served => String::new(),
        Some(meant) => format!("it does not wait for such a request; did you mean {meant:?}? "),
        None => "it does not wait for such a request now; ".to_owned(),
    }
}

fn row(request: &RequestStatus) -> Vec<Cell> {
    let state = match request.state {
        RequestState::Pending => "pending",
        RequestState::Completed => "completed",
        _ => "failed",
    };
    let output = request.output.as_ref().map(Json::to_string);
    let answer = output.or_else(|| request.failure.as_ref().map(Failure::to_string));
    vec![
        Cell::new(plain(&request.request_id)),
        Cell::new(plain(&request.name)),
        Cell::new(request.accepted_at.map(time).unwrap_or_default()),
        Cell::new(state),
        Cell::new(plain(&answer.unwrap_or_default())),
    ]
}

/// Prints the answer to a request; a failure, or that there is none yet, is an error.
async fn show(status: &RequestStatus, client: &Client, session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    let (id, name, request) = (&status.instance_id, &status.name, &status.request_id);
    let exit = match status.state {
        RequestState::Completed => Exit::Ok,
        RequestState::Pending => Exit::TimedOut,
        _ => Exit::Error,
    };
    if output.is_json() {
        return output.json(status).map(|()| exit);
    }
    if status.is_pending() {
        let message = format!("gave up waiting: instance {id:?} has not answered {name:?} yet");
        let why = why_unanswered(status, client).await;
        let hint = format!(
            "{why}it keeps the request: `perennial requests {id} {request} --wait` waits for the answer"
        );
        return Err(CliError::new(exit, message).hint(hint).into());
    }
    if let Some(failure) = &status.failure {
        let message = format!("request {name:?} to instance {id:?} failed: {failure}");
        return Err(CliError::new(exit, message).into());
    }
    if let Some(answer) = &status.output {
        output.payload(answer)?;
    }
    Ok(exit)
}
