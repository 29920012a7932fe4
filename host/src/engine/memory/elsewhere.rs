//! Which instances of this host the clients of other hosts wait for, and which instances of others those of this one wait for: so that each
//! is told of a change at once, by [hints](Hints), and looks at the hub seldom.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::engine::locks::{OrderedMutex, rank};
use crate::engine::memory::waiters::Until;
use crate::store::Hints;

/// How long other hosts are told of changes of what they asked for.
const WANTED_FOR: Duration = Duration::from_secs(15);

/// How often this host asks again for what its clients still wait for.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How often what nobody wants any more is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// The most instances that are remembered in each table. Clients that wait for others look at the hub.
const REMEMBERED_MAX: usize = 100_000;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Elsewhere {
    /// Whether another host may want to be told of something: asked after each commit.
    is_wanted: AtomicBool,
    state: OrderedMutex<State, { rank::ELSEWHERE }>,
}

/// Until when, or since when, by the ids of instances.
type Times = HashMap<String, Instant>;

#[derive(Default)]
struct State {
    /// Until when other hosts want to be told of the end of an instance, of its changes, and of all changes.
    ends: Times,
    changes: Times,
    all: Option<Instant>,
    /// When this host asked the others last.
    asked_ends: Times,
    asked_changes: Times,
    #[cfg(feature = "http")]
    asked_all: Option<Instant>,
    forgot: Option<Instant>,
}

/// Sets a time, unless too many are there.
fn set(times: &mut Times, id: String, at: Instant) {
    if times.len() < REMEMBERED_MAX || times.contains_key(&id) {
        times.insert(id, at);
    }
}

impl State {
    /// Forgets what is out of date, now and then.
    fn forget(&mut self, now: Instant) {
        if self.forgot.is_some_and(|at| now - at < FORGET_EVERY) {
            return;
        }
        self.forgot = Some(now);
        for wanted in [&mut self.ends, &mut self.changes] {
            wanted.retain(|_, until| *until > now);
        }
        for asked in [&mut self.asked_ends, &mut self.asked_changes] {
            asked.retain(|_, at| now - *at < ASK_EVERY);
        }
        self.all = self.all.filter(|until| *until > now);
    }

    fn is_wanted(&self) -> bool {
        self.all.is_some() || !self.ends.is_empty() || !self.changes.is_empty()
    }
}

impl Elsewhere {
    /// Another host said what its clients wait for.
    fn hear(&self, hints: &Hints, now: Instant) {
        if hints.wait_for_end.is_empty() && hints.wait_for_change.is_empty() && !hints.follow_all {
            return;
        }
        let mut state = self.state.lock();
        state.forget(now);
        let until = now + WANTED_FOR;
        for id in &hints.wait_for_end {
            set(&mut state.ends, id.clone(), until);
        }
        for id in &hints.wait_for_change {
            set(&mut state.changes, id.clone(), until);
        }
        if hints.follow_all {
            state.all = Some(until);
        }
        self.is_wanted.store(state.is_wanted(), Ordering::Release);
    }

    /// What other hosts are to be told of a change of an instance, or of its end.
    fn of_change(&self, id: &str, ended: bool, now: Instant) -> Option<Hints> {
        if !self.is_wanted.load(Ordering::Acquire) {
            return None;
        }
        let mut state = self.state.lock();
        state.forget(now);
        let is_wanted = |until: &Instant| *until > now;
        let mut tells = state.all.as_ref().is_some_and(is_wanted)
            || state.changes.get(id).is_some_and(is_wanted);
        if ended {
            // It ends once. A rewind that goes on with it is followed by those who ask again.
            tells |= state.ends.remove(id).is_some_and(|until| is_wanted(&until));
        }
        self.is_wanted.store(state.is_wanted(), Ordering::Release);
        drop(state);
        let mut hints = Hints::default();
        let of = match ended {
            true => &mut hints.ended,
            false => &mut hints.changed,
        };
        tells.then(|| of.insert(id.to_owned()))?;
        Some(hints)
    }

    /// What other hosts are to be asked for, unless they were asked a moment ago.
    fn ask(&self, id: &str, until: Until, now: Instant) -> Option<Hints> {
        let mut state = self.state.lock();
        state.forget(now);
        let mut hints = Hints::default();
        let (asked, of) = match until {
            Until::Ended => (&mut state.asked_ends, &mut hints.wait_for_end),
            Until::Changed => (&mut state.asked_changes, &mut hints.wait_for_change),
        };
        if asked.get(id).is_some_and(|at| now - *at < ASK_EVERY) {
            return None;
        }
        set(asked, id.to_owned(), now);
        of.insert(id.to_owned());
        Some(hints)
    }

