//! What authors do wrong.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use perennial_sdk::prelude::*;

pub(crate) async fn sleeps(_: Context) -> Result<(), Failure> {
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// Input is at its end, and no wait for somebody to type.
pub(crate) async fn reads_input(_: Context) -> Result<usize, Failure> {
    Ok(std::io::stdin().read_line(&mut String::new())?)
}

pub(crate) async fn exits(_: Context) -> Result<(), Failure> {
    std::process::exit(3)
}

pub(crate) async fn traps(_: Context) -> Result<(), Failure> {
    trap()
}

#[cfg(target_arch = "wasm32")]
pub(crate) fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn trap() -> ! {
    std::process::abort()
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
pub(crate) fn down(depth: u64) -> u64 {
    black_box(down(black_box(depth + 1)) + 1)
}

/// Asks for something when it is dropped.
struct AsksWhenDropped(Context);

impl Drop for AsksWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.set_custom_status("too late");
        let _ = self.0.send_event("somebody", "Late", ());
        let _ = self.0.activity::<()>("Keep", ()).start().detach();
    }
}

/// What is asked for after the end is ignored: here the end comes while the function has not returned, so its values are dropped later.
pub(crate) async fn calls_after_the_end(ctx: Context) -> Result<(), Failure> {
    let _dropped_after_the_end = AsksWhenDropped(ctx.clone());
    ctx.set_custom_status("in time")?;
    ctx.event::<()>("Go").await?;
    std::future::pending().await
}

/// Awaits a channel that another thread would fill.
pub(crate) async fn polls_for_others(ctx: Context) -> Result<(), Failure> {
    let (sender, receiver) = perennial_sdk::futures::channel::oneshot::channel::<()>();
    let _ = ctx.activity::<()>("Keep", ()).await;
    std::mem::forget(sender);
    let _ = receiver.await;
    Ok(())
}

pub(crate) async fn sends_too_much(ctx: Context, bytes: usize) -> Result<(), Failure> {
    ctx.send_event("somebody", "Much", "x".repeat(bytes))?;
    ctx.event("Never").await
}

pub(crate) async fn shows_too_much(ctx: Context, bytes: usize) -> Result<(), Failure> {
    ctx.set_custom_status("x".repeat(bytes))?;
    ctx.event("Never").await
}

pub(crate) async fn returns_too_much(_: Context, bytes: usize) -> Result<String, Failure> {
    Ok("x".repeat(bytes))
}

pub(crate) async fn returns_no_json(_: Context) -> Result<BTreeMap<(u8, u8), u8>, Failure> {
    Ok([((1, 2), 3)].into())
}

pub(crate) async fn calls_with_too_much(ctx: Context, bytes: usize) -> Result<(), Failure> {
    ctx.activity("Keep", "x".repeat(bytes)).await
}

pub(crate) async fn calls_with_no_json(ctx: Context) -> Result<(), Failure> {
    ctx.activity("Keep", BTreeMap::from([((1, 2), 3)])).await
}

pub(crate) async fn calls_too_often(ctx: Context, times: u32) -> Result<(), Failure> {
    let calls = (0..times).map(|n| ctx.activity::<()>("Keep", n));
    try_join_all(calls).await.map(drop)
}

pub(crate) async fn races_nobody(_: Context) -> Result<(), Failure> {
    race_all(Vec::<std::future::Ready<()>>::new()).await;
    Ok(())
}

pub(crate) async fn tries_never(ctx: Context) -> Result<(), Failure> {
    ctx.activity("Keep", ())
        .retry(RetryPolicy::new(0, Duration::ZERO))
        .await
}

fn not_in_the_list(_: ()) -> Result<(), Failure> {
    Ok(())
}

pub(crate) async fn unlisted(ctx: Context) -> Result<(), Failure> {
    ctx.call(not_in_the_list, ()).await
}

/// Nobody is told of a start that is skipped but who reads the history.
pub(crate) async fn starts_nobody(ctx: Context) -> Result<&'static str, Failure> {
    ctx.start_instance("nobody", "NoSuchOrchestration", ())
        .start()?;
    Ok("done")
}

pub(crate) async fn child_of_nobody(ctx: Context) -> Result<(), Failure> {
    ctx.child("NoSuchOrchestration", ()).await
}
