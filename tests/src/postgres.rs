//! Databases of PostgreSQL for tests of whole programs.

#[path = "../../host/src/store/postgres/testing/server.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "tests of the store use more of it"
)]
mod server;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether tests are to keep their hubs in PostgreSQL: `PERENNIAL_TEST_STORE=postgres`.
pub fn is_wanted() -> bool {
    std::env::var("PERENNIAL_TEST_STORE").is_ok_and(|store| store == "postgres")
}

/// Whether a test is left out because its hubs would not be files: says so, with the name of the test.
pub fn skips(why: &str) -> bool {
    if is_wanted() {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not by a macro: what those print is kept from whoever looks on, unless the test fails.
        let said = writeln!(
            std::io::stderr(),
            "SKIPPED: {name} with hubs in PostgreSQL, because {why}"
        );
        said.unwrap();
    }
    is_wanted()
}

/// What the program says of hubs in a database, as it says it of hubs in files of the directory `DIR`: without what it says only of a database.
pub fn as_of_files(told: &str, database: &str) -> String {
    let (name, sockets) = database
        .strip_prefix("postgres://perennial@/")
        .and_then(|rest| rest.split_once("?host="))
        .unwrap();
    let shown = format!("postgres://perennial@{sockets}/{name}");
    let lines = told.split_inclusive('\n');
    let lines = lines.filter(|line| !line.contains("perennial::store::postgres::settings: "));
    lines
        .map(|line| without_machine(&named_as_files(line, &shown)))
        .filter(|line| !line.starts_with("host           "))
        .map(|line| {
            line.replace(
                "--store and --task-hub say",
                "--data-dir and --task-hub say",
            )
        })
        .collect()
}

/// `DIR/hub.db` in place of a hub of the database that is shown so.
fn named_as_files(line: &str, shown: &str) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut said = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once(shown) {
        let (before, name, after) = match (after.strip_prefix('#'), before.strip_suffix(" in ")) {
            (Some(named), _) => {
                let end = named.find(|c| !is_of_name(c)).unwrap_or(named.len());
                (before, &named[..end], &named[end..])
            }
            (None, Some(named)) => {
                let begin = named.rfind(|c| !is_of_name(c)).map_or(0, |at| at + 1);
                (&named[..begin], &named[begin..], after)
            }
            (None, None) => (before, "", after),
        };
        let before = match before.strip_suffix("\"database\":\"") {
            Some(before) if !name.is_empty() => format!("{before}\"file\":\""),
            _ => before.to_owned(),
        };
        said += &before;
        said += &match name {
            "" => "DIR".to_owned(),
            name => format!("DIR/{name}.db"),
        };
        rest = after;
    }
    said + rest
}

/// A process without the machine that it is on, which is said only where others may be.
fn without_machine(line: &str) -> String {
    let mut said = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("(process ") {
        let (process, after) = after.split_once(')').unwrap_or((after, ""));
        let process = process.split_once(" on ").map_or(process, |(id, _)| id);
        said += &format!("{before}(process {process})");
        rest = after;
    }
    let said = said + rest;
    // How a host stands with its lease is the machine's affair.
    let counts = ["\"leaseAgeMillis\":", "\"transactions\":"];
    counts.iter().fold(said, |said, key| {
        let (before, after) = said.split_once(key).unwrap_or((&said, ""));
        let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
        match after {
            "" => said,
            after => format!("{before}{key}0{after}"),
        }
    })
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
    let sockets = server.sockets();
    let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
    psql(&sockets, "postgres", &sql).unwrap();
    address(&sockets, name)
}

/// A server of a test's own, which the test ends as it likes.
pub struct Database(server::Server);

impl Database {
    /// Starts one; it syncs, as those of users do. `None` if there are no programs of PostgreSQL: says so, with the name of the test.
    pub fn start() -> Option<Self> {
        let started = server::Server::start(true);
        if started.is_none() {
            server::say_skipped();
        }
        started.map(Self)
    }

    /// The address of its database.
    pub fn address(&self) -> String {
        address(&self.0.sockets(), "postgres")
    }

    /// Executes statements, and returns what they answer, a line for each row. Fails while the server is down.
    pub fn sql(&self, sql: &str) -> Result<String, String> {
        psql(&self.0.sockets(), "postgres", sql)
    }

    /// Ends the server by this signal: `INT` as its service is stopped, `QUIT` at once, and `KILL` with all of its processes. Returns when
    /// it is gone.
    pub fn down(&mut self, signal: &str) {
        self.0.down(signal);
    }

    /// Starts the server again that was ended.
    pub fn up(&mut self) {
        self.0.up();
    }

    /// Lets the server stand still, with all of its connections.
    pub fn pause(&mut self) {
        self.0.pause();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.0.resume();
    }

    /// Starts a standby that follows the server by streaming, and says the address of its database.
    pub fn follow(&mut self) -> String {
        self.0.follow();
        address(&self.0.sockets_of_standby(), "postgres")
    }

    /// The address of the database in whichever of the server and its standby takes changes.
    pub fn address_of_either(&self) -> String {
        let [first, second] = [self.0.sockets(), self.0.sockets_of_standby()];
        format!(
            "{},{}&target_session_attrs=read-write",
            address(&first, "postgres"),
            second.display()
        )
    }

    /// Executes statements at the standby, and returns what they answer.
    pub fn sql_at_standby(&self, sql: &str) -> Result<String, String> {
        psql(&self.0.sockets_of_standby(), "postgres", sql)
    }

    /// Makes the standby a server that takes changes.
    pub fn promote(&mut self) {
        self.0.promote();
    }

    /// Kills the standby.
    pub fn abandon(&mut self) {
        self.0.abandon();
    }

    /// Keeps a copy of the files of the server, which is down.
    pub fn keep(&mut self) {
        self.0.keep();
    }

    /// Replaces the files of the server, which is down, by the copy that was kept: as a standby has them that was behind.
    pub fn bring_back(&mut self) {
        self.0.bring_back();
    }
}

fn address(sockets: &Path, database: &str) -> String {
    format!(
        "postgres://perennial@/{database}?host={}",
        sockets.display()
    )
}

fn psql(sockets: &Path, database: &str, sql: &str) -> Result<String, String> {
    let output = Command::new(server::programs().unwrap().join("psql"))
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
        .args(["-U", "perennial", "-d", database, "-c", sql, "-h"])
        .arg(sockets)
        .output()
        .unwrap();
    let said = |text: Vec<u8>| String::from_utf8(text).unwrap();
    match output.status.success() {
        true => Ok(said(output.stdout)),
        false => Err(said(output.stderr)),
    }
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
        address(&self.0.sockets(), name)
    }

    /// Executes SQL in a database.
    pub fn execute(&self, database: &str, sql: &str) {
        psql(&self.0.sockets(), database, sql).unwrap();
    }

    /// The process whose children are all of the server's.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}

#[test]
fn a_hub_in_a_database_is_told_of_as_one_in_a_file() {
    let database = "postgres://perennial@/t1?host=/tmp/s";
    let of_files = |told| as_of_files(told, database);
    assert_eq!(
        of_files(
            "no hub at postgres://perennial@/tmp/s/t1#a-b; x in postgres://perennial@/tmp/s/t1\n"
        ),
        "no hub at DIR/a-b.db; DIR/x.db\n"
    );
    assert_eq!(
        of_files(
            "{\"database\":\"postgres://perennial@/tmp/s/t1#a\",\"of\":\"h (process 7 on vm)\"}"
        ),
        "{\"file\":\"DIR/a.db\",\"of\":\"h (process 7)\"}"
    );
}
