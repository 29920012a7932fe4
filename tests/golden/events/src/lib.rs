//! Events, timers and continue-as-new: each round takes what comes first, and hands on what nobody took.

use perennial_sdk::futures::{FutureExt as _, select_biased};
use perennial_sdk::prelude::*;

async fn rounds(
    ctx: Context,
    (round, mut log): (u32, Vec<String>),
) -> Result<Vec<String>, Failure> {
    let hour = Duration::from_secs(3_600);
    ctx.note(format!("round {round}"));
    ctx.set_custom_status((round, "begun"))?;
    let mut items = ctx.events::<u32>("Item").fuse();
    let mut limit = ctx.timer(hour * (round + 1)).fuse();
    loop {
        select_biased! {
            item = items.next() => match item.transpose()? {
                Some(0) | None => break,
                Some(item) => log.push(format!("{round}: item {item}")),
            },
            fired = limit => {
                fired?;
                log.push(format!("{round}: time is up at {}", ctx.now()));
                break;
            }
        }
    }
    drop((items, limit));
    ctx.set_custom_status((round, "asks"))?;
    let answer = ctx.event::<String>("ANSWER").within(hour).await?;
    log.push(format!("{round}: {answer:?}"));
    let either = race(ctx.event::<String>("left"), ctx.event::<String>("Right")).await;
    let (Either::Left(word) | Either::Right(word)) = either;
    log.push(format!("{round}: {}", word?));
    // A hundred years from now, and never waited for.
    let _far = ctx.timer_at(ctx.now() + hour * 24 * 36_525).start();
    if round < 2 {
        return ctx.continue_as_new((round + 1, log));
    }
    Ok(log)
}

perennial_sdk::export! {
    orchestrations: { "Rounds" => rounds },
}
