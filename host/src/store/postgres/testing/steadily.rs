//! Tests of leases, which are short here, on a machine that stands still now and then.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::store::postgres::session::{Purpose, Session};
use crate::store::postgres::testing::server;

/// A machine that stands still for so long may cost a lease: the shortest time that tests leave an owner to renew its own is three times that.
const STALL: Duration = Duration::from_millis(100);

/// How often a scenario is tried.
const TRIES: u32 = 10;

/// Runs a scenario. One that fails while the machine or the database was seen to stand still says nothing, and begins anew.
pub(in crate::store::postgres) fn steadily(scenario: fn()) {
    for left in (0..TRIES).rev() {
        let (longest, done) = longest_stall(|| catch_unwind(AssertUnwindSafe(scenario)));
        match done {
            Ok(()) => return,
            Err(why) if left == 0 || longest < STALL => resume_unwind(why),
            Err(_) => eprintln!("nothing was done for {longest:?}; the scenario begins anew"),
        }
    }
}

/// The longest time in which a thread beside some work, or the database, did nothing.
fn longest_stall<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let ends = Arc::<AtomicBool>::default();
    let ended = Arc::clone(&ends);
    let pulse = std::thread::spawn(move || {
        let session = server().map(|server| {
            let address = server.address("pulse");
            Session::open(&address, Purpose::Manage).unwrap()
        });
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        while !ended.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
            if let Some(session) = &session {
                session.query("SELECT 1", &[]).unwrap();
            }
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        longest
    });
    let done = work();
    ends.store(true, Ordering::Release);
    (pulse.join().unwrap(), done)
}
