//! The outcomes of attempts.

use super::*;

fn worker(bench: &Bench, imports: &str, body: &str) -> Attempt {
    let memory = format!(
        r#"{imports} (memory (export "memory") 16) {}"#,
        definitions(&["A"])
    );
    let world = world(&format!("export {ACTIVITIES};"));
    attempt(bench.deploy(&world, &format!("{memory} {}", activity(body))))
}

#[test]
fn an_activity_ends_as_it_ends() {
    let bench = Bench::new();
    let ends = |body: &str| run(&bench, worker(&bench, "", body));
    assert_eq!(ends(""), Ok(None));
    let failure = ends("unreachable").unwrap_err();
    assert_eq!(
        failure.to_string(),
        "Trap: wasm trap: wasm `unreachable` instruction executed"
    );
    assert!(failure.retryable);
    let failure =
        ends("(if (i32.eq (memory.grow (i32.const 4096)) (i32.const -1)) (then unreachable))")
            .unwrap_err();
    assert_eq!(
        failure.to_string(),
        "OutOfMemory: more than the limit of 268435456 bytes of memory"
    );
    let not_json = "(i32.store8 (i32.const 1204) (i32.const 1)) (i32.store (i32.const 1208) (i32.const 2048)) (i32.store (i32.const 1212) (i32.const 1))";
    let failure = ends(not_json).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "InvalidResult: the result of \"A\" is not JSON"
    );
}

#[test]
fn an_activity_is_stopped_at_its_deadline_whether_it_computes_or_sleeps() {
    let bench = Bench::new();
    let sleep = "(i64.store (i32.const 3096) (i64.const 100000000000))
         (drop (call $poll (i32.const 3072) (i32.const 3200) (i32.const 1) (i32.const 3300)))";
    for body in ["(loop $l (br $l))", sleep] {
        let mut attempt = worker(&bench, WASI, body);
        attempt.timeout = Some(std::time::Duration::from_millis(30));
        let failure = run(&bench, attempt).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "Timeout: attempt 1 of activity \"A\" ran longer than its attempt timeout"
        );
        assert!(failure.retryable);
    }
}

#[test]
fn an_activity_that_nobody_waits_for_is_interrupted() {
    let bench = Bench::new();
    let attempt = worker(&bench, "", "(loop $l (br $l))");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let interrupt = attempt.interrupt.clone();
    let failure = runtime.block_on(async {
        let running = tokio::spawn(bench.wasm.run(attempt.clone()));
        interrupt.set();
        of_guest(running.await.unwrap().unwrap_err())
    });
    assert_eq!(failure.kind, "Canceled");
    assert!(!failure.retryable);
}

#[test]
fn an_activity_that_computes_leaves_the_thread_that_it_began_on() {
    let bench = Bench::new();
    let attempt = worker(&bench, "", "(loop $l (br $l))");
    // Already loaded, so that only its computing can move it to another thread.
    run(&bench, {
        let mut first = attempt.clone();
        first.timeout = Some(std::time::Duration::from_millis(1));
        first
    })
    .unwrap_err();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let interrupt = attempt.interrupt.clone();
    let failure = runtime.block_on(async {
        // The second part runs only if the attempt releases the single thread.
        let (failure, ()) = tokio::join!(bench.wasm.run(attempt), async { interrupt.set() });
        of_guest(failure.unwrap_err())
    });
    assert_eq!(failure.kind, "Canceled");
}

#[test]
fn an_attempt_finds_nothing_of_the_one_that_had_its_place_before() {
    let bench = Bench::new();
    let dirty = "(if (i32.load (i32.const 5000)) (then unreachable)) (i32.store (i32.const 5000) (i32.const 1))
         (if (i32.load (i32.const 900000)) (then unreachable)) (i32.store (i32.const 900000) (i32.const 1))
         (if (i32.ne (memory.size) (i32.const 16)) (then unreachable)) (drop (memory.grow (i32.const 3)))";
    let attempt = worker(&bench, "", dirty);
    for _ in 0..200 {
        assert_eq!(run(&bench, attempt.clone()), Ok(None));
    }
}

#[test]
fn there_is_room_for_as_many_attempts_as_may_run_at_once() {
    let bench = Bench::with(WasmConfig {
        activities_max: 3,
        ..WasmConfig::default()
    });
    // Each sleeps, so that all exist at once, and has the WASI adapter, so that it has all the parts of a real program.
    let sleep = "(i64.store (i32.const 3096) (i64.const 2000000))
         (drop (call $poll (i32.const 3072) (i32.const 3200) (i32.const 1) (i32.const 3300)))";
    let attempt = worker(&bench, WASI, sleep);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let outcomes = runtime.block_on(async {
        let running = (0..30).map(|_| tokio::spawn(bench.wasm.run(attempt.clone())));
        futures::future::join_all(running.collect::<Vec<_>>()).await
    });
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), Ok(None));
    }
}
