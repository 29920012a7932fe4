//! What a module's activities may touch.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the activities of a module may touch, beside clocks and random numbers. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Directories of the host.
    pub dirs: Vec<DirGrant>,
    /// Environment variables, as name and value.
    pub env: Vec<(String, String)>,
    /// Hosts that HTTP requests may go to. Kept with the module; outbound HTTP does not exist yet.
    pub http_hosts: Vec<String>,
}

/// A directory that activities see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirGrant {
    /// The directory on the host.
    pub host: PathBuf,
    /// Its path for the activity, such as `/data`.
    pub guest: String,
    /// Whether files in it may be made, changed and removed.
    #[serde(default)]
    pub writable: bool,
}
