//! Notifications of waiters about an end. A check in every test compares each of them with the hub.

use super::world::*;
use crate::engine::Until;
use crate::engine::memory::waiters::News;
use perennial_core::Status;

/// The notification of a waiter that was registered before `end` ran.
fn told(host: &Host<'_>, id: &str, end: impl FnOnce()) -> News {
    let watch = host
        .of(id)
        .watch(id, Until::Ended, std::time::Duration::ZERO);
    end();
    let what = format!("the end of {id}");
    host.world.block_on(&what, watch.told).unwrap()
}

#[test]
fn an_end_is_told_with_what_the_hub_says_of_it() {
    let world = World::with("Listen", listens(1)).and("Sleeps", sleeps(50));
    let host = world.open();
    for id in ["a", "b", "c"] {
        host.start("Listen", id);
    }
    let completed = told(&host, "a", || host.raise("a", "Go", "1")).unwrap();
    assert_eq!(completed.status, Status::Completed);
    assert_eq!(completed.output, host.row("a").unwrap().output);
    let terminated = told(&host, "b", || host.terminate("b")).unwrap();
    assert_eq!(terminated.status, Status::Terminated);
    // An evicted instance is loaded again, and its waiter is notified too.
    host.evict_all();
    let woken = told(&host, "c", || host.raise("c", "Go", "3")).unwrap();
    assert_eq!(woken.turns, host.row("c").unwrap().turns);
}

#[test]
fn one_is_told_the_end_and_the_others_that_there_is_one() {
    let world = World::with("Listen", listens(1));
    let host = world.open();
    host.start("Listen", "a");
    let change = host
        .of("a")
        .watch("a", Until::Changed, std::time::Duration::ZERO);
    let second = host
        .of("a")
        .watch("a", Until::Ended, std::time::Duration::ZERO);
    assert!(told(&host, "a", || host.raise("a", "Go", "1")).is_none());
    assert!(
        host.world
            .block_on("second", second.told)
            .unwrap()
            .is_some()
    );
    assert!(
        host.world
            .block_on("change", change.told)
            .unwrap()
            .is_none()
    );
    // A later waiter has to read the hub.
    assert!(
        !host
            .of("a")
            .watch("a", Until::Ended, std::time::Duration::ZERO)
            .lives
    );
}

#[test]
fn who_starts_an_instance_knows_that_it_lives_until_it_ends() {
    let world = World::with("Listen", listens(1));
    let host = world.open();
    assert!(
        !host
            .of("a")
            .watch("a", Until::Ended, std::time::Duration::ZERO)
            .lives
    );
    host.start("Listen", "a");
    assert!(
        host.of("a")
            .watch("a", Until::Ended, std::time::Duration::ZERO)
            .lives
    );
    host.suspend("a");
    assert!(
        host.of("a")
            .watch("a", Until::Ended, std::time::Duration::ZERO)
            .lives
    );
    drop(told(&host, "a", || host.terminate("a")));
    assert!(
        !host
            .of("a")
            .watch("a", Until::Ended, std::time::Duration::ZERO)
            .lives
    );
}
