//! Histograms of durations with fixed buckets: counted in place, without an allocation or a lock, and added up by
//! adding their buckets.

/// Bounds of the buckets in microseconds: powers of two from 8 us to 16 s; what took longer is in one more.
pub const BOUNDS_US: [u64; 22] = bounds();

const FIRST_SHIFT: u32 = 3;

const fn bounds() -> [u64; 22] {
    let mut bounds = [0; 22];
    let mut nth = 0;
    while nth < bounds.len() {
        bounds[nth] = 1 << (FIRST_SHIFT + nth as u32);
        nth += 1;
    }
    bounds
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many took so long, and longer than the bound before; the last: longer than all bounds.
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Histogram {
    pub fn record_ns(&mut self, ns: u64) {
        let us = ns.div_ceil(1000).max(1);
        let shift = us.next_power_of_two().trailing_zeros();
        let nth = (shift.saturating_sub(FIRST_SHIFT) as usize).min(BOUNDS_US.len());
        self.counts[nth] += 1;
        self.sum_us += us;
    }

    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All durations together, each rounded up to a microsecond.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_up_to_the_next_bound() {
        for (ns, nth) in [
            (0, 0),
            (8_000, 0),
            (8_001, 1),
            (16_000, 1),
            (16_001, 2),
            (1 << 24, 12),
            (16_777_216_000, 21),
            (16_777_216_001, 22),
            (u64::MAX, 22),
        ] {
            let mut histogram = Histogram::default();
            histogram.record_ns(ns);
            let found = histogram.counts().iter().position(|&count| count == 1);
            assert_eq!(found, Some(nth), "{ns} ns");
            assert_eq!(histogram.sum_us(), ns.div_ceil(1000).max(1));
        }
        assert!(BOUNDS_US[0] == 8 && BOUNDS_US[21] == 1 << 24);
    }
}
