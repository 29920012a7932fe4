//! External events and requests that a guest was given and has not read.

use std::collections::BTreeMap;

use crate::{Event, Waiting};

/// What a buffered event costs beside its name and payload, roughly: many small ones fill a memory too.
const OVERHEAD_BYTES: u64 = 64;

/// Bytes of the external events and requests that a guest was given and has not read, by kind and name.
///
/// The contract does not say when a guest reads one. But one that it waited for is read as it comes, and one that it waits for now is
/// not there: all that came before by that name was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unread {
    names: BTreeMap<(Kind, String), u64>,
}

impl Unread {
    /// All of them.
    pub fn bytes(&self) -> u64 {
        self.names
            .values()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// A guest that waited for `before` was given these events, and waits for `after` now.
    pub(crate) fn note(&mut self, before: &Waiting, given: &[Event], after: &Waiting) {
        let mut awaited: Vec<(Kind, String)> = awaited_by(before).collect();
        for event in given {
            let (kind, name) = if let Event::ExternalEventRaised { name, .. } = event {
                (Kind::Event, name)
            } else if let Event::RequestReceived { name, .. } = event {
                (Kind::Request, name)
            } else {
                continue;
            };
            let name = (kind, folded(name));
            match awaited.iter().position(|other| *other == name) {
                Some(at) => drop(awaited.swap_remove(at)),
                None => {
                    *self.names.entry(name).or_default() += event.size() as u64 + OVERHEAD_BYTES
                }
            }
        }
        if !self.names.is_empty() {
            for name in awaited_by(after) {
                self.names.remove(&name);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Event,
    Request,
}

fn awaited_by(waiting: &Waiting) -> impl Iterator<Item = (Kind, String)> {
    let events = waiting
        .events
        .iter()
        .map(|name| (Kind::Event, folded(name)));
    let requests = waiting.requests.iter();
    events.chain(requests.map(|name| (Kind::Request, folded(name))))
}

/// Names are compared without regard to the case of ASCII letters.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(names: &[&str]) -> Waiting {
        Waiting {
            events: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Waiting::default()
        }
    }

    fn raised(name: &str) -> Event {
        Event::ExternalEventRaised {
            number: 0,
            name: name.to_owned(),
            data: None,
        }
    }

    #[test]
    fn what_was_awaited_is_read_and_the_rest_is_not() {
        let mut unread = Unread::default();
        let given = [raised("go"), raised("Go"), raised("other")];
        unread.note(&waits(&["Go"]), &given, &waits(&[]));
        let rest = [raised("Go"), raised("other")];
        let size = |event: &Event| event.size() as u64 + OVERHEAD_BYTES;
        assert_eq!(unread.bytes(), rest.iter().map(size).sum::<u64>());
        // Waiting for it again, it has read what was there.
        unread.note(&waits(&[]), &[], &waits(&["GO"]));
        assert_eq!(unread.bytes(), size(&rest[1]));
        unread.note(&waits(&[]), &[], &waits(&["other"]));
        assert_eq!(unread, Unread::default());
    }
}
