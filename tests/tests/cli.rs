//! The command line as a user meets it: what each command prints, where, and with which exit code, with a host and without one.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "cli/again.rs"]
mod again;
#[path = "cli/article.rs"]
mod article;
#[path = "cli/cache.rs"]
mod cache;
#[path = "cli/durable.rs"]
mod durable;
#[path = "cli/manage.rs"]
mod manage;
#[path = "cli/mistakes.rs"]
mod mistakes;
#[path = "cli/people.rs"]
mod people;
#[path = "cli/places.rs"]
mod places;
#[path = "cli/project.rs"]
mod project;
#[path = "cli/raw.rs"]
mod raw;
#[path = "cli/remote.rs"]
mod remote;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/requests.rs"]
mod requests;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/see.rs"]
mod see;
#[path = "cli/shapes.rs"]
mod shapes;
#[path = "cli/stored.rs"]
mod stored;

use std::process::Stdio;

use expect_test::expect;

use crate::see::{Cli, Process, hello, mask, workloads};

/// A command is accepted before it is carried out.
fn until_suspended(cli: &Cli, id: &str) {
    let begun = std::time::Instant::now();
    while !cli.see(&["status", id]).contains("Suspended") {
        let waited = begun.elapsed();
        assert!(
            waited.as_secs() < 30,
            "{id} is not suspended after {waited:?}"
        );
    }
}

