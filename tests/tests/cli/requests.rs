//! `perennial request`, `requests` and what starts with a message.

use perennial_tests::{Serve, guest};

use crate::see::Cli;

/// The program on a hub with the cart, and its host.
fn hosted() -> (Cli, Serve) {
    let cli = Cli::new();
    let cart = guest("cart");
    cli.see(&["deploy", "-q", cart.to_str().unwrap()]);
    let serve = Serve::start(cli.dir.path(), &["--listen", "none"]);
    (cli, serve)
}

const BOOK: &str = r#"{"sku": "book", "count": 1}"#;

#[test]
fn an_instance_is_asked_and_answers() {
    let (cli, _serve) = hosted();
    let ask = |args: &[&str]| cli.see(&[&["request", "c", "AddItem"], args].concat());
    expect_test::expect![[r#"
        ! error: there is no instance "c"
        !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
        exit code Some(3)
        1500
        1500
        ! error: request "AddItem" to instance "c" failed: Count: 0 is not a number of items: take 1 to 99
        exit code Some(1)
        ! error: request "AddItem" to instance "c" failed: UnknownItem: there is no item "unicorn"
        exit code Some(1)
        ! error: gave up waiting: instance "c" has not answered "Gift" yet
        !   hint: it does not wait for such a request now; it keeps the request: `perennial requests c r3 --wait` waits for the answer
        exit code Some(5)
        1500
        ! error: instance "c" has not answered request "r3" yet
        !   hint: `perennial requests c r3 --wait` waits for the answer
        exit code Some(4)
        ! error: instance "c" has no request with the id "none"
        !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
        exit code Some(3)
        ! error: there is no instance "nobody"
        !   hint: `perennial list` shows the instances of this task hub, DIR/default.db
        exit code Some(3)
        REQUEST ID  NAME  SENT (UTC)  STATE  ANSWER
    "#]].assert_eq(
        &[
            ask(&["--input", BOOK]),
            ask(&["--input", BOOK, "--or-start", "Cart", "--request-id", "r1"]),
            ask(&["--input", BOOK, "--or-start", "Cart", "--request-id", "r1"]),
            ask(&["--input", r#"{"sku": "book", "count": 0}"#]),
            ask(&[
                "--input",
                r#"{"sku": "unicorn", "count": 1}"#,
                "--request-id",
                "r2",
            ]),
            cli.see(&[
                "request",
                "c",
                "Gift",
                "--timeout",
                "50ms",
                "--request-id",
                "r3",
            ]),
            cli.see(&["requests", "c", "r1"]),
            cli.see(&["requests", "c", "r3"]),
            cli.see(&["requests", "c", "none"]),
            cli.see(&["requests", "nobody"]),
            cli.see(&["raise-event", "d", "Seen", "--or-start", "Cart", "-q"]),
            cli.see(&["requests", "d"]),
        ]
        .concat(),
    );
    let listed = cli.see(&["requests", "c"]);
    assert!(
        listed.contains("r3") && listed.contains("pending"),
        "{listed}"
    );
    let json = cli.see(&["requests", "c", "r2", "--json"]);
    let json: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&json["state"], &json["failure"]["kind"]),
        (&"failed".into(), &"UnknownItem".into())
    );
    let status = cli.see(&["status", "c"]);
    assert!(status.contains("request \"AddItem\""), "{status}");
    let history = cli.see(&["history", "c"]);
    assert!(
        history.contains("RequestReceived") && history.contains("RequestAnswered"),
        "{history}"
    );
}

#[test]
fn what_asks_nobody_says_so() {
    let cli = Cli::new();
    let cart = guest("cart");
    cli.see(&["deploy", "-q", cart.to_str().unwrap()]);
    // Without a host the request is kept.
    let kept = cli.see(&[
        "request",
        "c",
        "AddItem",
        "--input",
        BOOK,
        "--or-start",
        "Cart",
        "--timeout",
        "10ms",
        "--request-id",
        "r1",
    ]);
    expect_test::expect![[r#"
        ! no host runs task hub "default": nobody answers until `perennial serve` does
        ! error: gave up waiting: instance "c" has not answered "AddItem" yet
        !   hint: it is Pending; it keeps the request: `perennial requests c r1 --wait` waits for the answer
        exit code Some(5)
    "#]]
    .assert_eq(&kept);
    let _serve = Serve::start(cli.dir.path(), &["--listen", "none"]);
    assert_eq!(cli.see(&["requests", "c", "r1", "--wait"]), "1500\n");
}
