//! hello-sequence on DBOS, on the same server in turn. Of the other engines that are measured, none keeps what it does in PostgreSQL here.

use perennial::Host;

use super::{Ran, Server};
use crate::hello;
use crate::measure::{is_quick, median, median_of, percentile, rounds};
use crate::peers::{Driver, dbos};
use crate::section::{Section, number};

const IN_FLIGHT: usize = 64;

/// What one round measured.
struct Round {
    own: Ran,
    own_ms: Vec<f64>,
    /// Instances for each second; processor seconds of an instance, and of the server for it.
    rate: f64,
    cpu: f64,
    server: f64,
    ms: Vec<f64>,
}

async fn round(server: &Server, host: &Host, driver: &mut Driver) -> Round {
    let (seconds, alone) = if is_quick() { (0.3, 2) } else { (4.0, 25) };
    let own = server.ran(host, IN_FLIGHT).await;
    let before = driver.cpu();
    let work = async { driver.throughput(IN_FLIGHT, seconds) };
    let (of_server, (done, took)) = server.cpu(work).await;
    let cpu = driver.cpu() - before;
    Round {
        own,
        own_ms: hello::alone_ms(&host.client(), alone).await,
        rate: done / took,
        cpu: cpu / done,
        server: of_server / done,
        ms: driver.latencies(alone),
    }
}

/// Measures it beside a host whose hub is on the server.
pub(super) async fn run(section: &mut Section, server: &Server, host: &Host) {
    let address = server.0.database("dbos");
    // The name that its libraries know.
    let address = address.replacen("postgres://", "postgresql://", 1);
    let mut driver = match Driver::start("DBOS", &dbos(), &[], Some(&address)) {
        Ok(driver) => driver,
        Err(why) => {
            println!("DBOS is left out: {why}; tests/bench/peers/install says what it needs");
            return section.note("DBOS was not there.");
        }
    };
    driver.throughput(IN_FLIGHT, if is_quick() { 0.3 } else { 2.0 });
    let mut all = Vec::new();
    for _ in 0..rounds() {
        all.push(round(server, host, &mut driver).await);
    }
    say(section, &all, &driver);
}

fn say(section: &mut Section, all: &[Round], driver: &Driver) {
    let of = |pick: &dyn Fn(&Round) -> f64| median_of(all, pick);
    let ms = |pick: fn(&Round) -> &Vec<f64>| -> Vec<f64> {
        all.iter().flat_map(|round| pick(round).clone()).collect()
    };
    let rows = [
        (
            "Perennial",
            of(&|r| r.own.rate),
            of(&|r| r.own.cost.cpu),
            of(&|r| r.own.server),
            ms(|r| &r.own_ms),
        ),
        (
            "DBOS",
            of(&|r| r.rate),
            of(&|r| r.cpu),
            of(&|r| r.server),
            ms(|r| &r.ms),
        ),
    ];
    let rows = rows.map(|(name, rate, cpu, of_server, ms)| {
        [
            name.to_owned(),
            number(rate),
            number(cpu * 1e3),
            number(of_server * 1e3),
            number(percentile(&ms, 0.5)),
            number(percentile(&ms, 0.99)),
        ]
    });
    section.table(
        "Beside DBOS, 64 in flight, and 1",
        [
            "engine",
            "64 in flight, 1/s",
            "ms of CPU for each",
            "and of the server",
            "1 in flight, p50 ms",
            "p99 ms",
        ],
        rows.into(),
    );
    let times = |pick: &dyn Fn(&Round) -> f64| {
        let ratios: Vec<f64> = all.iter().map(pick).collect();
        number(median(&ratios))
    };
    section.note(format!(
        "DBOS {} ({}), on the same server in turn: Perennial is {} times as fast with 64 in flight, and {} times with 1 (medians of the ratios \
         of each round). Temporal's server for PostgreSQL is not to be had as a package here: its development server has SQLite only.",
        driver.version,
        driver.configuration,
        times(&|r| r.own.rate / r.rate),
        times(&|r| median(&r.ms) / median(&r.own_ms)),
    ));
}
