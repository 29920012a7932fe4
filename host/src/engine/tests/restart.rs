//! Refused rewinds, rewinds onto another module, and restarts.

use super::rewind::*;
use super::world::*;
use crate::engine::{Request, RewindRequest};
use crate::store::{Reply, Rewound};
use perennial_core::{Event, Rejection, Status, TaskId};

#[test]
fn a_rewind_of_what_has_not_failed_is_refused() {
    let world = World::with("Listen", listens(1));
    let host = world.open();
    let refused = |id: &str| match host.submit(rewind_request(id)).unwrap() {
        Reply::Rejected(rejection) => rejection,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("nobody"), Rejection::NotFound);
    host.start("Listen", "a");
    assert_eq!(refused("a"), Rejection::NotFailed(Status::Running));
    host.raise("a", "go", 1);
    host.end("a");
    assert_eq!(refused("a"), Rejection::NotFailed(Status::Completed));
}

#[test]
fn a_module_that_cannot_go_on_with_it_is_refused() {
    let world = World::with("Order", in_turn(&["Pay"]));
    breakable(&world, "Pay");
    let host = world.open();
    host.start("Order", "a");
    host.end("a");
    let with = |module: &str| {
        let request = RewindRequest {
            id: "a".to_owned(),
            reason: None,
            module: Some(module.to_owned()),
        };
        host.submit(Request::Rewind(request)).unwrap()
    };
    assert!(
        matches!(with("nothing"), Reply::Refused { message, .. } if message.contains("there is no module"))
    );
    let digest = MODULE.to_string();
    assert!(matches!(with(&digest[..8]), Reply::Rewound(_)));
    assert_eq!(host.end("a"), "Down");
    assert!(matches!(with("all"), Reply::Rewound(_)));
}

#[test]
fn a_rewound_instance_goes_on_with_another_module_if_that_repeats_its_history() {
    use super::modules::{deploy, other};
    use perennial_core::Digest;

    let world = World::with("Order", in_turn(&["Echo", "Pay"]))
        .and("Order#8", in_turn(&["Echo", "Echo", "Echo"]))
        .and("Order#9", in_turn(&["Pay", "Pay"]));
    let _never_mended = breakable(&world, "Pay");
    let host = world.open();
    for id in ["a", "b"] {
        host.start("Order", id);
        assert_eq!(host.end(id), "Down");
    }
    deploy(&host, other(Digest([9; 32]), "Order"));
    deploy(&host, other(Digest([8; 32]), "Order"));
    let rewind_with = |id: &str, module: &str| {
        let request = RewindRequest {
            id: id.to_owned(),
            reason: None,
            module: Some(module.to_owned()),
        };
        let reply = host.submit(Request::Rewind(request)).unwrap();
        assert!(matches!(reply, Reply::Rewound(_)), "{reply:?}");
    };
    // The failed call was made before the cut, so the other module must make it too.
    rewind_with("a", "module-8");
    let why = host
        .until("a", |row| row.quarantine.is_some())
        .quarantine
        .unwrap();
    assert_eq!((why.turn, why.module), (Some(1), Some(Digest([8; 32]))));
    rewind_with("b", "module-9");
    let why = host
        .until("b", |row| row.quarantine.is_some())
        .quarantine
        .unwrap();
    assert_eq!(why.turn, Some(0));
    drop(host);
    let world = world.and("Order#8", in_turn(&["Echo", "Pay", "Echo"]));
    world.activities.add("Pay", |attempt| Ok(attempt.input));
    let host = world.open();
    host.resume("a");
    assert_eq!(host.end("a"), "2");
    assert_eq!(host.row("a").unwrap().module, Some(Digest([8; 32])));
}

#[test]
fn a_restart_is_the_next_execution_and_nobodys_child() {
    let world = World::with("Parent", calls("Echoes", Some("kid")))
        .and("Echoes", || {
            Box::new(|seen, _| match seen.events.len() {
                0 => waits(),
                _ => completes(seen.number()),
            })
        })
        .in_file();
    let host = world.open();
    host.start("Parent", "p");
    host.until("kid", |row| row.status == Status::Running);
    let refused = restart(&host, "kid", None);
    assert_eq!(
        refused,
        Reply::Rejected(Rejection::NotTerminal(Status::Running))
    );
    host.raise("kid", "go", 1);
    assert_eq!(host.end("p"), "0");
    let before = host.row("kid").unwrap();
    assert_eq!(restart(&host, "kid", None), Reply::Done);
    let after = host.until("kid", |row| row.status == Status::Running);
    assert_eq!(
        (before.key, before.execution, after.execution),
        (after.key, 0, 1)
    );
    assert_ne!(before.execution_id, after.execution_id);
    assert_eq!(
        (after.parent, after.parent_key, after.output),
        (None, None, None)
    );
    host.raise("kid", "go", 1);
    assert_eq!(host.end("kid"), "0");
    host.idle();
    assert_eq!(host.count("SELECT count(*) FROM garbage"), 0);
    host.check_histories();
}

#[test]
fn a_restart_has_the_input_even_of_what_never_began() {
    let world = World::with("Number", || Box::new(|seen, _| completes(seen.number())));
    let host = world.open();
    host.start_with("Number", "a", 9);
    assert_eq!(host.end("a"), "9");
    assert_eq!(restart(&host, "a", Some("b")), Reply::Done);
    assert_eq!(host.end("b"), "9");
    assert_eq!(
        restart(&host, "a", Some("b")),
        Reply::Rejected(Rejection::AlreadyExists(Status::Completed))
    );
    assert_eq!(
        restart(&host, "nobody", None),
        Reply::Rejected(Rejection::NotFound)
    );
    assert_eq!(
        restart(&host, "nobody", Some("c")),
        Reply::Rejected(Rejection::NotFound)
    );
    for _ in 0..3 {
        assert_eq!(restart(&host, "a", None), Reply::Done);
        assert_eq!(host.end("a"), "9");
    }
    assert_eq!(host.row("a").unwrap().execution, 3);
    host.check_histories();
}

#[test]
fn the_answer_of_a_rewind_survives_the_file() {
    let done = Rewound {
        activities: vec![(TaskId(1), "Pay".to_owned())],
        cut_events: 7,
        ..Rewound::default()
    };
    let bytes = crate::store::encode(&Reply::Rewound(Box::new(done.clone()))).unwrap();
    assert_eq!(
        crate::store::decode::<Reply>(&bytes, "an answer").unwrap(),
        Reply::Rewound(Box::new(done))
    );
    let is_cut = |event: &Event| matches!(event, Event::ExecutionFailed { .. });
    let world = World::with("Order", in_turn(&["Pay"]));
    breakable(&world, "Pay");
    let host = world.open();
    host.start("Order", "a");
    host.end("a");
    assert_eq!(
        host.events("a")
            .iter()
            .filter(|event| is_cut(event))
            .count(),
        1
    );
}
