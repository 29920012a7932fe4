//! Connections whose bytes something swallows, and tables that are there and not found.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use perennial_core::{Digest, Timestamp};

use crate::store::StoreError;
use crate::store::owned::Share;
use crate::store::postgres::address::Address;
use crate::store::postgres::owned::{Owned, take_over};
use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::{Server, server};
use crate::store::postgres::tests::writing::{raise, start};
use crate::store::tests::MODULE;
use crate::store::types::NewModule;
use crate::store::writer::Writes as _;
use crate::store::{Change, Outcome, Write};

/// Passes bytes on between clients and a server, as a proxy does.
struct Proxy {
    port: u16,
    /// Whether the bytes of a connection are swallowed, for each.
    swallows: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
    /// How many bytes of a client are passed on in a second; 0 is all that there are.
    pace: Arc<AtomicU64>,
}

impl Proxy {
    fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let files = std::fs::read_dir(server.sockets()).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        let is_socket = |name: &str| name.starts_with(".s.PGSQL.") && !name.ends_with(".lock");
        let socket = files.find(|file| is_socket(file.file_name().unwrap().to_str().unwrap()));
        let (socket, swallows) = (socket.unwrap(), Arc::<Mutex<Vec<_>>>::default());
        let all = Arc::clone(&swallows);
        let pace = Arc::<AtomicU64>::default();
        let same = Arc::clone(&pace);
        // It ends with the process, as the server does.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(of_server) = UnixStream::connect(&socket) else {
                    continue;
                };
                let swallowed = Arc::<AtomicBool>::default();
                all.lock().unwrap().push(Arc::clone(&swallowed));
                pass_on(client, of_server, swallowed, Arc::clone(&same));
            }
        });
        Self {
            port,
            swallows,
            pace,
        }
    }

    fn address(&self) -> Address {
        let url = format!("postgres://perennial@127.0.0.1:{}/postgres", self.port);
        Address::parse(&url).unwrap()
    }

    /// The address of a hub of the server, through this.
    fn of(&self, hub: &Address) -> Address {
        let name = hub.to_string();
        let hub = name.rsplit('#').next().unwrap();
        self.address().with_hub(hub).unwrap()
    }

    /// From now on, nothing arrives on the connections that are there.
    fn swallow(&self) {
        let all = self.swallows.lock().unwrap();
        all.iter()
            .for_each(|one| one.store(true, Ordering::Release));
    }
}

fn own(address: &Address, share: Share) -> Owned {
    take_over(address, Timestamp(1_000), "a test", share, &|_| false).unwrap()
}

fn pass_on(
    client: TcpStream,
    server: UnixStream,
    swallowed: Arc<AtomicBool>,
    pace: Arc<AtomicU64>,
) {
    let (mut from_client, mut to_server) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from_server, mut to_client) = (server, client);
    let also = Arc::clone(&swallowed);
    std::thread::spawn(move || {
        let (mut bytes, mut free) = ([0; 4_096], Instant::now());
        while let Ok(count @ 1..) = from_client.read(&mut bytes) {
            let pace = pace.load(Ordering::Acquire);
            if pace > 0 {
                // A thread that oversleeps makes up for that.
                let spent = Duration::from_secs_f64(count as f64 / pace as f64);
                free = free.max(Instant::now() - Duration::from_millis(500)) + spent;
                std::thread::sleep(free.saturating_duration_since(Instant::now()));
            }
            if !swallowed.load(Ordering::Acquire) && to_server.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        drop(to_server.shutdown(Shutdown::Both));
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = from_server.read(&mut bytes) {
            if !also.load(Ordering::Acquire) && to_client.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        drop(to_client.shutdown(Shutdown::Both));
    });
}

#[test]
fn a_connection_on_which_nothing_arrives_is_given_up() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(server);
    let open = || Session::open(&proxy.address(), Purpose::Manage).unwrap();
    let session = open();
    session.query("SELECT 1", &[]).unwrap();
    proxy.swallow();
    let begun = Instant::now();
    let error = session.query("SELECT 1", &[]).unwrap_err();
    assert!(error.is_away() && session.is_lost(), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    open().query("SELECT 1", &[]).unwrap();
}

/// A component that takes more time to arrive than the server waits for a small request.
const LARGE: usize = 1_200_000;
/// Arrives in 3 s. The server waits for 2 s longer than 4 s for it.
const SLOW: u64 = 400_000;

fn write(owned: &Owned, change: Change) -> mpsc::Receiver<Result<Outcome, StoreError>> {
    let (tell, told) = mpsc::channel();
    let write = Write::new(change, Timestamp(2_000), move |_, result| {
        drop(tell.send(result))
    });
    owned.writer.submit_or_commit(write);
    told
}

fn deploy(name: &str, digest: Digest, component: Vec<u8>) -> Change {
    Change::Deploy(Box::new(NewModule {
        name: name.to_owned(),
        digest,
        component,
        contract: "0.1".to_owned(),
        definitions: Vec::new(),
        imports: Vec::new(),
        grants: None,
        replace: false,
        limits: None,
    }))
}

#[test]
fn a_large_change_over_a_slow_connection_is_written() {
    let Some(server) = server() else { return };
    let (proxy, address) = (Proxy::before(server), server.fresh());
    let owned = own(&proxy.of(&address), Share::All);
    write(&owned, deploy("m", MODULE, vec![0]))
        .recv()
        .unwrap()
        .unwrap();
    write(&owned, start(1)).recv().unwrap().unwrap();
    proxy.pace.store(SLOW, Ordering::Release);
    let (sent, begun) = (&owned.writer.faults().sent, Instant::now());
    let before = sent.load(Ordering::Relaxed);
    let large = raise(1, &format!("\"{}\"", "x".repeat(LARGE)));
    write(&owned, large).recv().unwrap().unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2));
    // The first time.
    assert_eq!(sent.load(Ordering::Relaxed), before + 1);
}

