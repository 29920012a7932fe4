//! Replay: repeats recorded turns on a fresh guest, and compares its answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::describe;
use crate::turn_builder::{derived_child_id, options_event};
use crate::{
    Action, ActivityCall, Answer, ChildCall, ChildCommand, ChildPolicy, Corrupt, CorruptReason,
    Ending, Event, Failure, Guest, GuestEvent, InstanceOptions, Json, Mode, State, Stop, Target,
    TaskId, TimerDue, Turn, answer_hash,
};

/// How a guest's answer differs from the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "turn {turn} does not repeat: at event {event} the record has {recorded}, and now the guest asks for {asked}"
)]
pub struct Nondeterminism {
    /// The turn that differs.
    pub turn: u32,
    /// The number of the first event that differs.
    pub event: u64,
    /// The recorded event, in words.
    pub recorded: String,
    /// The action that the guest asks for now, in words.
    pub asked: String,
}

/// Why a turn could not be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The guest gave another answer.
    #[error(transparent)]
    Differs(#[from] Nondeterminism),
    /// The history cannot be what an engine wrote.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The guest came to an end that is not recorded.
    #[error(
        "turn {turn} does not repeat: it was recorded as answered, and now it fails with {failure}"
    )]
    Stopped {
        /// The turn.
        turn: u32,
        /// How it ended.
        failure: Box<Failure>,
    },
    /// The host could not run the guest.
    #[error("the guest could not be run: {0}")]
    Host(String),
}

/// Repeats one recorded turn: feeds the guest exactly what it was given, compares what it answers, and folds the turn into `state`.
///
/// A turn that ended in a verdict is not given to the guest again: the verdict was about that moment, and it is recorded.
///
/// # Errors
/// See [`ReplayError`]; `state` and `guest` are then of no further use.
pub fn replay_turn(
    state: &mut State,
    turn: &Turn,
    guest: &mut dyn Guest,
) -> Result<(), ReplayError> {
    if let Some(why) = misplaced(state, turn) {
        return Err(corrupt(state, why));
    }
    for event in &turn.received {
        state.apply(event)?;
    }
    let mut waiting = None;
    if let Some(recorded) = turn.answer {
        let events: Vec<GuestEvent> = turn.received.iter().filter_map(Event::to_guest).collect();
        let answer = guest
            .advance(&events, Mode::Replay)
            .map_err(|stop| match stop {
                Stop::Verdict(failure) => ReplayError::Stopped {
                    turn: turn.number,
                    failure: Box::new(failure),
                },
                Stop::Host(reason) => ReplayError::Host(reason),
            })?;
        if let Some(difference) = difference(state, turn, &answer, recorded) {
            return Err(difference.into());
        }
        if let Ending::Waiting(said) = answer.ending {
            waiting = Some(said.bounded());
        }
    }
    for event in &turn.produced {
        state.apply(event)?;
    }
    if let Some(waiting) = waiting {
        state.waits(&turn.received, waiting);
    }
    if state.has_returned() && !state.has_open_work() {
        return Err(corrupt(state, CorruptReason::EndMissing));
    }
    state.turns += 1;
    Ok(())
}

fn corrupt(state: &State, why: CorruptReason) -> ReplayError {
    ReplayError::Corrupt(Corrupt {
        number: state.next_event,
        event: "Turn",
        why,
    })
}

/// Why no engine would have written this turn here, if none would.
fn misplaced(state: &State, turn: &Turn) -> Option<CorruptReason> {
    if turn.first_event != state.next_event {
        return Some(CorruptReason::TurnBeginsWith(turn.first_event));
    }
    if turn.number != state.turns {
        let (is, after) = (turn.number, state.turns);
        return Some(CorruptReason::TurnOutOfOrder { is, after });
    }
    if turn.received.is_empty() {
        return Some(CorruptReason::EmptyTurn);
    }
    let asked = matches!(turn.received.first(), Some(Event::TurnStarted { .. }));
    let verdict = matches!(turn.produced[..], [Event::ExecutionFailed { .. }]);
    match (asked, turn.answer) {
        (true, None) if !verdict => Some(CorruptReason::AnswerMissing),
        (false, Some(_)) => Some(CorruptReason::AnswerUnasked),
        (true | false, None) | (true, Some(_)) => None,
    }
}

