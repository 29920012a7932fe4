//! Cache of loaded modules.

use std::sync::Arc;

use perennial_core::Digest;
use quick_cache::sync::Cache;

/// Modules that stay loaded. Instances keep theirs alive, so evicting one costs at most another load.
const LOADED_MAX: usize = 256;

/// A bounded cache of one value per module.
///
/// Invariant: at most one thread computes the value of a module at a time, and others wait for it; different modules do not wait for each
/// other.
pub(super) struct ModuleCache<T>(Cache<Digest, Arc<T>>);

impl<T> ModuleCache<T> {
    /// An empty cache.
    pub(super) fn new() -> Self {
        Self(Cache::new(LOADED_MAX))
    }

    /// The cached value of the module, or else the result of `make`. Errors are not cached.
    pub(super) fn get<E>(
        &self,
        module: Digest,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        self.0.get_or_insert_with(&module, || make().map(Arc::new))
    }

    /// Whether [`ModuleCache::get`] would return at once.
    pub(super) fn has(&self, module: Digest) -> bool {
        self.0.contains_key(&module)
    }

    /// Removes a module.
    pub(super) fn forget(&self, module: Digest) {
        self.0.remove(&module);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    fn it_stays_bounded() {
        let cache = ModuleCache::new();
        for n in 0..4 * LOADED_MAX {
            let mut digest = Digest([0; 32]);
            digest.0[..8].copy_from_slice(&n.to_le_bytes());
            cache.get(digest, || Ok::<_, ()>(n)).unwrap();
        }
        assert!(cache.0.len() <= LOADED_MAX, "{} are kept", cache.0.len());
    }
}
