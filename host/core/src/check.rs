//! Whether a guest's answer keeps the contract and the limits.

use std::collections::{BTreeMap, BTreeSet};

use crate::bounds::{
    INSTANCE_ID_CHARS, NAME_CHARS, REASON_BYTES, TAG_VALUE_CHARS, TAGS, VALUE_BYTES,
    VALUE_NAME_CHARS, VALUES,
};
use crate::failure::answer_size;
use crate::value::{self, InvalidName, size_of};
use crate::{
    Action, Answer, Ending, Failure, Json, Limits, State, Tags, TaskId, Waiting, kind, set_tag,
};

/// Checks an answer against the contract and the limits. The failure is the execution's, and none of the answer's actions is taken.
pub(crate) fn check(state: &State, limits: &Limits, answer: &Answer) -> Result<(), Failure> {
    within(
        "actions in one turn",
        answer.actions.len() as u64,
        u64::from(limits.actions_per_turn),
    )?;
    let mut tasks = Tasks::of(state);
    let mut answered = BTreeSet::new();
    for action in &answer.actions {
        tasks.take(action)?;
        check_answer(state, action, &mut answered)?;
        check_names(action)?;
        check_payload(action, limits)?;
    }
    let total = answer.actions.iter().map(action_size).sum::<usize>() + said_size(&answer.ending);
    within(
        "bytes asked for in one turn",
        total as u64,
        limits.action_bytes_per_turn,
    )?;
    check_values(state, answer)?;
    check_tags_set(state, answer)?;
    match &answer.ending {
        Ending::Waiting(_) => within("open tasks", tasks.open, u64::from(limits.open_tasks)),
        Ending::Completed(output) => payload("the output", output.as_ref(), limits),
        // It is cut where it is written: what a program says last is worth more than that it said too much.
        Ending::Failed { .. } => Ok(()),
        Ending::Canceled if (state.running()).is_some_and(|r| r.cancellation.is_some()) => Ok(()),
        Ending::Canceled => wrong("it ended as cancelled, and was not asked to cancel".to_owned()),
        Ending::ContinuedAsNew {
            input,
            version,
            carry_over,
        } => {
            check_name("the version to go on with", version.as_deref())?;
            let mut seen = BTreeSet::new();
            let has = |number| state.running().is_some_and(|r| r.has_external(number));
            let foreign = |number: &&u32| !has(**number) || !seen.insert(**number);
            if let Some(number) = carry_over.iter().find(foreign) {
                return wrong(format!(
                    "it carries over external event {number}, which it does not have"
                ));
            }
            check_open_requests(state, carry_over, &answered)?;
            payload("the next execution's input", input.as_ref(), limits)
        }
    }
}

/// Checks that an answer to a request is to one that is open, and was not answered by an action before it.
fn check_answer(
    state: &State,
    action: &Action,
    answered: &mut BTreeSet<u32>,
) -> Result<(), Failure> {
    let Action::Respond { number, .. } = action else {
        return Ok(());
    };
    let is_open = (state.running()).is_some_and(|running| running.requests.contains_key(number));
    if is_open && answered.insert(*number) {
        return Ok(());
    }
    wrong(format!(
        "it answered request {number}, which it was not asked, or had answered already"
    ))
}

/// Checks that an execution that continues as new has answered each of its requests, or carries it over, and not both: nobody could answer
/// one that it left.
fn check_open_requests(
    state: &State,
    carry_over: &[u32],
    answered: &BTreeSet<u32>,
) -> Result<(), Failure> {
    let Some(running) = state.running() else {
        return Ok(());
    };
    let left = |number: &&u32| !answered.contains(number) && !carry_over.contains(number);
    if let Some(number) = running.requests.keys().find(left) {
        return wrong(format!(
            "it continues as new, and has neither answered request {number} nor carries it over"
        ));
    }
    if let Some(number) = carry_over.iter().find(|number| answered.contains(number)) {
        return wrong(format!(
            "it carries over request {number}, which it has answered"
        ));
    }
    Ok(())
}

