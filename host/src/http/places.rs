//! Connection limits, in all and for each address. When they are full, the connection that has kept the server waiting longest is closed.
//!
//! Invariant: the "door", a few extra connections that can only ask for the health of the host, always accepts a new connection.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::http::bill::Bill;
use crate::limits::http as limits;

/// A connection that has kept the server waiting this long may be closed for another. A shorter wait is normal for a request in transit.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connection limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlacesMax {
    pub(crate) all: usize,
    /// The limit for every address, including this machine and proxies. `None`: no limit of its own for this machine.
    pub(crate) peer: Option<usize>,
    /// The limit for each other address if `peer` is `None`.
    pub(crate) stranger: usize,
}

#[derive(Debug)]
pub(crate) struct Places {
    max: PlacesMax,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    inside: BTreeMap<u64, (IpAddr, Arc<Caller>)>,
    door: BTreeMap<u64, Arc<Caller>>,
    peers: HashMap<IpAddr, usize>,
}

/// A connection's place. Dropped when the connection is closed.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    places: Arc<Places>,
    number: u64,
    peer: IpAddr,
    pub(crate) caller: Arc<Caller>,
    /// Whether the connection got only a place at the door.
    pub(crate) at_door: bool,
}

/// The state of a connection: whether the server works, or waits for the peer.
#[derive(Debug)]
pub(crate) struct Caller {
    begun: Instant,
    /// Milliseconds since `begun`, plus one; 0 while the server does not wait.
    waits_since: AtomicU64,
    /// Requests that the server works on. HTTP/2 has several at a time.
    serving: AtomicUsize,
    sent_away: Notify,
    /// Whether it follows a live stream now; `bill` counts the cost.
    follows: AtomicBool,
    bill: OnceLock<Arc<Bill>>,
}

