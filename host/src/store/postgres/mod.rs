//! A hub in PostgreSQL: one schema of a database. All of its SQL is here.
//!
//! The store has a small runtime of its own, on which its connections live. Callers are threads, as everywhere in the store: a call waits
//! for its answer on the thread that made it, whatever runtime that belongs to.

pub(in crate::store) mod address;
#[cfg(test)]
pub(in crate::store) mod copy;
pub(in crate::store) mod create;
mod error;
mod garbage;
mod horizon;
mod indexes;
pub(in crate::store) mod integrity;
mod lease;
mod link;
mod loading;
mod members;
mod needs;
pub(in crate::store) mod outside;
pub(in crate::store) mod owned;
mod partitions;
mod pool;
mod probe;
mod product;
mod quote;
pub(in crate::store) mod reads;
mod replica;
pub(in crate::store) mod running;
mod runtime;
mod seat;
mod session;
pub(in crate::store) mod settings;
mod source;
#[cfg(test)]
pub(in crate::store) mod testing;
#[cfg(test)]
mod tests;
mod tls;
pub(in crate::store) mod transfer;
mod wanted;
mod writer;
