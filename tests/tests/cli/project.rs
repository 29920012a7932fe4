//! From nothing to a workflow that runs, outside the repository; and the commands around it.

use std::process::{Command, Stdio};

use expect_test::expect;
use perennial_tests::target;

use crate::see::{Cli, Process, hello, read_line};

/// Guests share what is compiled, so that the standard library is not compiled again for a project.
fn with_shared_target(mut command: Command) -> Command {
    command
        .env("CARGO_TARGET_DIR", target().join("guests"))
        .env("CARGO_NET_OFFLINE", "true");
    command
}

/// What a test left among the guests, gone when dropped.
struct Left(&'static str);

impl Drop for Left {
    fn drop(&mut self) {
        // A test that failed before it built has nothing to remove.
        let _ = std::fs::remove_file(target().join("guests").join(self.0));
    }
}

#[test]
fn a_new_project_builds_runs_and_follows_its_sources_anywhere() {
    let cli = Cli::new();
    let _left = Left("made-anywhere.wasm");
    let project = cli.dir.path().join("made-anywhere");
    let dir = project.to_str().unwrap();
    cli.check(
        &["new", dir],
        expect![[r#"
            DIR/made-anywhere
            ! next: cd DIR/made-anywhere && perennial build && perennial run target/made-anywhere.wasm
        "#]],
    );
    let built = with_shared_target(cli.command(&["build", dir, "--json"]))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let built: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
    assert_eq!(built[0]["name"], "made-anywhere");
    let file = built[0]["file"].as_str().unwrap();
    cli.check(
        &["run", "-q", file, "--input", "\"you\""],
        expect![[r#"
        "Hello you!"
    "#]],
    );

    let dev = ["dev", dir, "--start", "MadeAnywhere", "--json", "-q"];
    let dev = with_shared_target(cli.command(&dev))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut dev = Process(dev);
    let mut ended = || {
        let deployed = dev.line();
        assert!(
            deployed.starts_with("{\"event\":\"deployed\",\"module\":\"made-anywhere\""),
            "{deployed}"
        );
        let ended: serde_json::Value = serde_json::from_str(&dev.line()).unwrap();
        ended["instance"]["output"].as_str().unwrap().to_owned()
    };
    assert_eq!(ended(), "Hello world!");
    let source = project.join("src/lib.rs");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, text.replace("Hello", "Goodbye")).unwrap();
    assert_eq!(ended(), "Goodbye world!");
    dev.signal("INT");
    assert!(dev.0.wait().unwrap().success());
}

#[test]
fn the_tests_of_a_new_project_pass_without_a_host_or_a_network() {
    let cli = Cli::new();
    let project = cli.dir.path().join("made-tested");
    cli.ok(&["new", project.to_str().unwrap()]);
    let mut test = Command::new("cargo");
    test.args(["test", "--quiet"])
        .current_dir(&project)
        .env("CARGO_TARGET_DIR", target().join("made-tested"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_NET_OFFLINE", "true");
    let tested = test.output().unwrap();
    let said = String::from_utf8_lossy(&tested.stderr);
    assert!(tested.status.success(), "{said}");
    let told = String::from_utf8_lossy(&tested.stdout);
    assert!(told.contains("1 passed"), "{told}\n{said}");
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn a_project_is_not_made_over_something_else_or_under_a_bad_name() {
    let cli = Cli::new();
    let path = cli.dir.path().join("taken");
    std::fs::write(&path, "mine").unwrap();
    cli.check(
        &["new", path.to_str().unwrap()],
        expect![[r#"
        ! error: DIR/taken is there already
        !   hint: give the project another name, or remove what is there
        exit code Some(4)
    "#]],
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    cli.check(&["new", "Order Flow"], expect![[r#"
        ! error: "Order Flow" cannot be the name of a project
        !   hint: take up to 64 lower-case letters, digits, dashes and underscores, a letter first: order-flow
        exit code Some(2)
    "#]]);
    cli.check(
        &["build", cli.dir.path().to_str().unwrap()],
        expect![[r#"
            ! error: there is no project in DIR: it has no Cargo.toml
            !   hint: `perennial new NAME` makes one
            exit code Some(3)
        "#]],
    );
    let entries = std::fs::read_dir(cli.dir.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing else was written");
}

#[test]
fn inspect_tells_what_a_file_is_without_a_hub() {
    let cli = Cli::new();
    let seen = cli.see(&["inspect", &hello()]);
    let masked: Vec<&str> = seen
        .lines()
        .filter(|line| !line.contains("wasi:") && !line.contains("perennial:"))
        // What a guest could use of what it was granted depends on how it was built.
        .take_while(|line| !line.starts_with("can be granted"))
        .collect();
    expect![[r#"
        module          hello-sequence
        digest          <hex>  <n> KiB
        contract        0.2
        orchestrations  HelloSequence
        activities      SayHello
    "#]]
    .assert_eq(&(masked.join("\n") + "\n"));
    let output = cli
        .command(&["inspect", &hello(), "--json"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        json["definitions"][0],
        serde_json::json!({ "kind": "orchestration", "name": "HelloSequence" })
    );
    assert_eq!(json["contract"], "0.2");
    let imports = |what: &str| {
        let imports = json["imports"].as_array().unwrap().iter();
        imports
            .map(|import| import.as_str().unwrap())
            .any(|import| import.starts_with(what))
    };
    let mut grantable = Vec::new();
    for (what, option, interface) in [
        ("directories", "--grant-dir", "wasi:filesystem/"),
        ("environment", "--grant-env", "wasi:cli/environment"),
    ] {
        if imports(interface) {
            grantable.push((what, option));
        }
    }
    grantable.push(("http", "--allow-http"));
    let names: Vec<&str> = grantable.iter().map(|(what, _)| *what).collect();
    assert_eq!(json["grantable"], serde_json::json!(names));
    for (what, option) in grantable {
        assert!(seen.contains(&format!("{what}, with {option}\n")), "{seen}");
    }
    cli.check(
        &["inspect", "/dev/null"],
        expect![[r#"
            ! error: /dev/null is not a regular file, as a module is
            exit code Some(1)
        "#]],
    );
    assert!(!cli.dir.path().join("default.db").exists());
}

#[test]
fn the_doctor_says_what_to_fix() {
    if perennial_tests::postgres::skips("it damages the file") {
        return;
    }
    let cli = Cli::new();
    let told = |cli: &Cli| {
        let output = cli.command(&["doctor", "--json"]).output().unwrap();
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let of_hub = findings
            .iter()
            .filter(|finding| ["task hub", "host"].contains(&finding["check"].as_str().unwrap()));
        let line = |finding: &serde_json::Value| {
            format!(
                "{}: {}\n",
                finding["check"].as_str().unwrap(),
                finding["level"].as_str().unwrap()
            )
        };
        (output.status.code(), of_hub.map(line).collect::<String>())
    };
    assert_eq!(told(&cli), (Some(0), "task hub: warning\n".to_owned()));
    cli.ok(&["deploy", &hello()]);
    assert_eq!(told(&cli), (Some(0), "task hub: ok\nhost: ok\n".to_owned()));
    cli.ok(&["start", "HelloSequence", "--id", "d1"]);
    assert_eq!(
        told(&cli),
        (Some(0), "task hub: ok\nhost: warning\n".to_owned())
    );
    let seen = cli.see(&["doctor"]);
    assert!(
        seen.ends_with("\nhost: `perennial serve` runs the task hub\n"),
        "{seen}"
    );
    std::fs::write(
        cli.dir.path().join("default.db"),
        "not a database, and longer than its header would be",
    )
    .unwrap();
    for beside in ["default.db-wal", "default.db-shm"] {
        let _ = std::fs::remove_file(cli.dir.path().join(beside));
    }
    assert_eq!(told(&cli), (Some(1), "task hub: failure\n".to_owned()));
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let cli = Cli::new();
    for (shell, sign) in [
        ("bash", "_perennial()"),
        ("zsh", "#compdef perennial"),
        ("fish", "complete -c perennial"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let output = cli.command(&["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            script.contains(sign) && script.contains("raise-event"),
            "{shell}: {script}"
        );
    }
    let dir = cli.dir.path().join("man");
    let output = cli
        .command(&["man", dir.to_str().unwrap()])
        .output()
        .unwrap();
    let files = String::from_utf8(output.stdout).unwrap();
    for page in [
        "perennial.1",
        "perennial-start.1",
        "perennial-durable-start-new.1",
    ] {
        assert!(files.lines().any(|line| line == page), "{page}: {files}");
    }
    let page = std::fs::read_to_string(dir.join("perennial-list.1")).unwrap();
    assert!(
        page.contains(".SH EXAMPLES\n.nf") && page.contains("perennial list"),
        "{page}"
    );
    assert!(
        page.contains(".SH ENVIRONMENT") && page.contains("PERENNIAL_DATA_DIR"),
        "{page}"
    );
    let page = std::fs::read_to_string(dir.join("perennial.1")).unwrap();
    assert!(page.contains(".SH \"EXIT STATUS\"\n.nf"), "{page}");
}

#[test]
fn a_script_of_completions_is_one_that_the_shell_reads() {
    let cli = Cli::new();
    let script = cli
        .command(&["completions", "bash"])
        .output()
        .unwrap()
        .stdout;
    let file = cli.dir.path().join("perennial.bash");
    std::fs::write(&file, script).unwrap();
    let line = format!(
        "source {}; COMP_WORDS=(perennial sus); COMP_CWORD=1; _perennial perennial sus perennial; echo ${{COMPREPLY[*]}}",
        file.display()
    );
    let mut bash = Command::new("bash")
        .args(["--norc", "-c", &line])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(read_line(bash.stdout.as_mut().unwrap()), "suspend\n");
    bash.wait().unwrap();
}
