//! Attempts that are dropped because their host stops, or gives their instances away. They run again wherever their instances run next.

use crate::engine::tasks::activities::{Activities, State};
use crate::engine::tasks::ready::AttemptKey;
use crate::store::{CutOff, InstanceKey};

impl Activities {
    /// Drops the attempts of instances that this host does not run any more. Returns those that had begun here, and the queued ones.
    pub(in crate::engine) fn leave(
        &self,
        of: impl Fn(InstanceKey) -> bool,
    ) -> (Vec<CutOff>, Vec<AttemptKey>) {
        let mut state = self.state();
        let queued: Vec<AttemptKey> = state
            .ready
            .keys()
            .filter(|(key, _)| of(*key))
            .copied()
            .collect();
        queued
            .iter()
            .for_each(|place| drop(state.ready.remove(place)));
        let cut = state.cut_off(of);
        drop(state);
        self.left.send_replace(());
        (cut, queued)
    }

    /// Stops starting attempts, and drops the running ones. They run again when the hub is next opened. Returns those that had begun.
    pub(crate) fn stop(&self) -> Vec<CutOff> {
        let mut state = self.state();
        state.stopped = true;
        state.ready.clear();
        state.order.clear();
        let cut = state.cut_off(|_| true);
        drop(state);
        self.stop.send_replace(true);
        self.processors.close();
        cut
    }
}

impl State {
    /// Interrupts the running attempts of some instances. Returns those that had begun.
    fn cut_off(&self, of: impl Fn(InstanceKey) -> bool) -> Vec<CutOff> {
        let running = self.running.iter().filter(|((key, _), _)| of(*key));
        let cut = running.filter_map(|((key, task), running)| {
            running.interrupt.set();
            Some(CutOff {
                key: *key,
                task: *task,
                started_at: running.started_at?,
                heartbeat: running.heart.stop(),
                is_known: false,
            })
        });
        cut.collect()
    }
}
