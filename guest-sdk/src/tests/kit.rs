//! The test kit itself.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use expect_test::expect;

use crate::log::Level;
use crate::prelude::*;
use crate::testing::{Environment, Input, StartedInstance};

const SECOND: Duration = Duration::from_secs(1);

async fn steps(ctx: Context, count: u32) -> Result<Vec<u32>, Failure> {
    let mut done = Vec::new();
    for step in 0..count {
        done.push(ctx.call(double, step).await?);
        ctx.set_custom_status(step)?;
    }
    info!("{count} steps");
    Ok(done)
}

fn double(n: u32) -> Result<u32, Failure> {
    debug!("doubling {n}");
    Ok(2 * n)
}

async fn tries(ctx: Context, attempts: u32) -> Result<u32, Failure> {
    let policy = RetryPolicy::new(attempts, SECOND).backoff(3.0);
    ctx.activity("Flaky", attempts).retry(policy).await
}

async fn limited(ctx: Context) -> Result<String, Failure> {
    ctx.activity("Slow", ()).attempt_timeout(10 * SECOND).await
}

async fn approval(ctx: Context, patience: u64) -> Result<String, Failure> {
    let decision = ctx.event::<String>("Decision");
    match decision.within(Duration::from_secs(patience)).await? {
        Some(by) => Ok(by),
        None => Ok("nobody".to_owned()),
    }
}

async fn parent(ctx: Context, names: Vec<String>) -> Result<Vec<String>, Failure> {
    ctx.start_instance("aside", "Steps", 2).start()?;
    let children = names
        .iter()
        .map(|name| ctx.child::<String>("Approval", 60).instance_id(name));
    try_join_all(children).await
}

async fn counter(ctx: Context, sum: u64) -> Result<u64, Failure> {
    let first = ctx.event::<u64>("Add").await?;
    let sum = sum + first;
    ctx.set_custom_status(sum)?;
    if sum >= 6 {
        Ok(sum)
    } else {
        ctx.continue_as_new(sum)
    }
}

fn environment() -> Environment {
    Environment::of(crate::definitions! {
        orchestrations: {
            "Steps" => steps,
            "Tries" => tries,
            "Limited" => limited,
            "Approval" => approval,
            "Parent" => parent,
            "Counter" => counter,
        },
        activities: { "Double" => double },
    })
}

/// The message of the panic that a test would fail with.
fn failure_of<T>(test: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test))
        .err()
        .expect("it fails");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
    }
}

#[test]
fn a_real_activity_runs_natively_and_the_report_has_all_that_was_asked_for() {
    let report = environment().start("Steps", 3).finish();
    assert_eq!(report.output::<Vec<u32>>(), [0, 2, 4]);
    report.assert_called(&["Double"; 3]);
    report.assert_calls("Double", 3);
    let call = &report.calls("Double")[2];
    assert_eq!((call.input::<u32>(), call.attempts()), (2, 1));
    assert_eq!(call.result::<u32>().and_then(Result::ok), Some(4));
    assert_eq!(report.custom_statuses(), [Some(0), Some(1), Some(2)]);
    let lines = report.log();
    assert_eq!(
        lines.first(),
        Some(&(Level::Debug, "doubling 0".to_owned()))
    );
    assert_eq!(lines.last(), Some(&(Level::Info, "3 steps".to_owned())));
    assert_eq!(lines.len(), 4, "lines of replays are left out");
}

#[test]
fn a_mock_sees_its_input_and_attempt_and_retries_wait_as_the_policy_says() {
    let environment = environment().activity("Flaky", |ctx: ActivityContext, attempts: u32| {
        match ctx.attempt() == attempts {
            true => Ok(attempts),
            false => Err(Failure::new("Flaky", format!("attempt {}", ctx.attempt()))),
        }
    });
    let report = environment.start("Tries", 4).finish();
    assert_eq!(report.output::<u32>(), 4);
    assert_eq!(report.elapsed(), (1 + 3 + 9) * SECOND);
    let call = &report.calls("Flaky")[0];
    let failures: Vec<String> = call.failures().iter().map(ToString::to_string).collect();
    assert_eq!(
        failures,
        ["Flaky: attempt 1", "Flaky: attempt 2", "Flaky: attempt 3"]
    );
    let waited = call.attempts_began()[3] - call.called_at();
    assert_eq!(waited, 13 * SECOND);
}