/// The first event of the turn that the answer does not ask for in the same way.
///
/// The hash says whether the guest repeats itself. The events are compared even where it does: a record that lost one would leave the
/// guest waiting for a task that nobody runs.
fn difference(
    state: &State,
    turn: &Turn,
    answer: &Answer,
    recorded_hash: u64,
) -> Option<Nondeterminism> {
    let differs = |at: usize, recorded: Option<&Event>, asked: String| Nondeterminism {
        turn: turn.number,
        event: turn.first_event + (turn.received.len() + at) as u64,
        recorded: recorded.map_or_else(|| describe::NOTHING.to_owned(), describe::event),
        asked,
    };
    let mut at = 0;
    let mut open = OpenTasks::of(state);
    for action in &answer.actions {
        let recorded = &turn.produced[at..];
        match records(state, &mut open, recorded, action) {
            Some(events) => at += events,
            None => {
                let (place, asked) = asked(state, recorded, action);
                return Some(differs(at + place, recorded.get(place), asked));
            }
        }
    }
    let rest = &turn.produced[at..];
    if !ends(state, rest, &answer.ending) {
        let asked = describe::ending(&answer.ending);
        return Some(differs(at, rest.first(), asked));
    }
    let hash = answer_hash(answer, state.now);
    (hash != recorded_hash).then(|| Nondeterminism {
        recorded: format!("an answer with the hash {recorded_hash:016x}"),
        ..differs(
            at,
            None,
            format!(
                "the same events with the hash {hash:016x}: a version or an instance id is spelled out that was left open, or the other way round"
            ),
        )
    })
}

/// What the guest asks for in place of one of the `recorded` events, and which: the first, or the options that follow it.
fn asked(state: &State, recorded: &[Event], action: &Action) -> (usize, String) {
    let first = recorded.first();
    match action {
        Action::CallActivity(call) if first.is_some_and(|event| records_activity(event, call)) => {
            let options = options_event(action).as_ref().map(describe::event);
            (
                1,
                options.unwrap_or_else(|| describe::NO_OPTIONS.to_owned()),
            )
        }
        Action::CallChild(call) if first.is_some_and(|event| records_child(state, event, call)) => {
            (1, describe::instance_options(&call.options))
        }
        Action::CallActivity(_)
        | Action::CallChild(_)
        | Action::SetTimer { .. }
        | Action::CancelTask(_)
        | Action::CommandChild { .. }
        | Action::SendEvent(_)
        | Action::StartInstance { .. }
        | Action::SetCustomStatus(_)
        | Action::Describe(_)
        | Action::SetValue { .. }
        | Action::SendRequest(_)
        | Action::Respond { .. }
        | Action::SetTag { .. } => {
            let derived = |task| derived_child_id(state, task);
            (0, describe::action(action, state.now, derived))
        }
    }
}

/// The open tasks while the actions of an answer are gone through.
struct OpenTasks<'a> {
    state: &'a State,
    /// Scheduled in this answer; of a child what becomes of it when it is dropped.
    scheduled: BTreeMap<TaskId, Option<ChildPolicy>>,
    canceled: BTreeSet<TaskId>,
}

impl<'a> OpenTasks<'a> {
    fn of(state: &'a State) -> Self {
        Self {
            state,
            scheduled: BTreeMap::new(),
            canceled: BTreeSet::new(),
        }
    }

    fn is_open(&self, task: TaskId) -> bool {
        let is_known = self.state.tasks().contains_key(&task) || self.scheduled.contains_key(&task);
        is_known && !self.canceled.contains(&task)
    }

    /// What becomes of an open child when it is dropped; `None` if it is no open child.
    fn child(&self, task: TaskId) -> Option<ChildPolicy> {
        if !self.is_open(task) {
            return None;
        }
        match self.scheduled.get(&task) {
            Some(policy) => *policy,
            None => Some(self.state.child(task)?.options.when_dropped),
        }
    }
}

