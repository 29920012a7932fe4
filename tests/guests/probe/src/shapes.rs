//! How programs are put together: each shape that authors know, in its smallest form.

use std::time::Duration;

use perennial_sdk::futures::{self, FutureExt as _};
use perennial_sdk::prelude::*;
use perennial_sdk::serde_json::{Value, json};

/// Calls what it is told to, with an attempt timeout, and says how it ended.
pub(crate) async fn calls(
    ctx: Context,
    (name, input, timeout_ms): (String, Value, Option<u64>),
) -> Result<Value, Failure> {
    let mut call = ctx.activity::<Value>(name, input);
    if let Some(timeout_ms) = timeout_ms {
        call = call.attempt_timeout(Duration::from_millis(timeout_ms));
    }
    call.await
}

/// The grandparent: a failure comes through two generations, and each adds what it knows.
pub(crate) async fn fails_through(ctx: Context, generations: u32) -> Result<(), Failure> {
    let result = match generations {
        0 => ctx.activity::<()>("Decline", "no money").await,
        1 => ctx.call_child(fails_below, ()).await,
        _ => ctx.child::<()>("FailsThrough", generations - 1).await,
    };
    result.map_err(|failure| {
        Failure::new(
            "StepFailed",
            format!("generation {generations} of {}", ctx.name()),
        )
        .caused_by(failure)
    })
}

/// The grandchild: lets a failure through with `?`.
pub(crate) async fn fails_below(ctx: Context) -> Result<(), Failure> {
    ctx.call(crate::acts::declines, "no money".to_owned())
        .await?;
    Ok(())
}

/// `join!` and `try_join!` of the ordinary crate.
pub(crate) async fn joins(ctx: Context) -> Result<(Value, Value, Value), Failure> {
    let (left, right) = futures::join!(wait_for(&ctx, "Left"), wait_for(&ctx, "Right"));
    let (third, ()) = futures::try_join!(wait_for(&ctx, "Third"), ctx.activity::<()>("Keep", ()))?;
    Ok((left?, right?, third))
}

async fn wait_for(ctx: &Context, name: &str) -> Result<Value, Failure> {
    ctx.event(name).await
}

/// `select!` between a stream and a timer.
pub(crate) async fn selects(ctx: Context) -> Result<Vec<Value>, Failure> {
    let mut seen = Vec::new();
    let mut events = ctx.events::<Value>("Item").fuse();
    let mut limit = ctx.timer(Duration::from_secs(60)).fuse();
    loop {
        futures::select_biased! {
            event = events.next() => seen.extend(event.transpose()?),
            fired = limit => return fired.map(|()| seen),
        }
    }
}

/// The `select!` that shuffles: what it draws is drawn again in a replay.
pub(crate) async fn selects_at_random(ctx: Context, rounds: u32) -> Result<Vec<u8>, Failure> {
    let mut order = Vec::new();
    for round in 0..rounds {
        // All are ready at once.
        let [mut a, mut b, mut c] = [0_u8, 1, 2].map(|n| futures::future::ready(n).fuse());
        let first = futures::select! { n = a => n, n = b => n, n = c => n };
        order.push(first);
        if round % 8 == 0 {
            ctx.activity::<()>("Keep", &order).await?;
            ctx.event::<()>("Go").await?;
        }
    }
    Ok(order)
}

/// `FuturesUnordered`, in the order of completion, with at most so many at once.
pub(crate) async fn as_they_come(ctx: Context, names: Vec<String>) -> Result<Vec<Value>, Failure> {
    let mut waits: FuturesUnordered<_> =
        names.iter().map(|name| ctx.event::<Value>(name)).collect();
    let mut order = Vec::new();
    while let Some(value) = waits.next().await {
        order.push(value?);
        ctx.activity::<()>("Keep", &order).await?;
    }
    Ok(order)
}

/// Waits for one of everything, so that a status can say so.
pub(crate) async fn waits(ctx: Context) -> Result<Vec<Value>, Failure> {
    ctx.note("waits for one of everything");
    let policy = RetryPolicy::new(5, Duration::from_secs(60));
    let first = futures::future::select_all([
        ctx.event::<Value>("Approval").boxed_local(),
        ctx.activity::<Value>("Flaky", ())
            .retry(policy)
            .boxed_local(),
        ctx.activity::<Value>("Hold", ()).boxed_local(),
        ctx.timer(Duration::from_secs(3_600))
            .map(|fired| fired.map(|()| json!("too late")))
            .boxed_local(),
        ctx.child::<Value>("Listens", json!(["Never"]))
            .instance_id("the-child")
            .boxed_local(),
    ]);
    let (value, _, _) = first.await;
    Ok(vec![value?])
}

