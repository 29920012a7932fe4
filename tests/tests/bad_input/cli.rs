//! On the command line, beside a host that runs.

use std::process::{Command, Stdio};

use perennial_tests::{binary, guest};

use crate::{Hub, judge, shown};

/// What it is; the arguments; the exit code and what stderr says.
type Case = (&'static str, Vec<String>, i32, &'static str);

fn case(what: &'static str, line: &[&str], exit: i32, says: &'static str) -> Case {
    (
        what,
        line.iter().map(|&word| word.to_owned()).collect(),
        exit,
        says,
    )
}

#[rustfmt::skip]
fn cases(foreign: &str, files: &std::path::Path) -> Vec<Case> {
    let file = |name: &str, bytes: &[u8]| {
        let path = files.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let component = std::fs::read(guest("workloads")).unwrap();
    let half = file("half.wasm", &component[..component.len() / 2]);
    let mut spoiled = component.clone();
    let middle = spoiled.len() / 2;
    spoiled[middle..middle + 64].fill(0xff);
    let spoiled = file("spoiled.wasm", &spoiled);
    let text = file("text.wasm", b"fn main() {}");
    let bad_json = file("bad.json", b"{'a': 1}");
    let binary_json = file("binary.json", &[0xff, 0xfe, 0, 1]);
    let huge = file("huge.json", format!("\"{}\"", "x".repeat(2 << 20)).as_bytes());
    let not_a_hub = file("not-a-hub.db", b"this is no database, whatever its name says");
    let long = "x".repeat(300);
    vec![
        case("nothing", &[], 2, "Usage"),
        case("a command that is none", &["explode"], 2, "unrecognized subcommand"),
        case("input that is no JSON", &["start", "Wait", "--input", "{a:1}"], 2, "JSON"),
        case("input of two values", &["start", "Wait", "--input", "1 2"], 2, "trailing characters"),
        case("a file that is no JSON", &["start", "Wait", "--input", &format!("@{bad_json}")], 2, "JSON"),
        case("a file that is no text", &["start", "Wait", "--input", &format!("@{binary_json}")], 1, "UTF-8"),
        case("a file that is not there", &["start", "Wait", "--input", "@/nowhere/at/all.json"], 1, "No such file"),
        case("input over the limit", &["start", "Wait", "--input", &format!("@{huge}")], 1, "more than 1048576 bytes"),
        case("an empty id", &["start", "Wait", "--id", ""], 2, "must not be empty"),
        case("an id that is a path", &["start", "Wait", "--id", "../../etc/passwd"], 2, "must not contain '/'"),
        case("an id with an escape", &["start", "Wait", "--id", "a\u{1b}[31mb"], 2, "must not contain"),
        case("a long id", &["start", "Wait", "--id", &long], 2, "256"),
        case("a name that is SQL", &["start", "x'; DELETE FROM instance; --"], 3, "there is no orchestration"),
        case("a version that is not there", &["start", "Wait", "--version", "\u{202e}1"], 3, "there is no version"),
        case("a tag without a value", &["start", "Wait", "--tag", "team"], 2, "customer=acme"),
        case("a tag of 100 KB", &["start", "Wait", "--tag", &format!("a={}", "x".repeat(100_000))], 2, "a tag has at most 1024"),
        case("a day that is none", &["start", "Wait", "--at", "2026-02-30"], 2, "not a time"),
        case("a year beyond all years", &["start", "Wait", "--at", "999999999-01-01"], 2, "not a time"),
        case("a negative span", &["start", "Wait", "--after=-5s"], 2, "must not be negative"),
        case("a span without a unit", &["start", "Wait", "--after", "5"], 2, "5 of what?"),
        case("a span beyond numbers", &["start", "Wait", "--after", "99999999999999999999h"], 2, "too long"),
        case("an instance that is not there", &["status", "nobody"], 3, "there is no instance"),
        case("an instance that is an emoji", &["status", "\u{1f980}"], 3, "there is no instance"),
        case("a limit of 0", &["list", "--limit", "0"], 2, "1..=1000"),
        case("a negative limit", &["list", "--limit=-1"], 2, "-1"),
        case("a status that is none", &["list", "--status", "Exploded"], 2, "not a status"),
        case("a token of another list", &["list", "--continuation-token", foreign], 2, "does not belong to this list"),
        case("a token that is none", &["list", "--continuation-token", "\u{7f}"], 2, "does not belong to this list"),
        case("event data that is no JSON", &["raise-event", "waits", "Go", "--data", "yes"], 2, "JSON"),
        case("an event of no name", &["raise-event", "waits", ""], 2, "must not be empty"),
        case("an event of a long name", &["raise-event", "waits", &long], 2, "at most 256"),
        case("an event for one that has ended", &["raise-event", "done", "Go"], 4, "it has ended"),
        case("a long reason", &["suspend", "waits", "--reason", &"x".repeat(100_000)], 1, "the reason has"),
        case("to purge what lives", &["purge", "waits"], 4, "waits"),
        case("to purge with neither id nor filter", &["purge"], 2, ""),
        case("a wait without an end", &["wait", "waits", "--timeout", "soon"], 2, "not a duration"),
        case("a hub that is a path", &["list", "--task-hub", "../other"], 2, "1 to 64 letters"),
        case("a hub of no name", &["list", "--task-hub", ""], 2, ""),
        case("a hub of a long name", &["list", "--task-hub", &long], 2, "1 to 64 letters"),
        case("a hub that is not there", &["list", "--task-hub", "nowhere"], 3, "nowhere"),
        case("to make a hub that is there", &["hubs", "create", "default"], 4, "already"),
        case("to keep for less than no time", &["hubs", "set", "--retain-completed=-1d"], 2, "must not be negative"),
        case("to restore what is no hub", &["restore", &not_a_hub, "--task-hub", "other"], 1, "not"),
        case("a module that is not there", &["deploy", "/nowhere/at/all.wasm"], 1, "No such file"),
        case("a module that is a directory", &["deploy", "/"], 1, "directory"),
        case("a module that is a text", &["deploy", &text], 1, "not a WebAssembly file"),
        case("half a module", &["deploy", &half], 1, "damaged or truncated"),
        case("a module with noise in it", &["deploy", &spoiled], 1, "damaged or truncated"),
        case("a module of a long name", &["deploy", guest("workloads").to_str().unwrap(), "--name", &"x".repeat(10_000)], 2, "at most 128 characters"),
        case("a grant of nothing", &["grants", "workloads", "--grant-dir", "::/x"], 2, "no directory"),
        case("a host that is none", &["grants", "workloads", "--allow-http", "http://a b/"], 2, "a b"),
        case("grants of an unknown module", &["grants", "nothing", "--allow-http", "example.com"], 3, "there is no module"),
        case("no workers", &["serve", "--workers", "0"], 2, "a number from 1 on"),
        case("an address that is none", &["serve", "--listen", "everywhere"], 2, "127.0.0.1:7071"),
        case("a hub that somebody serves", &["serve", "--listen", "none"], 4, "process"),
        case("a key to revoke that is none", &["keys", "revoke", "../key"], 3, "../key"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_command_line_it_is_refused_and_changes_nothing() {
    let hub = Hub::new().await;
    let foreign = hub.foreign_token().await;
    let files = tempfile::tempdir().unwrap();
    let cases = cases(&foreign, files.path());
    let before = hub.dump();
    let mut wrong = Vec::new();
    for (what, args, exit, says) in &cases {
        let mut command = Command::new(binary());
        command
            .args(args)
            .env("PERENNIAL_DATA_DIR", hub.dir.path())
            .env_remove("PERENNIAL_TASK_HUB")
            .env_remove("PERENNIAL_LISTEN")
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(*exit) || !stderr.contains(says) {
            let line = shown(&args.join(" "));
            wrong.push(format!(
                "{what} ({line}): expected {exit} {says:?}, answered {:?} {}",
                output.status.code(),
                shown(&stderr)
            ));
        }
        if stderr.contains("panicked") || stderr.contains("\u{1b}[31m") {
            wrong.push(format!("{what}: {}", shown(&stderr)));
        }
    }
    judge(&hub, &before, cases.len(), &wrong);
    hub.host.shut_down().await;
}
