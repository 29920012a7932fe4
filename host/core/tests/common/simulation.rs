//! A simulated world around one instance with a random guest.

use std::collections::VecDeque;

use perennial_core::{
    AttemptRun, CutFinder, Envelope, Event, Failure, Guest, GuestEvent, Json, Message, Millis,
    Mode, Rewind, Rewinder, Scope, Start, State, Stop, TaskRef, Timestamp, Turn, TurnContext,
    TurnError, TurnStep, begin_turn, replay_turn, run_turn, take_batch,
};
use proptest::prelude::*;

use super::random::{LIMITS, Manners, RandomGuest};
use super::words::{cancel_instance, raised, request, suspend, terminate};
use super::{Deployed, start};

/// One thing that happens in a simulated world. The numbers say which task or message, modulo how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Run { after_ms: u8 },
    End { task: u16, fails: bool },
    Due { task: u16 },
    Raise,
    Request,
    Skip,
    Repeat { message: u16 },
    Stale { message: u16, executions: u8 },
    Suspend,
    Resume,
    Terminate,
    Cancel,
    TimeLimit,
    GraceOver { stale: bool },
    Evict,
    HostStop,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => any::<u8>().prop_map(|after_ms| Step::Run { after_ms }),
        40 => (any::<u16>(), any::<bool>()).prop_map(|(task, fails)| Step::End { task, fails }),
        10 => any::<u16>().prop_map(|task| Step::Due { task }),
        15 => Just(Step::Raise),
        10 => Just(Step::Request),
        3 => Just(Step::Skip),
        5 => any::<u16>().prop_map(|message| Step::Repeat { message }),
        5 => (any::<u16>(), 1..3u8).prop_map(|(message, executions)| Step::Stale { message, executions }),
        2 => Just(Step::Suspend),
        5 => Just(Step::Resume),
        1 => Just(Step::Terminate),
        3 => Just(Step::Cancel),
        1 => Just(Step::TimeLimit),
        2 => any::<bool>().prop_map(|stale| Step::GraceOver { stale }),
        8 => Just(Step::Evict),
        4 => Just(Step::HostStop),
    ]
}

/// A seed and manners of a guest, and what happens to it.
pub(crate) fn story() -> impl Strategy<Value = (u64, Manners, Vec<Step>)> {
    let manners = prop_oneof![3 => Just(Manners::Polite), 1 => Just(Manners::Hostile)];
    (any::<u64>(), manners, prop::collection::vec(step(), 1..150))
}

/// One call of `run_turn` and what came of it.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) now: Timestamp,
    pub(crate) messages: Vec<Message>,
    pub(crate) turn: Option<Turn>,
}

/// One execution of the instance.
pub(crate) struct Execution {
    pub(crate) state: State,
    pub(crate) runs: Vec<Run>,
}

impl Execution {
    pub(crate) fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.runs.iter().filter_map(|run| run.turn.as_ref())
    }
}

/// A simulated world around one instance.
pub(crate) struct World {
    seed: u64,
    manners: Manners,
    pub(crate) now: Timestamp,
    mail: VecDeque<Envelope>,
    pub(crate) sent: Vec<Message>,
    pub(crate) executions: Vec<Execution>,
    guest: Box<dyn Guest>,
}

/// A guest that the host cannot run.
pub(crate) struct Unreachable;

impl Guest for Unreachable {
    fn advance(&mut self, _: &[GuestEvent], _: Mode) -> Result<perennial_core::Answer, Stop> {
        Err(Stop::Host("no memory".to_owned()))
    }
}

pub(crate) fn first_start() -> Message {
    let limits = LIMITS;
    Message::Start(Box::new(Start { limits, ..start() }))
}

/// Runs a turn; the ids of what follows are a function of the execution.
pub(crate) fn turn(
    state: &mut State,
    now: Timestamp,
    messages: Vec<Message>,
    guest: &mut dyn Guest,
) -> Result<Option<Turn>, TurnError> {
    let execution = state.execution() + 1;
    let mut context = TurnContext {
        now,
        names: &Deployed,
        fresh: &mut || (format!("e{execution}"), u64::from(execution)),
    };
    run_turn(state, messages, &mut context, guest)
}