/// Whether `rest` is what follows from `ending`.
fn ends(state: &State, rest: &[Event], ending: &Ending) -> bool {
    match ending {
        Ending::Waiting(_) => rest.is_empty(),
        Ending::Completed(asked) => completes(state, rest, asked),
        Ending::Failed { failure, cause } => {
            matches!(rest, [Event::ExecutionFailed { failure: f, cause: c }] if c == cause && f.is_of(failure))
        }
        Ending::Canceled => matches!(
            rest,
            [Event::ExecutionTerminated { .. } | Event::ExecutionFailed { .. }]
        ),
        Ending::ContinuedAsNew {
            input,
            version,
            carry_over,
        } => {
            // The version that it asked for was not there.
            let is_unknown = |failure: &Failure| {
                version.is_some() && failure.kind == crate::kind::UNKNOWN_ORCHESTRATION
            };
            matches!(rest, [Event::ContinuedAsNew { input: i, version: v, carry_over: c, .. }] if (i, v, c) == (input, version, carry_over))
                || matches!(rest, [Event::ExecutionFailed { failure, .. }] if is_unknown(failure))
        }
    }
}

/// Whether `rest` is what follows from the return of a guest. Only a return that leaves something open cancels what waits to be tried
/// again; it is also the end where that was all that was open.
fn completes(state: &State, rest: &[Event], asked: &Option<Json>) -> bool {
    let waits_to_retry = |task| state.child(task).is_some_and(|child| child.due.is_some());
    let is_dropped =
        |event: &&Event| matches!(event, Event::TaskCanceled { task } if waits_to_retry(*task));
    let canceled = rest.iter().take_while(is_dropped).count();
    let output = match &rest[canceled..] {
        [Event::ExecutionReturned { output }] => Some(output),
        [Event::ExecutionCompleted { output }] if canceled == 0 => Some(output),
        [
            Event::ExecutionReturned { output },
            Event::ExecutionCompleted { .. },
        ] if canceled > 0 => Some(output),
        [..] => None,
    };
    output == Some(asked)
}

