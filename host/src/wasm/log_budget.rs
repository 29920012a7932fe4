//! Limits how much guests may log, and reports omitted lines.
//!
//! All guests share the host's log, and disks are finite. So there are limits for a line, for an attempt or a turn, for an instance per
//! second, and for all guests together; lines beyond a limit are counted, and the count is logged.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perennial_core::bounds::{
    LOG_ATTEMPT_BYTES, LOG_HOST_BYTES, LOG_HOST_BYTES_PER_SECOND, LOG_INSTANCE_BYTES,
    LOG_INSTANCE_BYTES_PER_SECOND,
};

/// The `tracing` target of guest lines: `RUST_LOG=perennial::guest=debug` shows them.
pub(super) const TARGET: &str = "perennial::guest";

/// Bytes that a line takes beside its message.
const LINE_BYTES: usize = 100;

/// Bytes of the common limit that are reserved for reporting omitted lines.
const RESERVED_BYTES: usize = 64 << 10;

/// Instances that are counted separately. More than may run at once; further ones share only the common limit.
const INSTANCES_MAX: usize = 10_000;

/// The number and size of omitted lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LeftOut {
    lines: u64,
    bytes: u64,
}

impl LeftOut {
    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
    }
}

/// The remaining allowance of an attempt or a turn.
#[derive(Debug)]
pub(super) struct Allowance {
    instance: Arc<str>,
    bytes: usize,
    left_out: LeftOut,
    /// Whether omitted lines may be reported now.
    tells: bool,
}

impl Allowance {
    /// A full allowance for this instance.
    pub(super) fn new(instance: Arc<str>) -> Self {
        Self {
            instance,
            bytes: LOG_ATTEMPT_BYTES,
            left_out: LeftOut::default(),
            tells: true,
        }
    }

    /// Sets whether [`tell_left_out`](Self::tell_left_out) reports: not while the lines themselves are held.
    pub(super) fn may_tell(&mut self, tells: bool) {
        self.tells = tells;
    }

    /// Restores the full allowance.
    pub(super) fn renew(&mut self) {
        self.tell_left_out();
        self.bytes = LOG_ATTEMPT_BYTES;
    }

    /// Whether a line may be written; counts it as omitted otherwise.
    pub(super) fn allows(&mut self, bytes: usize) -> bool {
        let cost = bytes + LINE_BYTES;
        let instance = &self.instance;
        if cost <= self.bytes && with_shared(|shared, at| shared.allows(instance, cost, at)) {
            self.bytes -= cost;
            return true;
        }
        self.left_out.add(LeftOut {
            lines: 1,
            bytes: bytes as u64,
        });
        false
    }

    /// Reports the omitted lines, if there are any.
    pub(super) fn tell_left_out(&mut self) {
        if !self.tells {
            return;
        }
        if let Some(LeftOut { lines, bytes }) = self.take_left_out() {
            let instance = &*self.instance;
            tracing::warn!(
                target: TARGET,
                instance,
                lines,
                bytes,
                "log lines of guests were left out: they are over a limit"
            );
        }
    }

    /// Takes the counts to report now: of this attempt, and of others that could not report theirs.
    fn take_left_out(&mut self) -> Option<LeftOut> {
        let left_out = std::mem::take(&mut self.left_out);
        (left_out.lines > 0)
            .then(|| with_shared(|shared, at| shared.tells(left_out, at)))
            .flatten()
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.tell_left_out();
    }
}

/// The limits that all guests of this process share.
static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

fn with_shared<T>(what: impl FnOnce(&mut Shared, Duration) -> T) -> T {
    let at = BEGAN.elapsed();
    what(
        &mut SHARED.lock().unwrap_or_else(PoisonError::into_inner),
        at,
    )
}

/// The common bucket, and those of the instances.
#[derive(Debug)]
struct Shared {
    all: Bucket,
    instances: HashMap<Arc<str>, Bucket>,
    /// Omitted lines that are not reported yet.
    unsaid: LeftOut,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            all: Bucket::full(LOG_HOST_BYTES, LOG_HOST_BYTES_PER_SECOND),
            instances: HashMap::new(),
            unsaid: LeftOut::default(),
        }
    }
}

impl Shared {
    fn allows(&mut self, instance: &Arc<str>, bytes: usize, at: Duration) -> bool {
        if self.all.level(at) < bytes + RESERVED_BYTES {
            return false;
        }
        if self.instances.len() >= INSTANCES_MAX && !self.instances.contains_key(instance) {
            self.instances.retain(|_, bucket| !bucket.is_full(at));
        }
        let has_room = self.instances.len() < INSTANCES_MAX;
        let own = match self.instances.get_mut(instance) {
            Some(bucket) => bucket.take(bytes, at),
            None if has_room => self
                .instances
                .entry(Arc::clone(instance))
                .or_insert_with(|| Bucket::full(LOG_INSTANCE_BYTES, LOG_INSTANCE_BYTES_PER_SECOND))
                .take(bytes, at),
            None => true,
        };
        own && self.all.take(bytes, at)
    }

