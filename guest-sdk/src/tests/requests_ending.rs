//! What becomes of requests when the orchestration ends, continues as new or is cancelled.

use expect_test::expect;

use super::{Subject, check, completed, program, raised, render, requested};
use crate::bindings::orchestrations::{Cancellation, Event};
use crate::prelude::*;

fn canceled() -> Event {
    Event::CancellationRequested(Cancellation {
        reason: None,
        timed_out: false,
        deadline: 60_000,
    })
}

#[test]
fn what_nobody_took_moves_over_also_where_events_are_dropped() {
    async fn keeps(ctx: Context) -> Result<(), Failure> {
        ctx.event::<()>("go").await?;
        ctx.continue_as_new(1)
    }
    async fn drops(ctx: Context) -> Result<(), Failure> {
        ctx.event::<()>("go").await?;
        ctx.continuation(1).discard_events().end()
    }
    let turns: &[&[Event]] = &[
        &[requested(0, "Ask", "1"), raised(1, "Other", "1")],
        &[
            requested(2, "Add", "1"),
            raised(3, "go", "null"),
            requested(4, "Ask", "2"),
            raised(5, "Other", "2"),
        ],
    ];
    check(
        program!(keeps),
        turns,
        &expect![[r#"
        turn 1
          => waiting for events ["go"], tasks []
        turn 2
          => continued Continuation { input: Some("1"), version: None, carry-over: [0, 1, 2, 4, 5] }
    "#]],
    );
    check(
        program!(drops),
        turns,
        &expect![[r#"
        turn 1
          => waiting for events ["go"], tasks []
        turn 2
          => continued Continuation { input: Some("1"), version: None, carry-over: [0, 2, 4, 5] }
    "#]],
    );
}

#[test]
fn what_was_taken_and_not_answered_is_rejected_before_the_next_execution() {
    async fn holds(ctx: Context) -> Result<(), Failure> {
        let mut requests = ctx.requests::<u32, u32>("Ask");
        let answered = requests.next().await.expect("no end")?;
        let dropped = requests.next().await.expect("no end")?;
        // A value that is never dropped.
        std::mem::forget(requests.next().await.expect("no end")?);
        // A waiter that holds one, and has not looked.
        let mut holding = Box::pin(requests.next());
        assert!(futures::poll!(&mut holding).is_pending());
        ctx.event::<()>("go").await?;
        answered.respond(&1)?;
        let _dropped = dropped;
        std::mem::forget(holding);
        ctx.continue_as_new(())
    }
    check(
        program!(holds),
        &[
            &[
                requested(0, "Ask", "0"),
                requested(1, "Ask", "1"),
                requested(2, "Ask", "2"),
            ],
            &[
                requested(3, "Ask", "3"),
                raised(4, "go", "null"),
                requested(5, "Ask", "5"),
            ],
        ],
        &expect![[r#"
            turn 1
              => waiting for events ["go"], requests ["Ask"], tasks []
            turn 2
              answer 0 1
              reject 1 NotAnswered: the request is not answered: the orchestration has dropped it
              reject 2 NotAnswered: the request is not answered: the orchestration has continued as new without an answer
              => continued Continuation { input: Some("null"), version: None, carry-over: [3, 5] }
        "#]],
    );
}

#[test]
fn nothing_is_answered_after_the_end() {
    thread_local! {
        static KEPT: std::cell::RefCell<Vec<Request<u32, u32>>> = const { std::cell::RefCell::new(Vec::new()) };
        static CONTEXT: std::cell::RefCell<Option<Context>> = const { std::cell::RefCell::new(None) };
    }
    async fn hides(ctx: Context) -> Result<(), Failure> {
        CONTEXT.set(Some(ctx.clone()));
        for _ in 0..3 {
            let request = ctx.next_request("Ask").await?;
            KEPT.with_borrow_mut(|kept| kept.push(request));
        }
        Ok(())
    }
    let mut subject = Subject::new(program!(hides));
    let asked = [0, 1, 2].map(|number| requested(number, "Ask", "1"));
    assert_eq!(render(&subject.turn(&asked)).trim(), "=> completed null");
    let mut kept = KEPT.take();
    drop(kept.pop());
    kept.remove(0).respond(&1).expect("it can be written");
    kept.remove(0).reject(Failure::new("Late", ""));
    let context = CONTEXT.take().expect("it ran");
    assert_eq!(context.execution().take_actions(), []);
}

#[test]
fn who_waits_for_a_request_is_told_of_a_cancellation_after_what_is_there() {
    async fn serves(ctx: Context) -> Result<Vec<u32>, Failure> {
        let mut seen = Vec::new();
        let mut requests = ctx.requests::<u32, u32>("Ask");
        while let Some(Ok(request)) = requests.next().await {
            seen.push(*request.input());
            request.respond(&0)?;
        }
        Ok(seen)
    }
    check(
        program!(serves),
        &[
            &[requested(0, "Ask", "1")],
            &[
                requested(1, "Ask", "2"),
                requested(2, "Ask", "[]"),
                canceled(),
            ],
        ],
        &expect![[r#"
            turn 1
              answer 0 0
              => waiting for events [], requests ["Ask"], tasks []
            turn 2
              answer 1 0
              reject 2 InvalidInput: the input of request "Ask" is not what was expected, `u32`: invalid type: sequence, expected u32 at line 1 column 0
              => completed [1,2]
        "#]],
    );
}

#[test]
fn requests_are_answered_after_a_cancellation_too() {
    async fn goes_on(ctx: Context) -> Result<(), Failure> {
        let held = ctx.next_request::<u32, u32>("Ask").await?;
        let over = ctx.event::<()>("Over").await;
        // No shield is needed to answer.
        held.respond(&1)?;
        ctx.shielded(async {
            let late = ctx.next_request::<u32, u32>("Ask").await?;
            ctx.activity::<()>("CleanUp", ()).await?;
            late.respond(&2)
        })
        .await?;
        over
    }
    check(
        program!(goes_on),
        &[
            &[requested(0, "Ask", "0")],
            &[canceled()],
            &[requested(1, "ASK", "1")],
            &[completed(0, "null"), requested(2, "Ask", "2")],
        ],
        &expect![[r#"
            turn 1
              => waiting for events ["Over"], tasks []
            turn 2
              answer 0 1
              => waiting for events [], requests ["Ask"], tasks []
            turn 3
              activity 0 CleanUp null
              => waiting for events [], tasks [0]
            turn 4
              answer 1 2
              => canceled
        "#]],
    );
}
