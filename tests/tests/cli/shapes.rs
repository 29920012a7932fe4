//! What `--json` prints: the names and types that programs rely on. A change of what is expected here is a change for every one of them.

use std::collections::BTreeMap;

use expect_test::expect;
use perennial_tests::guest;
use serde_json::Value;

use crate::see::{Cli, hello, words, workloads};

/// A type, as it is told: of an object its fields, with a question mark where it may be absent.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Plain(&'static str),
    List(Option<Box<Self>>),
    Fields(BTreeMap<String, (bool, Self)>),
    Any,
}

impl Shape {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Plain("null"),
            Value::Bool(_) => Self::Plain("flag"),
            Value::Number(_) => Self::Plain("number"),
            Value::String(_) => Self::Plain("text"),
            Value::Array(items) => {
                let shapes = items.iter().map(Self::of);
                Self::List(shapes.reduce(Self::or).map(Box::new))
            }
            Value::Object(fields) => Self::Fields(
                fields
                    .iter()
                    .map(|(name, value)| match name.as_str() {
                        // What orchestrations are given and give is theirs.
                        "input" | "output" | "customStatus" | "data" | "value" | "details" => {
                            (name.clone(), (true, Self::Any))
                        }
                        _ => (name.clone(), (true, Self::of(value))),
                    })
                    .collect(),
            ),
        }
    }

    /// What is either.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fields(mut some), Self::Fields(others)) => {
                for (name, (always, _)) in &mut some {
                    *always &= others.contains_key(name);
                }
                for (name, (always, shape)) in others {
                    let both = match some.remove(&name) {
                        Some((still, before)) => (still && always, before.or(shape)),
                        None => (false, shape),
                    };
                    some.insert(name, both);
                }
                Self::Fields(some)
            }
            (Self::List(some), Self::List(others)) => Self::List(match (some, others) {
                (Some(some), Some(others)) => Some(Box::new(some.or(*others))),
                (some, others) => some.or(others),
            }),
            (some, other) if some == other => some,
            _ => Self::Any,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(name) => f.write_str(name),
            Self::Any => f.write_str("any"),
            Self::List(None) => f.write_str("[]"),
            Self::List(Some(item)) => write!(f, "[{item}]"),
            Self::Fields(fields) => {
                f.write_str("{")?;
                for (i, (name, (always, shape))) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    let mark = if *always { "" } else { "?" };
                    write!(f, "{comma}{name}{mark}: {shape}")?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Names of fields, at any depth that the help tells of.
fn names(shape: &Shape, depth: usize, found: &mut Vec<String>) {
    match shape {
        Shape::List(Some(item)) => names(item, depth, found),
        Shape::Fields(fields) if depth > 0 => {
            for (name, (_, shape)) in fields {
                found.push(name.clone());
                names(shape, depth - 1, found);
            }
        }
        _ => {}
    }
}

/// A help text as if lines had no end.
fn unwrapped(help: &[u8]) -> String {
    let text = std::str::from_utf8(help).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_programs_read_has_the_shape_that_the_help_tells() {
    if perennial_tests::postgres::skips("it says `file`, which is `database` there") {
        return;
    }
    let cli = Cli::new();
    let copy = cli.dir.path().join("copy.db");
    let saved = cli.dir.path().join("saved.wasm");
    let project = cli.dir.path().join("flow");
    let pages = cli.dir.path().join("pages");
    let lines = [
        format!("deploy {} {}", workloads(), hello()),
        format!("deploy --check {}", hello()),
        format!(
            "deploy -q {} --grant-env A=1",
            guest("human-approval").display()
        ),
        "modules".to_owned(),
        "modules --stored".to_owned(),
        format!("modules save human-approval {}", saved.display()),
        "deploy --stored human-approval".to_owned(),
        "grants human-approval --allow-http example.com".to_owned(),
        format!("inspect {}", hello()),
        format!("run {} --id r1 --input null", hello()),
        format!("new {}", project.display()),
        format!("man {}", pages.display()),
        "doctor".to_owned(),
        "start Wait --id w1 --tag team=a".to_owned(),
        "start HelloSequence --id later --at 2099-01-01".to_owned(),
        "raise-event w1 Other".to_owned(),
        "suspend w1".to_owned(),
        "resume w1".to_owned(),
        "suspend --name Wait".to_owned(),
        "status r1 --history".to_owned(),
        "status later".to_owned(),
        "status r1 --tree".to_owned(),
        "status r1 --urls http://localhost:7071".to_owned(),
        "history r1".to_owned(),
        "history r1 --timeline".to_owned(),
        "list --limit 2 --input --output".to_owned(),
        "list --counts".to_owned(),
        "values r1".to_owned(),
        "tag w1 owner=eve".to_owned(),
        "wait r1".to_owned(),
        "restart r1 --new-id r2".to_owned(),
        "terminate w1".to_owned(),
        "terminate --name Wait --dry-run".to_owned(),
        "purge r1".to_owned(),
        "purge --status Completed --dry-run".to_owned(),
        "keys create mine".to_owned(),
        "keys list".to_owned(),
        "workers".to_owned(),
        "hubs create other".to_owned(),
        "hubs".to_owned(),
        "hubs show".to_owned(),
        "hubs set --retain-failed 7d".to_owned(),
        "delete-task-hub other --yes".to_owned(),
        "modules remove human-approval".to_owned(),
        "modules --gc --dry-run".to_owned(),
        format!("backup {}", copy.display()),
        format!("restore {} --task-hub copied", copy.display()),
    ];
    let (mut told, mut untold) = (String::new(), String::new());
    for line in lines {
        let typed = words(&line);
        let mut args: Vec<&str> = typed.iter().map(String::as_str).collect();
        args.push("--json");
        let output = cli.command(&args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "{line}: {text}");
        let shape = Shape::of(&serde_json::from_str(&text).unwrap());
        let verb: Vec<&str> = line
            .split_whitespace()
            .filter(|word| !word.contains('/'))
            .filter(|word| !word.contains('='))
            .collect();
        told += &format!("{}\n    {shape}\n", verb.join(" "));

        let help = cli.command(&[args[0], "--help"]).output().unwrap();
        let help = unwrapped(&help.stdout);
        let shown = if help.contains("perennial status --json`") || help.contains("as status shows")
        {
            let status = cli.command(&["status", "--help"]).output().unwrap();
            help + &unwrapped(&status.stdout)
        } else {
            help
        };
        let shown = if shown.contains("history: as `perennial history --json`") {
            let history = cli.command(&["history", "--help"]).output().unwrap();
            shown + &unwrapped(&history.stdout)
        } else {
            shown
        };
        let is_word = |c: char| !c.is_ascii_alphanumeric();
        let said: Vec<&str> = shown.split(is_word).collect();
        let mut found = Vec::new();
        names(&shape, 2, &mut found);
        // What stands for a name that differs from hub to hub is in capitals.
        let free = [
            "Completed",
            "Pending",
            "Running",
            "Suspended",
            "Terminated",
            "Failed",
            "team",
            "owner",
        ];
        found.retain(|name| !said.contains(&name.as_str()) && !free.contains(&name.as_str()));
        found.retain(|name| !name.contains('-'));
        if !found.is_empty() {
            untold += &format!("{line}: {found:?}\n");
        }
    }
    assert!(untold.is_empty(), "the help does not tell of\n{untold}");
    expect![[r#"
        deploy
            [{digest: text, module: text, names: [{change: text, kind: text, name: text}]}]
        deploy --check
            [{compatible: number, digest: text, grants: {after: {dirs: [], env: [], httpHosts: []}, before: {dirs: [], env: [], httpHosts: []}}, imports: {added: [], removed: []}, incompatible: number, instances: [], module: text, names: [{change: text, kind: text, name: text}]}]
        deploy -q --grant-env
            [{digest: text, module: text, names: [{change: text, kind: text, name: text}]}]
        modules
            [{definitions: [{kind: text, name: text}], deployedTime: text, digest: text, grants: {dirs: [], env: [text], httpHosts: []}, imports: [text], limits: {}, name: text, size: number}]
        modules --stored
            [{contract: text, definitions: [{kind: text, name: text}], deployedAs: [text], digest: text, imports: [text], size: number, storedTime: text, versionsOf: [text]}]
        modules save human-approval
            {digest: text, file: text, size: number}
        deploy --stored human-approval
            [{digest: text, module: text, names: [{before: text, change: text, kind: text, name: text}]}]
        grants human-approval --allow-http example.com
            {human-approval: {dirs: [], env: [text], httpHosts: [text]}}
        inspect
            {contract: text, definitions: [{kind: text, name: text}], digest: text, grantable: [text], imports: [text], name: text, size: number}
        run --id r1 --input null
            {createdTime: text, executionId: text, historyBytes: number, historyEvents: number, instanceId: text, lastUpdatedTime: text, module: text, name: text, output: any, run: text, runtimeStatus: text, startedTime: text}
        new
            {dir: text, name: text, orchestration: text}
        man
            {dir: text, files: [text]}
        doctor
            [{check: text, found: text, level: text}]
        start Wait --id w1 --tag
            {hosted: flag, instanceId: text, name: text}
        start HelloSequence --id later --at 2099-01-01
            {hosted: flag, instanceId: text, name: text}
        raise-event w1 Other
            {command: text, hosted: flag, instanceId: text}
        suspend w1
            {changed: flag, command: text, hosted: flag, instanceId: text}
        resume w1
            {changed: flag, command: text, hosted: flag, instanceId: text}
        suspend --name Wait
            {done: number, dryRun: flag, hosted: flag, matched: number, skipped: number}
        status r1 --history
            {createdTime: text, executionId: text, history: [{at: text, attempt?: number, endedAt?: text, event: text, executionId?: text, input?: any, instanceId?: text, module?: text, name?: text, now?: text, number: number, output?: any, runBy?: text, startedAt?: text, task?: number, turn: number}], historyBytes: number, historyEvents: number, instanceId: text, lastUpdatedTime: text, module: text, name: text, output: any, run: text, runtimeStatus: text, startedTime: text}
        status later
            {createdTime: text, executionId: text, historyBytes: number, historyEvents: number, instanceId: text, lastUpdatedTime: text, module: text, name: text, run: text, runtimeStatus: text, scheduledTime: text, waitsFor: [{due: text, kind: text}]}
        status r1 --tree
            {children: [], instance: {createdTime: text, executionId: text, historyBytes: number, historyEvents: number, instanceId: text, lastUpdatedTime: text, module: text, name: text, output: any, run: text, runtimeStatus: text, startedTime: text}, more: flag}
        status r1 --urls
            {id: text, purgeHistoryDeleteUri: text, restartPostUri: text, resumePostUri: text, rewindPostUri: text, sendEventPostUri: text, statusQueryGetUri: text, suspendPostUri: text, terminatePostUri: text}
        history r1
            [{at: text, attempt?: number, endedAt?: text, event: text, executionId?: text, input?: any, instanceId?: text, module?: text, name?: text, now?: text, number: number, output?: any, runBy?: text, startedAt?: text, task?: number, turn: number}]
        history r1 --timeline
            [{attempts: number, endedMs: number, kind: text, name: text, outcome: text, scheduledMs: number, startedMs: number, task: number}]
        list --limit 2 --input --output
            {continuationToken: text, instances: [{createdTime: text, executionId: text, historyBytes: number, historyEvents: number, instanceId: text, lastUpdatedTime: text, module: text, name: text, run: text, runtimeStatus: text, scheduledTime?: text, tags?: {team: text}}]}
        list --counts
            {Completed: number, Pending: number}
        values r1
            []
        tag w1
            {instanceId: text, tags: {owner: text, team: text}}
        wait r1
            {createdTime: text, executionId: text, historyBytes: number, historyEvents: number, instanceId: text, lastUpdatedTime: text, module: text, name: text, output: any, run: text, runtimeStatus: text, startedTime: text}
        restart r1 --new-id r2
            {command: text, hosted: flag, instanceId: text}
        terminate w1
            {changed: flag, command: text, hosted: flag, instanceId: text}
        terminate --name Wait --dry-run
            {asOf: text, done: number, dryRun: flag, hosted: flag, matched: number, skipped: number}
        purge r1
            {childrenLeft: number, deleted: number, dryRun: flag, instanceId: text}
        purge --status Completed --dry-run
            {asOf: text, done: number, dryRun: flag, hosted: flag, matched: number, skipped: number}
        keys create mine
            {createdTime: text, id: text, key: text, name: text, role: text}
        keys list
            [{createdTime: text, id: text, name: text, role: text}]
        workers
            {connected: [], waiting: []}
        hubs create other
            {bytes: number, createdTime: text, file: text, taskHub: text}
        hubs
            [{bytes: number, createdTime: text, file: text, taskHub: text}]
        hubs show
            {bytes: number, createdTime: text, file: text, freeBytes: number, freePartitions: number, hasGarbage: flag, historyBytes: number, historyEvents: number, historyTurns: number, hosts: [], instances: {Pending: number, Terminated: number}, moduleBytes: number, modules: number, partitions: number, retention: {completed: null, failed: null, terminated: null}, storedModules: number, taskHub: text, usedBytes: number, waitingMessages: number}
        hubs set --retain-failed 7d
            {completed: null, failed: number, terminated: null}
        delete-task-hub other --yes
            {deleted: flag, taskHub: text}
        modules remove human-approval
            {removed: text}
        modules --gc --dry-run
            {collected: [{digest: text, size: number}], dryRun: flag}
        backup
            {bytes: number, file: text, taskHub: text}
        restore --task-hub copied
            {bytes: number, file: text, taskHub: text}
    "#]].assert_eq(&told);
}
