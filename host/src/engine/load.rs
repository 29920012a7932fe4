//! Bringing back from the hub what is not in memory: executions by replay, activities by their calls.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use perennial_core::{Event, ReplayError, Start, State, Target, replay_turn};

use crate::engine::Engine;
use crate::engine::activities::{Caller, Ready};
use crate::engine::executor::ResidentGuest;
use crate::engine::slots::Resident;
use crate::store::{InstanceKey, InstanceRow, Reader, StoreError, TaskRow, TaskRowKind};

/// Turns read at once while replaying.
const PAGE: u32 = 512;

/// Why an execution could not be brought back.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// The hub could not be read; trying again may help.
    Store(StoreError),
    /// The instance cannot go on before somebody does something, and why.
    Quarantine(String),
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(why) => Self::Quarantine(why),
            other => Self::Store(other),
        }
    }
}

/// Brings an execution back: the fold of its turns and, if `with_guest`, a guest that has repeated them.
pub(crate) fn load(
    engine: &Engine,
    row: InstanceRow,
    with_guest: bool,
) -> Result<Resident, LoadError> {
    let mut state = State::new(row.generation);
    let mut guest: Option<Box<dyn ResidentGuest>> = None;
    while state.turns < row.turns {
        let turns = engine
            .reader
            .turns(row.key, row.execution, state.turns, PAGE)?;
        if turns.is_empty() {
            return Err(LoadError::Quarantine(format!(
                "turn {} of {} is missing",
                state.turns, row.turns
            )));
        }
        for turn in &turns {
            if turn.number != state.turns {
                return Err(LoadError::Quarantine(format!(
                    "turn {} is missing",
                    state.turns
                )));
            }
            if with_guest && guest.is_none() && turn.answer.is_some() {
                let start = turn.received.iter().find_map(started);
                let start = start.ok_or_else(|| {
                    LoadError::Quarantine("the first turn has no start".to_owned())
                })?;
                guest = Some(instantiate(engine, start)?);
            }
            guarded(|| match &mut guest {
                Some(guest) => replay_turn(&mut state, turn, guest.as_mut()),
                None => fold(&mut state, turn),
            })
            .and_then(|replayed| replayed.map_err(|error| error.to_string()))
            .map_err(LoadError::Quarantine)?;
        }
        if with_guest {
            engine.counts.replayed_turns.add(turns.len() as u64);
        }
    }
    if state.next_event != row.next_event {
        let why = format!(
            "the history has {} events where the instance has {}",
            state.next_event, row.next_event
        );
        return Err(LoadError::Quarantine(why));
    }
    if guest.is_some() {
        engine.counts.replays.add(1);
    }
    Ok(Resident { state, guest, row })
}

fn fold(state: &mut State, turn: &perennial_core::Turn) -> Result<(), ReplayError> {
    for event in turn.events() {
        state.apply(event)?;
    }
    state.turns += 1;
    Ok(())
}

/// Runs code of a guest and of the core. A panic is a bug of the host: it stops the one instance, and no thread that others need.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        format!(
            "the host panicked: {}",
            text.as_deref().unwrap_or("without saying why")
        )
    })
}

/// A fresh guest for an execution that begins, or is repeated.
pub(crate) fn instantiate(
    engine: &Engine,
    start: &Start,
) -> Result<Box<dyn ResidentGuest>, LoadError> {
    let Some(module) = start.module else {
        return Err(LoadError::Quarantine(
            "it is pinned to no module, and this host runs only modules".to_owned(),
        ));
    };
    engine.counts.instantiations.add(1);
    let made = engine
        .executor
        .instantiate(module, &start.limits, &start.instance_id);
    made.map_err(LoadError::Quarantine)
}

fn started(event: &Event) -> Option<&Start> {
    match event {
        Event::ExecutionStarted(start) => Some(start),
        _ => None,
    }
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
            return Ok(Some(start.clone()));
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
            instance = Some((task.key, caller_of(&engine.reader, task.key)?));
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
            let turns = engine.reader.turns(task.key, row.execution, task.turn, 1)?;
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
        name: name.clone(),
        input: input.clone(),
        retry: retry.clone(),
        timeout: *attempt_timeout,
        target: Target::clone(target),
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
    Ok(find_start(reader, &row)?.map(|start| (row, Arc::new(caller(&start)))))
}

/// Who calls the activities of an execution.
pub(crate) fn caller(start: &Start) -> Caller {
    Caller {
        instance_id: start.instance_id.clone(),
        execution_id: start.execution_id.clone(),
        orchestration: start.name.clone(),
        trace_parent: start.trace_parent.clone(),
        limits: start.limits,
        seed: start.seed,
    }
}
