//! `perennial durable`: what somebody who knows `func durable` types, and what they are used to seeing.

use expect_test::expect;

use crate::see::{Cli, workloads};

/// A file of JSON, for `@`.
fn file(cli: &Cli, name: &str, text: &str) -> String {
    let path = cli.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    format!("@{}", path.display())
}

#[test]
fn durable_starts_and_shows_instances_as_func_does() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    let input = file(&cli, "counter-data.json", " 1\n");
    cli.types(
        &format!("durable start-new --function-name Chain --id e1 --input {input}"),
        expect![[r#"
            Started 'Chain' at <date> <time>. Instance ID: 'e1'.
        "#]],
    );
    cli.ok(&["wait", "e1"]);
    cli.types(
        "durable get-runtime-status --id e1",
        expect![[r#"
        {
          "CompletedTime": "<timestamp>",
          "CompressedSize": 0,
          "CreatedTime": "<timestamp>",
          "Input": null,
          "LastUpdatedTime": "<timestamp>",
          "Name": "Chain",
          "OrchestrationInstance": {
            "InstanceId": "e1",
            "ExecutionId": "<hex>"
          },
          "OrchestrationStatus": 1,
          "Output": null,
          "ParentInstance": null,
          "Size": <n>,
          "Status": null,
          "Tags": null,
          "Version": null,
          "Generation": null,
          "ScheduledStartTime": null,
          "FailureDetails": null
        }
    "#]],
    );
    cli.types(
        "durable get-runtime-status --id e1 --show-input true --show-output True",
        expect![[r#"
            {
              "CompletedTime": "<timestamp>",
              "CompressedSize": 0,
              "CreatedTime": "<timestamp>",
              "Input": "1",
              "LastUpdatedTime": "<timestamp>",
              "Name": "Chain",
              "OrchestrationInstance": {
                "InstanceId": "e1",
                "ExecutionId": "<hex>"
              },
              "OrchestrationStatus": 1,
              "Output": "0",
              "ParentInstance": null,
              "Size": <n>,
              "Status": null,
              "Tags": null,
              "Version": null,
              "Generation": null,
              "ScheduledStartTime": null,
              "FailureDetails": null
            }
        "#]],
    );
    cli.types(
        "durable get-history --id e1",
        expect![[r#"
        [
          {
            "EventType": "OrchestratorStarted",
            "EventId": -1,
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          },
          {
            "EventType": "ExecutionStarted",
            "EventId": -1,
            "OrchestrationInstance": {
              "ExecutionId": "<hex>",
              "InstanceId": "e1"
            },
            "ParentInstance": null,
            "Name": "Chain",
            "Version": "",
            "Input": "1",
            "Tags": {},
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          },
          {
            "EventType": "TaskScheduled",
            "EventId": 0,
            "Name": "Echo",
            "Version": "",
            "Input": "0",
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          },
          {
            "EventType": "OrchestratorCompleted",
            "EventId": -1,
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          },
          {
            "EventType": "OrchestratorStarted",
            "EventId": -1,
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          },
          {
            "EventType": "TaskCompleted",
            "EventId": -1,
            "TaskScheduledId": 0,
            "Result": "0",
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          },
          {
            "EventType": "ExecutionCompleted",
            "EventId": -1,
            "OrchestrationStatus": "Completed",
            "Result": "0",
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          },
          {
            "EventType": "OrchestratorCompleted",
            "EventId": -1,
            "IsPlayed": false,
            "Timestamp": "<timestamp>"
          }
        ]
    "#]],
    );
    // A text without quotes is a text, as it always was.
    cli.ok(&[
        "durable",
        "start-new",
        "--function-name",
        "Sleep",
        "--id",
        "e2",
        "--input",
        "Tokyo",
    ]);
    cli.types("wait e2", expect![[r#"
        ! error: instance "e2" failed: InvalidInput: the input of orchestration "Sleep" is not what was expected, `u64`: invalid type: string "Tokyo", expected u64 at line 1 column 7
        !   hint: `perennial history e2` shows how it came to that
        exit code Some(1)
    "#]]);
}

#[test]
fn durable_lists_in_pages_with_a_token_to_go_on() {
    let cli = Cli::deployed();
    for id in ["p1", "p2", "p3"] {
        cli.ok(&["start", "Wait", "--id", id, "-q"]);
    }
    let first = cli.see(&["durable", "get-instances", "--top", "2"]);
    assert_eq!(
        first.matches("\"OrchestrationStatus\": 6").count(),
        2,
        "{first}"
    );
    let args = [
        "durable",
        "get-instances",
        "--top",
        "2",
        "--created-after",
        "2021-03-10T13:57:31Z",
        "--runtime-status",
        "running  pending",
    ];
    let output = String::from_utf8(cli.command(&args).output().unwrap().stdout).unwrap();
    let token = output.trim_end().rsplit('\'').nth(1).unwrap().to_owned();
    assert!(!token.is_empty(), "{output}");
    // A token belongs to its filters.
    let mut args = args.to_vec();
    args.extend(["--continuation-token", &token]);
    let second = cli.see(&args);
    assert!(
        second.contains("\"InstanceId\": \"p1\"") && !second.contains("\"InstanceId\": \"p2\""),
        "{second}"
    );
    assert!(
        second.ends_with("Continuation token for next set of results: ''\n"),
        "{second}"
    );
    cli.types(
        "durable get-instances --runtime-status canceled --created-before 2021-03-10T23:59Z",
        expect![[r#"
            []
            Continuation token for next set of results: ''
        "#]],
    );
    cli.types(
"durable get-instances --runtime-status done",
        expect![[r#"
            ! error: invalid value 'done' for '--runtime-status <STATUS>...': not a status; there are Pending, Running, Suspended, Completed, Failed, Terminated
            ! 
            ! For more information, try '--help'.
            exit code Some(1)
        "#]],
    );
}

#[test]
fn durable_raises_events_and_terminates_as_func_does() {
    let cli = Cli::deployed();
    let _host = cli.serve();
    cli.ok(&["start", "Wait", "--id", "w1"]);
    cli.ok(&["start", "Wait", "--id", "w2"]);
    let data = file(&cli, "eventdata.json", "[1, 2, 3]");
    cli.types(
        &format!("durable raise-event --id w1 --event-name Go --event-data {data}"),
        expect![[r#"
            Raised event 'Go' to instance 'w1'.
        "#]],
    );
    cli.types(
"wait w1", expect![[r#"
        ! error: instance "w1" failed: InvalidInput: the data of event "Go" is not what was expected, `alloc::string::String`: invalid type: sequence, expected a string at line 1 column 0
        !   hint: `perennial history w1` shows how it came to that
        exit code Some(1)
    "#]]);
    cli.types(
        "durable raise-event --id w1 --event-name MyOtherEvent --event-data 3",
        expect![[r#"
            ! error: instance "w1": it has ended and is Failed
            exit code Some(1)
        "#]],
    );
    let terminated = cli.see(&[
        "durable",
        "terminate",
        "--id",
        "w2",
        "--reason",
        "Found a bug",
    ]);
    let sent = "Sent a termination message to instance 'w2'. Waiting up to 30 seconds for the orchestration to actually terminate...\n";
    // It may be over before it is looked at.
    assert_eq!(
        terminated.trim_start_matches(sent),
        "Successfully terminated 'w2'\n"
    );
    assert!(cli.see(&["status", "w2"]).contains("Found a bug"));
    cli.types(
        "durable terminate --id w2",
        expect![[r#"
        Successfully terminated 'w2'
    "#]],
    );
    cli.types(
        "durable terminate --id w1",
        expect![[r#"
        ! error: Instance did not terminate within the given timeout.
        !   because: instance 'w1' is Failed
        exit code Some(1)
    "#]],
    );
    cli.types(
        "durable terminate --id nobody",
        expect![[r#"
            Failed to find instance 'nobody'. No instance was terminated.
        "#]],
    );
    cli.types(
        "durable get-runtime-status --id nobody",
        expect![[r#"
            Could not find an orchestration instance with id 'nobody'
        "#]],
    );
}

#[test]
fn durable_says_what_is_wrong_with_exit_code_1() {
    let cli = Cli::deployed();
    cli.types(
        "durable start-new --function-name Wait --input @nowhere.json",
        expect![[r#"
            ! error: Could not find input file at 'nowhere.json'
            !   because: No such file or directory
            exit code Some(1)
        "#]],
    );
    let broken = file(&cli, "broken.json", "{");
    cli.types(
&format!("durable start-new --function-name Wait --input {broken}"),
        expect![[r#"
            ! error: Could not deserialize the input to the orchestration instance into a valid JSON object.
            !   because: DIR/broken.json: the text is not valid JSON, or not of the expected form: EOF while parsing an object at line 1 column 1
            exit code Some(1)
        "#]],
    );
    cli.types(
        "durable start-new",
        expect![[r#"
        ! error: the following required arguments were not provided:
        !   --function-name <NAME>
        ! 
        ! Usage: perennial durable start-new --function-name <NAME> --data-dir <DIR>
        ! 
        ! For more information, try '--help'.
        exit code Some(1)
    "#]],
    );
    cli.types(
"durable get-instances --connection-string-setting NOT_SET_ANYWHERE",
        expect![[r#"
            ! error: No storage connection string found.
            !   hint: the environment variable NOT_SET_ANYWHERE, which --connection-string-setting names, must hold the data directory, or the address of a PostgreSQL database
            exit code Some(1)
        "#]],
    );
    cli.types(
"durable get-instances --task-hub-name TestTaskHub",
        expect![[r#"
            ! error: task hub "TestTaskHub": there is no task hub at DIR/TestTaskHub.db; deploy a module or start a host to make it
            !   hint: there are: default
            exit code Some(1)
        "#]],
    );
    let unknown = cli.see(&["durable", "start-new", "--function-name", "Nothing"]);
    assert!(unknown.ends_with("exit code Some(1)\n"), "{unknown}");
}

#[test]
fn durable_finds_its_data_directory_in_the_variable_that_is_named() {
    if perennial_tests::postgres::skips("the variable names a directory of files") {
        return;
    }
    let (here, there) = (Cli::new(), Cli::new());
    let dir = there.dir.path().to_str().unwrap();
    here.ok(&[
        "--data-dir",
        dir,
        "--task-hub",
        "TestTaskHub",
        "deploy",
        &workloads(),
    ]);
    let args = [
        "durable",
        "start-new",
        "--function-name",
        "Wait",
        "--id",
        "t1",
        "--connection-string-setting",
        "MY_STORE",
        "--task-hub-name",
        "TestTaskHub",
        "--json",
    ];
    let output = here.command(&args).env("MY_STORE", dir).output().unwrap();
    let started = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        started,
        "{\"instanceId\":\"t1\",\"name\":\"Wait\",\"hosted\":false}\n"
    );
    there.ok(&["--task-hub", "TestTaskHub", "status", "t1"]);
}

#[test]
fn durable_purges_and_deletes_a_task_hub_as_func_does() {
    let cli = Cli::deployed();
    {
        let host = cli.serve();
        for id in ["c1", "c2"] {
            cli.ok(&["start", "Chain", "--id", id, "--input", "1", "--wait"]);
        }
        cli.ok(&["start", "RunsFailing", "--id", "f1"]);
        cli.see(&["wait", "f1"]);
        cli.ok(&["start", "Wait", "--id", "w1"]);
        cli.types(
            "durable purge-history --created-before 2021-11-14T19:35:00.0000000Z --runtime-status failed",
            expect![[r#"
                Purged orchestration history for all instances created between '<date> <time>' and '<date> <time>' and whose runtime status matched one of the following: [Failed]
                Instances deleted: 0
                Rows deleted: 0
            "#]],
        );
        cli.types(
            "durable purge-history --runtime-status 'completed canceled'",
            expect![[r#"
                Purged orchestration history for all instances created between '<date> <time>' and '<date> <time>' and whose runtime status matched one of the following: [Completed]
                Instances deleted: 2
                Rows deleted: 12
            "#]],
        );
        cli.types("durable purge-history", expect![[r#"
            Purged orchestration history for all instances created between '<date> <time>' and '<date> <time>'
            Instances deleted: 1
            Rows deleted: 6
        "#]]);
        cli.types(
            "durable delete-task-hub",
            expect![[r#"
            ! error: task hub "default": the task hub is in use by perennial serve (process <n>)
            !   hint: stop its hosts first; every other command works beside them
            exit code Some(1)
        "#]],
        );
        host.stops();
    }
    cli.ok(&["status", "w1"]);
    cli.types(
        "durable delete-task-hub --task-hub-name default",
        expect![[r#"
            Task hub 'default' successfully deleted.
        "#]],
    );
    assert!(!cli.dir.path().join("default.db").exists());
}
