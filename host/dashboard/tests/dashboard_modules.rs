//! The pages of modules and of starting, driven as a browser drives them.
//!
//! Where the components of the samples were built, one is deployed and started; without them, only an empty hub is looked at.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use perennial::{Client, Host, Role};
use tower::ServiceExt as _;

struct Site {
    app: Router,
    client: Client,
    /// The key that requests have.
    key: Option<String>,
    _host: Host,
    _dir: tempfile::TempDir,
}

/// An answer: its status, where it leads, and its text.
struct Answer {
    status: StatusCode,
    to: String,
    cookie: String,
    text: String,
}

impl Site {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
        let client = host.client();
        Self {
            app: perennial_dashboard::router(client.clone()),
            client,
            key: None,
            _host: host,
            _dir: dir,
        }
    }

    async fn ask(&self, mut request: Request<Body>) -> Answer {
        if let Some(key) = &self.key {
            let headers = request.headers_mut();
            headers.insert("x-functions-key", key.parse().unwrap());
        }
        let response: Response<Body> = self.app.clone().oneshot(request).await.unwrap();
        let to = response.headers().get(header::LOCATION);
        let to = to.map_or(String::new(), |to| to.to_str().unwrap().to_owned());
        let cookie = response.headers().get(header::SET_COOKIE);
        let cookie = cookie.map_or(String::new(), |set| set.to_str().unwrap().to_owned());
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer {
            status,
            to,
            cookie,
            text,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = Request::get(format!("/ui/default{path}")).header(header::HOST, "localhost");
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    async fn token(&self) -> String {
        let page = self.get("/modules").await.text;
        let (_, rest) = page.split_once("name=\"form-token\" content=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("token", &self.token().await)
            .extend_pairs(fields);
        let request = Request::post(format!("/ui/default{path}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.ask(request.body(Body::from(body.finish())).unwrap())
            .await
    }

    async fn upload(&self, path: &str, bytes: &[u8]) -> Answer {
        let request = Request::post(format!("/ui/default{path}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/wasm")
            .header("x-form-token", self.token().await);
        self.ask(request.body(Body::from(bytes.to_vec())).unwrap())
            .await
    }
}

/// The component of a sample, where it was built.
fn component(name: &str) -> Option<Vec<u8>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target =
        target.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target").into());
    std::fs::read(target.join("guests").join(format!("{name}.wasm"))).ok()
}

#[tokio::test]
async fn an_empty_hub_says_what_to_do_next() {
    let site = Site::new().await;
    let modules = site.get("/modules").await;
    assert_eq!(modules.status, StatusCode::OK);
    assert!(
        modules.text.contains("No module is deployed"),
        "{}",
        modules.text
    );
    let start = site.get("/start").await;
    assert!(
        start.text.contains("No orchestration is deployed"),
        "{}",
        start.text
    );
    // A name that no module defines may be one of a remote worker.
    let unknown = site.get("/start?name=%3Cb%3ENobody").await;
    assert!(
        unknown
            .text
            .contains("No deployed module defines this name"),
        "{}",
        unknown.text
    );
    assert!(unknown.text.contains("&lt;b&gt;Nobody") && !unknown.text.contains("<b>Nobody"));
    let missing = site.get("/modules/%3Cscript%3Ex").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(!missing.text.contains("<script>x"), "{}", missing.text);
}

#[tokio::test]
async fn what_is_refused_is_said_and_nothing_is_lost() {
    let site = Site::new().await;
    let tried = site
        .post(
            "/start",
            &[
                ("name", "Nobody"),
                ("as", "json"),
                ("input", "{\"a\":"),
                ("tags", "a=<i>"),
            ],
        )
        .await;
    assert_eq!(tried.status, StatusCode::BAD_REQUEST);
    assert!(
        tried
            .text
            .contains("The input is not JSON: EOF while parsing a value at line 1 column 5"),
        "{}",
        tried.text
    );
    assert!(
        tried.text.contains("{&quot;a&quot;:</textarea>")
            && tried.text.contains("a=&lt;i&gt;</textarea>"),
        "{}",
        tried.text
    );
    let tried = site
        .post(
            "/start",
            &[("name", "Nobody"), ("at", "2030-01-01"), ("after", "1")],
        )
        .await;
    assert!(
        tried.text.contains("Give a delay or a time, not both."),
        "{}",
        tried.text
    );
    let gone = site.post("/modules/none/remove", &[]).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "{}", gone.text);
    let empty = site.upload("/deploy/inspect?name=a", b"").await;
    assert_eq!(empty.status, StatusCode::BAD_REQUEST);
    let wrong = site
        .upload("/deploy/inspect?name=a", b"<b>no component</b>")
        .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(
        wrong.text.contains("role=\"alert\"") && !wrong.text.contains("<b>"),
        "{}",
        wrong.text
    );
    let unnamed = site.upload("/deploy/inspect", b"x").await;
    assert!(
        unnamed.text.contains("Give the module a name."),
        "{}",
        unnamed.text
    );
    let without_token = Request::post("/ui/default/collect")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let without_token = site.ask(without_token.body(Body::empty()).unwrap()).await;
    assert_eq!(without_token.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_component_is_previewed_deployed_granted_started_and_removed() {
    let Some(bytes) = component("hello-sequence") else {
        return;
    };
    let mut site = Site::new().await;
    let preview = site.upload("/deploy/inspect?name=hello", &bytes).await;
    assert_eq!(preview.status, StatusCode::OK, "{}", preview.text);
    assert!(
        preview.text.contains("HelloSequence") && preview.text.contains("a new name"),
        "{}",
        preview.text
    );
    assert!(site.client.modules().await.unwrap().is_empty());
    let (_, digest) = preview.text.split_once("data-digest=\"").unwrap();
    let digest = digest.split_once('"').unwrap().0.to_owned();

    let other = site.upload("/deploy?name=hello&digest=00", &bytes).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert!(
        other.text.contains("not the component that was previewed"),
        "{}",
        other.text
    );
    let done = site
        .upload(&format!("/deploy?name=hello&digest={digest}"), &bytes)
        .await;
    assert_eq!(done.text, "/ui/default/modules/hello");
    assert!(done.cookie.contains("; Path=/ui/default/modules/hello;"));
    let taken = site
        .upload(&format!("/deploy?name=other&digest={digest}"), &bytes)
        .await;
    assert_eq!(taken.status, StatusCode::CONFLICT, "{}", taken.text);

    // Grants are for whom the API lets change them, and nobody else sees the form.
    let form = [("http-host", "a.example"), ("digest", &*digest)];
    let refused = site.post("/modules/hello/grants", &form).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    assert!(
        refused.text.contains("needs an admin key"),
        "{}",
        refused.text
    );
    let page = site.get("/modules/hello").await.text;
    assert!(
        !page.contains("name=\"http-host\"") && page.contains("/sign-in"),
        "{page}"
    );
    let key = site.client.create_key("ops", Role::Admin).await.unwrap();
    site.key = Some(key.secret);
    let stale = [("http-host", "a.example"), ("digest", "00")];
    let refused = site.post("/modules/hello/grants", &stale).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    let page = site.get("/modules/hello").await.text;
    assert!(page.contains("name=\"http-host\""), "{page}");

    let granted = site
        .post(
            "/modules/hello/grants",
            &[
                ("digest", &*digest),
                ("env-name", "KEY"),
                ("env-value", "s3cret"),
                ("http-host", "a.example"),
            ],
        )
        .await;
    assert!(
        granted.cookie.contains("perennial-told-"),
        "{}",
        granted.text
    );
    let form = [("no-host", "a.example"), ("digest", &*digest)];
    let granted = site.post("/modules/hello/grants", &form).await;
    assert_eq!(granted.status, StatusCode::SEE_OTHER, "{}", granted.text);
    let module = site.client.modules().await.unwrap().remove(0);
    assert_eq!(module.grants, perennial::Grants::new().env("KEY", "s3cret"));
    let page = site.get("/modules/hello").await.text;
    assert!(
        page.contains("KEY") && !page.contains("s3cret") && !page.contains("a.example</code>"),
        "{page}"
    );

    // Without an admin key no other component gets the grants.
    site.key = None;
    if let Some(other) = component("human-approval") {
        let preview = site.upload("/deploy/inspect?name=hello", &other).await;
        assert!(preview.text.contains("has grants"), "{}", preview.text);
        assert!(
            !preview.text.contains("data-step=\"deploy\""),
            "{}",
            preview.text
        );
        let digest = perennial::Module::from_bytes("hello", &other)
            .unwrap()
            .digest();
        let path = format!("/deploy?name=hello&digest={digest}");
        let refused = site.upload(&path, &other).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    }
    let again = format!("/deploy?name=hello&digest={digest}");
    assert_eq!(site.upload(&again, &bytes).await.status, StatusCode::OK);
    let taking = format!("/deploy?name=thief&digest={digest}&replace=yes");
    let refused = site.upload(&taking, &bytes).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);

    let started = site
        .post(
            "/start",
            &[
                ("name", "HelloSequence"),
                ("as", "json"),
                ("id", "a b"),
                ("tags", "k=v"),
            ],
        )
        .await;
    assert!(
        started.to.starts_with("/ui/default/instances/a%20b"),
        "{} {}",
        started.to,
        started.text
    );
    let status = site.client.status("a b").await.unwrap().unwrap();
    assert_eq!(status.tags, [("k".to_owned(), "v".to_owned())]);

    runs_again_with_another_input(&site).await;

    let checked = site.upload("/deploy/check?name=hello", &bytes).await;
    assert!(checked.text.contains("\n\n<p"), "{}", checked.text);
    let removed = site
        .post(
            "/modules/hello/remove",
            &[("in-use", "yes"), ("digest", &*digest)],
        )
        .await;
    assert_eq!(removed.to, "/ui/default/modules", "{}", removed.text);
    assert!(site.client.modules().await.unwrap().is_empty());
    let collected = site.post("/collect", &[("old", "yes")]).await;
    assert!(
        collected.cookie.contains("perennial-told-"),
        "{}",
        collected.to
    );
}

/// The value of a hidden field of a form.
fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page
        .split_once(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("no {name}: {page}"));
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_rolled_back_after_a_preview_and_a_check() {
    let (Some(one), Some(two)) = (component("version-one"), component("version-two")) else {
        return;
    };
    let site = Site::new().await;
    let mut digests = Vec::new();
    for bytes in [one, two] {
        let module = site.client.look_at("orders", bytes).await.unwrap();
        digests.push(module.digest().to_string());
        site.client.deploy(module).await.unwrap();
    }
    let (first, second) = (&digests[0], &digests[1]);
    let id = site.client.start("Bill").await.unwrap();
    let limit = std::time::Duration::from_secs(30);
    site.client.wait_for_start(&id, limit).await.unwrap();

    let page = site.get("/modules/orders").await.text;
    let link = format!("/stored/{first}?name=orders");
    assert!(page.contains(&link), "{page}");
    assert!(!page.contains(&format!("/stored/{second}?")), "{page}");
    let preview = site.get(&link).await;
    assert_eq!(preview.status, StatusCode::OK, "{}", preview.text);
    for words in [
        "Roll back orders to this version",
        "updated: new instances and calls use the new component",
        "dropped: other modules could not call it any more",
        "Check whether they could go on with it",
        &format!("/api/v1/modules/{first}/component"),
    ] {
        assert!(preview.text.contains(words), "{words}: {}", preview.text);
    }
    let to = format!("/stored/{first}");
    let before = hidden(&preview.text, "before");
    assert_eq!(&before, second);
    let fields = |step| [("step", step), ("name", "orders"), ("before", &*before)];
    let checked = site.post(&to, &fields("check")).await;
    assert!(
        checked.text.contains("could go on with it."),
        "{}",
        checked.text
    );
    assert_eq!(&site.client.modules().await.unwrap()[0].digest, second);

    let done = site.post(&to, &fields("deploy")).await;
    assert_eq!(done.to, "/ui/default/modules/orders", "{}", done.text);
    assert_eq!(&site.client.modules().await.unwrap()[0].digest, first);
    // The same form again: what it would replace is not what was seen.
    let again = site.post(&to, &fields("deploy")).await;
    assert!(
        again.text.contains("Something else is deployed as orders"),
        "{}",
        again.text
    );
    let forged = Request::post(format!("/ui/default{to}"))
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let forged = site.ask(forged.body(Body::empty()).unwrap()).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);

    let other = site
        .get(&format!("/stored/{second}?name=%3Cb%3E"))
        .await
        .text;
    assert!(
        other.contains("Take the names over") && !other.contains("<b>"),
        "{other}"
    );
    let name = [("step", "deploy"), ("name", "<b>"), ("before", "nothing")];
    let taken = site.post(&format!("/stored/{second}"), &name).await;
    assert!(taken.text.contains("belongs to module"), "{}", taken.text);
    for gone in ["/stored/0123456789ab", "/stored/%3Cscript%3Ex"] {
        let gone = site.get(gone).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        assert!(!gone.text.contains("<script>x"), "{}", gone.text);
    }
}

/// The instance `a b` has the tag `k=v`.
async fn runs_again_with_another_input(site: &Site) {
    let limit = std::time::Duration::from_secs(20);
    let ended = async |id: &str| site.client.wait_for_completion(id, limit).await.unwrap();
    ended("a b").await;
    let form = site.get("/start?of=a%20b").await.text;
    assert!(form.contains("Run again with another input"), "{form}");
    assert!(form.contains("name=\"of\" value=\"a b\""), "{form}");
    assert!(form.contains("k=v</textarea>"), "{form}");
    let same = [
        ("of", "a b"),
        ("as", "json"),
        ("input", "{\"new\":1}"),
        ("tags", "k=v"),
        ("id-as", "same"),
    ];
    let started = site.post("/start", &same).await;
    assert!(
        started.to.starts_with("/ui/default/instances/a%20b"),
        "{}",
        started.text
    );
    ended("a b").await;
    let status = site
        .client
        .status("a b")
        .show_input()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.input.unwrap().as_str(), "{\"new\":1}");
    assert_eq!(status.tags, [("k".to_owned(), "v".to_owned())]);
    let given = [("of", "a b"), ("as", "json"), ("id-as", "given")];
    let refused = site.post("/start", &given).await;
    assert!(
        refused.text.contains("Type the id of the new run."),
        "{}",
        refused.text
    );
    let given = [
        ("of", "a b"),
        ("as", "json"),
        ("id-as", "given"),
        ("id", "a b"),
    ];
    let refused = site.post("/start", &given).await;
    assert!(
        refused.text.contains("Nothing was started."),
        "{}",
        refused.text
    );
    let given = [
        ("of", "a b"),
        ("as", "json"),
        ("id-as", "given"),
        ("id", "c"),
    ];
    let started = site.post("/start", &given).await;
    assert!(
        started.to.starts_with("/ui/default/instances/c"),
        "{}",
        started.text
    );
    let new = site.post("/start", &[("of", "a b"), ("as", "json")]).await;
    assert!(new.to.starts_with("/ui/default/instances/"), "{}", new.text);
    assert_eq!(
        site.get("/start?of=none").await.status,
        StatusCode::NOT_FOUND
    );
    for id in ["a b", "c"] {
        ended(id).await;
    }
}
