//! Prepares a rewind: reads the history, cuts it, and decides about each task. The store applies it if the instance did not change
//! meanwhile.

use std::time::Instant;

use perennial_core::{
    Callee, ChildTask, Command, Cut, CutFinder, Digest, DroppedKind, Failure, Message, Names,
    Parent, Resolved, Rewind, Rewinder, Scope, Start, Status, Target, TaskRef, Turn,
};

use crate::engine::requests::owner::{Owner, TRIES_MAX, answer, look_up};
use crate::engine::requests::refused::{self, refused};
use crate::engine::requests::request::{Preparation, Request, RewindRequest, has_room};
use crate::engine::requests::routing::{FOLLOW_MAX, SEND_ON_AFTER};
use crate::engine::turn::load::find_start;
use crate::engine::turn::turn_commit::{ChildStart, child_start, module_of};
use crate::store::{
    Change, InstanceRow, NewInstance, Reader, Reply, RewindCommit, Run, StoreError,
};

/// The scope of a rewind, whether it may forget completed work, and the run that it is meant for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    pub(crate) scope: Scope,
    /// Allows to forget work that completed after the failure.
    pub(crate) forget_completed: bool,
    pub(crate) run: Option<Run>,
}

impl How {
    pub(crate) fn all_failures(all: bool) -> Self {
        Self {
            scope: if all {
                Scope::AllFailures
            } else {
                Scope::Together
            },
            forget_completed: false,
            run: None,
        }
    }

    pub(crate) fn of_run(self, run: Option<Run>) -> Self {
        Self { run, ..self }
    }

    /// The request for such a rewind of any run.
    fn request(self, rewind: RewindRequest) -> Request {
        let all_failures = self.scope == Scope::AllFailures;
        match (self.forget_completed, all_failures) {
            (true, _) => Request::RewindForgetting {
                rewind,
                all_failures,
            },
            (false, true) => Request::RewindAll(rewind),
            (false, false) => Request::Rewind(rewind),
        }
    }
}

/// Maximum number of forgotten tasks named in a message.
const NAMED_MAX: usize = 5;

/// Turns read per page.
const TURNS_PAGE: u32 = 512;

/// Messages read per page.
const INBOX_PAGE: u32 = 1_000;

/// Puts an instance back to before its failure, its failed children first, if there is room for another live instance.
pub(crate) fn rewind(
    owner: &impl Owner,
    request: &RewindRequest,
    how: How,
    token: Option<String>,
) -> Result<Reply, StoreError> {
    match look_up(owner, &request.id, Command::Rewind, how.run)? {
        Ok(row) => match owner.prepared(|with| has_room(row.module, with))? {
            Ok(()) => match forgets(owner, &row, request.module.is_some(), how)? {
                Some(refused) => answer(owner, refused, token),
                None => put_back(owner, request, how, token),
            },
            Err(full) => answer(owner, full, token),
        },
        Err(reply) => answer(owner, reply, token),
    }
}

