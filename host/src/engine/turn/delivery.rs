//! Delivers messages and due timers to the mail of an instance, and holds them while it is suspended.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use perennial_core::{CANCELLATION_GRACE, Envelope, Message, TaskRef, Timestamp};

use crate::engine::locks::{Guard, rank};
use crate::engine::memory::slots::{Lane, Mailbox, Slot, SlotPhase};
use crate::engine::tasks::activities::Activities;
use crate::engine::tasks::timers::{self, Due, Fired};
use crate::engine::turn::load;
use crate::engine::{Engine, TRY_AGAIN_AFTER, Work};
use crate::store::{InstanceKey, StoreError};

impl Engine {
    /// Queues an instance to look into its inbox.
    pub(crate) fn wake(&self, key: InstanceKey) {
        self.put(key, |mailbox| mailbox.inbox_is_new = true);
    }

    /// Marks an instance to be loaded again, because its stored row changed elsewhere (it was replaced, for example).
    pub(in crate::engine) fn reload(&self, key: InstanceKey) {
        // Without a slot nothing is cached.
        if self.memory.slots.has(key) {
            self.put(key, |mailbox| mailbox.reload = true);
        }
    }

    /// Puts a message that is not in the hub yet into the mail of an instance. `at` is the time of its arrival.
    pub(crate) fn post(&self, key: InstanceKey, at: Timestamp, message: Message) {
        self.put(key, |mailbox| {
            mailbox.mail.push_back(Envelope::came(message, at))
        });
    }

    pub(in crate::engine) fn put(&self, key: InstanceKey, put: impl FnOnce(&mut Mailbox)) {
        self.put_by(key, Lane::UNKNOWN, put);
    }

    /// As [`put`](Self::put), for an instance whose lane is known.
    pub(in crate::engine) fn put_by(
        &self,
        key: InstanceKey,
        lane: Lane,
        put: impl FnOnce(&mut Mailbox),
    ) {
        loop {
            let slot = self.memory.slots.slot(key);
            let mut mailbox = slot.mailbox();
            if mailbox.phase == SlotPhase::Gone {
                drop(mailbox);
                // The thread that removes the slot holds the lock of the table, so the next look finds a new slot.
                std::thread::yield_now();
                continue;
            }
            put(&mut mailbox);
            if matches!(mailbox.phase, SlotPhase::Idle | SlotPhase::Asked) {
                mailbox.phase = SlotPhase::Queued;
                drop(mailbox);
                slot.was_woken_by(lane);
                self.enqueue(Work::Run(slot));
            }
            return;
        }
    }

    pub(in crate::engine) fn fire(self: &Arc<Self>, fired: Fired) {
        let Fired { key, due, at, .. } = fired;
        if !matches!(due, Due::Retain | Due::Receive) && !self.owns(key) {
            // Whoever runs the instance now has it from the hub.
            return;
        }
        let is_for_all = matches!(due, Due::Wake | Due::Grace(_));
        if !is_for_all && self.is_suspended(key) {
            // The entry stays in the hub, and is armed again when the instance is resumed.
            return;
        }
        match due {
            Due::Timer(_) | Due::TimerAt(_) | Due::Grace(_) | Due::Limit(_) | Due::Child(..) => {
                if let Some(message) = message_of(due) {
                    self.post(key, at, message);
                }
            }
            Due::Wake | Due::Start => self.wake(key),
            Due::Retain => self.ask_to_retain(),
            Due::Receive => self.enqueue(Work::Receive),
            Due::Activity(task) => {
                if let Err(error) = self.try_due(&fired, task) {
                    tracing::warn!(instance = self.name_of(key), %error, "could not read an activity that is due; trying again");
                    self.timers.again_in(TRY_AGAIN_AFTER, key, due);
                }
            }
        }
    }

