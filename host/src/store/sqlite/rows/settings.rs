//! Settings, keys, and answers to commands, as a change writes them.

use perennial_core::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::store::codec::int;
use crate::store::rows::Found;
use crate::store::rows::hub::SettingRows;
use crate::store::rows::outbox::OutboxRows;
use crate::store::sqlite::rows::sql::Sql;
use crate::store::types::{KeyRow, Setting};

/// A hub in a file is not divided.
impl OutboxRows for Sql<'_> {}

impl SettingRows for Sql<'_> {
    fn setting(&mut self, which: Setting) -> Found<Option<String>> {
        let mut query = self
            .0
            .prepare_cached("SELECT value FROM setting WHERE name = ?1")?;
        Ok(query
            .query_row([which.name()], |row| row.get(0))
            .optional()?)
    }

    fn put_setting(&mut self, which: Setting, value: &str) -> Found<()> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)")?
            .execute(params![which.name(), value])?;
        Ok(())
    }

    fn insert_key(&mut self, key: &KeyRow, at_most: u32) -> Found<bool> {
        let made = self.0.execute(
            "INSERT INTO access_key (id, name, role, hash, created_at) SELECT ?1, ?2, ?3, ?4, ?5
             WHERE (SELECT count(*) FROM access_key) < ?6",
            params![
                key.id,
                key.name,
                key.admin,
                key.hash,
                int(key.created_at.0),
                at_most
            ],
        )?;
        Ok(made == 1)
    }

    fn delete_key(&mut self, id: &str) -> Found<bool> {
        Ok(self
            .0
            .execute("DELETE FROM access_key WHERE id = ?1", [id])?
            == 1)
    }

    fn answer_command(&mut self, token: &str, answer: &[u8]) -> Found<bool> {
        let answered = self
            .0
            .prepare_cached("UPDATE command SET answer = ?2, body = x'' WHERE token = ?1")?
            .execute(params![token, answer])?;
        Ok(answered == 1)
    }

    fn delete_old_answers(&mut self, before: Timestamp) -> Found<()> {
        self.0.execute(
            "DELETE FROM command WHERE answer IS NOT NULL AND at < ?1",
            [int(before.0)],
        )?;
        Ok(())
    }
}
