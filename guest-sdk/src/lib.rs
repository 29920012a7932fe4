//! Write durable orchestrations and activities for Perennial in ordinary Rust.
//!
//! An *orchestration* is an `async fn` that calls activities, starts children, sets timers, waits for events and answers requests, and
//! that survives anything: the host records what it was told, and brings it back by telling it again. An *activity* is an ordinary function that does
//! the work, with all its side effects; it runs at least once. Both are compiled to one WebAssembly component.
//!
//! ```
//! use perennial_sdk::prelude::*;
//!
//! #[orchestration]
//! async fn hello_sequence(ctx: Context) -> Result<Vec<String>, Failure> {
//!     let mut greetings = Vec::new();
//!     for city in ["Tokyo", "Seattle", "London"] {
//!         greetings.push(ctx.call(say_hello, city.to_owned()).await?);
//!     }
//!     Ok(greetings)
//! }
//!
//! #[activity]
//! fn say_hello(city: String) -> Result<String, Failure> {
//!     Ok(format!("Hello {city}!"))
//! }
//!
//! perennial_sdk::export! {
//!     orchestrations: [hello_sequence],
//!     activities: [say_hello],
//! }
//! # fn main() {}
//! ```
//!
//! # When things happen
//!
//! A call such as [`Context::activity`] is a future, and like any other it does nothing before it is polled: it is scheduled when it is
//! first awaited, alone or in a `join!`. To have several run while you do something else, [`start`](ActivityCall::start) them. Dropping
//! a task cancels it, as do losing a [`race`] and the return of the orchestration while the task is open: a running activity is
//! interrupted, and a child orchestration runs on by itself. [`Task::detach`] has the instance wait for it all the same.
//!
//! # Events and requests
//!
//! An event is a message to an instance; who sends it learns nothing. A request is one that gets an answer. Both are kept until the
//! orchestration asks for them, also when it continues as new.
//!
//! ```
//! use perennial_sdk::prelude::*;
//!
//! /// Sells so many tickets.
//! #[orchestration(validate(Buy = check_count))]
//! async fn box_office(ctx: Context, mut left: u32) -> Result<(), Failure> {
//!     while left > 0 {
//!         let request = ctx.next_request::<u32, u32>("Buy").await?;
//!         match left.checked_sub(*request.input()) {
//!             Some(rest) => {
//!                 left = rest;
//!                 request.respond(&left)?;
//!             }
//!             None => request.reject(Failure::new("TooFew", format!("{left} are left"))),
//!         }
//!     }
//!     Ok(())
//! }
//!
//! /// What is wrong whatever the orchestration has done before.
//! fn check_count(count: &u32) -> Result<(), Failure> {
//!     match count {
//!         1..=9 => Ok(()),
//!         _ => Err(Failure::new("WrongCount", "buy 1 to 9 tickets")),
//!     }
//! }
//!
//! /// Buys tickets of another instance.
//! #[orchestration]
//! async fn outing(ctx: Context, friends: u32) -> Result<u32, Failure> {
//!     ctx.send_request("box-office", "Buy", friends + 1).await
//! }
//!
//! perennial_sdk::export! { orchestrations: [box_office, outing] }
//! # fn main() {}
//! ```
//!
//! See [`Context::event`], [`Context::requests`] and [`Context::send_request`].
//!
//! # Determinism
//!
//! An orchestration is a function from events to actions, and nothing else can be observed in its sandbox. Any combination of futures
//! from any crate works, as long as the futures at its leaves come from [`Context`]. An orchestration that awaits anything else
//! could never be woken, and ends with the failure `ForeignAwait`.
//!
//! The ordinary library shows the sandbox too: `SystemTime::now` and `Instant::now` are the time of the turn, which stands still until
//! the next one; the order of a `HashMap` and what `rand` draws follow from the execution's seed; there are no variables, arguments,
//! files, sockets or threads (each attempt is an `Err`), and the input is at its end. What would wait, such as `std::thread::sleep`, fails the
//! orchestration with `ForbiddenImport`. All this is the same for the targets `wasm32-wasip2` and `wasm32-wasip1`. On
//! `wasm32-unknown-unknown` the ordinary library has no clock: there use [`Context::now`].
//!
//! # Printing
//!
//! What `println!`, `eprintln!`, `print!`, `eprint!` and `dbg!` write becomes lines of the log, as by [`info!`] and [`warn!`], once and not
//! in each replay. A line that `print!` does not end is kept until it ends.
//!
//! On `wasm32-unknown-unknown` the ordinary library writes nowhere. There this crate has macros of the same names. The bodies of functions
//! with [`#[orchestration]`](macro@orchestration) and [`#[activity]`](macro@activity) use them without further ado. For other functions write
//! this at the root of the crate:
//!
//! ```
//! #[cfg(target_os = "unknown")]
//! #[macro_use]
//! extern crate perennial_sdk;
//! ```
//!
//! What other crates print there, and what is written to `std::io::stdout()`, is lost: use [`info!`].
//!
//! There is deliberately no way to ask whether an orchestration is being replayed: code that did something else then would not be the
//! same function of its events. Log lines need none, since the host drops those of a replay.
//!
//! # Names and types
//!
//! [`#[orchestration]`](macro@orchestration) and [`#[activity]`](macro@activity) name a function after itself, or as their options say, and
//! [`export!`] lists what a component exports. [`Context::call`] and [`Context::call_child`] take the functions themselves, so that the compiler checks their types, and
//! [`Context::activity`] and [`Context::child`] take any name, such as one that is known only at run time. Functions of another module or
//! of the host's program are declared once as an [`ActivityName`] or an [`OrchestrationName`].
//!
//! # Tests
//!
//! With the feature `testing`, the module `testing` runs orchestrations under `cargo test`, without a host: with a simulated clock, and with a
//! crash and a replay after each turn.
//!
//! # Layers
//!
//! `export!` puts a [definition](Orchestration) behind each name; a machine polls the orchestration to quiescence after each event; the
//! futures share with it one `Execution`, which holds the open tasks, the events, and the actions of the turn.

