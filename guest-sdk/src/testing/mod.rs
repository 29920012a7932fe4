//! A test kit: orchestrations under `cargo test`, without a host and without WebAssembly.
//!
//! With the feature `testing`, an [`Environment`] runs the orchestrations and activities of a component natively: on the machine that also
//! drives them inside the component, under the rules that the host runs them by (the crate `perennial-core`), with a simulated clock. So a
//! test of days takes milliseconds, and writes the history that a host would write.
//!
//! ```toml
//! [dev-dependencies]
//! perennial-sdk = { version = "0.1", features = ["testing"] }
//! ```
//!
//! ```
//! use perennial_sdk::prelude::*;
//! use perennial_sdk::testing::Environment;
//!
//! async fn order(ctx: Context, item: String) -> Result<String, Failure> {
//!     let policy = RetryPolicy::new(3, Duration::from_secs(10));
//!     let receipt: String = ctx.activity("Charge", &item).retry(policy).await?;
//!     match ctx.event::<bool>("Approved").within(Duration::from_secs(3600)).await? {
//!         Some(true) => Ok(receipt),
//!         _ => Err(Failure::new("Refused", "nobody approved it")),
//!     }
//! }
//!
//! let environment = Environment::of(perennial_sdk::definitions! { orchestrations: { "Order" => order } })
//!     .activity("Charge", |ctx: ActivityContext, item: String| match ctx.attempt() {
//!         1 => Err(Failure::new("Busy", "try again")),
//!         _ => Ok(format!("{item} is paid")),
//!     });
//!
//! let report = environment.start("Order", "tea").raise_when_waiting("Approved", true).finish();
//! assert_eq!(report.output::<String>(), "tea is paid");
//! assert_eq!(report.calls("Charge")[0].attempts(), 2);
//!
//! // Nobody approves: the clock skips to the end of the hour.
//! let report = environment.start("Order", "tea").finish();
//! assert_eq!(report.failure().kind(), "Refused");
//! assert_eq!(report.elapsed().as_secs(), 3610);
//! ```
//!
//! # In a component
//!
//! What `export!` lists is [`exported!()`](crate::exported) in the same crate, so that the tests of a component begin with
//! `Environment::of(perennial_sdk::exported!())`. Its activities run for real, unless
//! [`Environment::activity`] puts a closure in their place. Child orchestrations and detached instances run in the same environment.
//!
//! # Time
//!
//! [`Run::finish`] runs an instance to its end: whenever nothing else can happen, the clock skips to what is due next, such as a timer, a
//! retry, the end of an attempt that [takes](Environment::takes) time, or an input that was planned with [`Run::after`]. To hold the clock,
//! drive the instance with [`Run::settle`] and [`Run::advance`]:
//!
//! ```
//! # use perennial_sdk::prelude::*;
//! # use perennial_sdk::testing::Environment;
//! async fn nap(ctx: Context) -> Result<(), Failure> {
//!     ctx.timer(Duration::from_secs(60)).await;
//!     Ok(())
//! }
//!
//! let mut run = Environment::of(perennial_sdk::definitions! { orchestrations: { "Nap" => nap } }).start("Nap", ());
//! run.advance(Duration::from_secs(59));
//! assert!(!run.has_ended());
//! run.advance(Duration::from_secs(1));
//! assert!(run.has_ended());
//! ```
//!
//! # Requests
//!
//! [`Run::request_after`] and [`Run::request_when_waiting`] plan requests, [`Run::request`] sends one now, and the report has the answers.
//! Validators judge requests before they are recorded, as on a host. Instances of the environment can send requests to each other.
//!
//! ```
//! use perennial_sdk::prelude::*;
//! use perennial_sdk::testing::Environment;
//!
//! async fn adder(ctx: Context, mut sum: u64) -> Result<u64, Failure> {
//!     while sum < 10 {
//!         let request = ctx.next_request::<u64, u64>("Add").await?;
//!         sum += request.input();
//!         request.respond(&sum)?;
//!     }
//!     Ok(sum)
//! }
//!
//! let environment = Environment::of(perennial_sdk::definitions! { orchestrations: { "Adder" => adder } });
//! let report = environment
//!     .start("Adder", 0)
//!     .request_after(Duration::from_secs(1), "Add", 4)
//!     .request_after(Duration::from_secs(2), "Add", 6)
//!     .finish();
//! report.assert_answers("Add", &[4, 10]);
//!
//! let mut run = environment.start("Adder", 0);
//! let answer = run.request("Add", "four").result::<u64>().expect("it is answered");
//! assert_eq!(answer.unwrap_err().kind(), "InvalidInput");
//! ```
//!
//! # Cancellation and families
//!
//! An instance is asked to cancel with [`Run::cancel_after`] or [`Input::cancel`], and by its
//! [execution timeout](Run::execution_timeout). It cleans up by the rules of a host, and its grace period ends by the simulated clock:
//!
//! ```
//! # use perennial_sdk::prelude::*;
//! # use perennial_sdk::testing::Environment;
//! async fn rent(ctx: Context, machine: String) -> Result<(), Failure> {
//!     let used = ctx.event::<()>("Done").await;
//!     ctx.shielded(ctx.activity::<()>("GiveBack", &machine)).await?;
//!     used
//! }
//!
//! let environment = Environment::of(perennial_sdk::definitions! { orchestrations: { "Rent" => rent } })
//!     .activity("GiveBack", |_: String| Ok::<_, Failure>(()));
//! let report = environment.start("Rent", "drill").cancel_after(Duration::from_secs(10), "no longer needed").finish();
//! assert_eq!(report.failure().kind(), "Canceled");
//! report.assert_called(&["GiveBack"]);
//! ```
//!
//! Parents tell their children to end, what is dropped becomes what its call says, and each child has its own time limit.
//! [`Report::instance`] shows how a child ended.
//!
//! # Crashes and determinism
//!
//! After each turn the environment drops the execution and restores it by a replay of all its turns, as a host does after a crash. An
//! orchestration that does not repeat itself fails the test, with the words of the engine: the turn, the event, what is recorded, and what is
//! asked for now. [`Environment::without_replay`] keeps executions in memory. The sandbox of a host fixes the time of the system, random
//! numbers and the order of a `HashMap`; natively they differ each time, so a test may fail for something that a host would repeat.
//!
//! # What differs from a host
//!
//! Fuel, memory and quotas are not limited: an orchestration that never stops computing never ends. Activities have all the access that
//! the test has, not what a deployment grants. An attempt runs to its end at the moment when it begins, and its outcome arrives later if it
//! takes simulated time; it is told neither that nobody waits for it any more nor that a host stops. A command to an instance does not go
//! to its children too. Things that are due at the same moment arrive in one turn, in the order in which they were asked for; on a host
//! they may arrive in several.

mod attempts;
#[doc(hidden)]
pub mod convert;
mod environment;
mod exported;
mod family;
mod guest;
mod instance;
mod report;
mod requests;
mod run;
mod show;
mod world;

pub use environment::Environment;
pub use exported::Exported;
pub use report::{Call, Report, SentEvent, StartedInstance};
pub use requests::{ReceivedRequest, SentRequest};
pub use run::{Input, Moment, Run};
