//! What a batch of changes names, so that it is loaded at once.
#![warn(
    clippy::match_wildcard_for_single_variants,
    clippy::wildcard_enum_match_arm
)]

use perennial_core::{DroppedKind, Event, Message};

use crate::store::change::Change;
use crate::store::memory::Memory;
use crate::store::outbox::OutboxMessage;
use crate::store::overlay::Overlay;
use crate::store::overlay::source::{Source, Wanted};
use crate::store::rows::Found;

use crate::store::types::{InstanceKey, NewInstance, RewindCommit, TurnCommit};

impl<S: Source> Overlay<S> {
    /// Loads what these changes and commands name, in one round trip, or in none if memory has all of it. What a change finds to need only
    /// from the rows themselves is loaded later.
    ///
    /// # Errors
    /// If the source fails.
    pub(in crate::store) fn prefetch<'c>(
        &mut self,
        batch: impl IntoIterator<Item = &'c Change>,
        tokens: impl IntoIterator<Item = &'c str>,
    ) -> Found<()> {
        let mut named = Named {
            memory: &self.memory,
            shares: !self.memory.own.is_all(),
            wanted: Wanted {
                tokens: tokens.into_iter().map(str::to_owned).collect(),
                hub: true,
                ..Wanted::default()
            },
        };
        for change in batch {
            named.by(change);
        }
        let wanted = named.wanted;
        self.fetch(wanted)
    }
}

impl<S: Source> Overlay<S> {
    /// Loads what these messages name, as [`prefetch`](Self::prefetch) does for changes.
    pub(super) fn prefetch_named<'c>(
        &mut self,
        messages: impl Iterator<Item = &'c OutboxMessage>,
    ) -> Found<()> {
        let mut named = Named {
            memory: &self.memory,
            shares: !self.memory.own.is_all(),
            wanted: Wanted::default(),
        };
        messages.for_each(|message| named.by_message(message));
        let wanted = named.wanted;
        self.fetch(wanted)
    }
}

/// Collects what changes name.
struct Named<'m> {
    memory: &'m Memory,
    /// Whether other owners run some of the hub.
    shares: bool,
    wanted: Wanted,
}

