//! Reused ids, skipped starts, and the status shown across executions.

use super::rewind::{calls, restart};
use super::world::*;
use crate::store::Reply;
use perennial_core::{Action, Event, Status};

fn completing(text: &'static str) -> impl Fn() -> Logic + Send + Sync {
    move || Box::new(move |_, _| completes(text))
}

/// The skipped starts in a history, with their reasons.
fn skipped(host: &Host<'_>, id: &str) -> Vec<(String, String)> {
    let skipped = host.events(id).into_iter().filter_map(|event| {
        let Event::InstanceStartSkipped {
            instance_id,
            reason,
        } = event
        else {
            return None;
        };
        Some((instance_id, reason))
    });
    skipped.collect()
}

#[test]
fn the_id_of_a_child_that_has_ended_is_used_again_round_after_round() {
    let world = World::with("Eternal", || {
        let mut called = 0;
        Box::new(move |seen, out| {
            // Twice in each round.
            if called == seen.results.len() && called < 2 {
                called += 1;
                let input = Some(json(seen.number() * 10 + called as u64));
                out.child_with("Kid", Some("kid"), input, None);
            }
            match (seen.results.len(), seen.number()) {
                (2, 3) => completes(format!("[{},{}]", seen.result(0), seen.result(1))),
                (2, round) => continues(round + 1, Vec::new()),
                _ => waits(),
            }
        })
    })
    .and("Kid", || Box::new(|seen, _| completes(seen.number())))
    .in_file();
    let host = world.open();
    host.start_with("Eternal", "e", 0);
    assert_eq!(host.end("e"), "[31,32]");
    host.idle();
    assert_eq!(
        host.count("SELECT count(*) FROM instance WHERE id = 'kid'"),
        1
    );
    assert_eq!(host.count("SELECT count(*) FROM garbage"), 0);
    host.check_histories();
}

#[test]
fn a_parent_with_named_children_can_be_restarted() {
    let world = World::with("Parent", calls("Kid", Some("kid"))).and("Kid", completing("5"));
    let host = world.open();
    host.start("Parent", "p");
    assert_eq!(host.end("p"), "5");
    let first = host.row("kid").unwrap().key;
    for _ in 0..3 {
        assert_eq!(restart(&host, "p", None), Reply::Done);
        assert_eq!(host.end("p"), "5");
    }
    let kid = host.row("kid").unwrap();
    assert_ne!(kid.key, first);
    assert_eq!(kid.parent_key, Some(host.row("p").unwrap().key));
    host.check_histories();
}

#[test]
fn the_id_of_an_instance_that_lives_is_its_own() {
    let world = World::with("Parent", calls("Kid", Some("kid")))
        .and("Kid", completing("5"))
        .and("Listen", listens(1))
        .and("Starts", || {
            Box::new(|_, out| {
                out.start("Kid", "kid");
                completes(1)
            })
        });
    let host = world.open();
    host.start("Listen", "kid");
    host.suspend("kid");
    host.start("Parent", "p");
    assert_eq!(host.end("p"), "InstanceExists");
    host.start("Starts", "s");
    assert_eq!(host.end("s"), "1");
    host.idle();
    let [(id, reason)] = &skipped(&host, "s")[..] else {
        panic!("{:?}", host.events("s"));
    };
    assert_eq!(id, "kid");
    assert!(reason.contains("Suspended"), "{reason}");
    host.resume("kid");
    host.raise("kid", "go", 1);
    assert_eq!(host.end("kid"), "[1]");
    host.start("Starts", "again");
    assert_eq!(host.end("again"), "1");
    assert_eq!(skipped(&host, "again"), []);
    assert_eq!(host.end("kid"), "5");
    host.check_histories();
}

#[test]
fn a_child_whose_id_goes_to_another_parent_has_told_its_own_parent_once() {
    let world = World::with("Patient", || {
        Box::new(|seen, out| {
            if out.is_first() {
                out.child("Kid", Some("kid"), None);
            }
            match (seen.has(0), seen.events.len()) {
                (true, 1) => completes(seen.result(0)),
                _ => waits(),
            }
        })
    })
    .and("Parent", calls("Kid", Some("kid")))
    .and("Kid", completing("5"));
    let host = world.open();
    host.start("Patient", "first");
    host.until("first", |row| row.turns == 2);
    host.suspend("first");
    host.start("Parent", "second");
    assert_eq!(host.end("second"), "5");
    host.resume("first");
    host.raise("first", "go", 1);
    assert_eq!(host.end("first"), "5");
    let told = |event: &&Event| {
        matches!(
            event,
            Event::ChildCompleted { .. } | Event::ChildFailed { .. }
        )
    };
    assert_eq!(host.events("first").iter().filter(told).count(), 1);
    host.check_histories();
}

