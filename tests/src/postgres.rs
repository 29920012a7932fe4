//! Databases of PostgreSQL for tests of whole programs.

#[path = "../../host/src/store/postgres/testing/server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "tests of the store use more of it"
)]
mod server;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether tests are to keep their hubs in PostgreSQL: `PERENNIAL_TEST_STORE=postgres`.
pub fn is_wanted() -> bool {
    std::env::var("PERENNIAL_TEST_STORE").is_ok_and(|store| store == "postgres")
}

/// The address of a database that no other test has, on the server of this test process. `None` if there are no programs of PostgreSQL:
/// says so, with the name of the test.
pub fn database() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let sockets = server::server()?.sockets();
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let made = Command::new(server::programs()?.join("psql"))
        .args(["-q", "-U", "perennial", "-d", "postgres", "-c"])
        .arg(format!("CREATE DATABASE {name} TEMPLATE template0"))
        .arg("-h")
        .arg(&sockets)
        .status()
        .unwrap();
    assert!(made.success());
    Some(format!(
        "postgres://perennial@/{name}?host={}",
        sockets.display()
    ))
}
