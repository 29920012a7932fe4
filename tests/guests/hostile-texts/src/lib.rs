//! Says whatever a terminal would obey, and more of it than anybody could read, wherever a guest may say something.

#![allow(clippy::print_stdout, reason = "what is printed is looked at")]

use perennial_sdk::prelude::*;

/// Clears the screen, in the two ways that there are, turns the order of text around, begins a line of its own, rings, and is not seen.
const FOUL: &str = "foul\u{1b}[2J\u{9b}31m\u{202e}\r\nerror: forged\u{7}\u{200b}\u{2028}\u{7f}end";

/// Shows it, and waits.
async fn shows(ctx: Context) -> Result<(), Failure> {
    ctx.set_custom_status(FOUL)?;
    info!("{FOUL}");
    ctx.event("Go").await
}

/// Fails with what an activity failed with.
async fn fails(ctx: Context) -> Result<(), Failure> {
    ctx.call(insults, ()).await
}

async fn panics(_: Context, bytes: usize) -> Result<(), Failure> {
    panic!("{}{FOUL}", "x".repeat(bytes))
}

async fn returns(_: Context) -> Result<&'static str, Failure> {
    Ok(FOUL)
}

/// Lives to tell of an activity's failure that is larger than its own memory.
async fn survives(ctx: Context, bytes: usize) -> Result<String, Failure> {
    match ctx.call(raves, bytes).await {
        Ok(()) => Ok("it did not fail".to_owned()),
        Err(failure) => {
            let message = failure.message();
            let end = message.char_indices().rev().nth(30);
            Ok(message[end.map_or(0, |(at, _)| at)..].to_owned())
        }
    }
}

async fn floods(ctx: Context, lines: usize) -> Result<(), Failure> {
    ctx.call(shouts, lines).await
}

fn insults(_: ()) -> Result<(), Failure> {
    println!("{FOUL}");
    eprintln!("{FOUL}");
    warn!("{FOUL}");
    let cause = Failure::new(FOUL, FOUL);
    Err(Failure::new(FOUL, FOUL)
        .not_retryable()
        .with_details(&FOUL)
        .caused_by(cause))
}

fn raves(bytes: usize) -> Result<(), Failure> {
    Err(Failure::new("Raving", "x".repeat(bytes)).not_retryable())
}

fn shouts(lines: usize) -> Result<(), Failure> {
    for line in 0..lines {
        println!("{line} {}", "x".repeat(1_000));
        info!("{line} {}", "x".repeat(1_000));
    }
    Ok(())
}

perennial_sdk::export! {
    orchestrations: {
        "Shows" (description = "foul\u{1b}[2J\u{9b}31m\u{202e}\r\nerror: forged") => shows,
        "Fails" => fails,
        "Panics" => panics,
        "Returns" => returns,
        "Survives" => survives,
        "Floods" => floods,
    },
    activities: {
        "Insults" (description = "foul\u{1b}[2J\u{9b}31m\u{202e}\r\nerror: forged") => insults,
        "Raves" => raves,
        "Shouts" => shouts,
    },
}