    fn tells(&mut self, left_out: LeftOut, at: Duration) -> Option<LeftOut> {
        self.unsaid.add(left_out);
        self.all
            .take(2 * LINE_BYTES, at)
            .then(|| std::mem::take(&mut self.unsaid))
    }
}

/// A token bucket of bytes, which refills at a constant rate up to its size.
#[derive(Debug)]
struct Bucket {
    bytes: usize,
    at: Duration,
    bytes_max: usize,
    bytes_per_second: usize,
}

impl Bucket {
    fn full(bytes_max: usize, bytes_per_second: usize) -> Self {
        Self {
            bytes: bytes_max,
            at: Duration::ZERO,
            bytes_max,
            bytes_per_second,
        }
    }

    fn level(&mut self, at: Duration) -> usize {
        let ms = at.saturating_sub(self.at).as_millis();
        let grown = ms * self.bytes_per_second as u128 / 1_000;
        // The time advances only when it makes at least one byte, so that short intervals are not lost.
        if grown > 0 {
            let grown = usize::try_from(grown).unwrap_or(usize::MAX);
            self.bytes = self.bytes.saturating_add(grown).min(self.bytes_max);
            self.at = at;
        }
        self.bytes
    }

    fn take(&mut self, bytes: usize, at: Duration) -> bool {
        let has = self.level(at) >= bytes;
        if has {
            self.bytes -= bytes;
        }
        has
    }

    fn is_full(&mut self, at: Duration) -> bool {
        self.level(at) == self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that an instance may write in lines of 1,000 if it logs constantly at these milliseconds.
    fn written(shared: &mut Shared, instance: &str, times: &[u64]) -> usize {
        let instance: Arc<str> = instance.into();
        let ask = |at: &u64| {
            let at = Duration::from_millis(*at);
            (0..20_000)
                .take_while(|_| shared.allows(&instance, 1_000, at))
                .count()
        };
        times.iter().map(ask).sum::<usize>() * 1_000
    }

    #[test]
    fn an_instance_that_floods_has_its_share_and_leaves_the_others_theirs() {
        let mut shared = Shared::default();
        let first = written(&mut shared, "flood", &[0]);
        assert!((LOG_INSTANCE_BYTES - 1_000..=LOG_INSTANCE_BYTES).contains(&first));
        let seconds: Vec<u64> = (1..=10).map(|s| s * 1_000).collect();
        let later = written(&mut shared, "flood", &seconds);
        let share = 10 * LOG_INSTANCE_BYTES_PER_SECOND;
        // The rest that was too small for a line is still available.
        assert!((share - 11_000..=share + 1_000).contains(&later), "{later}");
        let other = written(&mut shared, "other", &[10_000]);
        assert!(other >= LOG_INSTANCE_BYTES - 1_000, "{other}");
    }

    #[test]
    fn all_instances_together_have_a_bound_and_it_is_said_how_much_was_left_out() {
        let mut shared = Shared::default();
        let all: usize = (0..100)
            .map(|i| written(&mut shared, &i.to_string(), &[0]))
            .sum();
        assert!(all <= LOG_HOST_BYTES - RESERVED_BYTES, "{all}");
        let one = LeftOut {
            lines: 3,
            bytes: 3_000,
        };
        let said: u64 = (0..1_000)
            .filter_map(|_| shared.tells(one, Duration::ZERO))
            .map(|left_out| left_out.lines)
            .sum();
        assert!(said > 0 && said < 3_000, "{said} were said at once");
        let rest = shared.tells(one, Duration::from_secs(1)).unwrap();
        assert_eq!(
            rest.lines,
            3_003 - said,
            "what could not be said is said later"
        );
    }

    #[test]
    fn an_attempt_has_a_bound_of_its_own() {
        let mut allowance = Allowance::new("an attempt has a bound".into());
        let lines = (0..10_000).filter(|_| allowance.allows(900)).count();
        assert_eq!(lines, LOG_ATTEMPT_BYTES / 1_000);
        let left_out = allowance.take_left_out().unwrap();
        assert!(left_out.lines >= 10_000 - lines as u64);
        assert_eq!(allowance.take_left_out(), None);
        allowance.renew();
        assert!(allowance.allows(900));
    }

    #[test]
    fn many_instances_take_no_more_memory_than_is_allowed() {
        let mut shared = Shared::default();
        for i in 0..3 * INSTANCES_MAX {
            shared.allows(&i.to_string().into(), 100, Duration::from_millis(i as u64));
        }
        assert!(shared.instances.len() <= INSTANCES_MAX);
    }
}
