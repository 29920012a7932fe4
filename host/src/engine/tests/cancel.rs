//! Cancellation, its grace period, time limits of instances, and what becomes of children.

use perennial_core::{
    Action, ChildCall, ChildCommand, ChildPolicy, Ending, Event, IdReuse, InstanceOptions, Millis,
    Reuse, Status, TaskId, TimerDue, Timestamp,
};

use super::world::*;
use crate::engine::{Request, StartRequest};
use crate::store::Reply;

fn cancel(id: &str, grace: u64) -> Request {
    Request::Cancel {
        id: id.to_owned(),
        reason: Some("enough".to_owned()),
        grace: Millis(grace),
        recursive: false,
    }
}

fn limited(name: &str, id: &str, limit: u64) -> Request {
    Request::StartLimited {
        start: StartRequest {
            name: name.to_owned(),
            version: None,
            id: id.to_owned(),
            input: None,
            tags: Vec::new(),
            reuse: Reuse::Ended,
            trace_parent: None,
            scheduled_for: None,
        },
        execution_timeout: Millis(limit),
    }
}

/// Waits until it is asked to cancel, then for an activity that cleans up, and ends as it was asked to.
fn cleans_up() -> Logic {
    let mut cleaning = false;
    Box::new(move |seen, out| {
        if seen.cancellation.is_none() {
            return waits();
        }
        if !std::mem::replace(&mut cleaning, true) {
            out.call("Hold", 1);
        }
        if seen.has(0) {
            Ending::Canceled
        } else {
            waits()
        }
    })
}

/// Listens for ever, whatever it is asked.
fn ignores() -> Logic {
    Box::new(|_, _| waits())
}

/// Ends as soon as it is asked to cancel.
fn obeys() -> Logic {
    Box::new(|seen, _| match seen.cancellation {
        Some(_) => Ending::Canceled,
        None => waits(),
    })
}

fn names(host: &Host<'_>, id: &str) -> Vec<&'static str> {
    let events = host.events(id);
    events.iter().map(Event::name).collect()
}

#[test]
fn an_instance_that_is_cancelled_cleans_up_and_ends_with_the_reason() {
    let world = World::with("Cleans", cleans_up).in_file();
    let host = world.open();
    host.start("Cleans", "a");
    assert_eq!(host.submit(cancel("a", 60_000)).unwrap(), Reply::Done);
    let held = world.held();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    // The first request counts.
    assert_eq!(host.submit(cancel("a", 1)).unwrap(), Reply::Done);
    host.advance(10);
    held.ends(Ok("1"));
    assert_eq!(host.end("a"), "Terminated");
    let row = host.row("a").unwrap();
    assert_eq!(row.output.unwrap().as_str(), "\"enough\"");
    let requests = names(&host, "a");
    let requests = requests
        .iter()
        .filter(|name| **name == "CancellationRequested");
    assert_eq!(requests.count(), 1);
    assert_eq!(host.count("SELECT count(*) FROM task"), 0);
    host.check_histories();
}

#[test]
fn what_does_not_end_in_time_is_terminated_also_by_the_next_host() {
    for crashes in [false, true] {
        let mut world = World::with("Ignores", ignores);
        {
            let host = world.open();
            host.start("Ignores", "a");
            assert_eq!(host.submit(cancel("a", 5_000)).unwrap(), Reply::Done);
            host.until("a", |row| row.turns == 2);
            host.advance(4_999);
            host.idle();
            assert_eq!(host.row("a").unwrap().status, Status::Running);
        }
        if crashes {
            world = world.crash_image();
        }
        let host = world.open();
        host.advance(1);
        assert_eq!(host.end("a"), "Terminated");
        assert_eq!(
            host.row("a").unwrap().output.unwrap().as_str(),
            "\"enough\""
        );
        host.check_histories();
    }
}

#[test]
fn the_end_of_the_grace_period_also_ends_what_is_suspended() {
    let world = World::with("Ignores", ignores);
    let host = world.open();
    host.start("Ignores", "a");
    host.submit(cancel("a", 5_000)).unwrap();
    host.until("a", |row| row.turns == 2);
    host.suspend("a");
    host.until("a", |row| row.status == Status::Suspended);
    host.advance(5_000);
    assert_eq!(host.end("a"), "Terminated");
    host.check_histories();
}

#[test]
fn a_suspended_instance_is_asked_when_it_is_resumed() {
    let world = World::with("Obeys", || obeys()).in_file();
    let host = world.open();
    host.start("Obeys", "a");
    host.suspend("a");
    host.until("a", |row| row.status == Status::Suspended);
    assert_eq!(host.submit(cancel("a", 5_000)).unwrap(), Reply::Done);
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Suspended);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = crate::Client::open(world.dir(), "hub").unwrap();
    let status = || {
        let status = runtime.block_on(client.status("a").into_future());
        status.unwrap().unwrap()
    };
    assert!(matches!(
        status().waits_for[..],
        [crate::Wait::Resume { .. }]
    ));
    let pending = status().pending_cancellation.unwrap();
    assert_eq!(pending.reason.as_deref(), Some("enough"));
    assert_eq!(pending.grace_millis, 5_000);
    host.resume("a");
    assert_eq!(host.end("a"), "Terminated");
    assert_eq!(status().pending_cancellation, None);
    host.check_histories();
}

