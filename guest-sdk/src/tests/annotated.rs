//! Annotated functions: their definitions, and what they do with inputs and outcomes.

use crate::bindings::activities::Invocation;
use crate::kind;
use crate::prelude::*;
use crate::{Activity, Orchestration, export};

use super::{Subject, completed, run_turns, start};

/// Charges a card,
/// and sends a receipt.
///
/// Not twice.
#[orchestration(version = "2", input_schema = SCHEMA)]
async fn pay_for_all(ctx: Context, cents: Vec<u64>) -> Result<u64, PaymentError> {
    let mut sum = 0;
    for cents in cents {
        match ctx.call(charge, cents).await {
            Ok(charged) => sum += charged,
            Err(failure) => {
                return Err(PaymentError::from_failure(&failure).unwrap_or(PaymentError::Unknown));
            }
        }
    }
    Ok(sum)
}

const SCHEMA: &str = r#"{"type": "array"}"#;

#[orchestration(name = "payments.none", description = "Does nothing")]
async fn nothing(_: Context) -> Result<(), Failure> {
    Ok(())
}

#[activity]
fn charge(cents: u64) -> Result<u64, PaymentError> {
    if cents > 100 {
        return Err(PaymentError::Declined { limit: 100, cents });
    }
    Ok(cents)
}

/// Has an argument of each name that the macro could take.
#[activity]
fn context(input: u8) -> Result<u8, Failure> {
    Ok(input)
}

#[activity]
fn attempt(ctx: ActivityContext) -> Result<u32, Failure> {
    Ok(ctx.attempt())
}

#[activity]
fn both(ctx: ActivityContext, add: u32) -> Result<u32, std::num::TryFromIntError> {
    Ok(ctx.attempt() + add)
}

#[derive(Debug, PartialEq, FailureKind)]
enum PaymentError {
    #[failure("the limit is {limit}, not {cents}", not_retryable)]
    Declined {
        limit: u64,
        cents: u64,
    },
    /// The bank is down,
    /// and answers nothing.
    ///
    /// It will be up again.
    BankDown,
    #[failure("{0} of {1:?}: {{}}", kind = "partly-paid")]
    Partly(u64, Vec<String>),
    #[failure("no account {0}")]
    NoAccount(String),
    Message {
        /// A name that the macro could take.
        message: String,
        #[serde(default, rename = "howOften")]
        count: u32,
    },
    Empty {},
    Unknown,
}

/// No shares left.
#[derive(Debug, PartialEq, FailureKind)]
struct SoldOut {
    share: String,
}

#[derive(Debug, PartialEq, FailureKind)]
struct Closed;

#[test]
fn a_definition_says_what_the_attribute_and_the_comment_say() {
    let Orchestration {
        name,
        version,
        description,
        input_schema,
        function,
        ..
    } = pay_for_all::DEFINITION;
    assert_eq!(name, "PayForAll");
    assert_eq!(version, Some("2"));
    assert_eq!(description, Some("Charges a card, and sends a receipt."));
    assert_eq!(input_schema, Some(SCHEMA));
    assert_eq!(function, Some(export::function_id(&pay_for_all)));
    let given = nothing::DEFINITION;
    assert_eq!((given.name, given.version), ("payments.none", None));
    assert_eq!(given.description, Some("Does nothing"));
    let bare = charge::DEFINITION;
    assert_eq!(
        (bare.name, bare.description, bare.input_schema),
        ("Charge", None, None)
    );
    assert_eq!(bare.function, Some(export::function_id(&charge)));
}

#[test]
fn an_annotated_function_is_called_as_any() {
    assert_eq!(charge(7), Ok(7));
    assert_eq!(
        [1, 101].map(charge).map(|charged| charged.is_ok()),
        [true, false]
    );
    let function: fn(u8) -> Result<u8, Failure> = context;
    assert_eq!(function(3).unwrap(), 3);
}

fn attempted(activity: &Activity, input: Option<&str>) -> Result<Option<String>, Failure> {
    (activity.run)(ActivityContext::new(Invocation {
        name: activity.name.to_owned(),
        input: input.map(str::to_owned),
        instance_id: "i".to_owned(),
        execution_id: "e".to_owned(),
        orchestration: "o".to_owned(),
        task: 1,
        attempt: 3,
        idempotency_key: "k".to_owned(),
        deadline: None,
        trace_parent: None,
        management_urls: None,
        last_heartbeat: None,
    }))
}

