//! Typed calls: by function, or by a name that declares its input and output types.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;

use crate::execution::Names;
use crate::{ActivityCall, ActivityFn, ChildCall, Context, Failure, OrchestrationFn, kind};

impl Context {
    /// Calls an activity with its types checked: a function that [`export!`](crate::export!) lists, or an
    /// [`ActivityName`](crate::ActivityName).
    ///
    /// Await the result, or [`start`](ActivityCall::start) several and then await them. The function does not run here: it is what tells
    /// the compiler the types, and the SDK the name, which is the first one that `export!` gives it. One that is not listed there fails
    /// with `NotExported`.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// fn say_hello(city: String) -> Result<String, Failure> {
    ///     Ok(format!("Hello {city}!"))
    /// }
    ///
    /// async fn hello(ctx: Context, city: String) -> Result<usize, Failure> {
    ///     let greeting = ctx.call(say_hello, city).retry(RetryPolicy::new(3, Duration::from_secs(1))).await?;
    ///     Ok(greeting.len())
    /// }
    ///
    /// perennial_sdk::export! { orchestrations: { "Hello" => hello }, activities: { "SayHello" => say_hello } }
    /// # fn main() {}
    /// ```
    ///
    /// A misspelt name, an input or an output of another type, and an orchestration in an activity's place do not compile:
    ///
    /// ```compile_fail,E0425
    /// # use perennial_sdk::prelude::*;
    /// # fn say_hello(city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// ctx.call(say_helo, "Tokyo".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use perennial_sdk::prelude::*;
    /// # fn say_hello(city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// ctx.call(say_hello, 42_u32).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use perennial_sdk::prelude::*;
    /// # fn say_hello(city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// let greeting: u32 = ctx.call(say_hello, "Tokyo".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0277
    /// # use perennial_sdk::prelude::*;
    /// # async fn greet(ctx: Context, city: String) -> Result<String, Failure> { Ok(city) }
    /// # async fn hello(ctx: Context) -> Result<(), Failure> {
    /// ctx.call(greet, "Tokyo".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<A, Args>(&self, activity: A, input: A::Input) -> ActivityCall<A::Output>
    where
        A: TypedActivity<Args>,
        A::Input: Serialize,
    {
        let execution = self.execution();
        match activity.resolve(Exported(&*execution.names)) {
            Ok(name) => self.activity(name, input),
            Err(failure) => ActivityCall::new(self.execution(), String::new(), Err(failure)),
        }
    }

    /// Runs an orchestration as a child with its types checked: a function that [`export!`](crate::export!) lists, in the version that is
    /// given there, or an [`OrchestrationName`](crate::OrchestrationName). As [`call`](Self::call) otherwise.
    ///
    /// ```
    /// use perennial_sdk::prelude::*;
    ///
    /// async fn ship(_: Context, order: u32) -> Result<String, Failure> {
    ///     Ok(format!("{order} is on its way"))
    /// }
    ///
    /// async fn ship_all(ctx: Context, orders: Vec<u32>) -> Result<Vec<String>, Failure> {
    ///     try_join_all(orders.into_iter().map(|order| ctx.call_child(ship, order))).await
    /// }
    ///
    /// perennial_sdk::export! { orchestrations: { "Ship" => ship, "ShipAll" => ship_all } }
    /// # fn main() {}
    /// ```
    ///
    /// ```compile_fail,E0308
    /// # use perennial_sdk::prelude::*;
    /// # async fn ship(_: Context, order: u32) -> Result<String, Failure> { Ok(String::new()) }
    /// # async fn ship_all(ctx: Context) -> Result<String, Failure> {
    /// ctx.call_child(ship, "seven").await
    /// # }
    /// ```
    pub fn call_child<C, Args>(&self, orchestration: C, input: C::Input) -> ChildCall<C::Output>
    where
        C: TypedOrchestration<Args>,
        C::Input: Serialize,
    {
        let execution = self.execution();
        match orchestration.resolve(Exported(&*execution.names)) {
            Ok((name, Some(version))) => self.child(name, input).version(version),
            Ok((name, None)) => self.child(name, input),
            Err(failure) => ChildCall::new(self.execution(), String::new(), Err(failure)),
        }
    }
}

/// The callee of [`Context::call`](crate::Context::call): a function that [`export!`](crate::export!) lists under `activities`, or an
/// [`ActivityName`].
///
/// `Args` only tells the forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called as an activity",
    note = "an activity is `fn()`, `fn(I)`, `fn(ActivityContext)` or `fn(ActivityContext, I)`, returning `Result<O, E>`"
)]
pub trait TypedActivity<Args> {
    /// Its input.
    type Input;
    /// Its output.
    type Output;

