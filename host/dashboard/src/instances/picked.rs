//! Instances that a person picked, each with the run that was looked at: a run that was started under the same id since is another one.

use std::collections::HashSet;

use perennial::InstanceStatus;

use crate::fields::Fields;
use crate::refused::Refused;

/// The name of the fields.
pub(super) const NAME: &str = "id";

/// Characters of a run.
const RUN: usize = 32;

/// An instance, and the run of it that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Picked {
    pub(super) run: String,
    pub(super) id: String,
}

impl Picked {
    pub(super) fn of(instance: &InstanceStatus) -> Self {
        Self {
            run: instance.run.clone(),
            id: instance.instance_id.clone(),
        }
    }

    /// The value of its field.
    pub(super) fn value(&self) -> String {
        format!("{}:{}", self.run, self.id)
    }

    fn parse(value: &str) -> Option<Self> {
        let (run, id) = value.split_at_checked(RUN)?;
        let id = id.strip_prefix(':')?;
        Some(Self {
            run: run.to_owned(),
            id: id.to_owned(),
        })
    }
}

/// The value of the field of an instance.
pub(super) fn value(instance: &InstanceStatus) -> String {
    Picked::of(instance).value()
}

/// All that were sent, each once.
pub(super) fn all(sent: &Fields) -> Result<Vec<Picked>, Refused> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    // As they are: an id may begin or end with a space.
    for (_, value) in sent.pairs().filter(|(name, _)| *name == NAME) {
        let picked = Picked::parse(value).ok_or_else(|| {
            Refused::invalid("The list does not say which runs were selected. Go back, reload it, and select again.")
        })?;
        if seen.insert(picked.clone()) {
            all.push(picked);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_is_picked_once_and_an_id_may_be_anything() {
        let picked = |id: &str| Picked {
            run: "0".repeat(RUN),
            id: id.to_owned(),
        };
        let (one, two) = (picked(" a:b "), picked("ü"));
        let mut form = form_urlencoded::Serializer::new(String::new());
        for value in [one.value(), two.value(), one.value()] {
            form.append_pair(NAME, &value);
        }
        let found = all(&Fields::parse(form.finish().as_bytes())).unwrap();
        assert_eq!(found, [one, two]);
        for bad in ["id=a", "id=", &format!("id={}a", "0".repeat(RUN))] {
            assert!(all(&Fields::parse(bad.as_bytes())).is_err(), "{bad}");
        }
    }
}
