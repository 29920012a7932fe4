//! What the engine knows of deployed modules: their names, grants and limits.

pub(crate) mod grants;
pub(crate) mod limits;
pub(crate) mod names;
