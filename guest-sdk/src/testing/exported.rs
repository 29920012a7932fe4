//! The definitions of a component, as values.

use crate::definition::Component;
use crate::{Activity, Orchestration};

/// Orchestrations and activities: those that [`export!`](crate::export!) lists, or that [`definitions!`](crate::definitions!) does.
#[derive(Clone, Copy)]
pub struct Exported {
    pub(super) component: Component,
}

impl Exported {
    /// Holds definitions. The macros call it.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        orchestrations: &'static [Orchestration],
        activities: &'static [Activity],
    ) -> Self {
        Self {
            component: Component {
                orchestrations,
                activities,
            },
        }
    }
}

/// What [`export!`](crate::export!) lists in the root of this crate, for [`Environment::of`](crate::testing::Environment::of); if it is in
/// another module, `exported!(crate::that_module)`.
#[macro_export]
#[allow(
    clippy::crate_in_macro_def,
    reason = "the crate that calls it is the one that exports"
)]
macro_rules! exported {
    () => {
        crate::__PERENNIAL_EXPORTED
    };
    ($($module:tt)+) => {
        $($module)+::__PERENNIAL_EXPORTED
    };
}

/// Definitions for [`Environment::of`](crate::testing::Environment::of), in the syntax of [`export!`](crate::export!).
///
/// ```
/// use perennial_sdk::prelude::*;
/// use perennial_sdk::testing::Environment;
///
/// async fn pay(ctx: Context, cents: u64) -> Result<String, Failure> {
///     ctx.activity("Charge", cents).await
/// }
///
/// let environment = Environment::of(perennial_sdk::definitions! { orchestrations: { "Pay" => pay } })
///     .activity("Charge", |cents: u64| Ok::<_, Failure>(format!("{cents} charged")));
/// let report = environment.start("Pay", 5).finish();
/// assert_eq!(report.output::<String>(), "5 charged");
/// ```
#[macro_export]
macro_rules! definitions {
    (orchestrations: $orchestrations:tt $(,)?) => {
        $crate::definitions! { orchestrations: $orchestrations, activities: {} }
    };
    (activities: $activities:tt $(,)?) => {
        $crate::definitions! { orchestrations: {}, activities: $activities }
    };
    (orchestrations: $orchestrations:tt, activities: $activities:tt $(,)?) => {{
        $crate::__define! { orchestrations: $orchestrations }
        $crate::__define! { activities: $activities }
        $crate::testing::Exported::new(ORCHESTRATIONS, ACTIVITIES)
    }};
    (activities: $activities:tt, orchestrations: $orchestrations:tt $(,)?) => {
        $crate::definitions! { orchestrations: $orchestrations, activities: $activities }
    };
}

/// Keeps what `export!` lists where `exported!` finds it.
#[doc(hidden)]
#[macro_export]
macro_rules! __keep_exported {
    ($($definitions:tt)*) => {
        #[doc(hidden)]
        #[allow(dead_code, reason = "only tests use it")]
        pub(crate) static __PERENNIAL_EXPORTED: $crate::testing::Exported = $crate::definitions! { $($definitions)* };
    };
}
