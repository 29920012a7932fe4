//! Requests of clients in this process and in others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::modules::{MENDED, other};
use super::world::*;
use crate::engine::{AskRequest, Request, StartRequest};
use crate::store::{Outside, Partition, Reply, encode};
use perennial_core::{Reuse, Status};

fn ask(world: &World, token: &str, request: &Request) {
    let outside = Outside::new(world.place.clone());
    outside
        .append(Partition(0), token, &encode(request).unwrap(), world.now())
        .unwrap();
}

#[test]
fn commands_of_other_processes_are_answered_once_each() {
    let world = World::with("Listen", listens(40)).in_file();
    let host = world.open();
    ask(&world, "start", &start("Listen", "a", None));
    world
        .block_on("the start", host.engine.take_commands())
        .unwrap();
    for n in 0..40 {
        ask(
            &world,
            &format!("raise{n}"),
            &Request::RaiseEvent {
                id: "a".to_owned(),
                name: "go".to_owned(),
                data: Some(json(n)),
            },
        );
    }
    // Many notifications at once, as from many processes.
    let all = (0..10).map(|_| host.engine.take_commands());
    world
        .block_on("the commands", futures::future::join_all(all))
        .into_iter()
        .for_each(|taken| taken.unwrap());
    let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(host.end("a"), format!("[{}]", expected.join(",")));
    for n in 0..40 {
        let answer = host
            .engine
            .hub
            .reader
            .answer(&format!("raise{n}"))
            .unwrap()
            .unwrap();
        assert_eq!(
            crate::store::decode::<Reply>(&answer, "an answer").unwrap(),
            Reply::Done
        );
    }
    assert!(host.engine.hub.reader.unanswered(10).unwrap().is_empty());
    host.check_histories();
}

#[test]
fn a_command_that_cannot_be_read_is_refused_and_holds_up_no_other() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    let outside = Outside::new(world.place.clone());
    outside
        .append(Partition(0), "odd", &[1, 250, 3], world.now())
        .unwrap();
    ask(&world, "lost", &start("Missing", "a", None));
    ask(&world, "good", &start("Listen", "a", None));
    world
        .block_on("the commands", host.engine.take_commands())
        .unwrap();
    let reply = |token: &str| {
        let answer = host.engine.hub.reader.answer(token).unwrap().unwrap();
        crate::store::decode::<Reply>(&answer, "an answer").unwrap()
    };
    assert!(matches!(reply("odd"), Reply::Refused { .. }));
    assert!(matches!(reply("lost"), Reply::Refused { .. }));
    assert_eq!(reply("good"), Reply::Done);
    host.until("a", |row| row.status == Status::Running);
}

#[test]
fn a_command_whose_execution_panics_is_refused_and_holds_up_no_other() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    let asks = Request::Ask(AskRequest {
        instance: "a".to_owned(),
        id: "r".to_owned(),
        name: "Panic".to_owned(),
        input: None,
    });
    ask(&world, "panic", &asks);
    ask(&world, "good", &start("Listen", "b", None));
    world
        .block_on("the commands", host.engine.take_commands())
        .unwrap();
    let reply = |token: &str| {
        let answer = host.engine.hub.reader.answer(token).unwrap().unwrap();
        crate::store::decode::<Reply>(&answer, "an answer").unwrap()
    };
    let refused = format!("{:?}", reply("panic"));
    assert!(refused.contains("on purpose"), "{refused}");
    assert_eq!(reply("good"), Reply::Done);
}

#[test]
fn what_a_deployment_makes_no_difference_to_does_not_wait_until_it_is_compiled() {
    let world = World::with("Listen", listens(1))
        .and("Listen#8", listens(1))
        .shared_by(1);
    let host = world.open();
    host.start("Listen", "a");
    let (begins, begun) = std::sync::mpsc::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel();
    *world.programs.compiles.lock().unwrap() = Some((begins, goes_on));
    let raise = |id: &str| Request::RaiseEvent {
        id: id.to_owned(),
        name: "go".to_owned(),
        data: Some(json(7)),
    };
    let deploy = Request::Deploy(Box::new(other(MENDED, "Listen")));
    ask(&world, "deploy", &deploy);
    ask(&world, "start", &start("Listen", "b", None));
    ask(&world, "behind", &raise("b"));
    ask(&world, "raise", &raise("a"));
    let take = || {
        let taken = world.block_on("the commands", host.engine.take_commands());
        taken.unwrap();
    };
    let reply = |token: &str| {
        let answer = host.engine.hub.reader.answer(token).unwrap();
        answer.map(|answer| crate::store::decode::<Reply>(&answer, "an answer").unwrap())
    };
    take();
    begun.recv_timeout(patience()).unwrap();
    assert_eq!(reply("raise"), Some(Reply::Done));
    assert_eq!(host.end("a"), "[7]");
    for waits in ["deploy", "start", "behind"] {
        assert_eq!(reply(waits), None, "{waits}");
    }
    go_on.send(()).unwrap();
    let began = Instant::now();
    let own = host.engine.partitions();
    let open = || host.engine.hub.reader.within(own).unanswered(10).unwrap();
    while !open().is_empty() {
        assert!(began.elapsed() < patience(), "they are never answered");
        take();
    }
    let deployed = reply("deploy");
    assert!(matches!(deployed, Some(Reply::Deployed(_))), "{deployed:?}");
    assert_eq!(reply("start"), Some(Reply::Done));
    assert_eq!(reply("behind"), Some(Reply::Done));
    assert_eq!(host.end("b"), "[7]");
    assert_eq!(host.row("b").unwrap().module, Some(MENDED));
    host.check_histories();
}

