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

#[derive(FailureKind)]
enum PaymentError {
    #[failure("the limit is {limit}, not {cents}", not_retryable)]
    CardDeclined { limit: u64, cents: u64 },
    /// the bank does not answer
    BankUnreachable,
}

#[orchestration]
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

#[activity]
fn charge(ctx: ActivityContext, order: Order) -> Result<Receipt, PaymentError> {
    const LIMIT: u64 = 100_000;
    if order.cents > LIMIT {
        return Err(PaymentError::CardDeclined {
            limit: LIMIT,
            cents: order.cents,
        });
    }
    if ctx.attempt() <= order.bank_outages {
        return Err(PaymentError::BankUnreachable);
    }
    // A bank that is given the same key twice charges once.
    Ok(Receipt {
        number: ctx.idempotency_key().to_owned(),
        attempt: ctx.attempt(),
    })
}

#[activity]
fn ship(item: String) -> Result<String, Failure> {
    Ok(format!("{item} shipped"))
}

perennial_sdk::export! {
    orchestrations: [fulfil],
    activities: [charge, ship],
}
