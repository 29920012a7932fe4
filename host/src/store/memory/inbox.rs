//! Inboxes and histories.

use perennial_core::{Message, Timestamp, Turn, Waiting};

use crate::store::StoreError;
use crate::store::codec::encode;
use crate::store::memory::{Mail, Memory, RewindRow, delete};
use crate::store::rows::Found;
use crate::store::rows::inbox::{InboxRows, Room};
use crate::store::rows::turns::TurnRows;
use crate::store::types::{InstanceKey, Position};

impl Memory {
    fn first(&self, key: InstanceKey) -> Option<(u64, &Mail)> {
        let mut mail = self.inbox.range((key, 0)..=(key, u64::MAX));
        mail.next().map(|((_, seq), mail)| (*seq, mail))
    }

    pub(super) fn mail(&self, key: InstanceKey) -> impl Iterator<Item = (u64, &Mail)> {
        let mail = self.inbox.range((key, 0)..=(key, u64::MAX));
        mail.map(|((_, seq), mail)| (*seq, mail))
    }
}

fn size(message: &Message) -> Result<u64, StoreError> {
    Ok(encode(message)?.len() as u64)
}

impl InboxRows for Memory {
    fn push(&mut self, key: InstanceKey, message: &Message, at: Option<Timestamp>) -> Found<u64> {
        let found = self.instances.get_mut(&key).ok_or(StoreError::Conflict)?;
        let (seq, size) = (found.inbox_next, size(message)?);
        found.inbox_next += 1;
        found.inbox_bytes += size;
        let mail = Mail {
            message: message.clone(),
            at: at.unwrap_or(self.at),
            size,
            bytes: found.inbox_bytes,
        };
        self.inbox.insert((key, seq), mail);
        Ok(seq)
    }

    fn push_first(&mut self, key: InstanceKey, messages: &[Message]) -> Found<()> {
        let first = self
            .first(key)
            .map(|(seq, mail)| (seq, mail.bytes - mail.size));
        match first {
            Some((first, mut bytes)) if first >= messages.len() as u64 => {
                for (seq, message) in (0..first).rev().zip(messages.iter().rev()) {
                    let size = size(message)?;
                    let mail = Mail {
                        message: message.clone(),
                        at: self.at,
                        size,
                        bytes,
                    };
                    self.inbox.insert((key, seq), mail);
                    bytes = bytes.saturating_sub(size);
                }
            }
            Some(_) | None => {
                let waiting: Vec<Mail> = self.mail(key).map(|(_, mail)| mail.clone()).collect();
                self.clear_inbox(key)?;
                for message in messages {
                    self.push(key, message, None)?;
                }
                for mail in waiting {
                    self.push(key, &mail.message, Some(mail.at))?;
                }
            }
        }
        Ok(())
    }

    fn insert_start(&mut self, key: InstanceKey, start: &Message) -> Found<()> {
        let mail = Mail {
            message: start.clone(),
            at: Timestamp(0),
            size: size(start)?,
            bytes: 0,
        };
        self.inbox.insert((key, 0), mail);
        Ok(())
    }

    fn discard(&mut self, key: InstanceKey, seqs: &[u64]) -> Found<()> {
        for seq in seqs {
            self.inbox.remove(&(key, *seq));
        }
        Ok(())
    }

    fn clear_inbox(&mut self, key: InstanceKey) -> Found<()> {
        let of = (key, 0)..=(key, u64::MAX);
        delete(&mut self.inbox, of, usize::MAX, |_| true);
        Ok(())
    }

    fn has_mail(&mut self, key: InstanceKey) -> Found<bool> {
        Ok(self.first(key).is_some())
    }

    fn will_change(&mut self, key: InstanceKey) -> Found<bool> {
        let changes = |mail: &Mail| {
            matches!(
                mail.message,
                Message::Suspend { .. } | Message::Resume { .. }
            )
        };
        Ok(self.mail(key).any(|(_, mail)| changes(mail)))
    }