#[test]
fn the_first_attempts_can_fail_before_the_real_activity_runs() {
    let failing = environment()
        .activity("Flaky", |attempts: u32| Ok::<_, Failure>(attempts))
        .fails_first("Flaky", 2, Failure::new("Busy", "wait"));
    assert_eq!(failing.start("Tries", 3).finish().output::<u32>(), 3);
    assert_eq!(failing.start("Tries", 2).finish().failure().kind(), "Busy");
    let permanent = failing.fails_first("Flaky", 1, Failure::new("No", "").not_retryable());
    let report = permanent.start("Tries", 3).finish();
    assert_eq!(report.failure().kind(), "No");
    assert_eq!(report.calls("Flaky")[0].attempts(), 1);
}

#[test]
fn an_attempt_takes_simulated_time_and_fails_at_its_limit() {
    let slow = environment().activity("Slow", || Ok::<_, Failure>("done"));
    let report = slow
        .clone()
        .takes("Slow", 10 * SECOND)
        .start("Limited", ())
        .finish();
    assert_eq!(report.output::<String>(), "done");
    assert_eq!(report.elapsed(), 10 * SECOND);
    let report = slow
        .takes("Slow", 11 * SECOND)
        .start("Limited", ())
        .finish();
    assert_eq!(report.failure().kind(), "Timeout");
    assert_eq!(report.elapsed(), 10 * SECOND);
}

#[test]
fn a_panic_of_an_activity_is_its_failure_and_one_of_a_mock_is_the_tests() {
    fn panics() -> Result<(), Failure> {
        panic!("it went wrong")
    }
    async fn calls(ctx: Context) -> Result<(), Failure> {
        ctx.call(panics, ()).await
    }
    let real = Environment::of(crate::definitions! {
        orchestrations: { "Calls" => calls },
        activities: { "Panics" => panics },
    });
    let failure = real.start("Calls", ()).finish().failure();
    assert_eq!(failure.to_string(), "Panic: it went wrong");
    let mocked = real.activity("Panics", || -> Result<(), Failure> {
        panic!("of the test")
    });
    assert_eq!(
        failure_of(|| mocked.start("Calls", ()).finish()),
        "of the test"
    );
}

#[test]
fn a_name_that_nothing_has_fails_as_on_a_host() {
    async fn misspelt(ctx: Context, child: bool) -> Result<u32, Failure> {
        match child {
            true => ctx.child("Step", 1).await,
            false => ctx.activity("Doubel", 1).await,
        }
    }
    let environment = Environment::of(crate::definitions! {
        orchestrations: { "Misspelt" => misspelt, "Steps" => steps },
        activities: { "Double" => double },
    });
    let activity = environment.start("Misspelt", false).finish().failure();
    assert_eq!(activity.kind(), "UnknownActivity");
    assert!(
        activity.message().ends_with("did you mean \"Double\"?"),
        "{activity}"
    );
    let child = environment.start("Misspelt", true).finish().failure();
    assert_eq!(child.kind(), "UnknownOrchestration");
    assert!(
        child.message().ends_with("did you mean \"Steps\"?"),
        "{child}"
    );
    let start = environment.start("Nothing", ()).finish().failure();
    assert_eq!(start.kind(), "UnknownOrchestration");
}

#[test]
fn time_skips_to_what_is_due_and_events_come_when_they_are_planned() {
    let environment = environment();
    let alone = environment.start("Approval", 60).finish();
    assert_eq!(alone.output::<String>(), "nobody");
    assert_eq!(
        (alone.elapsed(), alone.timers()),
        (60 * SECOND, vec![60 * SECOND])
    );
    let raised = environment
        .start("Approval", 60)
        .raise_when_waiting("decision", "Ann");
    let raised = raised.finish();
    assert_eq!(
        (raised.output::<String>().as_str(), raised.elapsed()),
        ("Ann", Duration::ZERO)
    );
    let planned = environment
        .start("Approval", 60)
        .raise_after(59 * SECOND, "Decision", "Bea");
    let planned = planned.finish();
    assert_eq!(
        (planned.output::<String>().as_str(), planned.elapsed()),
        ("Bea", 59 * SECOND)
    );
    let late = environment
        .start("Approval", 60)
        .raise_after(61 * SECOND, "Decision", "Bea");
    assert_eq!(late.finish().output::<String>(), "nobody");
}