#[test]
fn while_a_large_module_arrives_slowly_other_owners_write() {
    let Some(server) = server() else { return };
    let (proxy, address) = (Proxy::before(server), server.divided(4));
    let slow = own(&proxy.of(&address), Share::Joined);
    let other = own(&address, Share::Joined);
    proxy.pace.store(SLOW, Ordering::Release);
    let (sent, begun) = (&slow.writer.faults().sent, Instant::now());
    let deployed = write(&slow, deploy("large", Digest([3; 32]), vec![7; LARGE]));
    while sent.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let mut meanwhile = 0;
    while deployed
        .try_recv()
        .is_err_and(|error| error == mpsc::TryRecvError::Empty)
    {
        write(&other, Change::Join(Vec::new()))
            .recv()
            .unwrap()
            .unwrap();
        meanwhile += 1;
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert!(begun.elapsed() > Duration::from_secs(2));
    // If it kept others waiting, there would be one.
    assert!(meanwhile > 1, "{meanwhile}");
    let session = Session::open(&address, Purpose::Manage).unwrap();
    let sql = "SELECT length(component) FROM module";
    let row = session.query_opt(sql, &[]).unwrap().unwrap();
    assert_eq!(row.get::<_, i32>(0), i32::try_from(LARGE).unwrap());
    // Both know what was deployed.
    write(&other, deploy("small", Digest([4; 32]), vec![7]))
        .recv()
        .unwrap()
        .unwrap();
}

#[test]
fn a_statement_at_which_the_server_is_at_work_is_waited_for() {
    let Some(server) = server() else { return };
    let session = Session::open(&server.address("slow"), Purpose::Manage).unwrap();
    let slow = session.query("SELECT 1 FROM pg_sleep(3)", &[]);
    assert_eq!(slow.unwrap().len(), 1);
}

#[test]
fn work_of_the_server_for_whoever_has_the_session_now_is_not_waited_for() {
    let Some(server) = server() else { return };
    let session = Session::open(&server.address("pooled"), Purpose::Manage).unwrap();
    // As a pooler does that has lost this connection, and gives its session to another one.
    session.batch("DISCARD ALL").unwrap();
    let error = session.batch("SELECT pg_sleep(30)").unwrap_err();
    assert!(error.to_string().contains("did not answer"), "{error}");
    assert!(session.is_lost());
}

#[test]
fn a_session_is_one_connections_until_nothing_arrives_on_that_one() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(server);
    let open = || Session::open(&proxy.address(), Purpose::Manage).unwrap();
    let (first, second) = (open(), open());
    let seat = first.takes_seat("a session of a pooler").unwrap();
    let error = second.takes_seat("a session of a pooler").unwrap_err();
    assert!(error.to_string().contains("several connections"), "{error}");
    proxy.swallow();
    let third = open();
    let other = third.takes_seat("a session of a pooler").unwrap();
    // What the first one leaves now is not its own any more.
    drop(seat);
    let error = open().takes_seat("a session of a pooler").unwrap_err();
    assert!(error.to_string().contains("several connections"), "{error}");
    drop(other);
    open().takes_seat("a session of a pooler").unwrap();
}

#[test]
fn a_hub_that_the_user_may_not_use_is_not_missing() {
    let Some(server) = server() else { return };
    let hub = server.fresh();
    let (admin, schema) = (
        Session::open(&hub, Purpose::Manage).unwrap(),
        hub.quoted_schema(),
    );
    let role = format!("guest{}", hub.short_digest());
    let made = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
    );
    admin.batch(&made).unwrap();
    let url = format!(
        "postgres://{role}@/postgres?host={}",
        server.sockets().display()
    );
    let address = Address::parse(&url).unwrap();
    let name = hub.to_string();
    let address = address.with_hub(name.rsplit('#').next().unwrap()).unwrap();
    let session = Session::open(&address, Purpose::Manage).unwrap();
    let read = |sql: &str| session.query(sql, &[]).map(drop);
    read("SELECT id FROM hub").unwrap();
    admin
        .batch(&format!("REVOKE USAGE ON SCHEMA {schema} FROM {role}"))
        .unwrap();
    let error = read("SELECT id FROM hub WHERE id = 1").unwrap_err();
    assert!(
        error.to_string().contains("may not use the schema")
            && error.to_string().contains("perennial doctor"),
        "{error}"
    );
    admin
        .batch(&format!("DROP SCHEMA {schema} CASCADE"))
        .unwrap();
    let error = read("SELECT id FROM hub WHERE id = 2").unwrap_err();
    assert!(matches!(error, StoreError::Missing(_)), "{error}");
}
