//! What was found where a database was looked at.

/// What is known of one thing that hubs need of their database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseAdvice {
    /// What was looked at: the name of a setting, or a word such as `rights`.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found and, where that is bad, what it causes.
    pub found: String,
    /// What mends it: a statement, where there is one.
    pub fix: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Hubs work, and something that was acknowledged may be lost, or they become slow.
    Warning,
    /// No hub works there.
    Failure,
}

impl DatabaseAdvice {
    pub(in crate::store) fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            severity: Severity::Fine,
            found: found.into(),
            fix: None,
        }
    }

    pub(in crate::store) fn bad(
        check: &'static str,
        severity: Severity,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            check,
            severity,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }
}
