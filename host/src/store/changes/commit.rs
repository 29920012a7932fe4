//! The commit of a turn.

use perennial_core::{End, Event, Message, Start, Status, Suspension, Tags, Turn};
use rusqlite::{Connection, OptionalExtension, params};

use crate::store::StoreError;
use crate::store::changes::children::release_children;
use crate::store::changes::create::{self, CreateOutcome, Created};
use crate::store::changes::send::send;
use crate::store::codec::{decode, encode, int, uint};
use crate::store::rows::instances::{self, deliver};
use crate::store::rows::modules;
use crate::store::rows::parents::tell_parent_of;
use crate::store::rows::requests;
use crate::store::rows::tags;
use crate::store::rows::tasks;
use crate::store::rows::values;
use crate::store::types::{
    Effects, InstanceKey, NewInstance, Position, Summary, TurnCommit, began,
};

/// Writes one turn with everything that belongs to it.
///
/// [`commit_and_cascade`](crate::store::changes::control::commit_and_cascade) also passes commands on to the children. A crash before the
/// transaction is on disk repeats the turn; a crash after it does not. If the commit would also create the instance and the id is in use,
/// it writes nothing and returns the rejection.
///
/// # Errors
/// [`StoreError::Conflict`] if the instance is not where the turn began.
pub(crate) fn commit_turn(
    db: &Connection,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<CreateOutcome, StoreError> {
    let TurnCommit {
        key, turn, after, ..
    } = commit;
    let mut has_requests = false;
    match &commit.create {
        Some(new) => match create::make_room(db, &new.start, new.reuse, turn.at, effects)? {
            Created::Yes => {
                insert_with_turn(db, new, turn, after)?;
                if !after.status.is_end() {
                    create::insert_options(db, new, turn.at, effects)?;
                }
            }
            Created::No(rejection) => return Ok(Err(rejection)),
        },
        None => {
            let before = commit.status_before;
            has_requests = update(db, *key, commit.expected, before, turn, after)?;
        }
    }
    insert_turn(db, *key, commit.expected.execution, turn)?;
    instances::discard(db, *key, &commit.consumed)?;
    set_named(db, *key, turn)?;
    let ended = after.status.is_end() || turn.next.is_some();
    if !ended {
        tasks::record(db, *key, commit.expected, turn, &commit.retried)?;
        if turn
            .events()
            .any(|event| matches!(event, Event::ExecutionReturned { .. }))
        {
            give_up_retries(db, commit, effects)?;
        }
    } else if turn.next.is_some() {
        tasks::delete_execution(db, *key)?;
    } else if commit.create.is_none() {
        tasks::delete_all(db, *key)?;
    }
    if ended && commit.binds_children {
        release_children(db, *key, &commit.id, effects)?;
    }
    let refused = send(db, commit, effects)?;
    if let Some(next) = &turn.next {
        continue_as_new(db, *key, commit.expected.execution, next, commit, effects)?;
    } else if ended {
        // A new instance has no inbox yet, and an ended one rarely has messages left.
        let is_unread = commit.create.is_none() && instances::has_mail(db, *key)?;
        epilogue(db, commit, refused, is_unread, effects)?;
        if has_requests {
            let why = format!("instance {:?} has ended without an answer", commit.id);
            requests::fail_open(db, *key, &why, effects)?;
        }
        if is_unread && after.status == Status::Completed {
            // Instances that did not complete may be rewound or restarted, and then need the messages that arrived until now.
            db.prepare_cached("DELETE FROM inbox WHERE instance = ?1")?
                .execute([key.0])?;
        }
        // A restarted instance may have become a child again since its row was read.
        if commit.is_child || commit.expected.execution > 0 {
            tell_parent_of(db, *key, outcome(turn, after), effects)?;
        }
    }
    Ok(Ok(()))
}

/// Writes the values and tags that the guest has set. Those that came with the start of the execution are there already.
fn set_named(db: &Connection, key: InstanceKey, turn: &Turn) -> Result<(), StoreError> {
    let produced = turn.produced.iter();
    let set = produced.clone().filter_map(|event| {
        let Event::ValueSet { name, value } = event else {
            return None;
        };
        Some((name.as_str(), value.as_ref()))
    });
    values::change(db, key, set, turn.at)?;
    let tagged = produced.filter_map(|event| {
        let Event::TagSet { key, value } = event else {
            return None;
        };
        Some((key.clone(), value.clone()))
    });
    let tagged: Vec<_> = tagged.collect();
    if !tagged.is_empty() {
        // The core has counted them; those that clients have set since the execution began come on top.
        tags::change(db, key, &tagged, |_| true)?.ok();
    }
    Ok(())
}

/// Adds a turn to the history of an ended instance: the detached starts that were refused.
fn epilogue(
    db: &Connection,
    commit: &TurnCommit,
    refused: Vec<Event>,
    is_unread: bool,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let mut received = match is_unread {
        true => take_unread_refusals(db, commit.key)?,
        false => Vec::new(),
    };
    received.extend(refused);
    if received.is_empty() {
        return Ok(());
    }
    let bytes = received.iter().map(Event::size).sum::<usize>() as u64;
    let turn = Turn {
        number: commit.turn.number + 1,
        first_event: commit.turn.next_event(),
        at: commit.turn.at,
        received,
        produced: Vec::new(),
        answer: None,
        next: None,
    };
    insert_turn(db, commit.key, commit.expected.execution, &turn)?;
    db.prepare_cached(
        "UPDATE instance SET next_event = ?1, turns = ?2, history_bytes = ?3 WHERE key = ?4",
    )?
    .execute(params![
        int(turn.next_event()),
        turn.number + 1,
        int(commit.after.history_bytes + bytes),
        commit.key.0,
    ])?;
    effects.epilogue = Some((commit.key, turn));
    Ok(())
}

/// Takes the refusals out of an inbox that no turn will read any more.
fn take_unread_refusals(db: &Connection, key: InstanceKey) -> Result<Vec<Event>, StoreError> {
    let sample = encode(&Message::StartSkipped {
        instance_id: String::new(),
        reason: String::new(),
    })?;
    // The variant of a message follows the format byte; the query need not read the rest.
    let mut query = db.prepare_cached(
        "SELECT seq, message FROM inbox WHERE instance = ?1 AND substr(message, 1, 2) = ?2 ORDER BY seq",
    )?;
    let mut rows = query.query(params![key.0, &sample[..2]])?;
    let (mut seqs, mut refusals) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let message: Vec<u8> = row.get(1)?;
        if let Message::StartSkipped {
            instance_id,
            reason,
        } = decode(&message, "a message")?
        {
            seqs.push(uint(row.get(0)?));
            refusals.push(Event::InstanceStartSkipped {
                instance_id,
                reason,
            });
        }
    }
    instances::discard(db, key, &seqs)?;
    Ok(refusals)
}