impl Places {
    pub(crate) fn new(max: PlacesMax) -> Arc<Self> {
        let mut max = max;
        if let Some(files) = open_files_max()
            && files / 2 < max.all
        {
            let (wanted, fits) = (max.all, (files / 2).max(1));
            tracing::warn!(
                files,
                "{wanted} connections do not fit beside what the host needs of the {files} files that it may open: it takes {fits}; raise the limit (ulimit -n)"
            );
            max.all = fits;
        }
        Arc::new(Self {
            max,
            begun: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// Admits a new connection, inside or at the door.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> ConnectionPermit {
        let peer = network(address);
        let of_peer = match self.max.peer {
            None if peer.is_loopback() => usize::MAX,
            None => self.max.stranger,
            Some(max) => max,
        };
        let caller = Arc::new(Caller::new(self.begun));
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let has = state.peers.get(&peer).copied().unwrap_or_default();
        let there_is_room = if has >= of_peer {
            state.send_away(Some(peer))
        } else {
            state.inside.len() < self.max.all || state.send_away(None)
        };
        if there_is_room {
            let inside = (peer, Arc::clone(&caller));
            state.inside.insert(number, inside);
            *state.peers.entry(peer).or_default() += 1;
        } else {
            if state.door.len() >= limits::DOOR_CONNECTIONS
                && let Some((_, oldest)) = state.door.pop_first()
            {
                oldest.sent_away.notify_one();
            }
            state.door.insert(number, Arc::clone(&caller));
        }
        drop(state);
        ConnectionPermit {
            places: Arc::clone(self),
            number,
            peer,
            caller,
            at_door: !there_is_room,
        }
    }

    /// Closes a connection that keeps the server waiting, to free a descriptor for other uses.
    pub(crate) fn make_room(&self) {
        self.state().send_away(None);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Closes the connection that has kept the server waiting the longest, if longer than `PATIENCE`. Returns whether there was one.
    fn send_away(&mut self, of: Option<IpAddr>) -> bool {
        let of_peer = |peer: IpAddr| of.is_none_or(|of| of == peer);
        let waiting = self.inside.iter().filter(|(_, (peer, _))| of_peer(*peer));
        let waiting = waiting.filter_map(|(number, (_, caller))| Some((caller.waits()?, *number)));
        let longest = waiting.max_by_key(|(waits, _)| *waits);
        let Some((_, number)) = longest.filter(|(waits, _)| *waits >= PATIENCE) else {
            return false;
        };
        if let Some((_, caller)) = self.leave(number) {
            caller.sent_away.notify_one();
        }
        true
    }

    fn leave(&mut self, number: u64) -> Option<(IpAddr, Arc<Caller>)> {
        let (peer, caller) = self.inside.remove(&number)?;
        if let Some(count) = self.peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
        Some((peer, caller))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.places.state();
        // A connection that was chosen to be closed is not counted any more.
        if self.at_door {
            state.door.remove(&self.number);
        } else if let Some((peer, _)) = state.leave(self.number) {
            debug_assert_eq!(peer, self.peer, "a place has one peer");
        }
    }
}

/// A request that the server works on. When it is dropped, the request is answered, or its caller is gone.
#[derive(Debug)]
pub(crate) struct Asked(pub(crate) Arc<Caller>);

impl Drop for Asked {
    fn drop(&mut self) {
        if self.0.serving.fetch_sub(1, Relaxed) == 1 {
            // The server waits for the caller.
            self.0.moves();
        }
    }
}

impl Caller {
    fn new(begun: Instant) -> Self {
        let caller = Self {
            begun,
            waits_since: AtomicU64::new(0),
            serving: AtomicUsize::new(0),
            sent_away: Notify::new(),
            follows: AtomicBool::new(false),
            bill: OnceLock::new(),
        };
        caller.moves();
        caller
    }

    /// A request has arrived, and the server works until the result is dropped.
    pub(crate) fn asked(self: &Arc<Self>) -> Asked {
        if self.serving.fetch_add(1, Relaxed) == 0 {
            self.follows.store(false, Relaxed);
        }
        self.waits_since.store(0, Relaxed);
        Asked(Arc::clone(self))
    }

    /// The answer is a live stream, whose cost goes on this bill (the same for all streams).
    pub(crate) fn follows(&self, bill: Arc<Bill>) {
        self.bill.get_or_init(|| bill);
        self.follows.store(true, Relaxed);
    }

    /// The bill, while the answer is a live stream.
    pub(crate) fn bill(&self) -> Option<&Bill> {
        let bill = self.follows.load(Relaxed).then(|| self.bill.get())?;
        bill.map(Arc::as_ref)
    }

    /// The server is blocked until the caller reads or writes.
    pub(crate) fn stalls(&self) {
        if self.waits_since.load(Relaxed) == 0 {
            self.waits_since.store(self.now(), Relaxed);
        }
    }

    /// The caller read or wrote.
    pub(crate) fn moves(&self) {
        let serving = self.serving.load(Relaxed) > 0;
        let since = if serving { 0 } else { self.now() };
        self.waits_since.store(since, Relaxed);
    }

    /// Completes when another connection needs the place.
    pub(crate) async fn sent_away(&self) {
        self.sent_away.notified().await;
    }

    /// How long it has kept the server waiting.
    fn waits(&self) -> Option<Duration> {
        let since = self.waits_since.load(Relaxed).checked_sub(1)?;
        let now = self.now() - 1;
        Some(Duration::from_millis(now.saturating_sub(since)))
    }

    fn now(&self) -> u64 {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        ms + 1
    }

    #[cfg(test)]
    pub(crate) fn stalled_for(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        let now = self.now();
        self.waits_since
            .store(now.saturating_sub(ms).max(1), Relaxed);
    }
}

/// The system's limit of open files for this process, if there is one.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The address that a limit counts. IPv6 addresses count by network, because a machine can choose among all addresses of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(bits).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn places(all: usize, peer: Option<usize>) -> Arc<Places> {
        let places = Places::new(PlacesMax {
            all,
            peer,
            stranger: 2,
        });
        // In the past, so that connections can have waited for long.
        let begun = Instant::now().checked_sub(2 * LONG).unwrap();
        Arc::new(Places {
            begun,
            ..Arc::try_unwrap(places).unwrap()
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn was_sent_away(place: &ConnectionPermit) -> bool {
        let waits = std::pin::pin!(place.caller.sent_away());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        waits.poll(&mut context).is_ready()
    }

    #[test]
    fn who_keeps_the_server_waiting_longest_gives_way_to_who_comes() {
        let places = places(3, None);
        let here = address("127.0.0.1");
        let (works, waits, longer) = (places.enter(here), places.enter(here), places.enter(here));
        let _asked = works.caller.asked();
        waits.caller.stalled_for(LONG / 2);
        longer.caller.stalled_for(LONG);
        let comes = places.enter(here);
        assert!(!comes.at_door && was_sent_away(&longer));
        assert!(!was_sent_away(&waits) && !was_sent_away(&works));
        assert!(!places.enter(here).at_door && was_sent_away(&waits));
    }

    #[test]
    fn nobody_gives_way_whom_the_server_works_for_and_who_comes_is_at_the_door() {
        let places = places(2, None);
        let here = address("::1");
        let inside = [places.enter(here), places.enter(here)];
        let asked: Vec<Asked> = inside.iter().map(|place| place.caller.asked()).collect();
        let mut door: Vec<ConnectionPermit> = (0..limits::DOOR_CONNECTIONS)
            .map(|_| places.enter(here))
            .collect();
        assert!(door.iter().all(|place| place.at_door));
        door.push(places.enter(here));
        assert!(was_sent_away(&door[0]) && !was_sent_away(&door[1]));
        assert!(inside.iter().all(|place| !was_sent_away(place)));
        drop((asked, inside, door));
        assert!(!places.enter(here).at_door);
        assert!(places.state().peers.is_empty() && places.state().door.is_empty());
    }

    #[test]
    fn an_address_has_only_so_many_places() {
        let places = places(10, None);
        let one = |last: &str| places.enter(address(&format!("2001:db8::{last}")));
        let first = [one("1"), one("2")];
        assert!(first.iter().all(|place| !place.at_door));
        assert!(one("3").at_door, "the network is what counts");
        first[0].caller.stalled_for(LONG);
        assert!(!one("3").at_door && was_sent_away(&first[0]));
        let here: Vec<ConnectionPermit> =
            (0..5).map(|_| places.enter(address("127.0.0.1"))).collect();
        assert!(here.iter().all(|place| !place.at_door));
    }

    #[test]
    fn a_bound_that_is_said_holds_for_this_machine_too() {
        let places = places(10, Some(1));
        let here = || places.enter(address("127.0.0.1"));
        let first = here();
        assert!(!first.at_door && here().at_door);
        drop(first);
        assert!(!here().at_door);
    }
}