    fn refusals(&mut self, key: InstanceKey) -> Found<Vec<(u64, Message)>> {
        let skipped = |mail: &Mail| matches!(mail.message, Message::StartSkipped { .. });
        let found = self.mail(key).filter(|(_, mail)| skipped(mail));
        Ok(found
            .map(|(seq, mail)| (seq, mail.message.clone()))
            .collect())
    }

    fn room(&mut self, key: InstanceKey) -> Found<Room> {
        let first = self.first(key).map(|(_, mail)| (mail.bytes, mail.size));
        let found = self.instances.get(&key).ok_or(StoreError::Conflict)?;
        Ok(Room {
            waits: first.map_or(0, |(bytes, size)| found.inbox_bytes + size - bytes),
            unread: found.unread_bytes,
            is_remote: found.row.module.is_none(),
        })
    }

    fn waiting(&mut self, key: InstanceKey) -> Found<Option<Waiting>> {
        let found = self.instances.get(&key).ok_or(StoreError::Conflict)?;
        Ok(found.waiting.clone())
    }
}

impl TurnRows for Memory {
    fn insert_turn(&mut self, key: InstanceKey, execution: u32, turn: &Turn) -> Found<()> {
        let turn = Turn {
            // What follows from a turn is not in its row.
            next: None,
            ..turn.clone()
        };
        self.turns.insert((key, execution, turn.number), turn);
        Ok(())
    }

    fn archive_turns(
        &mut self,
        key: InstanceKey,
        at: Position,
        cut: u32,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Found<()> {
        let rewind = RewindRow {
            at: now,
            reason: reason.map(str::to_owned),
            cut,
        };
        let (execution, generation) = (at.execution, at.generation);
        self.rewinds.insert((key, execution, generation), rewind);
        let from = (key, execution, cut);
        let archived: Vec<_> = self
            .turns
            .range(from..=(key, execution, u32::MAX))
            .map(|((_, _, number), turn)| (*number, turn.clone()))
            .collect();
        for (number, turn) in archived {
            self.turns.remove(&(key, execution, number));
            self.cut_turns
                .insert((key, execution, generation, number), turn);
        }
        Ok(())
    }

    fn written_in(&mut self, key: InstanceKey, execution: u32, turn: u32) -> Found<u32> {
        let of = self
            .rewinds
            .range((key, execution, 0)..=(key, execution, u32::MAX));
        let before = of.filter(|(_, rewind)| rewind.cut <= turn);
        Ok(before
            .map(|((_, _, generation), _)| generation + 1)
            .max()
            .unwrap_or(0))
    }

    fn delete_turns(&mut self, key: InstanceKey) -> Found<()> {
        let of = (key, 0, 0)..=(key, u32::MAX, u32::MAX);
        delete(&mut self.turns, of, usize::MAX, |_| true);
        Ok(())
    }

    fn leave_garbage(&mut self, key: InstanceKey, execution: Option<u32>) -> Found<()> {
        if !self.garbage.contains_key(&(key, execution)) {
            self.garbage.insert((key, execution), ());
        }
        Ok(())
    }

    fn collect_garbage(&mut self, rows: u32) -> Found<bool> {
        let mut left = rows as usize;
        while left > 0 {
            let mut garbage = self.garbage.keys();
            let Some(&(key, execution)) = garbage.find(|(key, _)| self.own.has_key(*key)) else {
                return Ok(false);
            };
            let (first, last) = execution.map_or((0, u32::MAX), |execution| (execution, execution));
            let (from, to) = ((key, first, 0), (key, last, u32::MAX));
            let of = (key, first, 0, 0)..=(key, last, u32::MAX, u32::MAX);
            let deleted = delete(&mut self.turns, from..=to, left, |_| true)
                + delete(&mut self.cut_turns, of, left, |_| true);
            delete(&mut self.rewinds, from..=to, usize::MAX, |_| true);
            if deleted < left {
                self.garbage.remove(&(key, execution));
            }
            left = left.saturating_sub(deleted + 1);
        }
        Ok(true)
    }
}