#![warn(clippy::too_many_lines)]

// The macros call this crate by its name, also in its own tests.
extern crate self as perennial_sdk;

pub mod kind;
pub mod log;

mod activity;
mod annotated;
#[doc(hidden)]
pub mod bindings;
mod cancel;
mod combine;
mod context;
mod definition;
mod event;
mod execution;
#[doc(hidden)]
pub mod export;
mod failure;
mod failure_kind;
mod http;
mod instance;
mod limit;
mod machine;
mod mailbox;
#[cfg(perennial_no_pthreads)]
mod no_threads;
mod payload;
#[doc(hidden)]
pub mod print;
mod random;
mod request;
mod retry;
mod saga;
mod task;
#[cfg(all(feature = "testing", not(target_arch = "wasm32")))]
pub mod testing;
mod ticket;
mod time;
mod timer;
mod typed;
mod validator;

#[cfg(test)]
mod tests;

pub use crate::activity::{ActivityContext, HeartbeatError};
pub use crate::bindings::orchestrations::ChildPolicy;
pub use crate::bindings::types::TaskId;
pub use crate::cancel::{Cancellation, CancellationWait};
pub use crate::combine::{race, race_all};
pub use crate::context::{Context, Continuation, Parent};
pub use crate::definition::{
    Activity, ActivityFn, Orchestration, OrchestrationFn, OrchestrationFuture,
};
pub use crate::event::{EventStream, EventWait, EventWithin};
pub use crate::failure::{Cause, Failure};
pub use crate::failure_kind::FailureKind;
pub use crate::http::{HttpCall, HttpRequest, HttpResponse};
pub use crate::instance::InstanceStart;
pub use crate::request::{Request, RequestCall, RequestStream, RequestWait, RequestWithin};
pub use crate::retry::RetryPolicy;
pub use crate::saga::{Compensation, Saga};
pub use crate::task::{ActivityCall, ChildCall, Task};
pub use crate::time::{ParseTimestampError, Timestamp};
pub use crate::timer::Timer;
pub use crate::typed::{ActivityName, OrchestrationName, TypedActivity, TypedOrchestration};
pub use crate::validator::Validator;

