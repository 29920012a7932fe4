//! Definitions: typed functions registered as orchestrations and activities.

use std::any::TypeId;
use std::future::Future;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::execution::Names;
use crate::payload::Payload;
use crate::{ActivityContext, Context, Failure, Validator};

/// An orchestration that runs, with its input read and its output written as JSON.
pub type OrchestrationFuture = Pin<Box<dyn Future<Output = Result<Option<String>, Failure>>>>;

/// An orchestration that a component exports. The macro [`export!`](crate::export!) makes them.
#[derive(Clone, Copy)]
pub struct Orchestration {
    /// The name that clients start it by.
    pub name: &'static str,
    /// The version, which distinguishes definitions with the same name.
    pub version: Option<&'static str>,
    /// A description for people.
    pub description: Option<&'static str>,
    /// JSON Schema of the input, for forms and validation.
    pub input_schema: Option<&'static str>,
    /// Makes the JSON Schema of the input from its type, where `input_schema` does not give one.
    #[doc(hidden)]
    pub schema_of_input: Option<fn() -> String>,
    /// The validators of its requests.
    pub validators: &'static [Validator],
    /// The type of the function behind it, by which [`Context::call_child`] finds the name.
    #[doc(hidden)]
    pub function: Option<TypeId>,
    /// Starts an execution of it.
    pub start: fn(Context) -> OrchestrationFuture,
}

/// An activity that a component exports. The macro [`export!`](crate::export!) makes them.
#[derive(Clone, Copy)]
pub struct Activity {
    /// The name that orchestrations call it by.
    pub name: &'static str,
    /// A description for people.
    pub description: Option<&'static str>,
    /// JSON Schema of the input, for forms and validation.
    pub input_schema: Option<&'static str>,
    /// Makes the JSON Schema of the input from its type, where `input_schema` does not give one.
    #[doc(hidden)]
    pub schema_of_input: Option<fn() -> String>,
    /// The type of the function behind it, by which [`Context::call`] finds the name.
    #[doc(hidden)]
    pub function: Option<TypeId>,
    /// Runs one attempt.
    pub run: fn(ActivityContext) -> Result<Option<String>, Failure>,
}

/// The definitions of a component.
#[derive(Clone, Copy)]
pub(crate) struct Component {
    pub(crate) orchestrations: &'static [Orchestration],
    pub(crate) activities: &'static [Activity],
}

impl Names for Component {
    fn activity(&self, function: TypeId) -> Option<&'static str> {
        let mut known = self.activities.iter();
        let found = known.find(|known| known.function == Some(function))?;
        Some(found.name)
    }

    fn orchestration(&self, function: TypeId) -> Option<(&'static str, Option<&'static str>)> {
        let mut known = self.orchestrations.iter();
        let found = known.find(|known| known.function == Some(function))?;
        Some((found.name, found.version))
    }
}

impl Orchestration {
    /// A definition with only a name.
    #[must_use]
    pub const fn new(name: &'static str, start: fn(Context) -> OrchestrationFuture) -> Self {
        Self {
            name,
            version: None,
            description: None,
            input_schema: None,
            schema_of_input: None,
            validators: &[],
            function: None,
            start,
        }
    }

    /// Whether a name and a version select this definition. Without a version, any version matches.
    pub(crate) fn matches(&self, name: &str, version: Option<&str>) -> bool {
        self.name == name && (version.is_none() || version == self.version)
    }
}

impl Activity {
    /// A definition with only a name.
    #[must_use]
    pub const fn new(
        name: &'static str,
        run: fn(ActivityContext) -> Result<Option<String>, Failure>,
    ) -> Self {
        Self {
            name,
            description: None,
            input_schema: None,
            schema_of_input: None,
            function: None,
            run,
        }
    }
}

/// A function that can be exported as an orchestration: `async fn(Context)` or `async fn(Context, I)`, returning `Result<O, E>`, where
/// serde can read `I` and write `O`, and `E` is [`Failure`] or becomes one.
///
/// `Args` only tells the two forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an orchestration",
    note = "an orchestration is `async fn(Context)` or `async fn(Context, I)`, returning `Result<O, E>`: serde reads `I` and writes `O`, and `E` becomes a `Failure`",
    note = "write `#[perennial_sdk::orchestration]` before the function to see what does not fit"
)]
pub trait OrchestrationFn<Args> {
    /// The input, which serde reads; `()` if it takes none.
    type Input;
    /// The output of a success.
    type Output;

