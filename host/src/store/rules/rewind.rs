//! Rewind and restart.

use std::collections::BTreeMap;

use perennial_core::{
    ArmedTimer, Callee, Command, Decision, FailedKind, Json, Message, Rejection, RemainingFailure,
    Target, TaskId, Timestamp, Waiting, decide,
};

use crate::store::StoreError;
use crate::store::outbox::OutboxMessage;
use crate::store::reply::{Reply, Rewound};
use crate::store::rows::Rows;
use crate::store::rows::instances::PutBack;
use crate::store::rows::tasks::{NewTask, Tasks};
use crate::store::rules::create;
use crate::store::rules::family;
use crate::store::rules::modules;
use crate::store::rules::requests;
use crate::store::rules::tags;
use crate::store::types::{
    Asker, Effects, InstanceKey, NewInstance, Position, RewindCommit, TaskRowKind,
};

/// Rewinds a failed instance to before its failure, in one transaction. If children must be rewound first, changes nothing and returns
/// their ids.
///
/// # Errors
/// [`StoreError::Conflict`] if the instance has moved since the rewind was planned.
pub(super) fn rewind(
    rows: &mut impl Rows,
    commit: &RewindCommit,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let key = commit.key;
    if let Err(rejection) = may_rewind(rows, commit)? {
        return Ok(Reply::rejected_after(rejection, commit.below.clone()));
    }
    let (standings, first) = family::look_at_children(rows, commit)?;
    if !first.is_empty() {
        return Ok(Reply::RewindFirst(first));
    }
    let (at, cut) = (commit.expected, commit.rewind.cut);
    rows.archive_turns(key, at, cut, commit.reason.as_deref(), now)?;
    if let Some(turn) = &commit.rewind.carried {
        rows.insert_turn(key, commit.expected.execution, turn)?;
    }
    put_back(rows, commit, now, effects)?;
    rows.clear_inbox(key)?;
    for message in &commit.rewind.inbox {
        rows.push(key, message, None)?;
    }
    arm(rows, commit)?;
    let again = Position {
        generation: commit.rewind.state.generation,
        ..commit.expected
    };
    create::arm_limit(rows, key, again, now, effects)?;
    let asker = Asker {
        key,
        task: again.task(TaskId(0)),
    };
    let kept = &commit.rewind.requests;
    rows.readdress(asker, kept)?;
    for partition in rows.partitions_asked_by(key)? {
        let kept = kept.clone();
        rows.send(partition, OutboxMessage::Readdress { asker, kept })?;
    }
    let mut remaining = commit.remaining.clone();
    remaining.extend(fail_again(commit));
    let settled = family::settle_children(rows, commit, standings, now, effects)?;
    remaining.extend(settled.failed);
    family::drop_children(rows, commit, effects)?;
    effects.anew.push(key);
    effects.changed.push(commit.id.clone());
    let activities = commit.rewind.activities.iter();
    let (rewound, below) = &commit.below;
    let own = commit.rewind.dropped_event.iter();
    let own = own.map(|event| (commit.id.clone(), event.clone()));
    Ok(Reply::Rewound(Box::new(Rewound {
        activities: activities
            .map(|armed| (armed.task, armed.name.clone()))
            .collect(),
        rewound: rewound.clone(),
        started: settled.started,
        dropped: commit.rewind.dropped.clone(),
        remaining,
        more_remaining: commit.more_remaining,
        dropped_events: below.iter().cloned().chain(own).collect(),
        cut_events: commit.expected.next_event - events_before_the_cut(commit),
    })))
}

/// Checks that the instance may be rewound and has not moved since the rewind was planned.
fn may_rewind(
    rows: &mut impl Rows,
    commit: &RewindCommit,
) -> Result<Result<(), Rejection>, StoreError> {
    let Some(head) = rows.head(commit.key)? else {
        return Err(StoreError::Conflict);
    };
    if let Err(rejection) = decide(Some(head.status), Command::Rewind) {
        return Ok(Err(rejection));
    }
    if head.position != commit.expected {
        return Err(StoreError::Conflict);
    }
    Ok(Ok(()))
}

fn events_before_the_cut(commit: &RewindCommit) -> u64 {
    let carried = commit.rewind.carried.as_ref();
    carried.map_or(commit.rewind.state.next_event, |turn| turn.first_event)
}

/// Activities that will fail again: their call is invalid, or no module defines them.
fn fail_again(commit: &RewindCommit) -> impl Iterator<Item = RemainingFailure> {
    let armed = commit.rewind.activities.iter().zip(&commit.targets);
    armed.filter_map(|(armed, target)| {
        let target = target.as_ref().unwrap_or(&armed.target);
        let failure = target.failure(Callee::Activity, &armed.name)?;
        let name = armed.name.clone();
        Some(family::again(
            armed.task,
            FailedKind::Activity,
            name,
            &failure,
        ))
    })
}

