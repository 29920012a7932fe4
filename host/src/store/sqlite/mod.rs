//! A hub in one SQLite file. All SQL is here.

mod error;
pub(crate) mod file;
pub(crate) mod owned;
pub(crate) mod rows;
pub(crate) mod writer;