    /// Starts an execution.
    fn start(self, context: Context) -> OrchestrationFuture;
}

impl<F, R, O, E> OrchestrationFn<()> for F
where
    F: FnOnce(Context) -> R + 'static,
    R: Future<Output = Result<O, E>> + 'static,
    O: Serialize,
    E: Into<Failure>,
{
    type Input = ();
    type Output = O;

    fn start(self, context: Context) -> OrchestrationFuture {
        Box::pin(async move {
            let execution = context.execution();
            let output = self(context).await.map_err(Into::into)?;
            orchestration_output(&execution.start.name, &output)
        })
    }
}

impl<F, I, R, O, E> OrchestrationFn<(I,)> for F
where
    F: FnOnce(Context, I) -> R + 'static,
    I: DeserializeOwned,
    R: Future<Output = Result<O, E>> + 'static,
    O: Serialize,
    E: Into<Failure>,
{
    type Input = I;
    type Output = O;

    fn start(self, context: Context) -> OrchestrationFuture {
        Box::pin(async move {
            let execution = context.execution();
            let start = &execution.start;
            let payload = Payload::Input {
                of: "orchestration",
                name: &start.name,
            };
            let output = self(context, payload.decode(start.input.as_deref())?)
                .await
                .map_err(Into::into)?;
            orchestration_output(&start.name, &output)
        })
    }
}

fn orchestration_output(name: &str, output: &impl Serialize) -> Result<Option<String>, Failure> {
    Payload::Output {
        of: "orchestration",
        name,
    }
    .encode(output)
    .map(Some)
}

/// A function that can be exported as an activity: `fn()`, `fn(I)`, `fn(ActivityContext)` or `fn(ActivityContext, I)`, returning
/// `Result<O, E>`, where serde can read `I` and write `O`, and `E` is [`Failure`] or becomes one.
///
/// `Args` only tells the forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an activity",
    note = "an activity is `fn()`, `fn(I)`, `fn(ActivityContext)` or `fn(ActivityContext, I)`, returning `Result<O, E>`: serde reads `I` and writes `O`, and `E` becomes a `Failure`",
    note = "write `#[perennial_sdk::activity]` before the function to see what does not fit"
)]
pub trait ActivityFn<Args> {
    /// The input, which serde reads; `()` if it takes none.
    type Input;
    /// The output of a success.
    type Output;

    /// Runs one attempt.
    ///
    /// # Errors
    ///
    /// Those of the function, and `InvalidInput` or `InvalidOutput` if serde could not read its input or write its output.
    fn run(self, context: ActivityContext) -> Result<Option<String>, Failure>;
}

impl<F, O, E> ActivityFn<()> for F
where
    F: FnOnce() -> Result<O, E>,
    O: Serialize,
    E: Into<Failure>,
{
    type Input = ();
    type Output = O;

    fn run(self, context: ActivityContext) -> Result<Option<String>, Failure> {
        activity_output(context.activity(), self())
    }
}

impl<F, I, O, E> ActivityFn<(I,)> for F
where
    F: FnOnce(I) -> Result<O, E>,
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
{
    type Input = I;
    type Output = O;

    fn run(self, context: ActivityContext) -> Result<Option<String>, Failure> {
        activity_output(context.activity(), self(context.input()?))
    }
}

impl<F, O, E> ActivityFn<ActivityContext> for F
where
    F: FnOnce(ActivityContext) -> Result<O, E>,
    O: Serialize,
    E: Into<Failure>,
{
    type Input = ();
    type Output = O;

    fn run(self, context: ActivityContext) -> Result<Option<String>, Failure> {
        let name = context.activity().to_owned();
        activity_output(&name, self(context))
    }
}

impl<F, I, O, E> ActivityFn<(ActivityContext, I)> for F
where
    F: FnOnce(ActivityContext, I) -> Result<O, E>,
    I: DeserializeOwned,
    O: Serialize,
    E: Into<Failure>,
{
    type Input = I;
    type Output = O;

    fn run(self, context: ActivityContext) -> Result<Option<String>, Failure> {
        let input = context.input()?;
        let name = context.activity().to_owned();
        activity_output(&name, self(context, input))
    }
}

fn activity_output<O: Serialize, E: Into<Failure>>(
    name: &str,
    result: Result<O, E>,
) -> Result<Option<String>, Failure> {
    let output = result.map_err(Into::into)?;
    Payload::Output {
        of: "activity",
        name,
    }
    .encode(&output)
    .map(Some)
}
