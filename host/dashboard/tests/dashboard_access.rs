//! Who may see the pages, who may change something, and what a browser may do with them.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use perennial::http::Api;
use perennial::{Client, Host, Role};
use tempfile::TempDir;
use tower::ServiceExt;

struct World {
    _dir: TempDir,
    host: Option<Host>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
        let host = Some(host);
        Self { _dir: dir, host }
    }

    fn client(&self) -> Client {
        self.host.as_ref().unwrap().client()
    }

    async fn end(mut self) {
        self.host.take().unwrap().shut_down().await;
    }
}

struct Answer {
    status: StatusCode,
    head: axum::http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.head
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let answer: Response<Body> = router.clone().oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        head: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn get(router: &Router, path: &str, cookie: &str) -> Answer {
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .header(header::COOKIE, cookie);
    ask(router, request.body(Body::empty()).unwrap()).await
}

async fn post(router: &Router, path: &str, cookie: &str, form: &str) -> Answer {
    let request = Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::COOKIE, cookie);
    ask(router, request.body(Body::from(form.to_owned())).unwrap()).await
}

/// The token of the forms of a page.
fn token(page: &Answer) -> &str {
    let (_, rest) = page
        .body
        .split_once(r#"name="form-token" content=""#)
        .unwrap();
    rest.split('"').next().unwrap()
}

#[tokio::test]
async fn a_key_is_asked_for_and_permits_what_its_role_says() {
    let world = World::new().await;
    let client = world.client();
    let admin = client.create_key("people", Role::Admin).await.unwrap();
    let reader = client.create_key("screens", Role::ReadOnly).await.unwrap();
    let api = Api::new(client.clone()).require_keys();
    let router = api.pages(perennial_dashboard::pages()).into_router();

    let asked = get(&router, "/ui/default/instances?status=Failed", "").await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert!(asked.body.contains("asks for a key"), "{}", asked.body);
    // A hub that is not served looks the same.
    let other = get(&router, "/ui/other/", "").await;
    assert_eq!(other.status, StatusCode::UNAUTHORIZED);

    let form = |key: &str, then: &str| format!("token={}&then={then}&key={key}", token(&asked));
    let sign_in = "/ui/default/sign-in";
    let wrong = post(&router, sign_in, "", &form("prn_wrong", "")).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.body.contains("no key of this task hub"));
    let then = "/default/instances?status=Failed";
    let right = post(&router, sign_in, "", &form(&admin.secret, then)).await;
    assert_eq!(right.status, StatusCode::SEE_OTHER);
    assert_eq!(right.header(header::LOCATION), format!("/ui{then}"));
    let cookie = right.header(header::SET_COOKIE);
    assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
    // Nobody is led to another site.
    for away in [
        "//evil.example",
        "https://evil.example",
        "/default/\\evil",
        "/other/",
    ] {
        let led = post(&router, sign_in, "", &form(&admin.secret, away)).await;
        assert_eq!(led.header(header::LOCATION), "/ui/default/", "{away}");
    }

    assert!(!cookie.contains(&admin.secret), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    assert!(
        cookie.starts_with("perennial-session-80-default="),
        "{cookie}"
    );
    // A key in a cookie is no session.
    let key = format!("perennial-session-80-default={}", admin.secret);
    let refused = get(&router, "/ui/default/workers", &key).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let page = get(&router, "/ui/default/workers", &cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    // The cookie reads the API and changes nothing there.
    let counts = get(&router, "/api/v1/counts", &cookie).await;
    assert_eq!(counts.status, StatusCode::OK);
    let body = r#"{"name":"Any"}"#;
    let started = post(&router, "/api/v1/instances", &cookie, body).await;
    assert_eq!(started.status, StatusCode::UNAUTHORIZED);

    let right = post(&router, sign_in, "", &form(&reader.secret, "")).await;
    let cookie = right.header(header::SET_COOKIE);
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = get(&router, "/ui/default/workers", &cookie).await;
    assert!(page.body.contains("read-only"));
    // Signing out needs the token of a form, too, and a reader may do it.
    let sign_out = "/ui/default/sign-out";
    let refused = post(&router, sign_out, &cookie, "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let out = post(
        &router,
        sign_out,
        &cookie,
        &format!("token={}", token(&page)),
    )
    .await;
    assert_eq!(out.status, StatusCode::SEE_OTHER, "{}", out.body);
    assert!(out.header(header::SET_COOKIE).contains("Max-Age=0"));
    let form = format!("token={}", token(&page));
    let refused = post(&router, "/ui/default/start", &cookie, &form).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(client.revoke_key(&reader.key.id).await.unwrap());
    let page = get(&router, "/ui/default/workers", &cookie).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    world.end().await;
}

#[tokio::test]
async fn a_form_of_another_page_changes_nothing() {
    let world = World::new().await;
    let api = Api::new(world.client()).this_machine_only();
    let router = api.pages(perennial_dashboard::pages()).into_router();
    for form in ["", "token=", "token=00000000000000000000000000000000"] {
        let refused = post(&router, "/ui/default/start", "", form).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{form}");
    }
    let page = get(&router, "/ui/default/", "").await;
    let form = format!("token={}&name=Nobody", token(&page));
    let sent = post(&router, "/ui/default/start", "", &form).await;
    assert_ne!(sent.status, StatusCode::FORBIDDEN);
    // Nobody is led to a host that a header names.
    let request = Request::get("/").header(header::HOST, "evil.example");
    let refused = ask(&router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.header(header::LOCATION), "");
    // Neither does another site, nor another name of this address.
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "evil.example"),
    ] {
        let request = Request::post("/ui/default/start").header(name, value);
        let refused = ask(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{name}");
    }
    world.end().await;
}

#[tokio::test]
async fn no_other_site_signs_anybody_in_or_out() {
    let world = World::new().await;
    let client = world.client();
    let key = client.create_key("people", Role::Admin).await.unwrap();
    let api = Api::new(client.clone()).require_keys();
    let router = api.pages(perennial_dashboard::pages()).into_router();
    let asked = get(&router, "/ui/default/", "").await;
    let form = format!("token={}&key={}", token(&asked), key.secret);
    let send = |path: &'static str, name: &'static str, value: &'static str| {
        let request = Request::post(path)
            .header(header::HOST, "localhost:7071")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(name, value);
        request.body(Body::from(form.clone())).unwrap()
    };
    for path in ["/ui/default/sign-in", "/ui/default/sign-out"] {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "http://localhost:7072"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let refused = ask(&router, send(path, name, value)).await;
            assert_eq!(
                refused.status,
                StatusCode::FORBIDDEN,
                "{path} {name} {value}"
            );
            assert!(!refused.head.contains_key(header::SET_COOKIE));
        }
    }
    for (name, value) in [
        ("origin", "http://localhost:7071"),
        ("sec-fetch-site", "same-origin"),
    ] {
        let signed = ask(&router, send("/ui/default/sign-in", name, value)).await;
        assert_eq!(signed.status, StatusCode::SEE_OTHER, "{name} {value}");
        let cookie = signed.header(header::SET_COOKIE);
        assert!(
            cookie.starts_with("perennial-session-7071-default="),
            "{cookie}"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn a_key_in_a_url_gets_nowhere() {
    let world = World::new().await;
    let key = world.client().create_key("a", Role::Admin).await.unwrap();
    let api = Api::new(world.client()).require_keys();
    let router = api.pages(perennial_dashboard::pages()).into_router();
    let path = format!("/ui/default/instances?status=Failed&code={}", key.secret);
    let asked = get(&router, &path, "").await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert!(!asked.body.contains(&key.secret), "{}", asked.body);
    assert!(
        asked
            .body
            .contains("value=\"/default/instances?status=Failed\"")
    );
    let away = get(&router, &format!("/ui/default?code={}", key.secret), "").await;
    assert!(!away.header(header::LOCATION).contains(&key.secret));
    world.end().await;
}

#[tokio::test]
async fn pages_have_a_strict_policy_and_assets_are_kept() {
    let world = World::new().await;
    let router = perennial_dashboard::router(world.client());
    let front = get(&router, "/", "").await;
    assert_eq!(front.header(header::LOCATION), "/ui/");
    let page = get(&router, "/ui/default/", "").await;
    let policy = page.header(header::CONTENT_SECURITY_POLICY);
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    assert!(!page.body.contains(" style=") && !page.body.contains(" onclick="));
    assert_eq!(page.header(header::CACHE_CONTROL), "no-store");
    let assets: Vec<&str> = page
        .body
        .split('"')
        .filter(|part| part.starts_with("/ui/_/"))
        .collect();
    assert!(assets.len() >= 4, "{assets:?}");
    for asset in assets {
        let found = get(&router, asset, "").await;
        assert_eq!(found.status, StatusCode::OK, "{asset}");
        assert!(found.header(header::CACHE_CONTROL).contains("immutable"));
    }
    let nothing = get(&router, "/ui/default/nothing", "").await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
    for path in ["/ui/default/nothing", "/ui/default/instances/a/history/x"] {
        let nothing = get(&router, path, "").await;
        assert_eq!(nothing.status, StatusCode::NOT_FOUND);
        let told = format!("There is no page {path}.");
        assert!(nothing.body.contains(&told), "{}", nothing.body);
    }
    let nobody = get(&router, "/ui/nobody/", "").await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    world.end().await;
}

#[tokio::test]
async fn below_a_path_of_another_program_all_links_stay_below_it() {
    let world = World::new().await;
    let router = Router::new().nest_service("/flows", perennial_dashboard::router(world.client()));
    for mount in ["/flows", "/flows/"] {
        let front = get(&router, mount, "").await;
        assert_eq!(front.header(header::LOCATION), "/flows/ui/");
    }
    let nested = Router::new().nest("/flows", perennial_dashboard::router(world.client()));
    let front = get(&nested, "/flows", "").await;
    assert_eq!(front.header(header::LOCATION), "/flows/ui/");
    for path in ["/flows/ui/default/", "/flows/ui/default/workers"] {
        let page = get(&router, path, "").await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for link in page.body.split("href=\"").skip(1) {
            assert!(
                link.starts_with("/flows/ui/") || link.starts_with("#main"),
                "{link:.80}"
            );
        }
        assert!(page.body.contains("data-live=\"/flows/api/v1/live"));
    }
    world.end().await;
}

/// Sends a body with the token of a page to a form of that page.
async fn sent(router: &Router, media_type: &str, body: String) -> Answer {
    let request = Request::post("/ui/default/start")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, media_type);
    ask(router, request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn a_form_is_one_by_its_media_type_alone() {
    let world = World::new().await;
    let router = perennial_dashboard::router(world.client());
    let page = get(&router, "/ui/default/", "").await;
    let form = format!("token={}&name=Nobody", token(&page));
    for media_type in [
        "application/x-www-form-urlencoded;charset=UTF-8",
        "Application/X-WWW-Form-Urlencoded",
    ] {
        let refused = sent(&router, media_type, form.clone()).await;
        assert!(
            refused.body.contains("Nobody"),
            "{media_type}: {}",
            refused.body
        );
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{media_type}");
    }
    for media_type in ["application/json", "multipart/form-data; boundary=x", ""] {
        let refused = sent(&router, media_type, form.clone()).await;
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let why = "application/x-www-form-urlencoded";
        assert!(refused.body.contains(why), "{media_type}: {}", refused.body);
    }
    world.end().await;
}

#[tokio::test]
async fn people_are_told_as_people_what_is_not_taken() {
    let world = World::new().await;
    let api = Api::new(world.client()).this_machine_only();
    let router = api.pages(perennial_dashboard::pages()).into_router();
    let page = get(&router, "/ui/default/", "").await;
    let form = format!("token={}&input={}", token(&page), "1".repeat(5 << 20));
    let refused = sent(&router, "application/x-www-form-urlencoded", form).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        refused
            .header(header::CONTENT_TYPE)
            .starts_with("text/html")
    );
    for told in ["The body is too large", "Nothing was changed."] {
        assert!(refused.body.contains(told), "{}", refused.body);
    }
    for path in ["/", "/ui/default/"] {
        let request = Request::get(path).header(header::HOST, "evil.example");
        let refused = ask(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(
            refused
                .header(header::CONTENT_TYPE)
                .starts_with("text/plain")
        );
        assert!(
            refused.body.starts_with("This server answers only to"),
            "{}",
            refused.body
        );
    }
    world.end().await;
}
