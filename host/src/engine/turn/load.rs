//! Loads executions by replay, and activities from their rows.

use std::sync::Arc;

use perennial_core::{CallDetails, CallOptions, Digest, Event, Start, TaskId, TraceContext};

use crate::engine::Engine;
use crate::engine::executor::ResidentGuest;
use crate::engine::memory::slots::Resident;
use crate::engine::tasks::ready::{Caller, Ready};
use crate::engine::turn::replay::{LoadError, MakeGuest, replay, started};
use crate::foreign::guarded;
use crate::store::{InstanceKey, InstanceRow, Reader, StoreError, TaskRow, TaskRowKind};

/// Loads an execution by replaying its turns; with `with_guest` on a guest, otherwise only into the state.
pub(crate) fn load(
    engine: &Engine,
    row: InstanceRow,
    with_guest: bool,
) -> Result<Resident, LoadError> {
    let mut bring = |start: &Start| instantiate(engine, start, row.module);
    let bring: Option<&mut MakeGuest<'_>> = with_guest.then_some(&mut bring);
    let mut past = Vec::new();
    let keeps_past = row.module.is_none();
    let replayed = replay(&engine.hub.reader, &row, bring, &mut |turn| {
        if keeps_past {
            past.push(turn.clone());
        }
        if with_guest {
            engine.counts.replayed_turns.add(1);
        }
    });
    let (mut state, guest) = replayed?;
    if state.awaits_start() {
        // The custom status of the previous execution is shown until this one begins.
        state.custom_status.clone_from(&row.custom_status);
    }
    if guest.is_some() {
        engine.counts.replays.add(1);
    }
    Ok(Resident {
        state,
        guest,
        past: keeps_past.then(|| Arc::new(past)),
        row,
    })
}

/// Creates a guest for an execution. Uses the current module of the instance, which may differ from the one in the start event.
pub(crate) fn instantiate(
    engine: &Engine,
    start: &Start,
    pinned: Option<Digest>,
) -> Result<Box<dyn ResidentGuest>, LoadError> {
    let Some(module) = pinned.or(start.module) else {
        return Err(LoadError::because(
            "it is pinned to no module, and this host runs only modules",
        ));
    };
    engine.counts.instantiations.add(1);
    let (limits, id) = (&start.limits, &start.instance_id);
    let make = || {
        engine
            .code
            .executor
            .instantiate(module, limits, id, start.clock())
    };
    Ok(guarded(make).map_err(LoadError::Panicked)??)
}

/// Finds the start event: usually in the first turn, but later if the instance was suspended before it began.
pub(crate) fn find_start(reader: &Reader, row: &InstanceRow) -> Result<Option<Start>, StoreError> {
    let mut from = 0;
    loop {
        let turns = reader.turns(row.key, row.execution, from, 4)?;
        if let Some(start) = turns
            .iter()
            .flat_map(|turn| &turn.received)
            .find_map(started)
        {
            // The instance may have been moved to another module since.
            let module = row.module.or(start.module);
            return Ok(Some(Start {
                module,
                ..start.clone()
            }));
        }
        from += 4;
        if turns.len() < 4 {
            return Ok(None);
        }
    }
}

/// The row of an instance, and the caller data for its activities.
type Called = (InstanceRow, Arc<Caller>);

/// Converts rows of activities into queue entries. Rows of one instance must be adjacent.
pub(crate) fn ready(engine: &Engine, rows: Vec<TaskRow>) -> Result<Vec<Ready>, StoreError> {
    let mut found = Vec::with_capacity(rows.len());
    let mut instance: Option<(InstanceKey, Option<Called>)> = None;
    let mut calls: Option<(InstanceKey, u32, Vec<Event>)> = None;
    for task in rows
        .into_iter()
        .filter(|row| row.kind == TaskRowKind::Activity)
    {
        if instance.as_ref().is_none_or(|(key, _)| *key != task.key) {
            instance = Some((task.key, caller_of(&engine.hub.reader, task.key)?));
        }
        let Some((_, Some((row, caller)))) = &instance else {
            continue;
        };
        if row.execution != task.task.execution {
            continue;
        }
        if calls
            .as_ref()
            .is_none_or(|(key, turn, _)| (*key, *turn) != (task.key, task.turn))
        {
            let turns = engine
                .hub
                .reader
                .turns(task.key, row.execution, task.turn, 1)?;
            calls = Some((
                task.key,
                task.turn,
                turns.into_iter().flat_map(|turn| turn.produced).collect(),
            ));
        }
        let events = calls.iter().flat_map(|(_, _, events)| events);
        let mut scheduled = events.skip_while(|event| !matches!(event, Event::ActivityScheduled { task: id, .. } if *id == task.task.task));
        if let Some(event) = scheduled.next() {
            found.extend(from_event(&task, event, scheduled.next(), caller));
        }
    }
    Ok(found)
}

fn from_event(
    row: &TaskRow,
    event: &Event,
    next: Option<&Event>,
    caller: &Arc<Caller>,
) -> Option<Ready> {
    let Event::ActivityScheduled {
        name,
        input,
        retry,
        attempt_timeout,
        target,
        ..
    } = event
    else {
        return None;
    };
    Some(Ready {
        key: row.key,
        task: row.task,
        attempt: row.attempt,
        first_started: row.first_started,
        deliveries: row.deliveries,
        cut: row.cut,
        begun_at: row.begun_at,
        heartbeat: row.heartbeat.as_ref().and_then(|beat| beat.details.clone()),
        failure: row.failure.clone(),
        earlier: row.attempts.clone(),
        scheduled_in: row.scheduled_in,
        name: name.clone(),
        input: input.clone(),
        retry: retry.clone(),
        timeout: *attempt_timeout,
        options: options_of(row.task.task, next),
        target: row.target.clone().unwrap_or_else(|| target.clone()),
        details: details_of(row.task.task, next),
        caller: Arc::clone(caller),
    })
}

/// The details of a call, if the event after it has them.
pub(crate) fn details_of(call: TaskId, next: Option<&Event>) -> Option<CallDetails> {
    match next {
        Some(Event::CallDetails {
            task,
            version,
            tags,
        }) if *task == call => Some(CallDetails {
            task: call,
            version: version.clone(),
            tags: tags.clone(),
        }),
        _ => None,
    }
}

/// The options of a call, if the event after it has them.
pub(crate) fn options_of(call: TaskId, next: Option<&Event>) -> CallOptions {
    match next {
        Some(Event::ActivityOptions {
            task,
            heartbeat_timeout,
            at_most_once,
        }) if *task == call => CallOptions {
            heartbeat_timeout: *heartbeat_timeout,
            at_most_once: *at_most_once,
        },
        _ => CallOptions::default(),
    }
}

fn caller_of(
    reader: &Reader,
    key: InstanceKey,
) -> Result<Option<(InstanceRow, Arc<Caller>)>, StoreError> {
    let Some(row) = reader.instance_by_key(key)? else {
        return Ok(None);
    };
    let start = find_start(reader, &row)?;
    Ok(start.map(|start| {
        let caller = caller(&start, row.generation);
        (row, Arc::new(caller))
    }))
}

/// The caller data of an execution's activities, in this generation.
pub(crate) fn caller(start: &Start, generation: u32) -> Caller {
    Caller {
        instance_id: start.instance_id.clone(),
        execution_id: start.execution_id.clone(),
        orchestration: start.name.clone(),
        trace: TraceContext::of_execution(start, generation).0,
        limits: start.limits,
        seed: start.seed,
        module: start.module,
        version: start.version.clone(),
    }
}