/// An instance that waits for `Go`, as it is shown to people.
pub(crate) fn shows_that_it_waits(cli: &Cli, id: &str) {
    let told = cli.see(&["status", id]).replace(id, "ID");
    expect![[r#"
        instance       ID
        orchestration  Wait
        status         Running
        created        <date> <time> UTC
        started        <date> <time> UTC
        updated        <date> <time> UTC
        module         <hex>
        history        2 events, <n> B
        waits for      external event "Go"
    "#]]
    .assert_eq(&told);
}

#[test]
fn without_a_hub_every_command_says_how_to_get_one() {
    let cli = Cli::new();
    cli.check(&["list"], expect![[r#"
        ! error: task hub "default": there is no task hub at DIR/default.db; deploy a module or start a host to make it
        !   hint: `perennial deploy FILE.wasm` or `perennial serve` makes it; --data-dir and --task-hub say where it is
        exit code Some(3)
    "#]]);
    cli.check(&["status", "x", "--json"], expect![[r#"
        ! {"error":{"code":"noTaskHub","exitCode":3,"message":"task hub \"default\": there is no task hub at DIR/default.db; deploy a module or start a host to make it","hint":"`perennial deploy FILE.wasm` or `perennial serve` makes it; --data-dir and --task-hub say where it is"}}
        exit code Some(3)
    "#]]);
    let commands: [&[&str]; 6] = [
        &["modules"],
        &["history", "x"],
        &["list", "--counts"],
        &["wait", "x"],
        &["status", "x"],
        &["list"],
    ];
    for args in commands {
        let output = cli.command(args).output().unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(3), b"".as_slice()),
            "{args:?}"
        );
    }
    cli.check(
        &["list", "--task-hub", "a/b"],
        expect![[r#"
        ! error: cannot use --task-hub
        !   because: the task hub name "a/b" must be 1 to 64 letters, digits and dashes
        exit code Some(2)
    "#]],
    );
}

#[test]
fn without_a_host_commands_are_kept_and_the_user_is_told() {
    let cli = Cli::new();
    cli.check(
        &["deploy", &hello()],
        expect![[r#"
        hello-sequence <hex>
          orchestration  HelloSequence  new
          activity       SayHello       new
    "#]],
    );
    cli.ok(&["deploy", &workloads()]);
    cli.check(&["deploy", &hello(), "--json"], expect![[r#"
        [{"module":"hello-sequence","digest":"<hex>","names":[{"kind":"orchestration","name":"HelloSequence","change":"unchanged","before":"<hex>"},{"kind":"activity","name":"SayHello","change":"unchanged","before":"<hex>"}]}]
    "#]]);
    cli.check(
        &["start", "Wait", "--id", "w1", "--tag", "customer=acme"],
        expect![[r#"
        w1
        ! no host runs task hub "default": the instance waits until `perennial serve` does
    "#]],
    );
    cli.check(
        &["start", "Wait", "--id", "w2", "--json"],
        expect![[r#"
            {"instanceId":"w2","name":"Wait","hosted":false}
            ! {"note":"no host runs task hub \"default\": the instance waits until `perennial serve` does"}
        "#]],
    );
    cli.check(
        &["start", "Wait", "--id", "w1"],
        expect![[r#"
        ! error: instance "w1" exists already and is Pending
        !   hint: `--reuse any` ends and replaces a live instance; without --id a new id is made
        exit code Some(4)
    "#]],
    );
    let unknown = cli.see(&["start", "Weight"]);
    assert!(
        unknown.contains("there is no orchestration \"Weight\"; deployed: ")
            && unknown.ends_with("exit code Some(3)\n"),
        "{unknown}"
    );
    cli.check(
        &["status", "w1", "--input"],
        expect![[r#"
        instance       w1
        orchestration  Wait
        status         Pending
        created        <date> <time> UTC
        updated        <date> <time> UTC
        module         <hex>
        tags           customer=acme
        history        0 events, <n> B
        waits for      a host that runs it
    "#]],
    );
    cli.check(
        &["history", "w1"],
        expect![[r#"
        ! nothing has happened yet: instance "w1" is Pending
    "#]],
    );
    cli.check(&["wait", "w1", "--timeout", "100ms"], expect![[r#"
        ! no host runs task hub "default": nothing will happen until `perennial serve` does
        ! error: gave up after <span>: instance "w1" is still Pending and waits for a host that runs it
        !   hint: `perennial wait w1 --timeout none` waits as long as it takes
        exit code Some(5)
    "#]]);
    cli.check(
        &["raise-event", "w1", "Go", "--data", "\"now\""],
        expect![[r#"
        ! raised "Go" to w1
        ! no host runs task hub "default": it takes no effect until `perennial serve` does
    "#]],
    );
    cli.check(
        &["raise-event", "w2", "Go", "--json"],
        expect![[r#"
            {"instanceId":"w2","command":"raiseEvent","hosted":false}
            ! {"note":"raised \"Go\" to w2"}
            ! {"note":"no host runs task hub \"default\": it takes no effect until `perennial serve` does"}
        "#]],
    );
    cli.check(
        &["raise-event", "nobody", "Go"],
        expect![[r#"
        ! error: there is no instance "nobody"
        !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
        exit code Some(3)
    "#]],
    );
    cli.check(
        &["list", "--status", "pending"],
        expect![[r#"
            ID  ORCHESTRATION  STATUS   CREATED (UTC)        RESULT
            w2  Wait           Pending  <date> <time>
            w1  Wait           Pending  <date> <time>
        "#]],
    );
    cli.check(
        &["list", "--status", "Canceled"],
        expect![[r#"
        ! no instances
    "#]],
    );
    cli.check(&["list", "--limit", "1", "--json"], expect![[r#"
        {"instances":[{"instanceId":"w2","name":"Wait","runtimeStatus":"Pending","createdTime":"<timestamp>","lastUpdatedTime":"<timestamp>","executionId":"<hex>","run":"<hex>","module":"<hex>","historyEvents":0,"historyBytes":<n>}],"continuationToken":"<n>"}
    "#]]);
    cli.check(
        &["list", "--counts"],
        expect![[r#"
        STATUS   INSTANCES
        Pending  2
    "#]],
    );
    cli.check(
        &["list", "--counts", "--json"],
        expect![[r#"
        {"Pending":2}
    "#]],
    );
    cli.check(
        &["list", "--continuation-token", "nonsense"],
        expect![[r#"
            ! error: this continuation token does not belong to this list: use it with the filters and the order that it came from
            exit code Some(2)
        "#]],
    );
}

#[test]
fn beside_a_host_an_instance_lives_its_whole_life() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    cli.check(
        &["start", "Wait", "--id", "w1"],
        expect![[r#"
        w1
    "#]],
    );
    cli.check(
        &["wait", "w1", "--for", "start"],
        expect![[r#"
        Running
    "#]],
    );
    shows_that_it_waits(&cli, "w1");
    cli.check(
        &["suspend", "w1", "--reason", "not now"],
        expect![[r#"
        ! suspending w1
    "#]],
    );
    until_suspended(&cli, "w1");
    cli.check(
        &["resume", "w1", "--json"],
        expect![[r#"
            {"instanceId":"w1","command":"resume","hosted":true,"changed":true}
            ! {"note":"resuming w1"}
        "#]],
    );
    cli.check(
        &["raise-event", "w1", "go", "--data", "\"now\""],
        expect![[r#"
        ! raised "go" to w1
    "#]],
    );
    cli.check(
        &["wait", "w1"],
        expect![[r#"
        "now"
    "#]],
    );
    cli.check(&["wait", "w1", "--json"], expect![[r#"
        {"instanceId":"w1","name":"Wait","runtimeStatus":"Completed","createdTime":"<timestamp>","startedTime":"<timestamp>","lastUpdatedTime":"<timestamp>","executionId":"<hex>","run":"<hex>","module":"<hex>","output":"now","historyEvents":7,"historyBytes":<n>}
    "#]]);
    cli.check(
        &["raise-event", "w1", "go"],
        expect![[r#"
        ! error: instance "w1": it has ended and is Completed
        exit code Some(4)
    "#]],
    );
    cli.check(
        &["terminate", "w1"],
        expect![[r#"
        ! error: instance "w1": it has ended and is Completed
        exit code Some(4)
    "#]],
    );
    cli.check(
        &["start", "Chain", "--input", "2", "--id", "c1", "--wait"],
        expect![[r#"
        c1
        1
    "#]],
    );
    cli.check(
        &["history", "c1"],
        expect![[r#"
        #  TIME     EVENT               TASK  WHAT
        0  <span>  TurnStarted
        1  <span>  ExecutionStarted          Chain 2
        2  <span>  ActivityScheduled      0  Echo 0
        3  <span>  TurnStarted
        4  <span>  ActivityCompleted      0  Echo (<span>) -> 0
        5  <span>  ActivityScheduled      1  Echo 1
        6  <span>  TurnStarted
        7  <span>  ActivityCompleted      1  Echo (<span>) -> 1
        8  <span>  ExecutionCompleted        -> 1
    "#]],
    );
    cli.check(
        &["start", "Wait", "--id", "w2"],
        expect![[r#"
        w2
    "#]],
    );
    cli.check(
        &["terminate", "w2", "--reason", "enough", "--wait"],
        expect![[r#"
        ! w2 is Terminated
    "#]],
    );
    cli.check(
        &["wait", "w2"],
        expect![[r#"
        ! error: instance "w2" was terminated: enough
        exit code Some(1)
    "#]],
    );
    cli.check(&["wait", "w2", "--json"], expect![[r#"
        {"instanceId":"w2","name":"Wait","runtimeStatus":"Terminated","createdTime":"<timestamp>","startedTime":"<timestamp>","lastUpdatedTime":"<timestamp>","executionId":"<hex>","run":"<hex>","module":"<hex>","output":"enough","historyEvents":3,"historyBytes":<n>}
        ! {"error":{"code":"error","exitCode":1,"message":"instance \"w2\" was terminated: enough"}}
        exit code Some(1)
    "#]]);
    cli.check(
        &["list", "--counts"],
        expect![[r#"
        STATUS      INSTANCES
        Completed   2
        Terminated  1
    "#]],
    );
    cli.check(
        &["run", &hello(), "--id", "h1"],
        expect![[r#"
        ["Hello Tokyo!","Hello Seattle!","Hello London!"]
        ! deployed hello-sequence <hex>
        ! started HelloSequence as h1
    "#]],
    );
}

#[test]
fn a_failure_is_told_with_its_kind_and_exit_code() {
    let cli = Cli::deployed();
    cli.check(&["run", &workloads(), "CallsUnknown", "--id", "f1"], expect![[r#"
        ! started CallsUnknown as f1
        ! error: instance "f1" failed: UnknownActivity: no deployed module, no registered closure and no connected worker has an activity named "NoSuchActivity"
        !   hint: `perennial history f1` shows how it came to that
        exit code Some(1)
    "#]]);
    cli.check(&["run", &workloads(), "CallsUnknown", "--id", "f2", "--json", "-q"], expect![[r#"
        {"instanceId":"f2","name":"CallsUnknown","runtimeStatus":"Failed","createdTime":"<timestamp>","startedTime":"<timestamp>","lastUpdatedTime":"<timestamp>","executionId":"<hex>","run":"<hex>","module":"<hex>","failure":{"kind":"UnknownActivity","message":"no deployed module, no registered closure and no connected worker has an activity named \"NoSuchActivity\"","retryable":false},"historyEvents":6,"historyBytes":<n>}
        ! {"error":{"code":"error","exitCode":1,"message":"instance \"f2\" failed: UnknownActivity: no deployed module, no registered closure and no connected worker has an activity named \"NoSuchActivity\"","hint":"`perennial history f2` shows how it came to that"}}
        exit code Some(1)
    "#]]);
    cli.check(&["status", "f1"], expect![[r#"
        instance       f1
        orchestration  CallsUnknown
        status         Failed
        created        <date> <time> UTC
        started        <date> <time> UTC
        ended          <date> <time> UTC
        module         <hex>
        history        6 events, <n> B
        failure        UnknownActivity: no deployed module, no registered closure and no connected worker has an activity named "NoSuchActivity"
    "#]]);
}

#[test]
fn input_comes_from_stdin_and_files_too() {
    let cli = Cli::deployed();
    let file = cli.dir.path().join("input.json");
    std::fs::write(&file, "3\n").unwrap();
    cli.ok(&[
        "start",
        "Chain",
        "--id",
        "file",
        "--input",
        &format!("@{}", file.display()),
    ]);
    let stdin = std::fs::File::open(&file).unwrap();
    let started = cli
        .command(&["start", "Chain", "--id", "stdin", "--input", "-"])
        .stdin(stdin)
        .output()
        .unwrap();
    assert!(started.status.success());
    for id in ["file", "stdin"] {
        let status = cli.see(&["status", id, "--input", "--json"]);
        assert!(status.contains("\"input\":3"), "{status}");
    }
}

#[test]
fn a_host_says_when_it_is_ready_and_what_is_left_when_it_stops() {
    let cli = Cli::deployed();
    cli.ok(&["start", "Wait", "--id", "w1", "-q"]);
    let serve = cli
        .command(&["serve", "--json", "--log", "warn"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut host = Process(serve);
    let ready = cli.of_dir(&host.line());
    expect![[r#"
        {"event":"ready","taskHub":"default","file":"DIR/default.db","pid":<n>,"instances":1}
    "#]]
    .assert_eq(&mask(&ready));
    cli.ok(&["wait", "w1", "--for", "start"]);
    host.signal("TERM");
    let stopped = host.line();
    let stats = stopped.find("\"stats\"").unwrap();
    expect![[r#"{"event":"stopped","taskHub":"default","left":{"Running":1},"#]]
        .assert_eq(&stopped[..stats]);
    assert_eq!(host.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let cli = Cli::deployed();
    let commands: [&[&str]; 3] = [&["modules"], &["--help"], &["modules", "--json"]];
    for args in commands {
        let mut child = cli
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.as_slice()),
            (Some(0), b"".as_slice()),
            "{args:?}"
        );
    }
}

#[test]
fn a_mistyped_command_line_is_told_as_such() {
    let cli = Cli::new();
    cli.check(
        &["sttus", "x"],
        expect![[r#"
        ! error: unrecognized subcommand 'sttus'
        ! 
        !   tip: a similar subcommand exists: 'status'
        ! 
        ! Usage: perennial [OPTIONS] <COMMAND>
        ! 
        ! For more information, try '--help'.
        exit code Some(2)
    "#]],
    );
    cli.check(&["--json", "status"], expect![[r#"
        ! {"error":{"code":"usage","exitCode":2,"message":"the following required arguments were not provided: <ID>","hint":"`perennial status --help` shows the arguments"}}
        exit code Some(2)
    "#]]);
    cli.check(&["list", "--created-from", "yesterday"], expect![[r#"
        ! error: invalid value 'yesterday' for '--created-from <TIME>': not a time; write it like <date>, 2026-01-31T12:00 or 2026-01-31T12:00:00+01:00
        ! 
        ! For more information, try '--help'.
        exit code Some(2)
    "#]]);
    cli.check(
        &["start", "Wait", "--timeout", "5s"],
        expect![[r#"
            ! error: the following required arguments were not provided:
            !   --wait[=<FOR>]
            ! 
            ! Usage: perennial start --wait[=<FOR>] --timeout <DURATION> --data-dir <DIR> <ORCHESTRATION>
            ! 
            ! For more information, try '--help'.
            exit code Some(2)
        "#]],
    );
}

#[test]
fn words_of_the_original_are_understood_or_answered_with_where_they_are() {
    let cli = Cli::deployed();
    cli.ok(&["start", "Wait", "--id", "w1"]);
    cli.ok(&["status", "w1", "--show-input", "--show-history"]);
    cli.ok(&["raise-event", "w1", "Other", "--event-data", "1"]);
    let since = [
        "--created-after",
        "2020-01-01",
        "--created-before",
        "2099-01-01",
    ];
    let list = ["list", "--runtime-status", "Pending", "--top", "1"];
    let told = cli.see(&[&list[..], &since].concat());
    assert!(told.contains("w1"), "{told}");
    let told = cli.see(&["get-instances", "--top", "1"]);
    assert!(
        told.contains("! error: unrecognized subcommand 'get-instances'")
            && told.contains("hint: `perennial durable get-instances` has the flags"),
        "{told}"
    );
}

#[test]
fn every_command_has_examples() {
    let cli = Cli::new();
    let help = cli.see(&["--help"]);
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 13, "{help}");
    // That one shows the help of the others.
    for command in commands.into_iter().filter(|command| *command != "help") {
        let help = cli.see(&[command, "--help"]);
        assert!(
            help.contains("\nExamples:\n  perennial "),
            "{command}: {help}"
        );
        assert!(
            help.contains("JSON: "),
            "{command} documents what it prints as JSON"
        );
    }
    for code in 0..=5 {
        assert!(
            help.contains(&format!("\n  {code}  ")),
            "exit code {code} is documented"
        );
    }
}

#[test]
fn a_hub_is_copied_and_the_copy_becomes_a_hub() {
    if perennial_tests::postgres::skips("it copies the file") {
        return;
    }
    let cli = Cli::new();
    cli.ok(&["run", &hello(), "--id", "h1", "-q"]);
    let file = cli.dir.path().join("copy.db");
    let file = file.to_str().unwrap();
    let said = cli.see(&["backup", file]);
    assert!(
        said.contains(r#"is a backup of task hub "default""#),
        "{said}"
    );
    let said = cli.see(&["backup", file]);
    assert!(
        said.contains("it is there already; name another file")
            && said.contains("exit code Some(1)"),
        "{said}"
    );
    cli.ok(&["--task-hub", "two", "restore", file]);
    let said = cli.see(&["--task-hub", "two", "status", "h1", "--json"]);
    assert!(said.contains("Hello Tokyo!"), "{said}");
    let said = cli.see(&["--task-hub", "three", "restore", "no-such.db"]);
    assert!(
        said.contains("could not read the backup no-such.db"),
        "{said}"
    );
}
