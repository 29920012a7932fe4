//! Hubs: their files, modules, keys, retention and owners.

pub(crate) mod backup;
pub(crate) mod hosts;
pub(crate) mod hubs;
pub(crate) mod keys;
pub(crate) mod management;
pub(crate) mod modules;
pub(crate) mod overview;
pub(crate) mod owner;
pub(crate) mod retention;
pub(crate) mod stored;
pub(crate) mod workers;
