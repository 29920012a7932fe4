//! Commands for whole families, scheduled starts, and terminations that take effect at once.

use super::rewind::rewind_request;
use super::world::*;
use crate::engine::{Request, StartRequest};
use crate::store::Reply;
use perennial_core::{Event, Rejection, Reuse, Status, Timestamp};

fn command(host: &Host<'_>, id: &str, make: impl Fn(String, Option<String>) -> Request) -> Reply {
    host.submit(make(id.to_owned(), Some("all".to_owned())))
        .unwrap()
}

fn terminate_all(id: String, reason: Option<String>) -> Request {
    Request::Terminate {
        id,
        reason,
        recursive: true,
    }
}

fn suspend_all(id: String, reason: Option<String>) -> Request {
    Request::Suspend {
        id,
        reason,
        recursive: true,
    }
}

fn resume_all(id: String, reason: Option<String>) -> Request {
    Request::Resume {
        id,
        reason,
        module: None,
        recursive: true,
    }
}

fn start_at(name: &str, id: &str, at: u64, reuse: Reuse) -> Request {
    Request::Start(StartRequest {
        name: name.to_owned(),
        version: None,
        id: id.to_owned(),
        input: None,
        tags: Vec::new(),
        reuse,
        trace_parent: None,
        scheduled_for: Some(Timestamp(at)),
    })
}

/// Calls two children and an activity that the test ends, and waits for all of them.
fn family(first: &'static str, second: &'static str) -> impl Fn() -> Logic + Send + Sync {
    move || {
        Box::new(move |seen, out| {
            if out.is_first() {
                out.child("Listen", Some(first), None);
                out.child("Nest", Some(second), None);
                out.call("Hold", 1);
            }
            match (0..3).all(|task| seen.has(task)) {
                true => completes(1),
                false => waits(),
            }
        })
    }
}

fn nest() -> Logic {
    Box::new(|seen, out| {
        if out.is_first() {
            out.child("Listen", Some("grandchild"), None);
        }
        match seen.has(0) {
            true => completes(2),
            false => waits(),
        }
    })
}

fn families() -> World {
    World::with("Family", family("child", "nest"))
        .and("Nest", nest)
        .and("Listen", listens(1))
}

const ALL: [&str; 4] = ["p", "child", "nest", "grandchild"];

fn all_are(host: &Host<'_>, status: Status) {
    for id in ALL {
        host.until(id, |row| row.status == status);
    }
}

#[test]
fn a_recursive_termination_ends_the_children_and_interrupts_what_runs() {
    let world = families();
    let host = world.open();
    host.start("Family", "p");
    host.until("grandchild", |row| row.status == Status::Running);
    let held = world.held();
    assert_eq!(command(&host, "p", terminate_all), Reply::Done);
    all_are(&host, Status::Terminated);
    host.idle();
    assert!(held.attempt.interrupt.is_set());
    for id in ALL {
        assert_eq!(host.row(id).unwrap().output, Some(json("\"all\"")), "{id}");
    }
    host.check_histories();
}

#[test]
fn a_termination_that_is_not_recursive_touches_nothing_below() {
    let world = families();
    let host = world.open();
    host.start("Family", "p");
    host.until("grandchild", |row| row.status == Status::Running);
    let held = world.held();
    host.terminate("p");
    assert_eq!(host.end("p"), "Terminated");
    host.idle();
    assert!(!held.attempt.interrupt.is_set());
    assert_eq!(host.row("grandchild").unwrap().status, Status::Running);
    held.ends(Ok("1"));
}

#[test]
fn a_family_is_suspended_and_resumed_together() {
    let world = families();
    let host = world.open();
    host.start("Family", "p");
    host.until("grandchild", |row| row.status == Status::Running);
    assert_eq!(command(&host, "p", suspend_all), Reply::Done);
    all_are(&host, Status::Suspended);
    let said = |id: &str| host.row(id).unwrap().output;
    assert_eq!(
        (said("p"), said("nest")),
        (Some(json("\"all\"")), Some(json("\"all\"")))
    );
    assert_eq!(command(&host, "p", resume_all), Reply::Done);
    all_are(&host, Status::Running);
    assert_eq!((said("p"), said("nest")), (None, None));
    // An already suspended instance still passes the command on.
    host.suspend("nest");
    assert_eq!(command(&host, "p", suspend_all), Reply::Done);
    all_are(&host, Status::Suspended);
    host.resume("p");
    host.until("p", |row| row.status == Status::Running);
    assert_eq!(command(&host, "p", resume_all), Reply::Nothing);
    all_are(&host, Status::Running);
    host.raise("child", "go", 1);
    host.raise("grandchild", "go", 1);
    world.held().ends(Ok("1"));
    assert_eq!(host.end("p"), "1");
    host.check_histories();
}