/// Timers of any length: a hundred years, for ever, and one that is dropped.
pub(crate) async fn far(ctx: Context, years: u64) -> Result<(String, String), Failure> {
    const YEAR: u64 = 365 * 86_400;
    let begun = ctx.now();
    let for_ever = ctx.timer(Duration::MAX).start();
    drop(ctx.timer(Duration::from_secs(5)).start());
    ctx.timer(Duration::from_secs(years * YEAR)).await?;
    drop(for_ever);
    Ok((begun.to_string(), ctx.now().to_string()))
}

/// Everything an execution knows of itself.
pub(crate) async fn knows(ctx: Context, nested: bool) -> Result<Value, Failure> {
    if nested {
        return ctx
            .child("Knows", false)
            .instance_id(format!("{}-child", ctx.instance_id()))
            .tag("colour", "green")
            .await;
    }
    let before = (ctx.history_events(), ctx.history_bytes());
    ctx.activity::<()>("Keep", ()).await?;
    let grown = ctx.history_events() > before.0 && ctx.history_bytes() > before.1;
    Ok(json!({
        "id": ctx.instance_id(),
        "name": ctx.name(),
        "version": ctx.version(),
        "parent": ctx.parent().map(|parent| (parent.instance_id.clone(), parent.name.clone(), parent.task)),
        "tags": ctx.tags(),
        "historyGrows": grown,
        "draws": [ctx.random_u64() != ctx.random_u64(), (0.0..1.0).contains(&ctx.random_f64())],
        "uuidVersion": ctx.new_uuid().get_version_num(),
        "execution": ctx.execution_id().len(),
    }))
}

/// Starts another instance, sends it what it waits for, and does not wait for it.
pub(crate) async fn messages(ctx: Context, to: String) -> Result<(), Failure> {
    ctx.start_instance(&to, "Listens", ["one", "TWO"])
        .tag("from", ctx.instance_id())
        .start()?;
    ctx.send_event(&to, "Two", 2)?;
    ctx.send_event(&to, "ONE", 1)?;
    ctx.send_event(&to, "one", "kept until the end")?;
    Ok(())
}

/// Waits for events of these names, one after the other.
pub(crate) async fn listens(ctx: Context, names: Vec<String>) -> Result<Vec<Value>, Failure> {
    let mut data = Vec::new();
    for name in names {
        data.push(ctx.event(name).await?);
    }
    Ok(data)
}

/// Calls functions by their types, and an activity of the host by a declared name.
pub(crate) async fn typed(ctx: Context, to: String) -> Result<String, Failure> {
    const NATIVE: ActivityName<u32, String> = ActivityName::new("Native");
    let there: () = ctx.call(crate::acts::keep, json!(1)).await?;
    let () = there;
    let knows = ctx.call_child(knows, false).tag("a", "b").await?;
    ctx.launch(listens, to, vec!["Go".to_owned()]).start()?;
    let native = ctx
        .call(NATIVE, 7)
        .retry(RetryPolicy::new(2, Duration::ZERO))
        .await?;
    Ok(format!("{native} {}", knows["name"]))
}

/// A limit around anything: an activity that hangs, an event that never comes, a child that waits.
pub(crate) async fn limited(ctx: Context) -> Result<Vec<String>, Failure> {
    let limit = Duration::from_secs(30);
    let mut ends = Vec::new();
    let mut keep = |result: Result<Value, Failure>| {
        ends.push(result.map_or_else(|failure| failure.to_string(), |value| value.to_string()));
    };
    keep(ctx.timeout(limit, ctx.event("Never")).await);
    keep(ctx.timeout(limit, ctx.activity("Hold", ())).await);
    keep(ctx.timeout(limit, ctx.child("Listens", ["Never"])).await);
    keep(ctx.timeout(limit, ctx.activity("Keep", ())).await);
    Ok(ends)
}
