//! Collects what is committed with a turn: started instances, forwarded messages, the status row.

use perennial_core::{
    Digest, Envelope, Event, IdReuse, InstanceOptions, Json, Limits, Message, Parent, Reuse, Start,
    State, Status, Target, TaskId, TaskRef, Timestamp, TraceContext, Turn,
};

use crate::engine::Engine;
use crate::engine::memory::slots::{Body, Resident};
use crate::engine::remote::items;
use crate::store::{
    InstanceKey, InstanceRow, NewInstance, Position, StoreError, TurnCommit, summary, termination,
};

/// Builds everything that is committed with a turn.
pub(crate) fn turn_commit(
    engine: &Engine,
    key: InstanceKey,
    body: &Body,
    turn: Turn,
    consumed: Vec<u64>,
    expected: Position,
) -> Result<TurnCommit, StoreError> {
    let Some(resident) = &body.resident else {
        return Err(StoreError::Conflict);
    };
    let mut carried = if let Some(Event::ContinuedAsNew { carry_over, .. }) = turn.produced.last()
        && !carry_over.is_empty()
    {
        carried(engine, resident, &turn, carry_over)?
    } else {
        Vec::new()
    };
    if turn.next.is_some() && !resident.state.values.is_empty() {
        let values = resident.state.values.clone().into_iter().collect();
        carried.insert(0, Message::Values { values });
    }
    let returned = |event: &Event| matches!(event, Event::ExecutionReturned { .. });
    let running = if turn.produced.iter().any(returned) {
        engine.activities.running_of(key)
    } else {
        Vec::new()
    };
    let mut after = summary(&resident.state);
    after.status = status_of(&resident.state, &resident.row);
    Ok(TurnCommit {
        key,
        id: resident.row.id.clone(),
        expected,
        status_before: resident.row.status,
        create: body.creating.as_ref().map(|creating| creating.new.clone()),
        consumed,
        after,
        starts: starts(engine, &resident.state, &resident.row, &turn),
        carried,
        is_child: resident.row.parent_key.is_some(),
        binds_children: resident.state.binds_children,
        cascade: cascade(&body.batch),
        retried: retried(&resident.state, &turn),
        running,
        turn,
    })
}

/// The command of a batch, if it also applies to the children. Such a command is alone in its batch.
pub(crate) fn cascade(batch: &[Envelope]) -> Option<Message> {
    let first = batch.first().map(|envelope| &envelope.message);
    first.filter(|message| message.is_recursive()).cloned()
}

/// The modules of children that a retry was scheduled for in this turn.
fn retried(state: &State, turn: &Turn) -> Vec<(TaskId, Digest)> {
    let waits = |event: &Event| {
        let Event::ChildRetryScheduled { task, .. } = event else {
            return None;
        };
        Some((*task, module_of(&state.child(*task)?.target)?))
    };
    turn.received.iter().filter_map(waits).collect()
}

/// External events and requests that continue-as-new carries over: from the hub's rows, and from the turn that is not committed yet.
fn carried(
    engine: &Engine,
    resident: &Resident,
    turn: &Turn,
    numbers: &[u32],
) -> Result<Vec<Message>, StoreError> {
    let mut found = std::collections::BTreeMap::new();
    let mut take = |event: &Event| {
        if let Event::ExternalEventRaised { number, .. } | Event::RequestReceived { number, .. } =
            event
            && numbers.contains(number)
        {
            found.extend(Message::carried_over(event).map(|message| (*number, message)));
        }
    };
    let mut from = 0;
    loop {
        let turns = engine
            .hub
            .reader
            .turns(resident.row.key, resident.row.execution, from, 256)?;
        turns
            .iter()
            .flat_map(|turn| &turn.received)
            .for_each(&mut take);
        from += 256;
        if turns.len() < 256 {
            break;
        }
    }
    turn.received.iter().for_each(&mut take);
    Ok(found.into_values().collect())
}

/// A request of an instance to start another one.
pub(crate) struct ChildStart<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) version: &'a Option<String>,
    pub(crate) input: Option<Json>,
    pub(crate) tags: &'a perennial_core::Tags,
    pub(crate) target: &'a Target,
    /// The parent's row and task, if the new instance is a child.
    pub(crate) parent: Option<(InstanceKey, Parent)>,
    pub(crate) options: InstanceOptions,
}

/// The module of a target, unless it is something else.
pub(crate) fn module_of(target: &Target) -> Option<Digest> {
    let Target::Module(module) = target else {
        return None;
    };
    Some(*module)
}

/// Builds the instance that a caller starts, with what it inherits from the caller. `None` if
/// neither a module nor a worker runs the orchestration.
pub(crate) fn child_start(
    new: ChildStart<'_>,
    (caller, generation): (&Start, u32),
    at: Timestamp,
    key: InstanceKey,
    (execution_id, seed): (String, u64),
    limits: Limits,
) -> Option<NewInstance> {
    let module = match new.target {
        Target::Module(module) => Some(*module),
        Target::Remote => None,
        Target::Native
        | Target::Unknown
        | Target::Oversized { .. }
        | Target::Invalid(_)
        | Target::Full(_) => return None,
    };
    let (parent_key, parent) = new.parent.unzip();
    let (trace, _) = TraceContext::of_execution(caller, generation);
    let start = Start {
        instance_id: new.id.to_owned(),
        execution_id,
        execution: 0,
        name: new.name.to_owned(),
        version: new.version.clone(),
        input: match module {
            Some(_) => items::as_json(new.input),
            None => new.input,
        },
        parent,
        tags: new.tags.clone(),
        trace_parent: Some(trace.to_string()),
        seed,
        module,
        limits,
        next_external: 0,
        semantics: perennial_core::SEMANTICS_VERSION,
        accepted_at: at,
        scheduled_for: None,
    };
    Some(NewInstance {
        key,
        parent: parent_key,
        start: Box::new(start),
        reuse: match new.options.reuse {
            IdReuse::Ended => Reuse::Ended,
            IdReuse::Never => Reuse::Never,
        },
        options: new.options,
    })
}