#[test]
fn an_instance_is_suspended_resumed_and_terminated() {
    let environment = environment();
    let held = environment
        .start("Approval", 60)
        .suspend_after(10 * SECOND)
        .raise_after(20 * SECOND, "Decision", "Ann")
        .resume_after(30 * SECOND)
        .finish();
    assert_eq!(
        (held.output::<String>().as_str(), held.elapsed()),
        ("Ann", 30 * SECOND)
    );
    let ended = environment
        .start("Approval", 60)
        .terminate_after(SECOND, "enough")
        .finish();
    let failure = ended.failure();
    assert_eq!(
        failure.to_string(),
        "Terminated: the instance was terminated: enough"
    );
    let stuck = failure_of(|| {
        environment
            .start("Approval", 60)
            .suspend_after(SECOND)
            .finish()
    });
    assert!(
        stuck.contains("is suspended, and nothing resumes it"),
        "{stuck}"
    );
}

#[test]
fn the_clock_can_be_held_and_set() {
    let start: Timestamp = "2030-01-01T00:00:00Z"
        .parse()
        .unwrap_or_else(|error| panic!("{error}"));
    let mut run = environment().starts_at(start).start("Approval", 60);
    run.settle();
    assert!(run.waits_for("DECISION") && run.now() == start);
    run.advance(59 * SECOND);
    assert!(!run.has_ended());
    run.give(Input::suspend());
    run.advance_to(start + 100 * SECOND);
    assert!(!run.has_ended(), "its timer has fired and waits");
    run.give(Input::resume());
    assert_eq!(run.report().output::<String>(), "nobody");
}

#[test]
fn children_and_detached_instances_run_in_the_same_environment() {
    let mut run = environment().start("Parent", ["a", "b"]);
    run.settle();
    run.give_to("a", Input::raise("Decision", "Ann"));
    run.advance(SECOND);
    run.give_to("b", Input::raise("Decision", "Bea"));
    let report = run.report();
    assert_eq!(report.output::<Vec<String>>(), ["Ann", "Bea"]);
    assert_eq!(report.instance("a").output::<String>(), "Ann");
    assert_eq!(report.instance("aside").output::<Vec<u32>>(), [0, 2]);
    let started = report.instances_started();
    assert_eq!(started.len(), 3);
    let aside = StartedInstance {
        id: "aside".to_owned(),
        orchestration: "Steps".to_owned(),
        input: 2.into(),
        child: false,
    };
    assert_eq!(started[0], aside);
    let stand_in = environment().orchestration("Approval", |patience: u64| {
        Ok::<_, Failure>(format!("after {patience}"))
    });
    let report = stand_in.start("Parent", ["a"]).finish();
    assert_eq!(report.output::<Vec<String>>(), ["after 60"]);
}

#[test]
fn a_live_id_is_refused_to_children_and_detached_instances() {
    let report = environment().start("Parent", ["a", "a"]).finish();
    assert_eq!(report.failure().kind(), "InstanceExists");
    let report = environment().start("Parent", ["a"]).id("aside").finish();
    let skipped = report.to_string();
    assert!(skipped.contains("InstanceStartSkipped"), "{skipped}");
}

#[test]
fn continue_as_new_is_followed_with_its_unread_events() {
    let report = environment()
        .start("Counter", 0)
        .raise_after(SECOND, "Add", 1)
        .raise_after(SECOND, "Add", 2)
        .raise_after(2 * SECOND, "Add", 3)
        .finish();
    assert_eq!((report.output::<u64>(), report.executions()), (6, 3));
    let looped = failure_of(|| {
        async fn forever(ctx: Context) -> Result<(), Failure> {
            ctx.timer(SECOND).await?;
            ctx.continue_as_new(())
        }
        let definitions = crate::definitions! { orchestrations: { "Forever" => forever } };
        Environment::of(definitions)
            .max_turns(50)
            .start("Forever", ())
            .finish()
    });
    assert!(looped.contains("goes on after 50 turns"), "{looped}");
}

