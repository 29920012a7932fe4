use super::{Subject, completed, program, render, start, turn_started};
use crate::bindings::orchestrations::Event;
use crate::machine::Machine;
use crate::prelude::*;
use crate::{Orchestration, OrchestrationFn};

async fn one_step(ctx: Context) -> Result<u32, Failure> {
    ctx.activity("Step", ()).await
}

/// The message of the panic that an `advance` with these events ends in, after a first turn of one step if there was one.
fn panic_of(after_first_turn: bool, events: Vec<Event>) -> String {
    let result = std::panic::catch_unwind(|| {
        let mut subject = Subject::new(program!(one_step));
        if after_first_turn {
            subject.turn(&[]);
        }
        subject.machine.advance(events)
    });
    let panic = result
        .map(|turn| render(&turn))
        .expect_err("it broke the contract");
    panic.downcast_ref::<&str>().map_or_else(
        || panic.downcast_ref::<String>().cloned().unwrap_or_default(),
        ToString::to_string,
    )
}

#[test]
fn a_host_that_breaks_the_contract_gets_a_trap() {
    let execution_started = || Event::ExecutionStarted(start(None));
    assert!(panic_of(false, vec![]).contains("the first event of a turn"));
    assert!(panic_of(false, vec![execution_started()]).contains("the first event of a turn"));
    assert!(panic_of(false, vec![turn_started(1)]).contains("the second event of the first turn"));
    assert!(
        panic_of(false, vec![turn_started(1), completed(0, "1")])
            .contains("the second event of the first turn")
    );
    assert!(
        panic_of(true, vec![turn_started(1), execution_started()]).contains("has started already")
    );
    assert!(
        panic_of(true, vec![turn_started(1), turn_started(2)]).contains("only the first event")
    );
}

#[test]
#[should_panic(expected = "the execution has ended")]
fn a_turn_after_the_end_is_a_trap() {
    let mut subject = Subject::new(program!(one_step));
    subject.turn(&[completed(0, "1")]);
    subject.turn(&[]);
}

#[test]
fn a_name_or_a_version_that_nobody_defined_is_an_unknown_orchestration() {
    let one = |ctx: Context| OrchestrationFn::start(one_step, ctx);
    let two = |ctx: Context| OrchestrationFn::start(async |_: Context| Ok::<_, Failure>(2), ctx);
    let orchestrations = Box::leak(Box::new([
        Orchestration {
            version: Some("1"),
            ..Orchestration::new("Named", one)
        },
        Orchestration {
            version: Some("2"),
            ..Orchestration::new("Named", two)
        },
    ]));
    let outcome = |name: &str, version: Option<&str>| {
        let start = crate::bindings::orchestrations::Start {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            ..start(None)
        };
        let turn = Machine::new(crate::definition::Component {
            orchestrations,
            activities: &[],
        })
        .advance(vec![turn_started(1), Event::ExecutionStarted(start)]);
        render(&turn)
    };
    assert!(outcome("Named", Some("1")).contains("activity 0 Step"));
    assert!(outcome("Named", None).contains("activity 0 Step"));
    assert!(outcome("Named", Some("2")).contains("completed 2"));
    assert!(outcome("Named", Some("3")).contains(
        r#"UnknownOrchestration: this component defines no orchestration "Named" version "3""#
    ));
    assert!(outcome("Other", None).contains("UnknownOrchestration"));
}

#[test]
fn an_activity_takes_what_it_asks_for_and_gives_json() {
    use crate::bindings::activities::{Guest as _, Invocation};
    use crate::{ActivityContext, export};

    fn none() -> Result<u8, Failure> {
        Ok(1)
    }
    fn attempt(ctx: ActivityContext) -> Result<u32, Failure> {
        Ok(ctx.attempt())
    }
    fn input(text: String) -> Result<usize, std::num::ParseIntError> {
        text.parse()
    }
    fn context(ctx: ActivityContext, add: u32) -> Result<String, Failure> {
        Ok(format!("{} {}", ctx.idempotency_key(), ctx.attempt() + add))
    }
    static ACTIVITIES: &[crate::Activity] = &[
        crate::Activity::new("None", |context| crate::ActivityFn::run(none, context)),
        crate::Activity::new("Attempt", |context| {
            crate::ActivityFn::run(attempt, context)
        }),
        crate::Activity::new("Input", |context| crate::ActivityFn::run(input, context)),
        crate::Activity {
            description: Some("c"),
            ..crate::Activity::new("Context", |ctx| crate::ActivityFn::run(context, ctx))
        },
    ];
    struct Component;
    impl crate::bindings::activities::Guest for Component {
        fn definitions() -> Vec<crate::bindings::activities::Definition> {
            export::activity_definitions(ACTIVITIES)
        }
        fn run(invocation: Invocation) -> Result<Option<String>, crate::bindings::types::Failure> {
            export::run(ACTIVITIES, invocation)
        }
    }
    let run = |name: &str, input: &str| {
        let invocation = Invocation {
            name: name.to_owned(),
            input: Some(input.to_owned()),
            instance_id: "i".to_owned(),
            execution_id: "e".to_owned(),
            task: 3,
            orchestration: "O".to_owned(),
            idempotency_key: "e:3".to_owned(),
            attempt: 2,
            deadline: None,
            trace_parent: None,
            management_urls: None,
            last_heartbeat: None,
        };
        Component::run(invocation)
            .map(Option::unwrap)
            .map_err(|failure| failure.kind)
    };
    assert_eq!(run("None", "[]"), Ok("1".to_owned()));
    assert_eq!(run("Input", r#""12""#), Ok("12".to_owned()));
    assert_eq!(run("Input", r#""x""#), Err("ParseIntError".to_owned()));
    assert_eq!(run("Input", "1"), Err("InvalidInput".to_owned()));
    assert_eq!(run("Context", "5"), Ok(r#""e:3 7""#.to_owned()));
    assert_eq!(run("Attempt", "[]"), Ok("2".to_owned()));
    assert_eq!(run("Absent", "5"), Err("UnknownActivity".to_owned()));
    assert_eq!(Component::definitions().len(), 4);
}
