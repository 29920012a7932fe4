use expect_test::expect;

use super::{Subject, completed, program, run_turns};
use crate::definition::Component;
use crate::machine::Machine;
use crate::prelude::*;
use crate::{Activity, ActivityFn, Orchestration, OrchestrationFn, export};

fn double(n: u32) -> Result<u32, Failure> {
    Ok(n * 2)
}

fn undo(_: ActivityContext, n: u32) -> Result<(), Failure> {
    let _: u32 = n;
    Ok(())
}

fn unlisted() -> Result<(), Failure> {
    Ok(())
}

async fn report(_: Context, region: String) -> Result<usize, Failure> {
    Ok(region.len())
}

async fn untitled(_: Context) -> Result<(), Failure> {
    Ok(())
}

const CHARGE: ActivityName<u64, String> = ActivityName::new("Charge");
const AUDIT: OrchestrationName<(), ()> = OrchestrationName::new("Audit");

fn subject(program: super::Program) -> Subject {
    let test = Orchestration::new("Test", program);
    let mut orchestrations = vec![test];
    orchestrations.extend(COMPONENT.orchestrations);
    Subject {
        machine: Machine::new(Component {
            orchestrations: orchestrations.leak(),
            ..COMPONENT
        }),
        ..Subject::new(program)
    }
}

static COMPONENT: Component = Component {
    orchestrations: &[
        Orchestration {
            version: Some("2"),
            function: Some(export::function_id(&report)),
            ..Orchestration::new("RegionalReport", |ctx| OrchestrationFn::start(report, ctx))
        },
        Orchestration {
            function: Some(export::function_id(&untitled)),
            ..Orchestration::new("Untitled", |ctx| OrchestrationFn::start(untitled, ctx))
        },
    ],
    activities: &[
        Activity {
            function: Some(export::function_id(&double)),
            ..Activity::new("Double", |ctx| ActivityFn::run(double, ctx))
        },
        Activity {
            function: Some(export::function_id(&undo)),
            ..Activity::new("Undo", |ctx| ActivityFn::run(undo, ctx))
        },
    ],
};

async fn calls(ctx: Context) -> Result<(), Failure> {
    let policy = RetryPolicy::new(3, Duration::from_secs(1));
    let started = (
        ctx.call(double, 4)
            .attempt_timeout(Duration::from_secs(2))
            .start(),
        ctx.call(undo, 5).start(),
        ctx.call(CHARGE, 6).start(),
        ctx.call_child(report, "North".to_owned())
            .retry(policy)
            .start(),
        ctx.call_child(untitled, ()).start(),
        ctx.call_child(AUDIT, ()).start(),
    );
    let doubled: u32 = started.0.await?;
    Err(Failure::new("Enough", doubled.to_string()))
}

#[test]
fn a_function_is_called_by_its_name_and_in_its_version() {
    let answers = run_turns(subject(program!(calls)), &[&[], &[completed(0, "8")]]);
    expect![[r#"
        turn 1
          activity 0 Double 4 within 2000 ms
          activity 1 Undo 5
          activity 2 Charge 6
          child 3 RegionalReport "North" id=None version=Some("2") tags=[] attempts=Some(3)
          child 4 Untitled null id=None version=None tags=[] attempts=None
          child 5 Audit null id=None version=None tags=[] attempts=None
          => waiting for events [], tasks [0, 1, 2, 3, 4, 5]
        turn 2
          cancel 1
          cancel 2
          cancel 3
          cancel 4
          cancel 5
          => failed Enough: 8 (cause None, causes [])
    "#]]
    .assert_eq(&answers);
}

#[test]
fn a_function_that_is_not_exported_fails_the_call() {
    let answers = run_turns(
        subject(program!(async |ctx: Context| ctx.call(unlisted, ()).await)),
        &[&[]],
    );
    expect![[r#"
        turn 1
          => failed NotExported: `perennial_sdk::tests::typed::unlisted` has no name: list it under `activities` in `perennial_sdk::export!` (cause None, causes [])
    "#]].assert_eq(&answers);
}