#[test]
fn what_has_not_begun_or_cannot_be_told_ends_at_once() {
    let world = World::with("Ignores", ignores).in_file();
    {
        let host = world.open();
        let Request::Start(mut later) = start("Ignores", "later", None) else {
            unreachable!("it makes a start")
        };
        later.scheduled_for = Some(Timestamp(world.now().0 + 1_000));
        host.submit(Request::Start(later)).unwrap();
        assert_eq!(host.submit(cancel("later", 5_000)).unwrap(), Reply::Done);
        assert_eq!(host.row("later").unwrap().status, Status::Terminated);
    }
    // A module of contract 0.1 has no word for it.
    {
        let host = world.open();
        host.meddle("UPDATE module SET contract = '0.1'");
    }
    let host = world.open();
    assert_eq!(
        host.count("SELECT count(*) FROM module WHERE contract = '0.1'"),
        1
    );
    host.start("Ignores", "old");
    assert_eq!(host.submit(cancel("old", 5_000)).unwrap(), Reply::Done);
    assert_eq!(host.end("old"), "Terminated");
    assert!(!names(&host, "old").contains(&"CancellationRequested"));
    host.check_histories();
}

fn child(task: u32, name: &str, id: &str, options: InstanceOptions) -> Action {
    Action::CallChild(ChildCall {
        task: TaskId(task),
        name: name.to_owned(),
        version: None,
        instance_id: Some(id.to_owned()),
        input: None,
        tags: Vec::new(),
        retry: None,
        options,
    })
}

fn dropped(when_dropped: ChildPolicy) -> InstanceOptions {
    InstanceOptions {
        when_dropped,
        ..InstanceOptions::default()
    }
}

/// Starts three children, one for each policy, and ends as the input says.
fn family() -> Logic {
    let mut called = false;
    Box::new(move |seen, out| {
        // The next execution has an input, and calls none.
        if !std::mem::replace(&mut called, true) && seen.input.is_none() {
            for (n, (id, policy)) in [
                ("runs-on", ChildPolicy::Abandon),
                ("cancelled", ChildPolicy::Cancel),
                ("terminated", ChildPolicy::Terminate),
            ]
            .into_iter()
            .enumerate()
            {
                let task = u32::try_from(n).unwrap();
                let id = format!("{}-{id}", seen.id);
                out.push(child(task, "Obeys", &id, dropped(policy)));
            }
        }
        match seen.events.first().map(|(_, name, _)| name.as_str()) {
            Some("fail") => fails("Broken"),
            Some("drop") if seen.events.len() == 1 => {
                (0..3).for_each(|task| out.cancel(task));
                waits()
            }
            Some("continue") => continues(1, Vec::new()),
            Some("return") => {
                (0..3).for_each(|task| out.cancel(task));
                completes(1)
            }
            _ => waits(),
        }
    })
}

#[test]
fn children_end_as_their_calls_say_when_they_are_dropped_or_their_parent_ends() {
    for how in ["fail", "drop", "return", "terminate", "replace", "continue"] {
        let world = World::with("Family", family).and("Obeys", || obeys());
        let host = world.open();
        host.start("Family", how);
        for id in ["runs-on", "cancelled", "terminated"] {
            host.until(&format!("{how}-{id}"), |row| row.status == Status::Running);
        }
        match how {
            "terminate" => host.terminate(how),
            "replace" => {
                let Request::Start(mut again) = start("Obeys", how, None) else {
                    unreachable!("it makes a start")
                };
                again.reuse = Reuse::Any;
                host.submit(Request::Start(again)).unwrap();
            }
            event => host.raise(how, event, 1),
        }
        for id in ["cancelled", "terminated"] {
            let id = format!("{how}-{id}");
            assert_eq!(host.end(&id), "Terminated", "{how}: {id}");
            let was_asked = names(&host, &id).contains(&"CancellationRequested");
            assert_eq!(was_asked, id.ends_with("-cancelled"), "{how}: {id}");
        }
        if how != "continue" {
            host.idle();
            let id = format!("{how}-runs-on");
            assert_eq!(host.row(&id).unwrap().status, Status::Running, "{how}");
        }
        host.check_histories();
    }
}

/// Tells its child to end, and completes with what it is told of it.
fn ends_its_child(command: ChildCommand) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut told = 0;
        Box::new(move |seen, out| {
            if told == 0 {
                told = 1;
                out.push(child(0, "Obeys", "kid", InstanceOptions::default()));
            } else if told == 1 && !seen.events.is_empty() {
                told = 2;
                out.push(Action::CommandChild {
                    task: TaskId(0),
                    command,
                    reason: Some("no more".to_owned()),
                });
            }
            if seen.has(0) {
                completes(format!("{:?}", seen.result(0)))
            } else {
                waits()
            }
        })
    }
}