/// Rewinds an instance for which there is room. Its children may exceed a quota, because rewinding only some of them would be worse.
fn put_back(
    owner: &impl Owner,
    request: &RewindRequest,
    how: How,
    token: Option<String>,
) -> Result<Reply, StoreError> {
    // `own`: rewound children. `below`: rewound descendants, deepest first, and the events that they dropped.
    let (mut own, mut below) = (Vec::new(), (Vec::new(), Vec::new()));
    for _ in 0..TRIES_MAX {
        let row = match look_up(owner, &request.id, Command::Rewind, how.run)? {
            Ok(row) => row,
            Err(Reply::Rejected(rejection)) => {
                return answer(owner, Reply::rejected_after(rejection, below), token);
            }
            Err(reply) => return answer(owner, reply, token),
        };
        let module = match &request.module {
            Some(module) => match module_for(owner.reader(), module, &row.name)? {
                Ok(digest) => Some(digest),
                Err(reply) => return answer(owner, reply, token),
            },
            None => None,
        };
        let write = |commit| owner.write(Change::Rewind(Box::new(commit)), token.clone());
        match work_out(
            owner,
            row,
            (request, how),
            module,
            (own.clone(), below.clone()),
        )
        .and_then(write)
        {
            Ok(Reply::RewindFirst(children)) => {
                for id in children {
                    let child = RewindRequest {
                        id: id.clone(),
                        reason: request.reason.clone(),
                        module: None,
                    };
                    match rewind_child(owner, child, how.of_run(None))? {
                        Reply::Rewound(done) => {
                            below.0.extend(done.rewound);
                            below.1.extend(done.dropped_events);
                            below.0.push(id.clone());
                        }
                        // It is no longer failed, and needs no rewind. The next iteration reads its status again.
                        Reply::Rejected(_) => {}
                        // What it says is about the child.
                        refused => return answer(owner, refused, token),
                    }
                    own.push(id);
                }
            }
            Ok(Reply::Rewound(done)) => {
                let (instance, reason) = (&request.id, &request.reason);
                tracing::info!(instance, reason, events = done.cut_events, "rewound");
                return Ok(Reply::Rewound(done));
            }
            Err(StoreError::Conflict) => {}
            done => return done,
        }
    }
    let message = format!(
        "instance {:?} was rewound by others at the same time; look at it and try again",
        request.id
    );
    answer(owner, refused(refused::INVALID, message), token)
}

/// Rewinds a failed child, wherever it is run, also if its partition moves meanwhile.
fn rewind_child(owner: &impl Owner, child: RewindRequest, how: How) -> Result<Reply, StoreError> {
    let until = Instant::now() + FOLLOW_MAX;
    loop {
        let done = match owner.elsewhere(&child.id) {
            Some(partition) => owner.pass_on(partition, how.request(child.clone())),
            None => put_back(owner, &child, how, None),
        };
        match done {
            Err(StoreError::Elsewhere(_)) if Instant::now() < until => {
                std::thread::sleep(SEND_ON_AFTER);
            }
            // This says nothing about the instance that is rewound.
            Err(StoreError::Elsewhere(_)) => {
                return Err(StoreError::NotTaken {
                    owner: "another host of the task hub".to_owned(),
                    why: format!("no host runs the child {:?}", child.id),
                });
            }
            done => return done,
        }
    }
}

/// Refuses a rewind that would forget work that completed after the failure of the instance, or of a child to be rewound with it (such as
/// the compensations of a saga). Runs before any change. Uses an explicit stack, because the tree of children may be deep.
fn forgets(
    owner: &impl Owner,
    row: &InstanceRow,
    other_code: bool,
    how: How,
) -> Result<Option<Reply>, StoreError> {
    if how.forget_completed {
        return Ok(None);
    }
    let reader = owner.reader();
    let now = owner.prepared(|with| with.now)?;
    let mut failed = vec![(row.clone(), other_code)];
    while let Some((row, other_code)) = failed.pop() {
        let rewind = match cut_off(reader, &row, (how, other_code), now) {
            Ok((_, rewind)) => rewind,
            // The instance changed; the rewind itself will read it again.
            Err(StoreError::Conflict) => continue,
            Err(error) => return Err(error),
        };
        if let Some(refused) = would_forget(&row.id, &rewind) {
            return Ok(Some(refused));
        }
        for (task, child) in &rewind.children {
            let Some(kid) = reader.instance(&child.attempt_instance_id(child.attempt))? else {
                continue;
            };
            let is_own = kid.parent_key == Some(row.key)
                && kid.parent.as_ref().is_some_and(|of| of.task.task == *task);
            if is_own && kid.status == Status::Failed {
                failed.push((kid, false));
            }
        }
    }
    Ok(None)
}

