//! W1: three activities, one after the other, many instances at once and one alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use perennial::{ActivityContext, Client, Failure, Host};
use perennial_tests::{DataDir, module};

use crate::charts::{bars, limit as limit_bar, ours};
use crate::limit::{Bare, Rate, Script, fdatasyncs, single_rows};
use crate::measure::{
    COUNTS, Cost, cost, counts_row, data_dir, ends, median, median_of, one, percentile, rounds,
    sized, span,
};
use crate::section::{Section, number};

pub(crate) const HELLO: &str = "HelloSequence";

/// A host with the guests of the suite, and the activity of its own that they call.
pub(crate) async fn host(dir: &DataDir) -> Host {
    prepared(dir.host()).await
}

pub(crate) async fn prepared(builder: perennial::HostBuilder) -> Host {
    let native = |_: ActivityContext, value: u32| async move { Ok::<_, Failure>(value) };
    let host = builder.activity("Native", native).start().await.unwrap();
    let client = host.client();
    client.deploy(module("hello-sequence")).await.unwrap();
    client.deploy(module("workloads")).await.unwrap();
    host
}

/// Keeps so many instances in flight for so long. How many ended.
pub(crate) async fn throughput(
    client: &Client,
    name: &'static str,
    input: Option<u32>,
    in_flight: usize,
    span: Duration,
) -> f64 {
    let done = Arc::new(AtomicU32::new(0));
    let begun = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (client, done) = (client.clone(), Arc::clone(&done));
        lanes.spawn(async move {
            while begun.elapsed() < span {
                let id = client.start(name).input(&input).await.unwrap();
                ends(&client, &id).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    lanes.join_all().await;
    f64::from(done.load(Ordering::Relaxed))
}

/// What one round measured.
struct Round {
    syncs: f64,
    single: f64,
    bare: Rate,
    wasm: (f64, Cost),
    many: (f64, Cost),
    native: (f64, Cost),
    without_fuel: (f64, Cost),
}

async fn measured(host: &Host, name: &'static str, in_flight: usize) -> (f64, Cost) {
    let client = host.client();
    let input = (name != HELLO).then_some(3);
    let (cost, done) = cost(host, throughput(&client, name, input, in_flight, span())).await;
    (done / cost.seconds, cost.each(done))
}

async fn round(
    dir: &DataDir,
    metered: &Host,
    unmetered: &Host,
    bare: &mut Bare,
    batch: usize,
) -> Round {
    Round {
        syncs: fdatasyncs(dir.path(), span() / 3),
        single: single_rows(dir.path(), span() / 3),
        bare: bare.run(64, batch, span()),
        wasm: measured(metered, HELLO, 64).await,
        without_fuel: measured(unmetered, HELLO, 64).await,
        many: measured(metered, HELLO, 1_024).await,
        native: measured(metered, "NativeChain", 64).await,
    }
}

pub(crate) async fn ended(client: &Client, name: &str) {
    let id = client.start(name).await.unwrap();
    ends(client, &id).await;
}

/// Milliseconds of so many instances, one after the other.
pub(crate) async fn alone_ms(client: &Client, count: u32) -> Vec<f64> {
    alone_ms_of(client, HELLO, count).await
}

/// The same of another orchestration.
pub(crate) async fn alone_ms_of(client: &Client, name: &str, count: u32) -> Vec<f64> {
    let mut took = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        ended(client, name).await;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took
}

/// Milliseconds of one instance after the other, each in turn with the bare transactions that it needs.
async fn latencies(host: &Host, bare: &mut Bare) -> (Vec<f64>, Vec<f64>) {
    let client = host.client();
    let (mut took, mut limits) = (vec![], vec![]);
    for _ in 0..sized(300) {
        let begun = Instant::now();
        ended(&client, HELLO).await;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        limits.push(bare.one().as_secs_f64() * 1e3);
    }
    (took, limits)
}

/// What an instance costs that is alone.
async fn alone(host: &Host, client: &Client) -> Cost {
    let count = sized(100);
    let work = async {
        for _ in 0..count {
            ended(client, HELLO).await;
        }
    };
    let (cost, ()) = cost(host, work).await;
    cost.each(f64::from(count))
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        "W1",
        "hello-sequence: three activities, one after the other",
        "The sample `hello-sequence`, orchestration and activities in WebAssembly. Clients in the host's process start an instance, wait for its \
         end, and start the next, so that so many are always in flight. The limit is a program that writes the rows of such an instance, taken \
         from one that ran, into the same tables with as many turns in each transaction as the host had, and does nothing else: no guest, no \
         reading, no answers. Each round measures all of them in turn.",
    );
    let (dir, other, bare_dir) = (data_dir(), data_dir(), data_dir());
    let metered = host(&dir).await;
    let unmetered = prepared(other.host().without_fuel()).await;
    let template = metered.client().start(HELLO).await.unwrap();
    ends(&metered.client(), &template).await;
    one(&unmetered.client(), "Chain", 3).await;
    let script = || Script::of(&dir.path().join("default.db"), &template);
    let mut bare = Bare::new(bare_dir.path(), script());

    // How many turns the host puts into a transaction, so that the limit does the same; and everything is warm afterwards.
    let warm = measured(&metered, HELLO, 64).await.1;
    measured(&unmetered, HELLO, 64).await;
    let batch = (warm.changes / warm.commits).round() as usize;
    let mut all = Vec::new();
    for _ in 0..rounds() {
        all.push(round(&bare_dir, &metered, &unmetered, &mut bare, batch).await);
    }
    let single_dir = data_dir();
    let mut single = Bare::new(single_dir.path(), script());
    let (took, limits) = latencies(&metered, &mut single).await;
    let within = alone(&metered, &metered.client()).await;
    // A client who only has the file, as another process has.
    let outside = alone(&metered, &dir.client()).await;
    say(&mut section, &all, batch);
    say_alone(&mut section, &took, &limits, &within, &outside);
    let wasm: Vec<Cost> = all.iter().map(|round| round.wasm.1).collect();
    let many: Vec<Cost> = all.iter().map(|round| round.many.1).collect();
    let native: Vec<Cost> = all.iter().map(|round| round.native.1).collect();
    section.table(
        "Counts for one instance",
        COUNTS,
        vec![
            counts_row("1 in flight", &[within]),
            counts_row("1 in flight, started through the file", &[outside]),
            counts_row("64 in flight", &wasm),
            counts_row("1,024 in flight", &many),
            counts_row("64 in flight, native activities", &native),
        ],
    );
    metered.shut_down().await;
    unmetered.shut_down().await;
    section
}

fn say(section: &mut Section, all: &[Round], batch: usize) {
    let of = |of: fn(&Round) -> f64| median_of(all, of);
    section.at_least(
        "64 in flight, of the limit that writes the same rows",
        0.6,
        "",
        of(|r| r.wasm.0 / r.bare.instances),
    );
    section.at_most(
        "64 in flight, commits of an instance",
        0.25,
        "",
        of(|r| r.wasm.1.commits),
    );
    section.at_most(
        "64 in flight, CPU of an instance",
        0.6,
        "ms",
        of(|r| r.wasm.1.cpu * 1e3),
    );
    section.at_most(
        "what fuel costs, in CPU of an instance",
        10.0,
        "%",
        of(|r| (r.wasm.1.cpu / r.without_fuel.1.cpu - 1.0) * 100.0),
    );
    let instances = [
        ours("64 in flight", of(|r| r.wasm.0)),
        ours("1,024 in flight", of(|r| r.many.0)),
        ours("64, native activities", of(|r| r.native.0)),
        ours("64, without fuel", of(|r| r.without_fuel.0)),
        limit_bar("the same rows, bare SQLite", of(|r| r.bare.instances)),
        limit_bar("a bare synced commit each", of(|r| r.single)),
    ];
    let rows = instances
        .iter()
        .map(|bar| [bar.label.to_owned(), number(bar.value)])
        .collect();
    section.table(
        "Instances of hello-sequence for each second",
        ["what", "1/s"],
        rows,
    );
    section.chart(
        "w1-throughput.svg",
        "W1, instances for each second",
        bars(
            "hello-sequence: instances for each second",
            "/s",
            &instances,
            None,
        ),
    );
    section.table(
        "What the disk gives, in the same rounds",
        ["what", "1/s"],
        vec![
            ["fdatasync after 4 KiB".to_owned(), number(of(|r| r.syncs))],
            [
                "SQLite transactions of one row".to_owned(),
                number(of(|r| r.single)),
            ],
            [
                format!("transactions of {batch} turns"),
                number(of(|r| r.bare.commits)),
            ],
            ["rows in them".to_owned(), number(of(|r| r.bare.rows))],
        ],
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (cpu, bare) = (of(|r| r.wasm.1.cpu), of(|r| r.bare.instances));
    if of(|r| r.wasm.0 / r.bare.instances) < 0.6 {
        section.note(format!(
            "What stands between 64 in flight and the limit is the processor, not the disk: an instance takes {} ms of it over all threads, so that {cores} cores can do at most {} a second, and the limit, which only writes, takes {} ms on one thread, most of them waiting for syncs. The profile below says where the rest goes: making and dropping four guests, the turns, and handing work from thread to thread. More turns in a transaction make both faster, the limit more.",
            number(cpu * 1e3),
            number(cores / cpu),
            number(1e3 / bare),
        ));
    }
    section.note(format!(
        "Fuel, in throughput: {} of what the same host gives without it (median of ratios).",
        number(of(|r| r.wasm.0 / r.without_fuel.0))
    ));
}

fn say_alone(section: &mut Section, took: &[f64], limits: &[f64], alone: &Cost, outside: &Cost) {
    let ratios: Vec<f64> = took
        .iter()
        .zip(limits)
        .map(|(ours, bare)| ours / bare)
        .collect();
    section.at_most(
        "1 in flight, p50 of the bare commits it needs",
        1.5,
        "times",
        median(took) / median(limits),
    );
    section.at_most(
        "1 in flight, commits of an instance",
        4.0,
        "",
        alone.commits,
    );
    section.at_most(
        "1 in flight, started through the file, commits of the host",
        5.0,
        "",
        outside.commits,
    );
    let bars_of = [
        ours("p50", median(took)),
        ours("p99", percentile(took, 0.99)),
        limit_bar("bare commits it needs, p50", median(limits)),
        limit_bar("bare commits it needs, p99", percentile(limits, 0.99)),
    ];
    let rows = bars_of
        .iter()
        .map(|bar| [bar.label.to_owned(), number(bar.value)])
        .collect();
    section.table(
        "1 in flight, from the start to the completion",
        ["what", "ms"],
        rows,
    );
    section.chart(
        "w1-latency.svg",
        "W1, latency with one in flight",
        bars(
            "hello-sequence, 1 in flight: milliseconds",
            "ms",
            &bars_of,
            None,
        ),
    );
    if median(took) > median(limits) * 1.5 {
        section.note(format!(
            "Beside the commits that it needs, an instance alone takes {} ms: {} ms of processor time altogether, and two ways between threads of which one sleeps: from the client to a worker, and from there to the client.",
            number(median(took) - median(limits)),
            number(alone.cpu * 1e3),
        ));
    }
    section.note(format!(
        "1 in flight, the median of the ratios of neighbours: {}.",
        number(median(&ratios))
    ));
}
