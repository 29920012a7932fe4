//! Lists and purges.

use tonic::Code;

use crate::generated as wire;
use crate::generated::OrchestrationStatus;
use crate::generated::purge_instances_request::Request as What;
use crate::see::{Server, code};

type Page = (Vec<String>, Option<String>);

impl Server {
    async fn query(&mut self, query: wire::InstanceQuery) -> Page {
        let request = wire::QueryInstancesRequest { query: Some(query) };
        let page = self.stub.query_instances(request).await.unwrap();
        let page = page.into_inner();
        let ids = page.orchestration_state.into_iter();
        (
            ids.map(|state| state.instance_id).collect(),
            page.continuation_token,
        )
    }

    async fn ids(&mut self, request: wire::ListInstanceIdsRequest) -> Page {
        let page = self.stub.list_instance_ids(request).await.unwrap();
        let page = page.into_inner();
        (page.instance_ids, page.last_instance_key)
    }

    async fn purge(&mut self, what: What, recursive: bool) -> (i32, bool) {
        let request = wire::PurgeInstancesRequest {
            request: Some(what),
            recursive,
            is_orchestration: true,
        };
        let purged = self.stub.purge_instances(request).await.unwrap();
        let purged = purged.into_inner();
        (purged.deleted_instance_count, purged.is_complete.unwrap())
    }

    /// Five instances that ended in their order, and one that waits.
    async fn filled(&mut self) {
        for id in ["a1", "a2", "b1", "b2", "b3"] {
            self.start("HelloSequence", id, None).await;
            self.end(id).await;
        }
        self.start("Wait", "live", None).await;
    }
}

fn completed() -> Vec<i32> {
    vec![OrchestrationStatus::Completed.into()]
}

