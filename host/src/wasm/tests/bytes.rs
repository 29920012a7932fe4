//! Damaged components: each is refused or works, and none crashes the host.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Pseudorandom numbers from a seed, so that each run is reproducible.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

/// A small module with an orchestration and an activity, as a component.
fn sample(bench: &Bench) -> Vec<u8> {
    let world = world(&format!(
        "import perennial:workflow/logging@0.1.0; export {ORCHESTRATIONS}; export {ACTIVITIES};"
    ));
    let body = format!(
        r#"(import "perennial:workflow/logging@0.1.0" "panicking" (func $panicking (param i32 i32 i32 i32)))
        {} {}"#,
        orchestration(
            "(local $n i32) (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 9))))"
        ),
        activity("")
    );
    bench
        .wasm
        .inspect(&core_module(&world, &body))
        .unwrap()
        .component
}

/// Mutations: flipped bits, other bytes, truncation, and parts that are removed, doubled or moved.
fn mutated(whole: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=chance.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = chance.below(bytes.len());
        let end = (at + 1 + chance.below(64)).min(bytes.len());
        match chance.below(8) {
            0..=2 => bytes[at] ^= 1 << chance.below(8),
            3 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][chance.below(5)],
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..end)),
            6 => {
                let part = bytes[at..end].to_vec();
                let to = chance.below(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => bytes[at..end].reverse(),
        }
    }
    bytes
}

#[test]
fn damaged_components_are_refused_or_work_and_never_panic() {
    let seeds = match std::env::var("PERENNIAL_LONG") {
        Ok(_) => 20_000,
        Err(_) => 400,
    };
    let bench = Bench::new();
    let whole = sample(&bench);
    let (mut refused, mut worked) = (0, 0);
    for seed in 0..seeds {
        let bytes = mutated(&whole, &mut Chance(seed));
        let tried = catch_unwind(AssertUnwindSafe(|| try_out(&bench, &bytes)));
        match tried {
            Ok(true) => worked += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("seed {seed} made the host panic"),
        }
    }
    // The mutations are neither all harmless nor all the same.
    assert!(refused > seeds / 2, "{refused} of {seeds} refused");
    assert!(worked > 0, "{worked} of {seeds} worked");
}

/// Findings of the fuzzer of deployments, now fixed.
#[test]
fn what_was_found_before_is_refused_or_works() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/kept/deploy");
    let bench = Bench::new();
    let mut found = 0;
    for entry in std::fs::read_dir(kept).unwrap() {
        let path = entry.unwrap().path();
        try_out(&bench, &std::fs::read(&path).unwrap());
        found += 1;
    }
    assert!(found > 0, "nothing is kept in {kept}");
}

/// Whether the bytes are a module; if so, runs a turn, which must end somehow.
fn try_out(bench: &Bench, bytes: &[u8]) -> bool {
    match bench.wasm.inspect(bytes) {
        Ok(inspected) => {
            let digest = inspected.digest;
            bench.modules.lock().unwrap().push(inspected.component);
            if let Ok(mut guest) =
                bench
                    .wasm
                    .instantiate(digest, &Limits::default(), "i", Timestamp(0))
            {
                drop(live(&mut *guest));
            }
            bench.wasm.forget(digest);
            bench.modules.lock().unwrap().clear();
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 20_000, "{error}");
            false
        }
    }
}

#[test]
fn a_module_of_one_huge_function_is_refused_before_it_is_compiled() {
    let body = "(drop (i32.add (i32.const 1) (i32.const 2)))".repeat(200_000);
    let world = world(&format!("export {ORCHESTRATIONS};"));
    let module = core_module(&world, &orchestration(&body));
    let error = Bench::new().wasm.inspect(&module).unwrap_err().to_string();
    assert!(
        error.contains("would take too long to compile") && error.contains("1048576 are allowed"),
        "{error}"
    );
}

/// Modules near the bounds of compilation, each in another way: the number of functions, and the body of each.
fn hard_modules() -> Vec<(&'static str, usize, String)> {
    let locals = |n: usize| format!("(local {})", "i32 ".repeat(n));
    let sets = |locals: usize, times: usize| -> String {
        (0..times)
            .map(|n| {
                let (to, from) = (n % locals, (n * 7 + 1) % locals);
                format!("(local.set {to} (i32.add (local.get {from}) (local.get {to})))")
            })
            .collect()
    };
    let nest = |loops: usize, of: usize, inside: &str| {
        let (open, close) = ("(loop ".repeat(loops), ")".repeat(loops));
        let out = loops - 1;
        format!(
            "{} {open} {inside} (br_if 0 (local.get 0)) (br_if {out} (local.get 1)) {close}",
            locals(of)
        )
    };
    let ifs = |times: usize, of: usize| {
        let some: String = (0..times)
            .map(|n| {
                let (from, to, other) = (n % of, (n * 13) % of, (n * 31) % of);
                format!("(if (local.get {from}) (then (local.set {to} (local.get {other}))))")
            })
            .collect();
        format!("{} (loop {some} (br_if 0 (local.get 0)))", locals(of))
    };
    let loads = "(drop (i64.load (i32.load (i32.load (i32.const 8)))))";
    vec![
        ("900 loops", 1, nest(900, 1_800, &sets(1_800, 1_800))),
        ("90 loops", 1, nest(90, 5_500, &sets(5_500, 5_500))),
        ("9 loops", 1, nest(9, 13_500, &sets(13_500, 13_500))),
        ("one loop", 1, nest(1, 49_000, &sets(49_000, 1_000))),
        ("full loops", 6, nest(80, 1_000, &sets(1_000, 65_000))),
        ("ifs", 7, ifs(50_000, 1_000)),
        ("ifs in small functions", 1_800, ifs(2_000, 100)),
        ("many functions", 18_000, nest(4, 100, &sets(100, 200))),
        (
            "much code",
            60,
            format!("{} {}", locals(2), loads.repeat(80_000)),
        ),
    ]
}

/// The hardest modules within the bounds are accepted; measures how long they take.
#[test]
#[expect(clippy::print_stdout, reason = "what was measured, for people")]
fn what_is_let_through_is_compiled_in_minutes() {
    if std::env::var_os("PERENNIAL_LONG").is_none() {
        return;
    }
    let bench = Bench::new();
    let world = world(&format!("export {ORCHESTRATIONS};"));
    for (name, functions, body) in hard_modules() {
        let hard = format!("(func {body})").repeat(functions);
        let module = core_module(&world, &format!("{hard} {}", orchestration("")));
        let begun = std::time::Instant::now();
        let inspected = bench.wasm.inspect(&module);
        let (bytes, took) = (module.len(), begun.elapsed());
        println!("{name}: {functions} functions, {bytes} bytes, {took:.1?}");
        assert_eq!(inspected.map(drop), Ok(()), "{name}");
        assert!(took.as_secs() < 600, "{name} took {took:?}");
    }
}