/// The tasks of an execution while the actions of an answer are gone through.
struct Tasks<'a> {
    state: &'a State,
    /// The lowest id that a task of this answer may have.
    first: TaskId,
    next: TaskId,
    /// Scheduled in this answer.
    scheduled: BTreeSet<TaskId>,
    /// Cancelled in this answer.
    canceled: BTreeSet<TaskId>,
    /// How many are open.
    open: u64,
}

impl<'a> Tasks<'a> {
    fn of(state: &'a State) -> Self {
        let first = state
            .running()
            .map_or(TaskId(0), |running| running.next_task);
        Self {
            state,
            first,
            next: first,
            scheduled: BTreeSet::new(),
            canceled: BTreeSet::new(),
            open: state.tasks().len() as u64,
        }
    }

    fn take(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::CallActivity(call) => self.schedule(call.task),
            Action::CallChild(call) => self.schedule(call.task),
            Action::SetTimer { task, .. } => self.schedule(*task),
            Action::SendRequest(request) => self.schedule(request.task),
            Action::CancelTask(task) => self.cancel(*task),
            Action::CommandChild { task, .. } => self.was_scheduled(*task),
            Action::Describe(details) => self.describe(details.task),
            Action::SendEvent(_)
            | Action::StartInstance { .. }
            | Action::SetCustomStatus(_)
            | Action::SetValue { .. }
            | Action::Respond { .. }
            | Action::SetTag { .. } => Ok(()),
        }
    }

    fn schedule(&mut self, task: TaskId) -> Result<(), Failure> {
        let is_again = task < self.first
            && !self.scheduled.contains(&task)
            && (self.state.running()).is_some_and(|running| running.may_repeat(task));
        if (task < self.next && !is_again) || task >= TaskId::RESERVED {
            let next = self.next;
            return wrong(format!(
                "it scheduled task {task} where the next one was {next}"
            ));
        }
        self.next = self.next.max(TaskId(task.0 + 1));
        self.scheduled.insert(task);
        self.open += 1;
        Ok(())
    }

    /// The details are of the task that was just scheduled, or of an event, whose number counts with those of tasks.
    fn describe(&mut self, task: TaskId) -> Result<(), Failure> {
        if task >= TaskId::RESERVED || (task < self.next && !self.scheduled.contains(&task)) {
            let next = self.next;
            return wrong(format!(
                "it sent an event as {task} where the next number was {next}"
            ));
        }
        self.next = self.next.max(TaskId(task.0 + 1));
        Ok(())
    }

    fn was_scheduled(&self, task: TaskId) -> Result<(), Failure> {
        if task >= self.first && !self.scheduled.contains(&task) {
            return wrong(format!("it ended task {task}, which it never scheduled"));
        }
        Ok(())
    }

    fn cancel(&mut self, task: TaskId) -> Result<(), Failure> {
        let scheduled = self.scheduled.contains(&task);
        if task >= self.first && !scheduled {
            return wrong(format!(
                "it cancelled task {task}, which it never scheduled"
            ));
        }
        if (scheduled || self.state.tasks().contains_key(&task)) && self.canceled.insert(task) {
            self.open -= 1;
        }
        Ok(())
    }
}

/// Checks the names and labels of an action: what is longer than any name is a payload in disguise, and stands in lists and logs.
///
/// Ids are checked where their instances are made; here only what no list should hold.
fn check_names(action: &Action) -> Result<(), Failure> {
    match action {
        Action::CallActivity(call) => check_name("the name of an activity", Some(&call.name)),
        Action::CallChild(call) => {
            check_name("the name of a child", Some(&call.name))?;
            check_name("the version of a child", call.version.as_deref())?;
            check_id(call.instance_id.as_deref())?;
            check_tags(&call.tags)
        }
        Action::CommandChild { reason, .. } => within(
            "bytes of a reason",
            reason.as_ref().map_or(0, String::len) as u64,
            REASON_BYTES as u64,
        ),
        Action::SendEvent(event) => {
            check_name("the name of an event", Some(&event.name))?;
            check_id(Some(&event.instance_id))
        }
        Action::StartInstance {
            instance_id,
            name,
            version,
            tags,
            ..
        } => {
            check_name("the name of a new instance", Some(name))?;
            check_name("the version of a new instance", version.as_deref())?;
            check_id(Some(instance_id))?;
            check_tags(tags)
        }
        Action::Describe(details) => {
            check_name("the version of an activity", details.version.as_deref())?;
            check_tags(&details.tags)
        }
        Action::SetValue { name, .. } => {
            let what = "the name of a value";
            not_empty(what, name)?;
            check_name_of(what, Some(name), VALUE_NAME_CHARS)
        }
        Action::SetTag { key, value } => {
            not_empty("the key of a tag", key)?;
            check_tag(key, value.as_deref().unwrap_or_default())
        }
        Action::SendRequest(request) => {
            check_name("the name of a request", Some(&request.name))?;
            check_id(Some(&request.instance_id))
        }
        Action::SetTimer { .. }
        | Action::CancelTask(_)
        | Action::Respond { .. }
        | Action::SetCustomStatus(_) => Ok(()),
    }
}

