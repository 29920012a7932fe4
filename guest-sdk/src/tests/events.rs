use std::time::Duration;

use expect_test::expect;

use super::{check, fired, program, raised};
use crate::prelude::*;

#[test]
fn events_are_kept_until_awaited_first_in_first_out_and_in_any_case() {
    async fn late(ctx: Context) -> Result<Vec<u32>, Failure> {
        ctx.event::<()>("Begin").await?;
        Ok(vec![
            ctx.event("Number").await?,
            ctx.event("NUMBER").await?,
            ctx.event("number").await?,
        ])
    }
    let turns: &[&[_]] = &[
        &[raised(0, "nUmber", "1")],
        &[raised(1, "NumbeR", "2"), raised(2, "BEGIN", "null")],
        &[raised(3, "Number", "3")],
    ];
    check(
        program!(late),
        turns,
        &expect![[r#"
        turn 1
          => waiting for events ["Begin"], tasks []
        turn 2
          => waiting for events ["number"], tasks []
        turn 3
          => completed [1,2,3]
    "#]],
    );
}

#[test]
fn waiters_are_served_in_the_order_in_which_they_began_to_wait() {
    async fn two(ctx: Context) -> Result<(u32, u32), Failure> {
        let (first, second) = futures::join!(ctx.event("E"), ctx.event("e"));
        Ok((first?, second?))
    }
    check(
        program!(two),
        &[&[], &[raised(0, "E", "1")], &[raised(1, "E", "2")]],
        &expect![[r#"
        turn 1
          => waiting for events ["e"], tasks []
        turn 2
          => waiting for events ["e"], tasks []
        turn 3
          => completed [1,2]
    "#]],
    );
}

#[test]
fn a_dropped_waiter_swallows_nothing() {
    async fn drops(ctx: Context) -> Result<Vec<u32>, Failure> {
        let mut first = Box::pin(ctx.event::<u32>("E"));
        let mut second = Box::pin(ctx.event::<u32>("E"));
        // Both begin to wait, and are not looked at again.
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        ctx.event::<()>("go").await?;
        drop(first);
        drop(second);
        Ok(vec![
            ctx.event("E").await?,
            ctx.event("E").await?,
            ctx.event("E").await?,
        ])
    }
    let all = [
        raised(0, "E", "1"),
        raised(1, "E", "2"),
        raised(2, "E", "3"),
        raised(3, "go", "null"),
    ];
    check(
        program!(drops),
        &[&all],
        &expect![[r#"
        turn 1
          => completed [1,2,3]
    "#]],
    );
}

#[test]
fn an_event_of_a_dropped_waiter_goes_to_the_next_who_waits() {
    async fn hands_on(ctx: Context) -> Result<u32, Failure> {
        let mut first = Box::pin(ctx.event::<u32>("E"));
        assert!(futures::poll!(&mut first).is_pending());
        let go = async {
            ctx.event::<()>("go").await?;
            drop(first);
            Ok::<_, Failure>(())
        };
        let (value, go) = futures::join!(ctx.event::<u32>("E"), go);
        go?;
        value
    }
    check(
        program!(hands_on),
        &[&[], &[raised(0, "E", "1")], &[raised(1, "go", "null")]],
        &expect![[r#"
        turn 1
          => waiting for events ["E", "go"], tasks []
        turn 2
          => waiting for events ["E", "go"], tasks []
        turn 3
          => completed 1
    "#]],
    );
}

#[test]
fn a_stream_gives_every_event() {
    async fn sums(ctx: Context) -> Result<u32, Failure> {
        let mut numbers = ctx.events::<u32>("N").take(3);
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(sum)
    }
    check(
        program!(sums),
        &[
            &[raised(0, "N", "1"), raised(1, "N", "2")],
            &[raised(2, "N", "3")],
        ],
        &expect![[r#"
        turn 1
          => waiting for events ["N"], tasks []
        turn 2
          => completed 6
    "#]],
    );
}

#[test]
fn a_wait_with_a_limit_disarms_its_timer_or_gives_up_its_place() {
    async fn approval(ctx: Context) -> Result<(Option<bool>, bool), Failure> {
        let within = ctx
            .event("Approval")
            .within(Duration::from_secs(10))
            .await?;
        Ok((within, ctx.event("Approval").await?))
    }
    let in_time: &[&[_]] = &[
        &[],
        &[raised(0, "Approval", "true")],
        &[raised(1, "Approval", "false")],
    ];
    check(
        program!(approval),
        in_time,
        &expect![[r#"
            turn 1
              timer 0 in 10000
              => waiting for events ["Approval"], tasks [0]
            turn 2
              cancel 0
              => waiting for events ["Approval"], tasks []
            turn 3
              => completed [true,false]
        "#]],
    );
    let too_late: &[&[_]] = &[&[], &[fired(0)], &[raised(0, "Approval", "true")]];
    check(
        program!(approval),
        too_late,
        &expect![[r#"
            turn 1
              timer 0 in 10000
              => waiting for events ["Approval"], tasks [0]
            turn 2
              => waiting for events ["Approval"], tasks []
            turn 3
              => completed [null,true]
        "#]],
    );
}

#[test]
fn a_wait_that_begins_when_its_time_is_up_takes_only_what_came_in_time() {
    async fn late(ctx: Context) -> Result<(Option<bool>, bool), Failure> {
        let within = ctx.event("A").within(Duration::from_millis(1_500));
        ctx.timer(Duration::from_secs(4)).await?;
        Ok((within.await?, ctx.event("A").await?))
    }
    // Turns are a second apart, and the time is up at 2500.
    let in_time: &[&[_]] = &[
        &[],
        &[raised(0, "A", "true")],
        &[],
        &[],
        &[raised(1, "A", "false"), fired(0)],
    ];
    check(
        program!(late),
        in_time,
        &expect![[r#"
            turn 1
              timer 0 in 4000
              => waiting for events [], tasks [0]
            turn 2
              => waiting for events [], tasks [0]
            turn 3
              => waiting for events [], tasks [0]
            turn 4
              => waiting for events [], tasks [0]
            turn 5
              => completed [true,false]
        "#]],
    );
    let too_late: &[&[_]] = &[
        &[],
        &[],
        &[],
        &[raised(0, "A", "true")],
        &[fired(0)],
        &[raised(1, "A", "false")],
        &[fired(1)],
    ];
    check(
        program!(late),
        too_late,
        &expect![[r#"
            turn 1
              timer 0 in 4000
              => waiting for events [], tasks [0]
            turn 2
              => waiting for events [], tasks [0]
            turn 3
              => waiting for events [], tasks [0]
            turn 4
              => waiting for events [], tasks [0]
            turn 5
              timer 1 in 0
              => waiting for events [], tasks [1]
            turn 6
              => waiting for events [], tasks [1]
            turn 7
              => completed [null,true]
        "#]],
    );
}

#[test]
fn data_of_another_type_is_an_invalid_input() {
    async fn expects(ctx: Context) -> Result<u32, Failure> {
        ctx.event("N").await
    }
    check(
        program!(expects),
        &[&[raised(0, "n", "{}")]],
        &expect![[r#"
        turn 1
          => failed InvalidInput: the data of event "n" is not what was expected, `u32`: invalid type: map, expected u32 at line 1 column 0 (cause None, causes [])
    "#]],
    );
}

#[test]
fn what_is_sent_and_started_reaches_the_host() {
    async fn sends(ctx: Context) -> Result<(), Failure> {
        ctx.send_event("other", "Ping", 1)?;
        ctx.start_instance("new", "Audit", "x")
            .version("3")
            .tag("k", "v")
            .start()?;
        ctx.set_custom_status(50)?;
        ctx.clear_custom_status();
        ctx.note("for the moon");
        ctx.event("E").await
    }
    check(
        program!(sends),
        &[&[]],
        &expect![[r#"
        turn 1
          send Ping to other 1
          start new Audit "x" version=Some("3") tags=[("k", "v")]
          status 50
          status absent
          => waiting for events ["E"], tasks [] note "for the moon"
    "#]],
    );
}
