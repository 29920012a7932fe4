//! Task hubs: which one is meant, and how they are created and emptied.

use perennial::Hubs;
use tonic::Code;

use crate::generated as wire;
use crate::see::{Server, code, get, with};

fn recreate(recreate_if_exists: bool) -> wire::CreateTaskHubRequest {
    wire::CreateTaskHubRequest { recreate_if_exists }
}

#[tokio::test]
async fn the_served_hub_is_meant_by_its_name_or_by_none() {
    let mut server = Server::new().await;
    server.start("Wait", "a", None).await;
    for metadata in [
        &[("taskhub", "default")],
        &[("durable-taskhub", "DEFAULT")],
        &[("x-user-agent", "a test")],
    ] {
        let seen = server.stub.get_instance(with(get("a"), metadata)).await;
        assert!(seen.unwrap().into_inner().exists);
    }
    let other = with(get("a"), &[("taskhub", "other")]);
    let refused = server.stub.get_instance(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("\"other\""), "{refused}");
    assert!(refused.message().contains("served: default"), "{refused}");
}

#[tokio::test]
async fn the_served_hub_is_emptied_and_stays_served() {
    let mut server = Server::new().await;
    let fill = async |server: &mut Server| {
        server.start("Wait", "live", None).await;
        server
            .start("WaitsWidely", "wide", Some("{\"timers\":1,\"children\":3}"))
            .await;
        server.start("HelloSequence", "ended", None).await;
        server.end("ended").await;
    };
    let count = async |server: &Server| {
        let counts = server.client().counts().await.unwrap();
        counts.iter().map(|(_, count)| count).sum::<u64>()
    };
    fill(&mut server).await;
    server.stub.create_task_hub(recreate(false)).await.unwrap();
    assert!(count(&server).await >= 3, "it exists already");
    server.stub.create_task_hub(recreate(true)).await.unwrap();
    assert_eq!(count(&server).await, 0);
    fill(&mut server).await;
    let delete = wire::DeleteTaskHubRequest {};
    server.stub.delete_task_hub(delete).await.unwrap();
    assert_eq!(count(&server).await, 0);
    server.start("HelloSequence", "again", None).await;
    server.end("again").await;
}

#[tokio::test]
async fn another_hub_is_created_and_deleted_in_the_data_directory() {
    let mut server = Server::new().await;
    let hubs = Hubs::new(server.dir.path());
    let names = async || -> Vec<String> {
        let all = hubs.list().await.unwrap().into_iter();
        all.map(|hub| hub.name).collect()
    };
    let other = [("taskhub", "billing")];
    let delete = || with(wire::DeleteTaskHubRequest {}, &other);
    assert_eq!(
        code(server.stub.delete_task_hub(delete()).await),
        Code::NotFound
    );
    for again in [false, false, true] {
        let request = with(recreate(again), &other);
        server.stub.create_task_hub(request).await.unwrap();
        assert_eq!(names().await, ["billing", "default"]);
    }
    let host = server.dir.host().task_hub("billing").start().await.unwrap();
    let owned = server.stub.delete_task_hub(delete()).await.unwrap_err();
    assert_eq!(owned.code(), Code::FailedPrecondition);
    assert!(owned.message().contains("another host runs it"), "{owned}");
    host.shut_down().await;
    server.stub.delete_task_hub(delete()).await.unwrap();
    assert_eq!(names().await, ["default"]);
    let wrong = with(recreate(false), &[("taskhub", "../x")]);
    let wrong = server.stub.create_task_hub(wrong).await;
    assert_eq!(code(wrong), Code::InvalidArgument);
}