#[test]
fn commands_that_came_while_no_host_ran_are_taken_by_the_next() {
    let world = World::with("Listen", listens(1)).in_file();
    drop(world.open());
    ask(&world, "start", &start("Listen", "a", None));
    let host = world.open();
    world
        .block_on("the commands", host.engine.take_commands())
        .unwrap();
    host.raise("a", "go", 1);
    assert_eq!(host.end("a"), "[1]");
}

#[test]
fn a_start_with_an_id_in_use_is_refused_and_leaves_nothing() {
    let world = World::with("Listen", listens(1))
        .and("Fan", || {
            Box::new(|_, out| {
                out.call("Hold", 1);
                out.child("Listen", Some("kid"), None);
                out.timer(BEGIN + 1);
                waits()
            })
        })
        .in_file();
    let host = world.open();
    host.start("Listen", "a");
    let reply = host.submit(start("Fan", "a", None)).unwrap();
    assert!(matches!(reply, Reply::Rejected(_)), "{reply:?}");
    host.idle();
    assert_eq!(
        (world.more_held(), host.row("kid").is_none()),
        (0, true),
        "nothing leaves before its commit"
    );
    assert_eq!(host.count("SELECT count(*) FROM instance"), 1);
    assert_eq!(host.engine.memory.slots.all().len(), 1);
    // Of many starts at once, one wins.
    let all = (0..20).map(|_| host.engine.submit(start("Listen", "b", None)));
    let replies = world.block_on("the verdicts", futures::future::join_all(all));
    assert_eq!(
        replies
            .into_iter()
            .filter(|reply| matches!(reply, Ok(Reply::Done)))
            .count(),
        1
    );
}

#[test]
fn a_live_instance_is_replaced_with_everything_that_it_has() {
    let world = World::with("Fan", || {
        Box::new(|seen, out| {
            if seen.results.is_empty() {
                for n in 0..20 {
                    out.call("Hold", n);
                }
                out.timer(BEGIN + 100);
            }
            waits()
        })
    })
    .and("Listen", listens(1))
    .in_file();
    let host = world.open();
    host.start("Fan", "a");
    let held = world.held();
    host.raise("a", "go", 1);
    let replace = Request::Start(StartRequest {
        name: "Listen".to_owned(),
        version: None,
        id: "a".to_owned(),
        input: None,
        tags: Vec::new(),
        reuse: Reuse::Any,
        trace_parent: None,
        scheduled_for: None,
    });
    assert_eq!(host.submit(replace).unwrap(), Reply::Done);
    host.idle();
    assert!(held.attempt.interrupt.is_set());
    held.ends(Ok("1"));
    host.advance(100);
    host.idle();
    assert_eq!(host.count("SELECT (SELECT count(*) FROM task) + (SELECT count(*) FROM garbage) + (SELECT count(*) FROM inbox)"), 0);
    assert_eq!(host.engine.resident(), 1);
    host.raise("a", "go", 2);
    assert_eq!(host.end("a"), "[2]");
    host.check_histories();
}

#[test]
fn an_ended_instance_is_replaced_by_a_start_with_its_id() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    for n in 0..5 {
        host.start("Listen", "a");
        host.raise("a", "go", n);
        assert_eq!(host.end("a"), format!("[{n}]"));
    }
    host.idle();
    assert_eq!(host.count("SELECT count(DISTINCT instance) FROM turn"), 1);
}

#[test]
fn an_input_over_the_limit_is_refused_at_the_door() {
    let mut world = World::with("Listen", listens(1));
    world.config.limits.payload_bytes = 10;
    let host = world.open();
    let reply = host
        .submit(start("Listen", "a", Some(json("12345678901"))))
        .unwrap();
    assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
    assert!(host.row("a").is_none());
}

