//! What those who run hosts are told of a database that lacks room, and of hubs that are not theirs.

use perennial::Client;
use perennial_tests::postgres::Database;
use perennial_tests::{DataDir, Serve, guest, module};

use crate::told;

/// As a disk on which only small rows find room.
const NO_ROOM: &str = "SET search_path = perennial_default;
     CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
     END $$;
     CREATE TRIGGER no_room BEFORE INSERT ON inbox FOR EACH ROW WHEN (length(NEW.message) > 10000) EXECUTE FUNCTION no_room()";

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_database_has_room_only_for_small_changes_is_not_ready() {
    let Some(database) = Database::start() else {
        return;
    };
    let dir = DataDir::new();
    let address = database.address();
    let listens = ["--store", &address, "--listen", "127.0.0.1:0"];
    let host = Serve::start(dir.path(), &listens);
    let url = format!("http://{}", host.address());
    let client = Client::connect(&url, "default", None).unwrap();
    client.deploy(module("workloads")).await.unwrap();
    client.start("Wait").id("w").await.unwrap();
    let ready = async || {
        let answer = reqwest::get(format!("{url}/readyz")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ready().await.0, 200);

    database.sql(NO_ROOM).unwrap();
    let raised = async |data: &str| client.raise_event("w", "Nothing", &data).await;
    let refused = raised(&"x".repeat(50_000)).await.unwrap_err();
    assert!(refused.is_disk_full(), "{refused}");
    for _ in 0..5 {
        raised("small").await.unwrap();
        let (status, why) = ready().await;
        assert_eq!(status, 503, "{why}");
        assert!(why.contains("the disk of its database is full"), "{why}");
    }
    let alive = reqwest::get(format!("{url}/healthz")).await.unwrap();
    assert_eq!(alive.status(), 200);
}

#[test]
fn hubs_that_the_user_may_not_read_are_counted() {
    let Some(database) = Database::start() else {
        return;
    };
    let dir = DataDir::new();
    let owner = database.address();
    database.sql("CREATE ROLE poor LOGIN").unwrap();
    let poor = owner.replacen("perennial@", "poor@", 1);
    let hello = guest("hello-sequence");
    let deploy = ["deploy", "-q", hello.to_str().unwrap(), "--task-hub"];
    for hub in ["one", "two"] {
        let (said, succeeds) = told(&owner, dir.path(), &[&deploy[..], &[hub]].concat());
        assert!(succeeds, "{said}");
    }
    let (said, _) = told(&owner, dir.path(), &["hubs"]);
    assert!(said.contains("\none ") && said.contains("\ntwo "), "{said}");
    assert!(!said.contains("cannot be read"), "{said}");
    let (said, _) = told(&poor, dir.path(), &["hubs"]);
    let line = "\n2 schemas of the database look like task hubs and cannot be read by this user";
    assert!(said.contains(line), "{said}");
    let (said, _) = told(&poor, dir.path(), &["hubs", "--json"]);
    assert!(said.starts_with("[]\n{\"note\":\"2 schemas "), "{said}");
    database
        .sql("GRANT USAGE ON SCHEMA perennial_one TO poor")
        .unwrap();
    let (said, _) = told(&poor, dir.path(), &["hubs"]);
    assert!(said.contains("\none "), "{said}");
    assert!(
        said.contains("\n1 schema of the database looks like"),
        "{said}"
    );
}

#[test]
fn a_hub_is_not_named_like_an_option() {
    let Some(database) = Database::start() else {
        return;
    };
    let dir = DataDir::new();
    let hello = guest("hello-sequence");
    let hello = hello.to_str().unwrap();
    let run = |args: &[&str]| told(&database.address(), dir.path(), args);
    assert!(run(&["hubs", "create", "a-b"]).1);
    let here = dir.path().to_str().unwrap();
    for args in [
        &["hubs", "create", "--", "--help"][..],
        &["hubs", "copy", "--to", here, "--as=--help", "a-b"],
        &["hubs", "copy", "--to", here, "--", "--help"],
        &["hubs", "show", "--", "--help"],
        &["delete-task-hub", "--yes", "--", "--help"],
        &["deploy", hello, "--task-hub=--help"],
        &["serve", "--task-hub=--help", "--listen", "none"],
    ] {
        let (said, succeeds) = run(args);
        assert!(!succeeds, "{args:?}: {said}");
        let why = "the task hub name \"--help\" must not begin with a dash";
        assert!(said.contains(why), "{args:?}: {said}");
    }
    let (said, _) = run(&["hubs"]);
    assert!(said.contains("a-b") && !said.contains("--help"), "{said}");
}
