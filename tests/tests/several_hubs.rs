//! One host process, several task hubs: a request says which it means, and each hub stays by itself.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use perennial::Client;
use perennial_tests::{DataDir, Process, binary, module};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_the_hub_that_it_means() {
    let dir = DataDir::new();
    let serve = Command::new(binary())
        .args([
            "serve",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--and-hub",
            "other",
            "--data-dir",
        ])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut serve = Process(serve);
    let mut lines = BufReader::new(serve.stdout.take().unwrap()).lines();
    let mut line = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let (first, second) = (line(), line());
    assert_eq!(
        (&first["taskHub"], &second["taskHub"]),
        (&"default".into(), &"other".into())
    );
    let url = first["url"].as_str().unwrap();

    let other = Client::open(dir.path(), "other").unwrap();
    other.deploy(module("hello-sequence")).await.unwrap();
    let http = reqwest::Client::new();
    let start = async |query: &str| {
        let url =
            format!("{url}/runtime/webhooks/durabletask/orchestrators/HelloSequence/h?{query}");
        let answer = http.post(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, body) = start("taskHub=other").await;
    assert_eq!(status, 202, "{body}");
    assert!(body.contains("taskHub=other"), "{body}");
    let (status, body) = start("").await;
    assert_eq!(status, 400, "nothing is deployed in the other hub: {body}");
    let (status, body) = start("taskHub=third").await;
    assert!(
        (400..500).contains(&status) && body.contains("other"),
        "{status} {body}"
    );
    let ended = other
        .wait_for_completion("h", Duration::from_secs(60))
        .await;
    assert!(ended.unwrap().reached().is_some());
    let default = Client::open(dir.path(), "default").unwrap();
    assert!(default.status("h").await.unwrap().is_none());

    let killed = Command::new("kill")
        .args(["-TERM", &serve.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let (first, second) = (line(), line());
    assert_eq!(first["stats"]["ended"], 0);
    assert_eq!(second["stats"]["ended"], 1);
    assert!(serve.wait().unwrap().success());
}

#[test]
fn a_hub_that_is_named_twice_is_a_mistake() {
    let dir = DataDir::new();
    let output = Command::new(binary())
        .args([
            "serve",
            "--listen",
            "none",
            "--and-hub",
            "Default",
            "--data-dir",
        ])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("task hub \"Default\" is named twice"),
        "{said}"
    );
}

/// Whatever the order: the hub that is to be made is named first here, as the one that all requests mean.
#[tokio::test(flavor = "multi_thread")]
async fn where_another_process_has_one_of_the_hubs_none_is_made_of_the_others() {
    let dir = DataDir::new();
    let owner = dir.host().start().await.unwrap();
    let names = || {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("new")).collect();
        names.sort();
        names
    };
    // The last cannot be made, when the first of the new ones is already.
    std::fs::create_dir(dir.path().join("zdir.db")).unwrap();
    std::os::unix::fs::symlink("/nonexistent/there/x.db", dir.path().join("zgone.db")).unwrap();
    for and in ["default", "zdir", "zgone"] {
        let output = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--task-hub", "new"])
            .args(["--and-hub", and, "--data-dir"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(!output.status.success(), "{and}");
        assert_eq!(names(), Vec::<String>::new(), "{and}: {output:?}");
    }
    owner.shut_down().await;
}
