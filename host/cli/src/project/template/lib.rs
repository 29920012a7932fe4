//! {{name}}: a durable orchestration, and an activity that it calls.

use perennial_sdk::prelude::*;

/// Decides what happens, in which order. Everything that it learns comes through `ctx` and is on record, so it survives any crash.
async fn orchestrate(ctx: Context, name: Option<String>) -> Result<String, Failure> {
    let name = name.unwrap_or_else(|| "world".to_owned());
    info!("greeting {name}");
    let greeting = ctx.call(greet, name).await?;
    // As durable as the rest: ctx.timer(Duration::from_secs(3 * 24 * 3600)).await;
    Ok(greeting)
}

/// Does something: ordinary code with side effects, which sees of the outside what the deployment grants.
fn greet(name: String) -> Result<String, Failure> {
    Ok(format!("Hello {name}!"))
}

perennial_sdk::export! {
    orchestrations: { "{{Name}}" => orchestrate },
    activities: { "{{Name}}Greet" => greet },
}
