//! Compares what a hub has with what was asked of it. Says each contradiction in words.

use std::collections::{BTreeMap, BTreeSet};

use perennial::{Event, HistoryEvent, Status, TaskId};
use perennial_core::{Failure, Json, State};

use crate::record::{Asked, Attempt, Instance, Outcome, Record, Seen, What};

/// The name of the events that are counted.
pub(crate) const EVENT: &str = "go";

/// Orchestrations that wait for events, and so end only as they are told to.
pub(crate) fn waits(name: &str) -> bool {
    matches!(name, "Wait" | "CountEvents")
}

/// What contradicts.
pub(crate) fn problems(record: &Record, seen: &Seen) -> Vec<String> {
    let mut check = Check {
        record,
        seen,
        found: Vec::new(),
    };
    check.starts();
    check.strays();
    for (id, instance) in &seen.instances {
        check.is_lawful(id, instance);
        check.events(id, instance);
        check.commands(id, instance);
        check.family(id, instance);
        check.detached(id, instance);
    }
    check.once_started();
    check.attempts();
    check.found
}

struct Check<'a> {
    record: &'a Record,
    seen: &'a Seen,
    found: Vec<String>,
}

impl<'a> Check<'a> {
    fn says(&mut self, problem: String) {
        self.found.push(problem);
    }

    fn asked(&self, id: &'a str) -> impl Iterator<Item = &'a Asked> + use<'a> {
        self.record.asked.iter().filter(move |asked| asked.id == id)
    }

    fn is_purged(&self, id: &str) -> Option<Outcome> {
        let purges = self.record.asked.iter();
        let purges = purges.filter(|asked| asked.id == id && asked.what == What::Purge);
        purges
            .map(|asked| asked.outcome)
            .filter(|outcome| outcome.is_possible())
            .min_by_key(|outcome| *outcome != Outcome::Done)
    }

    /// Each instance is there whose start was acknowledged, unless it was purged; and none whose start was refused.
    fn starts(&mut self) {
        for asked in self.record.asked.iter() {
            if asked.what != What::Start {
                continue;
            }
            let id = &asked.id;
            let there = self.seen.instances.get(id);
            match (asked.outcome, self.is_purged(id), there) {
                (Outcome::Done, None, None) => {
                    self.says(format!("{id}: its acknowledged start is lost"));
                }
                (_, Some(Outcome::Done), Some(_)) => {
                    self.says(format!("{id}: it is there after its acknowledged purge"));
                }
                (Outcome::Refused, _, Some(_)) => {
                    self.says(format!(
                        "{id}: it was started although the start was refused"
                    ));
                }
                (_, _, Some(there)) if there.status.name != asked.said => {
                    let name = &there.status.name;
                    self.says(format!(
                        "{id}: it is {name}, and was started as {}",
                        asked.said
                    ));
                }
                _ => {}
            }
        }
    }

    /// No instance is there that nobody asked for.
    fn strays(&mut self) {
        for (id, instance) in &self.seen.instances {
            let started = |asked: &Asked| asked.id == *id && asked.what == What::Start;
            let by_client = self.record.asked.iter().any(started);
            let below = |by: &Instance| {
                by.history
                    .iter()
                    .any(|event| starts_of(event).any(|of| of == id))
            };
            let by_others = self.seen.instances.values().any(below);
            if !by_client && !by_others {
                let parent = instance
                    .status
                    .parent_instance_id
                    .as_deref()
                    .unwrap_or("nobody");
                self.says(format!("{id}: nobody started it; its parent is {parent}"));
            }
        }
    }

