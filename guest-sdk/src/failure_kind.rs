//! Failures with types of their own.

use crate::Failure;

/// A type whose values are kinds of failure: the side that fails makes one, and the side that called gets it back. Derive it.
///
/// ```
/// use perennial_sdk::prelude::*;
///
/// #[derive(Debug, FailureKind)]
/// enum PaymentError {
///     #[failure("the limit is {limit} cents, not {cents}", not_retryable)]
///     CardDeclined { limit: u64, cents: u64 },
///     /// The bank does not answer.
///     BankDown,
/// }
///
/// #[activity]
/// fn charge(cents: u64) -> Result<String, PaymentError> {
///     match cents {
///         0 => Err(PaymentError::BankDown),
///         1..=10_000 => Ok(format!("{cents} charged")),
///         _ => Err(PaymentError::CardDeclined { limit: 10_000, cents }),
///     }
/// }
///
/// #[orchestration]
/// async fn pay(ctx: Context, cents: u64) -> Result<String, Failure> {
///     match ctx.call(charge, cents).await {
///         Err(failure) => match PaymentError::from_failure(&failure) {
///             Some(PaymentError::CardDeclined { limit, .. }) => ctx.call(charge, limit).await,
///             Some(PaymentError::BankDown) | None => Err(failure),
///         },
///         paid => paid,
///     }
/// }
///
/// perennial_sdk::export! { orchestrations: [pay], activities: [charge] }
/// # fn main() {
/// let failure = Failure::from(charge(10_001).unwrap_err());
/// assert_eq!(failure.to_string(), "CardDeclined: the limit is 10000 cents, not 10001");
/// # }
/// ```
///
/// Each variant of an enum is a kind, and so is a struct:
///
/// - The [kind](Failure::kind) is the name of the variant, or `#[failure(kind = "card-declined")]`.
/// - The [message](Failure::message) is a format string, `#[failure("the limit is {limit}")]`, which names fields, or `{0}` the first of a
///   tuple. Without one it is the first paragraph of the doc comment, and without that the kind.
/// - The fields are the [details](Failure::details), written and read by serde: an object, an array, or the only value of a tuple. The
///   attributes `#[serde(…)]` of fields hold. No field, no details.
/// - `#[failure(not_retryable)]` keeps retry policies from [trying again](Failure::not_retryable).
///
/// A value is made of the failure's kind and details alone. To end an orchestration with what a task failed with, return the `Failure`: it
/// also knows the task, which a rewind tries again, and the causes.
///
/// The derive implements `From<T> for Failure`, so that `?` and `into` convert. A type that implements [`std::error::Error`] converts by
/// that, with the name of the type as its kind, and cannot derive this too.
pub trait FailureKind: Into<Failure> {
    /// The value that became this failure, here or in another component.
    ///
    /// None if the failure is of another kind, or if its details are not those of the kind.
    fn from_failure(failure: &Failure) -> Option<Self>;
}
