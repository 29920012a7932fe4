//! The overview of a hub, and lists by what instances wait for: the same for a client in the host's process, of the file, and over HTTP.

use std::time::Duration;

use expect_test::expect;
use futures::TryStreamExt;
use perennial::http::{Api, serve};
use perennial::{
    ActivityContext, Client, Failure, Filter, SimClock, Status, Timestamp, WaitFilter, WaitKind,
};
use perennial_tests::{DataDir, module};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::see::Wire;

const API: &str = "/api/v1";

/// 2020-01-01T00:00:00Z: before the time of a client of the file, which has the clock of the machine.
const THEN: Timestamp = Timestamp(1_577_836_800_000);

const HOUR: u64 = 3_600_000;

/// A host with an instance for each thing that can be waited for, and some that have ended. Its clock stands still.
async fn busy_hub() -> Wire {
    let dir = DataDir::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let native = move |context: ActivityContext, n: u32| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(());
            context.canceled().await;
            Ok::<_, Failure>(n)
        }
    };
    let host = dir.host().clock(SimClock::new(THEN));
    let host = host.activity("Native", native).start().await.unwrap();
    let client = host.client();
    client.deploy(module("workloads")).await.unwrap();
    let wire = Wire {
        router: Api::new(host.client()).into_router(),
        host,
        _dir: dir,
    };
    wire.begun("Wait", "event").await;
    let later = Timestamp(THEN.0 + HOUR);
    client.start("Wait").id("later").at(later).await.unwrap();
    let timer = client.start("SleepUntil").id("timer").input(&later.0);
    timer.await.unwrap();
    let runs = client.start("NativeChain").id("runs").input(&1);
    runs.await.unwrap();
    told.recv().await.unwrap();
    client.start("Retries").id("again").input(&5).await.unwrap();
    for wait in [WaitKind::Retry, WaitKind::Timer] {
        let seen = async || client.list().waits_for(wait).await.unwrap().instances;
        while seen().await.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    wire.ended("RunsFailing", "failed", ()).await;
    wire.ended("Chain", "done", 1).await;
    wire
}

/// The ids of a list by pages, which the counts and bulk operations agree with.
async fn found(client: &Client, filter: Filter) -> Vec<String> {
    let list = client.list().filter(filter.clone()).limit(1).stream();
    let mut ids: Vec<String> = list
        .map_ok(|instance| instance.instance_id)
        .try_collect()
        .await
        .unwrap();
    ids.sort();
    let counts = client.list().filter(filter.clone()).counts().await.unwrap();
    let live = counts.iter().filter(|(status, _)| !status.is_end());
    let live: u64 = live.map(|(_, count)| count).sum();
    let terminated = client.terminate_where(filter.clone()).dry_run();
    assert_eq!(terminated.await.unwrap().matched, live, "{filter:?}");
    let purged = client.purge_where(filter.clone()).dry_run();
    let ended = purged.await.unwrap().matched;
    assert_eq!(live + ended, ids.len() as u64, "{filter:?}");
    ids
}

/// What a client finds under each filter.
async fn found_by(client: &Client) -> String {
    let mut said = String::new();
    let mut say = |what: String, ids: Vec<String>| said += &format!("{what}: {ids:?}\n");
    for kind in WaitKind::ALL {
        let filter = Filter::new().waits_for(kind);
        say(kind.to_string(), found(client, filter).await);
    }
    for wait in [WaitFilter::event("GO"), WaitFilter::event("Gone")] {
        let filter = Filter::new().waits_for(wait.clone());
        say(wait.to_string(), found(client, filter).await);
    }
    for kind in ["CardDeclined", "Timeout"] {
        let filter = Filter::new().failure_kind(kind);
        say(kind.to_owned(), found(client, filter).await);
    }
    let now = Filter::new().updated_from(THEN).name("Chain");
    say("updated now".to_owned(), found(client, now).await);
    let before = Filter::new().updated_to(THEN);
    say("updated before".to_owned(), found(client, before).await);
    said
}

