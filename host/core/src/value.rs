//! Values: payloads, times, ids.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bounds::INSTANCE_ID_CHARS;
use crate::text;

/// A JSON text (RFC 8259), stored and returned verbatim.
///
/// Whoever makes one answers for its being JSON: a value is parsed where it enters the process and trusted inside. Absent is
/// `Option::None` around it; `""` and `null` are texts of their own. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Arc<str>);

impl Json {
    /// Takes a text that is known to be JSON.
    pub fn from_text(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes of the text.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes of an optional payload.
pub(crate) fn size_of(payload: Option<&Json>) -> usize {
    payload.map_or(0, Json::size)
}

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time moved on by `span`; the end of time where that does not fit.
    #[must_use]
    pub fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The beginning of the next whole second: everything before it is shown as this second, or an earlier one, where times are shown in
    /// whole seconds. The end of time where there is none.
    #[must_use]
    pub fn end_of_second(self) -> Self {
        const SECOND: u64 = 1_000;
        Self((self.0 / SECOND).saturating_add(1).saturating_mul(SECOND))
    }

    /// From `earlier` to this time; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

/// A span of time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// Identifies a task within one execution: unique and increasing in the order of scheduling.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TaskId(pub u32);

impl TaskId {
    /// No guest may use this number, nor a higher one: the host keeps its own due times under them.
    pub const RESERVED: Self = Self(u32::MAX - 2);
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a module: the SHA-256 of its stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads the 64 hex digits that [`Display`](fmt::Display) writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Self(bytes))
    }

    /// The first 12 hex digits: enough for people to tell modules apart.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

/// Labels of an instance, in the order given.
pub type Tags = Vec<(String, String)>;

/// Sets a tag, in its place if there is one with this key, or removes it.
pub fn set_tag(tags: &mut Tags, key: &str, value: Option<&str>) {
    match (tags.iter_mut().find(|(other, _)| other == key), value) {
        (Some((_, old)), Some(value)) => value.clone_into(old),
        (Some(_), None) => tags.retain(|(other, _)| other != key),
        (None, Some(value)) => tags.push((key.to_owned(), value.to_owned())),
        (None, None) => {}
    }
}

/// Identifies a task for ever: task ids begin again with each execution, and may be given again after a rewind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskRef {
    /// The number of the execution within its instance.
    pub execution: u32,
    /// The generation in which it was scheduled, or armed again.
    pub generation: u32,
    /// The task.
    pub task: TaskId,
}

/// The task that an instance is the child of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent instance's id.
    pub instance_id: String,
    /// The parent's orchestration's name.
    pub name: String,
    /// The child's task in the parent's execution.
    pub task: TaskRef,
    /// The attempt of that task that this child is, from 1.
    pub attempt: u32,
}

/// Why a text is not a valid instance id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// No character at all.
    #[error("an instance id must not be empty")]
    Empty,
    /// More than [`INSTANCE_ID_CHARS`].
    #[error("an instance id has at most {INSTANCE_ID_CHARS} characters, this one has {0}")]
    TooLong(usize),
    /// A character that would not survive in a URL path or a terminal.
    #[error(
        "an instance id must not contain {0:?}: control characters, those that change the direction of text, and / \\ # ? are not allowed"
    )]
    Character(char),
    /// Reserved for entities.
    #[error("an instance id must not start with '@'")]
    At,
    /// `.` or `..`, which a URL path does not keep.
    #[error("an instance id must not be {0:?}: no URL could name it")]
    Dots(String),
}

/// Checks an id that an instance is to have.
///
/// # Errors
/// [`InvalidId`] says which rule it breaks.
pub fn check_instance_id(id: &str) -> Result<(), InvalidId> {
    // Bytes are at least as many as characters: what is far too long is not counted.
    if id.len() > 4 * INSTANCE_ID_CHARS || id.chars().count() > INSTANCE_ID_CHARS {
        return Err(InvalidId::TooLong(id.chars().count()));
    }
    match id {
        "" => return Err(InvalidId::Empty),
        "." | ".." => return Err(InvalidId::Dots(id.to_owned())),
        _ if id.starts_with('@') => return Err(InvalidId::At),
        _ => {}
    }
    match id
        .chars()
        .find(|c| text::is_control(*c) || matches!(c, '/' | '\\' | '#' | '?'))
    {
        Some(c) => Err(InvalidId::Character(c)),
        None => Ok(()),
    }
}

