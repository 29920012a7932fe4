//! What a host says of itself while the database of its hub is away.

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt as _;

use crate::http::Api;
use crate::store::PostgresServer;
use crate::{Client, Host, Role, Store};

/// The status and the text of the metrics.
async fn metrics(client: &Api, key: &str) -> (u16, String) {
    let request = Request::get(format!("/metrics?code={key}"));
    let request = request.body(Body::empty()).unwrap();
    let answer = client.clone().into_router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = format!("{name}{{hub=\"default\"}} ");
    let value = metrics.lines().find_map(|one| one.strip_prefix(&line));
    value.map(|value| value.parse().unwrap())
}

/// What the database must tell is left out, and only that.
fn tells_of_itself(metrics: &str) {
    assert_eq!(value(metrics, "perennial_store_up"), Some(0.0), "{metrics}");
    assert_eq!(value(metrics, "perennial_hub_partitions"), Some(64.0));
    for there in ["perennial_turns_total", "perennial_commits_total"] {
        assert!(value(metrics, there).is_some(), "{there}: {metrics}");
    }
    assert!(metrics.contains("\nperennial_http_requests_total{"));
    for asked in ["perennial_hub_hosts", "perennial_hub_outbox_oldest_seconds"] {
        assert!(value(metrics, asked).is_none(), "{asked}: {metrics}");
    }
    assert!(!metrics.contains("\nperennial_instances{"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_database_is_away_tells_its_metrics_and_the_age_of_its_lease() {
    let Some(mut server) = PostgresServer::start(true) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sockets = server.sockets();
    let url = format!("postgres://perennial@/postgres?host={}", sockets.display());
    let store = Store::postgres(&url).unwrap().data_dir(dir.path());
    let host = Host::builder().store(store).start().await.unwrap();
    let client: Client = host.client();
    let key = client.create_key("scraper", Role::ReadOnly).await.unwrap();
    let key = key.secret.as_str();
    let api = Api::new(client).require_keys();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, told) = metrics(&api, key).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!(value(&told, "perennial_store_up"), Some(1.0), "{told}");
        let is_fresh = value(&told, "perennial_lease_age_seconds").unwrap() < 1.0;
        if is_fresh && value(&told, "perennial_hub_partitions") == Some(64.0) {
            assert!(told.contains("\nperennial_instances{"), "{told}");
            break;
        }
        assert!(Instant::now() < until, "{told}");
    }

    // It answers nothing.
    server.pause();
    let (status, told) = metrics(&api, key).await;
    assert_eq!(status, 200, "{told}");
    tells_of_itself(&told);
    // Nobody else is let in.
    assert_ne!(metrics(&api, "wrong").await.0, 200);
    server.resume();

    server.down("INT");
    let last = Instant::now();
    loop {
        let (status, told) = metrics(&api, key).await;
        assert_eq!(status, 200, "{told}");
        tells_of_itself(&told);
        let age = value(&told, "perennial_lease_age_seconds").unwrap();
        if age > 1.0 {
            break;
        }
        assert!(last.elapsed() < Duration::from_secs(30), "{age}");
    }
    let other = Api::new(host.client()).require_keys();
    assert_eq!(
        metrics(&other, key).await.0,
        503,
        "its keys were never read"
    );

    server.up();
    loop {
        let (status, told) = metrics(&api, key).await;
        let is_up = value(&told, "perennial_store_up") == Some(1.0);
        if status == 200 && is_up && value(&told, "perennial_lease_age_seconds") < Some(1.0) {
            break;
        }
        assert!(Instant::now() < until, "{told}");
    }
    host.shut_down().await;
}
