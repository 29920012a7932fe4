//! Annotated functions: what they are exported as, what they print, and what they fail with.

#![allow(
    clippy::dbg_macro,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "what is printed is looked at"
)]

use perennial_sdk::prelude::*;
use serde::Deserialize;

/// Prints in each of its turns,
/// and has an activity print too.
///
/// Nothing is printed twice.
#[orchestration(version = "3")]
async fn prints(ctx: Context, turns: u32) -> Result<(), Failure> {
    for turn in 0..turns {
        println!("println {turn}");
        eprintln!("eprintln {turn}");
        print!("print ");
        print!("{turn}\n{turn} is kept, ");
        println!("and ends");
        eprint!("eprint ");
        eprintln!("{turn}");
        let doubled = dbg!(turn * 2);
        ctx.call(print_in_activity, doubled).await?;
    }
    Ok(())
}

#[activity]
fn print_in_activity(number: u32) -> Result<(), Failure> {
    println!("activity println {number}");
    eprintln!("activity eprintln {number}");
    print!("activity ");
    println!("print {number}");
    dbg!(number, "two");
    Ok(())
}

#[derive(FailureKind)]
enum StockError {
    #[failure("{left} left of {item}", not_retryable)]
    SoldOut { item: String, left: u32 },
    /// Nobody answers at the warehouse.
    #[failure(kind = "warehouse-closed")]
    Closed,
}

#[derive(Deserialize)]
struct Reservation {
    item: String,
    count: u32,
}

/// Tells what the failure of an activity says, or hands it on.
#[orchestration]
async fn order(ctx: Context, item: String) -> Result<String, Failure> {
    match ctx.call(reserve, item).await {
        Ok(reserved) => Ok(format!("{reserved} reserved")),
        Err(failure) => match StockError::from_failure(&failure) {
            Some(StockError::SoldOut { item, left }) => Ok(format!("only {left} of {item}")),
            Some(StockError::Closed) => Ok("come back tomorrow".to_owned()),
            None => Err(failure),
        },
    }
}

/// The same of a child.
#[orchestration]
async fn order_by_child(ctx: Context, item: String) -> Result<String, Failure> {
    let failure = match ctx.call_child(reserves, item).await {
        Ok(()) => return Ok("reserved".to_owned()),
        Err(failure) => failure,
    };
    match StockError::from_failure(&failure) {
        Some(StockError::SoldOut { left, .. }) => Ok(format!("the child has {left}")),
        Some(StockError::Closed) | None => Err(failure),
    }
}

/// An orchestration with an error of its own.
#[orchestration(name = "stock.reserve", description = "Reserves, or says why not")]
async fn reserves(_: Context, item: String) -> Result<(), StockError> {
    reserve(item).map(|_| ())
}

#[activity]
fn reserve(item: String) -> Result<u32, StockError> {
    match &*item {
        "chair" => Err(StockError::SoldOut { item, left: 2 }),
        "table" => Err(StockError::Closed),
        _ => Ok(1),
    }
}

/// Takes an input, the data of events and the outcome of an activity that may be encoded twice.
#[orchestration]
async fn counts(ctx: Context, reservation: Reservation) -> Result<String, Failure> {
    let more: Reservation = ctx.event("More").await?;
    let text: String = ctx.event("Text").await?;
    // The activity returns a text.
    let echoed: u32 = ctx.activity("Echo", "7").await?;
    Ok(format!(
        "{} {}, {} {}, {echoed}, {text}",
        reservation.count, reservation.item, more.count, more.item
    ))
}

#[activity]
fn echo(text: String) -> Result<String, Failure> {
    Ok(text)
}

/// Takes something for a day, and gives it back when it is cancelled.
#[orchestration]
async fn lease(ctx: Context, item: String) -> Result<String, Failure> {
    ctx.saga(async |saga| {
        let taken = ctx.call(echo, format!("{item} taken")).await?;
        saga.on_failure(ctx.call(echo, format!("{item} given back")));
        ctx.set_value("stage", "leased")?;
        ctx.timer(Duration::from_secs(24 * 60 * 60)).await?;
        Ok(taken)
    })
    .await
}

/// Has a child lease something, and drops it when it is told to.
#[orchestration]
async fn lease_by_child(ctx: Context, item: String) -> Result<(), Failure> {
    let child = ctx
        .call_child(lease, item)
        .instance_id("the-lease")
        .when_dropped(ChildPolicy::Cancel)
        .start();
    ctx.event::<()>("Drop").await?;
    drop(child);
    Ok(())
}

/// Copies in parts, in an activity whose first attempt fails half-way. Returns the part that the last attempt began with.
#[orchestration]
async fn copy(ctx: Context, parts: u32) -> Result<(u32, String), Failure> {
    let policy = RetryPolicy::new(2, Duration::from_millis(1));
    let began_with = ctx
        .call(copy_parts, parts)
        .retry(policy)
        .heartbeat_timeout(Duration::from_secs(60))
        .await?;
    let once = ctx.call(echo, "once".to_owned()).at_most_once().await?;
    Ok((began_with, once))
}

#[activity]
fn copy_parts(ctx: ActivityContext, parts: u32) -> Result<u32, Failure> {
    let first = ctx.last_heartbeat().unwrap_or(0);
    for part in first..parts {
        if ctx.attempt() == 1 && part == parts / 2 {
            return Err(Failure::new("Interrupted", format!("before part {part}")));
        }
        ctx.heartbeat(part + 1)?;
    }
    Ok(first)
}

perennial_sdk::export! {
    orchestrations: [prints, order, order_by_child, reserves, counts, lease, lease_by_child, copy],
    activities: [print_in_activity, reserve, echo, copy_parts],
}
