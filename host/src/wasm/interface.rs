//! Parses names of interfaces.

/// The name of an interface, such as `wasi:io/streams@0.2.6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// The whole name.
    pub(super) full: &'a str,
    /// The name without its version.
    pub(super) base: &'a str,
    /// The version; empty if there is none.
    pub(super) version: &'a str,
}

impl<'a> Name<'a> {
    /// Parses a name.
    pub(super) fn of(full: &'a str) -> Self {
        let (base, version) = full.split_once('@').unwrap_or((full, ""));
        Self {
            full,
            base,
            version,
        }
    }

    /// The part of the version within which interfaces are compatible: `0.2` of `0.2.6`, `1` of `1.4.0`.
    pub(super) fn track(&self) -> &'a str {
        let mut dots = self.version.match_indices('.').map(|(at, _)| at);
        let end = if self.version.starts_with("0.") {
            dots.nth(1)
        } else {
            dots.next()
        };
        &self.version[..end.unwrap_or(self.version.len())]
    }
}
