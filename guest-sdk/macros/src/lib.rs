//! The macros of `perennial-sdk`, which re-exports and documents them: use them from there.

mod annotated;
mod documented;
mod failure_kind;
mod options;
mod signature;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

use crate::signature::Role;

/// Makes an `async fn` an orchestration that `export!` can list by its function.
#[proc_macro_attribute]
pub fn orchestration(options: TokenStream, item: TokenStream) -> TokenStream {
    annotated::expand(Role::Orchestration, options.into(), item.into()).into()
}

/// Makes a `fn` an activity that `export!` can list by its function.
#[proc_macro_attribute]
pub fn activity(options: TokenStream, item: TokenStream) -> TokenStream {
    annotated::expand(Role::Activity, options.into(), item.into()).into()
}

/// Turns the variants of an enum into kinds of failure, and back.
#[proc_macro_derive(FailureKind, attributes(failure, serde))]
pub fn failure_kind(item: TokenStream) -> TokenStream {
    failure_kind::expand(item.into()).into()
}
