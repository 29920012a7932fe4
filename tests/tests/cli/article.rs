//! The article "Manage orchestration instances", heading by heading, as somebody would follow it who has nothing else at hand.

use expect_test::expect;
use perennial_tests::guest;

use crate::see::{Cli, hello};

/// A hub with a host and the samples that the article's examples come nearest to.
fn host() -> (Cli, crate::see::Process) {
    let cli = Cli::new();
    let approval = guest("human-approval");
    cli.ok(&["deploy", &hello(), approval.to_str().unwrap()]);
    let host = cli.serve();
    (cli, host)
}

#[test]
fn article_start_instances() {
    let (cli, _host) = host();
    // A name, an input, and an id or a random one; and a wait for its start.
    let id = cli.command(&["start", "HelloSequence"]).output().unwrap();
    let id = String::from_utf8(id.stdout).unwrap();
    let id = id.trim_end();
    assert!(
        id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()),
        "{id}"
    );
    cli.types(
        "start HelloSequence --id hello-1",
        expect![[r#"
        hello-1
    "#]],
    );
    cli.ok(&["wait", "hello-1", "--for", "start", "--timeout", "30s"]);
    cli.ok(&["wait", id]);
}

#[test]
fn article_query_instances() {
    let (cli, _host) = host();
    cli.ok(&[
        "start",
        "Approve",
        "--id",
        "q1",
        "--input",
        r#"{"purpose": "a chair"}"#,
    ]);
    cli.ok(&["wait", "q1", "--for", "start"]);
    let status = cli
        .command(&["status", "q1", "--input", "--history", "--json"])
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["name"], "Approve");
    assert_eq!(status["instanceId"], "q1");
    assert_eq!(status["input"]["purpose"], "a chair");
    assert_eq!(status["runtimeStatus"], "Running");
    assert!(status["createdTime"].is_string() && status["lastUpdatedTime"].is_string());
    assert_eq!(status["history"][1]["event"], "ExecutionStarted");
    cli.types(
        "status nobody",
        expect![[r#"
        ! error: there is no instance "nobody"
        !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
        exit code Some(3)
    "#]],
    );
}

#[test]
fn article_query_all_instances_and_with_filters() {
    let (cli, _host) = host();
    cli.ok(&["start", "HelloSequence", "--id", "done", "--wait"]);
    cli.ok(&[
        "start",
        "Approve",
        "--id",
        "open",
        "--input",
        r#"{"purpose": "a chair"}"#,
    ]);
    cli.ok(&["wait", "open", "--for", "start"]);
    let ids = |args: &[&str]| {
        let output = cli.command(args).output().unwrap();
        let page: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let ids = page["instances"].as_array().unwrap().iter();
        ids.map(|instance| instance["instanceId"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&["list", "--json"]), ["open", "done"]);
    assert_eq!(
        ids(&["list", "--json", "--status", "Running,Pending"]),
        ["open"]
    );
    assert_eq!(
        ids(&[
            "list",
            "--json",
            "--created-from",
            "2020-01-01",
            "--created-to",
            "2021-01-01"
        ]),
        [""; 0]
    );
    assert_eq!(
        ids(&[
            "list",
            "--json",
            "--created-from",
            "2021-01-01",
            "--limit",
            "1"
        ]),
        ["open"]
    );
}

#[test]
fn article_terminate_instances() {
    let (cli, _host) = host();
    cli.ok(&[
        "start",
        "Approve",
        "--id",
        "t1",
        "--input",
        r#"{"purpose": "a chair"}"#,
    ]);
    cli.types(
        "terminate t1 --reason 'Found a bug' --wait",
        expect![[r#"
            ! t1 is Terminated
        "#]],
    );
    let seen = cli.see(&["status", "t1"]);
    assert!(
        seen.contains("Terminated") && seen.contains("Found a bug"),
        "{seen}"
    );
}

#[test]
fn article_suspend_and_resume_instances() {
    let (cli, _host) = host();
    cli.ok(&[
        "start",
        "Approve",
        "--id",
        "s1",
        "--input",
        r#"{"purpose": "a chair"}"#,
    ]);
    cli.ok(&["wait", "s1", "--for", "start"]);
    cli.ok(&["suspend", "s1", "--reason", "Need to pause workflow"]);
    let until = |status: &str| loop {
        let seen = cli.see(&["status", "s1"]);
        if seen.contains(status) {
            return seen;
        }
    };
    assert!(until("Suspended").contains("Need to pause workflow"));
    cli.ok(&["resume", "s1", "--reason", "Continue workflow"]);
    until("Running");
}

#[test]
fn article_send_events_to_instances_and_wait_for_completion() {
    let (cli, _host) = host();
    cli.ok(&[
        "start",
        "Approve",
        "--id",
        "e1",
        "--input",
        r#"{"purpose": "a chair"}"#,
    ]);
    // Out of time: the state instead of the result.
    let waited = cli.see(&["wait", "e1", "--timeout", "10ms"]);
    assert!(
        waited.contains("is still ") && waited.ends_with("exit code Some(5)\n"),
        "{waited}"
    );
    let decision = r#"{"approved": true, "by": "Ada"}"#;
    cli.ok(&["raise-event", "e1", "Decision", "--data", decision]);
    cli.types(
        "wait e1",
        expect![[r#"
        {"approved":true,"by":"Ada","escalated":false}
    "#]],
    );
    let nobody = cli.see(&["raise-event", "nobody", "Decision", "--data", decision]);
    assert!(nobody.ends_with("exit code Some(3)\n"), "{nobody}");
}

#[test]
fn article_retrieve_http_management_webhook_urls() {
    let (cli, _host) = host();
    cli.ok(&["start", "HelloSequence", "--id", "h1", "--wait"]);
    let base = "http://localhost:7071/runtime/webhooks/durabletask?code=KEY";
    cli.check(&["status", "h1", "--urls", base], expect![[r#"
        status       http://localhost:7071/runtime/webhooks/durabletask/instances/h1?taskHub=default&code=KEY
        raise event  http://localhost:7071/runtime/webhooks/durabletask/instances/h1/raiseEvent/{eventName}?taskHub=default&code=KEY
        terminate    http://localhost:7071/runtime/webhooks/durabletask/instances/h1/terminate?reason={text}&taskHub=default&code=KEY
        suspend      http://localhost:7071/runtime/webhooks/durabletask/instances/h1/suspend?reason={text}&taskHub=default&code=KEY
        resume       http://localhost:7071/runtime/webhooks/durabletask/instances/h1/resume?reason={text}&taskHub=default&code=KEY
        rewind       http://localhost:7071/runtime/webhooks/durabletask/instances/h1/rewind?reason={text}&taskHub=default&code=KEY
        restart      http://localhost:7071/runtime/webhooks/durabletask/instances/h1/restart?taskHub=default&code=KEY
        purge        http://localhost:7071/runtime/webhooks/durabletask/instances/h1?taskHub=default&code=KEY
    "#]]);
    cli.check(
        &["status", "h1", "--urls", base, "--json"],
        expect![[r#"
            {"id":"h1","statusQueryGetUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1?taskHub=default&code=KEY","sendEventPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1/raiseEvent/{eventName}?taskHub=default&code=KEY","terminatePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1/terminate?reason={text}&taskHub=default&code=KEY","rewindPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1/rewind?reason={text}&taskHub=default&code=KEY","purgeHistoryDeleteUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1?taskHub=default&code=KEY","restartPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1/restart?taskHub=default&code=KEY","suspendPostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1/suspend?reason={text}&taskHub=default&code=KEY","resumePostUri":"http://localhost:7071/runtime/webhooks/durabletask/instances/h1/resume?reason={text}&taskHub=default&code=KEY"}
        "#]],
    );
    cli.check(&["status", "h1", "--urls", "localhost"], expect![[r#"
        ! error: the base URL "localhost" must be like http://localhost:7071/runtime/webhooks/durabletask
        exit code Some(2)
    "#]]);
    let nobody = cli.see(&["status", "nobody", "--urls", base]);
    assert!(nobody.ends_with("exit code Some(3)\n"), "{nobody}");
}

#[test]
fn article_rewind_instances() {
    let cli = Cli::new();
    let fan_out = guest("fan-out");
    let fan_out = fan_out.to_str().unwrap();
    cli.ok(&["deploy", fan_out]);
    let _host = cli.serve();
    let data = cli.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("a.rs"), "one\ntwo\n").unwrap();
    cli.ok(&[
        "start",
        "FanOut",
        "--id",
        "f1",
        "--input",
        r#"{"root": "/data"}"#,
    ]);
    let failed = cli.see(&["wait", "f1"]);
    assert!(failed.ends_with("exit code Some(1)\n"), "{failed}");
    // The configuration is mended, and the orchestration goes on from before its failure.
    cli.ok(&[
        "deploy",
        fan_out,
        "--grant-dir",
        &format!("{}::/data", data.display()),
    ]);
    cli.ok(&[
        "rewind",
        "f1",
        "--reason",
        "Orchestrator failed and needs to be revived.",
    ]);
    let wait = cli.command(&["wait", "f1"]).output().unwrap();
    assert!(
        wait.status.success(),
        "{}",
        String::from_utf8_lossy(&wait.stderr)
    );
    cli.types(
        "rewind f1",
        expect![[r#"
        ! error: instance "f1": it is Completed, and only a Failed instance can be rewound
        exit code Some(4)
    "#]],
    );
    cli.types("durable rewind --id f1", expect![[r#"
        ! error: Orchestration instance not rewound. Must have a status of 'Failed', or an EventType of 'TaskFailed' or 'SubOrchestrationInstanceFailed' to be rewound.
        !   because: instance "f1": it is Completed, and only a Failed instance can be rewound
        exit code Some(1)
    "#]]);
}

#[test]
fn article_restart_instances() {
    let (cli, _host) = host();
    cli.ok(&["start", "HelloSequence", "--id", "r1", "--wait"]);
    cli.types(
        "restart r1",
        expect![[r#"
        r1
    "#]],
    );
    cli.types(
        "wait r1",
        expect![[r#"
        ["Hello Tokyo!","Hello Seattle!","Hello London!"]
    "#]],
    );
    let again = cli
        .command(&["restart", "r1", "--new-id"])
        .output()
        .unwrap();
    let again = String::from_utf8(again.stdout).unwrap();
    assert_ne!(again.trim_end(), "r1");
    cli.ok(&["wait", again.trim_end()]);
}

#[test]
fn article_purge_instance_history() {
    let (cli, _host) = host();
    cli.ok(&["start", "HelloSequence", "--id", "p1", "--wait"]);
    cli.ok(&["start", "HelloSequence", "--id", "p2", "--wait"]);
    cli.ok(&[
        "start",
        "Approve",
        "--id",
        "p3",
        "--input",
        r#"{"purpose": "a chair"}"#,
    ]);
    cli.types(
        "purge p1",
        expect![[r#"
        ! 1 instance purged
    "#]],
    );
    cli.types(
        "purge p1",
        expect![[r#"
            ! error: there is no instance "p1"
            !   hint: did you mean "p3"? `perennial list` shows the instances of this task hub, DIR/default.db
            exit code Some(3)
        "#]],
    );
    // Only what is Completed, Terminated or Failed; and many by a filter.
    let live = cli.see(&["purge", "p3"]);
    assert!(live.ends_with("exit code Some(4)\n"), "{live}");
    cli.types(
        "purge --status Completed --created-from 2021-01-01 --yes",
        expect![[r#"
            ! 1 instance purged
        "#]],
    );
    cli.types(
        "list --status Completed",
        expect![[r#"
        ! no instances
    "#]],
    );
}
