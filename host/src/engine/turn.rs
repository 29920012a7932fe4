//! What goes down with a turn: the rows of the instances that it starts, the messages that move on, the status that follows.

use perennial_core::{
    Envelope, Event, Message, Parent, Reuse, Start, State, Status, Target, TaskKind, TaskRef, Turn,
};

use crate::engine::Engine;
use crate::engine::slots::{Body, Resident};
use crate::engine::worker::status_of;
use crate::store::{
    InstanceKey, InstanceRow, NewInstance, Position, StoreError, TurnCommit, summary,
};

/// Everything that goes down with a turn.
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
    let carried = match turn.produced.last() {
        Some(Event::ContinuedAsNew { carry_over, .. }) if !carry_over.is_empty() => {
            carried(engine, resident, &turn, carry_over)?
        }
        _ => Vec::new(),
    };
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
        parent: resident.row.parent_key.zip(resident.row.parent.clone()),
        running,
        turn,
    })
}

/// External events that move over to the next execution, from the hub's own rows and from the turn that is not in it yet.
fn carried(
    engine: &Engine,
    resident: &Resident,
    turn: &Turn,
    numbers: &[u32],
) -> Result<Vec<Message>, StoreError> {
    let mut found = std::collections::BTreeMap::new();
    let mut take = |event: &Event| {
        if let Event::ExternalEventRaised { number, name, data } = event
            && numbers.contains(number)
        {
            let message = Message::ExternalEvent {
                number: Some(*number),
                name: name.clone(),
                data: data.clone(),
            };
            found.insert(*number, message);
        }
    };
    let mut from = 0;
    loop {
        let turns = engine
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

/// The instances that a turn starts, in the order of its events: those of `produced`, then those of `received`, as the store takes them.
fn starts(engine: &Engine, state: &State, row: &InstanceRow, turn: &Turn) -> Vec<NewInstance> {
    let mut starts = Vec::new();
    let limits = state
        .start
        .as_ref()
        .map_or_else(Default::default, |start| start.limits);
    let trace_parent = state
        .start
        .as_ref()
        .and_then(|start| start.trace_parent.clone());
    let mut start = |id: &str,
                     name: &str,
                     version: &Option<String>,
                     input,
                     tags: &perennial_core::Tags,
                     target: &Target,
                     parent| {
        let Target::Module(module) = target else {
            return;
        };
        let is_child = Option::is_some(&parent);
        let (execution_id, seed) = engine.fresh_execution();
        let start = Start {
            instance_id: id.to_owned(),
            execution_id,
            execution: 0,
            name: name.to_owned(),
            version: version.clone(),
            input,
            parent,
            tags: tags.clone(),
            trace_parent: trace_parent.clone(),
            seed,
            module: Some(*module),
            limits,
            next_external: 0,
            semantics: perennial_core::SEMANTICS_VERSION,
            accepted_at: turn.at,
            scheduled_for: None,
        };
        starts.push(NewInstance {
            key: engine.next_key(),
            parent: is_child.then_some(row.key),
            start: Box::new(start),
            reuse: Reuse::Never,
        });
    };
    let parent = |task, attempt| {
        let task = TaskRef {
            execution: row.execution,
            generation: row.generation,
            task,
        };
        Some(Parent {
            instance_id: row.id.clone(),
            name: row.name.clone(),
            task,
            attempt,
        })
    };
    for event in &turn.produced {
        match event {
            Event::ChildScheduled {
                task,
                name,
                version,
                instance_id,
                input,
                tags,
                target,
                ..
            } => {
                start(
                    instance_id,
                    name,
                    version,
                    input.clone(),
                    tags,
                    target,
                    parent(*task, 1),
                );
            }
            Event::InstanceStarted {
                name,
                version,
                instance_id,
                input,
                tags,
                target,
            } => {
                start(
                    instance_id,
                    name,
                    version,
                    input.clone(),
                    tags,
                    target,
                    None,
                );
            }
            _ => {}
        }
    }
    for event in &turn.received {
        if let Event::ChildRetried {
            task,
            attempt,
            instance_id,
        } = event
            && let Some(TaskKind::Child(child)) = state.tasks.get(task).map(|task| &task.kind)
        {
            start(
                instance_id,
                &child.name,
                &child.version,
                child.input.clone(),
                &child.tags,
                &child.target,
                parent(*task, *attempt),
            );
        }
    }
    starts
}

/// The turn that ends an instance from outside.
pub(crate) fn termination(
    engine: &Engine,
    key: InstanceKey,
    body: &mut Body,
    row: InstanceRow,
    envelope: Envelope,
) -> TurnCommit {
    let Message::Terminate { reason } = &envelope.message else {
        unreachable!("it was found as a termination")
    };
    let mut state = State::new(row.generation);
    state.phase = perennial_core::Phase::Terminated {
        reason: reason.clone(),
    };
    state.history_bytes = row.history_bytes;
    state.custom_status = row.custom_status.clone();
    let commit = TurnCommit {
        key,
        id: row.id.clone(),
        expected: row.position(),
        status_before: row.status,
        create: None,
        turn: Turn {
            number: row.turns,
            first_event: row.next_event,
            at: engine.clock.now(),
            received: vec![Event::ExecutionTerminated {
                reason: reason.clone(),
            }],
            produced: Vec::new(),
            answer: None,
            next: None,
        },
        consumed: Vec::new(),
        after: summary(&state),
        starts: Vec::new(),
        carried: Vec::new(),
        parent: row.parent_key.zip(row.parent.clone()),
        running: Vec::new(),
    };
    body.resident = Some(Resident {
        state,
        guest: None,
        row,
    });
    body.batch = vec![envelope];
    commit
}

/// The status row of an instance that is not in the hub yet.
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
        parent: start.parent.clone(),
        parent_key: new.parent,
        tags: start.tags.clone(),
        custom_status: None,
        output: None,
        failure: None,
        waiting: perennial_core::Waiting::default(),
        quarantine: None,
    }
}
