//! Validators, and requests that are sent.

use expect_test::expect;

use super::{Subject, check, completed, failed, program, requested, run_turns};
use crate::bindings::orchestrations::{Cancellation, Event, Judgement, Proposal};
use crate::prelude::*;
use crate::{Orchestration, export, kind};

#[derive(Debug, PartialEq, FailureKind)]
enum ItemError {
    #[failure("nobody buys {0} of them", not_retryable)]
    TooMany(u32),
}

fn check_count(count: &u32) -> Result<(), ItemError> {
    if *count > 9 {
        return Err(ItemError::TooMany(*count));
    }
    Ok(())
}

/// A code, or none.
fn check_code(code: &Option<String>) -> Result<(), std::num::ParseIntError> {
    let code = code.as_ref().map(|code| code.parse::<u32>());
    code.transpose().map(drop)
}

#[orchestration(validate(AddItem = check_count, "pay-now" = check_code))]
async fn cart(ctx: Context) -> Result<u32, Failure> {
    let mut sum = 0;
    loop {
        match race(
            ctx.next_request::<u32, u32>("AddItem"),
            ctx.next_request::<Option<String>, ()>("pay-now"),
        )
        .await
        {
            Either::Left(add) => {
                let add = add?;
                sum += add.input();
                add.respond(&sum)?;
            }
            Either::Right(pay) => {
                pay?.respond(&())?;
                return Ok(sum);
            }
        }
    }
}

async fn plain(ctx: Context) -> Result<(), Failure> {
    ctx.event("End").await
}

static COMPONENT: [Orchestration; 2] = [
    cart::DEFINITION,
    Orchestration::new("Plain", program!(plain)),
];

fn validate(orchestration: &str, name: &str, input: &str) -> Result<(), String> {
    let proposal = Proposal {
        orchestration: orchestration.to_owned(),
        name: name.to_owned(),
        input: Some(input.to_owned()),
    };
    match export::validate(&COMPONENT, proposal) {
        Judgement::Accepted => Ok(()),
        Judgement::Declined(failure) => Err(format!("{}: {}", failure.kind, failure.message)),
    }
}

