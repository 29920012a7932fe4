//! A hub with some guests, and its pages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use perennial::{Client, Host, Module};
use tempfile::TempDir;
use tower::ServiceExt;

fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(target).join(format!("guests/{name}.wasm"))
}

pub(crate) struct World {
    _dir: TempDir,
    host: Host,
    pub(crate) client: Client,
    router: Router,
}

impl World {
    pub(crate) async fn with(guests: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
        let client = host.client();
        for name in guests {
            let file = guest(name);
            let module = Module::from_file(&file);
            let module = module.unwrap_or_else(|error| {
                panic!("{}: {error}; `make guests` makes it", file.display())
            });
            client.deploy(module).await.unwrap();
        }
        let router = perennial_dashboard::router(client.clone());
        Self {
            _dir: dir,
            host,
            client,
            router,
        }
    }

    pub(crate) async fn end(self) {
        self.host.shut_down().await;
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> (StatusCode, String, String) {
        let (status, head, body) = self.answer(request).await;
        let to = head.get(header::LOCATION);
        let to = to.map_or("", |to| to.to_str().unwrap());
        (status, to.to_owned(), body)
    }

    pub(crate) async fn answer(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let (head, body) = self
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (head.status, head.headers, body)
    }

    pub(crate) async fn get(&self, id: &str, below: &str) -> (StatusCode, String) {
        let path = format!("/ui/default/instances/{}{below}", escaped(id));
        let request = Request::get(path).header(header::HOST, "localhost");
        let (status, _, body) = self.ask(request.body(Body::empty()).unwrap()).await;
        (status, body)
    }

    pub(crate) async fn page(&self, id: &str, below: &str) -> String {
        let (status, body) = self.get(id, below).await;
        assert_eq!(status, StatusCode::OK, "{below}: {body}");
        body
    }

    /// The form of an action, with what it says of the run that is shown.
    pub(crate) async fn form(&self, id: &str, form: &str) -> String {
        let page = self.page(id, "").await;
        let token = page.split("name=\"form-token\" content=\"").nth(1).unwrap();
        let token = escaped(token.split('"').next().unwrap());
        let run = self.client.status(id).await.unwrap().unwrap().run;
        assert!(
            page.contains(&format!("name=\"run\" value=\"{run}\"")),
            "{page}"
        );
        format!("token={token}&run={run}&{form}")
    }

    pub(crate) async fn send(
        &self,
        id: &str,
        action: &str,
        form: String,
    ) -> (StatusCode, HeaderMap, String) {
        let path = format!("/ui/default/instances/{}/do/{action}", escaped(id));
        let request = Request::post(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.answer(request.body(Body::from(form)).unwrap()).await
    }

    /// Sends a form. Returns where it leads, and what that page says then, once.
    pub(crate) async fn act(&self, id: &str, action: &str, form: &str) -> (String, String) {
        let form = self.form(id, form).await;
        let (status, head, body) = self.send(id, action, form).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{body}");
        let to = head[header::LOCATION].to_str().unwrap().to_owned();
        let cookie = head[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        assert!(cookie.contains(&format!("; Path={to};")), "{cookie} {to}");
        let request = Request::get(&to)
            .header(header::HOST, "localhost")
            .header(header::COOKIE, cookie.split(';').next().unwrap());
        let (_, head, page) = self.answer(request.body(Body::empty()).unwrap()).await;
        let gone = head[header::SET_COOKIE].to_str().unwrap();
        assert!(gone.contains("Max-Age=0"), "{gone}");
        (to, page)
    }

    pub(crate) async fn approval(&self, id: &str) {
        let input = serde_json::json!({ "purpose": "<b>bold</b>", "patience_secs": 3_600 });
        self.client
            .start("Approve")
            .id(id)
            .input(&input)
            .tag("team", "<i>")
            .await
            .unwrap();
        let limit = Duration::from_secs(20);
        let waits = |status: &perennial::InstanceStatus| {
            !status.waits_for.is_empty() && status.custom_status.is_some()
        };
        self.client.wait_until(id, limit, waits).await.unwrap();
    }
}

pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
