//! Many instances at once, and task hubs, from the command line.

use expect_test::expect;

use crate::see::Cli;

/// Six instances, two of which have ended.
fn busy() -> Cli {
    let cli = Cli::deployed();
    for id in ["a1", "a2", "b1", "b2"] {
        cli.ok(&[
            "start",
            "Wait",
            "--id",
            id,
            "--tag",
            &format!("of={}", &id[..1]),
        ]);
    }
    let mut host = cli.serve();
    for id in ["done1", "done2"] {
        cli.ok(&["start", "Chain", "--id", id, "--input", "1", "--wait"]);
    }
    for id in ["a1", "a2", "b1", "b2"] {
        cli.ok(&["wait", id, "--for", "start"]);
    }
    host.signal("TERM");
    host.0.wait().unwrap();
    cli
}

#[test]
fn what_is_purged_is_said_and_asked_for() {
    let cli = busy();
    cli.types(
        "purge",
        expect![[r#"
        ! error: no instance to purge is named, and no filter is given
        !   hint: name an instance, or filters such as --status and --name; --all means every one
        exit code Some(2)
    "#]],
    );
    cli.types(
        "purge done1 --all",
        expect![[r#"
        ! error: name one instance to purge, or filters, and not both
        exit code Some(2)
    "#]],
    );
    cli.types(
        "purge a1",
        expect![[r#"
        ! error: instance "a1": it has not ended and is Running
        exit code Some(4)
    "#]],
    );
    cli.types(
        "purge nobody",
        expect![[r#"
            ! error: there is no instance "nobody"
            !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
            exit code Some(3)
        "#]],
    );
    cli.types(
        "purge done1",
        expect![[r#"
        ! 1 instance purged
    "#]],
    );
    cli.types(
        "purge done1 --json",
        expect![[r#"
            ! {"error":{"code":"notFound","exitCode":3,"message":"there is no instance \"done1\"","hint":"did you mean \"done2\"? `perennial list` shows the instances of this task hub, DIR/default.db"}}
            exit code Some(3)
        "#]],
    );
    cli.types(
        "purge --status Completed --dry-run",
        expect![[r#"
        ! 1 instance would be purged
    "#]],
    );
    cli.types(
        "purge --status Completed",
        expect![[r#"
        ! error: would purge 1 instance; no terminal to confirm
        !   hint: pass --yes
        exit code Some(2)
    "#]],
    );
    cli.types(
        "purge --status Running --yes",
        expect![[r#"
            ! no instance matches
        "#]],
    );
    cli.types(
        "purge --all --recursive --yes --json",
        expect![[r#"
            {"matched":1,"done":1,"skipped":0,"dryRun":false,"hosted":false}
        "#]],
    );
    cli.types(
        "list --counts --json",
        expect![[r#"
        {"Running":4}
    "#]],
    );
}

#[test]
fn many_are_suspended_resumed_terminated_and_restarted() {
    let cli = busy();
    cli.types(
        "terminate --status Running --name Wait --dry-run",
        expect![[r#"
            ! 4 instances would be terminated
        "#]],
    );
    cli.types(
        "terminate a1 --dry-run",
        expect![[r#"
            ! error: --dry-run counts the instances that match filters; it cannot be used with one named instance
            exit code Some(2)
        "#]],
    );
    cli.types(
        "terminate --tag of=a",
        expect![[r#"
        ! error: would terminate 2 instances; no terminal to confirm
        !   hint: pass --yes
        exit code Some(2)
    "#]],
    );
    cli.types(
        "suspend --tag of=a --json",
        expect![[r#"
            {"matched":2,"done":2,"skipped":0,"dryRun":false,"hosted":false}
            ! {"note":"no host runs task hub \"default\": it takes no effect on what has begun until `perennial serve` does"}
        "#]],
    );
    cli.types(
        "terminate --tag of=a --yes --reason enough",
        expect![[r#"
            ! 2 instances terminated
            ! no host runs task hub "default": it takes no effect on what has begun until `perennial serve` does
        "#]],
    );
    cli.types(
        "suspend",
        expect![[r#"
        ! error: no instance to suspend is named, and no filter is given
        !   hint: name an instance, or filters such as --status and --name; --all means every one
        exit code Some(2)
    "#]],
    );
    let mut host = cli.serve();
    for id in ["a1", "a2"] {
        cli.see(&["wait", id]);
    }
    cli.types(
        "resume --all",
        expect![[r#"
            ! no instance matches
        "#]],
    );
    cli.types(
        "restart --status Terminated --prefix a1",
        expect![[r#"
        ! 1 instance restarted
    "#]],
    );
    cli.ok(&["wait", "a1", "--for", "start"]);
    cli.types(
        "list --name Wait --counts --json",
        expect![[r#"
            {"Running":3,"Terminated":1}
        "#]],
    );
    cli.types(
        "list --tag of=a --oldest-first --created-to 2020-01-01",
        expect![[r#"
            ! no instances
        "#]],
    );
    cli.types("list --continuation-token 0.0.forged", expect![[r#"
        ! error: this continuation token does not belong to this list: use it with the filters and the order that it came from
        exit code Some(2)
    "#]]);
    host.signal("TERM");
    host.0.wait().unwrap();
}

#[test]
fn task_hubs_are_shown_set_up_and_deleted() {
    if perennial_tests::postgres::skips("its sizes are those of files") {
        return;
    }
    let cli = busy();
    cli.types(
        "hubs create billing",
        expect![[r#"
        ! made task hub "billing", DIR/billing.db
    "#]],
    );
    cli.types(
        "hubs create billing",
        expect![[r#"
        ! error: there is a task hub "billing" already
        !   hint: `perennial hubs show` shows what it holds
        exit code Some(4)
    "#]],
    );
    cli.types(
        "hubs",
        expect![[r#"
        TASK HUB  SIZE       CREATED (UTC)        HOST
        billing   <n> KiB  <date> <time>  none
        default   <n> KiB  <date> <time>  none
    "#]],
    );
    cli.types(
        "hubs show",
        expect![[r#"
        task hub   default
        file       DIR/default.db
        size       <n> KiB; <n> KiB in use, <n> B free
        created    <date> <time> UTC
        host       none
        instances  6
                   4 Running
                   2 Completed
        history    20 events in 8 turns, <n> KiB
        modules    1, 1 version kept, <n> KiB
        retention  Completed for ever, Failed for ever, Terminated for ever
    "#]],
    );
    cli.types(
        "hubs set billing",
        expect![[r#"
        ! error: no setting is given
        !   hint: such as --retain-completed 7d; `perennial hubs show` shows what is set
        exit code Some(2)
    "#]],
    );
    cli.types(
        "hubs set billing --retain-completed 7d --retain-failed 30d",
        expect![[r#"
            ! task hub "billing" keeps Completed 7d, Failed 30d, Terminated for ever
            ! no host runs task hub "billing": nothing is deleted until `perennial serve` does
        "#]],
    );
    cli.types(
        "hubs set billing --retain-failed none --json",
        expect![[r#"
            {"completed":604800000,"failed":null,"terminated":null}
        "#]],
    );
    let shown = cli.see(&["hubs", "show", "billing", "--json"]);
    let retention = r#""retention":{"completed":604800000,"failed":null,"terminated":null}}"#;
    assert!(shown.contains(retention), "{shown}");
    cli.types(
        "hubs show nothing",
        expect![[r#"
        ! error: there is no task hub "nothing"
        !   hint: `perennial hubs` lists them
        exit code Some(3)
    "#]],
    );
    cli.types(
        "delete-task-hub billing",
        expect![[r#"
        ! error: would delete task hub "billing" with everything in it; no terminal to confirm
        !   hint: pass --yes
        exit code Some(2)
    "#]],
    );
    cli.types(
        "delete-task-hub nothing --yes",
        expect![[r#"
        ! error: there is no task hub "nothing"
        !   hint: `perennial hubs` lists them
        exit code Some(3)
    "#]],
    );
    cli.types(
        "delete-task-hub billing --yes",
        expect![[r#"
        ! deleted task hub "billing"
    "#]],
    );
    let mut host = cli.serve();
    cli.types(
        "delete-task-hub default --yes",
        expect![[r#"
        ! error: task hub "default": the task hub is in use by perennial serve (process <n>)
        !   hint: stop what runs it first; --force deletes the hub all the same
        exit code Some(4)
    "#]],
    );
    cli.types(
        "delete-task-hub default --yes --force --json",
        expect![[r#"
            {"taskHub":"default","deleted":true}
        "#]],
    );
    cli.types(
        "hubs",
        expect![[r#"
        ! no task hubs in DIR
    "#]],
    );
    host.signal("TERM");
    host.0.wait().unwrap();
}

#[test]
fn a_purge_says_what_it_leaves_behind_and_finds_it_afterwards() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    cli.ok(&["start", "ChildSum", "--id", "p", "--input", "2", "--wait"]);
    cli.types(
        "purge p --recursive --dry-run",
        expect![[r#"
        ! 3 instances would be purged
    "#]],
    );
    cli.types(
        "purge p --dry-run --json",
        expect![[r#"
        {"instanceId":"p","deleted":1,"childrenLeft":2,"dryRun":true}
    "#]],
    );
    cli.types(
        "terminate p --dry-run",
        expect![[r#"
        ! error: --dry-run counts the instances that match filters; it cannot be used with one named instance
        exit code Some(2)
    "#]],
    );
    cli.types(
        "purge p",
        expect![[r#"
        ! 1 instance purged
        ! its 2 children stay: `perennial purge p --recursive` deletes what has ended below it
    "#]],
    );
    cli.types(
        "purge p --recursive",
        expect![[r#"
        ! 2 instances purged
    "#]],
    );
    cli.types(
        "purge p --recursive",
        expect![[r#"
        ! error: there is no instance "p"
        !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
        exit code Some(3)
    "#]],
    );
    cli.types("purge p --json", expect![[r#"
        ! {"error":{"code":"notFound","exitCode":3,"message":"there is no instance \"p\"","hint":"`perennial list` shows the instances of this task hub, DIR/default.db"}}
        exit code Some(3)
    "#]]);
    cli.types(
        "list --counts --json",
        expect![[r#"
        {}
    "#]],
    );
}

#[test]
fn live_children_of_an_earlier_instance_are_seen_and_ended() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    let wide = r#"{"timers":0,"children":2}"#;
    cli.ok(&[
        "start",
        "WaitsWidely",
        "--id",
        "p",
        "--input",
        wide,
        "--wait=start",
    ]);
    cli.ok(&["start", "Wait", "--id", "q", "--wait=start"]);
    cli.ok(&["terminate", "p"]);
    cli.see(&["wait", "p"]);
    cli.ok(&["start", "Wait", "--id", "p", "--wait=start"]);
    let tree = cli.see(&["status", "p", "--tree"]);
    assert!(
        tree.contains("still running, of an earlier instance with this id:\n"),
        "{tree}"
    );
    assert_eq!(tree.matches("Wait").count(), 3, "{tree}");
    let output = cli
        .command(&["status", "p", "--tree", "--json"])
        .output()
        .unwrap();
    let tree: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    cli.ok(&["terminate", "p", "--recursive"]);
    let left = tree["leftBehind"].as_array().unwrap();
    assert_eq!(left.len(), 2, "{tree}");
    for stray in left {
        let id = stray["instance"]["instanceId"].as_str().unwrap();
        let ended = cli.see(&["wait", id]);
        assert!(ended.contains("was terminated"), "{ended}");
    }
    let other = cli.see(&["status", "q", "--json"]);
    assert!(other.contains("\"runtimeStatus\":\"Running\""), "{other}");
}

#[test]
fn what_was_meant_by_the_name_of_an_orchestration_that_there_is_not_is_said() {
    let cli = Cli::deployed();
    cli.types(
        "list --name Wiat",
        expect![[r#"
        ! no instances
        ! no deployed module has an orchestration "Wiat"; did you mean "Wait"?
    "#]],
    );
    cli.types(
        "list --name Wiat --counts",
        expect![[r#"
        ! no instances
        ! no deployed module has an orchestration "Wiat"; did you mean "Wait"?
    "#]],
    );
    cli.types(
        "terminate --name Wiat --yes",
        expect![[r#"
            ! no instance matches
            ! no deployed module has an orchestration "Wiat"; did you mean "Wait"?
        "#]],
    );
    cli.types(
        "purge --name Wiat",
        expect![[r#"
            ! no instance matches
            ! no deployed module has an orchestration "Wiat"; did you mean "Wait"?
        "#]],
    );
    cli.types(
        "restart --name Nothing-like-it",
        expect![[r#"
            ! no instance matches
            ! no deployed module has an orchestration "Nothing-like-it"
        "#]],
    );
    cli.types(
        "list --name Wait",
        expect![[r#"
        ! no instances
    "#]],
    );
}

#[test]
fn a_shorter_retention_asks_before_it_deletes() {
    let cli = Cli::new();
    let file = perennial_tests::guest("hello-sequence");
    cli.see(&["run", file.to_str().unwrap()]);
    let asked = cli.see(&["hubs", "set", "--retain-completed", "0s"]);
    assert!(
        asked.contains("would delete up to 1 instance that ended longer ago; no terminal"),
        "{asked}"
    );
    let kept = cli.see(&["hubs", "show", "--json"]);
    assert!(kept.contains(r#""completed":null"#), "{kept}");
    // Nothing has ended that these mean, and --yes means it.
    let set = cli.see(&["hubs", "set", "--retain-failed", "0s"]);
    assert!(set.contains("Failed <span>"), "{set}");
    let set = cli.see(&["hubs", "set", "--retain-completed", "0s", "--yes"]);
    assert!(set.contains("Completed <span>"), "{set}");
}