/// Runs a turn whose guest answers `later`, after a first try whose answer was lost.
pub(crate) fn parked_turn(
    state: &mut State,
    now: Timestamp,
    later: Timestamp,
    messages: Vec<Message>,
    guest: &mut dyn Guest,
) -> Result<Option<Turn>, TurnError> {
    let execution = state.execution() + 1;
    let mut fresh = || (format!("e{execution}"), u64::from(execution));
    let mut context = TurnContext {
        now,
        names: &Deployed,
        fresh: &mut fresh,
    };
    begin_turn(&mut state.clone(), messages.clone(), &mut context)?;
    match begin_turn(state, messages, &mut context)? {
        TurnStep::Complete(turn) => Ok(turn),
        TurnStep::Ask(asked) => {
            context.now = later;
            let answer = guest.advance(asked.events(), asked.mode());
            asked.answered(state, &mut context, answer).map(Some)
        }
    }
}

/// Replays turns on a fresh guest.
pub(crate) fn replay<'a>(turns: impl Iterator<Item = &'a Turn>, guest: &mut dyn Guest) -> State {
    replay_in(0, turns, guest)
}

/// As [`replay`], in this generation.
pub(crate) fn replay_in<'a>(
    generation: u32,
    turns: impl Iterator<Item = &'a Turn>,
    guest: &mut dyn Guest,
) -> State {
    let mut state = State::new(generation);
    for turn in turns {
        replay_turn(&mut state, turn, guest).expect("what was written repeats");
    }
    state
}

impl World {
    fn new(seed: u64, manners: Manners) -> Self {
        let mut world = Self {
            seed,
            manners,
            now: Timestamp(1000),
            mail: VecDeque::new(),
            sent: Vec::new(),
            executions: Vec::new(),
            guest: Box::new(Unreachable),
        };
        world.begin([first_start()]);
        world
    }

    /// A fresh execution, with these messages before all others.
    fn begin(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages.into_iter().collect::<Vec<_>>().into_iter().rev() {
            self.mail.push_front(Envelope::in_memory(message));
        }
        self.executions.push(Execution {
            state: State::new(0),
            runs: Vec::new(),
        });
        self.guest = self.fresh_guest(self.executions.len() - 1);
    }

    pub(crate) fn fresh_guest(&self, execution: usize) -> Box<dyn Guest> {
        Box::new(RandomGuest::new(self.seed ^ execution as u64, self.manners))
    }

    fn current(&mut self) -> &mut Execution {
        self.executions
            .last_mut()
            .expect("there is one from the start")
    }

    fn send(&mut self, message: Message) {
        self.sent.push(message.clone());
        self.mail.push_back(Envelope::in_memory(message));
    }

    /// Forgets the guest and the state, and gets them back from the history.
    fn evict(&mut self) {
        let mut guest = self.fresh_guest(self.executions.len() - 1);
        let generation = self.current().state.generation;
        let state = replay_in(generation, self.current().turns(), &mut *guest);
        assert_eq!(state, self.current().state);
        self.guest = guest;
    }

    /// Goes back to before the failure of the current execution; `None` if it has not failed.
    pub(crate) fn rewind(&mut self, scope: Scope) -> Option<Rewind> {
        let mut finder = CutFinder::default();
        let current = self.executions.last_mut()?;
        current.turns().for_each(|turn| finder.see(turn));
        let cut = finder.cut(scope)?;
        let mut rewinder = Rewinder::new(&cut, current.state.generation + 1);
        for turn in current.turns() {
            rewinder.see(turn).expect("what was written can be read");
        }
        let unread = self.mail.drain(..).map(|envelope| envelope.message);
        let rewind = rewinder.finish(unread, self.now).expect("it can be cut");
        current
            .runs
            .retain(|run| run.turn.as_ref().is_some_and(|turn| turn.number < cut.turn));
        current.runs.extend(rewind.carried.clone().map(|turn| Run {
            now: turn.at,
            messages: Vec::new(),
            turn: Some(turn),
        }));
        let mut guest = self.fresh_guest(self.executions.len() - 1);
        let current = self.current();
        let generation = rewind.state.generation;
        let state = replay_in(generation, current.turns(), &mut *guest);
        // What it waits for is not recorded, so only the replay gives it again.
        let mut folded = State::new(generation);
        for turn in current.turns() {
            let mut events = turn.events();
            let applied = events.try_for_each(|event| folded.apply(event));
            applied.expect("what repeats can be read");
            folded.turns += 1;
        }
        assert_eq!(folded, rewind.state, "a rewound history repeats");
        (current.state, self.guest) = (state, guest);
        self.mail
            .extend(rewind.inbox.iter().cloned().map(Envelope::in_memory));
        Some(rewind)
    }

