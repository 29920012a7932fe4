//! Hand-written malicious guests on a whole host with other work.

#[cfg(all(feature = "http", feature = "postgres"))]
mod away;
mod differential;
mod foreign;
#[cfg(feature = "postgres")]
mod told;
mod workers;

use std::time::Duration;

use perennial_core::Status;

use crate::wasm::tests::{ORCHESTRATIONS, core_module, orchestration, world};
use crate::{Client, Host, InstanceStatus, Module};

const LIMIT: Duration = Duration::from_secs(60);

const LOGGING: &str = "import perennial:workflow/logging@0.1.0;";
const LOG: &str =
    r#"(import "perennial:workflow/logging@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
const PANICKING: &str = r#"(import "perennial:workflow/logging@0.1.0" "panicking" (func $panicking (param i32 i32 i32 i32)))"#;

/// An instruction sequence that completes with the text at this address.
fn completes(at: i64, length: i64) -> String {
    format!(
        "(i32.store8 (i32.const 1032) (i32.const 1)) (i32.store8 (i32.const 1036) (i32.const 1))
         (i32.store (i32.const 1040) (i32.const {at})) (i32.store (i32.const 1044) (i32.const {length}))"
    )
}

/// A list of `count` actions at this address.
fn asks(at: i64, count: i64) -> String {
    format!(
        "(i32.store (i32.const 1024) (i32.const {at})) (i32.store (i32.const 1028) (i32.const {count}))"
    )
}

/// A misdeed: its name, additional imports, additional items, the body of a turn, and the expected failure.
struct Misdeed(&'static str, &'static str, String, String, &'static str);

#[rustfmt::skip]
fn misdeeds() -> Vec<Misdeed> {
    let deed = |what, advance: &str, kind| Misdeed(what, "", String::new(), advance.to_owned(), kind);
    let data = |what, data: &str, advance: String, kind| Misdeed(what, "", data.to_owned(), advance, kind);
    let calls = |what, import: &str, advance: &str, kind| Misdeed(what, LOGGING, import.to_owned(), advance.to_owned(), kind);
    vec![
        deed("traps", "unreachable", "Trap"),
        deed("divides by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "Trap"),
        deed("reads beyond its memory", "(drop (i32.load (i32.const -4)))", "Trap"),
        deed("spins", "(loop $l (br $l))", "OutOfFuel"),
        data("recurses", "(func $deep (call $deep) (call $deep))", "(call $deep)".to_owned(), "StackOverflow"),
        deed("hoards", "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable", "OutOfMemory"),
        deed("asks for all memory at once", "(if (i32.eq (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable))", "OutOfMemory"),
        deed("asks for four billion actions", &asks(0, -1), "InvalidAnswer"),
        deed("asks for actions beyond its memory", &asks(-64, 1), "InvalidAnswer"),
        deed("asks for the same task twice", &asks(65_536, 2), "InvalidAnswer"),
        deed("answers beyond its memory", "(return (i32.const -16))", "InvalidAnswer"),
        deed("answers askew", "(return (i32.const 1025))", "InvalidAnswer"),
        deed("ends in no way that there is", "(i32.store8 (i32.const 1032) (i32.const 99))", "InvalidAnswer"),
        deed("completes with a text beyond its memory", &completes(-8, 100), "InvalidAnswer"),
        deed("completes with a text of four gigabytes", &completes(0, -1), "InvalidAnswer"),
        data("completes with what is no UTF-8", r#"(data (i32.const 3000) "\ff\fe\fd")"#, completes(3000, 3), "InvalidAnswer"),
        data("completes with what is no JSON", r#"(data (i32.const 3000) "{]")"#, completes(3000, 2), "InvalidAnswer"),
        deed("completes with nothing as JSON", &completes(3000, 0), "InvalidAnswer"),
        calls("logs what is beyond its memory", LOG, "(call $log (i32.const 0) (i32.const -8) (i32.const 100))", "InvalidAnswer"),
        calls("logs at a level that is none", LOG, "(call $log (i32.const 77) (i32.const 0) (i32.const 1))", "InvalidAnswer"),
        calls("panics in words beyond its memory", PANICKING, "(call $panicking (i32.const -8) (i32.const 99) (i32.const 0) (i32.const 0)) unreachable", "InvalidAnswer"),
        calls("panics in four gigabytes of words", PANICKING, "(call $panicking (i32.const 0) (i32.const -1) (i32.const 0) (i32.const -1)) unreachable", "InvalidAnswer"),
    ]
}

fn module(name: &str, imports: &str, body: &str, advance: &str) -> Module {
    let world = world(&format!("{imports} export {ORCHESTRATIONS};"));
    let bytes = core_module(&world, &format!("{body} {}", orchestration(advance)));
    Module::from_bytes(name, &bytes).unwrap()
}

async fn ended(client: &Client, id: &str) -> InstanceStatus {
    let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
    let said = format!("{id} does not end: {:?}", waited.status());
    waited.reached().expect(&said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_guest_harms_its_own_instance_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
    let client = host.client();
    let good = module(
        "good",
        "",
        r#"(data (i32.const 3000) "1")"#,
        &completes(3000, 1),
    );
    let waits = module("waits", "", "", "");
    client.deploy(waits).await.unwrap();
    client.start("F").id("waits").await.unwrap();
    let misdeeds = misdeeds();
    for Misdeed(what, imports, body, advance, _) in &misdeeds {
        client.deploy(good.clone()).replace().await.unwrap();
        client
            .start("F")
            .id(format!("good beside: {what}"))
            .await
            .unwrap();
        let bad = module("bad", imports, body, advance);
        client.deploy(bad).replace().await.unwrap();
        client.start("F").id(*what).await.unwrap();
    }
    let check = async |client: &Client| {
        let mut wrong = Vec::new();
        for Misdeed(what, .., kind) in &misdeeds {
            let bad = ended(client, what).await;
            let failure = bad
                .failure
                .map(|failure| failure.to_string())
                .unwrap_or_default();
            if bad.runtime_status != Status::Failed || !failure.starts_with(&format!("{kind}: ")) {
                wrong.push(format!(
                    "{what}: {} {failure}, not {kind}",
                    bad.runtime_status
                ));
            }
            let good = ended(client, &format!("good beside: {what}")).await;
            assert_eq!(good.runtime_status, Status::Completed, "{good:?}");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let waits = client.status("waits").await.unwrap().unwrap();
        assert_eq!(waits.runtime_status, Status::Running);
    };
    check(&client).await;
    host.shut_down().await;
    // A verdict is an event: the guest does not run again.
    let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
    check(&host.client()).await;
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_hold_much_do_not_stay_beyond_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
    let client = host.client();
    let fill = r#"(start $fill) (func $fill
        (drop (memory.grow (i32.const 800)))
        (memory.fill (i32.const 65536) (i32.const 1) (i32.const 52428800)))"#;
    client.deploy(module("large", "", fill, "")).await.unwrap();
    for n in 0..40 {
        client.start("F").id(format!("i{n}")).await.unwrap();
        let stats = host.stats();
        // 1 GiB holds 20 of them.
        assert!(stats.resident <= 20, "{stats:?}");
        assert!(stats.resident_bytes <= 1 << 30, "{stats:?}");
    }
    // Evicted instances are as live as the others.
    for n in [0, 39] {
        let id = format!("i{n}");
        client.raise_event(&id, "any", &1).await.unwrap();
        let status = client.status(id).await.unwrap().unwrap();
        assert_eq!(status.runtime_status, Status::Running);
    }
    assert!(host.stats().evictions >= 19, "{:?}", host.stats());
    host.shut_down().await;
}
