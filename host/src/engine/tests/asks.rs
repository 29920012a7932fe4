//! Requests that instances answer: those of clients, and of other instances.

use perennial_core::{Event, Failure, Rejection, Reuse, Status};

use super::rewind::{breakable, restart, rewind};
use super::world::*;
use crate::engine::executor::Resource;
use crate::engine::{AskRequest, Request, StartRequest};
use crate::store::{Reply, StoreError};

fn ask(instance: &str, id: &str, name: &str, input: impl ToString) -> Request {
    Request::Ask(AskRequest {
        instance: instance.to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
        input: Some(json(input)),
    })
}

fn asks(host: &Host<'_>, instance: &str, id: &str, name: &str, input: impl ToString) {
    let reply = host.submit(ask(instance, id, name, input)).unwrap();
    assert_eq!(reply, Reply::Done);
}

/// The answer to a request, in a word; `None` if it has none.
fn answer(host: &Host<'_>, instance: &str, id: &str) -> Option<String> {
    let (_, row) = host.world.reader().request(instance, id).unwrap()?;
    row?.answer.map(|(_, outcome)| match outcome {
        Ok(output) => output.map_or_else(|| "nothing".to_owned(), |json| json.to_string()),
        Err(failure) => failure.kind,
    })
}

/// Waits for the answer to a request.
fn answered(host: &Host<'_>, instance: &str, id: &str) -> String {
    host.until(instance, |_| answer(host, instance, id).is_some());
    answer(host, instance, id).unwrap()
}

fn received(host: &Host<'_>, id: &str) -> usize {
    let is_it = |event: &&Event| matches!(event, Event::RequestReceived { .. });
    host.events(id).iter().filter(is_it).count()
}

/// Adds up what is asked of it as `Add`, rejects `No`, and keeps the rest. Events: `end` completes it with the sum, `fail` fails it, `again`
/// continues it as new, `work` calls an activity whose failure it fails with.
fn counter() -> Logic {
    let (mut sum, mut taken, mut raised, mut open) = (0, 0, 0, Vec::new());
    let mut called = None;
    Box::new(move |seen, out| {
        for request in &seen.requests[taken..] {
            taken += 1;
            match request.name.as_str() {
                "Add" => {
                    sum += request
                        .input
                        .as_ref()
                        .unwrap()
                        .as_str()
                        .parse::<u64>()
                        .unwrap();
                    out.respond(request.number, sum);
                }
                "No" => out.reject(request.number, "Declined"),
                _ => open.push(request.number),
            }
        }
        if let Some(task) = called
            && let Some(failed) = super::rewind::fails_with(seen, task)
        {
            return failed;
        }
        for (_, name, _) in &seen.events[raised..] {
            raised += 1;
            match name.as_str() {
                "end" => return completes(sum),
                "fail" => return fails("Broken"),
                "again" => return continues(0, open.clone()),
                "work" => called = Some(out.call("Work", 1)),
                _ => {}
            }
        }
        waits()
    })
}

/// Asks an instance, and completes with its answer.
fn asker(to: &'static str, name: &'static str) -> impl Fn() -> Logic + Send + Sync {
    move || {
        let mut asked = false;
        Box::new(move |seen, out| {
            if !std::mem::replace(&mut asked, true) {
                out.ask(to, name, 5);
            }
            match seen.has(0) {
                true => completes(format!("{:?}", seen.result(0))),
                false => waits(),
            }
        })
    }
}

#[test]
fn each_request_is_answered_once_and_its_answer_stays() {
    let world = World::with("Counter", counter);
    let host = world.open();
    host.start("Counter", "c");
    asks(&host, "c", "r1", "Add", 5);
    assert_eq!(answered(&host, "c", "r1"), "5");
    // Sent again, it is the same request, whatever its input is.
    let again = host.submit(ask("c", "r1", "add", 7)).unwrap();
    assert_eq!(again, Reply::Nothing);
    asks(&host, "c", "r2", "Add", 2);
    assert_eq!(answered(&host, "c", "r2"), "7");
    asks(&host, "c", "r3", "No", 2);
    assert_eq!(answered(&host, "c", "r3"), "Declined");
    let other = host.submit(ask("c", "r1", "No", 0)).unwrap();
    assert_eq!(other, Reply::OtherRequest("Add".to_owned()));
    assert_eq!(received(&host, "c"), 3);
    host.evict_all();
    asks(&host, "c", "open", "Keep", 0);
    host.raise("c", "end", 0);
    assert_eq!(host.end("c"), "7");

    // After the end the answers are still there, and what was open has none.
    assert_eq!(answer(&host, "c", "r1").as_deref(), Some("5"));
    assert_eq!(answer(&host, "c", "open"), None);
    assert_eq!(
        host.submit(ask("c", "r1", "Add", 7)).unwrap(),
        Reply::Nothing
    );
    let late = host.submit(ask("c", "r4", "Add", 1)).unwrap();
    let not_running = Rejection::NotRunning(Status::Completed);
    assert_eq!(late, Reply::Rejected(not_running));
    let nobody = host.submit(ask("nobody", "r1", "Add", 1)).unwrap();
    assert_eq!(nobody, Reply::Rejected(Rejection::NotFound));
    host.check_histories();
}

