//! What a module defines: its orchestrations and activities.

/// An orchestration or an activity that a module defines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definition {
    /// What it is called by. Not empty, and no other of its kind in the module has it.
    pub name: String,
    /// Its version, where it has one. Activities have none.
    pub version: Option<String>,
    /// What it does, for people.
    pub description: Option<String>,
    /// JSON Schema of its input.
    pub input_schema: Option<String>,
}

impl Definition {
    /// Bytes of its texts.
    pub(super) fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.name.len() + text(&self.version) + text(&self.description) + text(&self.input_schema)
    }
}
