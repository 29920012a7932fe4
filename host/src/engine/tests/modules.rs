//! Instances that continue on another module than the one in their start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::moves::balance;
use super::world::*;
use crate::engine::Request;
use crate::store::{Definition, DefinitionKind, NewModule, Reply};
use perennial_core::{Digest, Rejection, Status};

pub(super) const MENDED: Digest = Digest([8; 32]);
const WORSE: Digest = Digest([9; 32]);

/// Another module that defines an orchestration of the world.
pub(crate) fn other(digest: Digest, orchestration: &str) -> NewModule {
    NewModule {
        name: format!("module-{}", digest.0[0]),
        digest,
        component: vec![digest.0[0]],
        contract: "0.1".to_owned(),
        definitions: vec![Definition {
            kind: DefinitionKind::Orchestration,
            name: orchestration.to_owned(),
            version: None,
            description: None,
            input_schema: None,
        }],
        imports: Vec::new(),
        grants: None,
        replace: true,
        limits: None,
    }
}

pub(crate) fn deploy(host: &Host<'_>, module: NewModule) {
    let reply = host.submit(Request::Deploy(Box::new(module))).unwrap();
    assert!(matches!(reply, Reply::Deployed(_)), "{reply:?}");
}

fn resume_on(host: &Host<'_>, id: &str, module: Digest) -> Reply {
    let request = Request::Resume {
        id: id.to_owned(),
        reason: None,
        module: Some(module),
        recursive: false,
    };
    host.submit(request).unwrap()
}

/// Calls `Hold` with this number, and then waits for two events.
fn asks(
    number: impl Fn() -> u32 + Send + Sync + Clone + 'static,
) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let (number, mut called) = (number.clone(), false);
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.call("Hold", number());
            }
            if seen.events.len() < 2 {
                waits()
            } else {
                completes(seen.results.len())
            }
        })
    }
}

/// A world in which the original module of `Fickle` asks for something else on replay, `WORSE` always does, and `MENDED` never.
fn fickle_world() -> World {
    let moods = Arc::new(AtomicU32::new(0));
    World::with("Fickle", asks(move || moods.fetch_add(1, Ordering::AcqRel)))
        .with_one_engine()
        .and("Fickle#8", asks(|| 0))
        .and("Fickle#9", asks(|| 77))
}

/// Starts `a` on the original module, deploys the others, and gets `a` quarantined.
fn quarantined(host: &Host<'_>) -> Held {
    host.start("Fickle", "a");
    let held = host.world.held();
    deploy(host, other(WORSE, "Fickle"));
    deploy(host, other(MENDED, "Fickle"));
    host.idle();
    assert_eq!(host.evict_all(), 1);
    host.raise("a", "go", 1);
    host.until("a", |row| row.quarantine.is_some());
    held
}

#[test]
fn a_quarantined_instance_goes_on_with_a_module_that_repeats_its_history_also_after_a_restart() {
    let world = fickle_world();
    let host = world.open();
    let held = quarantined(&host);
    let why = host.row("a").unwrap().quarantine.unwrap();
    assert_eq!((why.turn, why.event), (Some(0), Some(2)), "{why:?}");
    assert!(why.recorded.unwrap().contains("with input 0"));
    assert!(why.asked.unwrap().contains("with input 1"));
    assert_eq!(why.module, Some(MODULE));
    assert!(why.host.starts_with("perennial "), "{}", why.host);
    assert_eq!(resume_on(&host, "a", MENDED), Reply::Done);
    let row = host.until("a", |row| row.quarantine.is_none());
    assert_eq!((row.status, row.module), (Status::Running, Some(MENDED)));
    drop(host);
    drop(held);
    let host = world.open();
    let turns = host.row("a").unwrap().turns;
    world.held().ends(Ok("1"));
    host.until("a", |row| row.turns > turns);
    host.raise("a", "go", 2);
    assert_eq!(host.end("a"), "1");
    assert_eq!(host.row("a").unwrap().module, Some(MENDED));
    host.check_histories();
}

#[test]
fn an_instance_stays_with_its_module_where_the_named_one_does_not_repeat_its_history() {
    let world = fickle_world().in_file();
    let host = world.open();
    let held = quarantined(&host);
    for (module, words) in [
        (
            WORSE,
            "it cannot go on with module 090909090909: turn 0 does not repeat",
        ),
        (
            Digest([5; 32]),
            "it cannot go on with module 050505050505: there is no logic",
        ),
    ] {
        assert_eq!(resume_on(&host, "a", module), Reply::Done);
        let row = host.until("a", |row| {
            row.quarantine.as_ref().and_then(|why| why.module) == Some(module)
        });
        let why = row.quarantine.unwrap();
        assert!(why.reason.starts_with(words), "{}", why.reason);
        assert_eq!((row.status, row.module), (Status::Suspended, Some(MODULE)));
        host.idle();
        assert_eq!(
            host.count("SELECT count(*) FROM inbox"),
            1,
            "the event waits"
        );
    }
    held.ends(Ok("1"));
    host.until_count("SELECT count(*) FROM inbox", 2);
    assert_eq!(resume_on(&host, "a", MENDED), Reply::Done);
    host.raise("a", "go", 2);
    assert_eq!(host.end("a"), "1");
    host.check_histories();
}

