//! Turns typed functions into the exports of a component.

use std::any::TypeId;
use std::cell::RefCell;

use crate::bindings::orchestrations::{Definition, Event, Judgement, Proposal, Turn};
use crate::bindings::{activities, types};
use crate::definition::Component;
use crate::machine::Machine;
use crate::validator::judge;
use crate::{Activity, ActivityContext, Failure, Orchestration, Validator};

pub use crate::annotated::{AnyInput, act, check_request, input_schema, orchestrate};
pub use serde;

/// Exports orchestrations and activities as a component.
///
/// A section in brackets lists functions that are annotated with [`#[orchestration]`](macro@crate::orchestration) or
/// [`#[activity]`](macro@crate::activity), and takes their names, versions and descriptions from there:
///
/// ```
/// use perennial_sdk::prelude::*;
///
/// /// Charges a card.
/// #[orchestration(version = "2")]
/// async fn pay(ctx: Context, cents: u64) -> Result<String, Failure> {
///     ctx.call(cards::charge, cents).await
/// }
///
/// mod cards {
///     use perennial_sdk::prelude::*;
///
///     #[activity]
///     pub fn charge(ctx: ActivityContext, cents: u64) -> Result<String, Failure> {
///         Ok(format!("{cents} charged, receipt {}", ctx.idempotency_key()))
///     }
/// }
///
/// perennial_sdk::export! {
///     orchestrations: [pay],
///     activities: [cards::charge],
/// }
/// # fn main() {}
/// ```
///
/// A section in braces gives names to functions, which need no annotation. Options of a definition follow its name in parentheses: for an
/// orchestration `version`, `description`, `input_schema` (a JSON Schema) and `validate` (the validators of its
/// [requests](crate::Context::requests)), for an activity the second and the third.
///
/// ```
/// use perennial_sdk::prelude::*;
///
/// async fn pay(ctx: Context, cents: u64) -> Result<String, Failure> {
///     ctx.activity("Charge", cents).await
/// }
///
/// fn charge(ctx: ActivityContext, cents: u64) -> Result<String, Failure> {
///     Ok(format!("{cents} charged, receipt {}", ctx.idempotency_key()))
/// }
///
/// perennial_sdk::export! {
///     orchestrations: { "Pay" (version = "2", description = "Charges a card") => pay },
///     activities: { "Charge" => charge },
/// }
/// # fn main() {}
/// ```
///
/// A validator is `fn(&In) -> Result<(), E>`. The name of its request is an identifier, or in quotes where it is none:
///
/// ```
/// # use perennial_sdk::prelude::*;
/// # async fn meter(_: Context) -> Result<(), Failure> { Ok(()) }
/// fn check_reading(reading: &u64) -> Result<(), Failure> {
///     if *reading == 0 {
///         return Err(Failure::new("NoReading", "the meter does not run"));
///     }
///     Ok(())
/// }
///
/// perennial_sdk::export! {
///     orchestrations: { "Meter" (validate(Read = check_reading, "read-again" = check_reading)) => meter },
/// }
/// # fn main() {}
/// ```
///
/// Either section may be left out. Of a function that is annotated and not listed the compiler says that it, or the `enum` of its name, is
/// never used.
///
/// A name stands for one function of a component. Other versions of an orchestration are in the modules that were deployed before, which
/// keep running the executions that started on them. A name that is listed twice does not compile:
///
/// ```compile_fail,E0080
/// # use perennial_sdk::prelude::*;
/// # async fn pay(_: Context) -> Result<(), Failure> { Ok(()) }
/// # async fn pay_more(_: Context) -> Result<(), Failure> { Ok(()) }
/// perennial_sdk::export! {
///     orchestrations: { "Pay" => pay, "Pay" (version = "2") => pay_more },
/// }
/// # fn main() {}
/// ```
///
/// ```compile_fail,E0080
/// # use perennial_sdk::prelude::*;
/// # #[orchestration] async fn pay(_: Context) -> Result<(), Failure> { Ok(()) }
/// perennial_sdk::export! { orchestrations: [pay, pay] }
/// # fn main() {}
/// ```
///
/// ```compile_fail,E0080
/// # use perennial_sdk::prelude::*;
/// # async fn meter(_: Context) -> Result<(), Failure> { Ok(()) }
/// # fn check(_: &u64) -> Result<(), Failure> { Ok(()) }
/// perennial_sdk::export! {
///     orchestrations: { "Meter" (validate(Read = check, read = check)) => meter },
/// }
/// # fn main() {}
/// ```
///
/// Neither does an activity in the place of an orchestration, nor the other way round:
///
/// ```compile_fail,E0277
/// # use perennial_sdk::prelude::*;
/// # fn charge(cents: u64) -> Result<u64, Failure> { Ok(cents) }
/// perennial_sdk::export! { orchestrations: { "Charge" => charge } }
/// # fn main() {}
/// ```
///
/// ```compile_fail,E0271
/// # use perennial_sdk::prelude::*;
/// # async fn pay(_: Context) -> Result<(), Failure> { Ok(()) }
/// perennial_sdk::export! { activities: { "Pay" => pay } }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    (orchestrations: $orchestrations:tt $(,)?) => {
        const _: () = {
            $crate::__define! { orchestrations: $orchestrations }
            $crate::__define! { activities: {} }
            $crate::__export_orchestrations!();
        };
        $crate::__keep_exported! { orchestrations: $orchestrations }
    };
    (activities: $activities:tt $(,)?) => {
        const _: () = {
            $crate::__define! { activities: $activities }
            $crate::__export_activities!();
        };
        $crate::__keep_exported! { activities: $activities }
    };
    (orchestrations: $orchestrations:tt, activities: $activities:tt $(,)?) => {
        const _: () = {
            $crate::__define! { orchestrations: $orchestrations }
            $crate::__define! { activities: $activities }
            $crate::__export_orchestrations!();
            $crate::__export_activities!();
        };
        $crate::__keep_exported! { orchestrations: $orchestrations, activities: $activities }
    };
    (activities: $activities:tt, orchestrations: $orchestrations:tt $(,)?) => {
        $crate::export! { orchestrations: $orchestrations, activities: $activities }
    };
}