#[test]
fn a_suspension_passes_through_an_instance_that_has_returned() {
    let world = World::with("Returns", || {
        Box::new(|_, out| {
            if out.is_first() {
                out.child("Listen", Some("kid"), None);
            }
            completes(1)
        })
    })
    .and("Listen", listens(1));
    let host = world.open();
    host.start("Returns", "p");
    host.until("kid", |row| row.status == Status::Running);
    assert_eq!(command(&host, "p", suspend_all), Reply::Done);
    host.until("kid", |row| row.status == Status::Suspended);
    assert_eq!(host.row("p").unwrap().status, Status::Running);
    assert_eq!(command(&host, "p", resume_all), Reply::Nothing);
    host.until("kid", |row| row.status == Status::Running);
    host.raise("kid", "go", 1);
    assert_eq!(host.end("p"), "1");
}

#[test]
fn a_scheduled_start_is_pending_until_its_time() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    let at = BEGIN + 60_000;
    assert_eq!(
        host.submit(start_at("Listen", "a", at, Reuse::Ended))
            .unwrap(),
        Reply::Done
    );
    host.idle();
    let row = host.row("a").unwrap();
    assert_eq!(
        (row.status, row.turns, row.started_at),
        (Status::Pending, 0, None)
    );
    host.raise("a", "go", 7);
    host.advance(59_999);
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Pending);
    host.advance(1);
    assert_eq!(host.end("a"), "[7]");
    let row = host.row("a").unwrap();
    assert_eq!(
        (row.created_at, row.started_at),
        (Timestamp(BEGIN), Some(Timestamp(at)))
    );
    assert_eq!(host.count("SELECT count(*) FROM task"), 0);
    host.check_histories();
}

#[test]
fn scheduled_starts_survive_their_host_and_come_in_their_order() {
    let world = World::with("Sleep", sleeps(10));
    {
        let host = world.open();
        for n in 0..100 {
            let at = BEGIN + 1_000 * (n + 1);
            host.submit(start_at("Sleep", &format!("a{n}"), at, Reuse::Ended))
                .unwrap();
        }
    }
    world.clock.advance(perennial_core::Millis(50_000));
    let host = world.open();
    for n in 0..50 {
        host.until(&format!("a{n}"), |row| row.status != Status::Pending);
    }
    host.idle();
    assert_eq!(host.row("a50").unwrap().status, Status::Pending);
    host.advance(60_000);
    host.advance(10);
    for n in 0..100 {
        host.until(&format!("a{n}"), |row| row.status != Status::Pending);
    }
    host.check_histories();
}

#[test]
fn a_start_whose_time_has_passed_begins_at_once() {
    let world = World::with("Listen", listens(1));
    let host = world.open();
    host.submit(start_at("Listen", "a", BEGIN - 1, Reuse::Ended))
        .unwrap();
    host.until("a", |row| row.status == Status::Running);
    assert_eq!(host.row("a").unwrap().scheduled_for, None);
}

#[test]
fn a_scheduled_start_waits_while_it_is_suspended() {
    let world = World::with("Listen", listens(1));
    let host = world.open();
    for (id, resumed_after) in [("early", 1_000), ("late", 5_000)] {
        let begin = host.world.now().0;
        host.submit(start_at("Listen", id, begin + 2_000, Reuse::Ended))
            .unwrap();
        host.suspend(id);
        host.advance(resumed_after);
        host.idle();
        assert_eq!(host.row(id).unwrap().status, Status::Suspended);
        host.resume(id);
        if resumed_after < 2_000 {
            host.until(id, |row| row.status == Status::Pending);
            host.advance(2_000 - resumed_after);
        }
        host.until(id, |row| row.status == Status::Running);
        host.raise(id, "go", 1);
        assert_eq!(host.end(id), "[1]");
    }
    host.check_histories();
}

