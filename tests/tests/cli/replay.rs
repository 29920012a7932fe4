//! Recorded histories as files, and the replay of them on other code.

use std::path::PathBuf;

use expect_test::expect;
use perennial_tests::guest;
use serde_json::{Value, json};

use crate::remote::serve;
use crate::see::Cli;

/// A hub with instances of the first version: `ship` waits and `shipped` has ended, and so do `bill` and `billed`.
fn recorded() -> Cli {
    let cli = Cli::new();
    cli.ok(&["deploy", "-q", guest("version-one").to_str().unwrap()]);
    let mut host = cli.serve();
    for (name, id, event, data) in [
        ("Ship", "ship", "Go", None),
        ("Bill", "bill", "Paid", None),
        ("Ship", "shipped", "Go", Some("null")),
        ("Bill", "billed", "Paid", Some("7")),
    ] {
        let input = if name == "Ship" {
            "\"a chair\""
        } else {
            "null"
        };
        cli.ok(&["start", name, "--id", id, "--input", input]);
        cli.ok(&["wait", id, "--for", "start"]);
        if let Some(data) = data {
            cli.ok(&["raise-event", id, event, "--data", data]);
            cli.ok(&["wait", id]);
        }
    }
    let begun = std::time::Instant::now();
    while !cli
        .see(&["status", "ship"])
        .contains("external event \"Go\"")
    {
        assert!(begun.elapsed().as_secs() < 30, "it does not wait for Go");
    }
    std::fs::create_dir(cli.dir.path().join("histories")).unwrap();
    for id in ["ship", "bill", "shipped", "billed"] {
        export(&cli, id);
    }
    host.signal("TERM");
    host.0.wait().unwrap();
    cli
}

fn file(cli: &Cli, id: &str) -> PathBuf {
    cli.dir.path().join("histories").join(format!("{id}.json"))
}

fn export(cli: &Cli, id: &str) {
    let output = cli.command(&["export", id]).output().unwrap();
    assert!(output.status.success(), "{}", cli.tell(&output));
    std::fs::write(file(cli, id), output.stdout).unwrap();
}

fn replay(cli: &Cli, module: &str, histories: &[&str]) -> String {
    let module = guest(module);
    let histories: Vec<PathBuf> = (histories.iter())
        .map(|name| cli.dir.path().join(name))
        .collect();
    let mut args = vec!["replay", module.to_str().unwrap()];
    args.extend(histories.iter().map(|path| path.to_str().unwrap()));
    cli.see(&args)
}

