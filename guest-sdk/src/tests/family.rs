//! Cancellation and families on the test kit. Each execution is restored by a replay after each of its turns here, so a rule that the
//! replay does not share fails these tests.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use expect_test::expect;

use crate::kind;
use crate::prelude::*;
use crate::testing::{Environment, Input, Report};

const SECOND: Duration = Duration::from_secs(1);

/// Books, and unbooks if what follows fails.
async fn trip(ctx: Context) -> Result<String, Failure> {
    ctx.saga(async |saga| {
        let booked: String = ctx.activity("Book", ()).await?;
        saga.on_failure(ctx.activity::<()>("Unbook", &booked));
        ctx.timer(3_600 * SECOND).await?;
        Ok(booked)
    })
    .await
}

/// Cleans up for so many seconds once it is asked to cancel.
async fn cleans(ctx: Context, seconds: u64) -> Result<(), Failure> {
    let used = ctx.event::<()>("Done").await;
    let pause = Duration::from_secs(seconds);
    ctx.shielded(ctx.timer(pause)).await?;
    ctx.shielded(ctx.activity::<()>("GiveBack", ())).await?;
    used
}

/// Waits for ever, and ends when it is asked to.
async fn obeys(ctx: Context) -> Result<(), Failure> {
    ctx.event("Never").await
}

async fn done(_: Context, number: u32) -> Result<u32, Failure> {
    Ok(number)
}

/// Starts a child for each policy, and ends as it is told.
async fn family(ctx: Context, continued: bool) -> Result<(), Failure> {
    if continued {
        return ctx.event("Never").await;
    }
    let policies = [
        ("runs-on", ChildPolicy::Abandon),
        ("cancelled", ChildPolicy::Cancel),
        ("terminated", ChildPolicy::Terminate),
    ];
    let children = policies.map(|(id, policy)| {
        let child = ctx.child::<()>("Obeys", ()).instance_id(id);
        child.when_dropped(policy).start()
    });
    match ctx.event::<String>("End").await?.as_str() {
        "fail" => Err(Failure::new("Broken", "")),
        "drop" => {
            drop(children);
            ctx.event("Never").await
        }
        "return" => Ok(()),
        "detach" => children.into_iter().try_for_each(Task::detach),
        _ => ctx.continue_as_new(true),
    }
}

/// Tells its child to end after a second, and returns what became of it.
async fn ends_its_child(ctx: Context, terminates: bool) -> Result<String, Failure> {
    let child = ctx.child::<()>("Cleans", 5).instance_id("kid").start();
    ctx.timer(SECOND).await?;
    match terminates {
        true => child.terminate_child("no more"),
        false => child.cancel_child("no more"),
    }
    Ok(child
        .await
        .map_or_else(|failure| failure.to_string(), |()| "it returned".to_owned()))
}

fn environment() -> Environment {
    Environment::of(crate::definitions! {
        orchestrations: {
            "Trip" => trip,
            "Cleans" => cleans,
            "Obeys" => obeys,
            "Done" => done,
            "Family" => family,
            "EndsItsChild" => ends_its_child,
        },
    })
    .activity("Book", || Ok::<_, Failure>("room 7"))
    .activity("Unbook", |_: String| Ok::<_, Failure>(()))
    .activity("GiveBack", || Ok::<_, Failure>(()))
}

/// How often this is in the history of an instance.
fn count(report: &Report, event: &str) -> usize {
    let events = report.recorded();
    events.iter().filter(|one| one.name() == event).count()
}

