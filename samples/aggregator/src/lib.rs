//! An aggregator: an eternal orchestration that adds up events, and continues as new so that its history stays short.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// So many events make one execution. More of them make longer histories to replay, fewer make more executions.
const EVENTS_PER_EXECUTION: u32 = 100;

#[derive(Default, Serialize, Deserialize)]
struct Account {
    balance: i64,
    bookings: u64,
}

/// Takes the events `Book`, each with an amount, until the event `Close`.
#[orchestration]
async fn aggregate(ctx: Context, account: Option<Account>) -> Result<Account, Failure> {
    let mut account = account.unwrap_or_default();
    for _ in 0..EVENTS_PER_EXECUTION {
        ctx.set_custom_status(&account)?;
        // What was booked before it was closed counts: of two events that are there, the race takes the left one.
        match race(ctx.event::<i64>("Book"), ctx.event::<()>("Close")).await {
            Either::Left(amount) => {
                account.balance += amount?;
                account.bookings += 1;
            }
            Either::Right(_) => return Ok(account),
        }
    }
    // Events that nobody has taken yet move over to the next execution, in order.
    ctx.continue_as_new(account)
}

perennial_sdk::export! {
    orchestrations: [aggregate],
}