#[test]
fn an_annotated_activity_takes_what_it_asks_for() {
    let output = |activity: &Activity, input| attempted(activity, input).unwrap().unwrap();
    assert_eq!(output(&charge::DEFINITION, Some("7")), "7");
    assert_eq!(output(&context::DEFINITION, Some("7")), "7");
    assert_eq!(output(&attempt::DEFINITION, Some(r#"{"any": 1}"#)), "3");
    assert_eq!(output(&attempt::DEFINITION, None), "3");
    assert_eq!(output(&both::DEFINITION, Some("7")), "10");
    // Encoded twice.
    assert_eq!(output(&both::DEFINITION, Some(r#""7""#)), "10");
    let failure = attempted(&charge::DEFINITION, Some("[]")).unwrap_err();
    assert_eq!(failure.kind(), kind::INVALID_INPUT);
    assert!(
        failure
            .message()
            .starts_with("the input of activity \"Charge\" is not"),
        "{failure}"
    );
    let failure = attempted(&charge::DEFINITION, Some("101")).unwrap_err();
    assert_eq!(failure.to_string(), "Declined: the limit is 100, not 101");
    assert!(!failure.is_retryable());
}

fn subject(input: &str) -> Subject {
    let orchestrations = [Orchestration {
        name: "Test",
        ..pay_for_all::DEFINITION
    }];
    let mut subject = Subject::of(orchestrations.into(), vec![charge::DEFINITION]);
    subject.start = start(Some(input));
    subject
}

#[test]
fn an_annotated_orchestration_calls_what_is_annotated() {
    let answers = run_turns(
        subject("[4, 5]"),
        &[&[], &[completed(0, "4")], &[completed(1, "5")]],
    );
    expect_test::expect![[r#"
        turn 1
          activity 0 Charge 4
          => waiting for events [], tasks [0]
        turn 2
          activity 1 Charge 5
          => waiting for events [], tasks [1]
        turn 3
          => completed 9
    "#]]
    .assert_eq(&answers);
}

#[test]
fn a_typed_failure_comes_back_through_a_task() {
    let failure = attempted(&charge::DEFINITION, Some("101")).unwrap_err();
    let failed = crate::bindings::orchestrations::Event::TaskCompleted(
        crate::bindings::orchestrations::TaskResult {
            task: 0,
            outcome: Err(failure.into_wit()),
        },
    );
    let answers = run_turns(subject("[101]"), &[&[], &[failed]]);
    expect_test::expect![[r#"
        turn 1
          activity 0 Charge 101
          => waiting for events [], tasks [0]
        turn 2
          => failed Declined: the limit is 100, not 101 (cause None, causes [])
    "#]]
    .assert_eq(&answers);
}

#[test]
fn an_input_that_is_not_of_its_type_fails_the_orchestration() {
    let answers = run_turns(subject("{}"), &[&[]]);
    expect_test::expect![[r#"
        turn 1
          => failed InvalidInput: the input of orchestration "Test" is not what was expected, `alloc::vec::Vec<u64>`: invalid type: map, expected a sequence at line 1 column 0 (cause None, causes [])
    "#]].assert_eq(&answers);
}

/// The failure that crosses between components, and comes back as.
#[track_caller]
fn comes_back<E: FailureKind + std::fmt::Debug + PartialEq>(make: impl Fn() -> E) -> Failure {
    let sent: Failure = make().into();
    let received = Failure::from_wit(sent.into_wit(), None);
    assert_eq!(E::from_failure(&received), Some(make()));
    received
}

#[test]
fn a_kind_of_failure_is_the_same_on_the_other_side() {
    let json = |failure: &Failure| failure.details::<serde_json::Value>();
    let failure = comes_back(|| PaymentError::Declined { limit: 1, cents: 2 });
    assert_eq!(failure.to_string(), "Declined: the limit is 1, not 2");
    assert_eq!(
        json(&failure),
        Some(serde_json::json!({"limit": 1, "cents": 2}))
    );
    assert!(!failure.is_retryable());

    let failure = comes_back(|| PaymentError::BankDown);
    assert_eq!(
        failure.to_string(),
        "BankDown: The bank is down, and answers nothing."
    );
    assert_eq!(json(&failure), None);
    assert!(failure.is_retryable());

    let failure = comes_back(|| PaymentError::Partly(1, vec!["a".to_owned()]));
    assert_eq!(failure.to_string(), r#"partly-paid: 1 of ["a"]: {}"#);
    assert_eq!(json(&failure), Some(serde_json::json!([1, ["a"]])));

    let failure = comes_back(|| PaymentError::NoAccount("x".to_owned()));
    assert_eq!(failure.to_string(), "NoAccount: no account x");
    assert_eq!(json(&failure), Some("x".into()));

    let failure = comes_back(|| PaymentError::Message {
        message: "hello".to_owned(),
        count: 2,
    });
    assert_eq!(failure.to_string(), "Message: Message");
    assert_eq!(
        json(&failure),
        Some(serde_json::json!({"message": "hello", "howOften": 2}))
    );

    comes_back(|| PaymentError::Empty {});
    let failure = comes_back(|| SoldOut {
        share: "A".to_owned(),
    });
    assert_eq!(failure.to_string(), "SoldOut: No shares left.");
    comes_back(|| Closed);
}

#[test]
fn a_failure_of_another_kind_or_with_other_details_is_not_taken_for_it() {
    let other = Failure::new("Timeout", "it took too long");
    assert_eq!(PaymentError::from_failure(&other), None);
    let without = Failure::new("Declined", "no details");
    assert_eq!(PaymentError::from_failure(&without), None);
    let wrong = Failure::new("Declined", "").with_details(&"others");
    assert_eq!(PaymentError::from_failure(&wrong), None);
    // What was added later has a default.
    let older = Failure::new("Message", "").with_details(&serde_json::json!({"message": "m"}));
    let read = PaymentError::from_failure(&older);
    assert_eq!(
        read,
        Some(PaymentError::Message {
            message: "m".to_owned(),
            count: 0
        })
    );
}
