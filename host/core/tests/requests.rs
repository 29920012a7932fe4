//! Requests: received, answered, refused, carried over, sent, and gone back before.

mod common;

use common::words::*;
use common::{World, start};
use perennial_core::{
    Cut, CutFinder, Envelope, Failure, Message, Rewind, Rewinder, Scope, TaskRef, Timestamp, kind,
};

fn ended(of: u32, outcome: Result<&str, &str>) -> Message {
    Message::RequestEnded {
        task: task(of),
        outcome: match outcome {
            Ok(output) => Ok(Some(json(output))),
            Err(kind) => Err(Failure::permanent(kind, "")),
        },
    }
}

#[test]
fn requests_count_with_events_and_are_answered_in_any_order() {
    let world = World::new([
        waits([]),
        waits([respond(2, "20"), value("stage", Some("1"))]),
        completes([reject(0, "Declined")], "3"),
    ])
    .runs_at(1_000)
    .gets([
        request("AddItem", "a"),
        raised("go", "1"),
        request("AddItem", "b"),
    ])
    .runs_at(1_100)
    .gets([raised("go", "2")])
    .runs_at(1_200);
    expect_test::expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
        at 1100
           2 < TurnStarted now=1100 after 2 events, 172 bytes
           3 < RequestReceived 0 AddItem 1 id=a
           4 < ExternalEventRaised 1 go 1
           5 < RequestReceived 2 AddItem 1 id=b
           6 > RequestAnswered Some(2) 20 id=b
           7 > ValueSet stage 1
        at 1200
           8 < TurnStarted now=1200 after 8 events, 298 bytes
           9 < ExternalEventRaised 3 go 2
          10 > RequestAnswered Some(0) Declined id=a
          11 > ExecutionCompleted 3
    "#]]
    .assert_eq(&world.told());
}

#[test]
fn an_answer_to_no_open_request_breaks_the_contract() {
    for wrong in [
        vec![respond(7, "1")],
        vec![respond(0, "1"), respond(0, "2")],
        vec![respond(1, "1")],
    ] {
        let world = World::new([waits([]), waits(wrong)])
            .runs_at(1_000)
            .gets([request("AddItem", "a"), raised("go", "1")])
            .runs_at(1_100);
        let told = world.told();
        assert!(
            told.contains("ExecutionFailed InvalidAnswer: it answered request"),
            "{told}"
        );
    }
}

#[test]
fn continuing_as_new_carries_over_what_is_not_answered() {
    let world = World::new([
        waits([]),
        ends([respond(0, "1")], continues(None, &[1]).ending),
    ])
    .runs_at(1_000)
    .gets([request("AddItem", "a"), request("AddItem", "b")])
    .runs_at(1_100);
    assert!(
        world.told().contains("ContinuedAsNew 2 carrying [1]"),
        "{}",
        world.told()
    );
    let carried: Vec<Message> = (world.events().iter())
        .filter_map(Message::carried_over)
        .collect();
    assert!(
        matches!(&carried[1], Message::Request { number: Some(1), id, .. } if id == "b"),
        "{carried:?}"
    );

    for (actions, carry_over, says) in [
        (
            vec![],
            vec![1],
            "has neither answered request 0 nor carries it over",
        ),
        (
            vec![respond(0, "1")],
            vec![0, 1],
            "carries over request 0, which it has answered",
        ),
        (
            vec![respond(0, "1")],
            vec![],
            "has neither answered request 1 nor carries it over",
        ),
    ] {
        let world = World::new([
            waits([]),
            ends(actions, continues(None, &carry_over).ending),
        ])
        .runs_at(1_000)
        .gets([request("AddItem", "a"), request("AddItem", "b")])
        .runs_at(1_100);
        assert!(world.told().contains(says), "{}", world.told());
    }
}

