//! hello-sequence with its hub in PostgreSQL: beside a hub in a file, beside a program that only writes, in a hub that has much already, and
//! with several hosts.

mod bare;
mod dbos;
mod hosts;

use perennial::{Host, Store};
use perennial_tests::DataDir;
use perennial_tests::postgres::{self, Measured};

use crate::hello::{self, HELLO, ended, throughput};
use crate::limit::Rate;
use crate::measure::{
    Cost, cost, cpu_seconds, data_dir, is_quick, median_of, percentile, processes_cpu, rounds,
    sized, span,
};
use crate::section::{Section, number};
use bare::Bare;

pub(crate) const NAME: &str = "PostgreSQL";

/// Of a server that has a machine with others: what its package sets is for the smallest. Nothing is vacuumed but where this says so.
const CONFIGURATION: &str = "shared_buffers = 512MB
max_wal_size = 1GB
autovacuum_naptime = 1h";

/// How many are in flight.
const IN_FLIGHT: [usize; 2] = [64, 256];

/// Instances that ended before, in a hub that has many.
const MANY: u32 = 1_000_000;

/// A server, whose processor time is counted.
struct Server(Measured);

impl Server {
    /// Does work, and says how many seconds of processor time the server took for it.
    async fn cpu<T>(&self, work: impl Future<Output = T>) -> (f64, T) {
        let before = processes_cpu(self.0.pid());
        let done = work.await;
        (processes_cpu(self.0.pid()) - before, done)
    }

    /// A host whose hub is in a new database.
    async fn host(&self, dir: &DataDir, database: &str) -> Host {
        let store = Store::postgres(&self.0.database(database)).unwrap();
        let host = hello::prepared(Host::builder().store(store.data_dir(dir.path()))).await;
        ended(&host.client(), HELLO).await;
        host
    }

    /// Looks for tables to vacuum each so often.
    fn vacuums_each(&self, time: &str) {
        let sql = format!("ALTER SYSTEM SET autovacuum_naptime = '{time}'");
        self.0.execute("postgres", &sql);
        self.0
            .execute("postgres", "DO $$ BEGIN PERFORM pg_reload_conf(); END $$");
    }

    /// Keeps so many in flight.
    async fn ran(&self, host: &Host, in_flight: usize) -> Ran {
        let client = host.client();
        let work = throughput(&client, HELLO, None, in_flight, span());
        let (server, (all, done)) = self.cpu(cost(host, work)).await;
        Ran {
            rate: done / all.seconds,
            cost: all.each(done),
            server: server / done,
        }
    }

    /// Writes instances as fast as it goes.
    async fn ran_bare(&self, bare: &mut Bare, lanes: usize, batch: usize) -> RanBare {
        let own = cpu_seconds();
        let (server, rate) = self.cpu(bare.run(lanes, batch, span())).await;
        let all = rate.instances * span().as_secs_f64();
        RanBare {
            rate,
            own: (cpu_seconds() - own) / all,
            server: server / all,
        }
    }
}

/// A host with so many in flight.
struct Ran {
    rate: f64,
    cost: Cost,
    /// Processor seconds of the server for an instance.
    server: f64,
}

/// The program that only writes.
struct RanBare {
    rate: Rate,
    own: f64,
    server: f64,
}

/// What one round measured with so many in flight.
struct Round {
    sqlite: (f64, Cost),
    postgres: Ran,
    bare: RanBare,
}

