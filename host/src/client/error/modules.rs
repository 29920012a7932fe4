//! Errors about modules: unknown, ambiguous, in use, and names that belong to another one.

use super::{Error, Kind};
use crate::store::is_like_a_digest;

impl Error {
    /// There is no module of this name, or none with this digest if the text can be one.
    pub(crate) fn unknown_module(name: &str) -> Self {
        let name = name.to_owned();
        let kind = match is_like_a_digest(&name) {
            true => Kind::NotStored { digest: name },
            false => Kind::UnknownModule { name },
        };
        Self { kind }
    }

    pub(crate) fn ambiguous_module(digits: &str, count: usize) -> Self {
        let digits = digits.to_owned();
        Self {
            kind: Kind::AmbiguousModule { digits, count },
        }
    }

    /// The module does not exist.
    pub fn is_unknown_module(&self) -> bool {
        matches!(self.kind, Kind::UnknownModule { .. })
            || self.has_code(&["unknownModule"])
            || self.is_not_stored()
    }

    /// No stored module has the digest: it was never deployed in this task hub, or was deleted because nothing needed it.
    pub fn is_not_stored(&self) -> bool {
        matches!(self.kind, Kind::NotStored { .. }) || self.has_code(&["notStored"])
    }

    /// The digits are the beginning of the digests of several stored modules: give more of them.
    pub fn is_ambiguous_module(&self) -> bool {
        matches!(self.kind, Kind::AmbiguousModule { .. }) || self.has_code(&["ambiguousModule"])
    }

    /// Live instances run the module that was to be removed.
    pub fn is_in_use(&self) -> bool {
        matches!(self.kind, Kind::InUse { .. }) || self.has_code(&["inUse"])
    }

    /// A module defines a name that another module owns.
    pub fn is_name_taken(&self) -> bool {
        matches!(self.kind, Kind::NameTaken { .. }) || self.has_code(&["nameTaken"])
    }

    /// The module that owns the name, for [`is_name_taken`](Self::is_name_taken), if it is known.
    pub fn name_owner(&self) -> Option<&str> {
        match &self.kind {
            Kind::NameTaken { owner, .. } => Some(owner),
            _ => None,
        }
    }
}
