//! Hosts of a hub in PostgreSQL, and the database itself, are killed, stopped and cut off at random under every kind of load. A checker
//! compares what the hub has afterwards with what was acknowledged.
//!
//! `PERENNIAL_CHAOS_ROUNDS` says how many rounds, `PERENNIAL_CHAOS_HOSTS` how many hosts, `PERENNIAL_SEED` gives the same requests and faults again.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[path = "chaos/check.rs"]
mod check;
#[path = "chaos/hosts.rs"]
mod hosts;
#[path = "chaos/load.rs"]
mod load;
#[path = "chaos/record.rs"]
mod record;
#[path = "chaos/tampered.rs"]
mod tampered;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial::{
    CheckOutcome, Client, DEFAULT_TASK_HUB, DirGrant, Filter, Grants, Replayer, Status, Store,
};
use perennial_tests::postgres::{self, Database};
use perennial_tests::{DataDir, Dice, module};
use tokio::sync::watch;

use hosts::Cluster;
use load::{Load, Shared, settle};
use record::{Asked, Record, Seen};

/// Rounds of a usual run, which has each fault once, and of a long one.
const ROUNDS: (u64, u64) = (12, 300);

/// The seed of a usual run.
const SEED: u64 = 20_251;

/// Rounds between two checks.
const CHECK_EVERY: u64 = 5;

/// Hosts that share the hub, unless `PERENNIAL_CHAOS_HOSTS` says how many.
const HOSTS: u64 = 3;

/// Clients that send requests at once, and the instances that each may start between two checks.
const CLIENTS: usize = 4;
const ROOM: u32 = 24;

/// Answers after a fault that show that the hub goes on, and how long they may take.
const GOES_ON: u64 = 12;
const GOES_ON_MAX: Duration = Duration::from_secs(120);

/// What happens to a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    HostKilled,
    /// All at once.
    HostsKilled,
    /// Longer than its lease lasts, and then continued.
    HostPaused,
    /// In good order: its partitions go to the others, and some come back to its successor.
    HostEnded,
    ServerKilled,
    ServerRestarted,
    ServerAway,
    /// Longer than hosts keep anybody waiting.
    ServerAwayForAMinute,
    /// It stands still for longer than leases last. No host can renew its own, and none is dead.
    ServerPaused,
    ConnectionsEnded,
    /// Each second one is killed or ends, and starts again.
    HostsComeAndGo,
    /// By somebody else, longer than leases last: transactions wait, and nobody is dead.
    TableLocked,
}

