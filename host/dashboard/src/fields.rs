//! The fields of a form or of a query.

/// Fields that a form may have: several times as many as the largest one of a page, so that nothing that reads them takes long.
pub(crate) const FIELDS_MAX: usize = 2_000;

/// Named texts in their order; a name may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads the fields of a form; how many there are, if there are too many.
    ///
    /// # Errors
    /// The number of fields.
    pub(crate) fn parse_form(bytes: &[u8]) -> Result<Self, usize> {
        match bytes.split(|byte| *byte == b'&').count() {
            0..=FIELDS_MAX => Ok(Self::parse(bytes)),
            count => Err(count),
        }
    }

    /// Reads fields as a browser sends them. The server has bounded the number of those in a query.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// The first value of a name that is not empty, without spaces around it.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let named =
            |(known, value): &'_ (String, String)| known == name && !value.trim().is_empty();
        let found = self.0.iter().find(|pair| named(pair));
        found.map(|(_, value)| value.trim())
    }

    /// All values of a name that are not empty.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(known, _)| known == name);
        pairs
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Whether a box was ticked.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// All pairs.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl FromIterator<(String, String)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_count_as_absent() {
        let fields = Fields::parse(b"a=&a=+1+&b=%3C&c=");
        assert_eq!(fields.text("a"), Some("1"));
        assert_eq!(fields.text("b"), Some("<"));
        assert!(!fields.is_set("c") && !fields.is_set("d"));
    }

    #[test]
    fn a_form_has_so_many_fields() {
        let form = |count: usize| vec!["id=1"; count].join("&");
        assert!(Fields::parse_form(form(FIELDS_MAX).as_bytes()).is_ok());
        let count = Fields::parse_form(form(60_000).as_bytes());
        assert_eq!(count, Err(60_000));
    }
}
