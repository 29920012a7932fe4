//! Modules at deployment, in the cache, and in the pool.

use super::*;

#[test]
fn a_full_pool_fails_nothing() {
    let bench = Bench::with(WasmConfig {
        resident_max: 0,
        ..WasmConfig::default()
    });
    let digest = bench.deploy(
        &world(&format!("export {ORCHESTRATIONS};")),
        &orchestration(""),
    );
    let mut guests: Vec<_> = (0..70)
        .map(|_| {
            bench
                .wasm
                .instantiate(digest, &Limits::default(), "i", Timestamp(0))
                .unwrap()
        })
        .collect();
    for guest in &mut guests {
        assert_eq!(live(&mut **guest), Ok(waiting()));
    }
}

#[test]
fn a_missing_module_is_the_hosts_error() {
    let error = Bench::new()
        .wasm
        .instantiate(Digest([1; 32]), &Limits::default(), "i", Timestamp(0))
        .err();
    assert_eq!(
        error,
        Some(Fault::Module(
            "module 010101010101 cannot be loaded: the hub has no such module".to_owned()
        ))
    );
}

#[test]
fn compiled_code_is_found_again_and_made_again_when_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let start = |deploy: Option<&Bench>| {
        let bench = Bench::with(WasmConfig {
            cache_dir: Some(dir.path().join("code")),
            resident_max: 0,
            ..WasmConfig::default()
        });
        if let Some(before) = deploy {
            *bench.modules.lock().unwrap() = before.modules.lock().unwrap().clone();
        }
        bench
    };
    let asks = |bench: &Bench, digest| {
        bench
            .wasm
            .instantiate(digest, &Limits::default(), "i", Timestamp(0))
            .unwrap();
        bench
            .wasm
            .instantiate(digest, &Limits::default(), "i", Timestamp(0))
            .unwrap();
        bench.asked.load(Ordering::Relaxed)
    };
    let first = start(None);
    let digest = first.deploy(
        &world(&format!("export {ORCHESTRATIONS};")),
        &format!(
            r#"(data (i32.const 60000) "to be damaged") {}"#,
            orchestration("")
        ),
    );
    assert_eq!(asks(&first, digest), 0);
    assert_eq!(asks(&start(Some(&first)), digest), 0);

    // The smaller file beside it contains the findings.
    let files = std::fs::read_dir(dir.path().join("code")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let file = files
        .max_by_key(|file| std::fs::metadata(file).unwrap().len())
        .unwrap();
    let mut code = std::fs::read(&file).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(&file, code).unwrap();
    assert_eq!(asks(&start(Some(&first)), digest), 1);
    assert_eq!(asks(&start(Some(&first)), digest), 0);

    first.wasm.forget(digest);
    assert!(!file.exists());
}

/// A module with an orchestration and an activity that no other test uses.
fn whole(unique: &str) -> Vec<u8> {
    let world = world(&format!("export {ORCHESTRATIONS}; export {ACTIVITIES};"));
    let unique = format!(r#"(data (i32.const 60000) "{unique}")"#);
    core_module(
        &world,
        &format!("{unique} {} {}", orchestration(""), activity("")),
    )
}

/// Runs both kinds of guest of a module.
fn use_all(bench: &Bench, digest: Digest) {
    bench
        .wasm
        .instantiate(digest, &Limits::default(), "i", Timestamp(0))
        .unwrap();
    run(bench, attempt(digest)).unwrap();
}

#[test]
fn a_module_is_compiled_once_for_each_kind_of_guest_whoever_looks_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: Option<&str>| WasmConfig {
        cache_dir: name.map(|name| dir.path().join(name)),
        resident_max: 1,
        ..WasmConfig::default()
    };
    for (cached, unique) in [(None, "in memory"), (Some("code"), "on disk")] {
        let bytes = whole(unique);
        let looked = look_at(&bytes, None).unwrap().unwrap();
        let digest = looked.digest;
        assert_eq!(compilations(digest), 2, "{unique}");
        for _ in 0..2 {
            let bench = Bench::with(config(cached));
            assert_eq!(bench.wasm.inspect(&bytes).unwrap(), looked);
            bench.modules.lock().unwrap().push(looked.component.clone());
            bench.wasm.ready(digest, &looked.component).unwrap();
            use_all(&bench, digest);
            assert_eq!(bench.asked.load(Ordering::Relaxed), 0, "it was ready");
            let remote = look_at(&looked.component, None).unwrap().unwrap();
            assert_eq!(remote, looked);
        }
        assert_eq!(compilations(digest), 2, "{unique}");
    }
}

