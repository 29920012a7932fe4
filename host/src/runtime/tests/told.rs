//! Commands that the database tells a host nothing of.

use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use crate::store::PostgresServer;
use crate::{Client, Host, Role, Store};

/// A host takes them with the next look, of which there is one each second. A command that nobody looks for is given up after 30 s.
const SOON: Duration = Duration::from_secs(10);

/// Has the host carry out a command of a process that is new, and returns how long that took.
async fn commanded(store: Store) -> Duration {
    let client = Client::open(store, "default").unwrap();
    let begun = Instant::now();
    client.create_key("k", Role::ReadOnly).await.unwrap();
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_no_notification_tells_of_is_taken_with_the_next_look() {
    let Some(server) = PostgresServer::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let sockets = server.sockets();
    let url = format!("postgres://perennial@/postgres?host={}", sockets.display());
    let store = || Store::postgres(&url).unwrap().data_dir(dir.path());
    let host = Host::builder().store(store()).start().await.unwrap();
    let (database, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let usual = commanded(store()).await;

    // Sessions of hubs that are new find this function first: what they tell gets nowhere.
    let swallow = "CREATE FUNCTION perennial_default.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT'";
    database.batch_execute(swallow).await.unwrap();
    let untold = commanded(store()).await;
    assert!(
        untold < SOON,
        "{untold:?} without a notification, {usual:?} with one"
    );

    // Nor is there a connection that hears.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = 'SELECT 1' OR query LIKE 'LISTEN %'";
    let ended: i64 = database.query_one(end, &[]).await.unwrap().get(0);
    assert!(ended > 0, "nobody listened");
    let lost = commanded(store()).await;
    assert!(
        lost < SOON,
        "{lost:?} after the connection was lost, {usual:?} before"
    );
    host.shut_down().await;
}