#[test]
fn a_request_that_is_declined_leaves_no_trace() {
    let world = World::with("Counter", counter).in_file();
    let host = world.open();
    host.start("Counter", "c");
    host.until("c", |row| row.turns == 1);
    let declined = host.submit(ask("c", "r1", "Invalid", 1)).unwrap();
    let why = Failure::permanent("Declined", "Counter");
    assert_eq!(declined, Reply::Declined(Box::new(why.clone())));
    assert_eq!(host.count("SELECT count(*) FROM request"), 0);
    assert_eq!(host.row("c").unwrap().turns, 1);
    // It judges also for an instance that would be started, and then starts none.
    let start = start_for("d", "r1", "Invalid", Reuse::Ended);
    assert_eq!(host.submit(start).unwrap(), Reply::Declined(Box::new(why)));
    assert!(host.row("d").is_none());
    // A shortage of the host is no judgement.
    *world.programs.lacks.lock().unwrap() = Some(Resource::Memory);
    let lacks = host.submit(ask("c", "r2", "Add", 1));
    assert!(matches!(lacks, Err(StoreError::Lacks(_))), "{lacks:?}");
    *world.programs.lacks.lock().unwrap() = None;
    asks(&host, "c", "r2", "Add", 1);
    assert_eq!(answered(&host, "c", "r2"), "1");
    for (id, name) in [("", "Add"), ("r3", ""), ("r3", "a\u{7}")] {
        let refused = host.submit(ask("c", id, name, 1)).unwrap();
        assert!(matches!(refused, Reply::Refused { .. }), "{refused:?}");
    }
    let long = host
        .submit(ask("c", "r4", "Add", "1".repeat(5 << 20)))
        .unwrap();
    assert!(
        matches!(&long, Reply::Refused { kind, .. } if kind == "LimitExceeded"),
        "{long:?}"
    );
}