#[test]
fn a_directory_of_compiled_code_serves_who_looks_and_who_runs() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let bytes = whole("between processes");
    let looked = look_at(&bytes, Some(&cache)).unwrap().unwrap();
    let files = || std::fs::read_dir(&cache).unwrap().count();
    assert_eq!(
        files(),
        3,
        "code for each kind of guest, and what was found"
    );
    let bench = Bench::with(WasmConfig {
        cache_dir: Some(cache.clone()),
        ..WasmConfig::default()
    });
    use_all(&bench, looked.digest);
    assert_eq!(look_at(&bytes, Some(&cache)).unwrap().unwrap(), looked);
    assert_eq!(compilations(looked.digest), 2);
    // There is no directory for hubs yet, and an inspection creates none.
    let nowhere = dir.path().join("none/cache");
    look_at(&bytes, Some(&nowhere)).unwrap().unwrap();
    assert!(!nowhere.parent().unwrap().exists());
    // Code that only memory had is saved when the module is deployed.
    let other = look_at(&whole("kept later"), None).unwrap().unwrap();
    keep_compiled(cache.clone(), other.digest);
    assert_eq!(files(), 6);
}

#[test]
fn a_component_of_another_world_is_refused_without_being_compiled() {
    let functions = "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))";
    let foreign = wat::parse_str(format!(
        r#"(component
            (core module $m (func (export "f")) {})
            (core instance $m (instantiate $m))
            (func $f (canon lift (core func $m "f")))
            (export "run" (func $f)))"#,
        functions.repeat(60_000)
    ))
    .unwrap();
    let error = look_at(&foreign, None).unwrap().unwrap_err();
    assert!(matches!(error, ModuleError::NoContract { .. }), "{error}");
    assert_eq!(compilations(inspect::digest(&foreign)), 0);
}