fn would_forget(id: &str, rewind: &Rewind) -> Option<Reply> {
    let done = rewind.dropped.iter().filter(|task| task.is_work_done());
    let count = done.clone().count();
    if count == 0 {
        return None;
    }
    let mut named: Vec<String> = done
        .take(NAMED_MAX)
        .map(|task| match &task.kind {
            DroppedKind::Child { name, .. } => format!("child {name:?} (task {})", task.task.0),
            DroppedKind::Activity { name } => format!("activity {name:?} (task {})", task.task.0),
            DroppedKind::Timer => format!("a timer (task {})", task.task.0),
            DroppedKind::Request { name } => format!("request {name:?} (task {})", task.task.0),
        })
        .collect();
    if count > NAMED_MAX {
        named.push(format!("{} more", count - NAMED_MAX));
    }
    Some(refused(
        refused::FORGETS,
        format!(
            "instance {id:?} was not rewound: what completed after the failure that it would go back to, {}, would be forgotten, though what \
             it did in the world, such as to undo an earlier step, is not undone. `perennial restart` runs all of it again from its beginning; \
             `perennial rewind --forget-completed` rewinds it all the same (`\"forgetCompleted\": true` in the body of `POST \
             /api/v1/instances/ID/rewind`)",
            named.join(", ")
        ),
    ))
}

/// The external event that caused a failure, if the failure's details name one.
fn blamed(failure: &Failure) -> Option<u32> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Details {
        external_event: Blamed,
    }
    #[derive(serde::Deserialize)]
    struct Blamed {
        number: u32,
    }
    let details = failure.details.as_ref()?;
    let details: Details = serde_json::from_str(details.as_str()).ok()?;
    Some(details.external_event.number)
}

/// Resolves the module on which an instance continues.
pub(crate) fn module_for(
    reader: &Reader,
    module: &str,
    orchestration: &str,
) -> Result<Result<Digest, Reply>, StoreError> {
    let invalid = |message| Ok(Err(refused(refused::INVALID, message)));
    match reader.find_module(module)?[..] {
        [] => invalid(format!(
            "there is no module {module:?} in this task hub: give its name or its digest"
        )),
        [digest] if reader.defines(digest, orchestration)? => Ok(Ok(digest)),
        [_] => invalid(format!(
            "module {module:?} defines no orchestration {orchestration:?}"
        )),
        [..] => invalid(format!(
            "several modules have a digest that begins with {module:?}: give more of it"
        )),
    }
}

/// Rewound descendants, deepest first, and the events that they dropped.
type Below = (Vec<String>, Vec<(String, perennial_core::DroppedEvent)>);

fn work_out(
    owner: &impl Owner,
    row: InstanceRow,
    (request, how): (&RewindRequest, How),
    module: Option<Digest>,
    (rewound, below): (Vec<String>, Below),
) -> Result<RewindCommit, StoreError> {
    let reader = owner.reader();
    let now = owner.prepared(|with| with.now)?;
    let (cut, mut rewind) = cut_off(reader, &row, (how, module.is_some()), now)?;
    let start = match find_start(reader, &row)? {
        Some(start) => Start {
            module: module.or(row.module),
            ..start
        },
        None => return Err(StoreError::Corrupt("its history has no start".to_owned())),
    };
    for message in &mut rewind.inbox {
        if let Message::Start(again) = message {
            again.module = start.module;
        }
    }
    let (targets, starts) = owner.prepared(|with| {
        let activities = rewind.activities.iter();
        let targets = activities.map(|armed| newest(with, &start, &armed.name, &armed.target));
        let children = rewind.children.iter();
        let starts = children.map(|(task, child)| {
            let task = TaskRef {
                execution: row.execution,
                generation: rewind.state.generation,
                task: *task,
            };
            started_again(with, &row, &start, task, child)
        });
        (targets.collect(), starts.collect())
    })?;
    Ok(RewindCommit {
        key: row.key,
        expected: row.position(),
        reason: request.reason.clone(),
        module,
        rewind,
        targets,
        starts,
        rewound,
        below,
        remaining: cut.remaining,
        more_remaining: cut.more_remaining,
        id: row.id,
    })
}

