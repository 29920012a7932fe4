//! What people look at: lists, trees, timelines. What a terminal adds to it, colours and how long ago, is off here, as it is in a pipe.

use std::process::Stdio;

use expect_test::expect;
use perennial_tests::guest;

use crate::see::{Cli, Process};

/// Runs the sample of a report with two children, of which one fails.
fn reported() -> Cli {
    let cli = Cli::new();
    let module = guest("regional-report");
    let input = r#"[{"name": "north", "stores": ["Oslo"]}, {"name": "south", "stores": []}]"#;
    let args = [
        "run",
        "-q",
        module.to_str().unwrap(),
        "Report",
        "--id",
        "r1",
        "--input",
        input,
    ];
    cli.ok(&args);
    cli
}

#[test]
fn a_tree_shows_an_instance_with_its_children() {
    let cli = reported();
    cli.types(
        "status r1 --tree",
        expect![[r#"
        r1  Report  Completed  <span>
        ├─ r1-north  RegionalReport  Completed  <span>
        └─ r1-south  RegionalReport  Failed  <span>  NoStores: south has no stores
    "#]],
    );
    let output = cli
        .command(&["status", "r1", "--tree", "--json"])
        .output()
        .unwrap();
    let family: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(family["instance"]["instanceId"], "r1");
    assert_eq!(family["more"], false);
    let children = family["children"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[0]["instance"]["parentInstanceId"], "r1");
    cli.types(
        "status nobody --tree",
        expect![[r#"
        ! error: there is no instance "nobody"
        !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
        exit code Some(3)
    "#]],
    );
}

#[test]
fn a_timeline_shows_when_each_task_ran_and_how_often() {
    let cli = Cli::deployed();
    cli.ok(&[
        "run",
        "-q",
        &crate::see::workloads(),
        "Retries",
        "--id",
        "t1",
        "--input",
        "5",
    ]);
    let output = cli
        .command(&["history", "t1", "--timeline", "--json"])
        .output()
        .unwrap();
    let bars: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bar = &bars[0];
    assert_eq!(
        (
            &bar["kind"],
            &bar["name"],
            &bar["attempts"],
            &bar["outcome"]
        ),
        (
            &"activity".into(),
            &"Flaky".into(),
            &3.into(),
            &"completed".into()
        )
    );
    let at = |key: &str| bar[key].as_u64().unwrap();
    assert!(
        at("scheduledMs") <= at("startedMs") && at("startedMs") <= at("endedMs"),
        "{bar}"
    );
    let seen = cli.see(&["history", "t1", "--timeline"]);
    let mut lines = seen.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(head[..4], ["START", "TOOK", "TRIES", "TASK"]);
    for attempt in ["1", "2"] {
        let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(row[2..], [attempt, "Flaky:", "attempt", attempt, "failed"]);
    }
    let row: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(row[2..5], ["3", "activity", "Flaky"]);
    assert!(row[5].ends_with('='), "{seen}");
    assert_eq!(
        lines.next(),
        Some("! 1 task: = runs, . waits or was tried before")
    );
    let json = cli.see(&["history", "t1", "--timeline", "--json", "-q"]);
    assert_eq!(json.lines().count(), 1);
}

#[test]
fn a_list_that_is_watched_tells_what_is_new() {
    let cli = Cli::deployed();
    let watch = ["list", "--watch=10ms", "--json"];
    let mut watch = Process(
        cli.command(&watch)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eq!(watch.line(), "{\"instances\":[]}\n");
    cli.ok(&["start", "Wait", "--id", "n1"]);
    let news: serde_json::Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!(news["instances"][0]["instanceId"], "n1");
    watch.signal("INT");
    assert!(watch.0.wait().unwrap().success());
}

#[test]
fn workers_are_known_to_the_host() {
    let cli = Cli::deployed();
    cli.types(
        "workers",
        expect![[r#"
            ! no host runs the task hub, so no worker is connected: see `perennial serve --help`
        "#]],
    );
    let _host = cli.serve();
    cli.types(
        "workers",
        expect![[r#"
            ! no worker is connected, and nothing waits for one
        "#]],
    );
    cli.types(
        "workers --json",
        expect![[r#"
            {"connected":[],"waiting":[]}
        "#]],
    );
    cli.types("workers --task-hub nothing", expect![[r#"
        ! error: task hub "nothing": there is no task hub at DIR/nothing.db; deploy a module or start a host to make it
        !   hint: there are: default
        exit code Some(3)
    "#]]);
}
