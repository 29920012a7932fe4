//! Definitions of orchestrations and activities in a module.

/// An orchestration or an activity that a module defines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definition {
    /// The name. Not empty, and unique among the module's definitions of its kind.
    pub name: String,
    /// The version, if any. Activities have none.
    pub version: Option<String>,
    /// A description for people.
    pub description: Option<String>,
    /// The JSON Schema of its input.
    pub input_schema: Option<String>,
}

impl Definition {
    /// The total bytes of its texts.
    pub(super) fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.name.len() + text(&self.version) + text(&self.description) + text(&self.input_schema)
    }
}