    /// The history is one that an engine writes, it has an end, and the status is what it says.
    fn is_lawful(&mut self, id: &str, instance: &Instance) {
        let Instance { status, history } = instance;
        let rewinds = u32::try_from(status.rewinds.len()).unwrap_or(u32::MAX);
        let mut state = State::new(rewinds);
        let mut end = None;
        let mut at = 0;
        for (number, event) in history.iter().enumerate() {
            if event.number != number as u64 {
                return self.says(format!("{id}: event {number} has number {}", event.number));
            }
            if event.at.0 < at {
                self.says(format!("{id}: event {number} is older than the one before"));
            }
            at = event.at.0;
            if let Err(corrupt) = state.apply(&event.event) {
                return self.says(format!("{id}: its history is not lawful: {corrupt}"));
            }
            end = end_of(&event.event).or(end);
        }
        if status.history_events != history.len() as u64 {
            let (told, there) = (status.history_events, history.len());
            self.says(format!(
                "{id}: its status counts {told} events, its history has {there}"
            ));
        }
        let by_status = End {
            status: status.runtime_status,
            output: match status.runtime_status {
                Status::Completed => status.output.clone(),
                _ => None,
            },
            failure: status.failure.clone(),
        };
        // One that was terminated before its first turn has no history.
        let never_began = by_status.status == Status::Terminated && history.is_empty();
        if end.as_ref() != Some(&by_status) && !never_began {
            self.says(format!(
                "{id}: its status says {by_status:?}, its history {end:?}"
            ));
        }
    }

    /// Each acknowledged event is there once and in order, unless the instance was ended from outside before it read them.
    fn events(&mut self, id: &str, instance: &Instance) {
        let mut places: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for event in &instance.history {
            if let Event::ExternalEventRaised { name, data, .. } = &event.event
                && name == EVENT
                && let Some(number) = data
                    .as_ref()
                    .and_then(number_of)
                    .filter(|number| *number > 0)
            {
                places.entry(number).or_default().push(event.number);
            }
        }
        let mut last = None;
        for asked in self.asked(id) {
            let What::Event(number) = asked.what else {
                continue;
            };
            let there = places.remove(&number).unwrap_or_default();
            match (&there[..], asked.outcome) {
                ([], Outcome::Done) if instance.status.runtime_status == Status::Completed => {
                    self.says(format!("{id}: acknowledged event {number} is lost"));
                }
                ([_, _, ..], _) => self.says(format!("{id}: event {number} came twice")),
                ([_], Outcome::Refused) => {
                    self.says(format!("{id}: event {number} came although it was refused"));
                }
                ([place], Outcome::Done) => {
                    if last.is_some_and(|last| last > *place) {
                        self.says(format!("{id}: event {number} came before an earlier one"));
                    }
                    last = Some(*place);
                }
                _ => {}
            }
        }
        for number in places.into_keys() {
            self.says(format!("{id}: event {number} was never sent"));
        }
    }

    /// Whether a command found the instance on its way to where it leads: another one of its kind, which had no answer, took effect after this
    /// one was sent.
    fn was_so_by_then(&self, asked: &'a Asked, instance: &Instance) -> bool {
        if !matches!(asked.what, What::Suspend | What::Resume) {
            return false;
        }
        let others = self.asked(&asked.id);
        let mut others = others.filter(|other| {
            other.what == asked.what
                && other.outcome == Outcome::Unknown
                && other.said != asked.said
        });
        others.any(|other| {
            let mut effects = instance.history.iter();
            effects.any(|event| {
                reason_of(&event.event) == Some(other.said.as_str()) && event.at.0 >= asked.from
            })
        })
    }

