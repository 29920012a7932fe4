//! The same commands against the file of a hub and, with `--url`, against the host of another one: what a user sees is the same.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use expect_test::expect;
use perennial_tests::guest;

use crate::see::{Cli, Process, hello, words, workloads};

/// A hub with a host, and one of the two ways to it.
struct Side {
    cli: Cli,
    url: Option<String>,
    key: String,
    _host: Process,
}

/// Where nothing is: a command that is sent to a host has no business with a directory.
const NOWHERE: &str = "/nowhere/at/all";

impl Side {
    fn new(is_remote: bool) -> Self {
        let cli = Cli::new();
        let made = cli.command(&["keys", "create", "test", "-q"]).output();
        let key = String::from_utf8(made.unwrap().stdout).unwrap();
        let (host, url) = serve(&cli, &[]);
        Self {
            cli,
            url: is_remote.then_some(url),
            key: key.trim().to_owned(),
            _host: host,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.cli.command(args);
        if let Some(url) = &self.url {
            command
                .env("PERENNIAL_DATA_DIR", NOWHERE)
                .args(["--url", url, "--key", &self.key]);
        }
        command
    }

    /// What a user sees, without what says where the hub is.
    fn see(&self, line: &str) -> String {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = self.cli.tell(&self.command(&words).output().unwrap());
        let told = told.replace("DIR/default.db", "PLACE");
        match &self.url {
            Some(url) => told.replace(&format!("default at {url}"), "PLACE"),
            None => told,
        }
    }
}

impl Side {
    /// Returns when an instance has a status: a suspension takes effect soon after it is accepted.
    fn until(&self, id: &str, status: &str) {
        let begun = std::time::Instant::now();
        while !self
            .see(&format!("status {id} --json"))
            .contains(&format!("\"runtimeStatus\":\"{status}\""))
        {
            assert!(begun.elapsed().as_secs() < 30, "{id} is never {status}");
        }
    }
}

/// A host with an HTTP API, and its address.
pub(crate) fn serve(cli: &Cli, args: &[&str]) -> (Process, String) {
    let mut command = cli.command(&["serve", "--json", "--log", "error"]);
    command.args(["--listen", "127.0.0.1:0"]).args(args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut process = Process(child.unwrap());
    let ready: serde_json::Value = serde_json::from_str(&process.line()).unwrap();
    let url = ready["url"].as_str().unwrap().to_owned();
    (process, url)
}

/// What is typed, line by line. Everything that is waited for is waited for, so that both hubs are in the same state at each line.
fn script() -> Vec<String> {
    let lines = format!(
        "deploy {workloads} {hello}
        deploy {workloads} --json
        hubs show --json
        deploy {approval} --grant-env SECRET=hush --allow-http api.example.com
        deploy nowhere.wasm
        modules
        modules --json
        modules --stored --json
        modules save human-approval nowhere/at/all.wasm
        modules save 000000000000 saved.wasm
        deploy --stored human-approval
        deploy --stored 000000000000 --json
        deploy --stored workloads --name workloads
        grants human-approval
        grants human-approval --grant-env OTHER=1 --json
        grants human-approval --set --json
        grants nothing --allow-http x.example.com
        start HelloSequence --id h1 --tag team=a --wait
        start HelloSequence --id h1 --reuse never
        start Nothing --id n1
        start HelloSequence --id bad/id
        start Wait --id w1 --input null
        start Wait --id w2 --json
        start Wait --id later --at 2099-01-01
        start ChildSum --id family --input 2.0 --wait
        start ChildSum --id family --input 1 --reuse any --wait
        start Panics --id p1 --wait=start
        wait p1
        wait w1 --for start
        wait w2 --for start --json
        wait w1 --timeout 0s
        wait nobody
        start Stages --id s1
        raise-event s1 Go --data '\"paid\"'
        values s1 stage --wait --is '\"paid\"'
        values s1 stage
        values s1 none
        values s1
        values s1 --json
        values s1 stage --json
        values s1 stage --wait --since 1 --json
        values s1 stage --wait --is 7 --timeout 0s
        values nobody
        values nobody stage --wait
        tag s1 owner=eve stage=mine
        tag s1 --remove owner --json
        tag s1
        tag s1 a=b --remove a
        tag s1 =b
        tag nobody a=b
        list --tag stage=mine
        status s1
        status s1 --json
        raise-event s1 Go --data '\"end\"'
        wait s1
        values s1 stage --wait --is 7
        values s1 stage
        tag s1 late=yes
        status h1
        status h1 --json --history
        status w1 --input
        status later
        status later --json
        status family --tree
        status family --tree --json
        status nobody
        status ..
        status h1 --urls http://localhost:7071/runtime/webhooks/durabletask
        history h1
        history h1 --json
        history h1 --timeline
        history family
        history later
        history nobody
        list --oldest-first --name Wait
        list --json --limit 2 --oldest-first --input --output
        list --status Running
        list --name HelloSequence --tag team=a --prefix h --created-from 2020-01-01 --created-to 2099-01-01
        list --waits-for event:go --updated-from 2020-01-01 --updated-to 2099-01-01
        list --waits-for cake
        list --failure-kind Gone --counts
        list --status Canceled
        list --counts
        list --counts --json --name Wait
        list --continuation-token nonsense
        raise-event w1 Other --data '{{\"b\": \"\u{fc}\"}}'
        raise-event nobody Go
        raise-event h1 Go
        raise-event w1 Go --data nonsense
        suspend w1 --reason 'for a while'
        until w1 Suspended
        status w1
        resume w1 --reason 'go on'
        until w1 Running
        resume h1
        rewind h1
        rewind p1 --reason again --json
        wait p1
        terminate w1 --reason 'it is over' --wait
        terminate w1
        history w1
        restart h1
        wait h1
        restart h1 --new-id h2
        wait h2 --json
        restart h1 --new-id h2
        restart nobody
        suspend --name Wait --dry-run
        suspend --name Wait --prefix w2 --json
        until w2 Suspended
        resume --status Suspended --json
        until w2 Running
        terminate --prefix w --yes
        terminate --status Canceled --yes
        wait w2
        purge later
        purge h2
        purge h2
        purge family --recursive --json
        purge --status Failed --dry-run
        purge --status Failed --yes --json
        hubs set --retain-completed 7d
        keys list
        keys revoke nothing
        workers
        workers --json
        modules remove human-approval
        modules remove human-approval
        modules --gc --dry-run
        modules --gc --json
        run {hello} --id r1
        durable get-runtime-status --id h1
        durable get-history --id h1
        durable start-new --function-name HelloSequence --id d1
        durable raise-event --id nobody --event-name x
        durable terminate --id h1
        durable get-instances --top 9 --runtime-status Terminated",
        workloads = workloads(),
        hello = hello(),
        approval = guest("human-approval").display(),
    );
    lines.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_command_shows_the_same_over_http() {
    let (file, http) = (Side::new(false), Side::new(true));
    let mut differ = String::new();
    for line in script() {
        if let Some(("until", waits)) = line.split_once(' ') {
            let (id, status) = waits.split_once(' ').unwrap();
            file.until(id, status);
            http.until(id, status);
            continue;
        }
        let (here, there) = (file.see(&line), without_address(&http.see(&line)));
        if outline(&here) != outline(&there) {
            differ += &format!("$ perennial {line}\n--- file\n{here}--- http\n{there}\n");
        }
    }
    assert!(differ.is_empty(), "{differ}");
}

/// The text without the address in the commands that it tells to type.
fn without_address(told: &str) -> String {
    const OPTION: &str = "`perennial --url ";
    let mut parts = told.split(OPTION);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for rest in parts {
        let (_, rest) = rest.split_once(' ').expect("a command after the address");
        text += &format!("`perennial {rest}");
    }
    text
}

/// The text without ids of executions, which are 32 digits and stand in the ids of children.
fn without_ids(told: &str) -> String {
    let (mut text, mut run) = (String::new(), String::new());
    for c in told.chars().chain(['\0']) {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            run.push(c);
        } else {
            text.push_str(if run.len() == 32 { "<id>" } else { &run });
            run.clear();
            text.push(c);
        }
    }
    text
}

/// The text without the numbers that follow such words.
fn without_numbers(told: &str, after_words: &str) -> String {
    let mut parts = told.split(after_words);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |before, after| {
        let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{before}{after_words}{rest}")
    })
}

/// The text without the numbers that differ: a module that came through the file leaves room there; versions of values are numbers of transactions.
fn without_bytes(told: &str) -> String {
    let told = without_numbers(told, "\"version\":");
    let mut told = without_numbers(&told, "http://127.0.0.1:");
    for key in [
        "\"bytes\":",
        "\"usedBytes\":",
        "\"freeBytes\":",
        "\"processId\":",
    ] {
        if let Some((before, after)) = told.split_once(key) {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || "<n>".contains(c));
            told = format!("{before}{key}N{rest}");
        }
    }
    if let Some((before, (_, after))) = told
        .split_once("iB in use, ")
        .and_then(|(before, after)| Some((before, after.split_once(" free")?)))
    {
        told = format!("{before}iB in use, N free{after}");
    }
    told
}

