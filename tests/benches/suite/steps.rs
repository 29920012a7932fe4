//! W2 and W3: what a step costs in long chains, and in wide fan-outs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial::{Client, Host};
use perennial_tests::DataDir;

use crate::charts::{bars, limit as limit_bar, ours};
use crate::hello::host;
use crate::limit::{Bare, Script};
use crate::measure::{
    COUNTS, Cost, cost, counts_row, data_dir, ends, median, median_of, one, rounds, sized, span,
};
use crate::section::{Section, number};

/// Runs one instance of so many steps. What a step cost.
async fn chain(host: &Host, name: &str, steps: u32) -> Cost {
    let (cost, ()) = cost(host, one(&host.client(), name, steps)).await;
    cost.each(f64::from(steps))
}

/// As many steps in many short chains, one after the other.
async fn chains_of(host: &Host, name: &str, steps: u32, all: u32) -> Cost {
    let client = host.client();
    let work = async {
        for _ in 0..all / steps {
            one(&client, name, steps).await;
        }
    };
    let (cost, ()) = cost(host, work).await;
    cost.each(f64::from(all / steps * steps))
}

/// How much longer a step of a long chain takes than one of short chains that run beside it until it ends: both see the same machine and
/// the same disk, and share their commits.
async fn beside(host: &Host, name: &str, long: u32, short: u32) -> f64 {
    let client = host.client();
    let over = Arc::new(AtomicBool::new(false));
    let (told, short_client, short_name) = (Arc::clone(&over), client.clone(), name.to_owned());
    let shorts = tokio::spawn(async move {
        let mut steps = 0;
        while !told.load(Ordering::Relaxed) {
            one(&short_client, &short_name, short).await;
            steps += short;
        }
        f64::from(steps)
    });
    one(&client, name, long).await;
    over.store(true, Ordering::Relaxed);
    shorts.await.unwrap() / f64::from(long)
}

pub(crate) async fn chains() -> Section {
    let mut section = Section::new(
        "W2",
        "chains of 100 and of 10,000 activities",
        "One instance calls one activity after the other; nothing else runs. As many steps of chains of 100 are measured in turn with each long \
         chain. The limit writes the rows of such a chain, one transaction for each turn.",
    );
    const SHORT: u32 = 100;
    let long = sized(10_000).max(2 * SHORT);
    let dir = data_dir();
    let host = host(&dir).await;
    let client = host.client();
    let mut bare = bare_of(&dir, &client, "Chain", SHORT).await;
    let (mut native, mut wasm, mut limits, mut side_by_side) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds() {
        let shorts = (long / 5).max(SHORT);
        native.push((
            chain(&host, "NativeChain", long).await,
            chains_of(&host, "NativeChain", SHORT, shorts).await,
        ));
        wasm.push((
            chain(&host, "Chain", long).await,
            chains_of(&host, "Chain", SHORT, shorts).await,
        ));
        side_by_side.push(beside(&host, "Chain", long, SHORT).await);
        limits.push(1.0 / bare.0.run(1, 1, span()).commits);
    }
    let longs: Vec<Cost> = wasm.iter().map(|round| round.0).collect();
    let shorts: Vec<Cost> = wasm.iter().map(|round| round.1).collect();
    let native_longs: Vec<Cost> = native.iter().map(|round| round.0).collect();
    section.at_most(
        &format!("commits of a step, chain of {long}"),
        1.01,
        "",
        median_of(&longs, |c| c.commits),
    );
    section.at_most(
        "a step of the long chain, of one of chains of 100 beside it",
        1.2,
        "times by the clock",
        median(&side_by_side),
    );
    let cpu = |rounds: &[(Cost, Cost)]| median_of(rounds, |(long, short)| long.cpu / short.cpu);
    section.at_most(
        "a step of the long chain alone, of one of chains of 100 alone",
        1.2,
        "times in CPU",
        cpu(&wasm),
    );
    section.at_most("the same, native", 1.2, "times in CPU", cpu(&native));
    let millis = |costs: &[Cost]| median_of(costs, |c| c.seconds * 1e3);
    let steps = [
        ours("chain of 10,000", millis(&longs)),
        ours("chains of 100", millis(&shorts)),
        ours("chain of 10,000, native", millis(&native_longs)),
        limit_bar("the same rows, bare SQLite", median(&limits) * 1e3),
    ];
    section.chart(
        "w2-step.svg",
        "W2, milliseconds of a step",
        bars("One step of a chain: milliseconds", "ms", &steps, None),
    );
    let rows = steps
        .iter()
        .map(|bar| [bar.label.to_owned(), number(bar.value)])
        .collect();
    section.table("One step", ["what", "ms"], rows);
    section.table(
        "Counts for one step",
        COUNTS,
        vec![
            counts_row("chain of 10,000", &longs),
            counts_row("chains of 100", &shorts),
            counts_row("chain of 10,000, native", &native_longs),
        ],
    );
    host.shut_down().await;
    section
}