#[test]
fn code_that_asks_for_something_else_does_not_fit_and_a_new_log_line_does() {
    let cli = recorded();
    // What has ended is replayed too, and no hub is needed.
    let _ = std::fs::remove_file(cli.dir.path().join("default.db"));
    expect![[r#"
        version-one <hex>  (replayed, not deployed)
          DIR/histories/bill.json  bill  fits (1 turn, Running)
          DIR/histories/billed.json  billed  fits (2 turns, Completed)
          DIR/histories/ship.json  ship  fits (2 turns, Running)
          DIR/histories/shipped.json  shipped  fits (4 turns, Completed)
          all of 4 histories fit
    "#]]
    .assert_eq(&replay(&cli, "version-one", &["histories"]));
    expect![[r#"
        version-two <hex>  (replayed, not deployed)
          DIR/histories/bill.json  bill  fits (1 turn, Running)
          DIR/histories/billed.json  billed  differs: turn 1 does not repeat: at event 4 the record has the end with output 7, and now the guest asks for the end with output 1007
          DIR/histories/ship.json  ship  differs: turn 0 does not repeat: at event 2 the record has activity "Pack" as task 0 with input "a chair", and now the guest asks for activity "Weigh" as task 0 with input "a chair"
          DIR/histories/shipped.json  shipped  differs: turn 0 does not repeat: at event 2 the record has activity "Pack" as task 0 with input "a chair", and now the guest asks for activity "Weigh" as task 0 with input "a chair"
          not fitting: 3 of 4 histories
        exit code Some(6)
    "#]].assert_eq(&replay(&cli, "version-two", &["histories"]));
    let fits = replay(&cli, "version-two", &["histories/bill.json"]);
    assert!(fits.ends_with("all of 1 history fit\n"), "{fits}");
    expect![[r#"
        hello-sequence <hex>  (replayed, not deployed)
          DIR/histories/bill.json  bill  differs: the module does not define "Bill"
          not fitting: 1 of 1 history
        exit code Some(6)
    "#]]
    .assert_eq(&replay(&cli, "hello-sequence", &["histories/bill.json"]));
}

#[test]
fn json_has_the_difference_in_parts() {
    let cli = recorded();
    let (module, histories) = (guest("version-two"), cli.dir.path().join("histories"));
    let args = [
        "replay",
        module.to_str().unwrap(),
        histories.to_str().unwrap(),
        "--json",
    ];
    let output = cli.command(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["module"], &told["fits"], &told["differs"]),
        (&json!("version-two"), &json!(1), &json!(3))
    );
    let ship = &told["histories"][2];
    assert_eq!(ship["instanceId"], "ship");
    let place = (
        &ship["outcome"],
        &ship["turn"],
        &ship["event"],
        &ship["runtimeStatus"],
    );
    assert_eq!(
        place,
        (&json!("differs"), &json!(0), &json!(2), &json!("Running"))
    );
    assert!(
        ship["recorded"].as_str().unwrap().contains("Pack"),
        "{ship}"
    );
    assert!(ship["asked"].as_str().unwrap().contains("Weigh"), "{ship}");
    let reason = ship["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("turn 0 does not repeat: at event 2 the record has"),
        "{reason}"
    );
}

#[test]
fn a_history_is_exported_over_http_as_from_the_file() {
    let cli = recorded();
    let key = cli
        .command(&["keys", "create", "test", "-q"])
        .output()
        .unwrap();
    let key = String::from_utf8(key.stdout).unwrap();
    let (_host, url) = serve(&cli, &[]);
    for id in ["ship", "billed"] {
        let args = ["export", id, "--url", &url, "--key", key.trim()];
        let output = cli.command(&args).output().unwrap();
        assert!(output.status.success(), "{}", cli.tell(&output));
        let exported = std::fs::read(file(&cli, id)).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&output.stdout).unwrap(),
            serde_json::from_slice::<Value>(&exported).unwrap()
        );
    }
    let nobody = cli.see(&["export", "nobody", "--url", &url, "--key", key.trim()]);
    assert!(
        nobody.contains("there is no instance \"nobody\""),
        "{nobody}"
    );
}

/// Writes a file, and tells what a replay says of it.
fn said_of(cli: &Cli, text: impl AsRef<[u8]>) -> String {
    let path = cli.dir.path().join("odd.json");
    std::fs::write(&path, text).unwrap();
    replay(cli, "version-one", &["odd.json"])
}

#[test]
fn what_is_no_recorded_history_is_refused_by_what_it_is() {
    let cli = recorded();
    let has = |told: String, words: &str| {
        assert!(told.contains(words), "{told:?} does not say {words:?}");
        assert!(told.ends_with("exit code Some(1)\n"), "{told}");
    };
    has(said_of(&cli, ""), "it is not valid JSON");
    has(said_of(&cli, "{"), "it is not valid JSON");
    has(said_of(&cli, [0xff, 0xfe, 0]), "it is no recorded history");
    let shown = cli
        .command(&["history", "billed", "--json"])
        .output()
        .unwrap();
    has(
        said_of(&cli, shown.stdout),
        "`perennial history --json` lacks what a replay needs",
    );
    let text = std::fs::read_to_string(file(&cli, "shipped")).unwrap();
    has(
        said_of(
            &cli,
            text.replace("\"perennialHistory\":1", "\"perennialHistory\":2"),
        ),
        "it has version 2 of the format",
    );
    has(
        said_of(&cli, &text[..text.len() / 2]),
        "it is not valid JSON",
    );
    let history: Value = serde_json::from_str(&text).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut history = history.clone();
        change(&mut history);
        said_of(&cli, history.to_string())
    };
    let turns = |history: &mut Value| history["turns"].as_array_mut().unwrap().len();
    has(
        changed(&|history| drop(history["turns"].as_array_mut().unwrap().remove(1))),
        "turn 2 stands where turn 1 would follow",
    );
    has(
        changed(&|history| history["turns"][0]["received"] = json!("?")),
        "it is a damaged recorded history: turn 0, received",
    );
    has(
        changed(&|history| history["turns"][0]["produced"] = json!("AWM=")),
        "it is a damaged recorded history: turn 0, produced",
    );
    has(
        changed(&|history| history["turns"][0]["answer"] = json!("no")),
        "is no hash",
    );
    has(
        changed(&|history| history["instanceId"] = json!("other")),
        "its turns are not those of",
    );
    has(
        changed(&|history| {
            let last = turns(history) - 1;
            history["turns"][last]["received"] = history["turns"][0]["received"].clone();
        }),
        "it is a damaged recorded history",
    );
    has(
        changed(&|history| drop(history.as_object_mut().unwrap().remove("module"))),
        "a remote worker runs \"Ship\"",
    );
    // A sparse file that is larger than any history.
    let huge = std::fs::File::create(cli.dir.path().join("huge.json")).unwrap();
    huge.set_len(perennial::RECORDED_BYTES_MAX + 1).unwrap();
    has(
        replay(&cli, "version-one", &["huge.json"]),
        "it has more than 268435456 bytes",
    );
}

#[test]
fn files_and_directories_that_are_not_there_are_named() {
    let cli = Cli::new();
    std::fs::create_dir(cli.dir.path().join("empty")).unwrap();
    expect![[r#"
        ! error: cannot read DIR/absent.json: No such file or directory
        !   hint: name files that `perennial export ID > FILE` wrote, or directories of them
        exit code Some(3)
    "#]]
    .assert_eq(&replay(&cli, "version-one", &["absent.json"]));
    expect![[r#"
        ! error: there are no histories in DIR/empty: no *.json
        !   hint: `perennial export ID > DIR/ID.json` writes one
        exit code Some(3)
    "#]]
    .assert_eq(&replay(&cli, "version-one", &["empty"]));
    let url = ["replay", "x.wasm", "empty", "--url", "http://127.0.0.1:1"];
    expect![[r#"
        ! error: `perennial replay` is not done over HTTP: it uses no task hub
        !   hint: leave --url out
        exit code Some(2)
    "#]]
    .assert_eq(&cli.see(&url));
}
