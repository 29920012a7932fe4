//! Waits for what engines do. They answer a change a moment after it is in the hub, and what it means for attempts and for other instances happens
//! then: a test that goes on before that would race with it.

use std::time::{Duration, Instant};

use super::world::*;
use crate::engine::{Engine, Until};
use crate::store::InstanceRow;

impl Host<'_> {
    /// Waits until the row of an instance meets a condition, and its engine has been told of the change by which it does: what the change
    /// means for attempts and for other instances has happened too.
    pub(crate) fn until(&self, id: &str, is_so: impl Fn(&InstanceRow) -> bool) -> InstanceRow {
        let row = self.world.block_on_or(
            || {
                format!(
                    "{id:?}, which is {:?}, with {:?}",
                    self.row(id),
                    self.events(id)
                )
            },
            async {
                loop {
                    let changed = self.of(id).watch(id, Until::Changed, Duration::ZERO);
                    if let Some(row) = self.row(id).filter(|row| is_so(row)) {
                        return row;
                    }
                    changed.told.await.expect("the engine runs");
                }
            },
        );
        self.is_told(self.of(id));
        row
    }

    /// Waits until an SQL query of the hub's file yields a number, and the engines have been told of the change by which it does.
    pub(crate) fn until_count(&self, sql: &str, number: i64) {
        let began = Instant::now();
        while self.count(sql) != number {
            assert!(began.elapsed() < patience(), "{sql}: never {number}");
            std::thread::yield_now();
        }
        self.engines.iter().for_each(|engine| self.is_told(engine));
    }

    /// Waits until an engine has been told of every change that is in the hub. A change is in the hub for a moment before that.
    fn is_told(&self, engine: &Engine) {
        let began = Instant::now();
        let mut queue = engine.queue();
        // The writer answers in the order of its transactions.
        let written = queue.written;
        while queue.answered < written {
            assert!(began.elapsed() < patience(), "changes are not answered");
            queue = queue.wait_timeout(&engine.work.there, patience());
        }
    }

    /// Waits until nothing is queued, running, being committed, or due.
    pub(crate) fn idle(&self) {
        if self.engines.len() == 1 {
            return self.is_idle(&self.engine);
        }
        let began = Instant::now();
        let reader = self.world.reader();
        let is_still = || {
            self.engines.iter().for_each(|engine| self.is_idle(engine));
            let receives = self.engines.iter().any(|of| !of.work.receiving.is_idle());
            let is_late = self.engines.iter().any(|of| of.work.receiving.is_late());
            !receives && (is_late || reader.outbox(1).unwrap().is_empty())
        };
        // What one engine sent while another was looked at is found the second time.
        while !(is_still() && is_still() && is_still()) {
            assert!(began.elapsed() < patience(), "messages are not received");
            std::thread::yield_now();
        }
    }

    fn is_idle(&self, engine: &Engine) {
        let began = Instant::now();
        let is_busy = |queue: &crate::engine::Queue| {
            queue.busy > 0 || queue.in_flight() > 0 || !queue.work.is_empty()
        };
        loop {
            let mut queue = engine.queue();
            while is_busy(&queue) {
                assert!(
                    began.elapsed() < patience(),
                    "the engine does not come to rest"
                );
                queue = queue.wait_timeout(&engine.work.there, patience());
            }
            drop(queue);
            // What was fired meanwhile is in the queue.
            if !engine.timers.has_due() && !is_busy(&engine.queue()) {
                return;
            }
            assert!(began.elapsed() < patience(), "what is due is not fired");
            std::thread::yield_now();
        }
    }
}
