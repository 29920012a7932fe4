//! What a turn costs without the store: making a guest, asking it, replaying it.
#![allow(missing_docs, reason = "a benchmark is a program")]

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use perennial::executor::{Executor, Fault, ResidentGuest};
use perennial::wasm::{Grants, Wasm, WasmConfig};
use perennial::{AttemptRun, Digest, Json, Limits, Timestamp};
use perennial_core::{
    Event, Message, Names, Resolved, SEMANTICS_VERSION, Start, State, TaskId, TaskRef, Turn,
    TurnContext, replay_turn, run_turn,
};
use perennial_tests::guest;

struct EverythingIs(Digest);

impl Names for EverythingIs {
    fn activity(&self, _: Option<Digest>, _: &str) -> Resolved {
        Resolved::Module(self.0, None)
    }

    fn orchestration(&self, _: Option<Digest>, _: &str, _: Option<&str>) -> Resolved {
        Resolved::Module(self.0, None)
    }
}

struct Bench {
    wasm: Wasm,
    module: Digest,
}

impl Bench {
    fn of(package: &str) -> Self {
        let bytes = std::fs::read(guest(package)).unwrap();
        let none = |_| Err(Fault::Module(String::new()));
        let looking = Wasm::new(
            WasmConfig::default(),
            Arc::new(none),
            Arc::new(|_| Ok(Grants::default())),
        )
        .unwrap();
        let found = looking.inspect(&bytes).unwrap();
        let (module, component) = (found.digest, found.component);
        let source = move |_| Ok(component.clone());
        let wasm = Wasm::new(
            WasmConfig::default(),
            Arc::new(source),
            Arc::new(|_| Ok(Grants::default())),
        )
        .unwrap();
        Self { wasm, module }
    }

    fn guest(&self) -> Box<dyn ResidentGuest> {
        self.wasm
            .instantiate(self.module, &Limits::default(), "bench", Timestamp(0))
            .unwrap()
    }

    fn start(&self, name: &str, input: &str) -> Message {
        Message::Start(Box::new(Start {
            instance_id: "bench".to_owned(),
            execution_id: "0123456789abcdef0123456789abcdef".to_owned(),
            execution: 0,
            name: name.to_owned(),
            version: None,
            input: Some(Json::from_text(input)),
            parent: None,
            tags: Vec::new(),
            trace_parent: None,
            seed: 7,
            module: Some(self.module),
            limits: Limits::default(),
            next_external: 0,
            semantics: SEMANTICS_VERSION,
            accepted_at: Timestamp(1),
            scheduled_for: None,
        }))
    }

    fn turn(&self, state: &mut State, guest: &mut dyn ResidentGuest, message: Message) -> Turn {
        let names = EverythingIs(self.module);
        let mut fresh = || (String::new(), 0);
        let mut context = TurnContext {
            now: Timestamp(1_000),
            names: &names,
            fresh: &mut fresh,
        };
        run_turn(state, vec![message], &mut context, guest)
            .unwrap()
            .unwrap()
    }

    fn result(task: u32) -> Message {
        Self::result_of(task, "1")
    }

    fn result_of(task: u32, output: &str) -> Message {
        Message::ActivityEnded {
            task: TaskRef {
                execution: 0,
                generation: 0,
                task: TaskId(task),
            },
            outcome: Ok(Some(Json::from_text(output))),
            run: AttemptRun {
                attempt: 1,
                started_at: Timestamp(1_000),
                ended_at: Timestamp(1_001),
            },
        }
    }
}

fn stored(turn: &Turn) -> usize {
    postcard::to_stdvec(&turn.received).unwrap().len()
        + postcard::to_stdvec(&turn.produced).unwrap().len()
}

fn turns(c: &mut Criterion) {
    let hello = Bench::of("hello-sequence");
    c.bench_function("hello-sequence: instantiate, all four turns, drop", |b| {
        b.iter(|| {
            let (mut state, mut guest) = (State::new(0), hello.guest());
            hello.turn(
                &mut state,
                guest.as_mut(),
                hello.start("HelloSequence", "null"),
            );
            (0..3).for_each(|task| {
                let greeting = Bench::result_of(task, "\"Hello!\"");
                hello.turn(&mut state, guest.as_mut(), greeting);
            });
            assert!(state.has_ended());
        });
    });

    let bench = Bench::of("workloads");

    c.bench_function("instantiate and drop", |b| b.iter(|| bench.guest()));

    c.bench_function("instantiate, first turn, drop", |b| {
        b.iter(|| {
            let mut guest = bench.guest();
            bench.turn(
                &mut State::new(0),
                guest.as_mut(),
                bench.start("Chain", "1000000000"),
            )
        });
    });

    let mut guest = bench.guest();
    let mut state = State::new(0);
    bench.turn(
        &mut state,
        guest.as_mut(),
        bench.start("Chain", "1000000000"),
    );
    let mut task = 0;
    c.bench_function("resident turn, encoded for the store", |b| {
        b.iter(|| {
            let turn = bench.turn(&mut state, guest.as_mut(), Bench::result(task));
            task += 1;
            stored(&turn)
        });
    });

    const TURNS: u32 = 10_000;
    let mut guest = bench.guest();
    let mut state = State::new(0);
    let mut history = vec![bench.turn(
        &mut state,
        guest.as_mut(),
        bench.start("Chain", "1000000000"),
    )];
    history.extend(
        (0..TURNS - 1).map(|task| bench.turn(&mut state, guest.as_mut(), Bench::result(task))),
    );
    c.bench_function("replay 10,000 turns", |b| {
        b.iter(|| {
            let (mut state, mut guest) = (State::new(0), bench.guest());
            for turn in &history {
                replay_turn(&mut state, turn, guest.as_mut()).unwrap();
            }
            assert_eq!(state.turns, TURNS);
        });
    });

    let bytes: Vec<_> = history
        .iter()
        .map(|turn| {
            (
                postcard::to_stdvec(&turn.received).unwrap(),
                postcard::to_stdvec(&turn.produced).unwrap(),
            )
        })
        .collect();
    c.bench_function("replay 10,000 turns, decoded from the store's bytes", |b| {
        b.iter(|| {
            let (mut state, mut guest) = (State::new(0), bench.guest());
            for (turn, (received, produced)) in history.iter().zip(&bytes) {
                let received: Vec<Event> = postcard::from_bytes(received).unwrap();
                let produced: Vec<Event> = postcard::from_bytes(produced).unwrap();
                let turn = Turn {
                    received,
                    produced,
                    next: None,
                    ..*turn
                };
                replay_turn(&mut state, &turn, guest.as_mut()).unwrap();
            }
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = turns
}
criterion_main!(benches);
