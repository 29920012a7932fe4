//! A server of PostgreSQL for tests: one for each test process. The tests of other crates include this file too.
//!
//! The server ends with the test process, however that ends, and its directory is removed then: a shell waits for the end of a pipe that
//! the process holds.

use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

/// Where the programs of PostgreSQL may be, beside what `PERENNIAL_POSTGRES_BIN` and `PATH` say.
const DIRS: [&str; 3] = [
    "/usr/lib/postgresql",
    "/usr/local/pgsql",
    "/opt/homebrew/opt",
];

/// What the shell does: makes the cluster, runs the server, says when it is up, does as it is ordered, and ends it when its input ends.
/// `$1` are the programs, `$2` is the directory, `$3` sync or not, `$4` what the server runs under, `$5` its port, and `$6` more of its
/// configuration. A server that is killed does not outlive its processes: they are killed with it.
const KEEPER: &str = r#"
bin=$1 dir=$2 sync=$3 as=$4 port=$5 more=$6
finish() { trap - EXIT; kill -QUIT $server $standby 2>/dev/null; wait; rm -rf "$dir"; exit; }
trap finish EXIT TERM INT HUP
if [ ! -d "$dir/pg/data" ]; then
  $as "$bin/initdb" -D "$dir/pg/data" -A trust -U perennial -E UTF8 --locale=C --no-sync >"$dir/pg/initdb.log" 2>&1 ||
    { cat "$dir/pg/initdb.log"; exit 1; }
  cat >> "$dir/pg/data/postgresql.conf" <<CONF
listen_addresses = ''
port = $port
unix_socket_directories = '$dir/pg'
fsync = $sync
full_page_writes = $sync
max_connections = 300
shared_buffers = 32MB
log_min_messages = warning
$more
CONF
fi
start() {
  tries=0
  until "$bin/pg_isready" -q -h "$dir/pg" -p $port; do
    # After a kill, the memory of the former server may still be in use for a moment.
    if [ -z "$server" ] || ! kill -0 $server 2>/dev/null; then
      tries=$((tries + 1))
      [ $tries -lt 100 ] || { cat "$dir/pg/log"; exit 1; }
      $as "$bin/postgres" -D "$dir/pg/data" >>"$dir/pg/log" 2>&1 </dev/null &
      server=$!
    fi
  done
  echo "up $server"
}
end() {
  processes=
  [ "$1" != KILL ] || processes=$(pgrep -P $server)
  kill -$1 $server $processes; wait $server; server=
}
follow() {
  $as mkdir "$dir/pg/2"
  $as "$bin/pg_basebackup" -h "$dir/pg" -p $port -U perennial -D "$dir/pg/2/data" -R -X stream -c fast --no-sync >>"$dir/pg/log" 2>&1
  echo "unix_socket_directories = '$dir/pg/2'" >>"$dir/pg/2/data/postgresql.conf"
  $as "$bin/postgres" -D "$dir/pg/2/data" >>"$dir/pg/2/log" 2>&1 </dev/null &
  standby=$!
  until "$bin/pg_isready" -q -h "$dir/pg/2" -p $port; do
    kill -0 $standby 2>/dev/null || { cat "$dir/pg/log" "$dir/pg/2/log"; exit 1; }
  done
}
server= standby=
start
while read -r order signal; do
  case $order in
    down) end $signal; echo down ;;
    up) start ;;
    pause) kill -STOP $server $(pgrep -P $server); echo paused ;;
    resume) kill -CONT $server $(pgrep -P $server); echo resumed ;;
    keep) rm -rf "$dir/kept"; cp -a "$dir/pg/data" "$dir/kept"; echo kept ;;
    follow) follow; echo follows ;;
    promote) $as "$bin/pg_ctl" promote -w -D "$dir/pg/2/data" >>"$dir/pg/2/log" 2>&1; echo promoted ;;
    abandon) kill -KILL $standby $(pgrep -P $standby); wait $standby; standby=; echo abandoned ;;
    back) rm -rf "$dir/pg/data"; cp -a "$dir/kept" "$dir/pg/data"; echo back ;;
  esac
done
"#;

/// A server. It ends when this is dropped.
pub(crate) struct Server {
    dir: PathBuf,
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
    pid: u32,
}

impl Server {
    /// Starts a server; one that syncs is for tests that kill it. `None` if there are no programs.
    pub(crate) fn start(sync: bool) -> Option<Self> {
        let server = Self::configured(&programs()?, sync, 5432, "", &[]);
        Some(server.unwrap_or_else(|said| panic!("PostgreSQL did not start: {said}")))
    }

    /// Starts a server that syncs, with this configuration.
    #[allow(dead_code, reason = "benchmarks use it")]
    pub(crate) fn with(configuration: &str) -> Option<Self> {
        let server = Self::configured(&programs()?, true, 5432, configuration, &[]);
        Some(server.unwrap_or_else(|said| panic!("PostgreSQL did not start: {said}")))
    }

