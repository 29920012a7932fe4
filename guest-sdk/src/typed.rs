//! Calls whose types the compiler checks: of functions, and of names that say what is behind them.

use std::fmt;
use std::marker::PhantomData;

use crate::definition::Component;
use crate::{ActivityFn, Failure, OrchestrationFn, kind};

/// What [`Context::call`](crate::Context::call) takes: a function that [`export!`](crate::export!) lists under `activities`, or an
/// [`ActivityName`].
///
/// `Args` only tells the forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called as an activity",
    note = "an activity is `fn()`, `fn(I)`, `fn(ActivityContext)` or `fn(ActivityContext, I)`, returning `Result<O, E>`"
)]
pub trait TypedActivity<Args> {
    /// What it is given.
    type Input;
    /// What it gives.
    type Output;

    /// The name it is called by.
    #[doc(hidden)]
    fn resolve(&self, exported: Exported) -> Result<&'static str, Failure>;
}

/// What [`Context::call_child`](crate::Context::call_child) takes: a function that [`export!`](crate::export!) lists under
/// `orchestrations`, or an [`OrchestrationName`].
///
/// `Args` only tells the forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called as an orchestration",
    note = "an orchestration is `async fn(Context)` or `async fn(Context, I)`, returning `Result<O, E>`"
)]
pub trait TypedOrchestration<Args> {
    /// What it is given.
    type Input;
    /// What it gives.
    type Output;

    /// The name it is called by, and its version.
    #[doc(hidden)]
    fn resolve(&self, exported: Exported) -> Result<(&'static str, Option<&'static str>), Failure>;
}

/// What the component exports.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Exported(pub(crate) Component);

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

    fn resolve(&self, exported: Exported) -> Result<&'static str, Failure> {
        match exported.0.activity::<F>() {
            Some(activity) => Ok(activity.name),
            None => Err(not_exported::<F>("activities")),
        }
    }
}

impl<I, O> TypedActivity<ByName> for ActivityName<I, O> {
    type Input = I;
    type Output = O;

    fn resolve(&self, _: Exported) -> Result<&'static str, Failure> {
        Ok(self.name)
    }
}

impl<F, Args> TypedOrchestration<(Args,)> for F
where
    F: OrchestrationFn<Args> + 'static,
{
    type Input = F::Input;
    type Output = F::Output;

    fn resolve(&self, exported: Exported) -> Result<(&'static str, Option<&'static str>), Failure> {
        match exported.0.orchestration::<F>() {
            Some(orchestration) => Ok((orchestration.name, orchestration.version)),
            None => Err(not_exported::<F>("orchestrations")),
        }
    }
}

impl<I, O> TypedOrchestration<ByName> for OrchestrationName<I, O> {
    type Input = I;
    type Output = O;

    fn resolve(&self, _: Exported) -> Result<(&'static str, Option<&'static str>), Failure> {
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
