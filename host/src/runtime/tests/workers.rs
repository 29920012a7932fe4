//! Remote workers as people see them: from the host's process, from another one, and over HTTP.

use std::time::Duration;

use perennial_core::{
    Action, ActivityCall, Answer, CallOptions, Digest, Ending, Event, Json, Reuse, Status, Target,
    TaskId, Waiting,
};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::engine::remote::{Filter, NameFilter, Offer, RemoteAnswer, WorkItem};
use crate::engine::{Request, StartRequest};
use crate::wasm::tests::{ORCHESTRATIONS, core_module, orchestration, world};
use crate::{AtWorker, Client, DefinitionKind, Host, InstanceStatus, Module, Wait, Workers, http};

const PATIENCE: Duration = Duration::from_secs(60);

type Items = UnboundedReceiver<WorkItem>;

async fn host(dir: &TempDir) -> Host {
    Host::builder().data_dir(dir.path()).start().await.unwrap()
}

/// A client in another process, as far as it can tell.
fn elsewhere(dir: &TempDir) -> Client {
    Client::open(dir.path(), "default").unwrap()
}

fn only(name: &str, versions: &[&str]) -> Filter {
    Filter::Only(vec![NameFilter {
        name: name.to_owned(),
        versions: versions.iter().map(|v| (*v).to_owned()).collect(),
    }])
}

fn offer(orchestrations: Filter, activities: Filter) -> Offer {
    Offer {
        worker: "a worker".to_owned(),
        orchestrations,
        activities,
        orchestrations_max: 2,
        activities_max: 3,
        streams_history: false,
    }
}

/// Starts an instance as a client of the workers' protocol does, whether or not a worker is connected.
async fn start(host: &Host, name: &str, id: &str) {
    let start = Request::Start(StartRequest {
        name: name.to_owned(),
        version: None,
        id: id.to_owned(),
        input: None,
        tags: Vec::new(),
        reuse: Reuse::Never,
        trace_parent: None,
        scheduled_for: None,
    });
    let start = Request::Remote(Box::new(start));
    host.engine.submit(start).await.unwrap();
}

async fn next(items: &mut Items) -> WorkItem {
    let item = tokio::time::timeout(PATIENCE, items.recv()).await;
    item.expect("no item comes").expect("the stream has ended")
}

async fn next_turn(items: &mut Items) -> String {
    match next(items).await {
        WorkItem::Orchestration(item) => item.token,
        WorkItem::Activity(item) => panic!("an activity: {item:?}"),
    }
}

/// Answers a turn with a call of an activity.
fn calls(host: &Host, token: &str, activity: &str) {
    let call = ActivityCall {
        task: TaskId(0),
        name: activity.to_owned(),
        input: Some(Json::from_text("7".to_owned())),
        retry: None,
        attempt_timeout: None,
        options: CallOptions::default(),
    };
    answer(
        host,
        token,
        vec![Action::CallActivity(call)],
        Ending::Waiting(Waiting::default()),
    );
}

fn answer(host: &Host, token: &str, actions: Vec<Action>, ending: Ending) {
    let answer = RemoteAnswer {
        answer: Answer { actions, ending },
        carried: Vec::new(),
    };
    assert!(host.engine.orchestration_answered(token, answer));
}

async fn status(client: &Client, id: &str) -> InstanceStatus {
    client.status(id).await.unwrap().unwrap()
}