/// An empty name names nothing, which fails what asks for it alone.
fn check_name(what: &str, name: Option<&str>) -> Result<(), Failure> {
    check_name_of(what, name, NAME_CHARS)
}

fn check_name_of(what: &str, name: Option<&str>, max_chars: usize) -> Result<(), Failure> {
    match name.map(|name| value::check_name(name, max_chars)) {
        None | Some(Ok(()) | Err(InvalidName::Empty)) => Ok(()),
        Some(Err(InvalidName::TooLong { chars, .. })) => within(
            &format!("characters of {what}"),
            chars as u64,
            max_chars as u64,
        ),
        Some(Err(problem @ InvalidName::Character(_))) => wrong(format!("{what} {problem}")),
    }
}

/// What is set under no name could never be asked for.
fn not_empty(what: &str, name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return wrong(format!("{what} must not be empty"));
    }
    Ok(())
}

fn check_id(id: Option<&str>) -> Result<(), Failure> {
    // No character has more bytes: an id that is a little too long fails the call alone.
    within(
        "bytes of an instance id",
        id.map_or(0, str::len) as u64,
        4 * INSTANCE_ID_CHARS as u64,
    )
}

fn check_tags(tags: &Tags) -> Result<(), Failure> {
    within("tags of an instance", tags.len() as u64, TAGS as u64)?;
    for (key, value) in tags {
        check_tag(key, value)?;
    }
    Ok(())
}

fn check_tag(key: &str, value: &str) -> Result<(), Failure> {
    check_name("the key of a tag", Some(key))?;
    within(
        "characters of the value of a tag",
        value.chars().count() as u64,
        TAG_VALUE_CHARS as u64,
    )?;
    if value.contains('\0') {
        return wrong("the value of a tag must not contain '\\0'".to_owned());
    }
    Ok(())
}

/// Checks the values that there are after the answer. What it sets and clears again in the same turn is never seen, and does not count.
fn check_values(state: &State, answer: &Answer) -> Result<(), Failure> {
    let mut after: Option<BTreeMap<&str, &Json>> = None;
    for action in &answer.actions {
        if let Action::SetValue { name, value } = action {
            let now = || (state.values.iter()).map(|(name, value)| (name.as_str(), value));
            let after = after.get_or_insert_with(|| now().collect());
            match value {
                Some(value) => after.insert(name, value),
                None => after.remove(name.as_str()),
            };
        }
    }
    let Some(after) = after else {
        return Ok(());
    };
    within("named values", after.len() as u64, VALUES as u64)?;
    let bytes = after.iter().map(|(name, value)| name.len() + value.size());
    within(
        "bytes of the named values and their names",
        bytes.sum::<usize>() as u64,
        VALUE_BYTES as u64,
    )
}

/// Checks how many tags there are after the answer. An execution that began with more, because clients had set them, may change those.
fn check_tags_set(state: &State, answer: &Answer) -> Result<(), Failure> {
    let mut after: Option<Tags> = None;
    let before = state.start().map_or(&[][..], |start| &start.tags);
    for action in &answer.actions {
        if let Action::SetTag { key, value } = action {
            let after = after.get_or_insert_with(|| before.to_vec());
            set_tag(after, key, value.as_deref());
        }
    }
    after.map_or(Ok(()), |after| {
        within(
            "tags of an instance",
            after.len() as u64,
            TAGS.max(before.len()) as u64,
        )
    })
}

