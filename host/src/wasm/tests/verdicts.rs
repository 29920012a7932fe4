//! The verdicts about turns of faulty guests.

use super::*;

#[track_caller]
fn fails(body: &str, advance: &str, expected: &str) {
    let failure = verdict(live(&mut *Bench::new().orchestration("", body, advance)));
    assert_eq!(failure.to_string(), expected);
    assert!(!failure.retryable);
}

#[test]
fn a_guest_that_waits_can_be_asked_again_and_one_that_failed_cannot() {
    let mut guest = Bench::new().orchestration("", "", "");
    assert_eq!(live(&mut *guest), Ok(waiting()));
    assert_eq!(live(&mut *guest), Ok(waiting()));

    let mut guest = Bench::new().orchestration("", "", "unreachable");
    verdict(live(&mut *guest));
    assert!(matches!(live(&mut *guest), Err(Stop::Host(_))));
}

#[test]
fn a_trap_is_a_verdict_of_its_kind() {
    fails(
        "",
        "unreachable",
        "Trap: wasm trap: wasm `unreachable` instruction executed",
    );
    fails(
        "",
        "(loop $l (br $l))",
        "OutOfFuel: the turn ran out of fuel (an endless loop? move heavy work to an activity, or deploy with more --fuel)",
    );
    fails(
        "(func $deep (call $deep) (call $deep))",
        "(call $deep)",
        "StackOverflow: the call stack is exhausted",
    );
    fails(
        "",
        "(if (i32.eq (memory.grow (i32.const 1024)) (i32.const -1)) (then unreachable))",
        "OutOfMemory: more than the limit of 67108864 bytes of memory",
    );
    let starts_badly = verdict(
        live(&mut *Bench::new().orchestration("", "", "")).and_then(|_| {
            let world = world(&format!("export {ORCHESTRATIONS};"));
            let bench = Bench::new();
            let digest = bench.deploy(&world, &orchestration(""));
            let limits = Limits {
                memory_bytes: 1000,
                ..Limits::default()
            };
            live(
                &mut *bench
                    .wasm
                    .instantiate(digest, &limits, "i", Timestamp(0))
                    .unwrap(),
            )
        }),
    );
    assert_eq!(starts_badly.kind, "OutOfMemory");
}

#[test]
fn a_refused_growth_that_a_guest_survived_does_not_explain_a_later_trap() {
    let mut guest = Bench::new().orchestration(
        "",
        "(global $turns (mut i32) (i32.const 0))",
        "(if (global.get $turns) (then unreachable))
         (global.set $turns (i32.const 1))
         (drop (memory.grow (i32.const 1024)))",
    );
    assert_eq!(live(&mut *guest), Ok(waiting()));
    assert_eq!(verdict(live(&mut *guest)).kind, "Trap");
}

#[test]
fn a_panic_is_reported_with_its_message_and_place() {
    let mut guest = Bench::new().orchestration(
        "import perennial:workflow/logging@0.1.0;",
        r#"(import "perennial:workflow/logging@0.1.0" "panicking" (func $panicking (param i32 i32 i32 i32)))
           (data (i32.const 3000) "out of teasrc/lib.rs:7")"#,
        "(call $panicking (i32.const 3000) (i32.const 10) (i32.const 3010) (i32.const 12)) unreachable",
    );
    let failure = verdict(live(&mut *guest));
    assert_eq!(failure.to_string(), "Panic: out of tea");
    assert_eq!(failure.trace.as_deref(), Some("src/lib.rs:7"));
}

#[test]
fn an_answer_that_does_not_lift_or_is_not_json_is_invalid() {
    // Completed, with an output at an address outside the memory.
    fails(
        "",
        r#"(i32.store8 (i32.const 1032) (i32.const 1)) (i32.store8 (i32.const 1036) (i32.const 1))
           (i32.store (i32.const 1040) (i32.const -8)) (i32.store (i32.const 1044) (i32.const 100))"#,
        "InvalidAnswer: string pointer/length out of bounds of memory",
    );
    fails(
        r#"(data (i32.const 3000) "{]")"#,
        r#"(i32.store8 (i32.const 1032) (i32.const 1)) (i32.store8 (i32.const 1036) (i32.const 1))
           (i32.store (i32.const 1040) (i32.const 3000)) (i32.store (i32.const 1044) (i32.const 2))"#,
        "InvalidAnswer: the output is not JSON",
    );
    // A list in which every text is the same large one.
    fails(
        "",
        r#"(local $at i32)
           (drop (memory.grow (i32.const 800)))
           (loop $next
             (i32.store offset=1048576 (local.get $at) (i32.const 2097152))
             (i32.store offset=1048580 (local.get $at) (i32.const 1000000))
             (local.set $at (i32.add (local.get $at) (i32.const 8)))
             (br_if $next (i32.lt_u (local.get $at) (i32.const 8000))))
           (i32.store (i32.const 1036) (i32.const 1048576)) (i32.store (i32.const 1040) (i32.const 1000))"#,
        "InvalidAnswer: too much data is being copied between the host and the guest: \
         fuel allocated for hostcalls has been exhausted",
    );
}

#[test]
fn replay_knows_no_fuel() {
    let burn = "(local $n i32) (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000000))))";
    let mut guest = Bench::new().orchestration("", "", burn);
    assert_eq!(
        guest.advance(&first_turn(1, 1), Mode::Replay),
        Ok(waiting())
    );
    assert_eq!(verdict(live(&mut *guest)).kind, "OutOfFuel");
}
