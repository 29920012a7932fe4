//! Histograms that are cheap enough for every commit and request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Powers of four, from 1 to 4^12: microseconds up to 17 seconds, or sizes of batches.
const BUCKETS: usize = 13;

#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    count: AtomicU64,
    sum: AtomicU64,
}

/// The counts of a histogram, in the form that Prometheus expects.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Buckets {
    /// Pairs of an upper bound and the number of values up to it, in ascending order.
    pub counts: Vec<(f64, u64)>,
    /// The number of values.
    pub count: u64,
    /// The sum of the values.
    pub sum: f64,
}

impl Histogram {
    pub(crate) fn record(&self, value: u64) {
        // The first bucket that holds the value: half the bits of the value minus one, rounded up.
        let bits = u64::BITS - value.saturating_sub(1).leading_zeros();
        let bucket = bits.div_ceil(2) as usize;
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(value, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// Converts values with `scale`, the size of one in the exported unit.
    pub(crate) fn read(&self, scale: f64) -> Buckets {
        let mut below = 0;
        let counts = self.counts.iter().enumerate().map(|(i, count)| {
            below += count.load(Relaxed);
            ((1_u64 << (2 * i)) as f64 * scale, below)
        });
        let counts: Vec<_> = counts.collect();
        // Other threads record meanwhile: the total must not be less than the buckets.
        let count = self.count.load(Relaxed).max(below);
        Buckets {
            counts,
            count,
            sum: self.sum.load(Relaxed) as f64 * scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_it_fits_into() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 4, 5, 16, 17, 1 << 40] {
            histogram.record(value);
        }
        let read = histogram.read(1.0);
        assert_eq!(read.counts[..4], [(1.0, 2), (4.0, 4), (16.0, 6), (64.0, 7)]);
        assert_eq!((read.count, read.counts[12].1), (8, 7));
    }
}
