//! Whatever a module, a client or a server elsewhere says: no command prints what a terminal would obey, or a line that seems to be its own.

use std::io::{Read, Write};
use std::net::TcpListener;

use perennial_core::text::is_unseen;
use perennial_tests::guest;

use crate::see::Cli;

/// As the guest `hostile-texts` has it.
const FOUL: &str = "foul\u{1b}[2J\u{9b}31m\u{202e}\r\nerror: forged\u{7}\u{200b}\u{2028}\u{7f}end";

/// Runs a command and looks at every character that it prints.
fn prints_nothing_raw(cli: &Cli, args: &[&str]) -> String {
    let output = cli.command(args).output().unwrap();
    let mut all = String::new();
    for bytes in [output.stdout, output.stderr] {
        let text = String::from_utf8(bytes).unwrap();
        if let Some(c) = text.chars().find(|c| *c != '\n' && is_unseen(*c)) {
            panic!("{args:?} printed {c:?}: {text:?}");
        }
        let forged = text.lines().find(|line| line.starts_with("error: forged"));
        assert_eq!(forged, None, "{args:?} printed {text}");
        assert!(!text.contains("panicked at"), "{args:?} printed {text}");
        all += &text;
    }
    all
}

#[test]
fn no_command_prints_what_a_terminal_would_obey() {
    let cli = Cli::new();
    let module = guest("hostile-texts");
    let module = module.to_str().unwrap();
    let mut said = String::new();
    let mut see = |args: &[&str]| said += &prints_nothing_raw(&cli, args);
    see(&["inspect", module]);
    see(&["inspect", module, "--json"]);
    see(&["deploy", module]);
    see(&["deploy", module, "--json"]);
    see(&["deploy", module, "--check"]);
    see(&["modules"]);
    see(&["modules", "--json"]);
    for (orchestration, id, input) in [
        ("Returns", "returns", "null"),
        ("Fails", "fails", "null"),
        ("Panics", "panics", "100000"),
    ] {
        see(&["run", module, orchestration, "--id", id, "--input", input]);
        see(&[
            "run",
            module,
            orchestration,
            "--id",
            &format!("{id}-json"),
            "--json",
            "--input",
            input,
        ]);
        see(&["wait", id]);
        see(&["durable", "get-runtime-status", "--id", id, "--show-output"]);
        see(&["durable", "get-history", "--id", id]);
    }
    see(&["durable", "get-instances"]);
    let foul_tag = format!("tag={}", FOUL);
    let foul_json = serde_json::to_string(FOUL).unwrap();
    for (id, tag) in [("shows", foul_tag.as_str()), ("stopped", "a=b")] {
        see(&[
            "start", "Shows", "--id", id, "--tag", tag, "--input", &foul_json,
        ]);
    }
    see(&["suspend", "shows", "--reason", FOUL]);
    see(&["terminate", "stopped", "--reason", FOUL]);
    see(&["raise-event", "shows", "Go", "--data", &foul_json]);
    let mut host = cli.serve();
    see(&["wait", "stopped", "--timeout", "20s"]);
    see(&["rewind", "fails", "--reason", FOUL]);
    see(&["wait", "fails", "--timeout", "20s"]);
    for id in ["returns", "fails", "panics", "shows", "stopped"] {
        for args in [
            &["status", id][..],
            &["status", id, "--json"],
            &["status", id, "--history"],
            &["status", id, "--tree"],
            &["history", id],
            &["history", id, "--json"],
            &["history", id, "--timeline"],
        ] {
            see(args);
        }
    }
    see(&["list"]);
    see(&["list", "--json"]);
    see(&["list", "--output"]);
    see(&["list", "--counts"]);
    see(&["list", "--tag", &foul_tag]);
    see(&["status", FOUL]);
    see(&["start", FOUL]);
    see(&["start", "Shows", "--id", FOUL]);
    see(&["raise-event", "shows", FOUL]);
    see(&["doctor"]);
    see(&["hubs"]);
    host.signal("TERM");
    host.0.wait().unwrap();
    see(&["check"]);
    assert!(
        said.contains(r"foul\u{1b}[2J\u{9b}31m\u{202e}"),
        "it was written out: {said}"
    );
}

