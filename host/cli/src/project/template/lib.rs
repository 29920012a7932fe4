//! {{name}}: a durable orchestration, and an activity that it calls.

use perennial_sdk::prelude::*;

/// Greets somebody, or the world.
///
/// It decides what happens, in which order. Everything that it learns comes through `ctx` and is on record, so it survives any crash.
#[orchestration(name = "{{Name}}")]
async fn orchestrate(ctx: Context, name: Option<String>) -> Result<String, Failure> {
    let name = name.unwrap_or_else(|| "world".to_owned());
    info!("greeting {name}");
    let greeting = ctx.call(greet, name).await?;
    // As durable as the rest: ctx.timer(Duration::from_secs(3 * 24 * 3600)).await?;
    Ok(greeting)
}

/// Makes a greeting.
///
/// It does something: ordinary code with side effects, which sees of the outside what the deployment grants.
#[activity(name = "{{Name}}Greet")]
fn greet(name: String) -> Result<String, Failure> {
    Ok(format!("Hello {name}!"))
}

perennial_sdk::export! {
    orchestrations: [orchestrate],
    activities: [greet],
}

#[cfg(test)]
mod tests {
    use perennial_sdk::testing::Environment;

    /// Runs natively, under the rules of a host: days pass in milliseconds. `cargo test` starts it.
    #[test]
    fn it_greets() {
        let report = Environment::of(perennial_sdk::exported!()).start("{{Name}}", "you").finish();
        assert_eq!(report.output::<String>(), "Hello you!");
        report.assert_called(&["{{Name}}Greet"]);
    }
}
