//! Hosts whose instances have to do with each other all the time: families, messages, cascades, and commands for many at once.

use std::time::{Duration, Instant};

use perennial::{Client, Error, Filter, Host, Store};
use perennial_tests::postgres::Database;
use perennial_tests::{DataDir, Dice, module};
use serde_json::json;

use crate::divided;

const CLIENTS: u64 = 16;
const REQUESTS: u64 = 40;

/// Instances that all clients send messages to, and families that all of them stop, delete and start again.
const SHARED: u64 = 12;

/// A refusal says that it cannot be done as things are. Anything else is a failure here, where nothing is ever away.
fn is_refusal(error: &Error) -> bool {
    !error.is_unavailable() && !error.is_queued()
}

/// Does one of the things that reach instances of other hosts.
async fn one(client: &Client, dice: &mut Dice, own: &str) -> perennial::Result<()> {
    let target = format!("to-{}", dice.roll(SHARED));
    let family = format!("family-{}", dice.roll(SHARED));
    let families = || Filter::new().id_prefix("family-");
    match dice.roll(16) {
        0..=3 => {
            let messages = client.start("Messages").id(own).input(&target);
            messages.await.map(drop)
        }
        4..=6 => {
            let wide = json!({ "timers": 1, "children": 6 });
            client
                .start("WaitsWidely")
                .id(&family)
                .input(&wide)
                .await
                .map(drop)
        }
        7 => client.raise_event(&target, "one", &1).await,
        8 => client.terminate(&family, None).recursive().await.map(drop),
        9 => client.suspend(&family, None).recursive().await.map(drop),
        10 => client.resume(&family, None).recursive().await.map(drop),
        11 => client.purge(&family).await.map(drop),
        12 => client.restart(&family).await.map(drop),
        13 => client.purge_where(families()).await.map(drop),
        14 => client.resume_where(families()).await.map(drop),
        _ => client.purge(&target).await.map(drop),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crosses_between_hosts_never_deadlocks() {
    let Some(database) = Database::start() else {
        return;
    };
    let dirs = [DataDir::new(), DataDir::new(), DataDir::new()];
    let mut hosts = Vec::new();
    for dir in &dirs {
        let store = Store::postgres(&database.address())
            .unwrap()
            .data_dir(dir.path());
        hosts.push(Host::builder().store(store).start().await.unwrap());
    }
    let clients: Vec<Client> = hosts.iter().map(Host::client).collect();
    divided(&clients[0], &[22, 21, 21]).await;
    for guest in ["workloads", "probe"] {
        clients[0].deploy(module(guest)).await.unwrap();
    }
    let running = (0..CLIENTS).map(|number| {
        let clients = clients.clone();
        tokio::spawn(async move {
            let mut dice = Dice(number + 1);
            let (mut done, mut refused) = (0, 0);
            for count in 0..REQUESTS {
                let client = &clients[dice.roll(3) as usize];
                let own = format!("from-{number}-{count}");
                match one(client, &mut dice, &own).await {
                    Ok(()) => done += 1,
                    Err(error) if is_refusal(&error) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (done, refused)
        })
    });
    let (mut done, mut refused) = (0, 0);
    for one in running.collect::<Vec<_>>() {
        let (more_done, more_refused) = one.await.unwrap();
        (done, refused) = (done + more_done, refused + more_refused);
    }
    println!("{done} requests were carried out, {refused} refused");
    assert!(done > CLIENTS * REQUESTS / 3);
    // Whatever is still on its way arrives.
    let families = Filter::new().id_prefix("family-");
    clients[0].resume_where(families.clone()).await.unwrap();
    clients[1]
        .terminate_where(families)
        .recursive()
        .await
        .unwrap();
    let open = "SELECT (SELECT count(*) FROM perennial_default.outbox) + (SELECT count(*) FROM perennial_default.command WHERE answer IS NULL)";
    let within = Instant::now() + Duration::from_secs(60);
    while database.sql(open).unwrap().trim() != "0" {
        assert!(Instant::now() < within, "something does not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for host in hosts {
        host.shut_down().await;
    }
    let deadlocks = "SELECT sum(deadlocks) FROM pg_stat_database";
    assert_eq!(database.sql(deadlocks).unwrap().trim(), "0");
    let store = Store::postgres(&database.address())
        .unwrap()
        .data_dir(dirs[0].path());
    let found = Client::open(store, perennial::DEFAULT_TASK_HUB)
        .unwrap()
        .verify()
        .await
        .unwrap();
    assert!(found.is_sound(), "{found:?}");
}