fn put_back(
    rows: &mut impl Rows,
    commit: &RewindCommit,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(digest) = commit.module {
        modules::expect(rows, digest)?;
    }
    let state = &commit.rewind.state;
    // The guest says in its next turn what it waits for. If an event was dropped, there may be no turn until it is sent again, so the
    // instance waits for that event from now on.
    let dropped = commit.rewind.dropped_event.as_ref();
    let waiting = dropped.map(|event| Waiting {
        events: vec![event.name.clone()],
        ..Waiting::default()
    });
    let to = PutBack {
        generation: state.generation,
        next_event: state.next_event,
        turns: state.turns,
        history_bytes: state.history_bytes,
        module: commit.module,
        custom_status: commit.rewind.custom_status(),
        waiting: waiting.as_ref(),
    };
    rows.put_back(commit.key, &to, now)?;
    let module = rows.head(commit.key)?.and_then(|head| head.module);
    effects.live.came(module);
    replace_values(rows, commit.key, &commit.rewind.values(), now)?;
    if !commit.rewind.tags.is_empty() {
        tags::change(rows, commit.key, &commit.rewind.tags, |_| true)?.ok();
    }
    Ok(())
}

/// Makes these the values of an instance.
fn replace_values(
    rows: &mut impl Rows,
    key: InstanceKey,
    with: &[(&str, &Json)],
    at: Timestamp,
) -> Result<(), StoreError> {
    let before = rows.values(key)?;
    let with: BTreeMap<&str, &Json> = with.iter().copied().collect();
    let cleared = before.iter().map(|row| row.name.as_str());
    let cleared = cleared.filter(|name| !with.contains_key(name));
    let changes = cleared.map(|name| (name, None));
    let set = with.iter().map(|(name, value)| (*name, Some(*value)));
    rows.set_values(key, &changes.chain(set).collect::<Vec<_>>(), at)
}

/// Inserts the rows of the tasks that the engine must act on.
fn arm(rows: &mut impl Rows, commit: &RewindCommit) -> Result<(), StoreError> {
    let at = Position {
        generation: commit.rewind.state.generation,
        ..commit.expected
    };
    for (armed, target) in commit.rewind.activities.iter().zip(&commit.targets) {
        let module = match target.as_ref().unwrap_or(&armed.target) {
            Target::Module(digest) => Some(*digest),
            _ => None,
        };
        let new = NewTask {
            module,
            target: target.as_ref(),
            scheduled_in: Some(rows.written_in(commit.key, at.execution, armed.turn)?),
            ..NewTask::new(armed.task, TaskRowKind::Activity)
        };
        rows.insert_task(commit.key, at, armed.turn, new)?;
    }
    for ArmedTimer {
        task,
        turn,
        due,
        by_clock,
        attempt,
    } in &commit.rewind.timers
    {
        let kind = match attempt {
            Some(_) => TaskRowKind::ChildRetry,
            None if *by_clock => TaskRowKind::TimerAt,
            None => TaskRowKind::Timer,
        };
        let module = match commit.rewind.state.child(*task).map(|child| &child.target) {
            Some(Target::Module(digest)) => Some(*digest),
            _ => None,
        };
        let new = NewTask {
            module,
            due: Some(*due),
            attempt: attempt.unwrap_or(1),
            ..NewTask::new(*task, kind)
        };
        rows.insert_task(commit.key, at, *turn, new)?;
    }
    Ok(())
}

/// A restart: the instance begins again with its next execution.
#[derive(Debug)]
pub(crate) struct RestartCommit {
    pub(crate) key: InstanceKey,
    /// The position of the instance when the restart was planned.
    pub(crate) expected: Position,
    pub(crate) new: NewInstance,
}

/// Begins the next execution of an ended instance. It has no parent any more, but its row still names the former one, so that a rewind of
/// that parent can adopt its outcome. This does not apply to a child that a rewind of its parent dropped.
///
/// # Errors
/// [`StoreError::Conflict`] if the instance has moved since the restart was planned.
pub(super) fn restart(
    rows: &mut impl Rows,
    commit: &RestartCommit,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Reply, StoreError> {
    let RestartCommit { key, expected, new } = commit;
    let start = &new.start;
    let found = rows
        .find(&start.instance_id)?
        .filter(|(found, _)| found == key);
    match decide(found.map(|(_, status)| status), Command::Restart) {
        Ok(Decision::NextExecution) => {}
        Ok(_) | Err(Rejection::NotFound) => return Err(StoreError::Conflict),
        Err(rejection) => return Ok(Reply::Rejected(rejection)),
    }
    if let Some(digest) = start.module {
        modules::expect(rows, digest)?;
    }
    if !rows.restart(*key, *expected, start, now)? {
        return Err(StoreError::Conflict);
    }
    effects.live.came(start.module);
    rows.delete_values(*key)?;
    requests::delete_all(
        rows,
        *key,
        "the instance was restarted before it answered",
        effects,
    )?;
    rows.delete_tasks(*key, Tasks::All)?;
    rows.clear_inbox(*key)?;
    rows.push(*key, &Message::Start(start.clone()), None)?;
    let begins = Position {
        execution: start.execution,
        generation: 0,
        next_event: 0,
    };
    create::arm_limit(rows, *key, begins, now, effects)?;
    rows.leave_garbage(*key, Some(expected.execution))?;
    effects.garbage = true;
    effects.anew.push(*key);
    effects.changed.push(start.instance_id.clone());
    Ok(Reply::Done)
}
