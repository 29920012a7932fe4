//! Housekeeping of the idle writer: returns free pages and truncates the log.

use std::sync::atomic::Ordering;

use perennial_core::Timestamp;

use crate::store::sqlite::file::space;
use crate::store::sqlite::writer::transaction::Transaction;
use crate::store::{StoreError, codec};

use super::commit::claim;
use super::{State, is_there};

impl State {
    /// Whether there may be housekeeping to do.
    pub(super) fn is_untidy(&self) -> bool {
        #[cfg(test)]
        if self.faults.no_upkeep.load(Ordering::Acquire) {
            return false;
        }
        self.db.is_some() && !self.fenced && (self.may_give_back || self.may_empty_log)
    }

    /// As [`is_untidy`](Self::is_untidy), but true only once: a thread that commits by itself asks the writer's thread with it.
    pub(super) fn asks_to_tidy(&mut self) -> bool {
        self.is_untidy() && !std::mem::replace(&mut self.tidy_asked, true)
    }

    /// One step of housekeeping: returns some pages or, if too few are free, truncates the log.
    pub(super) fn tidy(&mut self) {
        if !self.is_untidy() {
            return;
        }
        let tidied = if self.may_give_back {
            self.give_back()
        } else {
            self.empty_log()
        };
        if let Err(error) = tidied {
            // The next commit that frees pages leads to another try. The cause of a lasting error also fails commits, which report it.
            tracing::debug!(%error, "space was not given back");
            (self.may_give_back, self.may_empty_log) = (false, false);
        }
    }

    /// Returns some pages, if more are free than the reserve.
    fn give_back(&mut self) -> Result<(), StoreError> {
        let Some(db) = &self.db else { return Ok(()) };
        let pages = space::pages_of(db)?;
        if !space::has_excess(pages) || !space::gives_back(db)? {
            self.may_give_back = false;
            return Ok(());
        }
        let tx = Transaction::begin(db)?;
        // This transaction changes no data, so the time of the last commit stays.
        let at = tx
            .prepare_cached("SELECT at FROM hub")?
            .query_row([], |row| row.get::<_, i64>(0))?;
        let at = Timestamp(codec::uint(at));
        let number = match claim(&tx, self.epoch, self.number.take(), at) {
            Ok(number) => number,
            Err(error) => {
                self.fenced = matches!(error, StoreError::Fenced);
                return Err(error);
            }
        };
        is_there(&self.path, self.file)?;
        space::give_back(&tx)?;
        tx.commit()?;
        self.number = Some(number);
        self.may_empty_log = true;
        self.counts.given_back.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Truncates the log if it is long. If a reader still needs it, tries again later.
    fn empty_log(&mut self) -> Result<(), StoreError> {
        let Some(db) = &self.db else { return Ok(()) };
        if self.log_pages.load(Ordering::Relaxed) >= space::IDLE_LOG_PAGES {
            if !space::empty_log(db)? {
                return Ok(());
            }
            self.log_pages.store(0, Ordering::Relaxed);
            self.counts.checkpoints.fetch_add(1, Ordering::Relaxed);
        }
        self.may_empty_log = false;
        Ok(())
    }
}