/// The only wait of an instance, once it satisfies `is_so`.
async fn waits_until(client: &Client, id: &str, is_so: impl Fn(&[Wait]) -> bool) -> Vec<Wait> {
    let look = async {
        loop {
            let waits = status(client, id).await.waits_for;
            if is_so(&waits) {
                return waits;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, look).await;
    match found {
        Ok(waits) => waits,
        Err(_) => panic!("{:?}", status(client, id).await.waits_for),
    }
}

fn is_unserved(waits: &[Wait]) -> bool {
    matches!(
        waits,
        [Wait::Worker {
            running_since: None,
            ..
        }]
    )
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "each step depends on the one before")]
async fn everybody_sees_who_is_connected_what_it_runs_and_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    let inside = host.client();
    let outside = elsewhere(&dir);
    assert_eq!(outside.workers().await.unwrap(), Workers::default());
    start(&host, "Refund", "r").await;
    start(&host, "Order", "o").await;
    waits_until(&inside, "r", is_unserved).await;
    waits_until(&inside, "o", is_unserved).await;
    let (connection, mut items) = host.engine.connect(offer(
        only("Order", &[]),
        Filter::Only(vec![NameFilter {
            name: "Pay".to_owned(),
            versions: vec!["1.0".to_owned()],
        }]),
    ));
    let token = next_turn(&mut items).await;
    let workers = inside.workers().await.unwrap();
    let [worker] = &workers.connected[..] else {
        panic!("{workers:?}");
    };
    assert_eq!((worker.name.as_str(), worker.answered), ("a worker", 0));
    assert_eq!((worker.orchestrations_max, worker.activities_max), (2, 3));
    let orchestrations = worker.orchestrations.as_ref().unwrap();
    assert_eq!(orchestrations[0].name, "Order");
    assert_eq!(worker.activities.as_ref().unwrap()[0].versions, ["1.0"]);
    let [turn] = &worker.running[..] else {
        panic!("{worker:?}");
    };
    assert_eq!(turn.kind, DefinitionKind::Orchestration);
    assert_eq!((turn.instance_id.as_str(), turn.task), ("o", None));
    assert!(turn.running_since >= worker.connected_at);
    let [waiting] = &workers.waiting[..] else {
        panic!("{workers:?}");
    };
    assert_eq!(waiting.kind, DefinitionKind::Orchestration);
    assert_eq!((waiting.name.as_str(), waiting.count), ("Refund", 1));
    assert_eq!(outside.workers().await.unwrap(), workers, "by a command");
    assert_eq!(over_http(&inside).await, workers, "over HTTP");
    let stats = host.stats();
    let numbers = (
        stats.remote_workers,
        stats.remote_items,
        stats.remote_waiting,
    );
    assert_eq!(numbers, (1, 1, 1));

    calls(&host, &token, "Pay");
    // A worker with version 1.0 only: the call has no version.
    let waiting = waits_until(&inside, "o", |waits| {
        matches!(
            waits,
            [Wait::Activity {
                at_worker: Some(AtWorker::Waits),
                ..
            }]
        )
    });
    let text = waiting.await[0].to_string();
    assert!(text.contains("waits for a worker"), "{text}");
    let workers = inside.workers().await.unwrap();
    assert_eq!(workers.connected[0].answered, 1);
    assert_eq!(workers.connected[0].running, []);
    let kinds: Vec<_> = workers.waiting.iter().map(|waiting| waiting.kind).collect();
    assert_eq!(kinds.len(), 2, "{workers:?}");

    drop(connection);
    assert_eq!(inside.workers().await.unwrap().connected, []);
    host.shut_down().await;
    assert_eq!(
        outside.workers().await.unwrap(),
        Workers::default(),
        "without a host"
    );
    let nowhere = Client::open(dir.path(), "other").unwrap();
    assert!(nowhere.workers().await.unwrap_err().is_not_found());
}

