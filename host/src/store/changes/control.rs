//! Turns commands into messages, for one instance and for its descendants.

use perennial_core::{
    Command, Decision, Event, Message, Rejection, State, Status, Tags, Timestamp, Turn, bounds,
    decide,
};
use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::changes::commit::{commit_turn, summary};
use crate::store::changes::create::CreateOutcome;
use crate::store::codec::int;
use crate::store::reply::Reply;
use crate::store::rows::instances::{self, status_of};
use crate::store::rows::queries;
use crate::store::rows::tags;
use crate::store::types::{Effects, InstanceKey, InstanceRow, TurnCommit};

/// Delivers a client's command to an instance.
pub(crate) fn command(
    db: &Connection,
    id: &str,
    command: Command,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let found = instances::find(db, id)?;
    let names_a_module = matches!(
        message,
        Message::Resume {
            module: Some(_),
            ..
        }
    );
    if let Some((key, status)) = found.filter(|(_, status)| names_a_module && !status.is_end())
        && !instances::is_quarantined(db, key)?
    {
        return Ok(Reply::Rejected(Rejection::NotQuarantined(status)));
    }
    match (decide(found.map(|(_, status)| status), command), found) {
        (Ok(_), Some((key, _))) if !instances::has_room_for_event(db, key, message)? => {
            Ok(Reply::Rejected(Rejection::TooManyUnread))
        }
        (Ok(decision), Some((key, status))) => {
            let to = Addressee { key, id, status };
            give(db, &to, decision, message, now, effects)
        }
        (Ok(_), None) => Ok(Reply::Rejected(Rejection::NotFound)),
        (Err(rejection), _) => Ok(Reply::Rejected(rejection)),
    }
}

/// Sets and removes tags of an instance, live or ended. Its guest is not told: it sees them from its next execution on.
pub(crate) fn set_tags(
    db: &Connection,
    id: &str,
    changes: &[(String, Option<String>)],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let Some((key, status)) = instances::find(db, id)? else {
        return Ok(Reply::Rejected(Rejection::NotFound));
    };
    let before = tags::of(db, key)?;
    // An instance may have more than that, if its orchestration has set some; removing and changing those is no harm.
    let fits = |after: &Tags| after.len() <= bounds::TAGS.max(before.len());
    let after = match tags::change(db, key, changes, fits)? {
        Ok(after) => after,
        Err(after) => return Ok(Reply::TooManyTags(after.len() as u64)),
    };
    if after != before {
        if !status.is_end() {
            // The time of an end decides how long the instance is kept, so it stays.
            db.prepare_cached(
                "UPDATE instance SET updated_at = max(updated_at, ?1) WHERE key = ?2",
            )?
            .execute(params![int(now.0), key.0])?;
            effects.tagged.push(key);
        }
        effects.changed.push(id.to_owned());
    }
    Ok(Reply::Tagged(after))
}

/// Terminates an instance and all its live descendants; if the instance has ended, only the descendants.
pub(crate) fn terminate_all(
    db: &Connection,
    id: &str,
    message: &Message,
    running: &[InstanceKey],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let Some((key, status)) = instances::find(db, id)?.filter(|(_, status)| status.is_end()) else {
        return command(db, id, Command::Terminate, message, now, effects);
    };
    let before = effects.stopped.len();
    let live = end_below(db, key, message, now, effects)?;
    effects.stopped.push(key);
    let runs = |stopped: &InstanceKey| running.contains(stopped);
    if live == 0 && !effects.stopped[before..].iter().any(runs) {
        effects.stopped.truncate(before);
        return Ok(Reply::Rejected(Rejection::NotRunning(status)));
    }
    Ok(Reply::Done)
}

/// Terminates all live descendants of an instance, also those below ended children. Returns their number.
fn end_below(
    db: &Connection,
    key: InstanceKey,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<usize, StoreError> {
    let mut query = db.prepare_cached(
        "WITH RECURSIVE below (key, id, status) AS (
             SELECT key, id, status FROM instance WHERE parent_key = ?1
             UNION SELECT i.key, i.id, i.status FROM below AS b CROSS JOIN instance AS i ON i.parent_key = b.key WHERE b.status >= 3
         ) SELECT key, id, status FROM below",
    )?;
    let mut rows = query.query([key.0])?;
    let mut live = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, status) = (InstanceKey(row.get(0)?), status_of(row.get(2)?)?);
        if status.is_end() {
            effects.stopped.push(key);
        } else {
            live.push((key, row.get::<_, String>(1)?, status));
        }
    }
    for (key, id, status) in &live {
        let to = Addressee {
            key: *key,
            id,
            status: *status,
        };
        if let Ok(decision) = decide(Some(*status), Command::Terminate) {
            give(db, &to, decision, message, now, effects)?;
        }
    }
    Ok(live.len())
}