#[test]
fn an_instance_that_is_cancelled_compensates_and_ends_with_the_reason() {
    let report = environment()
        .start("Trip", ())
        .cancel_after(10 * SECOND, "ill")
        .finish();
    assert_eq!(
        report.failure().to_string(),
        "Canceled: the instance was cancelled: ill"
    );
    report.assert_called(&["Book", "Unbook"]);
    assert_eq!(report.calls("Unbook")[0].input::<String>(), "room 7");
    assert_eq!(report.elapsed(), 10 * SECOND);
    expect![[r#"
        history of "Trip" (instance "test", Terminated):
             1    +0.000s  ExecutionStarted Trip null
             2    +0.000s  ActivityScheduled 0 Book null
             4    +0.000s  ActivityCompleted 0 -> "room 7"
             5    +0.000s  TimerSet 1 due 2024-01-01T01:00:00.000Z
             7   +10.000s  CancellationRequested ill
             8   +10.000s  TaskCanceled 1
             9   +10.000s  ActivityScheduled 2 Unbook "room 7"
            11   +10.000s  ActivityCompleted 2 -> null
            12   +10.000s  ExecutionTerminated ill"#]]
    .assert_eq(&report.to_string());
    // It is over before that.
    let late = environment()
        .start("Trip", ())
        .cancel_after(3_601 * SECOND, "ill");
    assert_eq!(late.finish().output::<String>(), "room 7");
}

#[test]
fn a_shield_holds_until_the_grace_period_is_over() {
    let environment = environment();
    let in_time = environment
        .start("Cleans", 59)
        .cancel_after(SECOND, "enough")
        .finish();
    assert_eq!(in_time.failure().kind(), kind::CANCELED);
    in_time.assert_called(&["GiveBack"]);
    assert_eq!(in_time.elapsed(), 60 * SECOND);

    let late = environment
        .start("Cleans", 61)
        .cancel_after(SECOND, "enough")
        .finish();
    assert_eq!(
        late.failure().to_string(),
        "Terminated: the instance was terminated: enough"
    );
    late.assert_called(&[]);
    assert_eq!(late.elapsed(), 61 * SECOND);
}

#[test]
fn the_first_request_counts_with_its_grace_period() {
    let cancel = |grace| Input::cancel(format!("within {grace}")).grace(grace * SECOND);
    let run = environment().start("Cleans", 30);
    let run = run
        .after(SECOND, cancel(20))
        .after(2 * SECOND, cancel(600))
        .finish();
    assert_eq!(count(&run, "CancellationRequested"), 1);
    assert!(run.failure().message().ends_with("within 20"), "{run}");
    assert_eq!(run.elapsed(), 21 * SECOND);
}

#[test]
fn a_suspended_instance_is_asked_when_it_is_resumed_and_the_grace_period_ends_it() {
    let mut run = environment().start("Cleans", 10);
    run.give(Input::suspend());
    run.give(Input::cancel("enough"));
    run.advance(3_600 * SECOND);
    assert!(!run.has_ended());
    run.give(Input::resume());
    run.give(Input::suspend());
    run.advance(59 * SECOND);
    assert!(!run.has_ended());
    run.advance(SECOND);
    assert_eq!(run.report().failure().kind(), kind::TERMINATED);
}

#[test]
fn who_has_returned_cannot_be_told_and_ends_at_once() {
    async fn detaches(ctx: Context) -> Result<(), Failure> {
        ctx.child::<()>("Obeys", ())
            .instance_id("kid")
            .start()
            .detach()
    }
    let definitions =
        crate::definitions! { orchestrations: { "Detaches" => detaches, "Obeys" => obeys } };
    let mut run = Environment::of(definitions).start("Detaches", ());
    run.give(Input::cancel("enough"));
    assert_eq!(run.report().failure().kind(), kind::TERMINATED);
    assert_eq!(count(&run.report(), "CancellationRequested"), 0);
    assert!(!run.report().instance("kid").has_ended());
}

#[test]
fn a_parent_cancels_or_terminates_a_child_and_learns_how_it_ended() {
    let cancelled = environment().start("EndsItsChild", false).finish();
    assert_eq!(
        cancelled.output::<String>(),
        "Canceled: the instance was cancelled: no more"
    );
    // The child has cleaned up, and its parent has waited for that.
    cancelled.instance("kid").assert_called(&["GiveBack"]);
    assert_eq!(cancelled.elapsed(), 6 * SECOND);

    let terminated = environment().start("EndsItsChild", true).finish();
    assert_eq!(
        terminated.output::<String>(),
        "Terminated: the instance was terminated: no more"
    );
    terminated.instance("kid").assert_called(&[]);
    assert_eq!(terminated.elapsed(), SECOND);
    let history = terminated.to_string();
    let told = "ChildCommanded 0 terminate kid: no more";
    assert!(history.contains(told), "{history}");
}

#[test]
fn a_child_that_waits_for_another_attempt_ends_when_that_is_due() {
    async fn waits(ctx: Context) -> Result<String, Failure> {
        let policy = RetryPolicy::new(3, 10 * SECOND).backoff(1.0);
        let child = ctx.child::<()>("Fails", ()).retry(policy).start();
        ctx.timer(SECOND).await?;
        child.cancel_child("no more");
        Ok(child
            .await
            .map_or_else(|failure| failure.kind().to_owned(), |()| String::new()))
    }
    async fn fails(_: Context) -> Result<(), Failure> {
        Err(Failure::new("Broken", ""))
    }
    let definitions =
        crate::definitions! { orchestrations: { "Waits" => waits, "Fails" => fails } };
    let report = Environment::of(definitions).start("Waits", ()).finish();
    assert_eq!(report.output::<String>(), kind::CANCELED);
    assert_eq!(report.elapsed(), 10 * SECOND);
}

#[test]
fn children_end_as_their_calls_say_when_they_are_dropped_or_their_parent_ends() {
    let mut reasons = Vec::new();
    for how in ["fail", "drop", "return", "terminate", "continue"] {
        let mut run = environment().start("Family", false);
        run.settle();
        match how {
            "terminate" => run.give(Input::terminate("enough")),
            how => run.raise("End", how),
        }
        let report = run.report();
        for (id, ended) in [
            ("cancelled", Some(kind::CANCELED)),
            ("terminated", Some(kind::TERMINATED)),
            ("runs-on", None),
        ] {
            let child = report.instance(id);
            assert_eq!(child.has_ended(), ended.is_some(), "{how}: {child}");
            let Some(ended) = ended else { continue };
            assert_eq!(child.failure().kind(), ended, "{how}: {child}");
            let asked = usize::from(id == "cancelled");
            assert_eq!(count(&child, "CancellationRequested"), asked, "{how}");
            reasons.push(child.failure().message().to_owned());
        }
        // Nobody is told of their ends.
        assert_eq!(count(&report, "ChildFailed"), 0, "{how}");
    }
    reasons.sort();
    reasons.dedup();
    expect![[r#"
        the instance was cancelled: its parent "test" has ended
        the instance was cancelled: its parent "test" no longer waits for it
        the instance was terminated: its parent "test" has ended
        the instance was terminated: its parent "test" no longer waits for it"#]]
    .assert_eq(&reasons.join("\n"));
}

#[test]
fn a_parent_that_returns_waits_for_the_children_that_it_detached() {
    let mut run = environment().start("Family", false);
    run.raise("End", "detach");
    for id in ["runs-on", "cancelled", "terminated"] {
        assert!(!run.report().instance(id).has_ended(), "{id}");
        assert!(!run.has_ended());
        run.give_to(id, Input::raise("Never", ()));
    }
    assert!(run.report().result::<()>().is_ok());
}

#[test]
fn what_is_dropped_in_the_turn_that_asks_for_it_starts_all_the_same() {
    async fn drops(ctx: Context) -> Result<(), Failure> {
        for (id, policy) in [
            ("runs-on", ChildPolicy::Abandon),
            ("terminated", ChildPolicy::Terminate),
        ] {
            let child = ctx.child::<()>("Obeys", ()).instance_id(id);
            drop(child.when_dropped(policy).start());
        }
        Ok(())
    }
    let definitions =
        crate::definitions! { orchestrations: { "Drops" => drops, "Obeys" => obeys } };
    let report = Environment::of(definitions).start("Drops", ()).finish();
    assert!(!report.instance("runs-on").has_ended());
    let failure = report.instance("terminated").failure();
    assert_eq!(failure.kind(), kind::TERMINATED);
}

#[test]
fn a_child_of_an_instance_before_with_the_same_id_is_told_nothing() {
    async fn parent(ctx: Context, round: u32) -> Result<(), Failure> {
        let child = ctx.child::<()>("Obeys", ()).instance_id("kid");
        let child = child.when_dropped(ChildPolicy::Abandon).start();
        if round == 1 {
            return Err(Failure::new("Broken", "the child runs on"));
        }
        child.terminate_child("it is not mine");
        child.await
    }
    async fn twice(ctx: Context) -> Result<String, Failure> {
        let round = |round: u32| ctx.child::<()>("Parent", round).instance_id("parent");
        round(1).await.ok();
        let second = round(2).await;
        Ok(second.map_or_else(|failure| failure.kind().to_owned(), |()| String::new()))
    }
    let definitions = crate::definitions! {
        orchestrations: { "Twice" => twice, "Parent" => parent, "Obeys" => obeys },
    };
    let report = Environment::of(definitions).start("Twice", ()).finish();
    assert_eq!(report.output::<String>(), kind::INSTANCE_EXISTS);
    assert!(!report.instance("kid").has_ended());
}

#[test]
fn an_execution_timeout_asks_to_cancel_and_the_instance_fails() {
    let environment = environment();
    let run = |seconds: u64| {
        let run = environment.start("Cleans", seconds);
        run.execution_timeout(10 * SECOND).finish()
    };
    let message = "Timeout: the instance ran for longer than its execution timeout";
    let in_time = run(20);
    assert_eq!(in_time.failure().to_string(), message);
    in_time.assert_called(&["GiveBack"]);
    assert_eq!(in_time.elapsed(), 30 * SECOND);
    assert_eq!(count(&in_time, "ExecutionTimedOut"), 0);

    let late = run(100);
    assert_eq!(late.failure().to_string(), message);
    late.assert_called(&[]);
    assert_eq!(late.elapsed(), 70 * SECOND);
    assert_eq!(count(&late, "ExecutionTimedOut"), 1);
}

#[test]
fn each_attempt_of_a_child_has_the_execution_timeout_and_so_has_what_is_launched() {
    async fn parent(ctx: Context) -> Result<String, Failure> {
        let launched = ctx.start_instance("launched", "Obeys", ());
        launched.execution_timeout(3 * SECOND).start()?;
        let child = ctx.child::<()>("Flaky", ()).instance_id("kid");
        let child = child.execution_timeout(10 * SECOND);
        let policy = RetryPolicy::new(2, 5 * SECOND).backoff(1.0);
        let failure = child.retry(policy).await.err();
        Ok(failure.map_or_else(String::new, |failure| failure.kind().to_owned()))
    }
    async fn flaky(ctx: Context) -> Result<(), Failure> {
        ctx.timer(8 * SECOND).await?;
        match ctx.instance_id() {
            "kid" => Err(Failure::new("Broken", "the next attempt waits for ever")),
            _ => ctx.event("Never").await,
        }
    }
    let definitions = crate::definitions! {
        orchestrations: { "Parent" => parent, "Flaky" => flaky, "Obeys" => obeys },
    };
    let report = Environment::of(definitions).start("Parent", ()).finish();
    assert_eq!(report.output::<String>(), kind::TIMEOUT);
    // Eight seconds until the failure, five until the next attempt, and the time of that.
    assert_eq!(report.elapsed(), 23 * SECOND);
    assert_eq!(report.instance("kid").failure().kind(), "Broken");
    let launched = report.instance("launched").failure();
    assert_eq!(launched.kind(), kind::TIMEOUT);
}

#[test]
fn an_execution_timeout_is_that_of_the_instance_whatever_its_executions_are() {
    async fn rounds(ctx: Context) -> Result<(), Failure> {
        ctx.timer(4 * SECOND).await?;
        ctx.continue_as_new(())
    }
    let definitions = crate::definitions! { orchestrations: { "Rounds" => rounds } };
    let run = Environment::of(definitions).start("Rounds", ());
    let report = run.execution_timeout(10 * SECOND).finish();
    assert_eq!(report.failure().kind(), kind::TIMEOUT);
    assert_eq!((report.elapsed(), report.executions()), (10 * SECOND, 3));
}

#[test]
fn the_grace_period_is_that_of_an_execution() {
    async fn goes_on(ctx: Context, round: u32) -> Result<u32, Failure> {
        let pause = ctx.timer(100 * SECOND).await;
        match pause {
            Err(_) if round == 0 => ctx.continue_as_new(1),
            pause => pause.map(|()| round),
        }
    }
    let definitions = crate::definitions! { orchestrations: { "GoesOn" => goes_on } };
    let run = Environment::of(definitions).start("GoesOn", 0);
    let report = run.cancel_after(SECOND, "enough").finish();
    assert_eq!(report.output::<u32>(), 1);
    assert_eq!(report.elapsed(), 101 * SECOND);
}

#[test]
fn an_id_that_is_never_to_be_used_again_is_refused() {
    async fn twice(ctx: Context, never: bool) -> Result<Vec<String>, Failure> {
        let mut seen = Vec::new();
        for number in [1, 2] {
            let child = ctx.child::<u32>("Done", number).instance_id("kid");
            let child = match never {
                true => child.never_reuse(),
                false => child,
            };
            let result = child.await;
            seen.push(result.map_or_else(|failure| failure.to_string(), |n| n.to_string()));
            let start = ctx.start_instance("aside", "Done", number);
            match never {
                true => start.never_reuse().start()?,
                false => start.start()?,
            }
            ctx.timer(SECOND).await?;
        }
        Ok(seen)
    }
    let definitions = crate::definitions! { orchestrations: { "Twice" => twice, "Done" => done } };
    let environment = Environment::of(definitions);
    let used = environment.start("Twice", false).finish();
    assert_eq!(used.output::<Vec<String>>(), ["1", "2"]);
    assert_eq!(used.instance("aside").output::<u32>(), 2);
    let never = environment.start("Twice", true).finish();
    let refused = "InstanceExists: instance \"kid\" exists already and is Completed";
    assert_eq!(never.output::<Vec<String>>(), ["1", refused]);
    assert_eq!(never.instance("aside").output::<u32>(), 1);
    assert_eq!(count(&never, "InstanceStartSkipped"), 1);
}

#[test]
fn an_instance_that_listens_for_its_cancellation_ends_as_it_wants() {
    async fn counter(ctx: Context) -> Result<u32, Failure> {
        let mut count = 0;
        let mut events = ctx.events::<()>("Increment");
        loop {
            match race(ctx.cancellation(), events.next()).await {
                Either::Left(asked) => {
                    assert_eq!(asked.reason.as_deref(), Some("enough"));
                    assert_eq!(asked.deadline.since(ctx.now()), 60 * SECOND);
                    return Ok(count);
                }
                Either::Right(_) => count += 1,
            }
        }
    }
    let definitions = crate::definitions! { orchestrations: { "Counter" => counter } };
    let report = Environment::of(definitions)
        .start("Counter", ())
        .raise_after(SECOND, "Increment", ())
        .raise_after(2 * SECOND, "Increment", ())
        .cancel_after(3 * SECOND, "enough")
        .finish();
    assert_eq!(report.output::<u32>(), 2);
}

#[test]
fn a_clean_up_that_does_not_repeat_itself_is_found_by_the_replay_after_its_turn() {
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    async fn whimsical(ctx: Context) -> Result<(), Failure> {
        let asked = ctx.timer(3_600 * SECOND).await;
        let whim = CALLS.replace(CALLS.get() + 1);
        ctx.shielded(ctx.activity::<()>("GiveBack", whim)).await?;
        asked
    }
    let definitions = crate::definitions! { orchestrations: { "Whimsical" => whimsical } };
    let environment =
        Environment::of(definitions).activity("GiveBack", |_: u32| Ok::<_, Failure>(()));
    let run = |environment: &Environment| {
        let run = environment.start("Whimsical", ());
        run.cancel_after(SECOND, "enough").finish()
    };
    let panic = catch_unwind(AssertUnwindSafe(|| run(&environment))).map(drop);
    let message = panic
        .expect_err("it is not deterministic")
        .downcast::<String>();
    let message = message.expect("it says why");
    assert!(message.contains("turn 1 does not repeat"), "{message}");
    let report = run(&environment.without_replay());
    assert_eq!(report.failure().kind(), kind::CANCELED);
}
