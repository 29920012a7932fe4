//! Many at once: a bounded map, a join, whoever is first, and a loop of `select!` over what is still open.

use perennial_sdk::futures::{FutureExt as _, future, select_biased};
use perennial_sdk::prelude::*;

async fn fan(ctx: Context, width: u32) -> Result<(u32, u32, Vec<u32>, u32), Failure> {
    let mapped: Result<Vec<u32>, Failure> = ctx
        .map(0..width, 4, |n| ctx.call(double, n))
        .await
        .into_iter()
        .collect();
    let joined = try_join_all((0..width).map(|n| ctx.call(double, n))).await?;
    let mut open: FuturesUnordered<_> = (0..5).map(|n| ctx.call(double, n)).collect();
    let mut tick = ctx.timer(Duration::from_secs(86_400)).fuse();
    let mut order = Vec::new();
    loop {
        select_biased! {
            done = open.next() => match done {
                Some(n) => order.push(n?),
                None => break,
            },
            fired = tick => {
                fired?;
                return Err(Failure::new("TooSlow", "a day has passed"));
            }
        }
    }
    order.sort_unstable();
    let racers = (0..3).map(|n| ctx.call(double, n).boxed_local());
    let (first, _, losers) = future::select_all(racers).await;
    drop(losers);
    let (place, fired) = race_all([3_u64, 1, 2].map(|n| ctx.timer(Duration::from_millis(n)))).await;
    fired?;
    let ready = first? % 2 + place as u32;
    Ok((
        mapped?.into_iter().sum(),
        joined.into_iter().sum(),
        order,
        ready,
    ))
}

fn double(n: u32) -> Result<u32, Failure> {
    Ok(2 * n)
}

perennial_sdk::export! {
    orchestrations: { "Fan" => fan },
    activities: { "Double" => double },
}
