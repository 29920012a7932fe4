//! `rewind`, `restart`, and starts that are scheduled for later.

use expect_test::expect;

use perennial_tests::guest;

use crate::see::{Cli, workloads};

#[test]
fn what_failed_together_takes_one_rewind_and_a_time_limit_begins_again() {
    let cli = Cli::new();
    let files = tempfile::tempdir().unwrap();
    let grant = format!("{}::/files", files.path().display());
    cli.ok(&["deploy", "-q", &workloads(), "--grant-dir", &grant]);
    let _host = cli.serve();
    let both = "[\"/files/one\", \"/files/two\", \"/files/one\"]";
    cli.ok(&["start", "MendsAll", "--id", "b", "--input", both]);
    cli.see(&["wait", "b"]);
    for file in ["one", "two"] {
        std::fs::write(files.path().join(file), "").unwrap();
    }
    let told = cli.see(&["rewind", "b", "--all-failures", "--json"]);
    assert!(told.contains("\"remainingFailures\":[]"), "{told}");
    cli.check(
        &["wait", "b"],
        expect![[r#"
        3
    "#]],
    );
    cli.ok(&["start", "GoesInTime", "--id", "late", "--input", "5000"]);
    cli.check(
        &["wait", "late"],
        expect![[r#"
        ! error: instance "late" failed: Timeout: it was not done after <span>
        !   hint: `perennial history late` shows how it came to that
        exit code Some(1)
    "#]],
    );
    cli.ok(&["rewind", "late"]);
    cli.ok(&["raise-event", "late", "Go", "--data", "\"in time\""]);
    cli.check(
        &["wait", "late"],
        expect![[r#"
        "in time"
    "#]],
    );
}

#[test]
fn a_failed_instance_is_rewound_and_what_it_does_again_is_told() {
    let cli = Cli::new();
    let files = tempfile::tempdir().unwrap();
    let grant = format!("{}::/files", files.path().display());
    cli.ok(&["deploy", "-q", &workloads(), "--grant-dir", &grant]);
    let _host = cli.serve();
    cli.ok(&[
        "start",
        "Mendable",
        "--id",
        "m",
        "--input",
        "\"/files/late\"",
    ]);
    cli.check(
        &["wait", "m"],
        expect![[r#"
        ! error: instance "m" failed: Missing: there is no /files/late
        !   hint: `perennial history m` shows how it came to that
        exit code Some(1)
    "#]],
    );
    std::fs::write(files.path().join("late"), "").unwrap();
    cli.check(
        &["rewind", "m", "--reason", "it is there now"],
        expect![[r#"
        ! rewound m: 3 events are cut off
        !   runs again: activity "MustExist" (task 0)
    "#]],
    );
    cli.ok(&["raise-event", "m", "Go", "--data", "\"on\""]);
    cli.check(
        &["wait", "m"],
        expect![[r#"
        "on"
    "#]],
    );
    let status = cli.see(&["status", "m"]);
    assert!(status.contains("UTC: it is there now\n"), "{status}");
    cli.check(
        &["rewind", "m"],
        expect![[r#"
        ! error: instance "m": it is Completed, and only a Failed instance can be rewound
        exit code Some(4)
    "#]],
    );
    cli.check(
        &["restart", "m", "--new-id", "n"],
        expect![[r#"
        n
    "#]],
    );
    cli.check(
        &["restart", "m", "--new-id", "n"],
        expect![[r#"
        ! error: instance "n" exists already and is Running
        !   hint: `--new-id` alone makes a new id
        exit code Some(4)
    "#]],
    );
    cli.check(
        &["restart", "n"],
        expect![[r#"
        ! error: instance "n": it has not ended and is Running
        exit code Some(4)
    "#]],
    );
    cli.check(
        &["restart", "m", "--json"],
        expect![[r#"
        {"instanceId":"m","command":"restart","hosted":true}
    "#]],
    );
}

#[test]
fn what_was_undone_is_not_forgotten_by_a_rewind_and_what_could_not_be_read_is_put_aside() {
    let cli = Cli::new();
    let saga = guest("saga-trip");
    let approval = guest("human-approval");
    cli.ok(&["deploy", "-q", &saga.display().to_string()]);
    cli.ok(&["deploy", "-q", &approval.display().to_string()]);
    let _host = cli.serve();
    let trip = r#"{"city":"L","failing":["BookCar"]}"#;
    cli.ok(&["start", "BookTrip", "--id", "trip", "--input", trip]);
    cli.see(&["wait", "trip"]);
    let before = cli.see(&["history", "trip", "--json"]);
    cli.check(&["rewind", "trip"], expect![[r#"
        ! error: instance "trip" was not rewound: what completed after the failure that it would go back to, activity "CancelFlight" (task 3), activity "CancelHotel" (task 4), would be forgotten, though what it did in the world, such as to undo an earlier step, is not undone. `perennial restart` runs all of it again from its beginning; `perennial rewind --forget-completed` rewinds it all the same (`"forgetCompleted": true` in the body of `POST /api/v1/instances/ID/rewind`)
        exit code Some(4)
    "#]]);
    assert_eq!(cli.see(&["history", "trip", "--json"]), before);
    let told = cli.see(&["rewind", "trip", "--forget-completed"]);
    assert!(
        told.contains(r#"forgotten: activity "CancelHotel" (task 4), which had completed"#),
        "{told}"
    );
    cli.ok(&[
        "start",
        "Approve",
        "--id",
        "a",
        "--input",
        r#"{"purpose":"x"}"#,
    ]);
    cli.ok(&[
        "raise-event",
        "a",
        "Decision",
        "--data",
        r#"{"approved":"yes"}"#,
    ]);
    cli.see(&["wait", "a"]);
    cli.check(&["rewind", "a"], expect![[r#"
        ! rewound a: 4 events are cut off
        !   put aside: event "Decision" (number 0), which it failed on: raise it again with data that it can read
        !   stays failed: activity "Notify" (task 0) with "UnknownActivity": turn 1 took it in, before the turn that is gone back to, and what failed then was not asked for together with it (it was in turn 0): only a rewind of all failures runs it again
    "#]]);
    cli.ok(&[
        "raise-event",
        "a",
        "Decision",
        "--data",
        r#"{"approved":true,"by":"Ada"}"#,
    ]);
    cli.check(
        &["wait", "a"],
        expect![[r#"
        {"approved":true,"by":"Ada","escalated":false}
    "#]],
    );
}

#[test]
fn a_start_can_wait_for_its_time() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    cli.ok(&["start", "Wait", "--id", "w", "--at", "2999-01-01"]);
    let status = cli.see(&["status", "w", "--json"]);
    for part in [
        r#""runtimeStatus":"Pending""#,
        r#""scheduledTime":"#,
        r#""waitsFor":[{"kind":"start","due":"#,
    ] {
        assert!(status.contains(part), "{part} is not in {status}");
    }
    cli.ok(&["terminate", "w", "--reason", "not in this life"]);
    let ended = cli.see(&["wait", "w"]);
    assert!(
        ended.contains("was terminated: not in this life"),
        "{ended}"
    );
    let started = cli.see(&[
        "start",
        "Wait",
        "--id",
        "x",
        "--after",
        "10ms",
        "--wait=start",
    ]);
    assert!(started.starts_with("x\n"), "{started}");
    cli.check(
        &["wait", "x", "--for", "start"],
        expect![[r#"
        Running
    "#]],
    );
}

#[test]
fn what_a_restart_does_not_repeat_is_said() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    cli.ok(&["start", "Wait", "--id", "later", "--at", "2999-01-01"]);
    cli.ok(&["terminate", "later"]);
    cli.see(&["wait", "later"]);
    cli.check(
        &["restart", "later"],
        expect![[r#"
        later
        ! its schedule is not repeated: it begins now
    "#]],
    );
    cli.ok(&["start", "CountDown", "--id", "c", "--input", "3", "--wait"]);
    cli.check(&["restart", "c"], expect![[r#"
        c
        ! it had continued as new: it begins with the input that it continued with last, for earlier ones are not kept
    "#]]);
    cli.see(&["wait", "c"]);
    cli.ok(&["start", "Wait", "--id", "w", "--wait=start"]);
    cli.check(
        &["restart", "w", "--new-id", "x"],
        expect![[r#"
        x
    "#]],
    );
}