/// After the orchestration returned no new attempt starts: activities that wait for a retry fail with their last failure.
fn give_up_retries(
    db: &Connection,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    for given_up in tasks::give_up_retries(db, commit.key, &commit.running)? {
        deliver(db, commit.key, &given_up)?;
        effects.woken.push(commit.key);
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
    db: &Connection,
    new: &NewInstance,
    turn: &Turn,
    after: &Summary,
) -> Result<(), StoreError> {
    instances::insert(
        db,
        new,
        &instances::Row {
            status: after.status,
            next_event: turn.next_event(),
            turns: turn.number + 1,
            inbox_next: 0,
            started_at: Some(turn.at),
            updated_at: turn.at,
            after: Some(after),
        },
    )
}

/// The statement that updates a status row if the instance is still where the turn began. Callers add further columns only if they changed:
/// setting an indexed column costs an update of the index even if the value stays the same.
macro_rules! update_row {
    ($more:literal) => {
        update_row!($more, "")
    };
    ($more:literal, $returning:literal) => {
        concat!(
            "UPDATE instance SET next_event = ?1, turns = ?2, history_bytes = ?3, updated_at = ?4, returned = ?5,
                 waiting = iif(?12, ?6, waiting), unread_bytes = iif(?12, ?13, unread_bytes), custom_status = ?7, deliveries = 0",
            $more,
            " WHERE key = ?8 AND execution = ?9 AND generation = ?10 AND next_event = ?11",
            $returning
        )
    };
}

/// Updates the status row. Returns whether the instance was ever asked something, where the status changes.
fn update(
    db: &Connection,
    key: InstanceKey,
    expected: Position,
    status_before: Status,
    turn: &Turn,
    after: &Summary,
) -> Result<bool, StoreError> {
    let waiting = (!after.status.is_end())
        .then(|| encode(&after.waiting))
        .transpose()?;
    let at = params![
        int(turn.next_event()),
        turn.number + 1,
        int(after.history_bytes),
        int(turn.at.0),
        after.returned,
        waiting,
        after.custom_status.as_ref().map(|json| json.as_str()),
        key.0,
        expected.execution,
        expected.generation,
        int(expected.next_event),
        // Only the guest knows what it waits for. A turn that did not ask it (it may not be in memory) leaves the column as it was.
        turn.answer.is_some() || after.status.is_end(),
        int(after.unread_bytes),
    ];
    let has_requests = if status_before == after.status && !after.status.is_end() {
        let changed = db.prepare_cached(update_row!(""))?.execute(at)?;
        (changed == 1).then_some(false)
    } else {
        let failure = after.failure.as_ref().map(encode).transpose()?;
        let status = params![
            instances::status_number(after.status),
            after.output.as_ref().map(|json| json.as_str()),
            failure,
            began(after).then_some(int(turn.at.0)),
        ];
        let and_status = update_row!(
            ", status = ?14, output = ?15, failure = ?16, started_at = coalesce(started_at, ?17), quarantine = NULL",
            " RETURNING has_requests"
        );
        db.prepare_cached(and_status)?
            .query_row(&[at, status].concat()[..], |row| row.get(0))
            .optional()?
    };
    has_requests.ok_or(StoreError::Conflict)
}

/// Adds a turn to a history.
pub(crate) fn insert_turn(
    db: &Connection,
    key: InstanceKey,
    execution: u32,
    turn: &Turn,
) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO turn (instance, execution, number, first_event, at, answer, received, produced)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        key.0,
        execution,
        turn.number,
        int(turn.first_event),
        int(turn.at.0),
        turn.answer.map(u64::cast_signed),
        encode(&turn.received)?,
        encode(&turn.produced)?,
    ])?;
    Ok(())
}

