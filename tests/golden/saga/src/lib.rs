//! A saga of children: steps in instances of their own, undone in reverse, with a failure that comes through two generations.

use perennial_sdk::prelude::*;

async fn trip(ctx: Context, city: String) -> Result<String, Failure> {
    let diary = format!("{}-diary", ctx.instance_id());
    ctx.launch(diary_of, &diary, 3).tag("trip", &city).start()?;
    let result = ctx
        .saga(async |saga| {
            let hotel = ctx.call(book, ("hotel".to_owned(), city.clone())).await?;
            saga.on_failure(ctx.call(cancel, hotel.clone()));
            ctx.send_event(&diary, "Entry", &hotel)?;
            let leg = ctx.call_child(fly, city.clone()).tag("leg", "out").await?;
            saga.on_failure(ctx.call_child(refund, leg.clone()));
            ctx.send_event(&diary, "entry", &leg)?;
            let twice = RetryPolicy::new(2, Duration::from_millis(50));
            let car = ctx.call_child(rent, city.clone()).retry(twice).await?;
            Ok(format!("{hotel}, {leg}, {car}"))
        })
        .await;
    ctx.send_event(&diary, "Entry", "the end")?;
    result
}

async fn diary_of(ctx: Context, entries: usize) -> Result<Vec<String>, Failure> {
    let mut events = ctx.events::<String>("Entry");
    let mut seen = Vec::new();
    while seen.len() < entries {
        if let Some(entry) = events.next().await {
            seen.push(entry?);
        }
    }
    Ok(seen)
}

async fn fly(ctx: Context, city: String) -> Result<String, Failure> {
    let seats = join_all((0..2).map(|_| ctx.call(book, ("seat".to_owned(), city.clone())))).await;
    let seats: Result<Vec<String>, Failure> = seats.into_iter().collect();
    Ok(seats?.join(" and "))
}

async fn rent(ctx: Context, city: String) -> Result<String, Failure> {
    let asked = ctx.call(book, ("car".to_owned(), city)).await;
    asked.map_err(|failure| Failure::new("NoCar", "the desk is closed").caused_by(failure))
}

async fn refund(ctx: Context, leg: String) -> Result<(), Failure> {
    ctx.call(cancel, leg).await
}

fn book((what, city): (String, String)) -> Result<String, Failure> {
    if what == "car" {
        return Err(Failure::new("SoldOut", format!("no {what} in {city}")));
    }
    Ok(format!("{what} in {city}"))
}

fn cancel(ctx: ActivityContext, what: String) -> Result<(), Failure> {
    if what.starts_with("hotel") && ctx.attempt() < 3 {
        return Err(Failure::new("LineBusy", what));
    }
    Ok(())
}

perennial_sdk::export! {
    orchestrations: { "Trip" => trip, "Diary" => diary_of, "Fly" => fly, "Rent" => rent, "Refund" => refund },
    activities: { "Book" => book, "Cancel" => cancel },
}
