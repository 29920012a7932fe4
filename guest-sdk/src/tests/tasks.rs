use std::time::Duration;

use expect_test::expect;

use super::{check, completed, failed, fired, program};
use crate::prelude::*;

#[test]
fn a_chain_schedules_each_step_when_the_one_before_has_ended() {
    async fn chain(ctx: Context) -> Result<u32, Failure> {
        let one: u32 = ctx.activity("One", ()).await?;
        let two: u32 = ctx.activity("Two", one).await?;
        Ok(one + two)
    }
    check(
        program!(chain),
        &[&[], &[completed(0, "1")], &[completed(1, "2")]],
        &expect![[r#"
        turn 1
          activity 0 One null
          => waiting for events [], tasks [0]
        turn 2
          activity 1 Two 1
          => waiting for events [], tasks [1]
        turn 3
          => completed 3
    "#]],
    );
}

#[test]
fn a_call_is_scheduled_when_awaited_and_a_started_one_at_once() {
    async fn order(ctx: Context) -> Result<(), Failure> {
        let lazy = ctx.activity::<()>("Lazy", ());
        let eager = ctx.activity::<()>("Eager", ()).start();
        lazy.await?;
        eager.await
    }
    check(
        program!(order),
        &[&[], &[completed(0, "null")], &[completed(1, "null")]],
        &expect![[r#"
        turn 1
          activity 0 Eager null
          activity 1 Lazy null
          => waiting for events [], tasks [0, 1]
        turn 2
          => waiting for events [], tasks [1]
        turn 3
          => completed null
    "#]],
    );
}

#[test]
fn options_of_a_call_reach_the_host() {
    async fn options(ctx: Context) -> Result<(), Failure> {
        let policy = RetryPolicy::new(3, Duration::from_secs(1))
            .backoff(2.0)
            .max_delay(Duration::from_secs(9))
            .jitter(0.5);
        let policy = policy.give_up_after(Duration::from_secs(60));
        let activity = ctx
            .activity::<()>("A", ())
            .retry(policy.clone())
            .attempt_timeout(Duration::from_micros(1500))
            .start();
        let child = ctx
            .child::<()>("C", 1)
            .instance_id("c")
            .version("2")
            .tag("k", "v")
            .retry(policy)
            .start();
        activity.await?;
        child.await
    }
    check(
        program!(options),
        &[&[]],
        &expect![[r#"
        turn 1
          activity 0 A null RetryPolicy { max-attempts: 3, first-delay: 1000, backoff: 2.0, max-delay: Some(9000), jitter: Some(0.5), give-up-after: Some(60000) } within 2 ms
          child 1 C 1 id=Some("c") version=Some("2") tags=[("k", "v")] attempts=Some(3)
          => waiting for events [], tasks [0, 1]
    "#]],
    );
}

#[test]
fn a_failure_of_a_task_that_ends_the_orchestration_names_the_task() {
    async fn fails(ctx: Context) -> Result<(), Failure> {
        ctx.activity::<()>("Fine", ()).await?;
        ctx.activity::<()>("Fails", ()).await?;
        Ok(())
    }
    check(
        program!(fails),
        &[&[completed(0, "null"), failed(1, "Broken")]],
        &expect![[r#"
        turn 1
          activity 0 Fine null
          activity 1 Fails null
          => failed Broken: it failed (cause Some(1), causes [])
    "#]],
    );
}

#[test]
fn a_wrapped_failure_still_names_the_task_and_a_failure_of_its_own_names_none() {
    async fn wraps(ctx: Context) -> Result<(), Failure> {
        let result = ctx.activity::<()>("Fails", ()).await;
        result.map_err(|failure| Failure::new("Outer", "around it").caused_by(failure))
    }
    async fn gives_up(ctx: Context) -> Result<(), Failure> {
        let failure = ctx.activity::<()>("Fails", ()).await.expect_err("it fails");
        assert_eq!(
            (failure.kind(), failure.details()),
            ("Broken", Some(vec![1]))
        );
        Err(Failure::new("Own", "by itself"))
    }
    check(
        program!(wraps),
        &[&[failed(0, "Broken")]],
        &expect![[r#"
        turn 1
          activity 0 Fails null
          => failed Outer: around it (cause Some(0), causes ["Broken: it failed"])
    "#]],
    );
    check(
        program!(gives_up),
        &[&[failed(0, "Broken")]],
        &expect![[r#"
        turn 1
          activity 0 Fails null
          => failed Own: by itself (cause None, causes [])
    "#]],
    );
}

#[test]
fn a_dropped_task_is_cancelled_once_and_only_while_it_is_open() {
    async fn drops(ctx: Context) -> Result<(), Failure> {
        drop(ctx.activity::<()>("NeverScheduled", ()));
        let done = ctx.activity::<()>("Done", ()).start();
        let open = ctx.child::<()>("Open", ()).start();
        let timer = ctx.timer(Duration::from_secs(60)).start();
        ctx.event::<()>("go").await?;
        drop((done, open, timer));
        ctx.event::<()>("end").await
    }
    let turns: &[&[_]] = &[
        &[],
        &[completed(0, "null")],
        &[super::raised(0, "go", "null")],
        &[completed(1, "null"), fired(2)],
    ];
    check(
        program!(drops),
        turns,
        &expect![[r#"
            turn 1
              activity 0 Done null
              child 1 Open null id=None version=None tags=[] attempts=None
              timer 2 in 60000
              => waiting for events ["go"], tasks [0, 1, 2]
            turn 2
              => waiting for events ["go"], tasks [1, 2]
            turn 3
              cancel 1
              cancel 2
              => waiting for events ["end"], tasks []
            turn 4
              => waiting for events ["end"], tasks []
        "#]],
    );
}

#[test]
fn the_loser_of_a_race_is_cancelled() {
    async fn deadline(ctx: Context) -> Result<&'static str, Failure> {
        match race(
            ctx.activity::<()>("Slow", ()),
            ctx.timer(Duration::from_secs(5)),
        )
        .await
        {
            Either::Left(result) => result.map(|()| "done"),
            Either::Right(fired) => fired.map(|()| "too late"),
        }
    }
    check(
        program!(deadline),
        &[&[], &[completed(0, "null")]],
        &expect![[r#"
            turn 1
              activity 0 Slow null
              timer 1 in 5000
              => waiting for events [], tasks [0, 1]
            turn 2
              cancel 1
              => completed "done"
        "#]],
    );
    check(
        program!(deadline),
        &[&[], &[fired(1)]],
        &expect![[r#"
            turn 1
              activity 0 Slow null
              timer 1 in 5000
              => waiting for events [], tasks [0, 1]
            turn 2
              cancel 0
              => completed "too late"
        "#]],
    );
}

#[test]
fn what_is_still_open_at_the_end_is_cancelled_unless_it_was_detached() {
    async fn returns(ctx: Context) -> Result<(), Failure> {
        let _held = ctx.activity::<()>("Held", ()).start();
        ctx.activity::<()>("Detached", ()).start().detach()
    }
    check(
        program!(returns),
        &[&[]],
        &expect![[r#"
        turn 1
          activity 0 Held null
          activity 1 Detached null
          cancel 0
          => completed null
    "#]],
    );
}

#[test]
fn a_timer_counts_from_now_and_rounds_up() {
    async fn timers(ctx: Context) -> Result<Timestamp, Failure> {
        ctx.timer(Duration::from_nanos(1)).await?;
        let at = ctx.now() + Duration::from_secs(1);
        ctx.timer_at(at).await?;
        Ok(at)
    }
    check(
        program!(timers),
        &[&[], &[fired(0)], &[fired(1)]],
        &expect![[r#"
            turn 1
              timer 0 in 1
              => waiting for events [], tasks [0]
            turn 2
              timer 1 at 3000
              => waiting for events [], tasks [1]
            turn 3
              => completed "1970-01-01T00:00:03.000Z"
        "#]],
    );
}

#[test]
fn a_result_of_another_type_says_whose_it_is_and_what_was_expected() {
    async fn expects(ctx: Context) -> Result<u32, Failure> {
        ctx.activity("Text", ()).await
    }
    check(
        program!(expects),
        &[&[completed(0, r#""seven""#)]],
        &expect![[r#"
        turn 1
          activity 0 Text null
          => failed InvalidOutput: the output of activity "Text" is not what was expected, `u32`: invalid type: string "seven", expected u32 at line 1 column 7 (cause None, causes [])
    "#]],
    );
}

#[test]
fn an_input_that_is_no_json_fails_the_call_and_schedules_nothing() {
    async fn calls(ctx: Context) -> Result<(), Failure> {
        ctx.activity("Map", std::collections::BTreeMap::from([((1, 2), 3)]))
            .await
    }
    check(
        program!(calls),
        &[&[]],
        &expect![[r#"
        turn 1
          => failed InvalidInput: the input of activity "Map" cannot be written as JSON: key must be a string (cause None, causes [])
    "#]],
    );
}

#[test]
fn an_outcome_that_nobody_waits_for_is_ignored() {
    async fn waits(ctx: Context) -> Result<(), Failure> {
        ctx.activity("A", ()).await
    }
    check(
        program!(waits),
        &[&[completed(9, "null"), fired(3)], &[completed(0, "null")]],
        &expect![[r#"
        turn 1
          activity 0 A null
          => waiting for events [], tasks [0]
        turn 2
          => completed null
    "#]],
    );
}
