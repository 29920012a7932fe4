//! Requests: a shopping cart is an instance that lives long. Clients ask it to add an item or to check out, and get an answer.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// So many requests make one execution. More of them make longer histories to replay, fewer make more executions.
const REQUESTS_PER_EXECUTION: u32 = 100;

/// What is in the cart; the input of the next execution.
#[derive(Default, Serialize, Deserialize)]
struct Contents {
    lines: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    sku: String,
    count: u64,
    /// The price of one.
    cents: u64,
}

/// The request `AddItem`. Its answer is the new total.
#[derive(Deserialize)]
struct Item {
    sku: String,
    count: u64,
}

/// The request `Checkout`. Its answer is the receipt, which is also the output of the orchestration.
#[derive(Deserialize)]
struct Card {
    card: String,
}

#[derive(Serialize, Deserialize)]
struct Payment {
    card: String,
    cents: u64,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    number: String,
    cents: u64,
}

#[derive(FailureKind)]
enum CartError {
    #[failure("{0} is not a number of items: take 1 to 99", not_retryable)]
    Count(u64),
    #[failure("there is no item {0:?}", not_retryable)]
    UnknownItem(String),
    #[failure("the cart is empty", not_retryable)]
    Empty,
    #[failure("the bank declined card {0:?}", not_retryable)]
    CardDeclined(String),
}

/// A shopping cart: it answers `AddItem` and `Checkout`, and ends when it is paid.
#[orchestration(validate(AddItem = check_item))]
async fn cart(ctx: Context, contents: Option<Contents>) -> Result<Receipt, Failure> {
    let mut contents = contents.unwrap_or_default();
    for _ in 0..REQUESTS_PER_EXECUTION {
        ctx.set_value("total", contents.total())?;
        let add = ctx.next_request::<Item, u64>("AddItem");
        let check_out = ctx.next_request::<Card, Receipt>("Checkout");
        // One after the other: what comes in meanwhile is kept. Of two that are there the race takes the left one, so that what was added
        // before the checkout counts.
        match race(add, check_out).await {
            Either::Left(request) => {
                let request = request?;
                let Item { sku, count } = request.input();
                let (sku, count) = (sku.clone(), *count);
                match ctx.call(price_of, sku.clone()).await {
                    Ok(cents) => {
                        contents.lines.push(Line { sku, count, cents });
                        request.respond(&contents.total())?;
                    }
                    Err(failure) => request.reject(failure),
                }
            }
            Either::Right(request) => {
                let request = request?;
                // What depends on the cart no validator can know.
                if contents.lines.is_empty() {
                    request.reject(CartError::Empty);
                    continue;
                }
                let payment = Payment {
                    card: request.input().card.clone(),
                    cents: contents.total(),
                };
                match ctx.call(charge, payment).await {
                    Ok(receipt) => {
                        request.respond(&receipt)?;
                        return Ok(receipt);
                    }
                    Err(failure) => request.reject(failure),
                }
            }
        }
    }
    // Requests that nobody has taken yet move over to the next execution, in order.
    ctx.continue_as_new(contents)
}

impl Contents {
    fn total(&self) -> u64 {
        self.lines.iter().map(|line| line.count * line.cents).sum()
    }
}

/// Judges the request by its input alone, where the host can before it is recorded.
fn check_item(item: &Item) -> Result<(), CartError> {
    match item.count {
        1..=99 => Ok(()),
        count => Err(CartError::Count(count)),
    }
}

#[activity]
fn price_of(sku: String) -> Result<u64, CartError> {
    match sku.as_str() {
        "book" => Ok(1_500),
        "chair" => Ok(4_200),
        _ => Err(CartError::UnknownItem(sku)),
    }
}

#[activity]
fn charge(ctx: ActivityContext, payment: Payment) -> Result<Receipt, CartError> {
    if payment.card == "expired" {
        return Err(CartError::CardDeclined(payment.card));
    }
    Ok(Receipt {
        number: ctx.idempotency_key().to_owned(),
        cents: payment.cents,
    })
}

perennial_sdk::export! {
    orchestrations: [cart],
    activities: [price_of, charge],
}
