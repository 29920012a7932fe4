//! Loads what is not in memory: executions by replay, activities from their rows.

use std::sync::Arc;

use perennial_core::{Digest, Event, Start, TraceContext};

use crate::engine::Engine;
use crate::engine::executor::ResidentGuest;
use crate::engine::memory::slots::Resident;
use crate::engine::tasks::ready::{Caller, Ready};
use crate::engine::turn::replay::{LoadError, MakeGuest, replay, started};
use crate::foreign::guarded;
use crate::store::{InstanceKey, InstanceRow, Reader, StoreError, TaskRow, TaskRowKind};

/// Brings an execution back: the fold of its turns and, if `with_guest`, a guest that has repeated them.
pub(crate) fn load(
    engine: &Engine,
    row: InstanceRow,
    with_guest: bool,
) -> Result<Resident, LoadError> {
    let mut bring = |start: &Start| instantiate(engine, start, row.module);
    let bring: Option<&mut MakeGuest<'_>> = with_guest.then_some(&mut bring);
    let replayed = replay(&engine.hub.reader, &row, bring, &mut |_| {
        if with_guest {
            engine.counts.replayed_turns.add(1);
        }
    });
    let (mut state, guest) = replayed?;
    if state.awaits_start() {
        // What the execution before showed stays while this one has not begun.
        state.custom_status.clone_from(&row.custom_status);
    }
    if guest.is_some() {
        engine.counts.replays.add(1);
    }
    Ok(Resident { state, guest, row })
}

/// A fresh guest for an execution that begins, or is repeated. What it is pinned to now counts, not what it began with.
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

/// How an execution began: the event is in its first turn, or in one of the next where it was suspended before it began.
pub(crate) fn find_start(reader: &Reader, row: &InstanceRow) -> Result<Option<Start>, StoreError> {
    let mut from = 0;
    loop {
        let turns = reader.turns(row.key, row.execution, from, 4)?;
        if let Some(start) = turns
            .iter()
            .flat_map(|turn| &turn.received)
            .find_map(started)
        {
            // It may have left the module that it began with.
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

/// An instance, and what its activities are told of it.
type Called = (InstanceRow, Arc<Caller>);

/// Makes the rows of activities ready to run. Rows of one instance stand together.
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
        let mut scheduled = events.filter(|event| matches!(event, Event::ActivityScheduled { task: id, .. } if *id == task.task.task));
        if let Some(event) = scheduled.next() {
            found.extend(from_event(&task, event, caller));
        }
    }
    Ok(found)
}

fn from_event(row: &TaskRow, event: &Event, caller: &Arc<Caller>) -> Option<Ready> {
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
        failure: row.failure.clone(),
        earlier: row.attempts.clone(),
        scheduled_in: row.scheduled_in,
        name: name.clone(),
        input: input.clone(),
        retry: retry.clone(),
        timeout: *attempt_timeout,
        target: row.target.clone().unwrap_or_else(|| target.clone()),
        caller: Arc::clone(caller),
    })
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

/// Who calls the activities of an execution, in this generation of it.
pub(crate) fn caller(start: &Start, generation: u32) -> Caller {
    Caller {
        instance_id: start.instance_id.clone(),
        execution_id: start.execution_id.clone(),
        orchestration: start.name.clone(),
        trace: TraceContext::of_execution(start, generation).0,
        limits: start.limits,
        seed: start.seed,
        module: start.module,
    }
}
