//! A chain with retries: each step is tried again when it fails for a reason that may pass, and not when it cannot help.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    item: String,
    cents: u64,
    /// So many times the bank does not answer.
    #[serde(default)]
    bank_outages: u32,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    number: String,
    /// The attempt that succeeded.
    attempt: u32,
}

async fn fulfil(ctx: Context, order: Order) -> Result<String, Failure> {
    // After 1 s, 2 s, 4 s and so on, but at most 30 s; a payment that takes longer than 10 s counts as failed.
    let patient = RetryPolicy::new(5, Duration::from_secs(1))
        .backoff(2.0)
        .max_delay(Duration::from_secs(30));
    let receipt = ctx
        .call(charge, order.clone())
        .retry(patient)
        .attempt_timeout(Duration::from_secs(10))
        .await?;
    let parcel = ctx.call(ship, order.item).await?;
    Ok(format!(
        "{parcel}, paid with {} at attempt {}",
        receipt.number, receipt.attempt
    ))
}

fn charge(ctx: ActivityContext, order: Order) -> Result<Receipt, Failure> {
    if order.cents > 100_000 {
        let message = format!("the limit is 100000, not {}", order.cents);
        return Err(Failure::new("CardDeclined", message).not_retryable());
    }
    if ctx.attempt() <= order.bank_outages {
        return Err(Failure::new("BankUnreachable", "the bank does not answer"));
    }
    // A bank that is given the same key twice charges once.
    Ok(Receipt {
        number: ctx.idempotency_key().to_owned(),
        attempt: ctx.attempt(),
    })
}

fn ship(item: String) -> Result<String, Failure> {
    Ok(format!("{item} shipped"))
}

perennial_sdk::export! {
    orchestrations: { "Fulfil" => fulfil },
    activities: { "Charge" => charge, "Ship" => ship },
}