/// The same as a client of another machine sees it, and the metrics.
async fn over_http(client: &Client) -> Workers {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let api = http::Api::new(client.clone());
    let server = tokio::spawn(http::serve(listener, api, None, async {
        let _ = stopped.await;
    }));
    let there = Client::connect(&url, "default", None).unwrap();
    let workers = there.workers().await.unwrap();
    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for name in ["workers", "items", "waiting"] {
        let line = format!("perennial_remote_{name}{{hub=\"default\"}} 1");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    let document = reqwest::get(format!("{url}/api/v1/openapi.json"))
        .await
        .unwrap();
    assert!(document.text().await.unwrap().contains("listWorkers"));
    drop(stop);
    server.await.unwrap();
    workers
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "each step depends on the one before")]
async fn a_status_says_that_an_instance_waits_for_a_worker_or_that_one_has_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    let (inside, outside) = (host.client(), elsewhere(&dir));
    start(&host, "Order", "o").await;
    let unserved = Wait::Worker {
        name: "Order".to_owned(),
        running_since: None,
    };
    assert_eq!(
        waits_until(&inside, "o", is_unserved).await,
        std::slice::from_ref(&unserved)
    );
    assert_eq!(
        status(&outside, "o").await.waits_for,
        std::slice::from_ref(&unserved)
    );
    assert_eq!(
        unserved.to_string(),
        "a worker that runs orchestration \"Order\""
    );
    let (_connection, mut items) = host.engine.connect(offer(Filter::All, Filter::All));
    let token = next_turn(&mut items).await;
    let waits = status(&inside, "o").await.waits_for;
    let [
        wait @ Wait::Worker {
            running_since: Some(_),
            ..
        },
    ] = &waits[..]
    else {
        panic!("{waits:?}");
    };
    assert!(wait.to_string().contains("; one has its turn since "));
    let json = serde_json::to_value(wait).unwrap();
    assert_eq!(
        (&json["kind"], &json["name"]),
        (&"worker".into(), &"Order".into())
    );
    assert_eq!(serde_json::from_value::<Wait>(json).unwrap(), *wait);
    assert_eq!(
        status(&outside, "o").await.waits_for,
        std::slice::from_ref(&unserved),
        "another process cannot know"
    );

    calls(&host, &token, "Pay");
    let WorkItem::Activity(pay) = next(&mut items).await else {
        panic!("a turn");
    };
    let waits = status(&inside, "o").await.waits_for;
    let [
        wait @ Wait::Activity {
            at_worker,
            running_since,
            ..
        },
    ] = &waits[..]
    else {
        panic!("{waits:?}");
    };
    assert_eq!(*at_worker, Some(AtWorker::Runs));
    assert!(running_since.is_some());
    assert!(wait.to_string().contains("at a worker since"), "{wait}");
    let json = serde_json::to_value(wait).unwrap();
    assert_eq!(
        (&json["state"], &json["worker"]),
        (&"running".into(), &"runs".into())
    );
    assert_eq!(serde_json::from_value::<Wait>(json).unwrap(), *wait);
    let waits = status(&outside, "o").await.waits_for;
    let [
        wait @ Wait::Activity {
            at_worker: Some(AtWorker::Unknown),
            running_since: None,
            ..
        },
    ] = &waits[..]
    else {
        panic!("{waits:?}");
    };
    assert!(wait.to_string().contains("for a worker"), "{wait}");
    let json = serde_json::to_value(wait).unwrap();
    assert_eq!(json.get("state"), None, "it may run: {json}");

    // A suspended instance waits for no worker, however much arrives.
    inside.suspend("o", None).await.unwrap();
    while status(&inside, "o").await.runtime_status != Status::Suspended {
        tokio::task::yield_now().await;
    }
    assert!(host.engine.activity_answered(&pay.token, Ok(None)));
    let waits = waits_until(&inside, "o", |waits| {
        !waits
            .iter()
            .any(|wait| matches!(wait, Wait::Activity { .. }))
    });
    let waits = waits.await;
    assert!(
        !waits.iter().any(|wait| matches!(wait, Wait::Worker { .. })),
        "{waits:?}"
    );
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_host_an_instance_of_a_worker_waits_for_both() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    start(&host, "Order", "o").await;
    waits_until(&host.client(), "o", is_unserved).await;
    host.shut_down().await;
    let waits = status(&elsewhere(&dir), "o").await.waits_for;
    assert!(
        matches!(&waits[..], [Wait::Host, Wait::Worker { .. }]),
        "{waits:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_do_not_replay_instances_of_workers() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    let client = host.client();
    start(&host, "F", "remote").await;
    let (_connection, mut items) = host.engine.connect(offer(Filter::All, Filter::All));
    calls(&host, &next_turn(&mut items).await, "Pay");
    next(&mut items).await;
    let module = || {
        let world = world(&format!("export {ORCHESTRATIONS};"));
        let bytes = core_module(&world, &orchestration(""));
        Module::from_bytes("pinned", &bytes).unwrap()
    };
    client.deploy(module()).await.unwrap();
    client.start("F").id("pinned").await.unwrap();
    let found = client.verify().await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!((found.instances, found.replayed), (2, 1), "{found:?}");
    assert_eq!(found.turns, 2, "the turns of both are folded");
    let report = client.check(module()).await.unwrap();
    let checked: Vec<_> = report
        .instances
        .iter()
        .map(|instance| instance.instance_id.as_str())
        .collect();
    assert_eq!(checked, ["pinned"]);
    host.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_history_of_a_worker_is_found_without_a_replay() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    start(&host, "Order", "o").await;
    let (_connection, mut items) = host.engine.connect(offer(Filter::All, Filter::All));
    calls(&host, &next_turn(&mut items).await, "Pay");
    next(&mut items).await;
    host.shut_down().await;
    let hub = dir.path().join("default.db");
    let db = rusqlite::Connection::open(hub).unwrap();
    let changed = db.execute("UPDATE instance SET next_event = next_event + 1", []);
    assert_eq!(changed.unwrap(), 1);
    drop(db);
    let found = elsewhere(&dir).verify().await.unwrap();
    let [problem] = &found.problems[..] else {
        panic!("{found:?}");
    };
    assert_eq!(problem.instance_id, "o");
    assert!(problem.why.reason.contains("events"), "{:?}", problem.why);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_says_what_runs_each_task_and_reads_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let host = host(&dir).await;
    let client = host.client();
    start(&host, "Order", "o").await;
    let (_connection, mut items) = host.engine.connect(offer(Filter::All, Filter::All));
    calls(&host, &next_turn(&mut items).await, "Pay");
    next(&mut items).await;
    let events = client.history("o").await.unwrap().unwrap();
    let scheduled = events.iter().find(|event| {
        matches!(&event.event, Event::ActivityScheduled { target, .. } if *target == Target::Remote)
    });
    let mut scheduled = scheduled.expect("the call").clone();
    let json = serde_json::to_value(&scheduled).unwrap();
    assert_eq!(json["runBy"], "worker");
    assert_eq!(
        serde_json::from_value::<crate::HistoryEvent>(json).unwrap(),
        scheduled
    );
    let digest = Digest([0xab; 32]);
    for (runs, text) in [
        (Target::Native, Some("native".to_owned())),
        (Target::Module(digest), Some(format!("module {digest}"))),
        (Target::Unknown, None),
        (Target::Full("no room".to_owned()), None),
    ] {
        if let Event::ActivityScheduled { target, .. } = &mut scheduled.event {
            *target = runs.clone();
        }
        let json = serde_json::to_value(&scheduled).unwrap();
        assert_eq!(
            json.get("runBy").and_then(|text| text.as_str()),
            text.as_deref()
        );
        let read: crate::HistoryEvent = serde_json::from_value(json).unwrap();
        let Event::ActivityScheduled { target, .. } = read.event else {
            panic!("{read:?}");
        };
        let known = if text.is_some() {
            runs
        } else {
            Target::Unknown
        };
        assert_eq!(target, known);
    }
    assert_eq!(status(&client, "o").await.runtime_status, Status::Running);
    host.shut_down().await;
}
