use std::time::Duration;

use expect_test::expect;
use futures::FutureExt as _;

use super::{Subject, check, completed, failed, fired, program, raised, render, run};
use crate::bindings::orchestrations::{Action, Event, State, Turn};
use crate::prelude::*;

async fn as_completed(ctx: Context) -> Result<Vec<u32>, Failure> {
    let mut running: FuturesUnordered<_> = (0..3).map(|n| ctx.activity::<u32>("N", n)).collect();
    let mut order = Vec::new();
    while let Some(result) = running.next().await {
        order.push(result?);
        if order.len() == 1 {
            running.push(ctx.activity("More", ()));
        }
    }
    Ok(order)
}

async fn select_loop(ctx: Context) -> Result<Vec<String>, Failure> {
    let mut seen = Vec::new();
    let mut events = ctx.events::<String>("E").fuse();
    let mut work = Box::pin(ctx.activity::<String>("Work", ()).fuse());
    loop {
        futures::select_biased! {
            event = events.next() => seen.extend(event.transpose()?),
            result = work => {
                seen.push(result?);
                return Ok(seen);
            }
        }
    }
}

async fn biased_select(ctx: Context) -> Result<&'static str, Failure> {
    let mut left = ctx.activity::<()>("Left", ()).fuse();
    let mut right = ctx.activity::<()>("Right", ()).fuse();
    futures::select_biased! {
        _ = left => Ok("left"),
        _ = right => Ok("right"),
    }
}

async fn fan_out(ctx: Context) -> Result<u32, Failure> {
    let results = try_join_all((0..40).map(|n| ctx.activity::<u32>("N", n))).await?;
    Ok(results.iter().sum())
}

async fn bounded(ctx: Context) -> Result<Vec<u32>, Failure> {
    ctx.map(0..4, 2, |n| ctx.activity("N", n))
        .await
        .into_iter()
        .collect()
}