/// Without the test kit, nothing else needs what `export!` lists.
#[cfg(not(all(feature = "testing", not(target_arch = "wasm32"))))]
#[doc(hidden)]
#[macro_export]
macro_rules! __keep_exported {
    ($($definitions:tt)*) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __define {
    (orchestrations: { $($name:literal $(($($options:tt)*))? => $function:expr),* $(,)? }) => {
        const _: () = $crate::export::check_names(&[$($name),*]);

        static ORCHESTRATIONS: &[$crate::Orchestration] = &[$(
            $crate::Orchestration {
                function: ::core::option::Option::Some($crate::export::function_id(&$function)),
                ..$crate::__with_options!(
                    ($crate::Orchestration::new($name, |context| $crate::OrchestrationFn::start($function, context)))
                    $($($options)*)?
                )
            },
        )*];
    };
    (orchestrations: [ $($function:ty),* $(,)? ]) => {
        static ORCHESTRATIONS: &[$crate::Orchestration] =
            &[$(<$function>::DEFINITION),*];

        const _: () = $crate::export::check_names(
            &[$(<$function>::DEFINITION.name),*],
        );
    };
    (activities: { $($name:literal $(($($key:ident = $value:expr),* $(,)?))? => $function:expr),* $(,)? }) => {
        const _: () = $crate::export::check_names(&[$($name),*]);

        static ACTIVITIES: &[$crate::Activity] = &[$(
            $crate::Activity {
                $($($key: ::core::option::Option::Some($value),)*)?
                function: ::core::option::Option::Some($crate::export::function_id(&$function)),
                ..$crate::Activity::new($name, |context| $crate::ActivityFn::run($function, context))
            },
        )*];
    };
    (activities: [ $($function:ty),* $(,)? ]) => {
        static ACTIVITIES: &[$crate::Activity] =
            &[$(<$function>::DEFINITION),*];

        const _: () = $crate::export::check_names(
            &[$(<$function>::DEFINITION.name),*],
        );
    };
}

/// A definition of an orchestration with its options.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_options {
    (($definition:expr)) => { $definition };
    (($definition:expr) validate($($request:tt = $check:expr),* $(,)?) $(, $($rest:tt)*)?) => {
        $crate::Orchestration {
            validators: $crate::export::validators(const {
                &[$($crate::__validator!($request = $check)),*]
            }),
            ..$crate::__with_options!(($definition) $($($rest)*)?)
        }
    };
    (($definition:expr) $key:ident = $value:expr $(, $($rest:tt)*)?) => {
        $crate::Orchestration {
            $key: ::core::option::Option::Some($value),
            ..$crate::__with_options!(($definition) $($($rest)*)?)
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __validator {
    ($request:ident = $check:expr) => {
        $crate::__validator!(@ ::core::stringify!($request), $check)
    };
    ($request:literal = $check:expr) => {
        $crate::__validator!(@ $request, $check)
    };
    (@ $request:expr, $check:expr) => {
        $crate::Validator {
            request: $request,
            check: |input| $crate::export::check_request($check, $request, input),
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_orchestrations {
    () => {
        const _: () = {
            struct Component;

            impl $crate::bindings::orchestrations::Guest for Component {
                fn definitions() -> ::std::vec::Vec<$crate::bindings::orchestrations::Definition> {
                    $crate::export::orchestration_definitions(ORCHESTRATIONS)
                }

                fn validate(
                    proposal: $crate::bindings::orchestrations::Proposal,
                ) -> $crate::bindings::orchestrations::Judgement {
                    $crate::export::validate(ORCHESTRATIONS, proposal)
                }

                fn advance(
                    events: ::std::vec::Vec<$crate::bindings::orchestrations::Event>,
                ) -> $crate::bindings::orchestrations::Turn {
                    $crate::export::advance(ORCHESTRATIONS, ACTIVITIES, events)
                }
            }

            #[cfg(target_arch = "wasm32")]
            $crate::bindings::orchestrator::export_orchestrator!(Component with_types_in $crate::bindings::orchestrator);

            // The names of a component's exports are none that a native linker takes.
            #[cfg(not(target_arch = "wasm32"))]
            const _: $crate::export::NativeUse<Component> = $crate::export::NativeUse::orchestrations();
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_activities {
    () => {
        const _: () = {
            struct Component;

            impl $crate::bindings::activities::Guest for Component {
                fn definitions() -> ::std::vec::Vec<$crate::bindings::activities::Definition> {
                    $crate::export::activity_definitions(ACTIVITIES)
                }

                fn run(
                    invocation: $crate::bindings::activities::Invocation,
                ) -> ::core::result::Result<::core::option::Option<::std::string::String>, $crate::bindings::types::Failure> {
                    $crate::export::run(ACTIVITIES, invocation)
                }
            }

            #[cfg(target_arch = "wasm32")]
            $crate::bindings::worker::export_worker!(Component with_types_in $crate::bindings::worker);

            // The names of a component's exports are none that a native linker takes.
            #[cfg(not(target_arch = "wasm32"))]
            const _: $crate::export::NativeUse<Component> = $crate::export::NativeUse::activities();
        };
    };
}

/// Fails the build of a component whose names cannot be told apart.
///
/// # Panics
///
/// If a name is empty or stands there twice.
pub const fn check_names(names: &[&str]) {
    let mut at = 0;
    while at < names.len() {
        assert!(
            !names[at].is_empty(),
            "`export!` lists an empty name: nobody could start or call it"
        );
        let mut before = 0;
        while before < at {
            assert!(
                !same(names[before].as_bytes(), names[at].as_bytes()),
                "`export!` lists a name twice: in one component a name stands for one function"
            );
            before += 1;
        }
        at += 1;
    }
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The validators of an orchestration.
///
/// # Panics
///
/// If the name of a request is empty or stands there twice: then a build fails.
#[must_use]
pub const fn validators(validators: &'static [Validator]) -> &'static [Validator] {
    let mut at = 0;
    while at < validators.len() {
        let name = validators[at].request.as_bytes();
        assert!(
            !name.is_empty(),
            "a validator is for a request without a name"
        );
        let mut before = 0;
        while before < at {
            assert!(
                !name.eq_ignore_ascii_case(validators[before].request.as_bytes()),
                "two validators are for one request: a request has at most one"
            );
            before += 1;
        }
        at += 1;
    }
    validators
}

/// The type of a function, which no other function has.
#[must_use]
pub const fn function_id<F: 'static>(_: &F) -> TypeId {
    TypeId::of::<F>()
}

/// Makes the compiler see that a component's functions are used where they cannot be exported.
#[cfg(not(target_arch = "wasm32"))]
pub struct NativeUse<C>(std::marker::PhantomData<C>);

#[cfg(not(target_arch = "wasm32"))]
impl<C> NativeUse<C> {
    /// Uses an orchestrator's.
    #[must_use]
    pub const fn orchestrations() -> Self
    where
        C: crate::bindings::orchestrations::Guest,
    {
        let _: fn(Vec<Event>) -> Turn = C::advance;
        Self(std::marker::PhantomData)
    }

    /// Uses a worker's.
    #[must_use]
    pub const fn activities() -> Self
    where
        C: activities::Guest,
    {
        let _: fn(activities::Invocation) -> Result<Option<String>, types::Failure> = C::run;
        Self(std::marker::PhantomData)
    }
}

fn schema(given: Option<&str>, of_type: Option<fn() -> String>) -> Option<String> {
    given
        .map(str::to_owned)
        .or_else(|| of_type.map(|make| make()))
}

/// Implements the export `orchestrations.definitions`.
#[must_use]
pub fn orchestration_definitions(orchestrations: &[Orchestration]) -> Vec<Definition> {
    let definition = |of: &Orchestration| Definition {
        name: of.name.to_owned(),
        version: of.version.map(str::to_owned),
        description: of.description.map(str::to_owned),
        input_schema: schema(of.input_schema, of.schema_of_input),
    };
    orchestrations.iter().map(definition).collect()
}

/// Implements the export `activities.definitions`.
#[must_use]
pub fn activity_definitions(activities: &[Activity]) -> Vec<activities::Definition> {
    let definition = |of: &Activity| activities::Definition {
        name: of.name.to_owned(),
        description: of.description.map(str::to_owned),
        input_schema: schema(of.input_schema, of.schema_of_input),
    };
    activities.iter().map(definition).collect()
}

/// Implements the export `orchestrations.validate`.
#[must_use]
pub fn validate(orchestrations: &[Orchestration], proposal: Proposal) -> Judgement {
    report_panics();
    let mut known = orchestrations.iter();
    let Some(found) = known.find(|known| known.name == proposal.orchestration) else {
        return Judgement::Accepted;
    };
    let judged = judge(found.validators, &proposal.name, proposal.input.as_deref());
    crate::print::end();
    match judged {
        Ok(()) => Judgement::Accepted,
        Err(failure) => Judgement::Declined(failure.into_wit()),
    }
}

/// Implements the export `orchestrations.advance`. A component instance runs one execution.
#[must_use]
pub fn advance(
    orchestrations: &'static [Orchestration],
    activities: &'static [Activity],
    events: Vec<Event>,
) -> Turn {
    thread_local! {
        static MACHINE: RefCell<Option<Machine>> = const { RefCell::new(None) };
    }
    MACHINE.with_borrow_mut(|machine| {
        let machine = machine.get_or_insert_with(|| {
            report_panics();
            Machine::new(Component {
                orchestrations,
                activities,
            })
        });
        let turn = machine.advance(events);
        crate::print::end();
        turn
    })
}

/// Implements the export `activities.run`.
///
/// # Errors
///
/// The activity's failure, or `UnknownActivity`.
#[expect(clippy::result_large_err, reason = "the contract's type")]
pub fn run(
    activities: &[Activity],
    invocation: activities::Invocation,
) -> Result<Option<String>, types::Failure> {
    report_panics();
    let found = activities
        .iter()
        .find(|activity| activity.name == invocation.name);
    let result = match found {
        Some(activity) => (activity.run)(ActivityContext::new(invocation)),
        None => {
            let message = format!("this component defines no activity {:?}", invocation.name);
            Err(Failure::new(crate::kind::UNKNOWN_ACTIVITY, message).not_retryable())
        }
    };
    crate::print::end();
    result.map_err(Failure::into_wit)
}

/// Reports the message of a panic to the host, before the panic ends the component instance with a trap.
#[cfg(target_arch = "wasm32")]
fn report_panics() {
    use std::sync::Once;

    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = panic
                .payload_as_str()
                .unwrap_or("a panic without a message");
            let location = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            crate::bindings::logging::panicking(message, &location);
        }));
    });
}

#[cfg(not(target_arch = "wasm32"))]
fn report_panics() {}
