//! Guests that are closures, and their actions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use perennial_core::{
    Action, ActivityCall, Answer, CallOptions, ChildCall, Digest, Ending, Failure, Guest,
    GuestEvent, Json, Limits, Millis, Mode, OutgoingEvent, OutgoingRequest, RetryPolicy, Stop,
    TaskId, Timestamp, Waiting,
};

use crate::engine::executor::{Executor, Fault, Proposal, ResidentGuest, Resource, Shortage};

/// The module of all orchestrations.
pub(crate) const MODULE: Digest = Digest([7; 32]);

/// Everything that a guest has received so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) now: Timestamp,
    pub(crate) id: String,
    pub(crate) input: Option<Json>,
    pub(crate) results: BTreeMap<u32, Result<Option<Json>, Failure>>,
    pub(crate) fired: Vec<u32>,
    pub(crate) events: Vec<(u32, String, Option<Json>)>,
    pub(crate) cancellation: Option<perennial_core::Cancellation>,
    pub(crate) requests: Vec<perennial_core::IncomingRequest>,
}

impl Seen {
    pub(crate) fn has(&self, task: u32) -> bool {
        self.results.contains_key(&task) || self.fired.contains(&task)
    }

    /// The input as a number; 0 if there is none.
    pub(crate) fn number(&self) -> u64 {
        self.input
            .as_ref()
            .map_or(0, |input| input.as_str().parse().unwrap())
    }

    /// A result as a word: its text, or the kind of its failure.
    pub(crate) fn result(&self, task: u32) -> String {
        match &self.results[&task] {
            Ok(output) => output
                .as_ref()
                .map_or("nothing".to_owned(), ToString::to_string),
            Err(failure) => failure.kind.clone(),
        }
    }
}

/// The actions of a guest in a turn.
#[derive(Default)]
pub(crate) struct Out {
    next_task: u32,
    actions: Vec<Action>,
}

impl Out {
    /// Whether no task was asked for yet.
    pub(crate) fn is_first(&self) -> bool {
        self.next_task == 0
    }

    fn task(&mut self) -> TaskId {
        self.next_task += 1;
        TaskId(self.next_task - 1)
    }

    pub(crate) fn call(&mut self, name: &str, input: impl ToString) -> u32 {
        self.call_with(name, input, None, None)
    }

    pub(crate) fn call_with(
        &mut self,
        name: &str,
        input: impl ToString,
        retry: Option<RetryPolicy>,
        attempt_timeout: Option<Millis>,
    ) -> u32 {
        self.call_so(name, input, retry, attempt_timeout, CallOptions::default())
    }

    pub(crate) fn call_so(
        &mut self,
        name: &str,
        input: impl ToString,
        retry: Option<RetryPolicy>,
        attempt_timeout: Option<Millis>,
        options: CallOptions,
    ) -> u32 {
        let (task, name) = (self.task(), name.to_owned());
        let input = Some(json(input));
        let call = ActivityCall {
            task,
            name,
            input,
            retry,
            attempt_timeout,
            options,
        };
        self.actions.push(Action::CallActivity(call));
        task.0
    }

    pub(crate) fn child(
        &mut self,
        name: &str,
        id: Option<&str>,
        retry: Option<RetryPolicy>,
    ) -> u32 {
        self.child_with(name, id, None, retry)
    }

    pub(crate) fn child_with(
        &mut self,
        name: &str,
        id: Option<&str>,
        input: Option<Json>,
        retry: Option<RetryPolicy>,
    ) -> u32 {
        let (task, name) = (self.task(), name.to_owned());
        let instance_id = id.map(str::to_owned);
        let call = ChildCall {
            task,
            name,
            version: None,
            instance_id,
            input,
            tags: Vec::new(),
            retry,
            options: perennial_core::InstanceOptions::default(),
        };
        self.actions.push(Action::CallChild(call));
        task.0
    }

