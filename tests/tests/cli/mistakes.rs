//! What is mistyped, what is in the way, and whoever does not answer.

use std::time::{Duration, Instant};

use expect_test::expect;

use crate::see::{Cli, hello, workloads};

/// The files of hubs in the data directory.
fn hubs(cli: &Cli) -> Vec<String> {
    let entries = std::fs::read_dir(cli.dir.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut hubs: Vec<String> = names.filter(|name| name.contains(".db")).collect();
    hubs.sort();
    hubs
}

#[test]
fn only_what_makes_something_makes_a_hub() {
    let cli = Cli::deployed();
    let before = hubs(&cli);
    let commands = [
        "start Wait",
        "status x",
        "history x",
        "list",
        "list --counts",
        "wait x",
        "raise-event x Go",
        "terminate x",
        "suspend x",
        "resume x",
        "rewind x",
        "restart x",
        "restart x --new-id",
        "purge x",
        "purge --all --yes",
        "terminate --all --yes",
        "modules",
        "modules --gc",
        "modules remove workloads",
        "grants workloads --grant-env A=1",
        "keys list",
        "keys revoke x",
        "hubs show",
        "hubs set --retain-completed 1d",
        "hubs compact",
        "check",
        "backup copy.db",
        "doctor",
        "durable start-new --function-name Wait",
        "durable get-instances",
        "deploy no-such-file.wasm",
        "run no-such-file.wasm",
        "restore no-such-file.db",
    ];
    for line in commands {
        let mut args = vec!["--task-hub", "defualt"];
        args.extend(line.split(' '));
        let output = cli
            .command(&args)
            .current_dir(cli.dir.path())
            .output()
            .unwrap();
        let told = cli.tell(&output);
        assert!(
            line == "doctor" || !output.status.success(),
            "{line}: {told}"
        );
        // Nobody has to take back what was never made.
        let mut after = hubs(&cli);
        after.retain(|name| name != "defualt.db.lock");
        assert_eq!(after, before, "{line}: {told}");
    }
    cli.types(
        "start Wait --task-hub defualt",
        expect![[r#"
        ! error: task hub "defualt": there is no task hub at DIR/defualt.db; deploy a module or start a host to make it
        !   hint: did you mean "default"? there are: default
        exit code Some(3)
    "#]],
    );
    // What cannot be deployed makes none either.
    std::fs::write(cli.dir.path().join("no.wasm"), "no module").unwrap();
    let file = cli.dir.path().join("no.wasm");
    cli.see(&["deploy", file.to_str().unwrap(), "--task-hub", "other"]);
    assert_eq!(hubs(&cli), before);
}

#[test]
fn what_was_probably_meant_is_named() {
    let cli = Cli::deployed();
    cli.ok(&["start", "Wait", "--id", "order-17"]);
    let hint = |line: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let told = cli.see(&args);
        assert!(told.contains("exit code Some(3)"), "{line}: {told}");
        told
    };
    assert!(hint("start Wiat").contains("did you mean \"Wait\"?"));
    for verb in [
        "status",
        "history",
        "wait",
        "terminate",
        "suspend",
        "resume",
        "rewind",
    ] {
        let told = hint(&format!("{verb} ordr-17"));
        assert!(
            told.contains("did you mean \"order-17\"?"),
            "{verb}: {told}"
        );
    }
    assert!(hint("raise-event ordre-17 Go").contains("did you mean \"order-17\"?"));
    assert!(hint("grants workload --grant-env A=1").contains("did you mean \"workloads\"?"));
    assert!(!hint("status quite-another").contains("did you mean"));
}

#[test]
fn one_label_has_one_value() {
    let cli = Cli::deployed();
    cli.types(
        "start Wait --tag k=a --tag k=b",
        expect![[r#"
        ! error: the tag "k" is given twice, and an instance has one value of each
        exit code Some(2)
    "#]],
    );
    cli.types(
        "list --counts",
        expect![[r#"
        ! no instances
    "#]],
    );
}

#[test]
fn what_is_so_already_is_not_said_to_be_done() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    cli.ok(&["start", "Wait", "--id", "w1", "--wait=start"]);
    cli.types(
        "resume w1",
        expect![[r#"
        ! w1 is not suspended: nothing was changed
    "#]],
    );
    cli.ok(&["suspend", "w1"]);
    // The turn that suspends it comes after the command was accepted.
    let begun = Instant::now();
    while !cli.see(&["status", "w1"]).contains("Suspended") {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    cli.types(
        "suspend w1",
        expect![[r#"
        ! w1 is suspended already: nothing was changed
    "#]],
    );
}

#[test]
fn a_resume_that_overtakes_its_suspend_is_said_to_be_done() {
    let cli = Cli::deployed();
    let host = cli.serve();
    cli.ok(&["start", "Wait", "--id", "w1", "--wait=start"]);
    drop(host);
    // Nobody executes the suspend, so that the instance is still Running when the resume comes.
    cli.types(
        "suspend w1",
        expect![[r#"
        ! suspending w1
        ! no host runs task hub "default": it takes no effect until `perennial serve` does
    "#]],
    );
    cli.types(
        "resume w1 --json",
        expect![[r#"
        {"instanceId":"w1","command":"resume","hosted":false,"changed":true}
        ! {"note":"resuming w1"}
        ! {"note":"no host runs task hub \"default\": it takes no effect until `perennial serve` does"}
    "#]],
    );
    // As soon as a host has executed both, another resume has nothing to do.
    let _host = cli.serve();
    let begun = Instant::now();
    while !cli.see(&["history", "w1"]).contains("Resumed") {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    cli.types(
        "resume w1 --json",
        expect![[r#"
        {"instanceId":"w1","command":"resume","hosted":true,"changed":false}
        ! {"note":"w1 is not suspended: nothing was changed"}
    "#]],
    );
}

#[test]
fn a_misspelt_event_is_seen() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    cli.ok(&["start", "Wait", "--id", "w1", "--wait=start"]);
    cli.types(
        "raise-event w1 Goo",
        expect![[r#"
        ! w1 waits for "Go" and not for "Goo"; the event is kept until w1 waits for "Goo"; did you mean "Go"?
        ! raised "Goo" to w1
    "#]],
    );
    let begun = Instant::now();
    let told = loop {
        let told = cli.see(&["status", "w1"]);
        if told.contains("was sent") {
            break told;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{told}");
    };
    assert!(
        told.contains("external event \"Goo\", which led to nothing so far; did you mean \"Go\"?"),
        "{told}"
    );
    // One that is waited for leads to something.
    cli.ok(&["raise-event", "w1", "go", "--data", "\"now\""]);
    cli.ok(&["wait", "w1"]);
    assert!(!cli.see(&["status", "w1"]).contains("was sent"));
}

#[test]
fn a_host_that_is_stopped_is_told_from_one_that_runs_and_nothing_is_done_later() {
    if perennial_tests::postgres::skips("the lease of a host that is stopped runs out") {
        return;
    }
    let cli = Cli::deployed();
    let host = cli.serve();
    let doctor = || {
        let told = cli.see(&["doctor"]);
        let line = told.lines().find(|line| line.starts_with("host ")).unwrap();
        line.to_owned()
    };
    assert!(doctor().contains("runs; 0 instances live"), "{}", doctor());
    cli.ok(&["start", "Wait", "--id", "w1", "--wait=start"]);
    host.signal("STOP");
    assert!(doctor().contains("is stopped by a signal"), "{}", doctor());
    let begun = Instant::now();
    for line in ["start Wait --id s1", "raise-event w1 Go", "terminate w1"] {
        let told = cli.see(&line.split(' ').collect::<Vec<_>>());
        assert!(
            told.contains("could not execute it: it is stopped"),
            "{told}"
        );
        assert!(told.ends_with("exit code Some(1)\n"), "{told}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    host.signal("CONT");
    // Whoever tries again starts it once, and what was withdrawn does not come later.
    cli.ok(&["start", "Wait", "--id", "s1", "--reuse", "never"]);
    cli.types(
        "list --counts",
        expect![[r#"
        STATUS   INSTANCES
        Running  2
    "#]],
    );
}

#[test]
fn a_second_host_blames_the_first_and_not_its_port() {
    if perennial_tests::postgres::skips("hosts share the hub") {
        return;
    }
    let cli = Cli::deployed();
    let mut first = cli.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut first = crate::see::Process(
        first
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    );
    let ready = first.line();
    let port = ready.trim_end().rsplit(':').next().unwrap().to_owned();
    cli.types(
        &format!("serve --listen 127.0.0.1:{port}"),
        expect![[r#"
        ! error: task hub "default": the task hub is in use by perennial serve (process <n>)
        !   hint: one host at a time owns a task hub; every other command works beside it
        exit code Some(4)
    "#]],
    );
}

#[test]
fn a_hub_is_compacted_where_no_host_runs_it() {
    if perennial_tests::postgres::skips("its sizes are those of a file") {
        return;
    }
    let cli = Cli::deployed();
    let told = cli.see(&["hubs", "compact"]);
    assert!(
        told.starts_with("! task hub \"default\" has <n> KiB on the disk"),
        "{told}"
    );
    let host = cli.serve();
    cli.types(
        "hubs compact",
        expect![[r#"
        ! error: task hub "default": the task hub is in use by perennial serve (process <n>)
        !   hint: a host gives space back by itself while it has nothing else to do; stop it to have all of it back at once
        exit code Some(4)
    "#]],
    );
    drop(host);
    cli.ok(&["run", "-q", &hello()]);
}

#[test]
fn what_goes_into_a_pipe_is_whole_and_what_is_too_wide_is_cut() {
    let cli = Cli::deployed();
    let input = format!("{:?}", "x".repeat(2_000));
    cli.ok(&["start", "Wait", "--id", "w1", "--input", &input]);
    // A text is no input of this one, but a part of its history.
    cli.see(&[
        "run",
        "-q",
        &workloads(),
        "Wait",
        "--id",
        "p1",
        "--input",
        &input,
    ]);
    cli.ok(&[
        "run",
        "-q",
        &workloads(),
        "Chain",
        "--id",
        "c1",
        "--input",
        "3",
    ]);
    let whole = cli.see(&["history", "p1"]);
    assert!(whole.contains(&input), "{whole}");
    let cut = cli.see(&["history", "p1", "--width", "60"]);
    assert!(cut.lines().all(|line| line.chars().count() <= 60), "{cut}");
    for command in ["list", "history c1 --timeline"] {
        for width in ["20", "40", "60", "100"] {
            let mut args: Vec<&str> = command.split(' ').collect();
            args.extend(["--width", width, "-q"]);
            let told = cli.see(&args);
            let most: usize = width.parse().unwrap();
            // Times and tries alone are wider than the narrowest.
            let fits = |line: &str| line.chars().count() <= most.max(40);
            assert!(told.lines().all(fits), "{command} {width}: {told}");
        }
    }
}

#[test]
fn a_command_that_says_nothing_hides_the_warnings_of_guests_too() {
    let cli = Cli::new();
    let chain = perennial_tests::guest("golden-chain");
    let run = |quiet: &[&str]| {
        let mut args = vec!["run", chain.to_str().unwrap(), "Chain", "--input", "6"];
        args.extend(quiet);
        String::from_utf8(cli.command(&args).output().unwrap().stderr).unwrap()
    };
    let said = run(&[]);
    assert!(said.contains("perennial::guest"), "{said}");
    let said = run(&["-q"]);
    assert!(!said.contains("perennial::guest"), "{said}");
}

#[test]
fn a_damaged_hub_is_said_once_with_what_helps_against_it() {
    if perennial_tests::postgres::skips("it damages the file") {
        return;
    }
    let cli = Cli::deployed();
    let file = cli.dir.path().join("default.db");
    // Folded into the file, so that no log makes up for what is lost of it.
    let copy = cli.dir.path().join("copy.db");
    cli.ok(&["backup", copy.to_str().unwrap()]);
    cli.ok(&["delete-task-hub", "default", "--yes"]);
    let mut bytes = std::fs::read(&copy).unwrap();
    // The pages of the schema and of the tables that come first; the head stays, so that it is a hub.
    bytes[100..40_000].fill(0x5a);
    std::fs::write(&file, bytes).unwrap();
    let told = cli.see(&["doctor"]);
    assert_eq!(told.matches("malformed").count(), 1, "{told}");
    assert!(told.contains("`perennial restore` a backup"), "{told}");
    assert!(!told.contains("the version of Perennial"), "{told}");
    std::fs::remove_file(&file).unwrap();
    // What is nowhere in the directory either is named as it was typed.
    std::fs::rename(&copy, &file).unwrap();
    let told = cli.see(&["backup", "/nonexistent/copy.db"]);
    assert!(
        told.contains("could not write /nonexistent/copy.db: "),
        "{told}"
    );
    assert!(!told.contains("perennial-new"), "{told}");
}