    /// The process whose children are all of the server's.
    #[allow(dead_code, reason = "benchmarks use it")]
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Starts a server with these files in the directory of its sockets, `{dir}`, and this configuration. Says why if it does not start.
    fn configured(
        bin: &Path,
        sync: bool,
        port: u16,
        more: &str,
        files: &[(&str, &[u8])],
    ) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("pgt.")
            .tempdir_in("/tmp")
            .unwrap()
            .keep();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let pg = dir.join("pg");
        std::fs::create_dir(&pg).unwrap();
        let more = more.replace("{dir}", &pg.display().to_string());
        let is_root = rustix::process::geteuid().is_root();
        for (name, text) in files {
            let file = pg.join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if is_root {
                std::os::unix::fs::chown(&file, Some(65_534), Some(65_534)).unwrap();
            }
        }
        // The server refuses to run as root.
        let mut under = String::from("setpriv --pdeathsig QUIT");
        if is_root {
            std::os::unix::fs::chown(&pg, Some(65_534), Some(65_534)).unwrap();
            under += " --reuid=65534 --regid=65534 --clear-groups";
        }
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([bin, &dir])
            .args([if sync { "on" } else { "off" }, &under])
            .args([port.to_string(), more])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .current_dir("/")
            .spawn()
            .unwrap();
        let (orders, answers) = (keeper.stdin.take(), keeper.stdout.take().unwrap());
        let mut server = Self {
            dir,
            keeper,
            orders,
            answers: BufReader::new(answers),
            pid: 0,
        };
        server.wait("up").map(|()| server)
    }

    /// Waits until the server is up, or has done as it was ordered.
    fn wait(&mut self, done: &str) -> Result<(), String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        if words.next() == Some(done) {
            if let Some(pid) = words.next() {
                self.pid = pid.parse().unwrap();
            }
            return Ok(());
        }
        self.answers.read_to_string(&mut line).unwrap();
        Err(line)
    }

    fn order(&mut self, order: &str, done: &str) {
        use std::io::Write as _;
        writeln!(self.orders.as_ref().unwrap(), "{order}").unwrap();
        self.wait(done).unwrap();
    }

    /// Ends the server by this signal: `INT` as its service is stopped, `QUIT` at once, as by `pg_ctl stop -m immediate`, and `KILL` with all
    /// of its processes. Returns when it is gone.
    pub(crate) fn down(&mut self, signal: &str) {
        self.order(&format!("down {signal}"), "down");
    }

    /// Starts the server again that was ended.
    pub(crate) fn up(&mut self) {
        self.order("up", "up");
    }

    /// Stops all processes of the server by a signal, which ends no connection.
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn pause(&mut self) {
        self.order("pause", "paused");
    }

    /// Lets them go on.
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn resume(&mut self) {
        self.order("resume", "resumed");
    }

    /// Ends the server by this signal, and starts it again.
    pub(crate) fn restart(&mut self, signal: &str) {
        self.down(signal);
        self.up();
    }

    /// Keeps a copy of the files of the server, which is down.
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn keep(&mut self) {
        self.order("keep", "kept");
    }

    /// Replaces the files of the server, which is down, by the copy that was kept: as a standby has them that was behind.
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn bring_back(&mut self) {
        self.order("back", "back");
    }

    /// Starts a standby that follows this server by streaming. Its sockets are in [`Self::sockets_of_standby`].
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn follow(&mut self) {
        self.order("follow", "follows");
    }

    /// Makes the standby a server that takes changes.
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn promote(&mut self) {
        self.order("promote", "promoted");
    }

    /// Kills the standby.
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn abandon(&mut self) {
        self.order("abandon", "abandoned");
    }

    /// The directory of the sockets of the standby.
    #[allow(dead_code, reason = "tests of other crates use it")]
    pub(crate) fn sockets_of_standby(&self) -> PathBuf {
        self.sockets().join("2")
    }

    /// Starts a server that speaks TLS with this certificate and key, and asks the user `secretive` for a password over TCP. Returns its
    /// port too. `None` if there are no programs.
    pub(crate) fn with_tls(certificate: &[u8], key: &[u8]) -> Option<(Self, u16)> {
        let bin = programs()?;
        let more = "listen_addresses = '127.0.0.1'
            hba_file = '{dir}/hba'
            ssl = on
            ssl_cert_file = '{dir}/certificate'
            ssl_key_file = '{dir}/key'";
        let hba: &[u8] = b"local all all trust
            hostssl all secretive 127.0.0.1/32 scram-sha-256
            host all perennial 127.0.0.1/32 trust\n";
        let files = [("certificate", certificate), ("key", key), ("hba", hba)];
        let start = || {
            let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let server = Self::configured(&bin, false, port, more, &files)?;
            Ok((server, port))
        };
        // A port that is free now may be taken a moment later.
        let started: Result<_, String> = start().or_else(|_| start());
        Some(started.unwrap_or_else(|said| panic!("PostgreSQL did not start: {said}")))
    }

    /// The directory of its sockets, where its log is too.
    pub(crate) fn sockets(&self) -> PathBuf {
        self.dir.join("pg")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.keeper.wait();
    }
}

/// The server of this test process, which does not sync. `None` if there are no programs: says so, with the name of the test.
pub(crate) fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start(false)).as_ref();
    if server.is_none() {
        say_skipped();
    }
    server
}

/// Says that the test of this thread is skipped.
pub(crate) fn say_skipped() {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    eprintln!(
        "SKIPPED {test}: there are no programs of PostgreSQL; name their directory by PERENNIAL_POSTGRES_BIN"
    );
}

/// The directory with `initdb` and `postgres`.
pub(crate) fn programs() -> Option<PathBuf> {
    let named = std::env::var_os("PERENNIAL_POSTGRES_BIN").map(PathBuf::from);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let of_versions = DIRS.into_iter().flat_map(|dir| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut dirs: Vec<_> = entries.map(|entry| entry.path().join("bin")).collect();
        dirs.sort();
        dirs.into_iter().rev()
    });
    let is_there = |dir: &PathBuf| {
        ["initdb", "postgres", "pg_isready"]
            .iter()
            .all(|program| dir.join(program).exists())
    };
    let everywhere = std::env::split_paths(&on_path)
        .collect::<Vec<_>>()
        .into_iter();
    match named {
        Some(dir) => Some(dir).filter(is_there),
        None => everywhere
            .chain(of_versions)
            .chain([Path::new("/usr/local/pgsql/bin").to_owned()])
            .find(is_there),
    }
}
