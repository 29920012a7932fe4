//! What becomes of modules: checked before they are deployed, side by side while instances live, left for another one, and collected.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use perennial::{
    CheckOutcome, Client, Collect, Filter, Grants, Host, InstanceStatus, NameChange, RemoveInUse,
    Status,
};
use perennial_tests::{DataDir, binary, guest, module};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

async fn ended(client: &Client, id: &str) -> InstanceStatus {
    let waited = client.wait_for_completion(id, LIMIT).await.unwrap();
    waited
        .reached()
        .unwrap_or_else(|| panic!("{id} did not end"))
}

/// Returns when an instance waits for an external event.
async fn waits(client: &Client, id: &str) {
    let waiting = |status: &InstanceStatus| status.history_events > 3;
    client.wait_until(id, LIMIT, waiting).await.unwrap();
}

/// A host with the first version as `orders`, and `ship`, `bill` and `retire` that wait.
async fn first_version(dir: &DataDir) -> (Host, Client) {
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client
        .deploy(module("version-one").named("orders"))
        .await
        .unwrap();
    client
        .start("Ship")
        .id("ship")
        .input("a chair")
        .await
        .unwrap();
    client.start("Bill").id("bill").await.unwrap();
    client.start("Retire").id("retire").await.unwrap();
    waits(&client, "ship").await;
    (host, client)
}

fn second_version() -> perennial::Module {
    module("version-two").named("orders")
}