#[test]
fn only_a_quarantined_instance_leaves_its_module() {
    let world = World::with("Listen", listens(2)).and("Listen#8", listens(2));
    let host = world.open();
    host.start("Listen", "a");
    deploy(&host, other(MENDED, "Listen"));
    let refused = |status| Reply::Rejected(Rejection::NotQuarantined(status));
    assert_eq!(resume_on(&host, "a", MENDED), refused(Status::Running));
    host.suspend("a");
    assert_eq!(resume_on(&host, "a", MENDED), refused(Status::Suspended));
    host.resume("a");
    host.raise("a", "go", 1);
    host.raise("a", "go", 2);
    assert_eq!(host.end("a"), "[1,2]");
    let ended = Reply::Rejected(Rejection::NotRunning(Status::Completed));
    assert_eq!(resume_on(&host, "a", MENDED), ended);
    assert_eq!(
        resume_on(&host, "nobody", MENDED),
        Reply::Rejected(Rejection::NotFound)
    );
}

#[test]
fn an_instance_that_never_began_begins_on_the_module_that_is_named() {
    let world = World::with("Parent", || {
        Box::new(|seen, out| {
            if seen.events.is_empty() {
                waits()
            } else if seen.results.is_empty() {
                out.child("Child", Some("a"), None);
                waits()
            } else {
                completes(seen.result(0))
            }
        })
    })
    .and("Child", || Box::new(|_, _| completes(7)))
    .and("Child#8", || Box::new(|_, _| completes(8)));
    let host = world.open();
    host.start("Parent", "p");
    host.idle();
    world.programs.broken.store(true, Ordering::Release);
    host.raise("p", "go", 1);
    host.until("a", |row| row.quarantine.is_some());
    deploy(&host, other(MENDED, "Child"));
    world.programs.broken.store(false, Ordering::Release);
    assert_eq!(resume_on(&host, "a", MENDED), Reply::Done);
    assert_eq!(host.end("p"), "8");
    let row = host.row("a").unwrap();
    assert_eq!(row.module, Some(MENDED));
    let turns = host.engine.hub.reader.turns(row.key, 0, 0, 1).unwrap();
    let began = turns[0].received.iter().find_map(|event| {
        let perennial_core::Event::ExecutionStarted(start) = event else {
            return None;
        };
        start.module
    });
    assert_eq!(began, Some(MENDED), "the history says what it began with");
    host.check_histories();
}

#[test]
fn what_is_started_while_modules_are_collected_always_has_its_module() {
    let mut world = World::with("Listen", listens(1))
        .and("Listen#8", listens(1))
        .in_file();
    world.config.workers = 4;
    let host = world.open();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            for n in 0..200 {
                host.start("Listen", &format!("a{n}"));
            }
        });
        let mut round = 0;
        while !started.is_finished() {
            round += 1;
            deploy(
                &host,
                if round % 2 == 0 {
                    named(world.module())
                } else {
                    named(other(MENDED, "Listen"))
                },
            );
            let request = Request::CollectModules {
                old: crate::store::OldVersions::Keep,
            };
            let reply = host.submit(request).unwrap();
            assert!(matches!(reply, Reply::Collected(_)), "{reply:?}");
        }
        started.join().unwrap();
    });
    host.idle();
    let without = "SELECT count(*) FROM instance WHERE module NOT IN (SELECT digest FROM module)";
    assert_eq!(host.count(without), 0);
    for n in 0..200 {
        host.raise(&format!("a{n}"), "go", 1);
        assert_eq!(host.end(&format!("a{n}")), "[1]");
    }
    host.check_histories();
}

/// Gives a module the common name, so that it replaces the previous one.
fn named(module: NewModule) -> NewModule {
    NewModule {
        name: "listen".to_owned(),
        component: vec![module.digest.0[0]],
        ..module
    }
}

/// The limits in the start event of an instance.
fn limits_of(host: &Host<'_>, id: &str) -> perennial_core::Limits {
    // One that another instance starts may be on its way.
    host.until(id, |row| row.turns > 0);
    let mut events = host.events(id).into_iter();
    let limits = events.find_map(|event| {
        let perennial_core::Event::ExecutionStarted(start) = event else {
            return None;
        };
        Some(start.limits)
    });
    limits.unwrap()
}

