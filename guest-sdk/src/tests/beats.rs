//! Heartbeats and attempts that are cut short, on the test kit.

use crate::kind;
use crate::prelude::*;
use crate::testing::{Environment, Report};

const SECOND: Duration = Duration::from_secs(1);

/// Copies parts, with a limit for its silence, and at most once if that is asked for.
async fn copies(ctx: Context, at_most_once: bool) -> Result<u32, Failure> {
    let copy = ctx.activity("Copy", ()).heartbeat_timeout(10 * SECOND);
    let copy = copy.retry(RetryPolicy::new(3, SECOND).backoff(1.0));
    match at_most_once {
        true => copy.at_most_once().await,
        false => copy.await,
    }
}

fn environment() -> Environment {
    Environment::of(crate::definitions! { orchestrations: { "Copies" => copies } })
}

fn kinds(report: &Report) -> Vec<String> {
    let failures = report.calls("Copy")[0].failures();
    let kinds = failures.iter().map(|failure| failure.kind().to_owned());
    kinds.collect()
}

#[test]
fn the_next_attempt_goes_on_from_the_details_that_were_sent_last() {
    fn copy(ctx: ActivityContext) -> Result<u32, Failure> {
        let first: Option<u32> = ctx.last_heartbeat();
        if ctx.attempt() == 2 {
            // It sends none itself: those before it stay.
            return Err(Failure::new("Broken", ""));
        }
        for part in 1..=3 {
            ctx.heartbeat(first.unwrap_or(0) + part)?;
        }
        match first {
            None => Err(Failure::new("Broken", "")),
            Some(first) => Ok(first),
        }
    }
    let report = environment().activity("Copy", copy).start("Copies", false);
    let report = report.finish();
    assert_eq!(report.output::<u32>(), 3);
    assert_eq!(kinds(&report), ["Broken", "Broken"]);
}

#[test]
fn an_attempt_that_is_silent_for_too_long_fails_and_is_tried_again() {
    let takes = |seconds: u32, beats_from: u32| {
        let copy = move |ctx: ActivityContext| {
            if ctx.attempt() >= beats_from {
                ctx.heartbeat(1)?;
            }
            Ok::<_, Failure>(7)
        };
        let environment = environment().takes("Copy", seconds * SECOND);
        environment.activity("Copy", copy)
    };
    let report = takes(10, 9).start("Copies", false).finish();
    assert_eq!((report.output::<u32>(), report.elapsed()), (7, 10 * SECOND));

    let report = takes(20, 2).start("Copies", false).finish();
    assert_eq!(kinds(&report), [kind::HEARTBEAT_TIMEOUT]);
    assert_eq!((report.output::<u32>(), report.elapsed()), (7, 31 * SECOND));

    let once = takes(20, 2).start("Copies", true).finish();
    assert_eq!(once.failure().kind(), kind::OUTCOME_UNKNOWN);
    assert_eq!(once.elapsed(), 10 * SECOND);
    assert_eq!(once.calls("Copy")[0].attempts(), 1);
}

#[test]
fn details_over_the_limit_are_refused() {
    let copy = |ctx: ActivityContext| {
        ctx.heartbeat("x".repeat(16 << 10))?;
        Ok::<_, Failure>(())
    };
    let report = environment().activity("Copy", copy).start("Copies", false);
    let failure = report.finish().failure();
    assert_eq!(failure.kind(), kind::LIMIT_EXCEEDED);
    assert!(failure.message().contains("16386 bytes"), "{failure}");
}
