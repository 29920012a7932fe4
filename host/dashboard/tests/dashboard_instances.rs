//! The list of instances, and commands on many of them, as a browser uses them.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use perennial::{Client, Host, InstanceStatus, Module, Status};
use tower::ServiceExt as _;

const HOSTILE: &str = "<b>\"x\"<i>";

struct Hub {
    host: Host,
    pages: Router,
    _directory: tempfile::TempDir,
}

/// An answer.
struct Got {
    status: StatusCode,
    to: Option<String>,
    text: String,
}

impl Hub {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::builder()
            .data_dir(directory.path())
            .start()
            .await
            .unwrap();
        let pages = perennial_dashboard::router(host.client());
        Self {
            host,
            pages,
            _directory: directory,
        }
    }

    /// A hub with instances that wait for an event `Decision`.
    async fn with_instances(ids: &[&str]) -> Self {
        let hub = Self::new().await;
        let client = hub.client();
        client
            .deploy(Module::from_file(guest("human-approval")).unwrap())
            .await
            .unwrap();
        let input = serde_json::json!({ "purpose": "a trip" });
        for id in ids {
            client
                .start("Approve")
                .id(*id)
                .input(&input)
                .tag("<i>k", "=1+1")
                .await
                .unwrap();
        }
        // Until all wait for the event, so that statuses do not change meanwhile.
        for id in ids {
            let limit = Duration::from_secs(30);
            let shows = |status: &InstanceStatus| status.custom_status.is_some();
            let waited = client.wait_until(id, limit, shows).await.unwrap();
            assert!(waited.reached().is_some(), "{id}");
        }
        hub
    }

    fn client(&self) -> Client {
        self.host.client()
    }

    async fn ask(&self, request: Request<Body>) -> Got {
        let response = self.pages.clone().oneshot(request).await.unwrap();
        let to = response.headers().get(header::LOCATION);
        let to = to.map(|to| to.to_str().unwrap().to_owned());
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Got { status, to, text }
    }

    async fn get(&self, path: &str) -> Got {
        let path = if path.starts_with("/ui/") {
            path.to_owned()
        } else {
            format!("/ui/default{path}")
        };
        let request = Request::get(path).header(header::HOST, "localhost");
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form as a page of this visitor does.
    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Got {
        let page = self.get("/instances").await.text;
        let (_, token) = page.split_once("name=\"form-token\" content=\"").unwrap();
        let (token, _) = token.split_once('"').unwrap();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields).append_pair("token", token);
        let request = Request::post(format!("/ui/default{path}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.ask(request.body(Body::from(form.finish())).unwrap())
            .await
    }

    /// Gives a command, and reads its result once it has ended.
    async fn command(&self, fields: &[(&str, &str)]) -> String {
        let given = self.send("/bulk", fields).await;
        assert_eq!(given.status, StatusCode::SEE_OTHER, "{}", given.text);
        let to = given.to.unwrap();
        let result = self.get(&format!("{to}?wait=20")).await.text;
        assert!(!result.contains(": running"), "{result}");
        result
    }

    /// The value of the box of an instance in the list.
    async fn row(&self, id: &str) -> String {
        let status = self.client().status(id).await.unwrap();
        let run = status.map_or_else(|| "0".repeat(32), |status| status.run);
        format!("{run}:{id}")
    }

    /// What the form of a confirmation sends.
    async fn confirmed(&self, fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let page = self.send("/bulk/confirm", fields).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let (_, form) = page.text.split_once("action=\"/ui/default/bulk\"").unwrap();
        let hidden = form.split("<input type=\"hidden\" name=\"").skip(1);
        let pairs = hidden.map(|field| {
            let (name, rest) = field.split_once("\" value=\"").unwrap();
            let value = rest.split_once('"').unwrap().0.replace("&amp;", "&");
            (name.to_owned(), value)
        });
        pairs.filter(|(name, _)| name != "token").collect()
    }

    /// Confirms a command, and gives it, with what is filled in on the confirmation.
    async fn confirm(&self, fields: &[(&str, &str)], more: &[(&str, &str)]) -> String {
        let sent = self.confirmed(fields).await;
        self.give(&sent, more).await
    }

    async fn give(&self, confirmed: &[(String, String)], more: &[(&str, &str)]) -> String {
        let sent = confirmed.iter().map(|(name, value)| (&**name, &**value));
        let sent: Vec<_> = sent.chain(more.iter().copied()).collect();
        self.command(&sent).await
    }

    async fn status(&self, id: &str) -> Option<Status> {
        let status = self.client().status(id).await.unwrap();
        status.map(|status| status.runtime_status)
    }

    async fn close(self) {
        self.host.shut_down().await;
    }
}

/// The `.wasm` file of a sample, built if there is none.
fn guest(package: &str) -> PathBuf {
    // <target>/<profile>/deps/<this test>
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let path = target.join("guests").join(format!("{package}.wasm"));
    if !path.is_file() {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let mut build = Command::new("bash");
        let built = build
            .arg(root.join(".ci/guests"))
            .arg(package)
            .current_dir(root)
            .env("CARGO_TARGET_DIR", target);
        assert!(built.status().unwrap().success(), "{package} was not built");
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_hub_says_what_to_do() {
    let hub = Hub::new().await;
    let all = hub.get("/instances").await;
    assert_eq!(all.status, StatusCode::OK);
    assert!(
        all.text.contains("There are no instances yet"),
        "{}",
        all.text
    );
    let some = hub
        .get("/instances?status=Failed&tag=%3Cb%3E%3D1")
        .await
        .text;
    assert!(
        some.contains("No instance matches") && some.contains("Clear all"),
        "{some}"
    );
    assert!(!some.contains("<b>"), "{some}");
    assert!(
        hub.get("/instances?order=endedFirst")
            .await
            .text
            .contains("No instance has ended yet")
    );
    let wrong = hub.get("/instances?status=Done").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text.contains("is no status"), "{}", wrong.text);
    assert_eq!(
        hub.get("/instances?after=1.2.3").await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(hub.get("/instances.csv").await.text.lines().count(), 1);
    assert_eq!(hub.get("/instances.jsonl").await.text, "");
    assert_eq!(hub.get("/instances.json").await.text, "[\n]\n");
    assert_eq!(
        hub.get("/instances.csv?tag=x").await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(hub.get("/count?status=Failed").await.status, StatusCode::OK);
    assert_eq!(hub.get("/bulk/0123").await.status, StatusCode::NOT_FOUND);
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_tags_are_text_everywhere() {
    let hub = Hub::with_instances(&[HOSTILE, "confirm", "=1+1"]).await;
    for path in [
        "/instances",
        "/instances?status=Running&tag=%3Ci%3Ek%3D%3D1%2B1",
    ] {
        let page = hub.get(path).await.text;
        assert!(
            page.contains("&lt;b&gt;") && page.contains("&lt;i&gt;k"),
            "{page}"
        );
        assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
        assert!(page.contains("/instances/confirm\""), "{page}");
    }
    let row = hub.row(HOSTILE).await;
    let fields = [("scope", "selected"), ("action", "suspend"), ("id", &*row)];
    let confirm = hub.send("/bulk/confirm", &fields).await;
    assert_eq!(confirm.status, StatusCode::OK);
    assert!(!confirm.text.contains("<b>"), "{}", confirm.text);
    assert_eq!(hub.status(HOSTILE).await, Some(Status::Running));
    let csv = hub.get("/instances.csv").await.text;
    assert!(
        csv.contains("\r\n'=1+1,Approve,") && csv.contains("\r\n\"<b>\"\"x\"\"<i>\","),
        "{csv}"
    );
    let json = hub.get("/instances.json").await.text;
    let json: Vec<InstanceStatus> = serde_json::from_str(&json).unwrap();
    assert_eq!(json.len(), 3);
    assert_eq!(
        hub.get("/instances.jsonl?payloads=yes")
            .await
            .text
            .matches("\"purpose\"")
            .count(),
        3
    );
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other() {
    let hub = Hub::with_instances(&["a-1", "a-2", "b-1"]).await;
    let first = hub.get("/instances?limit=2").await.text;
    assert!(first.contains("b-1") && !first.contains("a-1"), "{first}");
    let (before, _) = first.split_once("\">Next page").unwrap();
    let (_, next) = before.rsplit_once("href=\"").unwrap();
    let second = hub.get(&next.replace("&amp;", "&")).await.text;
    assert!(
        second.contains("a-1") && !second.contains("b-1") && second.contains("First page"),
        "{second}"
    );
    let counts = hub.get("/count?idPrefix=a-").await.text;
    assert!(counts.contains("<td class=\"num\">2</td>"), "{counts}");
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_selected_instances_says_what_it_did() {
    let hub = Hub::with_instances(&["a-1", "a-2"]).await;
    let none = hub
        .send(
            "/bulk/confirm",
            &[("scope", "selected"), ("action", "purge")],
        )
        .await;
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    let (one, gone) = (hub.row("a-1").await, hub.row("gone").await);
    let event = [
        ("scope", "selected"),
        ("action", "event"),
        ("id", &*one),
        ("id", &*gone),
    ];
    let bad = [&event[..], &[("event", "Decision"), ("data", "{")]].concat();
    let refused = hub.send("/bulk", &bad).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(
        refused.text.contains("value=\"Decision\""),
        "what was entered is kept: {}",
        refused.text
    );
    let data = r#"{"approved":true,"by":"Ada"}"#;
    let good = [&event[..], &[("event", "decision"), ("data", data)]].concat();
    let result = hub.command(&good).await;
    assert!(
        result.contains("1 sent the event") && result.contains("gone"),
        "{result}"
    );
    let ended = hub
        .client()
        .wait_for_completion("a-1", Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(ended.reached().unwrap().runtime_status, Status::Completed);
    let two = hub.row("a-2").await;
    let result = hub
        .command(&[
            ("scope", "selected"),
            ("action", "purge"),
            ("id", &*one),
            ("id", &*two),
        ])
        .await;
    assert!(
        result.contains("1 deleted") && result.contains("a-2"),
        "{result}"
    );
    assert_eq!(
        (hub.status("a-1").await, hub.status("a-2").await),
        (None, Some(Status::Running))
    );
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_all_that_match_changes_no_others() {
    let hub = Hub::with_instances(&["a-1", "a-2", "b-1"]).await;
    let fields = [
        ("scope", "filter"),
        ("action", "terminate"),
        ("filter", "?idPrefix=a-"),
    ];
    let confirm = hub.send("/bulk/confirm", &fields).await;
    assert!(
        confirm.text.contains("Terminate 2 instances?"),
        "{}",
        confirm.text
    );
    // What was not confirmed is asked about.
    let asked = hub.send("/bulk", &fields).await;
    assert_eq!(asked.status, StatusCode::BAD_REQUEST);
    assert!(
        asked.text.contains("Terminate 2 instances?"),
        "{}",
        asked.text
    );
    assert!(hub.confirm(&fields, &[]).await.contains("2 terminated"));
    assert_eq!(hub.status("b-1").await, Some(Status::Running));
    for id in ["a-1", "a-2"] {
        let client = hub.client();
        let ended = client
            .wait_for_completion(id, Duration::from_secs(30))
            .await;
        let ended = ended.unwrap().reached().unwrap();
        assert_eq!(ended.runtime_status, Status::Terminated);
    }
    let again = hub.send("/bulk/confirm", &fields).await.text;
    assert!(again.contains("nothing to do"), "{again}");
    let everything = [("scope", "filter"), ("action", "cancel"), ("filter", "")];
    let refused = hub.send("/bulk", &everything).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(hub.status("b-1").await, Some(Status::Running));
    let wrong = [
        ("scope", "filter"),
        ("action", "cancel"),
        ("filter", "?status=Done"),
    ];
    assert_eq!(
        hub.send("/bulk", &wrong).await.status,
        StatusCode::BAD_REQUEST
    );
    let all = hub.confirm(&everything, &[("all", "yes")]).await;
    assert!(all.contains("1 asked to end"), "{all}");
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_to_match_after_the_confirmation_is_left_alone() {
    let hub = Hub::with_instances(&["a-1", "a-2"]).await;
    let fields = [
        ("scope", "filter"),
        ("action", "terminate"),
        ("filter", "?idPrefix=a-"),
    ];
    let confirmed = hub.confirmed(&fields).await;
    let input = serde_json::json!({ "purpose": "a trip" });
    let client = hub.client();
    client
        .start("Approve")
        .id("a-3")
        .input(&input)
        .await
        .unwrap();
    let result = hub.give(&confirmed, &[]).await;
    assert!(result.contains("2 terminated"), "{result}");
    assert!(result.contains("more match now, and did not"), "{result}");
    assert_ne!(hub.status("a-3").await, Some(Status::Terminated));
    // Where there are too many to name each, the moment of the confirmation counts.
    client.terminate("a-3", None).await.unwrap();
    for id in ["a-1", "a-2", "a-3"] {
        let limit = Duration::from_secs(30);
        let ended = client.wait_for_completion(id, limit).await.unwrap();
        assert!(ended.reached().is_some(), "{id}");
    }
    let purge = [
        ("scope", "filter"),
        ("action", "purge"),
        ("filter", "?idPrefix=a-"),
    ];
    let mut confirmed = hub.confirmed(&purge).await;
    confirmed.retain(|(name, _)| name != "id" && name != "each");
    client.restart("a-1").await.unwrap();
    client.terminate("a-1", None).await.unwrap();
    let ended = client.wait_for_completion("a-1", Duration::from_secs(30));
    assert!(ended.await.unwrap().reached().is_some());
    let result = hub.give(&confirmed, &[]).await;
    assert!(
        result.contains("2 deleted") && result.contains("more match now"),
        "{result}"
    );
    assert_eq!(hub.status("a-1").await, Some(Status::Terminated));
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selected_run_is_not_the_one_that_took_its_place() {
    let hub = Hub::with_instances(&["a-1", "a-2"]).await;
    let client = hub.client();
    let (one, two) = (hub.row("a-1").await, hub.row("a-2").await);
    client.terminate("a-1", None).await.unwrap();
    let ended = client.wait_for_completion("a-1", Duration::from_secs(30));
    assert!(ended.await.unwrap().reached().is_some());
    client.restart("a-1").await.unwrap();
    let fields = [
        ("scope", "selected"),
        ("action", "terminate"),
        ("id", &*one),
        ("id", &*two),
    ];
    let page = hub.send("/bulk/confirm", &fields).await.text;
    assert!(page.contains("was started again since"), "{page}");
    let result = hub.confirm(&fields, &[]).await;
    assert!(
        result.contains("1 terminated") && result.contains("has changed since"),
        "{result}"
    );
    assert_ne!(hub.status("a-1").await, Some(Status::Terminated));
    let unsaid = [
        ("scope", "selected"),
        ("action", "terminate"),
        ("id", "a-1"),
    ];
    let refused = hub.send("/bulk", &unsaid).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_very_many_fields_is_refused_at_once() {
    let hub = Hub::new().await;
    let row = format!("{}:a", "0".repeat(32));
    let fields = vec![("id", &*row); 60_000];
    let begun = std::time::Instant::now();
    let refused = hub.send("/bulk/confirm", &fields).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        refused.text.contains("fields, and at most"),
        "{}",
        refused.text
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_without_the_token_of_a_page() {
    let hub = Hub::with_instances(&["a-1"]).await;
    let request = Request::post("/ui/default/bulk")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let form = "scope=selected&action=terminate&id=a-1&token=guess";
    let refused = hub.ask(request.body(Body::from(form)).unwrap()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(hub.status("a-1").await, Some(Status::Running));
    hub.close().await;
}
