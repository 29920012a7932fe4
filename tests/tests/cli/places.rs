//! Which hub a command is for, where several places are named.

use expect_test::expect;

use crate::remote::serve;
use crate::see::{Cli, hello, words};

#[test]
fn what_is_typed_goes_before_the_environment() {
    let cli = Cli::new();
    cli.ok(&["deploy", "-q", &hello()]);
    // Nothing listens there.
    let nowhere = "http://127.0.0.1:9";
    let see = |args: &[&str]| {
        let mut command = cli.command(args);
        cli.tell(&command.env("PERENNIAL_URL", nowhere).output().unwrap())
    };
    assert!(see(&["list", "--counts"]).contains("exit code Some(1)"));
    let dir = cli.dir.path().display().to_string();
    for args in [
        ["list", "--counts", "--data-dir", &dir],
        ["--data-dir", &dir, "list", "--counts"],
    ] {
        let seen = see(&args);
        assert!(!seen.contains("exit code"), "{seen}");
    }
    let two = ["--store", "postgres://a@b/c", "list", "--url", nowhere];
    expect![[r#"
        ! error: both --url and --store say where the task hub is
        !   hint: leave one of them out
        exit code Some(2)
    "#]]
    .assert_eq(&see(&two));
}

#[test]
fn a_host_that_does_not_serve_the_hub_is_no_hub_without_the_instance() {
    let cli = Cli::new();
    cli.ok(&["deploy", "-q", &hello()]);
    let (_host, url) = serve(&cli, &[]);
    for line in [
        "status a",
        "history a",
        "history a --timeline",
        "durable terminate --id a",
        "durable rewind --id a",
    ] {
        let words = words(&format!("{line} --url {url} --task-hub other"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let seen = cli.see(&words);
        assert!(
            seen.contains("is not served here; served: default"),
            "{line}: {seen}"
        );
        assert!(seen.contains("exit code"), "{line}: {seen}");
    }
}
