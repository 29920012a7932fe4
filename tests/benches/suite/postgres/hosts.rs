//! Several hosts of one hub beside one, and what a planned move of partitions costs those who ask for their instances.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use perennial::{Client, Host, Store};
use perennial_tests::DataDir;

use super::Server;
use crate::hello::HELLO;
use crate::measure::{
    LIMIT, cpu_seconds, data_dir, ends, is_quick, median_of, percentile, rounds, sized, span,
};
use crate::section::{Section, number};

/// Hosts that share the hub.
const HOSTS: [usize; 3] = [1, 2, 4];

/// Starts in flight, over all hosts.
const IN_FLIGHT: usize = 64;

/// Partitions of a hub, and how many of them have waiting instances while partitions move.
const PARTITIONS: u16 = 64;
const FILLED: u64 = 8;

/// Instances that wait in each of those.
const WAITING: u32 = 10_000;

/// Clients that ask for them.
const CLIENTS: usize = 4;

/// The longest that a request to an instance may take whose partition moves.
const MOVE_MAX_MS: f64 = 200.0;

/// Hosts of one hub, in this process.
struct Cluster {
    store: Store,
    /// Each with the directory of its cache.
    hosts: Vec<(Host, DataDir)>,
}

impl Cluster {
    /// One host.
    async fn new(server: &Server, database: &str) -> Self {
        let dir = data_dir();
        let host = server.host(&dir, database).await;
        Self {
            store: Store::postgres(&server.0.address(database)).unwrap(),
            hosts: vec![(host, dir)],
        }
    }

    fn client(&self, of: usize) -> Client {
        self.hosts[of].0.client()
    }

    /// Another host joins.
    async fn join(&mut self) {
        let dir = data_dir();
        let store = self.store.clone().data_dir(dir.path());
        let host = Host::builder().store(store).start().await.unwrap();
        self.hosts.push((host, dir));
    }

    /// The host that joined last ends in good order.
    async fn leave(&mut self) {
        let (host, _dir) = self.hosts.pop().unwrap();
        host.shut_down().await;
    }