const FAULTS: [Fault; 12] = [
    Fault::HostKilled,
    Fault::ServerRestarted,
    Fault::HostPaused,
    Fault::ConnectionsEnded,
    Fault::HostEnded,
    Fault::ServerKilled,
    Fault::HostsKilled,
    Fault::ServerAway,
    Fault::ServerPaused,
    Fault::HostsComeAndGo,
    Fault::TableLocked,
    Fault::ServerAwayForAMinute,
];

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// Does it, and returns when it is over.
async fn strike(fault: Fault, cluster: &Cluster, shared: &Shared, dice: &mut Dice) {
    let host = cluster.running(dice.roll(8)).await;
    let blocking = |work: &dyn Fn(&mut Database)| {
        tokio::task::block_in_place(|| work(&mut cluster.database.lock().unwrap()));
    };
    match fault {
        Fault::HostKilled => {
            let pid = cluster.signal(host, "-KILL");
            cluster.until_gone(host, pid).await;
        }
        Fault::HostsKilled => {
            let pids: Vec<_> = cluster
                .all()
                .map(|host| cluster.signal(host, "-KILL"))
                .collect();
            for (host, pid) in cluster.all().zip(pids) {
                cluster.until_gone(host, pid).await;
            }
        }
        Fault::HostEnded => {
            let pid = cluster.signal(host, "-TERM");
            cluster.until_gone(host, pid).await;
        }
        Fault::HostPaused => {
            let from = now();
            let pid = cluster.signal(host, "-STOP");
            tokio::time::sleep(Duration::from_millis(7_000)).await;
            cluster.signal(host, "-CONT");
            cluster.until_gone(host, pid).await;
            shared.record.lock().unwrap().stalls.push((from, now()));
        }
        Fault::ServerKilled => blocking(&|database| {
            database.down("KILL");
            database.up();
        }),
        Fault::ServerRestarted => blocking(&|database| {
            database.down("QUIT");
            database.up();
        }),
        Fault::ServerAway | Fault::ServerAwayForAMinute => {
            let millis = match fault {
                Fault::ServerAway => 500 + dice.roll(7_000),
                _ => 60_000 + dice.roll(15_000),
            };
            blocking(&|database| database.down("INT"));
            tokio::time::sleep(Duration::from_millis(millis)).await;
            blocking(&|database| database.up());
        }
        Fault::ServerPaused => {
            blocking(&|database| database.pause());
            tokio::time::sleep(Duration::from_millis(6_000 + dice.roll(4_000))).await;
            blocking(&|database| database.resume());
        }
        Fault::HostsComeAndGo => {
            for signal in [
                "-KILL", "-TERM", "-KILL", "-TERM", "-TERM", "-KILL", "-KILL", "-TERM",
            ] {
                let host = cluster.running(dice.roll(8)).await;
                cluster.signal(host, signal);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Fault::TableLocked => {
            let table = ["command", "turn", "instance", "outbox"][dice.roll(4) as usize];
            let seconds = 6 + dice.roll(7);
            let lock = format!(
                "BEGIN; LOCK TABLE perennial_default.{table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT"
            );
            blocking(&|database| drop(database.sql(&lock).unwrap()));
        }
        Fault::ConnectionsEnded => blocking(&|database| {
            // Each connection has a number after the name of its host.
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE";
            let ended = database.sql(&format!("{end} 'host{host} %'")).unwrap();
            eprintln!("         ended {} connections", ended.trim());
        }),
    }
}

/// Waits for so many more answers.
async fn goes_on(shared: &Shared, more: u64) {
    let goal = *shared.answered.borrow() + more;
    let mut answered = shared.answered.subscribe();
    let waited = tokio::time::timeout(GOES_ON_MAX, answered.wait_for(|count| *count >= goal)).await;
    assert!(waited.is_ok(), "nothing is answered for {GOES_ON_MAX:?}");
}

/// Reads the whole hub, whose instances have all ended, and checks it.
async fn check(
    store: &Store,
    shared: &Shared,
    replayers: &BTreeMap<String, Replayer>,
) -> (usize, usize) {
    // What the API leaves out of histories is read from the database.
    let (client, file) = (
        Client::open(store, DEFAULT_TASK_HUB).unwrap(),
        shared.file.lock().unwrap().clone(),
    );
    let attempts = std::fs::read_to_string(shared.out.join(file)).unwrap_or_default();
    let seen = Seen::read(&client, &attempts).await.unwrap();
    let record = shared.record.lock().unwrap().clone();
    let mut problems = check::problems(&record, &seen);
    for (id, instance) in &seen.instances {
        if instance.status.runtime_status == Status::Terminated {
            continue;
        }
        let recorded = client.export(id).await.unwrap().unwrap();
        let digest = format!("{:?}", instance.status.module);
        match replayers[&digest].replay(&recorded).unwrap() {
            CheckOutcome::Compatible { .. } => {}
            other => problems.push(format!("{id}: its replay says {other:?}")),
        }
    }
    let found = client.verify().await.unwrap();
    if !found.is_sound() {
        problems.push(format!("{found:?}"));
    }
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems
            .iter()
            .map(|problem| told(problem, &record, &seen))
            .collect::<Vec<_>>()
            .join("\n")
    );
    (seen.instances.len(), seen.attempts.len())
}

/// A problem, with what was asked of the instance that it names first, and what became of that.
fn told(problem: &str, record: &Record, seen: &Seen) -> String {
    let id = problem.split(':').next().unwrap_or_default();
    let mut told = problem.to_owned();
    for asked in record.asked.iter().filter(|asked| asked.id == id) {
        let Asked {
            what,
            said,
            outcome,
            from,
            to,
            ..
        } = asked;
        write!(told, "\n    {from} to {to}: {what:?} {said:?}: {outcome:?}").unwrap();
    }
    if let Some(instance) = seen.instances.get(id) {
        write!(told, "\n    {:?}", instance.status).unwrap();
        for event in &instance.history {
            write!(told, "\n    {event:?}").unwrap();
        }
    }
    told
}

/// Lets everything end, checks it, and leaves an empty hub.
async fn checked(
    store: &Store,
    cluster: &Cluster,
    shared: &Shared,
    replayers: &BTreeMap<String, Replayer>,
) -> (usize, usize) {
    let begun = Instant::now();
    loop {
        settle(shared).await;
        // What was left for the owner by a host that was killed is carried out still, and what was sent to another partition is received.
        let open = "SELECT (SELECT count(*) FROM perennial_default.command WHERE answer IS NULL)
             + (SELECT count(*) FROM perennial_default.outbox)";
        let open = cluster.database.lock().unwrap().sql(open).unwrap();
        if open.trim() == "0" {
            break;
        }
        assert!(
            begun.elapsed() < GOES_ON_MAX,
            "{open} commands are not answered, or messages not received"
        );
    }
    settle(shared).await;
    // No transaction locks rows of two hosts. A server that was killed has forgotten its statistics.
    let deadlocks = "SELECT sum(deadlocks) FROM pg_stat_database";
    let deadlocks = cluster.database.lock().unwrap().sql(deadlocks).unwrap();
    assert_eq!(deadlocks.trim(), "0", "deadlocks in the database");
    let sizes = check(store, shared, replayers).await;
    let client = shared.owner().await;
    client.purge_where(Filter::new()).await.unwrap();
    *shared.record.lock().unwrap() = Record::default();
    std::fs::remove_file(shared.out.join(&*shared.file.lock().unwrap())).ok();
    *shared.file.lock().unwrap() = format!("attempts-{}", now());
    sizes
}

/// Deploys the guests, whose activities may write into a directory, and returns what replays what they do.
async fn deploy(client: &Client, out: &Path) -> BTreeMap<String, Replayer> {
    let mut replayers = BTreeMap::new();
    for name in ["workloads", "hello-sequence"] {
        let dir = DirGrant::new(out, "/out").writable();
        let grants = Grants::new().dir(dir);
        client.deploy(module(name)).grants(grants).await.unwrap();
        let digest = format!("{:?}", Some(module(name).digest()));
        replayers.insert(digest, Replayer::new(module(name)).unwrap());
    }
    replayers
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_dies_what_was_acknowledged_is_there_once() {
    let is_long = std::env::var_os("PERENNIAL_LONG").is_some();
    let rounds = number("PERENNIAL_CHAOS_ROUNDS");
    if rounds.is_none() && !is_long && !postgres::is_wanted() {
        eprintln!(
            "SKIPPED: hosts and servers that die; PERENNIAL_TEST_STORE=postgres or PERENNIAL_CHAOS_ROUNDS=7 runs it"
        );
        return;
    }
    let Some(database) = Database::start() else {
        return;
    };
    let rounds = rounds.unwrap_or(if is_long { ROUNDS.1 } else { ROUNDS.0 });
    let seed = number("PERENNIAL_SEED").unwrap_or(SEED);
    let hosts = number("PERENNIAL_CHAOS_HOSTS").unwrap_or(HOSTS);
    println!("PERENNIAL_SEED={seed} gives the same requests and faults");
    let (out, dir) = (tempfile::tempdir().unwrap(), DataDir::of_files());
    let store = Store::postgres(&database.address())
        .unwrap()
        .data_dir(dir.path());
    let client = Client::open(&store, DEFAULT_TASK_HUB).unwrap();
    let replayers = deploy(&client, out.path()).await;
    perennial_tests::binary();
    let begun = Instant::now();
    let cluster = Cluster::start(database, usize::try_from(hosts).unwrap());
    let shared = Shared::new(cluster.reacher(), out.path());
    let mut dice = Dice(seed);
    let new_load =
        |n: usize| Load::new(shared.clone(), format!("c{n}"), seed ^ (n as u64 + 1) << 40);
    let mut loads: Vec<Load> = (0..CLIENTS).map(new_load).collect();
    let (mut struck, mut instances, mut attempts) = (BTreeMap::<Fault, u64>::new(), 0, 0);
    let mut round = 0;
    while round < rounds {
        let stop = watch::Sender::new(false);
        let running: Vec<_> = loads
            .drain(..)
            .map(|mut load| {
                load.renew(ROOM);
                let stop = stop.subscribe();
                tokio::spawn(async move {
                    load.run(stop).await;
                    load
                })
            })
            .collect();
        for _ in 0..CHECK_EVERY.min(rounds - round) {
            goes_on(&shared, GOES_ON + dice.roll(60)).await;
            // All of them once, and then any.
            let all = FAULTS.len() as u64;
            let at = if round < all { round } else { dice.roll(all) };
            let fault = match FAULTS[at as usize] {
                // Most of a long run would be that.
                Fault::ServerAwayForAMinute if round >= all && dice.roll(4) > 0 => {
                    Fault::ServerAway
                }
                fault => fault,
            };
            println!(
                "{:>6.1} s, round {}: {fault:?}",
                begun.elapsed().as_secs_f32(),
                round + 1
            );
            let struck_at = Instant::now();
            strike(fault, &cluster, &shared, &mut dice).await;
            let over = struck_at.elapsed();
            goes_on(&shared, GOES_ON).await;
            println!(
                "         over after {over:.1?}, answered again after {:.1?}",
                struck_at.elapsed()
            );
            *struck.entry(fault).or_default() += 1;
            round += 1;
        }
        stop.send_replace(true);
        for load in running {
            loads.push(load.await.unwrap());
        }
        let (seen, ran) = checked(&store, &cluster, &shared, &replayers).await;
        (instances, attempts) = (instances + seen, attempts + ran);
    }
    // Only a host that was paused ends by itself, or one that was told to: whatever else happens, it goes on.
    let mut replaced = 0;
    for ended in cluster.ended() {
        println!("{ended}");
        let is_replaced = ended.contains("ended by itself with 1")
            && ended.contains("error: this host does not run task hub");
        assert!(
            is_replaced || ended.contains("ended by itself with 0"),
            "{ended}"
        );
        replaced += u64::from(is_replaced);
    }
    let paused = struck.get(&Fault::HostPaused).copied().unwrap_or_default();
    assert!(
        replaced <= paused,
        "{replaced} hosts were replaced, and {paused} paused"
    );
    println!(
        "{rounds} rounds with {hosts} hosts in {:?}: {struck:?}; {instances} instances, {attempts} attempts, {} requests answered, {} without an answer, \
         the slowest answer after {:?}; nothing lost, nothing twice",
        begun.elapsed(),
        *shared.answered.borrow(),
        *shared.unanswered.borrow(),
        shared.slowest.lock().unwrap()
    );
}