/// Checks an id that names an instance which may be there: also one that older hosts let in.
///
/// # Errors
/// As [`check_instance_id`].
pub fn check_known_id(id: &str) -> Result<(), InvalidId> {
    match check_instance_id(id) {
        Err(InvalidId::Dots(_)) => Ok(()),
        Err(InvalidId::Character(_))
            if !id
                .chars()
                .any(|c| c.is_control() || matches!(c, '/' | '\\' | '#' | '?')) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Why a text cannot be the name of something, which the message does not name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// No character at all.
    #[error("must not be empty")]
    Empty,
    /// More than are allowed.
    #[error("has at most {max} characters, this one has {chars}")]
    TooLong {
        /// How many it has.
        chars: usize,
        /// How many are allowed.
        max: usize,
    },
    /// A character that a reader would not see, or be misled by.
    #[error(
        "must not contain {0:?}: control characters and those that change the direction of text are not allowed"
    )]
    Character(char),
}

/// Checks the name of an orchestration, an activity, an event, a tag or a module, which has at most `max_chars` characters.
///
/// # Errors
/// [`InvalidName`] says which rule it breaks.
pub fn check_name(name: &str, max_chars: usize) -> Result<(), InvalidName> {
    let chars = name.chars().count();
    if chars == 0 {
        return Err(InvalidName::Empty);
    }
    if chars > max_chars {
        return Err(InvalidName::TooLong {
            chars,
            max: max_chars,
        });
    }
    match name.chars().find(|c| text::is_control(*c)) {
        Some(c) => Err(InvalidName::Character(c)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = Digest(std::array::from_fn(|i| (i * 7) as u8));
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("abc"), None);
        assert_eq!(Digest::from_hex(&"zz".repeat(32)), None);
        assert_eq!(Digest::from_hex(&"é".repeat(32)), None);
    }

    #[test]
    fn instance_ids_keep_the_rules() {
        assert_eq!(check_instance_id("order-17:é"), Ok(()));
        assert_eq!(check_instance_id(&"x".repeat(256)), Ok(()));
        assert_eq!(check_instance_id(""), Err(InvalidId::Empty));
        assert_eq!(
            check_instance_id(&"x".repeat(257)),
            Err(InvalidId::TooLong(257))
        );
        assert_eq!(check_instance_id("@counter@1"), Err(InvalidId::At));
        for c in [
            '/', '\\', '#', '?', '\n', '\u{0}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}',
            '\u{200f}', '\u{2028}',
        ] {
            assert_eq!(
                check_instance_id(&format!("a{c}b")),
                Err(InvalidId::Character(c))
            );
        }
        for dots in [".", ".."] {
            let refused = Err(InvalidId::Dots(dots.to_owned()));
            assert_eq!(check_instance_id(dots), refused);
        }
        assert_eq!(check_instance_id("..."), Ok(()));
        for old in [".", "..", "a\u{202e}b"] {
            assert_eq!(check_known_id(old), Ok(()), "it may be there");
        }
        for never in ["", "@a", "a/b", "a\0", &"x".repeat(257)] {
            assert_eq!(check_known_id(never), check_instance_id(never));
        }
    }

    #[test]
    fn names_have_an_end_and_nothing_unseen() {
        assert_eq!(check_name("Größe 7/8", 9), Ok(()));
        assert_eq!(check_name("", 9), Err(InvalidName::Empty));
        assert_eq!(
            check_name("0123456789", 9),
            Err(InvalidName::TooLong { chars: 10, max: 9 })
        );
        for c in ['\u{0}', '\u{1b}', '\n', '\u{202e}'] {
            let name = format!("a{c}");
            assert_eq!(check_name(&name, 9), Err(InvalidName::Character(c)));
        }
    }
}
