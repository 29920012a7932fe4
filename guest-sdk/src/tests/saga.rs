use expect_test::expect;

use super::{check, completed, failed, program, raised};
use crate::prelude::*;

async fn book(ctx: Context) -> Result<u32, Failure> {
    ctx.saga(async |saga| {
        let hotel: u32 = ctx.activity("BookHotel", ()).await?;
        saga.on_failure(ctx.activity::<()>("CancelHotel", hotel));
        let flight: u32 = ctx.activity("BookFlight", ()).await?;
        let once = RetryPolicy::new(1, Duration::ZERO);
        saga.on_failure(ctx.child::<()>("CancelFlight", flight).retry(once));
        ctx.activity("Pay", hotel + flight).await
    })
    .await
}

async fn both(ctx: Context) -> Result<(), Failure> {
    ctx.saga(async |saga| {
        let step = async |name: &str| -> Result<(), Failure> {
            let id: u32 = ctx.activity(name, ()).await?;
            saga.on_failure(ctx.activity::<()>(format!("Undo{name}"), id));
            Ok(())
        };
        try_join_all(["A", "B", "C"].map(step)).await?;
        Ok(())
    })
    .await
}

async fn renew(ctx: Context) -> Result<(), Failure> {
    ctx.saga(async |saga| {
        saga.on_failure(ctx.activity::<()>("Undo", ()));
        let n: u32 = ctx.event("Go").await?;
        ctx.continue_as_new::<()>(n)
    })
    .await
}

#[test]
fn what_succeeds_is_not_undone() {
    let turns: &[&[_]] = &[
        &[],
        &[completed(0, "1"), completed(1, "2"), completed(2, "3")],
    ];
    check(
        program!(book),
        turns,
        &expect![[r#"
        turn 1
          activity 0 BookHotel null
          => waiting for events [], tasks [0]
        turn 2
          activity 1 BookFlight null
          activity 2 Pay 3
          => completed 3
    "#]],
    );
}

#[test]
fn what_was_done_is_undone_in_reverse_and_the_failure_comes_out() {
    let turns: &[&[_]] = &[
        &[],
        &[
            completed(0, "1"),
            completed(1, "2"),
            failed(2, "CardDeclined"),
        ],
        &[completed(3, r#""any output will do""#)],
        &[completed(4, "null")],
    ];
    check(
        program!(book),
        turns,
        &expect![[r#"
        turn 1
          activity 0 BookHotel null
          => waiting for events [], tasks [0]
        turn 2
          activity 1 BookFlight null
          activity 2 Pay 3
          child 3 CancelFlight 2 id=None version=None tags=[] attempts=Some(1)
          => waiting for events [], tasks [3]
        turn 3
          activity 4 CancelHotel 1 RetryPolicy { max-attempts: 10, first-delay: 1000, backoff: 2.0, max-delay: Some(60000), jitter: None, give-up-after: None }
          => waiting for events [], tasks [4]
        turn 4
          => failed CardDeclined: it failed (cause Some(2), causes [])
    "#]],
    );
}

#[test]
fn a_failed_compensation_is_a_cause_and_does_not_stop_the_others() {
    let turns: &[&[_]] = &[
        &[],
        &[
            completed(0, "1"),
            completed(1, "2"),
            failed(2, "CardDeclined"),
        ],
        &[failed(3, "AirlineClosed")],
        &[failed(4, "HotelClosed")],
    ];
    check(
        program!(book),
        turns,
        &expect![[r#"
        turn 1
          activity 0 BookHotel null
          => waiting for events [], tasks [0]
        turn 2
          activity 1 BookFlight null
          activity 2 Pay 3
          child 3 CancelFlight 2 id=None version=None tags=[] attempts=Some(1)
          => waiting for events [], tasks [3]
        turn 3
          activity 4 CancelHotel 1 RetryPolicy { max-attempts: 10, first-delay: 1000, backoff: 2.0, max-delay: Some(60000), jitter: None, give-up-after: None }
          => waiting for events [], tasks [4]
        turn 4
          => failed CardDeclined: it failed (cause Some(2), causes ["CompensationFailed: orchestration \"CancelFlight\" failed: AirlineClosed: it failed", "CompensationFailed: activity \"CancelHotel\" failed: HotelClosed: it failed"])
    "#]],
    );
}

#[test]
fn what_branches_register_in_parallel_is_undone_and_what_is_open_is_cancelled() {
    let turns: &[&[_]] = &[
        &[],
        &[completed(1, "7"), failed(0, "Broken")],
        &[completed(3, "null")],
    ];
    check(
        program!(both),
        turns,
        &expect![[r#"
        turn 1
          activity 0 A null
          activity 1 B null
          activity 2 C null
          => waiting for events [], tasks [0, 1, 2]
        turn 2
          cancel 2
          activity 3 UndoB 7 RetryPolicy { max-attempts: 10, first-delay: 1000, backoff: 2.0, max-delay: Some(60000), jitter: None, give-up-after: None }
          => waiting for events [], tasks [3]
        turn 3
          => failed Broken: it failed (cause Some(0), causes [])
    "#]],
    );
}

#[test]
fn to_continue_as_new_is_no_failure() {
    check(
        program!(renew),
        &[&[raised(0, "Go", "5")]],
        &expect![[r#"
        turn 1
          => continued Continuation { input: Some("5"), version: None, carry-over: [] }
    "#]],
    );
}
