//! What the sandbox lets an orchestration observe and do.

use super::*;
use crate::wasm::sandbox::NANOS_PER_MILLI;

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
            .instantiate(digest, &Limits::default(), "i", Timestamp(0))
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

/// The parts of WASI's packages that these guests use.
const PACKAGES: &str = "
package wasi:io@0.2.6 {
  interface poll {
    resource pollable { ready: func() -> bool; block: func(); }
    poll: func(in: list<borrow<pollable>>) -> list<u32>;
  }
  interface error { resource error; }
  interface streams {
    use error.{error};
    use poll.{pollable};
    variant stream-error { last-operation-failed(error), closed }
    resource input-stream { subscribe: func() -> pollable; }
    resource output-stream {
      subscribe: func() -> pollable;
      blocking-write-zeroes-and-flush: func(len: u64) -> result<_, stream-error>;
      blocking-splice: func(src: borrow<input-stream>, len: u64) -> result<u64, stream-error>;
    }
  }
}
package wasi:cli@0.2.6 {
  interface stdin { use wasi:io/streams@0.2.6.{input-stream}; get-stdin: func() -> input-stream; }
  interface stdout { use wasi:io/streams@0.2.6.{output-stream}; get-stdout: func() -> output-stream; }
}
package wasi:clocks@0.2.6 {
  interface monotonic-clock {
    use wasi:io/poll@0.2.6.{pollable};
    type instant = u64;
    type duration = u64;
    now: func() -> instant;
    subscribe-instant: func(when: instant) -> pollable;
    subscribe-duration: func(when: duration) -> pollable;
  }
  interface timezone {
    record datetime { seconds: u64, nanoseconds: u32 }
    utc-offset: func(when: datetime) -> s32;
  }
}
package wasi:sockets@0.2.6 {
  interface network {
    resource network;
    enum error-code {
      unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout, concurrency-conflict, not-in-progress,
      would-block, invalid-state, new-socket-limit, address-not-bindable, address-in-use, remote-unreachable,
      connection-refused, connection-reset, connection-aborted, datagram-too-large, name-unresolvable,
      temporary-resolver-failure, permanent-resolver-failure,
    }
    enum ip-address-family { ipv4, ipv6 }
  }
  interface instance-network { use network.{network}; instance-network: func() -> network; }
  interface ip-name-lookup {
    use network.{network, error-code};
    resource resolve-address-stream;
    resolve-addresses: func(network: borrow<network>, name: string) -> result<resolve-address-stream, error-code>;
  }
  interface tcp { resource tcp-socket; }
  interface tcp-create-socket {
    use network.{error-code, ip-address-family};
    use tcp.{tcp-socket};
    create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
  }
}
package wasi:http@0.2.6 {
  interface types {
    variant error-code { DNS-timeout, HTTP-request-denied, internal-error(option<string>) }
    resource fields { constructor(); }
    resource outgoing-request { constructor(headers: fields); set-path: func(path: option<string>) -> result; }
    resource future-incoming-response;
  }
  interface outgoing-handler {
    use types.{outgoing-request, future-incoming-response, error-code};
    handle: func(request: outgoing-request, options: option<u32>) -> result<future-incoming-response, error-code>;
  }
  interface odd { number: func() -> u32; }
}";

/// A world that imports them.
fn wasi(imports: &str, exports: &str) -> String {
    format!("package test:guest; {PACKAGES} world guest {{ {imports} {exports} }}")
}

/// Runs a turn of an orchestration, and an attempt of an activity with the same body.
fn both(
    imports: &str,
    body: &str,
    does: &str,
) -> (Result<Answer, Stop>, Result<Option<Json>, Failure>) {
    let bench = Bench::new();
    let digest = bench.deploy(
        &wasi(
            imports,
            &format!("export {ORCHESTRATIONS}; export {ACTIVITIES};"),
        ),
        &format!("{body} {} {}", orchestration(does), activity(does)),
    );
    let guest = bench
        .wasm
        .instantiate(digest, &Limits::default(), "i", Timestamp(0));
    (live(&mut *guest.unwrap()), run(&bench, attempt(digest)))
}