#[test]
fn results_come_in_the_order_in_which_they_were_delivered() {
    let turns: &[&[_]] = &[
        &[],
        &[completed(2, "2"), completed(0, "0")],
        &[completed(3, "9"), completed(1, "1")],
    ];
    check(
        program!(as_completed),
        turns,
        &expect![[r#"
        turn 1
          activity 0 N 0
          activity 1 N 1
          activity 2 N 2
          => waiting for events [], tasks [0, 1, 2]
        turn 2
          activity 3 More null
          => waiting for events [], tasks [1, 3]
        turn 3
          => completed [2,0,9,1]
    "#]],
    );
}

#[test]
fn a_loop_of_select_takes_events_until_its_work_is_done() {
    let turns: &[&[_]] = &[
        &[raised(0, "E", r#""a""#)],
        &[raised(1, "E", r#""b""#), completed(0, r#""done""#)],
    ];
    check(
        program!(select_loop),
        turns,
        &expect![[r#"
        turn 1
          activity 0 Work null
          => waiting for events ["E"], tasks [0]
        turn 2
          => completed ["a","b","done"]
    "#]],
    );
}

#[test]
fn one_failure_of_many_ends_the_rest() {
    async fn all_or_nothing(ctx: Context) -> Result<(), Failure> {
        try_join_all((0..3).map(|n| ctx.activity::<()>("N", n))).await?;
        Ok(())
    }
    check(
        program!(all_or_nothing),
        &[&[], &[failed(1, "Broken")]],
        &expect![[r#"
        turn 1
          activity 0 N 0
          activity 1 N 1
          activity 2 N 2
          => waiting for events [], tasks [0, 1, 2]
        turn 2
          cancel 0
          cancel 2
          => failed Broken: it failed (cause Some(1), causes [])
    "#]],
    );
}

#[test]
fn a_bounded_map_starts_the_next_item_when_one_ends_and_keeps_the_order() {
    let turns: &[&[_]] = &[
        &[],
        &[completed(1, "11")],
        &[completed(2, "12"), completed(0, "10")],
        &[completed(3, "13")],
    ];
    check(
        program!(bounded),
        turns,
        &expect![[r#"
        turn 1
          activity 0 N 0
          activity 1 N 1
          => waiting for events [], tasks [0, 1]
        turn 2
          activity 2 N 2
          => waiting for events [], tasks [0, 2]
        turn 3
          activity 3 N 3
          => waiting for events [], tasks [3]
        turn 4
          => completed [10,11,12,13]
    "#]],
    );
}

#[test]
fn the_first_of_many_wins_and_the_others_are_cancelled() {
    async fn first(ctx: Context) -> Result<(usize, u32), Failure> {
        let (place, result) = race_all((0..3).map(|n| ctx.activity::<u32>("N", n))).await;
        Ok((place, result?))
    }
    check(
        program!(first),
        &[&[], &[completed(1, "7")]],
        &expect![[r#"
        turn 1
          activity 0 N 0
          activity 1 N 1
          activity 2 N 2
          => waiting for events [], tasks [0, 1, 2]
        turn 2
          cancel 0
          cancel 2
          => completed [1,7]
    "#]],
    );
}

#[test]
fn actions_and_end_do_not_depend_on_how_events_are_batched() {
    let (zero, one, two, three) = (
        completed(0, "0"),
        completed(1, "1"),
        completed(2, "2"),
        completed(3, "3"),
    );
    let text = || completed(0, r#""done""#);
    let forty: Vec<_> = (0..40).rev().map(|task| completed(task, "1")).collect();
    let null = || completed(1, "null");
    let cases: Vec<(super::Program, Vec<Event>)> = vec![
        (
            program!(as_completed),
            vec![two.clone(), zero.clone(), three.clone(), one.clone()],
        ),
        (
            program!(select_loop),
            vec![raised(0, "E", r#""a""#), raised(1, "E", r#""b""#), text()],
        ),
        (program!(biased_select), vec![null(), completed(0, "null")]),
        (program!(fan_out), forty),
        (program!(bounded), vec![one, zero, three, two]),
    ];
    for (program, events) in cases {
        let at_once = answer(&[Subject::new(program).turn(&events)]);
        let mut subject = Subject::new(program);
        let mut turns = vec![subject.turn(&[])];
        for event in &events {
            if matches!(
                turns.last(),
                Some(Turn {
                    state: State::Waiting(_),
                    ..
                })
            ) {
                turns.push(subject.turn(std::slice::from_ref(event)));
            }
        }
        assert_eq!(at_once, answer(&turns));
        assert!(!matches!(at_once.1, Some(State::Waiting(_))), "{at_once:?}");
    }
}

fn answer(turns: &[Turn]) -> (Vec<Action>, Option<State>) {
    (
        turns.iter().flat_map(|turn| turn.actions.clone()).collect(),
        turns.last().map(|turn| turn.state.clone()),
    )
}

#[test]
fn the_same_events_give_the_same_answers_each_time() {
    let turns: &[&[_]] = &[&[], &[completed(1, "null")]];
    let first = run(program!(biased_select), turns);
    for _ in 0..5 {
        assert_eq!(run(program!(biased_select), turns), first);
    }
}

#[test]
fn ten_thousand_open_tasks_are_no_burden() {
    async fn wide(ctx: Context) -> Result<usize, Failure> {
        let mut running: FuturesUnordered<_> =
            (0..10_000).map(|n| ctx.activity::<u32>("N", n)).collect();
        let mut done = 0;
        while let Some(result) = running.next().await {
            result?;
            done += 1;
        }
        ctx.timer(Duration::from_secs(1)).await?;
        Ok(done)
    }
    let mut subject = Subject::new(program!(wide));
    assert_eq!(subject.turn(&[]).actions.len(), 10_000);
    for task in 0..9_999 {
        assert!(subject.turn(&[completed(task, "1")]).actions.is_empty());
    }
    subject.turn(&[completed(9_999, "1")]);
    let end = subject.turn(&[fired(10_000)]);
    assert_eq!(render(&end).trim(), "=> completed 10000");
}
