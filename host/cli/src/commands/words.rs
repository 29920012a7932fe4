//! English words for the enums of the library.

use perennial::DefinitionKind;

/// A kind in the words of the command line.
pub(super) fn kind_name(kind: DefinitionKind) -> &'static str {
    match kind {
        DefinitionKind::Orchestration => "orchestration",
        DefinitionKind::Activity => "activity",
    }
}