#[test]
fn what_is_typed_wrong_is_quoted_with_nothing_raw() {
    let cli = Cli::new();
    // Control characters, and others that nobody sees, each alone.
    let each = [
        "a\u{1b}[31mb",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\nb",
        "a\u{9b}31m",
    ];
    for foul in each.into_iter().chain([FOUL]) {
        let (option, grant) = (format!("--{foul}"), format!("{foul}::"));
        for args in [
            &["list", "--tag", foul][..],
            &["list", "--json", "--tag", foul],
            &["list", "--status", foul],
            &["list", "--created-from", foul],
            &["list", "--width", foul],
            &["list", "--waits-for", foul],
            &["list", &option],
            &["list", "--task-hub", foul],
            &["list", "--url", foul],
            &["list", "--store", foul],
            &["tag", "id", foul],
            &["wait", "id", "--timeout", foul],
            &["deploy", "none.wasm", "--grant-dir", &grant],
            &["deploy", foul],
            &["hubs", "create", foul],
            &["hubs", "copy", "--to", foul],
            &["delete-task-hub", foul, "--yes"],
            &[foul],
        ] {
            prints_nothing_raw(&cli, args);
        }
        for (variable, args) in [
            ("PERENNIAL_LISTEN", &["serve"][..]),
            ("PERENNIAL_TASK_HUB", &["list"]),
            ("PERENNIAL_STORE", &["list"]),
            ("PERENNIAL_URL", &["list"]),
        ] {
            let output = cli.command(args).env(variable, foul).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            let raw = text.chars().find(|c| *c != '\n' && is_unseen(*c));
            assert_eq!(raw, None, "{variable}: {text:?}");
            assert!(!text.contains("\nerror: forged"), "{variable}: {text}");
            assert!(!output.status.success(), "{variable}: {text}");
        }
    }
}

#[test]
fn a_name_that_would_end_a_terminal_is_refused_before_anything_is_stored() {
    let cli = Cli::new();
    let module = guest("hostile-texts");
    let module = module.to_str().unwrap();
    for name in [&"x".repeat(100_000), FOUL, ""] {
        let output = cli
            .command(&["deploy", module, "--name", name])
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{:?}",
            &name[..name.len().min(20)]
        );
        prints_nothing_raw(&cli, &["deploy", module, "--name", name]);
    }
    let listed = cli.see(&["modules"]);
    assert!(!listed.contains("Shows"), "{listed}");
}

/// A server that says the same to everybody.
fn says(status: &'static str, kind: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else {
                return;
            };
            let _ = connection.read(&mut [0; 1 << 16]);
            let length = body.len();
            let _ = write!(
                connection,
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

#[test]
fn what_a_server_elsewhere_answers_is_not_obeyed_either() {
    let cli = Cli::new();
    let problem = serde_json::json!({
        "title": FOUL, "detail": FOUL, "code": FOUL, "message": FOUL,
        "error": { "code": FOUL, "message": FOUL },
    });
    let servers = [
        says(
            "200 OK",
            "application/json",
            format!("[{{\"instanceId\":{FOUL:?}}}]"),
        ),
        says("200 OK", "text/plain", FOUL.to_owned()),
        says(
            "400 Bad Request",
            "application/problem+json",
            problem.to_string(),
        ),
        says(
            "404 Not Found",
            "application/problem+json",
            problem.to_string(),
        ),
        says("500 Internal Server Error", "text/html", FOUL.to_owned()),
    ];
    for url in &servers {
        for args in [
            &["list"][..],
            &["status", "a"],
            &["history", "a"],
            &["wait", "a", "--timeout", "1s"],
            &["start", "A"],
            &["terminate", "a"],
            &["modules"],
            &["list", "--json"],
        ] {
            let args = [args, &["--url", url, "--key", "k"]].concat();
            prints_nothing_raw(&cli, &args);
        }
    }
}
