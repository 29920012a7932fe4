//! Handwritten guests, each with one fault.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use perennial_core::{
    Answer, Digest, Ending, Failure, GuestEvent, Json, Limits, Mode, Stop, TaskId, TaskRef,
    Timestamp, Waiting,
};
use wit_component::StringEncoding;
use wit_parser::Resolve;

use super::*;
use crate::engine::executor::{
    ActivityExecutor, Attempt, AttemptError, Executor, Fault, Heart, Interrupt, ResidentGuest,
};
use crate::engine::workers::processors::Share;

mod activities;
mod bytes;
mod modules;
mod sandbox;
mod verdicts;

pub(crate) const ORCHESTRATIONS: &str = "perennial:workflow/orchestrations@0.1.0";
const ACTIVITIES: &str = "perennial:workflow/activities@0.1.0";

/// A world with these exports, and more imports than the contract.
pub(crate) fn world(items: &str) -> String {
    format!("package test:guest; interface reach {{ out: func(); }} world guest {{ {items} }}")
}

/// A core module for `world`, as a guest's compiler emits it: memory, allocator, and the given body.
pub(crate) fn core_module(world: &str, body: &str) -> Vec<u8> {
    let mut module = wat::parse_str(format!(
        r#"(module
            {body}
            (global $next (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at)))"#
    ))
    .unwrap();
    let mut resolve = Resolve::default();
    resolve
        .push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/0.1"))
        .unwrap();
    let package = resolve.push_str("test.wit", world).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .unwrap();
    module
}

/// Bytes in memory: one definition named `f` for each of `names`, at address 64, which a list at address 16 points to.
fn definitions(names: &[&str]) -> String {
    let mut list = Vec::new();
    let mut text = String::new();
    for name in names {
        let mut definition = [0_u32; 11];
        definition[0] = 2048 + u32::try_from(text.len()).unwrap();
        definition[1] = u32::try_from(name.len()).unwrap();
        list.extend(definition.iter().flat_map(|word| word.to_le_bytes()));
        text.push_str(name);
    }
    let escaped: String = list.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let length = format!("\\{:02x}\\00\\00\\00", names.len());
    format!(
        r#"(data (i32.const 16) "\40\00\00\00{length}") (data (i32.const 64) "{escaped}") (data (i32.const 2048) "{text}")"#
    )
}

/// The exports of a module with the orchestration `F` and this body of `advance`. Address 1024 holds an answer that waits.
pub(crate) fn orchestration(advance: &str) -> String {
    format!(
        r#"(memory (export "memory") 16)
        {}
        (func (export "{ORCHESTRATIONS}#definitions") (result i32) (i32.const 16))
        (func $advance (export "{ORCHESTRATIONS}#advance") (param i32 i32) (result i32)
            {advance}
            (i32.const 1024))"#,
        definitions(&["F"])
    )
}

struct Bench {
    wasm: Wasm,
    modules: Arc<Mutex<Vec<Vec<u8>>>>,
    asked: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        Self::with(WasmConfig {
            resident_max: 4,
            ..WasmConfig::default()
        })
    }

    fn with(config: WasmConfig) -> Self {
        let modules: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let source: Source = {
            let (modules, asked) = (Arc::clone(&modules), Arc::clone(&asked));
            Arc::new(move |digest| {
                asked.fetch_add(1, Ordering::Relaxed);
                let modules = modules.lock().unwrap();
                let module = modules
                    .iter()
                    .find(|module| inspect::digest(module) == digest);
                module
                    .cloned()
                    .ok_or_else(|| Fault::Module("the hub has no such module".to_owned()))
            })
        };
        let wasm = Wasm::new(config, source, Arc::new(|_| Ok(Grants::default()))).unwrap();
        Self {
            wasm,
            modules,
            asked,
        }
    }

    fn deploy(&self, world: &str, body: &str) -> Digest {
        let inspected = self.wasm.inspect(&core_module(world, body)).unwrap();
        self.modules.lock().unwrap().push(inspected.component);
        inspected.digest
    }

    fn orchestration(&self, imports: &str, body: &str, advance: &str) -> Box<dyn ResidentGuest> {
        let world = world(&format!("{imports} export {ORCHESTRATIONS};"));
        let digest = self.deploy(&world, &format!("{body} {}", orchestration(advance)));
        self.wasm
            .instantiate(digest, &Limits::default(), "i", Timestamp(0))
            .unwrap()
    }
}

fn first_turn(now: u64, seed: u64) -> Vec<GuestEvent> {
    vec![
        GuestEvent::TurnStarted {
            now: Timestamp(now),
            history_events: 0,
            history_bytes: 0,
        },
        GuestEvent::ExecutionStarted {
            instance_id: "i".to_owned(),
            execution_id: "e".to_owned(),
            name: "F".to_owned(),
            version: None,
            input: None,
            parent: None,
            tags: vec![("colour".to_owned(), "red".to_owned())],
            trace_parent: None,
            seed,
        },
    ]
}

fn live(guest: &mut dyn ResidentGuest) -> Result<Answer, Stop> {
    guest.advance(&first_turn(1000, 7), Mode::Live { fuel: 1_000_000 })
}

#[track_caller]
fn verdict(result: Result<Answer, Stop>) -> Failure {
    match result {
        Err(Stop::Verdict(failure)) => failure,
        other => panic!("no verdict but {other:?}"),
    }
}

fn waiting() -> Answer {
    Answer {
        actions: Vec::new(),
        ending: Ending::Waiting(Waiting::default()),
    }
}

/// Imports of WASI preview 1, as `wasm32-wasip1` programs have them.
const WASI: &str = r#"
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;

/// The exports of a module with the activity `A` and this body.
fn activity(run: &str) -> String {
    format!(
        r#"(func (export "{ACTIVITIES}#definitions") (result i32) (i32.const 16))
        (func (export "{ACTIVITIES}#run") (param i32) (result i32) {run} (i32.const 1200))"#
    )
}

fn attempt(module: Digest) -> Attempt {
    Attempt {
        module: Some(module),
        name: "A".to_owned(),
        input: Some(Json::from_text("1")),
        instance_id: "i".to_owned(),
        execution_id: "e".to_owned(),
        orchestration: "F".to_owned(),
        caller: Some(module),
        output_bytes_max: 1 << 20,
        task: TaskRef {
            execution: 1,
            generation: 0,
            task: TaskId(0),
        },
        attempt: 1,
        deadline: None,
        timeout: None,
        trace_parent: None,
        management_urls: None,
        scheduled_in: 0,
        interrupt: Interrupt::default(),
        heart: Heart::default(),
        share: Share::default(),
    }
}

fn run(bench: &Bench, attempt: Attempt) -> Result<Option<Json>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(bench.wasm.run(attempt)).map_err(of_guest)
}

/// The failure of an attempt; panics if the host lacked a resource.
fn of_guest(error: AttemptError) -> Failure {
    match error {
        AttemptError::Failed(failure) => failure,
        AttemptError::Host(shortage) => panic!("the host lacks {}: {shortage}", shortage.resource),
    }
}
