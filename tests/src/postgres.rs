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
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Some(made(server::server()?, &name))
}

/// Makes a database, and says its address.
fn made(server: &server::Server, name: &str) -> String {
    let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
    execute(server, "postgres", &sql);
    address(server, name)
}

fn address(server: &server::Server, name: &str) -> String {
    let sockets = server.sockets();
    format!("postgres://perennial@/{name}?host={}", sockets.display())
}

/// What the programs say of their version. Empty if there are none.
pub fn version() -> String {
    let Some(programs) = server::programs() else {
        return String::new();
    };
    let said = Command::new(programs.join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// Executes SQL in a database.
fn execute(server: &server::Server, database: &str, sql: &str) {
    let done = Command::new(server::programs().unwrap().join("psql"))
        .args([
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "perennial",
            "-d",
            database,
        ])
        .args(["-c", sql, "-h"])
        .arg(server.sockets())
        .status()
        .unwrap();
    assert!(done.success(), "{sql}");
}

/// A server that syncs, for programs that measure it. It ends when this is dropped.
#[expect(missing_debug_implementations, reason = "it is a process")]
pub struct Measured(server::Server);

impl Measured {
    /// Starts it with this configuration. `None` if there are no programs of PostgreSQL.
    pub fn start(configuration: &str) -> Option<Self> {
        server::Server::with(configuration).map(Self)
    }

    /// Makes a database, and says its address.
    pub fn database(&self, name: &str) -> String {
        made(&self.0, name)
    }

    /// The address of a database.
    pub fn address(&self, name: &str) -> String {
        address(&self.0, name)
    }

    /// Executes SQL in a database.
    pub fn execute(&self, database: &str, sql: &str) {
        execute(&self.0, database, sql);
    }

    /// The process whose children are all of the server's.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}