#[test]
fn executions_begin_with_the_limits_of_their_module_wherever_they_come_from() {
    let calls = || -> Logic {
        let mut called = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut called, true) {
                out.child("Leaf", Some("leaf"), None);
                out.start("Leaf", "beside");
            }
            if seen.has(0) { completes(1) } else { waits() }
        })
    };
    let continues_once = || -> Logic {
        Box::new(|seen, _| match seen.events.len() {
            0 => waits(),
            _ => continues(1, Vec::new()),
        })
    };
    let world = World::with("Parent", calls)
        .and("Again", continues_once)
        .and("Leaf#8", || Box::new(|_, _| completes(1)));
    let world = world.with_one_engine();
    let host = world.open();
    let with = |module: NewModule, limits: &str| NewModule {
        limits: Some(limits.to_owned()),
        ..module
    };
    let all = world.module();
    let leaf = other(MENDED, "Leaf");
    deploy(&host, all.clone());
    deploy(&host, with(leaf.clone(), r#"{"fuel":7000000}"#));
    host.start("Again", "again");
    host.start("Parent", "p");
    assert_eq!(host.end("p"), "1");
    let usual = perennial_core::Limits::default();
    let fuel = perennial_core::Limits {
        fuel_base: 7_000_000,
        fuel_per_event: 700_000,
        ..usual
    };
    assert_eq!(limits_of(&host, "p"), usual);
    assert_eq!(limits_of(&host, "leaf"), fuel);
    assert_eq!(limits_of(&host, "beside"), fuel);
    // A deployment without limits keeps those of the name; one with limits replaces them.
    deploy(&host, leaf.clone());
    host.start("Leaf", "kept");
    assert_eq!(limits_of(&host, "kept"), fuel);
    deploy(&host, with(leaf, r#"{"memoryBytes":1048576}"#));
    host.start("Leaf", "other");
    let memory = perennial_core::Limits {
        memory_bytes: 1 << 20,
        ..usual
    };
    assert_eq!(limits_of(&host, "other"), memory);
    // The next execution gets the new limits; live ones keep theirs.
    deploy(&host, with(all, r#"{"memoryBytes":1048576}"#));
    assert_eq!(limits_of(&host, "again"), usual);
    host.raise("again", "go", 1);
    host.until("again", |row| row.execution == 1);
    host.idle();
    assert_eq!(limits_of(&host, "again"), memory);
    host.check_histories();
}

#[test]
fn what_another_host_deploys_is_compiled_before_it_runs() {
    let world = World::with("Listen", listens(1))
        .and("Listen#9", listens(1))
        .shared_by(1);
    let mut host = world.open();
    host.join();
    let (told, prepared) = std::sync::mpsc::channel();
    *world.programs.prepared.lock().unwrap() = Some(told);
    deploy(&host, other(MENDED, "Listen"));
    // The module of the world may be compiled still.
    let each = || prepared.recv_timeout(patience()).unwrap();
    let next = || {
        std::iter::repeat_with(each)
            .find(|module| *module != MODULE)
            .unwrap()
    };
    assert_eq!(next(), MENDED, "no instance was started");
    // What is known already is not prepared again.
    host.engines.iter().for_each(|engine| engine.hub_changed(0));
    deploy(&host, other(WORSE, "Listen"));
    let since: Vec<_> = std::iter::repeat_with(next)
        .take_while(|module| *module != WORSE)
        .collect();
    // The store may tell at the same time as this test.
    assert!(since.len() < 2 * host.engines.len(), "{since:?}");
    assert!(since.iter().all(|module| *module == MENDED));
}

/// As [`listens`] to nothing, but its first turn tells that it runs, and then waits to be told to go on.
fn stops_once(stops: Stops) -> impl Fn() -> Logic + Send + Sync {
    let once = Arc::new(std::sync::Mutex::new(Some(stops)));
    move || {
        let once = Arc::clone(&once);
        Box::new(move |_, _| {
            if let Some((begins, goes_on)) = once.lock().unwrap().take() {
                begins.send(()).unwrap();
                goes_on.recv_timeout(patience()).unwrap();
            }
            completes(0)
        })
    }
}

#[test]
fn what_another_host_deploys_while_a_start_is_prepared_is_what_starts() {
    for is_told in [true, false] {
        let (begins, begun) = std::sync::mpsc::channel();
        let (go_on, goes_on) = std::sync::mpsc::channel();
        let world = World::with("Listen", stops_once((begins, goes_on)))
            .and("Listen#8", || Box::new(|_, _| completes(8)))
            .shared_by(1);
        let mut host = world.open();
        host.join();
        balance(&host);
        let (one, another) = (&host.engines[0], &host.engines[1]);
        let is_own = |id: &String| one.partitions().has(one.partitions().of_id(id));
        let id = (0..).map(|n| format!("i{n}")).find(is_own).unwrap();
        let knew = one.known();
        std::thread::scope(|threads| {
            let starting = threads.spawn(|| host.start("Listen", &id));
            begun.recv_timeout(patience()).unwrap();
            // Its first turn runs on what was deployed when it was asked for.
            let deploys = Request::Deploy(Box::new(other(MENDED, "Listen")));
            let deployed = world.block_on("a deployment", another.submit(deploys));
            assert!(matches!(deployed, Ok(Reply::Deployed(_))), "{deployed:?}");
            let since = Instant::now();
            while is_told && one.known() == knew {
                assert!(since.elapsed() < patience(), "the other host is not told");
                std::thread::yield_now();
            }
            go_on.send(()).unwrap();
            starting.join().unwrap();
        });
        assert_eq!(host.end(&id), "8", "told: {is_told}");
        assert_eq!(host.row(&id).unwrap().module, Some(MENDED));
        host.check_histories();
    }
}
