//! Cache of loaded modules.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use perennial_core::Digest;

/// Modules that stay loaded. Instances hold on to theirs, so taking one off the cache costs at most loading it again.
const LOADED_MAX: usize = 256;

/// A bounded map of what was made for each module.
///
/// Law: for one module at most one thread makes it at a time, the others wait for that one; different modules do not wait for each other.
pub(super) struct ModuleCache<T> {
    places: RwLock<HashMap<Digest, Arc<Entry<T>>>>,
    /// Counts uses, to find the place that was not used for longest.
    uses: AtomicU64,
}

struct Entry<T> {
    made: OnceLock<Arc<T>>,
    making: Mutex<()>,
    last_use: AtomicU64,
}

impl<T> ModuleCache<T> {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self {
            places: RwLock::new(HashMap::new()),
            uses: AtomicU64::new(0),
        }
    }

    /// What was made for the module, else what `make` makes now. An error is told to whoever asked, and forgotten.
    pub(super) fn get<E>(
        &self,
        module: Digest,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let place = self.place(module);
        place
            .last_use
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(made) = place.made.get() {
            return Ok(Arc::clone(made));
        }
        let _making = place.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = place.made.get() {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(make()?);
        Ok(Arc::clone(place.made.get_or_init(|| made)))
    }

    /// Whether [`ModuleCache::get`] would answer at once.
    pub(super) fn has(&self, module: Digest) -> bool {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places
            .get(&module)
            .is_some_and(|place| place.made.get().is_some())
    }

    /// Takes a module off.
    pub(super) fn forget(&self, module: Digest) {
        self.places
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&module);
    }

    fn place(&self, module: Digest) -> Arc<Entry<T>> {
        if let Some(place) = self
            .places
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&module)
        {
            return Arc::clone(place);
        }
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= LOADED_MAX && !places.contains_key(&module) {
            let oldest = places
                .iter()
                .min_by_key(|(_, place)| place.last_use.load(Ordering::Relaxed))
                .map(|(module, _)| *module);
            oldest.map(|oldest| places.remove(&oldest));
        }
        Arc::clone(places.entry(module).or_insert_with(|| {
            Arc::new(Entry {
                made: OnceLock::new(),
                making: Mutex::new(()),
                last_use: AtomicU64::new(u64::MAX),
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn threads_that_want_the_same_module_make_it_once() {
        let cache = ModuleCache::new();
        let made = AtomicUsize::new(0);
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    cache
                        .get(Digest([1; 32]), || {
                            Ok::<_, ()>(made.fetch_add(1, Ordering::Relaxed))
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn an_error_is_not_kept() {
        let cache = ModuleCache::new();
        assert_eq!(cache.get(Digest([1; 32]), || Err("no")), Err("no"));
        assert_eq!(
            cache.get(Digest([1; 32]), || Ok::<_, ()>(1)),
            Ok(Arc::new(1))
        );
    }

    #[test]
    fn a_full_shelf_drops_what_was_not_used_for_longest() {
        let cache = ModuleCache::new();
        let digest = |n: usize| {
            let mut digest = Digest([0; 32]);
            digest.0[..8].copy_from_slice(&n.to_le_bytes());
            digest
        };
        for n in 0..LOADED_MAX {
            cache.get(digest(n), || Ok::<_, ()>(n)).unwrap();
        }
        cache.get(digest(0), || Err("gone")).unwrap();
        cache
            .get(digest(LOADED_MAX), || Ok::<_, ()>(LOADED_MAX))
            .unwrap();
        cache.get(digest(0), || Err("gone")).unwrap();
        assert_eq!(cache.get(digest(1), || Err("gone")), Err("gone"));
    }
}
