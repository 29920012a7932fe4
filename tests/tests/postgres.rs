//! Hubs in PostgreSQL, as users meet them: by commands, by hosts that share them, and by copies.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "postgres/crossing.rs"]
mod crossing;
#[path = "postgres/failover.rs"]
mod failover;
#[path = "postgres/operators.rs"]
mod operators;
#[path = "postgres/replica.rs"]
mod replica;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use perennial::{Client, Host, HostBuilder, HubHosts, Hubs, Quotas, Store};
use perennial_tests::{DataDir, Serve, binary, guest, module, postgres};

/// A database whose address has a password, which no server asks for here and no output may show.
fn database() -> Option<String> {
    let database = postgres::database()?;
    Some(database.replacen("perennial@", "perennial:s3cret@", 1))
}

/// What a command prints, and whether it succeeds.
fn told(database: &str, dir: &Path, args: &[&str]) -> (String, bool) {
    let output = Command::new(binary())
        .args(args)
        .env("PERENNIAL_STORE", database)
        .env("PERENNIAL_DATA_DIR", dir)
        .env_remove("PERENNIAL_URL")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    let text = text.concat();
    assert!(!text.contains("s3cret"), "{args:?}: {text}");
    (text, output.status.success())
}

fn serve(database: &str, dir: &Path) -> Serve {
    Serve::start(dir, &["--store", database, "--log", "warn"])
}

/// Waits until the hosts of the hub have so many partitions each, and all of it together.
async fn divided(client: &Client, among: &[u16]) -> HubHosts {
    let within = Instant::now() + Duration::from_secs(60);
    loop {
        let found = client.hosts().await.unwrap();
        let each: Vec<u16> = found.hosts.iter().map(|host| host.partitions).collect();
        if each == among && found.free_partitions == 0 {
            return found;
        }
        assert!(Instant::now() < within, "{found:?}");
    }
}