/// Reads the history twice: to find the cut, and to cut.
fn cut_off(
    reader: &Reader,
    row: &InstanceRow,
    (how, other_code): (How, bool),
    now: perennial_core::Timestamp,
) -> Result<(Cut, Rewind), StoreError> {
    let corrupt = |why: perennial_core::Corrupt| StoreError::Corrupt(why.to_string());
    let mut finder = CutFinder::blaming(row.failure.as_ref().and_then(blamed));
    each_turn(reader, row, |turn| {
        finder.see(turn);
        Ok(())
    })?;
    // If there is no failure, the instance changed between the two reads.
    let mut cut = finder.cut(how.scope).ok_or(StoreError::Conflict)?;
    if other_code {
        // A new module may accept an event that the old one could not read.
        cut.event = None;
    }
    let mut rewinder = Rewinder::new(&cut, row.generation + 1);
    each_turn(reader, row, |turn| rewinder.see(turn).map_err(corrupt))?;
    let mut unread = Vec::new();
    let mut from = 0;
    loop {
        let page = reader.inbox(row.key, from, INBOX_PAGE)?;
        from = page
            .envelopes
            .last()
            .and_then(|e| e.seq)
            .map_or(from, |seq| seq + 1);
        unread.extend(page.envelopes.into_iter().map(|envelope| envelope.message));
        if !page.more {
            break;
        }
    }
    let rewind = rewinder.finish(unread, now).map_err(corrupt)?;
    Ok((cut, rewind))
}

fn each_turn(
    reader: &Reader,
    row: &InstanceRow,
    mut see: impl FnMut(&Turn) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut from = 0;
    loop {
        let turns = reader.turns(row.key, row.execution, from, TURNS_PAGE)?;
        turns.iter().try_for_each(&mut see)?;
        if turns.len() < TURNS_PAGE as usize {
            return Ok(());
        }
        from += TURNS_PAGE;
    }
}

/// The newest target for an activity that is scheduled again, if it differs from the recorded one.
fn newest(with: &Preparation<'_>, start: &Start, name: &str, recorded: &Target) -> Option<Target> {
    let newest = match recorded {
        // The call itself is invalid, whichever module would run it.
        Target::Oversized { .. } | Target::Invalid(_) => return None,
        Target::Module(_) | Target::Native | Target::Remote | Target::Unknown | Target::Full(_) => {
            match with.names.newest_activity(start.module, name) {
                Resolved::Module(digest, _) => Target::Module(digest),
                Resolved::Native => Target::Native,
                Resolved::Remote => Target::Remote,
                Resolved::Unknown => return None,
            }
        }
    };
    (newest != *recorded).then_some(newest)
}

/// Builds a new instance for a child that no longer exists, or returns why it cannot start.
fn started_again(
    with: &Preparation<'_>,
    row: &InstanceRow,
    start: &Start,
    task: TaskRef,
    child: &ChildTask,
) -> Result<NewInstance, Failure> {
    let target = match &child.target {
        wrong @ (Target::Oversized { .. } | Target::Invalid(_)) => wrong.clone(),
        recorded @ (Target::Module(_)
        | Target::Native
        | Target::Remote
        | Target::Unknown
        | Target::Full(_)) => {
            match with
                .names
                .orchestration(start.module, &child.name, child.version.as_deref())
            {
                Resolved::Module(digest, _) => Target::Module(digest),
                Resolved::Native => Target::Native,
                Resolved::Remote => Target::Remote,
                Resolved::Unknown => recorded.clone(),
            }
        }
    };
    if let Some(failure) = target.failure(Callee::Orchestration, &child.name) {
        return Err(failure.meant(&child.name, with.names.orchestration_names()));
    }
    let id = child.attempt_instance_id(child.attempt);
    let parent = Parent {
        instance_id: row.id.clone(),
        name: row.name.clone(),
        task,
        attempt: child.attempt,
    };
    let new = ChildStart {
        id: &id,
        name: &child.name,
        version: &child.version,
        input: child.input.clone(),
        tags: &child.tags,
        target: &target,
        parent: Some((row.key, parent)),
        options: child.options,
    };
    let made = child_start(
        new,
        (start, row.generation + 1),
        with.now,
        (with.next_key)(&id),
        (with.fresh)(),
        with.names.limits_of(module_of(&target)),
    );
    made.ok_or_else(|| {
        let message = format!(
            "orchestration {:?} is nothing that can be a child",
            child.name
        );
        Failure::permanent(perennial_core::kind::UNKNOWN_ORCHESTRATION, message)
    })
}