    /// The name it is called by.
    #[doc(hidden)]
    fn resolve(&self, exported: Exported<'_>) -> Result<&'static str, Failure>;
}

/// The callee of [`Context::call_child`](crate::Context::call_child): a function that [`export!`](crate::export!) lists under
/// `orchestrations`, or an [`OrchestrationName`].
///
/// `Args` only tells the forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called as an orchestration",
    note = "an orchestration is `async fn(Context)` or `async fn(Context, I)`, returning `Result<O, E>`"
)]
pub trait TypedOrchestration<Args> {
    /// Its input.
    type Input;
    /// Its output.
    type Output;

    /// The name it is called by, and its version.
    #[doc(hidden)]
    fn resolve(
        &self,
        exported: Exported<'_>,
    ) -> Result<(&'static str, Option<&'static str>), Failure>;
}

/// The exports of the component, to look up names in.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Exported<'a>(pub(crate) &'a dyn Names);

/// The name of an activity that is not a function of this component, with its types: a closure of the host's program, or an activity of
/// another module. Declare it once, and call it like a function:
///
/// ```
/// use perennial_sdk::prelude::*;
///
/// const CHARGE: ActivityName<u64, String> = ActivityName::new("Charge");
///
/// async fn pay(ctx: Context, cents: u64) -> Result<String, Failure> {
///     ctx.call(CHARGE, cents).await
/// }
/// ```
pub struct ActivityName<I, O> {
    name: &'static str,
    types: PhantomData<fn(I) -> O>,
}

/// The name of an orchestration that is not a function of this component, with its types. See [`ActivityName`].
pub struct OrchestrationName<I, O> {
    name: &'static str,
    types: PhantomData<fn(I) -> O>,
}

/// Tells names from functions.
#[doc(hidden)]
pub enum ByName {}

impl<F, Args> TypedActivity<(Args,)> for F
where
    F: ActivityFn<Args> + 'static,
{
    type Input = F::Input;
    type Output = F::Output;

    fn resolve(&self, exported: Exported<'_>) -> Result<&'static str, Failure> {
        match exported.0.activity(TypeId::of::<F>()) {
            Some(name) => Ok(name),
            None => Err(not_exported::<F>("activities")),
        }
    }
}

impl<I, O> TypedActivity<ByName> for ActivityName<I, O> {
    type Input = I;
    type Output = O;

    fn resolve(&self, _: Exported<'_>) -> Result<&'static str, Failure> {
        Ok(self.name)
    }
}

impl<F, Args> TypedOrchestration<(Args,)> for F
where
    F: OrchestrationFn<Args> + 'static,
{
    type Input = F::Input;
    type Output = F::Output;

    fn resolve(
        &self,
        exported: Exported<'_>,
    ) -> Result<(&'static str, Option<&'static str>), Failure> {
        match exported.0.orchestration(TypeId::of::<F>()) {
            Some(named) => Ok(named),
            None => Err(not_exported::<F>("orchestrations")),
        }
    }
}

impl<I, O> TypedOrchestration<ByName> for OrchestrationName<I, O> {
    type Input = I;
    type Output = O;

    fn resolve(&self, _: Exported<'_>) -> Result<(&'static str, Option<&'static str>), Failure> {
        Ok((self.name, None))
    }
}

fn not_exported<F>(section: &str) -> Failure {
    let function = std::any::type_name::<F>();
    Failure::new(
        kind::NOT_EXPORTED,
        format!("`{function}` has no name: list it under `{section}` in `perennial_sdk::export!`"),
    )
    .not_retryable()
}

macro_rules! name_impls {
    ($type:ident) => {
        impl<I, O> $type<I, O> {
            /// This name, which takes an `I` and gives an `O`.
            #[must_use]
            pub const fn new(name: &'static str) -> Self {
                Self {
                    name,
                    types: PhantomData,
                }
            }

            /// The name.
            #[must_use]
            pub const fn as_str(&self) -> &'static str {
                self.name
            }
        }

        impl<I, O> Clone for $type<I, O> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<I, O> Copy for $type<I, O> {}

        impl<I, O> fmt::Debug for $type<I, O> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.name).finish()
            }
        }
    };
}

name_impls!(ActivityName);
name_impls!(OrchestrationName);
