//! A chain: three activities, one after the other, each recorded before the next one starts.

use perennial_sdk::prelude::*;

#[orchestration]
async fn hello_sequence(ctx: Context, _: ()) -> Result<Vec<String>, Failure> {
    let mut greetings = Vec::new();
    for city in ["Tokyo", "Seattle", "London"] {
        greetings.push(ctx.call(say_hello, city.to_owned()).await?);
    }
    Ok(greetings)
}

#[activity]
fn say_hello(city: String) -> Result<String, Failure> {
    Ok(format!("Hello {city}!"))
}

perennial_sdk::export! {
    orchestrations: [hello_sequence],
    activities: [say_hello],
}
