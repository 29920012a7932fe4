//! W4: ten thousand timers that come due in the same second.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial::Host;
use perennial_tests::DataDir;

use crate::charts::{bars, ours};
use crate::hello::host;
use crate::measure::{COUNTS, Cost, cost, counts_row, data_dir, median, percentile, rounds, sized};
use crate::section::{Section, number};

/// Timers, each of an instance of its own.
const TIMERS: u32 = 10_000;

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Starts instances whose timers come due within one second, spread over it evenly, the first so many milliseconds from now. When that is,
/// if all of them could be started until then.
async fn armed(host: &Host, name: &str, timers: u32, lead: u64) -> Option<u64> {
    let first_due = now() + lead;
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..64 {
        let (client, name) = (host.client(), name.to_owned());
        lanes.spawn(async move {
            for i in (lane..timers).step_by(64) {
                let due = first_due + u64::from(i) * 1_000 / u64::from(timers);
                let start = client.start("SleepUntil").id(format!("{name}-{i}"));
                start.input(&due).await.unwrap();
            }
        });
    }
    lanes.join_all().await;
    (now() < first_due).then_some(first_due)
}

async fn all_ended(host: &Host, ended: u64) {
    while host.stats().ended < ended {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until all timers of a second have fired. What that cost, and by how many milliseconds each was late: the time of the turn that has
/// the timer's firing. Starting them is not what is measured, and is tried again with more time where it took too long.
async fn round(dir: &DataDir, host: &Host, name: &str, timers: u32) -> (Cost, Vec<f64>) {
    let mut lead = 2_000 + u64::from(timers) / 2;
    loop {
        let ended = host.stats().ended + u64::from(timers);
        let name = format!("{name}-{lead}");
        let first_due = armed(host, &name, timers, lead).await;
        let (cost, ()) = cost(host, all_ended(host, ended)).await;
        if let Some(first_due) = first_due {
            let late = lateness(dir, &name, first_due, timers);
            return (cost.each(f64::from(timers)), late);
        }
        lead *= 2;
    }
}

/// Milliseconds between a timer's time and the turn that it fired in, from the histories.
fn lateness(dir: &DataDir, name: &str, first_due: u64, timers: u32) -> Vec<f64> {
    let db = rusqlite::Connection::open(dir.path().join("default.db")).unwrap();
    let mut query = db
        .prepare("SELECT id, updated_at FROM instance WHERE id GLOB ?1 || '-*' AND status = 3")
        .unwrap();
    let rows = query
        .query_map([name], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .unwrap();
    let late: Vec<f64> = rows
        .map(|row| {
            let (id, fired) = row.unwrap();
            let i: u64 = id.rsplit('-').next().unwrap().parse().unwrap();
            (fired - i64::try_from(first_due + i * 1_000 / u64::from(timers)).unwrap()) as f64
        })
        .collect();
    assert_eq!(late.len(), timers as usize, "some did not end");
    late
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        "W4",
        "10,000 timers that come due in the same second",
        "10,000 instances wait for a timer each; the times are spread evenly over one second. 4,096 of the guests are in memory, the others come \
         back by replay. Late by is the time of the turn that has the firing in the instance's history, less the time that was asked for.",
    );
    let timers = sized(TIMERS);
    let dir = data_dir();
    let host = host(&dir).await;
    let (mut costs, mut halves, mut tails, mut commits) = (vec![], vec![], vec![], vec![]);
    for i in 0..rounds() {
        let (cost, late) = round(&dir, &host, &format!("round{i}"), timers).await;
        costs.push(cost);
        halves.push(median(&late));
        tails.push(percentile(&late, 0.99));
        // A waiter is told after the commit of that turn.
        let timings = host.client().commit_timings().unwrap();
        commits.push(timings.seconds.sum / timings.seconds.count as f64 * 1e3);
    }
    section.at_most("lateness, p99", 50.0, "ms", median(&tails));
    let all = [ours("p50", median(&halves)), ours("p99", median(&tails))];
    section.chart(
        "w4-lateness.svg",
        "W4, lateness of timers",
        bars("10,000 timers in a second: late by", "ms", &all, Some(50.0)),
    );
    let rows = all
        .iter()
        .map(|bar| [bar.label.to_owned(), number(bar.value)])
        .collect();
    section.table("Late by", ["what", "ms"], rows);
    section.table(
        "Counts for one timer",
        COUNTS,
        vec![counts_row("firing, turn, and end", &costs)],
    );
    section.note(format!(
        "A commit took {} ms on average, which comes on top before the outside is told.",
        number(median(&commits))
    ));
    let idle = Instant::now();
    let (quiet, ()) = cost(
        &host,
        tokio::time::sleep(Duration::from_secs(if timers == TIMERS { 5 } else { 1 })),
    )
    .await;
    section.note(format!(
        "The host afterwards, with nothing to do: {} % of a core.",
        number(quiet.cpu / idle.elapsed().as_secs_f64() * 100.0)
    ));
    host.shut_down().await;
    section
}
