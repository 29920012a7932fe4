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

#[cfg(test)]
mod tests {
    use perennial_sdk::serde_json::{Value, json};
    use perennial_sdk::testing::{Environment, Run};

    use super::*;

    fn a_cart() -> Run {
        Environment::of(perennial_sdk::exported!()).start("Cart", ())
    }

    fn item(sku: &str, count: u64) -> Value {
        json!({ "sku": sku, "count": count })
    }

    /// The kind of failure that a request is answered with.
    fn refused(run: &mut Run, request: &str, input: Value) -> String {
        let asked = run.request(request, input);
        let answer = asked.result::<Value>().expect("it is answered");
        answer.expect_err("it is refused").kind().to_owned()
    }

    #[test]
    fn items_are_added_and_paid() {
        let minute = Duration::from_secs(60);
        let report = a_cart()
            .request_after(minute, "AddItem", item("book", 2))
            .request_after(2 * minute, "AddItem", item("chair", 1))
            .request_after(3 * minute, "Checkout", json!({ "card": "4242" }))
            .finish();
        report.assert_answers("AddItem", &[3_000, 7_200]);
        assert_eq!(report.values("total"), [Some(0), Some(3_000), Some(7_200)]);
        let receipt: Receipt = report.output();
        assert_eq!(receipt.cents, 7_200);
        report.assert_answers("Checkout", &[receipt]);
    }

    #[test]
    fn what_is_wrong_is_refused_and_the_cart_goes_on() {
        let mut run = a_cart();
        assert_eq!(
            refused(&mut run, "Checkout", json!({ "card": "4242" })),
            "Empty"
        );
        assert_eq!(refused(&mut run, "AddItem", item("book", 0)), "Count");
        assert_eq!(
            refused(&mut run, "AddItem", item("unicorn", 1)),
            "UnknownItem"
        );
        assert_eq!(refused(&mut run, "AddItem", json!("book")), "InvalidInput");
        let added = run.request("AddItem", item("book", 1)).result::<u64>();
        assert_eq!(added.and_then(Result::ok), Some(1_500));
        assert_eq!(
            refused(&mut run, "Checkout", json!({ "card": "expired" })),
            "CardDeclined"
        );
        assert!(!run.has_ended());
        run.request("Checkout", json!({ "card": "4242" }));
        assert_eq!(run.report().output::<Receipt>().cents, 1_500);
    }

    #[test]
    fn a_long_shopping_is_several_executions() {
        let second = Duration::from_secs(1);
        let mut run = a_cart();
        for _ in 0..250 {
            run = run.request_after(second, "AddItem", item("book", 1));
        }
        let run = run.request_after(2 * second, "Checkout", json!({ "card": "4242" }));
        let report = run.finish();
        assert_eq!(
            (report.output::<Receipt>().cents, report.executions()),
            (250 * 1_500, 3)
        );
        assert_eq!(report.answers::<u64>("AddItem").len(), 250);
    }
}