    pub(crate) fn timer(&mut self, at: u64) -> u32 {
        let task = self.task();
        self.actions.push(Action::SetTimer {
            task,
            due: perennial_core::TimerDue::GuestTime(Timestamp(at)),
        });
        task.0
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn cancel(&mut self, task: u32) {
        self.actions.push(Action::CancelTask(TaskId(task)));
    }

    pub(crate) fn send(&mut self, to: &str, name: &str, data: impl ToString) {
        let (instance_id, name, data) = (to.to_owned(), name.to_owned(), Some(json(data)));
        self.actions.push(Action::SendEvent(OutgoingEvent {
            instance_id,
            name,
            data,
        }));
    }

    pub(crate) fn ask(&mut self, to: &str, name: &str, input: impl ToString) -> u32 {
        let task = self.task();
        self.actions.push(Action::SendRequest(OutgoingRequest {
            task,
            instance_id: to.to_owned(),
            name: name.to_owned(),
            input: Some(json(input)),
        }));
        task.0
    }

    pub(crate) fn respond(&mut self, number: u32, output: impl ToString) {
        let outcome = Ok(Some(json(output)));
        self.actions.push(Action::Respond { number, outcome });
    }

    pub(crate) fn reject(&mut self, number: u32, kind: &str) {
        let outcome = Err(Failure::permanent(kind, ""));
        self.actions.push(Action::Respond { number, outcome });
    }

    pub(crate) fn start(&mut self, name: &str, id: &str) {
        let (instance_id, name) = (id.to_owned(), name.to_owned());
        self.actions.push(Action::StartInstance {
            instance_id,
            name,
            version: None,
            input: None,
            tags: Vec::new(),
            options: perennial_core::InstanceOptions::default(),
        });
    }
}

pub(crate) fn json(text: impl ToString) -> Json {
    Json::from_text(text.to_string())
}

pub(crate) fn waits() -> Ending {
    Ending::Waiting(Waiting::default())
}

pub(crate) fn completes(text: impl ToString) -> Ending {
    Ending::Completed(Some(Json::from_text(text.to_string())))
}

pub(crate) fn fails(kind: &str) -> Ending {
    Ending::Failed {
        failure: Failure::permanent(kind, ""),
        cause: None,
    }
}

pub(crate) fn continues(input: impl ToString, carry_over: Vec<u32>) -> Ending {
    Ending::ContinuedAsNew {
        input: Some(json(input)),
        version: None,
        carry_over,
    }
}

pub(crate) fn retry(max_attempts: u32, first_delay: u64) -> Option<RetryPolicy> {
    Some(RetryPolicy {
        max_attempts,
        first_delay: Millis(first_delay),
        backoff: 1.0,
        max_delay: None,
        jitter: None,
        give_up_after: None,
    })
}

/// The next turn of an orchestration. Its captured state is lost with its guest, and restored by replay.
pub(crate) type Logic = Box<dyn FnMut(&Seen, &mut Out) -> Ending + Send>;

pub(super) type Make = Arc<dyn Fn() -> Logic + Send + Sync>;

/// Tells that something has begun, and then waits to be told to go on.
pub(crate) type Stops = (Sender<()>, Receiver<()>);

/// The orchestrations, by name.
#[derive(Clone, Default)]
pub(crate) struct Programs {
    pub(super) by_name: Arc<Mutex<BTreeMap<String, Make>>>,
    /// Whether the host cannot run the module.
    pub(crate) broken: Arc<AtomicBool>,
    /// Number of panics to come, each when a guest comes to rest after a turn.
    pub(crate) panics: Arc<AtomicU32>,
    /// The shortage with which creating a guest fails.
    pub(crate) lacks: Arc<Mutex<Option<Resource>>>,
    /// Number of turns that guests were told are committed.
    pub(crate) committed: Arc<AtomicU32>,
    /// Told of each module that is prepared.
    pub(crate) prepared: Arc<Mutex<Option<Sender<Digest>>>>,
    /// What the next module that is compiled for a deployment tells when that begins, and then waits for.
    pub(crate) compiles: Arc<Mutex<Option<Stops>>>,
}

impl Executor for Programs {
    fn prepare(&self, module: Digest) {
        if let Some(told) = &*self.prepared.lock().unwrap() {
            // A test that has ended does not listen.
            let _ = told.send(module);
        }
    }