/// The overview of two hours around the present, without the counters of the host.
async fn overview_by(client: &Client, has_host: bool) -> Value {
    let (from, to) = (Timestamp(THEN.0 - HOUR), Timestamp(THEN.0 + HOUR));
    let overview = client.overview().between(from, to).buckets(2);
    let overview = overview.await.unwrap();
    assert_eq!(overview.host.is_some(), has_host);
    // Only the host knows them.
    let flaky = overview.slowest.iter().find(|one| one.name == "Flaky");
    let flaky = flaky.map(|one| {
        (
            one.attempts,
            one.failed,
            one.mean_millis,
            one.slowest_millis,
        )
    });
    assert_eq!(flaky, has_host.then_some((1, 1, 0, 0)));
    let mut overview = json!(overview);
    for of_host in ["host", "slowest"] {
        overview.as_object_mut().unwrap().remove(of_host);
    }
    overview
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_finds_and_counts_the_same() {
    let wire = busy_hub().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let api = Api::new(wire.client()).this_machine_only();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, api, None, async { drop(stopped.await) }));
    let here = wire.client();
    let others = [
        (wire._dir.client(), false),
        (Client::connect(&url, "default", None).unwrap(), true),
    ];
    let ids = found_by(&here).await;
    let overview = overview_by(&here, true).await;
    for (client, has_host) in &others {
        assert_eq!(found_by(client).await, ids, "{client:?}");
        assert_eq!(overview_by(client, *has_host).await, overview, "{client:?}");
    }
    expect![[r#"
        event: ["event"]
        request: []
        answer: []
        activity: ["again", "runs"]
        retry: ["again"]
        timer: ["timer"]
        start: ["later"]
        child: []
        worker: []
        quarantine: []
        event:GO: ["event"]
        event:Gone: []
        CardDeclined: ["failed"]
        Timeout: []
        updated now: ["done"]
        updated before: []
    "#]]
    .assert_eq(&ids);
    expect![[r#"
        {
          "activities": {
            "queued": 0,
            "retrying": 1,
            "running": 1
          },
          "bucketMillis": 3600000,
          "buckets": [
            {
              "completed": 0,
              "failed": 0,
              "from": "2019-12-31T23:00:00.000Z",
              "partial": false,
              "started": 0,
              "terminated": 0
            },
            {
              "completed": 1,
              "failed": 1,
              "from": "2020-01-01T00:00:00.000Z",
              "partial": false,
              "started": 7,
              "terminated": 0
            }
          ],
          "counts": {
            "Completed": 1,
            "Failed": 1,
            "Pending": 1,
            "Running": 4
          },
          "failures": [
            {
              "count": 1,
              "kind": "CardDeclined"
            }
          ],
          "from": "2019-12-31T23:00:00.000Z",
          "longestRunning": [
            {
              "attempt": 1,
              "instanceId": "runs",
              "name": "Native",
              "runningSince": "2020-01-01T00:00:00.000Z",
              "task": 0
            }
          ],
          "mostRetried": [
            {
              "attempt": 2,
              "instanceId": "again",
              "lastFailure": "Flaky",
              "name": "Flaky",
              "nextAttemptTime": "2020-01-01T00:00:00.001Z",
              "task": 0
            }
          ],
          "orchestrations": [
            {
              "counts": {
                "Pending": 1,
                "Running": 1
              },
              "live": 2,
              "name": "Wait"
            },
            {
              "counts": {
                "Running": 1
              },
              "live": 1,
              "name": "NativeChain"
            },
            {
              "counts": {
                "Running": 1
              },
              "live": 1,
              "name": "Retries"
            },
            {
              "counts": {
                "Running": 1
              },
              "live": 1,
              "name": "SleepUntil"
            }
          ],
          "partial": false,
          "to": "2020-01-01T01:00:00.000Z",
          "waits": [
            {
              "count": 1,
              "partial": false,
              "waitsFor": "event"
            },
            {
              "count": 2,
              "partial": false,
              "waitsFor": "activity"
            },
            {
              "count": 1,
              "partial": false,
              "waitsFor": "retry"
            },
            {
              "count": 1,
              "partial": false,
              "waitsFor": "timer"
            },
            {
              "count": 1,
              "partial": false,
              "waitsFor": "start"
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&overview).unwrap());
    stop.send(()).unwrap();
    server.await.unwrap();
    wire.host.shut_down().await;
}

#[tokio::test]
async fn the_parameters_of_the_overview_and_of_filters_are_checked() {
    let wire = Wire::new().await;
    wire.ended("Chain", "c1", 1).await;
    let overview = async |query: &str| wire.ask(&format!("GET {API}/overview?{query}")).await;
    let day = overview("").await.json();
    assert_eq!(
        (&day["bucketMillis"], &day["counts"]),
        (&json!(1_800_000), &json!({ "Completed": 1 }))
    );
    let buckets = day["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 48);
    // Buckets begin at multiples of their length, and the last one has begun.
    assert_eq!(buckets[47]["from"], "2030-01-01T00:00:00.000Z");
    assert_eq!(
        (&buckets[47]["started"], &buckets[47]["completed"]),
        (&json!(1), &json!(1))
    );
    let minute = overview("last=60&buckets=1000").await.json();
    assert_eq!(minute["buckets"].as_array().unwrap().len(), 120);
    for wrong in [
        "from=2030-01-01",
        "last=60&from=2030-01-01&to=2030-01-02",
        "from=2030-01-02&to=2030-01-01",
        "buckets=0",
        "last=some",
    ] {
        let answer = overview(wrong).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
    let list = async |query: &str| wire.ask(&format!("GET {API}/instances?{query}")).await;
    for wrong in ["waitsFor=cake", "waitsFor=timer:x", "updatedFrom=soon"] {
        let answer = list(wrong).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
    let updated = list("updatedFrom=2030-01-01&updatedTo=2030-01-02")
        .await
        .json();
    assert_eq!(updated["instances"][0]["instanceId"], "c1");
    let none = list("waitsFor=event:Go&failureKind=Timeout").await.json();
    assert_eq!(none, json!({ "instances": [] }));
}

#[tokio::test]
async fn callers_within_a_second_share_an_overview() {
    let wire = Wire::new().await;
    let client = wire.client();
    let day = client.overview().last(Duration::from_secs(86_400));
    let begun = std::time::Instant::now();
    assert!(day.clone().await.unwrap().counts.is_empty());
    wire.ended("Chain", "c1", 1).await;
    let again = day.clone().await.unwrap().counts;
    // On a machine that was busy for so long the result is a new one.
    assert!(again.is_empty() || begun.elapsed() >= Duration::from_secs(1));
    // What is asked for differs.
    assert_eq!(
        day.buckets(3).await.unwrap().counts,
        [(Status::Completed, 1)]
    );
}
