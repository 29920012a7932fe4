//! Histories that were recorded once, and that every later version must still replay; see `tests/golden/README.md`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use perennial::executor::{Executor as _, Fault};
use perennial::wasm::{Grants, Wasm, WasmConfig};
use perennial::{
    Client, Clock as _, Digest, Event, HostBuilder, Millis, Module, SimClock, SystemClock,
    Timestamp,
};
use perennial_core::{ReplayError, SEMANTICS_VERSION, Start, State, Turn, replay_turn};
use perennial_tests::{DataDir, guest, guests, root};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const MODULE_BYTES_MAX: usize = 300 << 10;

const LIMIT: Duration = Duration::from_secs(120);

/// The format that the stored bytes say they are in.
const FORMAT: u8 = 1;

/// What was recorded of a program.
#[derive(Serialize, Deserialize)]
struct Recording {
    /// The SHA-256 of `program.wasm`.
    module: String,
    executions: Vec<Execution>,
}

#[derive(Serialize, Deserialize)]
struct Execution {
    instance: String,
    execution: u32,
    turns: Vec<RecordedTurn>,
}

/// A row of the hub, its bytes in hexadecimal.
#[derive(Serialize, Deserialize)]
struct RecordedTurn {
    number: u32,
    first_event: u64,
    at: u64,
    answer: Option<String>,
    received: String,
    produced: String,
    /// What the bytes hold, for people.
    events: Vec<String>,
}

/// What happens to a program while it is recorded.
#[derive(Deserialize)]
struct Script {
    start: String,
    input: Value,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Step {
    Raise {
        raise: String,
        data: Value,
    },
    /// A request, whose answer is waited for, whatever it is.
    Request {
        request: String,
        input: Value,
    },
    /// A cancellation, with its reason.
    Cancel {
        cancel: String,
    },
    /// Milliseconds by which the clock jumps.
    Advance {
        advance: u64,
    },
    /// A custom status to wait for.
    Until {
        until: Value,
    },
}

fn folder(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder("")).unwrap();
    let folders = entries
        .map(Result::unwrap)
        .filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders
        .map(|folder| folder.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The events in stored bytes, which are what is stored of them today.
fn decode(stored: &[u8]) -> Vec<Event> {
    let (format, rest) = stored.split_first().unwrap();
    assert_eq!(*format, FORMAT);
    let events: Vec<Event> = postcard::from_bytes(rest).unwrap();
    assert_eq!(
        hex(&postcard::to_stdvec(&events).unwrap()),
        hex(rest),
        "it is stored in another way today"
    );
    events
}

impl RecordedTurn {
    fn turn(&self) -> Turn {
        let turn = Turn {
            number: self.number,
            first_event: self.first_event,
            at: Timestamp(self.at),
            received: decode(&bytes(&self.received)),
            produced: decode(&bytes(&self.produced)),
            answer: self
                .answer
                .as_ref()
                .map(|hash| u64::from_str_radix(hash, 16).unwrap()),
            next: None,
        };
        assert_eq!(in_words(&turn), self.events);
        turn
    }
}

fn in_words(turn: &Turn) -> Vec<String> {
    turn.events().map(|event| event.name().to_owned()).collect()
}

impl Recording {
    fn read(name: &str) -> Self {
        let path = folder(name).join("history.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; see tests/golden/README.md", path.display())
        });
        serde_json::from_str(&text).unwrap()
    }

    fn executions(&self) -> Vec<Vec<Turn>> {
        let turns =
            |execution: &Execution| execution.turns.iter().map(RecordedTurn::turn).collect();
        self.executions.iter().map(turns).collect()
    }
}

fn recorded_module(name: &str) -> Vec<u8> {
    std::fs::read(folder(name).join("program.wasm")).unwrap()
}

fn start_of(turns: &[Turn]) -> &Start {
    let mut received = turns.iter().flat_map(|turn| &turn.received);
    let start = received.find_map(|event| match event {
        Event::ExecutionStarted(start) => Some(start),
        _ => None,
    });
    start.expect("it began")
}

/// Runs the guests of one module, without a host.
struct Player {
    wasm: Wasm,
    module: Digest,
}