    /// Waits until each host has its share.
    async fn divided(&self) {
        let (client, begun) = (self.client(0), Instant::now());
        loop {
            let found = client.hosts().await.unwrap();
            let share = PARTITIONS as usize / self.hosts.len();
            let has_share = |host: &perennial::HubHost| usize::from(host.partitions) == share;
            if found.hosts.len() == self.hosts.len() && found.hosts.iter().all(has_share) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "{found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What one round measured: instances for each second, and processor seconds of the hosts and of the server for one.
struct Ran {
    rate: f64,
    own: f64,
    server: f64,
}

/// Starts are sent to each host in turn: with ids that it chooses, which are of its own partitions, or with any.
async fn ran(server: &Server, cluster: &Cluster, is_any: bool, next: &AtomicU32) -> Ran {
    let clients: Vec<Client> = (0..cluster.hosts.len())
        .map(|of| cluster.client(of))
        .collect();
    let (begun, own) = (Instant::now(), cpu_seconds());
    let lanes = (0..IN_FLIGHT).map(|lane| {
        let client = clients[lane % clients.len()].clone();
        async move {
            let mut done = 0;
            while begun.elapsed() < span() {
                let mut start = client.start(HELLO);
                if is_any {
                    start = start.id(format!("any-{}", next.fetch_add(1, Ordering::Relaxed)));
                }
                let id = start.await.unwrap();
                ends(&client, &id).await;
                done += 1;
            }
            done
        }
    });
    let (of_server, done) = server.cpu(futures::future::join_all(lanes)).await;
    let done = f64::from(done.into_iter().sum::<u32>());
    Ran {
        rate: done / begun.elapsed().as_secs_f64(),
        own: (cpu_seconds() - own) / done,
        server: of_server / done,
    }
}

/// What of the ids decides which host runs an instance.
fn ids(is_any: bool) -> &'static str {
    if is_any {
        "any"
    } else {
        "of the host that is asked"
    }
}

/// Measures two and four hosts beside one, on this machine.
pub(super) async fn run(section: &mut Section, server: &Server) {
    let mut cluster = Cluster::new(server, "hosts").await;
    let next = AtomicU32::new(0);
    // In the order of the table: for each number of hosts, with ids of the host that is asked, and with any.
    let mut all: Vec<(usize, bool, Vec<Ran>)> = HOSTS
        .iter()
        .flat_map(|hosts| [(*hosts, false, vec![]), (*hosts, true, vec![])])
        .collect();
    for round in 0..=rounds() {
        for (hosts, is_any, measured) in &mut all {
            while cluster.hosts.len() < *hosts {
                cluster.join().await;
            }
            cluster.divided().await;
            let ran = ran(server, &cluster, *is_any, &next).await;
            // The first one is for caches of plans and pages.
            if round > 0 {
                measured.push(ran);
            }
        }
        while cluster.hosts.len() > 1 {
            cluster.leave().await;
        }
        cluster.divided().await;
    }
    cluster.leave().await;
    say(section, &all);
}

fn say(section: &mut Section, all: &[(usize, bool, Vec<Ran>)]) {
    let row = |(hosts, is_any, measured): &(usize, bool, Vec<Ran>)| {
        let ratio = |at: usize| {
            let of_one = &all[usize::from(*is_any)].2[at];
            measured[at].server / of_one.server
        };
        let ratios: Vec<f64> = (0..measured.len()).map(ratio).collect();
        [
            number(*hosts as f64),
            ids(*is_any).to_owned(),
            number(median_of(measured, |ran| ran.rate)),
            number(median_of(measured, |ran| ran.own * 1e3)),
            number(median_of(measured, |ran| ran.server * 1e3)),
            number(percentile(&ratios, 0.5)),
        ]
    };
    section.table(
        "64 starts in flight over so many hosts on the same cores",
        [
            "hosts",
            "ids",
            "1/s",
            "ms of CPU of the hosts for each",
            "and of the server",
            "of the server, of that with one host",
        ],
        all.iter().map(row).collect(),
    );
    // Of hosts that are asked for their own ids: 8 cores of the server, busy to 70 %.
    let predicted = all
        .iter()
        .filter(|(hosts, is_any, _)| *hosts > 1 && !is_any);
    let predicted: Vec<String> = predicted
        .map(|(hosts, _, measured)| {
            let server = median_of(measured, |ran| ran.server);
            let of_hosts = median_of(measured, |ran| ran.own / ran.server);
            format!(
                "what {hosts} hosts cost it lets it do {} a second, for which the hosts need {} cores",
                number((8.0 * 0.7 / server / 100.0).round() * 100.0),
                number(8.0 * 0.7 * of_hosts)
            )
        })
        .collect();
    section.note(format!(
        "Several hosts on the cores of one show what sharing costs, not what more machines bring. What that predicts for a server with 8 cores of its \
         own, 70 % busy, was not measured: {}.",
        predicted.join("; ")
    ));
}

/// Measures how long requests take whose partitions move meanwhile.
pub(super) async fn moves(section: &mut Section, server: &Server) {
    let mut cluster = Cluster::new(server, "moves").await;
    let waiting = sized(WAITING);
    let ids = Arc::new(waiting_ids(u64::from(waiting) * FILLED));
    start(&cluster.client(0), &ids).await;
    let (mut joined, mut left) = (vec![], vec![]);
    for _ in 0..rounds() {
        let asked = Asked::start(&cluster.client(0), &ids);
        cluster.join().await;
        cluster.divided().await;
        joined.push(asked.stop().await);
        let asked = Asked::start(&cluster.client(0), &ids);
        cluster.leave().await;
        cluster.divided().await;
        left.push(asked.stop().await);
    }
    cluster.leave().await;
    let longest = |rounds: &[Vec<f64>]| percentile(&rounds.concat(), 1.0);
    section.at_most(
        "an event for one of 10,000 waiting instances while its partition moves, the longest",
        MOVE_MAX_MS,
        "ms",
        longest(&joined).max(longest(&left)),
    );
    let row = |what: &str, rounds: &[Vec<f64>]| {
        let all = rounds.concat();
        [
            what.to_owned(),
            number(all.len() as f64),
            number(percentile(&all, 0.5)),
            number(percentile(&all, 0.99)),
            number(percentile(&all, 1.0)),
        ]
    };
    section.table(
        &format!(
            "Events for instances of {FILLED} partitions with {} waiting ones each, while a second host joins and ends, {} times, ms",
            number(f64::from(waiting)),
            rounds()
        ),
        ["while", "events", "p50", "p99", "longest"],
        vec![row("it joins", &joined), row("it ends", &left)],
    );
}

/// Ids of the partitions that are to have waiting instances. The hash of an id decides its partition.
fn waiting_ids(count: u64) -> Vec<String> {
    let is_there =
        |id: &String| perennial_core::xxh64(id.as_bytes()) % u64::from(PARTITIONS) < FILLED;
    let all = (0_u64..).map(|n| format!("wait-{n}"));
    all.filter(is_there)
        .take(usize::try_from(count).unwrap())
        .collect()
}

/// Starts instances that wait.
async fn start(client: &Client, ids: &Arc<Vec<String>>) {
    let lanes = (0..256).map(|lane| {
        let (client, ids) = (client.clone(), Arc::clone(ids));
        tokio::spawn(async move {
            for id in ids.iter().skip(lane).step_by(256) {
                client.start("Wait").id(id).await.unwrap();
            }
        })
    });
    futures::future::try_join_all(lanes).await.unwrap();
}

/// Clients that raise events, for which nobody waits, one after the other.
struct Asked {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Vec<f64>>>,
}

impl Asked {
    fn start(client: &Client, ids: &Arc<Vec<String>>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let clients = (0..CLIENTS).map(|lane| {
            let (client, ids, stop) = (client.clone(), Arc::clone(ids), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut all = ids.iter().skip(lane).step_by(CLIENTS).cycle();
                while !stop.load(Ordering::Relaxed) {
                    let (id, begun) = (all.next().unwrap(), Instant::now());
                    client.raise_event(id, "Nobody", "waits").await.unwrap();
                    took.push(begun.elapsed().as_secs_f64() * 1e3);
                }
                took
            })
        });
        Self {
            clients: clients.collect(),
            stop,
        }
    }

    /// How many milliseconds each event took.
    async fn stop(self) -> Vec<f64> {
        // Some more, so that those are among them that wait for the last move.
        tokio::time::sleep(Duration::from_millis(if is_quick() { 20 } else { 500 })).await;
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.unwrap());
        }
        all
    }
}
