//! The names that an engine goes by now.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::engine::Engine;
use crate::engine::modules::names::NameTable;
use crate::foreign::guarded;
use crate::store::StoreError;

impl Engine {
    /// The current table of names.
    pub(crate) fn names(&self) -> Arc<NameTable> {
        if self.code.names_are_old.load(Ordering::Acquire) {
            // Until then the previous ones are used.
            let _ = self.reload_names();
        }
        self.known_names()
    }

    /// # Errors
    /// If they cannot be read; the previous ones are used until they can.
    pub(in crate::engine) fn reload_names(&self) -> Result<(), StoreError> {
        match self.hub.reader.names() {
            Ok(rows) => {
                let table = Arc::new(NameTable::new(
                    rows,
                    self.code.native.clone(),
                    self.config.limits,
                ));
                *self
                    .code
                    .names
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = table;
                self.code.names_are_old.store(false, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                self.code.names_are_old.store(true, Ordering::Release);
                tracing::error!(%error, "could not read the names of deployed modules; using the previous ones until they can be read");
                Err(error)
            }
        }
    }

    /// Reads the names anew after another host may have changed them, and compiles what they newly lead to, so that its first instance here
    /// does not wait. Does not wait for that.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(in crate::engine) fn names_changed(self: &Arc<Self>) -> Result<(), StoreError> {
        let before = self.known_names().modules();
        self.reload_names()?;
        let mut new = self.known_names().modules();
        new.retain(|module| !before.contains(module));
        if new.is_empty() {
            return Ok(());
        }
        let (executor, engine) = (Arc::clone(&self.code.executor), Arc::downgrade(self));
        let compile = move || {
            // Nobody needs them once the host has stopped.
            for module in new.into_iter().take_while(|_| engine.strong_count() > 0) {
                // Errors appear when a guest is created.
                let _ = guarded(|| executor.prepare(module));
            }
        };
        // The runtime panics if it cannot create a thread: then the first instance waits.
        let _ = guarded(|| self.runtime.spawn_blocking(compile));
        Ok(())
    }

    /// The table of names as it was read last.
    fn known_names(&self) -> Arc<NameTable> {
        let names = self.code.names.read();
        Arc::clone(&names.unwrap_or_else(PoisonError::into_inner))
    }
}