/// What is measured differs from run to run, and what is made up: sizes, numbers of processes, ids of executions within other words, and how wide a column is.
fn outline(told: &str) -> String {
    let mut lines = Vec::new();
    for line in without_ids(&without_bytes(told)).lines() {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| {
                let is_id = |c: char| c.is_ascii_hexdigit() || c == '-';
                if [8, 36].contains(&word.len()) && word.chars().all(is_id) {
                    "<id>".to_owned()
                } else if word.contains("=")
                    && word.trim_matches(['=', '.', 'x', '>', '-', '*']).is_empty()
                {
                    "<picture>".to_owned()
                } else {
                    word.to_owned()
                }
            })
            .collect();
        lines.push(words.join(" "));
    }
    lines.join("\n")
}

#[test]
fn what_needs_the_files_of_a_hub_is_refused_over_http() {
    let cli = Cli::new();
    let see = |line: &str| {
        let words = words(&format!("{line} --url http://127.0.0.1:9"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cli.see(&words)
    };
    let refused = [
        "serve",
        "backup copy.db",
        "restore copy.db",
        "doctor",
        "check",
        "dev",
        "hubs",
        "hubs create other",
        "delete-task-hub other --yes",
        "durable delete-task-hub",
        "deploy --check x.wasm",
        "new project",
        "build",
        "inspect x.wasm",
        "completions bash",
        "man pages",
    ];
    let mut told = String::new();
    for line in refused {
        let seen = see(line);
        assert!(seen.ends_with("exit code Some(2)\n"), "{line}: {seen}");
        told += seen.lines().next().unwrap_or_default();
        told.push('\n');
    }
    expect![[r#"
        ! error: `perennial serve` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial backup` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial restore` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial doctor` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial check` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial dev` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial hubs list` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial hubs create` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial delete-task-hub` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial durable delete-task-hub` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial deploy --check` is not done over HTTP: it needs the files of the task hub, or its database
        ! error: `perennial new` is not done over HTTP: it uses no task hub
        ! error: `perennial build` is not done over HTTP: it uses no task hub
        ! error: `perennial inspect` is not done over HTTP: it uses no task hub
        ! error: `perennial completions` is not done over HTTP: it uses no task hub
        ! error: `perennial man` is not done over HTTP: it uses no task hub
    "#]]
    .assert_eq(&told);
    // An address that is only in the environment is no reason not to do what needs no hub.
    let mut completions = cli.command(&["completions", "bash"]);
    completions.env("PERENNIAL_URL", "http://127.0.0.1:9");
    assert!(completions.output().unwrap().status.success());
}

#[test]
fn keys_are_asked_for_where_the_host_wants_them_or_where_it_matters() {
    let cli = Cli::new();
    let key = |args: &[&str]| {
        let made = cli.command(args).output().unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let admin = key(&["keys", "create", "all", "-q"]);
    let reader = key(&["keys", "create", "eyes", "--read-only", "-q"]);
    cli.ok(&["deploy", "-q", &hello()]);
    let (host, url) = serve(&cli, &["--require-key"]);
    let see = |line: &str, key: Option<&str>| {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = cli.command(&words);
        command.env("PERENNIAL_URL", &url);
        key.map(|key| command.env("PERENNIAL_KEY", key));
        let told = cli.tell(&command.output().unwrap());
        assert!(!key.is_some_and(|key| told.contains(key)), "{told}");
        told.replace(&url, "URL")
    };
    let told = [
        see("list", None),
        see("list", Some("wrong")),
        see("list --counts", Some(&reader)),
        see("start HelloSequence", Some(&reader)),
        see("keys list --json", Some(&reader)),
        see("start HelloSequence --id a --wait", Some(&admin)),
        see("list --counts --json", Some(&reader)),
    ];
    expect![[r#"
        ! error: A key is needed: as the parameter code, as the header x-functions-key, or as a bearer token.
        !   hint: give a key with --key or PERENNIAL_KEY; `perennial keys create NAME` on the host's machine makes one
        exit code Some(1)
        ! error: This is no key of this task hub.
        !   hint: give a key with --key or PERENNIAL_KEY; `perennial keys create NAME` on the host's machine makes one
        exit code Some(1)
        ! no instances
        ! error: This key may only read.
        !   hint: `perennial keys create NAME` on the host's machine makes one that may change things
        exit code Some(1)
        ! {"error":{"code":"forbidden","exitCode":1,"message":"this needs an admin key, even on the host's own machine; `perennial keys create NAME` there creates one","hint":"give it with --key or PERENNIAL_KEY"}}
        exit code Some(1)
        a
        ["Hello Tokyo!","Hello Seattle!","Hello London!"]
        {"Completed":1}
    "#]]
    .assert_eq(&told.concat());
    drop(host);

    // On its own machine a host asks nobody for a key, but for what modules may touch there.
    let (_host, url) = serve(&cli, &[]);
    let see = |line: &str, key: &[&str]| {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cli.see(&[&words, &["--url", url.as_str()][..], key].concat())
    };
    let refused = "this needs an admin key, even on the host's own machine; `perennial keys create NAME` there creates one";
    assert!(see("status a", &[]).starts_with("instance"));
    let grants = [
        "grants hello-sequence --grant-dir /",
        "grants hello-sequence --set",
        "keys create mine",
        "keys list",
        &format!("deploy {} --grant-dir /", hello()),
    ];
    for line in grants {
        let seen = see(line, &[]);
        assert!(seen.contains(refused), "{line}: {seen}");
        let seen = see(line, &["--key", &reader]);
        assert!(seen.contains(refused), "{line}: {seen}");
        let seen = see(line, &["--key", &admin]);
        assert!(!seen.contains("exit code"), "{line}: {seen}");
    }
}

#[test]
fn a_script_learns_the_code_that_the_host_answered() {
    let cli = Cli::deployed();
    let (_host, url) = serve(&cli, &["--max-instances", "1"]);
    let there = |line: &str| {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let remote = cli.see(&[&words, &["--json", "--url", url.as_str()][..]].concat());
        let local = cli.see(&[&words, &["--json"][..]].concat());
        let code = |told: &str| {
            let begin = told.find("\"code\":\"").map(|at| at + 8);
            let rest = begin.map(|at| &told[at..]).unwrap_or_default();
            rest.split('"').next().unwrap_or_default().to_owned()
        };
        assert_eq!(code(&remote), code(&local), "{remote}{local}");
        code(&remote)
    };
    cli.ok(&["start", "Wait", "--id", "w1", "--wait=start"]);
    assert_eq!(there("start Wait --id w2"), "quotaExceeded");
    assert_eq!(there("start Nothing --id n"), "unknownOrchestration");
    assert_eq!(there("start Wait --id a/b"), "invalid");
    assert_eq!(there("rewind w1"), "wrongState");
    assert_eq!(there("modules remove nothing"), "unknownModule");
    assert_eq!(there("modules remove workloads"), "wrongState");
    let told = cli.see(&["hubs", "show", "nohub", "--url", &url]);
    expect![[r#"
        ! error: there is no task hub "nohub"
        !   hint: the task hub "nohub" is not served here; served: default
        exit code Some(3)
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_resume_right_after_its_suspend_is_accepted_over_http_too() {
    let cli = Cli::deployed();
    let (_host, url) = serve(&cli, &[]);
    let see = |line: &str| {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cli.see(&[&words, &["--url", url.as_str()][..]].concat())
    };
    cli.ok(&["start", "Wait", "--id", "w1", "--wait=start"]);
    assert_eq!(
        see("resume w1"),
        "! w1 is not suspended: nothing was changed\n"
    );
    for _ in 0..5 {
        assert_eq!(see("suspend w1"), "! suspending w1\n");
        assert_eq!(see("resume w1"), "! resuming w1\n");
    }
}

#[test]
fn whatever_is_wrong_with_an_address_is_said() {
    let cli = Cli::new();
    let see = |url: &str| {
        let told = cli.see(&["list", "--url", url]);
        let port = url.rsplit(':').next().unwrap_or_default();
        told.replace(port, "PORT")
    };
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = port(&free);
    drop(free);
    let refused = see(&format!("http://127.0.0.1:{nobody}"));
    assert!(
        refused.contains("no answer from http://127.0.0.1:PORT"),
        "{refused}"
    );
    assert!(refused.contains("Connection refused"), "{refused}");
    assert!(
        refused.contains("does `perennial serve` run there?"),
        "{refused}"
    );
    assert!(refused.ends_with("exit code Some(1)\n"), "{refused}");

    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}", port(&stranger));
    let answers = [
        ("HTTP/1.1 200 OK", "<html>"),
        ("HTTP/1.1 404 Not Found", "nothing here"),
        (
            "HTTP/1.1 302 Found\r\nlocation: https://elsewhere.example",
            "",
        ),
    ];
    let thread = std::thread::spawn(move || {
        for (head, body) in answers {
            let (mut stream, _) = stranger.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            let length = body.len();
            let answer =
                format!("{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let told: String = answers.iter().map(|_| see(&url)).collect();
    thread.join().unwrap();
    expect![[r#"
        ! error: the server at http://127.0.0.1:PORT is not a Perennial host: its answer 200 OK cannot be read: expected value at line 1 column 1
        !   hint: does `perennial serve` run there? It prints its address when it begins; a host that serves TLS wants https://
        exit code Some(1)
        ! error: the server at http://127.0.0.1:PORT is not a Perennial host: it answered 404 Not Found
        !   hint: does `perennial serve` run there? It prints its address when it begins; a host that serves TLS wants https://
        exit code Some(1)
        ! error: the server at http://127.0.0.1:PORT is not a Perennial host: it redirects to https://elsewhere.example
        !   hint: does `perennial serve` run there? It prints its address when it begins; a host that serves TLS wants https://
        exit code Some(1)
    "#]]
    .assert_eq(&told);

    // A host that does not serve TLS, asked as if it did.
    let (_host, url) = serve(&cli, &[]);
    let told = see(&url.replace("http://", "https://"));
    assert!(told.contains("write http:// instead of https://"), "{told}");
    let other = cli.see(&["list", "--url", &url, "--task-hub", "other"]);
    assert!(
        other.contains("not served here; served: default"),
        "{other}"
    );
    assert!(other.ends_with("exit code Some(3)\n"), "{other}");
    for bad in ["localhost:7071", "ftp://x", "http://me:pass@x"] {
        let told = cli.see(&["list", "--url", bad]);
        assert!(
            told.contains("write it like http://127.0.0.1:7071"),
            "{told}"
        );
        assert!(told.ends_with("exit code Some(2)\n"), "{told}");
    }
}
