//! Requests that read the hub before they become a change, or that need several changes. The owner's engine and a process that finds no
//! owner share this code.
//!
//! Each change is its own transaction. After a crash between two of them, the same request continues.

use perennial_core::{Command, Message, Reuse};

use crate::engine::requests::bounds::problem_with_reason;
use crate::engine::requests::owner::{Owner, TRIES_MAX, answer, look_up};
use crate::engine::requests::refused::{self, refused};
use crate::engine::requests::request::{self, Request, RestartRequest, StartRequest};
use crate::engine::requests::rewind::{self, How};
use crate::engine::turn::load::find_start;
use crate::store::{Change, InstanceRow, Reader, Reply, RestartCommit, Run, StoreError};

/// Whether a request needs several changes, or has to read the hub first.
pub(crate) fn takes_steps(request: &Request) -> bool {
    let request = match request {
        Request::IfRun { then, .. } => then,
        other => other,
    };
    matches!(
        request,
        Request::Rewind(_)
            | Request::RewindAll(_)
            | Request::RewindForgetting { .. }
            | Request::Restart(_)
    )
}

/// Carries out a request; blocks until it is durable.
pub(crate) fn carry_out(
    owner: &impl Owner,
    request: Request,
    token: Option<String>,
) -> Result<Reply, StoreError> {
    if let Some(problem) = request.reason().and_then(problem_with_reason) {
        return answer(owner, problem, token);
    }
    // Each step compares the run that it read, and is committed only if the instance has not moved since.
    let (request, run) = match request {
        Request::IfRun { run, then, .. } if takes_steps(&then) => (*then, Some(run)),
        other => (other, None),
    };
    let done = match request {
        Request::Rewind(request) => {
            let how = How::all_failures(false).of_run(run);
            rewind::rewind(owner, &request, how, token.clone())
        }
        Request::RewindAll(request) => {
            let how = How::all_failures(true).of_run(run);
            rewind::rewind(owner, &request, how, token.clone())
        }
        Request::RewindForgetting {
            rewind,
            all_failures,
        } => {
            let how = How {
                forget_completed: true,
                ..How::all_failures(all_failures).of_run(run)
            };
            rewind::rewind(owner, &rewind, how, token.clone())
        }
        Request::Restart(request) => restart(owner, &request, run, token.clone()),
        other => {
            let change = owner.prepared(|with| request::prepare(other, with))?;
            return owner.write(change, token);
        }
    };
    match done {
        // A retry would read the same damaged data.
        Err(StoreError::Corrupt(why)) => {
            let message = format!("the instance cannot be read: {why}");
            answer(owner, refused(refused::CORRUPT, message), token)
        }
        done => done,
    }
}

fn restart(
    owner: &impl Owner,
    request: &RestartRequest,
    run: Option<Run>,
    token: Option<String>,
) -> Result<Reply, StoreError> {
    let command = match request.new_id {
        Some(_) => Command::RestartAs,
        None => Command::Restart,
    };
    for _ in 0..TRIES_MAX {
        let row = match look_up(owner, &request.id, command, run)? {
            Ok(row) => row,
            Err(reply) => return answer(owner, reply, token),
        };
        let Some(before) = start_of(owner.reader(), &row)? else {
            // The instance changed between two reads, or its start is missing.
            continue;
        };
        let start = StartRequest {
            name: before.name,
            // A worker runs the version that it was asked for; of modules, the newest one.
            version: before.version.filter(|_| before.module.is_none()),
            id: request.new_id.clone().unwrap_or_else(|| row.id.clone()),
            input: before.input,
            tags: Vec::new(),
            reuse: Reuse::Never,
            trace_parent: None,
            scheduled_for: None,
        };
        let is_remote = before.module.is_none();
        let new = owner.prepared(|with| match is_remote {
            true => request::prepare_start(start, &with.remote()),
            false => request::prepare_start(start, with),
        });
        let mut new = match new? {
            Ok(new) => new,
            Err(reply) => return answer(owner, reply, token),
        };
        // Its tags are those of now: what clients have set stays. There may be more than a start may have.
        new.start.tags.clone_from(&row.tags);
        let change = match request.new_id {
            Some(_) => {
                new.options.execution_timeout = owner.reader().execution_timeout(row.key)?;
                Change::Start(new)
            }
            None => {
                new.start.execution = row.execution + 1;
                Change::Restart(Box::new(RestartCommit {
                    key: row.key,
                    expected: row.position(),
                    new,
                }))
            }
        };
        match owner.write(change, token.clone()) {
            Err(StoreError::Conflict) => {}
            done => return done,
        }
    }
    let message = format!("instance {:?} has no start that could be read", request.id);
    answer(owner, refused(refused::CORRUPT, message), token)
}

/// The start of the current execution: from its history or, before the first turn, from its inbox.
fn start_of(
    reader: &Reader,
    row: &InstanceRow,
) -> Result<Option<perennial_core::Start>, StoreError> {
    if let Some(start) = find_start(reader, row)? {
        return Ok(Some(start));
    }
    let page = reader.inbox(row.key, 0, 4)?;
    let mut messages = page.envelopes.into_iter().map(|envelope| envelope.message);
    Ok(messages.find_map(|message| match message {
        Message::Start(start) => Some(*start),
        _ => None,
    }))
}