    /// Each acknowledged command had its effect, once.
    fn commands(&mut self, id: &str, instance: &Instance) {
        let status = &instance.status;
        let was_terminated = status.runtime_status == Status::Terminated;
        let holds = waits(&status.name) && !was_terminated;
        let mut may_terminate = false;
        let mut must_terminate = None;
        for asked in self.asked(id) {
            let said = asked.said.as_str();
            let reasons = instance
                .history
                .iter()
                .filter(|event| reason_of(&event.event) == Some(said));
            let rewinds = status.rewinds.iter();
            let effects = match asked.what {
                What::Suspend | What::Resume => reasons.count(),
                What::Rewind => rewinds
                    .filter(|rewind| rewind.reason.as_deref() == Some(said))
                    .count(),
                What::Terminate => {
                    may_terminate |= asked.outcome.is_possible();
                    if asked.outcome == Outcome::Done {
                        must_terminate = Some(said);
                    }
                    continue;
                }
                What::Start | What::Event(_) | What::Purge => continue,
            };
            match (effects, asked.outcome) {
                (0, Outcome::Done) if self.was_so_by_then(asked, instance) => {}
                (0, Outcome::Done) if holds || asked.what == What::Rewind => {
                    self.says(format!(
                        "{id}: {:?} ({said}) was acknowledged and is lost",
                        asked.what
                    ));
                }
                (2.., _) => self.says(format!("{id}: {:?} ({said}) happened twice", asked.what)),
                (1, Outcome::Refused) => {
                    self.says(format!(
                        "{id}: {:?} ({said}) was refused and happened",
                        asked.what
                    ));
                }
                _ => {}
            }
        }
        if was_terminated && !may_terminate {
            self.says(format!("{id}: it was terminated, and nobody asked for it"));
        }
        if let Some(said) = must_terminate.filter(|_| holds) {
            self.says(format!(
                "{id}: its termination ({said}) was acknowledged and is lost"
            ));
        }
    }

    /// Each child has the parent that started it, and the outcome that its parent recorded.
    fn family(&mut self, id: &str, instance: &Instance) {
        let mut children: BTreeMap<TaskId, &str> = BTreeMap::new();
        for event in &instance.history {
            let (task, told) = match &event.event {
                Event::ChildScheduled {
                    task, instance_id, ..
                }
                | Event::ChildRetried {
                    task, instance_id, ..
                } => {
                    children.insert(*task, instance_id);
                    continue;
                }
                Event::ChildCompleted { task, output } => (task, Ok(output)),
                Event::ChildFailed { task, failure } => (task, Err(failure)),
                _ => continue,
            };
            let Some(child) = children.get(task) else {
                continue;
            };
            let Some(there) = self.seen.instances.get(*child) else {
                self.says(format!("{id}: its child {child} is not there"));
                continue;
            };
            let status = &there.status;
            if status.parent_instance_id.as_deref() != Some(id) {
                let parent = &status.parent_instance_id;
                self.says(format!(
                    "{child}: its parent is {parent:?}, and {id} started it"
                ));
            }
            let agrees = match told {
                Ok(output) => {
                    status.runtime_status == Status::Completed && status.output == *output
                }
                Err(_) => status.runtime_status != Status::Completed,
            };
            if !agrees {
                let ended = (status.runtime_status, &status.output, &status.failure);
                self.says(format!(
                    "{id}: it was told {told:?} of {child}, which ended as {ended:?}"
                ));
            }
        }
    }

    /// Each instance that was started without being waited for is there.
    fn detached(&mut self, id: &str, instance: &Instance) {
        for event in &instance.history {
            match &event.event {
                Event::InstanceStarted { instance_id, .. }
                    if !self.seen.instances.contains_key(instance_id) =>
                {
                    self.says(format!(
                        "{id}: it started {instance_id}, which is not there"
                    ));
                }
                Event::InstanceStartSkipped {
                    instance_id,
                    reason,
                } => {
                    self.says(format!("{id}: it started {instance_id} twice: {reason}"));
                }
                _ => {}
            }
        }
    }

    /// No instance is started by two, or twice.
    fn once_started(&mut self) {
        let mut starts: BTreeMap<&str, u32> = BTreeMap::new();
        for asked in self
            .record
            .asked
            .iter()
            .filter(|asked| asked.what == What::Start)
        {
            *starts.entry(&asked.id).or_default() += 1;
        }
        for event in self
            .seen
            .instances
            .values()
            .flat_map(|instance| &instance.history)
        {
            for id in starts_of(event) {
                *starts.entry(id).or_default() += 1;
            }
        }
        for (id, count) in starts.into_iter().filter(|(_, count)| *count > 1) {
            self.says(format!("{id}: it was started {count} times"));
        }
    }

