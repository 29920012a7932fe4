//! Requests that nobody would write, and what comes of them: never a panic, never a fault of the server.

use axum::body::Body;
use axum::http::{Request, Uri};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::BASE;
use crate::see::Wire;

/// Words of the API, and what may stand in their place.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec![
            "instances", "orchestrators", "entities", "raiseEvent", "terminate", "suspend", "resume", "rewind", "restart", "makeprimary",
            "wait", "Wait", "HelloSequence", "a", "done", "Go", "INSTANCES", "api", "v1", "history", "modules", "events", "hub", "purge",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "", ".", "..", "%2e%2e", "%2F", "%00", "%FF", "%", "%zz", "@a", "a%20b", "%27%20OR%201=1--", "{id}", "*", "%F0%9F%A6%80", "a;b=c",
        ]).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9%._~!$&'()*+,;=:@-]{0,40}",
        1 => "x{257,300}",
    ]
}

fn parameter() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "taskHub",
        "connection",
        "code",
        "timeout",
        "pollingInterval",
        "retryInterval",
        "showHistory",
        "showHistoryOutput",
        "showInput",
        "returnInternalServerErrorOnFailure",
        "createdTimeFrom",
        "createdTimeTo",
        "runtimeStatus",
        "instanceIdPrefix",
        "top",
        "reason",
        "version",
        "op",
        "restartWithNewInstanceId",
        "from",
        "limit",
        "status",
        "name",
        "tag",
        "after",
        "wait",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "",
            "true",
            "False",
            "0",
            "1",
            "0.01",
            "-1",
            "NaN",
            "inf",
            "1e308",
            "99999999999999999999",
            "Completed",
            "Running,Failed",
            "default",
            "2030-01-01T00:00:00Z",
            "0001-01-01",
            "9999-12-31T23:59:59.9999999Z",
            "%00",
            "%FF%FE",
            "%",
            "'--",
            "+",
            "%F0%9F%A6%80",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9%._~!$'()*+,;:@-]{0,20}",
    ];
    (name, value).prop_map(|(name, value)| format!("{name}={value}"))
}

fn requests() -> impl Strategy<Value = (String, String, Vec<(&'static str, String)>, Vec<u8>)> {
    let method = prop::sample::select(vec![
        "GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW",
    ]);
    let base = prop::sample::select(vec![
        BASE,
        BASE,
        "/durabletask",
        "/admin/extensions/DurableTaskExtension",
        "",
        "/api/v1",
        "/metrics",
    ]);
    let path = prop::collection::vec(segment(), 0..5).prop_map(|segments| segments.join("/"));
    let query = prop::collection::vec(parameter(), 0..4).prop_map(|pairs| pairs.join("&"));
    let uri = (base, path, query).prop_map(|(base, path, query)| format!("{base}/{path}?{query}"));
    let header = prop_oneof![
        Just(("content-type", "application/json".to_owned())),
        Just(("x-ms-continuation-token", "0-0".to_owned())),
        ("[ -~]{0,30}").prop_map(|value| ("x-ms-continuation-token", value)),
        ("[ -~]{0,30}").prop_map(|value| ("traceparent", value)),
        ("[ -~]{0,30}").prop_map(|value| ("host", value)),
        ("[ -~]{0,30}").prop_map(|value| ("last-event-id", value)),
        ("[ -~]{0,30}").prop_map(|value| ("authorization", value)),
        ("[ -~]{0,30}").prop_map(|value| ("x-forwarded-host", value)),
    ];
    let headers = prop::collection::vec(header, 0..3);
    let body = prop_oneof![
        Just(Vec::new()),
        Just(b"{}".to_vec()),
        Just(b"[1,2".to_vec()),
        Just(b"\"text\"".to_vec()),
        Just(vec![b'['; 100_000]),
        prop::collection::vec(any::<u8>(), 0..64),
    ];
    (method.prop_map(str::to_owned), uri, headers, body)
}

#[test]
fn no_request_is_a_fault_of_the_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let wait_max = std::time::Duration::from_millis(1);
    let wire = runtime.block_on(Wire::with(|api| api.trust_forwarded().wait_max(wait_max)));
    runtime.block_on(wire.ended("HelloSequence", "done", ()));
    // The same ones each time, unless many are asked for.
    let (cases, rng_seed) = match std::env::var_os("PERENNIAL_LONG") {
        Some(_) => (20_000, RngSeed::Random),
        None => (500, RngSeed::Fixed(0)),
    };
    let config = Config {
        failure_persistence: None,
        rng_seed,
        ..Config::with_cases(cases)
    };
    let result = TestRunner::new(config).run(&requests(), |(method, uri, headers, body)| {
        // What is no URI never comes as far as the routes.
        prop_assume!(uri.parse::<Uri>().is_ok());
        let mut request = Request::builder().method(method.as_str()).uri(&uri);
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let answer = runtime.block_on(wire.head_of(request));
        // 501 is what entities are answered with.
        prop_assert!(answer < 500 || answer == 501, "{method} {uri}: {answer}");
        Ok(())
    });
    runtime.block_on(wire.host.shut_down());
    result.unwrap();
}
