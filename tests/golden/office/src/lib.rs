//! What contract 0.2 added: requests, named values, tags, options of calls and children, dates, cancellation.

use perennial_sdk::prelude::*;

/// Answers requests in two rounds, asks its helper, and ends when it is cancelled.
async fn office(ctx: Context, round: u32) -> Result<(), Failure> {
    let minute = Duration::from_secs(60);
    ctx.set_value("round", round)?;
    ctx.set_tag("round", Some(&round.to_string()));
    let helper = ctx
        .child::<u64>("Helper", round)
        .instance_id(format!("helper-{round}"))
        .never_reuse()
        .when_dropped(ChildPolicy::Cancel)
        .execution_timeout(100 * minute)
        .start();
    let stamp = ctx
        .activity::<u64>("Stamp", round)
        .heartbeat_timeout(minute)
        .at_most_once();
    ctx.set_custom_status((round, stamp.await?))?;
    loop {
        let request = ctx.next_request::<u64, u64>("Add").await;
        let Ok(request) = request else { break };
        let id = format!("helper-{round}");
        match ctx.send_request::<u64>(id, "Double", request.input()).await {
            Ok(double) => request.respond(&double)?,
            Err(failure) => request.reject(failure),
        }
        ctx.set_custom_status((round, "answered"))?;
        if round == 0 {
            drop(helper);
            return ctx.continue_as_new(round + 1);
        }
        ctx.clear_value("round");
    }
    // Cancelled: the date is long past, and the helper ends with this.
    ctx.shielded(ctx.timer_at(ctx.now())).await?;
    ctx.event::<()>("Never").await
}

/// Doubles what it is asked, but not zero.
async fn helper(ctx: Context, _: u32) -> Result<u64, Failure> {
    loop {
        let request = ctx.next_request::<u64, u64>("Double").await?;
        match *request.input() {
            0 => request.reject(Failure::new("Zero", "there is nothing to double")),
            n => request.respond(&(2 * n))?,
        }
    }
}

fn stamp(ctx: ActivityContext, round: u32) -> Result<u64, Failure> {
    ctx.heartbeat(round)?;
    Ok(u64::from(round) + 1)
}

perennial_sdk::export! {
    orchestrations: { "Office" => office, "Helper" => helper },
    activities: { "Stamp" => stamp },
}