    /// Each recorded result is of an attempt that ran, and no attempt began after it; no attempt ran for what was never asked for.
    fn attempts(&mut self) {
        let mut results: BTreeMap<(&str, u32), Option<(u32, u64)>> = BTreeMap::new();
        for (id, instance) in &self.seen.instances {
            for event in &instance.history {
                match &event.event {
                    Event::ActivityScheduled { task, name, .. } if name == "Log" => {
                        results.insert((id, task.0), None);
                    }
                    Event::ActivityCompleted { task, run, .. } => {
                        if let Some(result) = results.get_mut(&(id.as_str(), task.0)) {
                            *result = Some((run.attempt, event.at.0));
                        }
                    }
                    _ => {}
                }
            }
        }
        let ran: BTreeSet<(&str, u32, u32)> = self
            .seen
            .attempts
            .iter()
            .map(|attempt| (&*attempt.id, attempt.task, attempt.number))
            .collect();
        for ((id, task), result) in &results {
            if let Some((number, _)) = result
                && !ran.contains(&(*id, *task, *number))
            {
                self.says(format!(
                    "{id}: attempt {number} of task {task} is recorded and did not run"
                ));
            }
        }
        for attempt in &self.seen.attempts {
            self.attempt(attempt, &results);
        }
    }

    fn attempt(&mut self, attempt: &Attempt, results: &BTreeMap<(&str, u32), Option<(u32, u64)>>) {
        let Attempt {
            id,
            task,
            number,
            began,
            ..
        } = attempt;
        let Some(instance) = self.seen.instances.get(id) else {
            if self.is_purged(id).is_none() {
                self.says(format!(
                    "{id}: attempt {number} of task {task} ran, and the instance is not there"
                ));
            }
            return;
        };
        if instance.status.execution_id != attempt.execution {
            self.says(format!(
                "{id}: task {task} ran for {}, another execution",
                attempt.execution
            ));
        }
        // A host that was stopped goes on with what it began before, until it learns that another one took over.
        let is_stale = self
            .record
            .stalls
            .iter()
            .any(|(from, to)| (*from..=*to).contains(began));
        match results.get(&(id.as_str(), *task)) {
            None => self.says(format!("{id}: task {task} ran and is not in its history")),
            Some(Some((_, recorded))) if began > recorded && !is_stale => {
                let late = began - recorded;
                self.says(format!(
                    "{id}: attempt {number} of task {task} began {late} ms after the result was recorded"
                ));
            }
            Some(_) => {}
        }
    }
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq)]
struct End {
    status: Status,
    output: Option<Json>,
    failure: Option<Failure>,
}

fn end_of(event: &Event) -> Option<End> {
    let end = |status, output: Option<&Json>, failure: Option<&Failure>| End {
        status,
        output: output.cloned(),
        failure: failure.cloned(),
    };
    Some(match event {
        Event::ExecutionCompleted { output } => end(Status::Completed, output.as_ref(), None),
        Event::ExecutionFailed { failure, .. } => end(Status::Failed, None, Some(failure)),
        Event::ExecutionTerminated { .. } => end(Status::Terminated, None, None),
        _ => return None,
    })
}

fn reason_of(event: &Event) -> Option<&str> {
    match event {
        Event::ExecutionSuspended { reason } | Event::ExecutionResumed { reason } => {
            reason.as_deref()
        }
        _ => None,
    }
}

fn number_of(data: &Json) -> Option<i64> {
    data.as_str().parse().ok()
}

/// The instances that an event says were started.
fn starts_of(event: &HistoryEvent) -> impl Iterator<Item = &str> {
    let id = match &event.event {
        Event::ChildScheduled { instance_id, .. }
        | Event::ChildRetried { instance_id, .. }
        | Event::InstanceStarted { instance_id, .. } => Some(instance_id.as_str()),
        _ => None,
    };
    id.into_iter()
}