/// Checks what is refused as a whole. An input over the limit fails only its task.
fn check_payload(action: &Action, limits: &Limits) -> Result<(), Failure> {
    let sent = |json| payload("what it sends to another instance", json, limits);
    match action {
        Action::SetCustomStatus(value) => {
            within(
                "bytes of the custom status",
                size_of(value.as_ref()) as u64,
                limits.custom_status_bytes,
            )?;
            readable("the custom status", value.as_ref())
        }
        Action::SetValue { value, .. } => readable("a named value", value.as_ref()),
        Action::SendEvent(event) => sent(event.data.as_ref()),
        // A failure is cut where it is written, as that of an execution is.
        Action::Respond { outcome, .. } => {
            let output = outcome.as_ref().ok().and_then(Option::as_ref);
            payload("an answer to a request", output, limits)
        }
        Action::StartInstance { input, .. } => sent(input.as_ref()),
        Action::CallActivity(_)
        | Action::CallChild(_)
        | Action::SetTimer { .. }
        | Action::CancelTask(_)
        | Action::CommandChild { .. }
        | Action::Describe(_)
        | Action::SendRequest(_)
        | Action::SetTag { .. } => Ok(()),
    }
}

/// Bytes of the texts and payloads of an action: names count too, or a guest could hide what it stores in them.
fn action_size(action: &Action) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let labels = |tags: &Tags| tags.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    match action {
        Action::CallActivity(call) => call.name.len() + size_of(call.input.as_ref()),
        Action::CallChild(call) => {
            call.name.len()
                + text(&call.version)
                + text(&call.instance_id)
                + size_of(call.input.as_ref())
                + labels(&call.tags)
        }
        Action::SendEvent(event) => {
            event.instance_id.len() + event.name.len() + size_of(event.data.as_ref())
        }
        Action::StartInstance {
            instance_id,
            name,
            version,
            input,
            tags,
            options: _,
        } => {
            instance_id.len() + name.len() + text(version) + size_of(input.as_ref()) + labels(tags)
        }
        Action::SendRequest(request) => {
            request.instance_id.len() + request.name.len() + size_of(request.input.as_ref())
        }
        Action::Respond { outcome, .. } => answer_size(outcome),
        Action::SetCustomStatus(value) => size_of(value.as_ref()),
        Action::SetValue { name, value } => name.len() + size_of(value.as_ref()),
        Action::SetTag { key, value } => key.len() + text(value),
        Action::Describe(details) => text(&details.version) + labels(&details.tags),
        Action::CommandChild { reason, .. } => text(reason),
        Action::SetTimer { .. } | Action::CancelTask(_) => 0,
    }
}

/// Bytes of what the guest says beside its actions and its result.
fn said_size(ending: &Ending) -> usize {
    match ending {
        Ending::Waiting(Waiting {
            events,
            tasks,
            note,
            requests,
        }) => {
            let note = note.as_ref().map_or(0, String::len);
            let names = events.iter().chain(requests);
            names.map(String::len).sum::<usize>() + size_of_val(tasks.as_slice()) + note
        }
        Ending::ContinuedAsNew { version, .. } => version.as_ref().map_or(0, String::len),
        Ending::Completed(_) | Ending::Failed { .. } | Ending::Canceled => 0,
    }
}

fn payload(what: &str, json: Option<&Json>, limits: &Limits) -> Result<(), Failure> {
    let bytes = size_of(json) as u64;
    if bytes > limits.payload_bytes {
        let what = format!("bytes of {what}");
        return within(&what, bytes, limits.payload_bytes);
    }
    readable(what, json)
}

fn readable(what: &str, json: Option<&Json>) -> Result<(), Failure> {
    json.map_or(Ok(()), Json::check_readable)
        .map_err(|why| Failure::permanent(kind::LIMIT_EXCEEDED, format!("{what}: {why}")))
}

fn within(what: &str, is: u64, limit: u64) -> Result<(), Failure> {
    if is <= limit {
        return Ok(());
    }
    Err(Failure::permanent(
        kind::LIMIT_EXCEEDED,
        format!("{what}: {is}; at most {limit} are allowed"),
    ))
}

fn wrong(message: String) -> Result<(), Failure> {
    Err(Failure::permanent(kind::INVALID_ANSWER, message))
}
