use tempfile::TempDir;

use super::*;
use crate::{Client, Host};

mod replayed;

async fn host() -> (TempDir, Host, Client) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::builder().data_dir(dir.path()).start().await.unwrap();
    let client = host.client();
    (dir, host, client)
}

fn request(message: wire::GetWorkItemsRequest) -> Request<wire::GetWorkItemsRequest> {
    Request::new(message)
}

fn connected(client: &Client) -> (watch::Sender<bool>, Streaming) {
    let (close, closes) = watch::channel(false);
    let workers = Arc::default();
    let engine = client.engine().unwrap();
    let streaming = streaming(engine, &workers, closes, request(Default::default()));
    (close, streaming.unwrap())
}

#[test]
fn an_offer_says_what_its_worker_takes() {
    let offered = |message| offer(&request(message));
    let bare = offered(wire::GetWorkItemsRequest {
        max_concurrent_activity_work_items: -5,
        ..Default::default()
    });
    assert!(matches!(bare.orchestrations, Filter::All));
    assert!(matches!(bare.activities, Filter::All));
    assert_eq!(
        (bare.orchestrations_max, bare.activities_max),
        (ITEMS, ITEMS)
    );
    assert!(!bare.streams_history);
    let full = offered(wire::GetWorkItemsRequest {
        max_concurrent_orchestration_work_items: 3,
        max_concurrent_activity_work_items: i32::MAX,
        capabilities: vec![wire::WorkerCapability::HistoryStreaming.into(), 99],
        work_item_filters: Some(wire::WorkItemFilters {
            orchestrations: vec![wire::OrchestrationFilter {
                name: "Order".to_owned(),
                versions: vec!["2".to_owned()],
            }],
            ..Default::default()
        }),
        ..Default::default()
    });
    assert_eq!(
        (full.orchestrations_max, full.activities_max),
        (3, ITEMS_MAX)
    );
    assert!(full.streams_history);
    assert!(full.orchestrations.matches("order", Some("2")));
    assert!(!full.orchestrations.matches("Order", None));
    assert!(!full.activities.matches("Ship", None), "no name is listed");
}

#[test]
fn a_worker_has_the_name_that_it_gives() {
    let mut asked = request(wire::GetWorkItemsRequest::default());
    assert_eq!(name(&asked), "a worker");
    asked
        .metadata_mut()
        .insert("user-agent", "grpc-java".parse().unwrap());
    assert_eq!(name(&asked), "grpc-java");
    asked.get_mut().worker_instance_id = "w".repeat(1_000);
    assert_eq!(name(&asked), "w".repeat(NAME_CHARS));
    asked
        .metadata_mut()
        .insert("workerid", "host-1,42".parse().unwrap());
    assert_eq!(name(&asked), "host-1,42");
}

#[tokio::test]
async fn a_silent_stream_pings() {
    let (_dir, host, client) = host().await;
    let (_close, mut streaming) = connected(&client);
    streaming.silence = Duration::from_millis(1);
    for _ in 0..3 {
        let ping = streaming.next().await.unwrap();
        assert!(matches!(ping.request, Some(Work::HealthPing(_))));
        assert_eq!(ping.completion_token, "");
    }
    drop(streaming);
    host.shut_down().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_server_and_with_its_host() {
    let (_dir, host, client) = host().await;
    let (close, mut streaming) = connected(&client);
    close.send_replace(true);
    let end = streaming.next().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::Unavailable);
    let (_close, mut streaming) = connected(&client);
    let engine = Arc::clone(client.engine().unwrap());
    host.shut_down().await;
    let end = streaming.next().await.unwrap_err();
    assert_eq!(end.code(), tonic::Code::Unavailable);
    let (_close, closes) = watch::channel(false);
    let late = connect(
        &engine,
        &Arc::default(),
        closes,
        request(Default::default()),
    );
    assert_eq!(
        late.err().map(|end| end.code()),
        Some(tonic::Code::Unavailable)
    );
}
