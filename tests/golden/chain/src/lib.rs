//! A chain with retries: every step's input depends on what the execution knows, draws and was told before.

use perennial_sdk::prelude::*;

async fn chain(ctx: Context, steps: u32) -> Result<Vec<String>, Failure> {
    let mut done = Vec::new();
    for step in 0..steps {
        ctx.set_custom_status(step)?;
        let ticket = format!("{} {} {}", ctx.now(), ctx.new_uuid(), ctx.random_u64());
        let policy = RetryPolicy::new(4, Duration::from_millis(100))
            .backoff(2.0)
            .max_delay(Duration::from_millis(300))
            .jitter(0.2);
        let stamp = ctx
            .call(stamp, (step, ticket))
            .retry(policy)
            .attempt_timeout(Duration::from_secs(30))
            .await?;
        info!("step {step}: {stamp}");
        done.push(stamp);
    }
    match ctx.call(refuse, done.len() as u32).await {
        Err(failure) => done.push(failure.to_string()),
        Ok(()) => ctx.clear_custom_status(),
    }
    let declined = ctx.call(refuse, 0).await;
    declined.map_err(|failure| Failure::new("ChainBroken", done.join(", ")).caused_by(failure))?;
    Ok(done)
}

fn stamp(ctx: ActivityContext, (step, ticket): (u32, String)) -> Result<String, Failure> {
    if ctx.attempt() <= step % 3 {
        return Err(Failure::new(
            "NotYet",
            format!("attempt {} of step {step}", ctx.attempt()),
        ));
    }
    Ok(format!("{step}/{}/{}", ctx.attempt(), ticket.len()))
}

fn refuse(cents: u32) -> Result<(), Failure> {
    if cents == 0 {
        let zero = "nothing".parse::<u32>();
        zero?;
    }
    Err(
        Failure::new("CardDeclined", format!("{cents} are too many"))
            .not_retryable()
            .with_details(&cents),
    )
}

perennial_sdk::export! {
    orchestrations: { "Chain" (version = "1") => chain },
    activities: { "Stamp" => stamp, "Refuse" => refuse },
}
