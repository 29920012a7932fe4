//! What a change has to tell on the page that it leads to.

/// Bytes of a sentence: browsers keep cookies of up to 4 KiB, and sealing adds a third.
const TEXT_BYTES: usize = 2_000;

/// What a change has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Done(String),
    Refused(String),
}

impl Notice {
    /// As a text that [`of_text`](Self::of_text) reads.
    pub(crate) fn to_text(&self) -> String {
        let (kind, text) = match self {
            Self::Done(text) => ('+', text),
            Self::Refused(text) => ('-', text),
        };
        if text.len() <= TEXT_BYTES {
            return format!("{kind}{text}");
        }
        let end = text.floor_char_boundary(TEXT_BYTES);
        format!("{kind}{}…", &text[..end])
    }

    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let text = text.to_owned();
        match text.split_at_checked(1)? {
            ("+", text) => Some(Self::Done(text.to_owned())),
            ("-", text) => Some(Self::Refused(text.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_is_written_and_cut_between_characters() {
        for notice in [
            Notice::Done("ünd".to_owned()),
            Notice::Refused(String::new()),
        ] {
            assert_eq!(Notice::of_text(&notice.to_text()), Some(notice));
        }
        assert_eq!(Notice::of_text("x"), None);
        assert_eq!(Notice::of_text(""), None);
        let long = Notice::Done("é".repeat(5_000)).to_text();
        assert!(long.len() < TEXT_BYTES + 10 && long.ends_with("é…"));
    }
}