/// What a chain writes, in a file of its own.
async fn bare_of(dir: &DataDir, client: &Client, name: &str, steps: u32) -> (Bare, DataDir) {
    let id = client.start(name).input(&steps).await.unwrap();
    ends(client, &id).await;
    let bare_dir = data_dir();
    (
        Bare::new(
            bare_dir.path(),
            Script::of(&dir.path().join("default.db"), &id),
        ),
        bare_dir,
    )
}

/// Ten chains at once that make as many calls together.
async fn ten_chains(host: &Host, all: u32) -> Cost {
    let client = host.client();
    let work = async {
        let mut chains = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let client = client.clone();
            chains.spawn(async move { one(&client, "Chain", all / 10).await });
        }
        chains.join_all().await;
    };
    let (cost, ()) = cost(host, work).await;
    cost.each(f64::from(all))
}

pub(crate) async fn fan_outs() -> Section {
    let mut section = Section::new(
        "W3",
        "fan-outs of 100 and of 1,000 activities",
        "One instance calls all activities at once and waits for all; nothing else runs. Each round has ten fan-outs of each kind, and ten chains of \
         100 that run at once.",
    );
    const WIDE: u32 = 1_000;
    let dir = data_dir();
    let host = host(&dir).await;
    let repeats = sized(10).clamp(2, 10);
    one(&host.client(), "FanOutN", WIDE).await;
    let (mut wasm, mut small, mut native, mut chained) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds() {
        wasm.push(fans(&host, "FanOutN", WIDE, repeats).await);
        small.push(fans(&host, "FanOutN", 100, repeats).await);
        native.push(fans(&host, "NativeFanOutN", WIDE, repeats).await);
        chained.push(ten_chains(&host, WIDE).await);
    }
    let rate = |costs: &[Cost]| 1.0 / median_of(costs, |c| c.seconds);
    let wide = f64::from(WIDE);
    section.at_least(
        "1,000 wasm activities",
        10_000.0,
        "activities/s",
        rate(&wasm),
    );
    section.at_least(
        "1,000 native activities",
        20_000.0,
        "activities/s",
        rate(&native),
    );
    section.at_most(
        "completions of 1,000: commits of an activity",
        0.25,
        "",
        median_of(&wasm, |c| c.commits),
    );
    let both: Vec<f64> = wasm
        .iter()
        .zip(&chained)
        .map(|(fan, chains)| fan.seconds / chains.seconds)
        .collect();
    section.at_most(
        "a fan-out of 1,000, of ten chains of 100",
        3.0,
        "times",
        median(&both),
    );
    section.note(format!(
        "A fan-out of 1,000 is scheduled in one commit, and its results are recorded in {} more (median): what ends while a commit runs is in the next.",
        number(median_of(&wasm, |c| c.commits * wide) - 1.0),
    ));
    let rates = [
        ours("1,000 wasm", rate(&wasm)),
        ours("100 wasm", rate(&small)),
        ours("1,000 native", rate(&native)),
        ours("ten chains of 100, wasm", rate(&chained)),
    ];
    section.chart(
        "w3-fan-out.svg",
        "W3, activities for each second",
        bars("Fan-out: activities for each second", "/s", &rates, None),
    );
    let rows = rates
        .iter()
        .map(|bar| [bar.label.to_owned(), number(bar.value)])
        .collect();
    section.table("Activities for each second", ["what", "1/s"], rows);
    section.table(
        "Counts for one activity",
        COUNTS,
        vec![
            counts_row("fan-out of 1,000", &wasm),
            counts_row("fan-out of 100", &small),
            counts_row("fan-out of 1,000, native", &native),
            counts_row("ten chains of 100", &chained),
        ],
    );
    host.shut_down().await;
    section
}

/// What one activity costs in fan-outs, one after the other.
async fn fans(host: &Host, name: &str, wide: u32, repeats: u32) -> Cost {
    let client = host.client();
    let work = async {
        for _ in 0..repeats {
            one(&client, name, wide).await;
        }
    };
    let (cost, ()) = cost(host, work).await;
    cost.each(f64::from(wide * repeats))
}