impl Named<'_> {
    fn by(&mut self, change: &Change) {
        let wanted = &mut self.wanted;
        match change {
            Change::Turn(commit) => self.by_turn(commit),
            Change::Start(new) => self.start(new),
            Change::Deliver { id, message, .. } => {
                wanted.ids.push(id.clone());
                if let Some(&key) = self.memory.ids.get(id) {
                    self.cascade(key, Some(message));
                }
            }
            Change::TerminateAll { id, .. } | Change::PurgeId(id) | Change::SetTags { id, .. } => {
                wanted.ids.push(id.clone())
            }
            Change::Post { key, .. } | Change::Quarantine { key, .. } => wanted.keys.push(*key),
            Change::Discard { key, cascade, .. } | Change::Release { key, cascade, .. } => {
                wanted.keys.push(*key);
                self.cascade(*key, cascade.as_ref());
            }
            Change::Rewind(commit) => self.by_rewind(commit),
            Change::Restart(commit) => {
                wanted.keys.push(commit.key);
                self.start(&commit.new);
            }
            Change::Retry(retry) => wanted.keys.push(retry.key),
            Change::CountDeliveries(were_running)
            | Change::CountLost { were_running, .. }
            | Change::TakeOver { were_running, .. } => {
                wanted.keys.extend(were_running.iter().map(|was| was.key));
            }
            Change::CutOff { attempts, .. } => {
                wanted.keys.extend(attempts.iter().map(|cut| cut.key));
            }
            Change::Begin { place, .. } => wanted.keys.push(place.0),
            Change::Beats(beats) => {
                wanted.keys.extend(beats.iter().map(|((key, _), _)| *key));
            }
            Change::Purge(keys) => {
                wanted.keys.extend(keys);
                wanted.parents_of.extend(keys);
            }
            Change::All(changes) => changes.iter().for_each(|change| self.by(change)),
            Change::Request(new) => wanted.ids.push(new.instance.clone()),
            Change::StartFor { new, then } => {
                self.start(new);
                self.by(then);
            }
            Change::IfRun { id, then, .. } => {
                wanted.ids.push(id.clone());
                self.by(then);
            }
            Change::Receive(sent) => {
                wanted.sent.extend(sent.iter().map(|one| one.seq));
                sent.iter().for_each(|one| self.by_message(&one.message));
            }
            // These need the rows of the hub itself, which are always loaded, or ask about the whole hub.
            Change::Deploy(_)
            | Change::Grant { .. }
            | Change::Retain(_)
            | Change::KnowNames(_)
            | Change::Collect { .. }
            | Change::CreateKey(_)
            | Change::RevokeKey { .. }
            | Change::CollectModules { .. }
            | Change::RemoveModule { .. }
            | Change::Join(_)
            | Change::Leave(_)
            | Change::Answer(_) => {}
        }
    }

    fn by_message(&mut self, message: &OutboxMessage) {
        let wanted = &mut self.wanted;
        match message {
            OutboxMessage::Start { new, .. } => self.start(new),
            OutboxMessage::NotStarted { by, .. } => wanted.keys.push(by.key),
            OutboxMessage::Deliver { key, .. } => wanted.keys.push(*key),
            OutboxMessage::Event { to, .. } => wanted.ids.push(to.clone()),
            OutboxMessage::Request { new, .. } => wanted.ids.push(new.instance.clone()),
            OutboxMessage::CommandChild { child, .. } | OutboxMessage::DropChild { child, .. } => {
                wanted.ids.push(child.clone());
            }
            OutboxMessage::ReleaseChildren { parent } => wanted.live_children_of.push(parent.key),
            OutboxMessage::Cascade { parent, message } => self.cascade(*parent, Some(message)),
            OutboxMessage::Await(awaited) => wanted.ids.push(awaited.child.clone()),
            OutboxMessage::Readdress { asker, .. } => wanted.asked_by.push(asker.key),
        }
    }

    fn start(&mut self, new: &NewInstance) {
        self.wanted.starts.push(new.start.instance_id.clone());
    }

    fn by_turn(&mut self, commit: &TurnCommit) {
        let key = commit.key;
        match &commit.create {
            Some(new) => {
                self.start(new);
                // Its parent is told if it ends at once.
                if commit.after.status.is_end() {
                    self.wanted.keys.extend(new.parent);
                }
            }
            None => {
                self.wanted.keys.push(key);
                let ends = commit.after.status.is_end();
                if ends && (commit.is_child || commit.expected.execution > 0) {
                    self.wanted.parents_of.push(key);
                }
                if commit.binds_children && (ends || commit.turn.next.is_some()) {
                    self.wanted.live_children_of.push(key);
                    self.below(key);
                }
                self.cascade(key, commit.cascade.as_ref());
            }
        }
        commit.starts.iter().for_each(|new| self.start(new));
        for event in &commit.turn.produced {
            if let Event::EventSent { instance_id, .. }
            | Event::RequestSent { instance_id, .. }
            | Event::ChildCommanded { instance_id, .. } = event
            {
                self.wanted.ids.push(instance_id.clone());
            }
        }
        for event in commit.turn.events() {
            if let Event::RequestAnswered { id, .. } = event
                && let Some(request) = self.memory.requests.get(&(key, id.clone()))
            {
                let asker = request.asker.map(|asker| asker.key);
                self.wanted.keys.extend(asker);
            }
        }
    }

    /// A command that goes on to the children of an instance.
    fn cascade(&mut self, key: InstanceKey, message: Option<&Message>) {
        let Some(message) = message.filter(|message| message.is_recursive()) else {
            return;
        };
        self.wanted.live_children_of.push(key);
        self.below(key);
        if matches!(message, Message::Terminate { .. }) {
            self.wanted.ended_children_of.push(key);
        }
    }

    /// The partitions in which other owners run children of an instance are told something.
    fn below(&mut self, key: InstanceKey) {
        if self.shares {
            self.wanted.below.push(key);
        }
    }

    fn by_rewind(&mut self, commit: &RewindCommit) {
        let (wanted, rewind) = (&mut self.wanted, &commit.rewind);
        wanted.keys.push(commit.key);
        wanted.asked_by.push(commit.key);
        let children = rewind.children.iter();
        let children = children.map(|(_, child)| child.attempt_instance_id(child.attempt));
        wanted.ids.extend(children);
        for dropped in &rewind.dropped {
            if let DroppedKind::Child { instance_ids, .. } = &dropped.kind {
                wanted.ids.extend(instance_ids.iter().cloned());
            }
        }
        for new in commit.starts.iter().flatten() {
            self.start(new);
        }
    }
}
