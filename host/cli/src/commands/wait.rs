//! `perennial wait`, and the waiting that other commands do.

use std::time::Duration;

use perennial::{Client, Failure, InstanceStatus, Json, Status, Waited};

use crate::args::{Wait, WaitFor};
use crate::error::{CliError, Exit};
use crate::format::span;
use crate::progress::Progress;
use crate::session::Session;
use crate::value::Limit;

pub(super) async fn wait(args: Wait, session: &Session) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let status = until(&client, &args.id, args.timeout, args.wait_for, session).await?;
    match args.wait_for {
        WaitFor::Completion => ended(&status, session),
        WaitFor::Start if session.output().is_json() => {
            session.output().json(&status).map(|()| Exit::Ok)
        }
        WaitFor::Start => session
            .output()
            .line(status.runtime_status.name())
            .map(|()| Exit::Ok),
    }
}

/// Waits and shows progress. Fails if the time runs out.
pub(super) async fn until(
    client: &Client,
    id: &str,
    limit: Limit,
    wait_for: WaitFor,
    session: &Session,
) -> anyhow::Result<InstanceStatus> {
    let is_there = |status: &InstanceStatus| match wait_for {
        WaitFor::Completion => status.is_ended(),
        WaitFor::Start => status.runtime_status != Status::Pending,
    };
    let mut progress = Progress::new(session.output(), id);
    let mut asked = false;
    let waited = client.wait_until(id, limit.duration(), |status| {
        progress.show(status);
        let there = is_there(status);
        if !there && !asked {
            asked = true;
            session.warn_if_unhosted(client, "nothing will happen");
        }
        there
    });
    let waited = waited.await?;
    let elapsed = progress.elapsed();
    drop(progress);
    match waited {
        Waited::Reached(status) => Ok(status),
        Waited::TimedOut(status) => Err(timed_out(&status, elapsed).into()),
    }
}

fn timed_out(status: &InstanceStatus, elapsed: Duration) -> CliError {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let mut message = format!(
        "gave up after {}: instance {:?} is still {}",
        span(ms),
        status.instance_id,
        status.runtime_status
    );
    if let Some(wait) = status.waits_for.first() {
        message.push_str(&format!(" and waits for {wait}"));
    }
    CliError::new(Exit::TimedOut, message).hint(format!(
        "`perennial wait {} --timeout none` waits as long as it takes",
        status.instance_id
    ))
}

/// Prints the end of an instance: its result on stdout, or an error with the reason.
pub(super) fn ended(status: &InstanceStatus, session: &Session) -> anyhow::Result<Exit> {
    let output = session.output();
    if output.is_json() {
        output.json(status)?;
    }
    match status.runtime_status {
        Status::Completed if output.is_json() => Ok(Exit::Ok),
        Status::Completed => match &status.output {
            Some(result) => output.payload(result).map(|()| Exit::Ok),
            None => Ok(Exit::Ok),
        },
        Status::Terminated => {
            let reason = status
                .output
                .as_ref()
                .map(|reason| format!(": {}", text_of(reason)))
                .unwrap_or_default();
            Err(CliError::new(
                Exit::Error,
                format!("instance {:?} was terminated{reason}", status.instance_id),
            )
            .into())
        }
        Status::Failed | Status::Pending | Status::Running | Status::Suspended => {
            let said = match &status.failure {
                Some(failure) => CliError::new(
                    Exit::Error,
                    format!(
                        "instance {:?} failed: {failure}{}",
                        status.instance_id,
                        place(failure)
                    ),
                )
                .causes(causes(failure))
                .trace(backtrace(failure)),
                None => CliError::new(
                    Exit::Error,
                    format!(
                        "instance {:?} is {}",
                        status.instance_id, status.runtime_status
                    ),
                ),
            };
            let history = format!(
                "`perennial history {}` shows how it came to that",
                status.instance_id
            );
            let lacks_grants = status.failure.as_ref().is_some_and(lacks_directory);
            Err(said
                .hint(match lacks_grants {
                    true => format!("{GRANT_DIRECTORY}; {history}"),
                    false => history,
                })
                .into())
        }
    }
}

/// Where a failure happened, if that is one place and no whole backtrace.
fn place(failure: &Failure) -> String {
    match &failure.trace {
        Some(trace) if trace.lines().count() == 1 => format!(", at {trace}"),
        _ => String::new(),
    }
}

/// The hint for an activity that does not find a file.
pub(super) const GRANT_DIRECTORY: &str = "activities see only the directories that their module is granted: `perennial grants` shows which, `perennial grants MODULE --grant-dir DIR` grants one";

/// Whether a failure has the text by which a guest's standard library reports a missing file: a directory that is not granted does not
/// exist for the guest.
pub(super) fn lacks_directory(failure: &Failure) -> bool {
    // 44 and 76 are "no such file or directory" and "not capable" of WASI; without any directory its C library says more.
    const WORDS: [&str; 3] = [
        "(os error 44)",
        "(os error 76)",
        "pre-opened file descriptor",
    ];
    let says = |text: &str| WORDS.iter().any(|words| text.contains(words));
    says(&failure.message) || failure.causes.iter().any(|cause| says(&cause.message))
}

/// Where a failure happened, if that takes several lines.
pub(super) fn backtrace(failure: &Failure) -> Option<String> {
    let trace = failure.trace.as_ref();
    trace.filter(|trace| trace.lines().count() > 1).cloned()
}

/// The causes of a failure, nearest first.
pub(super) fn causes(failure: &Failure) -> Vec<String> {
    failure
        .causes
        .iter()
        .map(|cause| format!("{}: {}", cause.kind, cause.message))
        .collect()
}

/// A JSON text without its quotes, anything else as it is.
pub(super) fn text_of(json: &Json) -> String {
    serde_json::from_str(json.as_str()).unwrap_or_else(|_| json.as_str().to_owned())
}
