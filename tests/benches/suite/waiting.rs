//! W5: a hundred thousand instances that wait for an event.

use std::path::Path;
use std::time::{Duration, Instant};

use perennial::{Client, Host};
use perennial_tests::DataDir;

use crate::charts::{bars, ours};
use crate::hello::host;
use crate::measure::{
    COUNTS, Cost, cost, counts_row, data_dir, median, median_of, memory_bytes, rounds, sized,
};
use crate::section::{Section, number};

/// Instances that wait.
const WAITING: u32 = 100_000;

/// Does something for each number, 64 at once.
async fn for_each<F, Fut>(numbers: std::ops::Range<u32>, work: F)
where
    F: Fn(u32) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..64 {
        let (work, numbers) = (work.clone(), numbers.clone());
        lanes.spawn(async move {
            for i in numbers.skip(lane).step_by(64) {
                work(i).await;
            }
        });
    }
    lanes.join_all().await;
}

async fn start(client: &Client, numbers: std::ops::Range<u32>) {
    let client = client.clone();
    for_each(numbers, move |i| {
        let client = client.clone();
        async move { drop(client.start("Wait").id(format!("wait-{i}")).await.unwrap()) }
    })
    .await;
}

async fn raise(client: &Client, numbers: std::ops::Range<u32>) {
    let client = client.clone();
    for_each(numbers, move |i| {
        let client = client.clone();
        async move {
            client
                .raise_event(&format!("wait-{i}"), "Go", "now")
                .await
                .unwrap()
        }
    })
    .await;
}

/// Waits until so many executions have ended since `before`.
async fn all_ended(host: &Host, before: u64, count: u32) {
    while host.stats().ended < before + u64::from(count) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A host on a copy of a hub at rest.
struct Round {
    restart: f64,
    first_turn: f64,
    ended: f64,
    ending: Cost,
}

/// The compiled code, which a host that restarts has too.
fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

async fn round(hub: &DataDir, waiting: u32) -> Round {
    let dir = data_dir();
    std::fs::copy(hub.path().join("default.db"), dir.path().join("default.db")).unwrap();
    copy_dir(&hub.path().join("cache"), &dir.path().join("cache"));
    let begun = Instant::now();
    let host = dir.host().start().await.unwrap();
    let restart = begun.elapsed().as_secs_f64();
    let client = host.client();
    let before = host.stats().ended;
    raise(&client, 0..1).await;
    all_ended(&host, before, 1).await;
    let first_turn = begun.elapsed().as_secs_f64();
    let before = host.stats().ended;
    let (ending, ()) = cost(&host, async {
        raise(&client, 1..waiting).await;
        all_ended(&host, before, waiting - 1).await;
    })
    .await;
    host.shut_down().await;
    Round {
        restart,
        first_turn,
        ended: ending.seconds,
        ending: ending.each(f64::from(waiting - 1)),
    }
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        "W5",
        "100,000 instances that wait for an event",
        "Instances of `Wait` (one event, then the end), started by 64 clients. 4,096 guests stay in memory. Memory is the growth of the process's \
         own memory from 10,000 waiting instances to all of them. Each round restarts a host on a copy of the hub, raises the event for one \
         instance and waits for its end, then raises it for all others by 64 clients and waits for all ends.",
    );
    let waiting = sized(WAITING);
    let dir = data_dir();
    let host = host(&dir).await;
    let client = host.client();
    let few = waiting / 10;
    start(&client, 0..few).await;
    let before = memory_bytes();
    let (starting, ()) = cost(&host, start(&client, few..waiting)).await;
    let grown = memory_bytes().saturating_sub(before) as f64 / f64::from(waiting - few);
    let starting = starting.each(f64::from(waiting - few));
    host.shut_down().await;
    let size = std::fs::metadata(dir.path().join("default.db"))
        .unwrap()
        .len() as f64;

    let mut all = Vec::new();
    for _ in 0..rounds() {
        all.push(round(&dir, waiting).await);
    }
    let of = |of: fn(&Round) -> f64| median_of(&all, of);
    section.at_most(
        "memory of a waiting instance beyond the resident ones",
        1_024.0,
        "bytes",
        grown,
    );
    section.at_most("restart of the host", 1.0, "s", of(|r| r.restart));
    section.at_most(
        "raise the event for all, and all have ended",
        20.0,
        "s",
        of(|r| r.ended),
    );
    let costs: Vec<Cost> = all.iter().map(|round| round.ending).collect();
    section.table(
        "Counts for one instance",
        COUNTS,
        vec![
            counts_row("start, to where it waits", &[starting]),
            counts_row("event, turn, and end", &costs),
        ],
    );
    section.table(
        "The hub",
        ["what", "measured"],
        vec![
            [
                "starts for each second".to_owned(),
                number(1.0 / starting.seconds),
            ],
            [
                "bytes of file for a waiting instance".to_owned(),
                number(size / f64::from(waiting)),
            ],
            [
                "restart, to the end of a first instance".to_owned(),
                format!("{} s", number(of(|r| r.first_turn))),
            ],
            [
                "ends for each second".to_owned(),
                number(f64::from(waiting) / of(|r| r.ended)),
            ],
        ],
    );
    let times = [
        ours("restart", of(|r| r.restart)),
        ours("raise all, end all", of(|r| r.ended)),
        ours("start all", starting.seconds * f64::from(waiting)),
    ];
    section.chart(
        "w5-waiting.svg",
        "W5, 100,000 waiting instances",
        bars("100,000 waiting instances: seconds", "s", &times, None),
    );
    section.note(format!(
        "Rounds of raising and ending took {} s.",
        spread(&all)
    ));
    section
}

fn spread(all: &[Round]) -> String {
    let ended: Vec<f64> = all.iter().map(|round| round.ended).collect();
    let (low, high) = ended.iter().fold((f64::MAX, 0.0_f64), |(low, high), s| {
        (low.min(*s), high.max(*s))
    });
    format!(
        "{} to {}, {} in the median",
        number(low),
        number(high),
        number(median(&ended))
    )
}
