//! Who is let in: with keys, without them, and from web pages.

use std::time::Duration;

use expect_test::expect;
use perennial::Role;
use perennial::http::Api;
use tower::ServiceExt as _;

use crate::see::{Answer, Wire, request};
use crate::{BASE, JSON};

const API: &str = "/api/v1";

#[tokio::test]
async fn a_key_is_needed_where_keys_are_required() {
    let wire = Wire::with(Api::require_keys).await;
    let client = wire.client();
    let admin = client.create_key("deploys", Role::Admin).await.unwrap();
    let reader = client
        .create_key("dashboard", Role::ReadOnly)
        .await
        .unwrap();
    let (admin_key, reader_key) = (&admin.secret, &reader.secret);
    let list = format!("GET {BASE}/instances");
    wire.check(&list, expect![[r#"
        401
        www-authenticate: Bearer
        {"Message":"A key is needed: as the parameter code, as the header x-functions-key, or as a bearer token.",
         "ExceptionMessage":"A key is needed: as the parameter code, as the header x-functions-key, or as a bearer token."}
    "#]]).await;
    wire.check(
        &format!("{list}?code=wrong"),
        expect![[r#"
        401
        www-authenticate: Bearer
        {"Message":"This is no key of this task hub.",
         "ExceptionMessage":"This is no key of this task hub."}
    "#]],
    )
    .await;
    for (head, status) in [
        (format!("{list}?code={admin_key}"), 200),
        (format!("{list}\nx-functions-key: {reader_key}"), 200),
        (format!("{list}\nauthorization: bearer {reader_key}"), 200),
        (format!("{list}\nauthorization: Basic {reader_key}"), 401),
        (
            format!("{list}?code={}", &admin_key[..admin_key.len() - 1]),
            401,
        ),
        (format!("{list}?code={}", admin_key.to_uppercase()), 401),
        (format!("{list}?code={}", admin.key.id), 401),
        (format!("{list}?taskHub=elsewhere&code={admin_key}"), 401),
        (format!("HEAD {BASE}/instances?code={reader_key}"), 200),
        (format!("GET /metrics?code={reader_key}"), 200),
        ("GET /metrics".to_owned(), 401),
        ("GET /healthz".to_owned(), 200),
        ("GET /readyz".to_owned(), 200),
        (
            format!("POST {BASE}/orchestrators/Wait?code={admin_key}"),
            202,
        ),
        ("POST /orchestrators/Wait".to_owned(), 401),
    ] {
        assert_eq!(wire.ask(&head).await.status, status, "{head}");
    }
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait?code={reader_key}"),
        expect![[r#"
            403
            {"Message":"This key may only read.",
             "ExceptionMessage":"This key may only read."}
        "#]],
    )
    .await;
    assert!(client.revoke_key(&admin.key.id).await.unwrap());
    assert!(!client.revoke_key(&admin.key.id).await.unwrap());
    assert_eq!(
        wire.ask(&format!("{list}?code={admin_key}")).await.status,
        401
    );
    let left = client.keys().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].name.as_str(), left[0].role),
        ("dashboard", Role::ReadOnly)
    );
}

#[tokio::test]
async fn a_revoked_key_is_told_nothing_more() {
    let wire = Wire::with(Api::require_keys).await;
    let client = wire.client();
    wire.begun("Wait", "w1").await;
    let key = client.create_key("reads", Role::ReadOnly).await.unwrap();
    let stays = client.create_key("stays", Role::ReadOnly).await.unwrap();
    let open = async |path: &str, secret: &str| {
        let asked = request(&format!("GET {API}{path}\nx-functions-key: {secret}"));
        let answer = wire.router.clone().oneshot(asked).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer
    };
    let followed = open("/instances/w1/live", &key.secret).await;
    let all = open("/live", &key.secret).await;
    let other = open("/instances/w1/live", &stays.secret).await;
    assert!(client.revoke_key(&key.key.id).await.unwrap());
    for answer in [followed, all] {
        let told = Answer::read(answer).await.body;
        assert!(
            told.contains("the key of this request was revoked"),
            "{told}"
        );
        assert!(!told.contains("Terminated"), "{told}");
    }
    client.terminate("w1", None).await.unwrap();
    let told = Answer::read(other).await.body;
    assert!(told.contains("event: ended"), "{told}");

    wire.begun("Wait", "w2").await;
    // Whether the request or the revocation came first is seen by what is said: once it is the request.
    for patience in 1.. {
        let key = client.create_key("waits", Role::ReadOnly).await.unwrap();
        let wait = format!(
            "GET {API}/instances/w2/wait?timeout=60\nx-functions-key: {}",
            key.secret
        );
        let (answer, ()) = tokio::join!(wire.router.clone().oneshot(request(&wait)), async {
            tokio::time::sleep(Duration::from_millis(50 * patience)).await;
            assert!(client.revoke_key(&key.key.id).await.unwrap());
        });
        let answer = Answer::read(answer.unwrap()).await;
        assert_eq!(answer.status, 401);
        if answer.body.contains("was revoked") {
            break;
        }
        assert!(answer.body.contains("no key"), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_first_stream_of_a_new_key_goes_on() {
    let wire = Wire::with(Api::require_keys).await;
    let client = wire.client();
    wire.begun("Wait", "w1").await;
    let open = async |secret: &str| {
        let asked = request(&format!(
            "GET {API}/instances/w1/live\nx-functions-key: {secret}"
        ));
        wire.router.clone().oneshot(asked).await.unwrap()
    };
    let first = client.create_key("first", Role::ReadOnly).await.unwrap();
    let mut streams = vec![open(&first.secret).await];
    // The keys were read for the first one; each that comes is newer than what is known.
    for at in 0..20 {
        let name = format!("key-{at}");
        let key = client.create_key(&name, Role::ReadOnly).await.unwrap();
        streams.push(open(&key.secret).await);
    }
    client.terminate("w1", None).await.unwrap();
    for stream in streams {
        let told = Answer::read(stream).await.body;
        assert!(told.contains("event: ended"), "{told}");
    }
}

#[tokio::test]
async fn a_key_is_in_no_file_and_in_no_debug_output() {
    if perennial_tests::postgres::skips("it looks into the file") {
        return;
    }
    let dir = perennial_tests::DataDir::new();
    let made = dir
        .client()
        .create_key("deploys", Role::Admin)
        .await
        .unwrap();
    assert!(!format!("{made:?}").contains(&made.secret));
    let mut read = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        read += bytes.len();
        let secret = made.secret.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }
    assert!(read > 0, "there was a file to look into");
}

#[tokio::test]
async fn without_keys_only_this_machine_is_answered() {
    let allowed = "https://console.example.com";
    let wire = Wire::with(|api| api.this_machine_only().allow_origin(allowed).unwrap()).await;
    let list = format!("{BASE}/instances");
    wire.check(
        &format!("GET http://rebound.example.com{list}"),
        expect![[r#"
            403
            vary: origin
            access-control-expose-headers: location,retry-after,x-ms-continuation-token
            {"Message":"This server answers only to names of this machine, such as localhost; for others it needs a base URL and keys.",
             "ExceptionMessage":"This server answers only to names of this machine, such as localhost; for others it needs a base URL and keys."}
        "#]],
    )
    .await;
    wire.check(
        &format!("POST {BASE}/orchestrators/Wait\norigin: https://evil.example\n{JSON}"),
        expect![[r#"
            403
            vary: origin
            access-control-expose-headers: location,retry-after,x-ms-continuation-token
            {"Message":"Web pages of this origin are not allowed; the server can be told to allow them.",
             "ExceptionMessage":"Web pages of this origin are not allowed; the server can be told to allow them."}
        "#]],
    )
    .await;
    for origin in [
        "null",
        "http://localhost.evil.example",
        "file://",
        "https://console.example.com.evil.example",
    ] {
        assert_eq!(
            wire.ask(&format!("GET {list}\norigin: {origin}"))
                .await
                .status,
            403,
            "{origin}"
        );
    }
    for (head, status) in [
        (format!("origin: {allowed}"), 200),
        (
            "http://localhost:7071 origin: http://localhost:7071".to_owned(),
            200,
        ),
        (
            "http://LOCALHOST origin: http://localhost:80".to_owned(),
            200,
        ),
        // Another port of this machine is somebody else's server.
        (
            "http://localhost:7071 origin: http://localhost:3000".to_owned(),
            403,
        ),
        (
            "http://localhost:7071 origin: http://127.0.0.1:7071".to_owned(),
            403,
        ),
        ("origin: http://localhost:3000".to_owned(), 403),
        (
            format!("origin: {allowed}\norigin: http://localhost:3000"),
            403,
        ),
        (
            "sec-fetch-site: cross-site\nsec-fetch-mode: no-cors".to_owned(),
            403,
        ),
        (
            "sec-fetch-site: cross-site\nsec-fetch-mode: navigate".to_owned(),
            200,
        ),
        ("sec-fetch-site: same-origin".to_owned(), 200),
    ] {
        let (to, head) = match head.split_once(" origin:") {
            Some((to, origin)) => (to.to_owned(), format!("origin:{origin}")),
            None => (String::new(), head),
        };
        let answer = wire.ask(&format!("GET {to}{list}\n{head}")).await;
        assert_eq!(answer.status, status, "{to} {head}");
    }
    assert_eq!(
        wire.client().counts().await.unwrap(),
        [],
        "nothing was started"
    );
}

#[tokio::test]
async fn browsers_are_told_of_allowed_origins_only() {
    let page = "origin: https://console.example.com";
    let preflight = format!(
        "OPTIONS {BASE}/orchestrators/Wait\n{page}\naccess-control-request-method: POST\naccess-control-request-headers: x-functions-key"
    );
    let open = Wire::with(Api::require_keys).await;
    let answer = open.ask(&preflight).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (401, None)
    );
    let wire = Wire::with(|api| {
        api.require_keys()
            .allow_origin("https://console.example.com")
            .unwrap()
    })
    .await;
    wire.check(&preflight, expect![[r#"
        200
        vary: origin
        access-control-allow-methods: GET,POST,PUT,PATCH,DELETE
        access-control-allow-headers: content-type,authorization,x-functions-key,x-ms-continuation-token,last-event-id,traceparent
        access-control-max-age: 600
        access-control-allow-origin: https://console.example.com
    "#]]).await;
    let other = preflight.replace("console.example.com", "evil.example");
    assert_eq!(
        wire.ask(&other).await.header("access-control-allow-origin"),
        None
    );
    for origin in [
        "*",
        "console.example.com",
        "https://a b",
        "javascript://x",
        "",
    ] {
        assert!(
            Api::new(wire.client()).allow_origin(origin).is_err(),
            "{origin:?}"
        );
    }
}

#[tokio::test]
async fn whoever_may_be_elsewhere_makes_keys_necessary() {
    let wire = Wire::new().await;
    let api = || Api::new(wire.client());
    let exposed = |api: Api, address: &str| api.is_exposed_on(address.parse().unwrap());
    assert!(!exposed(api(), "127.0.0.1:7071"));
    assert!(!exposed(api(), "[::1]:7071"));
    assert!(!exposed(
        api().base_url("http://localhost:8080/x"),
        "127.0.0.1:7071"
    ));
    assert!(exposed(api(), "0.0.0.0:7071"));
    assert!(exposed(api(), "[::]:7071"));
    assert!(exposed(api(), "10.1.2.3:7071"));
    assert!(exposed(api().trust_forwarded(), "127.0.0.1:7071"));
    assert!(exposed(
        api().base_url("https://flows.example.com"),
        "127.0.0.1:7071"
    ));
    assert!(exposed(api().base_url("nonsense"), "127.0.0.1:7071"));
}