#[test]
fn what_has_not_begun_ends_at_once() {
    let world = World::with("Listen", listens(1));
    let host = world.open();
    host.submit(start_at("Listen", "a", BEGIN + 1_000, Reuse::Ended))
        .unwrap();
    host.terminate("a");
    // No wait is needed: the answer means that it has ended.
    let row = host.row("a").unwrap();
    assert_eq!(
        (row.status, row.output),
        (Status::Terminated, Some(json("\"enough\"")))
    );
    assert_eq!(
        host.events("a"),
        [Event::ExecutionTerminated {
            reason: Some("enough".to_owned())
        }]
    );
    host.advance(5_000);
    host.idle();
    assert_eq!(host.row("a").unwrap().turns, 1);
    let again = host.submit(rewind_request("a")).unwrap();
    assert_eq!(
        again,
        Reply::Rejected(Rejection::NotFailed(Status::Terminated))
    );
    host.check_histories();
}

#[test]
fn replacing_a_live_instance_interrupts_what_it_runs() {
    let world = World::with("Call", chain("Hold", 1));
    let host = world.open();
    host.start("Call", "a");
    let old = world.held();
    let first = host.row("a").unwrap();
    host.submit(start_at("Call", "a", BEGIN + 500, Reuse::Any))
        .unwrap();
    let second = host.row("a").unwrap();
    assert_eq!(second.status, Status::Pending);
    assert_ne!(first.execution_id, second.execution_id);
    host.idle();
    assert!(old.attempt.interrupt.is_set());
    old.ends(Ok("\"old\""));
    host.advance(500);
    world.held().ends(Ok("\"new\""));
    assert_eq!(host.end("a"), "\"new\"");
    host.check_histories();
}

#[test]
fn an_instance_whose_inbox_cannot_be_read_can_be_terminated() {
    let world = World::with("Listen", listens(2)).in_file();
    {
        let host = world.open();
        host.start("Listen", "a");
        host.suspend("a");
        host.raise("a", "go", 1);
    }
    {
        let db = rusqlite::Connection::open(world.path()).unwrap();
        db.execute_batch("UPDATE inbox SET message = x'0163'")
            .unwrap();
    }
    let host = world.open();
    host.until("a", |row| row.quarantine.is_some());
    host.terminate("a");
    assert_eq!(host.end("a"), "Terminated");
    assert_eq!(host.row("a").unwrap().quarantine, None);
}

/// Starts a child and an activity, and ends without waiting for them.
fn leaves(child: &'static str) -> impl Fn() -> Logic + Send + Sync {
    move || {
        Box::new(move |seen, out| {
            if out.is_first() {
                out.child(child, None, None);
                out.call("Hold", 1);
            }
            if seen.events.is_empty() {
                waits()
            } else {
                fails("Enough")
            }
        })
    }
}

#[test]
fn what_is_left_below_an_instance_that_has_ended_is_stopped() {
    let world = World::with("Root", leaves("Middle"))
        .and("Middle", leaves("Leaf"))
        .and("Leaf", listens(1));
    let host = world.open();
    host.start("Root", "root");
    let held = [world.held(), world.held()];
    let ids = |parent: &str| {
        let key = host.row(parent).unwrap().key;
        host.engine.hub.reader.child_ids(key, 10).unwrap()
    };
    let middle = ids("root").remove(0);
    host.until(&middle, |row| row.turns == 1);
    // Another owner may start it later.
    while ids(&middle).is_empty() {
        std::thread::yield_now();
    }
    let leaf = ids(&middle).remove(0);
    host.raise(&middle, "go", 1);
    assert_eq!(host.end(&middle), "Enough");
    host.terminate("root");
    assert_eq!(host.end("root"), "Terminated");
    host.idle();
    assert!(held.iter().all(|held| !held.attempt.interrupt.is_set()));
    assert_eq!(host.row(&leaf).unwrap().status, Status::Running);

    assert_eq!(command(&host, "root", terminate_all), Reply::Done);
    assert_eq!(host.end(&leaf), "Terminated");
    host.idle();
    assert!(held.iter().all(|held| held.attempt.interrupt.is_set()));
    // They are interrupted but run on until they react. Then nothing is left.
    for held in held {
        held.ends(Ok("1"));
    }
    while host.activity_counts() != (0, 0) {
        std::thread::yield_now();
    }
    let over = Reply::Rejected(Rejection::NotRunning(Status::Terminated));
    assert_eq!(command(&host, "root", terminate_all), over);
    host.check_histories();
}
