use expect_test::expect;

use super::{check, completed, failed, program, raised};
use crate::bindings::orchestrations::{Cancellation, Event};
use crate::prelude::*;

/// An instance is asked to cancel.
fn canceled(reason: &str) -> Event {
    Event::CancellationRequested(Cancellation {
        reason: Some(reason.to_owned()),
        timed_out: false,
        deadline: 60_000,
    })
}

#[test]
fn what_is_awaited_ends_and_the_instance_with_it() {
    async fn steps(ctx: Context) -> Result<u32, Failure> {
        let one: u32 = ctx.activity("One", ()).await?;
        let two: u32 = ctx.activity("Two", one).await?;
        ctx.timer(Duration::from_secs(5)).await?;
        Ok(two)
    }
    check(
        program!(steps),
        &[&[], &[canceled("enough")]],
        &expect![[r#"
            turn 1
              activity 0 One null
              => waiting for events [], tasks [0]
            turn 2
              cancel 0
              => canceled
        "#]],
    );
    check(
        program!(steps),
        &[
            &[],
            &[completed(0, "1"), completed(1, "2")],
            &[canceled("enough")],
        ],
        &expect![[r#"
            turn 1
              activity 0 One null
              => waiting for events [], tasks [0]
            turn 2
              activity 1 Two 1
              timer 2 in 5000
              => waiting for events [], tasks [2]
            turn 3
              cancel 2
              => canceled
        "#]],
    );
}

#[test]
fn a_result_that_came_in_before_is_taken_and_nothing_new_begins() {
    async fn steps(ctx: Context) -> Result<Vec<u32>, Failure> {
        let both = [
            ctx.activity("One", ()).start(),
            ctx.activity("Two", ()).start(),
        ];
        let seen: Vec<_> = join_all(both).await;
        let mut done: Vec<u32> = seen.into_iter().filter_map(Result::ok).collect();
        done.extend(ctx.activity::<u32>("Three", ()).await.ok());
        Ok(done)
    }
    check(
        program!(steps),
        &[&[], &[completed(0, "1"), canceled("enough")]],
        &expect![[r#"
            turn 1
              activity 0 One null
              activity 1 Two null
              => waiting for events [], tasks [0, 1]
            turn 2
              cancel 1
              => completed [1]
        "#]],
    );
}

#[test]
fn events_that_are_there_are_taken_first() {
    async fn listens(ctx: Context) -> Result<Vec<u32>, Failure> {
        let mut seen = Vec::new();
        let mut events = ctx.events::<u32>("Item");
        while let Some(Ok(item)) = events.next().await {
            seen.push(item);
        }
        Ok(seen)
    }
    check(
        program!(listens),
        &[
            &[raised(0, "Item", "1")],
            &[raised(1, "item", "2"), canceled("enough")],
        ],
        &expect![[r#"
            turn 1
              => waiting for events ["Item"], tasks []
            turn 2
              => completed [1,2]
        "#]],
    );
}

#[test]
fn a_shield_keeps_a_clean_up_going() {
    async fn rents(ctx: Context) -> Result<(), Failure> {
        let used = ctx.event::<()>("Done").await;
        ctx.shielded(async {
            ctx.activity::<()>("GiveBack", ()).await?;
            ctx.timer(Duration::from_secs(1)).await
        })
        .await?;
        used
    }
    check(
        program!(rents),
        &[
            &[],
            &[canceled("enough")],
            &[completed(0, "null")],
            &[Event::TimerFired(1)],
        ],
        &expect![[r#"
            turn 1
              => waiting for events ["Done"], tasks []
            turn 2
              activity 0 GiveBack null
              => waiting for events [], tasks [0]
            turn 3
              timer 1 in 1000
              => waiting for events [], tasks [1]
            turn 4
              => canceled
        "#]],
    );
}

#[test]
fn a_shield_holds_also_while_the_request_comes_in() {
    async fn shielded(ctx: Context) -> Result<u32, Failure> {
        let inside = ctx.shielded(ctx.activity::<u32>("One", ()));
        let outside = ctx.activity::<u32>("Two", ());
        let (inside, outside) = futures::future::join(inside, outside).await;
        assert!(outside.is_err_and(|failure| failure.kind() == crate::kind::CANCELED));
        inside
    }
    check(
        program!(shielded),
        &[&[], &[canceled("enough")], &[completed(0, "5")]],
        &expect![[r#"
            turn 1
              activity 0 One null
              activity 1 Two null
              => waiting for events [], tasks [0, 1]
            turn 2
              cancel 1
              => waiting for events [], tasks [0]
            turn 3
              => completed 5
        "#]],
    );
}

#[test]
fn sagas_compensate_and_a_compensation_that_fails_is_a_failure() {
    async fn trip(ctx: Context) -> Result<(), Failure> {
        ctx.saga(async |saga| {
            ctx.activity::<()>("Book", ()).await?;
            saga.on_failure(ctx.activity::<()>("Unbook", ()));
            ctx.event::<()>("Paid").await
        })
        .await
    }
    check(
        program!(trip),
        &[
            &[completed(0, "null")],
            &[canceled("ill")],
            &[completed(1, "null")],
        ],
        &expect![[r#"
            turn 1
              activity 0 Book null
              => waiting for events ["Paid"], tasks []
            turn 2
              activity 1 Unbook null RetryPolicy { max-attempts: 10, first-delay: 1000, backoff: 2.0, max-delay: Some(60000), jitter: None, give-up-after: None }
              => waiting for events [], tasks [1]
            turn 3
              => canceled
        "#]],
    );
    check(
        program!(trip),
        &[
            &[completed(0, "null")],
            &[canceled("ill")],
            &[failed(1, "Closed")],
        ],
        &expect![[r#"
            turn 1
              activity 0 Book null
              => waiting for events ["Paid"], tasks []
            turn 2
              activity 1 Unbook null RetryPolicy { max-attempts: 10, first-delay: 1000, backoff: 2.0, max-delay: Some(60000), jitter: None, give-up-after: None }
              => waiting for events [], tasks [1]
            turn 3
              => failed Canceled: the instance was asked to cancel: ill (cause None, causes ["CompensationFailed: activity \"Unbook\" failed: Closed: it failed"])
        "#]],
    );
}

#[test]
fn who_waits_for_the_request_reacts_by_hand() {
    async fn until_then(ctx: Context) -> Result<String, Failure> {
        let asked = ctx.cancellation().await;
        assert!(ctx.is_canceled());
        Ok(asked.reason.unwrap_or_default())
    }
    check(
        program!(until_then),
        &[&[], &[canceled("enough")]],
        &expect![[r#"
            turn 1
              => waiting for events [], tasks []
            turn 2
              => completed "enough"
        "#]],
    );
}

#[test]
fn a_wait_for_the_request_that_is_over_wakes_nobody() {
    async fn forgets(ctx: Context) -> Result<(), Failure> {
        match race(ctx.cancellation(), ctx.activity::<()>("One", ())).await {
            Either::Left(_) => Ok(()),
            // Nothing can wake it any more.
            Either::Right(_) => std::future::pending().await,
        }
    }
    check(
        program!(forgets),
        &[&[], &[completed(0, "null")]],
        &expect![[r#"
            turn 1
              activity 0 One null
              => waiting for events [], tasks [0]
            turn 2
              => failed ForeignAwait: the orchestration awaits something that can never happen: no activity, child, timer, external event or request is open that could wake it. An orchestration can only await what its `Context` makes, and combinations of that; sleep with `ctx.timer`, and do input and output in an activity (cause None, causes [])
        "#]],
    );
}

#[test]
fn children_are_told_and_dropped_as_their_calls_say() {
    async fn family(ctx: Context) -> Result<(), Failure> {
        let bound = ctx
            .child::<()>("Bound", ())
            .when_dropped(ChildPolicy::Cancel)
            .never_reuse()
            .execution_timeout(Duration::from_secs(9))
            .start();
        let other = ctx.child::<()>("Other", ()).start();
        other.cancel_child("no more");
        other.terminate_child("now");
        ctx.activity::<()>("One", ())
            .start()
            .cancel_child("is none");
        drop(bound);
        other.await
    }
    check(
        program!(family),
        &[&[]],
        &expect![[r#"
        turn 1
          child 0 Bound null id=None version=None tags=[] attempts=None (IdReuse::Never, ChildPolicy::Cancel, Some(9000))
          child 1 Other null id=None version=None tags=[] attempts=None
          ChildCommandKind::Cancel 1 because of Some("no more")
          ChildCommandKind::Terminate 1 because of Some("now")
          activity 2 One null
          cancel 2
          cancel 0
          => waiting for events [], tasks [1]
    "#]],
    );
}