impl Player {
    fn of(module: &[u8]) -> Self {
        let looked_at: Arc<OnceLock<Vec<u8>>> = Arc::default();
        let component = Arc::clone(&looked_at);
        let source =
            Arc::new(move |_| component.get().cloned().ok_or(Fault::Module(String::new())));
        let mut config = WasmConfig::default();
        config.resident_max = 1;
        let wasm = Wasm::new(config, source, Arc::new(|_| Ok(Grants::default()))).unwrap();
        let found = wasm.inspect(module).unwrap();
        looked_at.set(found.component).unwrap();
        let module = found.digest;
        Self { wasm, module }
    }

    /// Repeats every turn of an execution on a fresh guest.
    fn replay(&self, turns: &[Turn]) -> Result<(), ReplayError> {
        let start = start_of(turns);
        let (limits, began) = (&start.limits, start.clock());
        let guest = self.wasm.instantiate(self.module, limits, "golden", began);
        let (mut guest, mut state) = (guest.unwrap(), State::new(0));
        turns
            .iter()
            .try_for_each(|turn| replay_turn(&mut state, turn, guest.as_mut()))
    }

    fn replay_all(&self, name: &str) {
        for turns in Recording::read(name).executions() {
            self.replay(&turns)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn what_was_recorded_replays_on_the_module_that_ran() {
    for name in names() {
        let module = recorded_module(&name);
        assert!(module.len() < MODULE_BYTES_MAX, "{name}: {}", module.len());
        let digest = hex(&Sha256::digest(&module));
        assert_eq!(
            digest,
            Recording::read(&name).module,
            "{name}: not the module that ran"
        );
        Player::of(&module).replay_all(&name);
    }
}

#[test]
fn what_was_recorded_replays_on_its_source_built_today() {
    for name in names() {
        let module = std::fs::read(guest(&format!("golden-{name}"))).unwrap();
        Player::of(&module).replay_all(&name);
    }
}

#[test]
fn the_recordings_hold_everything_that_a_program_can_do() {
    let recorded: BTreeSet<&str> = names()
        .iter()
        .flat_map(|name| Recording::read(name).executions())
        .flatten()
        .flat_map(|turn| turn.events().map(Event::name).collect::<Vec<_>>())
        .collect();
    for event in [
        "ActivityScheduled",
        "ActivityCompleted",
        "ActivityFailed",
        "ChildScheduled",
        "ChildCompleted",
        "ChildFailed",
        "ChildRetryScheduled",
        "ChildRetried",
        "TimerSet",
        "TimerFired",
        "TaskCanceled",
        "ExternalEventRaised",
        "EventSent",
        "InstanceStarted",
        "CustomStatusSet",
        "ContinuedAsNew",
        "ExecutionCompleted",
        "ExecutionFailed",
        "ActivityOptions",
        "CancellationRequested",
        "ChildCommanded",
        "ExecutionTerminated",
        "InstanceOptions",
        "RequestAnswered",
        "RequestCompleted",
        "RequestFailed",
        "RequestReceived",
        "RequestSent",
        "TagSet",
        "TimerSetAt",
        "ValueSet",
    ] {
        assert!(recorded.contains(event), "no recording has {event}");
    }
}

#[test]
fn a_recording_that_was_changed_is_found_out_at_the_turn() {
    let (mut changed, module) = (
        Recording::read("chain").executions(),
        recorded_module("chain"),
    );
    let turns = &mut changed[0];
    let at = turns.len() / 2;
    let scheduled = turns[at].produced.iter_mut().find_map(|event| match event {
        Event::ActivityScheduled { name, .. } => Some(name),
        _ => None,
    });
    "Other".clone_into(scheduled.unwrap());
    match Player::of(&module).replay(turns) {
        Err(ReplayError::Differs(difference)) => assert_eq!(difference.turn as usize, at),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_history_of_rules_that_are_not_known_yet_is_refused() {
    let (mut newer, module) = (Recording::read("fan").executions(), recorded_module("fan"));
    for event in &mut newer[0][0].received {
        if let Event::ExecutionStarted(start) = event {
            assert!((1..=SEMANTICS_VERSION).contains(&start.semantics));
            start.semantics = SEMANTICS_VERSION + 1;
        }
    }
    let error = Player::of(&module)
        .replay(&newer[0])
        .unwrap_err()
        .to_string();
    let expected = format!(
        "it was begun by a newer host, under version {} of the rules; this host knows up to {SEMANTICS_VERSION}",
        SEMANTICS_VERSION + 1
    );
    assert!(error.contains(&expected), "{error}");
}

#[tokio::test]
async fn every_program_here_is_recorded() {
    for name in names() {
        if folder(&name).join("history.json").exists() {
            continue;
        }
        assert!(
            std::env::var_os("PERENNIAL_RECORD").is_some(),
            "{name} is not recorded; see tests/golden/README.md"
        );
        record(&name).await;
    }
}

async fn record(name: &str) {
    let script = std::fs::read_to_string(folder(name).join("script.json")).unwrap();
    let script: Script = serde_json::from_str(&script).unwrap();
    // What `.ci/guests` made, and not what a test would make anew.
    let module = std::fs::read(guests().join(format!("golden-{name}.wasm"))).unwrap();
    let (dir, clock) = (DataDir::new(), SimClock::new(SystemClock.now()));
    let jumps = script
        .steps
        .iter()
        .any(|step| matches!(step, Step::Advance { .. }));
    let host: HostBuilder = if jumps {
        dir.host().clock(clock.clone())
    } else {
        dir.host()
    };
    let host = host.start().await.unwrap();
    // Executions that were continued as new stay where they are.
    let path = host.path().unwrap().to_owned();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TRIGGER kept BEFORE DELETE ON turn BEGIN SELECT RAISE(IGNORE); END")
        .unwrap();
    let client = host.client();
    client
        .deploy(Module::from_bytes(name, &module).unwrap())
        .await
        .unwrap();
    client
        .start(&script.start)
        .id("golden")
        .input(&script.input)
        .await
        .unwrap();
    for step in &script.steps {
        match step {
            Step::Raise { raise, data } => client.raise_event("golden", raise, data).await.unwrap(),
            Step::Request { request, input } => {
                let asked = client.request::<Value>("golden", request, input);
                assert!(!asked.status().await.unwrap().is_pending());
            }
            Step::Cancel { cancel } => {
                client.cancel("golden", Some(cancel)).await.unwrap();
            }
            Step::Advance { advance } => clock.advance(Millis(*advance)),
            Step::Until { until } => shows(&client, until).await,
        }
    }
    client
        .wait_for_completion("golden", LIMIT)
        .await
        .unwrap()
        .reached()
        .expect("it ends");
    host.shut_down().await;
    let recording = Recording {
        module: hex(&Sha256::digest(&module)),
        executions: rows(&db),
    };
    let text = serde_json::to_string_pretty(&recording).unwrap();
    std::fs::write(folder(name).join("program.wasm"), module).unwrap();
    std::fs::write(folder(name).join("history.json"), text + "\n").unwrap();
}

async fn shows(client: &Client, status: &Value) {
    let begun = Instant::now();
    loop {
        let is = |row: &perennial::InstanceStatus| {
            row.custom_status.as_ref().is_some_and(|shown| {
                serde_json::from_str::<Value>(shown.as_str()).unwrap() == *status
            })
        };
        let waited = client
            .wait_until("golden", Duration::from_millis(10), is)
            .await
            .unwrap();
        if is(waited.status()) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{:?}", waited.status());
    }
}

/// Everything that the hub has of every execution.
fn rows(db: &rusqlite::Connection) -> Vec<Execution> {
    let mut query = db
        .prepare(
            "SELECT i.id, t.execution, t.number, t.first_event, t.at, t.answer, t.received, t.produced
             FROM turn t JOIN instance i ON i.key = t.instance ORDER BY i.key, t.execution, t.number",
        )
        .unwrap();
    let mut rows = query.query([]).unwrap();
    let mut executions: Vec<Execution> = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let (instance, execution): (String, u32) = (row.get(0).unwrap(), row.get(1).unwrap());
        let stored = |at: usize| row.get::<_, Vec<u8>>(at).unwrap();
        let (received, produced) = (stored(6), stored(7));
        let answer: Option<i64> = row.get(5).unwrap();
        let events = decode(&received).into_iter().chain(decode(&produced));
        let turn = RecordedTurn {
            number: row.get(2).unwrap(),
            first_event: row.get::<_, i64>(3).unwrap() as u64,
            at: row.get::<_, i64>(4).unwrap() as u64,
            answer: answer.map(|hash| format!("{:016x}", hash as u64)),
            received: hex(&received),
            produced: hex(&produced),
            events: events.map(|event| event.name().to_owned()).collect(),
        };
        match executions.last_mut() {
            Some(last) if last.instance == instance && last.execution == execution => {
                last.turns.push(turn)
            }
            _ => executions.push(Execution {
                instance,
                execution,
                turns: vec![turn],
            }),
        }
    }
    executions
}
