//! W7: a mixed load for five minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial::{Client, Filter, Status, Timestamp};
use perennial_tests::module;

use crate::charts::{bars, limit as limit_bar, ours};
use crate::hello::host;
use crate::measure::{data_dir, ends, is_quick, median, percentile};
use crate::section::{Section, number};

const LANES: usize = 16;

/// Runs instances until told to stop. The milliseconds from each start to its end.
async fn load(client: &Client, stop: &Arc<AtomicBool>) -> Vec<f64> {
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (client, stop) = (client.clone(), Arc::clone(stop));
        let all = [
            ("HelloSequence", None),
            ("NativeChain", Some(5)),
            ("FanOutN", Some(5)),
            ("Chain", Some(5)),
        ];
        let (name, input) = all[lane % all.len()];
        lanes.spawn(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let id = client
                    .start(name)
                    .input(&input)
                    .tag("of", "the load")
                    .await
                    .unwrap();
                ends(&client, &id).await;
                took.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            took
        });
    }
    lanes.join_all().await.into_iter().flatten().collect()
}

async fn for_a_while(
    client: &Client,
    span: Duration,
    beside: Option<Client>,
) -> (Vec<f64>, Counts) {
    let stop = Arc::new(AtomicBool::new(false));
    let manager = beside.map(|client| tokio::spawn(manage(client, Arc::clone(&stop))));
    let told = Arc::clone(&stop);
    let timer = tokio::spawn(async move {
        tokio::time::sleep(span).await;
        told.store(true, Ordering::Relaxed);
    });
    let took = load(client, &stop).await;
    timer.await.unwrap();
    let counts = match manager {
        Some(manager) => manager.await.unwrap(),
        None => Counts::default(),
    };
    (took, counts)
}

#[derive(Default)]
struct Counts {
    lists: u64,
    purged: u64,
    deployments: u64,
    list_millis: Vec<f64>,
}

fn seconds_ago(seconds: u64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(now.as_millis()).unwrap() - seconds * 1_000)
}

/// Lists all the time, purges what has completed and deploys again and again.
async fn manage(client: Client, stop: Arc<AtomicBool>) -> Counts {
    let mut counts = Counts::default();
    while !stop.load(Ordering::Relaxed) {
        for list in [
            client.list(),
            client.list().status(Status::Running),
            client.list().tag("of", "the load"),
        ] {
            let begun = Instant::now();
            list.limit(100).await.unwrap();
            counts.list_millis.push(begun.elapsed().as_secs_f64() * 1e3);
            counts.lists += 1;
        }
        if counts.lists.is_multiple_of(60) {
            // Those that somebody may still ask about stay.
            let past = Filter::new()
                .status(Status::Completed)
                .created_to(seconds_ago(5));
            let purge = client.purge_where(past).await.unwrap();
            counts.purged += purge.done;
            client.deploy(module("hello-sequence")).await.unwrap();
            counts.deployments += 1;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    counts
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        "W7",
        "a mixed load for five minutes",
        "16 lanes of hello-sequence, chains of 5 and fan-outs of 5, alone and, in turn with that, beside somebody who lists 60 pages a second, and \
         every second purges what began more than five seconds ago and has completed and deploys a module.",
    );
    let dir = data_dir();
    let host = host(&dir).await;
    let client = host.client();
    let span = Duration::from_secs(if is_quick() { 2 } else { 30 });
    let (mut alone, mut beside, mut counts) = (vec![], vec![], Counts::default());
    for _ in 0..5 {
        alone.push(for_a_while(&client, span, None).await.0);
        let (took, with) = for_a_while(&client, span, Some(client.clone())).await;
        beside.push(took);
        counts.lists += with.lists;
        counts.purged += with.purged;
        counts.deployments += with.deployments;
        counts.list_millis.extend(with.list_millis);
    }
    let p99 = |rounds: &[Vec<f64>]| {
        median(
            &rounds
                .iter()
                .map(|took| percentile(took, 0.99))
                .collect::<Vec<_>>(),
        )
    };
    let (alone_p99, beside_p99) = (p99(&alone), p99(&beside));
    let all = [
        ours("p99 beside all that", beside_p99),
        limit_bar("p99 alone", alone_p99),
    ];
    section.chart(
        "w7-mixed.svg",
        "W7, p99 under a mixed load",
        bars("Mixed load: p99 of an instance", "ms", &all, None),
    );
    section.table(
        "Five rounds of each, in turn",
        ["what", "alone", "beside lists, purges and deployments"],
        vec![
            [
                "p50, ms".to_owned(),
                number(median(&alone.concat())),
                number(median(&beside.concat())),
            ],
            ["p99, ms".to_owned(), number(alone_p99), number(beside_p99)],
            [
                "instances".to_owned(),
                number(alone.concat().len() as f64),
                number(beside.concat().len() as f64),
            ],
        ],
    );
    section.note(format!(
        "{} pages were listed, p99 {} ms; {} instances purged; {} deployments.",
        number(counts.lists as f64),
        number(percentile(&counts.list_millis, 0.99)),
        number(counts.purged as f64),
        counts.deployments,
    ));
    host.shut_down().await;
    section
}