/// Code that traps unless a number has the expected value.
fn is(number: &str, expected: u32) -> String {
    format!("(if (i32.ne {number} (i32.const {expected})) (then unreachable))")
}

#[test]
fn a_socket_is_denied_with_an_error_and_no_trap() {
    let body = r#"
        (import "wasi:sockets/tcp-create-socket@0.2.6" "create-tcp-socket" (func $create (param i32 i32)))
        (import "wasi:sockets/instance-network@0.2.6" "instance-network" (func $network (result i32)))
        (import "wasi:sockets/ip-name-lookup@0.2.6" "resolve-addresses" (func $resolve (param i32 i32 i32 i32)))"#;
    let does = [
        "(call $create (i32.const 0) (i32.const 3072))",
        &is("(i32.load8_u (i32.const 3072))", 1),
        &is("(i32.load8_u (i32.const 3076))", 1),
        "(call $resolve (call $network) (i32.const 3072) (i32.const 0) (i32.const 3080))",
        &is("(i32.load8_u (i32.const 3080))", 1),
        &is("(i32.load8_u (i32.const 3084))", 1),
    ]
    .concat();
    let imports =
        "import wasi:sockets/tcp-create-socket@0.2.6; import wasi:sockets/instance-network@0.2.6;
                   import wasi:sockets/ip-name-lookup@0.2.6;";
    let (turn, attempt) = both(imports, body, &does);
    assert_eq!(turn, Ok(waiting()));
    assert_eq!(attempt, Ok(None));
}