fn cached(dir: &DataDir, digest: perennial::Digest) -> bool {
    let prefix = format!("{digest}-");
    let entries = std::fs::read_dir(dir.path().join("cache")).unwrap();
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_ends_on_its_old_code_beside_new_ones_on_the_new_across_a_restart() {
    let dir = DataDir::new();
    let (host, client) = first_version(&dir).await;
    client.deploy(second_version()).await.unwrap();
    client
        .start("Ship")
        .id("new")
        .input("a stool")
        .await
        .unwrap();
    waits(&client, "new").await;
    host.shut_down().await;
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    for id in ["ship", "new"] {
        client.raise_event(id, "Go", &()).await.unwrap();
    }
    let output = |status: InstanceStatus| status.output_as::<String>().unwrap();
    assert_eq!(
        output(ended(&client, "ship").await),
        "sent packed a chair by the first version"
    );
    assert_eq!(
        output(ended(&client, "new").await),
        "sent packed a stool of 7 g by the second version"
    );
    client.raise_event("bill", "Paid", &5).await.unwrap();
    assert_eq!(ended(&client, "bill").await.output_as::<u32>().unwrap(), 5);
    client.raise_event("retire", "Go", &()).await.unwrap();
    assert_eq!(
        ended(&client, "retire").await.runtime_status,
        Status::Completed
    );
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_which_live_instances_could_go_on_and_changes_nothing() {
    let dir = DataDir::new();
    let (host, client) = first_version(&dir).await;
    let progress = std::sync::Arc::new(std::sync::Mutex::new((0, 0)));
    let seen = std::sync::Arc::clone(&progress);
    let granted = Grants::new().http_host("a.b");
    let check = client.check(second_version()).grants(granted.clone());
    let report = check
        .on_progress(move |done, total| {
            let mut seen = seen.lock().unwrap();
            *seen = (seen.0.max(done), total);
        })
        .await
        .unwrap();
    assert_eq!(*progress.lock().unwrap(), (3, 3));
    assert_eq!(
        (report.grants_before, report.grants_after),
        (Grants::default(), granted)
    );
    let change = |name: &str| {
        let found = report.names.iter().find(|checked| checked.name == name);
        found.unwrap().change.clone()
    };
    let first = client.find_module("orders").await.unwrap();
    assert_eq!(change("Ship"), NameChange::Updated(first));
    assert_eq!(change("Weigh"), NameChange::New);
    assert_eq!(change("Retire"), NameChange::Dropped);
    let outcome = |id: &str| {
        let found = report
            .instances
            .iter()
            .find(|instance| instance.instance_id == id);
        found.unwrap().outcome.clone()
    };
    assert_eq!(outcome("bill"), CheckOutcome::Compatible { turns: 1 });
    assert_eq!(outcome("retire"), CheckOutcome::NotDefined);
    let CheckOutcome::Differs(why) = outcome("ship") else {
        panic!("{:?}", outcome("ship"))
    };
    assert_eq!((why.turn, why.event), (Some(0), Some(2)));
    assert!(why.recorded.unwrap().contains("\"Pack\""));
    assert!(why.asked.unwrap().contains("\"Weigh\""));
    // Nothing was deployed, nobody was disturbed.
    let modules = client.modules().await.unwrap();
    assert_eq!(
        (modules.len(), modules[0].digest.clone()),
        (1, first.to_string())
    );
    let same = client
        .check(module("version-one").named("orders"))
        .await
        .unwrap();
    assert_eq!(same.incompatible().count(), 0);
    client.raise_event("ship", "Go", &()).await.unwrap();
    assert_eq!(
        ended(&client, "ship").await.runtime_status,
        Status::Completed
    );
    let other = client.check(module("version-two")).await.unwrap();
    let taken: Vec<&str> = other.taken().map(|name| name.name.as_str()).collect();
    assert_eq!(taken, ["Bill", "Refund", "Ship", "Pack", "Send"]);
    host.shut_down().await;
}

/// Rolls `orders` back to its first version, and says what is stored meanwhile.
async fn rolls_back(client: &Client) {
    let (first, second) = (module("version-one").digest(), second_version().digest());
    let stored = client.stored_modules().await.unwrap();
    let of = |digest| stored.iter().find(|one| one.digest == digest).unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!(
        (of(first).likely_name(), &of(first).deployed_as[..]),
        (Some("orders"), &[][..])
    );
    assert_eq!(of(second).deployed_as, ["orders"]);
    let component = client.component(&first.to_string()[..8]).await.unwrap();
    assert_eq!(component.len() as u64, of(first).size);
    let again = client.look_at("orders", component).await.unwrap();
    let loaded = client.load_module(&first.to_string()).await.unwrap();
    assert_eq!(
        (again.digest(), loaded.digest(), loaded.name()),
        (first, first, "orders")
    );
    assert_eq!(again.definitions(), loaded.definitions());

    let deployment = client.deploy_stored(first.short()).await.unwrap();
    assert_eq!(
        (deployment.name.as_str(), deployment.digest),
        ("orders", first)
    );
    assert_eq!(client.find_module("orders").await.unwrap(), first);
    let taken = client.deploy_stored(second.short()).named("other").await;
    assert!(taken.unwrap_err().is_name_taken());
    for unknown in ["nobody", "0123456789ab"] {
        let errors = [
            client.component(unknown).await.unwrap_err(),
            client.stored_module(unknown).await.unwrap_err(),
            client.deploy_stored(unknown).await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                error.is_unknown_module() && error.is_not_found(),
                "{error:?}"
            );
            assert_eq!(error.is_not_stored(), unknown != "nobody", "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_module_is_read_and_deployed_again_in_the_process_of_the_host_and_beside_it() {
    let dir = DataDir::new();
    let (host, client) = first_version(&dir).await;
    client
        .grant("orders", &Grants::new().http_host("a.b"))
        .await
        .unwrap();
    for client in [&client, &dir.client()] {
        client.deploy(second_version()).await.unwrap();
        rolls_back(client).await;
        let grants = client.modules().await.unwrap().remove(0).grants;
        assert_eq!(grants, Grants::new().http_host("a.b"), "they stay");
    }
    client.deploy(second_version()).await.unwrap();
    host.shut_down().await;
    // Without a host too.
    rolls_back(&dir.client()).await;
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    client
        .start("Ship")
        .id("new")
        .input("a desk")
        .await
        .unwrap();
    let wait = client.status("new").await.unwrap().unwrap();
    assert_eq!(wait.module, Some(module("version-one").digest()));

    client.deploy(second_version()).await.unwrap();
    client.terminate_where(Filter::default()).await.unwrap();
    for status in client.list().await.unwrap().instances {
        ended(&client, &status.instance_id).await;
    }
    let all = Collect::new().old_versions(true);
    assert_eq!(client.collect_modules(all).await.unwrap().len(), 1);
    let gone = client.deploy_stored(module("version-one").digest().short());
    let gone = gone.await.unwrap_err();
    assert!(gone.is_not_stored(), "{gone}");
    assert!(gone.to_string().contains("deploy its file"), "{gone}");
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_modules_that_nothing_points_to_are_collected() {
    let dir = DataDir::new();
    let (host, client) = first_version(&dir).await;
    let (first, second) = (module("version-one").digest(), second_version().digest());
    client.deploy(second_version()).await.unwrap();
    let dry = Collect::new().dry_run(true).old_versions(true);
    let collect = async |which: Collect| {
        let collected = client.collect_modules(which).await.unwrap();
        collected
            .iter()
            .map(|module| module.digest)
            .collect::<Vec<_>>()
    };
    assert_eq!(collect(dry).await, [], "instances live on it");
    for id in ["ship", "retire"] {
        client.raise_event(id, "Go", &()).await.unwrap();
        ended(&client, id).await;
    }
    assert_eq!(collect(dry.dry_run(false)).await, []);
    client.raise_event("bill", "Paid", &5).await.unwrap();
    ended(&client, "bill").await;
    client
        .deploy(module("version-one").named("orders"))
        .await
        .unwrap();
    assert_eq!(
        collect(Collect::default()).await,
        [],
        "version 2 of Refund can be started"
    );
    client.deploy(second_version()).await.unwrap();
    assert_eq!(
        collect(Collect::default()).await,
        [],
        "version 1 of Refund can be started"
    );
    client.start("Refund").version("1").id("old").await.unwrap();
    client.raise_event("old", "Paid", &6).await.unwrap();
    assert_eq!(ended(&client, "old").await.output_as::<u32>().unwrap(), 6);

    assert_eq!(collect(dry).await, [first]);
    assert!(cached(&dir, first));
    assert_eq!(collect(dry.dry_run(false)).await, [first]);
    assert!(!cached(&dir, first));
    let refused = client.start("Refund").version("1").await.unwrap_err();
    assert!(refused.is_unknown_orchestration(), "{refused}");
    client.start("Bill").id("new").await.unwrap();

    let in_use = client
        .remove_module("orders", RemoveInUse::No)
        .await
        .unwrap_err();
    assert!(in_use.is_in_use(), "{in_use}");
    client
        .remove_module("orders", RemoveInUse::Yes)
        .await
        .unwrap();
    assert!(
        client
            .remove_module("orders", RemoveInUse::Yes)
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(
        client
            .start("Bill")
            .await
            .unwrap_err()
            .is_unknown_orchestration()
    );
    assert_eq!(
        collect(Collect::default()).await,
        [],
        "an instance lives on it"
    );
    client.raise_event("new", "Paid", &5).await.unwrap();
    assert_eq!(
        ended(&client, "new").await.output_as::<u32>().unwrap(),
        1_005
    );
    host.shut_down().await;
    // Where nobody owns the hub, it is done all the same.
    let client = dir.client();
    let collected = client.collect_modules(Collect::default()).await.unwrap();
    assert_eq!(
        collected
            .iter()
            .map(|module| module.digest)
            .collect::<Vec<_>>(),
        [second]
    );
    assert!(!cached(&dir, second));
}

/// The program, as a process of its own.
fn perennial(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command
        .arg("--data-dir")
        .arg(dir)
        .args(args)
        .stdin(Stdio::null());
    command.output().unwrap()
}

/// Its exit code, and what it prints as JSON on stdout or else on stderr.
fn json_of(dir: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let args: Vec<&str> = args.iter().copied().chain(["--json", "-q"]).collect();
    let output = perennial(dir, &args);
    let text = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    let value = serde_json::from_slice(&text);
    (
        output.status.code(),
        value.unwrap_or_else(|_| json!(String::from_utf8_lossy(&text))),
    )
}

/// A copy of a guest under another name: a module is named after its file.
fn file(dir: &DataDir, package: &str, name: &str) -> PathBuf {
    let path = dir.path().join(format!("{name}.wasm"));
    std::fs::copy(guest(package), &path).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_instance_is_seen_resumed_moved_and_terminated_from_the_command_line() {
    let dir = DataDir::new();
    let (host, client) = first_version(&dir).await;
    client
        .start("Ship")
        .id("other")
        .input("a bed")
        .await
        .unwrap();
    waits(&client, "other").await;
    let (first, second) = (module("version-one").digest(), second_version().digest());
    client.deploy(second_version()).await.unwrap();
    host.shut_down().await;
    // As if another build of the host understood the module otherwise: their module is now one that does not repeat them.
    let file = dir.path().join("default.db");
    let db = rusqlite::Connection::open(&file).unwrap();
    let moved = db.execute(
        "UPDATE instance SET module = ?1 WHERE name = 'Ship'",
        [second.0],
    );
    assert_eq!(moved.unwrap(), 2);
    drop(db);
    let host = dir.host().start().await.unwrap();
    let client = host.client();
    for id in ["ship", "other"] {
        client.raise_event(id, "Go", &()).await.unwrap();
        let quarantined = |status: &InstanceStatus| status.quarantine.is_some();
        client.wait_until(id, LIMIT, quarantined).await.unwrap();
    }
    let at = dir.path();
    let (code, status) = json_of(at, &["status", "ship"]);
    assert_eq!(
        (code, &status["runtimeStatus"]),
        (Some(0), &json!("Suspended")),
        "{status}"
    );
    let why = &status["quarantine"];
    assert_eq!(
        (&why["turn"], &why["event"]),
        (&json!(0), &json!(2)),
        "{why}"
    );
    assert!(
        why["recorded"].as_str().unwrap().contains("\"Pack\""),
        "{why}"
    );
    assert!(
        why["asked"].as_str().unwrap().contains("\"Weigh\""),
        "{why}"
    );
    assert_eq!(why["module"], json!(second.to_string()));
    assert!(
        why["host"].as_str().unwrap().starts_with("perennial "),
        "{why}"
    );
    let text = String::from_utf8(perennial(at, &["status", "ship"]).stdout).unwrap();
    assert!(
        text.contains("quarantined") && text.contains("at event 2 of turn 0"),
        "{text}"
    );

    let (code, error) = json_of(at, &["resume", "ship", "--module", "orders"]);
    assert_eq!(code, Some(4), "{error}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("stays quarantined") && message.contains("does not repeat"),
        "{error}"
    );
    for (module, expected) in [("nobody", 3), ("ffffff", 3), (&first.to_string()[..8], 0)] {
        let (code, said) = json_of(at, &["resume", "ship", "--module", module]);
        assert_eq!(code, Some(expected), "{module}: {said}");
    }
    let done = ended(&client, "ship").await;
    assert_eq!(
        done.output_as::<String>().unwrap(),
        "sent packed a chair by the first version"
    );
    assert_eq!(done.module, Some(first));
    let (code, error) = json_of(at, &["resume", "bill", "--module", "orders"]);
    assert_eq!(code, Some(4), "it is not quarantined: {error}");

    let output = perennial(at, &["terminate", "other", "--wait", "--reason", "enough"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        ended(&client, "other").await.runtime_status,
        Status::Terminated
    );
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_grants_and_collections_from_the_command_line() {
    let dir = DataDir::new();
    let (host, client) = first_version(&dir).await;
    let at = dir.path();
    let next = file(&dir, "version-two", "orders");
    let next = next.to_str().unwrap();
    let (code, report) = json_of(at, &["deploy", "--check", next, "--allow-http", "a.b:8080"]);
    assert_eq!(code, Some(6), "{report}");
    let report = &report[0];
    assert_eq!(
        (&report["compatible"], &report["incompatible"]),
        (&json!(1), &json!(2)),
        "{report}"
    );
    assert_eq!(report["grants"]["after"]["httpHosts"], json!(["a.b:8080"]));
    let ship = report["instances"].as_array().unwrap().iter();
    let ship = ship
        .clone()
        .find(|instance| instance["instanceId"] == "ship")
        .unwrap();
    assert_eq!(
        (&ship["outcome"], &ship["turn"]),
        (&json!("differs"), &json!(0)),
        "{ship}"
    );
    let text = String::from_utf8(perennial(at, &["deploy", "--check", next]).stdout).unwrap();
    for words in [
        "checked, not deployed",
        "differs at turn 0, event 2",
        "\"Retire\" is no longer defined",
        "bill  compatible (1 turn)",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let same = file(&dir, "version-one", "orders");
    assert_eq!(
        json_of(at, &["deploy", "--check", same.to_str().unwrap()]).0,
        Some(0)
    );

    let (code, grants) = json_of(
        at,
        &[
            "grants",
            "orders",
            "--allow-http",
            "a.b",
            "--grant-env",
            "TOKEN=sesame",
        ],
    );
    let expected = json!({ "orders": { "dirs": [], "env": ["TOKEN"], "httpHosts": ["a.b"] } });
    assert_eq!((code, &grants), (Some(0), &expected));
    assert_eq!(client.modules().await.unwrap()[0].grants.env[0].1, "sesame");
    let (_, grants) = json_of(at, &["grants", "orders", "--allow-http", "c.d:80"]);
    assert_eq!(grants["orders"]["httpHosts"], json!(["a.b", "c.d:80"]));
    assert_eq!(json_of(at, &["grants"]).1, grants);
    let text = String::from_utf8(perennial(at, &["modules"]).stdout).unwrap();
    assert!(
        text.contains("send HTTP requests to c.d:80") && !text.contains("sesame"),
        "{text}"
    );
    let (_, grants) = json_of(at, &["grants", "orders", "--set", "--grant-env", "A=1"]);
    assert_eq!(
        grants,
        json!({ "orders": { "dirs": [], "env": ["A"], "httpHosts": [] } })
    );
    for (args, code) in [
        (&["grants", "nobody"][..], 3),
        (&["grants", "orders", "--allow-http", "http://a.b"][..], 2),
        (&["grants", "--allow-http", "a.b"][..], 2),
        (&["grants", "--set"][..], 2),
    ] {
        assert_eq!(perennial(at, args).status.code(), Some(code), "{args:?}");
    }

    let (code, error) = json_of(at, &["modules", "remove", "orders"]);
    assert_eq!(code, Some(4), "{error}");
    assert_eq!(json_of(at, &["modules", "remove", "nobody"]).0, Some(3));
    client.deploy(second_version()).await.unwrap();
    let none = json!({ "dryRun": true, "collected": [] });
    assert_eq!(
        json_of(at, &["modules", "--gc", "--dry-run", "--old-versions"]),
        (Some(0), none)
    );
    host.shut_down().await;
}
