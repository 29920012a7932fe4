//! The machine, driven by literal events, natively.

use expect_test::Expect;

use crate::bindings::orchestrations::{
    Action, ChildPolicy, Due, Event, ExternalEvent, IdReuse, Request, Response, Start, State,
    TaskResult, Turn, TurnStart,
};
use crate::bindings::types::Failure as WitFailure;
use crate::definition::Component;
use crate::machine::Machine;
use crate::{Activity, Context, Orchestration, OrchestrationFuture, TaskId};

mod annotated;
#[cfg(feature = "testing")]
mod beats;
mod cancel;
mod contract;
mod ending;
mod events;
#[cfg(feature = "testing")]
mod family;
#[cfg(feature = "testing")]
mod kit;
#[cfg(feature = "testing")]
mod kit_requests;
mod programs;
mod requests;
mod requests_ending;
mod saga;
mod tasks;
mod typed;
mod validators;

/// A program under test, from an async function or closure.
macro_rules! program {
    ($function:expr) => {
        |context: crate::Context| crate::OrchestrationFn::start($function, context)
    };
}
pub(crate) use program;

type Program = fn(Context) -> OrchestrationFuture;

/// Runs a program through turns and compares what it answers. Turn `n` starts at second `n`, from 1, and the first also starts the
/// execution, with the input `null`.
#[track_caller]
fn check(program: Program, turns: &[&[Event]], expected: &Expect) {
    expected.assert_eq(&run(program, turns));
}

fn run(program: Program, turns: &[&[Event]]) -> String {
    run_turns(Subject::new(program), turns)
}

fn run_turns(mut subject: Subject, turns: &[&[Event]]) -> String {
    turns
        .iter()
        .enumerate()
        .map(|(index, events)| format!("turn {}\n{}", index + 1, render(&subject.turn(events))))
        .collect()
}

/// A machine with one program, and the number of the next turn.
struct Subject {
    machine: Machine,
    turns: u64,
    start: Start,
}

impl Subject {
    fn new(program: Program) -> Self {
        Self::of(vec![Orchestration::new("Test", program)], Vec::new())
    }

    /// The machine of a component, one of whose orchestrations is `Test`.
    fn of(orchestrations: Vec<Orchestration>, activities: Vec<Activity>) -> Self {
        Self {
            machine: Machine::new(Component {
                orchestrations: orchestrations.leak(),
                activities: activities.leak(),
            }),
            turns: 0,
            start: start(None),
        }
    }

    fn with_start(program: Program, start: Start) -> Self {
        Self {
            start,
            ..Self::new(program)
        }
    }

    fn turn(&mut self, events: &[Event]) -> Turn {
        self.turns += 1;
        let mut all = vec![turn_started(self.turns * 1000)];
        if self.turns == 1 {
            all.push(Event::ExecutionStarted(self.start.clone()));
        }
        all.extend_from_slice(events);
        self.machine.advance(all)
    }
}

fn turn_started(now: u64) -> Event {
    Event::TurnStarted(TurnStart {
        now,
        history_events: 7,
        history_bytes: 700,
    })
}

fn start(input: Option<&str>) -> Start {
    Start {
        instance_id: "instance".to_owned(),
        execution_id: "execution".to_owned(),
        name: "Test".to_owned(),
        version: None,
        input: input.map(str::to_owned),
        parent: None,
        tags: vec![("team".to_owned(), "blue".to_owned())],
        trace_parent: None,
        seed: 42,
    }
}

fn completed(task: TaskId, output: &str) -> Event {
    Event::TaskCompleted(TaskResult {
        task,
        outcome: Ok(Some(output.to_owned())),
    })
}

fn failed(task: TaskId, kind: &str) -> Event {
    let failure = WitFailure {
        kind: kind.to_owned(),
        message: "it failed".to_owned(),
        details: Some("[1]".to_owned()),
        retryable: true,
        trace: None,
        causes: Vec::new(),
    };
    Event::TaskCompleted(TaskResult {
        task,
        outcome: Err(failure),
    })
}

fn fired(task: TaskId) -> Event {
    Event::TimerFired(task)
}

