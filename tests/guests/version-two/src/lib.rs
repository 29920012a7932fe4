//! The second version of `version-one`: `Ship` weighs before it packs, so that histories of the first version do not repeat on it; `Bill`
//! asks for the same things, and logs that it waits; `Retire` is gone.

use perennial_sdk::prelude::*;

async fn ship(ctx: Context, order: String) -> Result<String, Failure> {
    let weight = ctx.call(weigh, order.clone()).await?;
    let parcel = ctx.call(pack, order).await?;
    let () = ctx.event("Go").await?;
    ctx.call(send, format!("{parcel} of {weight} g")).await
}

async fn bill(ctx: Context, _: ()) -> Result<u32, Failure> {
    info!("a bill waits to be paid");
    let paid: u32 = ctx.event("Paid").await?;
    Ok(paid + 1_000)
}

fn weigh(order: String) -> Result<usize, Failure> {
    Ok(order.len())
}

fn pack(order: String) -> Result<String, Failure> {
    Ok(format!("packed {order}"))
}

fn send(parcel: String) -> Result<String, Failure> {
    Ok(format!("sent {parcel} by the second version"))
}

perennial_sdk::export! {
    orchestrations: { "Ship" => ship, "Bill" => bill, "Refund" (version = "2") => bill },
    activities: { "Weigh" => weigh, "Pack" => pack, "Send" => send },
}