#[test]
fn a_parent_ends_a_child_and_learns_how_it_ended() {
    for (command, kind) in [
        (ChildCommand::Cancel, "\"Canceled\""),
        (ChildCommand::Terminate, "\"Terminated\""),
    ] {
        let world = World::with("Ends", ends_its_child(command)).and("Obeys", || obeys());
        let host = world.open();
        host.start("Ends", "a");
        host.until("kid", |row| row.status == Status::Running);
        host.raise("a", "now", 1);
        assert_eq!(host.end("a"), kind);
        let row = host.row("kid").unwrap();
        assert_eq!(row.output.unwrap().as_str(), "\"no more\"");
        host.check_histories();
    }
}

#[test]
fn an_id_that_is_never_to_be_used_again_is_refused() {
    let world = World::with("Twice", || {
        let mut called = 0;
        Box::new(move |seen, out| {
            let never = InstanceOptions {
                reuse: IdReuse::Never,
                ..InstanceOptions::default()
            };
            if called == 0 {
                called = 1;
                out.push(child(0, "Done", "kid", never));
            } else if called == 1 && seen.has(0) {
                called = 2;
                out.push(child(1, "Done", "kid", never));
            }
            if seen.has(1) {
                completes(format!("{:?}", (seen.result(0), seen.result(1))))
            } else {
                waits()
            }
        })
    })
    .and("Done", || Box::new(|_, _| completes(5)));
    let host = world.open();
    host.start("Twice", "a");
    assert_eq!(host.end("a"), "(\"5\", \"InstanceExists\")");
    host.check_histories();
}

#[test]
fn an_instance_with_a_time_limit_is_asked_to_cancel_and_fails() {
    let world = World::with("Cleans", cleans_up)
        .and("Ignores", ignores)
        .and("Rounds", || {
            Box::new(|seen, _| match (&seen.cancellation, seen.events.len()) {
                (Some(_), _) => Ending::Canceled,
                (None, 0) => waits(),
                (None, _) => continues(1, Vec::new()),
            })
        });
    let host = world.open();
    for name in ["Cleans", "Ignores", "Rounds"] {
        host.submit(limited(name, name, 10_000)).unwrap();
        host.until(name, |row| row.status == Status::Running);
    }
    // The limit is that of the instance, whatever its executions are.
    host.advance(5_000);
    host.raise("Rounds", "go", 1);
    host.until("Rounds", |row| row.execution == 1 && row.turns == 1);
    host.advance(5_000);
    assert_eq!(host.end("Rounds"), "Timeout");
    world.held().ends(Ok("1"));
    assert_eq!(host.end("Cleans"), "Timeout");
    host.advance(60_000);
    assert_eq!(host.end("Ignores"), "Timeout");
    assert!(names(&host, "Ignores").contains(&"ExecutionTimedOut"));
    host.check_histories();
}

#[test]
fn a_time_limit_holds_for_the_next_host_and_a_rewind_gives_it_again() {
    let mut world = World::with("Obeys", || obeys());
    {
        let host = world.open();
        host.submit(limited("Obeys", "a", 10_000)).unwrap();
        host.until("a", |row| row.status == Status::Running);
        host.advance(9_999);
        host.idle();
    }
    world = world.crash_image();
    let host = world.open();
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    host.advance(1);
    assert_eq!(host.end("a"), "Timeout");
    let rewind = crate::engine::RewindRequest {
        id: "a".to_owned(),
        reason: None,
        module: None,
    };
    host.submit(Request::Rewind(rewind)).unwrap();
    host.until("a", |row| row.status == Status::Running);
    host.advance(9_999);
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    host.advance(1);
    assert_eq!(host.end("a"), "Timeout");
    host.check_histories();
}

#[test]
fn a_span_ends_as_long_as_it_is_and_a_date_when_the_clock_shows_it() {
    let world = World::with("Sleeps", || {
        let mut set = false;
        Box::new(move |seen, out| {
            if seen.events.is_empty() {
                return waits();
            }
            if !std::mem::replace(&mut set, true) {
                for (task, due) in [
                    TimerDue::After(Millis(2_000)),
                    TimerDue::At(Timestamp(BEGIN + 3_000)),
                ]
                .into_iter()
                .enumerate()
                {
                    let task = TaskId(u32::try_from(task).unwrap());
                    out.push(Action::SetTimer { task, due });
                }
            }
            if seen.fired.len() == 2 {
                completes(format!("{:?}", seen.fired))
            } else {
                waits()
            }
        })
    });
    let host = world.open();
    host.start("Sleeps", "a");
    host.until("a", |row| row.turns == 1);
    // The clock jumps ahead, a turn is taken, and it is set right again.
    host.advance(3_600_000);
    host.raise("a", "tick", 1);
    host.until("a", |row| row.turns >= 2);
    host.check_histories();
    // The date has passed by that clock, so that its timer fired; the span of two seconds is left.
    host.advance(1_999);
    host.idle();
    assert_eq!(host.row("a").unwrap().status, Status::Running);
    host.advance(1);
    assert_eq!(host.end("a"), "[1, 0]");
    host.check_histories();
}
