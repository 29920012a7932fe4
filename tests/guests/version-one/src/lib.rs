//! The first version of a module. See `version-two` for what the next one does otherwise.

use perennial_sdk::prelude::*;

/// Packs, waits for `Go`, and sends.
async fn ship(ctx: Context, order: String) -> Result<String, Failure> {
    let parcel = ctx.call(pack, order).await?;
    let () = ctx.event("Go").await?;
    ctx.call(send, parcel).await
}

/// Waits for `Paid`.
async fn bill(ctx: Context, _: ()) -> Result<u32, Failure> {
    ctx.event("Paid").await
}

/// Is in no later version.
async fn retire(ctx: Context, _: ()) -> Result<(), Failure> {
    ctx.event("Go").await
}

fn pack(order: String) -> Result<String, Failure> {
    Ok(format!("packed {order}"))
}

fn send(parcel: String) -> Result<String, Failure> {
    Ok(format!("sent {parcel} by the first version"))
}

perennial_sdk::export! {
    orchestrations: { "Ship" => ship, "Bill" => bill, "Refund" (version = "1") => bill, "Retire" => retire },
    activities: { "Pack" => pack, "Send" => send },
}
