//! A world for one instance: its mail, its guest, and its history in words.
#![warn(clippy::too_many_lines)]
#![allow(dead_code, reason = "each ring of tests uses a part of it")]

pub(crate) mod random;
pub(crate) mod simulation;
pub(crate) mod words;

use std::collections::VecDeque;

use perennial_core::{
    Answer, Digest, Envelope, Event, Guest, GuestEvent, Limits, Message, Mode, Names, Resolved,
    SEMANTICS_VERSION, Start, State, Stop, Timestamp, Turn, TurnContext, TurnError, replay_turn,
    run_turn, take_batch,
};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;
use words::show;

/// How many random cases a law is tried with: the same ones each time, so that a failure is that of the change that is tested.
///
/// `PERENNIAL_LONG` tries fifty times as many, new ones each time.
pub(crate) fn tried(cases: u32) -> ProptestConfig {
    let (cases, rng_seed) = match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => (cases * 50, RngSeed::Random),
        None => (cases, RngSeed::Fixed(0)),
    };
    ProptestConfig {
        failure_persistence: None,
        rng_seed,
        ..ProptestConfig::with_cases(cases)
    }
}

/// A guest that gives these answers, one a turn, whatever it is told.
pub(crate) struct Script {
    answers: VecDeque<Result<Answer, Stop>>,
}

impl Script {
    pub(crate) fn new(answers: &[Result<Answer, Stop>]) -> Self {
        Self {
            answers: answers.iter().cloned().collect(),
        }
    }
}

impl Guest for Script {
    fn advance(&mut self, events: &[GuestEvent], _: Mode) -> Result<Answer, Stop> {
        assert!(matches!(events[0], GuestEvent::TurnStarted { .. }));
        self.answers
            .pop_front()
            .expect("the script has an answer for each turn")
    }
}

/// The names that are deployed: everything but what begins with `Missing`; `Native...` are closures.
pub(crate) struct Deployed;

/// The module that was deployed last.
pub(crate) const NEWEST: Digest = Digest([2; 32]);

/// The module of the first execution.
pub(crate) const PINNED: Digest = Digest([1; 32]);

impl Deployed {
    fn resolve(name: &str, version: Option<&str>) -> Resolved {
        if name.starts_with("Missing") || version == Some("missing") {
            Resolved::Unknown
        } else if name.starts_with("Native") {
            Resolved::Native
        } else {
            Resolved::Module(NEWEST, Some(version.unwrap_or("2").to_owned()))
        }
    }
}

impl Names for Deployed {
    fn activity(&self, caller: Option<Digest>, name: &str) -> Resolved {
        match Self::resolve(name, None) {
            Resolved::Module(newest, version) => {
                Resolved::Module(caller.unwrap_or(newest), version)
            }
            other => other,
        }
    }

    fn orchestration(
        &self,
        _caller: Option<Digest>,
        name: &str,
        version: Option<&str>,
    ) -> Resolved {
        Self::resolve(name, version)
    }

    fn can_cancel(&self, module: Option<Digest>) -> bool {
        module.is_some()
    }
}

/// The start of the instance `order`.
pub(crate) fn start() -> Start {
    Start {
        instance_id: "order".to_owned(),
        execution_id: "e0".to_owned(),
        execution: 0,
        name: "Order".to_owned(),
        version: Some("1".to_owned()),
        input: None,
        parent: None,
        tags: Vec::new(),
        trace_parent: None,
        seed: 7,
        module: Some(PINNED),
        limits: Limits::default(),
        next_external: 0,
        semantics: SEMANTICS_VERSION,
        accepted_at: Timestamp(900),
        scheduled_for: None,
    }
}

/// One instance, from its first message on.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) mail: VecDeque<Envelope>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) next: Option<Box<Start>>,
    script: Vec<Result<Answer, Stop>>,
    guest: Script,
    told: String,
}

impl World {
    /// An instance with a start in its mail, and what its guest will answer.
    pub(crate) fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::with_start(start(), script.into_iter().map(Ok))
    }

    pub(crate) fn with_start(
        start: Start,
        script: impl IntoIterator<Item = Result<Answer, Stop>>,
    ) -> Self {
        let world = Self::without_start(script);
        world.gets([Message::Start(Box::new(start))])
    }

    pub(crate) fn without_start(script: impl IntoIterator<Item = Result<Answer, Stop>>) -> Self {
        let script: Vec<_> = script.into_iter().collect();
        Self {
            state: State::new(0),
            mail: VecDeque::new(),
            turns: Vec::new(),
            next: None,
            guest: Script::new(&script),
            script,
            told: String::new(),
        }
    }

    /// Puts messages into the mail.
    pub(crate) fn gets(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.mail
            .extend(messages.into_iter().map(Envelope::in_memory));
        self
    }

    /// Runs turns at this time until there is nothing to do.
    pub(crate) fn runs_at(mut self, now: u64) -> Self {
        loop {
            let batch = take_batch(&self.state, &mut self.mail, Timestamp(now));
            if batch.envelopes.is_empty() {
                return self;
            }
            let messages = batch.envelopes.into_iter().map(|e| e.message).collect();
            match self.run(now, messages) {
                Ok(Some(turn)) => self.turns.push(turn),
                Ok(None) => self.told += &format!("at {now} nothing changes\n"),
                Err(reason) => {
                    self.told += &format!("at {now} the host stops: {reason}\n");
                    return self;
                }
            }
        }
    }

    fn run(&mut self, now: u64, messages: Vec<Message>) -> Result<Option<Turn>, TurnError> {
        let mut context = TurnContext {
            now: Timestamp(now),
            names: &Deployed,
            fresh: &mut || ("e1".to_owned(), 8),
        };
        let turn = run_turn(&mut self.state, messages, &mut context, &mut self.guest)?;
        if let Some(turn) = &turn {
            self.tell(turn);
            self.next = turn.next.clone();
        }
        Ok(turn)
    }

    fn tell(&mut self, turn: &Turn) {
        self.told += &format!("at {}\n", turn.at.0);
        let marks = turn.received.iter().map(|event| ('<', event));
        let marks = marks.chain(turn.produced.iter().map(|event| ('>', event)));
        for (number, (mark, event)) in (turn.first_event..).zip(marks) {
            self.told += &format!("{number:>4} {mark} {}\n", show(event));
        }
    }

    /// What happened, in words, after checking that a replay comes to the same.
    pub(crate) fn told(&self) -> String {
        let mut state = State::new(0);
        let mut guest = Script::new(&self.script);
        for turn in &self.turns {
            replay_turn(&mut state, turn, &mut guest).expect("the history repeats");
        }
        assert_eq!(state, self.state, "a replay comes to the same state");
        self.told.clone()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.turns.iter().flat_map(Turn::events).cloned().collect()
    }
}
