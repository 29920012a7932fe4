//! The log of a host: every line about an instance names it, and what a guest logged appears once, however often it is replayed.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use perennial::{Client, Status};
use perennial_tests::{DataDir, Process, Way, binary, module};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// What `perennial serve` logs while `use_it` uses the hub.
fn logged(args: &[&str], use_it: impl AsyncFnOnce(Client)) -> Vec<Value> {
    let dir = DataDir::new();
    let log = dir.path().join("log");
    let serve = Command::new(binary())
        .args(["serve", "--listen", "none", "--log-json", "--data-dir"])
        .arg(dir.path())
        .args(args)
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut serve = Process(serve);
    let mut ready = String::new();
    BufReader::new(serve.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(use_it(Client::open(dir.path(), "default").unwrap()));
    let killed = Command::new("kill")
        .args(["-TERM", &serve.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert!(serve.wait().unwrap().success());
    std::fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_a_guest_logs_appears_once_though_it_is_replayed_in_every_turn() {
    // Nothing is kept in memory: each turn begins with a replay of all before.
    let lines = logged(&["--resident", "0"], async |client| {
        client.deploy(module("golden-chain")).await.unwrap();
        client.start("Chain").id("l").input(&6).await.unwrap();
        let waited = client.wait_for_completion("l", LIMIT).await.unwrap();
        assert_eq!(waited.status().runtime_status, Status::Failed);
    });
    let guest = lines
        .iter()
        .filter(|line| line["target"] == "perennial::guest");
    let said: Vec<String> = guest
        .map(|line| {
            assert_eq!(line["instance"], "l");
            line["message"].as_str().unwrap().to_owned()
        })
        .collect();
    let steps: Vec<&str> = said.iter().map(|line| &line[..6]).collect();
    assert_eq!(
        steps,
        ["step 0", "step 1", "step 2", "step 3", "step 4", "step 5"]
    );
}

#[test]
fn what_the_standard_library_writes_becomes_lines() {
    let uses = [
        "println", "eprintln", "print", "eprint", "dbg", "stdout", "stderr",
    ];
    let lines = logged(&["--resident", "0"], async |client| {
        client.deploy(module("probe")).await.unwrap();
        for what in uses {
            // In an orchestration, and in an activity.
            let id = client.start("Uses").input(&what).await.unwrap();
            client.wait_for_completion(&id, LIMIT).await.unwrap();
            let input = ("Use", what, None::<u64>);
            let id = client.start("Calls").input(&input).await.unwrap();
            client.wait_for_completion(&id, LIMIT).await.unwrap();
        }
    });
    let said: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| line["target"] == "perennial::guest")
        .map(|line| {
            (
                line["level"].as_str().unwrap(),
                line["message"].as_str().unwrap(),
            )
        })
        .collect();
    let mut expected = Vec::new();
    for line in [
        ("INFO", "a line by println"),
        ("WARN", "a line by eprintln"),
        ("INFO", "a line by print"),
        ("WARN", "a line by eprint"),
        ("WARN", "6 * 7 = 42"),
    ] {
        expected.extend([line, line]);
    }
    // On a target without a system the standard library writes nowhere; only its macros have others in their place.
    if Way::here().has_system() {
        for line in [("INFO", "a line by write"), ("WARN", "a line by writeln")] {
            expected.extend([line, line]);
        }
    }
    let short = |line: &str| line.rsplit("] ").next().unwrap().to_owned();
    let said: Vec<(&str, String)> = said
        .iter()
        .map(|(level, said)| (*level, short(said)))
        .collect();
    let said: Vec<(&str, &str)> = said
        .iter()
        .map(|(level, said)| (*level, said.as_str()))
        .collect();
    assert_eq!(said, expected);
}

#[test]
fn what_annotated_functions_print_appears_once_on_every_way_to_build() {
    // Nothing is kept in memory: each turn begins with a replay of all before.
    let lines = logged(&["--resident", "0"], async |client| {
        client.deploy(module("authored")).await.unwrap();
        client.start("Prints").id("p").input(&3).await.unwrap();
        let waited = client.wait_for_completion("p", LIMIT).await.unwrap();
        assert_eq!(waited.status().runtime_status, Status::Completed);
    });
    let guest = lines
        .iter()
        .filter(|line| line["target"] == "perennial::guest");
    let said: Vec<String> = guest
        .map(|line| {
            assert_eq!(line["instance"], "p");
            let message = line["message"].as_str().unwrap();
            // Of what `dbg!` says without its place.
            let message = message.rsplit("] ").next().unwrap();
            format!("{} {message}", line["level"].as_str().unwrap())
        })
        .collect();
    let of_turn = |turn: u32| {
        let doubled = 2 * turn;
        [
            format!("INFO println {turn}"),
            format!("WARN eprintln {turn}"),
            format!("INFO print {turn}"),
            format!("INFO {turn} is kept, and ends"),
            format!("WARN eprint {turn}"),
            format!("WARN turn * 2 = {doubled}"),
            format!("INFO activity println {doubled}"),
            format!("WARN activity eprintln {doubled}"),
            format!("INFO activity print {doubled}"),
            format!("WARN number = {doubled}"),
            "WARN \"two\" = \"two\"".to_owned(),
        ]
    };
    let expected: Vec<String> = (0..3).flat_map(of_turn).collect();
    assert_eq!(said, expected, "{:?}", Way::here());
}

#[test]
fn every_line_about_an_instance_names_it() {
    let lines = logged(&["--log", "perennial=debug"], async |client| {
        client.deploy(module("probe")).await.unwrap();
        client.start("FailsThrough").id("fails").await.unwrap();
        client.wait_for_completion("fails", LIMIT).await.unwrap();
        client
            .start("Listens")
            .id("waits")
            .input(&["Go"])
            .await
            .unwrap();
        client.wait_for_start("waits", LIMIT).await.unwrap();
        client.suspend("waits", Some("a look")).await.unwrap();
        client.resume("waits", Some("looked")).await.unwrap();
        client.terminate("waits", Some("enough")).await.unwrap();
        client.wait_for_completion("waits", LIMIT).await.unwrap();
    });
    let about: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| line["target"] == "perennial::engine::committed")
        .map(|line| {
            (
                line["message"].as_str().unwrap(),
                line["instance"].as_str().unwrap(),
            )
        })
        .collect();
    for said in [
        ("failed", "fails"),
        ("suspended", "waits"),
        ("resumed", "waits"),
        ("terminated", "waits"),
    ] {
        assert!(about.contains(&said), "{said:?} in {lines:#?}");
    }
}

/// The log of `perennial serve` as it is written, while `use_it` uses the hub.
fn raw_log(args: &[&str], use_it: impl AsyncFnOnce(Client)) -> String {
    let dir = DataDir::new();
    let log = dir.path().join("log");
    let serve = Command::new(binary())
        .args(["serve", "--listen", "none", "--data-dir"])
        .arg(dir.path())
        .args(args)
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut serve = Process(serve);
    let mut ready = String::new();
    BufReader::new(serve.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(use_it(Client::open(dir.path(), "default").unwrap()));
    let killed = Command::new("kill")
        .args(["-TERM", &serve.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert!(serve.wait().unwrap().success());
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn no_guest_begins_a_line_or_moves_a_cursor() {
    for args in [&["--log", "debug"][..], &["--log", "debug", "--log-json"]] {
        let log = raw_log(args, async |client| {
            client.deploy(module("hostile-texts")).await.unwrap();
            for (orchestration, input) in [("Fails", 0), ("Panics", 16 << 20), ("Returns", 0)] {
                let start = client.start(orchestration).input(&input);
                let id = start.await.unwrap();
                client.wait_for_completion(&id, LIMIT).await.unwrap();
            }
            client.start("Shows").id("shows").await.unwrap();
            client.wait_for_start("shows", LIMIT).await.unwrap();
            let foul = "foul\u{1b}[2J\r\nerror: forged";
            client.suspend("shows", Some(foul)).await.unwrap();
            client.terminate("shows", Some(foul)).await.unwrap();
            client.wait_for_completion("shows", LIMIT).await.unwrap();
        });
        assert!(log.contains("foul"), "{log}");
        for line in log.lines() {
            let raw = line.chars().find(|c| perennial_core::text::is_unseen(*c));
            assert_eq!(raw, None, "{line:?}");
            assert!(!line.starts_with("error: forged"), "{line:?}");
            assert!(line.len() < 100_000, "a line of {} bytes", line.len());
        }
    }
}

#[test]
fn a_guest_that_floods_the_log_has_its_share_and_it_is_said_what_is_missing() {
    // 25 MB; 500 MB for long.
    let lines = if std::env::var_os("PERENNIAL_LONG").is_some() {
        250_000
    } else {
        12_500
    };
    let log = raw_log(&["--log", "info"], async |client| {
        client.deploy(module("hostile-texts")).await.unwrap();
        client.start("Floods").id("f").input(&lines).await.unwrap();
        let waited = client.wait_for_completion("f", LIMIT).await.unwrap();
        assert_eq!(waited.status().runtime_status, Status::Completed);
    });
    assert!(log.len() < 5 << 20, "{} bytes of log", log.len());
    assert!(
        log.contains("log lines of guests were left out"),
        "it is said"
    );
}

#[test]
fn a_caller_lives_on_after_a_failure_that_is_larger_than_its_memory() {
    raw_log(&[], async |client| {
        client.deploy(module("hostile-texts")).await.unwrap();
        let bytes = 100 << 20;
        client
            .start("Survives")
            .id("s")
            .input(&bytes)
            .await
            .unwrap();
        let waited = client.wait_for_completion("s", LIMIT).await.unwrap();
        let output = waited.status().output.clone().unwrap();
        assert!(
            output.as_str().ends_with("(cut: 104857600 bytes)\""),
            "{output}"
        );
    });
}
