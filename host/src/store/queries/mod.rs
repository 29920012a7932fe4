//! What is asked of a hub, and what is found: the types of the [reads](crate::store::reads).

#[cfg(feature = "postgres")]
pub(crate) mod advice;
pub(crate) mod filter;
pub(crate) mod found;
pub(in crate::store) mod histories;
pub(in crate::store) mod looks;
pub(crate) mod waits;
