use std::time::Duration;

use expect_test::expect;

use super::{State, Subject, check, completed, fired, program, raised, render, start};
use crate::prelude::*;

#[test]
fn continue_as_new_carries_over_what_was_not_consumed() {
    async fn eternal(ctx: Context) -> Result<(), Failure> {
        let mut dropped = Box::pin(ctx.event::<()>("dropped"));
        assert!(futures::poll!(&mut dropped).is_pending());
        let _open = ctx.timer(Duration::from_secs(9)).start();
        ctx.event::<()>("next").await?;
        ctx.continue_as_new("state")
    }
    let events = [
        raised(4, "kept", "1"),
        raised(5, "dropped", "null"),
        raised(6, "next", "null"),
        raised(7, "later", "2"),
    ];
    check(
        program!(eternal),
        &[&events],
        &expect![[r#"
            turn 1
              timer 0 in 9000
              cancel 0
              => continued Continuation { input: Some("\"state\""), version: None, carry-over: [4, 5, 7] }
        "#]],
    );
}

#[test]
fn continue_as_new_has_options() {
    async fn options(ctx: Context) -> Result<(), Failure> {
        ctx.activity::<()>("A", ()).await?;
        ctx.continuation(1).version("2").discard_events().end()
    }
    check(
        program!(options),
        &[&[raised(0, "E", "1"), completed(0, "null")]],
        &expect![[r#"
        turn 1
          activity 0 A null
          => continued Continuation { input: Some("1"), version: Some("2"), carry-over: [] }
    "#]],
    );
}

#[test]
fn awaiting_what_nothing_can_wake_is_a_failure() {
    async fn foreign(_: Context) -> Result<(), Failure> {
        std::future::pending().await
    }
    async fn later(ctx: Context) -> Result<(), Failure> {
        let task = ctx.activity::<()>("A", ()).start();
        let (_sender, receiver) = futures::channel::oneshot::channel::<()>();
        let _ = receiver.await;
        task.await
    }
    check(
        program!(foreign),
        &[&[]],
        &expect![[r#"
        turn 1
          => failed ForeignAwait: the orchestration awaits something that can never happen: no activity, child, timer, external event or request is open that could wake it. An orchestration can only await what its `Context` makes, and combinations of that; sleep with `ctx.timer`, and do input and output in an activity (cause None, causes [])
    "#]],
    );
    check(
        program!(later),
        &[&[], &[completed(0, "null")]],
        &expect![[r#"
        turn 1
          activity 0 A null
          => waiting for events [], tasks [0]
        turn 2
          => failed ForeignAwait: the orchestration awaits something that can never happen: no activity, child, timer, external event or request is open that could wake it. An orchestration can only await what its `Context` makes, and combinations of that; sleep with `ctx.timer`, and do input and output in an activity (cause None, causes [])
    "#]],
    );
}

#[test]
fn an_input_of_another_type_is_an_invalid_input() {
    async fn takes(_: Context, input: Vec<u8>) -> Result<Vec<u8>, Failure> {
        Ok(input)
    }
    for (input, expected) in [
        (
            Some("[1,2]"),
            expect![[r#"
              => completed [1,2]
        "#]],
        ),
        (
            Some("{}"),
            expect![[r#"
              => failed InvalidInput: the input of orchestration "Test" is not what was expected, `alloc::vec::Vec<u8>`: invalid type: map, expected a sequence at line 1 column 0 (cause None, causes [])
        "#]],
        ),
        (
            None,
            expect![[r#"
              => failed InvalidInput: the input of orchestration "Test" is not what was expected, `alloc::vec::Vec<u8>`: invalid type: null, expected a sequence at line 1 column 4 (cause None, causes [])
        "#]],
        ),
    ] {
        let turn = Subject::with_start(program!(takes), start(input)).turn(&[]);
        expected.assert_eq(render(&turn).trim_start());
    }
}

#[test]
fn what_is_wrong_with_a_large_input_is_said_in_a_line() {
    async fn takes(_: Context, input: Vec<u8>) -> Result<Vec<u8>, Failure> {
        Ok(input)
    }
    let large = format!("\"{}\"", "é".repeat(100_000));
    let turn = Subject::with_start(program!(takes), start(Some(&large))).turn(&[]);
    let said = render(&turn);
    assert!(said.len() < 600, "{} bytes", said.len());
    assert!(said.contains("invalid type: string \"éé"), "{said}");
    assert!(said.contains("expected a sequence at line 1"), "{said}");
}

#[test]
fn an_absent_input_is_a_unit_or_a_none() {
    async fn unit(_: Context, (): ()) -> Result<(), Failure> {
        Ok(())
    }
    async fn option(_: Context, input: Option<u32>) -> Result<bool, Failure> {
        Ok(input.is_none())
    }
    check(
        program!(unit),
        &[&[]],
        &expect![[r#"
        turn 1
          => completed null
    "#]],
    );
    check(
        program!(option),
        &[&[]],
        &expect![[r#"
        turn 1
          => completed true
    "#]],
    );
}

#[test]
fn an_error_of_any_crate_becomes_a_failure_with_its_causes() {
    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the outer one")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    async fn fails(_: Context) -> Result<u32, Failure> {
        Ok("x".parse().map_err(Outer)?)
    }
    async fn fails_its_own_way(_: Context) -> Result<(), Outer> {
        Err(Outer("y".parse::<u8>().expect_err("no number")))
    }
    check(
        program!(fails),
        &[&[]],
        &expect![[r#"
        turn 1
          => failed Outer: the outer one (cause None, causes ["Error: invalid digit found in string"])
    "#]],
    );
    check(
        program!(fails_its_own_way),
        &[&[]],
        &expect![[r#"
        turn 1
          => failed Outer: the outer one (cause None, causes ["Error: invalid digit found in string"])
    "#]],
    );
}

#[test]
fn values_and_tags_are_asked_for_and_tags_show_at_once() {
    async fn shows(ctx: Context) -> Result<Vec<(String, String)>, Failure> {
        ctx.set_value("stage", "asked")?;
        ctx.clear_value("stage");
        ctx.set_tag("team", Some("red"));
        ctx.set_tag("team", Some("blue"));
        ctx.set_tag("gone", Some("soon"));
        ctx.set_tag("gone", None);
        ctx.set_tag("never", None);
        Ok(ctx.tags())
    }
    check(
        program!(shows),
        &[&[]],
        &expect![[r#"
        turn 1
          value stage "asked"
          value stage absent
          tag team Some("red")
          tag team Some("blue")
          tag gone Some("soon")
          tag gone None
          tag never None
          => completed [["team","blue"]]
    "#]],
    );
}

#[test]
fn what_an_execution_may_know_does_not_depend_on_the_machine_it_runs_on() {
    async fn knows(ctx: Context) -> Result<String, Failure> {
        ctx.activity::<()>("A", ()).await?;
        Ok(format!(
            "{} {} {} {:?} {:?} {:?} {} {} {} | {} {} {} {}",
            ctx.instance_id(),
            ctx.execution_id(),
            ctx.name(),
            ctx.version(),
            ctx.parent(),
            ctx.tags(),
            ctx.now(),
            ctx.history_events(),
            ctx.history_bytes(),
            ctx.new_uuid(),
            ctx.new_uuid(),
            ctx.random_u64(),
            ctx.random_f64(),
        ))
    }
    check(
        program!(knows),
        &[&[], &[completed(0, "null")]],
        &expect![[r#"
        turn 1
          activity 0 A null
          => waiting for events [], tasks [0]
        turn 2
          => completed "instance execution Test None None [(\"team\", \"blue\")] 1970-01-01T00:00:02.000Z 7 700 | 594a88c3-080d-5e7d-9210-7442d4c8348c e883e29a-c35a-556e-9af1-d042edfae7ff 13679457532755275413 0.1599103928769201"
    "#]],
    );
}

#[test]
fn an_event_that_comes_in_the_turn_of_the_end_moves_over_too() {
    async fn first(ctx: Context) -> Result<(), Failure> {
        ctx.event::<u32>("E").await?;
        ctx.continue_as_new(())
    }
    async fn first_and_drop(ctx: Context) -> Result<(), Failure> {
        ctx.event::<u32>("E").await?;
        ctx.continuation(()).discard_events().end()
    }
    let events = &[
        raised(3, "Other", "0"),
        raised(4, "E", "1"),
        raised(5, "E", "2"),
        fired(7),
        raised(6, "Other", "3"),
    ];
    let carried = |program| match Subject::new(program).turn(events).state {
        State::ContinuedAsNew(continuation) => continuation.carry_over,
        other => panic!("{other:?}"),
    };
    assert_eq!(carried(program!(first)), [3, 5, 6]);
    // Only what came before the end is dropped: with one event a turn it would be the same.
    assert_eq!(carried(program!(first_and_drop)), [5, 6]);
}

#[test]
fn a_time_limit_that_is_over_is_to_blame_for_the_failure() {
    async fn limited(ctx: Context) -> Result<(), Failure> {
        let both = futures::future::join(ctx.activity::<()>("A", ()), ctx.event::<()>("E"));
        let both = async { both.await.0 };
        let result = ctx.timeout(Duration::from_secs(1), both).await;
        result.map_err(|failure| Failure::new("Late", "it is late").caused_by(failure))
    }
    check(
        program!(limited),
        &[&[], &[fired(1)]],
        &expect![[r#"
            turn 1
              activity 0 A null
              timer 1 in 1000
              => waiting for events ["E"], tasks [0, 1]
            turn 2
              cancel 0
              => failed Late: it is late (cause Some(1), causes ["Timeout: it was not done after 1s"])
        "#]],
    );
}