#[test]
fn a_request_is_judged_by_its_name_and_input() {
    assert_eq!(validate("Cart", "AddItem", "9"), Ok(()));
    assert_eq!(
        validate("Cart", "ADDITEM", "10"),
        Err("TooMany: nobody buys 10 of them".to_owned())
    );
    assert_eq!(validate("Cart", "pay-now", r#""12""#), Ok(()));
    assert_eq!(
        validate("Cart", "Pay-Now", r#""x""#),
        Err("ParseIntError: invalid digit found in string".to_owned())
    );
    let wrong = validate("Cart", "AddItem", "[]").expect_err("no number");
    assert!(
        wrong.starts_with(r#"InvalidInput: the input of request "AddItem" is not what"#),
        "{wrong}"
    );
    // Whatever has no validator passes.
    for (orchestration, name) in [("Cart", "Other"), ("Plain", "AddItem"), ("None", "AddItem")] {
        assert_eq!(validate(orchestration, name, "10"), Ok(()));
    }
}

#[test]
fn a_validator_also_judges_what_comes_in_before_anybody_asks_for_it() {
    async fn never(ctx: Context) -> Result<u32, Failure> {
        ctx.activity("Long", ()).await
    }
    let subject = |definition| Subject::of(vec![definition], Vec::new());
    let turns: &[&[Event]] = &[
        &[requested(0, "additem", "10"), requested(1, "AddItem", "4")],
        &[
            requested(2, "AddItem", "[]"),
            requested(3, "pay-now", r#""x""#),
        ],
        &[requested(4, "pay-now", r#""1""#)],
    ];
    let cart = Orchestration {
        name: "Test",
        ..cart::DEFINITION
    };
    expect![[r#"
        turn 1
          reject 0 TooMany: nobody buys 10 of them
          answer 1 4
          => waiting for events [], requests ["AddItem", "pay-now"], tasks []
        turn 2
          reject 2 InvalidInput: the input of request "AddItem" is not what was expected, `u32`: invalid type: sequence, expected u32 at line 1 column 0
          reject 3 ParseIntError: invalid digit found in string
          => waiting for events [], requests ["AddItem", "pay-now"], tasks []
        turn 3
          answer 4 null
          => completed 4
    "#]].assert_eq(&run_turns(subject(cart), turns));
    let busy = Orchestration {
        start: program!(never),
        ..cart
    };
    expect![[r#"
        turn 1
          activity 0 Long null
          reject 0 TooMany: nobody buys 10 of them
          => waiting for events [], tasks [0]
        turn 2
          reject 2 InvalidInput: the input of request "AddItem" is not what was expected, `u32`: invalid type: sequence, expected u32 at line 1 column 0
          reject 3 ParseIntError: invalid digit found in string
          => waiting for events [], tasks [0]
        turn 3
          => waiting for events [], tasks [0]
    "#]].assert_eq(&run_turns(subject(busy), turns));
}

#[test]
fn what_comes_after_the_end_moves_over_unjudged() {
    async fn again(ctx: Context) -> Result<(), Failure> {
        let request = ctx.next_request::<u32, ()>("AddItem").await?;
        request.respond(&())?;
        ctx.continue_as_new(())
    }
    let definition = Orchestration {
        name: "Test",
        start: program!(again),
        ..cart::DEFINITION
    };
    let asked = [
        requested(0, "AddItem", "1"),
        requested(1, "AddItem", "10"),
        requested(2, "AddItem", "2"),
    ];
    let turns = run_turns(Subject::of(vec![definition], Vec::new()), &[&asked]);
    expect![[r#"
        turn 1
          answer 0 null
          => continued Continuation { input: Some("null"), version: None, carry-over: [1, 2] }
    "#]]
    .assert_eq(&turns);
}

#[test]
fn validators_are_listed_by_either_macro() {
    let listed =
        |of: &Orchestration| -> Vec<&str> { of.validators.iter().map(|one| one.request).collect() };
    assert_eq!(listed(&cart::DEFINITION), ["AddItem", "pay-now"]);
    crate::__define! {
        orchestrations: {
            "A" (validate(AddItem = check_count), version = "2") => plain,
            "B" (description = "b", validate("add item" = check_count, Other = check_code,),) => plain,
            "C" (version = "3", description = "c") => plain,
            "D" => plain,
        }
    }
    let all: Vec<_> = ORCHESTRATIONS
        .iter()
        .map(|of| (of.name, of.version, of.description, listed(of)))
        .collect();
    assert_eq!(
        all,
        [
            ("A", Some("2"), None, vec!["AddItem"]),
            ("B", None, Some("b"), vec!["add item", "Other"]),
            ("C", Some("3"), Some("c"), vec![]),
            ("D", None, None, vec![]),
        ]
    );
    assert!(ORCHESTRATIONS.iter().all(|of| of.function.is_some()));
}

#[test]
fn a_request_is_sent_and_its_answer_is_awaited_like_any_task() {
    async fn asks(ctx: Context) -> Result<(u32, String), Failure> {
        let first = ctx.send_request::<u32>("cart-1", "AddItem", 4).start();
        let second = ctx.send_request::<String>("cart-2", "Name", ());
        futures::try_join!(second, first).map(|(second, first)| (first, second))
    }
    check(
        program!(asks),
        &[&[], &[completed(1, r#""two""#)], &[completed(0, "1")]],
        &expect![[r#"
            turn 1
              request 0 AddItem to cart-1 4
              request 1 Name to cart-2 null
              => waiting for events [], tasks [0, 1]
            turn 2
              => waiting for events [], tasks [0]
            turn 3
              => completed [1,"two"]
        "#]],
    );
    check(
        program!(asks),
        &[&[], &[failed(1, kind::NOT_ANSWERED)]],
        &expect![[r#"
            turn 1
              request 0 AddItem to cart-1 4
              request 1 Name to cart-2 null
              => waiting for events [], tasks [0, 1]
            turn 2
              cancel 0
              => failed NotAnswered: it failed (cause Some(1), causes [])
        "#]],
    );
    check(
        program!(asks),
        &[&[], &[completed(1, "[]")]],
        &expect![[r#"
            turn 1
              request 0 AddItem to cart-1 4
              request 1 Name to cart-2 null
              => waiting for events [], tasks [0, 1]
            turn 2
              cancel 0
              => failed InvalidOutput: the output of request "Name" is not what was expected, `alloc::string::String`: invalid type: sequence, expected a string at line 1 column 0 (cause None, causes [])
        "#]],
    );
}

#[test]
fn a_request_that_is_dropped_is_cancelled_and_one_that_cannot_be_written_is_not_sent() {
    async fn drops(ctx: Context) -> Result<&'static str, Failure> {
        drop(ctx.send_request::<()>("a", "NeverPolled", ()));
        drop(ctx.send_request::<()>("a", "Started", ()).start());
        ctx.send_request::<()>("a", "Detached", ())
            .start()
            .detach()?;
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        let unwritten = ctx.send_request::<()>("a", "Unwritten", keys).await;
        assert!(unwritten.is_err_and(|failure| failure.kind() == kind::INVALID_INPUT));
        let slow = ctx.send_request::<()>("a", "Slow", ());
        match race(slow, ctx.send_request::<()>("b", "Fast", ())).await {
            Either::Left(_) => Ok("slow"),
            Either::Right(_) => Ok("fast"),
        }
    }
    check(
        program!(drops),
        &[&[], &[completed(3, "null")]],
        &expect![[r#"
            turn 1
              request 0 Started to a null
              cancel 0
              request 1 Detached to a null
              request 2 Slow to a null
              request 3 Fast to b null
              => waiting for events [], tasks [2, 3]
            turn 2
              cancel 2
              => completed "fast"
        "#]],
    );
    async fn limited(ctx: Context) -> Result<(), Failure> {
        let answer = ctx.send_request::<()>("a", "Ask", ());
        ctx.timeout(Duration::from_secs(5), answer).await
    }
    check(
        program!(limited),
        &[&[], &[super::fired(1)]],
        &expect![[r#"
            turn 1
              request 0 Ask to a null
              timer 1 in 5000
              => waiting for events [], tasks [0, 1]
            turn 2
              cancel 0
              => failed Timeout: it was not done after 5s (cause Some(1), causes [])
        "#]],
    );
}

#[test]
fn a_cancellation_ends_the_wait_for_an_answer_and_lets_no_request_be_sent() {
    async fn asks(ctx: Context) -> Result<(), Failure> {
        let answer = ctx.send_request::<()>("a", "First", ()).await;
        let second = ctx.send_request::<()>("a", "Second", ()).await;
        assert!(second.is_err_and(|failure| failure.kind() == kind::CANCELED));
        ctx.shielded(ctx.send_request::<()>("a", "Third", ()))
            .await?;
        answer
    }
    let canceled = Event::CancellationRequested(Cancellation {
        reason: None,
        timed_out: false,
        deadline: 60_000,
    });
    check(
        program!(asks),
        &[&[], &[canceled], &[completed(1, "null")]],
        &expect![[r#"
            turn 1
              request 0 First to a null
              => waiting for events [], tasks [0]
            turn 2
              cancel 0
              request 1 Third to a null
              => waiting for events [], tasks [1]
            turn 3
              => canceled
        "#]],
    );
}