/// Makes an `async fn` an orchestration, which [`export!`] lists by its function.
///
/// The function stays what it is: `ctx.call_child(pay, cents)` takes it, and a test can call it.
///
/// | option | meaning |
/// | --- | --- |
/// | `name = "Pay"` | the name that clients start it by; otherwise the name of the function in UpperCamelCase: `pay_all` is `PayAll` |
/// | `version = "2"` | the version, which distinguishes definitions with the same name |
/// | `description = "…"` | a description for people; otherwise the first paragraph of the doc comment |
/// | `input_schema = SCHEMA` | JSON Schema of the input, for forms and validation |
/// | `input_schema` | that of the type of the input, which derives `schemars::JsonSchema`; with the feature `schemars` |
/// | `validate(AddItem = check_item)` | validators of [requests](Context::requests): for each name a function `fn(&In) -> Result<(), E>` |
///
/// `version`, `description` and `input_schema` are constant expressions of type `&str`.
///
/// ```
/// use perennial_sdk::prelude::*;
///
/// /// Charges a card, and sends a receipt.
/// #[orchestration(version = "2")]
/// async fn pay(ctx: Context, cents: u64) -> Result<String, Failure> {
///     ctx.activity("Charge", cents).await
/// }
///
/// perennial_sdk::export! { orchestrations: [pay] }
/// # fn main() {}
/// ```
///
/// The function is `async fn(Context)` or `async fn(Context, I)`, returning `Result<O, E>`, where serde can read `I` and write `O`, and `E` is
/// [`Failure`] or becomes one. The error of another signature says, at its place, what does not fit.
///
/// Beside the function there is a hidden type of the same name, by which `export!` finds the definition. So a module that has the same name
/// gets in its way where both are imported: list it as `pay::pay` then.
pub use perennial_sdk_macros::orchestration;

/// Makes a `fn` an activity, which [`export!`] lists by its function. As [`orchestration`](macro@orchestration) otherwise.
///
/// | option | meaning |
/// | --- | --- |
/// | `name = "Charge"` | the name that orchestrations call it by; otherwise the name of the function in UpperCamelCase |
/// | `description = "…"` | a description for people; otherwise the first paragraph of the doc comment |
/// | `input_schema = SCHEMA` | JSON Schema of the input, for forms and validation |
/// | `input_schema` | that of the type of the input, which derives `schemars::JsonSchema`; with the feature `schemars` |
///
/// ```
/// use perennial_sdk::prelude::*;
///
/// #[activity]
/// fn charge(cents: u64) -> Result<String, Failure> {
///     Ok(format!("{cents} charged"))
/// }
///
/// perennial_sdk::export! { activities: [charge] }
/// # fn main() {
/// assert_eq!(charge(7).unwrap(), "7 charged");
/// # }
/// ```
///
/// The function is `fn()`, `fn(I)`, `fn(ActivityContext)` or `fn(ActivityContext, I)`, returning `Result<O, E>`, where serde can read `I` and
/// write `O`, and `E` is [`Failure`] or becomes one.
pub use perennial_sdk_macros::activity;

/// Derives [`FailureKind`](trait@FailureKind), whose documentation describes it.
pub use perennial_sdk_macros::FailureKind;

pub use futures;
pub use serde_json;
pub use std::time::Duration;
pub use uuid::Uuid;

/// The names that most guests use.
pub mod prelude {
    pub use crate::{
        ActivityContext, ActivityName, ChildPolicy, Context, Duration, Failure, FailureKind,
        HttpRequest, HttpResponse, OrchestrationName, Request, RetryPolicy, Saga, Task, Timer,
        Timestamp, activity, debug, error, info, orchestration, race, race_all, trace, warn,
    };
    pub use futures::future::{Either, join_all, try_join_all};
    pub use futures::stream::{FuturesUnordered, StreamExt};
}
