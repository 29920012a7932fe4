//! Durable HTTP calls: a price is asked for until the service answers, and an order is placed at it. The token is the host's secret.

use perennial_sdk::prelude::*;
use perennial_sdk::serde_json::json;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Order {
    /// Where the shop is, such as `https://shop.example.com`.
    shop: String,
    item: String,
    /// Not a cent more.
    cents_max: u64,
}

#[derive(Deserialize)]
struct Price {
    cents: u64,
}

#[derive(Deserialize)]
struct Receipt {
    number: u64,
}

#[derive(Serialize)]
struct Placed {
    number: u64,
    cents: u64,
}

#[orchestration]
async fn order(ctx: Context, order: Order) -> Result<Placed, Failure> {
    let retry = RetryPolicy::new(10, Duration::from_millis(100)).backoff(2.0);
    let price = HttpRequest::get(format!("{}/prices/{}", order.shop, order.item));
    let response = ctx.http(price).retry(retry.clone()).await?;
    if response.status() == 404 {
        let message = format!("the shop has no {}", order.item);
        return Err(Failure::new("NoSuchItem", message));
    }
    let Price { cents } = response.error_for_status()?.json()?;
    if cents > order.cents_max {
        let message = format!("{} costs {cents} cents", order.item);
        return Err(Failure::new("TooExpensive", message));
    }
    // Every attempt has the same `Idempotency-Key`, so that the shop recognises a repeat.
    let place = HttpRequest::post(format!("{}/orders", order.shop))
        .header_from_env("authorization", "SHOP_TOKEN")
        .json(&json!({ "item": order.item, "cents": cents }));
    let response = ctx.http(place).retry(retry).await?.error_for_status()?;
    let Receipt { number } = response.json()?;
    Ok(Placed { number, cents })
}

perennial_sdk::export! {
    orchestrations: [order],
}