#[test]
fn a_request_is_built_and_then_denied() {
    let body = r#"
        (import "wasi:http/types@0.2.6" "[constructor]fields" (func $fields (result i32)))
        (import "wasi:http/types@0.2.6" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
        (import "wasi:http/types@0.2.6" "[method]outgoing-request.set-path" (func $path (param i32 i32 i32 i32) (result i32)))
        (import "wasi:http/outgoing-handler@0.2.6" "handle" (func $handle (param i32 i32 i32 i32)))
        (global $it (mut i32) (i32.const 0))"#;
    let does = [
        "(global.set $it (call $request (call $fields)))",
        &is(
            "(call $path (global.get $it) (i32.const 1) (i32.const 3072) (i32.const 0))",
            0,
        ),
        "(call $handle (global.get $it) (i32.const 0) (i32.const 0) (i32.const 3072))",
        &is("(i32.load8_u (i32.const 3072))", 1),
        &is("(i32.load8_u (i32.const 3076))", 1),
    ]
    .concat();
    let imports = "import wasi:http/types@0.2.6; import wasi:http/outgoing-handler@0.2.6;";
    let (turn, attempt) = both(imports, body, &does);
    assert_eq!(turn, Ok(waiting()));
    assert_eq!(attempt, Ok(None));
}

#[test]
fn what_has_no_error_to_answer_with_is_refused_by_its_name() {
    let body = r#"(import "wasi:http/odd@0.2.6" "number" (func $odd (result i32)))"#;
    let (turn, attempt) = both("import wasi:http/odd@0.2.6;", body, "(drop (call $odd))");
    assert_eq!(
        verdict(turn).to_string(),
        "ForbiddenImport: an orchestration has no effects but the actions of its turns, so it must not call: \
         wasi:http/odd@0.2.6#number"
    );
    assert_eq!(
        attempt.unwrap_err().to_string(),
        "ForbiddenImport: not granted to the activities of this module: wasi:http/odd@0.2.6#number"
    );
}

#[test]
fn a_module_of_orchestrations_may_name_what_is_denied_when_it_is_called() {
    let bench = Bench::new();
    let alone = |imports: &str, body: &str| {
        core_module(
            &wasi(imports, &format!("export {ORCHESTRATIONS};")),
            &format!("{body} {}", orchestration("")),
        )
    };
    let body = r#"(import "wasi:http/odd@0.2.6" "number" (func $odd (result i32)))"#;
    let named = alone("import wasi:http/odd@0.2.6;", body);
    let imports = bench.wasm.inspect(&named).unwrap().imports;
    assert!(imports.contains(&"wasi:http/odd@0.2.6".to_owned()));
    let other = "package test:guest; package wasi:keyvalue@0.2.0 { interface store { open: func() -> u32; } }
                 world guest { import wasi:keyvalue/store@0.2.0; export perennial:workflow/orchestrations@0.1.0; }";
    let body = r#"(import "wasi:keyvalue/store@0.2.0" "open" (func $open (result i32)))"#;
    let other = core_module(other, &format!("{body} {}", orchestration("")));
    assert_eq!(
        bench.wasm.inspect(&other).unwrap_err().to_string(),
        "the component only has orchestrations, which must not have side effects, but imports wasi:keyvalue/store@0.2.0: \
         move what needs them to an activity"
    );
}

const WAITS: &str = "import wasi:cli/stdin@0.2.6; import wasi:cli/stdout@0.2.6; import wasi:io/poll@0.2.6; import wasi:io/streams@0.2.6;
    import wasi:clocks/monotonic-clock@0.2.6; import wasi:clocks/timezone@0.2.6;";

const WAITING: &str = r#"
    (import "wasi:cli/stdin@0.2.6" "get-stdin" (func $in (result i32)))
    (import "wasi:cli/stdout@0.2.6" "get-stdout" (func $out (result i32)))
    (import "wasi:io/streams@0.2.6" "[method]input-stream.subscribe" (func $when_in (param i32) (result i32)))
    (import "wasi:io/streams@0.2.6" "[method]output-stream.subscribe" (func $when_out (param i32) (result i32)))
    (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-zeroes-and-flush" (func $zeroes (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-splice" (func $splice (param i32 i32 i64 i32)))
    (import "wasi:io/poll@0.2.6" "[method]pollable.ready" (func $ready (param i32) (result i32)))
    (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/poll@0.2.6" "[resource-drop]pollable" (func $drop (param i32)))
    (import "wasi:io/poll@0.2.6" "poll" (func $poll (param i32 i32 i32)))
    (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $in_a_while (param i64) (result i32)))
    (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-instant" (func $at (param i64) (result i32)))
    (import "wasi:clocks/timezone@0.2.6" "utc-offset" (func $zone (param i64 i32) (result i32)))
    (global $a (mut i32) (i32.const 0))
    (global $b (mut i32) (i32.const 0))"#;

#[test]
fn an_orchestration_waits_for_what_is_there_and_for_nothing_else() {
    let bench = Bench::new();
    let turn = |does: &str| {
        let digest = bench.deploy(
            &wasi(WAITS, &format!("export {ORCHESTRATIONS};")),
            &format!("{WAITING} {}", orchestration(does)),
        );
        let guest = bench
            .wasm
            .instantiate(digest, &Limits::default(), "i", Timestamp(0));
        live(&mut *guest.unwrap())
    };
    let fine = [
        "(call $block (call $when_in (call $in)))",
        "(call $block (call $when_out (call $out)))",
        // A time that has passed is ready too.
        "(call $block (call $in_a_while (i64.const 0)))",
        "(call $block (call $at (call $now)))",
        // One of two is ready: the second.
        "(global.set $a (call $in_a_while (i64.const 5))) (global.set $b (call $when_out (call $out)))",
        &is("(call $ready (global.get $a))", 0),
        &is("(call $ready (global.get $b))", 1),
        "(i32.store (i32.const 3072) (global.get $a)) (i32.store (i32.const 3076) (global.get $b))",
        "(call $poll (i32.const 3072) (i32.const 2) (i32.const 3080))",
        &is("(i32.load (i32.const 3084))", 1),
        &is("(i32.load (i32.load (i32.const 3080)))", 1),
        "(call $drop (global.get $a))",
        // The other functions of streams and clocks.
        "(call $zeroes (call $out) (i64.const 10) (i32.const 3072))",
        &is("(i32.load8_u (i32.const 3072))", 0),
        "(call $splice (call $out) (call $in) (i64.const 10) (i32.const 3072))",
        &is("(i32.load8_u (i32.const 3072))", 1),
        &is("(call $zone (i64.const 0) (i32.const 0))", 0),
    ];
    assert_eq!(turn(&fine.concat()), Ok(waiting()));
    for (never, asked_with) in [
        (
            "(call $block (call $in_a_while (i64.const 1)))",
            "subscribe-duration",
        ),
        (
            "(call $block (call $at (i64.add (call $now) (i64.const 1))))",
            "subscribe-instant",
        ),
        (
            "(i32.store (i32.const 3072) (call $in_a_while (i64.const 1)))
             (call $poll (i32.const 3072) (i32.const 1) (i32.const 3080))",
            "subscribe-duration",
        ),
    ] {
        let failure = verdict(turn(never));
        assert_eq!(failure.kind, "ForbiddenImport", "{failure}");
        // The encoder uses the newest version of an interface that a module and its adapter import.
        let named = failure
            .message
            .split_once(": wasi:clocks/monotonic-clock@0.2.");
        assert!(
            named.is_some_and(|(_, named)| named.ends_with(asked_with)),
            "{failure}"
        );
    }
}

/// Refused before the host runs out of memory.
#[test]
fn an_orchestration_that_asks_for_times_without_end_is_stopped() {
    let bench = Bench::new();
    let hoards = "(loop $more (drop (call $in_a_while (i64.const 1))) (br $more))";
    let digest = bench.deploy(
        &wasi(WAITS, &format!("export {ORCHESTRATIONS};")),
        &format!("{WAITING} {}", orchestration(hoards)),
    );
    let guest = bench
        .wasm
        .instantiate(digest, &Limits::default(), "i", Timestamp(0));
    let fuel = u64::from(u32::MAX);
    let stopped = guest
        .unwrap()
        .advance(&first_turn(1, 1), Mode::Live { fuel });
    let failure = verdict(stopped);
    assert!(
        failure.message.contains("more than 10000 times"),
        "{failure}"
    );
}

#[test]
fn until_the_first_turn_the_clock_stands_where_the_execution_began() {
    const BEGAN: Timestamp = Timestamp(1_700_000_000_123);
    let bench = Bench::new();
    let world = wasi(
        "import wasi:clocks/monotonic-clock@0.2.6;",
        &format!("export {ORCHESTRATIONS};"),
    );
    // As in Go's runtime, which does not start at an implausible time.
    let body = |expected: &str| {
        format!(
            r#"(import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $now (result i64)))
               (global $began (mut i64) (i64.const 0))
               (start $begin)
               (func $begin
                 (global.set $began (call $now))
                 (if (i64.eqz (global.get $began)) (then unreachable)))
               {}"#,
            orchestration(&format!(
                "(if (i64.ne (global.get $began) (i64.const {expected})) (then unreachable))"
            ))
        )
    };
    let expected = (BEGAN.0 * NANOS_PER_MILLI).to_string();
    let digest = bench.deploy(&world, &body(&expected));
    let mut guest = bench
        .wasm
        .instantiate(digest, &Limits::default(), "i", BEGAN)
        .unwrap();
    assert_eq!(live(&mut *guest), Ok(waiting()));
    // An execution that began at 0 has that time in every replay.
    let mut old = bench
        .wasm
        .instantiate(digest, &Limits::default(), "i", Timestamp(0))
        .unwrap();
    assert_eq!(verdict(live(&mut *old)).kind, "Trap");
}

#[test]
fn what_a_guest_wrote_before_it_failed_to_define_anything_is_shown() {
    let world = wasi(
        "import perennial:workflow/logging@0.1.0;",
        &format!("export {ACTIVITIES};"),
    );
    let body = format!(
        r#"(import "perennial:workflow/logging@0.1.0" "log" (func $log (param i32 i32 i32)))
           (memory (export "memory") 16)
           (data (i32.const 3000) "no such settings")
           (func (export "{ACTIVITIES}#definitions") (result i32)
             (call $log (i32.const 4) (i32.const 3000) (i32.const 16)) unreachable)
           (func (export "{ACTIVITIES}#run") (param i32) (result i32) unreachable)"#
    );
    let error = Bench::new().wasm.inspect(&core_module(&world, &body));
    assert_eq!(
        error.unwrap_err().to_string(),
        "the component failed while it was asked what it defines: Trap: wasm trap: wasm `unreachable` instruction executed; \
         it wrote: no such settings"
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
