//! What an orchestration can see and do.

use super::*;

#[test]
fn what_an_orchestration_must_not_call_is_named() {
    let world = world(&format!(
        "import reach; export {ORCHESTRATIONS}; export {ACTIVITIES};"
    ));
    let body = format!(
        r#"(import "test:guest/reach" "out" (func $out)) {} {}"#,
        orchestration("(call $out)"),
        activity("(call $out)"),
    );
    let bench = Bench::new();
    let digest = bench.deploy(&world, &body);
    let failure = verdict(live(
        &mut *bench
            .wasm
            .instantiate(digest, &Limits::default(), "i")
            .unwrap(),
    ));
    assert_eq!(
        failure.to_string(),
        "ForbiddenImport: an orchestration has no effects but the actions of its turns, so it must not call: test:guest/reach#out"
    );
    let failure = run(&bench, attempt(digest)).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "ForbiddenImport: not granted to the activities of this module: test:guest/reach#out"
    );
}

#[test]
fn time_stands_at_the_turn_and_random_numbers_follow_from_the_seed() {
    let digits = |first: &str| {
        // Completes with the 19 digits of the number that `first` stores at 3072.
        format!(
            r#"(local $n i64) (local $at i32)
               {first}
               (local.set $n (i64.and (i64.load (i32.const 3072)) (i64.const 0xfffffffffffffff)))
               (local.set $at (i32.const 3118))
               (loop $next
                 (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
                 (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
                 (local.set $at (i32.sub (local.get $at) (i32.const 1)))
                 (br_if $next (i64.ne (local.get $n) (i64.const 0))))
               (local.set $at (i32.add (local.get $at) (i32.const 1)))
               (i32.store8 (i32.const 1032) (i32.const 1)) (i32.store8 (i32.const 1036) (i32.const 1))
               (i32.store (i32.const 1040) (local.get $at))
               (i32.store (i32.const 1044) (i32.sub (i32.const 3119) (local.get $at)))"#
        )
    };
    let output = |first: &str, now: u64, seed: u64| {
        let mut guest = Bench::new().orchestration("", WASI, &digits(first));
        let answer = guest.advance(&first_turn(now, seed), Mode::Live { fuel: 1_000_000 });
        match answer.unwrap().ending {
            Ending::Completed(Some(json)) => json.as_str().parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    for clock in ["(i32.const 0)", "(i32.const 1)"] {
        let read = format!("(drop (call $clock {clock} (i64.const 1) (i32.const 3072)))");
        assert_eq!(output(&read, 1_234_567, 1), 1_234_567_000_000);
    }
    let draw = "(drop (call $random (i32.const 3072) (i32.const 8)))";
    let drawn = output(draw, 1, 42);
    assert_eq!(
        drawn,
        random::Random::seeded(42).number() & 0x0fff_ffff_ffff_ffff
    );
    assert_ne!(drawn, output(draw, 1, 43));
    let empty = "(if (call $environ (i32.const 3072) (i32.const 3080)) (then unreachable))
                 (if (i32.eqz (call $prestat (i32.const 3) (i32.const 3088))) (then unreachable))";
    assert_eq!(output(empty, 1, 1), 0);
}

#[test]
fn sleeping_in_an_orchestration_is_forbidden() {
    let sleep = "(i32.store8 (i32.const 3080) (i32.const 0)) (i64.store (i32.const 3096) (i64.const 1000000000))
         (drop (call $poll (i32.const 3072) (i32.const 3200) (i32.const 1) (i32.const 3300)))";
    let failure = verdict(live(&mut *Bench::new().orchestration("", WASI, sleep)));
    assert_eq!(failure.kind, "ForbiddenImport");
    let named = failure
        .message
        .contains(": wasi:clocks/monotonic-clock@0.2");
    assert!(
        named && failure.message.ends_with("#subscribe-duration"),
        "{}",
        failure.message
    );
}

/// A world with an interface of WASI that reaches out.
fn reaching(exports: &str) -> String {
    format!(
        "package test:guest;
         package wasi:http@0.2.6 {{ interface outgoing-handler {{ handle: func() -> u32; }} }}
         world guest {{ import wasi:http/outgoing-handler@0.2.6; {exports} }}"
    )
}

const NETWORK: &str =
    r#"(import "wasi:http/outgoing-handler@0.2.6" "handle" (func $network (result i32)))"#;

#[test]
fn the_network_is_refused_at_deploy_or_by_its_name() {
    let bench = Bench::new();
    let alone = core_module(
        &reaching(&format!("export {ORCHESTRATIONS};")),
        &format!("{NETWORK} {}", orchestration("(drop (call $network))")),
    );
    assert_eq!(
        bench.wasm.inspect(&alone).unwrap_err().to_string(),
        "the component only has orchestrations, which must not have side effects, but imports wasi:http/outgoing-handler@0.2.6: \
         move what needs them to an activity"
    );
    let digest = bench.deploy(
        &reaching(&format!("export {ORCHESTRATIONS}; export {ACTIVITIES};")),
        &format!(
            "{NETWORK} {} {}",
            orchestration("(drop (call $network))"),
            activity("(drop (call $network))")
        ),
    );
    let guest = bench.wasm.instantiate(digest, &Limits::default(), "i");
    assert_eq!(
        verdict(live(&mut *guest.unwrap())).to_string(),
        "ForbiddenImport: an orchestration has no effects but the actions of its turns, so it must not call: \
         wasi:http/outgoing-handler@0.2.6#handle"
    );
    assert_eq!(
        run(&bench, attempt(digest)).unwrap_err().to_string(),
        "ForbiddenImport: not granted to the activities of this module: wasi:http/outgoing-handler@0.2.6#handle"
    );
}

#[test]
fn threads_are_refused_at_deploy() {
    let world = world(&format!("export {ORCHESTRATIONS};"));
    let refused = |body: &str| {
        let module = core_module(&world, &format!("{body} {}", orchestration("")));
        Bench::new().wasm.inspect(&module).unwrap_err().to_string()
    };
    let spawns = refused(r#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#);
    assert!(spawns.contains("thread-spawn"), "{spawns}");
    let shares = refused(r#"(memory $shared 1 1 shared)"#);
    assert!(shares.contains("shared"), "{shares}");
}
