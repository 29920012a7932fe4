//! Inboxes.

use perennial_core::{Envelope, Message, Status, Timestamp};

use crate::store::StoreError;
use crate::store::memory::{Mail, Memory};
use crate::store::sqlite::rows::queries::PAGE_BYTES;
use crate::store::types::{InboxPage, InstanceKey};

fn envelope((seq, mail): (u64, &Mail)) -> Envelope {
    Envelope {
        seq: Some(seq),
        at: mail.at,
        message: mail.message.clone(),
    }
}

fn is_command(message: &Message) -> bool {
    use Message::{Resume, Suspend, Terminate};
    matches!(message, Suspend { .. } | Resume { .. } | Terminate { .. })
}

impl Memory {
    pub(crate) fn inbox(
        &self,
        key: InstanceKey,
        from: u64,
        limit: u32,
    ) -> Result<InboxPage, StoreError> {
        let mut page = InboxPage::default();
        let mut bytes = 0;
        let mail = self.mail(key).filter(|(seq, _)| *seq >= from);
        for (seq, mail) in mail.take(limit as usize) {
            bytes += mail.size;
            page.envelopes.push(envelope((seq, mail)));
            page.more = page.envelopes.len() >= limit as usize || bytes >= PAGE_BYTES as u64;
            if page.more {
                break;
            }
        }
        Ok(page)
    }

    pub(crate) fn inbox_commands(
        &self,
        key: InstanceKey,
        from: u64,
    ) -> Result<Vec<Envelope>, StoreError> {
        let mail = self.mail(key).filter(|(seq, _)| *seq >= from);
        let commands = mail.filter(|(_, mail)| is_command(&mail.message));
        Ok(commands.map(envelope).collect())
    }

    pub(crate) fn with_messages(&self, now: Timestamp) -> Result<Vec<InstanceKey>, StoreError> {
        let waits = |key: InstanceKey, status: Status, scheduled: Option<Timestamp>| {
            let count = self.mail(key).count();
            let may_begin = status != Status::Pending || scheduled.unwrap_or_default() <= now;
            count > 1 || count == 1 && may_begin
        };
        let rows = self.all().map(|of| &of.row);
        let own = rows.filter(|row| self.own.has_key(row.key));
        let live = own.filter(|row| !row.status.is_end());
        let waiting = live.filter(|row| waits(row.key, row.status, row.scheduled_for));
        Ok(waiting.map(|row| row.key).collect())
    }

    pub(crate) fn terminate_in(&self, key: InstanceKey) -> Result<Option<Envelope>, StoreError> {
        let is = |mail: &Mail| matches!(mail.message, Message::Terminate { .. });
        Ok(self.mail(key).find(|(_, mail)| is(mail)).map(envelope))
    }

    pub(crate) fn cancel_in(&self, key: InstanceKey) -> Result<Option<Envelope>, StoreError> {
        let is = |mail: &Mail| matches!(mail.message, Message::Cancel { .. });
        Ok(self.mail(key).find(|(_, mail)| is(mail)).map(envelope))
    }
}
