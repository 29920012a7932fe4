//! The connection on which an owner reads what the changes of a batch need.

use perennial_core::Digest;
use tokio_postgres::Row;

use crate::store::StoreError;
use crate::store::codec::int;
use crate::store::memory::{Instance, Posted};
use crate::store::overlay::source::{Garbage, History, Left, Loaded, Source, Wanted};
use crate::store::partition::{Partition, Partitions};
use crate::store::postgres::error::unanswered;
use crate::store::postgres::garbage;
use crate::store::postgres::indexes::by;
use crate::store::postgres::loading::load;
use crate::store::postgres::partitions::{self, ranges};
use crate::store::postgres::session::{Param, Session};
use crate::store::postgres::source::{big, digest_of, instance, readable, rewind, small, turn};
use crate::store::postgres::wanted::{ASKED, GLANCE, LIVES_BELOW, WAITING};
use crate::store::types::InstanceKey;

/// The connection of an owner; none after it was lost, until there is another one.
#[derive(Default)]
pub(in crate::store) struct Link(pub(super) Option<Session>);

impl Link {
    pub(super) fn session(&self) -> Result<&Session, StoreError> {
        match &self.0 {
            Some(session) => Ok(session),
            None => Err(unanswered("there is no connection to PostgreSQL")),
        }
    }

    /// Whether there is a connection that can be used.
    pub(super) fn is_up(&self) -> bool {
        self.0.as_ref().is_some_and(|session| !session.is_lost())
    }
}

impl Source for Link {
    fn load(&mut self, wanted: &Wanted, own: &Partitions) -> Result<Loaded, StoreError> {
        load(self.session()?, wanted, own)
    }

    fn history(
        &mut self,
        key: InstanceKey,
        execution: u32,
        from: u32,
    ) -> Result<History, StoreError> {
        let (execution, from) = (i64::from(execution), i64::from(from));
        let found = self.session()?.query_all(&[
            (
                "SELECT number, first_event, at, answer, received, produced FROM turn
                 WHERE instance = $1 AND execution = $2 AND number >= $3 ORDER BY number",
                &[&key.0, &execution, &from],
            ),
            (
                "SELECT generation, at, reason, cut FROM rewind WHERE instance = $1 AND execution = $2 ORDER BY generation",
                &[&key.0, &execution],
            ),
        ])?;
        let [turns, rewinds] = &found[..] else {
            return Ok(History::default());
        };
        Ok(History {
            turns: turns.iter().map(turn).collect::<Result<_, _>>()?,
            rewinds: rewinds.iter().map(rewind).collect::<Result<_, _>>()?,
        })
    }

    fn garbage(&mut self, at_most: usize, own: &Partitions) -> Result<Vec<Left>, StoreError> {
        let of = ranges(own);
        let rows = self
            .session()?
            .query(garbage::FIRST, &[&of.low, &of.high, &int(at_most as u64)])?;
        let left = |row: &Row| {
            let execution: i64 = row.try_get(1)?;
            Ok((InstanceKey(row.try_get(0)?), u32::try_from(execution).ok()))
        };
        rows.iter().map(left).collect()
    }

    fn garbage_of(&mut self, left: &[Left], at_most: usize) -> Result<Garbage, StoreError> {
        let instances: Vec<i64> = left.iter().map(|(key, _)| key.0).collect();
        let from: Vec<i64> = left
            .iter()
            .map(|(_, execution)| execution.map_or(0, i64::from))
            .collect();
        let to: Vec<i64> = left
            .iter()
            .map(|(_, execution)| execution.map_or(i64::MAX, i64::from))
            .collect();
        let at_most = int(at_most as u64);
        let limited: [Param<'_>; 4] = [&instances, &from, &to, &at_most];
        let found = self.session()?.query_all(&[
            (garbage::TURNS, &limited),
            (garbage::CUT_TURNS, &limited),
            (garbage::REWINDS, &limited[..3]),
        ])?;
        let [turns, cut_turns, rewinds] = &found[..] else {
            return Ok(Garbage::default());
        };
        let three = |row: &Row| Ok((InstanceKey(row.try_get(0)?), small(row, 1)?, small(row, 2)?));
        let four = |row: &Row| {
            Ok((
                InstanceKey(row.try_get(0)?),
                small(row, 1)?,
                small(row, 2)?,
                small(row, 3)?,
            ))
        };
        Ok(Garbage {
            turns: turns.iter().map(three).collect::<Result<_, StoreError>>()?,
            cut_turns: cut_turns
                .iter()
                .map(four)
                .collect::<Result<_, StoreError>>()?,
            rewinds: rewinds
                .iter()
                .map(three)
                .collect::<Result<_, StoreError>>()?,
        })
    }

    fn live_on(&mut self, digest: Digest, except: &[InstanceKey]) -> Result<u64, StoreError> {
        let except: Vec<i64> = except.iter().map(|key| key.0).collect();
        let sql = concat!(
            "SELECT count(*) FROM instance WHERE status < 3 AND module = $1 AND key <> ALL($2) AND ",
            by!(live)
        );
        let row = self.session()?.query_opt(sql, &[&&digest.0[..], &except])?;
        row.map_or(Ok(0), |row| big(&row, 0))
    }

    fn used_modules(
        &mut self,
        among: &[Digest],
        except: &[InstanceKey],
    ) -> Result<Vec<Digest>, StoreError> {
        let except: Vec<i64> = except.iter().map(|key| key.0).collect();
        let among: Vec<&[u8]> = among.iter().map(|digest| &digest.0[..]).collect();
        // Statuses: 3 is Completed, 5 Terminated.
        let sql = concat!(
            "SELECT module FROM instance WHERE status IN (0, 1, 2, 4) AND module = ANY($1) AND key <> ALL($2) AND ",
            by!(status),
            " UNION SELECT module FROM task WHERE module = ANY($1) AND instance <> ALL($2)
              UNION SELECT module FROM outbox WHERE module = ANY($1)"
        );
        let rows = self.session()?.query(sql, &[&among, &except])?;
        rows.iter().map(|row| digest_of(row, 0)).collect()
    }

    fn messages_for(
        &mut self,
        of: &Partitions,
        limit: u32,
        without: &[i64],
    ) -> Result<Vec<(i64, Posted)>, StoreError> {
        let session = self.session()?;
        readable(of, |of| {
            session.query(WAITING, &[&of, &i64::from(limit), &without])
        })
    }

    fn partitions_asked_by(&mut self, asker: InstanceKey) -> Result<Vec<Partition>, StoreError> {
        let rows = self.session()?.query(ASKED, &[&asker.0])?;
        let asked = rows.iter();
        asked
            .map(|row| Ok(partitions::partition(row.try_get(0)?)))
            .collect()
    }

    fn glance(&mut self, id: &str) -> Result<Option<Instance>, StoreError> {
        let row = self.session()?.query_opt(GLANCE, &[&id])?;
        row.as_ref().map(instance).transpose()
    }

    fn lives_below(
        &mut self,
        ancestor: InstanceKey,
        own: &Partitions,
        starters: &[InstanceKey],
    ) -> Result<bool, StoreError> {
        let starters: Vec<i64> = starters.iter().map(|key| key.0).collect();
        let own = partitions::numbers(own);
        let row = self
            .session()?
            .query_opt(LIVES_BELOW, &[&ancestor.0, &own, &starters])?;
        row.map_or(Ok(false), |row| Ok(row.try_get(0)?))
    }
}
