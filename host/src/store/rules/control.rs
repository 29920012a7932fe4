//! Turns commands into messages, for one instance and for its descendants.

use perennial_core::{
    Command, Decision, Event, Message, Rejection, State, Status, Timestamp, Turn, bounds, decide,
};

use crate::store::StoreError;
use crate::store::outbox::OutboxMessage;
use crate::store::reply::Reply;
use crate::store::rows::Rows;
use crate::store::rows::instances::Child;
use crate::store::rules::commit::{commit_turn, summary};
use crate::store::rules::create::CreateOutcome;
use crate::store::rules::inbox::{deliver, has_room_for};
use crate::store::rules::tags::{self, Changed};
use crate::store::types::{Effects, InstanceKey, InstanceRow, TurnCommit};

/// Delivers a client's command to an instance.
pub(super) fn command(
    rows: &mut impl Rows,
    id: &str,
    command: Command,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let found = rows.find(id)?;
    let names_a_module = matches!(
        message,
        Message::Resume {
            module: Some(_),
            ..
        }
    );
    if let Some((key, status)) = found.filter(|(_, status)| names_a_module && !status.is_end())
        && !rows.head(key)?.is_some_and(|head| head.is_quarantined)
    {
        return Ok(Reply::Rejected(Rejection::NotQuarantined(status)));
    }
    match (decide(found.map(|(_, status)| status), command), found) {
        (Ok(_), Some((key, _))) if !has_room_for(rows, key, message)? => {
            Ok(Reply::Rejected(Rejection::TooManyUnread))
        }
        (Ok(decision), Some((key, status))) => {
            let id = id.to_owned();
            let to = Child { key, id, status };
            give(rows, &to, decision, message, now, effects)
        }
        (Ok(_), None) => Ok(Reply::Rejected(Rejection::NotFound)),
        (Err(rejection), _) => Ok(Reply::Rejected(rejection)),
    }
}

/// Sets and removes tags of an instance, live or ended. Its guest is not told: it sees them from its next execution on.
pub(super) fn set_tags(
    rows: &mut impl Rows,
    id: &str,
    changes: &[(String, Option<String>)],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let Some((key, status)) = rows.find(id)? else {
        return Ok(Reply::Rejected(Rejection::NotFound));
    };
    // An instance may have more than that, if its orchestration has set some; removing and changing those is no harm.
    let fits = |change: &Changed| change.after.len() <= bounds::TAGS.max(change.before.len());
    let Changed { before, after } = match tags::change(rows, key, changes, fits)? {
        Ok(changed) => changed,
        Err(refused) => return Ok(Reply::TooManyTags(refused.after.len() as u64)),
    };
    if after != before {
        if !status.is_end() {
            // The time of an end decides how long the instance is kept, so it stays.
            rows.touch(key, now)?;
            effects.tagged.push(key);
        }
        effects.changed.push(id.to_owned());
    }
    Ok(Reply::Tagged(after))
}

/// Terminates an instance and all its live descendants; if the instance has ended, only the descendants.
pub(super) fn terminate_all(
    rows: &mut impl Rows,
    id: &str,
    message: &Message,
    running: &[InstanceKey],
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let Some((key, status)) = rows.find(id)?.filter(|(_, status)| status.is_end()) else {
        return command(rows, id, Command::Terminate, message, now, effects);
    };
    let before = effects.stopped.len();
    let lives_elsewhere = rows.lives_below(key)?;
    let live = end_below(rows, key, message, now, effects)?;
    effects.stopped.push(key);
    let runs = |stopped: &InstanceKey| running.contains(stopped);
    if live == 0 && !lives_elsewhere && !effects.stopped[before..].iter().any(runs) {
        effects.stopped.truncate(before);
        return Ok(Reply::Rejected(Rejection::NotRunning(status)));
    }
    Ok(Reply::Done)
}