#[tokio::test]
async fn instances_are_listed_in_pages_under_each_filter() {
    let mut server = Server::new().await;
    server.filled().await;
    let (mut all, mut token, mut pages) = (Vec::new(), None, 0);
    loop {
        let (ids, next) = server
            .query(wire::InstanceQuery {
                max_instance_count: 4,
                continuation_token: token,
                ..Default::default()
            })
            .await;
        all.extend(ids);
        pages += 1;
        token = next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!((all.len(), pages), (6, 2));
    assert_eq!(all[..2], ["a1", "a2"]);
    let prefix = wire::InstanceQuery {
        instance_id_prefix: Some("b".to_owned()),
        ..Default::default()
    };
    assert_eq!(server.query(prefix).await.0, ["b1", "b2", "b3"]);
    let ended = wire::InstanceQuery {
        runtime_status: completed(),
        ..Default::default()
    };
    assert_eq!(server.query(ended).await.0.len(), 5);
    let canceled = wire::InstanceQuery {
        runtime_status: vec![OrchestrationStatus::Canceled.into()],
        ..Default::default()
    };
    assert_eq!(server.query(canceled).await, (Vec::new(), None));
    let of_hub = |name: &str| wire::InstanceQuery {
        task_hub_names: vec![name.to_owned()],
        ..Default::default()
    };
    assert_eq!(server.query(of_hub("default")).await.0.len(), 6);
    assert!(server.query(of_hub("other")).await.0.is_empty());
    let third = server.see("b1").await.created_timestamp;
    let from = wire::InstanceQuery {
        created_time_from: third,
        ..Default::default()
    };
    let to = wire::InstanceQuery {
        created_time_to: third,
        ..Default::default()
    };
    let (from, to) = (server.query(from).await.0, server.query(to).await.0);
    assert!(from.contains(&"b1".to_owned()) && !to.contains(&"b1".to_owned()));
    assert_eq!(from.len() + to.len(), 6);
}

#[tokio::test]
async fn payloads_are_listed_only_if_they_are_wanted() {
    let mut server = Server::new().await;
    server.filled().await;
    let mut outputs = Vec::new();
    for wanted in [false, true] {
        let query = wire::InstanceQuery {
            runtime_status: completed(),
            fetch_inputs_and_outputs: wanted,
            ..Default::default()
        };
        let request = wire::QueryInstancesRequest { query: Some(query) };
        let page = server.stub.query_instances(request).await.unwrap();
        let states = page.into_inner().orchestration_state;
        outputs.push(states.iter().filter(|s| s.output.is_some()).count());
    }
    assert_eq!(outputs, [0, 5]);
}

#[tokio::test]
async fn ids_of_ended_instances_are_listed_by_the_time_of_their_end() {
    let mut server = Server::new().await;
    server.filled().await;
    let (mut all, mut key) = (Vec::new(), None);
    loop {
        let (ids, next) = server
            .ids(wire::ListInstanceIdsRequest {
                page_size: 2,
                last_instance_key: key,
                ..Default::default()
            })
            .await;
        assert!(ids.len() <= 2);
        all.extend(ids);
        key = next;
        if key.is_none() {
            break;
        }
    }
    assert_eq!(all, ["a1", "a2", "b1", "b2", "b3"]);
    let third = server.see("b1").await.completed_timestamp;
    let (from, _) = server
        .ids(wire::ListInstanceIdsRequest {
            completed_time_from: third,
            runtime_status: completed(),
            ..Default::default()
        })
        .await;
    let (to, _) = server
        .ids(wire::ListInstanceIdsRequest {
            completed_time_to: third,
            ..Default::default()
        })
        .await;
    assert!(from.contains(&"b1".to_owned()) && !to.contains(&"b1".to_owned()));
    assert_eq!(from.len() + to.len(), 5);
    let live = wire::ListInstanceIdsRequest {
        runtime_status: vec![OrchestrationStatus::Running.into()],
        ..Default::default()
    };
    assert_eq!(server.ids(live).await, (Vec::new(), None));
}

#[tokio::test]
async fn wrong_lists_are_refused() {
    let mut server = Server::new().await;
    let bad_time = Some(prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    });
    let queries = [
        wire::InstanceQuery {
            max_instance_count: -1,
            ..Default::default()
        },
        wire::InstanceQuery {
            continuation_token: Some("made up".to_owned()),
            ..Default::default()
        },
        wire::InstanceQuery {
            created_time_from: bad_time,
            ..Default::default()
        },
        wire::InstanceQuery {
            runtime_status: vec![8],
            ..Default::default()
        },
    ];
    for query in queries {
        let request = wire::QueryInstancesRequest { query: Some(query) };
        let refused = server.stub.query_instances(request).await;
        assert_eq!(code(refused), Code::InvalidArgument);
    }
    let requests = [
        wire::ListInstanceIdsRequest {
            page_size: -1,
            ..Default::default()
        },
        wire::ListInstanceIdsRequest {
            last_instance_key: Some("made up".to_owned()),
            ..Default::default()
        },
        wire::ListInstanceIdsRequest {
            completed_time_to: bad_time,
            ..Default::default()
        },
    ];
    for request in requests {
        let refused = server.stub.list_instance_ids(request).await;
        assert_eq!(code(refused), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn ended_instances_are_purged_and_live_ones_stay() {
    let mut server = Server::new().await;
    server.filled().await;
    let one = |id: &str| What::InstanceId(id.to_owned());
    assert_eq!(server.purge(one("live"), false).await, (0, true));
    assert_eq!(server.purge(one("live"), true).await, (0, true));
    assert_eq!(server.purge(one("none"), false).await, (0, true));
    assert_eq!(server.purge(one("a1"), false).await, (1, true));
    let batch = What::InstanceBatch(wire::InstanceBatch {
        instance_ids: ["a2", "live", "none"].map(str::to_owned).to_vec(),
    });
    assert_eq!(server.purge(batch, false).await, (1, true));
    let failed = What::PurgeInstanceFilter(wire::PurgeInstanceFilter {
        runtime_status: vec![OrchestrationStatus::Failed.into()],
        ..Default::default()
    });
    assert_eq!(server.purge(failed, false).await, (0, true));
    let no_time = What::PurgeInstanceFilter(wire::PurgeInstanceFilter {
        timeout: Some(prost_types::Duration::default()),
        ..Default::default()
    });
    let (deleted, complete) = server.purge(no_time, false).await;
    assert!(deleted == 3 || !complete, "{deleted} {complete}");
    let all = What::PurgeInstanceFilter(wire::PurgeInstanceFilter::default());
    let (rest, complete) = server.purge(all, false).await;
    assert!(complete && deleted + rest <= 3);
    let left = server.query(wire::InstanceQuery::default()).await.0;
    assert_eq!(left, ["live"]);
}

#[tokio::test]
async fn a_recursive_purge_takes_the_children_along() {
    let mut server = Server::new().await;
    server.start("ChildSum", "a", Some("3")).await;
    server.end("a").await;
    let what = || What::InstanceId("a".to_owned());
    assert_eq!(server.purge(what(), true).await, (4, true));
}

#[tokio::test]
async fn wrong_purges_are_refused() {
    let mut server = Server::new().await;
    let requests = [
        None,
        Some(What::InstanceId(String::new())),
        Some(What::InstanceBatch(wire::InstanceBatch {
            instance_ids: vec!["x".to_owned(); 501],
        })),
        Some(What::PurgeInstanceFilter(wire::PurgeInstanceFilter {
            timeout: Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            }),
            ..Default::default()
        })),
    ];
    for request in requests {
        let request = wire::PurgeInstancesRequest {
            request,
            ..Default::default()
        };
        let refused = server.stub.purge_instances(request).await;
        assert_eq!(code(refused), Code::InvalidArgument);
    }
}
