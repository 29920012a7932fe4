//! What `#[orchestration]` and `#[activity]` make of functions: a definition, and an error at the part of the signature that does not fit.
//!
//! Each part has a trait of its own, so that the error names it and does not list what else a function could have been.

use std::future::Future;

use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};

use crate::definition::OrchestrationFuture;
use crate::payload::Payload;
use crate::{ActivityContext, Context, Failure};

/// The first parameter of an orchestration.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the first parameter of an orchestration: that is its `Context`",
    label = "not `Context`"
)]
pub trait FirstParameter {
    /// The context as this.
    fn of(context: Context) -> Self;
}

impl FirstParameter for Context {
    fn of(context: Context) -> Self {
        context
    }
}

/// What a function can take as its input.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an input: serde cannot read it",
    label = "does not implement `serde::Deserialize`",
    note = "derive it: `#[derive(serde::Deserialize)]`"
)]
pub trait Input: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Input for T {}

/// The input of a function that takes none: it reads whatever was given.
#[derive(Clone, Copy, Debug)]
pub struct AnyInput;

impl<'de> Deserialize<'de> for AnyInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// An input whose type says its JSON Schema.
#[diagnostic::on_unimplemented(
    message = "the JSON Schema of `{Self}` is not known: the option `input_schema` needs a value, or a type with a schema",
    label = "does not implement `schemars::JsonSchema`",
    note = "derive it: `#[derive(schemars::JsonSchema)]`, with the feature `schemars` of `perennial-sdk`"
)]
pub trait InputSchema {
    /// The schema as a JSON text.
    fn input_schema() -> String;
}

#[cfg(feature = "schemars")]
#[diagnostic::do_not_recommend]
impl<T: schemars::JsonSchema> InputSchema for T {
    fn input_schema() -> String {
        // As serde reads it, which may be more than it writes.
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
        let schema = settings.into_generator().into_root_schema_for::<T>();
        schema.as_value().to_string()
    }
}

/// The JSON Schema of an input, by its type.
#[must_use]
pub fn input_schema<T: InputSchema>() -> String {
    T::input_schema()
}

/// What a function can return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Result`: orchestrations and activities return `Result<O, E>`",
    label = "not a `Result`"
)]
pub trait Outcome {
    /// The output of a success.
    type Output;
    /// The error.
    type Error;

    /// The outcome as it is.
    fn into_result(self) -> Result<Self::Output, Self::Error>;
}

impl<O, E> Outcome for Result<O, E> {
    type Output = O;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// What a validator can return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Result<(), E>`, which a validator returns",
    label = "not `Result<(), E>`"
)]
pub trait Verdict {
    /// The error.
    type Error;

    /// The verdict as it is.
    fn into_result(self) -> Result<(), Self::Error>;
}

impl<E> Verdict for Result<(), E> {
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// What a function can return in the case of success.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an output: serde cannot write it",
    label = "returns a `{Self}`, which does not implement `serde::Serialize`",
    note = "derive it: `#[derive(serde::Serialize)]`"
)]
pub trait Output: Serialize {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> Output for T {}

/// What a function can fail with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error: it does not become a `Failure`",
    label = "fails with `{Self}`",
    note = "fail with `Failure`, implement `std::error::Error` for the type, or derive `perennial_sdk::FailureKind`"
)]
pub trait IntoFailure: Into<Failure> {}

#[diagnostic::do_not_recommend]
impl<T: Into<Failure>> IntoFailure for T {}

/// Starts an execution of an annotated orchestration.
pub fn orchestrate<C, I, R, F>(
    context: Context,
    function: impl FnOnce(C, I) -> F + 'static,
) -> OrchestrationFuture
where
    C: FirstParameter,
    I: Input,
    R: Outcome<Output: Output, Error: IntoFailure>,
    F: Future<Output = R> + 'static,
{
    Box::pin(async move {
        let execution = context.execution();
        let (of, name) = ("orchestration", &*execution.start.name);
        let input = Payload::Input { of, name }.decode(execution.start.input.as_deref())?;
        let outcome = function(C::of(context), input).await;
        let output = outcome.into_result().map_err(Into::into)?;
        Payload::Output { of, name }.encode(&output).map(Some)
    })
}

/// Judges a request by its validator.
///
/// # Errors
///
/// That of the validator, and `InvalidInput` if serde cannot read the input.
pub fn check_request<I, R>(
    check: impl Fn(&I) -> R,
    request: &str,
    input: Option<&str>,
) -> Result<(), Failure>
where
    I: Input,
    R: Verdict<Error: IntoFailure>,
{
    let (of, name) = ("request", request);
    let input = Payload::Input { of, name }.decode(input)?;
    check(&input).into_result().map_err(Into::into)
}

/// Runs an attempt of an annotated activity.
///
/// # Errors
///
/// Those of the function, and `InvalidInput` or `InvalidOutput` if serde could not read its input or write its output.
pub fn act<I, R>(
    context: ActivityContext,
    function: impl FnOnce(ActivityContext, I) -> R,
) -> Result<Option<String>, Failure>
where
    I: Input,
    R: Outcome<Output: Output, Error: IntoFailure>,
{
    let name = context.activity().to_owned();
    let input = context.input()?;
    let outcome = function(context, input);
    let output = outcome.into_result().map_err(Into::into)?;
    let (of, name) = ("activity", &*name);
    Payload::Output { of, name }.encode(&output).map(Some)
}