#[test]
fn what_does_not_repeat_itself_fails_with_the_words_of_the_engine() {
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    async fn whimsical(ctx: Context) -> Result<(), Failure> {
        let whim = CALLS.replace(CALLS.get() + 1);
        ctx.activity("Whim", whim).await
    }
    let environment = || {
        Environment::of(crate::definitions! { orchestrations: { "Whimsical" => whimsical } })
            .activity("Whim", |_: u32| Ok::<_, Failure>(()))
    };
    let failure = failure_of(|| environment().start("Whimsical", ()).finish());
    assert!(
        failure.contains("turn 0 does not repeat: at event 2 the record has"),
        "{failure}"
    );
    assert!(failure.contains("now the guest asks for"), "{failure}");
    let report = environment()
        .without_replay()
        .start("Whimsical", ())
        .finish();
    assert!(report.has_ended());
}

#[test]
fn a_wait_for_what_never_comes_fails_with_what_is_waited_for_and_the_history() {
    let failure = failure_of(|| {
        environment()
            .start("Counter", 0)
            .raise_when_waiting("Add", 1)
            .finish()
    });
    expect![[r#"
        "Counter" (instance "test") waits for something that nothing is going to bring: external event "Add"; nothing else is due. Raise an awaited event with `Run::raise_when_waiting` or `Run::raise_after`, send a request with `Run::request_when_waiting` or `Run::request_after`
        history of "Counter" (instance "test", Running):
          execution 0
             1    +0.000s  ExecutionStarted Counter 0
             3    +0.000s  ExternalEventRaised Add 1
             4    +0.000s  CustomStatusSet 1
             5    +0.000s  ContinuedAsNew 1
          execution 1
             1    +0.000s  ExecutionStarted Counter 1
             2    +0.000s  CustomStatusSet 1"#]].assert_eq(&failure);
    let child = failure_of(|| {
        async fn waits(ctx: Context) -> Result<(), Failure> {
            ctx.child("Inner", ()).instance_id("inner").await
        }
        async fn inner(ctx: Context) -> Result<(), Failure> {
            ctx.event("Go").await
        }
        let definitions =
            crate::definitions! { orchestrations: { "Waits" => waits, "Inner" => inner } };
        Environment::of(definitions).start("Waits", ()).finish()
    });
    assert!(
        child.contains(r#"child "Inner" (instance "inner"), which waits for external event "Go""#),
        "{child}"
    );
}

#[test]
fn a_failed_assertion_shows_the_history() {
    let report = environment().start("Steps", 1).finish();
    let failure = failure_of(|| report.assert_called(&["Double", "Triple"]));
    expect![[r#"
        activities ["Double"] were called, not ["Double", "Triple"]
        history of "Steps" (instance "test", Completed):
             1    +0.000s  ExecutionStarted Steps 1
             2    +0.000s  ActivityScheduled 0 Double 0
             4    +0.000s  ActivityCompleted 0 -> 0
             5    +0.000s  CustomStatusSet 0
             6    +0.000s  ExecutionCompleted -> [0]
          log Debug: doubling 0
          log Info: 1 steps"#]]
    .assert_eq(&failure);
    assert!(failure_of(|| report.failure()).starts_with("the orchestration completed with [0]"));
    assert!(failure_of(|| report.output::<bool>()).starts_with("the output is [0], and no `bool`"));
}

#[test]
fn random_numbers_and_identifiers_follow_from_the_seed() {
    async fn draws(ctx: Context) -> Result<(u64, String), Failure> {
        Ok((ctx.random_u64(), ctx.new_uuid().to_string()))
    }
    let drawn = |seed| {
        let environment =
            Environment::of(crate::definitions! { orchestrations: { "Draws" => draws } });
        environment
            .seed(seed)
            .start("Draws", ())
            .finish()
            .output::<(u64, String)>()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1).0, drawn(2).0);
}

#[test]
fn what_was_due_for_an_instance_does_not_happen_to_the_next_one_with_its_id() {
    async fn inner(ctx: Context) -> Result<u64, Failure> {
        let (first, _) = race_all([3, 4].map(|seconds| ctx.timer(seconds * SECOND))).await;
        Ok(first as u64)
    }
    async fn twice(ctx: Context) -> Result<(u64, u64), Failure> {
        let child = || ctx.child("Inner", ()).instance_id("inner");
        Ok((child().await?, child().await?))
    }
    let definitions =
        crate::definitions! { orchestrations: { "Twice" => twice, "Inner" => inner } };
    let report = Environment::of(definitions).start("Twice", ()).finish();
    assert_eq!(report.output::<(u64, u64)>(), (0, 0));
    assert_eq!(report.elapsed(), 6 * SECOND);
}
