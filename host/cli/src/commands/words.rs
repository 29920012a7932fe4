//! Words of the command line for what the library has names for.

use perennial::DefinitionKind;

/// A kind in the words of the command line.
pub(super) fn kind_name(kind: DefinitionKind) -> &'static str {
    match kind {
        DefinitionKind::Orchestration => "orchestration",
        DefinitionKind::Activity => "activity",
    }
}
