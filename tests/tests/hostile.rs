//! Guests and clients that want too much: what they get, and that others get theirs.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "hostile/fair.rs"]
mod fair;
#[path = "hostile/load.rs"]
mod load;
#[path = "hostile/quotas.rs"]
mod quotas;

use std::time::Duration;

use perennial::{Client, Host, HostBuilder, InstanceStatus, Status};
use perennial_tests::{DataDir, Way, module};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);

async fn host(dir: &DataDir, set_up: impl FnOnce(HostBuilder) -> HostBuilder) -> Host {
    let host = set_up(dir.host()).start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    host
}

async fn ended(client: &Client, id: &str) -> InstanceStatus {
    let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
    let said = format!("{id} does not end: {:?}", waited.status());
    waited.reached().expect(&said)
}

async fn completes(client: &Client, id: &str) {
    let status = ended(client, id).await;
    assert_eq!(status.runtime_status, Status::Completed, "{status:?}");
}

/// What a guest does, of which module, with which input; how its instance fails.
type Misdeed = (&'static str, &'static str, &'static str, &'static str);

const MISDEEDS: &[Misdeed] = &[
    ("workloads", "Panics", "null", "Panic"),
    ("workloads", "Spins", "null", "OutOfFuel"),
    ("workloads", "Allocates", "null", "OutOfMemory"),
    ("workloads", "Recurses", "0", "StackOverflow"),
    ("workloads", "AwaitsNothing", "null", "ForeignAwait"),
    ("workloads", "CallsUnknown", "null", "UnknownActivity"),
    ("workloads", "Chain", "\"many\"", "InvalidInput"),
    ("probe", "Sleeps", "null", "ForbiddenImport"),
    ("probe", "Exits", "null", "Trap"),
    ("probe", "Traps", "null", "Trap"),
    ("probe", "SendsTooMuch", "2097152", "LimitExceeded"),
    ("probe", "ShowsTooMuch", "20480", "LimitExceeded"),
    ("probe", "ReturnsTooMuch", "2097152", "LimitExceeded"),
    ("probe", "ReturnsNoJson", "null", "InvalidOutput"),
    ("probe", "CallsWithTooMuch", "2097152", "LimitExceeded"),
    ("probe", "CallsTooOften", "10001", "LimitExceeded"),
    ("probe", "ChildOfNobody", "null", "UnknownOrchestration"),
    ("probe", "Calls", r#"["Spin", null, 300]"#, "Timeout"),
    ("probe", "Calls", r#"["Sleep", 600000, 300]"#, "Timeout"),
    ("probe", "Calls", r#"["Panic", null, null]"#, "Panic"),
    ("probe", "Calls", r#"["Trap", null, null]"#, "Trap"),
    ("probe", "Calls", r#"["Hoard", null, null]"#, "OutOfMemory"),
    (
        "probe",
        "Calls",
        r#"["Recurse", null, null]"#,
        "StackOverflow",
    ),
    (
        "probe",
        "Calls",
        r#"["NoJson", null, null]"#,
        "InvalidOutput",
    ),
    ("probe", "Calls", r#"["Exit", null, null]"#, "Trap"),
];

/// Those that the standard library can be told to do, by their number: without a system it cannot sleep.
fn misdeeds() -> impl Iterator<Item = (usize, &'static Misdeed)> {
    let sleeps = |(_, name, input, _): &Misdeed| *name == "Sleeps" || input.contains("\"Sleep\"");
    let all = MISDEEDS.iter().enumerate();
    all.filter(move |(_, misdeed)| Way::here().has_system() || !sleeps(misdeed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_hostile_guests_in_it_finishes_everybody_elses_work() {
    let dir = DataDir::new();
    let host = host(&dir, |builder| builder.activities_max(8)).await;
    let client = host.client();
    client.deploy(module("probe")).await.unwrap();
    let mut good = Vec::new();
    for round in 0..4 {
        for (at, (_, name, input, _)) in misdeeds() {
            let input: Value = serde_json::from_str(input).unwrap();
            let id = format!("bad-{round}-{at}");
            client.start(*name).id(id).input(&input).await.unwrap();
            let (name, input) = match at % 4 {
                0 => ("Chain", json!(3)),
                1 => ("FanOutN", json!(5)),
                2 => ("CountDown", json!(3)),
                _ => ("Sleep", json!(10)),
            };
            good.push(client.start(name).input(&input).await.unwrap());
        }
    }
    for id in &good {
        completes(&client, id).await;
    }
    for round in 0..4 {
        for (at, (_, name, input, kind)) in misdeeds() {
            let bad = ended(&client, &format!("bad-{round}-{at}")).await;
            let failure = bad.failure.clone().map(|failure| failure.kind);
            assert_eq!(failure.as_deref(), Some(*kind), "{name} {input}: {bad:?}");
        }
    }
    host.shut_down().await;
}