/// Terminates all live descendants of an instance, also those below ended children. Returns the number of those that
/// this owner runs.
fn end_below(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<usize, StoreError> {
    tell_partitions_below(rows, key, message)?;
    end_below_here(rows, key, message, now, effects)
}

/// As [`end_below`], without the children of the instance itself that other owners run.
fn end_below_here(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<usize, StoreError> {
    let (mut live, mut ended) = (Vec::new(), vec![key]);
    while let Some(parent) = ended.pop() {
        if parent != key {
            tell_partitions_below(rows, parent, message)?;
        }
        for child in rows.children(parent, false)? {
            if child.status.is_end() {
                effects.stopped.push(child.key);
                ended.push(child.key);
            } else {
                live.push(child);
            }
        }
    }
    for child in &live {
        if let Ok(decision) = decide(Some(child.status), Command::Terminate) {
            give(rows, child, decision, message, now, effects)?;
        }
    }
    Ok(live.len())
}

/// Passes a command on to the owners of partitions in which an instance has children.
fn tell_partitions_below(
    rows: &mut impl Rows,
    parent: InstanceKey,
    message: &Message,
) -> Result<(), StoreError> {
    for partition in rows.partitions_below(parent)? {
        let message = message.clone();
        rows.send(partition, OutboxMessage::Cascade { parent, message })?;
    }
    Ok(())
}

fn give(
    rows: &mut impl Rows,
    to: &Child,
    decision: Decision,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    if decision == Decision::Nothing {
        if message.is_recursive() {
            // It is in that state already; its descendants may not be.
            cascade(rows, to.key, message, now, effects)?;
        }
        if !rows.will_change(to.key)? {
            return Ok(Reply::Nothing);
        }
        // A message in the inbox is about to change its status: a suspend that a resume follows at once, for example. Then the turn
        // decides.
        deliver(rows, to.key, message, effects)?;
        return Ok(Reply::Done);
    }
    if let (Message::Terminate { reason, .. } | Message::Cancel { reason, .. }, Status::Pending) =
        (message, to.status)
        && let Some(row) = rows.instance(to.key)?
    {
        // It has not begun, so there is no turn to wait for, and no host is needed.
        let mut commit = termination(&row, reason.clone(), now);
        commit.cascade = Some(message.clone()).filter(Message::is_recursive);
        if let Err(rejection) = commit_and_cascade(rows, &commit, effects)? {
            return Ok(Reply::Rejected(rejection));
        }
        effects.gone.push(to.key);
        effects.ended.push(to.id.clone());
        return Ok(Reply::Done);
    }
    deliver(rows, to.key, message, effects)?;
    Ok(Reply::Done)
}

/// Writes a turn, and passes recursive commands of its instance on to the children; their turns may be written in the same transaction.
///
/// # Errors
/// As [`commit_turn`].
pub(super) fn commit_and_cascade(
    rows: &mut impl Rows,
    commit: &TurnCommit,
    effects: &mut Effects,
) -> Result<CreateOutcome, StoreError> {
    let written = commit_turn(rows, commit, effects)?;
    if written.is_ok()
        && let Some(message) = &commit.cascade
    {
        cascade(rows, commit.key, message, commit.turn.at, effects)?;
    }
    Ok(written)
}

/// Passes a command on to the live children of an instance to which it applies. A termination also reaches the live descendants of ended
/// children.
pub(super) fn cascade(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if command_of(message).is_some() {
        tell_partitions_below(rows, key, message)?;
    }
    cascade_here(rows, key, message, now, effects)
}

/// As [`cascade`], for the children that this owner runs.
pub(super) fn cascade_here(
    rows: &mut impl Rows,
    key: InstanceKey,
    message: &Message,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let command = match command_of(message) {
        None => return Ok(()),
        Some(Command::Terminate) => {
            return end_below_here(rows, key, message, now, effects).map(drop);
        }
        Some(command) => command,
    };
    for child in rows.children(key, true)? {
        if let Ok(decision) = decide(Some(child.status), command) {
            give(rows, &child, decision, message, now, effects)?;
        }
    }
    Ok(())
}

/// The command in a message that applies to children too.
fn command_of(message: &Message) -> Option<Command> {
    Some(match message {
        Message::Terminate { .. } => Command::Terminate,
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
        | Message::GraceOver { .. } => return None,
    })
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
