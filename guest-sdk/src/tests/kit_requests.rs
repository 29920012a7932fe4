//! Requests in the test kit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use expect_test::expect;

use crate::kind;
use crate::prelude::*;
use crate::testing::{Environment, Input};

const SECOND: Duration = Duration::from_secs(1);

/// Adds up numbers; continues as new after each second one, and ends at ten.
#[orchestration(validate(Add = check_number))]
async fn adder(ctx: Context, mut sum: u32) -> Result<u32, Failure> {
    let mut requests = ctx.requests::<u32, u32>("Add");
    for _ in 0..2 {
        let request = requests.next().await.expect("it does not end")?;
        sum += request.input();
        request.respond(&sum)?;
        if sum >= 10 {
            return Ok(sum);
        }
    }
    ctx.continue_as_new(sum)
}

fn check_number(number: &u32) -> Result<(), Failure> {
    match number {
        0 => Err(Failure::new("Nothing", "add something")),
        _ => Ok(()),
    }
}

/// Has the adder add numbers.
#[orchestration]
async fn asks(ctx: Context, numbers: Vec<u32>) -> Result<Vec<String>, Failure> {
    ctx.launch(adder, "adder", 0).start()?;
    let mut answers = Vec::new();
    for number in numbers {
        let answer = ctx.send_request::<u32>("adder", "add", number).await;
        answers.push(match answer {
            Ok(sum) => sum.to_string(),
            Err(failure) => failure.kind().to_owned(),
        });
    }
    Ok(answers)
}

/// Takes a request, and drops it after its work.
#[orchestration]
async fn forgets(ctx: Context) -> Result<(), Failure> {
    let request = ctx.next_request::<(), ()>("Ask").await?;
    ctx.timer(SECOND).await?;
    drop(request);
    ctx.timer(SECOND).await
}

fn environment() -> Environment {
    Environment::of(crate::definitions! { orchestrations: [adder, asks, forgets] })
}

#[test]
fn requests_are_answered_in_order_and_over_executions() {
    let report = environment()
        .start("Adder", 0)
        .request_after(SECOND, "Add", 1)
        .request_after(SECOND, "ADD", 2)
        .request_after(SECOND, "Add", 3)
        .request_after(2 * SECOND, "Add", 0)
        .request_after(2 * SECOND, "Add", "three")
        .request_after(3 * SECOND, "Add", 4)
        .finish();
    assert_eq!((report.output::<u32>(), report.executions()), (10, 2));
    let answers: Vec<Result<u32, String>> = report
        .answers("add")
        .into_iter()
        .map(|answer| answer.map_err(|failure| failure.kind().to_owned()))
        .collect();
    let declined = |kind: &str| Err(kind.to_owned());
    assert_eq!(
        answers,
        [
            Ok(1),
            Ok(3),
            Ok(6),
            declined("Nothing"),
            declined(kind::INVALID_INPUT),
            Ok(10)
        ]
    );
    // What its validator declines is not in the history.
    expect![[r#"
        history of "Adder" (instance "test", Completed):
          execution 0
             1    +0.000s  ExecutionStarted Adder 0
             3    +1.000s  RequestReceived Add 1
             4    +1.000s  RequestReceived ADD 2
             5    +1.000s  RequestReceived Add 3
             6    +1.000s  RequestAnswered request-1 -> 1
             7    +1.000s  RequestAnswered request-2 -> 3
             8    +1.000s  ContinuedAsNew 3
          execution 1
             1    +1.000s  ExecutionStarted Adder 3
             2    +1.000s  RequestReceived Add 3
             3    +1.000s  RequestAnswered request-3 -> 6
             5    +3.000s  RequestReceived Add 4
             6    +3.000s  RequestAnswered request-6 -> 10
             7    +3.000s  ExecutionCompleted -> 10"#]]
    .assert_eq(&report.to_string());
}

#[test]
fn a_request_is_sent_while_the_clock_is_held() {
    let mut run = environment().start("Adder", 4);
    assert!(!run.answers("Add"));
    let sum = run.request("Add", 5);
    assert_eq!(sum.result::<u32>().and_then(Result::ok), Some(9));
    assert_eq!((sum.name(), sum.input::<u32>()), ("Add", 5));
    assert!(run.answers("add") && !run.answers("Subtract"));
    // Nobody asks for it.
    assert!(run.request("Subtract", 1).result::<u32>().is_none());
    run.give(Input::request_with_id("once", "Add", 1));
    run.give(Input::request_with_id("once", "Add", 1));
    let report = run.report();
    report.assert_answers("Add", &[9, 10]);
    assert_eq!(report.output::<u32>(), 10);
    // The end answers what is left, and what comes later.
    for late in [&report.requests("Subtract")[0], &run.request("Add", 1)] {
        let answer = late.result::<u32>().expect("it is answered");
        assert_eq!(answer.expect_err("late").kind(), kind::NOT_ANSWERED);
    }
}

#[test]
fn instances_ask_each_other() {
    let report = environment().start("Asks", [4, 0, 5, 6, 7]).finish();
    assert_eq!(
        report.output::<Vec<String>>(),
        ["4", "Nothing", "9", "15", kind::NOT_ANSWERED]
    );
    let sent = report.requests_sent();
    assert_eq!(sent.len(), 5);
    assert_eq!((&*sent[3].to, &*sent[3].name), ("adder", "add"));
    assert_eq!(sent[3].input, 6);
    let adder = report.instance("adder");
    assert_eq!(adder.executions(), 2);
    assert_eq!(adder.requests("Add").len(), 5);
}

#[test]
fn a_request_to_nobody_is_not_answered() {
    async fn asks_nobody(ctx: Context) -> Result<(), Failure> {
        ctx.send_request("nobody", "Add", 1).await
    }
    let environment =
        Environment::of(crate::definitions! { orchestrations: { "Asks" => asks_nobody } });
    let failure = environment.start("Asks", ()).finish().failure();
    assert_eq!(failure.kind(), kind::NOT_ANSWERED);
    assert!(failure.message().contains(r#"no instance "nobody""#));
}

#[test]
fn a_request_that_is_dropped_is_answered_then() {
    let mut run = environment().start("Forgets", ());
    run.give(Input::request("Ask", ()));
    run.advance(SECOND - Duration::from_millis(1));
    assert!(run.report().requests("Ask")[0].result::<()>().is_none());
    run.advance(Duration::from_millis(1));
    let answer = run.report().answers::<()>("Ask").pop();
    assert!(answer.is_some_and(|answer| answer.is_err_and(|no| no.kind() == kind::NOT_ANSWERED)));
}

#[test]
fn a_test_that_sends_no_request_is_told_what_is_awaited() {
    let stuck = catch_unwind(AssertUnwindSafe(|| {
        environment().start("Adder", 0).finish()
    }));
    let panic = stuck.expect_err("nobody asks");
    let message = panic.downcast::<String>().expect("a message");
    assert!(message.contains(r#"request "Add""#), "{message}");
    assert!(message.contains("Run::request_when_waiting"), "{message}");
    let report = environment()
        .start("Adder", 0)
        .request_when_waiting("add", 9)
        .request_when_waiting("add", 1)
        .finish();
    report.assert_answers("Add", &[9, 10]);
}