/// Hosts of this process that share a hub equally.
async fn two_hosts(database: &str, dirs: &[DataDir; 2]) -> Vec<Host> {
    let store = Store::postgres(database).unwrap();
    let mut hosts = Vec::new();
    for dir in dirs {
        let store = store.clone().data_dir(dir.path());
        hosts.push(Host::builder().store(store).start().await.unwrap());
    }
    divided(&hosts[0].client(), &[32, 32]).await;
    hosts
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_share_a_hub_and_everybody_who_asks_sees_what_each_has() {
    let Some(database) = database() else { return };
    let dirs = [DataDir::new(), DataDir::new()];
    let listens = [
        "--store",
        &database,
        "--log",
        "warn",
        "--listen",
        "127.0.0.1:0",
    ];
    let hosts = [0, 1].map(|at| Serve::start(dirs[at].path(), &listens));
    let client = Client::open(Store::postgres(&database).unwrap(), "default").unwrap();
    let found = divided(&client, &[32, 32]).await;
    assert_eq!((found.partitions, found.waiting_messages), (64, 0));
    for (seen, host) in found.hosts.iter().zip(&hosts) {
        assert_eq!(
            (seen.name.as_str(), seen.process_id),
            ("perennial serve", host.pid())
        );
        assert_eq!(seen.version, env!("CARGO_PKG_VERSION"));
        assert!(seen.machine.is_some() && seen.transactions.is_some());
        assert!(seen.lease_age.unwrap() < Duration::from_secs(5));
        assert!(!seen.is_this);
        let url = format!("http://{}", host.address());
        assert_eq!(seen.url.as_deref(), Some(url.as_str()));
        assert!(seen.to_string().ends_with(&format!(", {url})")), "{seen}");
    }

    // Over HTTP each says which one it is.
    for host in &hosts {
        let url = format!("http://{}", host.address());
        let there = Client::connect(&url, "default", None).unwrap();
        let seen = there.hosts().await.unwrap();
        // None of them is the process of this client.
        let mut of_this = seen.hosts.iter().filter(|host| host.is_this);
        assert_eq!((of_this.next(), seen.hosts.len()), (None, 2));
        let told = reqwest::get(format!("{url}/api/v1/hosts")).await.unwrap();
        let told: serde_json::Value = serde_json::from_str(&told.text().await.unwrap()).unwrap();
        let all = told["hosts"].as_array().unwrap();
        let own = all.iter().filter(|host| host["isThis"] == true);
        let own: Vec<_> = own.map(|host| host["processId"].clone()).collect();
        assert_eq!(own, [host.pid()], "{told}");
        let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        for (name, value) in [
            ("hosts", 2),
            ("outbox_messages", 0),
            ("partitions", 32),
            ("partitions_free", 0),
        ] {
            let line = format!("\nperennial_hub_{name}{{hub=\"default\"}} {value}\n");
            assert!(metrics.contains(&line), "{line}: {metrics}");
        }
        let mut ages = metrics.lines().filter_map(|line| {
            let age = line.strip_prefix("perennial_lease_age_seconds{hub=\"default\"} ")?;
            age.parse::<f64>().ok()
        });
        let age = ages.next().unwrap();
        assert!((0.0..5.0).contains(&age), "{age}");
    }

    let (json, _) = told(&database, dirs[0].path(), &["hubs", "show", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&shown["partitions"], &shown["freePartitions"]),
        (&64.into(), &0.into())
    );
    for (at, host) in hosts.iter().enumerate() {
        let seen = &shown["hosts"][at];
        assert_eq!(
            (&seen["processId"], &seen["partitions"]),
            (&host.pid().into(), &32.into())
        );
    }
    let (text, _) = told(&database, dirs[0].path(), &["hubs", "show"]);
    assert_eq!(
        text.matches(": 32 partitions, lease renewed ").count(),
        2,
        "{text}"
    );
    let (text, _) = told(&database, dirs[0].path(), &["doctor"]);
    assert!(text.contains("2 hosts share the 64 partitions: "), "{text}");

    let [first, second] = hosts;
    first.kill();
    let found = divided(&client, &[64]).await;
    assert_eq!(found.hosts[0].process_id, second.pid());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_over_from_another_one_that_is_killed() {
    let Some(database) = database() else { return };
    let dirs = [DataDir::new(), DataDir::new()];
    let [first, second] = [dirs[0].path(), dirs[1].path()];
    let run = |args: &[&str]| {
        let (text, succeeds) = told(&database, first, args);
        assert!(succeeds, "{args:?}: {text}");
        text
    };
    run(&["deploy", "-q", guest("hello-sequence").to_str().unwrap()]);
    // Without a host the command applies its change itself.
    run(&["start", "HelloSequence", "--id", "a"]);
    let host = serve(&database, first);
    assert!(host.ready().contains("/t") && host.ready().contains("#default"));
    run(&["wait", "a"]);
    let (refused, succeeds) = told(&database, first, &["delete-task-hub", "default", "--yes"]);
    assert!(
        !succeeds && refused.contains("in use by perennial serve"),
        "{refused}"
    );
    let next = serve(&database, second);
    // Through a host, by a command in the database.
    run(&["start", "HelloSequence", "--id", "b"]);
    run(&["wait", "b"]);
    host.kill();
    run(&["start", "HelloSequence", "--id", "c"]);
    assert!(run(&["wait", "c"]).contains("Hello Tokyo!"));
    assert!(run(&["check"]).contains("is sound: its rows agree, 3 instances"));
    let client = Client::open(Store::postgres(&database).unwrap(), "default").unwrap();
    divided(&client, &[64]).await;
    assert!(run(&["doctor"]).contains("runs; 0 instances live"));

    // A hub that is deleted under its host ends the host.
    run(&["delete-task-hub", "default", "--yes", "--force"]);
    assert_eq!(next.ended(), Some(1));
    let (gone, succeeds) = told(&database, first, &["list"]);
    assert!(
        !succeeds && gone.contains("there is no task hub at"),
        "{gone}"
    );
}

#[test]
fn hubs_are_copied_backed_up_and_restored_by_commands() {
    let Some(database) = database() else { return };
    let (dir, files) = (DataDir::new(), tempfile::tempdir().unwrap());
    let run = |args: &[&str]| {
        let (text, succeeds) = told(&database, dir.path(), args);
        assert!(succeeds, "{args:?}: {text}");
        text
    };
    run(&["deploy", "-q", guest("hello-sequence").to_str().unwrap()]);
    run(&["start", "HelloSequence", "--id", "a"]);
    let (copies, backup) = (files.path().join("hubs"), files.path().join("backup.db"));
    let (copies, backup) = (copies.to_str().unwrap(), backup.to_str().unwrap());
    run(&["hubs", "copy", "--to", copies]);
    let (again, succeeds) = told(&database, dir.path(), &["hubs", "copy", "--to", copies]);
    assert!(
        !succeeds && again.contains("there is a task hub \"default\" already"),
        "{again}"
    );
    let back = told(
        "",
        Path::new(copies),
        &["hubs", "copy", "--to", &database, "--as", "back"],
    );
    assert!(back.1, "{}", back.0);
    run(&["backup", backup]);
    run(&["--task-hub", "restored", "restore", backup]);
    for hub in ["back", "restored"] {
        let checked = run(&["--task-hub", hub, "check"]);
        assert!(checked.contains("1 instance"), "{checked}");
        assert!(run(&["--task-hub", hub, "status", "a"]).contains("a host that runs it"));
        // Several hosts can run the copy: what is started tells its partition, as what was copied does.
        for id in ["b", "c", "d"] {
            run(&["--task-hub", hub, "start", "HelloSequence", "--id", id]);
        }
        let checked = run(&["--task-hub", hub, "check"]);
        assert!(
            checked.contains("is sound: its rows agree, 4 instances"),
            "{checked}"
        );
    }
    let hubs = run(&["hubs"]);
    let named = |hub: &&str| hubs.lines().any(|line| line.starts_with(hub));
    assert!(["default", "back", "restored"].iter().all(named), "{hubs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_the_library_share_a_hub_and_are_reached_through_the_database() {
    let Some(database) = database() else { return };
    let (dirs, store) = (
        [DataDir::new(), DataDir::new()],
        Store::postgres(&database).unwrap(),
    );
    let builder = |at: usize| -> HostBuilder {
        Host::builder().store(store.clone().data_dir(dirs[at].path()))
    };
    let client = Client::open(store.clone().data_dir(dirs[0].path()), "default").unwrap();
    client.deploy(module("hello-sequence")).await.unwrap();
    let first = builder(0).start().await.unwrap();
    // Nobody is waited for, whether or not one would.
    let waits = |owner: &str| panic!("it waits for {owner}");
    let next = builder(1).standby(waits).start().await.unwrap();
    assert!(next.path().is_none() && !next.place().contains("s3cret"));
    for (at, host) in [&first, &next].into_iter().enumerate() {
        let seen = divided(&host.client(), &[32, 32]).await;
        let own: Vec<bool> = seen.hosts.iter().map(|host| host.is_this).collect();
        assert_eq!(own, [at == 0, at == 1], "{seen:?}");
    }

    // Some are of the one, and some of the other.
    for _ in 0..8 {
        let id = client.start("HelloSequence").await.unwrap();
        let waited = client.wait_for_completion(&id, Duration::from_secs(60));
        assert!(waited.await.unwrap().reached().is_some());
    }
    assert_eq!(client.owner().await.unwrap().unwrap().name, "a host");
    first.shut_down().await;
    divided(&client, &[64]).await;
    let id = client.start("HelloSequence").await.unwrap();
    let own = next.client();
    let waited = own.wait_for_completion(&id, Duration::from_secs(60));
    assert!(waited.await.unwrap().reached().is_some());
    next.shut_down().await;
    let left = client.hosts().await.unwrap();
    assert_eq!((left.free_partitions, left.hosts.len()), (64, 0));

    assert_eq!(Hubs::new(&store).names().unwrap(), ["default"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_tables_are_too_large_starts_nothing() {
    let Some(database) = database() else { return };
    let dir = DataDir::new();
    let store = Store::postgres(&database).unwrap().data_dir(dir.path());
    let client = Client::open(store.clone(), "default").unwrap();
    client.deploy(module("hello-sequence")).await.unwrap();
    for (bytes, is_refused) in [(1, true), (1 << 40, false)] {
        let mut quotas = Quotas::default();
        quotas.hub_bytes = Some(bytes);
        let host = Host::builder().store(store.clone()).quotas(quotas);
        let host = host.start().await.unwrap();
        let started = host.client().start("HelloSequence").await;
        match started {
            Err(error) => {
                assert!(is_refused && error.is_quota_exceeded(), "{error}");
                let said = error.to_string();
                assert!(said.contains("its quota is 1 (hub_bytes)"), "{said}");
                assert!(said.contains("the tables of the task hub"), "{said}");
            }
            Ok(_) => assert!(!is_refused),
        }
        host.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_a_start_up_leaves_the_hub_to_others() {
    let Some(database) = database() else { return };
    let dir = DataDir::new();
    let stores = [
        Store::dir(dir.path()),
        Store::postgres(&database).unwrap().data_dir(dir.path()),
    ];
    for store in stores {
        let builder = || Host::builder().store(&store);
        for millis in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
            let given_up = builder().standby(|_| {}).start();
            // It may be there in time.
            let within = tokio::time::timeout(Duration::from_millis(millis), given_up);
            drop(within.await);
        }
        let owner = builder().standby(|_| {}).start();
        let owner = tokio::time::timeout(Duration::from_secs(60), owner).await;
        let owner = owner.expect("a host that nobody has owns the hub").unwrap();
        // Those that began to share a database have left it.
        let partitions = owner.client().hosts().await.unwrap().partitions;
        divided(&owner.client(), &[partitions]).await;
        if !store.is_shared() {
            let waits = builder().standby(|_| {}).start();
            let given_up = tokio::time::timeout(Duration::from_millis(1), waits);
            assert!(given_up.await.is_err());
        }
        owner.shut_down().await;
        let last = builder().standby(|_| {}).start().await.unwrap();
        last.shut_down().await;
    }
}

#[test]
fn what_a_database_lacks_is_said_by_doctor_and_when_a_host_starts() {
    let Some(database) = database() else { return };
    let (dir, log) = (DataDir::new(), tempfile::NamedTempFile::new().unwrap());
    let args = ["--store", &database, "--log", "warn"];
    let host = Serve::start_logged(dir.path(), &args, log.path());
    // The servers of tests do not sync.
    let (text, _) = told(&database, dir.path(), &["doctor"]);
    let says = |text: &str, said: &str| assert!(text.contains(said), "{said}: {text}");
    let line = text.lines().find(|line| line.starts_with("database "));
    let line = line.unwrap_or_default();
    says(line, " PostgreSQL ");
    says(line, " other checks found nothing amiss");
    assert!(line.len() < 120, "{line}");
    says(
        &text,
        "fsync: ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();",
    );
    says(
        &text,
        "full_page_writes: ALTER SYSTEM SET full_page_writes = on;",
    );
    let (json, _) = told(&database, dir.path(), &["doctor", "--json"]);
    let findings: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let is_fsync = |finding: &&serde_json::Value| finding["check"] == "fsync";
    let fsync = findings.iter().find(is_fsync).unwrap();
    assert_eq!(fsync["level"], "warning", "{fsync}");
    let fine = findings.iter().filter(|finding| finding["level"] == "ok");
    let fine: Vec<&str> = fine.filter_map(|one| one["check"].as_str()).collect();
    for check in ["server", "rights", "clock", "autovacuum"] {
        assert!(fine.contains(&check), "{check}: {fine:?}");
    }
    host.kill();
    let text = std::fs::read_to_string(log.path()).unwrap();
    says(
        &text,
        "the database may lose what is acknowledged: fsync is off: a crash of the machine",
    );
    says(&text, "ALTER SYSTEM SET fsync = on;");

    // Nothing more is said of a database that is not there than that.
    let (text, succeeds) = told(
        "postgres://perennial@/none?host=/nowhere",
        dir.path(),
        &["doctor"],
    );
    assert!(!succeeds);
    says(
        &text,
        "could not connect to postgres://perennial@/nowhere/none#default",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_started_on_any_host_after_a_deployment_runs_what_was_deployed() {
    let Some(database) = database() else { return };
    let dirs = [DataDir::new(), DataDir::new()];
    let hosts = two_hosts(&database, &dirs).await;
    let first = hosts[0].client();
    for round in 0..6 {
        let version = module(["version-one", "version-two"][round % 2]);
        let digest = version.digest();
        first.deploy(version).named("versions").await.unwrap();
        for (at, host) in hosts.iter().enumerate() {
            // Ids of partitions of both hosts.
            for n in 0..6 {
                let (client, id) = (host.client(), format!("{round}-{at}-{n}"));
                client.start("Ship").id(&id).await.unwrap();
                let status = client.status(&id).await.unwrap().unwrap();
                assert_eq!(status.module, Some(digest), "{id}");
            }
        }
    }
    for host in hosts {
        host.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_host_tells_what_an_instance_logged_and_one_that_drains_gives_its_partitions_away() {
    let Some(database) = database() else { return };
    let dirs = [DataDir::new(), DataDir::new()];
    let mut hosts = two_hosts(&database, &dirs).await;
    let first = hosts[0].client();
    first.deploy(module("human-approval")).await.unwrap();
    for n in 0..6 {
        let (id, input) = (format!("a{n}"), serde_json::json!({ "purpose": "desks" }));
        first.start("Approve").id(&id).input(&input).await.unwrap();
        // It could not tell the manager, and said so in its log.
        while first.logs(&id).await.unwrap().lines.is_empty() {
            tokio::task::yield_now().await;
        }
        let mut told = Vec::new();
        for host in &hosts {
            told.push(host.client().logs(&id).await.unwrap());
        }
        assert!(!told[0].lines.is_empty() && !told[0].partial, "{told:?}");
        assert_eq!(told[0].lines, told[1].lines);
    }

    // A command that runs something has no part of a hub that hosts run.
    let hello = guest("hello-sequence");
    let (text, is_done) = told(
        &database,
        dirs[0].path(),
        &["run", hello.to_str().unwrap(), "HelloSequence"],
    );
    assert!(is_done && text.contains("Hello Tokyo!"), "{text}");
    assert_eq!(first.hosts().await.unwrap().hosts.len(), 2);

    let leaving = hosts.pop().unwrap();
    assert_eq!(leaving.drain(Duration::from_secs(60)).await, 0);
    divided(&first, &[64, 0]).await;
    // It answers requests still.
    let decision = serde_json::json!({ "approved": true, "by": "Ada" });
    let asked = leaving.client();
    asked
        .raise_event("a0", "Decision", &decision)
        .await
        .unwrap();
    let ended = first
        .wait_for_completion("a0", Duration::from_secs(60))
        .await;
    assert!(ended.unwrap().reached().is_some());
    leaving.shut_down().await;
    hosts.remove(0).shut_down().await;
}