fn raised(number: u32, name: &str, data: &str) -> Event {
    Event::ExternalEventRaised(ExternalEvent {
        number,
        name: name.to_owned(),
        data: Some(data.to_owned()),
    })
}

fn requested(number: u32, name: &str, input: &str) -> Event {
    Event::RequestReceived(Request {
        number,
        id: format!("id-{number}"),
        name: name.to_owned(),
        input: Some(input.to_owned()),
    })
}

fn render(turn: &Turn) -> String {
    let mut text: String = turn
        .actions
        .iter()
        .map(|action| format!("  {}\n", render_action(action)))
        .collect();
    text.push_str(&format!("  => {}\n", render_state(&turn.state)));
    text
}

fn render_action(action: &Action) -> String {
    let json = |text: &Option<String>| text.clone().unwrap_or_else(|| "absent".to_owned());
    match action {
        Action::CallActivity(call) => {
            let mut text = format!("activity {} {} {}", call.task, call.name, json(&call.input));
            if let Some(retry) = &call.retry {
                text.push_str(&format!(" {retry:?}"));
            }
            if let Some(timeout) = call.attempt_timeout {
                text.push_str(&format!(" within {timeout} ms"));
            }
            text
        }
        Action::CallChild(call) => format!(
            "child {} {} {} id={:?} version={:?} tags={:?} attempts={:?}{}",
            call.task,
            call.name,
            json(&call.input),
            call.instance_id,
            call.version,
            call.tags,
            call.retry.map(|retry| retry.max_attempts),
            match (call.reuse, call.when_dropped, call.execution_timeout) {
                (IdReuse::Ended, ChildPolicy::Abandon, None) => String::new(),
                said => format!(" {said:?}"),
            },
        ),
        Action::SetTimer(timer) => match timer.due {
            Due::After(span) => format!("timer {} in {span}", timer.task),
            Due::At(time) => format!("timer {} at {time}", timer.task),
        },
        Action::CommandChild(child) => {
            format!(
                "{:?} {} because of {:?}",
                child.command, child.task, child.reason
            )
        }
        Action::CancelTask(task) => format!("cancel {task}"),
        Action::SendEvent(event) => format!(
            "send {} to {} {}",
            event.name,
            event.instance_id,
            json(&event.data)
        ),
        Action::StartInstance(start) => {
            format!(
                "start {} {} {} version={:?} tags={:?}",
                start.instance_id,
                start.name,
                json(&start.input),
                start.version,
                start.tags
            )
        }
        Action::SetCustomStatus(status) => format!("status {}", json(status)),
        Action::SetValue(set) => format!("value {} {}", set.name, json(&set.value)),
        Action::SetTag(set) => format!("tag {} {:?}", set.key, set.value),
        Action::SendRequest(request) => format!(
            "request {} {} to {} {}",
            request.task,
            request.name,
            request.instance_id,
            json(&request.input)
        ),
        Action::Respond(response) => render_response(response),
    }
}

fn render_response(response: &Response) -> String {
    let number = response.number;
    match &response.outcome {
        Ok(output) => format!("answer {number} {}", output.as_deref().unwrap_or("absent")),
        Err(failure) => format!("reject {number} {}: {}", failure.kind, failure.message),
    }
}

fn render_state(state: &State) -> String {
    match state {
        State::Waiting(waiting) => {
            let note = waiting
                .note
                .as_ref()
                .map(|note| format!(" note {note:?}"))
                .unwrap_or_default();
            let requests = match waiting.requests.as_slice() {
                [] => String::new(),
                requests => format!(" requests {requests:?},"),
            };
            format!(
                "waiting for events {:?},{requests} tasks {:?}{note}",
                waiting.events, waiting.tasks
            )
        }
        State::Completed(output) => format!("completed {}", output.as_deref().unwrap_or("absent")),
        State::Failed(ended) => {
            let causes: Vec<_> = ended
                .failure
                .causes
                .iter()
                .map(|cause| format!("{}: {}", cause.kind, cause.message))
                .collect();
            format!(
                "failed {}: {} (cause {:?}, causes {causes:?})",
                ended.failure.kind, ended.failure.message, ended.cause
            )
        }
        State::ContinuedAsNew(continuation) => format!("continued {continuation:?}"),
        State::Canceled => "canceled".to_owned(),
    }
}
