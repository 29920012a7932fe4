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
    cli.types("purge", expect![[""]]);
    cli.types("purge done1 --all", expect![[""]]);
    cli.types("purge a1", expect![[""]]);
    cli.types("purge nobody", expect![[""]]);
    cli.types("purge done1", expect![[""]]);
    cli.types("purge done1 --json", expect![[""]]);
    cli.types("purge --status Completed --dry-run", expect![[""]]);
    cli.types("purge --status Completed", expect![[""]]);
    cli.types("purge --status Running --yes", expect![[""]]);
    cli.types("purge --all --recursive --yes --json", expect![[""]]);
    cli.types("list --counts --json", expect![[""]]);
}

#[test]
fn many_are_suspended_resumed_terminated_and_restarted() {
    let cli = busy();
    cli.types(
        "terminate --status Running --name Wait --dry-run",
        expect![[""]],
    );
    cli.types("terminate a1 --dry-run", expect![[""]]);
    cli.types("terminate --tag of=a", expect![[""]]);
    cli.types("suspend --tag of=a --json", expect![[""]]);
    cli.types("terminate --tag of=a --yes --reason enough", expect![[""]]);
    cli.types("suspend", expect![[""]]);
    let mut host = cli.serve();
    for id in ["a1", "a2"] {
        cli.see(&["wait", id]);
    }
    cli.types("resume --all", expect![[""]]);
    cli.types("restart --status Terminated --prefix a1", expect![[""]]);
    cli.types("list --name Wait --counts --json", expect![[""]]);
    cli.types(
        "list --tag of=a --oldest-first --created-to 2020-01-01",
        expect![[""]],
    );
    cli.types("list --continuation-token 0.0.forged", expect![[""]]);
    host.signal("TERM");
    host.0.wait().unwrap();
}

#[test]
fn task_hubs_are_shown_set_up_and_deleted() {
    let cli = busy();
    cli.types("hubs create billing", expect![[""]]);
    cli.types("hubs create billing", expect![[""]]);
    cli.types("hubs", expect![[""]]);
    cli.types("hubs show", expect![[""]]);
    cli.types("hubs set billing", expect![[""]]);
    cli.types(
        "hubs set billing --retain-completed 7d --retain-failed 30d",
        expect![[""]],
    );
    cli.types(
        "hubs set billing --retain-failed none --json",
        expect![[""]],
    );
    cli.types("hubs show billing --json", expect![[""]]);
    cli.types("hubs show nothing", expect![[""]]);
    cli.types("delete-task-hub billing", expect![[""]]);
    cli.types("delete-task-hub nothing --yes", expect![[""]]);
    cli.types("delete-task-hub billing --yes", expect![[""]]);
    let mut host = cli.serve();
    cli.types("delete-task-hub default --yes", expect![[""]]);
    cli.types(
        "delete-task-hub default --yes --force --json",
        expect![[""]],
    );
    cli.types("hubs", expect![[""]]);
    host.signal("TERM");
    host.0.wait().unwrap();
}