pub(crate) async fn run() -> Section {
    let mut section = Section::new(
        NAME,
        "hello-sequence in PostgreSQL",
        "As W1, with the hub in a database on the same machine, over a socket, with `fsync` and `synchronous_commit` on. The limit is a program \
         with one connection that writes the rows of such an instance, taken from one that ran, into the tables of a hub: arrays of rows in one \
         statement for each table, with as many turns in each transaction as the host had, each transaction sent at once. Each round measures a \
         hub in a file, the hub in PostgreSQL and the limit in turn. Processor time of the server is that of all its processes.",
    );
    let Some(server) = Measured::start(CONFIGURATION) else {
        section.note("Skipped: there are no programs of PostgreSQL (`initdb`); `PERENNIAL_POSTGRES_BIN` names their directory.");
        return section;
    };
    let server = Server(server);
    let (dir, other) = (data_dir(), data_dir());
    let sqlite = hello::host(&dir).await;
    let postgres = server.host(&other, "host").await;
    let mut bare = {
        let dir = data_dir();
        let database = "bare";
        server.host(&dir, database).await.shut_down().await;
        Bare::new(&server.0.address(database)).await
    };
    for in_flight in IN_FLIGHT {
        server.ran(&sqlite, in_flight).await;
        // How many turns the host puts into a transaction, so that the limit does the same; and everything is warm afterwards.
        let warm = server.ran(&postgres, in_flight).await.cost;
        let batch = (warm.changes / warm.commits).round() as usize;
        server.ran_bare(&mut bare, in_flight, batch).await;
        let mut all = Vec::new();
        for _ in 0..rounds() {
            let of_file = server.ran(&sqlite, in_flight).await;
            all.push(Round {
                sqlite: (of_file.rate, of_file.cost),
                postgres: server.ran(&postgres, in_flight).await,
                bare: server.ran_bare(&mut bare, in_flight, batch).await,
            });
        }
        say(&mut section, &all, in_flight, batch);
    }
    alone(&mut section, &sqlite, &postgres, &mut bare).await;
    sqlite.shut_down().await;
    dbos::run(&mut section, &server, &postgres).await;
    full(&mut section, &server, &postgres).await;
    postgres.shut_down().await;
    hosts::run(&mut section, &server).await;
    hosts::moves(&mut section, &server).await;
    section.note(format!(
        "The server: {}, {}.",
        postgres::version(),
        CONFIGURATION.replace('\n', ", ")
    ));
    section
}

fn say(section: &mut Section, all: &[Round], in_flight: usize, batch: usize) {
    let of = |of: fn(&Round) -> f64| median_of(all, of);
    let ratios: Vec<f64> = all
        .iter()
        .map(|round| round.postgres.rate / round.bare.rate.instances)
        .collect();
    let ratio = percentile(&ratios, 0.5);
    match in_flight {
        64 => section.at_least(
            "64 in flight, of the limit that writes the same rows",
            0.5,
            "",
            ratio,
        ),
        _ => section.at_least("256 in flight", 4_000.0, "/s", of(|r| r.postgres.rate)),
    }
    let row = |what: &str, rate: f64, own: f64, server: Option<f64>| {
        let server = server.map_or_else(|| "-".to_owned(), |cpu| number(cpu * 1e3));
        [what.to_owned(), number(rate), number(own * 1e3), server]
    };
    section.table(
        &format!("{in_flight} in flight, {batch} turns in a transaction"),
        ["what", "1/s", "ms of CPU for each", "and of the server"],
        vec![
            row("SQLite", of(|r| r.sqlite.0), of(|r| r.sqlite.1.cpu), None),
            row(
                "PostgreSQL",
                of(|r| r.postgres.rate),
                of(|r| r.postgres.cost.cpu),
                Some(of(|r| r.postgres.server)),
            ),
            row(
                "the same rows, bare, in PostgreSQL",
                of(|r| r.bare.rate.instances),
                of(|r| r.bare.own),
                Some(of(|r| r.bare.server)),
            ),
        ],
    );
    section.note(format!(
        "{in_flight} in flight: {} of the limit (rounds: {} to {}), {} of the hub in a file; {} commits and {} rows for an instance, beside {} rows \
         of the limit.",
        number(ratio),
        number(percentile(&ratios, 0.0)),
        number(percentile(&ratios, 1.0)),
        number(of(|r| r.postgres.rate / r.sqlite.0)),
        number(of(|r| r.postgres.cost.commits)),
        number(of(|r| r.postgres.cost.rows)),
        number(of(|r| r.bare.rate.rows / r.bare.rate.instances)),
    ));
}

