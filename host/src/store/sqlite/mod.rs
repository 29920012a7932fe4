//! A hub in one SQLite file. All SQL is here.

mod error;
pub(crate) mod file;
pub(crate) mod owned;
pub(crate) mod rows;
#[cfg(feature = "postgres")]
pub(in crate::store) mod transfer;
pub(crate) mod writer;
