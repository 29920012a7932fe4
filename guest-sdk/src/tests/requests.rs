//! Requests that come in: kept, taken, answered once.

use std::collections::BTreeMap;

use expect_test::expect;

use super::{Subject, check, completed, fired, program, raised, requested};
use crate::bindings::orchestrations::{Action, Event, State, Turn};
use crate::prelude::*;

/// Adds up what is requested, until it is told to stop.
async fn adder(ctx: Context) -> Result<u32, Failure> {
    let mut sum = 0;
    loop {
        match race(ctx.next_request::<u32, u32>("Add"), ctx.event::<()>("Stop")).await {
            Either::Left(request) => {
                let request = request?;
                sum += request.input();
                request.respond(&sum)?;
            }
            Either::Right(stop) => return stop.map(|()| sum),
        }
    }
}

#[test]
fn requests_are_kept_until_somebody_asks_first_in_first_out_and_in_any_case() {
    async fn late(ctx: Context) -> Result<Vec<String>, Failure> {
        ctx.event::<()>("Begin").await?;
        let mut seen = Vec::new();
        for name in ["Add", "ADD", "add"] {
            let request = ctx.next_request::<u32, u32>(name).await?;
            seen.push(format!("{} {}", request.name(), request.id()));
            let answer = request.input() * 10;
            request.respond(&answer)?;
        }
        Ok(seen)
    }
    check(
        program!(late),
        &[
            &[requested(0, "aDd", "1")],
            &[requested(1, "AdD", "2"), raised(2, "Begin", "null")],
            &[requested(3, "Add", "3")],
        ],
        &expect![[r#"
            turn 1
              => waiting for events ["Begin"], tasks []
            turn 2
              answer 0 10
              answer 1 20
              => waiting for events [], requests ["add"], tasks []
            turn 3
              answer 3 30
              => completed ["aDd id-0","AdD id-1","Add id-3"]
        "#]],
    );
}

#[test]
fn a_request_and_an_event_of_one_name_never_meet() {
    async fn both(ctx: Context) -> Result<(), Failure> {
        for _ in 0..2 {
            let event = async { ctx.event::<String>("X").await };
            let request = async {
                let request = ctx.next_request::<u32, u32>("X").await?;
                let answer = *request.input();
                request.respond(&answer)
            };
            let (event, request) = futures::join!(event, request);
            ctx.set_custom_status(event?)?;
            request?;
        }
        Ok(())
    }
    check(
        program!(both),
        &[
            &[raised(0, "X", r#""a""#)],
            &[raised(1, "X", r#""b""#)],
            &[requested(2, "x", "2")],
            &[requested(3, "x", "3"), requested(4, "x", "4")],
        ],
        &expect![[r#"
            turn 1
              => waiting for events [], requests ["X"], tasks []
            turn 2
              => waiting for events [], requests ["X"], tasks []
            turn 3
              answer 2 2
              status "a"
              => waiting for events [], requests ["X"], tasks []
            turn 4
              answer 3 3
              status "b"
              => completed null
        "#]],
    );
}

#[test]
fn each_is_answered_once_and_one_that_is_dropped_is_not_answered() {
    async fn three_ways(ctx: Context) -> Result<(), Failure> {
        let mut requests = ctx.requests::<String, String>("Ask");
        while let Some(request) = requests.next().await {
            let request = request?;
            match request.input().as_str() {
                "respond" => request.respond(&"yes".to_owned())?,
                "reject" => request.reject(Failure::new("No", "I will not")),
                "drop" => {}
                _ => return request.respond(&"bye".to_owned()),
            }
        }
        Ok(())
    }
    check(
        program!(three_ways),
        &[
            &[
                requested(0, "Ask", r#""respond""#),
                requested(1, "Ask", r#""drop""#),
            ],
            &[requested(2, "Ask", r#""reject""#)],
            &[
                requested(3, "Ask", r#""end""#),
                requested(4, "Ask", r#""respond""#),
            ],
        ],
        &expect![[r#"
            turn 1
              answer 0 "yes"
              reject 1 NotAnswered: the request is not answered: the orchestration has dropped it
              => waiting for events [], requests ["Ask"], tasks []
            turn 2
              reject 2 No: I will not
              => waiting for events [], requests ["Ask"], tasks []
            turn 3
              answer 3 "bye"
              => completed null
        "#]],
    );
}

#[test]
fn answers_come_in_any_order_and_at_any_later_time() {
    async fn collects(ctx: Context) -> Result<(), Failure> {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(ctx.next_request::<u32, u32>("Ask").await?);
        }
        let rate: u32 = ctx.activity("Rate", ()).await?;
        for request in held.into_iter().rev() {
            let answer = request.input() * rate;
            request.respond(&answer)?;
        }
        Ok(())
    }
    check(
        program!(collects),
        &[
            &[requested(0, "Ask", "1"), requested(1, "Ask", "2")],
            &[requested(2, "Ask", "3")],
            &[completed(0, "7")],
        ],
        &expect![[r#"
            turn 1
              => waiting for events [], requests ["Ask"], tasks []
            turn 2
              activity 0 Rate null
              => waiting for events [], tasks [0]
            turn 3
              answer 2 21
              answer 1 14
              answer 0 7
              => completed null
        "#]],
    );
}

#[test]
fn an_input_of_another_type_is_rejected_and_the_orchestration_goes_on() {
    check(
        program!(adder),
        &[
            &[requested(0, "Add", r#""many""#), requested(1, "Add", "2")],
            // Encoded twice, as some clients do.
            &[requested(2, "Add", r#""3""#), requested(3, "Add", "null")],
            &[raised(4, "Stop", "null")],
        ],
        &expect![[r#"
            turn 1
              reject 0 InvalidInput: the input of request "Add" is not what was expected, `u32`: invalid type: string "many", expected u32 at line 1 column 6
              answer 1 2
              => waiting for events ["Stop"], requests ["Add"], tasks []
            turn 2
              answer 2 5
              reject 3 InvalidInput: the input of request "Add" is not what was expected, `u32`: invalid type: null, expected u32 at line 1 column 4
              => waiting for events ["Stop"], requests ["Add"], tasks []
            turn 3
              => completed 5
        "#]],
    );
}

#[test]
fn who_waits_keeps_its_place_when_an_input_is_of_another_type() {
    async fn two(ctx: Context) -> Result<(u32, u32), Failure> {
        let one = async {
            let request = ctx.next_request::<u32, &str>("Ask").await?;
            let asked = *request.input();
            request.respond(&"the first")?;
            Ok::<_, Failure>(asked)
        };
        let other = async {
            let request = ctx.next_request::<u32, &str>("Ask").await?;
            let asked = *request.input();
            request.respond(&"the second")?;
            Ok::<_, Failure>(asked)
        };
        let (one, other) = futures::join!(one, other);
        Ok((one?, other?))
    }
    check(
        program!(two),
        &[
            &[],
            &[requested(0, "Ask", "[]"), requested(1, "Ask", "1")],
            &[requested(2, "Ask", "{}")],
            &[requested(3, "Ask", "3")],
        ],
        &expect![[r#"
            turn 1
              => waiting for events [], requests ["Ask"], tasks []
            turn 2
              reject 0 InvalidInput: the input of request "Ask" is not what was expected, `u32`: invalid type: sequence, expected u32 at line 1 column 0
              answer 1 "the first"
              => waiting for events [], requests ["Ask"], tasks []
            turn 3
              reject 2 InvalidInput: the input of request "Ask" is not what was expected, `u32`: invalid type: map, expected u32 at line 1 column 0
              => waiting for events [], requests ["Ask"], tasks []
            turn 4
              answer 3 "the second"
              => completed [1,3]
        "#]],
    );
}

#[test]
fn an_answer_that_cannot_be_written_rejects_the_request() {
    async fn wrong(ctx: Context) -> Result<String, Failure> {
        let request = ctx
            .next_request::<(), BTreeMap<(u8, u8), u8>>("Ask")
            .await?;
        let failure = request.respond(&BTreeMap::from([((1, 2), 3)]));
        Ok(failure
            .expect_err("no JSON has such keys")
            .kind()
            .to_owned())
    }
    check(
        program!(wrong),
        &[&[requested(0, "Ask", "null")]],
        &expect![[r#"
            turn 1
              reject 0 InvalidOutput: the output of request "Ask" cannot be written as JSON: key must be a string
              => completed "InvalidOutput"
        "#]],
    );
}

#[test]
fn a_dropped_waiter_gives_its_request_to_the_next_or_back() {
    async fn hands_on(ctx: Context) -> Result<Vec<u32>, Failure> {
        let mut first = Box::pin(ctx.next_request::<u32, ()>("Ask"));
        let mut second = Box::pin(ctx.next_request::<u32, ()>("Ask"));
        // Both begin to wait, and are not looked at again.
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        ctx.event::<()>("go").await?;
        drop(first);
        drop(second);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let request = ctx.next_request::<u32, ()>("Ask").await?;
            seen.push(*request.input());
            request.respond(&())?;
        }
        Ok(seen)
    }
    check(
        program!(hands_on),
        &[
            &[],
            &[requested(0, "Ask", "1"), requested(1, "Ask", "2")],
            &[requested(2, "Ask", "3")],
            &[raised(3, "go", "null")],
        ],
        &expect![[r#"
            turn 1
              => waiting for events ["go"], requests ["Ask"], tasks []
            turn 2
              => waiting for events ["go"], tasks []
            turn 3
              => waiting for events ["go"], tasks []
            turn 4
              answer 0 null
              answer 1 null
              answer 2 null
              => completed [1,2,3]
        "#]],
    );
}

#[test]
fn a_time_limit_ends_the_wait_and_takes_nothing_that_came_later() {
    async fn session(ctx: Context) -> Result<u32, Failure> {
        let mut pings = 0;
        while let Some(ping) = ctx
            .next_request::<(), u32>("Ping")
            .within(Duration::from_secs(9))
            .await?
        {
            pings += 1;
            ping.respond(&pings)?;
        }
        Ok(pings)
    }
    check(
        program!(session),
        &[
            &[requested(0, "Ping", "1"), requested(1, "Ping", "null")],
            &[requested(2, "Ping", "null")],
            &[fired(2)],
        ],
        &expect![[r#"
            turn 1
              timer 0 in 9000
              reject 0 InvalidInput: the input of request "Ping" is not what was expected, `()`: invalid type: integer `1`, expected unit at line 1 column 1
              cancel 0
              answer 1 1
              timer 1 in 9000
              => waiting for events [], requests ["Ping"], tasks [1]
            turn 2
              cancel 1
              answer 2 2
              timer 2 in 9000
              => waiting for events [], requests ["Ping"], tasks [2]
            turn 3
              => completed 2
        "#]],
    );
    async fn late(ctx: Context) -> Result<(bool, u32), Failure> {
        let limited = ctx.next_request::<u32, ()>("Ask").within(Duration::ZERO);
        ctx.event::<()>("go").await?;
        let in_time = limited.await?.is_some();
        let request = ctx.next_request::<u32, ()>("Ask").await?;
        Ok((in_time, *request.input()))
    }
    check(
        program!(late),
        &[
            &[],
            &[requested(0, "Ask", "5"), raised(1, "go", "null")],
            &[fired(0)],
        ],
        &expect![[r#"
            turn 1
              => waiting for events ["go"], tasks []
            turn 2
              timer 0 in 0
              => waiting for events [], tasks [0]
            turn 3
              reject 0 NotAnswered: the request is not answered: the orchestration has dropped it
              => completed [false,5]
        "#]],
    );
}

/// All that was asked for, and the last state, where turns end after these events.
fn answers(program: super::Program, events: &[Event], ends: u32) -> (Vec<Action>, Option<State>) {
    let mut subject = Subject::new(program);
    let mut turns: Vec<Turn> = Vec::new();
    let mut batch = Vec::new();
    for (place, event) in events.iter().enumerate() {
        batch.push(event.clone());
        let is_last = place + 1 == events.len();
        if is_last || ends & (1 << place) != 0 {
            turns.push(subject.turn(&std::mem::take(&mut batch)));
        }
    }
    let actions = turns.iter().flat_map(|turn| turn.actions.clone()).collect();
    (actions, turns.last().map(|turn| turn.state.clone()))
}

#[test]
fn answers_do_not_depend_on_how_requests_are_batched() {
    async fn mixed(ctx: Context) -> Result<u32, Failure> {
        let mut held = Vec::new();
        let work = ctx.activity::<u32>("Work", ());
        let serve = async {
            loop {
                let request = ctx.next_request::<u32, u32>("Ask").await?;
                match request.input() {
                    0 => drop(request),
                    1 => request.respond(&1)?,
                    2 => held.push(request),
                    _ => request.reject(Failure::new("No", "")),
                }
            }
        };
        let result = match race(work, serve).await {
            Either::Left(result) => result,
            Either::Right(failed) => failed,
        };
        for request in held {
            request.respond(&2)?;
        }
        result
    }
    let events = [
        requested(0, "Ask", "2"),
        raised(1, "Ask", "1"),
        requested(2, "ASK", "1"),
        requested(3, "Ask", "[]"),
        requested(4, "Other", "1"),
        requested(5, "Ask", "0"),
        requested(6, "Ask", "2"),
        requested(7, "Ask", "9"),
        completed(0, "5"),
    ];
    let at_once = answers(program!(mixed), &events, 0);
    assert_eq!(at_once.1, Some(State::Completed(Some("5".to_owned()))));
    // The activity, and an answer to each but the one of another name, which nobody asks for.
    assert_eq!(at_once.0.len(), 1 + 6, "{:#?}", at_once.0);
    for ends in 0..1 << (events.len() - 1) {
        assert_eq!(answers(program!(mixed), &events, ends), at_once, "{ends:b}");
    }
}
