//! The children of an instance that is rewound: those for which it waits again, and those that it forgets.

use perennial_core::{
    DroppedKind, FailedKind, Failure, Json, Message, Parent, RemainingFailure, Status, TaskId,
    TaskRef, Timestamp, kind,
};

use crate::store::StoreError;
use crate::store::outbox::{Awaited, OutboxMessage, Sender};
use crate::store::partition::Partition;
use crate::store::rows::Rows;
use crate::store::rows::instances::Head;
use crate::store::rules::create;
use crate::store::rules::inbox::{deliver, deliver_if_live};
use crate::store::types::{Effects, InstanceKey, InstanceRow, NewInstance, RewindCommit};

/// The state of a child whose outcome the parent awaits again.
pub(super) enum Standing {
    /// It is live, and will report its end.
    Live(InstanceKey, Parent),
    /// It completed with this output.
    Completed(Option<Json>),
    /// It failed.
    Failed(Failure),
    /// It was terminated or deleted, so it is started again.
    Over(Option<InstanceKey>),
    /// Its id belongs to an unrelated instance with this status.
    Foreign(Status),
}

/// Where a child is, by id.
type Looked = (String, At);

/// Where a child is.
pub(super) enum At {
    Here(Standing),
    /// Another owner runs it, and finds out how it stands when it is told that the parent waits again. It stood so when it was looked at.
    Elsewhere(Partition, Standing),
}

/// Where the children stand for which a rewound parent waits again, in order, and which of them have to be rewound first.
pub(super) fn look_at_children(
    rows: &mut impl Rows,
    commit: &RewindCommit,
) -> Result<(Vec<Looked>, Vec<String>), StoreError> {
    let mut looked = Vec::with_capacity(commit.rewind.children.len());
    let mut first = Vec::new();
    for (task, child) in &commit.rewind.children {
        let id = child.attempt_instance_id(child.attempt);
        let of_task = (commit.expected.execution, *task);
        let parent = (commit.key, commit.id.as_str());
        let (at, has_failed) = match rows.elsewhere(&id) {
            Some(partition) => {
                let seen = rows.glance(&id)?;
                let standing = standing_of(seen, parent, of_task);
                let has_failed = matches!(standing, Standing::Failed(_));
                (At::Elsewhere(partition, standing), has_failed)
            }
            None => {
                let standing = standing(rows, parent, of_task, &id)?;
                let has_failed = matches!(standing, Standing::Failed(_));
                (At::Here(standing), has_failed)
            }
        };
        if has_failed && !commit.rewound.contains(&id) {
            first.push(id.clone());
        }
        looked.push((id, at));
    }
    Ok((looked, first))
}

/// The current state of a child. A child that was restarted in place has no parent any more, but its row still names its former one.
fn standing(
    rows: &mut impl Rows,
    (parent, parent_id): (InstanceKey, &str),
    of_task: (u32, TaskId),
    id: &str,
) -> Result<Standing, StoreError> {
    let seen = match rows.find(id)? {
        Some((key, _)) => rows.head(key)?.zip(rows.instance(key)?),
        None => None,
    };
    Ok(standing_of(seen, (parent, parent_id), of_task))
}

/// As [`standing`], from the row of the child.
fn standing_of(
    seen: Option<(Head, InstanceRow)>,
    (parent, parent_id): (InstanceKey, &str),
    of_task: (u32, TaskId),
) -> Standing {
    let Some((head, row)) = seen else {
        return Standing::Over(None);
    };
    let key = row.key;
    let is_own = match head.parent_key {
        Some(parent_key) => parent_key == parent,
        None => head.parent_id.is_none(),
    };
    let own = head
        .parent
        .filter(|place| is_own && is_place(place, of_task, parent_id));
    let Some(place) = own else {
        // It blocks the id only until it has ended.
        let is_left_behind =
            head.parent_key.is_none() && head.parent_id.as_deref() == Some(parent_id);
        return if head.status.is_end() || is_left_behind {
            Standing::Over(Some(key))
        } else {
            Standing::Foreign(head.status)
        };
    };
    match (head.status, row.failure) {
        (Status::Pending | Status::Running | Status::Suspended, _) => Standing::Live(key, place),
        (Status::Completed, _) => Standing::Completed(row.output),
        (Status::Failed, Some(failure)) => Standing::Failed(failure),
        (Status::Failed, None) | (Status::Terminated, _) => Standing::Over(Some(key)),
    }
}

/// Whether a child reports to this task of an execution of this parent.
fn is_place(place: &Parent, of_task: (u32, TaskId), parent_id: &str) -> bool {
    (place.task.execution, place.task.task) == of_task && place.instance_id == parent_id
}

/// The children of a rewind after it.
#[derive(Default)]
pub(super) struct Settled {
    /// Ids of the children that were started again.
    pub(super) started: Vec<String>,
    /// The children that fail again.
    pub(super) failed: Vec<RemainingFailure>,
}

