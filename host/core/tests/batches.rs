//! Which messages make a turn.

mod common;

use common::words::*;
use common::{Deployed, Script, World};
use expect_test::expect;
use perennial_core::{Envelope, Message, State, Timestamp, TurnContext, run_turn, take_batch};

#[test]
fn a_batch_has_at_most_a_thousand_messages() {
    let world = World::new([waits([])]).runs_at(1000);
    let mut mail = (0..2500)
        .map(|_| Envelope::in_memory(raised("a", "1")))
        .collect();
    let sizes: Vec<usize> = std::iter::repeat_with(|| {
        take_batch(&world.state, &mut mail, Timestamp(2000))
            .envelopes
            .len()
    })
    .take(4)
    .collect();
    assert_eq!(sizes, [1000, 1000, 500, 0]);
}

#[test]
fn a_batch_has_at_most_four_mebibytes_unless_its_first_message_alone_is_larger() {
    let world = World::new([waits([])]).runs_at(1000);
    let of =
        |kib: usize| Envelope::in_memory(raised("a", &format!("\"{}\"", "x".repeat(kib << 10))));
    let mut mail = [of(5000), of(1000), of(3000), of(1000), of(5000), of(1)].into();
    let sizes: Vec<usize> = std::iter::repeat_with(|| {
        take_batch(&world.state, &mut mail, Timestamp(2000))
            .envelopes
            .len()
    })
    .take(6)
    .collect();
    assert_eq!(sizes, [1, 2, 1, 1, 1, 0]);
}

#[test]
fn what_is_no_batch_is_refused_and_nothing_is_lost() {
    let refused = |state: &mut State, messages: Vec<Message>| {
        let before = state.clone();
        let mut context = TurnContext {
            now: Timestamp(2000),
            names: &Deployed,
            fresh: &mut || ("e1".to_owned(), 8),
        };
        let mut guest = Script::new(&[]);
        let problem = run_turn(state, messages, &mut context, &mut guest).unwrap_err();
        assert_eq!(*state, before);
        problem.to_string()
    };
    let mut running = World::new([waits([])]).runs_at(1000).state;
    let mut suspended = World::new([waits([])])
        .runs_at(1000)
        .gets([suspend()])
        .runs_at(1500)
        .state;
    expect!["these messages make no turn: a command has a turn of its own"]
        .assert_eq(&refused(&mut running, vec![suspend(), raised("a", "1")]));
    expect!["these messages make no turn: the instance is suspended"]
        .assert_eq(&refused(&mut suspended, vec![raised("a", "1")]));
    expect!["these messages make no turn: the execution has not begun"]
        .assert_eq(&refused(&mut State::new(0), vec![raised("a", "1")]));
}

#[test]
fn a_scheduled_start_waits_for_its_time_and_only_commands_are_taken_before() {
    let start = perennial_core::Start {
        scheduled_for: Some(Timestamp(5_000)),
        ..common::start()
    };
    let state = State::new(0);
    let mail = [
        raised("early", "1"),
        Message::Start(Box::new(start)),
        suspend(),
    ];
    let mut mail = mail.into_iter().map(Envelope::in_memory).collect();
    let mut taken = |now| {
        take_batch(&state, &mut mail, Timestamp(now))
            .envelopes
            .len()
    };
    assert_eq!(
        [taken(4_999), taken(4_999), taken(5_000), taken(5_000)],
        [1, 0, 2, 0]
    );
}
