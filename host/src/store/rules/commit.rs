//! The commit of a turn.

use perennial_core::{End, Event, Message, Start, Status, Suspension, Tags, Turn};

use crate::store::StoreError;
use crate::store::rows::Rows;
use crate::store::rows::instances::{NewRow, Recorded};
use crate::store::rows::tasks::Tasks;
use crate::store::rules::children::release_children;
use crate::store::rules::create::{self, CreateOutcome, Created};
use crate::store::rules::epilogue::{self, HistoryEnd};
use crate::store::rules::inbox::deliver;
use crate::store::rules::modules;
use crate::store::rules::parents::tell_parent_of;
use crate::store::rules::requests;
use crate::store::rules::send::send;
use crate::store::rules::tags;
use crate::store::rules::tasks;
use crate::store::types::{Effects, InstanceKey, NewInstance, Summary, TurnCommit};

/// Writes one turn with everything that belongs to it.
///
/// [`commit_and_cascade`](crate::store::rules::control::commit_and_cascade) also passes commands on to the children. A crash before the
/// transaction is on disk repeats the turn; a crash after it does not. If the commit would also create the instance and the id is in use,
/// it writes nothing and returns the rejection.
///
/// # Errors
/// [`StoreError::Conflict`] if the instance is not where the turn began.
pub(super) fn commit_turn(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<CreateOutcome, StoreError> {
    let TurnCommit {
        key, turn, after, ..
    } = commit;
    let mut recorded = Recorded::default();
    match &commit.create {
        Some(new) => match create::make_room(rows, &new.start, new.reuse, effects)? {
            Created::Yes => {
                insert_with_turn(rows, new, turn, after, effects)?;
                if !after.status.is_end() {
                    create::insert_options(rows, new, turn.at, effects)?;
                }
            }
            Created::No(rejection) => return Ok(Err(rejection)),
        },
        None => {
            let before = commit.status_before;
            let found = rows.record_turn(*key, commit.expected, before, turn, after)?;
            recorded = found.ok_or(StoreError::Conflict)?;
            if after.status.is_end() {
                effects.live.left(recorded.module);
            }
        }
    }
    rows.insert_turn(*key, commit.expected.execution, turn)?;
    rows.discard(*key, &commit.consumed)?;
    set_named(rows, *key, turn)?;
    let ended = after.status.is_end() || turn.next.is_some();
    if !ended {
        tasks::record(rows, *key, commit.expected, turn, &commit.retried)?;
        if turn
            .events()
            .any(|event| matches!(event, Event::ExecutionReturned { .. }))
        {
            give_up_retries(rows, commit, effects)?;
        }
    } else if turn.next.is_some() {
        rows.delete_tasks(*key, Tasks::OfExecution)?;
    } else if commit.create.is_none() {
        rows.delete_tasks(*key, Tasks::All)?;
    }
    if ended && commit.binds_children {
        release_children(rows, *key, &commit.id, effects)?;
    }
    let refused = send(rows, commit, effects)?;
    if let Some(next) = &turn.next {
        continue_as_new(rows, *key, commit.expected.execution, next, commit, effects)?;
    } else if ended {
        // A new instance has no inbox yet, and an ended one rarely has messages left.
        let is_unread = commit.create.is_none() && rows.has_mail(*key)?;
        epilogue(rows, commit, refused, is_unread, effects)?;
        if recorded.has_requests {
            let why = format!("instance {:?} has ended without an answer", commit.id);
            requests::fail_open(rows, *key, &why, effects)?;
        }
        if is_unread && after.status == Status::Completed {
            // Instances that did not complete may be rewound or restarted, and then need the messages that arrived until now.
            rows.clear_inbox(*key)?;
        }
        // A restarted instance may have become a child again since its row was read.
        if commit.is_child || commit.expected.execution > 0 {
            tell_parent_of(rows, *key, outcome(turn, after), effects)?;
        }
    }
    Ok(Ok(()))
}

/// Writes the values and tags that the guest has set. Those that came with the start of the execution are there already.
fn set_named(rows: &mut impl Rows, key: InstanceKey, turn: &Turn) -> Result<(), StoreError> {
    let produced = turn.produced.iter();
    let set = produced.clone().filter_map(|event| {
        let Event::ValueSet { name, value } = event else {
            return None;
        };
        Some((name.as_str(), value.as_ref()))
    });
    let set: Vec<_> = set.collect();
    if !set.is_empty() {
        rows.set_values(key, &set, turn.at)?;
    }
    let tagged = produced.filter_map(|event| {
        let Event::TagSet { key, value } = event else {
            return None;
        };
        Some((key.clone(), value.clone()))
    });
    let tagged: Vec<_> = tagged.collect();
    if !tagged.is_empty() {
        // The core has counted them; those that clients have set since the execution began come on top.
        tags::change(rows, key, &tagged, |_| true)?.ok();
    }
    Ok(())
}

/// Adds a turn to the history of an ended instance: the detached starts that were refused.
fn epilogue(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    refused: Vec<Event>,
    is_unread: bool,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut received = match is_unread {
        true => take_unread_refusals(rows, commit.key)?,
        false => Vec::new(),
    };
    received.extend(refused);
    if received.is_empty() {
        return Ok(());
    }
    let end = HistoryEnd {
        key: commit.key,
        execution: commit.expected.execution,
        turns: commit.turn.number + 1,
        next_event: commit.turn.next_event(),
        history_bytes: commit.after.history_bytes,
    };
    let turn = epilogue::append(rows, &end, commit.turn.at, received)?;
    effects.epilogue = Some((commit.key, turn));
    Ok(())
}

/// Takes the refusals out of an inbox that no turn will read any more.
fn take_unread_refusals(rows: &mut impl Rows, key: InstanceKey) -> Result<Vec<Event>, StoreError> {
    let (mut seqs, mut refusals) = (Vec::new(), Vec::new());
    for (seq, message) in rows.refusals(key)? {
        if let Message::StartSkipped {
            instance_id,
            reason,
        } = message
        {
            seqs.push(seq);
            refusals.push(Event::InstanceStartSkipped {
                instance_id,
                reason,
            });
        }
    }
    rows.discard(key, &seqs)?;
    Ok(refusals)
}

/// After the orchestration returned no new attempt starts: activities that wait for a retry fail with their last failure.
fn give_up_retries(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    for given_up in tasks::give_up_retries(rows, commit.key, &commit.running)? {
        deliver(rows, commit.key, &given_up, effects)?;
    }
    Ok(())
}

/// How a child's execution ended, for its parent.
fn outcome(
    turn: &Turn,
    after: &Summary,
) -> Result<Option<perennial_core::Json>, perennial_core::Failure> {
    let mut events = turn.received.iter().map(|event| (event, false));
    let answered = turn.produced.iter().map(|event| (event, true));
    let terminated = events
        .by_ref()
        .chain(answered)
        .find_map(|(event, as_asked)| {
            let Event::ExecutionTerminated { reason } = event else {
                return None;
            };
            let reason = reason.as_deref().unwrap_or("no reason was given");
            // Its guest ended it after it was asked to cancel.
            let (kind, what) = match as_asked {
                true => (perennial_core::kind::CANCELED, "was cancelled"),
                false => (perennial_core::kind::TERMINATED, "was terminated"),
            };
            let message = format!("the instance {what}: {reason}");
            Some(perennial_core::Failure::permanent(kind, message))
        });
    match (&after.failure, terminated) {
        (Some(failure), _) => Err(failure.clone()),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(after.output.clone()),
    }
}

fn insert_with_turn(
    rows: &mut impl Rows,
    new: &NewInstance,
    turn: &Turn,
    after: &Summary,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let row = NewRow {
        status: after.status,
        next_event: turn.next_event(),
        turns: turn.number + 1,
        inbox_next: 0,
        started_at: Some(turn.at),
        updated_at: turn.at,
        after: Some(after),
    };
    create::insert(rows, new, &row, effects)
}

/// Begins the next execution of an instance: an empty history, its start, the carried events, then the messages that already wait.
///
/// The waiting messages stay where they are. The start and the carried events get the numbers before them, which are free because the
/// execution consumed the messages that had them. Moving the whole queue each time would take quadratic time.
fn continue_as_new(
    rows: &mut impl Rows,
    key: InstanceKey,
    execution: u32,
    next: &Start,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(digest) = next.module {
        modules::expect(rows, digest)?;
    }
    let before = rows.head(key)?.and_then(|head| head.module);
    let continued = rows.next_execution(key, next)?;
    effects.live.moved(before, next.module);
    if continued.has_requests {
        requests::delete_old(rows, key, commit.turn.at)?;
    }
    let mut start = Box::new(next.clone());
    if !same(&continued.tags, &start.tags) {
        // Clients have set some.
        start.tags = continued.tags;
    }
    let mut first = vec![Message::Start(start)];
    if let Some(value) = commit.after.custom_status.clone() {
        first.push(Message::CustomStatus { value });
    }
    first.extend(commit.carried.iter().cloned());
    rows.push_first(key, &first)?;
    rows.leave_garbage(key, Some(execution))?;
    effects.garbage = true;
    effects.woken.push(key);
    Ok(())
}

/// Whether these are the same tags, in any order.
fn same(sorted: &Tags, others: &Tags) -> bool {
    sorted.len() == others.len() && others.iter().all(|tag| sorted.contains(tag))
}

/// The columns of a status row for a state.
pub(crate) fn summary(state: &perennial_core::State) -> Summary {
    let (status, output, failure) = match (state.end(), state.suspension()) {
        (None, Some(Suspension { reason })) => {
            let reason = reason.as_deref().map(reason_as_output);
            (Status::Suspended, reason, None)
        }
        (None, None) if state.awaits_start() => (Status::Pending, None, None),
        (None | Some(End::ContinuedAsNew), _) => (Status::Running, None, None),
        (Some(End::Completed { output }), _) => (Status::Completed, output.clone(), None),
        (Some(End::Failed { failure }), _) => (Status::Failed, None, Some(failure.clone())),
        (Some(End::Terminated { reason }), _) => {
            let reason = reason.as_deref().map(reason_as_output);
            (Status::Terminated, reason, None)
        }
    };
    let waiting = state.running().map(|running| running.waiting.clone());
    Summary {
        status,
        returned: state.has_returned(),
        history_bytes: state.history_bytes,
        custom_status: state.custom_status.clone(),
        value_count: u32::try_from(state.values.len()).unwrap_or(u32::MAX),
        output,
        failure,
        waiting: waiting.unwrap_or_default(),
        unread_bytes: state.begun().map_or(0, |begun| begun.unread.bytes()),
    }
}

/// The output of an instance that was terminated or suspended is the reason given.
fn reason_as_output(reason: &str) -> perennial_core::Json {
    perennial_core::Json::from_text(serde_json::Value::from(reason).to_string())
}