    fn ready(&self, _: Digest, _: &[u8]) {
        let held = self.compiles.lock().unwrap().take();
        if let Some((begins, goes_on)) = held {
            // A test that has ended does not listen.
            let _ = begins.send(());
            let _ = goes_on.recv();
        }
    }

    fn instantiate(
        &self,
        module: Digest,
        _: &Limits,
        _: &str,
        _: Timestamp,
    ) -> Result<Box<dyn ResidentGuest>, Fault> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Fault::Module("it does not compile".to_owned()));
        }
        if let Some(resource) = *self.lacks.lock().unwrap() {
            return Err(Shortage::new(resource, "there is none left").into());
        }
        let is_there = self
            .by_name
            .lock()
            .unwrap()
            .keys()
            .any(|name| module == MODULE || name.ends_with(&format!("#{}", module.0[0])));
        if !is_there {
            return Err(Fault::Module("there is no logic of it".to_owned()));
        }
        Ok(Box::new(self.guest(module)))
    }

    /// Declines what is named so.
    fn validate(
        &self,
        _: Digest,
        _: &Limits,
        proposal: &Proposal<'_>,
    ) -> Result<Result<(), Failure>, Fault> {
        if let Some(resource) = *self.lacks.lock().unwrap() {
            return Err(Shortage::new(resource, "there is none left").into());
        }
        Ok(match proposal.name {
            "Invalid" => Err(Failure::permanent("Declined", proposal.orchestration)),
            "Panic" => panic!("on purpose"),
            _ => Ok(()),
        })
    }
}

impl Programs {
    fn guest(&self, module: Digest) -> ClosureGuest {
        ClosureGuest {
            module,
            programs: self.clone(),
            logic: None,
            seen: Seen::default(),
            next_task: 0,
        }
    }
}

struct ClosureGuest {
    module: Digest,
    programs: Programs,
    logic: Option<Logic>,
    seen: Seen,
    next_task: u32,
}

impl ResidentGuest for ClosureGuest {
    fn resident_bytes(&self) -> usize {
        let one_less = |left: u32| left.checked_sub(1);
        let panics = &self.programs.panics;
        let panics = panics.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less);
        assert!(panics.is_err(), "on purpose");
        1_000
    }

    fn committed(&mut self) {
        self.programs.committed.fetch_add(1, Ordering::AcqRel);
    }
}

impl Guest for ClosureGuest {
    fn advance(&mut self, events: &[GuestEvent], _: Mode) -> Result<Answer, Stop> {
        let seen = &mut self.seen;
        for event in events.iter().cloned() {
            match event {
                GuestEvent::TurnStarted { now, .. } => seen.now = now,
                GuestEvent::ExecutionStarted {
                    instance_id,
                    name,
                    input,
                    ..
                } => {
                    (seen.id, seen.input) = (instance_id, input);
                    // In a module whose digest begins with `n`, the orchestration `F` is `F#n`.
                    let name = match self.module {
                        MODULE => name,
                        Digest(bytes) => format!("{name}#{}", bytes[0]),
                    };
                    self.logic = Some((self.programs.by_name.lock().unwrap()[&name])());
                }
                GuestEvent::TaskCompleted { task, outcome } => {
                    assert!(
                        seen.results.insert(task.0, outcome).is_none(),
                        "told twice of task {task}"
                    );
                }
                GuestEvent::TimerFired(task) => seen.fired.push(task.0),
                GuestEvent::ExternalEventRaised { number, name, data } => {
                    seen.events.push((number, name, data))
                }
                GuestEvent::CancellationRequested(asked) => seen.cancellation = Some(asked),
                GuestEvent::RequestReceived(request) => seen.requests.push(request),
            }
        }
        let mut out = Out {
            next_task: self.next_task,
            actions: Vec::new(),
        };
        let logic = self.logic.as_mut().expect("it was told how it begins");
        let ending = logic(seen, &mut out);
        self.next_task = out.next_task;
        Ok(Answer {
            actions: out.actions,
            ending,
        })
    }
}
