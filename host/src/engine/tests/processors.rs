//! Processor time is shared among computing attempts, however each of them ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use perennial_core::Digest;

use crate::engine::workers::processors::{Pace, Permit, Processors, Share, Turn};
use crate::store::InstanceKey;

fn share(processors: &Arc<Processors>, key: i64) -> Share {
    let module = Some(Digest([1; 32]));
    Share::new(Arc::clone(processors), InstanceKey(key), module)
}

fn poll(turn: &mut Turn) -> Option<Permit> {
    match turn.poll(&Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => Some(permit),
        Poll::Pending => None,
    }
}

/// Waiting turns of an instance, each of which was polled once.
fn waiting(processors: &Arc<Processors>, key: i64, count: usize) -> Vec<Turn> {
    let turns = (0..count).map(|_| {
        let mut turn = share(processors, key).turn();
        assert!(poll(&mut turn).is_none());
        turn
    });
    turns.collect()
}

/// The permits of those turns that have got one.
fn begun(turns: &mut [Turn]) -> Vec<Permit> {
    turns.iter_mut().filter_map(poll).collect()
}

#[test]
fn a_newcomer_is_next_however_many_wait() {
    let processors = Arc::new(Processors::new(2));
    let mut first = share(&processors, 1).turn();
    let mut second = share(&processors, 1).turn();
    let held = [poll(&mut first).unwrap(), poll(&mut second).unwrap()];
    let mut many = waiting(&processors, 1, 100);
    let mut one = waiting(&processors, 2, 1);
    assert!(share(&processors, 1).is_wanted());
    let [ended, _other] = held;
    drop(ended);
    assert_eq!(begun(&mut one).len(), 1);
    assert_eq!(begun(&mut many).len(), 1);
}

#[test]
fn a_permit_that_nobody_takes_goes_on_to_the_next() {
    let processors = Arc::new(Processors::new(1));
    let held = poll(&mut share(&processors, 1).turn()).unwrap();
    let mut gone = waiting(&processors, 2, 2);
    let mut stays = waiting(&processors, 2, 1);
    // Drop one that waits, and one that got its permit but was not polled since.
    drop(gone.remove(0));
    drop(held);
    assert!(begun(&mut stays).is_empty());
    drop(gone);
    let permit = begun(&mut stays);
    assert_eq!(permit.len(), 1);
    drop(permit);
    assert!(!share(&processors, 1).is_wanted());
    assert!(poll(&mut share(&processors, 3).turn()).is_some());
}

#[test]
fn a_poll_that_panics_gives_its_permit_back() {
    let processors = Arc::new(Processors::new(1));
    let mut turn = share(&processors, 1).turn();
    let mut context = Context::from_waker(Waker::noop());
    let polled =
        AssertUnwindSafe(|| -> Poll<()> { turn.poll_with(&mut context, |_| panic!("on purpose")) });
    assert!(catch_unwind(polled).is_err());
    assert!(poll(&mut share(&processors, 2).turn()).is_some());
}

#[test]
fn a_poll_that_lasts_lets_others_by_and_its_own_instance_later() {
    let processors = Arc::new(Processors::new(1));
    let _blocked = poll(&mut share(&processors, 1).turn()).unwrap();
    let mut own = waiting(&processors, 1, 1);
    let at = |ms: u64| Instant::now() + Duration::from_millis(ms);
    processors.look(at(50));
    assert!(begun(&mut own).is_empty());
    let mut other = waiting(&processors, 2, 1);
    processors.look(at(5));
    assert!(begun(&mut other).is_empty());
    processors.look(at(20));
    let other = begun(&mut other);
    assert_eq!(other.len(), 1);
    // The poll of the other instance counts now.
    processors.look(at(50));
    assert!(begun(&mut own).is_empty());
    processors.look(at(200));
    assert_eq!(begun(&mut own).len(), 1);
}

#[test]
fn polls_that_wait_for_each_other_come_to_an_end() {
    let processors = Arc::new(Processors::new(1));
    let watched = Arc::clone(&processors);
    let watch = std::thread::spawn(move || watched.watch());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (tell, told) = std::sync::mpsc::channel::<u32>();
    let waits = poll(&mut share(&processors, 1).turn()).unwrap();
    let other = Arc::clone(&processors);
    let tells = std::thread::spawn(move || {
        let mut turn = share(&other, 1).turn();
        runtime.block_on(std::future::poll_fn(|context| {
            turn.poll_with(context, |_| Poll::Ready(tell.send(7)))
        }))
    });
    // As a closure that blocks its thread until another one is done.
    assert_eq!(told.recv(), Ok(7));
    drop(waits);
    tells.join().unwrap().unwrap();
    processors.close();
    watch.join().unwrap();
}

#[test]
fn nobody_waits_for_a_turn_where_the_host_stops() {
    let processors = Arc::new(Processors::new(1));
    let _held = poll(&mut share(&processors, 1).turn()).unwrap();
    let mut waiting = waiting(&processors, 1, 10);
    processors.close();
    assert_eq!(begun(&mut waiting).len(), 10);
    assert!(poll(&mut share(&processors, 2).turn()).is_some());
}

#[test]
fn what_is_quick_is_found_out_and_so_is_what_is_no_longer() {
    let (quick, long) = (Duration::from_micros(20), Duration::from_millis(5));
    let pace = Pace::unknown();
    assert!(!pace.is_quick());
    (0..16).for_each(|_| pace.took(quick));
    assert!(pace.is_quick());
    // The system may preempt one poll in a hundred.
    (0..100).for_each(|_| pace.took(quick));
    pace.took(Duration::from_millis(1));
    assert!(pace.is_quick());
    (0..3).for_each(|_| pace.took(long));
    assert!(!pace.is_quick());
    (0..100).for_each(|_| pace.took(quick));
    assert!(pace.is_quick());
}