#[test]
fn who_cannot_answer_is_not_asked() {
    // A remote worker, or contract 0.1.
    let mut remote = start();
    remote.module = None;
    let world = World::with_start(remote, [Ok(waits([]))])
        .runs_at(1_000)
        .gets([request("AddItem", "a")])
        .runs_at(1_100);
    let told = world.told();
    assert!(
        told.contains("   2 > RequestAnswered")
            || told.contains("   2 < RequestAnswered None NotAnswered: "),
        "{told}"
    );
    assert!(world.mail.is_empty());

    // One that has returned, and waits for what it has started.
    let world = World::new([ends([activity(0, "A", "0")], completes([], "1").ending)])
        .runs_at(1_000)
        .gets([request("AddItem", "a")])
        .runs_at(1_100)
        .gets([activity_done(0, "1")])
        .runs_at(1_200);
    let told = world.told();
    assert!(
        told.contains("< RequestAnswered None NotAnswered: the orchestration has returned"),
        "{told}"
    );
    assert!(told.contains("ExecutionCompleted 1"), "{told}");
}

#[test]
fn a_request_to_another_instance_is_a_task() {
    let world = World::new([
        waits([
            send_request(0, "cart", "Total"),
            send_request(1, "cart", "Pay"),
            send_request(2, "c/rt", "Pay"),
            send_request(3, "cart", "Late"),
        ]),
        waits([cancel(3)]),
        completes([], "1"),
    ])
    .runs_at(1_000)
    .gets([ended(0, Ok("20")), ended(0, Ok("21"))])
    .runs_at(1_100)
    .gets([ended(3, Ok("1"))])
    .runs_at(1_150)
    .gets([ended(1, Err("Declined"))])
    .runs_at(1_200);
    expect_test::expect![[r#"
        at 1000
           0 < TurnStarted now=1000 after 0 events, 0 bytes
           1 < ExecutionStarted Order execution=0 id=e0 next_external=0
           2 > RequestSent 0 Total to cart 1 id=e0:0
           3 > RequestSent 1 Pay to cart 1 id=e0:1
           4 > RequestSent 2 Pay to c/rt - id=e0:2 refused: InvalidAnswer: request "Pay" was not sent: an instance id must not contain '/': control characters, those that change the direction of text, and / \ # ? are not allowed
           5 > RequestSent 3 Late to cart 1 id=e0:3
        at 1100
           6 < TurnStarted now=1100 after 6 events, 286 bytes
           7 < RequestCompleted 0 20
           8 > TaskCanceled 3
        at 1150 nothing changes
        at 1200
           9 < TurnStarted now=1200 after 9 events, 336 bytes
          10 < RequestFailed 1 Declined
          11 > ExecutionCompleted 1
    "#]]
    .assert_eq(&world.told());
}

fn cut_of(world: &World) -> Cut {
    let mut finder = CutFinder::default();
    world.turns.iter().for_each(|turn| finder.see(turn));
    finder.cut(Scope::Together).expect("it failed")
}

fn rewind(world: &World, cut: &Cut) -> Rewind {
    let mut rewinder = Rewinder::new(cut, 1);
    for turn in &world.turns {
        rewinder.see(turn).expect("it can be read");
    }
    let unread = world
        .mail
        .iter()
        .map(|envelope: &Envelope| envelope.message.clone());
    rewinder
        .finish(unread.collect::<Vec<_>>(), Timestamp(9_000))
        .expect("it can be cut")
}

/// A request whose answer failed the execution is sent anew, under another id: the first answer stands.
#[test]
fn a_rewind_goes_back_to_before_a_request_that_failed() {
    let world = World::new([
        waits([activity(0, "A", "0")]),
        waits([send_request(1, "cart", "Pay")]),
        fails("Declined", Some(1)),
        waits([send_request(1, "cart", "Pay")]),
    ])
    .runs_at(1_000)
    .gets([activity_done(0, "1")])
    .runs_at(1_100)
    .gets([ended(1, Err("Declined"))])
    .runs_at(1_200);
    let cut = cut_of(&world);
    assert_eq!(cut.turn, 1);
    let rewind = rewind(&world, &cut);
    assert!(rewind.requests.is_empty());
    assert!(
        matches!(&rewind.inbox[..], [Message::ActivityEnded { .. }]),
        "{:?}",
        rewind.inbox
    );
    let (mut state, mut guest) = (
        rewind.state,
        common::Script::new(&[Ok(waits([send_request(1, "cart", "Pay")]))]),
    );
    let mut context = perennial_core::TurnContext {
        now: Timestamp(9_000),
        names: &common::Deployed,
        fresh: &mut || ("e1".to_owned(), 8),
    };
    let turn = perennial_core::run_turn(&mut state, rewind.inbox, &mut context, &mut guest);
    let turn = turn.expect("it runs").expect("it changes something");
    assert!(
        show(&turn.produced[0]).contains("id=e0:1:1"),
        "{}",
        show(&turn.produced[0])
    );
}

/// What was asked of it from the cut on comes again, what it asked and got an answer to keeps it, and what is still open stays open.
#[test]
fn a_rewind_keeps_what_was_asked_and_answered() {
    let world = World::new([
        waits([
            send_request(0, "cart", "Kept"),
            send_request(1, "cart", "Failed"),
            send_request(2, "cart", "Open"),
        ]),
        waits([respond(0, "1")]),
        waits([activity(3, "A", "0")]),
        waits([]),
        fails("Gone", Some(3)),
    ])
    .runs_at(1_000)
    .gets([request("Ask", "a")])
    .runs_at(1_100)
    .gets([raised("go", "1")])
    .runs_at(1_200)
    .gets([
        request("Ask", "b"),
        ended(0, Ok("5")),
        ended(1, Err("Declined")),
    ])
    .runs_at(1_250)
    .gets([activity_failed(3, "Gone")])
    .runs_at(1_300)
    .gets([request("Ask", "c")]);
    let mut cut = cut_of(&world);
    assert_eq!(cut.turn, 4);
    // As if something else had failed in the turn before.
    cut.turn = 3;
    let rewind = rewind(&world, &cut);
    let generation_of = |message: &Message| match message {
        Message::RequestEnded { task, outcome } => format!("{:?} {}", task, outcome.is_ok()),
        Message::Request { id, number, .. } => format!("{id} {number:?}"),
        other => format!("{other:?}"),
    };
    let again: Vec<String> = rewind.inbox.iter().map(generation_of).collect();
    let own = |of: u32| TaskRef {
        generation: 1,
        ..task(of)
    };
    assert_eq!(
        again,
        [
            "b None".to_owned(),
            format!("{:?} true", own(0)),
            format!("{:?} false", own(1)),
            "c None".to_owned()
        ]
    );
    assert_eq!(
        rewind
            .requests
            .iter()
            .map(|task| task.0)
            .collect::<Vec<_>>(),
        [2]
    );
    assert!(
        rewind
            .state
            .running()
            .is_some_and(|running| running.requests.is_empty())
    );
}

#[test]
fn an_answer_over_the_limit_is_a_verdict_and_a_failure_is_cut() {
    let mut small = start();
    small.limits.payload_bytes = 8;
    let long = "\"0123456789\"";
    let world = World::with_start(
        small.clone(),
        [Ok(waits([])), Ok(waits([respond(0, long)]))],
    )
    .runs_at(1_000)
    .gets([request("Ask", "a")])
    .runs_at(1_100);
    assert!(
        world
            .told()
            .contains("LimitExceeded: bytes of an answer to a request"),
        "{}",
        world.told()
    );

    let mut failure = Failure::permanent("Declined", "x".repeat(1 << 20));
    failure.details = Some(json(long));
    let outcome = Err(failure);
    let rejected = perennial_core::Action::Respond { number: 0, outcome };
    let mut roomy = start();
    roomy.limits.payload_bytes = 8;
    roomy.limits.action_bytes_per_turn = 4 << 20;
    let world = World::with_start(roomy, [Ok(waits([])), Ok(waits([rejected]))])
        .runs_at(1_000)
        .gets([request("Ask", "a")])
        .runs_at(1_100);
    assert!(world.told().contains("(cut: 1048576 bytes)"));
    assert_eq!(kind::NOT_ANSWERED, "NotAnswered");
}