    /// Starts the due attempt of an activity, unless it is no longer due.
    pub(in crate::engine) fn try_due(
        self: &Arc<Self>,
        fired: &Fired,
        task: TaskRef,
    ) -> Result<(), StoreError> {
        let key = fired.key;
        let Some(row) = self
            .hub
            .reader
            .task(key, task.task)?
            .filter(|row| row.task == task)
        else {
            return Ok(());
        };
        let is_later = |due: &Timestamp| *due != fired.asked && *due > self.clock.now();
        if let Some(later) = row.due.filter(is_later) {
            self.timers.add(later, row.set_at, key, Due::Activity(task));
            return Ok(());
        }
        load::ready(self, vec![row])?
            .into_iter()
            .for_each(|ready| Activities::push(self, ready));
        Ok(())
    }

    /// Puts overdue timers and child retries of an instance into its mail, before a turn takes messages that arrived later.
    pub(in crate::engine) fn post_due(&self, slot: &Slot) -> Result<(), StoreError> {
        let (mut due, is_hidden) = self.timers.take_due(slot.key);
        if is_hidden {
            let now = self.clock.now();
            let rows = self.hub.reader.tasks_of(slot.key)?;
            due.extend(rows.iter().filter_map(|row| timers::late(row, now)));
        }
        let due = due
            .iter()
            .filter_map(|fired| Some(Envelope::came(message_of(fired.due)?, fired.at)));
        slot.mailbox().mail.extend(due);
        Ok(())
    }

    /// The name of an instance in the log: its id, or its key if the id cannot be read.
    pub(in crate::engine) fn name_of(&self, key: InstanceKey) -> String {
        match self.hub.reader.instance_by_key(key) {
            Ok(Some(row)) => row.id,
            Ok(None) | Err(_) => format!("row {}", key.0),
        }
    }

    pub(in crate::engine) fn suspended(
        &self,
    ) -> Guard<'_, HashSet<InstanceKey>, { rank::SUSPENDED }> {
        self.memory.suspended.lock()
    }

    pub(crate) fn is_suspended(&self, key: InstanceKey) -> bool {
        let suspended = self.suspended();
        !suspended.is_empty() && suspended.contains(&key)
    }

    pub(crate) fn suspend(&self, key: InstanceKey) {
        self.suspended().insert(key);
    }

    pub(crate) fn resumed(&self, key: InstanceKey) {
        let mut suspended = self.suspended();
        if !suspended.is_empty() {
            suspended.remove(&key);
        }
    }

    /// Arms all tasks of an instance again. Only the thread that runs its turns may call this, because no turn may take outcomes out of the
    /// mail meanwhile.
    pub(crate) fn rearm(self: &Arc<Self>, slot: &Slot) {
        if let Err(error) = self.try_rearm(slot) {
            tracing::warn!(instance = self.name_of(slot.key), %error, "could not read the tasks of a resumed instance; trying again");
            slot.mailbox().rearm = true;
            self.timers.again_in(TRY_AGAIN_AFTER, slot.key, Due::Wake);
        }
    }

    pub(in crate::engine) fn try_rearm(self: &Arc<Self>, slot: &Slot) -> Result<(), StoreError> {
        let mut rows = self.hub.reader.tasks_of(slot.key)?;
        // The order matters: an outcome is in the mail before the activities forget the task.
        rows.retain(|row| !self.activities.knows(slot.key, row.task));
        let over: BTreeSet<TaskRef> = slot
            .mailbox()
            .mail
            .iter()
            .filter_map(|e| e.message.settles())
            .collect();
        rows.retain(|row| !over.contains(&row.task));
        self.timers.add_all(&rows);
        rows.retain(|row| row.due.is_none());
        load::ready(self, rows)?
            .into_iter()
            .for_each(|ready| Activities::push(self, ready));
        Ok(())
    }
}

/// The message that an instance receives for a due entry.
fn message_of(due: Due) -> Option<Message> {
    match due {
        Due::Timer(task) | Due::TimerAt(task) => Some(Message::TimerFired { task }),
        Due::Grace(task) => Some(Message::GraceOver {
            execution: task.execution,
            generation: task.generation,
        }),
        Due::Limit(_) => Some(Message::TimeLimit {
            grace: CANCELLATION_GRACE,
        }),
        Due::Child(task, attempt) => Some(Message::ChildDue { task, attempt }),
        Due::Activity(_) | Due::Start | Due::Wake | Due::Retain | Due::Receive => None,
    }
}