/// Makes each awaited child report its outcome to the new task id, or delivers the outcome now.
pub(super) fn settle_children(
    rows: &mut impl Rows,
    commit: &RewindCommit,
    looked: Vec<Looked>,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<Settled, StoreError> {
    let mut settled = Settled::default();
    let children = commit.rewind.children.iter().zip(&commit.starts);
    for (((task, child), start), (id, at)) in children.zip(looked) {
        let awaited = Awaited {
            parent: Sender::new(commit.key, &commit.id),
            task: TaskRef {
                execution: commit.expected.execution,
                generation: commit.rewind.state.generation,
                task: *task,
            },
            attempt: child.attempt,
            child: id,
            start: start.clone(),
        };
        let settle = match at {
            At::Here(standing) => {
                let settle = standing.settle(&awaited);
                carry_out(rows, &awaited, &settle, now, effects)?;
                settle
            }
            At::Elsewhere(partition, standing) => {
                let settle = standing.settle(&awaited);
                rows.send(partition, OutboxMessage::Await(Box::new(awaited.clone())))?;
                settle
            }
        };
        match settle {
            Settle::Reports(..) => {}
            Settle::Starts(..) => settled.started.push(awaited.child),
            Settle::Ended(outcome) => {
                if let Err(failure) = outcome {
                    let name = child.name.clone();
                    let failed = again(*task, FailedKind::Child, name, &failure);
                    settled.failed.push(failed);
                }
            }
        }
    }
    Ok(settled)
}

/// What is done about a child for which its parent waits again.
enum Settle {
    /// It reports its end to the task that waits for it now.
    Reports(InstanceKey, Parent),
    /// It is started again, in place of this one.
    Starts(Option<InstanceKey>, NewInstance),
    /// The parent is told this outcome.
    Ended(Result<Option<Json>, Failure>),
}

impl Standing {
    fn settle(self, awaited: &Awaited) -> Settle {
        Settle::Ended(match (self, &awaited.start) {
            (Self::Live(key, place), _) => return Settle::Reports(key, awaited.place(place)),
            (Self::Over(old), Ok(new)) => return Settle::Starts(old, new.clone()),
            (Self::Over(_), Err(failure)) => Err(failure.clone()),
            (Self::Failed(failure), _) => Err(failure),
            (Self::Completed(output), _) => Ok(output),
            (Self::Foreign(status), _) => Err(Failure::permanent(
                kind::INSTANCE_EXISTS,
                format!(
                    "instance {:?} exists already and is {status}",
                    awaited.child
                ),
            )),
        })
    }
}

/// Makes a child report its outcome to a rewound parent that another owner runs, or starts it again.
pub(super) fn await_child(
    rows: &mut impl Rows,
    awaited: &Awaited,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let parent = (awaited.parent.key, awaited.parent.id.as_str());
    let of_task = (awaited.task.execution, awaited.task.task);
    let standing = standing(rows, parent, of_task, &awaited.child)?;
    let settle = standing.settle(awaited);
    carry_out(rows, awaited, &settle, now, effects)
}

fn carry_out(
    rows: &mut impl Rows,
    awaited: &Awaited,
    settle: &Settle,
    now: Timestamp,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let outcome = match settle {
        Settle::Reports(key, place) => return rows.adopt(*key, awaited.parent.key, place),
        Settle::Starts(old, new) => {
            if let Some(old) = old {
                create::forget(rows, *old, effects)?;
            }
            create::insert_pending(rows, new, now, effects)?;
            effects.woken.push(new.key);
            return Ok(());
        }
        Settle::Ended(outcome) => outcome.clone(),
    };
    let message = Message::ChildEnded {
        task: awaited.task,
        attempt: awaited.attempt,
        outcome,
    };
    deliver_if_live(rows, awaited.parent.key, &message, effects)
}

/// Terminates the children that were scheduled after the cut. They do not report their ends, and free their ids for new children.
pub(super) fn drop_children(
    rows: &mut impl Rows,
    commit: &RewindCommit,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    let ids = commit
        .rewind
        .dropped
        .iter()
        .flat_map(|dropped| match &dropped.kind {
            DroppedKind::Child { instance_ids, .. } => instance_ids.as_slice(),
            DroppedKind::Activity { .. } | DroppedKind::Timer | DroppedKind::Request { .. } => &[],
        });
    for id in ids {
        drop_child(rows, &Sender::new(commit.key, &commit.id), id, effects)?;
    }
    Ok(())
}

/// Terminates a child that was scheduled after the cut of its parent.
pub(super) fn drop_child(
    rows: &mut impl Rows,
    parent: &Sender,
    id: &str,
    effects: &mut Effects,
) -> Result<(), StoreError> {
    if let Some(partition) = rows.elsewhere(id) {
        let (parent, child) = (parent.clone(), id.to_owned());
        return rows.send(partition, OutboxMessage::DropChild { parent, child });
    }
    let Some((key, status)) = rows.find(id)? else {
        return Ok(());
    };
    let head = rows.head(key)?;
    if head.and_then(|head| head.parent_key) != Some(parent.key) {
        return Ok(());
    }
    rows.orphan(key)?;
    if status.is_end() {
        return Ok(());
    }
    let message = Message::Terminate {
        reason: Some(format!(
            "{:?} was rewound to before it called this",
            parent.id
        )),
        recursive: true,
    };
    deliver(rows, key, &message, effects)
}

/// What was asked for again, and fails at once as before.
pub(super) fn again(
    task: TaskId,
    kind: FailedKind,
    name: String,
    failure: &Failure,
) -> RemainingFailure {
    RemainingFailure {
        task,
        kind,
        name,
        failure: failure.kind.clone(),
        message: failure.message.clone(),
        why: "it was asked for again, and fails at once for the same reason".to_owned(),
    }
}