#[test]
fn what_was_not_started_stands_in_the_history_however_the_starter_goes_on() {
    let world = World::with("Starts", || {
        let mut asked = false;
        Box::new(move |seen, out| {
            let round = seen.number();
            // Four skipped starts: its own id, an id in use, an unknown name, an invalid id.
            if !std::mem::replace(&mut asked, true) && round != 9 {
                out.start("Kid", &seen.id.clone());
                out.start("Kid", "taken");
                out.start("Missing", "lost");
                out.start("Kid", "a/b");
            }
            match round {
                0 => completes(1),
                1 => fails("Gone"),
                2 => continues(9, Vec::new()),
                9 if seen.events.is_empty() => waits(),
                3 if seen.events.is_empty() => waits(),
                _ => completes(2),
            }
        })
    })
    .and("Kid", completing("5"))
    .and("Listen", listens(1));
    let world = world.with_one_engine();
    let host = world.open();
    host.start("Listen", "taken");
    for (input, id, end) in [(0, "completes", "1"), (1, "fails", "Gone")] {
        host.start_with("Starts", id, input);
        assert_eq!(host.end(id), end);
        let ids: Vec<String> = skipped(&host, id).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [id, "taken", "lost", "a/b"]);
    }
    for (input, id) in [(2, "continues"), (3, "lives")] {
        host.start_with("Starts", id, input);
        host.until(id, |_| skipped(&host, id).len() == 4);
        host.raise(id, "go", 1);
        assert_eq!(host.end(id), "2");
        assert_eq!(skipped(&host, id).len(), 4);
    }
    assert!(host.row("lost").is_none());
    // An instance that failed so can be rewound, and begins again.
    super::rewind::rewind(&host, "fails");
    assert_eq!(host.end("fails"), "Gone");
    assert_eq!(skipped(&host, "fails").len(), 4);
    host.check_histories();
    drop(host);
    let host = world.open();
    host.check_histories();
}

#[test]
fn a_refusal_that_waited_while_the_starter_was_suspended_is_noted_at_its_end() {
    let world = World::with("Starts", || {
        Box::new(|seen, out| {
            // A suspension already waits when it receives the first event.
            if seen.events.len() == 1 && out.is_first() {
                out.start("Kid", "taken");
            }
            waits()
        })
    })
    .and("Kid", completing("5"))
    .and("Listen", listens(1))
    .in_file();
    let host = world.open();
    host.start("Listen", "taken");
    host.start("Starts", "s");
    host.suspend("s");
    let message = perennial_core::Message::StartSkipped {
        instance_id: "taken".to_owned(),
        reason: "it exists".to_owned(),
    };
    let bytes = crate::store::encode(&message).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    host.meddle(&format!(
        "INSERT INTO inbox (instance, seq, message) SELECT key, inbox_next, x'{hex}' FROM instance WHERE id = 's';
         UPDATE instance SET inbox_next = inbox_next + 1 WHERE id = 's'"
    ));
    host.terminate("s");
    assert_eq!(host.end("s"), "Terminated");
    let noted = ("taken".to_owned(), "it exists".to_owned());
    assert_eq!(skipped(&host, "s"), [noted]);
    host.check_histories();
}

#[test]
fn there_is_no_room_and_the_starter_that_ends_says_so() {
    let mut world = World::with("Starts", || {
        Box::new(|seen, out| {
            if seen.events.is_empty() {
                return waits();
            }
            out.start("Listen", "one");
            completes(1)
        })
    })
    .and("Listen", listens(1));
    world.config.quotas.instances = Some(2);
    let host = world.open();
    host.start("Listen", "other");
    host.start("Starts", "s");
    host.raise("s", "go", 1);
    assert_eq!(host.end("s"), "1");
    let [(id, reason)] = &skipped(&host, "s")[..] else {
        panic!("{:?}", host.events("s"));
    };
    assert_eq!(id, "one");
    assert!(reason.contains("was not started"), "{reason}");
    host.check_histories();
}

#[test]
fn the_custom_status_stays_over_continue_as_new_until_it_is_set_again() {
    let world = World::with("Shows", || {
        Box::new(|seen, out| {
            let round = seen.number();
            if round == 0 {
                out.push(Action::SetCustomStatus(Some(json("\"early\""))));
            }
            match (round, seen.events.len()) {
                (0 | 1, _) => continues(round + 1, Vec::new()),
                (_, 0) => waits(),
                (_, 1) => {
                    out.push(Action::SetCustomStatus(Some(json("\"late\""))));
                    waits()
                }
                (_, _) => completes(1),
            }
        })
    });
    let host = world.open();
    let shown = |host: &Host<'_>| {
        let status = host.row("a").unwrap().custom_status;
        status.map(|status| status.to_string())
    };
    host.start_with("Shows", "a", 0);
    host.until("a", |row| row.execution == 2 && row.turns == 1);
    assert_eq!(shown(&host).as_deref(), Some("\"early\""));
    // The status stays after any reload, and in turns without a guest.
    host.suspend("a");
    assert_eq!(shown(&host).as_deref(), Some("\"early\""));
    host.evict_all();
    host.resume("a");
    host.until("a", |row| row.status == Status::Running);
    assert_eq!(shown(&host).as_deref(), Some("\"early\""));
    host.raise("a", "go", 1);
    host.until("a", |_| shown(&host).as_deref() == Some("\"late\""));
    host.raise("a", "go", 2);
    assert_eq!(host.end("a"), "1");
    assert_eq!(shown(&host).as_deref(), Some("\"late\""));
    host.check_histories();
}