/// The instances that a turn starts, in the order that the store expects: by events of `produced`, then of `received`.
#[warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]
fn starts(engine: &Engine, state: &State, row: &InstanceRow, turn: &Turn) -> Vec<NewInstance> {
    let Some(caller) = state.start() else {
        return Vec::new();
    };
    let followed = turn.produced.iter().skip(1).map(Some).chain([None]);
    let asked =
        (turn.produced.iter().zip(followed)).filter_map(|(event, next)| asked(event, next, row));
    let retried = turn.received.iter();
    let retried = retried.filter_map(|event| retried_child(event, state, row));
    let starts = asked.chain(retried).filter_map(|new| {
        let limits = engine.names().limits_of(module_of(new.target));
        let key = engine.next_key(new.id);
        child_start(
            new,
            (caller, row.generation),
            turn.at,
            key,
            engine.fresh_execution(),
            limits,
        )
    });
    starts.collect()
}

/// The instance that this event asks to start, if it does.
fn asked<'a>(event: &'a Event, next: Option<&Event>, row: &InstanceRow) -> Option<ChildStart<'a>> {
    let (id, name, version, input, tags, target, parent) = if let Event::ChildScheduled {
        task,
        name,
        version,
        instance_id,
        input,
        tags,
        target,
        ..
    } = event
    {
        let parent = parent_of(row, *task, 1);
        (instance_id, name, version, input, tags, target, parent)
    } else if let Event::InstanceStarted {
        name,
        version,
        instance_id,
        input,
        tags,
        target,
    } = event
    {
        (instance_id, name, version, input, tags, target, None)
    } else {
        return None;
    };
    Some(ChildStart {
        id,
        name,
        version,
        input: input.clone(),
        tags,
        target,
        parent,
        options: match next {
            Some(Event::InstanceOptions { options, .. }) => *options,
            _ => InstanceOptions::default(),
        },
    })
}

/// The child that this event starts again, if it does.
fn retried_child<'a>(
    event: &'a Event,
    state: &'a State,
    row: &InstanceRow,
) -> Option<ChildStart<'a>> {
    let Event::ChildRetried {
        task,
        attempt,
        instance_id,
    } = event
    else {
        return None;
    };
    let child = state.child(*task)?;
    Some(ChildStart {
        id: instance_id,
        name: &child.name,
        version: &child.version,
        input: child.input.clone(),
        tags: &child.tags,
        target: &child.target,
        parent: parent_of(row, *task, *attempt),
        options: child.options,
    })
}

/// The parent data of a child, with the parent's key.
fn parent_of(row: &InstanceRow, task: TaskId, attempt: u32) -> Option<(InstanceKey, Parent)> {
    let task = TaskRef {
        execution: row.execution,
        generation: row.generation,
        task,
    };
    let parent = Parent {
        instance_id: row.id.clone(),
        name: row.name.clone(),
        task,
        attempt,
    };
    Some((row.key, parent))
}

/// The turn that terminates an instance from outside.
pub(crate) fn terminate(
    engine: &Engine,
    body: &mut Body,
    row: InstanceRow,
    envelope: Envelope,
) -> TurnCommit {
    let Message::Terminate { reason, .. } = &envelope.message else {
        unreachable!("it was found as a termination")
    };
    let mut commit = termination(&row, reason.clone(), engine.clock.now());
    commit.cascade = Some(envelope.message.clone()).filter(Message::is_recursive);
    body.resident = Some(Resident {
        state: State::terminated(row.generation, reason.clone()),
        guest: None,
        past: None,
        row,
    });
    body.batch = vec![envelope];
    commit
}

/// The row of an instance that is not in the hub yet.
pub(crate) fn fresh_row(new: &NewInstance) -> InstanceRow {
    let start = &new.start;
    InstanceRow {
        key: new.key,
        id: start.instance_id.clone(),
        name: start.name.clone(),
        version: start.version.clone(),
        module: start.module,
        status: Status::Pending,
        execution: start.execution,
        execution_id: start.execution_id.clone(),
        generation: 0,
        next_event: 0,
        turns: 0,
        history_bytes: 0,
        returned: false,
        created_at: start.accepted_at,
        started_at: None,
        updated_at: start.accepted_at,
        scheduled_for: start.scheduled_for,
        parent: start.parent.clone(),
        parent_key: new.parent,
        tags: start.tags.clone(),
        custom_status: None,
        output: None,
        failure: None,
        waiting: perennial_core::Waiting::default(),
        quarantine: None,
        value_count: 0,
    }
}

/// The status of an instance. If an earlier execution has started, a new one that has not begun yet counts as running, not as pending.
pub(crate) fn status_of(state: &State, row: &InstanceRow) -> Status {
    match summary(state).status {
        Status::Pending if row.started_at.is_some() => Status::Running,
        status => status,
    }
}