#[test]
fn requests_outlive_continue_as_new_and_old_answers_do_not_pile_up() {
    let world = World::with("Counter", counter).in_file();
    let host = world.open();
    host.start("Counter", "c");
    asks(&host, "c", "r1", "Add", 5);
    answered(&host, "c", "r1");
    asks(&host, "c", "keep", "Keep", 0);
    host.raise("c", "again", 0);
    host.until("c", |row| row.execution == 1 && row.turns == 1);
    let carried = host.events("c");
    let carried: Vec<(u32, &str)> = (carried.iter())
        .filter_map(|event| match event {
            Event::RequestReceived { number, id, .. } => Some((*number, id.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(carried, [(1, "keep")]);
    assert_eq!(
        host.submit(ask("c", "r1", "Add", 5)).unwrap(),
        Reply::Nothing
    );
    // After more than a day the next one forgets it.
    host.advance(25 * 60 * 60 * 1_000);
    host.raise("c", "again", 0);
    host.until("c", |row| row.execution == 2 && row.turns == 1);
    assert_eq!(answer(&host, "c", "r1"), None);
    assert_eq!(host.count("SELECT count(*) FROM request"), 1);
    asks(&host, "c", "r1", "Add", 3);
    assert_eq!(answered(&host, "c", "r1"), "3");
    host.check_histories();
}

#[test]
fn instances_ask_each_other() {
    let world = World::with("Counter", counter)
        .and("Adds", asker("c", "Add"))
        .and("Rejected", asker("c", "No"))
        .and("Nobody", asker("nobody", "Add"))
        .and("Wrong", asker("a/b", "Add"))
        .and("Self", asker("Self", "Add"));
    let host = world.open();
    host.start("Counter", "c");
    for (name, outcome) in [
        ("Adds", "\"5\""),
        ("Rejected", "\"Declined\""),
        ("Nobody", "\"NotAnswered\""),
        ("Wrong", "\"InvalidAnswer\""),
    ] {
        host.start(name, name);
        assert_eq!(host.end(name), outcome, "{name}");
    }
    // One that asks itself waits, as one that waits for itself does.
    host.start("Self", "Self");
    host.until("Self", |row| row.turns == 2);
    host.terminate("Self");
    assert_eq!(host.end("Self"), "Terminated");
    host.check_histories();
}

#[test]
fn who_asks_one_that_ends_or_is_deleted_is_told() {
    let world = World::with("Counter", counter).and("Asks", asker("c", "Keep"));
    let host = world.open();
    let ends: [fn(&Host<'_>); 5] = [
        |host| host.raise("c", "end", 0),
        |host| host.raise("c", "fail", 0),
        |host| host.terminate("c"),
        |host| {
            let start = StartRequest {
                reuse: Reuse::Any,
                ..start_request("c")
            };
            assert_eq!(host.submit(Request::Start(start)).unwrap(), Reply::Done);
        },
        |host| {
            // It has not begun when it ends.
            host.suspend("c");
            host.terminate("c");
        },
    ];
    for (at, end) in ends.into_iter().enumerate() {
        host.start("Counter", "c");
        let id = format!("a{at}");
        host.start("Asks", &id);
        host.until("c", |_| received(&host, "c") == 1);
        end(&host);
        assert_eq!(host.end(&id), "\"NotAnswered\"", "{at}");
        if host.row("c").is_some_and(|row| !row.status.is_end()) {
            host.terminate("c");
            host.end("c");
        }
    }
    host.check_histories();
}

fn start_request(id: &str) -> StartRequest {
    StartRequest {
        name: "Counter".to_owned(),
        version: None,
        id: id.to_owned(),
        input: None,
        tags: Vec::new(),
        reuse: Reuse::Ended,
        trace_parent: None,
        scheduled_for: None,
    }
}

fn start_for(id: &str, request: &str, name: &str, reuse: Reuse) -> Request {
    Request::StartFor {
        start: StartRequest {
            reuse,
            ..start_request(id)
        },
        execution_timeout: None,
        then: Box::new(ask(id, request, name, 5)),
    }
}

#[test]
fn a_start_and_what_it_is_for_are_one_change() {
    let world = World::with("Counter", counter);
    let host = world.open();
    let before = host.commits();
    let first = host
        .submit(start_for("c", "r1", "Add", Reuse::Ended))
        .unwrap();
    assert_eq!(first, Reply::All(vec![Reply::Done, Reply::Done]));
    assert_eq!(answered(&host, "c", "r1"), "5");
    assert_eq!(
        host.commits() - before,
        2,
        "the start with its request, and the turn"
    );
    let second = host
        .submit(start_for("c", "r2", "Add", Reuse::Never))
        .unwrap();
    assert_eq!(second, Reply::All(vec![Reply::Nothing, Reply::Done]));
    assert_eq!(answered(&host, "c", "r2"), "10");
    let repeated = host
        .submit(start_for("c", "r2", "Add", Reuse::Ended))
        .unwrap();
    assert_eq!(repeated, Reply::All(vec![Reply::Nothing, Reply::Nothing]));
    host.raise("c", "end", 0);
    assert_eq!(host.end("c"), "10");
    // A repeat of what the ended one has answered starts nothing.
    let late = host
        .submit(start_for("c", "r1", "Add", Reuse::Ended))
        .unwrap();
    assert_eq!(late, Reply::All(vec![Reply::Nothing, Reply::Nothing]));
    let never = host
        .submit(start_for("c", "r3", "Add", Reuse::Never))
        .unwrap();
    let exists = Rejection::AlreadyExists(Status::Completed);
    assert_eq!(never, Reply::Rejected(exists));
    let new = host
        .submit(start_for("c", "r3", "Add", Reuse::Ended))
        .unwrap();
    assert_eq!(new, Reply::All(vec![Reply::Done, Reply::Done]));
    assert_eq!(answered(&host, "c", "r3"), "5");
    assert_eq!(
        answer(&host, "c", "r1"),
        None,
        "it belonged to the instance before"
    );

    let with_event = |id: &str| Request::StartFor {
        start: start_request(id),
        execution_timeout: None,
        then: Box::new(Request::RaiseEvent {
            id: id.to_owned(),
            name: "end".to_owned(),
            data: None,
        }),
    };
    let started = host.submit(with_event("e")).unwrap();
    assert_eq!(started, Reply::All(vec![Reply::Done, Reply::Done]));
    assert_eq!(host.end("e"), "0");
    host.check_histories();
}

#[test]
fn a_rewind_answers_what_was_left_and_no_request_twice() {
    let world = World::with("Counter", counter)
        .and("Asks", asker("c", "Keep"))
        .in_file();
    let mended = breakable(&world, "Work");
    let host = world.open();
    host.start("Counter", "c");
    asks(&host, "c", "r1", "Add", 5);
    answered(&host, "c", "r1");
    asks(&host, "c", "keep", "Keep", 0);
    host.start("Asks", "a");
    host.until("c", |_| received(&host, "c") == 3);
    host.raise("c", "work", 0);
    assert_eq!(host.end("c"), "Down");
    // An instance that asked is told at once, for it may not wait for a rewind that nobody makes.
    assert_eq!(host.end("a"), "\"NotAnswered\"");
    asks_none(&host, "c", "keep");
    mended.store(true, std::sync::atomic::Ordering::Release);
    rewind(&host, "c");
    asks(&host, "c", "r2", "Add", 1);
    assert_eq!(answered(&host, "c", "r2"), "6");
    assert_eq!(answer(&host, "c", "r1").as_deref(), Some("5"));
    host.raise("c", "end", 0);
    assert_eq!(host.end("c"), "6");
    host.check_histories();
    // Restarted, it knows nothing of them.
    assert_eq!(restart(&host, "c", None), Reply::Done);
    assert_eq!(
        host.count("SELECT count(*) FROM request WHERE asker IS NULL"),
        0
    );
    asks(&host, "c", "r1", "Add", 2);
    assert_eq!(answered(&host, "c", "r1"), "2");
}

fn asks_none(host: &Host<'_>, instance: &str, id: &str) {
    assert_eq!(answer(host, instance, id), None);
}

/// The asker fails after it was answered and while another request is open, and is rewound: it keeps both.
#[test]
fn a_rewound_asker_still_gets_its_answers() {
    let asks = || -> Logic {
        let (mut first, mut worked) = (true, false);
        Box::new(move |seen, out| {
            if std::mem::replace(&mut first, false) {
                out.ask("c", "Keep", 5);
                out.ask("c", "Add", 5);
            }
            if seen.has(1) && !std::mem::replace(&mut worked, true) {
                out.call("Work", 1);
            }
            if let Some(failed) = super::rewind::fails_with(seen, 2) {
                return failed;
            }
            match seen.has(0) && seen.has(2) {
                true => completes(format!("{:?}", (seen.result(0), seen.result(1)))),
                false => waits(),
            }
        })
    };
    let world = World::with("Counter", counter).and("Asks", asks);
    let mended = breakable(&world, "Work");
    let host = world.open();
    host.start("Counter", "c");
    host.start("Asks", "a");
    assert_eq!(host.end("a"), "Down");
    mended.store(true, std::sync::atomic::Ordering::Release);
    rewind(&host, "a");
    host.until("a", |row| row.status == Status::Running && row.turns >= 3);
    host.raise("c", "end", 0);
    assert_eq!(host.end("a"), "(\"NotAnswered\", \"5\")");
    host.check_histories();
}

#[test]
fn a_crash_at_any_moment_loses_no_request_and_answers_none_twice() {
    let world = World::with("Counter", counter).and("Adds", asker("c", "Add"));
    let mut images = Vec::new();
    {
        let host = world.open();
        host.start("Counter", "c");
        for n in 0..20 {
            asks(&host, "c", &format!("r{n}"), "Add", 1);
            host.start("Adds", &format!("a{n}"));
            images.push((n, world.crash_image()));
        }
        (0..20).for_each(|n| drop(host.end(&format!("a{n}"))));
        host.check_histories();
    }
    for (last, image) in images.into_iter().step_by(3) {
        let host = image.open();
        let told: std::collections::BTreeSet<String> = (0..=last)
            .map(|n| answered(&host, "c", &format!("r{n}")))
            .collect();
        assert_eq!(told.len(), last + 1, "each got a sum of its own");
        for n in 0..=last {
            host.end(&format!("a{n}"));
            // What was accepted before is known again.
            let again = host.submit(ask("c", &format!("r{n}"), "Add", 1)).unwrap();
            assert_eq!(again, Reply::Nothing);
        }
        host.raise("c", "end", 0);
        assert_eq!(host.end("c"), ((last as u64 + 1) * 6).to_string());
        host.check_histories();
    }
}

#[test]
fn who_cannot_answer_is_not_asked_and_says_so() {
    let world = World::with("Counter", counter).and("Asks", asker("old", "Add"));
    let host = world.open();
    let mut old = world.module();
    old.contract = "0.1".to_owned();
    old.digest = perennial_core::Digest([9; 32]);
    old.name = "old".to_owned();
    old.definitions.retain(|one| one.name == "Counter");
    world
        .programs
        .by_name
        .lock()
        .unwrap()
        .insert("Counter#9".to_owned(), std::sync::Arc::new(counter));
    let deployed = host.submit(Request::Deploy(Box::new(old))).unwrap();
    assert!(matches!(deployed, Reply::Deployed(_)), "{deployed:?}");
    host.start("Counter", "old");
    host.until("old", |row| row.turns == 1);
    let declined = host.submit(ask("old", "r1", "Add", 1)).unwrap();
    let Reply::Declined(failure) = declined else {
        panic!("{declined:?}");
    };
    assert_eq!(failure.kind, "NotAnswered");
    // Another instance that asks it is told so by the host.
    host.start("Asks", "a");
    assert_eq!(host.end("a"), "\"NotAnswered\"");
    assert_eq!(received(&host, "old"), 0);
    host.check_histories();
}