    fn run(&mut self, after_ms: u8) {
        // A host's clock may be set back.
        self.now = Timestamp(self.now.0 + u64::from(after_ms) - 40);
        let now = self.now;
        let Self {
            mail,
            executions,
            guest,
            ..
        } = self;
        let current = executions.last_mut().expect("there is one from the start");
        let batch = take_batch(&current.state, mail, now);
        if batch.envelopes.is_empty() {
            return;
        }
        let messages: Vec<_> = batch.envelopes.into_iter().map(|e| e.message).collect();
        let turn = turn(&mut current.state, now, messages.clone(), &mut **guest)
            .expect("what take_batch gives makes a turn");
        let next = turn.as_ref().and_then(|turn| turn.next.clone());
        current.runs.push(Run {
            now,
            messages,
            turn,
        });
        if let Some(next) = next {
            let carried = self.carried();
            let status = self.current().state.custom_status.clone();
            let status = status.map(|value| Message::CustomStatus { value });
            let values = self.current().state.values.clone();
            let values = (!values.is_empty()).then(|| Message::Values {
                values: values.into_iter().collect(),
            });
            let start = std::iter::once(Message::Start(next));
            self.begin(start.chain(status).chain(values).chain(carried));
        }
    }

    /// What the execution that just continued as new carries over.
    fn carried(&self) -> Vec<Message> {
        let events: Vec<&Event> = self
            .executions
            .last()
            .into_iter()
            .flat_map(Execution::turns)
            .flat_map(Turn::events)
            .collect();
        let Some(Event::ContinuedAsNew { carry_over, .. }) = events.last() else {
            panic!("it did not continue as new");
        };
        let carried = carry_over.iter().map(|wanted| {
            let found = events.iter().find_map(|event| {
                Message::carried_over(event).filter(|message| match message {
                    Message::ExternalEvent { number, .. } | Message::Request { number, .. } => {
                        *number == Some(*wanted)
                    }
                    _ => false,
                })
            });
            found.expect("it has what it carries over")
        });
        carried.collect()
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Run { after_ms } => self.run(after_ms),
            Step::End { task, fails } => self.end_task(task, fails),
            Step::Due { task: nth } => {
                if let Some((task, _)) = self.scheduled(nth) {
                    let attempt = 2 + u32::from(nth % 3);
                    self.send(Message::ChildDue { task, attempt });
                }
            }
            Step::Cancel => self.send(cancel_instance("enough", 100)),
            Step::TimeLimit => self.send(Message::TimeLimit { grace: Millis(50) }),
            Step::GraceOver { stale } => {
                let state = &self.current().state;
                let (execution, generation) = (state.execution(), state.generation);
                self.send(Message::GraceOver {
                    execution: execution + u32::from(stale),
                    generation,
                });
            }
            Step::Raise => self.send(raised("go", &self.sent.len().to_string())),
            Step::Request => self.send(request("ask", &self.sent.len().to_string())),
            Step::Skip => self.send(Message::StartSkipped {
                instance_id: "new".to_owned(),
                reason: "the id is in use".to_owned(),
            }),
            Step::Repeat { message } => {
                // External events are told apart by nothing: each one sent is another one.
                if let Some(message) = pick(&self.sent, message).filter(|m| {
                    !matches!(m, Message::ExternalEvent { .. } | Message::Request { .. })
                }) {
                    self.send(message);
                }
            }
            Step::Stale {
                message,
                executions,
            } => {
                if let Some(message) =
                    pick(&self.sent, message).and_then(|m| stale(m, u32::from(executions)))
                {
                    self.send(message);
                }
            }
            Step::Suspend => self.send(suspend()),
            Step::Resume => self.send(Message::Resume {
                reason: None,
                module: None,
                recursive: false,
            }),
            Step::Terminate => self.send(terminate("enough")),
            Step::Evict => self.evict(),
            Step::HostStop => self.host_stop(),
        }
    }

    /// Some task that was scheduled in this execution, ended or not.
    fn scheduled(&mut self, which: u16) -> Option<(TaskRef, Event)> {
        let execution = self.current().state.execution();
        let generation = self.current().state.generation;
        let scheduled: Vec<_> = self
            .current()
            .turns()
            .flat_map(|turn| &turn.produced)
            .filter_map(|event| {
                let (Event::ActivityScheduled { task, .. }
                | Event::ChildScheduled { task, .. }
                | Event::RequestSent { task, .. }
                | Event::TimerSet { task, .. }
                | Event::TimerSetAt { task, .. }) = event
                else {
                    return None;
                };
                let task = TaskRef {
                    execution,
                    generation,
                    task: *task,
                };
                Some((task, event.clone()))
            })
            .collect();
        pick(&scheduled, which)
    }

    fn end_task(&mut self, which: u16, fails: bool) {
        let Some((task, event)) = self.scheduled(which) else {
            return;
        };
        let outcome = if fails {
            Err(Failure::retryable("Flaky", "by chance"))
        } else {
            Ok(Some(Json::from_text(self.sent.len().to_string())))
        };
        let attempt = u32::from(which % 3) + 1;
        let message = if let Event::ActivityScheduled { .. } = event {
            Message::ActivityEnded {
                task,
                outcome,
                run: AttemptRun {
                    attempt,
                    ..AttemptRun::default()
                },
            }
        } else if let Event::ChildScheduled { .. } = event {
            Message::ChildEnded {
                task,
                attempt,
                outcome,
            }
        } else if let Event::RequestSent { .. } = event {
            Message::RequestEnded { task, outcome }
        } else {
            Message::TimerFired { task }
        };
        self.send(message);
    }

    /// A turn in which the host cannot run the guest: nothing of it is durable.
    fn host_stop(&mut self) {
        let before: VecDeque<Envelope> = self.mail.clone();
        let mut state = self.current().state.clone();
        let batch = take_batch(&state, &mut self.mail, self.now);
        let messages = batch.envelopes.into_iter().map(|e| e.message).collect();
        if turn(&mut state, self.now, messages, &mut Unreachable).is_err() {
            self.evict();
        }
        self.mail = before;
    }

    pub(crate) fn play(seed: u64, manners: Manners, steps: &[Step]) -> Self {
        let mut world = Self::new(seed, manners);
        steps.iter().for_each(|step| world.take(*step));
        world
    }
}

pub(crate) fn pick<T: Clone>(of: &[T], which: u16) -> Option<T> {
    of.get(usize::from(which) % of.len().max(1)).cloned()
}

/// The message as another execution would get it.
pub(crate) fn stale(message: Message, executions: u32) -> Option<Message> {
    let other = |task: TaskRef| TaskRef {
        execution: task.execution + executions,
        generation: executions % 2,
        ..task
    };
    Some(match message {
        Message::ActivityEnded { task, outcome, run } => Message::ActivityEnded {
            task: other(task),
            outcome,
            run,
        },
        Message::ChildEnded {
            task,
            attempt,
            outcome,
        } => Message::ChildEnded {
            task: other(task),
            attempt,
            outcome,
        },
        Message::TimerFired { task } => Message::TimerFired { task: other(task) },
        Message::RequestEnded { task, outcome } => Message::RequestEnded {
            task: other(task),
            outcome,
        },
        Message::ChildDue { task, attempt } => Message::ChildDue {
            task: other(task),
            attempt,
        },
        _ => return None,
    })
}