/// Begins the next execution of an instance: an empty history, its start, the carried events, then the messages that already wait.
///
/// The waiting messages stay where they are. The start and the carried events get the numbers before them, which are free because the
/// execution consumed the messages that had them. Moving the whole queue each time would take quadratic time.
fn continue_as_new(
    db: &Connection,
    key: InstanceKey,
    execution: u32,
    next: &Start,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(digest) = next.module {
        modules::expect(db, digest)?;
    }
    let mut update = db.prepare_cached(
        "UPDATE instance SET execution = ?1, execution_id = ?2, version = ?3, module = ?4, generation = 0, next_event = 0, turns = 0,
             history_bytes = 0, waiting = NULL, unread_bytes = 0
         WHERE key = ?5 RETURNING tags, has_requests",
    )?;
    let at = params![
        next.execution,
        next.execution_id,
        next.version,
        next.module.map(|d| d.0),
        key.0
    ];
    let (tags, has_requests): (Option<String>, bool) =
        update.query_row(at, |row| Ok((row.get(0)?, row.get(1)?)))?;
    if has_requests {
        requests::delete_old(db, key, commit.turn.at)?;
    }
    let mut start = Box::new(next.clone());
    let tags = tags::read(tags)?;
    if !same(&tags, &start.tags) {
        // Clients have set some.
        start.tags = tags;
    }
    let mut first = vec![encode(&Message::Start(start))?];
    if let Some(value) = commit.after.custom_status.clone() {
        first.push(encode(&Message::CustomStatus { value })?);
    }
    for message in &commit.carried {
        first.push(encode(message)?);
    }
    instances::deliver_first(db, key, &first)?;
    db.prepare_cached("INSERT OR IGNORE INTO garbage (instance, execution) VALUES (?1, ?2)")?
        .execute(params![key.0, execution])?;
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