/// How many of the `recorded` events that come next are what is recorded of `action`; `None` if the first are something else. What the host
/// resolved (targets, versions and ids that the guest left open) and what it left out (an input over the limit) does not count.
#[expect(
    clippy::too_many_lines,
    reason = "it is a table, with an arm for each action"
)]
fn records(
    state: &State,
    open: &mut OpenTasks<'_>,
    recorded: &[Event],
    action: &Action,
) -> Option<usize> {
    let first = recorded.first();
    let one = |is_recorded: bool| is_recorded.then_some(1);
    match action {
        Action::CallActivity(call) => {
            open.scheduled.insert(call.task, None);
            one(first.is_some_and(|event| records_activity(event, call)))?;
            records_call_options(recorded, action)
        }
        Action::CallChild(call) => {
            open.scheduled
                .insert(call.task, Some(call.options.when_dropped));
            one(first.is_some_and(|event| records_child(state, event, call)))?;
            records_options(recorded, Some(call.task), &call.options)
        }
        Action::SetTimer { task, due } => {
            open.scheduled.insert(*task, None);
            let (at, by_clock) = match due {
                TimerDue::GuestTime(at) => (*at, false),
                TimerDue::After(span) => (state.now.after(*span), false),
                TimerDue::At(at) => (*at, true),
            };
            // Contract 0.1 knew no timers by the clock, so that its histories record them as the others.
            let is_set = matches!(first?, Event::TimerSet { task: t, fire_at } if (*t, *fire_at) == (*task, at));
            let is_dated =
                matches!(first?, Event::TimerSetAt { task: t, at: by } if (*t, *by) == (*task, at));
            one(is_set || (by_clock && is_dated))
        }
        Action::CancelTask(task) => {
            if !open.is_open(*task) {
                return Some(0); // Nothing is recorded of the cancelling of a task that has ended already.
            }
            let command = open.child(*task).and_then(ChildPolicy::command);
            open.canceled.insert(*task);
            let told = usize::from(command.is_some());
            if let Some(command) = command {
                one(is_command(first?, *task, command))?;
            }
            let canceled = recorded.get(told)?;
            matches!(canceled, Event::TaskCanceled { task: t } if t == task).then_some(told + 1)
        }
        Action::CommandChild {
            task,
            command,
            reason,
        } => {
            if open.child(*task).is_none() {
                return Some(0);
            }
            let is_reason =
                matches!(first?, Event::ChildCommanded { reason: r, .. } if r == reason);
            one(is_reason && is_command(first?, *task, *command))
        }
        Action::SendEvent(sent) => {
            let asked = (&sent.instance_id, &sent.name, &sent.data);
            one(
                matches!(first?, Event::EventSent { instance_id, name, data } if (instance_id, name, data) == asked),
            )
        }
        Action::StartInstance {
            instance_id,
            name,
            version: asked,
            input,
            tags,
            options,
        } => {
            let rest = (instance_id, name, input, tags);
            let is_recorded = matches!(first?, Event::InstanceStarted { instance_id, name, version, input, tags, .. }
                if (instance_id, name, input, tags) == rest && (asked.is_none() || version == asked));
            one(is_recorded)?;
            records_options(recorded, None, options)
        }
        Action::SendRequest(asked) => {
            open.scheduled.insert(asked.task, None);
            let task = asked.task;
            let sent = (&asked.instance_id, &asked.name);
            one(
                matches!(first?, Event::RequestSent { task: t, instance_id, name, input, refused, .. }
                if *t == task && (instance_id, name) == sent && (*input == asked.input || (input.is_none() && refused.is_some()))),
            )
        }
        Action::Respond { number, outcome } => {
            let same = |recorded: &Result<Option<Json>, Failure>| match (recorded, outcome) {
                (Ok(recorded), Ok(asked)) => recorded == asked,
                (Err(recorded), Err(asked)) => recorded.is_of(asked),
                (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
            };
            one(
                matches!(first?, Event::RequestAnswered { number: n, outcome: recorded, .. }
                if *n == Some(*number) && same(recorded)),
            )
        }
        Action::SetCustomStatus(asked) => {
            one(matches!(first?, Event::CustomStatusSet { value } if value == asked))
        }
        Action::SetValue { name, value } => {
            one(matches!(first?, Event::ValueSet { name: n, value: v } if (n, v) == (name, value)))
        }
        Action::SetTag { key, value } => {
            one(matches!(first?, Event::TagSet { key: k, value: v } if (k, v) == (key, value)))
        }
        Action::Describe(asked) => {
            let asked = (&asked.task, &asked.version, &asked.tags);
            one(
                matches!(first?, Event::CallDetails { task, version, tags } if (task, version, tags) == asked),
            )
        }
    }
}

/// How many events are recorded of an activity, of which the first was compared.
fn records_call_options(recorded: &[Event], asked: &Action) -> Option<usize> {
    let next = recorded.get(1);
    match options_event(asked) {
        Some(options) => (next == Some(&options)).then_some(2),
        None => (!matches!(next, Some(Event::ActivityOptions { .. }))).then_some(1),
    }
}

fn is_command(event: &Event, task: TaskId, asked: ChildCommand) -> bool {
    matches!(event, Event::ChildCommanded { task: t, command, .. } if (*t, *command) == (task, asked))
}

/// How many events are recorded of an instance that was asked for, of which the first was compared: its options follow where they are not
/// the default.
fn records_options(
    recorded: &[Event],
    of: Option<TaskId>,
    asked: &InstanceOptions,
) -> Option<usize> {
    if *asked == InstanceOptions::default() {
        return Some(1);
    }
    let follows = recorded.get(1)?;
    matches!(follows, Event::InstanceOptions { task, options } if (*task, options) == (of, asked))
        .then_some(2)
}

fn records_activity(event: &Event, call: &ActivityCall) -> bool {
    let Event::ActivityScheduled {
        task,
        name,
        input,
        retry,
        attempt_timeout,
        target,
    } = event
    else {
        return false;
    };
    (task, name, attempt_timeout) == (&call.task, &call.name, &call.attempt_timeout)
        && *retry == call.retry
        && same_input(input, &call.input, target)
}

fn records_child(state: &State, event: &Event, call: &ChildCall) -> bool {
    let Event::ChildScheduled {
        task,
        name,
        version,
        instance_id,
        input,
        tags,
        retry,
        target,
    } = event
    else {
        return false;
    };
    let id = call.instance_id.clone();
    let id = id.unwrap_or_else(|| derived_child_id(state, call.task));
    (task, name, instance_id, tags) == (&call.task, &call.name, &id, &call.tags)
        && *retry == call.retry
        && (call.version.is_none() || *version == call.version)
        && same_input(input, &call.input, target)
}

fn same_input(recorded: &Option<Json>, asked: &Option<Json>, target: &Target) -> bool {
    recorded == asked
        || matches!(target, Target::Oversized { .. })
        || (recorded.is_none() && matches!(target, Target::Invalid(_)))
}