#[test]
fn what_clients_say_is_refused_by_one_rule_and_changes_nothing() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    let before = host.count("SELECT count(*) FROM turn");
    let deep = || Some(json("[".repeat(129) + &"]".repeat(129)));
    let with = |change: &dyn Fn(&mut StartRequest)| {
        let Request::Start(mut request) = start("Listen", "b", None) else {
            panic!("it is a start");
        };
        change(&mut request);
        Request::Start(request)
    };
    let raise = |name: &str, data| Request::RaiseEvent {
        id: "a".to_owned(),
        name: name.to_owned(),
        data,
    };
    let terminate = |reason: String| Request::Terminate {
        id: "a".to_owned(),
        reason: Some(reason),
        recursive: false,
    };
    let tag = |key: &'static str, value: &'static str| {
        with(&move |start| start.tags = vec![(key.to_owned(), value.to_owned())])
    };
    let id = |id: &'static str| with(&move |start| start.id = id.to_owned());
    let refused = [
        (id("."), "an instance id must not be \".\""),
        (id(".."), "an instance id must not be \"..\""),
        (
            id("a\u{202e}b"),
            "an instance id must not contain '\\u{202e}'",
        ),
        (id("a\u{9b}1m"), "an instance id must not contain '\\u{9b}'"),
        (
            with(&|start| start.input = deep()),
            "the payload has arrays and objects nested deeper than the 128 levels",
        ),
        (tag("k\0", "v"), "the key of a tag must not contain '\\0'"),
        (tag("k", "v\0"), "the value of a tag must not contain '\\0'"),
        (raise("go\0", None), "an event name must not contain '\\0'"),
        (
            raise("go\u{2066}", None),
            "an event name must not contain '\\u{2066}'",
        ),
        (
            raise("go", deep()),
            "the payload has arrays and objects nested deeper than the 128 levels",
        ),
        (
            terminate("why\0".to_owned()),
            "the reason must not contain '\\0'",
        ),
        (
            terminate("x".repeat((64 << 10) + 1)),
            "the reason has 65537 bytes; at most 65536 are allowed",
        ),
    ];
    for (request, expected) in refused {
        let said = format!("{request:?}");
        match host.submit(request).unwrap() {
            Reply::Refused { message, .. } => assert!(message.starts_with(expected), "{message}"),
            other => panic!("{said} was answered with {other:?}"),
        }
    }
    assert_eq!(host.count("SELECT count(*) FROM turn"), before);
    assert_eq!(host.count("SELECT count(*) FROM instance"), 1);
}

#[test]
fn an_instance_whose_id_older_hosts_let_in_is_still_managed() {
    let world = World::with("Listen", listens(1)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    host.meddle("UPDATE instance SET id = 'a\u{202e}b' WHERE id = 'a'");
    let terminate = Request::Terminate {
        id: "a\u{202e}b".to_owned(),
        reason: None,
        recursive: false,
    };
    assert_eq!(host.submit(terminate).unwrap(), Reply::Done);
}

#[test]
fn a_runtime_goes_on_while_more_waits_for_the_writer_than_there_is_room_for() {
    const RAISES: usize = 40;
    let world = World::with("Listen", listens(RAISES + 1)).in_file();
    let host = world.open();
    host.start("Listen", "a");
    // No other connection can write while this transaction lasts.
    let other = rusqlite::Connection::open(world.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let answered = Arc::new(AtomicUsize::new(0));
    let data = json(format!("\"{}\"", "x".repeat(900_000)));
    let raises: Vec<_> = (0..RAISES)
        .map(|_| {
            let (engine, data) = (Arc::clone(&host.engine), data.clone());
            let (asked, answered) = (Arc::clone(&asked), Arc::clone(&answered));
            world.spawn(async move {
                asked.fetch_add(1, Ordering::AcqRel);
                let raised = engine.submit(Request::RaiseEvent {
                    id: "a".to_owned(),
                    name: "go".to_owned(),
                    data: Some(data),
                });
                let raised = raised.await;
                answered.fetch_add(1, Ordering::AcqRel);
                raised
            })
        })
        .collect();
    // Runs on the same two threads, so it ends only if no waiting request blocks one.
    let ticks = world.spawn(async move {
        while asked.load(Ordering::Acquire) < RAISES {
            tokio::task::yield_now().await;
        }
        answered.load(Ordering::Acquire)
    });
    assert_eq!(world.block_on("the one that ticks", ticks).unwrap(), 0);
    other.execute_batch("COMMIT").unwrap();
    for raise in raises {
        // A request that waited too long is refused, with no other effect.
        let _ = world.block_on("a raise", raise).unwrap();
    }
    host.raise("a", "go", 1);
}