    /// Whether another host asked for something.
    #[cfg(test)]
    pub(in crate::engine) fn is_asked(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// Forgets all.
    #[cfg(test)]
    pub(in crate::engine) fn forget_all(&self) {
        *self.state.lock() = State::default();
    }

    #[cfg(feature = "http")]
    fn ask_for_all(&self, now: Instant) -> Option<Hints> {
        let mut state = self.state.lock();
        if state.asked_all.is_some_and(|at| now - at < ASK_EVERY) {
            return None;
        }
        state.asked_all = Some(now);
        Some(Hints {
            follow_all: true,
            ..Hints::default()
        })
    }
}

impl Engine {
    fn hint(&self, hints: Option<Hints>) {
        if let Some(hints) = hints {
            self.hub.writer.hint(hints);
        }
    }

    /// Asks other hosts to tell this one when an instance of theirs changes or ends.
    pub(in crate::engine) fn ask_elsewhere(&self, id: &str, until: Until) {
        self.hint(self.memory.elsewhere.ask(id, until, Instant::now()));
    }

    /// Asks other hosts to tell this one of all changes. To be called again each second or so, as long as somebody wants to know.
    #[cfg(feature = "http")]
    pub(crate) fn follow_elsewhere(&self) {
        if self.hub.is_shared {
            self.hint(self.memory.elsewhere.ask_for_all(Instant::now()));
        }
    }

    /// Tells those who wait at other hosts that an instance of this one has changed, or has ended.
    pub(in crate::engine) fn tell_elsewhere(&self, id: &str, ended: bool) {
        self.hint(self.memory.elsewhere.of_change(id, ended, Instant::now()));
    }

    /// Another host told something.
    pub(in crate::engine) fn hinted(&self, hints: &Hints) {
        self.memory.elsewhere.hear(hints, Instant::now());
        for (ids, ended) in [(&hints.ended, true), (&hints.changed, false)] {
            for id in ids {
                self.memory.waiters.tell(id, ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: &str) -> Hints {
        Hints {
            ended: [id.to_owned()].into(),
            ..Hints::default()
        }
    }

    fn changed(id: &str) -> Hints {
        Hints {
            changed: [id.to_owned()].into(),
            ..Hints::default()
        }
    }

    #[test]
    fn nobody_is_told_of_what_nobody_wants() {
        let (here, now) = (Elsewhere::default(), Instant::now());
        assert_eq!(here.of_change("a", true, now), None);
        let asks = Elsewhere::default().ask("a", Until::Ended, now).unwrap();
        here.hear(&asks, now);
        assert_eq!(here.of_change("b", true, now), None);
        assert_eq!(here.of_change("a", false, now), None);
        assert_eq!(here.of_change("a", true, now), Some(ended("a")));
        assert_eq!(here.of_change("a", true, now), None, "it was told");
        assert!(!here.is_wanted.load(Ordering::Acquire));
    }

    #[test]
    fn who_follows_is_told_of_each_change_for_a_while() {
        let (here, there, now) = (Elsewhere::default(), Elsewhere::default(), Instant::now());
        here.hear(&there.ask("a", Until::Changed, now).unwrap(), now);
        assert_eq!(here.of_change("a", false, now), Some(changed("a")));
        assert_eq!(here.of_change("a", true, now), Some(ended("a")));
        let later = now + WANTED_FOR;
        assert_eq!(here.of_change("a", false, later), None);
        assert!(!here.is_wanted.load(Ordering::Acquire), "and is forgotten");
        here.hear(&there.ask_for_all(now).unwrap(), now);
        assert_eq!(here.of_change("b", false, now), Some(changed("b")));
        assert_eq!(here.of_change("b", false, later), None);
    }

    #[test]
    fn others_are_asked_again_only_after_a_while() {
        let (there, now) = (Elsewhere::default(), Instant::now());
        assert!(there.ask("a", Until::Ended, now).is_some());
        assert!(there.ask("a", Until::Changed, now).is_some());
        assert!(there.ask_for_all(now).is_some());
        let soon = now + ASK_EVERY / 2;
        assert_eq!(there.ask("a", Until::Ended, soon), None);
        assert_eq!(there.ask_for_all(soon), None);
        let later = now + ASK_EVERY;
        assert!(there.ask("a", Until::Ended, later).is_some());
        assert!(there.ask_for_all(later).is_some());
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let (here, now) = (Elsewhere::default(), Instant::now());
        for n in 0..REMEMBERED_MAX + 10 {
            let asks = Hints {
                wait_for_end: [n.to_string()].into(),
                ..Hints::default()
            };
            here.hear(&asks, now);
        }
        assert_eq!(here.state.lock().ends.len(), REMEMBERED_MAX);
    }
}
