//! Runs a program with what the SDK offers.

use std::pin::Pin;

use perennial_sdk::prelude::*;
use perennial_sdk::serde_json::{Value, json};

use super::program::{CAUGHT, Input, Op, UNDONE};

/// Runs the first round, and continues as new for the others.
pub(crate) async fn program(ctx: Context, mut input: Input) -> Result<u64, Failure> {
    if input.rounds.is_empty() {
        return Ok(input.sum);
    }
    let op = input.rounds.remove(0);
    input.sum += run(&ctx, &op).await?;
    if input.rounds.is_empty() {
        return Ok(input.sum);
    }
    ctx.continue_as_new(input)
}

/// Runs an operation and then fails.
pub(crate) async fn fails(ctx: Context, op: Op) -> Result<u64, Failure> {
    let value = run(&ctx, &op).await?;
    Err(Failure::new("Meant", format!("it came to {value}")).with_details(&value))
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<u64, Failure>> + 'a>>;

fn run<'a>(ctx: &'a Context, op: &'a Op) -> Running<'a> {
    Box::pin(async move {
        match op {
            Op::Seq(ops) => {
                let mut sum = 0;
                for op in ops {
                    sum += run(ctx, op).await?;
                }
                Ok(sum)
            }
            Op::Par(ops) => sum(join_all(ops.iter().map(|op| run(ctx, op))).await),
            Op::Unordered(ops) => {
                let mut running: FuturesUnordered<_> = ops.iter().map(|op| run(ctx, op)).collect();
                let mut total = 0;
                while let Some(value) = running.next().await {
                    total += value?;
                }
                Ok(total)
            }
            Op::Map(width, ops) => sum(ctx.map(ops, *width, |op| run(ctx, op)).await),
            Op::Saga(ops, undone) => saga(ctx, ops, *undone).await,
            Op::Unrivalled(op) => match race(run(ctx, op), ctx.event::<Value>("Never")).await {
                Either::Left(value) => value,
                Either::Right(_) => unexpected("an event that nobody raised"),
            },
            op => leaf(ctx, op).await,
        }
    })
}

async fn leaf(ctx: &Context, op: &Op) -> Result<u64, Failure> {
    let soon = Duration::from_millis(5);
    let span = Duration::from_millis;
    match op {
        Op::Echo(value) => ctx.activity("Echo", value).await,
        Op::Flaky(value, fails) => {
            let call = ctx.activity("FailsFirst", (value, fails));
            call.retry(RetryPolicy::new(10, soon).backoff(1.5)).await
        }
        Op::Exhausted(attempts) => {
            let call = ctx.activity("FailsFirst", (0, 1_000));
            caught(call.retry(RetryPolicy::new(*attempts, soon)).await, "Flaky")
        }
        Op::Broken => caught(ctx.activity("Broken", ()).await, "Broken"),
        Op::Timer(millis) => ctx.timer(span(*millis)).await.map(|()| 1),
        Op::Within(millis) => match ctx.event::<Value>("never").within(span(*millis)).await? {
            None => Ok(2),
            Some(_) => unexpected("an event that nobody raised"),
        },
        Op::Timeout(millis) => {
            let never = ctx.child::<u64>(
                "Program",
                json!({ "sum": 0, "rounds": [{ "Unrivalled": { "Event": 77 } }] }),
            );
            caught(ctx.timeout(span(*millis), never).await, "Timeout").map(|_| 3)
        }
        Op::Tie(value) => {
            let (one, other) = (ctx.activity("Echo", value), ctx.activity("Echo", value));
            race(one, other).await.into_inner()
        }
        Op::Duel(shorter, longer) => {
            let spans = [*longer, *shorter];
            let (place, fired) = race_all(spans.map(|millis| ctx.timer(span(millis)))).await;
            fired?;
            Ok(spans[place])
        }
        Op::Event(number) => ctx.event(format!("e{number}")).await,
        Op::Dropped => {
            drop(ctx.activity::<u64>("Echo", 7).start());
            Ok(0)
        }
        Op::Detached => {
            ctx.activity::<u64>("Echo", 8).start().detach()?;
            Ok(0)
        }
        Op::Status(value) => {
            ctx.set_custom_status(value)?;
            let name = format!("v{}", value % 3);
            match value % 5 {
                0 => ctx.clear_value(name),
                _ => ctx.set_value(name, value)?,
            }
            let shown = value.to_string();
            ctx.set_tag(format!("t{}", value % 2), (value % 7 > 0).then_some(&shown));
            Ok(0)
        }
        Op::Draws => {
            let drawn = json!([ctx.random_u64(), ctx.new_uuid().to_string(), ctx.now()]);
            let same = ctx.activity::<Value>("Echo", &drawn).await? == drawn;
            if same {
                Ok(4)
            } else {
                unexpected("other numbers")
            }
        }
        Op::Child(op) => {
            ctx.child("Program", json!({ "sum": 0, "rounds": [op] }))
                .await
        }
        Op::Named(name, op) => {
            let input = json!({ "sum": 0, "rounds": [op] });
            let id = format!("{}.{name}", ctx.instance_id());
            let call = || ctx.child::<u64>("Program", &input).instance_id(&id);
            let first = call().await?;
            let again = call().await?;
            if first == again {
                Ok(again)
            } else {
                unexpected("another result under the same id")
            }
        }
        Op::FailingChild(op) => caught(ctx.child("Fails", op).await, "Meant"),
        Op::Seq(_)
        | Op::Par(_)
        | Op::Unordered(_)
        | Op::Map(..)
        | Op::Saga(..)
        | Op::Unrivalled(_) => unexpected("a part where a leaf should be"),
    }
}

async fn saga(ctx: &Context, ops: &[Op], undone: bool) -> Result<u64, Failure> {
    let result = ctx
        .saga(async |saga| {
            let mut sum = 0;
            for op in ops {
                sum += run(ctx, op).await?;
                saga.on_failure(ctx.activity::<u64>("Echo", sum));
            }
            if undone {
                return Err(Failure::new("Undone", "it was meant to fail"));
            }
            Ok(sum)
        })
        .await;
    match result {
        Err(failure) if failure.kind() == "Undone" => {
            // Every compensation was carried out.
            if failure.causes().is_empty() {
                Ok(UNDONE)
            } else {
                Err(failure)
            }
        }
        other => other,
    }
}

fn sum(values: Vec<Result<u64, Failure>>) -> Result<u64, Failure> {
    values.into_iter().sum()
}

fn caught(result: Result<u64, Failure>, kind: &str) -> Result<u64, Failure> {
    match result {
        Err(failure) if failure.kind() == kind => Ok(CAUGHT),
        other => other,
    }
}

fn unexpected<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::new("Unexpected", what))
}