#[track_caller]
fn refused(world: &str, body: &str, expected: &str) {
    let error = Bench::new()
        .wasm
        .inspect(&core_module(world, body))
        .unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_module_says_what_it_defines() {
    let world = world(&format!(
        "import reach; export {ORCHESTRATIONS}; export {ACTIVITIES};"
    ));
    let body = format!(
        r#"(import "test:guest/reach" "out" (func)) {} {}"#,
        orchestration(""),
        activity("")
    );
    let inspected = Bench::new()
        .wasm
        .inspect(&core_module(&world, &body))
        .unwrap();
    let names = |definitions: &[Definition]| {
        definitions
            .iter()
            .map(|d| d.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&inspected.orchestrations), ["F"]);
    assert_eq!(names(&inspected.activities), ["F"]);
    assert_eq!(inspected.contract, "0.1");
    assert!(inspected.imports.contains(&"test:guest/reach".to_owned()));
    assert_eq!(inspected.digest, inspect::digest(&inspected.component));
    let again = Bench::new().wasm.inspect(&inspected.component).unwrap();
    assert_eq!(again, inspected);
}

#[test]
fn a_component_of_another_world_is_refused() {
    refused(
        &world("export run: func();"),
        r#"(memory (export "memory") 16) (func (export "run"))"#,
        "the component exports neither perennial:workflow/orchestrations@0.2.0 nor perennial:workflow/activities@0.2.0, but run: \
         is it a component for another host?",
    );
    let next = "package perennial:workflow@0.9.0; interface orchestrations { go: func(); } world guest { export orchestrations; }";
    refused(
        next,
        r#"(memory (export "memory") 16) (func (export "perennial:workflow/orchestrations@0.9.0#go"))"#,
        "the component exports perennial:workflow/orchestrations@0.9.0, a version of the contract that this host does not know; \
         it knows 0.1 and 0.2",
    );
}

#[test]
fn effects_in_a_module_without_activities_are_refused() {
    refused(
        &world(&format!("import reach; export {ORCHESTRATIONS};")),
        &format!(
            r#"(import "test:guest/reach" "out" (func)) {}"#,
            orchestration("")
        ),
        "the component only has orchestrations, which must not have side effects, but imports test:guest/reach: \
         move what needs them to an activity",
    );
}

#[test]
fn definitions_that_cannot_be_used_are_refused() {
    let world = world(&format!("export {ORCHESTRATIONS};"));
    let with = |names: &[&str], body: &str| {
        format!(
            r#"(memory (export "memory") 16) {}
            (func (export "{ORCHESTRATIONS}#definitions") (result i32) {body} (i32.const 16))
            (func (export "{ORCHESTRATIONS}#advance") (param i32 i32) (result i32) unreachable)"#,
            definitions(names)
        )
    };
    let unusable = "the component's definitions cannot be used:";
    refused(
        &world,
        &with(&["Go", "Go"], ""),
        &format!("{unusable} the orchestration \"Go\" is defined twice"),
    );
    refused(
        &world,
        &with(&[""], ""),
        &format!("{unusable} the name \"\" of an orchestration must not be empty"),
    );
    refused(
        &world,
        &with(&[&"x".repeat(257)], ""),
        &format!(
            "{unusable} the name {:?} of an orchestration has at most 256 characters, this one has 257",
            format!("{}… (cut: 257 bytes)", "x".repeat(180))
        ),
    );
    refused(
        &world,
        &with(&[], ""),
        &format!("{unusable} there are none"),
    );
    let failed = "the component failed while it was asked what it defines:";
    refused(
        &world,
        &with(&["Go"], "unreachable"),
        &format!("{failed} Trap: wasm trap: wasm `unreachable` instruction executed"),
    );
    refused(
        &world,
        &with(&["Go"], "(loop $l (br $l))"),
        &format!(
            "{failed} OutOfFuel: the turn ran out of fuel (an endless loop? move heavy work to an activity, or deploy with more --fuel)"
        ),
    );
}

#[test]
fn a_component_with_the_right_names_and_wrong_types_is_refused() {
    let component = wat::parse_str(format!(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $m (instantiate $m))
            (func $f (canon lift (core func $m "f")))
            (instance $i (export "definitions" (func $f)) (export "advance" (func $f)))
            (export "{ORCHESTRATIONS}" (instance $i)))"#
    ))
    .unwrap();
    let error = Bench::new().wasm.inspect(&component).unwrap_err();
    assert!(matches!(error, ModuleError::WrongTypes { .. }), "{error}");
    let cut = Bench::new()
        .wasm
        .inspect(&component[..component.len() - 3])
        .unwrap_err();
    assert!(matches!(cut, ModuleError::Corrupt(_)), "{cut}");
}

#[test]
fn a_guest_counts_for_what_it_holds_and_not_for_what_it_may_use() {
    const MIB: usize = 1 << 20;
    let bench = Bench::new();
    let mut plain = bench.orchestration("", "", "");
    live(&mut *plain).unwrap();
    assert!(plain.resident_bytes() < MIB, "{}", plain.resident_bytes());
    // Whether it takes the memory when it is created, or in a turn.
    let fill = "(memory.fill (i32.const 65536) (i32.const 1) (i32.const 52428800))";
    let grow = "(drop (memory.grow (i32.const 800)))";
    let start = format!("(start $fill) (func $fill {grow} {fill})");
    let mut made = bench.orchestration("", &start, "");
    assert!(made.resident_bytes() >= 50 * MIB);
    live(&mut *made).unwrap();
    assert!(made.resident_bytes() >= 50 * MIB);
    let mut later = bench.orchestration("", &format!("(start $g) (func $g {grow})"), fill);
    assert!(!held::is_exact() || later.resident_bytes() < 2 * MIB);
    later
        .advance(&first_turn(1000, 7), Mode::Live { fuel: u64::MAX })
        .unwrap();
    assert!(later.resident_bytes() >= 50 * MIB);
    assert!(later.resident_bytes() <= 53 * MIB);
}