/// One instance after the other, each in turn in a file, in PostgreSQL, and as the bare transactions that it needs.
async fn alone(section: &mut Section, sqlite: &Host, postgres: &Host, bare: &mut Bare) {
    let clients = (sqlite.client(), postgres.client());
    let mut all = [vec![], vec![], vec![]];
    for _ in 0..sized(300) {
        all[0].extend(hello::alone_ms(&clients.0, 1).await);
        all[1].extend(hello::alone_ms(&clients.1, 1).await);
        all[2].push(bare.one().await.as_secs_f64() * 1e3);
    }
    section.at_most("1 in flight, p50", 2.5, "ms", percentile(&all[1], 0.5));
    let ratios: Vec<f64> = all[1]
        .iter()
        .zip(&all[2])
        .map(|(ours, bare)| ours / bare)
        .collect();
    section.note(format!(
        "1 in flight, of the bare commits beside it: {} (median of ratios).",
        number(percentile(&ratios, 0.5))
    ));
    let names = [
        "SQLite",
        "PostgreSQL",
        "bare commits it needs, in PostgreSQL",
    ];
    let rows = names.iter().zip(&all).map(|(name, ms)| {
        [
            (*name).to_owned(),
            number(percentile(ms, 0.5)),
            number(percentile(ms, 0.99)),
        ]
    });
    section.table(
        "1 in flight, from the start to the completion, ms",
        ["what", "p50", "p99"],
        rows.collect(),
    );
}

/// What an instance costs in a hub that has few, and in one that has many that ended.
async fn full(section: &mut Section, server: &Server, few: &Host) {
    let (dir, many) = (data_dir(), if is_quick() { 1_000 } else { MANY });
    let host = server.host(&dir, "filled").await;
    server.0.execute("filled", &filled(many));
    server.0.execute("filled", "VACUUM (ANALYZE)");
    server.0.execute("filled", "CHECKPOINT");
    server.ran(&host, 64).await;
    let mut all: [Vec<Ran>; 3] = Default::default();
    for _ in 0..rounds() {
        all[0].push(server.ran(few, 64).await);
        all[1].push(server.ran(&host, 64).await);
        server.vacuums_each("1s");
        all[2].push(server.ran(&host, 64).await);
        server.vacuums_each("1h");
    }
    host.shut_down().await;
    let names = [
        "a hub with what ran before".to_owned(),
        format!("with {} that ended", number(f64::from(many))),
        "the same, while tables are vacuumed each second that need it".to_owned(),
    ];
    let rows = names.into_iter().zip(&all).map(|(name, rounds)| {
        [
            name,
            number(median_of(rounds, |ran| ran.rate)),
            number(median_of(rounds, |ran| ran.cost.cpu * 1e3)),
            number(median_of(rounds, |ran| ran.server * 1e3)),
        ]
    });
    section.table(
        "64 in flight, in hubs of two sizes",
        ["what", "1/s", "ms of CPU for each", "and of the server"],
        rows.collect(),
    );
    let pairs: Vec<f64> = all[0]
        .iter()
        .zip(&all[1])
        .map(|(few, many)| many.server / few.server)
        .collect();
    section.at_most(
        "a million that ended, CPU of the server for one more",
        1.2,
        "times that of a new hub",
        percentile(&pairs, 0.5),
    );
}

/// Copies the instance that ended so many times, with one of its turns each.
fn filled(many: u32) -> String {
    let key = "((n % 64) << 53 | 500::bigint << 32 | n)";
    format!(
        "SET search_path = perennial_default;
         CREATE TEMPORARY TABLE one AS SELECT * FROM instance LIMIT 1;
         CREATE TEMPORARY TABLE its AS SELECT * FROM turn ORDER BY number LIMIT 1;
         INSERT INTO instance (key, id, name, version, module, status, execution, execution_id, generation, next_event, turns, history_bytes,
             inbox_next, returned, deliveries, created_at, started_at, updated_at, output)
         SELECT {key}, md5(n::text), name, version, module, status, execution, execution_id, generation, next_event, 1, history_bytes,
             inbox_next, returned, deliveries, created_at - n, started_at - n, updated_at - n, output
         FROM one, generate_series(1::bigint, {many}) AS n;
         INSERT INTO turn SELECT {key}, execution, number, first_event, at - n, answer, received, produced
         FROM its, generate_series(1::bigint, {many}) AS n"
    )
}
