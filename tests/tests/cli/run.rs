//! `perennial run`: one command to try a module.

use std::process::Stdio;

use expect_test::expect;

use crate::see::{Cli, Process, hello, read_line, workloads};
use crate::shows_that_it_waits;

#[test]
fn run_deploys_starts_waits_and_prints_the_result() {
    let cli = Cli::new();
    cli.check(
        &["run", &hello(), "HelloSequence", "--id", "h1"],
        expect![[r#"
        ["Hello Tokyo!","Hello Seattle!","Hello London!"]
        ! deployed hello-sequence <hex>
        ! started HelloSequence as h1
    "#]],
    );
    cli.check(&["run", &hello(), "--id", "h2", "--json"], expect![[r#"
        {"instanceId":"h2","name":"HelloSequence","runtimeStatus":"Completed","createdTime":"<timestamp>","startedTime":"<timestamp>","lastUpdatedTime":"<timestamp>","executionId":"<hex>","run":"<hex>","module":"<hex>","output":["Hello Tokyo!","Hello Seattle!","Hello London!"],"historyEvents":12,"historyBytes":<n>}
        ! {"note":"started HelloSequence as h2"}
    "#]]);
    cli.check(
        &["run", &hello(), "-q"],
        expect![[r#"
        ["Hello Tokyo!","Hello Seattle!","Hello London!"]
    "#]],
    );
    cli.check(
        &["history", "h1"],
        expect![[r##"
        #   TIME     EVENT               TASK  WHAT
         0  <span>  TurnStarted
         1  <span>  ExecutionStarted          HelloSequence
         2  <span>  ActivityScheduled      0  SayHello "Tokyo"
         3  <span>  TurnStarted
         4  <span>  ActivityCompleted      0  SayHello (<span>) -> "Hello Tokyo!"
         5  <span>  ActivityScheduled      1  SayHello "Seattle"
         6  <span>  TurnStarted
         7  <span>  ActivityCompleted      1  SayHello (<span>) -> "Hello Seattle!"
         8  <span>  ActivityScheduled      2  SayHello "London"
         9  <span>  TurnStarted
        10  <span>  ActivityCompleted      2  SayHello (<span>) -> "Hello London!"
        11  <span>  ExecutionCompleted        -> ["Hello Tokyo!","Hello Seattle!","Hello London!"]
    "##]],
    );
    cli.check(
        &["status", "h1"],
        expect![[r#"
            instance       h1
            orchestration  HelloSequence
            status         Completed
            created        <date> <time> UTC
            started        <date> <time> UTC
            ended          <date> <time> UTC
            module         <hex>
            history        12 events, <n> B
            output         ["Hello Tokyo!","Hello Seattle!","Hello London!"]
        "#]],
    );
    // What a guest imports depends on how it was built.
    let seen = cli.see(&["modules"]);
    let imports = seen.lines().filter(|line| line.starts_with("imports "));
    assert!(imports.count() <= 1, "{seen}");
    let masked = seen.lines().filter(|line| !line.starts_with("imports "));
    let masked: String = masked.map(|line| format!("{line}\n")).collect();
    expect![[r#"
        module          hello-sequence
        digest          <hex>  <n> KiB
        deployed        <date> <time> UTC
        orchestrations  HelloSequence
        activities      SayHello
    "#]]
    .assert_eq(&masked);
}

#[test]
fn run_says_what_is_wrong_before_it_touches_the_hub() {
    let cli = Cli::new();
    cli.check(
        &["run", "nowhere.wasm"],
        expect![[r#"
        ! error: cannot read nowhere.wasm: No such file or directory
        !   hint: the first argument is the path of a .wasm file
        exit code Some(1)
    "#]],
    );
    cli.check(
        &["run", "/dev/null"],
        expect![[r#"
            ! error: /dev/null is not a regular file, as a module is
            exit code Some(1)
        "#]],
    );
    cli.check(&["run", &hello(), "Hello"], expect![[r#"
        ! error: GUESTS/hello-sequence.wasm defines no orchestration "Hello"; it defines HelloSequence
        exit code Some(3)
    "#]]);
    let several = cli.see(&["run", &workloads()]);
    assert!(
        several.contains("defines several orchestrations: Chain, ")
            && several.ends_with("exit code Some(2)\n"),
        "{several}"
    );
    cli.check(
        &["run", &hello(), "--grant-env", "NOT_SET_ANYWHERE"],
        expect![[r#"
        ! error: --grant-env NOT_SET_ANYWHERE: there is no variable NOT_SET_ANYWHERE here
        !   hint: give it a value: --grant-env NOT_SET_ANYWHERE=VALUE
        exit code Some(2)
    "#]],
    );
    cli.check(
        &["run", &hello(), "--timeout", "30"],
        expect![[r#"
        ! error: invalid value '30' for '--timeout <DURATION>': 30 of what? For seconds write <span>
        ! 
        ! For more information, try '--help'.
        exit code Some(2)
    "#]],
    );
    assert!(
        !cli.dir.path().join("default.db").exists(),
        "nothing of this may make a hub"
    );
}

#[test]
fn an_interrupted_run_keeps_its_instance() {
    let cli = Cli::new();
    let run = cli
        .command(&["run", &workloads(), "Wait", "--id", "w1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut run = Process(run);
    let stderr = run.0.stderr.as_mut().unwrap();
    while !read_line(stderr).starts_with("started ") {}
    cli.ok(&["wait", "w1", "--for", "start"]);
    run.signal("INT");
    assert_eq!(run.0.wait().unwrap().code(), Some(130));
    shows_that_it_waits(&cli, "w1");
}