/// An instance that gets a message.
struct Addressee<'a> {
    key: InstanceKey,
    id: &'a str,
    status: Status,
}

fn give(
    db: &Connection,
    to: &Addressee<'_>,
    decision: Decision,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    if decision == Decision::Nothing {
        if message.is_recursive() {
            // It is in that state already; its descendants may not be.
            cascade(db, to.key, to.id, message, now, effects)?;
        }
        if !instances::will_change(db, to.key)? {
            return Ok(Reply::Nothing);
        }
        // A message in the inbox is about to change its status: a suspend that a resume follows at once, for example. Then the turn
        // decides.
        instances::deliver(db, to.key, message)?;
        effects.woken.push(to.key);
        return Ok(Reply::Done);
    }
    if let (Message::Terminate { reason, .. } | Message::Cancel { reason, .. }, Status::Pending) =
        (message, to.status)
        && let Some(row) = queries::instance_by_key(db, to.key)?
    {
        // It has not begun, so there is no turn to wait for, and no host is needed.
        let mut commit = termination(&row, reason.clone(), now);
        commit.cascade = Some(message.clone()).filter(Message::is_recursive);
        if let Err(rejection) = commit_and_cascade(db, &commit, effects)? {
            return Ok(Reply::Rejected(rejection));
        }
        effects.gone.push(to.key);
        effects.ended.push(to.id.to_owned());
        return Ok(Reply::Done);
    }
    instances::deliver(db, to.key, message)?;
    effects.woken.push(to.key);
    Ok(Reply::Done)
}

/// Writes a turn, and passes recursive commands of its instance on to the children; their turns may be written in the same transaction.
///
/// # Errors
/// As [`commit_turn`].
pub(crate) fn commit_and_cascade(
    db: &Connection,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<CreateOutcome, StoreError> {
    let written = commit_turn(db, commit, effects)?;
    if written.is_ok()
        && let Some(message) = &commit.cascade
    {
        cascade(db, commit.key, &commit.id, message, commit.turn.at, effects)?;
    }
    Ok(written)
}

/// Passes a command on to the live children of an instance to which it applies. A termination also reaches the live descendants of ended
/// children.
pub(crate) fn cascade(
    db: &Connection,
    key: InstanceKey,
    id: &str,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let command = match message {
        Message::Terminate { .. } => {
            return end_below(db, key, message, now, effects).map(drop);
        }
        Message::Suspend { .. } => Command::Suspend,
        Message::Resume { .. } => Command::Resume,
        Message::Cancel { .. } => Command::Cancel,
        Message::Start(_)
        | Message::ExternalEvent { .. }
        | Message::ActivityEnded { .. }
        | Message::ChildEnded { .. }
        | Message::TimerFired { .. }
        | Message::ChildDue { .. }
        | Message::StartSkipped { .. }
        | Message::AttemptsFailed { .. }
        | Message::CustomStatus { .. }
        | Message::Values { .. }
        | Message::TimeLimit { .. }
        | Message::Request { .. }
        | Message::RequestEnded { .. }
        | Message::GraceOver { .. } => return Ok(()),
    };
    let mut query = db.prepare_cached(
        "SELECT key, id, status FROM instance WHERE parent_id = ?1 AND parent_key = ?2 AND status < 3 ORDER BY key",
    )?;
    let children: Vec<(i64, String, u8)> = query
        .query_map(params![id, key.0], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    for (key, id, status) in children {
        let to = Addressee {
            key: InstanceKey(key),
            id: &id,
            status: status_of(status)?,
        };
        if let Ok(decision) = decide(Some(to.status), command) {
            give(db, &to, decision, message, now, effects)?;
        }
    }
    Ok(())
}

/// The turn that terminates an instance from outside. It needs no history, so that an instance whose history is unreadable can be ended
/// too.
pub(crate) fn termination(row: &InstanceRow, reason: Option<String>, now: Timestamp) -> TurnCommit {
    let mut state = State::terminated(row.generation, reason.clone());
    state.history_bytes = row.history_bytes;
    state.custom_status = row.custom_status.clone();
    TurnCommit {
        key: row.key,
        id: row.id.clone(),
        expected: row.position(),
        status_before: row.status,
        create: None,
        turn: Turn {
            number: row.turns,
            first_event: row.next_event,
            at: now,
            received: vec![Event::ExecutionTerminated { reason }],
            produced: Vec::new(),
            answer: None,
            next: None,
        },
        consumed: Vec::new(),
        after: summary(&state),
        starts: Vec::new(),
        carried: Vec::new(),
        cascade: None,
        retried: Vec::new(),
        is_child: row.parent_key.is_some(),
        // Its history was not read.
        binds_children: true,
        running: Vec::new(),
    }
}
